// What the server itself says: webhooks that were switched off, deliveries given up, sources that refused, a full disk; and the
// record of who changed what.
import { html, useEffect, useMemo } from "./html.js";
import { Jump } from "./channel.js";
import { Live } from "./live.js";
import { useNames } from "./names.js";
import { RECORDS, SYSTEM, TROUBLES, notices, noticesSeen, placeOf, sayNotice } from "./notices.js";
import { replace } from "./route.js";
import { useStore } from "./store.js";
import { Empty, Head, Segments } from "./ui.js";
import { isExpression } from "./words.js";

const VIEWS = [["", "All"], ["troubles", "What happened"], ["record", "Who changed what"]];
const WITHIN = { troubles: [...TROUBLES], record: [...RECORDS] };

const EMPTY = {
  "": ["Nothing to report", "When a webhook is switched off, a delivery is given up, a source refuses something or the disk runs full, it is said here."],
  troubles: ["Nothing to report", "When a webhook is switched off, a delivery is given up, a source refuses something or the disk runs full, it is said here."],
  record: ["Nobody has changed anything", "Tokens, webhooks, sources and channels that somebody makes, changes or removes are recorded here, and logins that failed."],
};

export function System({ query }) {
  const { unseen } = useStore(notices);
  useEffect(() => noticesSeen(), [unseen]);
  const shown = query.get("show") ?? "";
  const expression = query.get("filter") ?? "";
  const names = useNames();
  const searches = expression && !isExpression(expression);
  const filter = {
    events: query.get("events")?.split(",").filter(Boolean) ?? [],
    within: WITHIN[shown],
    expression,
    // the record has ids, and people know names
    named: searches ? [...names].map(([id, name]) => [name, id]) : undefined,
    session: "",
    until: query.get("until") ?? "",
  };
  const at = (change) => replace(["system"], { ...Object.fromEntries(query), ...change });
  const onFilter = ({ events, expression: typed, until }) => at({ events: events?.join(",") ?? "", filter: typed ?? "", until: until ?? "" });
  const describe = useMemo(() => (row) => sayNotice(row, (id) => names.get(id) ?? id), [names]);
  const [title, words] = EMPTY[shown] ?? EMPTY[""];
  return html`
    <${Head} title="System" below=${html`<p>The server's own events, in the organization <code>system</code>: readable and deliverable like any other.</p>`} />
    <div class="stack tight">
      <div class="section-head"><${Segments} label="Show" value=${shown} options=${VIEWS} onChange=${(show) => at({ show, events: "" })} />
        <${Jump} onJump=${(until) => at({ until })} /></div>
      <${Live} channel=${SYSTEM} filter=${filter} onFilter=${onFilter} describe=${describe} leads=${placeOf} place=${["organization", SYSTEM.id]} empty=${html`<${Empty} icon="done" title=${title}>${words}<//>`} />
    </div>`;
}
