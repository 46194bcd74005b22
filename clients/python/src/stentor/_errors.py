"""Why the server did not do what it was asked."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

# Answers that pass: a timeout, too early, too many, no room. The rest of 4xx does not change by asking again.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# The longest wait that a server may ask for.
RETRY_AFTER_MAX_S = 24 * 3600.0


class StentorError(Exception):
    """An answer that is no success, or a connection that failed (`status` is None then)."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        details: Any = None,
        retry_after_s: float = 0.0,
        passing: bool | None = None,
    ) -> None:
        super().__init__(message)
        #: The HTTP status, if an answer came.
        self.status = status
        #: The server's code of the error, such as `UNAUTHORIZED`.
        self.code = code
        #: What is wrong with which field, or which setting is the limit.
        self.details = details
        #: Least time to wait before the next try.
        self.retry_after_s = retry_after_s
        #: Whether the same request may well succeed a little later.
        self.passing = (status is None or status in PASSING) if passing is None else passing

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.details})" if self.details else text


def error_of(status: int, body: Any, headers: Mapping[str, str]) -> StentorError:
    """Reads an answer in either form in which the server writes errors."""
    said = body.get("error") if isinstance(body, dict) else None
    if isinstance(said, dict):
        message, code, details = said.get("message"), said.get("code"), said.get("details")
    else:
        about = body if isinstance(body, dict) else {}
        message, code, details = said, about.get("code"), about.get("details")
    text = message if isinstance(message, str) else "no reason that Stentor would give"
    retry_after_s = _wait_asked_for(headers.get("retry-after"))
    return StentorError(f"{status}: {text}", status=status, code=code, details=details, retry_after_s=retry_after_s)


def _wait_asked_for(text: str | None) -> float:
    """`Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if not text:
        return 0.0
    if text.strip().isdecimal():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(at - time.time(), 0.0), RETRY_AFTER_MAX_S)
