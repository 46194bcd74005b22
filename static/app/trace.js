// Where an event came from and who got it, asked for when somebody wants to know.
import { html, useEffect, useState } from "./html.js";
import { bare, trace } from "./api.js";
import { dateTime, duration, plural } from "./format.js";
import { to } from "./route.js";
import { useResource } from "./store.js";
import { Badge, Bones, Trouble } from "./ui.js";

const KINDS = { token: "token", jwt: "JWT", admin: "the admin", source: "source", server: "the server itself" };
const STATUS = { delivered: "good", retrying: "wait", dead: "bad" };
const WORDS = { not_kept: "past, not kept", earlier: "made later", filtered: "filtered out", unknown: "not running" };

export function Trace({ id }) {
  const [open, setOpen] = useState(false);
  return html`<details class="more" onToggle=${(event) => { event.stopPropagation(); setOpen(event.target.open); }}>
    <summary>Where it came from, who got it</summary>
    ${open && html`<${Shown} id=${id} />`}
  </details>`;
}

function Shown({ id }) {
  const found = useResource(() => trace(id), [id]);
  const waits = found.data?.webhooks.some(({ status }) => status === "pending" || status === "retrying");
  useEffect(() => {
    if (!waits) return undefined;
    const timer = setTimeout(found.reload, 3000);
    return () => clearTimeout(timer);
  }, [found.data]);
  if (found.error) return html`<${Trouble} error=${found.error} onRetry=${found.reload} />`;
  if (!found.data) return html`<${Bones} />`;
  const { origin, channel, durableAt, appendedAt, timestamp, sessions, webhooks, validated } = found.data;
  const [kind, ...rest] = channel.split(":");
  const took = durableAt ? Date.parse(durableAt) - Date.parse(appendedAt) : null;
  return html`<dl class="facts trace">
    <dt>Channel</dt><dd><a href=${to([kind, rest.join(":")], { event: bare(id) })}>${channel}</a></dd>
    <dt>Published by</dt><dd>
      ${origin ? html`${KINDS[origin.kind] ?? origin.kind}${origin.name ? html` <strong>${origin.name}</strong>` : ""}${["token", "source", "jwt"].includes(origin.kind) && html` <code class="soft">${origin.by}</code>`}` : html`<span class="soft">not known any more</span>`}</dd>
    <dt>Happened</dt><dd>${dateTime(timestamp)}</dd>
    <dt>Stored</dt><dd>${dateTime(appendedAt)}${took === null ? "" : `, durable ${took < 1 ? "at once" : `after ${duration(took)}`}`}</dd>
    ${validated !== null && validated !== undefined && html`<dt>Schema</dt>
      <dd>${validated ? "has what its source asks for" : "does not have what its source asks for"}</dd>`}
    <dt>Streams</dt><dd>${sessions === null ? html`<span class="soft">not counted any more</span>` : `handed to ${plural(sessions, "stream")}`}</dd>
    <dt>Webhooks</dt><dd>${webhooks.length === 0 ? html`<span class="soft">none</span>` : html`<ul class="passages">
      ${webhooks.map((hook) => html`<li key=${hook.id}>
      <${Badge} kind=${STATUS[hook.status] ?? ""}>${WORDS[hook.status] ?? hook.status}<//> <span class="anywhere">${hook.url ?? hook.id}</span>
      ${hook.deliveries.flatMap((delivery) => delivery.attempts.map((attempt) => html`<span key=${`${delivery.id}-${attempt.number}-${attempt.startedAt}`} class="soft small try">${attempt.number}. ${attempt.statusCode ?? attempt.errorCode?.replaceAll("_", " ")} in ${duration(attempt.durationMs)}</span>`))}
    </li>`)}</ul>`}</dd>
  </dl>`;
}
