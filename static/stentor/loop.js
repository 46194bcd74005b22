// @ts-check
// The events of channels for a `for await` loop.
/** @import { StreamOptions } from "./address.js" */
/** @import { StreamGapEvent } from "./channel.js" */
import { opener } from "./address.js";
import { StreamEvent } from "./channel.js";
import { StentorError } from "./error.js";
import { Follower } from "./follower.js";

/** Where a consumer keeps the id of the last event that it has handled: in a file, in `localStorage` ...
 * @typedef {object} Cursor
 * @property {() => string | null | undefined | Promise<string | null | undefined>} load
 * @property {(id: string) => unknown} save
 */

/** @typedef {StreamOptions & {
 *   cursor?: Cursor,
 *   signal?: AbortSignal,
 *   onGap?: (gap: StreamGapEvent["detail"]) => void,
 *   onError?: (error: StentorError, retryInMs: number) => void,
 * }} FollowOptions */

/** Thrown by nobody: it ends a loop that its signal has aborted. */
const ENDED = Symbol("ended");

/**
 * The events of a channel for a loop, in order and each once, over every disconnection, without end:
 *
 *     for await (const { detail, id } of follow({ server, token, channel: "map:home", cursor })) await handle(detail);
 *
 * The next event is read when the loop asks for it, so a slow loop holds up only itself. With a `cursor` an event is marked as
 * handled when the next one is asked for, and a later call goes on behind the last that was handled. `onGap` is told where events
 * are missing, `onError` of connections that failed and come back; what does not come back is thrown.
 * @param {FollowOptions} options
 * @returns {AsyncGenerator<StreamEvent, void, void>}
 */
export async function* follow(options) {
  const { cursor, signal, silenceMaxMs, onGap, onError } = options;
  /** @type {{item: StreamEvent | StentorError | typeof ENDED, taken: () => void}[]} */
  const waiting = [];
  /** @type {(() => void) | undefined} */
  let awake;
  let newest = "";
  /** @param {StreamEvent | StentorError | typeof ENDED} item
   * @returns {Promise<void>} */
  const hand = (item) =>
    new Promise((taken) => {
      waiting.push({ item, taken });
      awake?.();
    });
  const follower = new Follower(
    {
      open: opener(options),
      take: async (events) => {
        for (const event of events) {
          if (follower.state === "closed") return;
          // ids only grow: one that came before is a repetition
          const bare = event.id.replace(/^evt_/, "");
          if (bare <= newest) continue;
          newest = bare;
          await hand(new StreamEvent(event));
          follower.cursor = event.id;
        }
      },
      opened: () => {},
      gap: (gap) => {
        if (gap.reason === "ahead") newest = "";
        if (onGap) onGap(gap);
        else console.warn("events are missing", gap);
      },
      failed: (error, retryInMs) => {
        if (retryInMs === undefined) void hand(error);
        else onError?.(error, retryInMs);
      },
    },
    { cursor: options.lastEventId ?? (await cursor?.load()) ?? undefined, silenceMaxMs },
  );
  const end = () => void hand(ENDED);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  else void follower.run();
  try {
    for (;;) {
      const next = waiting.shift();
      if (!next) {
        await new Promise((resolve) => (awake = () => resolve(undefined)));
        continue;
      }
      if (next.item === ENDED || signal?.aborted) return;
      if (next.item instanceof StentorError) throw next.item;
      const event = /** @type {StreamEvent} */ (next.item);
      yield event;
      await cursor?.save(event.id);
      next.taken();
    }
  } finally {
    signal?.removeEventListener("abort", end);
    follower.close();
    for (const { taken } of waiting) taken();
  }
}
