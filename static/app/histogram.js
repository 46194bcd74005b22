// When the events of a channel came: the last day as bars, each a way to its time.
import { html, useEffect, useState } from "./html.js";
import { stats } from "./api.js";
import { brief, count, plural, time } from "./format.js";

/** @param onChoose called with the end of a bar, as ISO 8601 */
export function Histogram({ of, onChoose }) {
  const [day, setDay] = useState(null);
  useEffect(() => {
    let here = true;
    const load = () => stats(of, "24h", "15m").then((data) => here && setDay(data), () => here && setDay((before) => before ?? { failed: true }));
    load();
    const timer = setInterval(() => document.hidden || load(), 60_000);
    return () => {
      here = false;
      clearInterval(timer);
    };
  }, [of.kind, of.id]);
  // a token without the scope, or a channel with more events than may be counted at once, has none
  if (day?.failed) return null;
  const buckets = day?.buckets ?? [];
  const most = Math.max(1, ...buckets.map(({ total }) => total));
  const ends = (start) => new Date(Date.parse(start) + (day.bucket_seconds ?? 900) * 1000).toISOString();
  return html`<figure class="histogram card">
    <figcaption class="small"><strong class="tabular">${day ? brief(day.total) : "…"}</strong> <span class="soft">${day?.total === 1 ? "event" : "events"} in 24 hours${day?.types_total > 0 ? `, of ${plural(day.types_total, "type")}` : ""}</span></figcaption>
    <div class="bars">${buckets.map(({ start, total }) => (total === 0
      ? html`<span key=${start} class="bar none" title=${`${time(Date.parse(start))}: nothing`}></span>`
      : html`<button key=${start} type="button" class="bar" aria-label=${`${plural(total, "event")} from ${time(Date.parse(start))} on: look at them`} title=${`${time(Date.parse(start))}: ${count(total)}`}
          onClick=${() => onChoose(ends(start))}><svg viewBox="0 0 1 100" preserveAspectRatio="none" aria-hidden="true"><rect width="1" y=${100 - Math.max(4, (100 * total) / most)} height=${Math.max(4, (100 * total) / most)} /></svg></button>`))}</div>
  </figure>`;
}
