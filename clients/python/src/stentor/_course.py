"""How something goes on over several requests: a list over its pages, publishing over failures, a stream over its connections.

No request is made here, so that the client for threads and the one for asyncio can both follow it."""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable
from urllib.parse import urlencode

from . import _common as common
from ._errors import StentorError
from ._events import Cursor, Event, Gap
from ._sse import Frames

_log = logging.getLogger("stentor")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
# A ticket is lost when the server restarts before it is used. That happens once, not three times in a row.
LOST_TICKETS_MAX = 3
PAGES_MAX = 10_000


def ulid_at(unix_ms: int) -> str:
    """The first id that an event of this moment could have."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[unix_ms >> shift & 31] for shift in range(45, -1, -5)) + "0" * 16


class Backoff:
    """Waits that double, each between half of it and all of it, so that clients who were cut together spread."""

    def __init__(self) -> None:
        self.first_s = BACKOFF_FIRST_S
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next(self, retry_after_s: float) -> float:
        most = min(self.first_s * 2.0 ** min(self._failures, 16), max(BACKOFF_MAX_S, self.first_s))
        self._failures += 1
        return retry_after_s + most * (0.5 + random.random() / 2)


class Pages:
    """A list that is read page by page."""

    def __init__(self, query: Mapping[str, str] | None) -> None:
        #: Of the next page; None at the end.
        self.query: dict[str, str] | None = dict(query or {})
        self._count = 0

    def take(self, page: Any) -> list[Any]:
        """The items of a page that was read."""
        items, after = list(page["data"]), page.get("nextCursor") or page.get("next")
        self._count += 1
        if after and items and self._count == PAGES_MAX:
            raise StentorError(f"the list has more than {PAGES_MAX} pages; ask for less")
        self.query = {**(self.query or {}), "after": str(after)} if after and items else None
        return items


class Publishing:
    """A request that is sent until its answer comes. An answer that was lost on its way is asked for again under the same key."""

    def __init__(self, channel: str, body: Any, retry_for_s: float) -> None:
        if not isinstance(channel, str):
            raise ValueError("an event is published to one channel")
        self.path = common.place(channel).events
        self.body = json.dumps(body, ensure_ascii=False).encode()
        self.headers = {"Idempotency-Key": str(uuid.uuid4())}
        self._deadline = time.monotonic() + retry_for_s
        self._backoff = Backoff()

    def ids(self, answer: Any) -> list[str]:
        return list(answer["data"]["ids"])

    def wait_s(self, problem: StentorError) -> float:
        """How long to wait before the next try. Raises the problem where there is none."""
        wait_s = self._backoff.next(problem.retry_after_s)
        if not problem.passing or time.monotonic() + wait_s > self._deadline:
            raise problem
        return wait_s


class Course:
    """What is followed, and how its reader stands between connections: its cursor, and what is told of the stream."""

    def __init__(
        self,
        channel: common.Channels,
        *,
        cursor: Cursor | None,
        after: str | None,
        events: str | Sequence[str] | None,
        path_prefix: str | Sequence[str] | None,
        filter: str | None,
        session: str | None,
        tickets: bool,
        silence_max_s: float,
        on_gap: Callable[[Gap], None] | None,
        on_error: Callable[[StentorError, float], None] | None,
    ) -> None:
        self.place = common.place(channel)
        self.tickets = tickets
        self.silence_max_s = silence_max_s
        self.backoff = Backoff()
        self._query = [*self.place.query(), *common.filter_query(events, path_prefix, filter, session)]
        self._kept = cursor
        self._cursor = after or (cursor.load() if cursor else None)
        self._on_gap = on_gap or _tell_gap
        self._on_error = on_error or _tell_error
        self._lost_tickets = 0
        self._newest = ""
        #: The cursor is a moment and no event, so that lying ahead of the log only means that nothing happened since.
        self._by_moment = False

    def handled(self, event: Event) -> None:
        """Whoever follows has asked for the next one."""
        if self._kept:
            self._kept.save(event.id)

    def wish(self) -> dict[str, Any]:
        """What a ticket is asked for."""
        return {"channels": list(self.place.channels)} if self.place.channels else {}

    def events(self, frames: Frames, chunk: bytes) -> Iterator[Event]:
        """The events that a piece of a stream completes."""
        for frame in frames.push(chunk):
            event = self.take(frame.event, frame.data, frame.id)
            if event:
                yield event
        if frames.retry_s:
            self.backoff.first_s = frames.retry_s

    def take(self, name: str, data: str, identity: str) -> Event | None:
        """An event, or something about the stream, which is dealt with here."""
        envelope = json.loads(data)
        if isinstance(envelope, dict) and isinstance(envelope.get("id") or envelope.get("event_id"), str):
            event = Event.read(data)
            self.backoff.reset()
            self._lost_tickets = 0
            # ids only grow; one that came before is a repetition
            bare = event.id.removeprefix("evt_")
            if bare <= self._newest:
                return None
            self._newest = bare
            self._cursor, self._by_moment = identity or event.id, False
            return event
        if name == "connected":
            self._lost_tickets = 0
            self.backoff.reset()
            self._cursor = identity or self._cursor
            if self._cursor is None:
                # a WebSocket names no cursor at its start, but the moment of it, of which one can be made
                self._cursor, self._by_moment = ulid_at(envelope["timestamp"]), True
        elif name == "gap":
            reason = envelope.get("reason", "expired")
            if reason == "ahead":
                self._newest = ""
            if not (reason == "ahead" and self._by_moment):
                self._on_gap(Gap(envelope.get("requested"), envelope.get("oldest"), reason))
        return None

    def address(self, ticket: str | None) -> str:
        """The query of the next connection."""
        wanted = list(self._query)
        if ticket:
            wanted.append(("ticket", ticket))
        if self._cursor:
            wanted.append(("last_event_id", self._cursor))
        return urlencode(wanted)

    def refused(self, problem: StentorError) -> float:
        """How long to wait before the next connection.

        Raises the problem where waiting does not help."""
        passing = problem.passing
        if self.tickets and problem.status == 401:
            self._lost_tickets += 1
            passing = self._lost_tickets < LOST_TICKETS_MAX
        if not passing:
            raise problem
        wait_s = self.backoff.next(problem.retry_after_s)
        self._on_error(problem, wait_s)
        return wait_s


def _tell_gap(gap: Gap) -> None:
    _log.warning("events are missing after %s (%s); the oldest left is %s", gap.requested, gap.reason, gap.oldest)


def _tell_error(error: StentorError, wait_s: float) -> None:
    _log.info("%s; connecting again in %.1f s", error, wait_s)
