import type { StentorError, StreamEvent, StreamGapEvent, StreamOptions } from "./stentor.js";
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
/** Follows a channel as long as the component is mounted. Another server, channel or filter begins anew; the token may be a function. */
export declare function useEvents(options: UseEventsOptions): Events;
