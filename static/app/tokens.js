// Tokens of channels: who may do what, for how long.
import { html, useState } from "./html.js";
import { channelName, channels, createToken, isAdmin, revokeToken, tokens } from "./api.js";
import { dateTime } from "./format.js";
import { session } from "./session.js";
import { useAction, useResource } from "./store.js";
import { Ago, Badge, Check, Confirm, Dialog, Empty, Field, Head, Icon, Loaded, Secret, SelectField, TextField, Trouble, toast, useForm } from "./ui.js";

const SCOPES = [
  ["subscribe", "read and stream events"],
  ["publish", "publish events"],
  ["manage", "change the channel, its webhooks, sources and tokens"],
];

const KINDS = new Map([["map:*", "All maps"], ["organization:*", "All organizations"]]);
/** The choice of more than one channel. */
const SEVERAL = "several";

export function Tokens() {
  const list = useResource(async () => {
    const [all, of] = await Promise.all([tokens(), channels()]);
    const names = new Map(of.map((channel) => [channelName(channel), channel.name]));
    const title = (name) => names.get(name) ?? KINDS.get(name) ?? name;
    return all.map((token) => ({ ...token, channelTitle: (token.channels ?? [token.channel]).map(title).join(", ") }));
  }, []);
  const [creating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState(null);
  const revoke = useAction(async () => {
    await revokeToken(revoking.id);
    toast("The token is revoked; its streams end within a second");
    setRevoking(null);
    list.reload();
  });
  const own = session.value.who?.id;
  return html`
    <${Head} title="Tokens" below=${html`<p>Each belongs to one channel, or to several, and may do what its scopes say.</p>`}>
      <button type="button" class="button main" onClick=${() => setCreating(true)}><${Icon} name="plus" />New token</button>
    <//>
    <${Loaded} of=${list}>${(data) => (data.length === 0
      ? html`<div class="card">
        <${Empty} icon="tokens" title="No tokens yet">A channel's first token is made with it. Others can be made here, with fewer scopes and an end.<//></div>`
      : html`<ul class="list card">${data.map((token) => html`<li key=${token.id} class="token-row">
          <div class="who"><strong class="anywhere">${token.name ?? "Without a name"}</strong>
            ${token.id === own && html` <${Badge} kind="accent">yours<//>`}<code class="soft small clip">${token.id}</code></div>
          <span class="small clip" title=${token.channelTitle}>${token.channelTitle}</span>
          <span class="scopes">${token.scopes.map((scope) => html`<${Badge} key=${scope}>${scope}<//>`)}</span>
          <span class="soft small">
            ${token.expires_at ? html`<span title=${dateTime(token.expires_at)}>expires <${Ago} iso=${token.expires_at} />
            </span>` : "no end"}<br />made <${Ago} iso=${token.inserted_at} /></span>
          <button type="button" class="button small bad" aria-label=${`Revoke ${token.name ?? token.id}`} onClick=${() => setRevoking(token)}>Revoke</button>
        </li>`)}</ul>`)}<//>
    ${creating && html`<${CreateToken} onClose=${() => setCreating(false)} onMade=${list.reload} />`}
    ${revoking && html`<${Confirm} title=${`Revoke ${revoking.name ?? revoking.id}?`} action="Revoke" busy=${revoke.busy} error=${revoke.error}
      onConfirm=${revoke.run} onClose=${() => setRevoking(null)}>
      <p>Whoever uses it is cut off within a second.${revoking.id === own ? " It is the token that you are logged in with." : ""}</p>
    <//>`}`;
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
