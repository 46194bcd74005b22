// @ts-check
// A stream of server-sent events: its text taken apart into frames.
/** @import { Connection, Frame } from "./follower.js" */
import { StentorError } from "./error.js";

/** A frame that grows beyond this does not come from a Stentor. */
const FRAME_CHARS_MAX = 32 * 1024 * 1024;

/** What was asked for, as a connection that can be read.
 * @param {Response} answer
 * @returns {Promise<Connection>} */
export async function overSse(answer) {
  if (!answer.ok) throw await StentorError.of(answer);
  const type = answer.headers.get("Content-Type") ?? "";
  if (!type.startsWith("text/event-stream") || !answer.body) throw new StentorError(`There is no event stream, but '${type}'`);
  const reader = answer.body.getReader();
  const text = new TextDecoder();
  const frames = new Frames();
  return {
    get retryMs() {
      return frames.retryMs;
    },
    async read() {
      const { done, value } = await reader.read();
      return done ? undefined : frames.push(text.decode(value, { stream: true }));
    },
  };
}


/** Takes text apart into frames (WHATWG HTML 9.2.6). */
export class Frames {
  /** What `retry:` asked for. @type {number | undefined} */
  retryMs;
  #rest = "";
  #scanned = 0;
  #afterReturn = false;
  #event = "";
  #id = "";
  /** @type {string[]} */
  #data = [];
  #dataChars = 0;

  /** The frames that this text completes.
   * @param {string} text
   * @returns {Frame[]} */
  push(text) {
    /** @type {Frame[]} */
    const done = [];
    if (!text) return done;
    if (this.#afterReturn && text[0] === "\n") text = text.slice(1);
    const all = this.#rest + text;
    const ends = /\r\n|\n|\r/g;
    ends.lastIndex = this.#scanned;
    let from = 0;
    for (let end = ends.exec(all); end; end = ends.exec(all)) {
      this.#line(all.slice(from, end.index), done);
      from = ends.lastIndex;
    }
    this.#afterReturn = all.endsWith("\r");
    this.#rest = all.slice(from);
    this.#scanned = this.#rest.length;
    if (this.#rest.length + this.#dataChars > FRAME_CHARS_MAX) throw new StentorError("A frame of the stream is too long");
    return done;
  }

  /** @param {string} line
   * @param {Frame[]} done */
  #line(line, done) {
    if (line === "") {
      if (this.#data.length) done.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      this.#event = "";
      this.#data = [];
      this.#dataChars = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: keepalive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") {
      this.#data.push(value);
      this.#dataChars += value.length;
    } else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }
}
