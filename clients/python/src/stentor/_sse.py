"""Takes the text of an event stream apart into frames (WHATWG HTML 9.2.6)."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

# A frame that grows beyond this does not come from a Stentor.
FRAME_CHARS_MAX = 32 * 1024 * 1024


class FrameTooLong(Exception):
    """The stream is no event stream, or not one of ours."""


@dataclass(frozen=True)
class Frame:
    event: str
    data: str
    #: The last id that the stream named.
    id: str


class Frames:
    """One stream, from its first byte on."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._parts: list[str] = []
        self._chars = 0
        self._after_return = False
        self._event, self._id = "", ""
        self._data: list[str] = []

    def push(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete."""
        text = self._decoder.decode(chunk)
        if self._after_return and text.startswith("\n"):
            text = text[1:]
        if not text:
            return
        self._after_return = text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._chars += len(text)
        if lines:
            lines[0] = "".join(self._parts) + lines[0]
            self._parts = []
        self._parts.append(rest)
        for line in lines:
            frame = self._line(line)
            if frame is not None:
                yield frame
        if self._chars > FRAME_CHARS_MAX:
            raise FrameTooLong("a frame of the stream is too long")

    def _line(self, line: str) -> Frame | None:
        if line == "":
            frame = Frame(self._event or "message", "\n".join(self._data), self._id) if self._data else None
            self._event, self._data, self._chars = "", [], 0
            return frame
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdecimal() and value.isascii():
            self.retry_s = int(value) / 1000
        elif name == "":
            # a comment: keepalive, which counts as no frame
            self._chars = sum(map(len, self._parts)) + sum(map(len, self._data))
        return None
