"""Find the DestinationRules for a Service, and the TLS that one of them makes callers send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lib.istio import routes


def rules_for(rules: Iterable[Mapping], service: Mapping, caller: str) -> list[Mapping]:
    """Return the DestinationRules for a Service, from the namespace of caller, Service or root: the first counts."""
    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    full = f"{name}.{home}{routes.CLUSTER_DOMAIN}"

    def fits(rule: Mapping) -> bool:
        host, namespace = rule["spec"].get("host", ""), rule["metadata"]["namespace"]
        own = host in (full, f"{name}.{home}", f"{name}.{home}.svc") or (host == name and namespace == home)
        return own or (host.startswith("*") and full.endswith(host[1:]))

    precedence = {caller: 0, home: 1}
    rank = lambda one: (precedence.get(one["metadata"]["namespace"], 2), -len(one["spec"].get("host", "")))  # noqa: E731
    return sorted(filter(fits, rules), key=rank)


def tls_of(rule: Mapping, port: int | None, subset: str = "") -> tuple[str, str]:
    """Return the TLS mode that a DestinationRule sets for a port, and which part sets it; "" for none of both.

    A subset's setting counts before the rule's own, and a port's before the one of all ports.
    """
    spec = rule["spec"]
    chosen: Mapping = next((one for one in spec.get("subsets") or [] if one.get("name") == subset), {})
    for place, part in (
        (f"subset {subset}", chosen.get("trafficPolicy")),
        ("trafficPolicy", spec.get("trafficPolicy")),
    ):
        for level in (part or {}).get("portLevelSettings") or []:
            if (level.get("port") or {}).get("number") == port:  # a port inherits nothing
                stated = (level.get("tls") or {}).get("mode", "DISABLE") if "tls" in level else ""
                return stated, f"{place}, port {port}"
        if "tls" in (part or {}):
            return (part or {})["tls"].get("mode", "DISABLE"), place
    return "", ""
