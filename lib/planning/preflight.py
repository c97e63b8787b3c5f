"""Preflight: what must be true before the first step. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd

from lib.aws import session
from lib.errors import RunbookError
from lib.istio import istioctl
from lib.planning import availability, plan
from lib.run import Run

REAL = "Kubernetes, Istio, Envoy, Keycloak, PostgreSQL, every token and every certificate"


def check(run: Run) -> pd.DataFrame:
    """Record the preflight's checks; return them."""
    params = run.params
    version, problem = _tried(lambda: istioctl.version(params.istioctl))
    if missing := istioctl.missing(params.istioctl):
        path = f"set `istioctl` in params/{params.env}.yml to its path"
        problem = f"{missing} Install istioctl {params.istio_tag}, or {path}"
    run.check("istioctl is there", True, not problem or "not there", problem)
    run.check("istioctl is the version of istio_tag", params.istio_tag, version, problem)
    _check_versions(run)
    if params.cluster_source == "eks":
        who, problem = _tried(lambda: session.whoami(run.aws("sts"))["arn"])
        run.check("AWS knows you", True, str(who).startswith("arn:"), problem)
        _check_plan(run)
        run.fact("aws identity", who)
        run.fact("real", REAL if params.aws_endpoint_url else f"{REAL}; AWS: Amazon's own endpoints")
        run.fact(
            "emulated",
            f"AWS: IAM, STS, EC2 and EKS answer at {params.aws_endpoint_url}" if params.aws_endpoint_url else "nothing",
        )
    else:
        run.check("the cluster answers", True, *_tried(lambda: run.cluster.ready()))
        run.fact("real", REAL)
        run.fact("emulated", "nothing that this runbook knows of")
    return run.table()


def _check_versions(run: Run) -> None:
    """Record whether this Istio supports this Kubernetes and still gets fixes; skipped if versions.yml lacks it."""
    params, data = run.params, availability.compatibility()
    istio_minor = availability.minor(params.istio_tag)
    known = data["istio"].get(istio_minor)
    version, problem = params.kubernetes_version, ""
    if params.cluster_source == "existing":
        version, problem = _tried(lambda: availability.minor(run.cluster.version().removeprefix("v")))
    name = f"Istio {istio_minor} is made for the cluster's Kubernetes"
    if known is None:
        run.skip(name, True, f"lib/planning/versions.yml, of {data['as_of']}, knows nothing of Istio {istio_minor}")
        return
    fits = f"it is made for {', '.join(known['kubernetes'])}: change istio_tag or the cluster's version"
    run.check(name, True, version in known["kubernetes"], problem or f"{version}; {fits}")
    ended = known.get("ended")
    over = bool(ended and ended <= date.today())
    run.check(f"Istio {istio_minor} gets fixes", True, not over, f"until {ended}: take a newer minor" if over else "")


def _check_plan(run: Run) -> None:
    """Record whether anything would stop a run before its first write; skipped if AWS refuses to say."""
    found, problem = _tried(lambda: plan.problems(run))
    name = "nothing would stop step 01"
    if problem:
        run.skip(name, "nothing", problem)
    else:
        run.check(name, "nothing", " ".join(found) or "nothing")


def _tried(ask: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return ask(), ""
    except RunbookError as problem:
        return "not there", str(problem).rstrip(".")
