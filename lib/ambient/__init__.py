"""What a move to ambient does to a mesh's policies, and the policies to write instead, each rule with its source.

python -m lib.ambient FILE… prints them; without FILE it reads the live cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.ambient import ports, ztunnel
from lib.ambient.effects import (
    CLASS,
    COPY,
    ENTRY,
    GUARD,
    INGRESS_USE,
    NO_SERVICE,
    ORDER,
    OTHER_PODS,
    PLACE,
    PORTS,
    UNTRIED,
    WAYPOINT,
    say,
)
from lib.istio.gateway_api import API as GATEWAY_API
from lib.istio.policies import GATEWAY_NAME, PEERS, REQUESTS, RULES, action, name, selector, targets
from lib.legacy.command import placed
from lib.legacy.write import Translated, manifest
from lib.names import GATEWAY_GROUP

PLUGINS = {"WasmPlugin": "plugin", "TrafficExtension": "plugin", "Telemetry": "telemetry", "EnvoyFilter": "filter",
           "DestinationRule": "callers", "Sidecar": "sidecar"}  # and the effect on each  # fmt: skip
JUDGED = (REQUESTS, RULES, PEERS, "VirtualService", *PLUGINS)
MANAGED, MANAGER = "gateway.istio.io/managed", "istio.io-mesh-controller"  # label of waypoints' pods


def findings(manifests: Sequence[Mapping], root: str = "istio-system") -> list[Translated]:
    """Return what happens to each policy in ambient, each with the policy to write instead, and the guards.

    Args:
        manifests: Policies, Services, and workloads with the labels of their pods.
        root: The mesh's root namespace.
    """
    objects = placed(manifests)
    judged = []
    for one in objects:
        if one["kind"] not in JUDGED or targets(one):
            continue
        if not selector(one) or not _only_gateways(selector(one), _reach(one, objects, root)):
            judged.append((one, _effects(one, root)))
    spaces = _spaces([one for one, found in judged if _moves(one, found)], objects, root)
    inner = _inner(objects)
    made: list[Translated] = []
    guarded: dict[str, dict] = {}
    for one, found in judged:
        home = one["metadata"]["namespace"]
        stays = found and one["kind"] == RULES and not _moves(one, found)
        if stays and (home in spaces or (home == root and spaces)) and _about_callers(one):
            found = [*found, say("peer")]
        notes = [f"{one['kind']} {name(one)}: {effect}: {text}" for effect, text in found]
        if not _moves(one, found):
            made += [Translated({}, notes)] if notes else []
            continue
        reach = _reach(one, objects, root)
        made += [*_moved(one, notes, objects, root), *_copies(one, reach)]
        for space in [home] if home != root else spaces:
            near = [each for each in reach if each["metadata"]["namespace"] == space]
            for labels in _guarded(selector(one), near) if selector(one) else _behind(space, inner):
                guarded.setdefault(f"{space} {sorted(labels.items())}", _guard(space, labels, len(guarded)))
    made += [_waypoint(space) for space in spaces]
    made += [Translated(guard, [GUARD]) for guard in guarded.values()]
    made += [entry for space in spaces for entry in _entries(space, inner)]
    return [*made, *([Translated({}, [ORDER])] if spaces else []), Translated({}, [UNTRIED])]


def _moves(one: Mapping, found: Sequence[tuple[str, str]]) -> bool:
    """Return whether a policy has to be written for a waypoint."""
    denies = action(one) == "ALLOW" and not one["spec"].get("rules")  # at ztunnel too
    effects = {effect for effect, _ in found}
    return one["kind"] == REQUESTS or (one["kind"] == RULES and not denies and not effects <= {"SAME"})


def _spaces(moved: Sequence[Mapping], objects: Sequence[Mapping], root: str) -> list[str]:
    """Return the namespaces that need a waypoint; a policy of the root namespace is for all that have Services."""
    homes = {one["metadata"]["namespace"] for one in moved}
    served = {one["metadata"]["namespace"] for one in objects if one["kind"] == "Service"}
    return sorted((homes | (served if root in homes else set())) - {root})


def _effects(one: Mapping, root: str) -> list[tuple[str, str]]:
    """Return the effects on an object, each as its word and its sentence."""
    kind, spec, home = one["kind"], one["spec"], one["metadata"]["namespace"]
    wide = [say("mesh")] if home == root and not selector(one) else []
    if kind == REQUESTS:
        return [say("token"), *wide]
    if kind == PEERS:
        modes = [spec.get("mtls") or {}, *(spec.get("portLevelMtls") or {}).values()]
        return [say("plain" if any(each.get("mode") == "DISABLE" for each in modes) else "same")]
    if kind == "VirtualService":
        return [say("virtual")] if "mesh" in spec.get("gateways", ["mesh"]) else []
    if kind in PLUGINS:
        return [say(PLUGINS[kind])]
    if action(one) not in ("ALLOW", "DENY"):
        return [say("custom", action(one)), *wide]
    enforced = ztunnel.enforced(one)
    if enforced is None:
        return [say("trial")]
    rules = spec.get("rules") or []
    http = {number: names for number, rule in enumerate(rules) if (names := ztunnel.of_http(rule))}
    fields = ", ".join(dict.fromkeys(name for found in http.values() for name in found))
    lost = ", ".join(dict.fromkeys(name for rule in rules for name in ztunnel.unread(rule)))
    made = [say("open" if action(one) == "ALLOW" else "wide", lost)] if lost else []
    if http and action(one) == "ALLOW":
        made.append(say("none" if len(http) == len(rules) else "allow", fields))
    elif http:
        stripped = enforced["spec"]["rules"]
        made.append(say("all" if any(_empty(stripped[number]) for number in http) else "deny", fields))
    if not made:
        return [say("same")]
    return [*made, *wide]


def _moved(one: Mapping, notes: list[str], objects: Sequence[Mapping], root: str) -> list[Translated]:
    """Return the policy for the waypoint: bound to the Services of its pods, to the waypoint, or to all waypoints."""
    home, own, warnings = one["metadata"]["namespace"], one["metadata"]["name"], []
    found = [each for each in _inner(objects) if home in (each["metadata"]["namespace"], root)]
    spec = {key: value for key, value in one["spec"].items() if key != "selector"}
    if selector(one):
        found = _services(one, objects)
        bound = [{"group": "", "kind": "Service", "name": each["metadata"]["name"]} for each in found]
        behind = [each for each in _reach(one, objects) if not selector(one).items() <= _labels(each).items()]
        warnings = [OTHER_PODS.format(name(each), name(one)) for each in found
                    if any(_pods(each).items() <= _labels(pods).items() for pods in behind)]  # fmt: skip
        if not bound:
            return [Translated({}, notes, [NO_SERVICE.format(name(one))])]
    elif home == root:
        bound = [{"group": GATEWAY_GROUP, "kind": "GatewayClass", "name": CLASS}]
    else:
        bound = [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": WAYPOINT}]
    changed = ports.at_services(spec, found, [each for each in objects if _labels(each)])
    if changed is None:
        return [Translated({}, notes, [PORTS.format(name(one))])]
    annotations = one["metadata"].get("annotations")
    kept = {"annotations": annotations} if annotations else {}
    made = manifest(one["kind"], f"{own}-waypoint", home, {"targetRefs": bound, **changed}, kept)
    return [Translated(made, notes, warnings)]


def _copies(one: Mapping, reach: Sequence[Mapping]) -> list[Translated]:
    """Return a policy for the pods of each gateway in its reach, which stay Envoys and lose the old policy."""
    spec = {key: value for key, value in one["spec"].items() if key != "selector"}
    kept = {key: one["metadata"][key] for key in ("labels", "annotations") if one["metadata"].get(key)}
    own, home = one["metadata"]["name"], one["metadata"]["namespace"]
    pods = [_labels(each) for each in reach if _is_gateway(each) and selector(one).items() <= _labels(each).items()]
    pods = [each for place, each in enumerate(pods) if each not in pods[:place] and each.get(MANAGED) != MANAGER]
    return [
        Translated(
            manifest(one["kind"], f"{own}-gateway-{number}", home, {"selector": {"matchLabels": labels}, **spec}, kept),
            [COPY.format(name(one))],
        )
        for number, labels in enumerate(pods)
    ]


def _guarded(wanted: Mapping[str, str], reach: Sequence[Mapping]) -> list[Mapping[str, str]]:
    """Return the labels of the pods to guard: a policy's own, or those of each workload if gateways have them too."""
    pods = [one for one in reach if wanted.items() <= _labels(one).items()]
    return [_labels(one) for one in pods if not _is_gateway(one)] if any(map(_is_gateway, pods)) else [wanted]


def _services(policy: Mapping, objects: Sequence[Mapping]) -> list[Mapping]:
    """Return the Services in a policy's namespace that lead to the pods which it selects."""
    home = policy["metadata"]["namespace"]
    pods = [_labels(one) for one in _reach(policy, objects) if not _is_gateway(one)]
    pods = [selector(policy), *(labels for labels in pods if selector(policy).items() <= labels.items())]
    found = [one for one in objects if one["kind"] == "Service" and one["metadata"]["namespace"] == home]
    return [one for one in found if _pods(one) and any(_pods(one).items() <= labels.items() for labels in pods)]


def _inner(objects: Sequence[Mapping]) -> list[Mapping]:
    """Return the Services that do not lead to gateways."""
    services = [one for one in objects if one["kind"] == "Service"]
    return [one for one in services if not (_pods(one) and _only_gateways(_pods(one), _reach(one, objects)))]


def _waypoint(space: str) -> Translated:
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": {"from": "Same"}}}
    metadata = {"name": WAYPOINT, "namespace": space, "labels": {"istio.io/waypoint-for": "service"}}
    spec = {"gatewayClassName": CLASS, "listeners": [listener]}
    waypoint = {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": metadata, "spec": spec}
    return Translated(waypoint, [PLACE.format(space)])


def _guard(space: str, labels: Mapping[str, str], number: int) -> dict:
    source = {"source": {"serviceAccounts": [f"{space}/{WAYPOINT}"]}}
    spec = {"selector": {"matchLabels": dict(labels)}, "rules": [{"from": [source]}]}
    return manifest(RULES, f"only-from-waypoint-{number}", space, spec)


def _behind(space: str, services: Sequence[Mapping]) -> list[Mapping[str, str]]:
    """Return the labels that the Services of a namespace select."""
    return [_pods(one) for one in services if one["metadata"]["namespace"] == space and _pods(one)]


def _entries(space: str, services: Sequence[Mapping]) -> list[Translated]:
    """Return what the Services behind gateways need, so that gateways use the waypoint."""
    metadata = [one["metadata"] for one in services if one["metadata"]["namespace"] == space]
    names = [one["name"] for one in metadata if (one.get("labels") or {}).get(INGRESS_USE) != "true"]
    return [Translated({}, [ENTRY.format(space, " ".join(names))])] if names else []


def _pods(service: Mapping) -> Mapping[str, str]:
    """Return the labels that a Service selects."""
    return service["spec"].get("selector") or {}


def _reach(one: Mapping, objects: Sequence[Mapping], root: str = "") -> list[Mapping]:
    """Return the workloads of an object's namespace; of all if it is in the root namespace."""
    home = one["metadata"]["namespace"]
    return [each for each in objects if _labels(each) and home in (each["metadata"]["namespace"], root)]


def _only_gateways(wanted: Mapping[str, str], reach: Sequence[Mapping]) -> bool:
    """Return whether the pods with these labels are known, and gateways all."""
    pods = [one for one in reach if wanted.items() <= _labels(one).items()]
    return bool(pods) and all(map(_is_gateway, pods))


def _labels(one: Mapping) -> Mapping[str, str]:
    """Return the labels of a workload's pods, {} of any other object."""
    template = one["spec"].get("template") or {}
    metadata = one["metadata"] if one["kind"] == "Pod" else template.get("metadata") or {}
    return metadata.get("labels") or {}


def _is_gateway(one: Mapping) -> bool:
    metadata = (one["spec"].get("template") or {}).get("metadata") or {}
    notes = {**(one["metadata"].get("annotations") or {}), **(metadata.get("annotations") or {})}
    labels = _labels(one)
    pod = (one["spec"].get("template") or one).get("spec") or {}
    routes = any("router" in (each.get("args") or []) for each in pod.get("containers") or [])
    chart = labels.get("istio") in ("ingressgateway", "egressgateway")
    template = "gateway" in notes.get("inject.istio.io/templates", "").split(",")
    return template or GATEWAY_NAME in labels or chart or routes


def _about_callers(one: Mapping) -> bool:
    """Return whether ztunnel would decide otherwise, or let callers go around, if a waypoint is on the way."""
    rules = one["spec"].get("rules") or []
    return bool(rules) and (action(one) == "ALLOW" or any(word in str(rules) for word in ("source", "from")))


def _empty(rule: Mapping) -> bool:
    parts = [each.get(name) for key, name in (("from", "source"), ("to", "operation")) for each in rule.get(key) or []]
    return not all(parts) or not (parts or rule.get("when"))
