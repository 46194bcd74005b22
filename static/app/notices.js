// What the server itself says, in the organization `system`: followed while an admin is logged in, for the overview, for
// the count beside "System", and to read lists again when something about them changed.
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

/** A sentence for what the server says; `undefined` for what has no sentence. */
export function sayNotice({ type, payload }) {
  const of = payload ?? {};
  const where = of.url ?? of.host ?? of.webhook_id ?? of.webhook ?? "";
  switch (type) {
    case "webhook.disabled":
      return `A webhook was switched off: ${where}${of.reason ? ` (${of.reason})` : ""}`;
    case "webhook.enabled":
      return `A webhook was switched on: ${where}`;
    case "webhook.dead_letter":
      return `A delivery was given up${of.attempts ? ` after ${of.attempts} attempts` : ""}: ${where}`;
    case "source.rejected":
      return `A source refused what was sent: ${of.reason ?? of.message ?? of.source ?? ""}`;
    case "storage.low_disk":
      return "The disk is almost full";
    default:
      return undefined;
  }
}
