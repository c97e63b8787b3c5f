"""Which workload stands behind a Service: the old API named Services, today's selects labels of pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lib.errors import LegacyError
from lib.legacy.read import Port


@dataclass(frozen=True)
class Services:
    """What is known of Services: labels by name as they were given, and v1 Services by namespace and name."""

    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    found: Mapping[tuple[str, str], Mapping] = field(default_factory=dict)
    root: str = "istio-system"  # the mesh's root namespace

    @classmethod
    def of(cls, things: Iterable[Mapping], given: Mapping[str, Mapping[str, str]] | None = None) -> Services:
        """Return what these objects tell; those that are no Services are passed over."""
        services = [one for one in things if one.get("kind") == "Service"]
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

    def port(self, name: str, namespace: str, wanted: Port) -> int:
        """Return the workload's port behind a Service's; LegacyError where nothing tells."""
        ports = self.found.get((namespace, name), {}).get("spec", {}).get("ports", [])
        for one in ports:
            if wanted.number == one["port"] or (wanted.name and wanted.name == one.get("name")):
                target = one.get("targetPort", one["port"])
                if isinstance(target, int):
                    return target
                raise LegacyError(
                    f"expected a number as targetPort of {name}'s port {wanted.number or wanted.name}, got {target}; "
                    "write the number into the manifest."
                )
        raise LegacyError(
            f"expected the port {wanted.number or wanted.name} of the Service {name}, got nothing that tells the "
            "workload's own; give its manifest: --services."
        )
