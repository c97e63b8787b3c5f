"""ServiceRole, ServiceRoleBinding and ClusterRbacConfig as today's AuthorizationPolicy."""

from __future__ import annotations

from collections.abc import Mapping

from lib.errors import LegacyError
from lib.legacy.read import Binding, Config, Role, Rule, Subject
from lib.legacy.services import Services
from lib.legacy.write import Translated, thing

KIND = "AuthorizationPolicy"
FIELDS = {  # a property of a subject: the field of today's source that says the same
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.ip": "ipBlocks",
    "request.auth.principal": "requestPrincipals",
}
CONDITIONS = ("request.auth.", "request.headers[", "destination.port")
OPERATIONS = ("hosts", "not_hosts", "paths", "not_paths", "methods", "not_methods")
CLOSED = "RBAC was on: nobody may do what no rule allows. Today that is an ALLOW policy without rules."
NOBODY = "Mode OFF: nothing was asked. Today that is no policy at all."


def allow(
    role: Role, bindings: Mapping[str, Binding], name: str, namespace: str, services: Services
) -> list[Translated]:
    """Return an ALLOW policy for each rule and Service of a role, for the subjects of its bindings, by their names."""
    subjects = [subject for binding in bindings.values() for subject in binding.subjects]
    if not subjects:
        return [Translated({}, [f"ServiceRole {name} is bound to nobody, and so allowed nothing: no object."])]
    sources = [_source(one) for one in subjects]
    made = []
    for number, rule in enumerate(role.rules):
        whens = [_when(one.key, one.values) for one in rule.constraints]
        rules = [_stated(source, rule, [*when, *whens]) for source, when in sources]
        for service in rule.services:
            own = f"{name}-{number}" if len(role.rules) > 1 else name
            made.append(_policy(own, namespace, service, rules, services, len(rule.services) > 1, bindings))
    return made


def default(config: Config, root: str, services: Services) -> list[Translated]:
    """Return what closes the mesh, or the namespaces and Services that are listed."""
    if config.mode == "OFF":
        return [Translated({}, [NOBODY])]
    if config.mode == "ON":
        return [Translated(thing(KIND, "allow-nothing", root, {}), [CLOSED])]
    if config.mode == "ON_WITH_EXCLUSION":
        raise LegacyError("expected ON or ON_WITH_INCLUSION, got ON_WITH_EXCLUSION; list what is to be closed instead.")
    made = [Translated(thing(KIND, "allow-nothing", one, {}), [CLOSED]) for one in config.inclusion.namespaces]
    for service in config.inclusion.services:
        name, home = _service(service, root)
        content = {"selector": {"matchLabels": services.labels(name, home)}}
        made.append(Translated(thing(KIND, f"allow-nothing-{name}", home, content), [CLOSED]))
    return made


def _policy(name, namespace, service: str, rules: list, services: Services, several: bool, bindings) -> Translated:
    notes = [f"From the ServiceRole and its bindings {', '.join(bindings)}; each subject is a rule of its own."]
    if service == "*":
        return Translated(thing(KIND, name, namespace, {"action": "ALLOW", "rules": rules}), notes)
    if "*" in service:
        raise LegacyError(f"expected a Service by its name, or * for all, got {service}; name each.")
    target, home = _service(service, namespace)
    if home != namespace:
        raise LegacyError(f"expected a Service of the namespace {namespace}, got {service}; move it there.")
    content = {"selector": {"matchLabels": services.labels(target, home)}, "action": "ALLOW", "rules": rules}
    return Translated(thing(KIND, f"{name}-{target}" if several else name, namespace, content), notes)


def _service(name: str, namespace: str) -> tuple[str, str]:
    first, _, rest = name.removesuffix(".svc.cluster.local").partition(".")
    return first, rest or namespace


def _stated(source: dict, rule: Rule, when: list[dict]) -> dict:
    operation = {_camel(key): getattr(rule, key) for key in OPERATIONS if getattr(rule, key)}
    for key, ports in (("ports", rule.ports), ("notPorts", rule.not_ports)):
        if ports:
            operation[key] = [str(port) for port in ports]
    if operation.get("methods") == ["*"]:
        del operation["methods"]
    return {
        **({"from": [{"source": source}]} if source else {}),
        **({"to": [{"operation": operation}]} if operation else {}),
        **({"when": when} if when else {}),
    }


def _source(subject: Subject) -> tuple[dict, list[dict]]:
    """Return a subject as a source and conditions; user * is everybody, with or without an identity."""
    if subject.group:
        raise LegacyError(f"expected subjects by user or properties, got the group {subject.group}; use a claim.")
    named = [subject.user and subject.user != "*", subject.names, "source.principal" in subject.properties]
    spaces = [subject.namespaces, "source.namespace" in subject.properties]
    if sum(map(bool, named)) > 1 or sum(map(bool, spaces)) > 1:
        raise LegacyError("expected one way to name a subject, got several, all of which had to hold; write one.")
    source: dict[str, list[str]] = {}
    if subject.user and subject.user != "*":
        source["principals"] = [subject.user]
    for field in ("names", "not_names", "namespaces", "not_namespaces"):
        if values := getattr(subject, field):
            source[{"names": "principals", "not_names": "notPrincipals"}.get(field, _camel(field))] = values
    when = []
    for key, value in subject.properties.items():
        if key in FIELDS:
            source.setdefault(FIELDS[key], []).append(value)
        else:
            when.append(_when(key, [value]))
    return source, when


def _when(key: str, values: list[str]) -> dict:
    if not key.startswith(CONDITIONS):
        raise LegacyError(f"expected a condition on a request, got {key}; today's rules have {', '.join(CONDITIONS)}….")
    return {"key": key, "values": values}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.title() for one in others)
