/** Client of Stentor for browsers and Node. */
export {
  EventStream,
  StentorError,
  StreamErrorEvent,
  StreamEvent,
  StreamGapEvent,
  StreamOpenEvent,
  WebhookAdapter,
  follow,
} from "./stentor/index.js";
export type { Token, StreamOptions } from "./stentor/address.js";
export type { Cursor, FollowOptions } from "./stentor/loop.js";
export { Stentor } from "./client.js";
export type { Channels, EventToPublish, FollowMore, PublishMore, RequestMore, StentorOptions } from "./client.js";
export { storageCursor } from "./cursor.js";
export { InvalidSignature, verifyWebhook } from "./verify.js";
export type { SignatureFormat, VerifyOptions } from "./verify.js";
