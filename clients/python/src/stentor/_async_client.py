"""The client for asyncio. It does what `_client.py` does, and waits otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Callable, Literal

import httpx

from . import _common as common
from ._course import Course, Pages, Publishing
from ._errors import StentorError
from ._events import Cursor, Event, Gap
from ._manage import Management
from ._sse import Frames, FrameTooLong


class AsyncStentor(Management["Awaitable[Any]", "Awaitable[list[Any]]", "Awaitable[None]"]):
    """Publishes, follows and manages, with one token. For one event loop."""

    def __init__(self, server: str, token: str | Callable[[], str], *, client: httpx.AsyncClient | None = None) -> None:
        """`token` may be a function that gives one, for tokens that expire. `client` is one of your own, for proxies or
        certificates."""
        self._server = common.server_address(server)
        if isinstance(token, str):
            common.bearer(token)
        self._token = token
        self._client = client or httpx.AsyncClient(timeout=30)

    async def __aenter__(self) -> AsyncStentor:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    def _headers(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": common.bearer(token)}

    # ---- requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Any request of the API: the JSON of its answer, None where that is empty. Raises `StentorError`."""
        content, sent = common.content(body, {**self._headers(), **(headers or {})})
        try:
            answer = await self._client.request(method, self._server + path, params=query, content=content, headers=sent)
        except httpx.TransportError as error:
            raise common.broken(error) from error
        return common.answered(answer)

    async def pages(self, path: str, *, query: dict[str, str] | None = None) -> AsyncIterator[Any]:
        """The items of a list, over all its pages."""
        pages = Pages(query)
        while pages.query is not None:
            for item in pages.take(await self.request("GET", path, query=pages.query)):
                yield item

    async def _one(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        return (await self.request(method, path, query=query, body=body))["data"]

    async def _whole(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        return await self.request(method, path, query=query, body=body)

    async def _many(self, path: str, *, query: Any = None) -> list[Any]:
        return [item async for item in self.pages(path, query=query)]

    async def _nothing(self, method: str, path: str, *, query: Any = None, body: Any = None) -> None:
        await self.request(method, path, query=query, body=body)

    # ---- publishing

    async def publish(
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
        return (await self._publish(Publishing(channel, event, retry_for_s)))[0]

    async def publish_batch(
        self, channel: str, events: Iterable[common.Payload], *, retry_for_s: float = common.PUBLISH_FOR_S
    ) -> list[str]:
        """Publishes all events or none, each such as `{"type": ..., "payload": {...}}`. Returns their ids in order."""
        return await self._publish(Publishing(channel, {"events": [dict(event) for event in events]}, retry_for_s))

    async def _publish(self, publishing: Publishing) -> list[str]:
        while True:
            try:
                answer = await self.request("POST", publishing.path, body=publishing.body, headers=publishing.headers)
                return publishing.ids(answer)
            except StentorError as problem:
                wait_s = publishing.wait_s(problem)
            await asyncio.sleep(wait_s)

    # ---- reading

    async def history(self, channel: common.Channels, *, limit: int = 100, **query: str) -> AsyncIterator[Event]:
        """Events that are stored, the oldest first; `since`, `until`, `after`, `events`, `filter` ... as in the API."""
        place = common.place(channel)
        async for envelope in self.pages(place.history, query={**dict(place.query()), **query, "limit": str(limit)}):
            yield Event.read(json.dumps(envelope, ensure_ascii=False))

    async def follow(
        self,
        channel: common.Channels,
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
    ) -> AsyncGenerator[Event, None]:
        """The events of a channel, or of a list of channels in one order, each once, over every disconnection and restart, without
        end.

        With a `cursor` each event is marked as handled when the next one is asked for, and a later call goes on behind
        the last that was handled. Without one, and without `after`, it begins with what comes from now on. Where events
        are missing, `on_gap` is called. A connection that fails is told to `on_error` with the seconds to the next one;
        what waiting does not help is raised as `StentorError`. With `tickets` each connection is opened by a ticket of
        its own, so that no token stands in what proxies see of streams.
        """
        course = Course(
            channel, cursor=cursor, after=after, events=events, path_prefix=path_prefix, filter=filter, session=session,
            tickets=tickets, silence_max_s=silence_max_s, on_gap=on_gap, on_error=on_error,
        )  # fmt: skip
        connect = self._sse if transport == "sse" else self._websocket
        while True:
            try:
                async with aclosing(connect(course)) as connection:
                    async for event in connection:
                        yield event
                        course.handled(event)
                problem = common.ended()
            except StentorError as error:
                problem = error
            await asyncio.sleep(course.refused(problem))

    async def _opening(self, course: Course) -> tuple[str, dict[str, str]]:
        """The query and the headers of a connection: a ticket in the one, or the token in the other."""
        if not course.tickets:
            return course.address(None), self._headers()
        answer = await self.request("POST", course.place.ticket, body=course.wish())
        return course.address(str(answer["data"]["ticket"])), {}

    async def _sse(self, course: Course) -> AsyncGenerator[Event, None]:
        query, headers = await self._opening(course)
        url = f"{self._server}{course.place.stream}?{query}"
        timeout = httpx.Timeout(common.OPEN_TIMEOUT_S, read=course.silence_max_s)
        frames = Frames()
        try:
            async with self._client.stream("GET", url, headers={"Accept": "text/event-stream", **headers}, timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise common.refusal(answer)
                async for chunk in answer.aiter_raw():
                    for event in course.events(frames, chunk):
                        yield event
        except (httpx.TransportError, httpx.StreamError, FrameTooLong) as error:
            raise common.broken(error) from error

    async def _websocket(self, course: Course) -> AsyncGenerator[Event, None]:
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
        from websockets.asyncio.client import connect

        query, headers = await self._opening(course)
        url = common.websocket_url(self._server, course.place.websocket, query)
        try:
            async with connect(url, additional_headers=headers, **common.WEBSOCKET_OPTIONS) as socket:
                while True:
                    try:
                        text = await asyncio.wait_for(socket.recv(), course.silence_max_s)
                    except ConnectionClosed as closed:
                        raise common.closed(closed) from closed
                    event = course.take(*common.control(str(text)))
                    if event:
                        yield event
        except InvalidStatus as refused:
            raise common.handshake_refused(refused) from refused
        except (WebSocketException, OSError, EOFError, TimeoutError) as error:
            raise common.broken(error) from error
