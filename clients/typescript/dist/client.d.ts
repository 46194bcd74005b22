import type { FollowOptions, StreamEvent, Token } from "./stentor.js";
/** Where the server is, and who asks: a token, or what gives one, for tokens that expire. */
export interface StentorOptions {
    server: string | URL;
    token: Token;
}
/** An event as it is published. */
export interface EventToPublish {
    type: string;
    payload?: Record<string, unknown>;
    session?: string;
    /** When it happened, ISO-8601; left out, now. */
    ts?: string;
    /** The same event is stored once, however often it is published with this key within a day. */
    dedupe_id?: string;
}
export interface PublishMore extends Omit<EventToPublish, "type" | "payload"> {
    /** How long to try again when the server is not there or has no room: 30,000. */
    retryForMs?: number;
}
export interface RequestMore {
    query?: Record<string, string>;
    body?: unknown;
    headers?: Record<string, string>;
    signal?: AbortSignal;
}
export type FollowMore = Omit<FollowOptions, "server" | "token" | "channel">;
/** Publishes, follows and manages, with one token. */
export declare class Stentor {
    #private;
    constructor({ server, token }: StentorOptions);
    /** Any request of the API: the JSON of its answer, null where that is empty.
     * @throws {StentorError} */
    request(method: string, path: string, more?: RequestMore): Promise<any>;
    /** The items of a list, over all its pages. */
    pages(path: string, query?: Record<string, string>): AsyncGenerator<any, void, void>;
    /** Publishes one event and gives its id: it is durable then, and stored once however often it was sent. */
    publish(channel: string, type: string, payload?: Record<string, unknown>, more?: PublishMore): Promise<string>;
    /** Publishes all events or none, and gives their ids in order. */
    publishBatch(channel: string, events: EventToPublish[], { retryForMs }?: {
        retryForMs?: number;
    }): Promise<string[]>;
    /** The events of a channel for a `for await` loop: see `follow`. */
    follow(channel: string, more?: FollowMore): AsyncGenerator<StreamEvent, void, void>;
    /** Events that are stored, as envelopes, the oldest first; `since`, `until`, `after`, `events`, `filter` ... as in the API. */
    history(channel: string, query?: Record<string, string>): AsyncGenerator<any, void, void>;
    /** Makes a map (admin). Its first `token` is shown only here. */
    createMap(name: string, slug?: string): Promise<any>;
    maps(): Promise<any[]>;
    deleteMap(map: string): Promise<void>;
    /** Makes an organization (admin). Its first `token` is shown only here. */
    createOrganization(name: string, id?: string): Promise<any>;
    organizations(): Promise<any[]>;
    deleteOrganization(organization: string): Promise<void>;
    /** Makes a token. The `token` is shown only here. */
    createToken(channel: string, scopes: string[], more?: {
        name?: string;
        expires_at?: string;
    }): Promise<any>;
    tokens(): Promise<any[]>;
    revokeToken(id: string): Promise<void>;
    /** Makes a webhook, with the fields of the API as the channel's family spells them. A map's `secret` is shown only here, and its
     * webhooks deliver once they are turned on. */
    createWebhook(channel: string, url: string, fields?: Record<string, unknown>): Promise<any>;
    webhooks(channel: string): Promise<any[]>;
    updateWebhook(channel: string, id: string, fields: Record<string, unknown>): Promise<any>;
    deleteWebhook(channel: string, id: string): Promise<void>;
    /** Turns all webhooks of a map on or off. */
    toggleWebhooks(map: string, enabled: boolean): Promise<void>;
    /** Makes an inbound webhook: `endpoint`, and a `secret` that is shown only here. */
    createSource(channel: string, authentication: string, fields?: Record<string, unknown>): Promise<any>;
    sources(channel?: string): Promise<any[]>;
    deleteSource(id: string): Promise<void>;
}
