// The server at a glance: first whether anything is wrong, then what goes through it, with the way to each.
import { html } from "./html.js";
import { channels, health, isAdmin, may } from "./api.js";
import { AttentionList } from "./attention.js";
import { ChannelList } from "./channels.js";
import { Charts, WindowChoice } from "./charts.js";
import { Cluster } from "./cluster.js";
import { arrived, isWindow, latest, percent, total, useFigures } from "./figures.js";
import { brief, bytes, count, duration, plural } from "./format.js";
import { notices, placeOf, sayNotice } from "./notices.js";
import { replace, to } from "./route.js";
import { hasSeveral } from "./session.js";
import { useInterval, useResource, useStore } from "./store.js";
import { Ago, Badge, Head, Loaded } from "./ui.js";

const HEALTH_MS = 10_000;
const NOTICES_SHOWN = 5;
const CHANNELS_SHOWN = 12;
const SPANS = { "1h": "in the last hour", "24h": "in the last 24 hours", "7d": "in the last 7 days" };

export function Overview({ query }) {
  const asked = query.get("window");
  const window = isWindow(asked) ? asked : "1h";
  const found = useFigures(window);
  const state = useResource(health, []);
  useInterval(state.reload, HEALTH_MS);
  const list = useResource(channels, []);
  return html`
    <${Head} title="Overview"><${Health} state=${state} /><//>
    <div class="stack">
      <${Loaded} of=${found}>${(figures) => html`
        ${(may("manage") || isAdmin()) && html`<section aria-labelledby="attention"><h2 id="attention" class="section">Needs attention${figures.attention_total > 0 && html`<span
          class="badge bad">${count(figures.attention_total)}</span>`}</h2>
          <${AttentionList} figures=${figures} onActed=${found.reload} /></section>`}
        <section class="stack" aria-labelledby="figures">
          <div class="section-head"><h2 id="figures">Figures</h2><${WindowChoice} window=${window} onChange=${(next) => replace(["overview"], { window: next === "1h" ? "" : next })} /></div>
          <${Tiles} figures=${figures} channels=${list.data} />
          <${Charts} figures=${figures} of="server" group="overview" />
        </section>`}<//>
      ${isAdmin() && html`<${Cluster} node=${state.data?.cluster} />`}
      ${isAdmin() && html`<${Recent} />`}
      <section aria-labelledby="overview-channels">
        <h2 id="overview-channels" class="section">Channels</h2>
        <${Loaded} of=${list}>${(data) => html`<${ChannelList} channels=${data} most=${CHANNELS_SHOWN} />`}<//>
      </section>
    </div>`;
}

/** The main figures, each leading to where they come from. */
function Tiles({ figures, channels: list }) {
  const span = SPANS[figures.window];
  const failed = total(figures, "failed");
  const [lost, isLeft] = [total(figures, "gave_up"), isLeftToSend(figures)];
  const own = list?.length === 1 ? to([list[0].kind, list[0].kind === "map" ? list[0].slug : list[0].id]) : to(["channels"]);
  const tiles = [
    figures.series.published && { name: "Events", value: number(total(figures, "published")), note: span, href: hasSeveral() ? to(["feed"]) : own },
    figures.series.connections && { name: "Connections", value: number(latest(figures, "connections")), note: "open streams", href: may("manage") ? to(["connections"]) : own },
    figures.series.attempts && { name: "Deliveries that arrive", value: percent(arrived(figures)), note: failed ? `${plural(failed, "attempt")} failed ${span}` : `${plural(total(figures, "attempts") ?? 0, "attempt")} ${span}`, bad: failed > 0, href: to(["webhooks"]) },
    figures.series.retrying && { name: "Waiting for a retry", value: number(latest(figures, "retrying")), note: lost ? `${count(lost)} given up ${span}${isLeft ? "" : ", none left to send"}` : "deliveries", bad: lost > 0 && isLeft, href: to(["webhooks"]) },
    figures.series.lag_ms && { name: "Slowest webhook", value: duration(latest(figures, "lag_ms") ?? 0), note: "behind the newest event", href: to(["webhooks"]) },
    figures.series.disk_free_bytes && { name: "Free disk", value: latest(figures, "disk_free_bytes") === null ? "–" : bytes(latest(figures, "disk_free_bytes")), note: latest(figures, "log_bytes") === null ? "" : `the log takes ${bytes(latest(figures, "log_bytes"))}`, href: to(["system"]) },
  ].filter(Boolean);
  return html`<ul class="tiles">${tiles.map(({ name, value, note, bad, href }) => html`<li key=${name}><a class=${`tile card ${bad ? "bad" : ""}`} href=${href}>
    <span class="small">${name}</span><strong class="tabular">${value}</strong><span class="soft small">${note}</span></a></li>`)}</ul>`;
}

/** Whether deliveries that were given up wait to be sent again, as far as this token is told. */
function isLeftToSend({ attention, attention_total: all }) {
  return !may("manage") || all > attention.length || attention.some(({ kind }) => kind === "webhook_gave_up");
}

const number = (value) => (value === null ? "–" : brief(value));

function Health({ state }) {
  const { data, error } = state;
  if (error) return html`<${Badge} kind="bad">Not reachable<//>`;
  if (!data) return null;
  if (data.status === "ready") return html`<${Badge} kind="good">Ready<//>`;
  return html`<${Badge} kind="bad">Not ready: ${data.reason}<//>`;
}

/** The latest of what the server itself has to say. */
function Recent() {
  const { rows } = useStore(notices);
  if (!rows.length) return null;
  return html`<section aria-labelledby="overview-notices">
    <h2 id="overview-notices" class="section">From the server <a class="small" href=${to(["system"])}>all</a></h2>
    <ul class="list card">
      ${folded(rows).map(({ row, said, times }) => html`<li key=${row.id} class="notice-row"><span>
        <${Told} row=${row} said=${said} />${times > 1 && html` <span class="soft small">${count(times)} times</span>`}</span><span class="soft small"><${Ago} iso=${new Date(row.ms).toISOString()} />
        </span></li>`)}
    </ul>
  </section>`;
}

/** The latest notices; those that say the same one after the other are one. */
function folded(rows) {
  const shown = [];
  for (const row of rows) {
    const said = sayNotice(row) ?? row.type;
    if (shown.at(-1)?.said === said) shown.at(-1).times += 1;
    else if (shown.length === NOTICES_SHOWN) break;
    else shown.push({ row, said, times: 1 });
  }
  return shown;
}

/** What a notice says, leading to what it tells of. */
function Told({ row, said }) {
  const [, address] = placeOf(row) ?? [];
  return address ? html`<a class="plain" href=${address}>${said}</a>` : said;
}
