// @ts-check
// Stentor's streams for browsers and Node 20 or later. One file without dependencies: load it from your server
// (`import { EventStream } from "https://events.example.org/stentor.js"`) or copy it (in Node as `stentor.mjs`).
export { StentorError } from "./error.js";
export { EventStream, StreamErrorEvent, StreamEvent, StreamGapEvent, StreamOpenEvent } from "./channel.js";
export { follow } from "./loop.js";
export { WebhookAdapter } from "./source.js";
