// A line over the last minutes, drawn as SVG so that it follows the colours of the page. Pointer and arrow keys read
// single points; the figure above the line then shows that point instead of now.
import { html, useEffect, useRef, useState } from "./html.js";
import { duration } from "./format.js";

const HEIGHT = 112;
const LEFT = 44;
const BOTTOM = 18;
const TOP = 8;
const WINDOW_MIN_MS = 60_000;
const WINDOW_MAX_MS = 300_000;

/** The next round number: 1, 2 or 5 and zeros; of bytes, a power of two. */
function round(value, binary) {
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/**
 * @param title what it shows
 * @param series [{ name, values, format }], the first is the main one; a value may be null
 * @param times Unix milliseconds of the values
 * @param most top of the scale, where it is fixed; otherwise the scale fits
 * @param least the scale is never smaller than this
 * @param binary the values are bytes
 * @param axis how the scale is written
 * @param note small print beside the figure
 */
export function Chart({ title, series, times, most, least = 1, binary, axis, note }) {
  const frame = useRef(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(null);
  useEffect(() => {
    const seen = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    seen.observe(frame.current);
    return () => seen.disconnect();
  }, []);

  const now = times.at(-1) ?? Date.now();
  // a chart that has just begun is not squeezed into its corner
  const span = Math.min(WINDOW_MAX_MS, Math.max(WINDOW_MIN_MS, now - (times[0] ?? now)));
  const from = now - span;
  const values = series.flatMap((line) => line.values).filter((value) => value !== null);
  const top = most ?? round(Math.max(least, ...values), binary);
  const x = (ms) => LEFT + ((ms - from) / span) * (width - LEFT - 6);
  const y = (value) => TOP + (1 - Math.min(value, top) / top) * (HEIGHT - TOP - BOTTOM);
  const index = at === null ? times.length - 1 : Math.min(at, times.length - 1);
  const shown = (line) => (line.values[index] === null || line.values[index] === undefined ? "–" : line.format(line.values[index]));

  const move = (event) => {
    if (!times.length) return;
    const left = frame.current.getBoundingClientRect().left;
    const ms = from + ((event.clientX - left - LEFT) / (width - LEFT - 6)) * span;
    let nearest = 0;
    times.forEach((time, n) => Math.abs(time - ms) < Math.abs(times[nearest] - ms) && (nearest = n));
    setAt(nearest);
  };
  const press = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !times.length) return;
    event.preventDefault();
    setAt(Math.max(0, Math.min(times.length - 1, index + step)));
  };
  const peak = Math.max(0, ...series[0].values.filter((value) => value !== null));
  const summary = values.length ? `${title}: now ${series.map((line) => `${line.name} ${line.format(line.values.at(-1) ?? 0)}`).join(", ")}; most ${series[0].format(peak)}` : `${title}: no data yet`;

  return html`<figure class="chart card">
    <figcaption>
      <h2>${title}</h2>
      <p class="soft small tabular">${at === null ? note : times[index] ? clock.format(times[index]) : note}</p>
      <p class="now tabular">
        ${series.map((line, n) => html`<span key=${line.name} class=${`figure line-${n}`}><strong>${shown(line)}</strong>
          <span class="soft small">${line.name}</span></span>`)}
      </p>
    </figcaption>
    <div class="plot" ref=${frame} tabindex="0" role="img" aria-label=${summary} onPointerMove=${move} onPointerLeave=${() => setAt(null)}
      onBlur=${() => setAt(null)} onKeyDown=${press}>
      ${width > 0 && html`<svg width=${width} height=${HEIGHT} aria-hidden="true">
        ${[0, 0.5, 1].map((part) => html`<g key=${part}><line class="grid" x1=${LEFT} x2=${width} y1=${y(top * part)} y2=${y(top * part)} />
          <text x=${LEFT - 8} y=${y(top * part) + 4} text-anchor="end">${axis(top * part)}</text></g>`)}
        <text x=${LEFT} y=${HEIGHT - 3}>${duration(span)} ago</text><text x=${width - 2} y=${HEIGHT - 3} text-anchor="end">now</text>
        ${series.map((line, n) => html`<${Line} key=${line.name} n=${n} points=${line.values.map((value, i) => (value === null || times[i] < from ? null : [x(times[i]), y(value)]))} floor=${y(0)} />`)}
        ${at !== null && times[index] >= from && html`<line class="cursor" x1=${x(times[index])} x2=${x(times[index])} y1=${TOP} y2=${HEIGHT - BOTTOM} />`}
      </svg>`}
    </div>
    <p class="unseen" aria-live="polite">${at === null ? "" : `${clock.format(times[index])}: ${series.map((line) => `${line.name} ${shown(line)}`).join(", ")}`}</p>
  </figure>`;
}

/** A line with the area under it. Where a value is missing, the line is interrupted. */
function Line({ n, points, floor }) {
  const runs = [];
  let run = [];
  for (const point of [...points, null]) {
    if (point) run.push(point);
    else if (run.length) {
      runs.push(run);
      run = [];
    }
  }
  const text = (of) => of.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
  const line = runs.map((of) => (of.length === 1 ? `M${text(of)}h.01` : `M${text(of)}`)).join("");
  const area = runs.filter((of) => of.length > 1).map((of) => `M${text(of)}L${of.at(-1)[0].toFixed(1)},${floor}L${of[0][0].toFixed(1)},${floor}Z`).join("");
  return html`<g class=${`line-${n}`}><path class="area" d=${area} /><path class="line" d=${line} /></g>`;
}
