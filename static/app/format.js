// Numbers and times for people.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => whole.format(n);

/** 950, 1.2K, 3.4M; small fractions keep a digit. */
export function brief(n) {
  if (n === 0) return "0";
  if (Math.abs(n) < 10) return String(Math.round(n * 10) / 10);
  return Math.abs(n) < 10_000 ? whole.format(n) : short.format(n);
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(n) >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

/** 0.5 ms, 340 ms, 2.4 s, 5 min, 3 h, 2 d. */
export function duration(ms) {
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 9.95 ? Math.round(s * 10) / 10 : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** "3 min ago", "in 5 s". */
export function ago(iso, now = Date.now()) {
  const ms = now - Date.parse(iso);
  if (Number.isNaN(ms)) return "";
  if (ms > -1500 && ms < 9500) return "just now";
  return ms > 0 ? `${duration(ms)} ago` : `in ${duration(-ms)}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** The time of day; with the date when it is not of today. */
export function time(ms) {
  const date = new Date(ms);
  const text = clock.format(date);
  return date.toDateString() === new Date().toDateString() ? text : `${day.format(date)} ${text}`;
}

export const dateTime = (iso) => (iso ? full.format(new Date(iso)) : "");

const TIME_NAME = /(^|_|[a-z])(at|ts|time|timestamp|date|created|updated|expires|since|until)$/i;
const SECONDS = [946_684_800, 4_102_444_800]; // 2000 to 2100

/** Whether a number in a payload is a time, by its name and its size. */
export function isTime(name, value) {
  if (typeof value !== "number" || !Number.isFinite(value) || !TIME_NAME.test(name)) return false;
  return (value >= SECONDS[0] && value < SECONDS[1]) || (value >= 1000 * SECONDS[0] && value < 1000 * SECONDS[1]);
}

/** A number that is a time, in Unix seconds or milliseconds. */
export const shortTime = (name, value) => time(value < SECONDS[1] ? value * 1000 : value);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A hue that a name always has, so that types are told apart at a glance. What belongs together is alike: the part
 * before the first separator decides. */
export function hue(name) {
  let hash = 2166136261;
  for (const char of name.split(/[._:-]/)[0].replace(/s$/, "")) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return ((hash >>> 0) % 24) * 15;
}

const FAILURES = { timeout: "no answer in time", dns_error: "DNS error", tls_error: "TLS error" };

/** What went wrong with an attempt, as the server names it (`http_status 404`, `timeout`), in words. */
export function failure(code) {
  const status = /^http_status (\d+)$/.exec(code)?.[1];
  return status ? `answered ${status}` : (FAILURES[code] ?? code.replaceAll("_", " "));
}

/** How an attempt ended; empty while it has not. */
export const answered = ({ statusCode, errorCode }) => (statusCode ? `answered ${statusCode}` : errorCode ? failure(errorCode) : "");

/** What became of a delivery, in words. */
export const outcome = (status) => ({ dead: "given up" })[status] ?? status;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
