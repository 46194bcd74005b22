"""Events, gaps between them, and where a reader is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

CURSOR_BYTES_MAX = 1024


@dataclass(frozen=True)
class Event:
    """One event, whatever the family of its channel."""

    #: The cursor behind it: follow with `after=event.id` to go on from here.
    id: str
    type: str
    #: When it happened, in UTC.
    timestamp: datetime
    payload: dict[str, Any]
    #: The session that it belongs to, in organizations.
    session: str | None
    #: The map or organization, where the envelope names it.
    owner: str | None
    #: The envelope as the server wrote it: the same bytes as in history and webhooks.
    raw: str = field(repr=False)

    @classmethod
    def read(cls, raw: str) -> Event:
        """Reads the envelope of any family."""
        wire = json.loads(raw)
        kind = wire.get("type") or wire.get("event") or wire.get("event_type") or wire.get("eventType")
        owner = wire.get("map_id") or wire.get("organization") or wire.get("source")
        return cls(
            id=wire.get("id") or wire["event_id"],
            type=kind,
            timestamp=_moment(wire["timestamp"]),
            payload=wire["payload"],
            session=wire.get("session"),
            owner=owner,
            raw=raw,
        )


def _moment(value: str | int | float) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(timezone.utc)
    return datetime.fromtimestamp(value / 1000, timezone.utc)


@dataclass(frozen=True)
class Gap:
    """Events are missing here: retention (`expired`) or damage took them, or the cursor is `ahead` of the log."""

    requested: str | None
    #: The oldest event that is left.
    oldest: str | None
    reason: str


class Cursor(Protocol):
    """Where a consumer keeps the id of the last event that it has handled."""

    def load(self) -> str | None: ...

    def save(self, event_id: str) -> None: ...


class FileCursor:
    """Keeps the cursor in a file, which is replaced as a whole."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def load(self) -> str | None:
        try:
            with self.path.open(encoding="ascii") as file:
                return file.read(CURSOR_BYTES_MAX).strip() or None
        except FileNotFoundError:
            return None

    def save(self, event_id: str) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(event_id, encoding="ascii")
        os.replace(new, self.path)
