// @ts-check
// What sources took in, for whoever writes the handlers of a webhook: endpoints are made, and their events handled one by one.
/** @import { Received } from "./follower.js" */
/** @import { Token } from "./address.js" */
import { PLAIN, authorization, base, needed } from "./address.js";
import { StentorError, TIMER_MAX_MS } from "./error.js";
import { Follower, OPEN_TIMEOUT_MS } from "./follower.js";
import { overSse } from "./sse.js";

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
            return overSse(await fetch(at + after, { ...PLAIN, headers, signal }));
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
