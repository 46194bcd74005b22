// Where an event came from and who got it, asked for when somebody wants to know.
import { html, useEffect, useState } from "./html.js";
import { bare, getChannel, may, trace } from "./api.js";
import { answered, dateTime, duration, outcome, plural } from "./format.js";
import { to } from "./route.js";
import { useResource } from "./store.js";
import { Badge, Bones, Trouble } from "./ui.js";

const KINDS = { token: "token", jwt: "JWT", admin: "the admin", source: "source", server: "the server itself" };
const STATUS = { delivered: "good", retrying: "wait", dead: "bad" };
const WORDS = { not_kept: "past, not kept", earlier: "made after the event", filtered: "filtered out", unknown: "not running" };

export function Trace({ id }) {
  const [open, setOpen] = useState(false);
  return html`<details class="more" onToggle=${(event) => { event.stopPropagation(); setOpen(event.target.open); }}>
    <summary>Where it came from, who got it</summary>
    ${open && html`<${Shown} id=${id} />`}
  </details>`;
}

function Shown({ id }) {
  const found = useResource(async () => {
    const data = await trace(id);
    // without its name a channel is shown by its id
    return { ...data, of: await getChannel(...data.channel.split(/:(.*)/s, 2)).catch(() => null) };
  }, [id]);
  const waits = found.data?.webhooks.some(({ status }) => status === "pending" || status === "retrying");
  useEffect(() => {
    if (!waits) return undefined;
    const timer = setTimeout(found.reload, 3000);
    return () => clearTimeout(timer);
  }, [found.data]);
  if (found.error) return html`<${Trouble} error=${found.error} onRetry=${found.reload} />`;
  if (!found.data) return html`<${Bones} />`;
  const { of, origin, channel, durableAt, appendedAt, timestamp, sessions, webhooks, validated } = found.data;
  const [kind, ...rest] = channel.split(":");
  const took = durableAt ? Date.parse(durableAt) - Date.parse(appendedAt) : null;
  return html`<dl class="facts trace">
    <dt>Channel</dt><dd><a href=${to([kind, rest.join(":")], { event: bare(id) })}><bdi>${of?.name ?? channel}</bdi></a></dd>
    <dt>Published by</dt><dd>
      ${origin ? html`${KINDS[origin.kind] ?? origin.kind}${["token", "source", "jwt"].includes(origin.kind) ? html` <${Origin} origin=${origin} />` : ""}` : html`<span class="soft">not known any more</span>`}</dd>
    <dt>Happened</dt><dd>${dateTime(timestamp)}</dd>
    <dt>Stored</dt><dd>${dateTime(appendedAt)}${took === null ? "" : `, durable ${took < 1 ? "at once" : `after ${duration(took)}`}`}</dd>
    ${validated !== null && validated !== undefined && html`<dt>Schema</dt>
      <dd>${validated ? "has what its source asks for" : "does not have what its source asks for"}</dd>`}
    <dt>Streams</dt><dd>${sessions === null ? html`<span class="soft">not counted any more</span>` : `handed to ${plural(sessions, "stream")}`}</dd>
    <dt>Webhooks</dt><dd>${webhooks.length === 0 ? html`<span class="soft">none</span>` : html`<ul class="passages">
      ${webhooks.map((hook) => html`<li key=${hook.id}>
      <${Badge} kind=${STATUS[hook.status] ?? ""}>${WORDS[hook.status] ?? outcome(hook.status)}<//> <${Receiver} hook=${hook} kind=${kind} channel=${rest.join(":")} />
      ${hook.deliveries.flatMap((delivery) => delivery.attempts.map((attempt) => html`<span key=${`${delivery.id}-${attempt.number}-${attempt.startedAt}`} class="soft small try">${attempt.number}. ${answered(attempt)} after ${duration(attempt.durationMs)}</span>`))}
    </li>`)}</ul>`}</dd>
  </dl>`;
}

/** Who published it, with the way to what they used. */
function Origin({ origin: { kind, by, name } }) {
  const id = by.replace(/^(source|jwt):/, "");
  if (kind === "jwt" || !may("manage")) return html`<strong class="anywhere"><bdi>${name ?? id}</bdi></strong>`;
  return html`<a class="anywhere" href=${kind === "source" ? to(["source", id]) : to(["tokens"], { find: id })}><bdi>${name ?? id}</bdi></a>`;
}

/** A webhook by its name, with the way to what it did with the event. */
function Receiver({ hook, kind, channel }) {
  const name = html`<bdi>${hook.name ?? hook.url ?? "a webhook"}</bdi>`;
  if (!may("manage")) return html`<span class="anywhere">${name}</span>`;
  const address = to(["webhook", kind, channel, hook.id], { delivery: hook.deliveries.at(-1)?.id });
  return html`<a class="anywhere" href=${address}>${name}</a>${hook.name && hook.url && html` <span class="soft small anywhere">${hook.url}</span>`}`;
}
