// @ts-check
// Stentor's streams for browsers and Node 20 or later. One file without dependencies: load it from your server
// (`import { EventStream } from "https://events.example.org/stentor.js"`) or copy it (in Node as `stentor.mjs`).

/** How long a ticket, and then the head of a stream, may take. */
const OPEN_TIMEOUT_MS = 15_000;
/** The server writes at least every 30 s unless it was told otherwise, so two silences and a half mean a dead connection. */
const SILENCE_MAX_MS = 75_000;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
const DOUBLINGS_MAX = 16;
/** A frame that grows beyond this does not come from a Stentor. */
const FRAME_CHARS_MAX = 32 * 1024 * 1024;
/** A ticket is lost when the server restarts before it is used. That happens once, not three times in a row. */
const LOST_TICKETS_MAX = 3;
/** Longest that a timer of JavaScript can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** What the server said no with, or what became of the connection. */
export class StentorError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, details?: unknown, retryAfterMs?: number, final?: boolean, cause?: unknown}} [about]
   */
  constructor(message, about = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = "StentorError";
    /** The HTTP status, if an answer came. */
    this.status = about.status;
    /** The server's code of the error, such as `UNAUTHORIZED`. */
    this.code = about.code;
    /** What is wrong with which field, if the server says so. */
    this.details = about.details;
    /** Least time to wait before the next try. */
    this.retryAfterMs = about.retryAfterMs ?? 0;
    /** Trying again would not help. */
    this.final = about.final ?? false;
  }

  /** Reads an answer that is not 2xx, in either form in which the server writes errors.
   * @param {Response} answer
   * @returns {Promise<StentorError>} */
  static async of(answer) {
    /** @type {any} */
    const body = await answer.json().catch(() => null);
    const said = body?.error;
    const inner = typeof said === "object" && said !== null ? said : { message: said, code: body?.code, details: body?.details };
    return new StentorError(typeof inner.message === "string" ? inner.message : `The server answered ${answer.status}`, {
      status: answer.status,
      code: inner.code,
      details: inner.details,
      retryAfterMs: waitAskedFor(answer.headers.get("Retry-After")),
      final: answer.status >= 400 && answer.status < 500 && !PASSING.has(answer.status),
    });
  }
}

/** Answers that pass: a timeout, too early, too many. The rest of 4xx does not change by asking again. */
const PASSING = new Set([408, 425, 429]);

/** `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
 * @param {string | null} text */
function waitAskedFor(text) {
  if (!text) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), TIMER_MAX_MS) : 0;
}

/** The address without the slash at its end. Left out, it is the server from which this file was loaded.
 * @param {string | URL | undefined} server */
function base(server) {
  const own = /^https?:/.test(import.meta.url) ? new URL(".", import.meta.url) : undefined;
  const given = server ?? own;
  if (!given) throw new TypeError("server is missing: give the address, such as https://events.example.org");
  const url = new URL(String(given));
  if (!/^https?:$/.test(url.protocol)) throw new TypeError(`server must be an http or https address, not ${url.protocol}`);
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** A token, or what gives one whenever a connection is opened: for tokens that expire.
 * @typedef {string | (() => string | Promise<string>)} Token */

/** @param {Token} token */
async function authorization(token) {
  return { Authorization: `Bearer ${typeof token === "function" ? await token() : token}` };
}

/** @param {Token | undefined} token
 * @returns {Token} */
function needed(token) {
  if (!token) throw new TypeError("token is missing: give a token with the scope 'subscribe', or a function that gives one");
  return token;
}

/** Nothing of a page goes along: no cookies, no referrer, nothing from a cache.
 * @type {RequestInit} */
const PLAIN = { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" };

// ---- frames ----------------------------------------------------------------------------------------------------

/** One frame of an event stream. `id` is the last id that the stream named.
 * @typedef {{event: string, data: string, id: string}} Frame */

/** Takes text apart into frames (WHATWG HTML 9.2.6). */
class Frames {
  /** What `retry:` asked for. @type {number | undefined} */
  retryMs;
  #rest = "";
  #scanned = 0;
  #afterReturn = false;
  #event = "";
  #id = "";
  /** @type {string[]} */
  #data = [];
  #dataChars = 0;

  /** The frames that this text completes.
   * @param {string} text
   * @returns {Frame[]} */
  push(text) {
    /** @type {Frame[]} */
    const done = [];
    if (!text) return done;
    if (this.#afterReturn && text[0] === "\n") text = text.slice(1);
    const all = this.#rest + text;
    const ends = /\r\n|\n|\r/g;
    ends.lastIndex = this.#scanned;
    let from = 0;
    for (let end = ends.exec(all); end; end = ends.exec(all)) {
      this.#line(all.slice(from, end.index), done);
      from = ends.lastIndex;
    }
    this.#afterReturn = all.endsWith("\r");
    this.#rest = all.slice(from);
    this.#scanned = this.#rest.length;
    if (this.#rest.length + this.#dataChars > FRAME_CHARS_MAX) throw new StentorError("A frame of the stream is too long");
    return done;
  }

  /** @param {string} line
   * @param {Frame[]} done */
  #line(line, done) {
    if (line === "") {
      if (this.#data.length) done.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      this.#event = "";
      this.#data = [];
      this.#dataChars = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: keepalive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") {
      this.#data.push(value);
      this.#dataChars += value.length;
    } else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }
}

// ---- a connection that comes back ------------------------------------------------------------------------------

/** An event as it was received: its envelope, its text, its id.
 * @typedef {{envelope: any, data: string, id: string}} Received */

/** What a follower is given, and tells.
 * @typedef {object} Course
 * @property {(cursor: string | undefined, signal: AbortSignal) => Promise<Response>} open asks for the stream after a cursor
 * @property {(events: Received[]) => void | Promise<void>} take events that came in one piece; more is read when it is done
 * @property {(detail: any) => void} opened
 * @property {(detail: any) => void} gap
 * @property {(error: StentorError, retryInMs: number | undefined) => void} failed without a time, it is the end
 */

/** Follows one stream over every disconnection, from a cursor that whoever takes the events moves on. */
class Follower {
  /** @type {"connecting" | "open" | "closed"} */
  state = "connecting";
  /** The id of the last event that was taken. @type {string | undefined} */
  cursor;
  #course;
  #silenceMaxMs;
  #failures = 0;
  #lostTickets = 0;
  #firstWaitMs = BACKOFF_FIRST_MS;
  /** Ends the request of now. @type {AbortController | undefined} */
  #attempt;
  /** Ends the pause of now. @type {(() => void) | undefined} */
  #awake;

  /** @param {Course} course
   * @param {{cursor?: string, silenceMaxMs?: number}} from */
  constructor(course, { cursor, silenceMaxMs = SILENCE_MAX_MS }) {
    this.#course = course;
    this.cursor = cursor;
    this.#silenceMaxMs = silenceMaxMs;
  }

  /** Runs until it is closed or refused for good. */
  async run() {
    const online = () => this.#awake?.();
    const page = typeof window === "object" ? window : undefined;
    page?.addEventListener("online", online);
    try {
      while (this.state !== "closed") {
        const problem = await this.#connection();
        if (this.#ended()) return;
        if (problem.final) {
          this.close();
          this.#course.failed(problem, undefined);
          return;
        }
        this.state = "connecting";
        const waitMs = this.#wait(problem);
        this.#course.failed(problem, waitMs);
        await this.#pause(waitMs);
      }
    } finally {
      page?.removeEventListener("online", online);
    }
  }

  close() {
    this.state = "closed";
    this.#attempt?.abort();
    this.#awake?.();
  }

  #ended() {
    return this.state === "closed";
  }

  /** Between half of it and all of it, so that clients who were cut together do not come back together.
   * @param {StentorError} problem */
  #wait(problem) {
    const most = Math.min(this.#firstWaitMs * 2 ** Math.min(this.#failures, DOUBLINGS_MAX), Math.max(BACKOFF_MAX_MS, this.#firstWaitMs));
    this.#failures += 1;
    return Math.round(problem.retryAfterMs + most * (0.5 + Math.random() / 2));
  }

  /** @param {number} ms
   * @returns {Promise<void>} */
  #pause(ms) {
    if (this.#ended()) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#awake?.(), Math.min(ms, TIMER_MAX_MS));
      this.#awake = () => {
        clearTimeout(timer);
        this.#awake = undefined;
        resolve();
      };
    });
  }

  /** One connection, to its end: gives why it ended. @returns {Promise<StentorError>} */
  async #connection() {
    const attempt = new AbortController();
    this.#attempt = attempt;
    /** @type {StentorError | undefined} */
    let dead;
    /** @param {string} message */
    const give = (message) => {
      dead = new StentorError(message);
      attempt.abort(dead);
    };
    let watch = setTimeout(give, OPEN_TIMEOUT_MS, "The server did not answer in time");
    try {
      const answer = await this.#course.open(this.cursor, attempt.signal);
      if (!answer.ok) return this.#refused(await StentorError.of(answer));
      const type = answer.headers.get("Content-Type") ?? "";
      if (!type.startsWith("text/event-stream") || !answer.body) return new StentorError(`There is no event stream, but '${type}'`);
      const reader = answer.body.getReader();
      const text = new TextDecoder();
      const frames = new Frames();
      for (;;) {
        clearTimeout(watch);
        watch = setTimeout(give, this.#silenceMaxMs, `Nothing came for ${this.#silenceMaxMs} ms`);
        const { done, value } = await reader.read();
        if (done) return new StentorError("The server ended the stream");
        // whoever takes the events may take its time
        clearTimeout(watch);
        const complete = frames.push(text.decode(value, { stream: true }));
        if (frames.retryMs !== undefined) this.#firstWaitMs = Math.max(frames.retryMs, 1);
        await this.#deliver(complete);
        if (this.#ended()) return new StentorError("It was closed");
      }
    } catch (error) {
      if (dead) return dead;
      if (error instanceof StentorError) return error.status === undefined ? error : this.#refused(error);
      return new StentorError(`The connection failed: ${error instanceof Error ? error.message : error}`, { cause: error });
    } finally {
      clearTimeout(watch);
      attempt.abort();
    }
  }

  /** @param {StentorError} problem */
  #refused(problem) {
    if (problem.code === LOST_TICKET && ++this.#lostTickets < LOST_TICKETS_MAX) problem.final = false;
    return problem;
  }

  /** @param {Frame[]} frames */
  async #deliver(frames) {
    /** @type {Received[]} */
    let events = [];
    const flush = async () => {
      const together = events;
      events = [];
      if (together.length) await this.#course.take(together);
    };
    for (const { event, data, id } of frames) {
      const envelope = JSON.parse(data);
      // events have an id in their envelope, whatever the name of their frame; what the server itself says has none
      if (envelope && typeof (envelope.id ?? envelope.event_id) === "string") {
        events.push({ envelope, data, id });
        continue;
      }
      await flush();
      if (this.#ended()) return;
      if (event === "connected") {
        this.state = "open";
        this.#failures = 0;
        this.#lostTickets = 0;
        this.cursor = id || this.cursor;
        this.#course.opened(envelope);
      } else if (event === "gap") this.#course.gap(envelope);
    }
    await flush();
  }
}

/** Marks a ticket that was good a moment ago and that the stream does not know. */
const LOST_TICKET = "TICKET_LOST";

// ---- streams of channels ---------------------------------------------------------------------------------------

/** An event of the channel. */
export class StreamEvent extends Event {
  /** @param {Received} received */
  constructor({ envelope, data, id }) {
    super("event");
    /** The envelope, as the channel's family writes it. @type {any} */
    this.detail = envelope;
    /** The text of the envelope: byte for byte what history and webhooks have. */
    this.data = data;
    /** The id of the event: a cursor. */
    this.id = id;
  }
}

/** The stream is open. `detail` has `resumed`, `server_time` and `unknown_events`. */
export class StreamOpenEvent extends Event {
  /** @param {any} detail */
  constructor(detail) {
    super("open");
    /** @type {any} */
    this.detail = detail;
  }
}

/** Events are missing here. */
export class StreamGapEvent extends Event {
  /** @param {{requested: string, oldest: string | null, reason: "expired" | "damaged" | "ahead"}} detail */
  constructor(detail) {
    super("gap");
    this.detail = detail;
  }
}

/** Something failed. Unless it is `final`, the stream comes back by itself in `retryInMs`. */
export class StreamErrorEvent extends Event {
  /** @param {StentorError} error
   * @param {number | undefined} retryInMs */
  constructor(error, retryInMs) {
    super("error");
    this.detail = error;
    this.error = error;
    this.message = error.message;
    /** The HTTP status, if an answer came. */
    this.status = error.status;
    this.final = retryInMs === undefined;
    this.retryInMs = retryInMs;
  }
}

/** @typedef {{open: StreamOpenEvent, event: StreamEvent, gap: StreamGapEvent, error: StreamErrorEvent}} StreamEvents */

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
 * @property {string} [lastEventId] go on after this event
 * @property {number} [silenceMaxMs] silence after which the connection is taken for dead: 75,000, or two and a half
 *   times `sse.keepalive_s` where the server has another value
 */

/**
 * The events of a channel, in order and each once, over every disconnection.
 *
 *     const stream = new EventStream({ server, token, channel: "map:home", events: ["map_kill"] });
 *     stream.addEventListener("event", ({ detail }) => console.log(detail.type, detail.payload));
 *
 * The token is sent in a header only; each connection has a single-use ticket in its address.
 */
export class EventStream extends EventTarget {
  #follower;

  /** @param {StreamOptions} options */
  constructor(options) {
    super();
    const { lastEventId, silenceMaxMs } = options;
    this.#follower = new Follower(
      {
        open: opener(options),
        take: (events) => {
          for (const event of events) {
            if (this.#follower.state === "closed") return;
            this.#follower.cursor = event.id;
            this.dispatchEvent(new StreamEvent(event));
          }
        },
        opened: (detail) => this.dispatchEvent(new StreamOpenEvent(detail)),
        gap: (detail) => this.dispatchEvent(new StreamGapEvent(detail)),
        failed: (error, retryInMs) => this.dispatchEvent(new StreamErrorEvent(error, retryInMs)),
      },
      { cursor: lastEventId, silenceMaxMs },
    );
    void this.#follower.run();
  }

  /** `connecting`, `open` or `closed`. */
  get state() {
    return this.#follower.state;
  }

  /** The id of the last event: keep it, and a later stream goes on after it. */
  get lastEventId() {
    return this.#follower.cursor;
  }

  /** Ends the stream. Nothing is dispatched after it. */
  close() {
    this.#follower.close();
  }

  /**
   * @template {keyof StreamEvents} K
   * @param {K} type
   * @param {((event: StreamEvents[K]) => void) | {handleEvent(event: StreamEvents[K]): void} | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, /** @type {any} */ (listener), options);
  }
}

/** Where a consumer keeps the id of the last event that it has handled: in a file, in `localStorage` ...
 * @typedef {object} Cursor
 * @property {() => string | null | undefined | Promise<string | null | undefined>} load
 * @property {(id: string) => unknown} save
 */

/** @typedef {StreamOptions & {
 *   cursor?: Cursor,
 *   signal?: AbortSignal,
 *   onGap?: (gap: StreamGapEvent["detail"]) => void,
 *   onError?: (error: StentorError, retryInMs: number) => void,
 * }} FollowOptions */

/** Thrown by nobody: it ends a loop that its signal has aborted. */
const ENDED = Symbol("ended");

/**
 * The events of a channel for a loop, in order and each once, over every disconnection, without end:
 *
 *     for await (const { detail, id } of follow({ server, token, channel: "map:home", cursor })) await handle(detail);
 *
 * The next event is read when the loop asks for it, so a slow loop holds up only itself. With a `cursor` an event is marked as
 * handled when the next one is asked for, and a later call goes on behind the last that was handled. `onGap` is told where events
 * are missing, `onError` of connections that failed and come back; what does not come back is thrown.
 * @param {FollowOptions} options
 * @returns {AsyncGenerator<StreamEvent, void, void>}
 */
export async function* follow(options) {
  const { cursor, signal, silenceMaxMs, onGap, onError } = options;
  /** @type {{item: StreamEvent | StentorError | typeof ENDED, taken: () => void}[]} */
  const waiting = [];
  /** @type {(() => void) | undefined} */
  let awake;
  let newest = "";
  /** @param {StreamEvent | StentorError | typeof ENDED} item
   * @returns {Promise<void>} */
  const hand = (item) =>
    new Promise((taken) => {
      waiting.push({ item, taken });
      awake?.();
    });
  const follower = new Follower(
    {
      open: opener(options),
      take: async (events) => {
        for (const event of events) {
          if (follower.state === "closed") return;
          // ids only grow: one that came before is a repetition
          const bare = event.id.replace(/^evt_/, "");
          if (bare <= newest) continue;
          newest = bare;
          await hand(new StreamEvent(event));
          follower.cursor = event.id;
        }
      },
      opened: () => {},
      gap: (gap) => {
        if (gap.reason === "ahead") newest = "";
        if (onGap) onGap(gap);
        else console.warn("events are missing", gap);
      },
      failed: (error, retryInMs) => {
        if (retryInMs === undefined) void hand(error);
        else onError?.(error, retryInMs);
      },
    },
    { cursor: options.lastEventId ?? (await cursor?.load()) ?? undefined, silenceMaxMs },
  );
  const end = () => void hand(ENDED);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  else void follower.run();
  try {
    for (;;) {
      const next = waiting.shift();
      if (!next) {
        await new Promise((resolve) => (awake = () => resolve(undefined)));
        continue;
      }
      if (next.item === ENDED || signal?.aborted) return;
      if (next.item instanceof StentorError) throw next.item;
      const event = /** @type {StreamEvent} */ (next.item);
      yield event;
      await cursor?.save(event.id);
      next.taken();
    }
  } finally {
    signal?.removeEventListener("abort", end);
    follower.close();
    for (const { taken } of waiting) taken();
  }
}

/** Opens streams of a channel: each connection has a ticket of its own.
 * @param {StreamOptions} options
 * @returns {Course["open"]} */
function opener(options) {
  const token = needed(options.token);
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
    const answer = await fetch(`${at}/stream?${wanted}`, { ...PLAIN, headers: { Accept: "text/event-stream" }, signal });
    if (answer.status !== 401) return answer;
    const { message } = await StentorError.of(answer);
    throw new StentorError(message, { status: 401, code: LOST_TICKET, final: true });
  };
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
function query({ events, pathPrefix, filter, session }) {
  /** @type {[string, string][]} */
  const pairs = [];
  if (events !== undefined) pairs.push(["events", [events].flat().join(",")]);
  for (const prefix of [pathPrefix ?? []].flat()) pairs.push(["path_prefix", prefix]);
  if (filter) pairs.push(["filter", filter]);
  if (session) pairs.push(["session", session]);
  return pairs;
}

// ---- events of a source ----------------------------------------------------------------------------------------

/**
 * What a source took in. The sender's own field names stand beside those of the listener.
 * @typedef {object} SourceEvent
 * @property {string} id
 * @property {string} timestamp ISO-8601
 * @property {string} source id of the endpoint
 * @property {string} eventType
 * @property {string} event_type the same
 * @property {any} payload what the sender sent: `user_id`, `properties`
 * @property {string | undefined} user_id
 * @property {any} properties
 * @property {boolean} validated whether it has the schema of the endpoint
 */

/**
 * @typedef {object} Endpoint
 * @property {string} id `wh_...`
 * @property {string} url where senders post
 * @property {string | null} name
 * @property {string} channel
 * @property {string} authentication
 * @property {string} createdAt
 * @property {number} eventsReceived
 * @property {string | null} lastEventAt
 * @property {string} status
 * @property {string} [secret] the key, shown only now
 */

/**
 * @typedef {object} EndpointOptions
 * @property {string} [name]
 * @property {string} [channel] `map:<id>` or `organization:<id>`; left out, the token's own
 * @property {string} authentication `none`, `api_key`, `hmac`, `jwt`, or another that the server knows
 * @property {string} [secretKey]
 * @property {string} [apiKey]
 * @property {"sha256" | "sha512"} [hmacAlgorithm]
 * @property {{algorithm: string, key: string, issuer?: string, audience?: string}} [jwt]
 * @property {Record<string, string>} [schema] `string`, `number`, `boolean`, `date` or `unknown` by field
 * @property {unknown} [rateLimit]
 */

/**
 * @typedef {object} Retry
 * @property {boolean} [enabled] true
 * @property {number} [maxRetries] 3
 * @property {number} [initialDelay] 1000 ms
 * @property {number} [backoffMultiplier] 2
 */

/** @typedef {{
 *   event: (event: SourceEvent) => unknown,
 *   batch: (events: SourceEvent[]) => unknown,
 *   dead_letter: (event: SourceEvent, error: unknown) => unknown,
 *   error: (error: unknown) => unknown,
 * }} Handlers */

/**
 * Makes endpoints that take webhooks in, and listens to what they took.
 *
 * Events are handled one after the other. A handler that throws or rejects is called again with growing pauses; when
 * that does not help, `dead_letter` gets the event and the next one follows. Events that arrive together go to `batch`,
 * if it has a handler, and to `event` otherwise: either way each is handled once.
 */
export class WebhookAdapter {
  #server;
  #token;
  /** @type {{[K in keyof Handlers]: Set<Handlers[K]>}} */
  #handlers = { event: new Set(), batch: new Set(), dead_letter: new Set(), error: new Set() };
  #endpointId = "";
  #retry = { enabled: true, maxRetries: 3, initialDelay: 1000, backoffMultiplier: 2 };
  /** @type {string | undefined} */
  #lastEventId;
  /** @type {Follower | undefined} */
  #follower;
  /** @type {Promise<void>} */
  #running = Promise.resolve();
  /** Ends the pause between two calls of a handler. @type {(() => void) | undefined} */
  #awake;

  /** @param {{server?: string | URL, token: Token}} options the token needs `subscribe`, and `manage` to make endpoints */
  constructor(options) {
    this.#server = base(options.server);
    this.#token = needed(options.token);
  }

  /** Makes an endpoint. Its `url` is what senders post to.
   * @param {EndpointOptions} options
   * @returns {Promise<Endpoint>} */
  async createEndpoint(options) {
    const answer = await fetch(`${this.#server}/api/webhooks`, {
      ...PLAIN,
      method: "POST",
      headers: { ...(await authorization(this.#token)), "Content-Type": "application/json" },
      body: JSON.stringify(options),
      signal: AbortSignal.timeout(OPEN_TIMEOUT_MS),
    });
    if (!answer.ok) throw await StentorError.of(answer);
    const { endpoint, secret } = await answer.json();
    return secret === undefined ? endpoint : { ...endpoint, secret };
  }

  /** Says which endpoint to listen to, and what happens when a handler fails.
   * @param {{endpointId: string, retry?: Retry, lastEventId?: string}} options `lastEventId`: go on after this event */
  async connect({ endpointId, retry = {}, lastEventId }) {
    if (!endpointId) throw new TypeError("endpointId is missing");
    for (const name of /** @type {const} */ (["maxRetries", "initialDelay", "backoffMultiplier"])) {
      const value = retry[name];
      if (value !== undefined && !(Number.isFinite(value) && value >= 0)) throw new TypeError(`retry.${name} must be a number from 0 on`);
    }
    await this.stop();
    this.#endpointId = endpointId;
    this.#retry = { ...this.#retry, ...retry };
    this.#lastEventId = lastEventId;
  }

  /**
   * @template {keyof Handlers} K
   * @param {K} type
   * @param {Handlers[K]} handler
   */
  on(type, handler) {
    this.#of(type).add(handler);
    return this;
  }

  /**
   * @template {keyof Handlers} K
   * @param {K} type
   * @param {Handlers[K]} handler
   */
  off(type, handler) {
    this.#of(type).delete(handler);
    return this;
  }

  /** @template {keyof Handlers} K
   * @param {K} type
   * @returns {Set<Handlers[K]>} */
  #of(type) {
    const handlers = this.#handlers[type];
    if (!handlers) throw new TypeError(`there is no '${type}': event, batch, dead_letter and error are there`);
    return handlers;
  }

  /** The id of the last event that was handled: keep it, and a later `connect` goes on after it. */
  get lastEventId() {
    return this.#follower?.cursor ?? this.#lastEventId;
  }

  /** Opens the stream; done when it is open. After that it comes back by itself until `stop`.
   * @returns {Promise<void>} */
  startListening() {
    if (!this.#endpointId) return Promise.reject(new TypeError("connect first: it says which endpoint"));
    if (this.#follower && this.#follower.state !== "closed") return Promise.reject(new TypeError("it listens already"));
    const at = `${this.#server}/api/webhooks/${encodeURIComponent(this.#endpointId)}/events`;
    return new Promise((resolve, reject) => {
      const follower = new Follower(
        {
          open: async (cursor, signal) => {
            const headers = { ...(await authorization(this.#token)), Accept: "text/event-stream" };
            const after = cursor ? `?last_event_id=${encodeURIComponent(cursor)}` : "";
            return fetch(at + after, { ...PLAIN, headers, signal });
          },
          take: (events) => this.#take(follower, events),
          opened: () => resolve(),
          gap: ({ reason }) => this.#failed(new StentorError(`Events after the last one handled are gone (${reason})`)),
          failed: (error, retryInMs) => {
            if (retryInMs === undefined) reject(error);
            this.#failed(error);
          },
        },
        { cursor: this.lastEventId },
      );
      this.#follower = follower;
      this.#running = follower.run().finally(() => reject(new StentorError("It was stopped before it was open")));
    });
  }

  /** Ends listening; done when no handler runs any more. An event whose handler still failed is not counted as handled. */
  async stop() {
    this.#follower?.close();
    this.#awake?.();
    await this.#running;
    this.#lastEventId = this.lastEventId;
    this.#follower = undefined;
  }

  /** @param {Follower} follower
   * @param {Received[]} received */
  async #take(follower, received) {
    const events = received.map(({ envelope, id }) => ({ id, event: sourceEvent(envelope) }));
    const { event: singly, batch } = this.#handlers;
    if (batch.size && (events.length > 1 || !singly.size)) {
      const together = events.map(({ event }) => event);
      if (await this.#handled(follower, batch, together, together)) follower.cursor = events[events.length - 1].id;
      return;
    }
    for (const { id, event } of events) {
      if (!(await this.#handled(follower, singly, event, [event]))) return;
      follower.cursor = id;
    }
  }

  /** Whether all handlers are through with it, by success or by giving up; not when it was stopped meanwhile.
   * @template T
   * @param {Follower} follower
   * @param {Set<(what: T) => unknown>} handlers
   * @param {T} what
   * @param {SourceEvent[]} events */
  async #handled(follower, handlers, what, events) {
    const { enabled, maxRetries, initialDelay, backoffMultiplier } = this.#retry;
    for (const handler of [...handlers]) {
      for (let retries = 0; ; retries += 1) {
        if (follower.state === "closed") return false;
        try {
          await handler(what);
          break;
        } catch (error) {
          if (!enabled || retries >= maxRetries) {
            for (const event of events) await this.#givenUp(event, error);
            break;
          }
          await this.#pause(follower, initialDelay * backoffMultiplier ** retries);
        }
      }
    }
    return true;
  }

  /** @param {Follower} follower
   * @param {number} ms
   * @returns {Promise<void>} */
  #pause(follower, ms) {
    if (follower.state === "closed") return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(ms, TIMER_MAX_MS));
      this.#awake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @param {SourceEvent} event
   * @param {unknown} error */
  async #givenUp(event, error) {
    const handlers = this.#handlers.dead_letter;
    if (!handlers.size) this.#failed(error);
    for (const handler of [...handlers]) {
      try {
        await handler(event, error);
      } catch (failure) {
        this.#failed(failure);
      }
    }
  }

  /** Nothing fails in silence: without a handler it goes to the console.
   * @param {unknown} error */
  #failed(error) {
    if (!this.#handlers.error.size) console.error(error);
    for (const handler of [...this.#handlers.error]) handler(error);
  }
}

/** @param {any} envelope
 * @returns {SourceEvent} */
function sourceEvent(envelope) {
  const { user_id, properties } = envelope.payload ?? {};
  return { ...envelope, event_type: envelope.eventType, user_id, properties };
}
