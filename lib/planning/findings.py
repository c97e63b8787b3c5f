"""What else is to be known before anything is made: what differs, what would be hit, what AWS offers, what lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import pandas as pd

from lib.aws import drift, iam_roles, session, tags
from lib.aws import tags as aws_tags
from lib.aws import vpc as aws_vpc
from lib.aws.node_groups import NodeGroupConfig
from lib.aws.session import aws_errors
from lib.names import HARDENED
from lib.planning import availability, permissions, quotas
from lib.planning.account_state import AccountState, planned_roles
from lib.run import Run
from lib.steps import cluster


@dataclass(frozen=True)
class Findings:
    """The tables by title, and the problems that would stop a run, a sentence each."""

    tables: dict[str, pd.DataFrame]
    problems: list[str] = field(default_factory=list)


def collect(run: Run, seen: AccountState, may: bool = False, today: date | None = None) -> Findings:
    """Return it; what the caller may do is only asked with `may`, since it stops nothing. Nothing is changed."""
    here, today = run.params, today or date.today()
    differences = _differences(run, seen)
    limits = quotas.rows(seen.client, _more(run, seen), here.cluster_name, seen.zones)
    offer = availability.instance_type(seen.client("ec2"), here.node_instance_type, seen.zones)
    problems = [
        *(seen.given.problems if seen.given else ()),
        *(one.problem for one in differences),
        availability.version_problem(here.kubernetes_version, here.istio_tag, seen.versions, seen.source, today),
        availability.type_problem(here.node_instance_type, seen.zones, offer),
        *(one.problem for one in limits),
    ]
    tables = {
        "What is there and differs": _drift_table(differences),
        "What AWS offers": _offered(here, seen, offer, today),
        "Quotas": _quota_table(limits),
        "What you may do": _missing(run, seen) if may else pd.DataFrame(),
    }
    return Findings(tables, [one for one in problems if one])


def load_balancer_names(profiles: list[str]) -> list[str]:
    """Return the load balancers that a run comes to."""
    return ["keycloak-http", "istio-ingressgateway", *(["hardened gateway"] if HARDENED in profiles else [])]


@aws_errors()
def _differences(run: Run, seen: AccountState) -> list[drift.Difference]:
    here, wanted = run.params, planned_roles(run)
    cluster_role, node_role, *_ = wanted
    own = [] if seen.given else _own_subnets(run, seen)
    attached = {
        name: iam_roles.attached_policies(seen.client("iam"), name) if role else None
        for name, role in seen.roles.items()
    }
    told = drift.of_roles(attached, {name: policies for name, (_, policies) in wanted.items()})
    if not seen.given:
        vpc = tags.find_one(seen.client("ec2").describe_vpcs, "Vpcs", {**run.tags, "Name": here.cluster_name})
        told += drift.of_vpc(vpc, here.cluster_name, here.vpc_cidr)
    subnets, of_nodes = (seen.given.subnet_ids, seen.given.node_subnet_ids) if seen.given else (own, own)
    told += drift.of_cluster(seen.cluster, here.cluster_name, here.kubernetes_version, cluster_role, subnets)
    told += drift.of_control_plane(seen.cluster, here.cluster_name, here)
    about = (NodeGroupConfig.of(here), cluster.template_name(here.cluster_name))
    return told + drift.of_node_group(seen.group, cluster.NODE_GROUP, node_role, of_nodes, *about)


def _own_subnets(run: Run, seen: AccountState) -> list[str]:
    """The subnets that the cluster would be in: those that are there, and "one to be made" for each that is not."""
    here = run.params
    labels = aws_vpc.subnet_names(here.cluster_name, here.nat, seen.zones)
    there = tags.find_all(seen.client("ec2").describe_subnets, "Subnets", run.tags)
    by_name = {aws_tags.tag_dict(one["Tags"]).get("Name"): one["SubnetId"] for one in there}
    return [by_name.get(label, f"{label} (to be made)") for label in labels]


def _more(run: Run, seen: AccountState) -> dict[str, int]:
    """How many more there will be of what AWS counts."""
    here, more = run.params, {}
    if not seen.given:
        left = {
            kind: max(0, number - seen.counts[kind])
            for kind, number in aws_vpc.planned_counts(here.vpc_zones, here.nat).items()
        }
        more = {
            quotas.VPCS: left["vpc"],
            quotas.GATEWAYS: left["internet gateway"],
            quotas.NAT: min(1, left.get("nat gateway", 0)),
            quotas.ADDRESSES: left.get("address", 0),
        }
    more[quotas.CLUSTERS] = 0 if seen.cluster else 1
    more[quotas.GROUPS] = 0 if seen.group else 1
    more[quotas.BALANCERS] = 0 if seen.cluster else len(load_balancer_names(here.profiles))
    nodes = here.node_count - (seen.group["scalingConfig"]["desiredSize"] if seen.group else 0)
    if nodes > 0 and (each := quotas.vcpus(seen.client("ec2"), here.node_instance_type)):
        more[quotas.SPOT if here.node_capacity == "SPOT" else quotas.ON_DEMAND] = nodes * each
    return more


def _missing(run: Run, seen: AccountState) -> pd.DataFrame:
    who = session.whoami(seen.client("sts"))
    arns = [f"arn:aws:iam::{who['account']}:role/{name}" for name in planned_roles(run)]
    answer = permissions.missing(seen.client("iam"), who["arn"], arns)
    if answer.missing is None:
        found = [("what docs/eks.md lists", "", answer.why)]
    else:
        found = [(*one, "not allowed") for one in answer.missing] or [("all that docs/eks.md lists", "*", "allowed")]
    return pd.DataFrame(found, columns=["action", "on", "says"])


def _drift_table(differences: list[drift.Difference]) -> pd.DataFrame:
    found = [(one.what, one.field, one.found, one.wanted, one.change) for one in differences]
    return pd.DataFrame(found, columns=["what", "field", "found", "wanted", "can be changed"])


def _quota_table(limits: list[quotas.Quota]) -> pd.DataFrame:
    text = lambda number: "?" if number is None else number  # noqa: E731
    found = [(one.kind, text(one.there), one.more, text(one.limit), one.says) for one in limits]
    return pd.DataFrame(found, columns=["quota", "there", "more", "limit", "says"])


def _offered(here, seen: AccountState, offer: availability.InstanceOffer, today: date) -> pd.DataFrame:
    istio = availability.minor(here.istio_tag)
    made_for = availability.compatibility()["istio"].get(istio, {}).get("kubernetes")
    found = []
    for one in seen.versions.values():
        until = one.standard if one.support(today) == availability.STANDARD else one.extended
        fits = "?" if made_for is None else "yes" if one.minor in made_for else "no"
        mark = "← the params'" if one.minor == here.kubernetes_version else ""
        state = f"{one.support(today) or 'no support any more'} until {until}" if until else one.support(today)
        found.append((f"Kubernetes {one.minor}", state, f"Istio {istio}: {fits}", mark))
    said = offer.why if offer.zones is None else ", ".join(offer.zones) or "none of the zones"
    found.append((here.node_instance_type, f"in {said}" if offer.zones is not None else said, "", "← the params'"))
    found.append(("Kubernetes' versions", f"by {seen.source}", "", ""))
    return pd.DataFrame(found, columns=["what", "offered", "fits", ""])
