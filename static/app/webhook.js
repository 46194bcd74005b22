// One webhook: how it fares, what can be done about it, and what became of its deliveries.
import { html, useEffect, useState } from "./html.js";
import { channelName, getChannel } from "./api.js";
import { Charts, WindowChoice } from "./charts.js";
import { arrived, isWindow, latest, percent, total, useFigures } from "./figures.js";
import { count, dateTime, duration, failure, plural } from "./format.js";
import { Deliveries } from "./deliveries.js";
import { replace, to } from "./route.js";
import { Replay } from "./replay.js";
import { useAction, useInterval, useResource } from "./store.js";
import { usePulse } from "./pulse.js";
import { Ago, Badge, Dialog, Head, Loaded, SelectField, Trouble, toast, useForm } from "./ui.js";
import { changeWebhook, getWebhook } from "./webhook-api.js";
import { Delete, Rotate, Test } from "./webhook-dialogs.js";
import { WebhookForm } from "./webhook-form.js";
import { Health, Off, Target } from "./webhooks.js";

const REFRESH_MS = 10_000;

const head = html`<${Head} title="Webhook" crumbs=${[["Webhooks", to(["webhooks"])]]} />`;

export function Webhook({ kind, channel, id, query }) {
  const found = useResource(() => getChannel(kind, channel), [kind, channel]);
  return html`<${Loaded} of=${found} head=${head}>${(of) => html`<${OfChannel} of=${of} id=${id} query=${query} reloadChannel=${found.reload} />`}<//>`;
}

function OfChannel({ of, id, query, reloadChannel }) {
  const found = useResource(() => getWebhook(of, id), [of, id]);
  return html`<${Loaded} of=${found} head=${head}>
    ${(hook) => html`<${Shown} hook=${hook} query=${query} reload=${found.reload} reloadChannel=${reloadChannel} />`}<//>`;
}

function Shown({ hook, query, reload, reloadChannel }) {
  const [dialog, setDialog] = useState(null);
  const [version, setVersion] = useState(0);
  const close = () => setDialog(null);
  const refresh = () => {
    reload();
    setVersion((n) => n + 1);
  };
  const title = hook.name ?? hostOf(hook.url);
  useEffect(() => void (document.title = `${title} · Stentor`), [title]);
  // an event of the channel means a delivery; what waits for its time is looked at now and then
  usePulse(hook.of, { events: hook.events.includes("*") ? undefined : hook.events, filter: hook.filter ?? undefined }, refresh);
  useInterval(refresh, REFRESH_MS);

  const pause = useAction(async () => {
    await changeWebhook(hook, { active: !hook.active });
    refresh();
  });
  const off = hook.health === "disabled";
  return html`<div>
    <${Head} title=${hook.name ? html`<bdi>${hook.name}</bdi>` : html`<${Target} url=${hook.url} />`} crumbs=${[["Webhooks", to(["webhooks"])], [hook.of.name, to(["webhooks"], { channel: `${hook.of.kind}:${hook.of.id}` })]]}
      below=${html`${hook.name && html`<p class="small anywhere"><${Target} url=${hook.url} /></p>`}<p class="badges"><${Health} hook=${hook} /><${Badge}>${hook.format} format<//>
        ${hook.ordered && html`<${Badge}>in order<//>`}${hook.batch && html`<${Badge}>batches of ${hook.batch.maxEvents}<//>`}</p>`}>
      <button type="button" class="button main" onClick=${() => setDialog("test")}>Send a test</button>
      <button type="button" class="button" onClick=${() => setDialog("replay")}>Replay</button>
      <button type="button" class="button" onClick=${() => setDialog("edit")}>Edit</button>
      <button type="button" class="button" onClick=${() => setDialog("rotate")}>Rotate secret</button>
      ${!off && html`<button type="button" class="button" disabled=${pause.busy} onClick=${pause.run}>${hook.active ? "Pause" : "Go on"}</button>`}
      <button type="button" class="button bad" onClick=${() => setDialog("delete")}>Delete</button>
    <//>
    <div class="stack">
      ${pause.error && html`<${Trouble} error=${pause.error} />`}
      ${hook.of.webhooksEnabled === false && html`<${Off} of=${hook.of} onOn=${reloadChannel} />`}
      ${off && html`<${SwitchedOff} hook=${hook} onChanged=${refresh} />`}
      <${Condition} hook=${hook} />
      <${Figures} hook=${hook} query=${query} version=${version} onResend=${() => setDialog("resend")} />
      <${Facts} hook=${hook} />
      <${Deliveries} hook=${hook} query=${query} version=${version} onChanged=${refresh} onResend=${() => setDialog("resend")} />
    </div>
    ${dialog === "test" && html`<${Test} hook=${hook} onClose=${close} onDone=${refresh} />`}
    ${(dialog === "replay" || dialog === "resend") && html`<${Replay} hook=${hook} failed=${dialog === "resend"} onClose=${close} onDone=${refresh} />`}
    ${dialog === "edit" && html`<${Dialog} title="Edit the webhook" wide onClose=${close}>
      <${WebhookForm} of=${hook.of} hook=${hook} onClose=${close} onDone=${() => { toast("Saved"); close(); refresh(); }} /><//>`}
    ${dialog === "rotate" && html`<${Rotate} hook=${hook} onClose=${close} />`}
    ${dialog === "delete" && html`<${Delete} hook=${hook} onClose=${close} />`}
  </div>`;
}

const hostOf = (url) => /^https?:\/\/([^/?#]+)/.exec(url)?.[1] ?? url;

/** What its health means, since when, and what happens next. */
function Condition({ hook }) {
  const since = hook.healthSince && html`<${Ago} iso=${hook.healthSince} plain />`;
  const next = hook.nextAttemptAt && html`The next one is due <strong><${Ago} iso=${hook.nextAttemptAt} /></strong>.`;
  const last = hook.lastError && html` The last failure: <strong>${failure(hook.lastError)}</strong>, <${Ago} iso=${hook.lastErrorAt} />.`;
  if (hook.health === "probing") return html`<div class="trouble condition" role="status"><p><strong>Probing for ${since}:</strong> every attempt has failed for long, so events wait in the log and one delivery at a time is tried. ${next} When one arrives, all that waits is sent.${last}</p></div>`;
  if (hook.health === "degraded") return html`<div class="trouble condition" role="status"><p><strong>Failing:</strong> ${plural(hook.consecutiveFailures, "attempt")} in a row failed. Deliveries go on as ever, and each is tried again by its schedule. ${next}${last}</p></div>`;
  if (hook.health === "unavailable") return html`<div class="trouble condition" role="status"><p><strong>It cannot run:</strong> its secret or its filter cannot be read. Rotate the secret, or change it; the server's log says more.</p></div>`;
  if (hook.health === "paused") return html`<p class="hintbox">Paused for ${since}. Events wait in the log, and are sent when it goes on.</p>`;
  return null;
}

/** What came of its attempts, as figures and over time. */
function Figures({ hook, query, version, onResend }) {
  const window = isWindow(query.get("window")) ? query.get("window") : "24h";
  const found = useFigures(window, { channel: channelName(hook.of), webhook: hook.id });
  useEffect(() => void (version && found.reload()), [version]);
  const span = { "1h": "in the last hour", "24h": "in 24 hours", "7d": "in 7 days" }[window];
  const choose = (next) => {
    const pairs = Object.fromEntries(query);
    replace(["webhook", hook.of.kind, hook.of.id, hook.id], { ...pairs, window: next === "24h" ? "" : next });
  };
  return html`<section class="stack" aria-labelledby="webhook-figures">
    <div class="section-head"><h2 id="webhook-figures">How it fares</h2><${WindowChoice} window=${window} onChange=${choose} /></div>
    <${Loaded} of=${found}>${(figures) => {
      const [failed, attempts, lost] = ["failed", "attempts", "gave_up"].map((name) => total(figures, name) ?? 0);
      // what was given up once may have been sent again since
      const isLeft = figures.attention.some(({ kind }) => kind === "webhook_gave_up");
      const p95 = latest(figures, "latency_p95_ms");
      return html`<ul class="tiles">
        <li class=${`tile card ${failed ? "bad" : ""}`}><span class="small">Attempts that arrive</span><strong class="tabular">${percent(arrived(figures))}</strong><span class="soft small">${failed ? `${count(failed)} of ${count(attempts)} failed` : plural(attempts, "attempt")} ${span}</span></li>
        <li class="tile card"><span class="small">Last success</span><strong><${Ago} iso=${hook.lastDeliveryAt} none="never" /></strong><span class="soft small">${hook.lastDeliveryAt ? dateTime(hook.lastDeliveryAt) : "no attempt has arrived yet"}</span></li>
        <li class="tile card"><span class="small">Time of an attempt</span><strong class="tabular">${p95 === null ? "–" : duration(p95)}</strong><span class="soft small">95 of 100 take no longer</span></li>
        <li class=${`tile card ${isLeft ? "bad" : ""}`}><span class="small">Given up</span><strong class="tabular">${count(lost)}</strong>
          ${isLeft ? html`<button type="button" class="button small" onClick=${onResend}>Send again</button>` : lost > 0 ? html`<span class="soft small">all sent again since</span>` : html`<span class="soft small">${plural(latest(figures, "retrying") ?? 0, "delivery waits", "deliveries wait")} for a retry</span>`}</li>
      </ul>
      <${Charts} figures=${figures} of="webhook" group=${`webhook-${hook.id}`} />`;
    }}<//>
  </section>`;
}

function Facts({ hook }) {
  const retry = hook.retryPolicy;
  const failing = hook.consecutiveFailures > 0;
  return html`<div class="card padded"><dl class="facts">
    ${hook.sessionId && html`<dt>Session</dt><dd><code>${hook.sessionId}</code></dd>`}
    <dt>Events</dt><dd>${hook.events.includes("*") ? "all types" : html`<code>${hook.events.join(", ")}</code>`}${hook.filter && html` where <code>${hook.filter}</code>`}${hook.pathPrefix.length > 0 && html` below <code>${hook.pathPrefix.join(", ")}</code>`}</dd>
    <dt>Channel</dt><dd><a href=${to([hook.of.kind, hook.of.kind === "map" ? hook.of.slug : hook.of.id])}>${hook.of.name}</a></dd>
    ${(failing || hook.lastError) && html`<dt>Last failure</dt><dd>${failure(hook.lastError)} <span class="soft"><${Ago} iso=${hook.lastErrorAt} />
      ${failing && html`, ${plural(hook.consecutiveFailures, "failure")} in a row`}</span></dd>`}
    <dt>Retries</dt><dd>${retryWords(retry)}</dd>
    ${Object.keys(hook.customHeaders).length > 0 && html`<dt>Own headers</dt><dd><code>${Object.keys(hook.customHeaders).join(", ")}</code>
      </dd>`}
    <dt>Id</dt><dd><code>${hook.id}</code> <span class="soft small">made ${dateTime(hook.insertedAt)}</span></dd>
  </dl></div>`;
}

function retryWords(retry) {
  if (!retry) return "as the server's settings say";
  const schedule = retry.scheduleSeconds ?? retry.schedule_seconds;
  if (schedule) return `after ${schedule.map((s) => duration(s * 1000)).join(", ")}`;
  if (retry.attempts === 1) return "none: one attempt";
  const first = duration(retry.delaySeconds * 1000);
  const waits = { constant: `${first} apart`, linear: `the first after ${first}, each wait ${first} longer`, exponential: `the first after ${first}, each wait twice as long` }[retry.policy];
  return `${plural(retry.attempts, "attempt")} in all, ${waits ?? `the first retry after ${first}`}`;
}

// ---- what the server switched off ------------------------------------------------------------------------------

/** A sentence of the server with its times as the reader writes them. */
const readable = (text) => text.replace(/\bat (\d{4}-\d\d-\d\dT[\d:.]+Z)/g, (_, iso) => `on ${dateTime(iso)}`);

function SwitchedOff({ hook, onChanged }) {
  const form = useForm({ resume: "pending" });
  const on = useAction(async () => {
    await changeWebhook(hook, { active: true, resume: form.values.resume });
    toast("The webhook is on again");
    onChanged();
  });
  return html`<div class="trouble switched-off" role="alert">
    <p><strong>Switched off:</strong> ${readable(hook.disabledReason)}</p>
    <form onSubmit=${(event) => { event.preventDefault(); on.run(); }}>
      <${SelectField} form=${form} name="resume" label="What waited meanwhile"
        options=${[["pending", "Deliver it"], ["all", "Deliver it, and what was given up"], ["skip", "Forget it"]]} />
      <button type="submit" class="button" disabled=${on.busy}>Switch on again</button>
    </form>
    ${on.error && html`<p>${on.error.message}</p>`}
  </div>`;
}
