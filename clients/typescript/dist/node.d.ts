import type { Cursor } from "./stentor.js";
/** Keeps the cursor in a file, which is replaced as a whole. */
export declare function fileCursor(path: string): Cursor;
