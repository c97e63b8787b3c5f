"""All tokens of the tables by name: the good one, those that Keycloak issues, and the forged ones."""

from __future__ import annotations

from lib.probes.tokens import forged_claims, forged_headers
from lib.probes.tokens.kit import NamedToken

# Keycloak itself issues these, so nothing in them is forged
ISSUED = {
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


def _issued(name: str) -> NamedToken:
    return NamedToken(ISSUED[name], lambda kit: kit.issued(name))


TOKENS: dict[str, NamedToken] = {
    "good": NamedToken("the user's access token", lambda kit: kit.good),
    **{name: _issued(name) for name in ISSUED},
    **forged_headers.TOKENS,
    **forged_claims.TOKENS,
}
