// What the server itself says: webhooks that were switched off, deliveries given up, sources that refused, a full disk.
import { html, useEffect } from "./html.js";
import { Live } from "./live.js";
import { SYSTEM, notices, noticesSeen, sayNotice } from "./notices.js";
import { replace } from "./route.js";
import { useStore } from "./store.js";
import { Empty, Head } from "./ui.js";

export function System({ query }) {
  const { unseen } = useStore(notices);
  useEffect(() => noticesSeen(), [unseen]);
  const filter = { events: query.get("events")?.split(",").filter(Boolean) ?? [], expression: query.get("filter") ?? "", session: "" };
  const onFilter = ({ events, expression }) => replace(["system"], { events: events?.join(","), filter: expression });
  return html`
    <${Head} title="System" below=${html`<p>The server's own events, in the organization <code>system</code>: readable and deliverable like any other.</p>`} />
    <${Live} channel=${SYSTEM} filter=${filter} onFilter=${onFilter} describe=${sayNotice} empty=${html`<${Empty} icon="done"
      title="Nothing to report">When a webhook is switched off, a delivery is given up, a source refuses something or the disk runs full, it is said here.<//>`} />`;
}
