"""A server on loopback that answers as an ingress gateway with Figure 2's policy does, or with a hole in it."""

import json
import time
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlsplit

from joserfc import jws, jwt
from joserfc.jwk import RSAKey

from lib.istio.answers import JWT
from tests.support.loopback import heard

ISSUER, AUDIENCE = "https://sso.example/realms/istio", "istio"
KEY = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256"})
WORDS = {401: "Unauthorized", 403: "Forbidden", 200: "OK"}
RBAC = (403, "RBAC: access denied")
HOLES = ("no authorization", "no authentication", "no audience", "no signature", "no expiry")

LASTS = 24 * 3600  # seconds: modules make tokens when they are collected, and all tests may take many minutes


def signed(key=KEY, **claims):
    """A token as Keycloak gives it, with these claims instead."""
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + LASTS, **claims}
    return jwt.encode({"alg": "RS256", "kid": "one"}, payload, key)


def mesh(hole="", asked=None):
    """Return a server of one connection (for `served`); `asked` collects the head of each request."""

    def speak(connection):
        head = heard(connection).decode("latin-1")
        if asked is not None:
            asked.append(head)
        status, body = answer(head, hole)
        upstream = "x-envoy-upstream-service-time: 1\r\n" if status == 200 else ""
        reply = f"HTTP/1.1 {status} {WORDS[status]}\r\n{upstream}content-length: {len(body)}\r\n\r\n{body}"
        connection.sendall(reply.encode())

    return speak


def answer(head, hole):
    found = carried(head)
    refusals = [] if hole == "no authentication" else [fault for token in found if (fault := faulty(token, hole))]
    if refusals:
        return refusals[0]
    known = bool(found) and hole != "no authentication"
    return (200, head) if known or hole == "no authorization" else RBAC


def carried(head):
    """The tokens of a request, where Envoy looks for them by default."""
    first, *lines = head.split("\r\n")
    values = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("authorization:")]
    inside = [value.partition("Bearer ")[2].strip() for value in values if "Bearer " in value]
    return inside + parse_qs(urlsplit(first.split()[1]).query).get("access_token", [])[:1]


def faulty(token, hole):
    """What Envoy says to a token that it refuses, in its order: form, claims, then the signature."""
    parts = [part for part in token.split(".") if part]
    if len(parts) != 3:
        return 401, JWT["J1"]
    try:
        header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in parts[:2])
    except ValueError:
        return 401, JWT["J2"]
    if header.get("alg") != "RS256":
        return 401, JWT["J5"]
    if claims.get("iss") != ISSUER:
        return 401, JWT["J13"]
    if claims.get("exp", 1e10) + 60 < time.time() and hole != "no expiry":
        return 401, JWT["J15"]
    if claims.get("aud") != AUDIENCE and hole != "no audience":
        return 403, JWT["J16"]
    return None if hole == "no signature" or verified(token) else (401, JWT["J18"])


def verified(token):
    try:
        return bool(jws.deserialize_compact(token, KEY, algorithms=["RS256"]))
    except Exception:  # whatever it does not like is a bad signature
        return False
