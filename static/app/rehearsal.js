// What a webhook would do with events that are there, before it is saved: how many it would send, and how they would change.
import { html, useEffect, useState } from "./html.js";
import { count, plural } from "./format.js";
import { useAction } from "./store.js";
import { Badge, Trouble } from "./ui.js";
import { rehearse } from "./webhook-api.js";

const SPANS = [["1", "the last hour"], ["24", "the last 24 hours"], ["168", "the last 7 days"]];
const LIMIT = 10_000;
const LINES_MAX = 400;

/** @param spec what the form holds, as it would be saved */
export function Rehearsal({ of, spec }) {
  const [hours, setHours] = useState("24");
  const [found, setFound] = useState(null);
  const { format, template, filter, events, pathPrefix, sessionId } = spec;
  const asked = { format, ...(template === undefined ? {} : { template }), filter, events, pathPrefix, ...(sessionId ? { sessionId } : {}) };
  const key = JSON.stringify([asked, hours]);
  const run = useAction(async () => {
    const since = new Date(Date.now() - Number(hours) * 3_600_000).toISOString();
    setFound({ key, ...(await rehearse(of, asked, { since, limit: LIMIT })) });
  });
  useEffect(() => run.clear(), [key]);
  const stale = found && found.key !== key;
  return html`<section class="rehearsal" aria-labelledby="rehearsal-title">
    <header><h3 id="rehearsal-title">Rehearse it</h3>
      <label><span class="unseen">On the events of</span><select class="input" onChange=${(event) => setHours(event.target.value)}>
        ${SPANS.map(([value, text]) => html`<option key=${value} value=${value} selected=${value === hours}>${text}</option>`)}</select></label>
      <button type="button" class="button small" disabled=${run.busy} onClick=${() => run.run()}>${run.busy ? "Rehearsing…" : "Try it on past events"}</button></header>
    <p class="soft small">Runs filter and format over events that are there. Nothing is sent.</p>
    ${run.error && html`<${Trouble} error=${(run.error.details?.errors ?? run.error.details)?.[0]?.message ?? run.error.message} />`}
    ${found && html`<div class=${stale ? "stale" : ""} role="status">
      <p><strong>${count(found.would_send)}</strong> of ${plural(found.scanned, "event")} would be sent${found.complete ? "" : html` <span class="soft">(only the first were looked at)</span>`}${found.changed > 0 ? `, ${count(found.changed)} of them in another form than the format's own` : ""}.
        ${found.failed > 0 && html` <${Badge} kind="bad">${count(found.failed)} would fail<//>`}${stale && html` <span class="soft">This was before your last change.</span>`}</p>
      ${found.samples.map((sample) => html`<details key=${sample.event_id} class="more"><summary>${sample.error ? html`<${Badge} kind="bad">fails<//> ` : ""}<code class="small anywhere">${sample.event_id}</code></summary>
        ${sample.error && html`<${Trouble} error=${sample.error} />`}
        <${Difference} before=${sample.before} after=${sample.after} /></details>`)}
    </div>`}
  </section>`;
}

const lines = (value) => (value === null || value === undefined ? [] : JSON.stringify(value, null, 2).split("\n").slice(0, LINES_MAX));

/** Two bodies line by line: what goes, what comes, what stays. */
function Difference({ before, after }) {
  const rows = difference(lines(before), lines(after));
  if (after === null) return html`<div class="code wrap"><pre tabindex="0" role="region" aria-label="The event">${lines(before).join("\n")}</pre></div>`;
  return html`<div class="code wrap diff"><pre tabindex="0" role="region" aria-label="What changes">${rows.map(([mark, text], n) => html`<span key=${n} class=${{ "+": "plus", "-": "minus" }[mark] ?? ""}>${mark} ${text}${"\n"}</span>`)}</pre></div>`;
}

/** The longest common subsequence of lines. @returns [[" " | "+" | "-", text], ...] */
export function difference(a, b) {
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  }
  const rows = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) rows.push([" ", a[(i += 1, j += 1, i - 1)]]);
    else if (i < a.length && (j === b.length || longest[i + 1][j] >= longest[i][j + 1])) rows.push(["-", a[i++]]);
    else rows.push(["+", b[j++]]);
  }
  return rows;
}
