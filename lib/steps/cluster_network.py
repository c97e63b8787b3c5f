"""The cluster's network: existing subnets that the params name, or the runbook's own VPC."""

from __future__ import annotations

from typing import Any

from lib.aws import existing_subnets, nat_gateways, vpc
from lib.errors import AwsError
from lib.run import Run

SUBNET = "subnet"


def existing(run: Run, fresh: bool = True) -> existing_subnets.ExistingSubnets | None:
    """Return the subnets that the params name, with their problems; None if the runbook creates a VPC.

    With `fresh` the cluster does not exist yet, so free addresses are counted too.
    """
    params = run.params
    if not params.subnet_ids and not params.subnet_tags:
        return None
    scheme = existing_subnets.wanted_scheme(params)
    return existing_subnets.describe(
        run.aws("ec2"), params.subnet_ids, params.subnet_tags, params.cluster_name, params.node_count, scheme, fresh
    )


def check_existing(run: Run, fresh: bool = True) -> existing_subnets.ExistingSubnets | None:
    """Like `existing`, but raise AwsError that lists every problem if the subnets cannot host a cluster."""
    found = existing(run, fresh)
    if found and found.problems:
        raise AwsError(" ".join(found.problems))
    return found


def ensure(run: Run, found: existing_subnets.ExistingSubnets | None) -> None:
    """Record the existing subnets as unchanged; without them, create or update the VPC."""
    if found:
        for name, _ in found.rows:
            run.changed(SUBNET, name, "unchanged")
        return
    params = run.params
    vpc.ensure_network(
        run.aws("ec2"), params.cluster_name, params.vpc_cidr, run.tags, params.vpc_zones,
        tell=run.changed, nat=params.nat, extra=run.made_by, deadline=params.deadline,
    )  # fmt: skip


def subnet_ids(run: Run) -> tuple[list[str], list[str]]:
    """Return the subnets of the cluster, and those of its nodes; AwsError if the VPC is incomplete."""
    if found := existing(run, fresh=False):
        return found.subnet_ids, found.node_subnet_ids
    params, ec2 = run.params, run.aws("ec2")
    names = vpc.subnet_names(params.cluster_name, params.nat, vpc.first_zones(ec2, params.vpc_zones))
    by_name = vpc.subnet_ids(ec2, run.tags)
    if missing := [name for name in names if name not in by_name]:
        raise AwsError(f"expected the subnets {names}, got no {', '.join(missing)}; create the network first.")
    ids = [by_name[name] for name in names]
    return ids, ids


def create_requests(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """Return the boto3 calls that create the VPC, with their arguments; none for existing subnets."""
    params = run.params
    if params.subnet_ids or params.subnet_tags:
        return []
    zones = vpc.first_zones(run.aws("ec2"), params.vpc_zones)
    return vpc.create_requests(params.cluster_name, params.vpc_cidr, run.tags, zones, params.nat, run.made_by)


def has_public_nodes(run: Run, found: existing_subnets.ExistingSubnets | None) -> bool:
    """Whether nodes have public addresses; AWS charges for each."""
    if found:
        routes = dict(found.rows)
        return any(routes[name].endswith(existing_subnets.INTERNET) for name in found.node_subnet_ids)
    return run.params.nat == nat_gateways.NONE
