// What is done to a webhook in dialogs: a test with a choice of event, a new secret, the end.
import { html, useEffect, useState } from "./html.js";
import { typesOf } from "./api.js";
import { capital, dateTime, duration, failure } from "./format.js";
import { Headers } from "./deliveries.js";
import { go } from "./route.js";
import { useAction, useResource } from "./store.js";
import { Badge, Confirm, Dialog, Field, Secret, SelectField, Trouble, toast, useForm } from "./ui.js";
import { deleteWebhook, rotateSecret, testWebhook } from "./webhook-api.js";

export function Test({ hook, onClose, onDone }) {
  const [outcome, setOutcome] = useState(null);
  const [type, setType] = useState("");
  const known = useResource(() => typesOf(hook.of), [hook.of.kind, hook.of.id]);
  const own = hook.events.includes("*") ? [] : hook.events;
  const types = own.length ? own : (known.data ?? []).map((info) => info.type);
  const send = useAction(async () => {
    setOutcome(null);
    setOutcome(await testWebhook(hook, type));
    onDone();
  });
  useEffect(() => void send.run(), []);
  return html`<${Dialog} title="Send a test" wide onClose=${onClose}>
    ${types.length > 0 && hook.format !== "raw" && html`<${Field} label="Type of the event" hint="Its example from the catalogue is sent. It is in no log.">
      ${(tied) => html`<select ...${tied} onChange=${(event) => setType(event.target.value)}><option value="">One that this webhook gets</option>
        ${types.map((name) => html`<option key=${name} value=${name} selected=${name === type}>${name}</option>`)}</select>`}<//>`}
    <div role="status">
      ${send.busy && html`<p class="soft">Sending a sample event and waiting for the answer…</p>`}
      ${outcome && html`<p class="outcome">
        ${outcome.delivered ? html`<${Badge} kind="good">Delivered<//>` : html`<${Badge} kind="bad">Failed<//>`}
        ${outcome.statusCode ? html`The receiver answered <strong>${outcome.statusCode}</strong> in ${duration(outcome.durationMs)}.` : html`<strong>${capital(failure(outcome.errorCode))}</strong> after ${duration(outcome.durationMs)}: ${outcome.error}`}</p>`}
    </div>
    ${send.error && html`<${Trouble} error=${send.error} />`}
    ${outcome && html`<${Headers} attempt=${outcome} open />`}
    <footer><button type="button" class="button" disabled=${send.busy} onClick=${send.run}>Send again</button>
      <button type="button" class="button main" onClick=${onClose}>Done</button></footer>
  <//>`;
}

export function Rotate({ hook, onClose }) {
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

export function Delete({ hook, onClose }) {
  const remove = useAction(async () => {
    await deleteWebhook(hook);
    toast("The webhook is deleted");
    go(["webhooks"]);
  });
  return html`<${Confirm} title="Delete this webhook?" action="Delete" busy=${remove.busy} error=${remove.error} onConfirm=${remove.run} onClose=${onClose}>
    <p>Nothing is delivered to <strong class="anywhere">${hook.url}</strong> any more, and its deliveries are forgotten.</p>
  <//>`;
}
