// The server at a glance: what goes through it, who listens, whether deliveries arrive, and how the disk is.
import { html } from "./html.js";
import { channels, health, isAdmin } from "./api.js";
import { brief, bytes, count, duration, plural } from "./format.js";
import { Chart } from "./chart.js";
import { figures } from "./metrics.js";
import { notices, sayNotice } from "./notices.js";
import { to } from "./route.js";
import { useInterval, useResource, useStore } from "./store.js";
import { Ago, Badge, Head, Loaded, Trouble } from "./ui.js";
import { ChannelList } from "./channels.js";

const HEALTH_MS = 10_000;
const NOTICES_SHOWN = 5;

export function Overview() {
  const { samples, error } = useStore(figures);
  const state = useResource(health, []);
  useInterval(state.reload, HEALTH_MS);
  const list = useResource(channels, []);
  const times = samples.map((sample) => sample.at);
  const line = (name, of, format) => ({ name, format, values: samples.map(of) });
  const last = samples.at(-1);
  // lines of things that rarely happen go on at their last value
  let rate = null;
  const success = samples.map((sample) => (rate = sample.success ?? rate));
  const perSecond = (n) => `${brief(n)}/s`;
  return html`
    <${Head} title="Overview"><${Health} state=${state} /><//>
    <div class="stack">
      ${error && html`<${Trouble} error=${`${error.message}. The figures go on when it answers again.`} />`}
      <div class="charts">
        <${Chart} title="Events" times=${times} axis=${brief} note="a second"
          series=${[line("published", (s) => s.rates.published, perSecond), line("to streams", (s) => s.rates.delivered, perSecond)]} />
        <${Chart} title="Connections" times=${times} axis=${brief} least=${5} note="open streams"
          series=${[line("SSE and WebSocket", (s) => s.streams, count)]} />
        <${Chart} title="Deliveries that arrive" times=${times} most=${100} axis=${(n) => `${n} %`} note=${last?.waiting ? `${count(last.waiting)} wait for a retry` : "webhook attempts"}
          series=${[{ name: "of the attempts", format: (n) => `${Math.round(n)} %`, values: success }]} />
        <${Chart} title="Webhook lag" times=${times} axis=${(s) => duration(s * 1000)} least=${5} note="slowest webhook, behind the newest event"
          series=${[line("behind", (s) => s.lagS, (s) => duration(s * 1000))]} />
        <${Chart} title="Log on disk" times=${times} axis=${bytes} binary least=${1024 * 1024} note=${last ? `${count(last.logEvents)} events` : ""}
          series=${[line("used", (s) => s.logBytes, bytes)]} />
        <${Chart} title="Free disk" times=${times} axis=${bytes} binary least=${1024 ** 3} note=${state.data ? `not ready below ${bytes(state.data.disk_floor_bytes)}` : ""}
          series=${[line("free", (s) => s.freeBytes, bytes)]} />
      </div>
      ${isAdmin() && html`<${Recent} />`}
      <section aria-labelledby="overview-channels">
        <h2 id="overview-channels" class="section">Channels</h2>
        <${Loaded} of=${list}>${(data) => html`<${ChannelList} channels=${data} />`}<//>
      </section>
    </div>`;
}

function Health({ state }) {
  const { data, error } = state;
  if (error) return html`<${Badge} kind="bad">Not reachable<//>`;
  if (!data) return null;
  const reasons = [
    data.stopping && "the server stops",
    !data.journal_writable && "the journal cannot be written",
    data.disk_free_bytes !== null && data.disk_free_bytes < data.disk_floor_bytes && "the disk is almost full",
  ].filter(Boolean);
  const quarantined = data.quarantined_segments.length;
  return html`
    ${quarantined > 0 && html`<${Badge} kind="bad">${plural(quarantined, "segment")} of the log set aside<//>`}
    ${data.status === "ready" ? html`<${Badge} kind="good">Ready<//>` : html`<${Badge} kind="bad">Not ready: ${reasons.join(", ")}<//>`}`;
}

/** The latest of what the server itself has to say. */
function Recent() {
  const { rows } = useStore(notices);
  if (!rows.length) return null;
  return html`<section aria-labelledby="overview-notices">
    <h2 id="overview-notices" class="section">From the server <a class="small" href=${to(["system"])}>all</a></h2>
    <ul class="list card">
      ${rows.slice(0, NOTICES_SHOWN).map((row) => html`<li key=${row.id} class="notice-row"><span>
        ${sayNotice(row) ?? html`<code>${row.type}</code>`}</span><span class="soft small"><${Ago} iso=${new Date(row.ms).toISOString()} />
        </span></li>`)}
    </ul>
  </section>`;
}
