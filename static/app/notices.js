// What the server itself says, in the organization `system`: followed while an admin is logged in, for the overview, for
// the count beside "System", and to read lists again when something about them changed.
import { bytes, plural } from "./format.js";
import { LiveFeed } from "./live-feed.js";
import { Store } from "./store.js";

export const SYSTEM = { kind: "organization", id: "system" };

/** `rows`: newest first. `unseen`: how many came since somebody looked. */
export const notices = new Store({ rows: [], unseen: 0 });

let feed = null;
let seenUpTo = "";

export function followNotices() {
  feed ??= new LiveFeed(SYSTEM, {}, () => {
    if (!feed) return;
    const rows = feed.rows.filter((row) => !row.gap);
    const unseen = rows.filter((row) => row.live && row.id > seenUpTo).length;
    notices.set({ rows, unseen });
  });
}

export function unfollowNotices() {
  feed?.close();
  feed = null;
  notices.set({ rows: [], unseen: 0 });
}

export function noticesSeen() {
  const { rows } = notices.value;
  seenUpTo = rows[0]?.id ?? seenUpTo;
  if (notices.value.unseen) notices.set({ rows, unseen: 0 });
}

const REASONS = { failing: "every delivery had failed for too long", gone: "the receiver answered 410 Gone" };

const answered = ({ status_code: status, error_code: code }) => (status ? `, last answered ${status}` : code ? `, last ${code.replaceAll("_", " ")}` : "");

/** A sentence for what the server says; `undefined` for what has no sentence. */
export function sayNotice({ type, payload: of }) {
  switch (type) {
    case "webhook.disabled":
      return `The webhook to ${of.host} was switched off: ${REASONS[of.reason] ?? of.reason}${of.reason === "gone" ? "" : answered(of)}`;
    case "webhook.enabled":
      return `The webhook to ${of.host} was switched on`;
    case "webhook.dead_letter":
      return `A delivery to ${of.host} was given up after ${plural(of.attempts, "attempt")}${answered(of)}`;
    case "webhook.gap":
      return `Retention took events before they were delivered to ${of.host}`;
    case "source.rejected":
      return `${of.name ?? of.source_id} refused ${plural(of.rejected, "request")}: ${of.reason}`;
    case "storage.low_disk":
      return `The disk is almost full: ${bytes(of.free_bytes)} are free, ${bytes(of.floor_bytes)} are needed`;
    case "storage.notes_lost":
      return "The delivery log, counters and dead letters were damaged and begin anew; nothing else was lost";
    case "clock.jumped":
      return `The server's clock was set ${of.by_ms < 0 ? "back" : "forward"} by ${Math.round(Math.abs(of.by_ms) / 1000)} s`;
    default:
      return undefined;
  }
}
