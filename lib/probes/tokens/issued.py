"""Tokens that Keycloak itself issues, by name, each fetched at its first use."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from lib.keycloak import oidc
from lib.run import Run
from lib.steps import endpoints, realm, tokens

Make = Callable[[], str]
T = TypeVar("T")


def issued_tokens(run: Run) -> Callable[[str], str]:
    """Return a function that gives "good", or a token of catalogue.ISSUED, by name; KeyError for other names.

    Keycloak issues each token once; the record redacts it from then on. Safe for several threads.
    """
    session = once(lambda: tokens.user_tokens(run))
    return by_name(
        {
            "good": lambda: session()["access_token"],
            "id": lambda: session()["id_token"],
            "refresh": lambda: session()["refresh_token"],
            "offline": lambda: tokens.user_tokens(run, scope="openid offline_access")["refresh_token"],
            "service account": lambda: _service_token(run),
            "other client": lambda: tokens.user_token(run, realm.OTHER_APP),
            "no role": lambda: tokens.user_token(run, user=realm.VISITOR),
            "no audience": lambda: tokens.user_token(run, "no-audience"),
            "no subject": lambda: tokens.user_token(run, "no-subject"),
            "expired": lambda: tokens.expired_token(run),
            "other realm": lambda: tokens.user_token(run, realm=realm.OTHER),
            "master": lambda: endpoints.keycloak_admin(run).administrator.bearer(),
            "lightweight": lambda: tokens.user_token(run, realm.LIGHTWEIGHT),
        },
        run.record.secret,
    )


def by_name(makers: dict[str, Make], keep_secret: Callable[[str], None]) -> Callable[[str], str]:
    """Return a function that gives tokens by name. Each maker runs once; `keep_secret` gets its token first."""

    def kept_secret(make: Make) -> Make:
        def made() -> str:
            token = make()
            keep_secret(token)
            return token

        return once(made)

    known = {name: kept_secret(make) for name, make in makers.items()}

    def token(name: str) -> str:
        if name not in known:
            raise KeyError(f"expected a token among {', '.join(known)}, got {name!r}; use one of these.")
        return known[name]()

    return token


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that runs `make` once and keeps its value; after an error it runs `make` again."""
    lock = Lock()
    kept: list[T] = []

    def given() -> T:
        with lock:
            if not kept:
                kept.append(make())
            return kept[0]

    return given


def _service_token(run: Run) -> str:
    secret = tokens.client_secret(run, realm.SERVICE)
    endpoint = oidc.discovery(endpoints.issuer(run))["token_endpoint"]
    return oidc.client_token(endpoint, realm.SERVICE, secret)["access_token"]
