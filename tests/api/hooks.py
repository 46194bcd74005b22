"""What Schemathesis does not know of itself: lines of JSON, and texts that are only texts."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return {"data": value if isinstance(value, bytes) else str(value).encode()}


@schemathesis.deserializer(
    "application/x-ndjson", "application/openmetrics-text", "text/html", "text/javascript", "text/css", "text/plain",
    "text/event-stream", "image/svg+xml", "image/png", "application/octet-stream", "application/x-tar",
)
def text(context, response):
    return response.content.decode("utf-8", errors="replace")
