"""What is in the account of what a run makes, and what AWS offers there: looked at once, before anything is planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

from lib.aws import addons, iam_roles, launch_template, vpc
from lib.aws import clusters as aws_clusters
from lib.aws.existing_subnets import ExistingSubnets
from lib.planning import availability
from lib.run import Run
from lib.steps import cluster as steps_cluster
from lib.steps import cluster_network


def planned_roles(run: Run) -> dict[str, tuple[str, list[str]]]:
    """Return the roles that a run makes: the cluster's, the nodes', and those of add-ons that the params name."""
    name = run.params.cluster_name
    return {
        **steps_cluster.cluster_roles(name),
        **(steps_cluster.addon_roles(name) if addons.EBS_CSI_DRIVER in run.params.addons else {}),
    }


@dataclass(frozen=True)
class AccountState:
    """All of it. `given` are subnets that the params name, `counts` the objects of a VPC that is made."""

    cluster: dict | None
    group: dict | None
    template: dict | None
    roles: dict[str, dict | None]
    given: ExistingSubnets | None
    counts: dict[str, int]
    addons: dict[str, dict | None]
    zones: list[str]  # of the nodes
    versions: dict[str, availability.Version]
    source: str  # of the versions
    client: Callable[[str], Any] = field(repr=False)  # boto3's clients, each made once: that takes a while

    @classmethod
    def look(cls, run: Run) -> AccountState:
        """Return what is there; nothing is changed."""
        here, client = run.params, cache(run.aws)
        service, ec2 = client("eks"), client("ec2")
        cluster = aws_clusters.find_cluster(service, here.cluster_name)
        given = cluster_network.existing(run, fresh=not cluster)
        versions, source = availability.versions(service)
        return cls(
            cluster,
            aws_clusters.find_node_group(service, here.cluster_name, steps_cluster.NODE_GROUP) if cluster else None,
            launch_template.find_template(ec2, steps_cluster.template_name(here.cluster_name)),
            {role: iam_roles.find_role(client("iam"), role) for role in planned_roles(run)},
            given,
            {} if given else vpc.existing_counts(ec2, run.tags),
            {name: addons.find_addon(service, here.cluster_name, name) if cluster else None for name in here.addons},
            given.zones if given else vpc.first_zones(ec2, here.vpc_zones),
            versions,
            source,
            client,
        )

    def support(self, version: str) -> str:
        """Return which support of EKS a version is in, by what is known: standard support, extended support or ""."""
        return self.versions[version].support(date.today()) if version in self.versions else availability.STANDARD
