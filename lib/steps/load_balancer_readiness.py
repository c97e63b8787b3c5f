"""Check that a load balancer serves and its DNS name resolves, without a failed lookup in the resolver's cache.

A resolver that looks a name up too early caches "no such name" for 10 minutes or more: the zone sets the time. The
checks run in this order: the load balancer's state, its targets, its zone's name servers, the system's resolver.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver

from lib.aws.session import aws_errors, paginate
from lib.run import Run

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

PORT = 80
DNS_TIMEOUT = 3.0  # seconds for one query to a name server
PAUSE = 2.0  # seconds between two reads of AWS or of a name server
NO_LOAD_BALANCER = "check that a controller creates load balancers, and that it finds subnets with tags"
OTHER_SCHEME = "an internal one is reached from the VPC only: set load_balancer_scheme and recreate the Service"


def check(
    run: Run,
    name: str,
    namespace: str,
    port: int = PORT,
    known: Callable[[str], bool | None] | None = None,
    resolved: Callable[[str], bool] | None = None,
) -> None:
    """Record whether a Service's load balancer serves and its DNS name resolves; nothing if the address is an IP.

    Args:
        run: the step that records the checks.
        name: the Service.
        namespace: the Service's namespace.
        port: the listener whose targets are checked.
        known: looks a name up at its zone's name servers; default `known_in_zone`.
        resolved: looks a name up at the system's resolver; default `resolves`.
    """
    address = run.cluster.wait_address(name, namespace, run.params.deadline)
    if _is_ip(address):
        return
    known, resolved = known or known_in_zone, resolved or resolves
    if run.params.cluster_source == "eks" and not _check_load_balancer(run, name, address, port):
        run.skip(
            f"{name}: its name is known",
            True,
            "looked up only after its load balancer serves: a failed lookup is cached",
        )
        return
    run.check_ready(f"{name}: its name is known to its zone", True, lambda: known(address) is not False, pause=PAUSE)
    if run.checks[-1].red:
        run.skip(
            f"{name}: its name resolves here", True, "looked up only after its zone knows it: a failed lookup is cached"
        )
        return
    run.check_ready(
        f"{name}: its name resolves here", True, lambda: resolved(address),
        why=lambda: "the resolver caches a failed lookup for 10 minutes or more; run this step again after that",
    )  # fmt: skip


@aws_errors()
def find_load_balancer(elbv2: ElasticLoadBalancingv2Client, address: str) -> dict[str, Any]:
    """Return the load balancer with this DNS name; {} if there is none."""
    found = paginate(elbv2, "describe_load_balancers", "LoadBalancers")
    return next((one for one in found if one["DNSName"].lower() == address.lower()), {})


@aws_errors()
def target_states(elbv2: ElasticLoadBalancingv2Client, arn: str, port: int) -> list[str]:
    """Return the state, with AWS's reason if any, of each target behind the load balancer's `port`."""
    listeners = elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    actions = [action for one in listeners if one.get("Port") == port for action in one["DefaultActions"]]
    found = [
        one["TargetHealth"]
        for group in {action["TargetGroupArn"] for action in actions if "TargetGroupArn" in action}
        for one in elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    ]
    return [" ".join(filter(None, (one["State"], one.get("Reason"), one.get("Description")))) for one in found]


def known_in_zone(
    name: str,
    zone_servers: Callable[[str], list[str]] | None = None,
    query: Callable[[str, str], dns.message.Message] | None = None,
) -> bool | None:
    """Return whether the name servers of the name's zone know it; None if no name server answers.

    Only these name servers get a query for the name itself. The system's resolver gets queries for NS records alone.
    """
    for server in (zone_servers or _zone_servers)(name):
        try:
            response = (query or _query)(name, server)
        except (dns.exception.DNSException, OSError):
            continue
        return response.rcode() == dns.rcode.NOERROR and bool(response.answer)
    return None


def resolves(name: str) -> bool:
    """Return whether the system's resolver resolves a name."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except socket.gaierror:
        return False


def _check_load_balancer(run: Run, name: str, address: str, port: int) -> bool:
    elbv2, wanted = run.aws("elbv2"), run.params.load_balancer_scheme
    read = lambda: find_load_balancer(elbv2, address)  # noqa: E731
    run.check_ready(
        f"{name}: its load balancer is active", "active", lambda: read().get("State", {}).get("Code", "not there"),
        pause=PAUSE,
        why=lambda: read().get("State", {}).get("Reason", NO_LOAD_BALANCER),
    )  # fmt: skip
    if run.checks[-1].red:
        return False
    found = read()
    if run.params.load_balancer_controller:
        scheme = found["Scheme"]
        reason = "" if scheme == wanted else OTHER_SCHEME
        run.check(f"{name}: its load balancer is {wanted}", wanted, scheme, reason)
    states = lambda: target_states(elbv2, found["LoadBalancerArn"], port)  # noqa: E731
    run.check_ready(
        f"{name}: it has a healthy target", True, lambda: any(state.startswith("healthy") for state in states()),
        pause=PAUSE, why=lambda: "; ".join(sorted(set(states()))) or f"nothing is registered for port {port}",
    )  # fmt: skip
    return not run.checks[-1].red


def _is_ip(address: str) -> bool:
    try:
        return bool(ipaddress.ip_address(address))
    except ValueError:
        return False


def _zone_servers(name: str) -> list[str]:
    labels = name.rstrip(".").split(".")
    for start in range(1, len(labels) - 1):
        try:
            found = dns.resolver.resolve(".".join(labels[start:]), "NS", lifetime=DNS_TIMEOUT)
        except dns.exception.DNSException:
            continue
        hosts = [str(one.target) for one in found]
        return [entry[4][0] for host in hosts for entry in _addresses(host)]
    return []


def _addresses(host: str) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(host, 53, socket.AF_INET, socket.SOCK_DGRAM)
    except socket.gaierror:
        return []


def _query(name: str, server: str) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, "A"), server, timeout=DNS_TIMEOUT)
