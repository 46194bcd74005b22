// What the server itself says, in the organization `system`: followed while an admin is logged in, for the overview, for
// the count beside "System", and to read lists again when something about them changed.
import { bytes, plural } from "./format.js";
import { LiveFeed } from "./live-feed.js";
import { Store } from "./store.js";

export const SYSTEM = { kind: "organization", id: "system" };

/** What people did. It is a record to look up in the view of the system, and nothing to be told of. */
const RECORDS = new Set(["token.created", "token.revoked", "login.link_used", "channel.changed", "webhook.changed", "source.changed", "backup.taken"]);

/** `rows`: newest first. `unseen`: how many came since somebody looked. */
export const notices = new Store({ rows: [], unseen: 0 });

let feed = null;
let seenUpTo = "";

export function followNotices() {
  feed ??= new LiveFeed(SYSTEM, {}, () => {
    if (!feed) return;
    const rows = feed.rows.filter((row) => !row.gap && !RECORDS.has(row.type));
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

const CHANGES = {
  created: "made",
  updated: "changed",
  deleted: "deleted",
  secret_rotated: "given a new secret",
  document_replaced: "replaced as a document",
  webhooks_toggled: "changed: the switch over its webhooks",
};

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
    case "token.created":
      return `${of.by} made the token ${of.name ?? of.token_id} for ${of.channel ?? of.channels.join(", ")}: ${of.scopes.join(", ")}`;
    case "token.revoked":
      return `${of.by} revoked the token ${of.name ?? of.token_id}`;
    case "login.failed":
      return `A credential from ${of.address} was wrong${of.unreported ? `, and of ${plural(of.unreported, "other address", "other addresses")} too` : ""}`;
    case "login.link_used":
      return `Somebody at ${of.address} logged in as the admin by the link of the start`;
    case "channel.changed":
      return `${of.channel} was ${CHANGES[of.change] ?? of.change} by ${of.by}`;
    case "webhook.changed":
      return `${of.webhook_id ? `The webhook ${of.webhook_id}` : "The webhooks"} of ${of.channel} ${of.webhook_id ? "was" : "were"} ${CHANGES[of.change] ?? of.change} by ${of.by}`;
    case "source.changed":
      return `The source ${of.source_id} of ${of.channel} was ${CHANGES[of.change] ?? of.change} by ${of.by}`;
    case "backup.taken":
      return `${of.by} took a backup`;
    default:
      return undefined;
  }
}
