/** Keeps the cursor under a name in `localStorage` or `sessionStorage`. */
export function storageCursor(name, storage = localStorage) {
    return { load: () => storage.getItem(name), save: (id) => storage.setItem(name, id) };
}
