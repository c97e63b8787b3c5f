"""Findings before a run: drift, exhausted quotas, what AWS offers, missing permissions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import pandas as pd

from lib.aws import control_plane, drift, iam_roles, session, tags
from lib.aws import vpc as aws_vpc
from lib.aws.node_groups import NodeGroupConfig
from lib.aws.session import aws_errors
from lib.istio import installation
from lib.names import HARDENED
from lib.params import Params
from lib.planning import availability, permissions, quotas
from lib.planning.account_state import AccountState, planned_roles
from lib.run import Run
from lib.steps import cluster


@dataclass(frozen=True)
class Findings:
    """The tables by title, and the problems that would stop a run, one sentence each."""

    tables: dict[str, pd.DataFrame]
    problems: list[str] = field(default_factory=list)


def collect(run: Run, seen: AccountState, may: bool = False, today: date | None = None) -> Findings:
    """Return the findings; nothing is changed. With `may`, also simulate the caller's permissions, for information."""
    params, today = run.params, today or date.today()
    differences = _differences(run, seen)
    limits = quotas.rows(seen.client, _more(run, seen), params.cluster_name, seen.zones)
    offer = availability.instance_type(seen.client("ec2"), params.node_instance_type, seen.zones)
    problems = [
        *(seen.given.problems if seen.given else ()),
        *(one.problem for one in differences),
        availability.version_problem(params.kubernetes_version, params.istio_tag, seen.versions, seen.source, today),
        availability.type_problem(params.node_instance_type, seen.zones, offer),
        *(one.problem for one in limits),
    ]
    tables = {
        "Differences from the account": _drift_table(differences),
        "What AWS offers": _offered(params, seen, offer, today),
        "Quotas": _quota_table(limits),
        "What you may do": _missing(run, seen) if may else pd.DataFrame(),
    }
    return Findings(tables, [one for one in problems if one])


def load_balancer_names(params: Params) -> list[str]:
    """Return the names of the load balancers that a run creates."""
    hardened = ["hardened gateway"] if HARDENED in params.profiles else []
    login = ["login gateway"] if params.login_engine != "none" and params.tls != "off" else []
    services = (names[params.gateway_api].name for names in (installation.KEYCLOAK_GATEWAY, installation.INGRESS))
    return [*services, *hardened, *login]


@aws_errors()
def _differences(run: Run, seen: AccountState) -> list[drift.Difference]:
    params, wanted = run.params, planned_roles(run)
    cluster_role, node_role, *_ = wanted
    own = [] if seen.given else _own_subnets(run, seen)
    attached = {
        name: iam_roles.attached_policies(seen.client("iam"), name) if role else None
        for name, role in seen.roles.items()
    }
    differences = drift.of_roles(attached, {name: policies for name, (_, policies) in wanted.items()})
    if not seen.given:
        vpc = tags.find_one(seen.client("ec2").describe_vpcs, "Vpcs", {**run.tags, "Name": params.cluster_name})
        differences += drift.of_vpc(vpc, params.cluster_name, params.vpc_cidr)
    subnets, of_nodes = (seen.given.subnet_ids, seen.given.node_subnet_ids) if seen.given else (own, own)
    differences += drift.of_cluster(seen.cluster, params.cluster_name, params.kubernetes_version, cluster_role, subnets)
    differences += control_plane.differences_from_params(seen.cluster, params)
    about = (NodeGroupConfig.of(params), cluster.template_name(params.cluster_name))
    return differences + drift.of_node_group(seen.group, cluster.NODE_GROUP, node_role, of_nodes, *about)


def _own_subnets(run: Run, seen: AccountState) -> list[str]:
    """Return the ids of the cluster's own subnets, and "… (to be made)" for each missing one."""
    params = run.params
    labels = aws_vpc.subnet_names(params.cluster_name, params.nat, seen.zones)
    there = tags.find_all(seen.client("ec2").describe_subnets, "Subnets", run.tags)
    by_name = {tags.tag_dict(one["Tags"]).get("Name"): one["SubnetId"] for one in there}
    return [by_name.get(label, f"{label} (to be made)") for label in labels]


def _more(run: Run, seen: AccountState) -> dict[str, int]:
    """Return how many more objects a run creates of each kind that has a quota."""
    params, more = run.params, {}
    if not seen.given:
        left = {
            kind: max(0, number - seen.counts[kind])
            for kind, number in aws_vpc.planned_counts(params.vpc_zones, params.nat).items()
        }
        more = {
            quotas.VPCS: left["vpc"],
            quotas.GATEWAYS: left["internet gateway"],
            quotas.NAT: min(1, left.get("nat gateway", 0)),
            quotas.ADDRESSES: left.get("address", 0),
        }
    more[quotas.CLUSTERS] = 0 if seen.cluster else 1
    more[quotas.GROUPS] = 0 if seen.group else 1
    more[quotas.BALANCERS] = 0 if seen.cluster else len(load_balancer_names(params))
    nodes = params.node_count - (seen.group["scalingConfig"]["desiredSize"] if seen.group else 0)
    if nodes > 0 and (each := quotas.vcpus(seen.client("ec2"), params.node_instance_type)):
        more[quotas.SPOT if params.node_capacity == "SPOT" else quotas.ON_DEMAND] = nodes * each
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
    found = [(one.kind, _number(one.there), one.more, _number(one.limit), one.says) for one in limits]
    return pd.DataFrame(found, columns=["quota", "there", "more", "limit", "says"])


def _offered(params: Params, seen: AccountState, offer: availability.InstanceOffer, today: date) -> pd.DataFrame:
    istio = availability.minor(params.istio_tag)
    made_for = availability.compatibility()["istio"].get(istio, {}).get("kubernetes")
    found = []
    for one in seen.versions.values():
        until = one.standard if one.support(today) == availability.STANDARD else one.extended
        fits = "?" if made_for is None else "yes" if one.minor in made_for else "no"
        mark = "← the params'" if one.minor == params.kubernetes_version else ""
        state = f"{one.support(today) or 'no support any more'} until {until}" if until else one.support(today)
        found.append((f"Kubernetes {one.minor}", state, f"Istio {istio}: {fits}", mark))
    offered = offer.why if offer.zones is None else ", ".join(offer.zones) or "none of the zones"
    found.append(
        (params.node_instance_type, f"in {offered}" if offer.zones is not None else offered, "", "← the params'")
    )
    found.append(("Kubernetes' versions", f"by {seen.source}", "", ""))
    return pd.DataFrame(found, columns=["what", "offered", "fits", ""])


def _number(value: int | None) -> int | str:
    return "?" if value is None else value
