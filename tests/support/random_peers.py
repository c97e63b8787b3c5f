"""Random PeerAuthentications of all levels and modes."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from lib.istio.policies import API, PEERS
from lib.names import ISTIO_SYSTEM
from tests.support.random_policies import some

MODES = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")


def peers(random: Random, namespace: str, workloads: Iterable[tuple[dict[str, str], list[int]]]) -> list[dict]:
    """Draw PeerAuthentications for the mesh, a namespace, and each workload with these labels and ports.

    Some levels have none, others have several: the oldest counts. One is for another revision, and one has a
    selector in the root namespace, where it has no effect.
    """

    def mode() -> dict:
        return {"mode": random.choice(MODES)}

    def drawn(name: str, home: str, spec: dict, **more: dict) -> dict:
        spec = {**spec, **({"mtls": mode()} if random.random() < 0.9 else {})}
        return {"apiVersion": API, "kind": PEERS, "metadata": {"name": name, "namespace": home, **more}, "spec": spec}

    levels: list[tuple[str, dict[str, str], list[int]]] = [(ISTIO_SYSTEM, {}, []), (namespace, {}, [])]
    made = []
    for home, labels, ports in [*levels, *((namespace, *one) for one in workloads)]:
        for number in random.sample(range(3), random.choices([0, 1, 2], [1, 4, 3])[0]):
            spec: dict = {"selector": {"matchLabels": labels}} if labels else {}
            if ports and random.random() < 0.8:
                spec["portLevelMtls"] = {str(port): mode() for port in some(random, ports, len(ports))}
            made.append(drawn(f"drawn-{labels.get('app', 'all')}-{number}", home, spec))
            if labels:
                made.append(drawn("drawn-nowhere", ISTIO_SYSTEM, spec))
    return [*made, drawn("drawn-other", namespace, {}, labels={"istio.io/rev": "other"})]
