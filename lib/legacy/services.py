"""Which workload stands behind a Service: the old API named Services, today's selects labels of pods."""

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
    """What is known of Services: labels by name as they were given, and v1 Services by namespace and name."""

    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    found: Mapping[tuple[str, str], Mapping] = field(default_factory=dict)

    @classmethod
    def of(cls, manifests: Iterable[Mapping], given: Mapping[str, Mapping[str, str]] | None = None) -> Services:
        """Return what these objects tell; those that are no Services are passed over."""
        services = [one for one in manifests if one.get("kind") == "Service"]
        keys = [(one["metadata"].get("namespace", "default"), one["metadata"]["name"]) for one in services]
        return cls(given or {}, dict(zip(keys, services, strict=True)))

    def labels(self, name: str, namespace: str) -> Mapping[str, str]:
        """Return the labels that a Service selects; LegacyError where nothing tells."""
        if name in self.given:
            return self.given[name]
        spec = self.found.get((namespace, name), {}).get("spec", {})
        if not spec.get("selector"):
            raise LegacyError(
                f"expected the labels behind the Service {name} in {namespace}, got none; name them: "
                f"--selector {name}=app={name}, or --services with its manifest."
            )
        return spec["selector"]

    def ports(self, name: str, namespace: str, wanted: Iterable[Port]) -> list[int]:
        """Return the workload's ports behind these of a Service; LegacyError where nothing tells."""
        numbers = [self._port(name, namespace, one) for one in wanted]
        for one in self._ports(name, namespace):
            if _target(one) in numbers and not any(_is(one, port) for port in wanted):
                raise LegacyError(
                    f"expected all ports of {name} that lead to {_target(one)}, got not {one['port']}; name it too."
                )
        return numbers

    def http(self, name: str, namespace: str) -> list[int] | None:
        """Return the workload's ports on which tokens were looked at; None where the manifest does not tell.

        By the names of the ports, as then: http, http2, grpc; tcp and others are plain TCP.
        """
        ports = self._ports(name, namespace)
        kinds = [str(one.get("name", "")) for one in ports]
        kinds = [one if one in HTTP else one.partition("-")[0] for one in kinds]
        if not ports or not all(kind in HTTP + TCP for kind in kinds):
            return None
        return [_target(one) for one, kind in zip(ports, kinds, strict=True) if kind in HTTP]

    def tcp(self, name: str, namespace: str) -> bool:
        """Return whether a Service has a port on which no token was looked at."""
        found = self.http(name, namespace)
        return found is not None and len(found) < len(self._ports(name, namespace))

    def check_apart(self, named: Iterable[tuple[str, str]]) -> None:
        """Raise LegacyError where the pods of a Service that is named might be another's too.

        Then, a policy was for a Service's ports; today it is for all ports of the pods, and so for the other Service.
        """
        selected = {key: self.labels(key[1], key[0]) for key in named}
        known = {key: one["spec"]["selector"] for key, one in self.found.items() if one["spec"].get("selector")}
        for (namespace, name), labels in selected.items():
            for (home, other), others in {**known, **selected}.items():
                if home != namespace or other == name:
                    continue
                if all(others.get(key, value) == value for key, value in labels.items()):
                    raise LegacyError(
                        f"expected Services whose pods are apart, got {name} and {other} in {namespace}, which may "
                        "share some; select the pods by a label that only one of them has: --selector."
                    )

    def _ports(self, name: str, namespace: str) -> list[Mapping]:
        return self.found.get((namespace, name), {}).get("spec", {}).get("ports", [])

    def _port(self, name: str, namespace: str, wanted: Port) -> int:
        for one in self._ports(name, namespace):
            if _is(one, wanted):
                if isinstance(_target(one), int):
                    return _target(one)
                raise LegacyError(
                    f"expected a number as targetPort of {name}'s port {wanted.number or wanted.name}, got "
                    f"{_target(one)}; write the number into the manifest."
                )
        raise LegacyError(
            f"expected the port {wanted.number or wanted.name} of the Service {name}, got nothing that tells the "
            "workload's own; give its manifest: --services."
        )


def split(host: str) -> tuple[str, str]:
    """Return name and namespace of a Service by its whole name; LegacyError for a short one, which matched nothing."""
    name, dot, namespace = host.removesuffix(DOMAIN).partition(".")
    if not host.endswith(DOMAIN) or not dot or "." in namespace or "*" in host:
        raise LegacyError(
            f"expected a Service by its whole name, as web.foo{DOMAIN}, or * for all, got {host}; a short name matched "
            "nothing then, and a part with * might match what is not known here: write the name."
        )
    return name, namespace


def _is(port: Mapping, wanted: Port) -> bool:
    return wanted.number == port["port"] or bool(wanted.name and wanted.name == port.get("name"))


def _target(port: Mapping) -> Any:
    return port.get("targetPort", port["port"])
