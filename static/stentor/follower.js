// @ts-check
// A stream that comes back: it is followed over every disconnection, from a cursor that whoever takes the events moves on.
import { StentorError, TIMER_MAX_MS } from "./error.js";

/** How long a ticket, and then the head of a stream, may take. */
export const OPEN_TIMEOUT_MS = 15_000;
/** The server writes at least every 30 s unless it was told otherwise, so two silences and a half mean a dead connection. */
const SILENCE_MAX_MS = 75_000;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
const DOUBLINGS_MAX = 16;
/** A ticket is lost when the server restarts before it is used. That happens once, not three times in a row. */
const LOST_TICKETS_MAX = 3;
/** Marks a ticket that was good a moment ago and that the stream does not know. */
export const LOST_TICKET = "TICKET_LOST";

/** One message of a stream. Over a WebSocket its name and id stand in the data only.
 * @typedef {{data: string, event?: string, id?: string}} Frame */

/** An open connection. `read` gives what came since the last call, undefined at the end, and throws where it broke off. `retryMs` is
 * what the server asked for as the first wait.
 * @typedef {{read: () => Promise<Frame[] | undefined>, readonly retryMs?: number | undefined}} Connection */

/** An event as it was received: its envelope, its text, its id.
 * @typedef {{envelope: any, data: string, id: string}} Received */

/** What a follower is given, and tells.
 * @typedef {object} Course
 * @property {(cursor: string | undefined, signal: AbortSignal) => Promise<Connection>} open opens the stream after a cursor
 * @property {(events: Received[]) => void | Promise<void>} take events that came in one piece; more is read when it is done
 * @property {(detail: any) => void} opened
 * @property {(detail: any) => void} gap
 * @property {(error: StentorError, retryInMs: number | undefined) => void} failed without a time, it is the end
 */

/** Follows one stream over every disconnection. */
export class Follower {
  /** @type {"connecting" | "open" | "closed"} */
  state = "connecting";
  /** The id of the last event that was taken. @type {string | undefined} */
  cursor;
  #course;
  #silenceMaxMs;
  #failures = 0;
  #lostTickets = 0;
  #firstWaitMs = BACKOFF_FIRST_MS;
  /** A cursor that is a moment and no event, so that lying ahead of the log only means that nothing happened since.
   * @type {string | undefined} */
  #moment;
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
      const connection = await this.#course.open(this.cursor, attempt.signal);
      for (;;) {
        clearTimeout(watch);
        watch = setTimeout(give, this.#silenceMaxMs, `Nothing came for ${this.#silenceMaxMs} ms`);
        const frames = await connection.read();
        if (!frames) return new StentorError("The server ended the stream");
        // whoever takes the events may take its time
        clearTimeout(watch);
        if (connection.retryMs !== undefined) this.#firstWaitMs = Math.max(connection.retryMs, 1);
        await this.#deliver(frames);
        if (this.#ended()) return new StentorError("It was closed");
      }
    } catch (error) {
      if (dead) return dead;
      if (error instanceof StentorError) return this.#refused(error);
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
      const own = envelope?.id ?? envelope?.event_id;
      // events have an id in their envelope, whatever the name of their frame; what the server itself says has none
      if (typeof own === "string") {
        events.push({ envelope, data, id: id ?? own });
        continue;
      }
      await flush();
      if (this.#ended()) return;
      const name = event ?? envelope?.event;
      if (name === "connected") this.#opened(envelope, id);
      else if (name === "gap" && !(envelope.reason === "ahead" && this.#isMoment())) this.#course.gap(envelope);
    }
    await flush();
  }

  /** @param {any} detail
   * @param {string | undefined} id */
  #opened(detail, id) {
    this.state = "open";
    this.#failures = 0;
    this.#lostTickets = 0;
    this.cursor = id || this.cursor;
    // a WebSocket names no cursor at its start, but the moment of it, of which one can be made
    if (this.cursor === undefined && typeof detail?.timestamp === "number") this.cursor = this.#moment = firstIdAt(detail.timestamp);
    this.#course.opened(detail);
  }

  #isMoment() {
    return this.cursor !== undefined && this.cursor === this.#moment;
  }
}

/** The first id that an event of this moment could have: an ULID without chance.
 * @param {number} unixMs */
function firstIdAt(unixMs) {
  const digit = (/** @type {number} */ at) => "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[Math.floor(unixMs / 32 ** at) % 32];
  return [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map(digit).join("") + "0".repeat(16);
}
