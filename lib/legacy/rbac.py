"""ServiceRole, ServiceRoleBinding and ClusterRbacConfig as today's AuthorizationPolicy.

Source of the old rules: Istio 1.4, pilot/pkg/model/authorization.go and pilot/pkg/security/authz/model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lib.errors import LegacyError
from lib.legacy.precedence import Ruling
from lib.legacy.read import Config, Found, Rule, Scope
from lib.legacy.services import Services, split
from lib.legacy.subjects import check_token_scope, source, when
from lib.legacy.write import Translated, manifest

KIND = "AuthorizationPolicy"
OPERATIONS = ("hosts", "not_hosts", "paths", "not_paths", "methods", "not_methods")
HTTP = ("hosts", "notHosts", "paths", "notPaths", "methods", "notMethods")  # fields that a rule for TCP cannot have
CONSTRAINTS = ("request.headers[", "destination.port", "destination.ip", "connection.sni")
LABELS = "destination.labels["
CLOSED = "RBAC was on: a request needs a rule that allows it. Today an ALLOW policy without rules does this."
OPEN = "RBAC was off here: a policy that allows everything keeps it open beside the policy that closes the mesh."
NOBODY = "Mode OFF: RBAC refused nothing. Today that needs no policy."
BOUND = "From the ServiceRole and its bindings {names}; each subject has its own rule."
UNBOUND = "ServiceRole {name} has no binding and allowed nothing: no object."
IDLE = "RBAC was off for ServiceRole {name} in {namespace}, and the role had no effect: no object."
QUERY = (
    "In Istio 1.4 a path included its query (?…): the condition on :path keeps it so. Without the condition the policy "
    "would allow the paths with any query."
)
UNQUERIED = "Istio now compares a path without its query (?…): a path in notPaths is refused with any query too."
CONTROL_PLANE = ({"istio": "ingressgateway"}, {"istio": "egressgateway"})  # of Istio's charts
BY_LABELS = (
    "The root namespace was excluded, and a policy there applies to the whole mesh today: so its gateways are selected "
    "by the labels of Istio's charts. The selector fits pods of every namespace: only gateways may have these labels."
)
OTHERS = (
    "other pods with a sidecar in {root} (Grafana, Kiali, …) were excluded too, and are closed now. Write a policy for "
    "each, with its labels. Istio's control plane has no sidecar and needs none."
)
GATEWAYS = (
    "this closes gateways too; in Istio 1.4 RBAC covered only the ports of a gateway that are a targetPort of its "
    "Service. Allow the gateway's traffic: write an ALLOW policy with the gateway's labels in its namespace."
)


@dataclass(frozen=True)
class On:
    """Where RBAC was on."""

    config: Config
    root: str

    def listed(self) -> Scope:
        """Return the scope that the mode uses: the inclusion, the exclusion, or an empty scope."""
        modes = {"ON_WITH_INCLUSION": self.config.inclusion, "ON_WITH_EXCLUSION": self.config.exclusion}
        return modes.get(self.config.mode, Scope())

    def parts(self, services: Sequence[str], namespace: str) -> list[str]:
        """Return the Services for which RBAC was on, among these of a namespace ("" for all)."""
        mode, listed = self.config.mode, self.listed()
        if mode == "ON_WITH_INCLUSION" and namespace not in listed.namespaces:
            mine = [name for name, home in map(split, listed.services) if home == namespace]
            return mine if "" in services else [one for one in services if one in mine]
        excluded = mode == "ON_WITH_EXCLUSION" and namespace in listed.namespaces
        return [] if excluded or mode == "OFF" else list(services)


def switch(config: Found, on: On, services: Services) -> list[Translated]:
    """Return the policies that close the mesh, or the listed namespaces and Services."""
    spec = config.spec
    if config.name != "default":
        raise LegacyError(f"Istio accepted only the name default. Rename {config.name}, or leave it out.")
    if spec.mode == "OFF":
        return [Translated({}, [NOBODY])]
    listed, root = on.listed(), on.root
    opened = spec.mode == "ON_WITH_EXCLUSION" and root in listed.namespaces
    if not opened and (root in listed.namespaces or root in (split(one)[1] for one in listed.services)):
        raise LegacyError(
            f"inclusion or exclusion names the root namespace {root}, where a policy applies to the whole mesh today. "
            "Leave it out, and write policies for its workloads by their labels."
        )
    made = []
    name, note = "allow-nothing", CLOSED
    content: dict = {}
    if spec.mode != "ON_WITH_INCLUSION":
        careful = [] if opened else [GATEWAYS]
        made.append(Translated(manifest(KIND, name, root, content, config.metadata), [note], careful))
        name, content, note = "allow-all", {"action": "ALLOW", "rules": [{}]}, OPEN
    if opened:
        for labels in CONTROL_PLANE:
            selected = {"selector": {"matchLabels": labels}, **content}
            own = f"{name}-{labels['istio']}"
            made.append(Translated(manifest(KIND, own, root, selected, config.metadata), [note, BY_LABELS]))
        made[-1] = replace(made[-1], warnings=[OTHERS.format(root=root)])
    for space in (one for one in listed.namespaces if one != root):
        made.append(Translated(manifest(KIND, name, space, content, config.metadata), [note]))
    for one, home in map(split, listed.services):
        if home not in listed.namespaces:
            selected = {"selector": {"matchLabels": services.labels(one, home)}, **content}
            made.append(Translated(manifest(KIND, f"{name}-{one}", home, selected, config.metadata), [note]))
    return made


def allow(role: Found, bindings: Sequence[Found], on: On, ruling: Ruling, services: Services) -> list[Translated]:
    """Return an ALLOW policy for each rule and Service of a role, for the subjects of its bindings."""
    if role.namespace == on.root:
        raise LegacyError(
            "the ServiceRole is in the root namespace, where a policy applies to the whole mesh today. Move it."
        )
    subjects = [subject for binding in bindings for subject in binding.spec.subjects]
    if not subjects:
        return [Translated({}, [UNBOUND.format(name=role.name)])]
    sources = [source(one) for one in subjects]
    notes = [
        BOUND.format(names=", ".join(one.name for one in bindings)),
        *(note for one in sources for note in one.notes),
    ]
    made = []
    for number, rule in enumerate(role.spec.rules):
        labels = _labels(rule)
        conditions, more = _conditions(rule)
        rules = [_stated(one.source, rule, [*one.when, *conditions]) for one in sources]
        parts = on.parts(_services(rule, role.namespace), role.namespace)
        for part in parts:
            for subject in subjects:
                check_token_scope(subject, part, role.namespace, ruling)
            own = f"{role.name}-{number}" if len(role.spec.rules) > 1 else role.name
            content: dict = {"action": "ALLOW", "rules": rules}
            if part:
                own = f"{own}-{part}" if len(parts) > 1 else own
                content = {"selector": {"matchLabels": {**services.labels(part, role.namespace), **labels}}, **content}
            elif labels:
                content = {"selector": {"matchLabels": labels}, **content}
            policy = manifest(KIND, own, role.namespace, content, role.metadata)
            made.append(Translated(policy, list(dict.fromkeys([*notes, *more]))))
    return made or [Translated({}, [IDLE.format(name=role.name, namespace=role.namespace)])]


def named(found: Sequence[Found], on: On) -> set[tuple[str, str]]:
    """Return namespace and name of each Service that gets an object."""
    roles = [(one.namespace, rule) for one in found if one.kind == "ServiceRole" for rule in one.spec.rules]
    listed = on.listed().services
    written = {(home, name) for home, rule in roles for name in on.parts(_services(rule, home), home) if name}
    return written | {(home, name) for name, home in map(split, listed)}


def _services(rule: Rule, namespace: str) -> list[str]:
    """Return the names of a rule's Services; "" for all. Istio 1.4 compared the fully qualified name."""
    if not rule.services or "*" in rule.services:
        return [""]
    found = [split(one) for one in dict.fromkeys(rule.services)]
    for name, home in found:
        if home != namespace:
            raise LegacyError(f"the Service {name}.{home} is not in the role's namespace {namespace}. Leave it out.")
    return [name for name, _ in found]


def _labels(rule: Rule) -> dict[str, str]:
    """Return the pods' labels that a rule's constraints name; today the selector has them."""
    found = {}
    for one in rule.constraints:
        if one.key.startswith(LABELS) and one.key.endswith("]"):
            if len(one.values) != 1 or "*" in one.values[0]:
                raise LegacyError(
                    f"the constraint {one.key} has several values or a *, and a selector has one exact value. Write a "
                    "rule for each value."
                )
            found[one.key[len(LABELS) : -1]] = one.values[0]
    return found


def _conditions(rule: Rule) -> tuple[list[dict], list[str]]:
    """Return a rule's constraints as conditions, and the notes about them."""
    keys = [one.key for one in rule.constraints]
    if len(set(keys)) < len(keys):
        raise LegacyError("a constraint occurs twice, and Istio 1.4 used the last one. Leave one out.")
    if any("{" in one for one in (*rule.paths, *rule.not_paths)):
        raise LegacyError("a path has a {, which today makes it a pattern. Write the path without it.")
    made = [when(one.key, one.values, CONSTRAINTS) for one in rule.constraints if not one.key.startswith(LABELS)]
    ends = [one for one in rule.not_paths if one.startswith("*")]
    exact = [] if all(one.endswith("*") for one in rule.paths) else rule.paths
    if exact or ends:
        asked = {"values": exact, "notValues": ends}
        made.append({"key": "request.headers[:path]", **{key: value for key, value in asked.items() if value}})
    unasked = rule.not_paths or any(one.startswith("*") for one in rule.paths)
    return made, [*([QUERY] if exact or ends else []), *([UNQUERIED] if unasked else [])]


def _stated(source: dict, rule: Rule, conditions: list[dict]) -> dict:
    operation = {_camel(key): getattr(rule, key) for key in OPERATIONS if getattr(rule, key)}
    for key, ports in (("ports", rule.ports), ("notPorts", rule.not_ports)):
        if ports:
            operation[key] = [str(port) for port in ports]
    for key in ("methods", "paths"):  # "*" must stay if no other HTTP field does: such a rule allowed no plain TCP
        http = [one for one in operation if one in HTTP and one != key]
        if "*" in operation.get(key, []):
            operation[key] = ["*"]
            if http or any(one["key"].startswith("request.") for one in conditions):
                del operation[key]
    return {
        **({"from": [{"source": source}]} if source else {}),
        **({"to": [{"operation": operation}]} if operation else {}),
        **({"when": conditions} if conditions else {}),
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.title() for one in others)
