"""What the client for threads and the one for asyncio share: addresses, bodies, and what answers say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import quote, urlsplit

import httpx

from ._errors import StentorError, error_of

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed, InvalidStatus

# How long the head of an answer may take.
OPEN_TIMEOUT_S = 15.0
# The server writes at least every 30 s unless it was told otherwise: two silences and a half mean a dead connection.
SILENCE_MAX_S = 75.0
# How long publishing is tried again.
PUBLISH_FOR_S = 30.0
# A longer message does not come from a Stentor. The server's own pings are frames, so silence is judged by them.
WEBSOCKET_OPTIONS: dict[str, Any] = {"max_size": 32 * 1024 * 1024, "open_timeout": OPEN_TIMEOUT_S, "ping_interval": None}

Payload = Mapping[str, Any]
#: One channel, or several that are read in one order: `map:<id or slug>`, `organization:<id>`, and `map:*` or `organization:*` for all
#: of a kind.
Channels = Union[str, Sequence[str]]


@dataclass(frozen=True)
class Place:
    """The addresses of a channel."""

    events: str
    history: str
    stream: str
    websocket: str
    ticket: str
    #: Which channels, where the addresses do not say it.
    channels: tuple[str, ...] = ()

    def query(self) -> list[tuple[str, str]]:
        return [("channel", ",".join(self.channels))] if self.channels else []


def part(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def place(channel: Channels) -> Place:
    """`map:<id or slug>`, `organization:<id>`, `source:<id>`, `feed`, or a list of channels."""
    if not isinstance(channel, str):
        if not channel:
            raise ValueError("give at least one channel: map:<id>, organization:<id>, map:* or organization:*")
        return replace(_below("/events"), channels=tuple(channel))
    if channel == "feed":
        return _below("/events")
    kind, _, name = channel.partition(":")
    bases = {"map": "/api/maps", "organization": "/api/v1/organizations", "source": "/api/webhooks"}
    if kind not in bases or not name:
        raise ValueError("channel must be map:<id>, organization:<id>, source:<id> or feed")
    return _below(f"{bases[kind]}/{part(name)}/events")


def _below(events: str) -> Place:
    # of a source, the address of its events is that of their stream
    history = f"{events}/history" if events.startswith("/api/webhooks/") else events
    return Place(events, history, f"{events}/stream", f"{events}/ws", f"{events}/ticket")


def webhooks_of(channel: str) -> tuple[str, dict[str, str]]:
    """The address of a channel's webhooks, and the query that goes with it."""
    kind, _, name = channel.partition(":")
    if kind == "map" and name:
        return f"/api/maps/{part(name)}/webhooks", {}
    if kind == "organization" and name:
        return "/api/v1/webhooks", {"channel": channel}
    raise ValueError("channel must be map:<id> or organization:<id>")


def bearer(token: str) -> str:
    """The token as a header takes it. One that was read from a file may end with a line break."""
    token = token.strip()
    if not token:
        raise ValueError("token is empty; is the variable or the file that it comes from set?")
    if not token.isascii() or not token.isprintable():
        raise ValueError("token has characters that no token has; was something else read?")
    return f"Bearer {token}"


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


def content(body: Any, headers: dict[str, str]) -> tuple[bytes | None, dict[str, str]]:
    """A body as it is sent, and the headers that go with it."""
    if body is None:
        return None, headers
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return raw, {"Content-Type": "application/json", **headers}


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


def ended() -> StentorError:
    return StentorError("the server ended the stream")


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
