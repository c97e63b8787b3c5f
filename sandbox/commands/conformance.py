"""Run the Gateway API's conformance suite on the sandbox's cluster, and keep its report."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from lib.errors import MissingStep
from lib.istio.gateway_api import API
from lib.kubernetes.cluster import Cluster
from sandbox.build.builder import BuildFailed, build
from sandbox.build.conformance import PROGRAM
from sandbox.commands import endpoint
from sandbox.commands.conformance_report import FEATURES, MESH, results, tables, unexplained
from sandbox.node.image_store import import_images
from sandbox.paths import LOGS, PROJECT, RUN, version

CLASS = "istio"
PROFILES = ("GATEWAY-HTTP", "GATEWAY-TLS", "GATEWAY-GRPC", "GATEWAY-TCP")
REPORT = PROJECT / "outputs" / "conformance" / "report.yaml"
LOG = LOGS / "conformance.log"
FIRST = "Run make run ENV=dev ONLY=01, and ONLY=02, with gateway_api: gateway-api in params/dev.yml."
# Go prints at once which test runs, and all results after the last test
LINES = r"(    --- \w+:|=== (RUN|CONT)) +TestConformance/({})( |$)"
LIMIT = "60m"  # of the whole suite, which takes 5 minutes
# For the test of static addresses: Istio's own runs of the suite name these two
ADDRESSES = ("-usable-address=infra-backend-v1.gateway-conformance-infra.svc.cluster.local", "-unusable-address=foo")


def run(tell: Callable[[str], None], test: str = "") -> int:
    """Run the suite, or some of its tests, and keep the report of a whole run.

    Args:
        tell: takes lines of progress.
        test: the names of tests, with `|` between them; "" for the whole suite.

    Returns:
        0, or 1 if a failure has no known reason or a named test does not pass.

    Raises:
        BuildFailed: the suite cannot be built.
        MissingStep: no cluster runs, or it lacks the GatewayClass.
    """
    kubeconfig, containerd = find_cluster(FIRST)
    require_class(Cluster.from_kubeconfig(kubeconfig))
    suite = build(tell, only=("go", "conformance"))["conformance"]
    import_images(containerd, suite / "images.tar")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    if not test:
        REPORT.unlink(missing_ok=True)
    lines = LINES.format(test or "[^/ ]+")
    run_suite([str(suite / PROGRAM), *options(test)], {"KUBECONFIG": str(kubeconfig)}, LOG, tell, lines)
    found = results(LOG.read_text())
    passed, failed, skipped = (len(found[word]) for word in ("PASS", "FAIL", "SKIP"))
    tell(f"\n{passed} tests passed, {failed} failed, {skipped} were skipped.")
    if test:
        missing = not_passed(test, found)
        tell(f"Not passed: {', '.join(missing) or 'none'}; log: {LOG}")
        return 1 if missing else 0
    if not REPORT.is_file():
        raise BuildFailed(f"expected a report of the suite, got none; see {LOG}")
    report = yaml.safe_load(REPORT.read_text())
    tell(f"\n{tables(report, found['FAIL'])}\n\nreport: {REPORT}; log: {LOG}")
    return 1 if unexplained(report, found["FAIL"]) else 0


def not_passed(test: str, found: dict[str, list[str]]) -> list[str]:
    """Return the named tests that failed, were skipped or did not run, from the suite's `results`."""
    return [name for name in test.split("|") if name not in found["PASS"]]


def find_cluster(first: str) -> tuple[Path, int]:
    """Return the kubeconfig of the cluster that runs and its containerd's process id.

    Args:
        first: what to do first, for MissingStep, which is raised if no cluster runs.
    """
    running = endpoint.clusters() or []
    if not running:
        raise MissingStep(f"No cluster runs. {first}")
    return RUN / running[0]["name"] / "etc" / "admin.kubeconfig", running[0]["processes"]["containerd"]["pid"]


def require_class(cluster: Cluster) -> None:
    """Raise MissingStep if istiod has not made its GatewayClass: it needs the Gateway API's definitions."""
    if not cluster.find(API, "GatewayClass", CLASS):
        raise MissingStep(f"The cluster has no GatewayClass {CLASS}. {FIRST}")


def options(test: str = "") -> list[str]:
    """Return the suite's options: all features but those that FEATURES explains, and those of meshes.

    Args:
        test: the names of tests, with `|` between them. The suite then writes no report: it would count each other
            test as passed (`Run` in utils/suite/suite.go).
    """
    about = {"organization": "istio", "project": "istio", "url": "https://istio.io", "contact": "none"}
    words = {**about, "version": version("istio"), "gateway-class": CLASS}
    words |= {"conformance-profiles": ",".join(PROFILES), "exempt-features": ",".join([*FEATURES, *MESH])}
    words |= {"test.run": f"^TestConformance$/^({test})$"} if test else {"report-output": str(REPORT)}
    return ["-test.v", f"-test.timeout={LIMIT}", "-all-features", *ADDRESSES] + [
        f"-{name}={value}" for name, value in words.items()
    ]


def run_suite(
    command: list[str],
    variables: dict[str, str],
    log: Path,
    tell: Callable[[str], None],
    lines: str,
    folder: Path | None = None,
) -> None:
    """Run a suite of Go tests.

    Args:
        command: the program and its options.
        variables: of its environment.
        log: takes the whole output.
        tell: gets some lines of the output.
        lines: the pattern of these lines, from their start.
        folder: where the program starts.
    """
    environment = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", **variables}
    with (
        log.open("w") as out,
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        ) as suite,
    ):
        assert suite.stdout
        for line in suite.stdout:
            out.write(line)
            if re.match(lines, line):
                tell(line.strip())
