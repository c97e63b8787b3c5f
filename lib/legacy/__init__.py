"""Istio's old security policies, as today's objects with a comment for each decision: python -m lib.legacy FILE…"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ValidationError

from lib.errors import LegacyError
from lib.legacy import authn, rbac
from lib.legacy.read import Binding, Config, Role, Spec
from lib.legacy.services import Services
from lib.legacy.write import Translated

AUTHN, RBAC, NETWORKING = "authentication.istio.io/", "rbac.istio.io/", "networking.istio.io/"
NEEDLESS = (
    "DestinationRule {name} for {host} is needless and harmful today: clients use mutual TLS by themselves where they "
    "can, and this one breaks every call to a pod without a sidecar. Delete it."
)


def translate(
    things: Sequence[Mapping],
    services: Services | None = None,
    root: str = "istio-system",
    namespace: str = "",
    strict: bool = False,
) -> list[Translated]:
    """Return today's objects for all old ones among `things`, in their order; Services among them are read as such.

    `root` is the mesh's root namespace, `namespace` that of objects which name none. `strict` refuses what has only a
    near equal. LegacyError names the object and the field that has no equal.
    """
    known = replace(services or Services.of(things), root=root)
    bindings = [one for one in things if one.get("kind") == "ServiceRoleBinding"]
    roles = {_place(one, namespace) for one in things if one.get("kind") == "ServiceRole"}
    for one in bindings:
        role = (one.get("spec") or {}).get("roleRef") or (one.get("spec") or {}).get("role_ref") or {}
        if (_place(one, namespace)[0], role.get("name")) not in roles or not _place(one, namespace)[1]:
            raise LegacyError("ServiceRoleBinding: expected a name and its ServiceRole beside it, got none; add it.")
    made: list[Translated] = []
    for one in things:
        if one.get("kind") == "Service" or one.get("kind") == "ServiceRoleBinding":
            continue
        try:
            made += _one(one, bindings, known, root, namespace, strict)
        except LegacyError as error:
            raise LegacyError(f"{one.get('kind')} {one.get('metadata', {}).get('name')}: {error}") from None
    _check_once(made)
    return made


def _place(one: Mapping, namespace: str) -> tuple[str, str]:
    metadata = one.get("metadata") or {}
    return metadata.get("namespace") or namespace, metadata.get("name", "")


def _check_once(made: Sequence[Translated]) -> None:
    """Two objects for the same pods: of peers' Istio takes the oldest, which nothing here tells."""
    seen = set()
    for one in (found.thing for found in made if found.thing.get("kind") == "PeerAuthentication"):
        key = one["metadata"]["namespace"], str(one["spec"].get("selector"))
        if key in seen:
            raise LegacyError(f"expected one policy for the same pods in {key[0]}, got two; leave one out.")
        seen.add(key)


def _one(one: Mapping, bindings, services: Services, root: str, namespace: str, strict: bool) -> list[Translated]:
    api, kind = str(one.get("apiVersion", "")), str(one.get("kind", ""))
    (home, name), spec = _place(one, namespace), one.get("spec") or {}
    if api.startswith(NETWORKING) and kind == "DestinationRule":
        return _destination_rule(name, spec)
    if api.startswith(AUTHN) and kind == "MeshPolicy":
        return authn.translate(_parsed(Spec, spec), name, root, services, True, strict)
    if api.startswith(RBAC) and kind in ("ClusterRbacConfig", "RbacConfig"):
        return rbac.default(_parsed(Config, spec), root, services)
    if not home:
        raise LegacyError("expected a namespace, got none; write it into the metadata, or give --namespace.")
    if api.startswith(AUTHN) and kind == "Policy":
        return authn.translate(_parsed(Spec, spec), name, home, services, False, strict)
    if api.startswith(RBAC) and kind == "ServiceRole":
        if home == root:
            raise LegacyError("expected a ServiceRole outside of the root namespace, got one in it; move it.")
        mine = _bound(bindings, name, home, namespace)
        return rbac.allow(_parsed(Role, spec), mine, name, home, services)
    raise LegacyError(f"expected an old policy, got {kind or 'no kind'} of {api or 'no apiVersion'}; leave it out.")


def _bound(bindings: Sequence[Mapping], role: str, home: str, namespace: str) -> dict[str, Binding]:
    here = [one for one in bindings if _place(one, namespace)[0] == home]
    read = {_place(one, namespace)[1]: _parsed(Binding, one.get("spec") or {}) for one in here}
    return {name: one for name, one in read.items() if one.role_ref and one.role_ref.name == role}


def _destination_rule(name: str, spec: Mapping) -> list[Translated]:
    mode, host = spec.get("trafficPolicy", {}).get("tls", {}).get("mode"), str(spec.get("host", ""))
    if mode == "ISTIO_MUTUAL" and host.startswith("*"):
        return [Translated({}, [NEEDLESS.format(name=name, host=host)])]
    raise LegacyError(f"expected a wildcard host with ISTIO_MUTUAL, got {host} with {mode}; it stays as it is.")


def _parsed(model: type[BaseModel], spec: Mapping):
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LegacyError(f"expected the fields of the old API, got {where}: {first['msg']}; correct it.") from None
