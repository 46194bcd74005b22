"""Checks that what a webhook brought was sent by the server that knows the secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping


FORMATS = ("map", "standard", "gateway", "feed")
# Signatures of one header that are looked at; it comes from outside.
SIGNATURES_MAX = 16


class InvalidSignature(Exception):
    """The request was not signed with this secret, or too long ago. Answer it with 401."""


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    format: str | None = None,
    tolerance_s: float = 300,
    now: float | None = None,
) -> str:
    """Returns the body as text when it is genuine, else raises `InvalidSignature`.

    `body` is the raw body: the bytes that arrived, before anything parsed them. Without a `format` the headers tell;
    those with a time in the signature are preferred. `gateway` and `feed` have none, so they cannot tell a repetition.
    """
    if isinstance(body, str):
        raise TypeError("body must be the raw bytes that arrived, not text")
    lower = {name.lower(): value for name, value in headers.items()}
    now = time.time() if now is None else now
    chosen = format or _format_of(lower)
    if chosen == "map":
        at = _recent(lower, "x-wanderer-timestamp", tolerance_s, now)
        given = [lower.get("x-wanderer-signature", ""), lower.get("x-wanderer-signature-previous", "")]
        signed = at.encode() + b"." + body
        wanted = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        _one_of(wanted, given)
    elif chosen == "standard":
        at = _recent(lower, "webhook-timestamp", tolerance_s, now)
        identity = _present(lower, "webhook-id")
        signed = f"{identity}.{at}.".encode() + body
        digest = hmac.new(_standard_key(secret), signed, hashlib.sha256).digest()
        given = _present(lower, "webhook-signature").split(" ")[:SIGNATURES_MAX]
        _one_of("v1," + base64.b64encode(digest).decode(), given)
    elif chosen == "gateway":
        wanted = hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()
        _one_of(wanted, [_present(lower, "x-webhook-hmac")])
    elif chosen == "feed":
        wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        _one_of(wanted, [_present(lower, "x-aeordb-signature")])
    else:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}")
    return body.decode()


def _format_of(headers: Mapping[str, str]) -> str:
    named = (
        ("x-wanderer-signature", "map"),
        ("webhook-signature", "standard"),
        ("x-webhook-hmac", "gateway"),
        ("x-aeordb-signature", "feed"),
    )
    for header, name in named:
        if header in headers:
            return name
    raise InvalidSignature("the request has no signature of Stentor; is the secret set on the webhook?")


def _present(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise InvalidSignature(f"the header {name} is missing")
    return value


def _recent(headers: Mapping[str, str], name: str, tolerance_s: float, now: float) -> str:
    text = _present(headers, name)
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise InvalidSignature(f"the header {name} is no time in seconds")
    if abs(now - int(text)) > tolerance_s:
        raise InvalidSignature(f"the signature is more than {tolerance_s:g} s from now; is the clock right?")
    return text


def _standard_key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidSignature("the secret is no key of Standard Webhooks: base64 of 24 to 64 bytes")
    return key


def _one_of(wanted: str, given: list[str]) -> None:
    # each is compared in a time that does not depend on where they differ
    matches = [hmac.compare_digest(wanted.encode(), text.encode()) for text in given]
    if not any(matches):
        raise InvalidSignature("the signature is another one: another secret, or a body that was changed on its way")
