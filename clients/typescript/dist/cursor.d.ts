import type { Cursor } from "./stentor.js";
/** Keeps the cursor under a name in `localStorage` or `sessionStorage`. */
export declare function storageCursor(name: string, storage?: Storage): Cursor;
