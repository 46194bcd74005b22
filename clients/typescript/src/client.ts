import { StentorError, follow } from "./stentor/index.js";
import { bare, type Token } from "./stentor/address.js";
import type { StreamEvent } from "./stentor/index.js";
import type { FollowOptions } from "./stentor/loop.js";

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

export type FollowMore = Omit<FollowOptions, "server" | "token" | "channel" | "channels">;

/** One channel, or what is read of several in one order: `map:<id or slug>`, `organization:<id>`, and `map:*` or `organization:*` for all
 * of a kind. */
export type Channels = string | string[];

/** Longest time for an answer. */
const TIMEOUT_MS = 30_000;
const PUBLISH_FOR_MS = 30_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;
/** Pages of a list that are read before it is taken to have no end. */
const PAGES_MAX = 10_000;

/** Publishes, follows and manages, with one token. */
export class Stentor {
  readonly #server: string;
  readonly #token: Token;

  constructor({ server, token }: StentorOptions) {
    const url = new URL(String(server));
    if (!/^https?:$/.test(url.protocol)) throw new TypeError("server must be an address such as https://events.example.org");
    if (typeof token !== "function") bare(token);
    this.#server = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
    this.#token = token;
  }

  /** Any request of the API: the JSON of its answer, null where that is empty.
   * @throws {StentorError} */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  async request(method: string, path: string, more: RequestMore = {}): Promise<any> {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    const headers: Record<string, string> = { Authorization: `Bearer ${bare(token)}`, ...more.headers };
    if (more.body !== undefined) headers["Content-Type"] ??= "application/json";
    const query = new URLSearchParams(more.query);
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    let answer: Response;
    let text: string;
    try {
      answer = await fetch(`${this.#server}${path}${query.size ? `?${query}` : ""}`, {
        method,
        headers,
        body: more.body === undefined ? null : JSON.stringify(more.body),
        signal: more.signal ? AbortSignal.any([more.signal, timeout]) : timeout,
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
      if (!answer.ok) throw await StentorError.of(answer);
      text = await answer.text();
    } catch (error) {
      if (error instanceof StentorError || more.signal?.aborted) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new StentorError(`The connection failed: ${reason}`, { cause: error });
    }
    return text ? JSON.parse(text) : null;
  }

  /** The items of a list, over all its pages. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  async *pages(path: string, query: Record<string, string> = {}): AsyncGenerator<any, void, void> {
    const wanted = { ...query };
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const answer = await this.request("GET", path, { query: wanted });
      yield* answer.data;
      const after = answer.nextCursor ?? answer.next;
      if (after === null || after === undefined || answer.data.length === 0) return;
      wanted["after"] = String(after);
    }
    throw new StentorError(`The list has more than ${PAGES_MAX} pages; ask for less`);
  }

  /** Publishes one event and gives its id: it is durable then, and stored once however often it was sent. */
  async publish(channel: string, type: string, payload: Record<string, unknown> = {}, more: PublishMore = {}): Promise<string> {
    const { retryForMs, ...fields } = more;
    const [id] = await this.#publish(channel, { type, payload, ...fields }, retryForMs);
    return id!;
  }

  /** Publishes all events or none, and gives their ids in order. */
  publishBatch(channel: string, events: EventToPublish[], { retryForMs }: { retryForMs?: number } = {}): Promise<string[]> {
    return this.#publish(channel, { events }, retryForMs);
  }

  async #publish(channel: string, body: unknown, retryForMs = PUBLISH_FOR_MS): Promise<string[]> {
    // an answer that was lost on its way is asked for again under the same key
    const headers = { "Idempotency-Key": crypto.randomUUID() };
    const deadline = Date.now() + retryForMs;
    for (let failures = 0; ; failures += 1) {
      try {
        const answer = await this.request("POST", eventsOf(channel), { body, headers });
        return answer.data.ids;
      } catch (error) {
        if (!(error instanceof StentorError) || error.final) throw error;
        const most = Math.min(BACKOFF_FIRST_MS * 2 ** Math.min(failures, 16), BACKOFF_MAX_MS);
        const waitMs = error.retryAfterMs + most * (0.5 + Math.random() / 2);
        if (Date.now() + waitMs > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  /** The events of a channel, or of several, for a `for await` loop: see `follow`. */
  follow(channel: Channels, more: FollowMore = {}): AsyncGenerator<StreamEvent, void, void> {
    const which = typeof channel === "string" ? { channel } : { channels: channel };
    return follow({ ...more, server: this.#server, token: this.#token, ...which });
  }

  /** Events that are stored, as envelopes, the oldest first; `since`, `until`, `after`, `events`, `filter` ... as in the API. */
  history(channel: Channels, query: Record<string, string> = {}) {
    if (typeof channel !== "string") return this.pages("/events", { ...query, channel: channel.join(",") });
    return this.pages(eventsOf(channel) + (channel.startsWith("source:") ? "/history" : ""), query);
  }

  /** Makes a map (admin). Its first `token` is shown only here. */
  async createMap(name: string, slug?: string) {
    return (await this.request("POST", "/api/maps", { body: { name, slug } })).data;
  }

  maps() {
    return collected(this.pages("/api/maps"));
  }

  async deleteMap(map: string): Promise<void> {
    await this.request("DELETE", `/api/maps/${part(map)}`);
  }

  /** Makes an organization (admin). Its first `token` is shown only here. */
  async createOrganization(name: string, id?: string) {
    return (await this.request("POST", "/api/v1/organizations", { body: { name, id } })).data;
  }

  organizations() {
    return collected(this.pages("/api/v1/organizations"));
  }

  async deleteOrganization(organization: string): Promise<void> {
    await this.request("DELETE", `/api/v1/organizations/${part(organization)}`);
  }

  /** Makes a token for a channel, or for several (admin). The `token` is shown only here. */
  async createToken(channel: Channels, scopes: string[], more: { name?: string; expires_at?: string } = {}) {
    const which = typeof channel === "string" ? { channel } : { channels: channel };
    return (await this.request("POST", "/api/v1/tokens", { body: { ...which, scopes, ...more } })).data;
  }

  /** Gives a token another name, or none. */
  async renameToken(id: string, name: string | null) {
    return (await this.request("PATCH", `/api/v1/tokens/${part(id)}`, { body: { name } })).data;
  }

  tokens() {
    return collected(this.pages("/api/v1/tokens"));
  }

  async revokeToken(id: string): Promise<void> {
    await this.request("DELETE", `/api/v1/tokens/${part(id)}`);
  }

  /** Makes a webhook, with the fields of the API as the channel's family spells them. A map's `secret` is shown only here, and its
   * webhooks deliver once they are turned on. */
  async createWebhook(channel: string, url: string, fields: Record<string, unknown> = {}) {
    const { path, query } = webhooksOf(channel);
    return (await this.request("POST", path, { query, body: { url, ...fields } })).data;
  }

  webhooks(channel: string) {
    const { path, query } = webhooksOf(channel);
    return collected(this.pages(path, query));
  }

  async updateWebhook(channel: string, id: string, fields: Record<string, unknown>) {
    const { path, query } = webhooksOf(channel);
    return (await this.request("PATCH", `${path}/${part(id)}`, { query, body: fields })).data;
  }

  async deleteWebhook(channel: string, id: string): Promise<void> {
    const { path, query } = webhooksOf(channel);
    await this.request("DELETE", `${path}/${part(id)}`, { query });
  }

  /** Turns all webhooks of a map on or off. */
  async toggleWebhooks(map: string, enabled: boolean): Promise<void> {
    await this.request("PUT", `/api/maps/${part(map.replace(/^map:/, ""))}/webhooks/toggle`, { body: { enabled } });
  }

  /** Makes an inbound webhook: `endpoint`, and a `secret` that is shown only here. */
  createSource(channel: string, authentication: string, fields: Record<string, unknown> = {}) {
    return this.request("POST", "/api/webhooks", { query: { channel }, body: { authentication, ...fields } });
  }

  sources(channel?: string) {
    return collected(this.pages("/api/webhooks", channel ? { channel } : {}));
  }

  async deleteSource(id: string): Promise<void> {
    await this.request("DELETE", `/api/webhooks/${part(id)}`);
  }
}

const part = encodeURIComponent;

async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function eventsOf(channel: string): string {
  if (channel === "feed") return "/events";
  const [, kind, name] = /^(map|organization|source):(.+)$/s.exec(channel) ?? [];
  const bases: Record<string, string> = { map: "/api/maps", organization: "/api/v1/organizations", source: "/api/webhooks" };
  if (!kind || !name) throw new TypeError("channel must be map:<id>, organization:<id>, source:<id> or feed");
  return `${bases[kind]}/${part(name)}/events`;
}

function webhooksOf(channel: string): { path: string; query: Record<string, string> } {
  const [, kind, name] = /^(map|organization):(.+)$/s.exec(channel) ?? [];
  if (!kind || !name) throw new TypeError("channel must be map:<id> or organization:<id>");
  if (kind === "map") return { path: `/api/maps/${part(name)}/webhooks`, query: {} };
  return { path: "/api/v1/webhooks", query: { channel } };
}
