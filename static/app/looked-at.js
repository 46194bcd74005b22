// Streams only while somebody looks. A browser opens six connections to one host, for all tabs together; tabs that stand
// in the background would use them up and leave none for the one that is looked at.

const PATIENCE_MS = 30_000;

/** Calls `open` now and whenever the page is looked at again, `close` when it has been in the background for a while.
 * Gives what ends both. */
export function whileLookedAt(open, close) {
  let opened = true;
  let timer = 0;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(() => {
        opened = false;
        close();
      }, PATIENCE_MS);
    } else if (!opened) {
      opened = true;
      open();
    }
  };
  open();
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
    if (opened) close();
  };
}
