"""Policies beside gateways that change: bound by targetRefs, with the new gateways' principals and ports.

Source: istio/istio 1.31, pilot/pkg/model/policyattachment.go; https://istio.io/latest/docs/reference/config/analysis/ist0166/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lib.errors import LegacyError
from lib.gateway_api.gateways import CLASS, Old, has_labels
from lib.istio import matching
from lib.istio.policies import PEERS, action, rewritten, selector, targets
from lib.legacy.write import Translated, manifest
from lib.names import GATEWAY_GROUP

MOST = 16  # targetRefs of a policy
BOUND = "A selector only half works on a gateway of the Gateway API (IST0166): targetRefs bind the policy."
STAYS = (
    "Keep {0} until the old gateway is gone: it still protects that one. Then delete it, unless it is for other pods."
)
OLD_PRINCIPAL = (
    "While users come through the old gateway too, keep its principal beside the new one; otherwise they get 403."
)
PRINCIPALS = "{0} is now {1}: istiod names the account of a Gateway's pods after the Gateway."
PEER = "PeerAuthentication {0} stays: it has no targetRefs, and a gateway's listeners do not read it."


def translate(policy: Mapping, gateways: Sequence[Old], root: str) -> list[Translated]:
    """Return a policy as it must be beside the new gateways; [] if nothing of it changes.

    Raises:
        LegacyError: It compares the gateway's principals or ports in a way that cannot be kept.
    """
    name, home = policy["metadata"]["name"], policy["metadata"]["namespace"]
    mine = [one for one in gateways if not targets(policy) and _fits(policy, one, root)]
    if policy["kind"] == PEERS:
        return [Translated({}, [PEER.format(name)])] if mine and selector(policy) else []
    content, notes = _principals(policy, gateways)
    made = [Translated(_of(policy, name, home, content), [*notes, OLD_PRINCIPAL])] if notes else []
    if mine and not selector(policy) and _ports(content, mine) != content:
        raise LegacyError(
            "the policy is for a whole namespace and compares ports, and those of its gateway change. Select the "
            "workloads that it is for."
        )
    for space in dict.fromkeys(one.namespace for one in mine) if selector(policy) else []:
        placed = [one for one in mine if one.namespace == space]
        bound = {key: value for key, value in _ports(content, placed).items() if key != "selector"}
        references = [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": one.name} for one in placed]
        if len(references) > MOST:
            raise LegacyError(f"a policy has at most {MOST} targetRefs. Put fewer Gateways before one Deployment.")
        new = _of(policy, f"{name}-{CLASS}", space, {"targetRefs": references, **bound})
        made.append(Translated(new, [*notes, BOUND, STAYS.format(f"{home}/{name}")]))
    return made


def _fits(policy: Mapping, gateway: Old, root: str) -> bool:
    home = policy["metadata"]["namespace"]
    return home in (gateway.namespace, root) and has_labels(gateway, selector(policy))


def _of(policy: Mapping, name: str, namespace: str, spec: Mapping) -> dict:
    kept = {key: policy["metadata"][key] for key in ("labels", "annotations") if policy["metadata"].get(key)}
    return manifest(policy["kind"], name, namespace, dict(spec), kept)


def _principals(policy: Mapping, gateways: Sequence[Old]) -> tuple[dict, list[str]]:
    """Return a spec with the new gateways' accounts in the place of the old ones.

    Where an account keeps requests out (in DENY and CUSTOM, or as an exception from ALLOW), the old one stays too.
    """
    home, allows = policy["metadata"]["namespace"], action(policy) == "ALLOW"
    renamed: dict[str, list[str]] = {}
    for one in gateways:
        old, new = one.accounts
        renamed.setdefault(old, []).append(new)
    notes: list[str] = []

    def changed(values: Sequence[str], negated: bool, compare: Callable, write: Callable) -> list[str]:
        made: list[str] = []
        for value in map(str, values):
            if "*" in value:
                if any(compare(value, old) != compare(value, one) for old in renamed for one in renamed[old]):
                    raise LegacyError(
                        f"{value} fits only one of the old and the new gateway's account. Name whole accounts."
                    )
                made.append(value)
                continue
            known = {old: new for old, new in renamed.items() if compare(value, old)}
            if not known or allows is negated:
                made.append(value)
            for old, new in known.items():
                if any(one.shared for one in gateways if one.accounts[0] == old):
                    raise LegacyError(
                        f"the account {old} is not the gateway's alone. Give the gateway its own account."
                    )
                made += [write(value, one) for one in new]
                notes.append(PRINCIPALS.format(value, ", ".join(made[-len(new) :])))
        return list(dict.fromkeys(made))

    def principals(values: Sequence[str], negated: bool) -> list[str]:
        def compare(value: str, account: str) -> bool:
            domain = value.partition("/")[0] if "*" not in value.partition("/")[0] else "cluster.local"
            return matching.principal(value, f"{domain}/ns/{account.replace('/', '/sa/')}")

        def write(value: str, new: str) -> str:
            return f"{value.partition('/')[0]}/ns/{new.replace('/', '/sa/')}"

        return changed(values, negated, compare, write)

    def accounts(values: Sequence[str], negated: bool) -> list[str]:
        def compare(value: str, account: str) -> bool:
            return account == (value if "/" in value else f"{home}/{value}")

        return changed(values, negated, compare, lambda _, new: new)

    found = {"principals": principals, "source.principal": principals, "serviceAccounts": accounts,
             "source.serviceAccount": accounts}  # fmt: skip
    return rewritten(policy.get("spec") or {}, found), list(dict.fromkeys(notes))


def _ports(spec: Mapping, gateways: Sequence[Old]) -> dict:
    """Return a spec with the new pods' ports: those listen at the ports of the Gateway."""
    known = [one.ports() for one in gateways]

    def ports(values: Sequence[str], negated: bool) -> list[str]:
        if negated:
            raise LegacyError(
                "notPorts 8443 is true at the new gateway's port 443. Name the ports that the rule is for."
            )
        made = [found.get(str(value), []) for value in values for found in known]
        if not all(made):
            raise LegacyError(
                f"the ports {', '.join(map(str, values))} are not all in the gateway's Service. Add them."
            )
        return list(dict.fromkeys(port for found in made for port in found))

    def addresses(values: Sequence[str], _: bool) -> list[str]:
        raise LegacyError(f"the new pods have other addresses than {', '.join(values)}. Leave out destination.ip.")

    return rewritten(spec, {"ports": ports, "destination.port": ports, "destination.ip": addresses})
