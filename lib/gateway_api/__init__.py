"""Istio's Gateways and VirtualServices, and Ingresses of ingress-nginx, as the Gateway API, with each decision.

python -m lib.gateway_api FILE… prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.errors import LegacyError
from lib.gateway_api import filters, gateways, ingress, limits, nginx, policies, routes
from lib.gateway_api.gateways import Old
from lib.gateway_api.read import Gateway, Virtual
from lib.istio.policies import KINDS
from lib.istio.routes import API as NETWORKING
from lib.legacy import present
from lib.legacy.command import check_strict, placed
from lib.legacy.read import check_once, checked, naming
from lib.legacy.write import Translated

KEPT = "Kept as they are, and not printed: {0}."
ROLE = (
    "RoleBinding {0} names the old gateway's account. The new one needs no rights to read the Gateway's certificates."
)
OLD_APIS = ("authentication.istio.io/", "rbac.istio.io/")
KEPT_KINDS = ("ServiceEntry", "Sidecar", *filters.KINDS, *KINDS)


def translate(
    manifests: Sequence[Mapping], root: str = "istio-system", authorizer: str = "", strict: bool = False
) -> list[Translated]:
    """Return what replaces the Gateways, VirtualServices and Ingresses, and the policies that change with them.

    Args:
        manifests: The objects, with the gateways' Deployments and Services.
        root: The mesh's root namespace.
        authorizer: The URL of the authorizer inside the cluster, for Ingresses whose auth-url names another place.
        strict: Whether to refuse a translation with a warning.

    Raises:
        LegacyError: A field has no equal; the message names the object and the field.
    """
    objects = placed(manifests)
    check_once([(_kind(one), one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects])
    services = [one for one in objects if one["kind"] == "Service"]
    olds, virtuals = [], []
    for one in objects:
        with naming(_name(one)):
            if str(one.get("apiVersion", "")).startswith(OLD_APIS):
                raise LegacyError("the object is of the old security API. Translate it first: python -m lib.legacy.")
            if _is(one, "Gateway"):
                content = checked(Gateway, one["spec"], "the Gateways that can be translated")
                olds.append(gateways.behind(one["metadata"]["name"], one["metadata"]["namespace"], content, objects))
                gateways.check_revision(one, olds[-1])
            elif _is(one, "VirtualService"):
                virtual = checked(Virtual, one["spec"], "the VirtualServices that can be translated")
                virtuals.append((one, virtual))
    check_once([("Gateway", one.namespace, one.name) for one in olds])
    routes.check_apart([(one["metadata"]["name"], one["metadata"]["namespace"], spec) for one, spec in virtuals])
    made: list[Translated] = []
    for old in olds:
        with naming(f"Gateway {old.home}/{old.name}"):
            made += gateways.translate(old, olds)
    for one, spec in virtuals:
        with naming(_name(one)):
            made += routes.translate(one, spec, olds, services)
    spaces: dict[str, list[Mapping]] = {}
    for one in [each for each in objects if each["kind"] == "Ingress"]:
        if nginx.is_ingress(one):
            spaces.setdefault(one["metadata"]["namespace"], []).append(one)
        else:
            made.append(Translated({}, [], [nginx.OTHER.format(_name(one))]))
    _check_hosts(spaces)
    made += nginx.controller(objects) if spaces else []
    for home, found in spaces.items():
        with naming(f"the Ingresses of {home}"):
            made += ingress.translate(found, services, authorizer)
    kept = []
    for one in objects:
        with naming(_name(one)):
            changed = _beside(one, olds, root)
        made += changed
        kept += [_name(one)] if not changed and one["kind"] in KEPT_KINDS else []
    check_once([(one.manifest["kind"], *_place(one.manifest)) for one in made if one.manifest])
    for each in made:
        limits.check(each.manifest)
    if kept:
        made.append(Translated({}, [KEPT.format(", ".join(kept))]))
    if strict:
        check_strict(made)
    return made


def _beside(one: Mapping, olds: Sequence[Old], root: str) -> list[Translated]:
    """Return what of another object changes with the gateways."""
    home = one["metadata"]["namespace"]
    if present.is_present(one):
        present.translate(one)  # refuses fields of the old API
        return policies.translate(one, olds, root)
    if one["kind"] in filters.KINDS:
        filters.check(one, olds, root)
    if one["kind"] == "RoleBinding":
        names = [f"{each.get('namespace', home)}/{each.get('name')}" for each in one.get("subjects") or []]
        return [Translated({}, [ROLE.format(one["metadata"]["name"])]) for old in olds if old.accounts[0] in names][:1]
    return []


def _check_hosts(spaces: Mapping[str, Sequence[Mapping]]) -> None:
    homes: dict[str, str] = {}
    for home, found in spaces.items():
        for host in {rule.get("host", "") for one in found for rule in one["spec"].get("rules") or []}:
            if homes.setdefault(host, home) != home:
                raise LegacyError(
                    f"the host {host} has Ingresses in {homes[host]} and {home}. Put them in one namespace."
                )


def _is(one: Mapping, kind: str) -> bool:
    return one["kind"] == kind and str(one.get("apiVersion", "")).startswith(NETWORKING.partition("/")[0])


def _kind(one: Mapping) -> str:
    return f"{str(one.get('apiVersion', '')).partition('/')[0]} {one['kind']}"


def _place(one: Mapping) -> tuple[str, str]:
    return one["metadata"]["namespace"], one["metadata"]["name"]


def _name(one: Mapping) -> str:
    return f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}"
