import type { Cursor } from "./stentor/loop.js";

/** Keeps the cursor under a name in `localStorage` or `sessionStorage`. */
export function storageCursor(name: string, storage: Storage = localStorage): Cursor {
  return { load: () => storage.getItem(name), save: (id) => storage.setItem(name, id) };
}
