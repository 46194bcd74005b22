// All webhooks of a channel, or of every channel: where they go and how they fare.
import { html, useEffect, useRef, useState } from "./html.js";
import { channelName, channels, toggleWebhooks } from "./api.js";
import { failure, plural } from "./format.js";
import { notices } from "./notices.js";
import { replace, to } from "./route.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Badge, Dialog, Empty, Field, Head, Icon, Loaded, Secret, Trouble, toast } from "./ui.js";
import { listWebhooks } from "./webhook-api.js";
import { WebhookForm } from "./webhook-form.js";
import { occurs } from "./words.js";

const REFRESH_MS = 10_000;
const CHANNELS_STEP = 30; // channels whose webhooks are asked for together
/** What does not deliver as it should comes first. */
const WORST = ["unavailable", "disabled", "probing", "degraded"];
/** Maps whose webhooks are off that are told one by one. */
const OFF_SHOWN = 1;
/** With more webhooks than this there is a field to search them. */
const SEARCH_FROM = 8;

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
    ${(data) => html`<${Shown} channels=${data} chosen=${query.get("channel") ?? ""} find=${query.get("find") ?? ""} reloadChannels=${list.reload} />`}<//>`;
}

function Shown({ channels: all, chosen, find, reloadChannels }) {
  const [creating, setCreating] = useState(false);
  const named = all.filter((of) => channelName(of) === chosen || `${of.kind}:${of.slug}` === chosen);
  const within = chosen ? named : all;
  const key = within.map(channelName).join();
  const asked = useRef(CHANNELS_STEP);
  useEffect(() => void (asked.current = CHANNELS_STEP), [key]);
  const list = useResource(async () => {
    const of = within.slice(0, asked.current);
    return { of, hooks: worstFirst((await Promise.all(of.map(listWebhooks))).flat()) };
  }, [key]);
  const more = useAction(() => {
    asked.current += CHANNELS_STEP;
    return list.reload();
  });
  // the more is asked for, the less often
  useInterval(list.reload, REFRESH_MS * Math.ceil((list.data?.of.length || 1) / CHANNELS_STEP));
  useEffect(() => {
    let newest = notices.value.rows[0]?.id;
    // the server said something about webhooks: what is shown is old
    return notices.listen(({ rows: [row] }) => {
      if (row && row.id !== newest && row.type.startsWith("webhook.")) list.reload();
      newest = row?.id;
    });
  }, [list.reload]);
  const { of: looked, hooks } = list.data ?? { of: [], hooks: [] };
  const rows = matching(hooks, find);
  const rest = within.length - looked.length;
  const off = within.slice(0, looked.length).filter((of) => of.webhooksEnabled === false && hooks.some((hook) => hook.of.id === of.id));
  const at = (change) => replace(["webhooks"], { channel: chosen, find, ...change });
  return html`<div>
    <${Head} title="Webhooks" below=${html`<p>Each posts the events of a channel to an address, signed, and tries again until it arrives.</p>`}>
      <button type="button" class="button main" disabled=${!all.length} onClick=${() => setCreating(true)}>
        <${Icon} name="plus" />New webhook</button>
    <//>
    <div class="stack">
      <div class="filter-fields">
        ${all.length > 1 && html`<div class="filter-field"><${Field} label="Channel">
          ${(tied) => html`<select ...${tied} onChange=${(event) => at({ channel: event.target.value })}>
          <option value="" selected=${!chosen}>All channels</option>
          ${all.map((of) => html`<option key=${channelName(of)} value=${channelName(of)} selected=${named.includes(of)}>${of.name}</option>`)}
        </select>`}<//></div>`}
        ${(hooks.length > SEARCH_FROM || find) && html`<div class="filter-field"><${Field} label="Search" hint=${find ? `${plural(rows.length, "webhook")} of ${hooks.length}` : "By name, address, type or health."}>
          ${(tied) => html`<input ...${tied} type="search" value=${find} onInput=${(event) => at({ find: event.target.value })} />`}<//></div>`}
      </div>
      ${off.length > OFF_SHOWN ? html`<details class="hintbox more"><summary>The webhooks of ${off.length} maps are switched off</summary>
        <div class="stack tight">${off.map((of) => html`<${Off} key=${of.id} of=${of} onOn=${reloadChannels} />`)}</div></details>`
      : off.map((of) => html`<${Off} key=${of.id} of=${of} onOn=${reloadChannels} />`)}
      <${Loaded} of=${list}>${() => html`
        ${hooks.length === 0
        ? html`<div class="card">
          <${Empty} icon="webhooks" title=${rest > 0 ? "No webhooks in these channels" : "No webhooks yet"}>Post events to a server of yours, or to Discord or Slack, without a service in between.<//></div>`
        : rows.length === 0 ? html`<div class="card"><${Empty} icon="search" title="No webhook is like that">Search for a part of its name, its address or its channel.<//></div>`
        : html`<ul class="list card">${rows.map((hook) => html`<${Row} key=${`${hook.of.id}/${hook.id}`} hook=${hook} />`)}</ul>`}
        ${rest > 0 && html`<div class="past"><p class="soft small">These are of the first ${looked.length} of ${all.length} channels.</p>
          <button type="button" class="button small" disabled=${more.busy} onClick=${more.run}>${more.busy ? "Loading…" : `Show those of ${Math.min(CHANNELS_STEP, rest)} more`}</button></div>`}`}<//>
    </div>
    ${creating && html`<${Create} channels=${within.length ? within : all} onClose=${() => setCreating(false)} onMade=${list.reload} />`}
  </div>`;
}

const rank = ({ health }) => (WORST.includes(health) ? WORST.indexOf(health) : WORST.length);
const worstFirst = (hooks) => hooks.sort((a, b) => rank(a) - rank(b));

/** Webhooks in which every word of the search occurs. */
function matching(hooks, find) {
  return hooks.filter(({ name, url, of, events, health, format }) => occurs(find, [name, url, of.name, of.slug, health, format, ...events]));
}

function Row({ hook }) {
  const reason = hook.disabledReason ?? (hook.health === "healthy" || hook.health === "paused" || !hook.lastError ? null : failure(hook.lastError));
  return html`<li class="hook-row">
    <div class="who"><a class="title clip" href=${webhookAddress(hook)}>${hook.name ? html`<bdi>${hook.name}</bdi>` : html`<${Target} url=${hook.url} />`}</a>
      <span class="soft small clip">${hook.name && html`<${Target} url=${hook.url} /> · `}<bdi>${hook.of.name}</bdi> · ${hook.format} · ${hook.events.includes("*") ? "all types" : hook.events.join(", ")}</span></div>
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
    <p>Webhooks of <strong><bdi>${of.name}</bdi></strong> are switched off; what happens meanwhile waits in the log.</p>
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
