// One webhook: how it fares, what can be done about it, and what became of its deliveries.
import { html, useEffect, useState } from "./html.js";
import { getChannel } from "./api.js";
import { dateTime, duration, plural } from "./format.js";
import { Deliveries, Headers } from "./deliveries.js";
import { go, to } from "./route.js";
import { Replay } from "./replay.js";
import { useAction, useInterval, useResource } from "./store.js";
import { usePulse } from "./pulse.js";
import { Ago, Badge, Confirm, Dialog, Head, Loaded, Secret, SelectField, Trouble, toast, useForm } from "./ui.js";
import { changeWebhook, deleteWebhook, getWebhook, rotateSecret, testWebhook } from "./webhook-api.js";
import { WebhookForm } from "./webhook-form.js";
import { Health, Off, Target } from "./webhooks.js";

const REFRESH_MS = 10_000;

const head = html`<${Head} title="Webhook" crumbs=${[["Webhooks", to(["webhooks"])]]} />`;

export function Webhook({ kind, channel, id }) {
  const found = useResource(() => getChannel(kind, channel), [kind, channel]);
  return html`<${Loaded} of=${found} head=${head}>${(of) => html`<${OfChannel} of=${of} id=${id} reloadChannel=${found.reload} />`}<//>`;
}

function OfChannel({ of, id, reloadChannel }) {
  const found = useResource(() => getWebhook(of, id), [of, id]);
  return html`<${Loaded} of=${found} head=${head}>
    ${(hook) => html`<${Shown} hook=${hook} reload=${found.reload} reloadChannel=${reloadChannel} />`}<//>`;
}

function Shown({ hook, reload, reloadChannel }) {
  const [dialog, setDialog] = useState(null);
  const [version, setVersion] = useState(0);
  const close = () => setDialog(null);
  const refresh = () => {
    reload();
    setVersion((n) => n + 1);
  };
  useEffect(() => void (document.title = "Webhook · Stentor"), []);
  // an event of the channel means a delivery; what waits for its time is looked at now and then
  usePulse(hook.of, { events: hook.events.includes("*") ? undefined : hook.events, filter: hook.filter ?? undefined }, refresh);
  useInterval(refresh, REFRESH_MS);

  const pause = useAction(async () => {
    await changeWebhook(hook, { active: !hook.active });
    refresh();
  });
  const off = hook.health === "disabled";
  return html`<div>
    <${Head} title=${html`<${Target} url=${hook.url} />`} crumbs=${[["Webhooks", to(["webhooks"])], [hook.of.name, to(["webhooks"], { channel: `${hook.of.kind}:${hook.of.id}` })]]}
      below=${html`<p class="badges"><${Health} hook=${hook} /><${Badge}>${hook.format}<//>
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
      <${Facts} hook=${hook} />
      <${Deliveries} hook=${hook} version=${version} onChanged=${refresh} />
    </div>
    ${dialog === "test" && html`<${Test} hook=${hook} onClose=${close} onDone=${refresh} />`}
    ${dialog === "replay" && html`<${Replay} hook=${hook} onClose=${close} onDone=${refresh} />`}
    ${dialog === "edit" && html`<${Dialog} title="Edit the webhook" wide onClose=${close}>
      <${WebhookForm} of=${hook.of} hook=${hook} onClose=${close} onDone=${() => { toast("Saved"); close(); refresh(); }} /><//>`}
    ${dialog === "rotate" && html`<${Rotate} hook=${hook} onClose=${close} />`}
    ${dialog === "delete" && html`<${Delete} hook=${hook} onClose=${close} />`}
  </div>`;
}

function Facts({ hook }) {
  const retry = hook.retryPolicy;
  const failing = hook.consecutiveFailures > 0;
  return html`<div class="card padded"><dl class="facts">
    ${hook.sessionId && html`<dt>Session</dt><dd><code>${hook.sessionId}</code></dd>`}
    <dt>Events</dt><dd>${hook.events.includes("*") ? "all types" : html`<code>${hook.events.join(", ")}</code>`}${hook.filter && html` where <code>${hook.filter}</code>`}${hook.pathPrefix.length > 0 && html` below <code>${hook.pathPrefix.join(", ")}</code>`}</dd>
    <dt>Last delivery</dt><dd><${Ago} iso=${hook.lastDeliveryAt} none="none yet" /></dd>
    ${(failing || hook.lastError) && html`<dt>Last failure</dt><dd>${hook.lastError} <span class="soft"><${Ago} iso=${hook.lastErrorAt} />
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
  return `${retry.policy}, first after ${duration(retry.delaySeconds * 1000)}, ${plural(retry.attempts, "attempt")} in all`;
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
        options=${[["pending", "Deliver it"], ["all", "Deliver it, dead ones too"], ["skip", "Forget it"]]} />
      <button type="submit" class="button" disabled=${on.busy}>Switch on again</button>
    </form>
    ${on.error && html`<p>${on.error.message}</p>`}
  </div>`;
}

// ---- dialogs ---------------------------------------------------------------------------------------------------

function Test({ hook, onClose, onDone }) {
  const [outcome, setOutcome] = useState(null);
  const send = useAction(async () => {
    setOutcome(null);
    setOutcome(await testWebhook(hook));
    onDone();
  });
  useEffect(() => void send.run(), []);
  return html`<${Dialog} title="Send a test" wide onClose=${onClose}>
    <div role="status">
      ${send.busy && html`<p class="soft">Sending a sample event and waiting for the answer…</p>`}
      ${outcome && html`<p class="outcome">
        ${outcome.delivered ? html`<${Badge} kind="good">Delivered<//>` : html`<${Badge} kind="bad">Failed<//>`}
        ${outcome.statusCode ? html`The receiver answered <strong>${outcome.statusCode}</strong> in ${duration(outcome.durationMs)}.` : html`<strong>${outcome.errorCode}</strong> after ${duration(outcome.durationMs)}: ${outcome.error}`}</p>`}
    </div>
    ${send.error && html`<${Trouble} error=${send.error} />`}
    ${outcome && html`<${Headers} attempt=${outcome} open />`}
    <footer><button type="button" class="button" disabled=${send.busy} onClick=${send.run}>Send again</button>
      <button type="button" class="button main" onClick=${onClose}>Done</button></footer>
  <//>`;
}

function Rotate({ hook, onClose }) {
  const form = useForm({ graceSeconds: "86400" });
  const [made, setMade] = useState(null);
  const rotate = useAction(async () => setMade(await rotateSecret(hook, Number(form.values.graceSeconds))));
  if (made) {
    return html`<${Dialog} title="The new secret" onClose=${onClose}>
      <${Secret} text=${made.secret}>Give it to the receiver now: it is shown only once.<//>
      <p>${made.graceSeconds > 0 && made.previousSecretExpiresAt ? `The old one signs too until ${dateTime(made.previousSecretExpiresAt)}.` : hook.hasSecret === false ? "From now on deliveries are signed." : "The old one signs no more."}</p>
      <footer><button type="button" class="button main" onClick=${onClose}>Done</button></footer>
    <//>`;
  }
  return html`<${Dialog} title="Rotate the secret" onClose=${onClose}>
    <form class="form" onSubmit=${(event) => { event.preventDefault(); rotate.run(); }}>
      <${SelectField} form=${form} name="graceSeconds" label="The old secret signs too for"
        options=${[["0", "not at all: it has leaked"], ["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]]}
        hint="Meanwhile a receiver that knows either of them accepts each delivery." />
      ${rotate.error && html`<${Trouble} error=${rotate.error} />`}
      <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button main" disabled=${rotate.busy}>Rotate</button></footer>
    </form>
  <//>`;
}

function Delete({ hook, onClose }) {
  const remove = useAction(async () => {
    await deleteWebhook(hook);
    toast("The webhook is deleted");
    go(["webhooks"]);
  });
  return html`<${Confirm} title="Delete this webhook?" action="Delete" busy=${remove.busy} error=${remove.error} onConfirm=${remove.run} onClose=${onClose}>
    <p>Nothing is delivered to <strong class="anywhere">${hook.url}</strong> any more, and its deliveries are forgotten.</p>
  <//>`;
}
