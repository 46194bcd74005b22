// The form that publishes events into a channel, and the same with curl.
import { html, useEffect, useState } from "./html.js";
import { publish, typesOf } from "./api.js";
import { channelAddress } from "./channels.js";
import { server } from "./session.js";
import { useAction, useResource } from "./store.js";
import { Code, Field, TextField, Trouble, useForm } from "./ui.js";

const PAYLOAD = '{\n  "name": "value"\n}';

export function Publish({ of }) {
  const types = useResource(() => typesOf(of), [of.kind, of.id]);
  const known = types.data ?? [];
  const form = useForm({ type: "", session: "", payload: PAYLOAD });
  const [last, setLast] = useState(null);
  const send = useAction(async () => {
    const { type, session, payload } = form.values;
    let parsed;
    try {
      parsed = JSON.parse(payload);
    } catch (error) {
      return form.fail({ details: [{ field: "payload", message: `This is not JSON: ${error.message}` }] });
    }
    try {
      const [id] = await publish(of, { type: type.trim(), payload: parsed, ...(session.trim() ? { session: session.trim() } : {}) });
      form.fail(null);
      setLast({ id, at: Date.now() });
    } catch (error) {
      form.fail(error);
    }
  });
  // a type that was chosen before the catalogue was there
  useEffect(() => {
    const example = known.find((info) => info.type === form.values.type)?.example;
    if (example && form.values.payload === PAYLOAD) form.set("payload", JSON.stringify(example, null, 2));
  }, [types.data]);
  const choose = (type) => {
    const example = known.find((info) => info.type === type)?.example;
    form.setAll((before) => ({ ...before, type, ...(example ? { payload: JSON.stringify(example, null, 2) } : {}) }));
  };
  const submit = (event) => {
    event.preventDefault();
    send.run();
  };
  const address = of.kind === "map" ? `${server}/api/maps/${of.slug}/events` : `${server}/api/v1/organizations/${of.id}/events`;
  const body = () => {
    const { type, session, payload } = form.values;
    try {
      return JSON.stringify({ type: type || "hello", ...(session ? { session } : {}), payload: JSON.parse(payload) });
    } catch {
      return JSON.stringify({ type: type || "hello", payload: {} });
    }
  };
  return html`<div class="stack">
    <form class="card padded form" onSubmit=${submit}>
      <div class="row">
        <${Field} label="Type" problem=${form.problems.type} hint="Any name of letters, digits and _ . : -">
          ${(tied) => html`<input ...${tied}
            class="input mono" list="known-types" required maxlength="64" autocomplete="off" autocapitalize="off" spellcheck=${false}
            value=${form.values.type} onInput=${(event) => choose(event.target.value)} />`}
        <//>
        <datalist id="known-types">
          ${known.map(({ type, description }) => html`<option key=${type} value=${type}>${description}</option>`)}</datalist>
        ${of.kind === "organization" && html`<${TextField} form=${form} name="session" label="Session (optional)" />`}
      </div>
      <${Field} label="Payload" problem=${form.problems.payload} hint="A JSON object. Types of the catalogue bring an example along.">
        ${(tied) => html`<textarea ...${tied} rows="10" spellcheck=${false} value=${form.values.payload}
          onInput=${(event) => form.set("payload", event.target.value)} />`}
      <//>
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <div class="buttons">
        <button type="submit" class="button main" disabled=${send.busy}>Publish</button>
        <p class="soft small published" role="status">
          ${last && html`Stored as <code class="anywhere">${last.id}</code>. <a href=${channelAddress(of)}>See it live</a>`}</p>
      </div>
    </form>
    <section><h2 class="section">The same with curl</h2><${Code} label="Publish with curl" text=${`curl -X POST ${address} \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '${body().replaceAll("'", "'\\''")}'`} wrap /></section>
  </div>`;
}
