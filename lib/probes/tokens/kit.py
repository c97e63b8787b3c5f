"""What a named token is, and the kit of keys and known tokens that named tokens are made from."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock

from lib.crypto import jwt
from lib.errors import RunbookError
from lib.probes.tokens.keys import SigningKey

# What a kit may lack, and the reason that a skipped probe then gives
OWN, JWKS, CANARY = "own", "jwks", "canary"
NEEDS = {
    OWN: "needs a signing key of the realm",
    JWKS: "needs the keys that the issuer publishes, the good token's among them",
    CANARY: "needs the address of a server that must not be called",
}
LIFE = 300  # seconds that a self-made token lives, as Keycloak's own access tokens do


class Missing(RunbookError):
    """The kit cannot make this token; the message says what it lacks."""


@dataclass(frozen=True)
class NamedToken:
    """A token of the tables: one line about it, and a function that makes it from a kit.

    `needs` is a key of NEEDS, or empty if the good token is enough. A token whose seconds count is not `kept`: the kit
    makes a new one at each call.
    """

    about: str
    make: Callable[[Kit], str]
    needs: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Kit:
    """Keys and known tokens, from which the catalogue's tokens are made. Each is made at its first use.

    Args:
        catalogue: The tokens that can be asked for, by name.
        good: The user's access token.
        issued: Returns a token that Keycloak issues, by its name in catalogue.ISSUED, or raises Missing.
        jwks: The realm's public keys, as JWKs.
        own: A private key that the realm publishes the public half of.
        attacker: A private key that nobody trusts.
        issuer: The realm's issuer URL.
        audience: The audience that the mesh accepts.
        now: Returns the time in seconds since 1970.
        canary: The address of a server that must not be called.

    Tokens that need `jwks`, `own` or `canary` are Missing if that value is empty.
    """

    catalogue: Mapping[str, NamedToken] = field(repr=False)
    good: str = field(repr=False)
    issued: Callable[[str], str] = field(repr=False)
    jwks: Sequence[dict] = field(repr=False)
    own: SigningKey | None
    attacker: SigningKey
    issuer: str
    audience: str
    now: Callable[[], float] = field(repr=False)
    canary: str = ""
    _made: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: RLock = field(default_factory=RLock, init=False, repr=False, compare=False)

    def token(self, name: str) -> str:
        """Return the token of this name, the same one at each call if it is kept. Safe for several threads.

        Raises:
            Missing: The kit lacks what the token needs.
            KeyError: The catalogue has no such name.
        """
        if name not in self.catalogue:
            raise KeyError(f"expected a token of lib.probes.tokens.catalogue, got {name!r}; correct the table.")
        wanted = self.catalogue[name]
        with self._lock:
            if wanted.kept and name in self._made:
                return self._made[name]
            if wanted.needs and not self.has(wanted.needs):
                raise Missing(NEEDS[wanted.needs])
            self._made[name] = wanted.make(self)
            return self._made[name]

    def has(self, need: str) -> bool:
        """Whether the kit has what this key of NEEDS stands for."""
        return bool({OWN: self.own, JWKS: self._good_key(), CANARY: self.canary}[need])

    @property
    def own_key(self) -> SigningKey:
        """The realm's private key; Missing if the kit has none."""
        if self.own is None:
            raise Missing(NEEDS[OWN])
        return self.own

    def claims(self) -> dict:
        """Return the good token's claims with the times and the id of a token issued now."""
        now = int(self.now())
        return {**jwt.claims(self.good), "iat": now, "exp": now + LIFE, "jti": str(uuid.uuid4())}

    def good_key(self) -> dict:
        """Return the published key that signed the good token, as a JWK; Missing if it is not published."""
        found = self._good_key()
        if not found:
            raise Missing(NEEDS[JWKS])
        return found

    def encryption_key(self) -> dict:
        """Return a published key for encryption, as a JWK; Missing if there is none."""
        found = [key for key in self.jwks if key.get("use") == "enc"]
        if not found:
            raise Missing("needs a realm that publishes a key for encryption")
        return found[0]

    def _good_key(self) -> dict | None:
        kid = jwt.header(self.good).get("kid")
        return next((key for key in self.jwks if key.get("kid") == kid), None)
