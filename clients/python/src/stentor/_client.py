"""The client for threads."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Callable, Literal

import httpx

from . import _common as common
from ._errors import StentorError
from ._events import Cursor, Event, Gap
from ._sse import Frames, FrameTooLong

_log = logging.getLogger("stentor")


class Stentor:
    """Publishes, follows and manages, with one token. Can be shared by threads."""

    def __init__(self, server: str, token: str | Callable[[], str], *, client: httpx.Client | None = None) -> None:
        """`token` may be a function that gives one, for tokens that expire. `client` is one of your own, for proxies or
        certificates."""
        self._server = common.server_address(server)
        self._token = token
        self._client = client or httpx.Client(timeout=30)

    def __enter__(self) -> Stentor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def _headers(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": f"Bearer {token}"}

    # ---- requests

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Any request of the API: the JSON of its answer, None where that is empty. Raises `StentorError`."""
        sent = {**self._headers(), **(headers or {})}
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            answer = self._client.request(method, self._server + path, params=query, content=content, headers=sent)
        except httpx.TransportError as error:
            raise common.broken(error) from error
        return common.answered(answer)

    def pages(self, path: str, *, query: dict[str, str] | None = None) -> Iterator[Any]:
        """The items of a list, over all its pages."""
        wanted = dict(query or {})
        for _ in range(common.PAGES_MAX):
            page = self.request("GET", path, query=wanted)
            yield from page["data"]
            after = page.get("nextCursor") or page.get("next")
            if not after or not page["data"]:
                return
            wanted["after"] = str(after)
        raise StentorError(f"the list has more than {common.PAGES_MAX} pages; ask for less")

    # ---- publishing

    def publish(
        self,
        channel: str,
        type: str,
        payload: common.Payload | None = None,
        *,
        session: str | None = None,
        ts: str | None = None,
        dedupe_id: str | None = None,
        retry_for_s: float = common.PUBLISH_FOR_S,
    ) -> str:
        """Publishes one event and returns its id: it is durable then, and stored once however often it was sent."""
        event = common.event_body(type, payload, session, ts, dedupe_id)
        return self._publish(channel, json.dumps(event, ensure_ascii=False).encode(), retry_for_s)[0]

    def publish_batch(
        self, channel: str, events: Iterable[common.Payload], *, retry_for_s: float = common.PUBLISH_FOR_S
    ) -> list[str]:
        """Publishes all events or none, each such as `{"type": ..., "payload": {...}}`. Returns their ids in order."""
        return self._publish(channel, common.batch_body(events), retry_for_s)

    def _publish(self, channel: str, body: bytes, retry_for_s: float) -> list[str]:
        # an answer that was lost on its way is asked for again under the same key
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        deadline = time.monotonic() + retry_for_s
        backoff = common.Backoff()
        while True:
            try:
                answer = self.request("POST", common.place(channel).events, body=body, headers=headers)
                return list(answer["data"]["ids"])
            except StentorError as problem:
                wait_s = backoff.next(problem.retry_after_s)
                if not problem.passing or time.monotonic() + wait_s > deadline:
                    raise
            time.sleep(wait_s)

    # ---- reading

    def history(self, channel: str, *, limit: int = 100, **query: str) -> Iterator[Event]:
        """Events that are stored, the oldest first; `since`, `until`, `after`, `events`, `filter` ... as in the API."""
        wanted = {**query, "limit": str(limit)}
        for envelope in self.pages(common.place(channel).history, query=wanted):
            yield Event.read(json.dumps(envelope, ensure_ascii=False))

    def follow(
        self,
        channel: str,
        *,
        cursor: Cursor | None = None,
        after: str | None = None,
        events: str | Sequence[str] | None = None,
        path_prefix: str | Sequence[str] | None = None,
        filter: str | None = None,
        session: str | None = None,
        transport: Literal["sse", "websocket"] = "sse",
        tickets: bool = False,
        silence_max_s: float = common.SILENCE_MAX_S,
        on_gap: Callable[[Gap], None] | None = None,
        on_error: Callable[[StentorError, float], None] | None = None,
    ) -> Generator[Event, None, None]:
        """The events of a channel, in order and each once, over every disconnection and restart, without end.

        With a `cursor` each event is marked as handled when the next one is asked for, and a later call goes on behind
        the last that was handled. Without one, and without `after`, it begins with what comes from now on. Where events
        are missing, `on_gap` is called. A connection that fails is told to `on_error` with the seconds to the next one;
        what waiting does not help is raised as `StentorError`. With `tickets` each connection is opened by a ticket of
        its own, so that no token stands in what proxies see of streams.
        """
        place = common.place(channel)
        query = common.filter_query(events, path_prefix, filter, session)
        start = after or (cursor.load() if cursor else None)
        course = common.Course(start, on_gap or _tell_gap, on_error or _tell_error, common.Backoff())
        connect = self._sse if transport == "sse" else self._websocket
        while True:
            try:
                with closing(connect(place, query, course, tickets, silence_max_s)) as connection:
                    for event in connection:
                        yield event
                        if cursor:
                            cursor.save(event.id)
                problem = StentorError("the server ended the stream")
            except StentorError as error:
                problem = error
            time.sleep(course.refused(problem, tickets))

    def _ticket(self, place: common.Place, tickets: bool) -> str | None:
        if not tickets:
            return None
        return str(self.request("POST", place.ticket, body={})["data"]["ticket"])

    def _sse(
        self, place: common.Place, query: list[tuple[str, str]], course: common.Course, tickets: bool, silence_max_s: float
    ) -> Generator[Event, None, None]:
        ticket = self._ticket(place, tickets)
        headers = {"Accept": "text/event-stream", **({} if ticket else self._headers())}
        timeout = httpx.Timeout(common.OPEN_TIMEOUT_S, read=silence_max_s)
        frames = Frames()
        try:
            with self._client.stream(
                "GET", f"{self._server}{place.stream}?{course.address(query, ticket)}", headers=headers, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise common.refusal(answer)
                for chunk in answer.iter_raw():
                    for frame in frames.push(chunk):
                        event = course.take(frame.event, frame.data, frame.id)
                        if event:
                            yield event
                    if frames.retry_s:
                        course.backoff.first_s = frames.retry_s
        except (httpx.TransportError, httpx.StreamError, FrameTooLong) as error:
            raise common.broken(error) from error

    def _websocket(
        self, place: common.Place, query: list[tuple[str, str]], course: common.Course, tickets: bool, silence_max_s: float
    ) -> Generator[Event, None, None]:
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        ticket = self._ticket(place, tickets)
        url = common.websocket_url(self._server, place.websocket, course.address(query, ticket))
        headers = {} if ticket else self._headers()
        try:
            # the server's own pings are frames, so silence is judged by them
            with connect(
                url, additional_headers=headers, max_size=common.MESSAGE_BYTES_MAX, open_timeout=common.OPEN_TIMEOUT_S, ping_interval=None
            ) as socket:
                while True:
                    try:
                        text = socket.recv(timeout=silence_max_s)
                    except ConnectionClosed as closed:
                        raise common.closed(closed) from closed
                    event = course.take(*common.control(str(text)))
                    if event:
                        yield event
        except InvalidStatus as refused:
            raise common.handshake_refused(refused) from refused
        except (WebSocketException, OSError, EOFError, TimeoutError) as error:
            raise common.broken(error) from error

    # ---- management

    def create_map(self, name: str, slug: str | None = None) -> Any:
        """Makes a map (admin). Its first `token` is shown only here."""
        return self.request("POST", "/api/maps", body={"name": name, **({"slug": slug} if slug else {})})["data"]

    def maps(self) -> list[Any]:
        return list(self.pages("/api/maps"))

    def delete_map(self, map: str) -> None:
        self.request("DELETE", f"/api/maps/{map}")

    def create_organization(self, name: str, id: str | None = None) -> Any:
        """Makes an organization (admin). Its first `token` is shown only here."""
        body = {"name": name, **({"id": id} if id else {})}
        return self.request("POST", "/api/v1/organizations", body=body)["data"]

    def organizations(self) -> list[Any]:
        return list(self.pages("/api/v1/organizations"))

    def delete_organization(self, organization: str) -> None:
        self.request("DELETE", f"/api/v1/organizations/{organization}")

    def create_token(self, channel: str, scopes: Sequence[str], **more: str) -> Any:
        """Makes a token; `name` and `expires_at` may be given. The `token` is shown only here."""
        body = {"channel": channel, "scopes": list(scopes), **more}
        return self.request("POST", "/api/v1/tokens", body=body)["data"]

    def tokens(self) -> list[Any]:
        return list(self.pages("/api/v1/tokens"))

    def revoke_token(self, id: str) -> None:
        self.request("DELETE", f"/api/v1/tokens/{id}")

    def create_webhook(self, channel: str, url: str, **fields: Any) -> Any:
        """Makes a webhook, with the fields of the API as the channel's family spells them. A map's `secret` is shown only
        here, and its webhooks deliver once they are turned on."""
        path, query = common.webhooks_of(channel)
        return self.request("POST", path, query=query, body={"url": url, **fields})["data"]

    def webhooks(self, channel: str) -> list[Any]:
        path, query = common.webhooks_of(channel)
        return list(self.pages(path, query=query))

    def update_webhook(self, channel: str, id: str, **fields: Any) -> Any:
        path, query = common.webhooks_of(channel)
        return self.request("PATCH", f"{path}/{id}", query=query, body=fields)["data"]

    def delete_webhook(self, channel: str, id: str) -> None:
        path, query = common.webhooks_of(channel)
        self.request("DELETE", f"{path}/{id}", query=query)

    def toggle_webhooks(self, map: str, enabled: bool) -> None:
        """Turns all webhooks of a map on or off."""
        name = map.removeprefix("map:")
        self.request("PUT", f"/api/maps/{name}/webhooks/toggle", body={"enabled": enabled})

    def create_source(self, channel: str, authentication: str, **fields: Any) -> Any:
        """Makes an inbound webhook: `endpoint`, and a `secret` that is shown only here."""
        body = {"authentication": authentication, **fields}
        return self.request("POST", "/api/webhooks", query={"channel": channel}, body=body)

    def sources(self, channel: str | None = None) -> list[Any]:
        return list(self.pages("/api/webhooks", query={"channel": channel} if channel else None))

    def delete_source(self, id: str) -> None:
        self.request("DELETE", f"/api/webhooks/{id}")


def _tell_gap(gap: Gap) -> None:
    _log.warning("events are missing after %s (%s); the oldest left is %s", gap.requested, gap.reason, gap.oldest)


def _tell_error(error: StentorError, wait_s: float) -> None:
    _log.info("%s; connecting again in %.1f s", error, wait_s)
