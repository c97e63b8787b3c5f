"""Who asks with which token, and what must come back: the two figures as tables.

Status and text are those of Istio today (1.22 and later). Where the article's Istio answered otherwise,
`ARTICLE` says how: a missing token was 401 then and is 403 now, since RequestAuthentication lets it pass and
AuthorizationPolicy refuses.
"""

from __future__ import annotations

from lib.http_client import Case

RBAC = "RBAC: access denied"

TOKENS = {
    "none": "no token at all",
    "valid": "what Keycloak gives to alice through the client istio",
    "tampered": "the valid one with one bit of its signature flipped",
    "garbage": "not a JWT",
    "unsigned": "the valid one's claims under alg none, with an empty signature (RFC 8725, 3.1)",
    "expired": "a real one from a client with a lifespan of one second, over a minute ago",
    "other realm": "a real one from another realm of the same Keycloak",
    "wrong audience": "a real one from a client without the audience mapper",
    "no subject": "a real one from a client without the scope basic, so without sub",
}

CALLERS = {
    "user": "outside, through the ingress gateway",
    "sleep": "the service sleep, in the mesh",
    "visitor": "another service in the mesh, with an identity of its own",
    "outsider": "a pod without a sidecar, so without mutual TLS",
}

_BAD_TOKENS = [
    ("tampered", 401, "Jwt verification fails"),
    ("garbage", 401, "Jwt is not in the form of Header.Payload.Signature"),
    ("unsigned", 401, "Jwt is not in the form of Header.Payload.Signature"),
    ("expired", 401, "Jwt is expired"),
    ("other realm", 401, "Jwt issuer is not configured"),
    ("wrong audience", 403, "Audiences in Jwt are not allowed"),
    ("no subject", 403, RBAC),
]

_COMMON = [
    ("user", "none", 403, RBAC),
    ("user", "valid", 200, ""),
    *(("user", token, status, text) for token, status, text in _BAD_TOKENS),
    ("sleep", "valid", 200, ""),
    ("sleep", "tampered", 401, "Jwt verification fails"),
    ("visitor", "none", 403, RBAC),
    ("outsider", "none", 0, "connection reset"),
    ("outsider", "valid", 0, "connection reset"),
]


def _cases(rows: list[tuple[str, str, int, str]]) -> list[Case]:
    return [Case(f"{caller}, {token}", caller, token, status, text) for caller, token, status, text in rows]


# What the article got: a token and mutual TLS, from everybody.
FIGURE_2 = _cases([*_COMMON, ("sleep", "none", 403, RBAC), ("visitor", "valid", 200, "")])

# What it wanted: users by token only, the service sleep by mutual TLS only.
FIGURE_1 = _cases([*_COMMON, ("sleep", "none", 200, ""), ("visitor", "valid", 403, RBAC)])

# How the article's Istio (1.4 and before, under Figure 2's Policy) answered, where that differs.
ARTICLE = {"user, none": 401, "sleep, none": 401, "visitor, none": 401}
