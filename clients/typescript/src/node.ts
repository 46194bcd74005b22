/** What only Node has: a cursor in a file. */
import { readFile, rename, writeFile } from "node:fs/promises";

import type { Cursor } from "./stentor/loop.js";

/** Keeps the cursor in a file, which is replaced as a whole. */
export function fileCursor(path: string): Cursor {
  return {
    async load() {
      try {
        return (await readFile(path, "ascii")).trim() || null;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw error;
      }
    },
    async save(id) {
      await writeFile(`${path}.new`, id, "ascii");
      await rename(`${path}.new`, path);
    },
  };
}
