"""Why a token's issuer or audience does not fit the rule, and what that kind of issuer lets people change."""

from __future__ import annotations

from difflib import SequenceMatcher
from urllib.parse import urlsplit

from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio import policies
from lib.keycloak import oidc
from lib.kubernetes import kubectl

REALM = "/realms/"  # in the path of each of Keycloak's issuers
COMMON = ("", "auth", "realms", "oauth2", "oauth", "default", "v2.0", "v1", "v2", "oidc")  # parts of many issuers
AZURE = ("sts.windows.net", "login.microsoftonline.com")
VERSIONS = (
    "; Azure's tokens of version 1 come from sts.windows.net, those of version 2 from login.microsoftonline.com "
    "(requestedAccessTokenVersion in the application's manifest)"
)


def mismatch(evidence: Evidence) -> Diagnosis:
    """Explain `Jwt issuer is not configured`: another name of the same issuer, or another issuer."""
    issuer = str(evidence.claims.get("iss", ""))
    rules = {rule.get("issuer", ""): name for name, rule in evidence.jwt_rules}
    if not rules:
        why = "the proxy enforces a JWT rule that no RequestAuthentication has now"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds")
    nearest = max(rules, key=lambda one: SequenceMatcher(None, one, issuer).ratio())
    known = f"issuers known at {workload_name(evidence.guard)}: {', '.join(rules)}"
    if not _parts(nearest) & _parts(issuer):
        return _other(evidence, issuer, known)
    why = f"the token's issuer is {issuer}, the policy's is {nearest}; they differ in the {difference(nearest, issuer)}"
    if REALM in issuer + nearest:
        change = (
            f"make both equal, byte for byte: write {issuer} into {rules[nearest]}; or, if that name is wrong, give "
            "Keycloak the right one (KC_HOSTNAME)"
        )
        if urlsplit(issuer).scheme != urlsplit(nearest).scheme:
            change += "; behind a load balancer that ends TLS, set KC_PROXY_HEADERS too"
    else:
        change = f"if this issuer's tokens may pass, write {issuer} into {rules[nearest]}, byte for byte"
        change += VERSIONS if urlsplit(issuer).hostname in AZURE else ""
    command = kubectl.edit(evidence.policy(policies.REQUESTS, rules[nearest]), "issuer", nearest, issuer)
    where = oidc.first_difference(nearest, issuer)
    return explain(evidence, "issuer-mismatch", why, change, where, known, command=command)


def _other(evidence: Evidence, issuer: str, known: str) -> Diagnosis:
    token = f"the token's issuer {issuer}" if issuer else "the token, which has no iss,"
    why = (
        f"no RequestAuthentication at {workload_name(evidence.guard)} is for {token}: Envoy refuses such a token, even "
        "if no policy requires a token"
    )
    change = (
        "if these tokens may pass, add a rule with their issuer and its jwksUri; if only the application reads them, "
        "send them in a header that no rule reads (fromHeaders says which a rule reads)"
    )
    return explain(evidence, "other-issuer", why, change, known)


def _parts(issuer: str) -> set[str]:
    """Return the parts of an issuer that tell it from others: its host, and the names in its path."""
    return {part.partition(":")[0] for part in issuer.rpartition("://")[2].split("/")} - set(COMMON)


def difference(policy: str, token: str) -> str:
    """Return the part where two URLs differ, the first of scheme, host, port, /auth, slash, realm, path."""
    one, other = urlsplit(policy), urlsplit(token)
    if one.scheme != other.scheme:
        return f"scheme (token: {other.scheme or 'none'}, policy: {one.scheme or 'none'})"
    if one.hostname != other.hostname:
        return f"host (token: {other.hostname}, policy: {one.hostname})"
    if one.port != other.port:
        return f"port (token: {other.port or 'none'}, policy: {one.port or 'none'})"
    if ("/auth/" in one.path) != ("/auth/" in other.path):
        return "path: only one has /auth, which Keycloak dropped in version 17"
    if one.path.rstrip("/") == other.path.rstrip("/"):
        return "last character: only one ends with a slash"
    return f"realm or path (token: {other.path}, policy: {one.path})"


def audience(evidence: Evidence) -> Diagnosis:
    """Explain `Audiences in Jwt are not allowed`."""
    if evidence.token is None:
        return _audience_of_login(evidence)
    claims = evidence.claims
    found = claims.get("aud")
    audiences = ", ".join([found] if isinstance(found, str) else found or [])
    rules = [(name, rule) for name, rule in evidence.jwt_rules if rule.get("issuer") == claims.get("iss")]
    wanted = [one for _, rule in rules for one in rule.get("audiences", [])]
    policy = rules[0][0] if rules else "the RequestAuthentication"
    has = f"the token's audience is {audiences}" if audiences else "the token has no audience (aud)"
    why = f"{has}, and the policy requires {', '.join(wanted)}"
    if REALM in str(claims.get("iss", "")):
        change = (
            f"add an audience mapper for {wanted[0] if wanted else 'the audience'} to the client "
            f"{claims.get('azp', 'of the token')}, then fetch a new token; Keycloak adds no audience by itself"
        )
    elif audiences:
        change = (
            f"ask the issuer for a token for {wanted[0] if wanted else 'the audience'}; or, if {audiences} is this "
            f"application, write it into the audiences of {policy}"
        )
    else:
        client = "client_id" if "client_id" in claims else "azp"
        change = (
            f"if this issuer's access tokens never have one (Cognito's do not), remove audiences from {policy}, and "
            f"require request.auth.claims[{client}] in an AuthorizationPolicy"
        )
    return explain(evidence, "audience", why, change)


def _audience_of_login(evidence: Evidence) -> Diagnosis:
    """Explain the refusal of a token that the request does not have: a login on its way adds the token."""
    wanted = ", ".join(one for _, rule in evidence.jwt_rules for one in rule.get("audiences", []))
    why = f"the token that the login adds to the request lacks the audience that the policy requires, {wanted}"
    change = f"add an audience mapper for {wanted} to the login's client at the issuer, then log in again"
    return explain(evidence, "audience", why, change)
