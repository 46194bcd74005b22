// One channel: its live events and those of a time or of one id, its figures, who is connected; and several channels together.
import { html, useEffect, useMemo, useState } from "./html.js";
import { FEED, bare, channelName, channels, findEvent, getChannel, may } from "./api.js";
import { Charts, WindowChoice } from "./charts.js";
import { channelAddress } from "./channels.js";
import { Publish } from "./channel-publish.js";
import { Settings } from "./channel-settings.js";
import { Connections } from "./connections.js";
import { isWindow, useFigures } from "./figures.js";
import { Histogram } from "./histogram.js";
import { Live, Row } from "./live.js";
import { useNames } from "./names.js";
import { SYSTEM, placeOf, sayNotice } from "./notices.js";
import { replace, to } from "./route.js";
import { useResource } from "./store.js";
import { Badge, Bones, Empty, Head, Loaded, Trouble, usePicker } from "./ui.js";

const CHANNELS_MAX = 100; // that one stream follows
const OF_SYSTEM = channelName(SYSTEM);

export function Channel({ kind, id, view, query }) {
  const found = useResource(() => getChannel(kind, id), [kind, id]);
  const head = html`<${Head} title=${id} crumbs=${[["Channels", to(["channels"])]]} />`;
  return html`<${Loaded} of=${found} head=${head}>
    ${(of) => html`<${Shown} of=${of} view=${view ?? "live"} query=${query} reload=${found.reload} />`}<//>`;
}

function Shown({ of, view, query, reload }) {
  // only the server itself publishes there, and it cannot do without
  const own = of.kind === "organization" && of.id === "system";
  const tabs = [["live", "Live events", true], ["figures", "Figures", may("subscribe")], ["connections", "Connections", may("manage")],
    ["publish", "Publish", may("publish") && !own], ["settings", "Settings", may("manage")]];
  useEffect(() => void (document.title = `${of.name} · Stentor`), [of.name]);
  return html`<div>
    <${Head} title=${of.name} crumbs=${[["Channels", to(["channels"])]]} below=${html`<p class="small">
      <${Badge}>${of.kind === "map" ? "Map" : "Organization"}<//> <code>${of.slug}</code></p>`}>
      ${may("manage") && html`<a class="button" href=${to(["webhooks"], { channel: `${of.kind}:${of.id}` })}>Webhooks</a>`}
    <//>
    <nav class="tabs" aria-label="Parts of the channel">
      ${tabs.filter(([, , allowed]) => allowed).map(([key, text]) => html`<a key=${key} href=${channelAddress(of, ...(key === "live" ? [] : [key]))} aria-current=${key === view ? "page" : undefined}>${text}</a>`)}
    </nav>
    ${view === "publish" ? html`<${Publish} of=${of} />`
    : view === "settings" ? html`<${Settings} of=${of} reload=${reload} />`
    : view === "figures" ? html`<${Figures} of=${of} query=${query} />`
    : view === "connections" ? html`<${Connections} of=${of} />`
    : html`<${ChannelLive} of=${of} query=${query} />`}
  </div>`;
}

function Figures({ of, query }) {
  const window = isWindow(query.get("window")) ? query.get("window") : "24h";
  const found = useFigures(window, { channel: channelName(of) });
  const choose = (next) => replace([of.kind, of.kind === "map" ? of.slug : of.id, "figures"], { window: next === "24h" ? "" : next });
  return html`<div class="section-head"><h2>What goes through it</h2><${WindowChoice} window=${window} onChange=${choose} /></div>
    <${Loaded} of=${found}>${(figures) => html`<${Charts} figures=${figures} of="channel" group=${`channel-${of.id}`} />`}<//>`;
}

// ---- live ------------------------------------------------------------------------------------------------------

/** The filter stands in the address, so that it can be kept and sent to others. */
function ChannelLive({ of, query }) {
  const filter = {
    events: query.get("events")?.split(",").filter(Boolean) ?? [],
    expression: query.get("filter") ?? "",
    session: query.get("session") ?? "",
    until: query.get("until") ?? "",
  };
  const path = [of.kind, of.kind === "map" ? of.slug : of.id];
  const onFilter = ({ events, expression, session, until }) => replace(path, { events: events?.join(","), filter: expression, session, until });
  const one = query.get("event");
  if (!may("subscribe")) return html`<div class="card">
    <${Empty} icon="channels" title="This token may not read events">It lacks the scope <code>subscribe</code>.<//></div>`;
  const empty = html`<${Empty} icon="channels"
    title="Listening">The next event appears here the moment it is stored. ${may("publish") && html`<a href=${channelAddress(of, "publish")}>Publish one</a> to see it.`}<//>`;
  const channel = { kind: of.kind, id: of.id };
  const own = channelName(of) === OF_SYSTEM;
  const jump = (until) => onFilter({ ...filter, until });
  return html`<div class="stack tight">
    ${one && html`<${OneEvent} key=${one} channel=${channel} id=${one} path=${path} onTime=${jump} />`}
    <${Histogram} of=${channel} onChoose=${jump} />
    <${Jump} onJump=${jump} />
    <${Live} channel=${channel} filter=${filter} onFilter=${onFilter} empty=${empty} place=${path} describe=${own ? sayNotice : undefined} leads=${own ? placeOf : undefined} />
  </div>`;
}

/** A field that leads to a time. */
export function Jump({ onJump }) {
  const [at, setAt] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const ms = new Date(at).getTime();
    if (!Number.isNaN(ms)) onJump(new Date(ms).toISOString());
  };
  return html`<form class="jump" onSubmit=${submit}><label class="small soft" for="jump">Go to a time</label>
    <input id="jump" class="input" type="datetime-local" step="1" value=${at} onInput=${(event) => setAt(event.target.value)} />
    <button type="submit" class="button small" disabled=${!at}>Go</button></form>`;
}

/** The event that the address names, open. */
function OneEvent({ channel, id, path, onTime }) {
  const found = useResource(() => findEvent(channel, id), [channel.kind, channel.id, id]);
  const [open, setOpen] = useState(true);
  return html`<section aria-labelledby="one-event">
    <div class="section-head"><h2 id="one-event" class="section">The event <code class="small anywhere">${bare(id)}</code></h2>
      <span class="buttons">${found.data && html`<button type="button" class="button small" onClick=${() => onTime(new Date(found.data.ms).toISOString())}>What came before it</button>`}
      <a class="button small" href=${to(path)}>Close</a></span></div>
    ${found.error ? html`<${Trouble} error=${found.error} onRetry=${found.reload} />`
    : found.data === undefined ? html`<div class="card"><${Bones} /></div>`
    : found.data === null ? html`<div class="card"><${Empty} icon="search" title="It is not there">No event of this channel has this id, or retention has removed it.<//></div>`
    : html`<ol class="events card"><${Row} row=${found.data} open=${open} onToggle=${(_, on) => setOpen(on)} channel=${channel} /></ol>`}
  </section>`;
}

/** The events of all channels, in the one order that the log has. */
export function Feed({ query }) {
  const filter = { events: query.get("events")?.split(",").filter(Boolean) ?? [], expression: query.get("filter") ?? "", session: "", until: query.get("until") ?? "" };
  const chosen = query.get("channels")?.split(",").filter(Boolean) ?? [];
  const at = ({ events, expression, until }, names) => replace(["feed"], { channels: names.join(","), events: events?.join(","), filter: expression, until });
  const list = useResource(channels, []);
  const names = useNames();
  const describe = useMemo(() => (row) => (row.channel === OF_SYSTEM ? sayNotice(row, (id) => names.get(id) ?? id) : undefined), [names]);
  const below = chosen.length ? "The events of the chosen channels, in the one order that the log has." : "Every event that this token may read, in the one order that the log has.";
  return html`
    <${Head} title=${chosen.length ? "Several channels" : "All channels"} crumbs=${[["Channels", to(["channels"])]]} below=${html`<p>${below}</p>`}>
      <${ChannelPicker} list=${list.data ?? []} chosen=${chosen} onChoose=${(names) => at(filter, names)} />
    <//>
    <${Jump} onJump=${(until) => at({ ...filter, until }, chosen)} />
    <${Live} channel=${chosen.length ? { ...FEED, channels: chosen } : FEED} filter=${filter} onFilter=${(next) => at(next, chosen)} names=${names} describe=${describe}
      leads=${(row) => (row.channel === OF_SYSTEM ? placeOf(row) : null)} />`;
}

/** Which channels are followed together; none chosen: all. */
function ChannelPicker({ list, chosen, onChoose }) {
  const known = list.map((of) => [channelName(of), of.name]);
  const names = new Map([["map:*", "All maps"], ["organization:*", "All organizations"], ...known]);
  // what the address names and the list does not have can be taken away again
  for (const name of chosen) if (!names.has(name)) names.set(name, name);
  const flip = (name, on) => onChoose(on ? [...chosen, name] : chosen.filter((other) => other !== name));
  const picker = usePicker();
  return html`<details class="picker end" ...${picker}>
    <summary class="button small">Channels${chosen.length > 0 && html`<span class="badge accent">${chosen.length}</span>`}</summary>
    <div class="picked card" role="group" aria-label="Follow only these channels">
      ${[...names].map(([name, title]) => html`<label key=${name}><input type="checkbox" checked=${chosen.includes(name)}
        disabled=${!chosen.includes(name) && chosen.length >= CHANNELS_MAX} onChange=${(event) => flip(name, event.target.checked)} />
        <span class="clip">${title}</span></label>`)}
    </div>
  </details>`;
}
