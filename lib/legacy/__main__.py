"""python -m lib.legacy FILE…: read old policies, write today's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from lib.errors import LegacyError, ParamsError
from lib.legacy import translate
from lib.legacy.services import Services
from lib.legacy.write import document
from lib.params.yaml_loader import UniqueKeys

UNSEEN = "careful: policies of the cluster that are not in the files were not seen. Translate all policies at once."


def main(arguments: list[str] | None = None) -> int:
    """Print today's objects. Return 0; 1 (and print nothing) if an old one has no equal; 2 if a file is unreadable."""
    given = _parser().parse_args(arguments)
    try:
        manifests = [manifest for path in given.files for manifest in _read(path)]
        more = [manifest for path in given.services for manifest in _read(path)]
        chosen = dict(map(_selector, given.selector))
    except (OSError, ValueError, yaml.YAMLError, LegacyError, ParamsError) as error:
        reason = " ".join(str(error).split())
        print(f"cannot read the input: {reason}. Give YAML of Kubernetes objects.", file=sys.stderr)
        return 2
    services = Services.of([*manifests, *more], chosen)
    try:
        made = translate(manifests, services, given.root_namespace, given.namespace, given.strict)
    except LegacyError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(document(made), end="")
    for one in made:
        for warning in one.warnings:
            print(f"careful: {_named(one.manifest)}{warning}", file=sys.stderr)
    print(UNSEEN, file=sys.stderr)
    return 0


def _named(manifest: Mapping) -> str:
    return (
        f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}: " if manifest else ""
    )


def _read(path: str) -> list[dict]:
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    found = [manifest for manifest in yaml.load_all(text, UniqueKeys) if manifest is not None]
    if not all(isinstance(manifest, dict) and isinstance(manifest.get("metadata"), dict) for manifest in found):
        raise ValueError(f"a document in {path} has no metadata")
    return found


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
