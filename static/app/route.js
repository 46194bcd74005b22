// Addresses within the page: `#/part/part?query`. The fragment never reaches the server.
import { Store, useStore } from "./store.js";

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

const route = new Store(read());
addEventListener("hashchange", () => route.set(read()));

export const useRoute = () => useStore(route);

/** The address of a view. Names and values of the query that are empty are left out. */
export function to(parts, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(pairs).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(parts, query) {
  location.hash = to(parts, query);
}

/** Like `go`, without a step in the browser's history. */
export function replace(parts, query) {
  history.replaceState(null, "", to(parts, query));
  route.set(read());
}
