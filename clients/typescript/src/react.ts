/** A hook for React: the newest events of a channel, or of several. */
import { useEffect, useRef, useState } from "react";

import { EventStream } from "./stentor/index.js";
import type { StreamOptions } from "./stentor/address.js";
import type { StentorError, StreamEvent, StreamGapEvent } from "./stentor/index.js";

export interface UseEventsOptions extends StreamOptions {
  /** Events that are kept, the newest last: 100. */
  keep?: number;
  /** Told of each event once. */
  onEvent?: (event: StreamEvent) => void;
}

export interface Events {
  /** The newest events, the newest last; `detail` is the envelope, `id` the cursor. */
  events: StreamEvent[];
  state: "connecting" | "open" | "closed";
  /** Why it is not open. */
  error: StentorError | null;
  /** Where events are missing, if any are. */
  gap: StreamGapEvent["detail"] | null;
}

const EMPTY: Events = { events: [], state: "connecting", error: null, gap: null };
const KEEP = 100;

/** Follows a channel as long as the component is mounted. Another server, channel or filter begins anew; the token may be a function. */
export function useEvents(options: UseEventsOptions): Events {
  const [shown, show] = useState<Events>(EMPTY);
  const latest = useRef(options);
  latest.current = options;
  const { server, channel, channels, events, pathPrefix, filter, session, transport } = options;
  const key = JSON.stringify([String(server ?? ""), channel, channels, events, pathPrefix, filter, session, transport]);
  useEffect(() => {
    show(EMPTY);
    const token = async () => {
      const given = latest.current.token;
      return typeof given === "function" ? given() : given;
    };
    const stream = new EventStream({ ...latest.current, token });
    stream.addEventListener("open", () => show((before) => ({ ...before, state: "open", error: null })));
    stream.addEventListener("event", (event) => {
      latest.current.onEvent?.(event);
      const keep = Math.max(latest.current.keep ?? KEEP, 1);
      show((before) => ({ ...before, events: [...before.events.slice(1 - keep || before.events.length), event] }));
    });
    stream.addEventListener("gap", ({ detail }) => show((before) => ({ ...before, gap: detail })));
    stream.addEventListener("error", ({ error, final }) => {
      show((before) => ({ ...before, state: final ? "closed" : "connecting", error }));
    });
    return () => stream.close();
  }, [key]);
  return shown;
}
