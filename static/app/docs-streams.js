// What the server sends, from its AsyncAPI document: streams and deliveries, each with its messages and an example of each.
import { html, render, useState } from "./html.js";
import "./theme.js";
import { useResource } from "./store.js";
import { Bones, Trouble } from "./ui.js";

const last = (reference) => reference.split("/").at(-1);

async function load() {
  const answer = await fetch("../asyncapi.json", { cache: "no-cache" });
  if (!answer.ok) throw new Error(`The document cannot be read: ${answer.status}`);
  return answer.json();
}

function Streams() {
  const found = useResource(load, []);
  const [find, setFind] = useState("");
  if (found.error) return html`<div class="streams"><${Trouble} error=${found.error} onRetry=${found.reload} /></div>`;
  if (!found.data) return html`<div class="streams"><${Bones} /></div>`;
  const { info, channels, components } = found.data;
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const all = Object.entries(channels);
  const parts = [["Streams", all.filter(([name]) => !name.startsWith("webhook_"))], ["Deliveries of webhooks", all.filter(([name]) => name.startsWith("webhook_"))]];
  return html`<div class="streams">
    <h1>Streams and deliveries</h1>
    <p class="soft">${said(info.description)}</p>
    <label class="field"><span class="label">Search for a type</span><input class="input" type="search" value=${find} onInput=${(event) => setFind(event.target.value)} /></label>
    ${parts.map(([title, list]) => html`<section key=${title}><h2 class="section">${title}</h2>
      ${list.map(([name, channel]) => html`<${Channel} key=${name} name=${name} channel=${channel} components=${components} words=${words} />`)}</section>`)}
  </div>`;
}

function Channel({ name, channel, components, words }) {
  const messages = Object.values(channel.messages).map(({ $ref }) => [last($ref), components.messages[last($ref)]]).filter(([, message]) => message);
  const shown = words.length ? messages.filter(([, { name: type, summary = "" }]) => words.every((word) => `${type} ${summary}`.toLowerCase().includes(word))) : messages;
  if (words.length && !shown.length) return null;
  return html`<details class="card stream" id=${name} open=${words.length > 0}>
    <summary><strong>${channel.title}</strong> ${channel.address && html`<code class="anywhere">${channel.address}</code>`} <span class="soft small">${shown.length} messages</span></summary>
    <div class="stream-body"><p>${said(channel.description)}</p>
      ${channel.parameters && html`<dl class="facts">${Object.entries(channel.parameters).map(([parameter, { description }]) => html`<dt key=${parameter}><code>${parameter}</code></dt><dd>${said(description)}</dd>`)}</dl>`}
      <ul class="list">${shown.map(([key, message]) => html`<${Message} key=${key} message=${message} schemas=${components.schemas} />`)}</ul></div>
  </details>`;
}

function Message({ message, schemas }) {
  const [open, setOpen] = useState(false);
  const example = message.examples?.[0]?.payload;
  return html`<li><details class="more" onToggle=${(event) => setOpen(event.target.open)}>
    <summary><code>${message.title ?? message.name}</code> <span class="soft small">${said(message.summary)}</span></summary>
    ${open && html`${message.description && html`<p class="small">${said(message.description)}</p>`}
      ${example !== undefined && html`<h3 class="small soft">An example</h3><div class="code wrap"><pre tabindex="0" role="region" aria-label="An example">${text(example)}</pre></div>`}
      <h3 class="small soft">Its schema</h3><div class="code wrap"><pre tabindex="0" role="region" aria-label="The schema">${text(resolved(message.payload, schemas))}</pre></div>`}
  </details></li>`;
}

/** A sentence with what stands between backticks as code. */
const said = (sentence) => (sentence ?? "").split("`").map((part, n) => (n % 2 ? html`<code key=${n}>${part}</code>` : part));

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** A schema with what it refers to put in, one level deep: deeper ones keep their names. */
function resolved(schema, schemas) {
  return JSON.parse(JSON.stringify(schema ?? {}, (_, value) => (value && typeof value === "object" && typeof value.$ref === "string" && schemas[last(value.$ref)] ? schemas[last(value.$ref)] : value)));
}

render(html`<${Streams} />`, document.getElementById("streams"));
