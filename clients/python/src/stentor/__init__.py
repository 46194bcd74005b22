"""Client of Stentor, a server of real-time events.

    from stentor import FileCursor, Stentor

    stentor = Stentor("http://127.0.0.1:8080", token)
    stentor.publish("map:home", "map_kill", {"value": 3_000_000_000})
    for event in stentor.follow("map:home", cursor=FileCursor("home.cursor")):
        print(event.type, event.payload)

`AsyncStentor` is the same for asyncio. `verify_webhook` checks what a webhook brought.
"""

from ._async_client import AsyncStentor
from ._client import Stentor
from ._errors import StentorError
from ._events import Cursor, Event, FileCursor, Gap
from ._verify import InvalidSignature, verify_webhook

__all__ = [
    "AsyncStentor",
    "Cursor",
    "Event",
    "FileCursor",
    "Gap",
    "InvalidSignature",
    "Stentor",
    "StentorError",
    "verify_webhook",
]
