// Figures over time, as the server keeps them, and what they come to.
import { overview } from "./api.js";
import { useInterval, useResource } from "./store.js";

/** What can be looked at, how it is said, and how often it is asked for anew. */
export const WINDOWS = [["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const REFRESH_MS = { "1h": 10_000, "24h": 20_000, "7d": 60_000 };
/** A step of which less than this has passed says nothing yet. */
const PART_MIN = 0.2;

export const isWindow = (text) => WINDOWS.some(([name]) => name === text);

/** `{ window, resolutionS, series, attention }`, kept up to date while somebody looks. */
export function useFigures(window, of = {}) {
  const found = useResource(async () => {
    const data = await overview(window, of);
    return { ...data, resolutionS: data.resolution_s, at: Date.now() };
  }, [window, of.channel, of.webhook]);
  useInterval(found.reload, REFRESH_MS[window]);
  return found;
}

/** When the steps begin, in Unix seconds. */
export const times = ({ series }) => (Object.values(series)[0] ?? []).map(([ms]) => ms / 1000);

/** A series as it is: one value a step, null where nothing is known. */
export const levels = ({ series }, name) => (series[name] ?? []).map(([, value]) => value);

/** A count as a rate a second. Of the step under way, what has passed of it counts. */
export function rates({ series, resolutionS, at }, name) {
  return (series[name] ?? []).map(([ms, value]) => {
    if (value === null) return null;
    const passed = Math.min(resolutionS, (at - ms) / 1000);
    return passed < PART_MIN * resolutionS ? null : value / passed;
  });
}

/** The sum of a count; null where nothing is known at all. */
export function total({ series }, name) {
  const known = (series[name] ?? []).map(([, value]) => value).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

/** The newest value that is known. */
export const latest = ({ series }, name) => (series[name] ?? []).findLast(([, value]) => value !== null)?.[1] ?? null;

/** The share of attempts that arrived, in percent; null without attempts. */
export function arrived(figures) {
  const attempts = total(figures, "attempts");
  return attempts ? (100 * total(figures, "delivered")) / attempts : null;
}

/** A share in percent that is never rounded up to all of it, or down to nothing. */
export function percent(share) {
  if (share === null) return "–";
  if (share > 99 && share < 100) return `${Math.min(99.9, Math.floor(share * 10) / 10)} %`;
  if (share > 0 && share < 1) return "< 1 %";
  return `${Math.round(share)} %`;
}
