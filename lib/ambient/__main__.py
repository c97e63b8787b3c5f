"""python -m lib.ambient [FILE…]: what a move to ambient does to policies; without FILE those of the live cluster."""

from __future__ import annotations

import argparse
import sys

from lib.ambient import findings
from lib.errors import RunbookError
from lib.istio import mesh, policies
from lib.kubernetes.cluster import Cluster
from lib.legacy import command

UNSEEN = "careful: only what is in the input was judged. Without FILE, the command reads the whole cluster."
KINDS = {
    policies.API: policies.KINDS,
    "networking.istio.io/v1": ("VirtualService", "Sidecar", "DestinationRule"),
    "networking.istio.io/v1alpha3": ("EnvoyFilter",),
    "extensions.istio.io/v1alpha1": ("WasmPlugin", "TrafficExtension"),
    "telemetry.istio.io/v1": ("Telemetry",),
    "apps/v1": ("Deployment", "StatefulSet", "DaemonSet"),
    "v1": ("Service",),
}


def main(arguments: list[str] | None = None, cluster: Cluster | None = None) -> int:
    """Print the findings and the policies to write. Return 0; 2 if the input is unreadable.

    Args:
        arguments: The command's words; default is those of the process.
        cluster: The cluster to read without FILE; default is the kubeconfig's.
    """
    given = _parser().parse_args(arguments)
    root = given.root_namespace
    try:
        if given.files:
            objects = command.read(given.files)
        else:
            live = cluster or Cluster.from_kubeconfig()
            root = mesh.read(live).root
            objects = [one for api, kinds in KINDS.items() for kind in kinds for one in live.items(api, kind)]
    except (*command.UNREADABLE, RunbookError) as error:
        return command.unreadable(error)
    return command.report(lambda: findings(objects, root), UNSEEN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.ambient", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="YAML of objects; - is standard input")
    parser.add_argument(
        "--root-namespace", default="istio-system", help="of the mesh, with FILE (default: istio-system)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
