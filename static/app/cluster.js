// The cluster that the server is a node of: its nodes, who writes, who delivers for which webhooks, and the streams in NATS. A
// server alone shows nothing of it.
import { html } from "./html.js";
import { cluster } from "./api.js";
import { count, duration, plural } from "./format.js";
import { useInterval, useResource } from "./store.js";
import { Ago, Badge, Loaded } from "./ui.js";

const REFRESH_MS = 5_000;

/** @param node what readiness says of the node that answers; null for a server alone */
export function Cluster({ node }) {
  return node && html`<${Whole} node=${node} />`;
}

function Whole({ node }) {
  const found = useResource(cluster, []);
  useInterval(found.reload, REFRESH_MS);
  return html`<section class="stack tight" aria-labelledby="cluster">
    <h2 id="cluster" class="section">Cluster${!node.connected && html`<span class="badge bad">cut off</span>`}</h2>
    <${Loaded} of=${found}>${(data) => data && html`
      <ul class="list card" aria-label="Nodes">${data.nodes.map((row) => html`<${Node} key=${row.name} row=${row} writer=${data.writer} own=${data.node} />`)}</ul>
      <${Facts} data=${data} />
      <p class="soft small">Figures of streams and deliveries, connections, and what sources have counted and refused are those of this node, ${data.node}.</p>`}<//>
  </section>`;
}

function Node({ row, writer, own }) {
  const { name, live, address, version, started_at: since, heard_ms: heard, behind_messages: behind, behind_ms: behindMs, slots, slots_owned: owned } = row;
  const known = version !== null;
  return html`<li class="node-row">
    <div class="who"><strong class="anywhere"><bdi>${name}</bdi></strong>
      <span class="soft small anywhere">${known ? html`<bdi>${address}</bdi> · ${version}` : "not heard since this node was started"}</span></div>
    <span class="marks">${name === own && html`<${Badge} kind="accent">this node<//>`}${name === writer && html`<${Badge} kind="good">writes<//>`}${!live && html`<${Badge} kind="bad">not heard<//>`}</span>
    <span class="soft small tabular">${since && html`started <${Ago} iso=${since} />`}${heard !== null && name !== own && html`<br />heard ${duration(heard)} ago`}</span>
    <span class="soft small tabular">${!known ? "" : behind ? html`<strong class="behind">${plural(behind, "message")} behind</strong>${behindMs > 0 && ` for ${duration(behindMs)}`}` : "up to date"}</span>
    <span class="soft small tabular">${owned ? html`delivers for ${plural(owned, "slot")}<br />${slots}` : "delivers for no webhooks"}</span>
  </li>`;
}

function Facts({ data }) {
  const sync = { true: "before it answers", false: "after it has answered: set sync_interval: always" }[data.nats_syncs_always] ?? "not known: set nats.monitor";
  const versions = new Map();
  for (const { name, version, address } of data.nats_servers) {
    const said = version ?? "not reached";
    versions.set(said, [...(versions.get(said) ?? []), name ?? address]);
  }
  return html`<dl class="facts card padded">
    <dt>Writes the log</dt><dd>${data.writer ?? "nobody at the moment"}, term ${count(data.term)}</dd>
    ${data.slots_unowned && html`<dt>Slots without a node</dt><dd><strong class="behind">${data.slots_unowned}</strong></dd>`}
    ${data.streams.map((stream) => html`<dt key=${stream.name} class="anywhere">${stream.name}</dt><dd>${replicas(stream)}</dd>`)}
    <dt>NATS servers</dt><dd>${[...versions].map(([version, names]) => `${names.join(", ")}: ${version}`).join("; ")}</dd>
    <dt>NATS syncs to disk</dt><dd>${sync}</dd>
  </dl>`;
}

/** On how many servers a stream is, and which of them have not all of it. */
function replicas({ replicas_configured: configured, replicas_current: current, replicas: all }) {
  const missing = all.filter((one) => one.offline || !one.current).map((one) => (one.offline ? `${one.server} is offline` : `${one.server} is ${plural(one.behind_messages, "message")} behind`));
  const leader = all.find((one) => one.leader)?.server;
  const said = [`whole on ${current} of ${configured}`, ...missing, leader && `led by ${leader}`].filter(Boolean).join(", ");
  return current < configured ? html`<strong class="behind">${said}</strong>` : said;
}
