"""Run Istio's own security suites on the sandbox's cluster, each with an installation of Istio of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import yaml

from lib.errors import MissingStep
from lib.kubernetes.cluster import Cluster
from sandbox.build.builder import build
from sandbox.build.istio_suites import ISTIO_HUB, PLACE, TAG
from sandbox.commands.conformance import find_cluster, run_suite
from sandbox.commands.istio_report import results, tables, unexplained
from sandbox.node.image_store import import_images
from sandbox.paths import LOGS, PROJECT, RUN, version

ALL = "istio"
REPORT = PROJECT / "outputs" / "conformance" / "istio-security.yaml"
FIRST = "Run make down, then make run ENV=dev ONLY=01: each suite installs Istio itself, and removes it."
LINES = r"(--- \w+:|=== (RUN|CONT)) +\w+( |$)"  # a test, none of its subtests
LIMIT = "90m"  # of one suite; the largest takes half an hour
WAIT = "2m"  # for the answer that a test expects; 30 seconds are too few where other programs need both cores
SETTINGS = yaml.safe_load((PROJECT / "params" / "dev.yml").read_text())["istio_settings"]


def run(tell: Callable[[str], None], suite: str = ALL, test: str = "") -> int:
    """Run one of Istio's security suites, or all.

    Args:
        tell: takes lines of progress.
        suite: "istio", or the name of the folder of one suite.
        test: a pattern of Go's for the tests to run.

    Returns:
        1 if a suite ran no test, or a test did not pass for an unknown reason; otherwise 0.

    Raises:
        BuildFailed: the suites cannot be built.
        MissingStep: no cluster runs, it has Istio, or there is no suite of this name.
    """
    kubeconfig, containerd = find_cluster(FIRST)
    require_no_istio(Cluster.from_kubeconfig(kubeconfig))
    part = build(tell, only=("go", "base", "istio-suites"))["istio-suites"]
    wanted = choose(part, suite)
    import_images(containerd, part / "images.tar")
    work = RUN / "istio-suites"
    work.mkdir(parents=True, exist_ok=True)
    variables = {"REPO_ROOT": str(part / "tree"), "TMPDIR": str(work), "KUBECONFIG": str(kubeconfig)}
    report: dict = {"suites": {}}
    for name, folder in wanted.items():
        tell(f"\n{name}")
        began, log = time.monotonic(), LOGS / f"istio-{name}.log"
        command = [str(part / "suites" / f"{name}.test"), *options(kubeconfig, test)]
        run_suite(command, variables, log, tell, LINES, folder)
        report["suites"][name] = {"seconds": round(time.monotonic() - began), "tests": results(log.read_text())}
        tell(f"log: {log}")
        keep(report, REPORT, whole=not test)
    tell(f"\n{tables(report)}\n\nreport: {REPORT}")
    return 1 if unexplained(report) else 0


def keep(report: dict, file: Path, whole: bool) -> None:
    """Write results into a file, beside the results of other suites of the same versions.

    Args:
        report: its suites by name, each with its seconds and its tests' results.
        file: of YAML.
        whole: whether the results replace all of their suite; otherwise they replace those of the same tests.
    """
    versions = {name: version(name) for name in ("istio", "envoy", "kubernetes")}
    kept = yaml.safe_load(file.read_text()) if file.is_file() else {}
    suites = kept["suites"] if kept.get("versions") == versions else {}
    for name, suite in report["suites"].items():
        former = {} if whole else suites.get(name, {})
        suites[name] = suite | former | {"tests": former.get("tests", {}) | suite["tests"]}
    file.parent.mkdir(parents=True, exist_ok=True)
    whole_report = {"versions": versions, "last": time.strftime("%Y-%m-%d", time.gmtime()), "suites": suites}
    file.write_text(yaml.safe_dump(whole_report, sort_keys=False, default_flow_style=None, width=120))


def require_no_istio(cluster: Cluster) -> None:
    """Raise MissingStep if the cluster has an istiod, since a suite would change and then delete it."""
    if cluster.find("apps/v1", "Deployment", "istiod", "istio-system"):
        raise MissingStep(f"The cluster has Istio. {FIRST}")


def choose(part: Path, suite: str) -> dict[str, Path]:
    """Return each wanted suite with the folder that it starts in; raise MissingStep if there is none of this name."""
    root = part / "tree" / PLACE
    folders = {path.name: path for path in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]}
    names = sorted(file.stem for file in (part / "suites").glob("*.test"))
    if suite not in (ALL, *names):
        raise MissingStep(f"No suite {suite}. SUITE is {ALL}, or one of {', '.join(names)}.")
    return {name: folders[name] for name in names if suite in (ALL, name)}


def options(kubeconfig: Path, test: str = "") -> list[str]:
    """Return a suite's options: the sandbox's images, what the sandbox lacks, and its settings of Istio.

    Args:
        kubeconfig: of the cluster's administrator.
        test: a pattern of Go's for the tests to run.
    """
    values = ",".join(one.removeprefix("values.") for one in SETTINGS if one.startswith("values."))
    of_istio = {
        "hub": ISTIO_HUB,
        "tag": TAG,
        "pullpolicy": "IfNotPresent",
        "IPFamilies": "IPv4",
        "skipVM": "true",
        "skipTProxy": "true",
        "kube.config": kubeconfig,
        "kube.helm.values": values,
        "echo.callTimeout": WAIT,
    }
    of_go = ["-test.v", f"-test.timeout={LIMIT}", *([f"-test.run={test}"] if test else [])]
    return [*of_go, *(f"-istio.test.{name}={value}" for name, value in of_istio.items())]
