"""Makes the client for asyncio of the one for threads: `python make_async.py` writes it, `--check` tells whether it is new."""

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "src/stentor/_client.py"
TARGET = SOURCE.with_name("_async_client.py")

# Each has to be there, so that a change of the source that this does not know is noticed.
CHANGES = [
    ('"""The client for threads."""', '"""The client for asyncio, made of `_client.py` by `make_async.py`."""'),
    ("class Stentor:", "class AsyncStentor:"),
    ("-> Stentor:", "-> AsyncStentor:"),
    ("Can be shared by threads.", "For one event loop."),
    ("import json\nimport logging", "import asyncio\nimport json\nimport logging"),
    ("import Generator, Iterable, Iterator, Sequence", "import AsyncGenerator, AsyncIterator, Iterable, Sequence"),
    ("import closing", "import aclosing"),
    ("def __enter__", "async def __aenter__"),
    ("def __exit__", "async def __aexit__"),
    ("        self.close()", "        await self.aclose()"),
    ("def close(self)", "async def aclose(self)"),
    ("self._client.close()", "await self._client.aclose()"),
    ("httpx.Client", "httpx.AsyncClient"),
    ("answer = self._client.request", "answer = await self._client.request"),
    ("-> Generator[Event, None, None]", "-> AsyncGenerator[Event, None]"),
    ("-> Iterator[", "-> AsyncIterator["),
    ('            yield from page["data"]', '            for item in page["data"]:\n                yield item'),
    ("= self.request(", "= await self.request("),
    ("return self._publish(channel, json.dumps(event, ensure_ascii=False).encode(), retry_for_s)[0]",
     "return (await self._publish(channel, json.dumps(event, ensure_ascii=False).encode(), retry_for_s))[0]"),
    ("return self._publish(", "return await self._publish("),
    ("time.sleep(", "await asyncio.sleep("),
    ("for envelope in self.pages", "async for envelope in self.pages"),
    ("with closing(", "async with aclosing("),
    ("for event in connection", "async for event in connection"),
    ('return str(self.request("POST", place.ticket, body={})["data"]["ticket"])',
     'return str((await self.request("POST", place.ticket, body={}))["data"]["ticket"])'),
    ("= self._ticket(", "= await self._ticket("),
    ("with self._client.stream(", "async with self._client.stream("),
    ("answer.read()", "await answer.aread()"),
    ("for chunk in answer.iter_raw()", "async for chunk in answer.aiter_raw()"),
    ("from websockets.sync.client import connect", "from websockets.asyncio.client import connect"),
    ("            with connect(", "            async with connect("),
    ("text = socket.recv(timeout=silence_max_s)", "text = await asyncio.wait_for(socket.recv(), silence_max_s)"),
]
PATTERNS = [
    (r"\n    def (?!__|_headers)", r"\n    async def "),
    (r'return self\.request\((.*)\)\["data"\]', r'return (await self.request(\1))["data"]'),
    (r"return self\.request\(", r"return await self.request("),
    (r"\n        self\.request\(", r"\n        await self.request("),
    (r"return list\(self\.pages\((.*)\)\)\n", r"return [item async for item in self.pages(\1)]\n"),
]


def made() -> str:
    text = SOURCE.read_text(encoding="utf-8")
    for before, after in CHANGES:
        if before not in text:
            raise SystemExit(f"{SOURCE} has no {before!r} any more; correct {__file__}")
        text = text.replace(before, after)
    for pattern, after in PATTERNS:
        text = re.sub(pattern, after, text)
    return text


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == made() else f"{TARGET} is old; run {__file__}")
    TARGET.write_text(made(), encoding="utf-8")
