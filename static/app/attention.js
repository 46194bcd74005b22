// What needs attention: what is wrong, why, since when, and the button that helps.
import { html } from "./html.js";
import { act } from "./api.js";
import { answered, dateTime, plural } from "./format.js";
import { useAction } from "./store.js";
import { Ago, Badge, Icon, Trouble, toast } from "./ui.js";

const SHOWN = 8;

/** @param figures the overview, which lists them
 *  @param onActed called when something was done about one */
export function AttentionList({ figures, onActed, all }) {
  const { attention, attention_total: count } = figures;
  if (!attention.length) {
    return html`<p class="all-well card"><${Icon} name="done" />Nothing needs attention.</p>`;
  }
  const rows = all ? attention : attention.slice(0, SHOWN);
  const rest = attention.slice(rows.length);
  const untold = count - attention.length;
  return html`<ul class="list card attention">${rows.map((row) => html`<${Row} key=${key(row)} row=${row} onActed=${onActed} />`)}
    ${rest.length > 0 && html`<li class="more-troubles"><details class="more"><summary>${rest.length} more</summary>
      <ul class="list">${rest.map((row) => html`<${Row} key=${key(row)} row=${row} onActed=${onActed} />`)}</ul></details></li>`}
    ${untold > 0 && html`<li class="soft small">And ${plural(untold, "other", "others")}, which are told when these are mended.</li>`}
  </ul>`;
}

const key = (row) => [row.kind, row.channel, row.webhook, row.source, row.title].join("/");

const WORDS = { error: ["bad", "Error"], warning: ["wait", "Warning"] };

/** A sentence of the server with its times as the reader writes them. */
const readable = (text) => text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (iso) => dateTime(iso));

function Row({ row, onActed }) {
  const [kind, word] = WORDS[row.severity] ?? ["", row.severity];
  const help = useAction(async () => {
    const answer = await act(row.action);
    const tested = answer?.data;
    if (tested && "delivered" in tested && row.action.href.includes("/test")) {
      const how = answered({ statusCode: tested.status_code ?? tested.statusCode, errorCode: tested.error_code ?? tested.errorCode });
      toast(tested.delivered ? `It arrived: the receiver ${how}` : `It failed: ${how}`, tested.delivered ? "" : "bad");
    } else toast("Done");
    onActed();
  });
  return html`<li class="trouble-row">
    <${Badge} kind=${kind}>${word}<//>
    <div class="what"><a class="title anywhere" href=${row.link.slice(row.link.indexOf("#"))}><bdi>${row.title}</bdi></a>
      <span class="soft small anywhere"><bdi>${readable(row.cause)}</bdi>${row.since && html`<span>, for <${Ago} iso=${row.since} plain /></span>`}</span>
      ${help.error && html`<${Trouble} error=${help.error} />`}</div>
    ${row.action && html`<button type="button" class="button small" disabled=${help.busy} onClick=${help.run}>${row.action.label}</button>`}
  </li>`;
}
