"""What a run would create in an AWS account, what it costs, and the guard before the first write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from IPython.display import Markdown, display

from lib.aws import control_plane, session, vpc
from lib.aws.optional import try_read
from lib.errors import AwsError
from lib.planning import availability, findings
from lib.planning.account_state import AccountState
from lib.run import Run
from lib.steps import cluster, cluster_network
from lib.steps import guard as guards

PRICES = Path(__file__).with_name("prices.yml")
CREATE, KEEP, CHANGE = "create", "keep", "change"


@cache
def prices() -> Mapping:
    """Return the data of prices.yml."""
    return yaml.safe_load(PRICES.read_text(encoding="utf-8"))


def rows(run: Run, seen: AccountState | None = None) -> pd.DataFrame:
    """Return what the run creates: kind, name, now, action (create, keep, change), usd_per_hour, usd_per_day.

    Nothing is changed. The price is "" if it is unknown, or if a local endpoint makes it free. With an existing cluster
    the table is empty.
    """
    found = []
    if run.params.cluster_source == "eks":
        seen = seen or AccountState.load(run)
        found = [*_roles(seen), *_network(run, seen), _cluster(run, seen), _template(run, seen), _nodes(run, seen)]
        found += [*_addons(seen), *_balancers(run, seen)]
    table = pd.DataFrame(found, columns=["kind", "name", "now", "action", "usd_per_hour"])
    if guards.is_local(run):
        table["usd_per_hour"] = ""
    table["usd_per_day"] = [value if value == "" else round(24 * value, 2) for value in table["usd_per_hour"]]
    return table


def total(table: pd.DataFrame) -> float:
    """Return the sum of all known prices, in US dollars an hour."""
    return round(sum(value for value in table["usd_per_hour"] if value != ""), 4)


def summary(run: Run, table: pd.DataFrame) -> list[str]:
    """Return the caller, the region, the changes and the costs, as sentences."""
    who = session.whoami(run.aws("sts"))
    lines = [f"You are {who['arn']} in account {who['account']}{_alias(run)}, region {run.params.region}."]
    count = {one: int((table["action"] == one).sum()) for one in (CREATE, CHANGE, KEEP)}
    lines.append(f"{count[CREATE]} to create, {count[CHANGE]} to change, {count[KEEP]} kept.")
    if guards.is_local(run):
        return [*lines, f"The endpoint is {run.params.aws_endpoint_url}: nothing costs anything."]
    unknown = [row.name for row in table.itertuples(index=False) if row.kind == "node group" and row.usd_per_hour == ""]
    since = prices()["as_of"]
    age = f" That is {(date.today() - since).days} days ago: check them." if _old(since) else ""
    cost = f"About ${total(table):.2f} an hour, ${24 * total(table):.2f} a day,"
    lines.append(f"{cost} by the list prices of us-east-1 of {since}, without traffic.{age}")
    if unknown:
        kind = f"{run.params.node_instance_type} ({run.params.node_capacity})"
        lines.append(f"No price is known here of {kind}: its nodes are not in that sum.")
    wanted = run.params.account_id
    lines.append(
        guards.account_problem(wanted, who["account"]) or f"It is the account that the params name ({wanted})."
    )
    return lines


def guard(run: Run) -> None:
    """Raise AwsError before the first write if the run could not succeed, or is not confirmed.

    It could not succeed with unsuitable subnets, versions or instance types, exhausted quotas, or immutable settings
    that differ. A real account must be the params' account, and creating must be confirmed with CONFIRM=yes.
    """
    if run.params.cluster_source != "eks":
        return
    if not guards.is_local(run):
        guards.check_account(run)
    seen = AccountState.load(run)
    if found := _problems(run, findings.collect(run, seen)):
        raise AwsError(" ".join(found))
    if guards.is_local(run):
        return
    table = rows(run, seen)
    made = table[table["action"] == CREATE]
    if len(made) and os.environ.get("CONFIRM") != "yes":
        raise AwsError(
            f"Refusing to create {len(made)} objects in account {run.params.account_id} (about ${total(made):.2f}/h). "
            f"See make plan ENV={run.params.env}, then run make run ENV={run.params.env} CONFIRM=yes."
        )


def problems(run: Run) -> list[str]:
    """Return what would stop a run before its first write, one sentence each."""
    return _problems(run, findings.collect(run, AccountState.load(run))) if run.params.cluster_source == "eks" else []


def _problems(run: Run, other: findings.Findings) -> list[str]:
    return [*filter(None, [control_plane.missing_public_cidrs(run.params)]), *other.problems]


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return the non-empty tables of make plan by title."""
    if run.params.cluster_source != "eks":
        return {}
    seen = AccountState.load(run)
    other = findings.collect(run, seen, may=True)
    stopping = pd.DataFrame({"problem": _problems(run, other)})
    found = {"What is made": rows(run, seen), **other.tables, "What would stop a run": stopping}
    return {title: table for title, table in found.items() if len(table)}


def show(run: Run) -> None:
    """Show the output of make plan in a notebook; a sentence if AWS refuses to answer."""
    try:
        found = tables(run)
        lines = (
            summary(run, next(iter(found.values()))) if found else ["The cluster exists: nothing is created in AWS."]
        )
    except AwsError as problem:
        found, lines = {}, [str(problem)]
    for title, table in found.items():
        display(Markdown(f"### {title}"), table)
    display(Markdown("\n".join(f"- {line}" for line in lines)))


def _old(since: date) -> bool:
    return (date.today() - since).days > 180


def _alias(run: Run) -> str:
    """Return the account's alias in brackets; "" without the permission to read it."""
    names, _ = try_read(lambda: run.aws("iam").list_account_aliases()["AccountAliases"])
    return f" ({names[0]})" if names else ""


def _roles(seen: AccountState) -> list[tuple]:
    return [
        ("role", name, "there" if role else "none", KEEP if role else CREATE, "") for name, role in seen.roles.items()
    ]


def _network(run: Run, seen: AccountState) -> list[tuple]:
    if seen.given:
        return [("subnet", name, about, KEEP, "") for name, about in seen.given.rows]
    params, cost, name = run.params, prices(), run.params.cluster_name
    each = {"nat gateway": cost["nat_gateway"], "address": cost["public_ipv4"]}
    return [
        (
            kind,
            name,
            f"{seen.counts[kind]} of {number}",
            KEEP if seen.counts[kind] >= number else CREATE,
            _times(number, each.get(kind)),
        )
        for kind, number in vpc.planned_counts(params.vpc_zones, params.nat).items()
    ]


def _times(number: int, each: float | None) -> float | str:
    return "" if each is None else round(number * each, 4)


def _cluster(run: Run, seen: AccountState) -> tuple:
    params, found, cost = run.params, seen.cluster, prices()
    same = found and found["version"] == params.kubernetes_version
    now = f"{found['status']}, {found['version']}" if found else "none"
    price = cost["cluster_extended" if seen.support(params.kubernetes_version) == availability.EXTENDED else "cluster"]
    return "cluster", params.cluster_name, now, KEEP if same else CHANGE if found else CREATE, price


def _template(run: Run, seen: AccountState) -> tuple:
    name, found = cluster.template_name(run.params.cluster_name), seen.template
    now = f"version {found['LatestVersionNumber']}" if found else "none"
    return "launch template", name, now, KEEP if found else CREATE, ""


def _nodes(run: Run, seen: AccountState) -> tuple:
    params, cost, found = run.params, prices(), seen.group
    each = cost["instances"].get(params.node_instance_type) if params.node_capacity == "ON_DEMAND" else None
    address = cost["public_ipv4"] if cluster_network.has_public_nodes(run, seen.given) else 0
    disk = params.node_disk_gib * cost["volume_gib"]  # PostgreSQL's volume is smaller and not counted
    price = "" if each is None else _times(params.node_count, each + address + disk)
    size = found["scalingConfig"]["desiredSize"] if found else 0
    now = f"{found['status']}, {size} × {', '.join(found['instanceTypes'])}" if found else "none"
    action = CREATE if not found else KEEP if size == params.node_count else CHANGE
    return "node group", f"{params.node_count} × {params.node_instance_type}", now, action, price


def _addons(seen: AccountState) -> list[tuple]:
    return [
        ("add-on", name, f"{one['status']}, {one['addonVersion']}" if one else "none", KEEP if one else CREATE, "")
        for name, one in seen.addons.items()
    ]


def _balancers(run: Run, seen: AccountState) -> list[tuple]:
    """Return the load balancers that Kubernetes creates for Services; only the cluster knows whether they exist."""
    public = run.params.load_balancer_scheme == "internet-facing"
    price = round(prices()["load_balancer"] + (len(seen.zones) * prices()["public_ipv4"] if public else 0), 4)
    now, action = ("not looked at", KEEP) if seen.cluster else ("none", CREATE)
    return [("load balancer", name, now, action, price) for name in findings.load_balancer_names(run.params)]
