"""Which old policy applied: the policy for the Service's port, or for its namespace, or for the mesh; exactly one.

Source: Istio 1.4, pilot/pkg/model/push_context.go (AuthenticationPolicyForWorkload). Today's objects do not replace one
another as a whole. Policies that depend on replacement are refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from lib.errors import LegacyError
from lib.legacy.read import Found, Jwt, TargetSelector
from lib.legacy.services import Services

DEFAULT = "default"
OLDER = "{policy} had no effect on the Service {target}: the older policy {older} applied there."


@dataclass(frozen=True)
class Ruling:
    """The policies by scope: the mesh, the namespaces by name, and the targets of the other policies."""

    mesh: Found | None = None
    spaces: dict[str, Found] = field(default_factory=dict)
    aimed: Sequence[tuple[Found, TargetSelector]] = ()

    def wider(self, policy: Found) -> Found | None:
        """Return the wider policy that this one replaced."""
        if policy.kind == "MeshPolicy":
            return None
        return self.mesh if not policy.spec.targets else self.spaces.get(policy.namespace, self.mesh)

    def targets(self, namespace: str) -> list[str]:
        """Return the Services of a namespace that a policy targets."""
        return [target.name for policy, target in self.aimed if policy.namespace == namespace]

    def over(self, service: str, namespace: str) -> list[Found | None]:
        """Return the policies for the ports of a Service; None is the mesh without a policy in the files."""
        mine = [(one, to) for one, to in self.aimed if one.namespace == namespace and to.name == service]
        rest = [] if any(not to.ports for _, to in mine) else [self.spaces.get(namespace, self.mesh)]
        return [*(one for one, _ in mine), *rest]


def ruling(found: Iterable[Found], services: Services, root: str) -> Ruling:
    """Return the old policies by scope.

    Raises:
        LegacyError: A policy was invalid, or two policies might have applied to one port.
    """
    mesh: Found | None = None
    spaces: dict[str, Found] = {}
    aimed: list[tuple[Found, TargetSelector]] = []
    for one in found:
        _check_valid(one, root, services)
        if one.kind == "MeshPolicy":
            mesh = one
        elif one.spec.targets:
            aimed += [(one, target) for target in one.spec.targets]
        else:
            spaces[one.namespace] = one
    made = Ruling(mesh, spaces, aimed)
    for first, second in combinations(aimed, 2):
        if (first[0].namespace, first[1].name) == (second[0].namespace, second[1].name):
            _check_ports_apart(first, second, services)
            _check_same_issuers(first[0], second[0])
    for one in (*spaces.values(), *(policy for policy, _ in aimed)):
        _check_inherited(one, made.wider(one))
    return made


def older(found: Sequence[Found], services: Services) -> tuple[list[Found], list[str]]:
    """Return the policies without the targets that an older policy has too, and a note on each; the older applied.

    It takes both policies' ages: `kubectl get -o yaml` shows them.
    """
    made, notes = list(found), []
    for place, policy in enumerate(made):
        if policy.kind != "Policy" or not policy.created:
            continue
        rivals = [one for one in found if one.kind == "Policy" and one.namespace == policy.namespace]
        left = []
        for target in policy.spec.targets:
            over = [one for one in rivals if "" < one.created < policy.created and target in one.spec.targets]
            if over:
                notes.append(OLDER.format(policy=policy, target=target.name, older=over[0].name))
            else:
                left.append(target)
        if len(left) < len(policy.spec.targets):
            made[place] = replace(policy, spec=policy.spec.model_copy(update={"targets": left}))
    dropped = [one for one, before in zip(made, found, strict=True) if before.kind == "Policy" and before.spec.targets]
    return [one for one in made if one not in dropped or one.spec.targets], notes


def tokens(policy: Found) -> tuple:
    """Return what a policy demands of tokens, as a comparable value."""
    spec = policy.spec
    return spec.origins, bool(spec.origins) and spec.origin_is_optional


def _check_valid(policy: Found, root: str, services: Services) -> None:
    """Refuse an invalid policy. Source: Istio 1.4, pkg/config/validation (ValidateAuthenticationPolicy)."""
    spec, name = policy.spec, policy.name
    issuers = [one.jwt.issuer for one in spec.origins]
    problem = ""
    if policy.kind == "MeshPolicy" and (name != DEFAULT or spec.targets):
        problem = f"Istio accepted only a MeshPolicy {DEFAULT} without targets. Leave {name} out, or correct it."
    elif policy.kind == "Policy" and (name == DEFAULT) == bool(spec.targets):
        problem = f"a Policy has either targets, or the name {DEFAULT} and no targets. Correct {name}."
    elif policy.namespace == root and not at_gateways(policy, services):
        problem = f"it is in {root}, where today's objects apply to the whole mesh. Select its pods by hand."
    elif policy.namespace == root and any("jwt" in one.model_fields_set or one.mtls for one in spec.peers):
        problem = "it has peers, and a gateway's Gateway says what TLS its ports take. Remove the peers."
    elif any(one.labels or one.subset or "." in one.name for one in spec.targets):
        problem = "a target has labels, a subset or a domain. Name the target by the Service's short name and ports."
    elif len(set(issuers)) < len(issuers):
        problem = "an issuer occurs twice, which was invalid. Leave one out."
    elif spec.principal_binding == "USE_ORIGIN" and spec.peers and not spec.origins:
        problem = "USE_ORIGIN without origins refused every request. Add the origins, or leave principalBinding out."
    if problem:
        raise LegacyError(f"{policy}: {problem}")


def at_gateways(policy: Found, services: Services) -> bool:
    """Return whether all targets of a policy are gateways whose labels are known."""
    targets = policy.spec.targets
    return bool(targets) and all(services.is_gateway(one.name, policy.namespace) for one in targets)


def _check_ports_apart(
    one: tuple[Found, TargetSelector], other: tuple[Found, TargetSelector], services: Services
) -> None:
    """Refuse two policies for one port: the older one applied, and manifests do not show their age."""
    first, second = ((to.name, policy.namespace, to.ports) for policy, to in (one, other))
    if not first[2] or not second[2] or set(services.ports(*first)) & set(services.ports(*second)):
        raise LegacyError(
            f"{other[0]}: the policy {one[0].name} is for the same port of the Service {first[0]}. Istio 1.4 applied "
            "the older one, and a manifest does not show its age. Leave one out."
        )


def _check_same_issuers(one: Found, other: Found) -> None:
    rules: dict[str, Jwt] = {}
    for jwt in (origin.jwt for origin in (*one.spec.origins, *other.spec.origins)):
        if rules.setdefault(jwt.issuer, jwt) != jwt:
            raise LegacyError(
                f"{other}: the issuer {jwt.issuer} has other fields than in {one.name}, which is for another port of "
                "the Service. Today they apply to all its ports: write equal fields in both policies."
            )


def _check_inherited(policy: Found, wider: Found | None) -> None:
    if wider and wider.spec.origins and tokens(policy) != tokens(wider):
        raise LegacyError(
            f"{policy}: its origins differ from those of {wider}, which it replaced; today both would apply. "
            f"Remove the origins from {wider}, and write a Policy for each namespace or Service that needs them."
        )
