// Tokens of channels: who may do what, for how long.
import { html, useState } from "./html.js";
import { changeToken, channelName, channels, createToken, isAdmin, revokeToken, tokens, whoseToken } from "./api.js";
import { dateTime, plural } from "./format.js";
import { Holder } from "./names.js";
import { replace } from "./route.js";
import { session } from "./session.js";
import { useAction, useResource } from "./store.js";
import { Ago, Badge, Check, Confirm, Dialog, Empty, Field, Head, Icon, Loaded, Secret, SelectField, TextField, Trouble, toast, useForm } from "./ui.js";

const SCOPES = [
  ["subscribe", "read and stream events"],
  ["publish", "publish events"],
  ["manage", "change the channel, its webhooks, sources and tokens"],
];

const KINDS = new Map([["map:*", "All maps"], ["organization:*", "All organizations"]]);
/** A longer word is looked for in ids as well. */
const ID_PART = 5;
/** With more tokens than this there is a field to search them. */
const SEARCH_FROM = 1;
/** What looks like a token itself, and not like what it is called. */
const TOKEN_TEXT = /^st_[\w-]{20,}$/;
/** The choice of more than one channel. */
const SEVERAL = "several";

export function Tokens({ query }) {
  const list = useResource(async () => {
    const [all, of] = await Promise.all([tokens(), channels()]);
    const names = new Map(of.map((channel) => [channelName(channel), channel.name]));
    const title = (name) => names.get(name) ?? KINDS.get(name) ?? name;
    return all.map((token) => ({ ...token, channelTitle: (token.channels ?? [token.channel]).map(title).join(", ") }));
  }, []);
  const [creating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState(null);
  const [changing, setChanging] = useState(null);
  const find = query.get("find") ?? "";
  const revoke = useAction(async () => {
    await revokeToken(revoking.id);
    toast("The token is revoked; its streams end within a second");
    setRevoking(null);
    // what was looked for is gone
    if (find && matching(list.data ?? [], find).length <= 1) replace(["tokens"], {});
    list.reload();
  });
  const lookup = useAction(async (text) => {
    const id = await whoseToken(text);
    const known = list.data?.some((token) => token.id === id);
    if (known) replace(["tokens"], { find: id });
    else toast(id === "admin" ? "That is the admin token, which the server's settings hold" : "No token has this text; it may be revoked already", "bad");
  });
  const search = ({ target }) => {
    if (!TOKEN_TEXT.test(target.value.trim())) return replace(["tokens"], { find: target.value });
    // a secret must not stand in an address
    lookup.run(target.value.trim());
    target.value = find;
    return undefined;
  };
  const own = session.value.who?.id;
  return html`
    <${Head} title="Tokens" below=${html`<p>Each belongs to one channel, or to several, and may do what its scopes say.</p>`}>
      <button type="button" class="button main" onClick=${() => setCreating(true)}><${Icon} name="plus" />New token</button>
    <//>
    <${Loaded} of=${list}>${(all) => {
      const data = matching(all, find);
      return all.length === 0
      ? html`<div class="card">
        <${Empty} icon="tokens" title="No tokens yet">A channel's first token is made with it. Others can be made here, with fewer scopes and an end.<//></div>`
      : html`${(all.length > SEARCH_FROM || find) && html`<div class="filter-field"><${Field} label="Search" hint=${find ? `${plural(data.length, "token")} of ${all.length}` : "By name, channel, scope or id. Paste a token that has leaked to find out which it is."} problem=${lookup.error?.message}>
        ${(tied) => html`<input ...${tied} type="search" value=${find} onInput=${search} />`}<//></div>`}
      ${data.length === 0 ? html`<div class="card"><${Empty} icon="search" title="No token is like that">Search for a part of its name, its channel, a scope or its id.<//></div>` : html`<ul class="list card">${data.map((token) => html`<li key=${token.id} class="token-row">
          <div class="who"><strong class="anywhere"><bdi>${token.name ?? "Without a name"}</bdi></strong>
            ${token.id === own && html` <${Badge} kind="accent">yours<//>`}<code class="soft small clip">${token.id}</code></div>
          <span class="small clip" title=${token.channelTitle}><bdi>${token.channelTitle}</bdi></span>
          <span class="scopes">${token.scopes.map((scope) => html`<${Badge} key=${scope}>${scope}<//>`)}</span>
          <span class="soft small">
            ${token.expires_at ? html`<span title=${dateTime(token.expires_at)}>expires <${Ago} iso=${token.expires_at} />
            </span>` : "no end"}<br />${token.last_used_at ? html`used <${Ago} iso=${token.last_used_at} />` : html`not used yet`}</span>
          <span class="buttons"><button type="button" class="button small" aria-label=${`Change ${token.name ?? token.id}`} onClick=${() => setChanging(token)}>Change</button>
          <button type="button" class="button small bad" aria-label=${`Revoke ${token.name ?? token.id}`} onClick=${() => setRevoking(token)}>Revoke</button></span>
        </li>`)}</ul>`}`;
    }}<//>
    ${changing && html`<${ChangeToken} token=${changing} names=${new Map(list.data.map(({ id, name }) => [id, name]))} onClose=${() => setChanging(null)} onDone=${() => { setChanging(null); list.reload(); }} />`}
    ${creating && html`<${CreateToken} onClose=${() => setCreating(false)} onMade=${list.reload} />`}
    ${revoking && html`<${Confirm} title=${`Revoke ${revoking.name ?? revoking.id}?`} action="Revoke" busy=${revoke.busy} error=${revoke.error}
      onConfirm=${revoke.run} onClose=${() => setRevoking(null)}>
      <p>Whoever uses it is cut off within a second.${revoking.id === own ? " It is the token that you are logged in with." : ""}</p>
    <//>`}`;
}

/** Tokens in which every word of the search occurs. */
function matching(all, find) {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  // an id has every letter and digit somewhere in it, so that only a part of some length says anything
  const text = ({ name, channelTitle, channel, scopes }) => [name, channelTitle, channel?.split(":")[0], ...scopes].join(" ").toLowerCase();
  const has = (token, word) => text(token).includes(word) || (word.length > ID_PART && token.id.toLowerCase().includes(word));
  return words.length ? all.filter((token) => words.every((word) => has(token, word))) : all;
}

const local = (iso) => (iso ? new Date(Date.parse(iso) - new Date(iso).getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "");

/** Another name, or another end. What a token may do cannot be changed. */
function ChangeToken({ token, names, onClose, onDone }) {
  const form = useForm({ name: token.name ?? "", expires_at: local(token.expires_at) });
  const save = useAction(async () => {
    const { name, expires_at } = form.values;
    try {
      await changeToken(token.id, { name: name.trim() || null, ...(expires_at === local(token.expires_at) ? {} : { expires_at: expires_at ? new Date(expires_at).toISOString() : null }) });
      toast("Saved");
      onDone();
    } catch (error) {
      form.fail(error);
    }
  });
  return html`<${Dialog} title="Change the token" onClose=${onClose}>
    <form class="form" onSubmit=${(event) => { event.preventDefault(); save.run(); }}>
      <${TextField} form=${form} name="name" label="Name" hint="So that you know later who has it." maxlength="200" />
      <${Field} label="Expires" hint="Left empty, it has no end. The streams that it has opened go by it." problem=${form.problems.expires_at}>
        ${(tied) => html`<input ...${tied} type="datetime-local" value=${form.values.expires_at} onInput=${(event) => form.set("expires_at", event.target.value)} />`}<//>
      <p class="soft small">Made ${dateTime(token.inserted_at)}${token.created_by ? html` by <${Holder} id=${token.created_by} names=${names} />` : ""}.</p>
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button main" disabled=${save.busy}>Save</button></footer>
    </form>
  <//>`;
}

function CreateToken({ onClose, onMade }) {
  const list = useResource(channels, []);
  return html`<${Dialog} title="New token" onClose=${onClose}>
    <${Loaded} of=${list}>${(data) => html`<${TokenForm} channels=${data} onClose=${onClose} onMade=${onMade} />`}<//>
  <//>`;
}

function TokenForm({ channels: list, onClose, onMade }) {
  const form = useForm({ channel: list.length ? channelName(list[0]) : "", channels: [], name: "", scopes: ["subscribe"], expires_at: "" });
  const [made, setMade] = useState(null);
  const several = form.values.channel === SEVERAL;
  // whoever manages a channel manages that one
  const scopes = form.values.scopes.filter((scope) => !several || scope !== "manage");
  const create = useAction(async () => {
    const { channel, channels: names, name, expires_at } = form.values;
    try {
      setMade(await createToken({ ...(several ? { channels: names } : { channel }), scopes, ...(name.trim() ? { name: name.trim() } : {}), ...(expires_at ? { expires_at: new Date(expires_at).toISOString() } : {}) }));
      onMade();
    } catch (error) {
      form.fail(error);
    }
  });
  if (made) {
    return html`<${Secret} text=${made.token}>Copy it now: it is shown only once.<//>
      <footer><button type="button" class="button main" onClick=${onClose}>Done</button></footer>`;
  }
  const submit = (event) => {
    event.preventDefault();
    create.run();
  };
  const choose = (value, on) => form.set("channels", on ? [...form.values.channels, value] : form.values.channels.filter((other) => other !== value));
  const flip = (scope, on) => form.set("scopes", SCOPES.map(([name]) => name).filter((name) => (name === scope ? on : form.values.scopes.includes(name))));
  return html`<form class="form" onSubmit=${submit}>
    <${SelectField} form=${form} name="channel" label="Channel" options=${[...list.map((of) => [channelName(of), of.name]), ...(isAdmin() ? [[SEVERAL, "Several channels"]] : [])]} />
    ${several && html`<fieldset><legend>Channels</legend><div class="form tight">
      ${[...KINDS, ...list.map((of) => [channelName(of), of.name])].map(([value, title]) => html`<${Check} key=${value} checked=${form.values.channels.includes(value)}
        onChange=${(on) => choose(value, on)}>${title}${KINDS.has(value) && html` <span class="soft">also those that are made later</span>`}<//>`)}</div>
      ${form.problems.channels && html`<p class="problem">${form.problems.channels}</p>`}</fieldset>`}
    <${TextField} form=${form} name="name" label="Name (optional)" hint="So that you know later who has it." />
    <fieldset><legend>Scopes</legend><div class="form tight">
      ${SCOPES.filter(([scope]) => !several || scope !== "manage").map(([scope, what]) => html`<${Check} key=${scope} checked=${scopes.includes(scope)}
        onChange=${(on) => flip(scope, on)}><strong>${scope}</strong> <span class="soft">${what}</span><//>`)}</div>
      ${form.problems.scopes && html`<p class="problem">${form.problems.scopes}</p>`}</fieldset>
    <${Field} label="Expires (optional)" problem=${form.problems.expires_at}>
      ${(tied) => html`<input ...${tied} type="datetime-local" value=${form.values.expires_at}
        onInput=${(event) => form.set("expires_at", event.target.value)} />`}<//>
    ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
    <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
      <button type="submit" class="button main" disabled=${create.busy || scopes.length === 0 || (several && form.values.channels.length === 0)}>Create</button></footer>
  </form>`;
}
