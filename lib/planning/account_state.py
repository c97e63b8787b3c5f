"""Snapshot of the AWS account: which of the run's objects exist, and what AWS offers. Read once, before planning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

from lib.aws import addons, clusters, iam_roles, launch_template, vpc
from lib.aws.existing_subnets import ExistingSubnets
from lib.planning import availability
from lib.run import Run
from lib.steps import cluster as steps_cluster
from lib.steps import cluster_network


def planned_roles(run: Run) -> dict[str, tuple[str, list[str]]]:
    """Return the roles that a run creates: the cluster's, the nodes', and those of the params' add-ons."""
    name = run.params.cluster_name
    return {
        **steps_cluster.cluster_roles(name),
        **(steps_cluster.addon_roles(name) if addons.EBS_CSI_DRIVER in run.params.addons else {}),
    }


@dataclass(frozen=True)
class AccountState:
    """The snapshot. `given`: the params' subnets, or None if the run creates a VPC; `counts`: that VPC's objects."""

    cluster: dict[str, Any] | None
    group: dict[str, Any] | None
    template: dict[str, Any] | None
    roles: dict[str, dict[str, Any] | None]
    given: ExistingSubnets | None
    counts: dict[str, int]
    addons: dict[str, dict[str, Any] | None]
    zones: list[str]  # of the nodes
    versions: dict[str, availability.Version]
    source: str  # of the versions
    client: Callable[[str], Any] = field(repr=False)  # boto3's clients, each created once, since that takes a while

    @classmethod
    def load(cls, run: Run) -> AccountState:
        """Read the account; nothing is changed."""
        params, client = run.params, cache(run.aws)
        service, ec2 = client("eks"), client("ec2")
        cluster = clusters.find_cluster(service, params.cluster_name)
        given = cluster_network.existing(run, fresh=not cluster)
        versions, source = availability.versions(service)
        return cls(
            cluster,
            clusters.find_node_group(service, params.cluster_name, steps_cluster.NODE_GROUP) if cluster else None,
            launch_template.find_template(ec2, steps_cluster.template_name(params.cluster_name)),
            {role: iam_roles.find_role(client("iam"), role) for role in planned_roles(run)},
            given,
            {} if given else vpc.existing_counts(ec2, run.tags),
            {
                name: addons.find_addon(service, params.cluster_name, name) if cluster else None
                for name in params.addons
            },
            given.zones if given else vpc.first_zones(ec2, params.vpc_zones),
            versions,
            source,
            client,
        )

    def support(self, version: str) -> str:
        """Return the EKS support of a version: standard support, extended support, or "" if it has ended."""
        return self.versions[version].support(date.today()) if version in self.versions else availability.STANDARD
