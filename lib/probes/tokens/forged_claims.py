"""Forged tokens of family D: claims about issuer, time, audience and user."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from lib.crypto import jwt
from lib.probes.tokens import forge
from lib.probes.tokens.builders import GONE, ago, edited, own, own_bytes, repaid
from lib.probes.tokens.kit import LIFE, OWN, Kit, NamedToken

GOOD = object()  # in _twice: the good token's own value
LEEWAY = 60  # seconds that Envoy grants after exp and before nbf (kClockSkewInSecond)
ENDING = 57  # seconds past its exp: the leeway ends 3 or 4 seconds from now
THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # the example of RFC 9449, section 6.1
DOTTED_ROLES: dict[str, Any] = {"realm_access.roles": ["reader"]}
LOGOUT: dict[str, dict] = {"http://schemas.openid.net/event/backchannel-logout": {}}


def _roles(roles: Any) -> Callable[[Kit], object]:
    return lambda kit: {**kit.claims().get("realm_access", {}), "roles": roles}


def _forged(**claims: Any) -> Callable[[Kit], str]:
    """A token that needs no key: the good token's header, these claims, and a made-up signature."""
    return lambda kit: forge.with_signature(
        forge.with_claims(kit.good, edited(kit, kit.claims(), claims)), b"nobody's signature"
    )


def _role_added(kit: Kit) -> str:
    claims = jwt.claims(kit.good)
    access = claims.get("realm_access", {})
    return forge.with_claims(kit.good, {**claims, "realm_access": {"roles": [*access.get("roles", []), "admin"]}})


def _other_scheme(kit: Kit) -> str:
    scheme, _, rest = kit.issuer.partition("://")
    return f"{'http' if scheme == 'https' else 'https'}://{rest}"


def _with_port(kit: Kit) -> str:
    """The issuer with the scheme's default port written out: an equivalent URL by RFC 3986, section 6.2.3."""
    url = urlsplit(kit.issuer)
    return kit.issuer.replace(url.netloc, f"{url.hostname}:{443 if url.scheme == 'https' else 80}", 1)


def _swapped(kit: Kit) -> str:
    """The claims of the other realm's token, signed by a key of this realm."""
    now = int(kit.now())
    return forge.signed(kit.own_key, {**jwt.claims(kit.issued("other realm")), "iat": now, "exp": now + LIFE})


def _twice(name: str, *values: Any) -> Callable[[dict], bytes]:
    """The claims with one of them twice; the value GOOD stands for the good token's own."""
    return lambda claims: forge.repeated(claims, name, [claims[name] if v is GOOD else v for v in values])


TIMES = {
    "expired 10 s ago": own("10 seconds past its exp", kept=False, exp=ago(10)),
    "expired 65 s ago": own("65 seconds past its exp", exp=ago(LEEWAY + 5)),
    "exp 59 s ago": own("59 seconds past its exp", kept=False, exp=ago(LEEWAY - 1)),
    "exp 60 s ago": own("60 seconds past its exp", kept=False, exp=ago(LEEWAY)),
    "exp 61 s ago": own("61 seconds past its exp", kept=False, exp=ago(LEEWAY + 1)),
    "nbf 60 s ahead": own("60 seconds before its nbf", kept=False, nbf=ago(-LEEWAY)),
    "nbf 62 s ahead": own("62 seconds before its nbf", kept=False, nbf=ago(-LEEWAY - 2)),
    "ending": own("its leeway ends in 3 seconds", kept=False, exp=ago(ENDING)),
    "nbf in 30 s": own("nbf in 30 seconds", nbf=ago(-30)),
    "nbf in 5 minutes": own("nbf in 5 minutes", nbf=ago(-300)),
    "iat tomorrow": own("issued tomorrow", iat=ago(-86400)),
    "no exp": own("no exp", exp=GONE),
    "exp 0": own("exp 0", exp=0),
    "exp 0.5": own("exp 0.5", exp=0.5),
    "exp a string": own("exp is a string", exp="123"),
    "exp -1": own("exp is negative", exp=-1),
    "exp 1e30": own("exp is too great for 64 bits", exp=1e30),
    "exp null": own("exp is null", exp=None),
    "exp NaN": own_bytes("exp is NaN, which is no JSON", lambda claims: forge.raw_member(claims, "exp", b"NaN")),
    "exp a fraction": own("exp with a fraction", exp=1893456000.5),
    "exp past, in milliseconds": own(
        "an exp of an hour ago in milliseconds", exp=lambda kit: int(kit.now() - 3600) * 1000
    ),
    "nbf a string": own("nbf is a string", nbf="0"),
    "iat a string": own("iat is a string", iat="0"),
    "iat -1": own("iat is negative", iat=-1),
    "exp twice, past last": own_bytes("exp twice, the last long past", _twice("exp", GOOD, 1)),
    "exp twice, past first": own_bytes("exp twice, the first long past", _twice("exp", 1, GOOD)),
}

ISSUERS = {
    "no iss": own("no iss", iss=GONE),
    "garbage": NamedToken("not a JWT at all", lambda kit: "not-a-token"),
    "issuer whose keys are a page": own("an issuer whose keys are a web page", iss="https://keys.example/page"),
    "issuer that has no keys": own("an issuer whose list of keys is empty", iss="https://keys.example/none"),
    "issuer whose keys are nowhere": own("an issuer whose name does not resolve", iss="https://keys.example/nobody"),
    "wrong iss": own("the issuer is somebody else", iss="https://sso.evil.example/realms/istio"),
    "iss with a slash": own("a slash behind the issuer", iss=lambda kit: kit.issuer + "/"),
    "iss of the other scheme": own("https for http, or the other way round", iss=_other_scheme),
    "iss of another host": own(
        "the issuer's inner name",
        iss=lambda kit: "https://keycloak.keycloak.svc.cluster.local" + urlsplit(kit.issuer).path,
    ),
    "iss in capitals": own("the issuer in capitals", iss=lambda kit: kit.issuer.upper()),
    "iss with the port": own("the scheme's own port written out", iss=_with_port),
    "iss a list": own("iss is a list of the issuer", iss=lambda kit: [kit.issuer]),
    "iss twice, wrong last": own_bytes("iss twice, the last wrong", _twice("iss", GOOD, "https://evil.example")),
    "iss twice, wrong first": own_bytes("iss twice, the first wrong", _twice("iss", "https://evil.example", GOOD)),
    "other realm, this key": NamedToken("the other realm's claims under a key of this realm", _swapped, OWN),
}

AUDIENCES = {
    "wrong aud": own("for somebody else", aud="somebody-else"),
    "no aud": own("no aud", aud=GONE),
    "aud account": own("aud is account, which Keycloak gives without a mapper", aud="account"),
    "aud a list": own("a list with the right audience in it", aud=lambda kit: ["account", kit.audience]),
    "aud a string": own("the right audience alone", aud=lambda kit: kit.audience),
    "aud an empty list": own("aud is an empty list", aud=[]),
    "aud a number": own("aud is a number", aud=7),
    "aud a list of numbers": own("aud is a list of a number", aud=[1]),
    "aud mixed": own("aud is a list of the right one and a number", aud=lambda kit: [kit.audience, 1]),
    "aud null": own("aud is null", aud=None),
    "aud an object": own("aud is an object", aud=lambda kit: {kit.audience: True}),
    "aud with http": own("http:// and a slash around the audience", aud=lambda kit: f"http://{kit.audience}/"),
    "aud with https": own("https:// before the audience", aud=lambda kit: f"https://{kit.audience}"),
    "aud in capitals": own("the audience in capitals", aud=lambda kit: kit.audience.upper()),
    "aud longer": own("one character more", aud=lambda kit: f"{kit.audience}2"),
    "aud with a space": own("a space before the audience", aud=lambda kit: f" {kit.audience}"),
    "aud several in one": own("two audiences in one string", aud=lambda kit: f"account {kit.audience}"),
}

SUBJECTS = {
    "no sub": own("no sub", sub=GONE),
    "sub empty": own("sub is empty", sub=""),
    "sub null": own("sub is null", sub=None),
    "sub a number": own("sub is a number", sub=7),
    "sub with a slash": own("a slash in sub", sub="somebody/else"),
    "sub with a line break": own("a line break in sub", sub="alice\r\nX-Injected: yes"),
    "jti a number": own("jti is a number", jti=7),
}

KINDS = {
    "no typ": own("no claim typ", typ=GONE),
    "typ ID": own("the claim typ is ID", typ="ID"),
    "typ in capitals": own("the claim typ is BEARER", typ="BEARER"),
    "logout token": own(
        "a back-channel logout token", typ="Logout", events=LOGOUT, azp=GONE, realm_access=GONE, scope=GONE
    ),
    "azp other, no audience": own("another client's, not for us", azp="other", aud="account"),
    "azp a list": own("azp is a list of two clients, ours among them", azp=lambda kit: ["other", kit.audience]),
    "no azp": own("no azp", azp=GONE),
    "bound by DPoP": own("bound to a key by DPoP", cnf={"jkt": THUMBPRINT}),
    "bound by mTLS": own("bound to a client's certificate", cnf={"x5t#S256": THUMBPRINT}),
}

SCOPES = {
    "scope in the middle": own("the scope email between two others", scope="openid email profile"),
    "scope longer": own("the scope emails, and no email", scope="openid emails profile"),
}

ROLES = {
    "no realm_access": own("no realm_access", realm_access=GONE),
    "roles empty": own("no role at all", realm_access=_roles([])),
    "roles a string": own("roles is the string reader, not a list", realm_access=_roles("reader")),
    "roles in one string": own(
        "roles is a string that holds reader among others", realm_access=_roles("writer reader")
    ),
    "roles in one item": own("roles has one item that holds two", realm_access=_roles(["writer reader"])),
    "role longer": own("the role readers", realm_access=_roles(["readers"])),
    "role shorter": own("the role read", realm_access=_roles(["read"])),
    "role in capitals": own("the role READER", realm_access=_roles(["READER"])),
    "roles an object": own("roles is an object with a member reader", realm_access=_roles({"reader": True})),
    "realm_access a string": own("realm_access is the string reader", realm_access="reader"),
    "role of a client": own(
        "reader as a client's role, not the realm's",
        realm_access=GONE,
        resource_access={"istio": {"roles": ["reader"]}},
    ),
    "role by a dotted name": own("a claim named realm_access.roles", realm_access=GONE, **DOTTED_ROLES),
    "role added": NamedToken("a role written into the good token", _role_added),
}

PAYLOADS = {
    "forged, wrong aud": NamedToken(
        "no signature of anybody, a wrong audience", _forged(aud=lambda kit: "somebody-else")
    ),
    "forged, expired": NamedToken("no signature of anybody, expired", _forged(exp=ago(3600))),
    "forged, wrong iss": NamedToken(
        "no signature of anybody, a wrong issuer", _forged(iss=lambda kit: "https://evil.example")
    ),
    "payload null": repaid("the payload is null", b"null"),
    "payload a list": repaid("the payload is []", b"[]"),
    "payload a string": repaid("the payload is a string", b'"alice"'),
    "payload no JSON": repaid("the payload is a word", b"alice"),
    "payload empty object": repaid("the payload is {}", b"{}"),
    "payload not UTF-8": own_bytes(
        "a byte in a claim that is no UTF-8", lambda claims: forge.raw_member(claims, "name", b'"al\xffce"')
    ),
    "payload with a BOM": own_bytes(
        "a byte order mark before the payload", lambda claims: b"\xef\xbb\xbf" + json.dumps(claims).encode()
    ),
    "payload with a comma too many": own_bytes(
        "JSON of no standard: a comma before the end", lambda claims: json.dumps(claims).encode()[:-1] + b",}"
    ),
    "payload with a bad character": NamedToken(
        "an exclamation mark before the payload", lambda kit: kit.good.replace(".", ".!", 1)
    ),
}

TOKENS: dict[str, NamedToken] = {**TIMES, **ISSUERS, **AUDIENCES, **SUBJECTS, **KINDS, **SCOPES, **ROLES, **PAYLOADS}
