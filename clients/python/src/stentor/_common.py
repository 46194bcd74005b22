"""What the client for threads and the one for asyncio share: addresses, bodies, and the course of a stream."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote, urlencode, urlsplit

import httpx

from ._errors import StentorError, error_of
from ._events import Event, Gap

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed, InvalidStatus

# How long the head of an answer may take.
OPEN_TIMEOUT_S = 15.0
# The server writes at least every 30 s unless it was told otherwise: two silences and a half mean a dead connection.
SILENCE_MAX_S = 75.0
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
# A ticket is lost when the server restarts before it is used. That happens once, not three times in a row.
LOST_TICKETS_MAX = 3
# How long publishing is tried again.
PUBLISH_FOR_S = 30.0
PAGES_MAX = 10_000
# A message of a WebSocket that is longer does not come from a Stentor.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024

Payload = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """The addresses of a channel."""

    events: str
    history: str
    stream: str
    websocket: str
    ticket: str


def place(channel: str) -> Place:
    """`map:<id or slug>`, `organization:<id>`, `source:<id>`, or `feed`."""
    if channel == "feed":
        return _below("/events")
    kind, _, name = channel.partition(":")
    bases = {"map": "/api/maps", "organization": "/api/v1/organizations", "source": "/api/webhooks"}
    if kind not in bases or not name:
        raise ValueError("channel must be map:<id>, organization:<id>, source:<id> or feed")
    return _below(f"{bases[kind]}/{quote(name, safe='')}/events")


def _below(events: str) -> Place:
    # of a source, the address of its events is that of their stream
    history = f"{events}/history" if events.startswith("/api/webhooks/") else events
    return Place(events, history, f"{events}/stream", f"{events}/ws", f"{events}/ticket")


def webhooks_of(channel: str) -> tuple[str, dict[str, str]]:
    """The address of a channel's webhooks, and the query that goes with it."""
    kind, _, name = channel.partition(":")
    if kind == "map" and name:
        return f"/api/maps/{quote(name, safe='')}/webhooks", {}
    if kind == "organization" and name:
        return "/api/v1/webhooks", {"channel": channel}
    raise ValueError("channel must be map:<id> or organization:<id>")


def server_address(server: str) -> str:
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("server must be an address such as https://events.example.org")
    return server.rstrip("/")


def filter_query(
    events: str | Sequence[str] | None,
    path_prefix: str | Sequence[str] | None,
    filter: str | None,
    session: str | None,
) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    if events is not None:
        pairs.append(("events", events if isinstance(events, str) else ",".join(events)))
    prefixes = [path_prefix] if isinstance(path_prefix, str) else path_prefix or []
    pairs.extend(("path_prefix", prefix) for prefix in prefixes)
    if filter:
        pairs.append(("filter", filter))
    if session:
        pairs.append(("session", session))
    return pairs


def event_body(
    type: str, payload: Payload | None, session: str | None, ts: str | None, dedupe_id: str | None
) -> dict[str, Any]:
    event: dict[str, Any] = {"type": type, "payload": dict(payload or {})}
    for name, value in (("session", session), ("ts", ts), ("dedupe_id", dedupe_id)):
        if value is not None:
            event[name] = value
    return event


def batch_body(events: Iterable[Payload]) -> bytes:
    return json.dumps({"events": [dict(event) for event in events]}, ensure_ascii=False).encode()


def refusal(answer: httpx.Response) -> StentorError:
    """The error of an answer whose body was read."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    return error_of(answer.status_code, body, answer.headers)


def answered(answer: httpx.Response) -> Any:
    """The JSON of a success; None where it is empty."""
    if not answer.is_success:
        raise refusal(answer)
    return answer.json() if answer.content else None


def broken(error: Exception) -> StentorError:
    return StentorError(f"the connection failed: {error or type(error).__name__}")


def control(text: str) -> tuple[str, str, str]:
    """A message of a WebSocket in the parts of a frame: what the server says itself names it in `event`."""
    return str(json.loads(text).get("event", "")), text, ""


def closed(error: ConnectionClosed) -> StentorError:
    """Why the server ended a WebSocket. Only a token that is no longer good makes it the end."""
    code = error.rcvd.code if error.rcvd else 1006
    reason = error.rcvd.reason if error.rcvd else "the connection broke off"
    return StentorError(f"the server closed the WebSocket: {code} {reason}", code=str(code), passing=code != 4401)


def handshake_refused(error: InvalidStatus) -> StentorError:
    """What the server answered instead of opening a WebSocket."""
    answer = error.response
    try:
        body = json.loads(answer.body or b"null")
    except ValueError:
        body = None
    return error_of(answer.status_code, body, {name.lower(): value for name, value in answer.headers.raw_items()})


def websocket_url(server: str, path: str, query: str) -> str:
    scheme = "wss" if server.startswith("https:") else "ws"
    rest = server.split(":", 1)[1]
    return f"{scheme}:{rest}{path}?{query}"


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


@dataclass
class Course:
    """How a reader stands between connections: its cursor, and what is told of the stream."""

    cursor: str | None
    on_gap: Callable[[Gap], None]
    on_error: Callable[[StentorError, float], None]
    backoff: Backoff
    lost_tickets: int = 0
    _newest: str = ""
    #: The cursor is a moment and no event, so that lying ahead of the log only means that nothing happened since.
    _by_moment: bool = False

    def take(self, name: str, data: str, identity: str) -> Event | None:
        """An event, or something about the stream, which is dealt with here."""
        envelope = json.loads(data)
        if isinstance(envelope, dict) and isinstance(envelope.get("id") or envelope.get("event_id"), str):
            event = Event.read(data)
            self.backoff.reset()
            self.lost_tickets = 0
            # ids only grow; one that came before is a repetition
            bare = event.id.removeprefix("evt_")
            if bare <= self._newest:
                return None
            self._newest = bare
            self.cursor, self._by_moment = identity or event.id, False
            return event
        if name == "connected":
            self.lost_tickets = 0
            self.backoff.reset()
            self.cursor = identity or self.cursor
            if self.cursor is None:
                # a WebSocket names no cursor at its start, but the moment of it, of which one can be made
                self.cursor, self._by_moment = ulid_at(envelope["timestamp"]), True
        elif name == "gap":
            reason = envelope.get("reason", "expired")
            if reason == "ahead":
                self._newest = ""
            if not (reason == "ahead" and self._by_moment):
                self.on_gap(Gap(envelope.get("requested"), envelope.get("oldest"), reason))
        return None

    def address(self, query: list[tuple[str, str]], ticket: str | None) -> str:
        """The query of the next connection."""
        wanted = list(query)
        if ticket:
            wanted.append(("ticket", ticket))
        if self.cursor:
            wanted.append(("last_event_id", self.cursor))
        return urlencode(wanted)

    def refused(self, problem: StentorError, by_ticket: bool) -> float:
        """How long to wait before the next connection.

        Raises the problem where waiting does not help."""
        passing = problem.passing
        if by_ticket and problem.status == 401:
            self.lost_tickets += 1
            passing = self.lost_tickets < LOST_TICKETS_MAX
        if not passing:
            raise problem
        wait_s = self.backoff.next(problem.retry_after_s)
        self.on_error(problem, wait_s)
        return wait_s
