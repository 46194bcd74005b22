// The server's REST, as the views speak of it: one shape for maps and organizations.
import { StentorError } from "../stentor.js";
import { isAdmin, logout, may, server, session } from "./session.js";

const TIMEOUT_MS = 20_000;

/** Like `fetch`, with words for people when no answer comes. */
async function ask(path, init = {}) {
  try {
    return await fetch(server + path, { ...init, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    const slow = error.name === "TimeoutError";
    throw new StentorError(slow ? "The server did not answer in time" : "The server cannot be reached", { cause: error });
  }
}

/** Sends a request and gives the answer's JSON. A refused token logs out. */
export async function call(method, path, body) {
  const { token } = session.value;
  const answer = await ask(path, {
    method,
    headers: { Authorization: `Bearer ${token}`, Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await StentorError.of(answer);
  if (answer.status === 401 && token === session.value.token) logout("The token is not valid any more. Log in again.");
  throw problem;
}

const query = (pairs) => {
  const given = Object.entries(pairs).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

// ---- channels --------------------------------------------------------------------------------------------------

const COLLECTIONS = { map: "/api/maps", organization: "/api/v1/organizations", source: "/api/webhooks" };
const channelBase = ({ kind, id }) => `${COLLECTIONS[kind]}/${encodeURIComponent(id)}`;

/** How tokens and streams name a channel. */
export const channelName = ({ kind, id }) => (kind === "feed" ? kind : `${kind}:${id}`);

/** Every channel that the token may read; with `channels` (their names) those. */
export const FEED = { kind: "feed", id: "" };

/** How an `EventStream` is told which channel, or which. */
export const followed = (of) => (of.channels?.length ? { channels: of.channels } : { channel: channelName(of) });

function channel(kind, data) {
  return { kind, id: data.id, slug: data.slug ?? data.id, name: data.name, eventNames: data.event_names, insertedAt: data.inserted_at ?? data.createdAt, webhooksEnabled: data.webhooks_enabled };
}

/** All channels that the token may see, maps first. */
export async function channels() {
  const { who } = session.value;
  const own = who.channel?.split(":")[0];
  const list = async (kind, path) => (own && own !== kind ? [] : (await all(path)).map((data) => channel(kind, data)));
  const [maps, organizations] = await Promise.all([list("map", "/api/maps"), list("organization", "/api/v1/organizations")]);
  return [...maps, ...organizations];
}

/** Follows `nextCursor` to the end of a list, within reason. */
async function all(path) {
  const data = [];
  for (let cursor = null, pages = 0; pages < 20; pages += 1) {
    const page = await call("GET", path + query({ after: cursor }));
    data.push(...page.data);
    cursor = page.nextCursor;
    if (!cursor) break;
  }
  return data;
}

export const getChannel = async (kind, id) => channel(kind, (await call("GET", channelBase({ kind, id }))).data);

export async function createChannel(kind, { name, id, slug, tokenName }) {
  const body = kind === "map" ? { name, slug, token_name: tokenName } : { name, id, tokenName };
  const { data } = await call("POST", kind === "map" ? "/api/maps" : "/api/v1/organizations", body);
  return { channel: channel(kind, data), token: data.token };
}

export const changeChannel = async (of, change) => channel(of.kind, (await call("PATCH", channelBase(of), change)).data);
export const deleteChannel = (of) => call("DELETE", channelBase(of));
export const toggleWebhooks = (of, enabled) => call("PUT", `${channelBase(of)}/webhooks/toggle`, { enabled });

// ---- events ----------------------------------------------------------------------------------------------------

/** One shape for the envelopes of all families. */
export function event(envelope) {
  const at = envelope.ts ?? envelope.timestamp;
  return {
    id: envelope.id ?? envelope.event_id,
    type: envelope.type ?? envelope.event ?? envelope.event_type ?? envelope.eventType,
    ms: typeof at === "number" ? at : Date.parse(at),
    session: envelope.session ?? null,
    validated: envelope.validated === true,
    payload: envelope.payload,
    channel: channelOf(envelope),
  };
}

/** The channel that an envelope names, as tokens name it; null where it names none. */
function channelOf(envelope) {
  const { channel, map_id: map, organization } = envelope;
  if (typeof channel === "string") return channel.includes(":") ? channel : null;
  if (map) return `map:${map}`;
  return organization ? `organization:${organization}` : null;
}

/** One event by its id; null where it is gone. */
export async function findEvent(of, id) {
  const { events } = await history(of, { order: "asc", after: before(id), limit: 1 });
  return events[0] && bare(events[0].id) === bare(id) ? events[0] : null;
}

export const bare = (id) => id.replace(/^evt_/, "");

/** Crockford's base32, of which ids are 26 characters. */
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** When an event with this id was stored, in Unix milliseconds. */
export const timeOf = (id) => [...bare(id).toUpperCase().slice(0, 10)].reduce((ms, digit) => ms * 32 + alphabet.indexOf(digit), 0);

/** The id just before an id. */
function before(id) {
  const digits = [...bare(id).toUpperCase()];
  for (let at = digits.length - 1; at >= 0; at -= 1) {
    const value = alphabet.indexOf(digits[at]);
    digits[at] = alphabet[(value + 31) % 32];
    if (value !== 0) break;
  }
  return digits.join("");
}

export async function history(of, { events, filter, session: name, limit, after, since, until, order = "desc" } = {}) {
  const path = of.kind === "feed" ? "/events" : `${channelBase(of)}/${of.kind === "source" ? "events/history" : "events"}`;
  const page = await call("GET", `${path}${query({ order, limit, after, since, until, events, filter, session: name, channel: of.channels?.join(","), with_channel: of.kind === "feed" ? "true" : undefined })}`);
  return { events: page.data.map(event), next: page.next ?? null };
}

export const stats = async (of, window, bucket) => (await call("GET", `${of.kind === "feed" ? "/events" : channelBase(of)}/stats${query({ window, bucket, channel: of.channels?.join(",") })}`)).data;
export const publish = async (of, body) => (await call("POST", `${channelBase(of)}/events`, body)).data.ids;

export const trace = async (id) => (await call("GET", `/api/v1/events/${encodeURIComponent(id)}/trace`)).data;

let catalogue;
/** The catalogue's types, read once. */
export function eventTypes() {
  catalogue ??= call("GET", "/api/event-types").then(({ data }) => data);
  catalogue.catch(() => (catalogue = undefined));
  return catalogue;
}

/** The types of the catalogue that a channel is likely to have. */
export async function typesOf({ kind, id }) {
  if (kind === "source") return [];
  if (kind === "feed") return eventTypes();
  const families = kind === "map" ? ["maps"] : id === "system" ? ["system"] : ["organizations", "feed"];
  return (await eventTypes()).filter(({ family }) => families.includes(family));
}

// ---- tokens ----------------------------------------------------------------------------------------------------

export const tokens = () => all("/api/v1/tokens");
export const createToken = async (body) => (await call("POST", "/api/v1/tokens", body)).data;
export const changeToken = async (id, change) => (await call("PATCH", `/api/v1/tokens/${encodeURIComponent(id)}`, change)).data;

/** The id of the token with this text, `admin` for the admin's, null when it is nobody's. It is asked for with the token itself: the
 *  server keeps no texts. */
export async function whoseToken(text) {
  const answer = await ask("/api/v1/tokens/current", { headers: { Authorization: `Bearer ${text}`, Accept: "application/json" } });
  if (answer.ok) return (await answer.json()).data.id;
  if (answer.status === 401) return null;
  throw await StentorError.of(answer);
}

export const revokeToken = (id) => call("DELETE", `/api/v1/tokens/${encodeURIComponent(id)}`);

// ---- the server ------------------------------------------------------------------------------------------------

export async function health() {
  // 503 is an answer too: its body says what is not ready
  return (await ask("/health/ready")).json();
}

/** Figures over a window (`1h`, `24h`, `7d`) and what needs attention, of the server or of what `of` names.
 * @param of `{ channel, webhook }`, each as the server names it */
export const overview = async (window, of = {}) => (await call("GET", `/api/v1/overview${query({ window, ...of })}`)).data;

/** The cluster as the node that answers sees it; null: the server is alone. */
export const cluster = async () => (await call("GET", "/api/v1/cluster")).data;

/** What a trouble says would help. Its path begins at the host. */
export const act = ({ method, href, body }) => call(method, href.slice(new URL(server).pathname.replace(/\/$/, "").length), body);

export async function connections(of, after) {
  const page = await call("GET", `/api/v1/connections${query({ channel: of && channelName(of), after, limit: 100 })}`);
  return { data: page.data, next: page.nextCursor };
}

export const endConnection = (id) => call("DELETE", `/api/v1/connections/${encodeURIComponent(id)}`);

export { isAdmin, may, query, channelBase };
