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
} from "./stentor.js";
export type { Cursor, FollowOptions, StreamOptions, Token } from "./stentor.js";
export { Stentor } from "./client.js";
export type { EventToPublish, FollowMore, PublishMore, RequestMore, StentorOptions } from "./client.js";
export { storageCursor } from "./cursor.js";
export { InvalidSignature, verifyWebhook } from "./verify.js";
export type { SignatureFormat, VerifyOptions } from "./verify.js";
