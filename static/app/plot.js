// Lines over time on a canvas (uPlot). Charts of one group share their crosshair and what is zoomed into. The keyboard reads
// single points, and whoever does not see the canvas is told the same.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { brief } from "./format.js";

const HEIGHT = 150;
const TONES = { accent: "--accent", good: "--good", bad: "--bad", wait: "--wait", soft: "--line-strong" };
const ZOOM_MIN_S = 30;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const moment = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric" });

/** The colour that a property of the page has now: canvases know no properties. */
function colour(frame, property) {
  const probe = document.createElement("i");
  probe.style.color = `var(${property})`;
  frame.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const faded = (rgb, alpha) => rgb.replace(/^rgb\(/, "rgba(").replace(/\)$/, `, ${alpha})`);

/** Calls `redraw` when the colours of the page change. */
function onColours(redraw) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = new MutationObserver(redraw);
  chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  system.addEventListener("change", redraw);
  return () => {
    chosen.disconnect();
    system.removeEventListener("change", redraw);
  };
}

/** The points that no line goes to, because nothing is known beside them: they are drawn even where points stand too close to be. */
function alone(u, series, shown) {
  if (shown) return null;
  const values = u.data[series];
  const known = (at) => values[at] !== null && values[at] !== undefined;
  const found = [];
  for (let [at, last] = u.series[0].idxs ?? [0, values.length - 1]; at <= last; at += 1) if (known(at) && !known(at - 1) && !known(at + 1)) found.push(at);
  return found.length ? found : null;
}

/** How the scale is cut: whole things have no fractions, bytes go by powers of two. */
function splits(whole, binary) {
  return (u, axis, min, max) => {
    const least = (max - min) / 3;
    if (least <= 0) return [min];
    const power = binary ? 2 ** Math.ceil(Math.log2(least)) : 10 ** Math.floor(Math.log10(least));
    let step = binary ? power : [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least * 0.999);
    if (whole) step = Math.max(1, step);
    const found = [];
    for (let at = Math.ceil(min / step) * step; at <= max * 1.0001; at += step) found.push(at);
    return found;
  };
}

/**
 * @param title what it shows
 * @param lines [{ name, values, format, tone, area }], the first is the main one; a value may be null
 * @param times Unix seconds of the values
 * @param group charts of one group move together
 * @param zoom `[from, to]` in Unix seconds, or null: all of it
 * @param axis how the scale is written
 * @param least the scale is never smaller than this
 * @param most top of the scale, where it is fixed
 * @param whole the values are whole numbers
 * @param binary the values are bytes
 */
export function Plot({ title, note, lines, times, group, zoom, onZoom, axis = brief, least = 1, most, whole, binary }) {
  const frame = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const latest = useRef({});
  latest.current = { lines, times, zoom, onZoom, axis, least, most };
  const long = times.length > 1 && times.at(-1) - times[0] > 90_000;

  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      const text = colour(frame.current, "--soft");
      const grid = colour(frame.current, "--line");
      const font = `11px ${getComputedStyle(document.body).fontFamily}`;
      const top = (u, min, max) => [0, latest.current.most ?? Math.max(latest.current.least, (max ?? 0) * 1.08)];
      plot.current = new uPlot({
        width: Math.max(120, frame.current.clientWidth), height: HEIGHT, legend: { show: false }, padding: [8, 18, 0, 0],
        cursor: {
          sync: { key: group }, drag: { x: true, y: false, setScale: false }, points: { size: 6 },
          bind: { dblclick: () => () => (latest.current.onZoom(null), null) },
        },
        select: { show: true },
        scales: { x: { time: true }, y: { range: top } },
        axes: [
          { stroke: text, font, grid: { show: false }, ticks: { show: false }, size: 24, space: 70, values: (u, ticks) => ticks.map((s) => (long && s % 86_400 === (new Date(s * 1000).getTimezoneOffset() * 60 + 86_400) % 86_400 ? day : minutes).format(s * 1000)) },
          { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 56, splits: splits(whole, binary), values: (u, ticks) => ticks.map((tick) => latest.current.axis(tick)) },
        ],
        series: [{}, ...latest.current.lines.map((line) => {
          const stroke = colour(frame.current, TONES[line.tone ?? "accent"]);
          return { label: line.name, stroke, width: 1.75, fill: line.area ? faded(stroke, 0.1) : undefined, points: { size: 4, fill: stroke, filter: alone } };
        })],
        hooks: {
          setCursor: [(u) => setAt(u.cursor.idx ?? null)],
          setSelect: [(u) => {
            if (u.select.width < 4) return;
            const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (range[1] - range[0] >= ZOOM_MIN_S) latest.current.onZoom(range);
          }],
        },
      }, [latest.current.times, ...latest.current.lines.map((line) => line.values)], frame.current);
      show(plot.current, latest.current);
    };
    make();
    const end = onColours(make);
    const seen = new ResizeObserver(() => frame.current && plot.current.setSize({ width: Math.max(120, frame.current.clientWidth), height: HEIGHT }));
    seen.observe(frame.current);
    return () => {
      end();
      seen.disconnect();
      plot.current.destroy();
    };
  }, [lines.map(({ name }) => name).join(), group, long]);

  useEffect(() => plot.current && show(plot.current, latest.current), [lines, times, zoom?.join()]);

  const press = (event) => {
    const u = plot.current;
    const [from, to] = zoom ?? [times[0], times.at(-1)];
    const index = Math.min(at ?? times.length - 1, times.length - 1);
    const keys = {
      ArrowLeft: () => move(u, index - 1, times),
      ArrowRight: () => move(u, index + 1, times),
      "+": () => onZoom(around(times[index], (to - from) / 2)),
      "-": () => onZoom(to - from > (times.at(-1) - times[0]) / 2 ? null : around((from + to) / 2, (to - from) * 2)),
      Escape: () => onZoom(null),
    };
    if (!times.length || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  const leave = () => plot.current.setCursor({ left: -10, top: -10 });
  const index = at ?? lines[0].values.findLastIndex((value) => value !== null);
  const said = (line) => (line.values[index] === null || line.values[index] === undefined ? "–" : line.format(line.values[index]));
  const when = at === null || !times[at] ? note : (long ? moment : clock).format(times[at] * 1000);
  const known = lines.some((line) => line.values.some((value) => value !== null));
  const summary = known ? `${title}: ${lines.map((line) => `${line.name} ${said(line)}`).join(", ")}` : `${title}: nothing is known yet`;
  return html`<figure class="plot card">
    <figcaption><h3>${title}</h3><p class="soft small tabular">${when}</p>
      <p class="now tabular">${lines.map((line) => html`<span key=${line.name} class=${`figure ${line.tone ?? "accent"}`}><strong>${said(line)}</strong>
        <span class="soft small">${line.name}</span></span>`)}</p></figcaption>
    <div class="canvas" ref=${frame} tabindex="0" role="img" aria-label=${summary} onKeyDown=${press} onBlur=${leave}></div>
    <p class="unseen" aria-live="polite">${at === null || !times[at] ? "" : `${when}: ${lines.map((line) => `${line.name} ${said(line)}`).join(", ")}`}</p>
  </figure>`;
}

const around = (middle, span) => [middle - span / 2, middle + span / 2].map((s) => Math.max(0, s));

/** Puts the crosshair on a point, here and in the group. */
function move(u, index, times) {
  const at = Math.max(0, Math.min(times.length - 1, index));
  u.setCursor({ left: u.valToPos(times[at], "x"), top: 10 });
}

function show(u, { lines, times, zoom }) {
  u.setData([times, ...lines.map((line) => line.values)], false);
  const [min, max] = zoom ?? [times[0] ?? 0, times.at(-1) ?? 1];
  u.batch(() => u.setScale("x", { min, max }));
}
