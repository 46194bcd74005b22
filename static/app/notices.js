// What the server itself says, in the organization `system`: followed while an admin is logged in, for the overview, for
// the count beside "System", and to read lists again when something about them changed.
import { answered, bytes, plural } from "./format.js";
import { LiveFeed } from "./live-feed.js";
import { to } from "./route.js";
import { Store } from "./store.js";

export const SYSTEM = { kind: "organization", id: "system" };

/** What people did. It is a record to look up in the view of the system. */
export const RECORDS = new Set(["token.created", "token.changed", "token.revoked", "login.link_used", "login.failed", "channel.changed", "webhook.changed", "source.changed", "backup.taken"]);

/** What the server did, or met with. */
export const TROUBLES = new Set(["webhook.disabled", "webhook.enabled", "webhook.dead_letter", "webhook.gap", "source.rejected", "storage.low_disk", "storage.notes_lost", "clock.jumped"]);

/** What nobody has to be told of. */
const isQuiet = ({ type }) => RECORDS.has(type) && type !== "login.failed";

/** `rows`: newest first. `unseen`: how many came since somebody looked. */
export const notices = new Store({ rows: [], unseen: 0 });

let feed = null;
let seenUpTo = "";

export function followNotices() {
  feed ??= new LiveFeed(SYSTEM, {}, () => {
    if (!feed) return;
    const rows = feed.rows.filter((row) => !row.gap && !isQuiet(row));
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

const how = ({ status_code: statusCode, error_code: errorCode }) => (statusCode || errorCode ? ` (${answered({ statusCode, errorCode })})` : "");

const CHANGES = {
  created: "made",
  updated: "changed",
  deleted: "deleted",
  secret_rotated: "given a new secret",
  document_replaced: "replaced as a document",
};

/** What turns the direction of all text behind it: in a name it would turn the rest of the sentence. */
const TURNS = /[\u202a-\u202e\u2066-\u2069]/g;

/** A sentence for what the server says; `undefined` for what has no sentence.
 *  @param named gives the name that something with an id is known by */
export const sayNotice = (row, named = (id) => id) => sentence(row, named)?.replace(TURNS, "");

/** A webhook by what its owner calls it, else by where it goes. */
const hookOf = ({ name, host, webhook_id: id }) => (name ? `“${name}”` : host ? `to ${host}` : id);

/** Where what a notice tells of can be seen: what a button says, and its address; `null` where there is no such place. */
export function placeOf({ type, payload: of }) {
  if (of.change === "deleted") return null;
  const channel = of.channel?.split(/:(.*)/s, 2);
  if (of.webhook_id && channel) return [of.delivery_id ? "Open the delivery" : "Open the webhook", to(["webhook", ...channel, of.webhook_id], { delivery: of.delivery_id })];
  if (of.source_id) return ["Open the source", to(["source", of.source_id])];
  if (of.token_id) return type === "token.revoked" ? null : ["Open the token", to(["tokens"], { find: of.token_id })];
  return channel ? ["Open the channel", to(channel)] : null;
}

function sentence({ type, payload: of }, named) {
  const by = !of.by || of.by === "admin" ? "the admin" : named(of.by) === of.by ? of.by : `the token “${named(of.by)}”`;
  const By = by[0].toUpperCase() + by.slice(1);
  switch (type) {
    case "webhook.disabled":
      return `The webhook ${hookOf(of)} was switched off: ${REASONS[of.reason] ?? of.reason}${of.reason === "gone" ? "" : how(of)}`;
    case "webhook.enabled":
      return `The webhook ${hookOf(of)} was switched on`;
    case "webhook.dead_letter":
      return `A delivery ${of.name ? "of " : ""}${hookOf(of)} was given up after ${plural(of.attempts, "attempt")}${how(of)}`;
    case "webhook.gap":
      return `Retention took events before they were delivered ${of.name ? "by " : ""}${hookOf(of)}`;
    case "source.rejected":
      return `${of.name ?? of.source_id} refused ${plural(of.rejected, "request")}: ${of.reason}`;
    case "storage.low_disk":
      return `The disk is almost full: ${bytes(of.free_bytes)} are free, ${bytes(of.floor_bytes)} are needed`;
    case "storage.notes_lost":
      return "The delivery log, counters and dead letters were damaged and begin anew; nothing else was lost";
    case "clock.jumped":
      return `The server's clock was set ${of.by_ms < 0 ? "back" : "forward"} by ${Math.round(Math.abs(of.by_ms) / 1000)} s`;
    case "token.created":
      return `${By} made the token ${of.name ?? of.token_id} for ${(of.channels ?? [of.channel]).map(named).join(", ")}: ${of.scopes.join(", ")}`;
    case "token.changed":
      return `${By} changed the token ${of.name ?? of.token_id}${of.expires_at ? `, which ends on ${of.expires_at.slice(0, 10)}` : ""}`;
    case "token.revoked":
      return `${By} revoked the token ${of.name ?? of.token_id}`;
    case "login.failed":
      return `A credential from ${of.address} was wrong${of.unreported ? `, and of ${plural(of.unreported, "other address", "other addresses")} too` : ""}`;
    case "login.link_used":
      return `Somebody at ${of.address} logged in as the admin by the link of the start`;
    case "channel.changed":
      if (of.change === "webhooks_toggled") return `The webhooks of ${of.name ?? named(of.channel)} were switched on or off by ${by}`;
      return `${of.name ?? named(of.channel)} was ${CHANGES[of.change] ?? of.change} by ${by}`;
    case "webhook.changed":
      return `${of.webhook_id ? `The webhook ${hookOf(of)}` : "The webhooks"} of ${named(of.channel)} ${of.webhook_id ? "was" : "were"} ${CHANGES[of.change] ?? of.change} by ${by}`;
    case "source.changed":
      return `The source ${of.name ? `“${of.name}”` : of.source_id} of ${named(of.channel)} was ${CHANGES[of.change] ?? of.change} by ${by}`;
    case "backup.taken":
      return `${By} took a backup`;
    default:
      return undefined;
  }
}
