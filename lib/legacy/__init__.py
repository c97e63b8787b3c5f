"""Istio's old security policies as today's objects, with a comment for each decision.

python -m lib.legacy FILE… prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.errors import LegacyError
from lib.legacy import authn, destination_rules, present, rbac
from lib.legacy.command import check_strict, flat
from lib.legacy.precedence import older, ruling
from lib.legacy.read import Config, Found, check_once, naming, read
from lib.legacy.services import Services
from lib.legacy.write import Translated, manifest

ASSUMED = (
    "no MeshPolicy is among the files. The translation assumes the one of Istio's installation, PERMISSIVE, which is "
    "also today's default. If the mesh had another MeshPolicy, add it. If it had none, all traffic was plain text."
)


def translate(
    manifests: Sequence[Mapping],
    services: Services | None = None,
    root: str = "istio-system",
    namespace: str = "",
    strict: bool = False,
) -> list[Translated]:
    """Return today's objects for all old ones among `manifests`, in their order.

    Args:
        manifests: Old policies, and the Services that they name.
        services: The Services; by default those among `manifests`.
        root: The mesh's root namespace.
        namespace: The namespace of an object that names none.
        strict: Whether to refuse a translation with a warning.

    Raises:
        LegacyError: A field has no equal today; the message names the object and the field.
    """
    manifests = flat(manifests)
    services = services or Services.of(manifests)
    made: list[Translated] = []
    old: list[Found] = []
    for each in manifests:
        with naming(f"{each.get('kind')} {(each.get('metadata') or {}).get('name')}"):
            if destination_rules.is_rule(each):
                made.append(destination_rules.translate(each))
            elif present.is_present(each):
                made.append(present.translate(each))
            elif each.get("kind") != "Service" or each.get("apiVersion") != "v1":
                old.append(read(each, namespace))
    check_once([(one.kind, one.namespace, one.name) for one in old])
    old, notes = older(old, services)
    made += [Translated({}, [note]) for note in notes]
    over = ruling([one for one in old if one.kind in ("MeshPolicy", "Policy")], services, root)
    on, bindings = rbac.On(_config(old), root), _bindings(old)
    for one in old:
        with naming(str(one)):
            if one.kind in ("MeshPolicy", "Policy"):
                made += authn.translate(one, root, over, services)
            elif one.kind == "ServiceRole":
                made += rbac.allow(one, bindings.get((one.namespace, one.name), []), on, over, services)
            elif one.kind != "ServiceRoleBinding":
                made += rbac.switch(one, on, services)
    services.check_apart({(policy.namespace, target.name) for policy, target in over.aimed} | rbac.named(old, on))
    made = _merged(made)
    objects = [(one.manifest["kind"], one.manifest["metadata"]) for one in made if one.manifest]
    check_once([(kind, metadata["namespace"], metadata["name"]) for kind, metadata in objects])
    if old and not over.mesh:
        made.append(Translated({}, [], [ASSUMED]))
    if strict:
        check_strict(made)
    return made


def _config(old: Sequence[Found]) -> Config:
    """Return where RBAC was on. It is required if there are roles, since a role had no effect without RBAC."""
    found = [one for one in old if isinstance(one.spec, Config)]
    if len(found) > 1:
        raise LegacyError(f"{found[1]}: the files have more than one ClusterRbacConfig or RbacConfig. Leave one.")
    roles = [one for one in old if one.kind == "ServiceRole"]
    if roles and not found:
        raise LegacyError(
            f"{roles[0]}: the files have no ClusterRbacConfig, and without one a role had no effect. "
            "Add the cluster's ClusterRbacConfig, or leave the roles out."
        )
    return found[0].spec if found else Config()


def _bindings(old: Sequence[Found]) -> dict[tuple[str, str], list[Found]]:
    """Return the bindings by namespace and name of their role."""
    roles = {(one.namespace, one.name) for one in old if one.kind == "ServiceRole"}
    made: dict[tuple[str, str], list[Found]] = {}
    for one in (one for one in old if one.kind == "ServiceRoleBinding"):
        key = one.namespace, one.spec.role_ref.name if one.spec.role_ref else ""
        if key not in roles:
            raise LegacyError(f"{one}: its ServiceRole {key[1]!r} is not among the files. Add it.")
        made.setdefault(key, []).append(one)
    return made


def _merged(made: Sequence[Translated]) -> list[Translated]:
    """Merge the ports of PeerAuthentications for the same pods, since Istio uses only the oldest of several."""
    done: dict = {}
    for one in made:
        found, spec = one.manifest, one.manifest.get("spec", {})
        home = found.get("metadata", {}).get("namespace")
        key = (home, str(spec["selector"])) if "portLevelMtls" in spec else len(done)
        if first := done.get(key):
            ports = {**first.manifest["spec"]["portLevelMtls"], **spec["portLevelMtls"]}
            content = {**first.manifest["spec"], "portLevelMtls": ports}
            metadata = {k: v for k, v in first.manifest["metadata"].items() if k not in ("name", "namespace")}
            whole = manifest("PeerAuthentication", first.manifest["metadata"]["name"], home, content, metadata)
            notes = [*first.notes, f"With the ports of {found['metadata']['name']}.", *one.notes]
            done[key] = Translated(whole, list(dict.fromkeys(notes)), first.warnings)
        else:
            done[key] = one
    return list(done.values())
