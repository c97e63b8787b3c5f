"""What Istio 1.4 did with a request under MeshPolicy, Policy and rbac.istio.io, for the tests of lib/legacy.

Written from Istio 1.4.10 and shares nothing with lib/legacy: istio/istio pilot/pkg/model/push_context.go (which one),
pilot/pkg/security/authn/v1alpha1 (the listener), pilot/pkg/model/authorization.go and pilot/pkg/security/authz/model
(roles); istio/proxy src/envoy/http/authn (tokens). One thing is by the documentation instead: source.principal: "*" is
whoever has a certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ROOT = "istio-system"
INSTALLED = {"peers": [{"mtls": {"mode": "PERMISSIVE"}}]}  # the MeshPolicy that the charts of 1.4 put there


@dataclass(frozen=True)
class Request:
    """A request to a Service's port; `caller` is the service account of a pod with a sidecar."""

    service: str
    namespace: str
    port: dict
    caller: str | None = None
    token: dict | None = None  # iss, aud, sub, group, good
    path: str = "/"
    query: str = ""
    method: str = "GET"
    preflight: bool = False
    headers: dict = field(default_factory=dict)

    @property
    def http(self) -> bool:
        return self.port["name"].startswith("http")


def allowed(things: list[dict], request: Request) -> bool:
    """Return whether a request got in."""
    policy = _policy(things, request)
    peers = [next(iter(one.values())) or {} for one in policy.get("peers", [])]
    strict = bool(peers) and peers[0].get("mode", "STRICT") == "STRICT"
    if strict and not request.caller:
        return False
    who = {"source.principal": request.caller} if peers and request.caller else {}
    if request.http and (policy.get("peers") or policy.get("origins")):
        passed, found = _origins(policy, request, who.get("source.principal"))
        if not (passed or policy.get("originIsOptional")):
            return False
        who |= found
    return _role_lets(things, request, who)


def _policy(things, request) -> dict:
    def of(kind):
        return [one for one in things if one["kind"] == kind]

    mine = [one for one in of("Policy") if one["metadata"]["namespace"] == request.namespace]
    for one in mine:
        for target in one["spec"].get("targets", []):
            ports = target.get("ports", [])
            named = [port for port in ports if request.port["port"] == port.get("number") or
                     request.port["name"] == port.get("name")]  # fmt: skip
            if target["name"] == request.service and (named or not ports):
                return one["spec"]
    spaces = [one["spec"] for one in mine if not one["spec"].get("targets")]
    mesh = [one["spec"] for one in of("MeshPolicy") if one["metadata"]["name"] == "default"]
    return next(iter([*spaces, *mesh, INSTALLED]))


def _origins(policy, request, caller) -> tuple[bool, dict]:
    if policy.get("principalBinding") == "USE_ORIGIN" and not policy.get("origins"):
        return False, {}
    if request.preflight:
        return True, {}
    looked = [one["jwt"] for one in policy.get("origins", []) if _triggered(one["jwt"], request.path)]
    good = next((request.token for jwt in looked if _good(jwt, request.token)), None)
    if looked and not good:
        return False, {}
    found = {"claims": good, "request.auth.presenter": good["azp"]} if good else {}
    user = f"{good['iss']}/{good['sub']}" if good and good["sub"] else ""
    principal = user if policy.get("principalBinding") == "USE_ORIGIN" else caller
    return True, {**found, **({"request.auth.principal": principal} if principal else {})}


def _good(jwt, token) -> bool:
    wanted = set(jwt.get("audiences", []))
    return bool(
        token and token["good"] and token["iss"] == jwt["issuer"] and (not wanted or wanted & set(token["aud"]))
    )


def _triggered(jwt, path) -> bool:
    def met(match):
        ((kind, text),) = match.items()
        return {"exact": path == text, "prefix": path.startswith(text), "suffix": path.endswith(text)}[kind]

    def rule_met(rule):
        included = rule.get("includedPaths", [])
        return not any(map(met, rule.get("excludedPaths", []))) and (not included or any(map(met, included)))

    rules = jwt.get("triggerRules", [])
    return not rules or any(map(rule_met, rules))


def _role_lets(things, request, who) -> bool:
    whole = f"{request.service}.{request.namespace}.svc.cluster.local"
    config = next((one["spec"] for one in things if one["kind"] == "ClusterRbacConfig"), {"mode": "OFF"})

    def in_list(scope):
        return request.namespace in scope.get("namespaces", []) or whole in scope.get("services", [])

    on = {"OFF": False, "ON": True, "ON_WITH_INCLUSION": in_list(config.get("inclusion", {})),
          "ON_WITH_EXCLUSION": not in_list(config.get("exclusion", {}))}[config.get("mode", "OFF")]  # fmt: skip
    if not on:
        return True
    here = [one for one in things if one["metadata"].get("namespace") == request.namespace]
    for role in (one for one in here if one["kind"] == "ServiceRole"):
        bindings = [one["spec"] for one in here if one["kind"] == "ServiceRoleBinding"
                    and one["spec"]["roleRef"]["name"] == role["metadata"]["name"]]  # fmt: skip
        subjects = [subject for one in bindings for subject in one["subjects"]]
        if any(_permits(rule, whole, request) for rule in role["spec"]["rules"]) and any(
            _is(subject, request, who) for subject in subjects
        ):
            return True
    return False


def _permits(rule, whole, request) -> bool:
    if rule.get("services") and not _any(whole, rule["services"]):
        return False
    values = {"paths": request.path + request.query, "methods": request.method}
    for key, value in values.items():
        for field_, wanted in ((key, True), (f"not_{key}", False)):
            if rule.get(field_) and (not request.http or _any(value, rule[field_]) is not wanted):
                return False
    if rule.get("ports") and request.port["targetPort"] not in rule["ports"]:
        return False
    if rule.get("not_ports") and request.port["targetPort"] in rule["not_ports"]:
        return False
    for one in rule.get("constraints", []):
        if one["key"].startswith("request.headers["):
            name = one["key"][len("request.headers[") : -1]
            if not request.http or not _any(request.headers.get(name), one["values"]):
                return False
        elif one["key"] == "destination.port" and str(request.port["targetPort"]) not in one["values"]:
            return False
    return True


def _is(subject, request, who) -> bool:
    names = [*([subject["user"]] if "user" in subject else []), *subject.get("names", [])]
    caller = who.get("source.principal")
    space = caller.split("/")[2] if caller else None
    asked = [not names or "*" in names or _any(caller, names)]
    asked.append(not _any(caller, subject.get("not_names", [])))
    asked.append(not subject.get("namespaces") or _any(space, subject["namespaces"]))
    asked.append(not _any(space, subject.get("not_namespaces", [])))
    for key, value in {
        **subject.get("properties", {}),
        **({"group": subject["group"]} if "group" in subject else {}),
    }.items():
        if key == "source.principal":
            asked.append(_any(caller, [value]))
        elif key == "source.namespace":
            asked.append(_any(space, [value]))
        elif key in ("request.auth.principal", "request.auth.presenter"):
            asked.append(request.http and _any(who.get(key), [value]))
        elif key in ("request.auth.claims[groups]", "group"):
            asked.append(request.http and any(_any(one, [value]) for one in who.get("claims", {}).get("groups", [])))
        elif key.startswith("request.headers["):
            asked.append(request.http and _any(request.headers.get(key[len("request.headers[") : -1]), [value]))
        else:
            asked.append(False)  # custom metadata, which nothing sets
    return bool(subject) and all(asked)


def _any(value, patterns) -> bool:
    def met(pattern):
        if pattern == "*":
            return True
        if pattern.startswith("*"):
            return value.endswith(pattern[1:])
        return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern

    return value is not None and any(map(met, patterns))
