"""Causes of a refusal by Envoy's JWT filter: the token, its issuer, its audience, the clocks, the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from urllib.parse import urlsplit

from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio.answers import JWT
from lib.keycloak import oidc

GRACE = 60  # seconds that Envoy adds to exp and subtracts from nbf
SKEWED = 30  # seconds from which a difference between two clocks is reported
KEYCLOAK_ONLY = ("Refresh", "Offline", "Logout")  # typ of tokens that only Keycloak itself accepts
UNREADABLE = ("J1", "J2", "J3", "J6", "J7", "J8", "J9", "J10", "J11", "J12")
REFRESH = "then restart istiod, or wait: it retries after one minute at first, later after up to an hour"


def error_code(evidence: Evidence) -> str:
    """Return the key of lib.istio.answers.JWT whose words the answer has, "" if it has none of them."""
    text = evidence.answer.body or evidence.answer.reason
    return next((code for code, words in JWT.items() if words in text), "")


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a refusal by the JWT filter."""
    if evidence.answer.status not in (401, 403) or not (code := error_code(evidence)):
        return None
    if evidence.claims.get("typ") in KEYCLOAK_ONLY:
        return _keycloak_only(evidence)
    token = evidence.token
    if token and not token.problem and str(token.header.get("alg", "none")).lower() == "none":
        return _algorithm(evidence)
    if code in UNREADABLE:
        return _unreadable(evidence)
    causes = {"J4": _algorithm, "J5": _algorithm, "J13": _issuer, "J14": _early, "J15": _expired, "J16": _audience}
    return {**causes, "J17": _keys, "J18": _keys, "J20": _remote}.get(code, _unknown)(evidence)


def _unreadable(evidence: Evidence) -> Diagnosis:
    problem = evidence.token.problem if evidence.token else ""
    why = f"the value that was sent as a token is {problem or 'not a JSON Web Token'}"
    change = "send the access_token of the token endpoint's answer; if it has none, read its error"
    return explain(evidence, "not-a-jwt", why, change)


def _algorithm(evidence: Evidence) -> Diagnosis:
    why = f"the token's algorithm is {evidence.header.get('alg')}, which Envoy does not accept"
    change = "send the token as the issuer signed it; unsigned tokens and shared secrets never pass"
    return explain(evidence, "algorithm", why, change)


def _keycloak_only(evidence: Evidence) -> Diagnosis:
    why = f"the token's type is {evidence.claims['typ'].lower()}: only Keycloak itself accepts it"
    return explain(evidence, "wrong-token-type", why, "send the access_token of the token endpoint's answer")


def _issuer(evidence: Evidence) -> Diagnosis:
    issuer = str(evidence.claims.get("iss", ""))
    wanted = [rule.get("issuer", "") for _, rule in evidence.jwt_rules]
    if not wanted:
        why = "the proxy enforces a JWT rule that no RequestAuthentication has now"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds")
    nearest = max(wanted, key=lambda one: SequenceMatcher(None, one, issuer).ratio())
    why = (
        f"the token's issuer is {issuer}, the policy's is {nearest}; they differ in the {_difference(nearest, issuer)}"
    )
    change = "make both equal, byte for byte: give Keycloak one name (KC_HOSTNAME), and write it into the policy"
    known = f"issuers known at {workload_name(evidence.guard)}: {', '.join(wanted)}"
    return explain(evidence, "issuer-mismatch", why, change, oidc.first_difference(nearest, issuer), known)


def _difference(policy: str, token: str) -> str:
    """Return the part where two URLs differ, the first of scheme, host, port, /auth, slash, realm, path."""
    one, other = urlsplit(policy), urlsplit(token)
    if one.scheme != other.scheme:
        return f"scheme (token: {other.scheme or 'none'}, policy: {one.scheme})"
    if one.hostname != other.hostname:
        return f"host (token: {other.hostname}, policy: {one.hostname})"
    if one.port != other.port:
        return f"port (token: {other.port or 'none'}, policy: {one.port or 'none'})"
    if ("/auth/" in one.path) != ("/auth/" in other.path):
        return "path: only one has /auth, which Keycloak dropped in version 17"
    if one.path.rstrip("/") == other.path.rstrip("/"):
        return "last character: only one ends with a slash"
    return f"realm or path (token: {other.path}, policy: {one.path})"


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


def _audience(evidence: Evidence) -> Diagnosis:
    found = evidence.claims.get("aud")
    audiences = ", ".join([found] if isinstance(found, str) else found or [])
    rules = [rule for _, rule in evidence.jwt_rules if rule.get("issuer") == evidence.claims.get("iss")]
    wanted = [one for rule in rules for one in rule.get("audiences", [])]
    has = f"the token's audience is {audiences}" if audiences else "the token has no audience (aud)"
    why = f"{has}, and the policy requires {', '.join(wanted)}"
    change = (
        f"add an audience mapper for {wanted[0] if wanted else 'the audience'} to the client "
        f"{evidence.claims.get('azp', 'of the token')}, then fetch a new token; Keycloak adds no audience by itself"
    )
    return explain(evidence, "audience", why, change)


def _keys(evidence: Evidence) -> Diagnosis:
    keys, kid = evidence.keys, evidence.header.get("kid")
    placeholder = keys.state == "placeholder" or (keys.held is not None and not keys.held)
    if placeholder or (keys.fetch_error and not keys.holds(kid)):
        return _not_fetched(evidence)
    ids = f"key ids: Envoy has {_key_ids(keys.held)}; published now {_key_ids(keys.published)}"
    if keys.publishes(kid) and not keys.holds(kid):
        why = f"Keycloak signs with the key {kid} now, but Envoy lacks it: istiod fetches keys every 20 minutes"
        change = "wait, or restart istiod; next time publish a new key (passive) before it signs (active)"
        return explain(evidence, "keys-stale", why, change, ids)
    if not keys.publishes(kid) and keys.published is not None:
        why = f"the issuer does not publish the token's key {kid}: another realm signed it, or the key was removed"
        return explain(evidence, "foreign-key", why, "fetch a new token from the issuer that the policy names", ids)
    why = f"Envoy has the token's key {kid}, but the signature is wrong: the token changed after it was signed"
    change = "send the token exactly as it was issued; check that a copied token is complete"
    return explain(evidence, "signature", why, change, ids)


def _not_fetched(evidence: Evidence) -> Diagnosis:
    """Explain why istiod could not fetch the keys: it then gives Envoy a placeholder key, which fits no token."""
    keys, setting = evidence.keys, "the RequestAuthentication's jwksUri"
    lines = {"jwksUri": keys.uri, "fetched now": keys.fetch_error, "istiod": keys.istiod_message}
    details = [f"{name}: {text}" for name, text in lines.items() if text]
    if any(words in keys.istiod_message for words in ("x509", "tls: ", "certificate")):
        why = f"istiod does not trust the certificate of {keys.uri}, and Envoy has a placeholder key"
        change = f"give istiod the CA (values.pilot.jwksResolverExtraRootCA), {REFRESH}"
        return explain(evidence, "keys-untrusted", why, change, *details)
    if keys.endpoints == 0:
        why = "Keycloak is not running: istiod could not fetch its keys, and Envoy has a placeholder key"
        return explain(evidence, "keycloak-down", why, f"start Keycloak, {REFRESH}", *details)
    if "404" in keys.fetch_error:
        why = f"no realm exists at {keys.uri} (404), and Envoy has a placeholder key"
        change = f"create the realm, or correct {setting}, {REFRESH}"
        return explain(evidence, "realm-missing", why, change, *details)
    if keys.fetch_error:
        why = f"istiod cannot reach {keys.uri}, and Envoy has a placeholder key"
        change = f"correct {setting}, or let istiod reach it, {REFRESH}"
        return explain(evidence, "keys-unreachable", why, change, *details)
    why = "the keys exist now, but did not when istiod fetched them: Envoy still has a placeholder key"
    change = "restart istiod, or wait; next time create the realm before you apply the policy"
    return explain(evidence, "keys-too-early", why, change, *details)


def _key_ids(keys: Sequence[Mapping] | None) -> str:
    return ", ".join(str(one.get("kid")) for one in keys) if keys is not None else "unknown"


def _remote(evidence: Evidence) -> Diagnosis:
    change = "add a ServiceEntry for the issuer, or let istiod fetch them (PILOT_JWT_ENABLE_REMOTE_JWKS=istiod)"
    return explain(evidence, "keys-unreachable", "Envoy fetches the keys itself and cannot reach them", change)


def _unknown(evidence: Evidence) -> Diagnosis:
    why = "Envoy's JWT filter refused the token for a reason that `why` does not know"
    return explain(evidence, "unexplained", why, "read the evidence")
