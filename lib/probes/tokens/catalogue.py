"""The tokens of the tables, by name: good ones, those that Keycloak mints, and those that are forged."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import RLock

from lib.crypto import jwt
from lib.probes.tokens import forged_claims, forged_headers
from lib.probes.tokens.builders import CANARY, JWKS, LIFE, NEEDS, OWN, Missing, Token
from lib.probes.tokens.keys import SigningKey

__all__ = ["MINTED", "TOKENS", "Kit", "Missing", "Token"]

# what Keycloak itself makes, so that nothing about it is forged
MINTED = {
    "id": "the ID token of the same login",
    "refresh": "the refresh token of the same login",
    "offline": "an offline token, which outlives the session",
    "service account": "a client's own token, without a user",
    "other client": "the user's token through another client, with the right audience",
    "no role": "a token of a user without the role reader",
    "no audience": "a token through a client without the audience mapper",
    "no subject": "a token through a client without the scope basic",
    "expired": "a token that lived for a second",
    "other realm": "a token of another realm of the same Keycloak",
    "master": "a token of Keycloak's own administrator",
    "lightweight": "a lightweight access token, which holds few claims",
}


def _minted(name: str) -> Token:
    return Token(MINTED[name], lambda kit: kit.minted(name))


TOKENS: dict[str, Token] = {
    "good": Token("the user's access token", lambda kit: kit.good),
    **{name: _minted(name) for name in MINTED},
    **forged_headers.TOKENS,
    **forged_claims.TOKENS,
}


@dataclass(frozen=True)
class Kit:
    """What tokens are made of, and those that are made; each is made when it is first asked for.

    `good` is the user's access token. `minted(name)` gives a token of MINTED or raises Missing. `jwks` are the realm's
    public keys, `own` is a key among them whose private half is here, `attacker` is nobody's. `now` tells seconds
    since 1970. `canary` is the address of a server that must not be called. Empty, `jwks`, `own` and `canary` make the
    tokens that need them Missing.
    """

    good: str = field(repr=False)
    minted: Callable[[str], str] = field(repr=False)
    jwks: Sequence[dict] = field(repr=False)
    own: SigningKey | None
    attacker: SigningKey
    issuer: str
    audience: str
    now: Callable[[], float] = field(repr=False)
    canary: str = ""
    _made: dict[str, tuple[float, str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: RLock = field(default_factory=RLock, init=False, repr=False, compare=False)

    def token(self, name: str) -> str:
        """Return the token of this name, the same at every asking while it lasts.

        Missing says what the kit lacks for it. KeyError where there is no such name.
        """
        if name not in TOKENS:
            raise KeyError(f"expected a token of lib.probes.tokens, got {name!r}; mend the table.")
        wanted = TOKENS[name]
        with self._lock:
            since, made = self._made.get(name, (0.0, ""))
            if made and self.now() - since < wanted.lasts:
                return made
            if wanted.needs and not self.has(wanted.needs):
                raise Missing(NEEDS[wanted.needs])
            self._made[name] = self.now(), wanted.make(self)
            return self._made[name][1]

    def has(self, need: str) -> bool:
        """Whether the kit has what a name of lib.probes.recipes.NEEDS stands for."""
        return bool({OWN: self.own, JWKS: self._good_key(), CANARY: self.canary}[need])

    def claims(self) -> dict:
        """Return the good token's claims, as a token would have them that was issued just now."""
        now = int(self.now())
        return {**jwt.claims(self.good), "iat": now, "exp": now + LIFE, "jti": str(uuid.uuid4())}

    def good_key(self) -> dict:
        """Return the published key that the good token is signed with, as a JWK; Missing where it is not published."""
        found = self._good_key()
        if not found:
            raise Missing(NEEDS[JWKS])
        return found

    def encryption_key(self) -> dict:
        """Return a published key that is for encryption, as a JWK; Missing where there is none."""
        found = [key for key in self.jwks if key.get("use") == "enc"]
        if not found:
            raise Missing("needs a realm that publishes a key for encryption")
        return found[0]

    def _good_key(self) -> dict | None:
        kid = jwt.header(self.good).get("kid")
        return next((key for key in self.jwks if key.get("kid") == kid), None)
