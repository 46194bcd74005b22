// The settings of a channel: its names, the switch over its webhooks, its end.
import { html, useState } from "./html.js";
import { changeChannel, deleteChannel, toggleWebhooks } from "./api.js";
import { dateTime } from "./format.js";
import { go, replace } from "./route.js";
import { useAction } from "./store.js";
import { Check, Confirm, SelectField, TextField, Trouble, copy, toast, useForm } from "./ui.js";

export function Settings({ of, reload }) {
  const names = of.eventNames === true ? "true" : of.eventNames === false ? "false" : "null";
  const form = useForm({ name: of.name, slug: of.slug, event_names: names });
  const [deleting, setDeleting] = useState(false);
  const map = of.kind === "map";
  const save = useAction(async () => {
    const { name, slug, event_names } = form.values;
    try {
      const changed = await changeChannel(of, map ? { name, slug, event_names: JSON.parse(event_names) } : { name });
      form.fail(null);
      toast("Saved");
      if (map && changed.slug !== of.slug) replace([of.kind, changed.slug, "settings"]);
      else reload();
    } catch (error) {
      form.fail(error);
    }
  });
  const remove = useAction(async () => {
    await deleteChannel(of);
    toast(`${of.name} is deleted`);
    go(["channels"]);
  });
  const toggle = useAction(async (enabled) => {
    await toggleWebhooks(of, enabled);
    reload();
  });
  const submit = (event) => {
    event.preventDefault();
    save.run();
  };
  return html`<div class="stack">
    <form class="card padded form" onSubmit=${submit}>
      <${TextField} form=${form} name="name" label="Name" required />
      ${map && html`<${TextField} form=${form} name="slug" label="Slug" required hint="Stands in addresses. Those with the old one stop working." />`}
      ${map && html`<${SelectField} form=${form} name="event_names" label="Names of events on its stream"
        hint="Bots that read the type from an event: line need it; onmessage of browsers only sees events without."
        options=${[["null", "As the server's setting says"], ["true", "An event: line with the type"], ["false", "Without names"]]} />`}
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <div class="buttons"><button type="submit" class="button main" disabled=${save.busy}>Save</button></div>
    </form>
    ${map && html`<div class="card padded form">
      <${Check} checked=${of.webhooksEnabled} disabled=${toggle.busy} onChange=${toggle.run}><strong>Webhooks deliver</strong><br />
        <span class="soft">The switch over all webhooks of this map. What happens while it is off waits in the log.</span><//>
      ${toggle.error && html`<${Trouble} error=${toggle.error} />`}
    </div>`}
    <div class="card padded form">
      <dl class="facts">
        <dt>Id</dt><dd><code>${of.id}</code> <button type="button" class="button small bare" onClick=${() => copy(of.id, "Id copied")}>Copy</button></dd>
        <dt>Made</dt><dd>${dateTime(of.insertedAt)}</dd>
      </dl>
      ${of.id !== "system" && html`<div class="buttons">
        <button type="button" class="button bad" onClick=${() => setDeleting(true)}>Delete this channel</button></div>`}
    </div>
    ${deleting && html`<${Confirm} title=${`Delete ${of.name}?`} action="Delete" word=${of.slug} busy=${remove.busy} error=${remove.error}
      onConfirm=${remove.run} onClose=${() => setDeleting(false)}>
      <p>Its tokens are void at once, its streams end, its webhooks and its history are gone. There is no way back.</p>
    <//>`}
  </div>`;
}
