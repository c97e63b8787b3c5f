"""Step 02: checks of istiod."""

from __future__ import annotations

from lib.aws import vpc
from lib.istio import installation
from lib.run import Run


def check_injection(run: Run) -> None:
    """Record whether the nodes let the control plane reach istiod, and whether a pod would get its sidecar."""
    if run.params.cluster_source == "eks":
        found = run.aws("eks").describe_cluster(name=run.params.cluster_name)["cluster"]["resourcesVpcConfig"]
        group = found["clusterSecurityGroupId"]
        shut = vpc.closed_ports(run.aws("ec2"), group, installation.PORTS)
        told = f"add a rule to {group} that lets it in from itself: without 15017 no pod gets a sidecar" if shut else ""
        run.check(f"ports shut in the cluster's security group, of {installation.PORTS}", [], shut, told)
    fix = "let the control plane reach the nodes' port 15017 (their security group), and see istiod's log"
    run.check_ready(
        "a pod gets its sidecar (dry run)", True, lambda: installation.injects_sidecar(run.cluster), why=lambda: fix
    )
