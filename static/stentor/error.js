// @ts-check
// What went wrong, as the server says it in either of its two forms.

/** Longest that a timer of JavaScript can wait. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

/** What the server said no with, or what became of the connection. */
export class StentorError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, details?: unknown, retryAfterMs?: number, final?: boolean, cause?: unknown}} [about]
   */
  constructor(message, about = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = "StentorError";
    /** The HTTP status, if an answer came. */
    this.status = about.status;
    /** The server's code of the error, such as `UNAUTHORIZED`. */
    this.code = about.code;
    /** What is wrong with which field, if the server says so. */
    this.details = about.details;
    /** Least time to wait before the next try. */
    this.retryAfterMs = about.retryAfterMs ?? 0;
    /** Trying again would not help. */
    this.final = about.final ?? false;
  }

  /** Reads an answer that is not 2xx, in either form in which the server writes errors.
   * @param {Response} answer
   * @returns {Promise<StentorError>} */
  static async of(answer) {
    /** @type {any} */
    const body = await answer.json().catch(() => null);
    const said = body?.error;
    const inner = typeof said === "object" && said !== null ? said : { message: said, code: body?.code, details: body?.details };
    const sentence = typeof inner.message === "string" ? inner.message : `The server answered ${answer.status}`;
    return new StentorError(sentence + fieldsOf(inner.details), {
      status: answer.status,
      code: inner.code,
      details: inner.details,
      retryAfterMs: waitAskedFor(answer.headers.get("Retry-After")),
      final: answer.status >= 400 && answer.status < 500 && !PASSING.has(answer.status),
    });
  }
}

/** Answers that pass: a timeout, too early, too many. The rest of 4xx does not change by asking again. */
const PASSING = new Set([408, 425, 429]);

/** What is wrong with which field, where the server says so.
 * @param {unknown} details */
function fieldsOf(details) {
  if (!Array.isArray(details) || details.length === 0) return "";
  const each = details.map(({ index, field, message }) => `${index === undefined ? "" : `event ${index}: `}${field} ${message}`);
  return ` (${each.join("; ")})`;
}

/** `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
 * @param {string | null} text */
function waitAskedFor(text) {
  if (!text) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), TIMER_MAX_MS) : 0;
}
