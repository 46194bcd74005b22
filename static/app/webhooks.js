// All webhooks of a channel, or of every channel: where they go and how they fare.
import { html, useEffect, useState } from "./html.js";
import { channelName, channels, toggleWebhooks } from "./api.js";
import { notices } from "./notices.js";
import { replace, to } from "./route.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Badge, Dialog, Empty, Field, Head, Icon, Loaded, Secret, Trouble, toast } from "./ui.js";
import { listWebhooks } from "./webhook-api.js";
import { WebhookForm } from "./webhook-form.js";

const REFRESH_MS = 10_000;
const CHANNELS_MAX = 30; // channels whose webhooks are listed together

const HEALTH = { healthy: ["good", "Healthy"], degraded: ["wait", "Degraded"], probing: ["wait", "Probing"], paused: ["", "Paused"], disabled: ["bad", "Disabled"] };

export function Health({ hook }) {
  const [kind, word] = HEALTH[hook.health] ?? ["", hook.health];
  return html`<${Badge} kind=${kind}>${word}<//>`;
}

export const webhookAddress = (hook) => to(["webhook", hook.of.kind, hook.of.id, hook.id]);

/** The address without what may be a secret in it: the host stands out. */
export function Target({ url }) {
  const [, host, path] = /^https?:\/\/([^/?#]+)(.*)$/.exec(url) ?? [null, url, ""];
  return html`<span class="target"><strong>${host}</strong><span class="soft">${path}</span></span>`;
}

export function Webhooks({ query }) {
  const list = useResource(channels, []);
  return html`<${Loaded} of=${list} head=${html`<${Head} title="Webhooks" />`}>
    ${(data) => html`<${Shown} channels=${data} chosen=${query.get("channel") ?? ""} reloadChannels=${list.reload} />`}<//>`;
}

function Shown({ channels: all, chosen, reloadChannels }) {
  const [creating, setCreating] = useState(false);
  const named = all.filter((of) => channelName(of) === chosen || `${of.kind}:${of.slug}` === chosen);
  const shown = (chosen ? named : all).slice(0, CHANNELS_MAX);
  const key = shown.map(channelName).join();
  const list = useResource(async () => (await Promise.all(shown.map(listWebhooks))).flat(), [key]);
  useInterval(list.reload, REFRESH_MS);
  useEffect(() => {
    let newest = notices.value.rows[0]?.id;
    // the server said something about webhooks: what is shown is old
    return notices.listen(({ rows: [row] }) => {
      if (row && row.id !== newest && row.type.startsWith("webhook.")) list.reload();
      newest = row?.id;
    });
  }, [list.reload]);
  const off = shown.filter((of) => of.webhooksEnabled === false && (list.data ?? []).some((hook) => hook.of.id === of.id));
  return html`<div>
    <${Head} title="Webhooks" below=${html`<p>Each posts the events of a channel to an address, signed, and tries again until it arrives.</p>`}>
      <button type="button" class="button main" disabled=${!all.length} onClick=${() => setCreating(true)}>
        <${Icon} name="plus" />New webhook</button>
    <//>
    <div class="stack">
      ${all.length > 1 && html`<div class="filter-field"><${Field} label="Channel">
        ${(tied) => html`<select ...${tied} onChange=${(event) => replace(["webhooks"], { channel: event.target.value })}>
        <option value="" selected=${!chosen}>All channels</option>
        ${all.map((of) => html`<option key=${channelName(of)} value=${channelName(of)} selected=${named.includes(of)}>${of.name}</option>`)}
      </select>`}<//></div>`}
      ${off.map((of) => html`<${Off} key=${of.id} of=${of} onOn=${reloadChannels} />`)}
      ${!chosen && all.length > CHANNELS_MAX && html`<p
        class="hintbox">The webhooks of the first ${CHANNELS_MAX} channels are listed. Choose a channel to see those of others.</p>`}
      <${Loaded} of=${list}>${(hooks) => (hooks.length === 0
        ? html`<div class="card">
          <${Empty} icon="webhooks" title="No webhooks yet">Post events to a server of yours, or to Discord or Slack, without a service in between.<//></div>`
        : html`<ul class="list card">${hooks.map((hook) => html`<${Row} key=${`${hook.of.id}/${hook.id}`} hook=${hook} />`)}</ul>`)}<//>
    </div>
    ${creating && html`<${Create} channels=${shown.length ? shown : all} onClose=${() => setCreating(false)} onMade=${list.reload} />`}
  </div>`;
}

function Row({ hook }) {
  const reason = hook.disabledReason ?? (hook.health === "healthy" || hook.health === "paused" ? null : hook.lastError);
  return html`<li class="hook-row">
    <div class="who"><a class="title clip" href=${webhookAddress(hook)}><${Target} url=${hook.url} /></a>
      <span class="soft small clip"><bdi>${hook.of.name}</bdi> · ${hook.format} · ${hook.events.includes("*") ? "all types" : hook.events.join(", ")}</span></div>
    <div class="how"><${Health} hook=${hook} />${reason && html`<span class="soft small clip" title=${reason}>${reason}</span>`}</div>
    <span class="soft small when"><${Ago} iso=${hook.lastDeliveryAt} none="no delivery yet" /></span>
  </li>`;
}

/** Webhooks of a map are off until somebody switches them on. */
export function Off({ of, onOn }) {
  const on = useAction(async () => {
    await toggleWebhooks(of, true);
    toast(`Webhooks of ${of.name} deliver now`);
    onOn();
  });
  return html`<div class="hintbox off">
    <p>Webhooks of <strong>${of.name}</strong> are switched off; what happens meanwhile waits in the log.</p>
    <button type="button" class="button small" disabled=${on.busy} onClick=${on.run}>Switch on</button>
      ${on.error && html`<${Trouble} error=${on.error} />`}</div>`;
}

function Create({ channels: list, onClose, onMade }) {
  const [name, setName] = useState(channelName(list[0]));
  const [made, setMade] = useState(null);
  const of = list.find((channel) => channelName(channel) === name);
  if (made) {
    return html`<${Dialog} title="The webhook is there" onClose=${onClose}>
      ${made.secret ? html`<${Secret} text=${made.secret}>The secret that signs each delivery. The receiver needs it; it is shown only now.<//>` : html`<p>It was made without a secret: deliveries are not signed.</p>`}
      <footer><button type="button" class="button" onClick=${onClose}>Done</button>
        <a class="button main" href=${webhookAddress(made)} onClick=${onClose}>Open it and send a test</a></footer>
    <//>`;
  }
  const done = (hook) => {
    setMade(hook);
    onMade();
  };
  return html`<${Dialog} title="New webhook" wide onClose=${onClose}>
    ${list.length > 1 && html`<${Field} label="Channel">
      ${(tied) => html`<select ...${tied} value=${name} onChange=${(event) => setName(event.target.value)}>
      ${list.map((channel) => html`<option key=${channelName(channel)}
        value=${channelName(channel)} selected=${channelName(channel) === name}>${channel.name}</option>`)}</select>`}<//>`}
    <${WebhookForm} key=${name} of=${of} onDone=${done} onClose=${onClose} />
  <//>`;
}
