// One channel: its live events, a form that publishes, and its settings.
import { html, useEffect, useState } from "./html.js";
import { FEED, changeChannel, channelName, channels, deleteChannel, getChannel, may, publish, toggleWebhooks, typesOf } from "./api.js";
import { dateTime } from "./format.js";
import { Live } from "./live.js";
import { go, replace, to } from "./route.js";
import { server } from "./session.js";
import { useAction, useResource } from "./store.js";
import { channelAddress } from "./channels.js";
import { Badge, Check, Code, Confirm, Empty, Field, Head, Loaded, SelectField, TextField, Trouble, copy, toast, useForm } from "./ui.js";

const CHANNELS_MAX = 100; // that one stream follows

export function Channel({ kind, id, view, query }) {
  const found = useResource(() => getChannel(kind, id), [kind, id]);
  const head = html`<${Head} title=${id} crumbs=${[["Channels", to(["channels"])]]} />`;
  return html`<${Loaded} of=${found} head=${head}>
    ${(of) => html`<${Shown} of=${of} view=${view ?? "live"} query=${query} reload=${found.reload} />`}<//>`;
}

function Shown({ of, view, query, reload }) {
  // only the server itself publishes there, and it cannot do without
  const own = of.kind === "organization" && of.id === "system";
  const tabs = [["live", "Live events", true], ["publish", "Publish", may("publish") && !own], ["settings", "Settings", may("manage")]];
  useEffect(() => void (document.title = `${of.name} · Stentor`), [of.name]);
  return html`<div>
    <${Head} title=${of.name} crumbs=${[["Channels", to(["channels"])]]} below=${html`<p class="small">
      <${Badge}>${of.kind === "map" ? "Map" : "Organization"}<//> <code>${of.slug}</code></p>`}>
      ${may("manage") && html`<a class="button" href=${to(["webhooks"], { channel: `${of.kind}:${of.id}` })}>Webhooks</a>`}
    <//>
    <nav class="tabs" aria-label="Parts of the channel">
      ${tabs.filter(([, , allowed]) => allowed).map(([key, text]) => html`<a key=${key} href=${channelAddress(of, ...(key === "live" ? [] : [key]))} aria-current=${key === view ? "page" : undefined}>${text}</a>`)}
    </nav>
    ${view === "publish" ? html`<${Publish} of=${of} />` : view === "settings" ? html`<${Settings} of=${of} reload=${reload} />` : html`<${ChannelLive} of=${of} query=${query} />`}
  </div>`;
}

// ---- live ------------------------------------------------------------------------------------------------------

/** The filter stands in the address, so that it can be kept and sent to others. */
function ChannelLive({ of, query }) {
  const filter = {
    events: query.get("events")?.split(",").filter(Boolean) ?? [],
    expression: query.get("filter") ?? "",
    session: query.get("session") ?? "",
  };
  const path = [of.kind, of.kind === "map" ? of.slug : of.id];
  const onFilter = ({ events, expression, session }) => replace(path, { events: events?.join(","), filter: expression, session });
  if (!may("subscribe")) return html`<div class="card">
    <${Empty} icon="channels" title="This token may not read events">It lacks the scope <code>subscribe</code>.<//></div>`;
  const empty = html`<${Empty} icon="channels"
    title="Listening">The next event appears here the moment it is stored. ${may("publish") && html`<a href=${channelAddress(of, "publish")}>Publish one</a> to see it.`}<//>`;
  return html`<${Live} channel=${{ kind: of.kind, id: of.id }} filter=${filter} onFilter=${onFilter} empty=${empty} />`;
}

/** The events of all channels, in the one order that the log has. */
export function Feed({ query }) {
  const filter = { events: query.get("events")?.split(",").filter(Boolean) ?? [], expression: query.get("filter") ?? "", session: "" };
  const chosen = query.get("channels")?.split(",").filter(Boolean) ?? [];
  const at = ({ events, expression }, names) => replace(["feed"], { channels: names.join(","), events: events?.join(","), filter: expression });
  const below = chosen.length ? "The events of the chosen channels, in the one order that the log has." : "Every event that this token may read, in the one order that the log has.";
  return html`
    <${Head} title=${chosen.length ? "Several channels" : "All channels"} crumbs=${[["Channels", to(["channels"])]]} below=${html`<p>${below}</p>`}>
      <${ChannelPicker} chosen=${chosen} onChoose=${(names) => at(filter, names)} />
    <//>
    <${Live} channel=${chosen.length ? { ...FEED, channels: chosen } : FEED} filter=${filter} onFilter=${(next) => at(next, chosen)} />`;
}

/** Which channels are followed together; none chosen: all. */
function ChannelPicker({ chosen, onChoose }) {
  const list = useResource(channels, []);
  const known = (list.data ?? []).map((of) => [channelName(of), of.name]);
  const names = new Map([["map:*", "All maps"], ["organization:*", "All organizations"], ...known]);
  // what the address names and the list does not have can be taken away again
  for (const name of chosen) if (!names.has(name)) names.set(name, name);
  const flip = (name, on) => onChoose(on ? [...chosen, name] : chosen.filter((other) => other !== name));
  return html`<details class="picker">
    <summary class="button small">Channels${chosen.length > 0 && html`<span class="badge accent">${chosen.length}</span>`}</summary>
    <div class="picked card" role="group" aria-label="Follow only these channels">
      ${[...names].map(([name, title]) => html`<label key=${name}><input type="checkbox" checked=${chosen.includes(name)}
        disabled=${!chosen.includes(name) && chosen.length >= CHANNELS_MAX} onChange=${(event) => flip(name, event.target.checked)} />
        <span class="clip">${title}</span></label>`)}
    </div>
  </details>`;
}

// ---- publish ---------------------------------------------------------------------------------------------------

const PAYLOAD = '{\n  "name": "value"\n}';

function Publish({ of }) {
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

// ---- settings --------------------------------------------------------------------------------------------------

function Settings({ of, reload }) {
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
