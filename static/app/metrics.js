// Figures of the server, sampled from /metrics while somebody looks: rates from counters, the rest as it is.
import { metricsText } from "./api.js";
import { Store } from "./store.js";

const PERIOD_MS = 2000;
const SAMPLES_MAX = 151; // five minutes

/** `{ samples, error }`: the newest sample last; `error` while the server does not answer. */
export const figures = new Store({ samples: [], error: null });

/** Reads the text of OpenMetrics 1.0: name -> [{ labels, value }].
 * @param {string} text */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const [, name, labels, value] = match;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels: labels ?? "", value: Number(value) });
  }
  return found;
}

/** What is kept of one reading. Totals are counters. */
function reading(text) {
  const found = parse(text);
  const sum = (name, label = "") => (found.get(`stentor_${name}`) ?? []).filter(({ labels }) => labels.includes(label)).reduce((total, { value }) => total + value, 0);
  const most = (name) => Math.max(0, ...(found.get(`stentor_${name}`) ?? []).map(({ value }) => value));
  return {
    at: Date.now(),
    totals: {
      published: sum("events_published_total"),
      delivered: sum("events_delivered_total"),
      requests: sum("requests_total"),
      errors: sum("errors_total"),
      succeeded: sum("webhook_attempts_total", 'outcome="success"'),
      attempts: sum("webhook_attempts_total"),
    },
    streams: sum("streams"),
    lagS: most("webhook_lag_seconds"),
    waiting: sum("webhook_retries_waiting"),
    dead: sum("webhook_dead_letters_total"),
    disabled: sum("webhooks_disabled"),
    queue: sum("journal_queue_events"),
    logBytes: sum("log_bytes"),
    logEvents: sum("log_events"),
    freeBytes: sum("disk_free_bytes"),
    quarantined: sum("log_quarantined_segments"),
  };
}

/** Adds what can only be told from two readings: rates a second, and the share of attempts that succeeded. */
function rated(now, before) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const rates = {};
  for (const [name, total] of Object.entries(now.totals)) {
    // a counter that went back belongs to a server that was started again
    const grown = before ? total - before.totals[name] : -1;
    rates[name] = seconds > 0 && grown >= 0 ? grown / seconds : null;
  }
  const { attempts, succeeded } = rates;
  return { ...now, rates, success: attempts ? (100 * succeeded) / attempts : null };
}

let timer = 0;
let asking = false;

async function sample() {
  if (asking || document.hidden) return;
  asking = true;
  const { samples } = figures.value;
  try {
    const now = rated(reading(await metricsText()), samples.at(-1));
    figures.set({ samples: [...samples, now].slice(-SAMPLES_MAX), error: null });
  } catch (error) {
    figures.set({ samples, error });
  }
  asking = false;
}

/** Samples until `stopSampling`. */
export function startSampling() {
  if (timer) return;
  timer = setInterval(sample, PERIOD_MS);
  sample();
}

export function stopSampling() {
  clearInterval(timer);
  timer = 0;
  figures.set({ samples: [], error: null });
}
