"""python -m lib.gateway_api FILE…: read Gateways, VirtualServices, Ingresses and policies, write the Gateway API's."""

from __future__ import annotations

import argparse
import sys

from lib.gateway_api import translate
from lib.legacy import command

UNSEEN = "careful: objects of the cluster that are not in the files were not seen. Translate all policies at once."


def main(arguments: list[str] | None = None) -> int:
    """Print the objects. Return 0; 1 (and print nothing) if one has no equal; 2 if a file is unreadable."""
    given = _parser().parse_args(arguments)
    try:
        manifests = command.read(given.files)
    except command.UNREADABLE as error:
        return command.unreadable(error)
    return command.report(lambda: translate(manifests, given.root_namespace, given.authorizer, given.strict), UNSEEN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.gateway_api", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML of objects; - is standard input")
    parser.add_argument("--root-namespace", default="istio-system", help="of the mesh (default: istio-system)")
    parser.add_argument(
        "--authorizer", default="", metavar="URL", help="the Service that Ingresses' auth-url stands for"
    )
    parser.add_argument("--strict", action="store_true", help="refuse a translation with a warning too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
