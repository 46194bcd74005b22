// Who is connected: the open streams of a channel, or of all, and the button that ends one.
import { html, useState } from "./html.js";
import { channelName, connections, endConnection } from "./api.js";
import { count, plural } from "./format.js";
import { Holder, useNames } from "./names.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Badge, Confirm, Empty, Field, Head, Loaded, Trouble, toast } from "./ui.js";
import { occurs } from "./words.js";

const REFRESH_MS = 5000;
/** With more streams than this there is a field to search them. */
const SEARCH_FROM = 8;

/** The view over all that the token may see. */
export function AllConnections() {
  return html`<${Head} title="Connections" below=${html`<p>Open streams, the oldest first. Ending one is no ban: the client may come back, unless its token is revoked.</p>`} />
    <${Connections} />`;
}

/** @param of one channel, or left out for all */
export function Connections({ of }) {
  const found = useResource(() => connections(of), [of && channelName(of)]);
  const names = useNames();
  const [more, setMore] = useState({ data: [], next: undefined });
  const [ending, setEnding] = useState(null);
  const [find, setFind] = useState("");
  useInterval(found.reload, REFRESH_MS, more.data.length === 0);
  const older = useAction(async () => {
    const page = await connections(of, more.next ?? found.data.next);
    setMore((before) => ({ data: [...before.data, ...page.data], next: page.next }));
  });
  const end = useAction(async () => {
    await endConnection(ending.id);
    toast("The stream is ended");
    setEnding(null);
    setMore((before) => ({ ...before, data: before.data.filter(({ id }) => id !== ending.id) }));
    found.reload();
  });
  return html`<${Loaded} of=${found}>${({ data, next }) => {
    const seen = new Set();
    const rows = [...data, ...more.data].filter(({ id }) => !seen.has(id) && seen.add(id));
    const rest = more.data.length ? more.next : next;
    if (!rows.length) return html`<div class="card"><${Empty} icon="channels" title="Nobody is connected">Programs and browsers that follow events by SSE or WebSocket are listed here while they do.<//></div>`;
    const matching = matchingOf(rows, find, names);
    return html`${(rows.length > SEARCH_FROM || find) && html`<div class="filter-fields stream-find"><div class="filter-field"><${Field} label="Search" hint=${find ? `${plural(matching.length, "stream")} of ${count(rows.length)}${rest ? " that are listed" : ""}` : "By client, channel, token or address."}>
      ${(tied) => html`<input ...${tied} type="search" value=${find} onInput=${(event) => setFind(event.target.value)} />`}<//></div></div>`}
    <ul class="list card">${matching.length === 0 && html`<li><${Empty} icon="search" title="No stream is like that">Search for a part of the client's name, of the channel or of the token.<//></li>`}
      ${matching.map((row) => html`<${Row} key=${row.id} row=${row} names=${names} onEnd=${() => setEnding(row)} />`)}
      ${rest && html`<li class="past">${older.error && html`<${Trouble} error=${older.error} />`}<button type="button" class="button small" disabled=${older.busy} onClick=${older.run}>More</button></li>`}</ul>`;
  }}<//>
  ${ending && html`<${Confirm} title="End this stream?" action="End it" busy=${end.busy} error=${end.error} onConfirm=${end.run} onClose=${() => setEnding(null)}>
    <p>The client is told that somebody ended it, and may come back. To keep it away, revoke what it uses: <${Holder} id=${ending.token_id} names=${names} />.</p>
  <//>`}`;
}

const channelsOf = (row, names) => (row.channels ? row.channels.map((name) => names.get(name) ?? name).join(", ") : row.channel ? (names.get(row.channel) ?? row.channel) : "all channels");

/** Streams in which every word of the search occurs. */
function matchingOf(rows, find, names) {
  return rows.filter((row) => occurs(find, [clientName(row.user_agent), row.user_agent, row.kind, channelsOf(row, names), names.get(row.token_id) ?? row.token_id, row.client_address]));
}

function Row({ row, names, onEnd }) {
  const of = channelsOf(row, names);
  const filter = filterWords(row.filter);
  return html`<li class="connection-row">
    <div class="who"><strong class="anywhere" title=${row.user_agent}><bdi>${clientName(row.user_agent)}</bdi></strong>
      <span class="soft small anywhere"><bdi>${of}</bdi>${filter && html` · <span class="mono">${filter}</span>`}</span></div>
    <span><${Badge}>${row.kind === "sse" ? "SSE" : "WebSocket"}<//></span>
    <span class="soft small anywhere"><${Holder} id=${row.token_id} names=${names} />${row.client_address && html`<br />from ${row.client_address}`}</span>
    <span class="soft small tabular">for <${Ago} iso=${row.since} plain />${row.behind_events > 0 ? html`<br /><strong class="behind">${plural(row.behind_events, "event")} behind</strong>` : html`<br />up to date`}</span>
    <button type="button" class="button small bad" aria-label=${`End the stream of ${clientName(row.user_agent)}`} onClick=${onEnd}>End</button>
  </li>`;
}

/** A browser in few words; any other client as it calls itself. */
function clientName(agent) {
  if (!agent) return "Without a name";
  const [, name, version] = /(Firefox|Edg|OPR|Chrome|Version)\/(\d+)/.exec(agent) ?? [];
  if (!agent.startsWith("Mozilla/") || !name) return agent;
  const system = /Android|iPhone|iPad|Windows|Mac OS X|Linux/.exec(agent)?.[0];
  return `${{ Edg: "Edge", OPR: "Opera", Version: "Safari" }[name] ?? name} ${version}${system ? ` on ${system}` : ""}`;
}

/** A filter in few words; empty without one. */
function filterWords({ events, path_prefix: prefixes, session, filter }) {
  return [events && (events.length ? events.slice(0, 4).join(", ") + (events.length > 4 ? ` and ${count(events.length - 4)} more` : "") : "no types"), prefixes && `below ${prefixes.join(", ")}`, session && `session ${session}`, filter].filter(Boolean).join("; ");
}
