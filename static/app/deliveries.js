// The deliveries of a webhook: which arrived, which wait, which were given up, and each attempt with its answer.
import { html, useEffect, useState } from "./html.js";
import { bare, typesOf } from "./api.js";
import { answered, capital, count, dateTime, duration, failure, outcome, plural } from "./format.js";
import { replace, to } from "./route.js";
import { useAction, useResource } from "./store.js";
import { Ago, Badge, Bones, Empty, Icon, Segments, Trouble, copy, toast } from "./ui.js";
import { deliveries, getDelivery, retryDelivery } from "./webhook-api.js";

const PAGE = 30;

const STATUS = { delivered: "good", retrying: "wait", pending: "", dead: "bad", failed: "bad", dropped: "" };
const FILTERS = [["", "All"], ["pending", "Pending"], ["retrying", "Retrying"], ["dead", "Given up"], ["delivered", "Delivered"]];
const TRIGGERS = { first: "first attempt", retry: "retry", manual: "sent again by hand", replay: "replay", test: "test" };
const EMPTY = {
  "": ["Nothing was delivered yet", "The next event that passes the filter is sent at once and shown here."],
  pending: ["Nothing waits", "Events are attempted as they come; what waits for its first attempt is listed here."],
  retrying: ["Nothing is being retried", "Deliveries that failed and will be tried again are listed here."],
  dead: ["Nothing was given up", "Deliveries that failed to the end are kept here and can be sent again."],
  delivered: ["Nothing has arrived yet", "Successes are listed here too, with what the receiver answered."],
};

/** What a list may be narrowed by; it stands in the address, so that it can be kept and sent to others. */
const CONDITIONS = ["status", "type", "code", "since", "until", "text"];
const iso = (text) => (text && !Number.isNaN(Date.parse(text)) ? new Date(text).toISOString() : "");

/** @param query of the address: what is shown, and which delivery is open
 *  @param version grows when there may be something new */
export function Deliveries({ hook, query, version, onChanged, onResend }) {
  const wanted = Object.fromEntries(CONDITIONS.map((name) => [name, query.get(name) ?? ""]));
  const asked = { ...wanted, since: iso(wanted.since), until: iso(wanted.until) };
  const { status } = wanted;
  const key = JSON.stringify(wanted);
  const put = (change) => replace(["webhook", hook.of.kind, hook.of.id, hook.id], { ...Object.fromEntries(query), ...change });
  const [more, setMore] = useState({ data: [], next: undefined });
  const open = query.get("delivery");
  const first = useResource(() => deliveries(hook, { ...asked, limit: PAGE }), [hook.id, key]);
  useEffect(() => void (version && first.reload()), [version]);
  useEffect(() => setMore({ data: [], next: undefined }), [hook.id, key]);
  const older = useAction(async () => {
    const page = await deliveries(hook, { ...asked, limit: PAGE, after: more.next ?? first.data.next });
    setMore((before) => ({ data: [...before.data, ...page.data], next: page.next }));
  });
  const shown = new Set();
  const rows = [...(first.data?.data ?? []), ...more.data].filter(({ id }) => !shown.has(id) && shown.add(id));
  const next = more.data.length ? more.next : first.data?.next;
  const narrowed = CONDITIONS.some((name) => name !== "status" && wanted[name]);
  return html`<section class="card" aria-labelledby="deliveries">
    <header><h2 id="deliveries">Deliveries</h2><${Segments} label="Show" value=${status} options=${FILTERS} onChange=${(next) => put({ status: next })} />
      <button type="button" class="button small" onClick=${onResend}>Retry all that failed…</button></header>
    <${Narrow} hook=${hook} wanted=${wanted} onChange=${put} />
    ${open && !shown.has(open) && html`<ul class="list deliveries one"><${Linked} key=${open} id=${open} hook=${hook} onClose=${() => put({ delivery: "" })} onChanged=${onChanged} /></ul>`}
    ${first.error && html`<div class="padded-row"><${Trouble} error=${first.error} onRetry=${first.reload} /></div>`}
    ${first.data === undefined && !first.error ? html`<${Bones} />` : null}
    ${first.data && rows.length === 0 && (narrowed ? html`<${Empty} icon="search" title="No delivery is like that">Take a condition away to see more.<//>` : html`<${Empty} icon="webhooks" title=${(EMPTY[status] ?? EMPTY[""])[0]}>${(EMPTY[status] ?? EMPTY[""])[1]}<//>`)}
    ${rows.length > 0 && html`<ul class="list deliveries">
      ${rows.map((row) => html`<${Row} key=${row.id} row=${row} hook=${hook} open=${open === row.id}
        onToggle=${(on) => put({ delivery: on ? row.id : "" })} onChanged=${onChanged} />`)}</ul>`}
    ${next && html`<div class="past">
      ${older.error && html`<${Trouble} error=${older.error} />`}<button type="button" class="button small" disabled=${older.busy}
        onClick=${older.run}>Older deliveries</button></div>`}
  </section>`;
}

/** The fields that narrow the list. */
function Narrow({ hook, wanted, onChange }) {
  const known = useResource(() => typesOf(hook.of), [hook.of.kind, hook.of.id]);
  const types = hook.events.includes("*") ? (known.data ?? []).map(({ type }) => type) : hook.events;
  const [text, setText] = useState(wanted.text);
  const [code, setCode] = useState(wanted.code);
  const [type, setType] = useState(wanted.type);
  useEffect(() => {
    setText(wanted.text);
    setCode(wanted.code);
    setType(wanted.type);
  }, [wanted.text, wanted.code, wanted.type]);
  const apply = (event) => {
    event.preventDefault();
    onChange({ text: text.trim(), code: code.trim(), type: type.trim() });
  };
  const any = CONDITIONS.some((name) => name !== "status" && wanted[name]);
  return html`<form class="narrow" onSubmit=${apply} role="search" aria-label="Narrow the deliveries">
    <label><span class="small soft">Text</span><input class="input" type="search" placeholder="an id, a reason, an answer" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <label><span class="small soft">Type</span><input class="input mono" list="delivery-types" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${type} onInput=${(event) => setType(event.target.value)} /></label>
    <datalist id="delivery-types">${types.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
    <label><span class="small soft">Code</span><input class="input mono" list="delivery-codes" autocomplete="off" autocapitalize="off" placeholder="500, timeout" value=${code} onInput=${(event) => setCode(event.target.value)} /></label>
    <datalist id="delivery-codes">${CODES.map((name) => html`<option key=${name} value=${name} label=${/^\d/.test(name) ? undefined : failure(name)} />`)}</datalist>
    <label><span class="small soft">From</span><input class="input" type="datetime-local" value=${wanted.since} onChange=${(event) => onChange({ since: event.target.value })} /></label>
    <label><span class="small soft">To</span><input class="input" type="datetime-local" value=${wanted.until} onChange=${(event) => onChange({ until: event.target.value })} /></label>
    <span class="buttons"><button type="submit" class="button small">Apply</button>
      ${any && html`<button type="button" class="button small bare" onClick=${() => onChange({ text: "", code: "", type: "", since: "", until: "" })}>Clear</button>`}</span>
  </form>`;
}

const CODES = ["200", "400", "401", "404", "429", "500", "502", "503", "timeout", "connection_refused", "connection_reset", "dns_error", "tls_error", "render_error"];

/** A delivery that the address names and the list does not show. */
function Linked({ id, hook, onClose, onChanged }) {
  const found = useResource(() => getDelivery(hook, id), [id]);
  if (found.error) return html`<li class="padded-row"><${Trouble} error=${found.error} /> <button type="button" class="button small" onClick=${onClose}>Close</button></li>`;
  if (!found.data) return html`<li><${Bones} /></li>`;
  return html`<${Row} row=${found.data} hook=${hook} open onToggle=${(on) => on || onClose()} onChanged=${onChanged} />`;
}

const MARKS = { replay: "replay", manual: "by hand", test: "test" };

function Row({ row, hook, open, onToggle, onChanged }) {
  const types = [...new Set(row.eventTypes ?? [])];
  const answer = answered(row);
  return html`<li class="delivery">
    <details open=${open} onToggle=${(event) => event.target.open !== open && onToggle(event.target.open)}>
      <summary>
        <span class="marks"><${Badge} kind=${STATUS[row.status]}>${outcome(row.status)}<//>${MARKS[row.trigger] && html`<${Badge} kind="accent">${MARKS[row.trigger]}<//>`}</span>
        <span class="clip mono small">${types.join(", ") || "no events"}${(row.eventIds?.length ?? 0) > 1 ? ` (${plural(row.eventIds.length, "event")})` : ""}</span>
        <span class="small tabular">${answer}</span>
        <span class="soft small tabular">
          ${row.status === "retrying" && row.nextAttemptAt ? html`next <${Ago} iso=${row.nextAttemptAt} />` : plural(row.attemptCount, "attempt")}</span>
        <span class="soft small when"><${Ago} iso=${row.updatedAt} /></span>
      </summary>
      ${open && html`<${Detail} row=${row} hook=${hook} onChanged=${onChanged} />`}
    </details>
  </li>`;
}

function Detail({ row, hook, onChanged }) {
  const found = useResource(() => getDelivery(hook, row.id), [row.id, row.attemptCount, row.status]);
  const again = useAction(async () => {
    await retryDelivery(hook, row.id);
    toast("It is sent again now");
    onChanged();
  });
  if (found.error) return html`<div class="detail"><${Trouble} error=${found.error} onRetry=${found.reload} /></div>`;
  if (!found.data) return html`<div class="detail"><${Bones} /></div>`;
  const { attempts, eventIds } = found.data;
  const place = [hook.of.kind, hook.of.kind === "map" ? hook.of.slug : hook.of.id];
  const longest = Math.max(1, ...attempts.map(({ durationMs }) => durationMs));
  return html`<div class="detail">
    <div class="detail-head">
      <p class="small"><code class="anywhere">${row.id}</code></p>
      <span class="buttons"><button type="button" class="button small" onClick=${() => copy(location.href, "Link copied")}>Copy link</button>
        <button type="button" class="button small" disabled=${again.busy} onClick=${again.run}>Send again now</button></span>
    </div>
    ${eventIds.length > 0 && html`<p class="small">${eventIds.length === 1 ? "Event" : "Events"} ${eventIds.slice(0, 10).map((id, n) => html`<span key=${id}>${n > 0 && ", "}<a class="mono anywhere" href=${to(place, { event: bare(id) })}>${bare(id)}</a></span>`)}${eventIds.length > 10 && ` and ${count(eventIds.length - 10)} more`}</p>`}
    ${again.error && html`<${Trouble} error=${again.error} />`}
    ${attempts.length === 0 && html`<p class="soft">It was not attempted yet.</p>`}
    ${attempts.length < row.attemptCount && attempts.length > 0 && html`<p
      class="soft small">${count(attempts.length)} of ${plural(row.attemptCount, "attempt")} are kept.</p>`}
    <ol class="attempts">${attempts.map((attempt) => html`<li key=${`${attempt.number}-${attempt.startedAt}`}>
      <${Attempt} attempt=${attempt} url=${hook.url} longest=${longest} last=${attempt === attempts.at(-1)} /></li>`)}</ol>
  </div>`;
}

const arrived = (attempt) => attempt.statusCode >= 200 && attempt.statusCode < 300 && !attempt.errorCode;

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The request of an attempt for a shell. Headers of the owner are hidden, so they are left out. */
function curl(url, { requestHeaders, requestBody }) {
  const headers = Object.entries(requestHeaders ?? {}).filter(([, value]) => value !== "(hidden)");
  return [`curl -X POST ${quoted(url)}`, ...headers.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`), ...(requestBody ? [`--data-binary ${quoted(requestBody)}`] : [])].join(" \\\n  ");
}

function Attempt({ attempt, url, longest, last }) {
  const good = arrived(attempt);
  return html`<article class="attempt" aria-label=${`Attempt ${attempt.number}`}>
    <header>
      <span class=${`mark ${good ? "good" : "bad"}`}><${Icon} name=${good ? "done" : "close"} /></span>
      <strong>${attempt.number}</strong>
      <span>${capital(answered(attempt) || "failed")}</span>
      <span class="soft small">${TRIGGERS[attempt.trigger] ?? attempt.trigger}</span>
      <time class="soft small" datetime=${attempt.startedAt}>${dateTime(attempt.startedAt)}</time>
      <span class="took small tabular"><svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect class=${good ? "good" : "bad"} width=${Math.max(1.5, (100 * attempt.durationMs) / longest)} height="6" rx="2" />
        </svg>${duration(attempt.durationMs)}</span>
    </header>
    ${attempt.error && html`<p class="small anywhere reason">${attempt.error}</p>`}
    <${Headers} attempt=${attempt} open=${last && !good} />
    ${attempt.requestBody !== null && html`<p class="buttons"><button type="button" class="button small" onClick=${() => copy(curl(url, attempt), "Copied as curl")}><${Icon} name="copy" />Copy as curl</button></p>`}
  </article>`;
}

const PARTS = [["dnsMs", "name looked up"], ["connectMs", "connected"], ["tlsMs", "TLS"], ["firstByteMs", "first byte"]];

/** Where it went, and where the time went: the parts that took place. */
function Timings({ attempt }) {
  const { timings, connectionReused, remoteAddress } = attempt;
  const parts = PARTS.filter(([name]) => typeof timings?.[name] === "number");
  if (!parts.length && !remoteAddress) return null;
  return html`<p class="timings small">${remoteAddress && html`<span>
    <span class="soft">to</span> <code>${remoteAddress}</code>${connectionReused ? ", a connection that was open already" : ""}</span>`}${parts.map(([name, what]) => html`<span key=${name}><span class="soft">${what}</span> ${duration(timings[name])}</span>`)}</p>`;
}

/** What was sent and what came back. */
export function Headers({ attempt, open }) {
  return html`<details class="more" open=${open}>
    <summary>Request and answer</summary>
    <${Timings} attempt=${attempt} />
    <div class="exchange">
      <${Message} title="Sent" headers=${attempt.requestHeaders} body=${attempt.requestBody} none="An empty body." />
      <${Message} title="Answered" headers=${attempt.responseHeaders} body=${attempt.responseBody}
        none=${attempt.statusCode ? "An empty body." : "No answer came."} />
    </div>
  </details>`;
}

function Message({ title, headers, body, none }) {
  const lines = Object.entries(headers ?? {});
  return html`<section><h3>${title}</h3><div class="code wrap"><pre tabindex="0" role="region" aria-label=${title}>
    ${lines.map(([name, value]) => html`<span key=${name}>
    <span class="soft">${name}:</span> ${value}${"\n"}</span>`)}${lines.length > 0 && "\n"}${body ? pretty(body) : html`<span
      class="soft">${none}</span>`}</pre></div></section>`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
