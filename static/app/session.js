// Who uses the page. The token lives in this tab's session storage and travels in headers only.
import { StentorError } from "../stentor.js";
import { Store } from "./store.js";

const KEY = "stentor.token";

/** The server that this page came from, without a slash at the end. */
export const server = new URL(".", location.href.split("#")[0]).href.replace(/\/$/, "");

/** `null`: nobody; else `{ token, who }`. `problem`: why somebody has to log in again. */
export const session = new Store({ token: sessionStorage.getItem(KEY), who: null, problem: "" });

export const may = (scope) => session.value.who?.scopes.includes(scope) ?? false;
export const isAdmin = () => session.value.who?.admin ?? false;

/** Tries a token: done when it is known what it allows.
 * @throws {StentorError} when it is refused, or the server cannot be reached */
export async function login(token) {
  const answer = await fetch(`${server}/api/v1/tokens/current`, {
    headers: { Authorization: `Bearer ${token}` },
    cache: "no-store",
    signal: AbortSignal.timeout(15_000),
  });
  if (!answer.ok) throw await StentorError.of(answer);
  const { data } = await answer.json();
  sessionStorage.setItem(KEY, token);
  session.set({ token, who: data, problem: "" });
}

export function logout(problem = "") {
  sessionStorage.removeItem(KEY);
  session.set({ token: null, who: null, problem });
}

/** An address with `token=` in its fragment, as `stentor demo` prints it, logs in: the token leaves the address at once. */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [token, map, organization] = ["token", "map", "organization"].map((name) => given.get(name));
  if (!token && !map && !organization) return;
  if (token) {
    sessionStorage.setItem(KEY, token);
    session.set({ token, who: null, problem: "" });
  }
  const place = map ? `map/${encodeURIComponent(map)}` : organization ? `organization/${encodeURIComponent(organization)}` : "";
  location.replace(`#/${place}`);
}
