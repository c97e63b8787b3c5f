"""A Keycloak whose objects are read once: many small steps look at the same client, roles and groups."""

from __future__ import annotations

from typing import Any

from lib.keycloak.admin import REQUIRED, Keycloak


class ReadOnce(Keycloak):
    """Another Keycloak's administrator, who asks for each path once until one of these calls writes.

    Nobody else may write meanwhile. Safe for several threads: a read that was under way during a write is forgotten.
    """

    def __init__(self, keycloak: Keycloak) -> None:
        self.url, self.user, self.session, self._ask = keycloak.url, keycloak.user, keycloak.session, keycloak.call
        self._known: dict[tuple, Any] = {}

    def call(
        self, method: str, at: str, content: Any = None, *, query: dict[str, str] | None = None, absent: Any = REQUIRED
    ) -> Any:
        """See Keycloak.call."""
        known, key = self._known, (at, *(query or {}).items(), absent)
        if method == "GET" and key in known:
            return known[key]
        answer = self._ask(method, at, content, query=query, absent=absent)
        if method == "GET":
            known[key] = answer
        else:
            self._known = {}
        return answer
