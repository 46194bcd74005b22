// @ts-check
// Where a stream is, and how it is asked for: every connection has a ticket of its own, so that no token stands in an address.
/** @import { Connection } from "./follower.js" */
/** @import { WebSocketClass } from "./websocket.js" */
import { StentorError } from "./error.js";
import { LOST_TICKET } from "./follower.js";
import { overSse } from "./sse.js";
import { overWebSocket } from "./websocket.js";

/** A token, or what gives one whenever a connection is opened: for tokens that expire.
 * @typedef {string | (() => string | Promise<string>)} Token */

/**
 * @typedef {object} StreamOptions
 * @property {string | URL} [server] the server's address; left out, the one from which this file was loaded
 * @property {Token} token with the scope `subscribe`
 * @property {string} [channel] `map:<id or slug>`, `organization:<id>`, `source:<id>` (what one endpoint took in), or
 *   `feed`: all channels that the token may read
 * @property {string[]} [channels] in place of `channel`: 1 to 100 of `map:<id or slug>`, `organization:<id>`, and `map:*` or
 *   `organization:*` for all of a kind, also those that are made later; in one order, in the envelope of the feed
 * @property {string | string[]} [events] only these types; an empty list means none
 * @property {string | string[]} [pathPrefix] only events with a path that begins so
 * @property {string} [filter] a CEL expression over `event`
 * @property {string} [session] only events of this session
 * @property {boolean} [withChannel] of several channels: each envelope has the `channel` of its event, such as `map:<id>`
 * @property {string} [lastEventId] go on after this event
 * @property {"sse" | "websocket"} [transport] `sse` unless it is given; `websocket` where something in between passes no
 *   server-sent events
 * @property {WebSocketClass} [WebSocket] for `websocket` where the platform has none: that of the package `ws`
 * @property {number} [silenceMaxMs] silence after which the connection is taken for dead: 75,000, or two and a half
 *   times `sse.keepalive_s` where the server has another value
 */

/** Nothing of a page goes along: no cookies, no referrer, nothing from a cache.
 * @type {RequestInit} */
export const PLAIN = { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" };

/** The address without the slash at its end. Left out, it is the server from which this file was loaded.
 * @param {string | URL | undefined} server */
export function base(server) {
  const own = /^https?:/.test(import.meta.url) ? new URL(".", import.meta.url) : undefined;
  const given = server ?? own;
  if (!given) throw new TypeError("server is missing: give the address, such as https://events.example.org");
  const url = new URL(String(given));
  if (!/^https?:$/.test(url.protocol)) throw new TypeError(`server must be an http or https address, not ${url.protocol}`);
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** @param {Token} token */
export async function authorization(token) {
  return { Authorization: `Bearer ${bare(typeof token === "function" ? await token() : token)}` };
}

/** @param {Token | undefined} token
 * @returns {Token} */
export function needed(token) {
  if (!token) throw new TypeError("token is missing: give a token with the scope 'subscribe', or a function that gives one");
  if (typeof token !== "function") bare(token);
  return token;
}

/** What opens the stream of the options after a cursor.
 * @param {StreamOptions} options
 * @returns {(cursor: string | undefined, signal: AbortSignal) => Promise<Connection>} */
export function opener(options) {
  const token = needed(options.token);
  const { transport = "sse" } = options;
  if (transport !== "sse" && transport !== "websocket") throw new TypeError("transport must be sse or websocket");
  const at = base(options.server) + address(options);
  // the ticket says which channels, so that the address of the stream stays short
  const wish = JSON.stringify(options.channels ? { channels: options.channels } : {});
  const filter = query(options);
  return async (cursor, signal) => {
    const headers = { ...(await authorization(token)), "Content-Type": "application/json" };
    const minted = await fetch(`${at}/ticket`, { ...PLAIN, method: "POST", headers, body: wish, signal });
    if (!minted.ok) throw await StentorError.of(minted);
    const { data } = await minted.json();
    const wanted = new URLSearchParams([...filter, ["ticket", data.ticket]]);
    if (cursor) wanted.set("last_event_id", cursor);
    const stream = () => fetch(`${at}/stream?${wanted}`, { ...PLAIN, headers: { Accept: "text/event-stream" }, signal });
    if (transport === "sse") return overSse(await withTicket(await stream()));
    // the same request without an upgrade has the same answer, which can be read
    const why = async () => {
      const answer = await withTicket(await stream());
      if (!answer.ok) return StentorError.of(answer);
      await answer.body?.cancel();
      return new StentorError("The WebSocket was not opened, although the server would; something in between may not pass it on");
    };
    return overWebSocket(`${at.replace(/^http/, "ws")}/ws?${wanted}`, { WebSocket: options.WebSocket, signal, why });
  };
}

/** The answer, unless the ticket was not known.
 * @param {Response} answer */
async function withTicket(answer) {
  if (answer.status !== 401) return answer;
  const { message } = await StentorError.of(answer);
  throw new StentorError(message, { status: 401, code: LOST_TICKET, final: true });
}

/** @param {StreamOptions} options */
function address({ channel, channels }) {
  if (channels !== undefined) {
    if (channel !== undefined) throw new TypeError("give channel or channels, not both");
    if (!Array.isArray(channels) || !channels.length) throw new TypeError("channels must be a list of map:<id>, organization:<id>, map:* or organization:*");
    return "/events";
  }
  if (channel === "feed") return "/events";
  const named = /^(map|organization|source):(.+)$/s.exec(channel ?? "");
  if (!named) throw new TypeError("channel must be map:<id>, organization:<id>, source:<id> or feed");
  const collections = { map: "/api/maps", organization: "/api/v1/organizations", source: "/api/webhooks" };
  return `${collections[/** @type {keyof typeof collections} */ (named[1])]}/${encodeURIComponent(named[2])}/events`;
}

/** @param {StreamOptions} options
 * @returns {[string, string][]} */
function query({ events, pathPrefix, filter, session, withChannel }) {
  /** @type {[string, string][]} */
  const pairs = [];
  if (events !== undefined) pairs.push(["events", [events].flat().join(",")]);
  for (const prefix of [pathPrefix ?? []].flat()) pairs.push(["path_prefix", prefix]);
  if (filter) pairs.push(["filter", filter]);
  if (session) pairs.push(["session", session]);
  if (withChannel) pairs.push(["with_channel", "true"]);
  return pairs;
}

/** A token as a header takes it: one that was read from a file may end with a line break.
 * @param {unknown} token
 * @returns {string} */
export function bare(token) {
  const text = typeof token === "string" ? token.trim() : "";
  if (!text) throw new TypeError("token is empty; is the variable or the file that it comes from set?");
  if (!/^[!-~]+$/.test(text)) throw new TypeError("token has characters that no token has; was something else read?");
  return text;
}
