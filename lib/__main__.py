"""The commands: python -m lib run | probes-slow | clean-up | verify | bundle | compare | history | plan | why | ….

Each command imports what it needs when it runs: kubectl calls `token` for each of its own commands.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lib.errors import BundleError, MissingStep, ParamsError, RunbookError
from lib.printable import printable, printable_lines
from lib.redact import clean

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ENV = "the name of a file in params/, without .yml"
FOLDER = "a run's folder, outputs/<env>/<run>"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; for a RunbookError print its sentence on standard error, return 2."""
    args = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack characters that a bundle has
    try:
        return args.command(args) or 0
    except RunbookError as error:
        print(printable_lines(clean(str(error))), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the run had a record to seal, or again while it was sealed
        return 130


def run(args: argparse.Namespace) -> int:
    """Run the notebooks 00-15, each as soon as the steps that it needs have passed, and leave a record."""
    from lib.runner import series

    return series.run(args.env, args.first, args.only, command=_command_line(), to=args.to)


def probes_slow(args: argparse.Namespace) -> int:
    """Run notebook 90, the probes that wait, and leave a record."""
    return _run_one(args.env, "90-probes-that-wait")


def clean_up(args: argparse.Namespace) -> int:
    """Run notebook 99, which deletes what the runbook made, and leave a record."""
    return _run_one(args.env, "99-clean-up")


def verify(args: argparse.Namespace) -> int:
    """Print each problem of a bundle, or of all runs of an environment; exit with 1 if there is one."""
    from lib.bundle import audit, signing_key

    if bool(args.folder) == bool(args.env):
        raise BundleError(f"Name {FOLDER}, or an environment with --env, and not both.")
    folder = args.folder or _runs(args.env)
    if not folder.is_dir():
        raise BundleError(f"No bundle at {printable(args.folder)}. Name {FOLDER}.")
    keys = [signing_key.public_key(path) for path in args.key] or signing_key.own_keys()
    report = audit.environment if args.env else audit.bundle
    lines, problems = report(folder.resolve(), keys, args.key, args.witness, args.time_stamp_ca)
    for line in lines:
        print(printable(line, len(line)))
    return 1 if problems else 0


def _runs(env: str) -> Path:
    from lib.params import ROOT

    return ROOT / "outputs" / env


def pack(args: argparse.Namespace) -> None:
    """Pack a bundle as a zip beside it, print its path and SHA-256, and upload it if --to is given."""
    from lib import strict
    from lib.bundle import archive, signing_key

    folder = args.folder.resolve()
    file = archive.pack(folder, folder.with_name(f"{folder.name}.zip"), signing_key.own_keys())
    print(f"{strict.digest(file, sys.maxsize)}  {args.folder.with_name(file.name)}")
    if args.to:
        print(archive.upload(file, args.to, _s3(folder), args.retain_days))


def _s3(folder: Path) -> S3Client:
    """Return an S3 client by the params of the bundle's environment."""
    from lib import params
    from lib.bundle import seal, witness

    return witness.client(params.load(seal.read_run(folder)["env"]))


def compare(args: argparse.Namespace) -> int:
    """Print what differs between two bundles and write it as a page beside A; exit with 1 if anything differs."""
    from lib.bundle import compare as bundle_compare
    from lib.bundle import history_pages, signing_key
    from lib.runner.terminal import show_table

    tables = bundle_compare.compare(args.one, args.other)
    for letter, folder in (("A", args.one), ("B", args.other)):
        print(f"{letter}: {printable(folder)}, {bundle_compare.verifies(folder, signing_key.own_keys())}")
    for part, table in tables.items():
        show_table(table, part)
    print("" if tables else "The two runs differ in times only.")
    print(f"Page: {os.path.relpath(history_pages.write_comparison(args.one, args.other, tables))}")
    return 1 if tables else 0


def history(args: argparse.Namespace) -> None:
    """List the runs of an environment, oldest first, and write them as a page with a picture."""
    from lib.bundle import compare, history_pages, signing_key
    from lib.params import ROOT
    from lib.runner.terminal import show_table

    folder = ROOT / "outputs" / args.env
    if not folder.is_dir():
        raise BundleError(f"No runs in outputs/{args.env}. Run: make run ENV={args.env}.")
    table = compare.runs(folder, signing_key.own_keys()).fillna("")
    show_table(table, optional=("created", "changed", "commit"))
    print(f"Page: {os.path.relpath(history_pages.write_history(folder, table))}")


def plan(args: argparse.Namespace) -> None:
    """Print what a run would create in the AWS account, what exists already, and what it costs; change nothing."""
    from lib import params
    from lib.planning import plan
    from lib.record.events import Record
    from lib.run import Run
    from lib.runner.terminal import show_table

    values = params.load(args.env)
    if values.cluster_source != "eks":
        raise ParamsError(
            f"Nothing to plan: a run of {values.env} creates nothing in AWS. "
            "Name an environment with `cluster_source: eks`."
        )
    run = Run("plan", values, Record())
    tables = plan.tables(run)
    for title, table in tables.items():
        show_table(table, title)
    print("\n".join(plan.summary(run, next(iter(tables.values())))))


def why(args: argparse.Namespace) -> None:
    """Send one request and print who refused it, why, and what to change."""
    from lib import params
    from lib.diagnose import ask
    from lib.diagnose.request import body, headers
    from lib.record.events import Record
    from lib.run import Run

    token = _token(args.token_file)
    cluster = Run("why", params.load(args.env), Record()).cluster
    method = args.method or ("POST" if args.data else "GET")
    sent = headers(args.header), body(args.data)
    found = ask(cluster, args.url, token, args.caller, args.host, method, args.to, *sent)
    print(clean(str(found), {token} if token else ()))


def _token(path: Path | None) -> str | None:
    """Return the text of the file, or of standard input if the path is `-`, without the line's end."""
    if path is None:
        return None
    try:
        return (sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")).strip()
    except (OSError, ValueError) as error:
        raise RunbookError(f"Cannot read a token from {path}: {error}. Name the file that holds the token.") from None


def params(args: argparse.Namespace) -> None:
    """Check an environment's params and print them with their defaults."""
    import yaml

    from lib.params import load

    print(yaml.safe_dump(load(args.env).model_dump(), sort_keys=False), end="")


def token(args: argparse.Namespace) -> None:
    """Print the ExecCredential that kubectl asks an exec plug-in for."""
    from lib.aws.kubeconfig import print_exec_credential

    print_exec_credential(args.cluster, args.region, args.endpoint_url, args.profile, args.credentials_file)


def kubeconfig(args: argparse.Namespace) -> None:
    """Print the path of the environment's kubeconfig."""
    from lib.params import load

    path = load(args.env).kubeconfig
    if not path.is_file():
        raise MissingStep(f"No kubeconfig of {args.env}. Run 01-cluster first.")
    print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib", description="The commands of the runbook.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        made.set_defaults(command=function)
        return made

    one = command("run", run)
    one.add_argument("--env", required=True, help=ENV)
    one.add_argument("--from", dest="first", metavar="STEP", help="start with this step: 4, 04 or 04-its-name")
    one.add_argument("--only", metavar="STEP", help="run this step alone")
    one.add_argument("--to", default="", metavar="s3://…", help="upload the record as a zip to this bucket and prefix")

    command("probes-slow", probes_slow).add_argument("--env", required=True, help=ENV)
    command("clean-up", clean_up).add_argument("--env", required=True, help=ENV)
    one = command("verify", verify)
    one.add_argument("folder", type=Path, nargs="?", help=FOLDER)
    one.add_argument("--env", help=f"verify all runs of an environment: {ENV}")
    one.add_argument("--witness", default="", metavar="PLACE", help="the witness to ask, as in params")
    trust = "a public key (PEM) to trust instead of this machine's own"
    one.add_argument("--key", type=Path, action="append", default=[], help=trust)
    root = "the root certificate (PEM) of a time-stamping authority to trust, instead of that in params"
    one.add_argument("--time-stamp-ca", type=Path, action="append", default=[], metavar="FILE", help=root)
    one = command("bundle", pack)
    one.add_argument("folder", type=Path, help=FOLDER)
    one.add_argument("--to", metavar="s3://…", help="the bucket and prefix to upload the zip to")
    retain = "days to lock the zip for at least, in a bucket with object lock; its own rule may be longer"
    one.add_argument("--retain-days", type=int, default=0, help=retain)
    one = command("compare", compare)
    one.add_argument("one", type=Path, metavar="A", help=FOLDER)
    one.add_argument("other", type=Path, metavar="B", help="the other run's folder")
    command("plan", plan).add_argument("--env", required=True, help=ENV)
    one = command("why", why)
    one.add_argument("--env", required=True, help=ENV)
    one.add_argument("url", help="https://address/path; with --from also http://service.namespace:port/path")
    one.add_argument("--host", default="", help="the Host header, if it is not the URL's host")
    one.add_argument("--to", default="", metavar="ADDRESS", help="connect to this address, not to the URL's host")
    one.add_argument("--token-file", type=Path, help="a file with the token; - is standard input")
    one.add_argument("--method", default="", help="the HTTP method; by default GET, or POST with --data")
    header = "a further header `Name: value`, or @file with one on each line; for secrets take a file"
    one.add_argument("--header", action="append", default=[], metavar="HEADER", help=header)
    one.add_argument("--data", default="", help="the request's body, or @file")
    one.add_argument("--from", dest="caller", default="", metavar="POD", help="the calling pod: app or namespace/app")
    command("history", history).add_argument("env", help=ENV)
    command("params", params).add_argument("env", help=ENV)
    command("kubeconfig", kubeconfig).add_argument("env", help=ENV)

    one = command("token", token)
    one.add_argument("--cluster", required=True)
    one.add_argument("--region", required=True)
    for option in ("--endpoint-url", "--profile", "--credentials-file"):
        one.add_argument(option)
    return parser


def _run_one(env: str, name: str) -> int:
    """Run a notebook that stands outside the series."""
    from lib.params import ROOT
    from lib.runner import series

    step = ROOT / "notebooks" / f"{name}.ipynb"
    if not step.is_file():
        raise MissingStep(f"notebooks/{step.name} is missing. Restore it from the repository.")
    return series.run(env, steps=[step], command=_command_line())


def _command_line() -> str:
    return " ".join(["python -m lib", *sys.argv[1:]])


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that no command expects, redacted."""
    sys.stderr.write(clean("".join(traceback.format_exception(kind, error, trace))))


if __name__ == "__main__":
    sys.excepthook = _print_traceback
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends a run as Ctrl-C does: its record is sealed
    sys.exit(main())
