// Tells a view that something happened in a channel, by the channel's own stream.
import { EventStream } from "../stentor.js";
import { useEffect, useRef } from "./html.js";
import { channelName, may } from "./api.js";
import { whileLookedAt } from "./looked-at.js";
import { server, session } from "./session.js";

/** Time for what an event sets off, and the least time between two calls: each may cost several requests. */
const SETTLE_MS = 400;
const LEAST_MS = 4000;

/** Calls `beat` soon after events of the channel that pass the filter, however many there are. */
export function usePulse(channel, { events, filter }, beat) {
  const latest = useRef(beat);
  latest.current = beat;
  useEffect(() => {
    if (!may("subscribe")) return undefined;
    let timer = 0;
    let last = 0;
    let stream;
    const happened = () => {
      timer ||= setTimeout(() => {
        timer = 0;
        last = Date.now();
        latest.current();
      }, Math.max(SETTLE_MS, last + LEAST_MS - Date.now()));
    };
    const open = () => {
      stream = new EventStream({ server, token: session.value.token, channel: channelName(channel), events, filter });
      stream.addEventListener("event", happened);
    };
    const end = whileLookedAt(open, () => stream.close());
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [channel.kind, channel.id, JSON.stringify([events, filter])]);
}
