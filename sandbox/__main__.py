"""python -m sandbox up | down | status | logs [PART] | build | image | vectors | conformance: EKS on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from lib.errors import RunbookError
from sandbox.build import jwt_vectors
from sandbox.build.builder import BuildFailed, build, drop_caches
from sandbox.commands import conformance, image, istio_suites
from sandbox.commands.status import show_logs, show_status
from sandbox.commands.up_down import down, up
from sandbox.host.requirements import NotThisMachine, require


def main(argv: list[str] | None = None) -> int:
    """Run the command that the command line names; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except (NotThisMachine, BuildFailed, RunbookError) as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="An EKS on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build the missing parts and start the AWS endpoint")
    commands.add_parser("down", help="end everything, leave nothing but the cache")
    commands.add_parser("status", help="show what runs: part, version, source, pid, memory, state")
    logs = commands.add_parser("logs", help="show the last lines of a log")
    logs.add_argument("part", nargs="?", help="a part's name, such as kubelet; without it, list the names")
    builder = commands.add_parser("build", help="build the missing parts")
    builder.add_argument("--drop-caches", action="store_true", help="then delete Go's module and build caches")
    commands.add_parser("image", help="build the runbook's image; import it into a cluster that runs")
    commands.add_parser("vectors", help="print where Envoy and the test vectors are, as JSON; fetch what is missing")
    suite = commands.add_parser("conformance", help="run a conformance suite on the cluster that runs")
    suite.add_argument("--suite", default="", help="istio, or one of Istio's security suites; else the Gateway API's")
    suite.add_argument("--test", default="", help="names of tests, with | between them; without it, the whole suite")
    commands.add_parser("serve", help=argparse.SUPPRESS)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            up()
        case "down":
            down()
        case "status":
            return show_status()
        case "logs":
            return show_logs(arguments.part)
        case "build":
            require()
            build(partial(print, flush=True))
            if arguments.drop_caches:
                drop_caches()
        case "image":
            require()
            image.make(partial(print, flush=True))
        case "vectors":
            print(json.dumps(jwt_vectors.paths(partial(print, file=sys.stderr))))
        case "conformance":
            if arguments.suite:
                return istio_suites.run(partial(print, flush=True), arguments.suite, arguments.test)
            return conformance.run(partial(print, flush=True), arguments.test)
        case "serve":
            from sandbox.commands.serve import serve  # imports moto, which takes a second

            serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
