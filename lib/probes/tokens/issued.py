"""Tokens by name, minted by the real Keycloak on first asking: those that must pass, and those that nobody forged."""

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
    """Return a function from a name of lib.probes.tokens.ISSUED, or good, to its token.

    Each is minted once, and redacted from then on. It may be called from several threads.
    KeyError where there is no such name.
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
            "expired": lambda: run.read_secret(tokens.EXPIRED, endpoints.KEYCLOAK)["token"],
            "other realm": lambda: tokens.user_token(run, realm=realm.OTHER),
            "master": lambda: _admin_token(run),
            "lightweight": lambda: tokens.user_token(run, realm.LIGHTWEIGHT),
        },
        run.record.secret,
    )


def by_name(makers: dict[str, Make], keep_secret: Callable[[str], None]) -> Callable[[str], str]:
    """Return a function from a name to what its maker makes, made once and passed to `keep_secret` before any use."""

    def guarded(make: Make) -> Make:
        def made() -> str:
            token = make()
            keep_secret(token)
            return token

        return once(made)

    known = {name: guarded(make) for name, make in makers.items()}

    def token(name: str) -> str:
        if name not in known:
            raise KeyError(f"expected a token among {', '.join(known)}, got {name!r}; name one of these.")
        return known[name]()

    return token


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that gives what the first call made; others wait for it. What raises is tried again."""
    lock, kept = Lock(), []

    def given() -> T:
        with lock:
            if not kept:
                kept.append(make())
            return kept[0]

    return given


def _service_token(run: Run) -> str:
    known = run.read_secret(f"client-{run.params.realm}-{realm.SERVICE}", endpoints.KEYCLOAK)
    endpoint = oidc.discovery(endpoints.issuer(run))["token_endpoint"]
    return oidc.client_token(endpoint, realm.SERVICE, known["client-secret"])["access_token"]


def _admin_token(run: Run) -> str:
    """From inside: their realm is not public. It names the public issuer all the same; admin-cli has no secret."""
    known, session = run.read_secret("keycloak-admin", endpoints.KEYCLOAK), endpoints.keycloak_session(run)
    endpoint = f"{endpoints.inside_url(run)}/realms/master/protocol/openid-connect/token"
    said = oidc.password_token(endpoint, "admin-cli", "", known["username"], known["password"], session=session)
    return said["access_token"]
