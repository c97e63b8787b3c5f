"""Causes of a refusal by Envoy's JWT filter: the token, its issuer, its audience, the clocks, the keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lib.diagnose import authorization, issuer, jwks
from lib.diagnose.diagnosis import Diagnosis, body, explain, grpc_status, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio import answers, policies
from lib.istio.answers import JWT
from lib.kubernetes import kubectl

GRACE = 60  # seconds that Envoy adds to exp and subtracts from nbf
SKEWED = 30  # seconds from which a difference between two clocks is reported
KEYCLOAK_ONLY = ("Refresh", "Offline", "Logout")  # typ of tokens that only Keycloak itself accepts
UNREADABLE = ("J1", "J2", "J3", "J6", "J7", "J8", "J9", "J10", "J11", "J12")
ENCRYPTED = "encrypted"  # lib.diagnose.evidence.describe_token begins so for a JWE
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")  # istiod's variables, in either case
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}  # by the begin of an algorithm (RFC 7518, RFC 8037)
REFRESH = "then restart istiod, or wait: it retries after one minute at first, later after up to an hour"


def error_code(evidence: Evidence) -> str:
    """Return the key of lib.istio.answers.JWT whose words the answer has, "" if it has none of them."""
    text, details = body(evidence), evidence.details
    named = (code for code, words in JWT.items() if words in text)
    logged = (code for code in JWT if re.match(answers.details(code), details))  # an answer to HEAD has no body
    return next(named, next(logged, "") if not text else "")


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a refusal by the JWT filter."""
    refused = evidence.answer.status in (401, 403) or grpc_status(evidence) in ("7", "16")
    code = error_code(evidence)
    if refused and not code and body(evidence).startswith("Jwks "):
        return _unusable(evidence)
    if not refused or not code:
        return None
    if evidence.claims.get("typ") in KEYCLOAK_ONLY:
        return _keycloak_only(evidence)
    token = evidence.token
    if token and not token.problem and str(token.header.get("alg", "none")).lower() == "none":
        return _algorithm(evidence)
    if code in UNREADABLE:
        return _unreadable(evidence)
    causes = {"J4": _algorithm, "J5": _algorithm, "J14": _early, "J15": _expired}
    causes |= {"J13": issuer.mismatch, "J16": issuer.audience}
    return {**causes, "J17": _keys, "J18": _keys, "J20": _remote}.get(code, _unknown)(evidence)


def _unreadable(evidence: Evidence) -> Diagnosis:
    if found := _payload_read(evidence):
        return found
    problem = evidence.token.problem if evidence.token else ""
    why = f"the value that was sent as a token is {problem or 'not a JSON Web Token'}"
    change = "send the access_token of the token endpoint's answer; if it has none, read its error"
    if problem.startswith("opaque"):
        change = (
            "let the issuer give out JSON Web Tokens (some do so only for a certain audience or resource); or check "
            "opaque tokens by an external authorizer that asks the issuer (introspection)"
        )
    if problem.startswith(ENCRYPTED):
        change = "switch off the encryption of access tokens at the issuer: Envoy cannot decrypt them"
    return explain(evidence, "not-a-jwt", why, change)


def _payload_read(evidence: Evidence) -> Diagnosis | None:
    """Explain a rule that looks for a token in the header into which the gateway writes a token's payload."""
    read = {one["name"].lower() for _, rule in evidence.jwt_rules for one in rule.get("fromHeaders") or []}
    gateway = evidence.gateway if evidence.guard is not evidence.gateway else None
    for policy in evidence.rules(policies.REQUESTS, gateway) if gateway else []:
        for rule in policy["spec"].get("jwtRules", []):
            header = rule.get("outputPayloadToHeader", "")
            if header.lower() in read:
                why = (
                    f"the gateway's RequestAuthentication {policies.name(policy)} writes a token's payload into the "
                    f"header {header} (outputPayloadToHeader), and {workload_name(evidence.guard)} reads a token there"
                )
                change = f"forward the token itself (forwardOriginalToken: true), and remove {header} from fromHeaders"
                return explain(evidence, "not-a-jwt", why, change)
    return None


def _unusable(evidence: Evidence) -> Diagnosis:
    why = f"Envoy cannot use the issuer's keys: {body(evidence)}"
    change = "let jwksUri lead to a JSON Web Key Set (RFC 7517) with complete keys: certificates (x509, PEM) are none"
    return explain(evidence, "keys-unusable", why, change)


def _algorithm(evidence: Evidence) -> Diagnosis:
    why = f"the token's algorithm is {evidence.header.get('alg')}, which Envoy does not accept"
    change = "send the token as the issuer signed it; unsigned tokens and shared secrets never pass"
    return explain(evidence, "algorithm", why, change)


def _keycloak_only(evidence: Evidence) -> Diagnosis:
    why = f"the token's type is {evidence.claims['typ'].lower()}: only Keycloak itself accepts it"
    return explain(evidence, "wrong-token-type", why, "send the access_token of the token endpoint's answer")


def _expired(evidence: Evidence) -> Diagnosis:
    ago = evidence.now - evidence.claims.get("exp", evidence.now)
    if ago < GRACE and (clock := _clock(evidence)):
        return explain(evidence, "clock", clock, "synchronize the clocks by NTP")
    why = f"the token expired {ago:.0f} s ago, and Envoy tolerates only {GRACE} s"
    return explain(evidence, "expired", why, "fetch a new token: use the refresh token, or log in again")


def _early(evidence: Evidence) -> Diagnosis:
    ahead = evidence.claims.get("iat", 0) - evidence.now
    if ahead > SKEWED or _clock(evidence):
        issued = f"the token was issued {ahead:.0f} s in the future: its issuer's clock is ahead of the mesh's"
        change = "synchronize the clocks of the mesh's and Keycloak's machines by NTP"
        return explain(evidence, "clock", _clock(evidence) or issued, change)
    why = f"the token's nbf is {evidence.claims.get('nbf', 0) - evidence.now:.0f} s in the future"
    return explain(evidence, "not-yet-valid", why, "wait, or let Keycloak issue tokens without nbf")


def _clock(evidence: Evidence) -> str:
    """Return how far the proxy's clock is off, as a clause; "" if it is right or unknown."""
    skew = evidence.skew
    if skew is None or abs(skew) < SKEWED:
        return ""
    return f"the proxy's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"


def _keys(evidence: Evidence) -> Diagnosis:
    keys, kid = evidence.keys, evidence.header.get("kid")
    placeholder = keys.state == "placeholder" or (keys.held is not None and not keys.held)
    if not keys.by_envoy and (placeholder or (keys.fetch_error and not keys.holds(kid))):
        return _not_fetched(evidence)
    ids = f"key ids: Envoy has {_key_ids(keys.held)}; published now {_key_ids(keys.published)}"
    if found := _other_algorithm(evidence):
        return found
    if kid is None and (keys.held or keys.published):
        why = "the token names no kid, so Envoy tries each of its keys, and none of them signed the token"
        return explain(evidence, "foreign-key", why, "fetch a new token from the issuer that the policy names", ids)
    if keys.road == jwks.INLINE and not keys.holds(kid):
        why = f"the RequestAuthentication has a copy of the keys (jwks), and the copy lacks the token's key {kid}"
        change = "name jwksUri instead of jwks, or copy the issuer's keys again: a copy goes stale with each new key"
        return explain(evidence, "keys-copied", why, change, ids)
    if keys.publishes(kid) and keys.held is not None and not keys.holds(kid):
        why = f"Keycloak signs with the key {kid} now, but Envoy lacks it: istiod fetches keys every 20 minutes"
        change = "wait, or restart istiod; next time publish a new key (passive) before it signs (active)"
        return explain(evidence, "keys-stale", why, change, ids, command=_restart(evidence))
    if not keys.publishes(kid) and keys.published is not None:
        why = f"the issuer does not publish the token's key {kid}: another realm signed it, or the key was removed"
        return explain(evidence, "foreign-key", why, "fetch a new token from the issuer that the policy names", ids)
    if keys.by_envoy and keys.published is None:
        return _remote(evidence)
    if keys.by_envoy and error_code(evidence) == "J17":
        why = f"the issuer publishes the key {kid}, but Envoy, which fetches the keys itself, does not have it yet"
        return explain(evidence, "keys-stale", why, "wait: Envoy fetches them again after 5 minutes", ids)
    if error_code(evidence) == "J17" and keys.holds(kid):
        why = f"Envoy has the token's key {kid} now, but did not when it answered"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds", ids)
    owner = "the issuer publishes" if keys.by_envoy else "Envoy has"
    why = f"{owner} the token's key {kid}, but the signature is wrong: the token changed after it was signed"
    change = "send the token exactly as it was issued; check that a copied token is complete"
    return explain(evidence, "signature", why, change, ids)


def _other_algorithm(evidence: Evidence) -> Diagnosis | None:
    """Explain a key that has the token's kid, and is for another algorithm."""
    keys, header = evidence.keys, evidence.header
    kid, wanted = header.get("kid"), str(header.get("alg"))
    named = [one for one in keys.held or keys.published or () if kid and one.get("kid") == kid]
    if error_code(evidence) != "J17" or not named or any(_signs(one, wanted) for one in named):
        return None
    stated = named[0].get("alg") or named[0].get("kty")
    why = f"the token is signed with {wanted}, and the key {kid} is for {stated}: Envoy does not try it"
    change = (
        f"let the issuer publish its signing key for {wanted} under that kid, or sign with an algorithm that it has"
    )
    return explain(evidence, "key-algorithm", why, change)


def _signs(key: Mapping, algorithm: str) -> bool:
    return key["alg"] == algorithm if key.get("alg") else key.get("kty") in (None, KEY_TYPES.get(algorithm[:2]))


def _not_fetched(evidence: Evidence) -> Diagnosis:
    """Explain why istiod could not fetch the keys: it then gives Envoy a placeholder key, which fits no token."""
    keys, setting = evidence.keys, "the RequestAuthentication's jwksUri"
    own = f": the issuer itself names {keys.own}" if keys.own else ""
    policy = next((name for name, rule in evidence.jwt_rules if rule.get("jwksUri") == keys.uri), "")
    found = evidence.policy(policies.REQUESTS, policy)
    command = kubectl.edit(found, "jwksUri", keys.uri, keys.own) if keys.own else ""
    lines = {"jwksUri": keys.uri, "fetched now": keys.fetch_error, "istiod": keys.istiod_message}
    details = [f"{name}: {text}" for name, text in lines.items() if text]
    if proxy := next((name for name in evidence.mesh.variables if name.upper() in PROXIES), ""):
        details.append(
            f"istiod asks a proxy ({proxy}): the proxy must let it through, or NO_PROXY name the issuer's host"
        )
    if keys.strict:
        why = (
            f"istiod has no client certificate, and {keys.strict} requires mutual TLS of the issuer's own pods: istiod "
            "cannot fetch the keys, and Envoy has a placeholder key"
        )
        change = (
            f"set PERMISSIVE for the issuer's port ({keys.place}) with portLevelMtls, or let Envoy fetch the keys "
            "(PILOT_JWT_ENABLE_REMOTE_JWKS=hybrid); a restart of istiod does not help"
        )
        return explain(evidence, "keys-behind-mtls", why, change, *details)
    if any(words in keys.istiod_message for words in ("x509", "tls: ", "certificate")):
        why = f"istiod does not trust the certificate of {keys.uri}, and Envoy has a placeholder key"
        change = f"give istiod the CA (values.pilot.jwksResolverExtraRootCA), {REFRESH}"
        change = f"correct {setting}{own}; if it is right, {change}"
        return explain(evidence, "keys-untrusted", why, change, *details, command=command)
    if keys.endpoints == 0:
        why = "Keycloak is not running: istiod could not fetch its keys, and Envoy has a placeholder key"
        return explain(evidence, "keycloak-down", why, f"start Keycloak, {REFRESH}", *details)
    if keys.road == jwks.DISCOVERY and keys.fetch_error:
        why = (
            f"the rule names no jwksUri, so istiod asks {keys.uri}, which gives no keys"
            f"{f' ({keys.reason})' if keys.reason else ''}: Envoy has a placeholder key"
        )
        change = f"add jwksUri to the rule, or make the issuer answer at that address, {REFRESH}"
        return explain(evidence, "discovery", why, change, *details)
    if "404" in keys.fetch_error:
        why = f"no realm exists at {keys.uri} (404), and Envoy has a placeholder key"
        change = f"correct {setting}{own}; or create the realm, {REFRESH}"
        return explain(evidence, "realm-missing", why, change, *details, command=command)
    if keys.fetch_error or (keys.reason and keys.published is None):
        reason = f" ({keys.reason})" if keys.reason else ""
        why = f"istiod cannot reach {keys.uri}{reason}, and Envoy has a placeholder key"
        change = f"correct {setting}{own}; or let istiod reach it, {REFRESH}"
        return explain(evidence, "keys-unreachable", why, change, *details, command=command)
    if keys.istiod_message:
        reason = f" ({keys.reason})" if keys.reason else ""
        why = f"this machine can fetch the keys, but istiod could not{reason}: Envoy still has a placeholder key"
        change = "read istiod's message below; if it is old, restart istiod or wait, else let istiod reach that address"
        return explain(evidence, "keys-too-early", why, change, *details, command=_restart(evidence))
    age = evidence.now - evidence.istiod_since
    if age < authorization.RECENT and (authorization.newest_change(evidence) or 0.0) < evidence.istiod_since:
        why = f"istiod started {age:.0f} s ago and can fetch the keys, but Envoy still has the old placeholder key"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds", *details)
    why = "the keys exist now, but did not when istiod fetched them: Envoy still has a placeholder key"
    change = "restart istiod, or wait; next time create the realm before you apply the policy"
    return explain(evidence, "keys-too-early", why, change, *details, command=_restart(evidence))


def _restart(evidence: Evidence) -> str:
    return kubectl.restart("deployment", evidence.mesh.istiod, evidence.mesh.istiod_namespace)


def _key_ids(keys: Sequence[Mapping] | None) -> str:
    return ", ".join(str(one.get("kid")) for one in keys) if keys is not None else "unknown"


def _remote(evidence: Evidence) -> Diagnosis:
    change = "add a ServiceEntry for the issuer, or let istiod fetch them (PILOT_JWT_ENABLE_REMOTE_JWKS=istiod)"
    return explain(evidence, "keys-unreachable", "Envoy fetches the keys itself and cannot reach them", change)


def _unknown(evidence: Evidence) -> Diagnosis:
    why = "Envoy's JWT filter refused the token for a reason that `why` does not know"
    return explain(evidence, "unexplained", why, "read the evidence")
