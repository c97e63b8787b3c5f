"""Which token of a request Envoy's JWT filter reads under RequestAuthentications, and what the policies see after it.

Source: istio/istio 1.31, pilot/pkg/security/authn/policy_applier.go; Envoy 1.38 extractor.cc, authenticator.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from lib.crypto import jwt

GRACE = 60  # seconds that Envoy adds to exp and subtracts from nbf
BEARER, PARAMETER = "Bearer ", "access_token"  # where Envoy looks if a rule names no place
SPLIT = ("scope", "permission")  # claims that Istio splits at spaces, besides a rule's spaceDelimitedClaims
PREFLIGHT = ("origin", "access-control-request-method")  # headers of a browser's preflight

ISSUER, EXPIRED, EARLY, AUDIENCE, MALFORMED, KEYS = "J13", "J15", "J14", "J16", "J1", "J18"  # lib.istio.answers.JWT

Signed = Callable[[str, Mapping], bool]  # (token, rule): whether the rule's keys verify the token


@dataclass(frozen=True)
class Outcome:
    """What the JWT filter did with a request.

    Attributes:
        claims: The claims that policies see; {} if no token was read.
        headers: The request's headers after the filter, by lower-case names.
        error: The key in lib.istio.answers.JWT of a refusal, "" if the request passed.
        rule: The rule that accepted the token.
    """

    claims: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    rule: Mapping | None = None


def rules(policies: Iterable[Mapping]) -> list[Mapping]:
    """Return the JWT rules of RequestAuthentications, in the order of Envoy: by issuer."""
    found = [rule for one in policies for rule in (one.get("spec") or {}).get("jwtRules") or []]
    return sorted(found, key=lambda rule: rule.get("issuer", ""))


def authenticate(
    found: Sequence[Mapping], method: str, path: str, headers: Mapping[str, str], signed: Signed, now: float
) -> Outcome:
    """Return what the filter does with a request.

    Args:
        found: The rules in force, in Envoy's order (`rules`).
        method: The HTTP method.
        path: The path and the query.
        headers: The request's headers, with its tokens.
        signed: Whether a rule's keys verify a token.
        now: The proxy's clock, in seconds.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    if not found or (method == "OPTIONS" and all(sent.get(name) for name in PREFLIGHT)):
        return Outcome({}, sent)
    made = {name for rule in found for name in _written(rule)}
    clean = {name: value for name, value in sent.items() if name not in made}
    errors = []
    for rule in found:
        error, token = _read(rule, path, clean, signed, now)
        if token:
            return _accepted(rule, token, clean)
        errors.append(error)
    refusals = [one for one in errors if one]
    return Outcome({}, clean, _worst(refusals) if refusals else "")


def places(rule: Mapping) -> list[str]:
    """Return where a rule looks for tokens, as a reader names the places."""
    stated = [f"header {one['name']}" for one in rule.get("fromHeaders") or []]
    stated += [f"query parameter {name}" for name in rule.get("fromParams") or []]
    stated += [f"cookie {name}" for name in rule.get("fromCookies") or []]
    return stated or ["header Authorization", f"query parameter {PARAMETER}"]


def tokens(rule: Mapping, path: str, headers: Mapping[str, str]) -> list[str]:
    """Return the tokens that a rule finds in a request; `headers` have lower-case names."""
    wanted = [(one["name"], one.get("prefix", "")) for one in rule.get("fromHeaders") or []]
    params, cookies = list(rule.get("fromParams") or []), list(rule.get("fromCookies") or [])
    if not wanted and not params and not cookies:
        wanted, params = [("authorization", BEARER)], [PARAMETER]
    found = []
    for name, prefix in wanted:
        value = headers.get(name.lower())
        if value is not None and prefix in value:
            found.append(_word(value[value.index(prefix) + len(prefix) :]))
    query = dict(reversed(parse_qsl(path.partition("?")[2], keep_blank_values=True)))
    found += [query[name] for name in params if name in query]
    jar = _cookies(headers.get("cookie", ""))
    return found + [jar[name] for name in cookies if name in jar]


def _read(rule: Mapping, path: str, headers: Mapping[str, str], signed: Signed, now: float) -> tuple[str, str]:
    """Return the first token's error, or the token that the rule accepts; two "" if it found none."""
    token = ""
    for token in tokens(rule, path, headers):  # each must be good; policies see the last one
        if error := _error(rule, token, signed, now):
            return error, ""
    return "", token


def _error(rule: Mapping, token: str, signed: Signed, now: float) -> str:
    try:
        jwt.header(token)
        claims = jwt.claims(token)
        if token.count(".") != 2:
            return MALFORMED
    except (ValueError, IndexError):
        return MALFORMED
    if rule.get("issuer") and claims.get("iss") != rule["issuer"]:
        return ISSUER
    if claims.get("nbf", now) > now + GRACE:
        return EARLY
    if claims.get("exp", now) < now - GRACE:
        return EXPIRED
    wanted, held = rule.get("audiences") or [], claims.get("aud") or []
    if wanted and not {_bare(one) for one in wanted} & {
        _bare(one) for one in ([held] if isinstance(held, str) else held)
    }:
        return AUDIENCE
    return "" if signed(token, rule) else KEYS


def _worst(errors: Sequence[str]) -> str:
    """Return the error that Envoy answers with: an unknown issuer only if there is no other."""
    return next((one for one in reversed(errors) if one != ISSUER), errors[-1])


def _accepted(rule: Mapping, token: str, headers: Mapping[str, str]) -> Outcome:
    claims = jwt.claims(token)
    after = dict(headers)
    if not rule.get("forwardOriginalToken"):
        for name in [one["name"].lower() for one in rule.get("fromHeaders") or []] or ["authorization"]:
            if token in after.get(name, ""):
                del after[name]
    if payload := rule.get("outputPayloadToHeader"):
        after[payload.lower()] = token.split(".")[1]
    return Outcome(claims_seen(rule, claims), after | claim_headers(rule, claims), "", rule)


def claims_seen(rule: Mapping, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return a token's claims as policies see them: scope, permission and a rule's own such claims are lists."""
    split = {*SPLIT, *(rule.get("spaceDelimitedClaims") or [])}
    return {name: value.split(" ") if name in split and isinstance(value, str) else value
            for name, value in claims.items()}  # fmt: skip


def claim_headers(rule: Mapping, claims: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that a rule makes from a token's claims (outputClaimToHeaders)."""
    made = {}
    for one in rule.get("outputClaimToHeaders") or []:
        value: Any = claims
        for part in one["claim"].split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, (str, int, bool)):
            made[one["header"].lower()] = str(value).lower() if isinstance(value, bool) else str(value)
    return made


def _written(rule: Mapping) -> list[str]:
    """Return the headers that a rule writes; Envoy removes those that the client sent."""
    stated = [one["header"] for one in rule.get("outputClaimToHeaders") or []]
    return [one.lower() for one in [*stated, rule.get("outputPayloadToHeader") or ""] if one]


def _word(value: str) -> str:
    """Return a header's token: Envoy reads up to the first character that base64url and a dot do not have."""
    for place, character in enumerate(value):
        if not (character.isalnum() or character in "-_.=+/"):
            return value[:place]
    return value


def _bare(audience: str) -> str:
    """Return an audience as Envoy compares it: without scheme and without a slash at the end."""
    return audience.removeprefix("http://").removeprefix("https://").removesuffix("/")


def _cookies(text: str) -> dict[str, str]:
    pairs = [one.strip().partition("=") for one in text.split(";")]
    return {name: value.strip('"') for name, _, value in pairs if name}
