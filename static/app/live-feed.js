// The events of a channel as they come, and the past behind them: a list, newest first, without double or hole.
//
// The stream is opened first and the past is asked for when it stands, so that nothing falls in between; what both
// bring is dropped by its id. While somebody reads, new events are held back and counted.
import { EventStream } from "../stentor.js";
import { whileLookedAt } from "./looked-at.js";
import { event as read, followed, history, timeOf } from "./api.js";
import { logout, server, session } from "./session.js";
import { expressionOf } from "./words.js";

const PAGE = 50;
const SHOWN_MAX = 300; // rows while nobody scrolls into the past
const OLD_MAX = 3000; // rows in all
const PAGES_MAX = 40; // asked for at once where little passes the filter: the server looks at so many events a page
const HELD_MAX = 1000; // events kept while the list stands still
const TYPES_MAX = 500; // types that are counted
const FLUSH_MS = 250; // events that come close together are shown in one go
const BUSY_MS = 1000; // the same while nobody could read along
const BUSY_FROM = 100; // events a second from which on nobody can
const CALM_FROM = 60; // and below which somebody can again
const BUSY_SHOWN = 60; // the newest, which are shown meanwhile

export class LiveFeed {
  /** Newest first: events, and `{ gap }` where events are missing. */
  rows = [];
  held = [];
  received = 0;
  /** `connecting`, `open`, `waiting` (with `retryAt`), `failed`. */
  state = "connecting";
  retryAt = 0;
  error = null;
  unknown = [];
  /** Types seen, and how often. */
  types = new Map();
  /** Events a second, where they come so fast that only the newest are shown; else null. */
  rate = null;
  loadedPast = false;
  loadingOlder = false;
  olderError = null;
  /** Where the next page of the past begins; null at the beginning of the log. */
  next = null;
  /** How far back what passes the filter was looked for, in Unix milliseconds; null: to the beginning, or not yet. */
  searchedTo = null;
  #closed = false;
  #seen = new Set();
  #fresh = [];
  #came = 0;
  #shownAt = performance.now();
  #holding = false;
  #timer = 0;
  #stream;
  #end;
  #channel;
  #filter;
  #tell;

  /** @param filter `{ events, within, expression, named, session, until }`: with `until` (ISO 8601) it is the past up to a time, and
   *  nothing comes; `within` are the types that count while none are chosen, `named` ids by the names that may be typed for them
   *  @param tell called after every change */
  constructor(channel, filter, tell) {
    this.#channel = channel;
    this.#filter = filter;
    this.#tell = tell;
    if (filter.until) {
      this.state = "past";
      this.#end = () => {};
      this.past();
    } else this.#end = whileLookedAt(() => this.#open(), () => this.#stream.close());
  }

  /** Opens the stream where the one before ended. */
  #open() {
    const filter = this.#filter;
    this.state = "connecting";
    this.#stream = new EventStream({
      server,
      token: session.value.token,
      ...followed(this.#channel),
      events: filter.events?.length ? filter.events : filter.within,
      filter: expressionOf(filter.expression, filter.named) || undefined,
      session: filter.session || undefined,
      withChannel: this.#channel.kind === "feed",
      lastEventId: this.#stream?.lastEventId,
    });
    this.#stream.addEventListener("open", ({ detail }) => {
      this.state = "open";
      this.error = null;
      this.unknown = detail.unknown_events ?? detail.unknownEvents ?? [];
      if (!this.loadedPast) this.past();
      this.#tell();
    });
    this.#stream.addEventListener("event", ({ detail }) => this.#take(read(detail)));
    this.#stream.addEventListener("gap", ({ detail }) => {
      this.#fresh.push({ id: `gap-${detail.requested}-${Date.now()}`, gap: detail });
      this.#later();
    });
    this.#stream.addEventListener("error", ({ error, final, retryInMs }) => {
      // whoever is cut off for good has to log in again
      if (final && error?.status === 401) return logout("The token is not valid any more. Log in again.");
      this.state = final ? "failed" : "waiting";
      this.retryAt = Date.now() + (retryInMs ?? 0);
      this.error = error;
      this.#tell();
    });
  }

  close() {
    clearTimeout(this.#timer);
    this.#closed = true;
    this.#end();
    this.#tell = () => {};
  }

  /** The latest events of the past, so that the list does not begin empty. */
  async past() {
    if (this.loadingOlder) return;
    await this.#page(undefined);
  }

  /** The page before the oldest row. */
  async older() {
    if (this.loadingOlder || this.next === null || this.rows.length >= OLD_MAX) return;
    await this.#page(this.next);
  }

  get full() {
    return this.rows.length >= OLD_MAX;
  }

  async #page(after) {
    this.loadingOlder = true;
    this.#tell();
    try {
      const { events, within, expression, named, session: name, until } = this.#filter;
      const types = (events?.length ? events : within)?.join(",");
      const filter = expressionOf(expression, named);
      let found = 0;
      for (let pages = 0; pages < PAGES_MAX && !this.#closed; pages += 1) {
        const page = await history(this.#channel, { events: types, filter, session: name, until, limit: PAGE, after: pages ? this.next : after });
        this.rows = [...this.rows, ...page.events.filter((row) => this.#isNew(row))];
        this.next = page.next;
        this.searchedTo = page.next === null ? null : timeOf(page.next);
        this.loadedPast = true;
        this.olderError = null;
        found += page.events.length;
        if (page.next === null || found >= PAGE) break;
        this.#tell();
      }
    } catch (error) {
      this.olderError = error;
    }
    this.loadingOlder = false;
    this.#tell();
  }

  #isNew(row) {
    if (this.#seen.has(row.id)) return false;
    this.#seen.add(row.id);
    if (this.types.has(row.type) || this.types.size < TYPES_MAX) this.types.set(row.type, (this.types.get(row.type) ?? 0) + 1);
    return true;
  }

  #take(row) {
    if (!this.#isNew(row)) return;
    this.received += 1;
    this.#came += 1;
    this.#fresh.push({ ...row, live: true });
    // what nobody will see is not kept for the moment at which it would be shown
    if (this.#fresh.length > 4 * HELD_MAX) this.#forget(this.#fresh.splice(0, HELD_MAX));
    this.#later();
  }

  #later() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      const fresh = this.#fresh;
      this.#fresh = [];
      this.#measure();
      if (this.#holding) {
        this.held.push(...fresh);
        this.#forget(this.held.splice(0, this.held.length - HELD_MAX));
      } else if (this.rate !== null) this.#showNewest(fresh);
      else if (fresh.length) this.#show(fresh);
      this.#tell();
      // also when nothing comes any more it has to be seen that it is calm
      if (this.rate !== null) this.#later();
    }, this.rate === null ? FLUSH_MS : BUSY_MS);
  }

  /** Whether events come too fast to be read. */
  #measure() {
    const now = performance.now();
    const rate = (1000 * this.#came) / Math.max(FLUSH_MS, now - this.#shownAt);
    this.#came = 0;
    this.#shownAt = now;
    this.rate = rate > (this.rate === null ? BUSY_FROM : CALM_FROM) ? rate : null;
  }

  /** Shows the newest alone: the others can be had as the past. */
  #showNewest(fresh) {
    this.#forget(fresh.splice(0, fresh.length - BUSY_SHOWN));
    const rows = [...fresh.reverse(), ...this.rows];
    const cut = rows.splice(BUSY_SHOWN);
    this.#forget(cut);
    this.next = rows.findLast((row) => !row.gap)?.id ?? this.next;
    this.rows = rows;
  }

  /** @param fresh oldest first */
  #show(fresh) {
    const most = Math.max(SHOWN_MAX, this.rows.length);
    const rows = [...fresh.reverse(), ...this.rows];
    const cut = rows.splice(most);
    this.#forget(cut);
    // what was cut at the end can be had again as the past
    if (cut.length) this.next = rows.findLast((row) => !row.gap)?.id ?? this.next;
    this.rows = rows;
  }

  #forget(rows) {
    for (const row of rows) this.#seen.delete(row.id);
  }

  /** While it holds, new events wait. */
  hold(on) {
    if (this.#holding === on) return;
    this.#holding = on;
    if (!on) this.release();
  }

  /** Shows what was held back. */
  release() {
    const held = this.held;
    this.held = [];
    if (held.length) this.#show(held);
    this.#tell();
  }
}
