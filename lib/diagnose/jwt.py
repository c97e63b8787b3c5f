"""Causes that the token has: what Envoy's JWT filter says, and what stands behind its words."""

from __future__ import annotations

from difflib import SequenceMatcher
from urllib.parse import urlsplit

from lib.diagnose.diagnosis import Diagnosis, named, told
from lib.diagnose.evidence import Scene
from lib.istio.answers import JWT
from lib.keycloak import oidc

GRACE = 60  # seconds that Envoy adds to exp and takes from nbf
SKEWED = 30  # seconds of difference between two clocks that are told
KEYCLOAKS_OWN = ("Refresh", "Offline", "Logout")  # typ of tokens that are not for others
UNREADABLE = ("J1", "J2", "J3", "J7", "J8", "J9", "J10", "J11", "J12")


def code(scene: Scene) -> str:
    """Return which of lib.probes.answers.JWT was said, "" for none."""
    said = scene.answer.body or scene.answer.reason
    return next((name for name, words in JWT.items() if words in said), "")


def diagnosed(scene: Scene) -> Diagnosis | None:
    """Return the cause of a refusal by the JWT filter."""
    if scene.answer.status not in (401, 403) or not (said := code(scene)):
        return None
    if scene.token and scene.token.claims.get("typ") in KEYCLOAKS_OWN:
        return _keycloaks_own(scene)
    if scene.token and not scene.token.trouble and str(scene.token.header.get("alg", "none")).lower() == "none":
        return _algorithm(scene)
    if said in UNREADABLE:
        return _unreadable(scene)
    causes = {"J4": _algorithm, "J5": _algorithm, "J6": _unreadable, "J13": _issuer, "J14": _early, "J15": _expired}
    return {**causes, "J16": _audience, "J17": _keys, "J18": _keys, "J20": _remote}.get(said, _unknown)(scene)


def _unreadable(scene: Scene) -> Diagnosis:
    what = scene.token.trouble if scene.token and scene.token.trouble else "something that is no JSON Web Token"
    return told(
        scene,
        "not-a-jwt",
        f"what was sent as a token is {what}",
        "look at what the token endpoint answered (its error, not its access_token, was probably taken), and send that",
    )


def _algorithm(scene: Scene) -> Diagnosis:
    return told(
        scene,
        "algorithm",
        f"the token's algorithm is {scene.token.header.get('alg')}, which Envoy does not take",
        "send the token as the issuer signed it; tokens that nobody signed, or by a shared secret, never pass",
    )


def _keycloaks_own(scene: Scene) -> Diagnosis:
    kind = scene.token.claims["typ"].lower()
    return told(
        scene,
        "wrong-token-type",
        f"this is a token of the kind {kind}, which Keycloak makes for itself alone",
        "send the access_token of the token endpoint's answer",
    )


def _issuer(scene: Scene) -> Diagnosis:
    said = str(scene.token.claims.get("iss", ""))
    wanted = [rule.get("issuer", "") for _, rule in scene.jwt_rules]
    if not wanted:
        return told(
            scene, "policy-just-applied", "the proxy knows rules that no RequestAuthentication has (any more)",
            "ask again in a few seconds",
        )  # fmt: skip
    nearest = max(wanted, key=lambda one: _alike(one, said))
    where = _difference(nearest, said)
    return told(
        scene,
        "issuer-mismatch",
        f"the token's issuer is {said}, the policy's {nearest}: another {where}",
        "make the two equal, byte for byte: one name for Keycloak (KC_HOSTNAME), and that one in the policy's issuer",
        f"{oidc.first_difference(nearest, said)}",
        f"issuers known at {named(scene.guard)}: {', '.join(wanted)}",
    )


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _difference(wanted: str, said: str) -> str:
    """Return which part of a URL differs, the first of scheme, host, port, /auth, slash, realm, path."""
    one, other = urlsplit(wanted), urlsplit(said)
    if one.scheme != other.scheme:
        return f"scheme, {other.scheme or 'none'} for {one.scheme}"
    if one.hostname != other.hostname:
        return f"host, {other.hostname} for {one.hostname}"
    if one.port != other.port:
        return f"port, {other.port or 'none'} for {one.port or 'none'}"
    if ("/auth/" in one.path) != ("/auth/" in other.path):
        return "path: /auth, which Keycloak dropped with version 17, is in one of them"
    if one.path.rstrip("/") == other.path.rstrip("/"):
        return "ending: one has a slash at its end"
    return f"realm or path, {other.path} for {one.path}"


def _expired(scene: Scene) -> Diagnosis:
    ago = scene.now - scene.token.claims.get("exp", scene.now)
    if ago < GRACE and (clock := _clock(scene)):
        return told(scene, "clock", clock, "set the clocks by NTP")
    return told(
        scene,
        "expired",
        f"the token's life was over {ago:.0f} s ago, and Envoy's {GRACE} s of grace are over too",
        "fetch a new token, with the refresh token or by a log-in",
    )


def _early(scene: Scene) -> Diagnosis:
    claims = scene.token.claims
    ahead = claims.get("iat", 0) - scene.now
    if ahead > SKEWED or _clock(scene):
        why = _clock(scene) or f"the token was issued {ahead:.0f} s from now: its issuer's clock is ahead of the mesh's"
        return told(scene, "clock", why, "set the clocks of Keycloak's and the mesh's machines by NTP")
    wait = claims.get("nbf", 0) - scene.now
    return told(
        scene,
        "not-yet-valid",
        f"the token's nbf says that it is good in {wait:.0f} s, not before",
        "wait, or let Keycloak issue it without a not-before",
    )


def _clock(scene: Scene) -> str:
    if scene.skew is None or abs(scene.skew) < SKEWED:
        return ""
    return f"the proxy's clock is {abs(scene.skew):.0f} s {'ahead of' if scene.skew > 0 else 'behind'} this machine's"


def _audience(scene: Scene) -> Diagnosis:
    has = scene.token.claims.get("aud")
    had = ", ".join([has] if isinstance(has, str) else has or [])
    rules = [rule for _, rule in scene.jwt_rules if rule.get("issuer") == scene.token.claims.get("iss")]
    wanted = ", ".join(one for rule in rules for one in rule.get("audiences", []))
    client = scene.token.claims.get("azp", "its client")
    return told(
        scene,
        "audience",
        f"the token is for {had or 'nobody (it has no aud)'}, the policy wants {wanted}",
        f"give the client {client} an audience mapper for {wanted.split(', ')[0]} (Keycloak puts no client into its "
        "own access tokens), then fetch a new token",
    )


def _keys(scene: Scene) -> Diagnosis:
    held, kid = scene.keys, scene.token.header.get("kid")
    if held.state == "placeholder" or (held.held is not None and not held.held):
        return _not_fetched(scene)
    if held.trouble and not held.holds(kid):
        return _not_fetched(scene)
    if held.publishes(kid) and not held.holds(kid):
        return told(
            scene,
            "keys-stale",
            f"Keycloak signs with the key {kid} now, and Envoy has not got it yet: istiod asks every 20 minutes",
            "wait, or restart istiod; and let a new key be published before it signs (passive, then active)",
            _kids(scene),
        )
    if not held.publishes(kid) and held.published is not None:
        return told(
            scene,
            "foreign-key",
            f"the token's key {kid} is none of the issuer's: of another realm or server, or of keys that are gone",
            "fetch a new token from the issuer that the policy names",
            _kids(scene),
        )
    return told(
        scene,
        "signature",
        f"Envoy has the token's key {kid}, and the signature does not fit: the token was changed on its way",
        "send the token as it came, every character of it; a copied one may have lost its end",
        _kids(scene),
    )


def _not_fetched(scene: Scene) -> Diagnosis:
    """Istiod could not fetch the keys, and gave Envoy a stand-in that fits nothing."""
    held, rule = scene.keys, "the RequestAuthentication's jwksUri"
    evidence = (f"jwksUri: {held.uri}", f"asked now: {held.trouble}" if held.trouble else "", f"istiod: {held.said}")
    evidence = tuple(one for one in evidence if not one.endswith(": "))
    refresh = "then restart istiod, or wait: it tries again every minute at first, up to an hour later"
    if "x509" in held.said or "tls: " in held.said or "certificate" in held.said:
        return told(
            scene, "keys-untrusted", f"istiod does not trust the certificate at {held.uri}, so that Envoy has no keys",
            f"give istiod the CA (values.pilot.jwksResolverExtraRootCA), {refresh}", *evidence,
        )  # fmt: skip
    if held.endpoints == 0 and "Service" in held.trouble and "no pod" in held.trouble:
        return told(
            scene, "keycloak-down", "Keycloak does not run, and istiod could not fetch its keys: Envoy has a stand-in",
            f"start Keycloak, {refresh}", *evidence,
        )  # fmt: skip
    if "404" in held.trouble:
        return told(
            scene, "realm-missing", f"there is no realm at {held.uri} (404), so that Envoy has no keys",
            f"make the realm, or correct {rule}; {refresh}", *evidence,
        )  # fmt: skip
    if held.trouble:
        return told(
            scene, "keys-unreachable", f"istiod does not get to {held.uri}, and Envoy has a stand-in, which fits none",
            f"correct {rule}, or open the way from istiod to it; {refresh}", *evidence,
        )  # fmt: skip
    return told(
        scene, "keys-too-early", "the keys are there now, but were not when istiod asked: Envoy has a stand-in still",
        "restart istiod, or wait; next time let Keycloak and its realm be there before the policy", *evidence,
    )  # fmt: skip


def _kids(scene: Scene) -> str:
    def ids(found) -> str:
        return ", ".join(str(one.get("kid")) for one in found) if found is not None else "not seen"

    return f"key ids: Envoy has {ids(scene.keys.held)}; published now {ids(scene.keys.published)}"


def _remote(scene: Scene) -> Diagnosis:
    return told(
        scene, "keys-unreachable", "Envoy fetches the keys itself, and does not get to them",
        "give the issuer a ServiceEntry, or let istiod fetch (PILOT_JWT_ENABLE_REMOTE_JWKS=istiod)",
    )  # fmt: skip


def _unknown(scene: Scene) -> Diagnosis:
    why = "Envoy's JWT filter refused the token, for a reason that is not known here"
    return told(scene, "unexplained", why, "read the evidence")
