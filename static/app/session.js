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
/** Whether the token is for more than one channel. */
export const hasSeveral = () => isAdmin() || Boolean(session.value.who?.channels);

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

/** What a link wants while somebody is logged in, until they have answered: `{ token }` or `{ secret }`. */
export const offer = new Store(null);

/** An address with `token=` in its fragment, as `stentor demo` prints it, or with `login=`, as `stentor serve` prints it, logs
 * in. What lets somebody in leaves the address at once. Whoever is logged in is asked first: anybody can send a link. */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [token, secret, map, organization] = ["token", "login", "map", "organization"].map((name) => given.get(name));
  if (!token && !secret && !map && !organization) return;
  const place = map ? `map/${encodeURIComponent(map)}` : organization ? `organization/${encodeURIComponent(organization)}` : "";
  location.replace(`#/${place}`);
  if (!token && !secret) return;
  const link = token ? { token } : { secret };
  if (!session.value.token) accept(link).catch((failure) => logout(failure.message));
  else if (token !== session.value.token) offer.set(link);
}

/** Logs in by what a link holds. The session from before stays when that fails.
 * @throws {StentorError} when the link is refused, or the server cannot be reached */
export async function accept(link) {
  const token = link.token ?? (await exchange(link.secret));
  sessionStorage.setItem(KEY, token);
  session.set({ token, who: null, problem: "" });
  offer.set(null);
}

/** The token for the secret of a link that is good once. */
async function exchange(secret) {
  const answer = await fetch(`${server}/api/v1/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ secret }),
    cache: "no-store",
    signal: AbortSignal.timeout(15_000),
  });
  if (!answer.ok) throw await StentorError.of(answer);
  return (await answer.json()).data.token;
}
