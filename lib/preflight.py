"""What must be true before the first step; nothing is changed here."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import yaml

from lib import aws, istio
from lib.errors import RunbookError
from lib.run import Run

VERSIONS = Path(__file__).with_name("versions.yml")
REAL = "Kubernetes, Istio, Envoy, Keycloak, PostgreSQL, every token and every certificate"


def check(run: Run) -> pd.DataFrame:
    """Record the preflight's checks; return them."""
    here = run.params
    run.check("istioctl is there", True, *_tried(lambda: bool(istio.version(here.istioctl))))
    run.check("istioctl is the version of istio_tag", here.istio_tag, *_tried(lambda: istio.version(here.istioctl)))
    _check_versions(run)
    if here.cluster_source == "eks":
        who, problem = _tried(lambda: aws.whoami(run.aws("sts"))["arn"])
        run.check("AWS knows you", True, str(who).startswith("arn:"), problem)
        run.fact("aws identity", who)
        run.fact("real", REAL if here.aws_endpoint_url else f"{REAL}; AWS: Amazon's own endpoints")
        run.fact(
            "emulated",
            f"AWS: IAM, STS, EC2 and EKS answer at {here.aws_endpoint_url}" if here.aws_endpoint_url else "nothing",
        )
    else:
        run.check("the cluster answers", True, *_tried(lambda: run.cluster.ready()))
        run.fact("real", REAL)
        run.fact("emulated", "nothing that this runbook knows of")
    return run.table()


def _check_versions(run: Run) -> None:
    """Record whether this Istio is made for this Kubernetes, and still gets fixes; skipped where nobody here knows."""
    here, data = run.params, yaml.safe_load(VERSIONS.read_text(encoding="utf-8"))
    istio_minor = minor(here.istio_tag)
    known = data["istio"].get(istio_minor)
    told, problem = here.kubernetes_version, ""
    if here.cluster_source == "existing":
        told, problem = _tried(lambda: minor(run.cluster.version().removeprefix("v")))
    name = f"Istio {istio_minor} is made for the cluster's Kubernetes"
    if known is None:
        run.skip(name, True, f"lib/versions.yml, of {data['as_of']}, knows nothing of Istio {istio_minor}")
        return
    fits = f"it is made for {', '.join(known['kubernetes'])}: change istio_tag or the cluster's version"
    run.check(name, True, told in known["kubernetes"], problem or f"{told}; {fits}")
    ended = known.get("ended")
    over = bool(ended and ended <= date.today())
    run.check(f"Istio {istio_minor} gets fixes", True, not over, f"until {ended}: take a newer minor" if over else "")


def minor(version: str) -> str:
    """Return the minor that a version belongs to: 1.31 of 1.31.1, of 1.31-alpha and of 1.31."""
    return ".".join(version.split("-")[0].split(".")[:2])


def _tried(ask) -> tuple[object, str]:
    try:
        return ask(), ""
    except RunbookError as problem:
        return "not there", str(problem).rstrip(".")
