"""python -m lib.legacy FILE…: read old policies, write today's."""

from __future__ import annotations

import argparse
import sys

from lib.legacy import command, translate
from lib.legacy.services import Services

UNSEEN = "careful: policies of the cluster that are not in the files were not seen. Translate all policies at once."


def main(arguments: list[str] | None = None) -> int:
    """Print today's objects. Return 0; 1 (and print nothing) if an old one has no equal; 2 if a file is unreadable."""
    given = _parser().parse_args(arguments)
    try:
        manifests, more = command.read(given.files), command.read(given.services)
        chosen = dict(map(_selector, given.selector))
    except command.UNREADABLE as error:
        return command.unreadable(error)
    services = Services.of([*manifests, *more], chosen)
    return command.report(
        lambda: translate(manifests, services, given.root_namespace, given.namespace, given.strict), UNSEEN
    )


def _selector(text: str) -> tuple[str, dict[str, str]]:
    name, _, labels = text.partition("=")
    pairs = [one.partition("=") for one in labels.split(",")]
    if not name or not all(key and value for key, _, value in pairs):
        raise ValueError(f"--selector {text} is not SERVICE=key=value")
    return name, {key: value for key, _, value in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.legacy", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML of old policies; - is standard input")
    parser.add_argument(
        "--services", action="append", default=[], metavar="FILE", help="YAML of the policies' v1 Services"
    )
    parser.add_argument("--selector", action="append", default=[], metavar="SERVICE=key=value[,key=value]")
    parser.add_argument("--root-namespace", default="istio-system", help="of the mesh (default: istio-system)")
    parser.add_argument("--namespace", default="", help="the namespace of an object that names none")
    parser.add_argument("--strict", action="store_true", help="refuse a translation with a warning too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
