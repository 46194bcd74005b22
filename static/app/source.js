// One source: what it takes in, live; how to send to it; what it refused; its settings.
import { html, useEffect, useState } from "./html.js";
import { channels, may } from "./api.js";
import { count, dateTime, plural } from "./format.js";
import { Live } from "./live.js";
import { go, replace, to } from "./route.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Badge, Confirm, Dialog, Empty, Field, Head, Loaded, Secret, SelectField, TextField, Trouble, copy, toast, useForm } from "./ui.js";
import { HowToSend } from "./source-snippets.js";
import { changeSource, deadLetters, deleteSource, getSource, isRefusing, rotateKey } from "./source-api.js";
import { Letters } from "./source-letters.js";
import { Rules, authenticationName, channelTitle, rules, schema, sourceAddress } from "./sources.js";

const REFRESH_MS = 10_000;
/** While somebody waits for the first event. */
const FIRST_MS = 3000;
/** More dead letters than this are not counted for the tab. */
const COUNTED = 100;

const head = html`<${Head} title="Source" crumbs=${[["Sources", to(["sources"])]]} />`;

export function Source({ id, view, query }) {
  const found = useResource(() => getSource(id), [id]);
  useInterval(found.reload, found.data?.eventsReceived === 0 ? FIRST_MS : REFRESH_MS);
  return html`<${Loaded} of=${found} head=${head}>
    ${(source) => html`<${Shown} source=${source} view=${view ?? "live"} query=${query} reload=${found.reload} />`}<//>`;
}

function Shown({ source, view, query, reload }) {
  const list = useResource(channels, []);
  const [dialog, setDialog] = useState(null);
  const close = () => setDialog(null);
  const title = source.name ?? source.id;
  useEffect(() => void (document.title = `${title} · Stentor`), [title]);
  const pause = useAction(async () => {
    await changeSource(source, { status: source.status === "paused" ? "active" : "paused" });
    reload();
  });
  const [kind, ...rest] = source.channel.split(":");
  const refused = useResource(() => deadLetters(source, { limit: COUNTED }), [source.id, source.eventsReceived]);
  useInterval(refused.reload, REFRESH_MS);
  const letters = refused.data?.data.length ?? 0;
  const tabs = [["live", "Live events"], ["send", "How to send"], ["refused", "Dead letters", letters > 0 && (refused.data.next ? `${letters}+` : letters)], ["settings", "Settings"]];
  return html`<div>
    <${Head} title=${html`<bdi>${title}</bdi>`} crumbs=${[["Sources", to(["sources"])]]}
      below=${html`<p class="badges">
        ${source.status === "paused" ? html`<${Badge}>Paused<//>` : html`<${Badge} kind="good">Active<//>`}<${Badge}>${authenticationName(source.authentication)}<//></p>`}>
      <button type="button" class="button" disabled=${pause.busy} onClick=${pause.run}>${source.status === "paused" ? "Go on" : "Pause"}</button>
      ${source.authentication !== "none" && html`<button type="button" class="button" onClick=${() => setDialog("rotate")}>Rotate key</button>`}
      <button type="button" class="button bad" onClick=${() => setDialog("delete")}>Delete</button>
    <//>
    ${pause.error && html`<${Trouble} error=${pause.error} />`}
    ${isRefusing(source) && html`<${Refusing} source=${source} onRotate=${() => setDialog("rotate")} />`}
    <dl class="facts card padded source-facts">
      <dt>Address</dt><dd><code>${source.url}</code> <button type="button" class="button small" aria-label="Copy the address" onClick=${() => copy(source.url)}>Copy</button></dd>
      <dt>Events go to</dt><dd><a href=${to([kind, rest.join(":")])}><bdi>${channelTitle(list.data ?? [], source.channel)}</bdi></a></dd>
      <dt>Received</dt><dd>${plural(source.eventsReceived, "event")}${source.lastEventAt && html`<span
        class="soft">, the last one <${Ago} iso=${source.lastEventAt} /></span>`}</dd>
      ${source.refusedSenders.requests > 0 && html`<dt>Not believed</dt><dd>${plural(source.refusedSenders.requests, "request")}<span
        class="soft">, the last one <${Ago} iso=${source.refusedSenders.lastAt} />${!isRefusing(source) && html`: <bdi class="anywhere">${source.refusedSenders.lastReason}</bdi>`}</span></dd>`}
    </dl>
    <nav class="tabs" aria-label="Parts of the source">
      ${tabs.map(([key, text, number]) => html`<a key=${key} href=${key === "live" ? sourceAddress(source) : to(["source", source.id, key])} aria-current=${key === view ? "page" : undefined}>${text}${number ? html` <span class="badge bad">${number}</span>` : ""}</a>`)}
    </nav>
    ${view === "send" ? html`<div class="card padded"><${HowToSend} source=${source} /></div>`
    : view === "refused" ? html`<${Letters} source=${source} onChanged=${() => { reload(); refused.reload(); }} />`
    : view === "settings" ? html`<${Settings} source=${source} onSaved=${reload} />`
    : html`<${Tail} source=${source} query=${query} onCame=${reload} />`}
    ${dialog === "rotate" && html`<${Rotate} source=${source} onClose=${close} />`}
    ${dialog === "delete" && html`<${Delete} source=${source} onClose=${close} />`}
  </div>`;
}

/** What came last was refused because nothing proved who sent it: why, and what helps. */
function Refusing({ source, onRotate }) {
  const { inARow, lastAt, lastReason, lastUserAgent } = source.refusedSenders;
  return html`<div class="trouble refusing" role="status">
    <p><strong>${inARow === 1 ? "The latest request was refused" : `The latest ${count(inARow)} requests were refused`}</strong>, <${Ago} iso=${lastAt} />${lastUserAgent && html` by <bdi class="mono">${lastUserAgent}</bdi>`}: <bdi>${lastReason}</bdi>.</p>
    <p>If that is your sender, it needs the key of this source. The key was shown only once: where it is lost, make a new one and give it to the sender, or enter here the one that the sender has.
      Such requests are counted and not kept, as anybody can make them; have it send them again afterwards. <a href=${to(["source", source.id, "send"])}>How to send</a></p>
    <button type="button" class="button small" onClick=${onRotate}>Change the key</button>
  </div>`;
}

/** What it takes in, as listeners get it. */
function Tail({ source, query, onCame }) {
  const filter = { events: query.get("events")?.split(",").filter(Boolean) ?? [], expression: query.get("filter") ?? "", session: "", until: query.get("until") ?? "" };
  const onFilter = ({ events, expression, until }) => replace(["source", source.id], { events: events?.join(","), filter: expression, until });
  if (!may("subscribe")) return html`<div class="card">
    <${Empty} icon="sources" title="This token may not read events">It lacks the scope <code>subscribe</code>.<//></div>`;
  const empty = html`<${Empty} icon="sources"
    title="Nothing has come in yet">What senders post appears here the moment it is stored. <a href=${to(["source", source.id, "send"])}>How to send</a><//>`;
  return html`<${Live} channel=${{ kind: "source", id: source.id, schema: Boolean(source.schema) }} filter=${filter} onFilter=${onFilter} onCame=${onCame} empty=${empty} />`;
}

// ---- settings --------------------------------------------------------------------------------------------------

const ruleText = (rule) => (rule.header ? `header: ${rule.header}` : (rule.pointer ?? rule));

function Settings({ source, onSaved }) {
  const form = useForm({
    name: source.name ?? "", eventType: [source.eventType ?? []].flat().map(ruleText).join("\n"), rateLimit: "",
    schema: Object.entries(source.schema ?? {}).map(([field, type]) => `${field}: ${type}`).join("\n"),
    requests: perMinute(source.rateLimit),
  });
  const save = useAction(async () => {
    const { name, eventType, schema: fields, requests } = form.values;
    try {
      await changeSource(source, {
        name: name.trim() || null, eventType: rules(eventType), schema: schema(fields),
        ...(requests === perMinute(source.rateLimit) ? {} : { rateLimit: requests ? { requests: Number(requests), perSeconds: 60 } : null }),
      });
      form.fail(null);
      toast("Saved");
      onSaved();
    } catch (error) {
      form.fail(error);
    }
  });
  return html`<form class="card padded form" onSubmit=${(event) => { event.preventDefault(); save.run(); }}>
    <${TextField} form=${form} name="name" label="Name" />
    <${Rules} form=${form} />
    <p class="soft small">How senders prove themselves and where events go cannot be changed; make another source for that.</p>
    ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
    <div class="buttons"><button type="submit" class="button main" disabled=${save.busy}>Save</button></div>
  </form>`;
}

/** A rate as requests a minute, for the field. */
const perMinute = (rate) => (rate ? count(Math.round((rate.requests * 60) / rate.perSeconds)).replace(/\D/g, "") : "");

function Rotate({ source, onClose }) {
  const form = useForm({ graceSeconds: "0", key: "", secretKey: "", apiKey: "", jwt: "" });
  const [made, setMade] = useState(null);
  const field = { api_key: "apiKey", jwt: "jwt" }[source.authentication] ?? "secretKey";
  const asymmetric = source.authentication === "jwt" && source.jwt?.algorithm !== "HS256";
  const rotate = useAction(async () => {
    const key = form.values.key.trim();
    try {
      setMade(await rotateKey(source, { graceSeconds: Number(form.values.graceSeconds), ...(key ? { [field]: field === "jwt" ? { key } : key } : {}) }));
    } catch (error) {
      form.fail(error);
    }
  });
  if (made) {
    return html`<${Dialog} title="The key is changed" onClose=${onClose}>
      ${made.secret && html`<${Secret} text=${made.secret}>Give it to the sender now: it is shown only once.<//>`}
      <p>${made.graceSeconds > 0 ? `The old one is taken too until ${dateTime(made.previousSecretExpiresAt)}.` : "The old one is not taken any more."}</p>
      <footer><button type="button" class="button main" onClick=${onClose}>Done</button></footer>
    <//>`;
  }
  return html`<${Dialog} title="Rotate the key" onClose=${onClose}>
    <form class="form" onSubmit=${(event) => { event.preventDefault(); rotate.run(); }}>
      <${SelectField} form=${form} name="graceSeconds" label="The old key is taken too for"
        options=${[["0", "not at all: it has leaked"], ["3600", "an hour"], ["86400", "a day"]]} />
      <${Field} label=${asymmetric ? "New public key (PEM)" : "New key (optional)"} problem=${form.problems[field]}
        hint=${asymmetric ? undefined : "Left empty, the server makes one and shows it once."}>
        ${(tied) => (asymmetric
          ? html`<textarea ...${tied} rows="4" required value=${form.values.key} onInput=${(event) => form.set("key", event.target.value)} />`
          : html`<input ...${tied} type="password" autocomplete="new-password" value=${form.values.key}
            onInput=${(event) => form.set("key", event.target.value)} />`)}<//>
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button main" disabled=${rotate.busy}>Rotate</button></footer>
    </form>
  <//>`;
}

function Delete({ source, onClose }) {
  const remove = useAction(async () => {
    await deleteSource(source);
    toast("The source is deleted");
    go(["sources"]);
  });
  return html`<${Confirm} title=${`Delete ${source.name ?? source.id}?`} action="Delete" busy=${remove.busy} error=${remove.error}
    onConfirm=${remove.run} onClose=${onClose}>
    <p>Senders get 404 from now on, and its dead letters are gone. Events that it took in stay in their channel.</p>
  <//>`;
}
