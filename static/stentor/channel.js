// @ts-check
// The events of channels as an `EventTarget`.
/** @import { Received } from "./follower.js" */
/** @import { StentorError } from "./error.js" */
/** @import { StreamOptions } from "./address.js" */
import { opener } from "./address.js";
import { Follower } from "./follower.js";

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
