// The charts of the server, a channel or a webhook, and the choice of how far back they go.
import { html, useState } from "./html.js";
import { brief, bytes, count, duration } from "./format.js";
import { WINDOWS, levels, rates, times } from "./figures.js";
import { Plot } from "./plot.js";
import { Segments } from "./ui.js";

const perSecond = (n) => `${brief(n)}/s`;
const ms = (n) => duration(n);

/** Each: its title, and its lines as [name, series, tone]. A chart is there when its first series is. */
const CHARTS = [
  { title: "Events", note: "a second", rate: true, lines: [["published", "published", "accent"], ["to streams", "streamed", "good"]] },
  { title: "Delivery attempts", note: "a second", rate: true, lines: [["arrived", "delivered", "good"], ["failed", "failed", "bad"]] },
  { title: "Time of an attempt", note: "until the receiver has answered", format: ms, lines: [["half within", "latency_p50_ms", "accent"], ["95 of 100", "latency_p95_ms", "wait"], ["99 of 100", "latency_p99_ms", "bad"]] },
  { title: "Webhook lag", note: "behind the newest event", format: ms, least: 1000, lines: [["slowest", "lag_ms", "accent"]] },
  { title: "Answers", note: "attempts by status", format: count, whole: true, only: "webhook", lines: [["2xx", "answered_2xx", "good"], ["3xx", "answered_3xx", "soft"], ["4xx", "answered_4xx", "wait"], ["5xx", "answered_5xx", "bad"], ["none", "unanswered", "accent"]] },
  { title: "Connections", note: "open streams", format: count, whole: true, least: 5, lines: [["SSE and WebSocket", "connections", "accent"]] },
  { title: "Commits", note: "until a batch is durable", format: ms, lines: [["half within", "commit_p50_ms", "accent"], ["99 of 100", "commit_p99_ms", "wait"]] },
  { title: "Disk", note: "where the data lives", format: bytes, binary: true, least: 1024 ** 2, lines: [["free", "disk_free_bytes", "accent"], ["the log", "log_bytes", "good"]] },
  { title: "Memory", note: "of the process", format: bytes, binary: true, least: 1024 ** 2, lines: [["used", "memory_bytes", "accent"]] },
];

export const WindowChoice = ({ window, onChange }) => html`<${Segments} label="How far back" value=${window} options=${WINDOWS} onChange=${onChange} />`;

/** @param of what they are of: `server`, `channel` or `webhook` */
export function Charts({ figures, of, group }) {
  const [zoom, setZoom] = useState(null);
  const steps = times(figures);
  // another window begins with all of it
  const inside = zoom && steps.length && zoom[0] < steps.at(-1) && zoom[1] > steps[0] && zoom[1] - zoom[0] < steps.at(-1) - steps[0] ? zoom : null;
  const shown = CHARTS.filter(({ lines, only }) => figures.series[lines[0][1]] && (!only || only === of));
  if (!shown.length) return null;
  return html`<div class="charts-head">
    <p class="soft small">${inside ? "Zoomed in." : "Drag across a chart to look closer; the arrow keys read single points."}</p>
    ${inside && html`<button type="button" class="button small" onClick=${() => setZoom(null)}>Show all of it</button>`}
  </div>
  <div class="charts">${shown.map(({ title, note, rate, format, lines, ...rest }) => html`<${Plot} key=${title} title=${title} note=${note} times=${steps} group=${group}
    zoom=${inside} onZoom=${setZoom} axis=${format ?? brief} ...${rest}
    lines=${lines.filter(([, name]) => figures.series[name]).map(([name, series, tone], n) => ({ name, tone, area: n === 0, format: format ?? perSecond, values: (rate ? rates : levels)(figures, series) }))} />`)}</div>`;
}
