"""What Istio does today with a request under PeerAuthentication, RequestAuthentication and AuthorizationPolicy.

For the tests of lib/legacy, and sharing nothing with it: by the reference pages of the three kinds, and for plain TCP
by istio/istio pilot/pkg/security/authz/model (a DENY forgets its HTTP fields, an ALLOW rule with any is left out).
"""

from __future__ import annotations

from tests.support.legacy_then import ROOT, Request

HTTP = {"hosts", "notHosts", "paths", "notPaths", "methods", "notMethods", "requestPrincipals", "notRequestPrincipals"}


def allowed(things: list[dict], request: Request, labels: dict) -> bool:
    """Return whether a request gets in to pods with these labels."""
    mine = [one for one in things if _selects(one, request.namespace, labels)]
    mode = _mode([one for one in mine if one["kind"] == "PeerAuthentication"], request)
    if mode == "STRICT" and not request.caller:
        return False
    caller = request.caller if mode != "DISABLE" else None
    token = None
    if request.http and not request.preflight:
        rules = [rule for one in mine if one["kind"] == "RequestAuthentication" for rule in one["spec"]["jwtRules"]]
        if rules and request.token:
            if not any(_good(rule, request.token) for rule in rules):
                return False
            token = request.token
    policies = [one["spec"] for one in mine if one["kind"] == "AuthorizationPolicy"]
    denied = [one for one in policies if one.get("action") == "DENY"]
    allow = [one for one in policies if one.get("action", "ALLOW") == "ALLOW"]
    if any(_matches(rule, request, caller, token, True) for one in denied for rule in one.get("rules", [])):
        return False
    return not allow or any(
        _matches(rule, request, caller, token, False) for one in allow for rule in one.get("rules", [])
    )


def _selects(one, namespace, labels) -> bool:
    wanted = one["spec"].get("selector", {}).get("matchLabels", {})
    return one["metadata"]["namespace"] in (namespace, ROOT) and wanted.items() <= labels.items()


def _mode(found, request) -> str:
    def at(rank):
        ranked = [one for one in found if rank(one)]
        assert len(ranked) < 2, "two for the same pods: the older one would hold alone"
        return ranked[0]["spec"] if ranked else {}

    pods = at(lambda one: "selector" in one["spec"])
    space = at(lambda one: "selector" not in one["spec"] and one["metadata"]["namespace"] == request.namespace)
    mesh = at(lambda one: "selector" not in one["spec"] and one["metadata"]["namespace"] == ROOT)
    modes = [
        pods.get("portLevelMtls", {}).get(request.port["targetPort"]),
        *(one.get("mtls") for one in (pods, space, mesh)),
    ]
    return next((one["mode"] for one in modes if one), "PERMISSIVE")


def _good(rule, token) -> bool:
    wanted = set(rule.get("audiences", []))
    return token["good"] and token["iss"] == rule["issuer"] and (not wanted or bool(wanted & set(token["aud"])))


def _matches(rule, request, caller, token, deny) -> bool:
    froms = [one["source"] for one in rule.get("from", [])] or [{}]
    tos = [one["operation"] for one in rule.get("to", [])] or [{}]
    whens = rule.get("when", [])
    if not request.http:
        used = {key for one in (*froms, *tos) for key in one} & HTTP or [
            one for one in whens if one["key"].startswith("request.")]  # fmt: skip
        if used and not deny:
            return False
        froms, tos = ([{k: v for k, v in one.items() if k not in HTTP} for one in some] for some in (froms, tos))
        whens = [one for one in whens if not one["key"].startswith("request.")]
    user = f"{token['iss']}/{token['sub']}" if token and token["sub"] else None
    space = caller.split("/")[2] if caller else None
    known = {"principals": [caller], "namespaces": [space], "requestPrincipals": [user], "paths": [request.path],
             "methods": [request.method], "ports": [str(request.port["targetPort"])]}  # fmt: skip
    said = {"request.auth.claims[groups]": token["groups"] if token else [], "destination.port": known["ports"],
            "request.auth.presenter": [token["azp"] if token else None], "request.headers[:path]":
            [request.path + request.query]}  # fmt: skip
    said |= {f"request.headers[{name}]": [value] for name, value in request.headers.items()}
    return (
        any(all(_met(known, key, values) for key, values in one.items()) for one in froms)
        and any(all(_met(known, key, values) for key, values in one.items()) for one in tos)
        and all(
            ("values" not in one or _any(said.get(one["key"], []), one["values"]))
            and not _any(said.get(one["key"], []), one.get("notValues", []))
            for one in whens
        )
    )


def _met(known, key, values) -> bool:
    if key.startswith("not"):
        return not _any(known[key[3].lower() + key[4:]], values)
    return _any(known[key], values)


def _any(found, patterns) -> bool:
    def met(value, pattern):
        if pattern == "*":
            return bool(value)
        if pattern.startswith("*"):
            return value.endswith(pattern[1:])
        return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern

    return any(met(value, pattern) for value in found for pattern in patterns if value is not None)
