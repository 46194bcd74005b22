// @ts-check
// A stream over a WebSocket. The platform reads it whether or not anybody takes what came, so what waits has a bound.
/** @import { Connection, Frame } from "./follower.js" */
import { StentorError } from "./error.js";

/** What may wait to be taken, in characters. Beyond it the connection is given up; the next one goes on behind what was taken. */
const WAITING_CHARS_MAX = 8 * 1024 * 1024;
/** The token was revoked or has expired. */
const CLOSED_REVOKED = 4401;

/** What browsers have as `WebSocket`, and the package `ws` for versions of Node that have none.
 * @typedef {new (url: string) => {addEventListener(type: any, listener: (event: any) => void): void, close(): void}} WebSocketClass */

/** Opens a WebSocket. Platforms do not tell why a handshake was refused, so `why` finds out.
 * @param {string} url
 * @param {{WebSocket?: WebSocketClass, signal: AbortSignal, why: () => Promise<StentorError>}} options
 * @returns {Promise<Connection>} */
export async function overWebSocket(url, { WebSocket = globalThis.WebSocket, signal, why }) {
  if (!WebSocket) throw new TypeError("this platform has no WebSocket: leave transport out, or give one as WebSocket");
  /** @type {Frame[]} */
  let waiting = [];
  let chars = 0;
  /** @type {StentorError | undefined} */
  let ended;
  let awake = () => {};
  const socket = new WebSocket(url);
  /** @param {StentorError} error */
  const end = (error) => {
    ended ??= error;
    awake();
  };
  /** @param {StentorError} error */
  const give = (error) => {
    end(error);
    socket.close();
  };
  signal.addEventListener("abort", () => give(new StentorError("The connection was given up")), { once: true });
  socket.addEventListener("message", ({ data }) => {
    if (ended) return;
    const text = String(data);
    waiting.push({ data: text });
    chars += text.length;
    if (chars > WAITING_CHARS_MAX) give(new StentorError("Events come faster than they are taken; the rest is asked for again"));
    else awake();
  });
  socket.addEventListener("close", ({ code, reason }) => {
    const message = `The server closed the WebSocket: ${code} ${reason || "the connection broke off"}`;
    end(new StentorError(message, { code: String(code), final: code === CLOSED_REVOKED }));
  });
  // a close follows
  socket.addEventListener("error", () => {});
  const isOpen = await new Promise((resolve) => {
    awake = () => resolve(false);
    socket.addEventListener("open", () => resolve(true));
  });
  if (!isOpen) {
    signal.throwIfAborted();
    throw await why();
  }
  return {
    async read() {
      while (!waiting.length) {
        if (ended) throw ended;
        await new Promise((resolve) => (awake = () => resolve(undefined)));
      }
      const came = waiting;
      waiting = [];
      chars = 0;
      return came;
    },
  };
}
