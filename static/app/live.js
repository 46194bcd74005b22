// Live events of a channel: what comes, filters, pause, and the past by scrolling down.
import { Component, html, useEffect, useMemo, useReducer, useRef, useState } from "./html.js";
import { StentorError } from "../stentor.js";
import { bare, stats, typesOf } from "./api.js";
import { brief, count, duration, hue, isTime, plural, shortTime, time } from "./format.js";
import { LiveFeed } from "./live-feed.js";
import { Trace } from "./trace.js";
import { Tree } from "./tree.js";
import { Bones, Empty, Icon, StreamState, Trouble, copy, usePicker } from "./ui.js";
import { to } from "./route.js";
import { useInterval, useResource } from "./store.js";
import { isExpression } from "./words.js";

const SCROLLED_PX = 160;
const FACTS_MAX = 6;
const CAME_MS = 1000;

/**
 * @param channel `{ kind, id }`
 * @param filter `{ events, expression, session, until }`, as the address has it; `until` shows the past up to a time
 * @param onFilter called with the filter that somebody chose
 * @param describe makes a sentence of an event, where there is one
 * @param leads says for an event where what it tells of can be seen: `[text, address]`, or nothing
 * @param onCame called now and then while events come
 * @param place where one event has an address of its own: the parts of the address of this view
 * @param names of channels, by how tokens name them, where rows say theirs
 */
export function Live({ channel, filter, onFilter, describe, leads, onCame, empty, place, names }) {
  const [, changed] = useReducer((n) => n + 1, 0);
  const [feed, setFeed] = useState(null);
  const [paused, setPaused] = useState(false);
  const [open, setOpen] = useState(() => new Set());
  const [away, setAway] = useState(false);
  const key = JSON.stringify([channel.kind, channel.id, channel.channels, filter]);

  useEffect(() => {
    const made = new LiveFeed(channel, filter, changed);
    setFeed(made);
    setOpen(new Set());
    return () => made.close();
  }, [key]);

  useEffect(() => {
    const look = () => setAway(scrollY > SCROLLED_PX);
    look();
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);

  // whoever reads something, or looks at the past, does not have it pushed away
  const reading = paused || away || open.size > 0;
  useEffect(() => feed?.hold(reading), [feed, reading]);

  // not for each of many
  const came = useRef(0);
  useEffect(() => {
    if (!feed?.received || !onCame) return;
    came.current ||= setTimeout(() => {
      came.current = 0;
      onCame();
    }, CAME_MS);
  }, [feed?.received]);
  useEffect(() => () => clearTimeout(came.current), []);

  if (!feed) return html`<div class="card"><${Bones} /></div>`;
  const toggle = (id, on) => setOpen((before) => {
    if (before.has(id) === on) return before;
    const after = new Set(before);
    on ? after.add(id) : after.delete(id);
    return after;
  });
  const showHeld = () => {
    setOpen(new Set());
    setPaused(false);
    scrollTo({ top: 0 });
    feed.release();
  };
  const refused = feed.state === "failed";
  const past = Boolean(filter.until) && feed.state === "past";
  return html`<section class="live" aria-label=${past ? "Past events" : "Live events"}>
    <div class="live-bar">
      ${past ? html`<p class="small">Events up to <strong>${time(Date.parse(filter.until))}</strong></p>
        <button type="button" class="button small" onClick=${() => onFilter({ ...filter, until: "" })}>Back to live</button>` : html`
      <${State} feed=${feed} paused=${paused} />
      <p class="soft small tabular" aria-live="off"><output id="received">${count(feed.received)}</output> since you opened this</p>
      <button type="button" class="button small" aria-pressed=${String(paused)} onClick=${() => setPaused(!paused)}>
        <${Icon} name=${paused ? "play" : "pause"} />${paused ? "Go on" : "Pause"}
      </button>`}
    </div>
    <${Filters} channel=${channel} filter=${filter} feed=${feed} onFilter=${onFilter} />
    ${refused && html`<${Trouble} error=${feed.error} />`}
    ${feed.unknown.length > 0 && html`<p
      class="hintbox">Not in the catalogue: ${feed.unknown.join(", ")}. Such events are shown when they come. Look whether the name is misspelt.</p>`}
    ${feed.rate !== null && !reading && html`<p class="hintbox" role="status">About ${brief(Math.round(feed.rate))} events a second, too fast to read: the newest are shown, once a second. Filter or pause to read them.</p>`}
    ${feed.held.length > 0 && html`<div class="held"><button type="button" class="button main small" onClick=${showHeld}>
      <${Icon} name="up" />${plural(feed.held.length, "new event")}</button></div>`}
    <${Rows} feed=${feed} open=${open} onToggle=${toggle} describe=${describe} leads=${leads}
      empty=${empty} refused=${refused} channel=${channel} place=${place} names=${names} filtered=${Boolean(filter.events?.length || filter.expression || filter.session)} />
  </section>`;
}

function State({ feed, paused }) {
  const [now, tick] = useState(Date.now());
  useInterval(() => tick(Date.now()), 1000, feed.state === "waiting");
  if (feed.state === "open") return html`<${StreamState} state=${paused ? "idle" : "open"} text=${paused ? "Paused" : "Live"} />`;
  if (feed.state === "failed") return html`<${StreamState} state="failed" text="Not connected" />`;
  if (feed.state === "connecting") return html`<${StreamState} state="connecting" text="Connecting" />`;
  // said once, not every second, to those who listen
  const wait = Math.max(0, feed.retryAt - now);
  return html`<span title=${feed.error?.message}><${StreamState} state="connecting" text="Reconnecting" /></span>
    ${wait > 1500 && html`<span class="soft small tabular" aria-hidden="true">in ${duration(Math.ceil(wait / 1000) * 1000)}</span>`}`;
}

// ---- filters ---------------------------------------------------------------------------------------------------

function Filters({ channel, filter, feed, onFilter }) {
  const known = useResource(() => typesOf(channel), [channel.kind, channel.id]);
  const day = useResource(() => (channel.kind === "source" ? { types: {} } : stats(channel, "24h", "1h")), [channel.kind, channel.id, channel.channels?.join()]);
  // what the server has counted beats what happens to be loaded
  const counted = day.data?.types ?? {};
  const hasOwn = Object.keys(counted).length > 0;
  const [expression, setExpression] = useState(filter.expression ?? "");
  const search = filter.expression && !isExpression(filter.expression);
  useEffect(() => setExpression(filter.expression ?? ""), [filter.expression]);
  const chosen = new Set(filter.events ?? []);
  const options = useMemo(() => {
    // the channel's own types; those of the catalogue only where it has none yet
    const catalogue = hasOwn || feed.types.size ? [] : (known.data ?? []).map(({ type }) => type);
    return [...new Set([...Object.keys(counted).filter((type) => type !== "other"), ...feed.types.keys(), ...chosen, ...catalogue])].sort();
  }, [known.data, day.data, feed.types.size, filter.events?.join()]);
  const choose = (type) => {
    if (!chosen.delete(type)) chosen.add(type);
    onFilter({ ...filter, events: [...chosen].sort() });
  };
  const picker = usePicker();
  const refused = feed.state === "failed" && feed.error instanceof StentorError && feed.error.status === 400 && filter.expression;
  const apply = (event) => {
    event.preventDefault();
    onFilter({ ...filter, expression: expression.trim() });
  };
  return html`<div class="filters">
    <details class="picker" ...${picker}>
      <summary class="button small">Types${chosen.size > 0 && html`<span class="badge accent">${chosen.size}</span>`}</summary>
      <div class="picked card" role="group" aria-label="Show only these types">
        ${options.length === 0 && html`<p class="soft small">No types yet.</p>`}
        ${options.map((type) => html`<label key=${type}><input type="checkbox" checked=${chosen.has(type)} onChange=${() => choose(type)} />
          <span class="mono clip">${type}</span><span class="soft small tabular" title="In the last 24 hours">${counted[type] ? brief(counted[type]) : hasOwn ? "" : (feed.types.get(type) ?? "")}</span></label>`)}
      </div>
    </details>
    <form class="expression" onSubmit=${apply}>
      <label class="unseen" for="expression">Search, or filter expression (CEL)</label>
      <input id="expression" class="input mono" type="search" enterkeyhint="search" autocomplete="off" autocapitalize="off"
        spellcheck=${false} aria-invalid=${refused ? "true" : undefined}
        placeholder="Words of a payload, or event.payload.value > 1000.0" value=${expression} onInput=${(event) => setExpression(event.target.value)} />
      <button type="submit" class="button small">Find</button>
    </form>
    ${(chosen.size > 0 || filter.expression || filter.session) && html`<p class="chips">
      ${[...chosen].map((type) => html`<button key=${type} type="button" class="button small" aria-label=${`Stop showing only ${type}`}
        onClick=${() => choose(type)}><span class="mono">${type}</span><${Icon} name="close" /></button>`)}
      ${search && html`<span class="soft small">Events with ${filter.expression.includes(" ") ? "all these words" : "this word"} in their payload, type or id.</span>`}
      <button type="button" class="button small bare" onClick=${() => onFilter({ until: filter.until })}>Clear filters</button>
    </p>`}
  </div>`;
}

// ---- rows ------------------------------------------------------------------------------------------------------

function Rows({ feed, open, onToggle, describe, leads, empty, refused, channel, filtered, place, names }) {
  if (!feed.loadedPast && feed.rows.length === 0) {
    if (refused) return null;
    if (feed.olderError) return html`<${Trouble} error=${feed.olderError} onRetry=${() => feed.past()} />`;
    return html`<div class="card"><${Bones} label="Loading events" /></div>`;
  }
  if (feed.rows.length === 0) {
    if (feed.loadingOlder) return html`<div class="card"><${Bones} label="Searching" /><p class="soft small padded-row" role="status">${feed.searchedTo ? html`Nothing found back to ${time(feed.searchedTo)}; searching on…` : "Searching…"}</p></div>`;
    if (feed.next !== null) return html`<div class="card"><${Empty} icon="search" title=${`Nothing found back to ${time(feed.searchedTo)}`}><button type="button" class="button small" onClick=${() => feed.older()}>Search further back</button></${Empty}></div>`;
    if (feed.state === "past" && filtered) return html`<div class="card"><${Empty} icon="search" title="Nothing before that passes the filter">Take a condition away, or go to a later time.</${Empty}></div>`;
    if (feed.state === "past") return html`<div class="card"><${Empty} icon="search" title="Nothing happened before that">The log begins later, or what was there is removed by retention.</${Empty}></div>`;
    if (filtered) return html`<div class="card">
      <${Empty} icon="search" title="Nothing passes the filter yet">New events that do appear here at once.</${Empty}></div>`;
    return html`<div class="card">
      ${empty ?? html`<${Empty} icon="channels" title="Listening">The next event appears here.</${Empty}>`}</div>`;
  }
  return html`
    <ol class="events card" aria-label="Events, newest first">
      ${feed.rows.map((row) => (row.gap ? html`<${Gap} key=${row.id} gap=${row.gap} />` : html`<${Row} key=${row.id} row=${row} open=${open.has(row.id)} onToggle=${onToggle} describe=${describe} leads=${leads} channel=${channel} place=${place} names=${names} />`))}
    </ol>
    <${Past} feed=${feed} filtered=${filtered} />`;
}

/** The way into the past: by scrolling, or by the button where nothing scrolls. */
function Past({ feed, filtered }) {
  const mark = useRef(null);
  useEffect(() => {
    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && scrollY > 0 && feed.older(), { rootMargin: "300px" });
    seen.observe(mark.current);
    return () => seen.disconnect();
  }, [feed, feed.rows.length]);
  return html`<div class="past" ref=${mark}>
    ${feed.olderError && html`<${Trouble} error=${feed.olderError} onRetry=${() => feed.older()} />`}
    ${feed.full
      ? html`<p class="soft small">${count(feed.rows.length)} events are shown. Narrow the filter to look further back.</p>`
      : feed.next === null
        ? html`<p class="soft small">That is where the log begins.</p>`
        : html`<button type="button" class="button small" disabled=${feed.loadingOlder}
          onClick=${() => feed.older()}>${feed.loadingOlder ? "Loading…" : "Older events"}</button>
          ${feed.searchedTo && filtered ? html`<p class="soft small">Searched back to ${time(feed.searchedTo)}.</p>` : null}`}
  </div>`;
}

const GAPS = {
  ahead: "The server's log ends before the last event seen here; it goes on from its own end.",
  expired: "Some events between the last one seen here and the next were removed by retention.",
};

const Gap = ({ gap }) => html`<li class="gap" title=${`after ${gap.requested}`}>${GAPS[gap.reason] ?? "Some events are missing here."}</li>`;

/** One event. It changes only by opening and closing. */
export class Row extends Component {
  shouldComponentUpdate(next) {
    return next.open !== this.props.open || next.row !== this.props.row || next.names !== this.props.names || next.describe !== this.props.describe;
  }

  render({ row, open, onToggle, describe, leads, channel, place, names }) {
    const lead = open ? leads?.(row) : null;
    const said = describe?.(row);
    return html`<li class=${`event ${row.live ? "new" : ""}`} data-id=${row.id} data-type=${row.type}>
      <details open=${open} onToggle=${(event) => onToggle(row.id, event.target.open)}>
        <summary>
          <time datetime=${new Date(row.ms).toISOString()} title=${new Date(row.ms).toISOString()}>${time(row.ms)}</time>
          <span class="clip"><${Type} name=${row.type} /></span>
          ${names && row.channel && html`<span class="badge accent clip of-channel" title=${row.channel}><bdi>${names.get(row.channel) ?? row.channel}</bdi></span>`}
          ${(row.session || channel.schema) && html`<span class="session">
            ${row.session && html`<span class="badge clip" title="Session">${row.session}</span>`}${channel.schema && html`<span
              class=${`badge ${row.validated ? "good" : "wait"}`}
              title="Whether it has what the source's schema asks for">${row.validated ? "valid" : "not valid"}</span>`}</span>`}
          ${said ? html`<span class="said">${said}</span>` : html`<${Facts} payload=${row.payload} type=${row.type} />`}
        </summary>
        ${open && html`<div class="payload">
          ${isRequest(row) ? html`<${Request} payload=${row.payload} />` : html`<${Tree} value=${row.payload} label=${`Payload of ${row.type}`} />`}
          <footer>
            <code class="soft anywhere">${row.id}</code>
            <span class="buttons">
              ${lead && html`<a class="button small" href=${lead[1]}>${lead[0]}</a>`}
              ${(place ?? row.channel) && html`<a class="button small" href=${to(place ?? row.channel.split(/:(.*)/, 2), { event: bare(row.id) })}>Link to it</a>`}
              <button type="button" class="button small" onClick=${() => copy(row.id, "Id copied")}>Copy id</button>
              <button type="button" class="button small" onClick=${() => copy(JSON.stringify(row.payload, null, 2), "Payload copied")}>Copy payload</button>
            </span>
          </footer>
          <${Trace} id=${row.id} />
        </div>`}
      </details>
    </li>`;
  }
}

export const Type = ({ name }) => html`<span class="type" style=${{ "--hue": hue(name) }}>${name}</span>`;

/** The first plain values of a payload, then how much is in it beside them: enough to follow without opening it. */
function Facts({ payload, type }) {
  if (isRequest({ type, payload })) return html`<span class="row-facts"><span><i>${payload.method}</i>${payload.path || "/"}${payload.query ? `?${payload.query}` : ""}</span></span>`;
  if (payload === null || typeof payload !== "object") return html`<span class="row-facts"><span>${JSON.stringify(payload)}</span></span>`;
  const flat = Object.entries(payload).flatMap(([name, value]) =>
    value && typeof value === "object" && !Array.isArray(value) && name === "properties" ? Object.entries(value) : [[name, value]]);
  const told = flat.filter(([name, value]) => value !== null && !/_id$|^id$/.test(name) && !/^wh_/.test(value)).map(([name, value]) => [name, isTime(name, value) ? shortTime(name, value) : fact(value), typeof value === "object"]);
  const shown = [...told.filter(([, , deep]) => !deep), ...told.filter(([, , deep]) => deep)].slice(0, FACTS_MAX);
  return html`<span class="row-facts">${shown.map(([name, text]) => html`<span key=${name}>
    <i><bdi>${name.replaceAll("_", " ")}</bdi></i><bdi>${text}</bdi></span>`)}</span>`;
}

function fact(value) {
  if (Array.isArray(value)) return `[${value.length}]`;
  if (typeof value === "object") return `{${Object.keys(value).length}}`;
  return typeof value === "number" ? value.toLocaleString() : String(value).slice(0, 200);
}

// ---- requests that a source keeps as they came -----------------------------------------------------------------

const isRequest = ({ type, payload }) => type === "http.request" && typeof payload?.method === "string" && Array.isArray(payload.headers);

/** Method, path, headers and body as they were sent. */
function Request({ payload }) {
  const { method, path, query: text, headers, body, body_encoding: encoding } = payload;
  return html`<div class="request">
    <p class="mono anywhere"><strong>${method}</strong> ${path || "/"}${text ? `?${text}` : ""}</p>
    <div class="code wrap"><pre tabindex="0" role="region" aria-label="The request">${headers.map(([name, value], n) => html`<span key=${n}><span class="soft">${name}:</span> ${value}${"\n"}</span>`)}
${"\n"}${body ? (encoding === "base64" ? html`<span class="soft">base64</span> ${body}` : pretty(body)) : html`<span class="soft">An empty body.</span>`}</pre></div>
  </div>`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
