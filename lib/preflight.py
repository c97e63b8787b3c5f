"""What must be true before the first step; nothing is changed here."""

from __future__ import annotations

import pandas as pd

from lib import aws, istio
from lib.errors import RunbookError
from lib.run import Run

REAL = "Kubernetes, Istio, Envoy, Keycloak, PostgreSQL, every token and every certificate"


def check(run: Run) -> pd.DataFrame:
    """Record the preflight's checks; return them."""
    here = run.params
    run.check("istioctl is there", True, *_tried(lambda: bool(istio.version(here.istioctl))))
    run.check("istioctl is the version of istio_tag", here.istio_tag, *_tried(lambda: istio.version(here.istioctl)))
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


def _tried(ask) -> tuple[object, str]:
    try:
        return ask(), ""
    except RunbookError as problem:
        return "not there", str(problem).rstrip(".")
