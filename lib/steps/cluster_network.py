"""Where a cluster goes: into subnets that the params name, or into a VPC of its own; by the params of a run."""

from __future__ import annotations

from lib.aws import existing_subnets, nat_gateways, vpc
from lib.errors import AwsError
from lib.run import Run

SUBNET = "subnet"


def existing(run: Run, fresh: bool = True) -> existing_subnets.ExistingSubnets | None:
    """Return the subnets that the params name, and what is wrong with them; None where a VPC is made."""
    here = run.params
    if not here.subnet_ids and not here.subnet_tags:
        return None
    scheme = existing_subnets.wanted_scheme(here)
    return existing_subnets.describe(
        run.aws("ec2"), here.subnet_ids, here.subnet_tags, here.cluster_name, here.node_count, scheme, fresh
    )


def check_existing(run: Run, fresh: bool = True) -> existing_subnets.ExistingSubnets | None:
    """Return the same; raise AwsError, a sentence for each thing, where a cluster would not work in them."""
    found = existing(run, fresh)
    if found and found.problems:
        raise AwsError(" ".join(found.problems))
    return found


def ensure(run: Run, found: existing_subnets.ExistingSubnets | None) -> tuple[list[str], list[str]]:
    """Return the cluster's subnets and its nodes'; without `found` ones make, or update, the VPC first."""
    here = run.params
    if found:
        for name, _ in found.rows:
            run.changed(SUBNET, name, "unchanged")
        return found.subnet_ids, found.node_subnet_ids
    net, _ = vpc.ensure_network(
        run.aws("ec2"), here.cluster_name, here.vpc_cidr, run.tags, here.vpc_zones,
        tell=run.changed, nat=here.nat, extra=run.made_by, deadline=here.deadline,
    )  # fmt: skip
    return net["subnet_ids"], net["subnet_ids"]


def has_public_nodes(run: Run, found: existing_subnets.ExistingSubnets | None) -> bool:
    """Whether nodes have public addresses, which cost something."""
    if found:
        ways = dict(found.rows)
        return any(ways[name].endswith(existing_subnets.INTERNET) for name in found.node_subnet_ids)
    return run.params.nat == nat_gateways.NONE
