// All channels: what goes on in each, and how to make one.
import { html, useEffect, useState } from "./html.js";
import { channels, createChannel, isAdmin, may, stats } from "./api.js";
import { count, plural } from "./format.js";
import { go, to } from "./route.js";
import { hasSeveral, server } from "./session.js";
import { useAction, useResource } from "./store.js";
import { Badge, Code, Dialog, Empty, Field, Head, Icon, Loaded, Secret, SelectField, TextField, Trouble, useForm } from "./ui.js";
import { occurs } from "./words.js";

const SPARKS_MAX = 24; // channels whose counts are asked for
/** With more channels than this there is a field to search them. */
const SEARCH_FROM = 12;

export const channelAddress = (of, ...more) => to([of.kind, of.kind === "map" ? of.slug : of.id, ...more]);

export function Channels() {
  const list = useResource(channels, []);
  const [creating, setCreating] = useState(false);
  const create = html`${isAdmin() && html`<a class="button" href=${to(["connections"])}>Connections</a>`}${hasSeveral() && may("subscribe") && html`<a class="button" href=${to(["feed"])}>Events of all</a>`}
    ${isAdmin() && html`<button type="button" class="button main" onClick=${() => setCreating(true)}><${Icon} name="plus" />New channel</button>`}`;
  return html`
    <${Head} title="Channels" below=${html`<p>Maps and organizations: what events belong to.</p>`}>${create}<//>
    <${Loaded} of=${list}>${(data) => html`<${ChannelList} channels=${data} />`}<//>
    ${creating && html`<${CreateChannel} onClose=${() => setCreating(false)} onMade=${list.reload} />`}`;
}

/** @param most rows that are shown; without it all, with a field to search them when there are many */
export function ChannelList({ channels: list, most }) {
  const [find, setFind] = useState("");
  if (!list.length) {
    return html`<div class="card">
      <${Empty} icon="channels" title="No channels yet">${isAdmin() ? "Make the first one; its token is what programs publish and listen with." : "No channel of this token exists any more."}<//></div>`;
  }
  const found = list.filter(({ name, slug, id }) => occurs(find, [name, slug, id]));
  const rest = most ? list.length - most : 0;
  return html`${!most && list.length > SEARCH_FROM && html`<div class="filter-field"><${Field} label="Search" hint=${find ? `${plural(found.length, "channel")} of ${list.length}` : "By name, slug or id."}>
    ${(tied) => html`<input ...${tied} type="search" value=${find} onInput=${(event) => setFind(event.target.value)} />`}<//></div>`}
  ${found.length === 0 ? html`<div class="card"><${Empty} icon="search" title="No channel is like that">Search for a part of its name, its slug or its id.<//></div>` : html`<ul class="list card">
    ${found.slice(0, most).map((of, n) => html`<li key=${`${of.kind}:${of.id}`} class="channel-row">
      <div class="who"><a class="title anywhere" href=${channelAddress(of)}><bdi>${of.name}</bdi></a>
        <${Badge}>${of.kind === "map" ? "Map" : "Organization"}<//><span class="soft small mono clip">${of.slug}</span></div>
      <${Day} of=${of} asked=${n < SPARKS_MAX} />
    </li>`)}
    ${rest > 0 && html`<li class="past"><a class="button small" href=${to(["channels"])}>All ${count(list.length)} channels</a></li>`}
  </ul>`}`;
}

/** The last day, hour by hour. */
function Day({ of, asked }) {
  const [day, setDay] = useState(null);
  useEffect(() => {
    let here = true;
    // a token without `subscribe` has no counts; the row is complete without them
    if (asked) stats(of, "24h", "1h").then((data) => here && setDay(data), () => {});
    return () => void (here = false);
  }, [of.kind, of.id]);
  if (!day) return html`<span /><svg class="spark" aria-hidden="true" />`;
  const most = Math.max(1, ...day.buckets.map(({ total }) => total));
  const width = 144 / Math.max(day.buckets.length, 1);
  return html`<span class="soft small tabular">${plural(day.total, "event")} in 24 h</span>
    <svg class="spark" viewBox="0 0 144 28" preserveAspectRatio="none" aria-hidden="true">
      ${day.buckets.map(({ start, total }, n) => {
        const height = total ? Math.max(2, (26 * total) / most) : 1;
        return html`<rect key=${start} class=${total ? "" : "none"} x=${n * width} y=${28 - height} width=${Math.max(width - 1.5, 1)} height=${height} rx="1"><title>${count(total)}</title></rect>`;
      })}
    </svg>`;
}

function CreateChannel({ onClose, onMade }) {
  const form = useForm({ kind: "map", name: "", slug: "", id: "", token_name: "" });
  const [made, setMade] = useState(null);
  const create = useAction(async () => {
    const { kind, name, slug, id, token_name: tokenName } = form.values;
    try {
      setMade(await createChannel(kind, { name: name.trim(), slug: slug.trim() || undefined, id: id.trim() || undefined, tokenName: tokenName.trim() || undefined }));
      onMade();
    } catch (error) {
      form.fail(error);
    }
  });
  if (made) return html`<${Made} ...${made} onClose=${onClose} />`;
  const submit = (event) => {
    event.preventDefault();
    create.run();
  };
  const map = form.values.kind === "map";
  return html`<${Dialog} title="New channel" onClose=${onClose}>
    <form class="form" onSubmit=${submit}>
      <${SelectField} form=${form} name="kind" label="Kind" options=${[["map", "Map"], ["organization", "Organization"]]}
        hint=${map ? "For map tools, bots and browsers." : "For workers and receivers; its events may belong to sessions."} />
      <${TextField} form=${form} name="name" label="Name" required maxlength="200" />
      ${map
        ? html`<${TextField} form=${form} name="slug" label="Slug (optional)"
          hint="Stands in addresses. Left empty, it is made from the name." autocapitalize="off" />`
        : html`<${TextField} form=${form} name="id" label="Id (optional)"
          hint="Stands in addresses. Left empty, the server makes one." autocapitalize="off" />`}
      <${TextField} form=${form} name="token_name" label="Who gets its first token (optional)" hint="What the token is called. Left empty, that is made from the name." maxlength="200" />
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button main" disabled=${create.busy}>Create</button></footer>
    </form>
  <//>`;
}

function Made({ channel, token, onClose }) {
  const base = channel.kind === "map" ? `${server}/api/maps/${channel.slug}` : `${server}/api/v1/organizations/${channel.id}`;
  const open = () => {
    onClose();
    go([channel.kind, channel.kind === "map" ? channel.slug : channel.id]);
  };
  return html`<${Dialog} title=${`${channel.name} is there`} onClose=${onClose}>
    <${Secret} text=${token}>Its token may subscribe, publish and manage. Copy it now: it is shown only once.<//>
    <div><h3>Publish a first event</h3><${Code} label="Publish with curl" text=${`curl -X POST ${base}/events \\
  -H "Authorization: Bearer ${token}" -H 'Content-Type: application/json' \\
  -d '{"type": "hello", "payload": {"to": "everyone"}}'`} /></div>
    <footer><button type="button" class="button" onClick=${onClose}>Done</button>
      <button type="button" class="button main" onClick=${open}>Open its live events</button></footer>
  <//>`;
}
