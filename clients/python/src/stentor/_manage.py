"""Managing a server, written once for the client for threads and for that for asyncio.

Each of them says what a request gives back: its answer, or something to wait for that gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from . import _common as common

#: What an object, a list and an empty answer are.
One = TypeVar("One")
Many = TypeVar("Many")
Nothing = TypeVar("Nothing")


class Management(ABC, Generic[One, Many, Nothing]):
    """Maps, organizations, tokens, webhooks and sources. What is not here is `request`, and `pages` for lists."""

    @abstractmethod
    def _one(self, method: str, path: str, *, query: Any = None, body: Any = None) -> One:
        """An object that stands in `data`."""

    @abstractmethod
    def _whole(self, method: str, path: str, *, query: Any = None, body: Any = None) -> One:
        """The answer as it is."""

    @abstractmethod
    def _many(self, path: str, *, query: Any = None) -> Many:
        """A list over all its pages."""

    @abstractmethod
    def _nothing(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Nothing:
        """An answer that says no more than that it was done."""

    def create_map(self, name: str, slug: str | None = None) -> One:
        """Makes a map (admin). Its first `token` is shown only here."""
        return self._one("POST", "/api/maps", body={"name": name, **({"slug": slug} if slug else {})})

    def maps(self) -> Many:
        return self._many("/api/maps")

    def delete_map(self, map: str) -> Nothing:
        return self._nothing("DELETE", f"/api/maps/{common.part(map)}")

    def create_organization(self, name: str, id: str | None = None) -> One:
        """Makes an organization (admin). Its first `token` is shown only here."""
        return self._one("POST", "/api/v1/organizations", body={"name": name, **({"id": id} if id else {})})

    def organizations(self) -> Many:
        return self._many("/api/v1/organizations")

    def delete_organization(self, organization: str) -> Nothing:
        return self._nothing("DELETE", f"/api/v1/organizations/{common.part(organization)}")

    def create_token(self, channel: common.Channels, scopes: Sequence[str], **more: str) -> One:
        """Makes a token for a channel, or for a list of them (admin); `name` and `expires_at` may be given. The `token` is shown
        only here."""
        which = {"channel": channel} if isinstance(channel, str) else {"channels": list(channel)}
        return self._one("POST", "/api/v1/tokens", body={**which, "scopes": list(scopes), **more})

    def tokens(self) -> Many:
        return self._many("/api/v1/tokens")

    def rename_token(self, id: str, name: str | None) -> One:
        """Gives a token another name, or none."""
        return self._one("PATCH", f"/api/v1/tokens/{common.part(id)}", body={"name": name})

    def revoke_token(self, id: str) -> Nothing:
        return self._nothing("DELETE", f"/api/v1/tokens/{common.part(id)}")

    def create_webhook(self, channel: str, url: str, **fields: Any) -> One:
        """Makes a webhook, with the fields of the API as the channel's family spells them. A map's `secret` is shown only
        here, and its webhooks deliver once they are turned on."""
        path, query = common.webhooks_of(channel)
        return self._one("POST", path, query=query, body={"url": url, **fields})

    def webhooks(self, channel: str) -> Many:
        path, query = common.webhooks_of(channel)
        return self._many(path, query=query)

    def update_webhook(self, channel: str, id: str, **fields: Any) -> One:
        path, query = common.webhooks_of(channel)
        return self._one("PATCH", f"{path}/{common.part(id)}", query=query, body=fields)

    def delete_webhook(self, channel: str, id: str) -> Nothing:
        path, query = common.webhooks_of(channel)
        return self._nothing("DELETE", f"{path}/{common.part(id)}", query=query)

    def toggle_webhooks(self, map: str, enabled: bool) -> Nothing:
        """Turns all webhooks of a map on or off."""
        name = common.part(map.removeprefix("map:"))
        return self._nothing("PUT", f"/api/maps/{name}/webhooks/toggle", body={"enabled": enabled})

    def create_source(self, channel: str, authentication: str, **fields: Any) -> One:
        """Makes an inbound webhook: `endpoint`, and a `secret` that is shown only here."""
        body = {"authentication": authentication, **fields}
        return self._whole("POST", "/api/webhooks", query={"channel": channel}, body=body)

    def sources(self, channel: str | None = None) -> Many:
        return self._many("/api/webhooks", query={"channel": channel} if channel else None)

    def delete_source(self, id: str) -> Nothing:
        return self._nothing("DELETE", f"/api/webhooks/{common.part(id)}")
