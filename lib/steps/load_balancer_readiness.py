"""Readiness of a load balancer: its state, its targets, its DNS name.

Resolvers remember an unknown name for 10 minutes or more, as the name's zone says. So the check asks AWS for the load
balancer's state and its targets first, then the zone's own name servers, and last the system's resolver.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver

from lib.aws.session import aws_errors, paginate
from lib.run import Run

PORT = 80
ASKED = 3.0  # seconds for one question to a name server
AGAIN = 2.0  # seconds between two: AWS and name servers are asked politely


def check(run: Run, name: str, namespace: str, port: int = PORT, known=None, resolved=None) -> None:
    """Record whether a Service's load balancer serves and its DNS name is known; record nothing for an IP address.

    `known` asks the name's zone for the name, `resolved` asks the system's resolver.
    """
    address = run.cluster.wait_address(name, namespace, run.params.deadline)
    if _is_ip(address):
        return
    known, resolved = known or known_in_zone, resolved or resolves
    if run.params.cluster_source == "eks" and not _check_balancer(run, name, address, port):
        run.skip(f"{name}: its name is known", True, "asked only once its load balancer serves, or it stays unknown")
        return
    run.check_ready(f"{name}: its name is known to its zone", True, lambda: known(address) is not False, pause=AGAIN)
    if run.checks[-1].red:
        run.skip(f"{name}: its name resolves here", True, "asked only once its zone knows it, or it stays unknown")
        return
    run.check_ready(
        f"{name}: its name resolves here", True, lambda: resolved(address),
        why=lambda: "a name that was asked for too early stays unknown for 10 minutes or more: run this again then",
    )  # fmt: skip


@aws_errors()
def find_load_balancer(elbv2, address: str) -> dict:
    """Return the load balancer with this DNS name, or {}."""
    found = paginate(elbv2, "describe_load_balancers", "LoadBalancers")
    return next((one for one in found if one["DNSName"].lower() == address.lower()), {})


@aws_errors()
def target_states(elbv2, arn: str, port: int) -> list[str]:
    """Return the state of each target that a load balancer sends its `port` to, with the reason if AWS gives one."""
    listeners = elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    actions = [action for one in listeners if one.get("Port") == port for action in one["DefaultActions"]]
    found = [
        one["TargetHealth"]
        for group in {action["TargetGroupArn"] for action in actions if "TargetGroupArn" in action}
        for one in elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    ]
    return [" ".join(filter(None, (one["State"], one.get("Reason"), one.get("Description")))) for one in found]


def known_in_zone(name: str, zone_servers: Callable[[str], list[str]] | None = None, ask=None) -> bool | None:
    """Return whether the name servers of the name's zone know it; None if none of them answers.

    Nobody else is asked for the name itself: only for who serves the zones above it.
    """
    for server in (zone_servers or _zone_servers)(name):
        try:
            answer = (ask or _ask)(name, server)
        except (dns.exception.DNSException, OSError):
            continue
        return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)
    return None


def resolves(name: str) -> bool:
    """Return whether the system's resolver knows a name."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except socket.gaierror:
        return False


def _check_balancer(run: Run, name: str, address: str, port: int) -> bool:
    elbv2, wanted = run.aws("elbv2"), run.params.load_balancer_scheme
    look = lambda: find_load_balancer(elbv2, address)  # noqa: E731
    run.check_ready(
        f"{name}: its load balancer is active", "active", lambda: look().get("State", {}).get("Code", "not there"),
        pause=AGAIN,
        why=lambda: look().get("State", {}).get("Reason", "is there a controller for it, and subnets with tags?"),
    )  # fmt: skip
    if run.checks[-1].red:
        return False
    found = look()
    if run.params.load_balancer_controller:
        fix = "an internal one is reached from the VPC only: set load_balancer_scheme and recreate the Service"
        scheme = found["Scheme"]
        run.check(f"{name}: its load balancer is {wanted}", wanted, scheme, "" if scheme == wanted else fix)
    ask = lambda: target_states(elbv2, found["LoadBalancerArn"], port)  # noqa: E731
    run.check_ready(
        f"{name}: it has a healthy target", True, lambda: any(state.startswith("healthy") for state in ask()),
        pause=AGAIN, why=lambda: "; ".join(sorted(set(ask()))) or f"nothing is registered for port {port}",
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
            found = dns.resolver.resolve(".".join(labels[start:]), "NS", lifetime=ASKED)
        except dns.exception.DNSException:
            continue
        hosts = [str(one.target) for one in found]
        return [entry[4][0] for host in hosts for entry in _addresses(host)]
    return []


def _addresses(host: str) -> list[tuple]:
    try:
        return socket.getaddrinfo(host, 53, socket.AF_INET, socket.SOCK_DGRAM)
    except socket.gaierror:
        return []


def _ask(name: str, server: str) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, "A"), server, timeout=ASKED)
