/** What the server said no with, or what became of the connection. */
export declare class StentorError extends Error {
    /** The HTTP status, if an answer came. */
    status: number | undefined;
    /** The server's code of the error, such as `UNAUTHORIZED`. */
    code: string | undefined;
    /** What is wrong with which field, if the server says so. */
    details: unknown;
    /** Least time to wait before the next try. */
    retryAfterMs: number;
    /** Trying again would not help. */
    final: boolean;
    /**
     * @param {string} message
     * @param {{status?: number, code?: string, details?: unknown, retryAfterMs?: number, final?: boolean, cause?: unknown}} [about]
     */
    constructor(message: string, about?: {
        status?: number;
        code?: string;
        details?: unknown;
        retryAfterMs?: number;
        final?: boolean;
        cause?: unknown;
    });
    /** Reads an answer that is not 2xx, in either form in which the server writes errors.
     * @param {Response} answer
     * @returns {Promise<StentorError>} */
    static of(answer: Response): Promise<StentorError>;
}
export type Token = string | (() => string | Promise<string>);
export type Frame = {
    event: string;
    data: string;
    id: string;
};
export type Received = {
    envelope: any;
    data: string;
    id: string;
};
export type Course = {
    /**
     * asks for the stream after a cursor
     */
    open: (cursor: string | undefined, signal: AbortSignal) => Promise<Response>;
    /**
     * events that came in one piece; more is read when it is done
     */
    take: (events: Received[]) => void | Promise<void>;
    opened: (detail: any) => void;
    gap: (detail: any) => void;
    /**
     * without a time, it is the end
     */
    failed: (error: StentorError, retryInMs: number | undefined) => void;
};
/** An event of the channel. */
export declare class StreamEvent extends Event {
    /** The envelope, as the channel's family writes it. @type {any} */
    detail: any;
    /** The text of the envelope: byte for byte what history and webhooks have. */
    data: string;
    /** The id of the event: a cursor. */
    id: string;
    /** @param {Received} received */
    constructor({ envelope, data, id }: Received);
}
/** The stream is open. `detail` has `resumed`, `server_time` and `unknown_events`. */
export declare class StreamOpenEvent extends Event {
    /** @type {any} */
    detail: any;
    /** @param {any} detail */
    constructor(detail: any);
}
/** Events are missing here. */
export declare class StreamGapEvent extends Event {
    detail: {
        requested: string;
        oldest: string | null;
        reason: "expired" | "damaged" | "ahead";
    };
    /** @param {{requested: string, oldest: string | null, reason: "expired" | "damaged" | "ahead"}} detail */
    constructor(detail: {
        requested: string;
        oldest: string | null;
        reason: "expired" | "damaged" | "ahead";
    });
}
/** Something failed. Unless it is `final`, the stream comes back by itself in `retryInMs`. */
export declare class StreamErrorEvent extends Event {
    detail: StentorError;
    error: StentorError;
    message: string;
    /** The HTTP status, if an answer came. */
    status: number | undefined;
    final: boolean;
    retryInMs: number | undefined;
    /** @param {StentorError} error
     * @param {number | undefined} retryInMs */
    constructor(error: StentorError, retryInMs: number | undefined);
}
export type StreamEvents = {
    open: StreamOpenEvent;
    event: StreamEvent;
    gap: StreamGapEvent;
    error: StreamErrorEvent;
};
export type StreamOptions = {
    /**
     * the server's address; left out, the one from which this file was loaded
     */
    server?: string | URL;
    /**
     * with the scope `subscribe`
     */
    token: Token;
    /**
     * `map:<id or slug>`, `organization:<id>`, `source:<id>` (what one endpoint took in), or
     * `feed`: all channels that the token may read
     */
    channel?: string;
    /**
     * in place of `channel`: 1 to 100 of `map:<id or slug>`, `organization:<id>`, and `map:*` or
     * `organization:*` for all of a kind, also those that are made later; in one order, in the envelope of the feed
     */
    channels?: string[];
    /**
     * only these types; an empty list means none
     */
    events?: string | string[];
    /**
     * only events with a path that begins so
     */
    pathPrefix?: string | string[];
    /**
     * a CEL expression over `event`
     */
    filter?: string;
    /**
     * only events of this session
     */
    session?: string;
    /**
     * go on after this event
     */
    lastEventId?: string;
    /**
     * silence after which the connection is taken for dead: 75,000, or two and a half
     * times `sse.keepalive_s` where the server has another value
     */
    silenceMaxMs?: number;
};
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
export declare class EventStream extends EventTarget {
    #private;
    /** @param {StreamOptions} options */
    constructor(options: StreamOptions);
    /** `connecting`, `open` or `closed`. */
    get state(): "closed" | "connecting" | "open";
    /** The id of the last event: keep it, and a later stream goes on after it. */
    get lastEventId(): string | undefined;
    /** Ends the stream. Nothing is dispatched after it. */
    close(): void;
    /**
     * @template {keyof StreamEvents} K
     * @param {K} type
     * @param {((event: StreamEvents[K]) => void) | {handleEvent(event: StreamEvents[K]): void} | null} listener
     * @param {boolean | AddEventListenerOptions} [options]
     */
    addEventListener<K extends keyof StreamEvents>(type: K, listener: ((event: StreamEvents[K]) => void) | {
        handleEvent(event: StreamEvents[K]): void;
    } | null, options?: boolean | AddEventListenerOptions): void;
}
export type Cursor = {
    load: () => string | null | undefined | Promise<string | null | undefined>;
    save: (id: string) => unknown;
};
export type FollowOptions = StreamOptions & {
    cursor?: Cursor;
    signal?: AbortSignal;
    onGap?: (gap: StreamGapEvent["detail"]) => void;
    onError?: (error: StentorError, retryInMs: number) => void;
};
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
export declare function follow(options: FollowOptions): AsyncGenerator<StreamEvent, void, void>;
export type SourceEvent = {
    id: string;
    /**
     * ISO-8601
     */
    timestamp: string;
    /**
     * id of the endpoint
     */
    source: string;
    eventType: string;
    /**
     * the same
     */
    event_type: string;
    /**
     * what the sender sent: `user_id`, `properties`
     */
    payload: any;
    user_id: string | undefined;
    properties: any;
    /**
     * whether it has the schema of the endpoint
     */
    validated: boolean;
};
export type Endpoint = {
    /**
     * `wh_...`
     */
    id: string;
    /**
     * where senders post
     */
    url: string;
    name: string | null;
    channel: string;
    authentication: string;
    createdAt: string;
    eventsReceived: number;
    lastEventAt: string | null;
    status: string;
    /**
     * the key, shown only now
     */
    secret?: string;
};
export type EndpointOptions = {
    name?: string;
    /**
     * `map:<id>` or `organization:<id>`; left out, the token's own
     */
    channel?: string;
    /**
     * `none`, `api_key`, `hmac`, `jwt`, or another that the server knows
     */
    authentication: string;
    secretKey?: string;
    apiKey?: string;
    hmacAlgorithm?: "sha256" | "sha512";
    jwt?: {
        algorithm: string;
        key: string;
        issuer?: string;
        audience?: string;
    };
    /**
     * `string`, `number`, `boolean`, `date` or `unknown` by field
     */
    schema?: Record<string, string>;
    rateLimit?: unknown;
};
export type Retry = {
    /**
     * true
     */
    enabled?: boolean;
    /**
     * 3
     */
    maxRetries?: number;
    /**
     * 1000 ms
     */
    initialDelay?: number;
    /**
     * 2
     */
    backoffMultiplier?: number;
};
export type Handlers = {
    event: (event: SourceEvent) => unknown;
    batch: (events: SourceEvent[]) => unknown;
    dead_letter: (event: SourceEvent, error: unknown) => unknown;
    error: (error: unknown) => unknown;
};
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
export declare class WebhookAdapter {
    #private;
    /** @param {{server?: string | URL, token: Token}} options the token needs `subscribe`, and `manage` to make endpoints */
    constructor(options: {
        server?: string | URL;
        token: Token;
    });
    /** Makes an endpoint. Its `url` is what senders post to.
     * @param {EndpointOptions} options
     * @returns {Promise<Endpoint>} */
    createEndpoint(options: EndpointOptions): Promise<Endpoint>;
    /** Says which endpoint to listen to, and what happens when a handler fails.
     * @param {{endpointId: string, retry?: Retry, lastEventId?: string}} options `lastEventId`: go on after this event */
    connect({ endpointId, retry, lastEventId }: {
        endpointId: string;
        retry?: Retry;
        lastEventId?: string;
    }): Promise<void>;
    /**
     * @template {keyof Handlers} K
     * @param {K} type
     * @param {Handlers[K]} handler
     */
    on<K extends keyof Handlers>(type: K, handler: Handlers[K]): this;
    /**
     * @template {keyof Handlers} K
     * @param {K} type
     * @param {Handlers[K]} handler
     */
    off<K extends keyof Handlers>(type: K, handler: Handlers[K]): this;
    /** The id of the last event that was handled: keep it, and a later `connect` goes on after it. */
    get lastEventId(): string | undefined;
    /** Opens the stream; done when it is open. After that it comes back by itself until `stop`.
     * @returns {Promise<void>} */
    startListening(): Promise<void>;
    /** Ends listening; done when no handler runs any more. An event whose handler still failed is not counted as handled. */
    stop(): Promise<void>;
}
