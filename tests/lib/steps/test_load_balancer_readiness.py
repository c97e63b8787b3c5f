"""A load balancer's name is asked for last of all: after its state, its targets and its own zone."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from moto import mock_aws

from lib import params
from lib.record.events import Record
from lib.run import Run
from lib.steps import load_balancer_readiness
from tests.support import account
from tests.support.stated import IMAGES

NAME = "web-1.elb.us-east-1.amazonaws.com"


class Cluster:
    """A cluster whose Services have one address."""

    def __init__(self, address):
        self.address = address

    def wait_address(self, *_):
        return self.address


def new_run(address=NAME, session=None, deadline=0, **changed):
    values = {"env": "real", "cluster_source": "existing", "istio_tag": "1", **IMAGES, **changed}
    once = {"deadline": deadline}  # no params file may have 0: each check asks once
    run = Run("07-gateway", params.Params(**values).model_copy(update=once), Record())
    run.cluster, run.aws = Cluster(address), lambda name: account.client(session, name)
    return run


def rows(run):
    return {check.name.partition(": ")[2]: check for check in run.checks}


@pytest.fixture
def session():
    with mock_aws():
        yield account.session()


@pytest.fixture
def way_in(session):
    """A load balancer with one target group on port 80."""
    elbv2, net = account.client(session, "elbv2"), account.build(session)
    about = {"Name": "web", "Type": "network", "Subnets": net["subnet_ids"], "Scheme": "internet-facing"}
    balancer = elbv2.create_load_balancer(**about)["LoadBalancers"][0]
    group = elbv2.create_target_group(Name="web", Protocol="TCP", Port=80, VpcId=net["vpc_id"], TargetType="ip")
    group = group["TargetGroups"][0]["TargetGroupArn"]
    action = {"Type": "forward", "TargetGroupArn": group}
    listener = {"LoadBalancerArn": balancer["LoadBalancerArn"], "Protocol": "TCP", "Port": 80}
    elbv2.create_listener(**listener, DefaultActions=[action])
    register = lambda: elbv2.register_targets(TargetGroupArn=group, Targets=[{"Id": "10.0.0.9", "Port": 80}])  # noqa: E731
    return balancer, register


def test_an_ip_address_is_nothing_to_look_up():
    run = new_run("198.18.0.101")
    load_balancer_readiness.check(run, "web", "home", known=None, resolved=None)
    assert not run.checks


def test_a_name_that_is_not_there_yet_is_waited_for_and_not_failed():
    asked = []
    known = lambda name: asked.append("zone") or len(asked) > 1  # noqa: E731
    resolved = lambda name: asked.append("resolver") or True  # noqa: E731
    run = new_run(deadline=20)
    load_balancer_readiness.check(run, "web", "home", known=known, resolved=resolved)
    assert asked == ["zone", "zone", "resolver"] and not [one for one in run.checks if one.red]


def test_where_the_zone_does_not_know_it_the_resolver_is_not_asked():
    run, asked = new_run(), []
    load_balancer_readiness.check(run, "web", "home", known=lambda name: False, resolved=asked.append)
    assert not asked and rows(run)["its name is known to its zone"].red
    assert rows(run)["its name resolves here"].verdict == "skipped"


def test_the_load_balancer_comes_first(session, way_in):
    balancer, register = way_in
    asked = []
    on_eks = {"cluster_source": "eks", "load_balancer_controller": "in-tree"}
    run = new_run(balancer["DNSName"], session, **on_eks)
    load_balancer_readiness.check(run, "web", "home", known=asked.append, resolved=asked.append)
    found = rows(run)
    states = [found[f"its load balancer is {state}"].verdict for state in ("active", "internet-facing")]
    assert states == ["pass", "pass"]
    assert found["it has a healthy target"].reason == "nothing is registered for port 80" and not asked
    assert found["its name is known"].verdict == "skipped"
    register()
    run = new_run(balancer["DNSName"], session, **on_eks)
    load_balancer_readiness.check(run, "web", "home", known=lambda name: True, resolved=lambda name: True)
    assert not [one for one in run.checks if one.red] and len(run.checks) == 5


def test_a_load_balancer_of_the_other_scheme_is_red_with_the_fix(session, way_in):
    balancer, register = way_in
    register()
    wanted = {"load_balancer_controller": "in-tree", "load_balancer_scheme": "internal", "cluster_source": "eks"}
    run = new_run(balancer["DNSName"], session, **wanted)
    load_balancer_readiness.check(run, "web", "home", known=lambda name: True, resolved=lambda name: True)
    row = rows(run)["its load balancer is internal"]
    assert row.red and row.actual == "internet-facing"
    assert "reached from the VPC only: set load_balancer_scheme" in row.reason


def test_no_load_balancer_of_that_name(session):
    run = new_run(NAME, session, cluster_source="eks")
    load_balancer_readiness.check(run, "web", "home")
    assert rows(run)["its load balancer is active"].actual == "not there"
    assert "subnets with tags" in rows(run)["its load balancer is active"].reason


def answer(rcode=dns.rcode.NOERROR, address=""):
    response = dns.message.make_response(dns.message.make_query(NAME, "A"))
    response.set_rcode(rcode)
    if address:
        response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "A", address))
    return response


@pytest.mark.parametrize(
    ("response", "known"),
    [(answer(address="203.0.113.7"), True), (answer(dns.rcode.NXDOMAIN), False), (answer(), False), (OSError(), None)],
)
def test_the_zones_name_servers_are_queried(response, known):
    def query(name, server):
        if isinstance(response, Exception):
            raise response
        return response

    assert load_balancer_readiness.known_in_zone(NAME, lambda name: ["192.0.2.53"], query) is known


def test_a_zone_that_cannot_be_asked_from_here_leaves_it_to_the_resolver():
    run = new_run()
    load_balancer_readiness.check(run, "web", "home", known=lambda name: None, resolved=lambda name: True)
    assert [one.verdict for one in run.checks] == ["pass", "pass"]
