"""The workload behind a Service: the old API named Services; today's API selects labels of pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.errors import LegacyError
from lib.legacy.read import Port

HTTP = ("http", "http2", "grpc", "grpc-web")
TCP = ("tcp", "tls", "https", "mongo", "mysql", "redis", "udp")
DOMAIN = ".svc.cluster.local"


@dataclass(frozen=True)
class Services:
    """The Services: labels by name from the command line, and v1 Services by namespace and name."""

    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    found: Mapping[tuple[str, str], Mapping] = field(default_factory=dict)

    @classmethod
    def of(cls, manifests: Iterable[Mapping], given: Mapping[str, Mapping[str, str]] | None = None) -> Services:
        """Return the Services among these objects."""
        services = [one for one in manifests if one.get("kind") == "Service"]
        keys = [(one["metadata"].get("namespace", "default"), one["metadata"]["name"]) for one in services]
        return cls(given or {}, dict(zip(keys, services, strict=True)))

    def labels(self, name: str, namespace: str) -> Mapping[str, str]:
        """Return the labels that a Service selects; LegacyError if they are unknown."""
        if name in self.given:
            return self.given[name]
        spec = self.found.get((namespace, name), {}).get("spec", {})
        if not spec.get("selector"):
            raise LegacyError(
                f"the labels behind the Service {name} in {namespace} are unknown. Give them: "
                f"--selector {name}=app={name}, or --services with its manifest."
            )
        return spec["selector"]

    def is_gateway(self, name: str, namespace: str) -> bool:
        """Return whether a Service leads to gateways, by its name or labels; False if its labels are unknown."""
        known = name in self.given or (namespace, name) in self.found
        return known and any("gateway" in text for text in (name, *self.labels(name, namespace).values()))

    def knows_ports(self, name: str, namespace: str) -> bool:
        """Return whether the Service's manifest is known."""
        return bool(self._ports(name, namespace))

    def ports(self, name: str, namespace: str, wanted: Iterable[Port]) -> list[int]:
        """Return the workload's ports behind these ports of a Service; LegacyError if they are unknown."""
        numbers = [self._port(name, namespace, one) for one in wanted]
        for one in self._ports(name, namespace):
            if _target(one) in numbers and not any(_is(one, port) for port in wanted):
                raise LegacyError(
                    f"the port {one['port']} of {name} leads to {_target(one)} too, but the policy does not name it. "
                    "Add it to the target's ports."
                )
        return numbers

    def http(self, name: str, namespace: str) -> list[int] | None:
        """Return the workload's ports on which Istio 1.4 checked tokens; None if the manifest does not show them.

        The name of a port gives its protocol, as in Istio 1.4: http, http2, grpc; tcp and others are plain TCP.
        """
        ports = self._ports(name, namespace)
        kinds = [str(one.get("name", "")) for one in ports]
        kinds = [one if one in HTTP else one.partition("-")[0] for one in kinds]
        if not ports or not all(kind in HTTP + TCP for kind in kinds):
            return None
        return [_target(one) for one, kind in zip(ports, kinds, strict=True) if kind in HTTP]

    def tcp(self, name: str, namespace: str) -> bool:
        """Return whether a Service has a port on which Istio 1.4 checked no token."""
        found = self.http(name, namespace)
        return found is not None and len(found) < len(self._ports(name, namespace))

    def check_apart(self, named: Iterable[tuple[str, str]]) -> None:
        """Raise LegacyError if another Service may select pods of a named Service.

        An old policy applied to a Service's ports; today's applies to all ports of the pods, and to the other Service.
        """
        selected = {key: self.labels(key[1], key[0]) for key in named}
        known = {key: one["spec"]["selector"] for key, one in self.found.items() if one["spec"].get("selector")}
        for (namespace, name), labels in selected.items():
            for (home, other), others in {**known, **selected}.items():
                if home != namespace or other == name:
                    continue
                if all(others.get(key, value) == value for key, value in labels.items()):
                    raise LegacyError(
                        f"the Services {name} and {other} in {namespace} may share pods. Select the pods by a label "
                        "that only one of the two has: --selector."
                    )

    def _ports(self, name: str, namespace: str) -> list[Mapping]:
        return self.found.get((namespace, name), {}).get("spec", {}).get("ports", [])

    def _port(self, name: str, namespace: str, wanted: Port) -> int:
        for one in self._ports(name, namespace):
            if _is(one, wanted):
                if isinstance(_target(one), int):
                    return _target(one)
                raise LegacyError(
                    f"the targetPort of {name}'s port {wanted.number or wanted.name} is the name {_target(one)}. "
                    "Write its number into the manifest."
                )
        raise LegacyError(
            f"the workload's port behind port {wanted.number or wanted.name} of the Service {name} is unknown. "
            "Give the Service's manifest: --services."
        )


def split(host: str) -> tuple[str, str]:
    """Return name and namespace of a fully qualified Service; LegacyError for a short name, which matched nothing."""
    name, dot, namespace = host.removesuffix(DOMAIN).partition(".")
    if not host.endswith(DOMAIN) or not dot or "." in namespace or "*" in host:
        raise LegacyError(
            f"{host} is not the full name of a Service. A short name matched nothing, and a * in a name may match "
            f"unknown Services. Write the full name, such as web.foo{DOMAIN}, or * for all."
        )
    return name, namespace


def _is(port: Mapping, wanted: Port) -> bool:
    return wanted.number == port["port"] or bool(wanted.name and wanted.name == port.get("name"))


def _target(port: Mapping) -> Any:
    return port.get("targetPort", port["port"])
