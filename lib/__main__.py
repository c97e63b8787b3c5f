"""The commands: python -m lib run | probes-slow | clean-up | verify | bundle | compare | history | params | …

Each imports what it needs by itself: kubectl calls `token` for every command of its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from lib.errors import BundleError, MissingStep, RunbookError


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; a RunbookError is its sentence on standard error, and 2."""
    given = _parser().parse_args(arguments)
    try:
        return given.command(given) or 0
    except RunbookError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there was anything to seal, or again while it was sealed
        return 130


def run(given) -> int:
    """Run the series."""
    from lib.runner import series

    return series.run(given.env, given.first, given.only, command=_said())


def probes_slow(given) -> int:
    """Run notebooks/90-*, recorded in the same way: the probes that wait."""
    return _apart(given, "90-probes-that-wait")


def clean_up(given) -> int:
    """Run notebooks/99-*, recorded in the same way."""
    return _apart(given, "99-clean-up")


def verify(given) -> int:
    """Tell what is wrong with a bundle; 1 if anything is."""
    from lib.bundle import signing_key
    from lib.bundle.verify import verify

    if not given.folder.is_dir():
        raise BundleError(f"expected a bundle's folder, got {given.folder}; name one of outputs/<env>/.")
    keys = [signing_key.public_key(path) for path in given.key] or signing_key.known()
    found = verify(given.folder, keys)
    for problem in found.problems:
        print(problem)
    for note in found.notes:
        print(f"(not looked at: {note})")
    good = f"whole, unchanged, signed by {found.signer[:16]}, and its verdict follows"
    print(f"{given.folder}: {'not as it was sealed' if found.problems else good}")
    return 1 if found.problems else 0


def pack(given) -> None:
    """Write a bundle as one zip beside it, the same bytes each time; print its path and SHA-256, and upload it."""
    from lib.bundle import archive, environment, signing_key

    folder = given.folder.absolute()
    made = archive.pack(folder, folder.with_name(f"{folder.name}.zip"), signing_key.known())
    print(f"{environment.digest(made)}  {given.folder.with_name(made.name)}")
    if given.to:
        print(archive.upload(made, given.to, _s3(folder), given.retain_days))


def _s3(folder: Path):
    """Return a client by the params of the bundle's environment."""
    from lib import params
    from lib.aws import session as aws_session
    from lib.bundle import seal

    here = params.load(seal.run(folder)["env"])
    session = aws_session.session(here.region, here.aws_profile, here.aws_credentials_file)
    return aws_session.client(session, "s3", here.aws_endpoint_url)


def compare(given) -> int:
    """Tell what differs between two bundles, and write it as a page beside A; 1 if anything does."""
    from lib.bundle import compare as bundle_compare
    from lib.bundle import history_pages

    found = bundle_compare.compare(given.one, given.other)
    print(f"A: {given.one}\nB: {given.other}")
    for part, table in found.items():
        _show(table, part)
    print("" if found else "no difference but in times")
    print(f"Page: {_short(history_pages.write_comparison(given.one, given.other, found))}")
    return 1 if found else 0


def past(given) -> None:
    """List the bundles of an environment, oldest first, and write them as a page with a picture."""
    from lib.bundle import compare as bundle_compare
    from lib.bundle import history_pages
    from lib.params import ROOT

    folder = ROOT / "outputs" / given.env
    if not folder.is_dir():
        raise BundleError(f"expected runs of {given.env} in outputs/, got none; make run ENV={given.env} leaves one.")
    _show(bundle_compare.runs(folder).fillna(""))
    print(f"Page: {_short(history_pages.write_history(folder))}")


def plan(given) -> None:
    """Tell what a run would make in the AWS account, what of it is there, and what it costs; nothing is changed."""
    from lib import params
    from lib.errors import ParamsError
    from lib.planning import plan
    from lib.record.events import Record
    from lib.run import Run

    here = params.load(given.env)
    if here.cluster_source != "eks":
        raise ParamsError(f"expected an environment with cluster_source: eks, got {here.env}; nothing is made there.")
    run = Run("plan", here, Record())
    tables = plan.tables(run)
    for title, table in tables.items():
        _show(table, title)
    print("\n".join(plan.told(run, next(iter(tables.values())))))


def why(given) -> None:
    """Send one request, and tell who refused it, why, and what to change."""
    from lib import params
    from lib.diagnose import ask
    from lib.record.events import Record
    from lib.run import Run

    cluster = Run("why", params.load(given.env), Record()).cluster
    print(ask(cluster, given.url, _token(given.token_file), given.caller, given.host, to=given.to))


def _token(path: Path | None) -> str | None:
    """Return what a file holds, or standard input for -, without the line's end."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8") if path else None
    except (OSError, ValueError) as error:
        raise RunbookError(f"expected a token in {path}, got: {error}; name the file that holds it.") from None
    return text if text is None else text.strip()


def params(given) -> None:
    """Print an environment's params with their defaults, if they are valid."""
    import yaml

    from lib.params import load

    print(yaml.safe_dump(load(given.env).model_dump(), sort_keys=False), end="")


def token(given) -> None:
    """Print what kubectl asks an exec plug-in for."""
    from lib.aws.kubeconfig import print_exec_credential

    print_exec_credential(given.cluster, given.region, given.endpoint_url, given.profile, given.credentials_file)


def kubeconfig(given) -> None:
    """Print where the environment's kubeconfig is."""
    from lib.params import load

    path = load(given.env).kubeconfig
    if not path.is_file():
        raise MissingStep(f"expected the kubeconfig of {given.env}, found none; run 01-cluster first.")
    print(path)


def _short(path: Path) -> str:
    """Return the path as it is seen from here."""
    return os.path.relpath(path)


def _show(table, title: str = "") -> None:
    """Print a pandas table, as wide as the terminal is."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(*map(str, table.columns), title=title or None, title_justify="left", box=SIMPLE_HEAD)
    for row in table.itertuples(index=False):
        shown.add_row(*(escape(str(value)) for value in row))
    Console().print(shown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _command(commands, "run", run)
    one.add_argument("--env", required=True, help="a file of params/")
    one.add_argument("--from", dest="first", metavar="STEP", help="begin there: 4, 04 or 04-its-name")
    one.add_argument("--only", metavar="STEP", help="run just that one")

    _command(commands, "probes-slow", probes_slow).add_argument("--env", required=True, help="a file of params/")
    _command(commands, "clean-up", clean_up).add_argument("--env", required=True, help="a file of params/")
    one = _command(commands, "verify", verify)
    one.add_argument("folder", type=Path, help="a folder of outputs/<env>/")
    trust = "a public key (PEM) that is trusted instead of this machine's own"
    one.add_argument("--key", type=Path, action="append", default=[], help=trust)
    one = _command(commands, "bundle", pack)
    one.add_argument("folder", type=Path, help="a folder of outputs/<env>/")
    one.add_argument("--to", metavar="s3://…", help="a bucket and a prefix, where it is put too")
    one.add_argument("--retain-days", type=int, default=0, help="for a bucket with object lock and no rule of its own")
    one = _command(commands, "compare", compare)
    one.add_argument("one", type=Path, metavar="A", help="a folder of outputs/<env>/")
    one.add_argument("other", type=Path, metavar="B", help="another one")
    _command(commands, "plan", plan).add_argument("--env", required=True, help="a file of params/")
    one = _command(commands, "why", why)
    one.add_argument("--env", required=True, help="a file of params/")
    one.add_argument("url", help="as in https://address/path, or http://service.namespace:port/path with --from")
    one.add_argument("--host", default="", help="the Host header, where it is not the URL's")
    one.add_argument("--to", default="", metavar="ADDRESS", help="connect there, not to the URL's host")
    one.add_argument("--token-file", type=Path, help="a file with the token; - is standard input")
    one.add_argument("--from", dest="caller", default="", metavar="POD", help="its app label, or namespace/app")
    _command(commands, "history", past).add_argument("env", help="a file of params/")
    _command(commands, "params", params).add_argument("env", help="a file of params/")
    _command(commands, "kubeconfig", kubeconfig).add_argument("env", help="a file of params/")

    one = _command(commands, "token", token)
    one.add_argument("--cluster", required=True)
    one.add_argument("--region", required=True)
    for option in ("--endpoint-url", "--profile", "--credentials-file"):
        one.add_argument(option)
    return parser


def _command(commands, name: str, command) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
    parser.set_defaults(command=command)
    return parser


def _apart(given, name: str) -> int:
    """Run a notebook that is not of the series."""
    from lib.params import ROOT
    from lib.runner import series

    step = ROOT / "notebooks" / f"{name}.ipynb"
    if not step.is_file():
        raise MissingStep(f"expected notebooks/{step.name}, found none; take it from the repository.")
    return series.run(given.env, steps=[step], command=_said())


def _said() -> str:
    return " ".join(["python -m lib", *sys.argv[1:]])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run ends as by Ctrl-C: sealed
    sys.exit(main())
