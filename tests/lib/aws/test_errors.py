"""A refusal of AWS becomes a sentence that says what to do, and the next run finds each half-created object."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from moto import mock_aws

from lib import params
from lib.aws import leftovers as aws_cleanup
from lib.aws import session as aws_session
from lib.errors import AwsError, ClusterError
from lib.record.events import Record
from lib.run import Run
from lib.steps import clean_up, cluster
from tests.support import account
from tests.support.stated import IMAGES

DOCS = Path(__file__).resolve().parents[3] / "docs" / "eks.md"
REFUSALS = DOCS.read_text().partition("## When AWS refuses")[2].partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in REFUSALS.splitlines() if line.startswith("| `")]
TABLE = [(code, do) for codes, do in ROWS for code in re.findall(r"`(\w+)`", codes)]
WRITES = ("Create", "Attach", "Associate", "Modify")
DENIED = (
    "User: arn:aws:iam::1:user/a is not authorized to perform: ec2:CreateVpc on resource: arn:aws:ec2:r:1:vpc/* because"
)


def refusal(code, message="AWS's own words."):
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateVpc")


@pytest.mark.parametrize(("code", "do"), TABLE)
def test_the_page_says_of_an_error_what_the_sentence_does(code, do):
    message = DENIED if "permission" in do or "the action" in do else "AWS's own words."
    with pytest.raises(AwsError) as told, aws_session.aws_errors():
        raise refusal(code, message)
    assert f"expected AWS to accept CreateVpc, got {code}: " in str(told.value)
    wanted = "give the caller ec2:CreateVpc on arn:aws:ec2:r:1:vpc/*" if message == DENIED else do
    assert wanted in str(told.value)


def test_the_page_has_the_errors_that_matter():
    assert len(TABLE) >= 16 and len({code for code, _ in TABLE}) == len(TABLE)


def test_an_encoded_refusal_says_how_to_decode_it_without_its_text():
    message = f"You are not authorized to perform this operation. Encoded authorization failure message: {'x1Y' * 300}"
    with pytest.raises(AwsError, match="aws sts decode-authorization-message") as raised, aws_session.aws_errors():
        raise refusal("UnauthorizedOperation", message)
    assert "x1Y" not in str(raised.value) and len(str(raised.value)) < 400


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    with mock_aws():
        yield account.session()


class Fault:
    """The n-th writing call of a run fails: before it takes effect, as AWS refuses, or after, as a line is cut."""

    def __init__(self, number, after):
        self.number, self.after, self.count, self.failed = number, after, 0, ""

    def before(self, model, **_):
        if not self.after and self._due(model.name):
            answer = type("Answer", (), {"status_code": 400})()
            return answer, {"Error": {"Code": "AccessDenied", "Message": "no."}}
        return None

    def afterwards(self, model, **_):
        if self.after and self._due(model.name):
            raise ConnectionClosedError(endpoint_url="https://ec2.us-east-1.amazonaws.com")

    def _due(self, name):
        self.count += name.startswith(WRITES)
        if self.count != self.number or not name.startswith(WRITES) or self.failed:
            return False
        self.failed = name
        return True


@contextmanager
def failing(session, fault):
    """Clients take long to make: the same ones, with a fault for a while."""
    events = [account.client(session, name).meta.events for name in ("iam", "ec2", "eks")]
    for one in events:
        one.register("before-call", fault.before)
        one.register("after-call", fault.afterwards)
    try:
        yield
    finally:
        for one in events:
            one.unregister("before-call", fault.before)
            one.unregister("after-call", fault.afterwards)


def run(session):
    values = {
        "env": "made-up",
        "cluster_source": "eks",
        "public_access_cidrs": ["203.0.113.7/32"],
        "cluster_name": account.NAME,
        "istio_tag": "1",
        "deadline": 5,
    }
    made = Run("01-cluster", params.Params(**values, account_id="123456789012", **IMAGES), Record())
    made.aws = lambda name: account.client(session, name)
    return made


@pytest.fixture
def policies(session, monkeypatch):
    """moto has Amazon's own policies only when told so: these stand for them."""
    iam = aws_session.client(session, "iam")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=account.POLICY)["Policy"]["Arn"]
    monkeypatch.setattr(cluster, "CLUSTER_POLICIES", [arn])
    monkeypatch.setattr(cluster, "NODE_POLICIES", [arn])


@pytest.mark.parametrize("after", [False, True], ids=["refused", "cut off after it was done"])
def test_wherever_a_run_breaks_off_the_next_one_adopts_what_is_there(session, policies, after):
    """Each time one writing call further, in the same account, until nothing fails any more."""
    broken, ec2 = [], account.client(session, "ec2")
    while True:
        fault = Fault(len(broken) + 1, after)
        here = run(session)
        try:
            with failing(session, fault):
                cluster.ensure(here)
        except AwsError as told:
            assert "expected" in str(told)
            broken.append(fault.failed)
            recorded = {event["kind"] for event in here.record.events if event["event"] == "change"}
            if fault.failed in ("CreateSubnet", "CreateRoute"):  # what came before is in the record already
                assert {"role", "vpc", "internet gateway"} <= recorded
        else:
            break
        made = [row for row in here.changes if row["action"] == "created"]
        again = run(session)
        cluster.ensure(again)
        twice = [row for row in again.changes if row["action"] == "created" and row in made]
        assert not twice
        once = {"vpc": 1, "subnet": 2, "internet gateway": 1, "route table": 1, "launch template": 1}
        assert counted(ec2) == once
        assert account.client(session, "eks").list_clusters()["clusters"] == [account.NAME]
        empty(session)
    assert {"CreateVpc", "CreateSubnet", "CreateRole", "CreateCluster", "CreateNodegroup", "CreateRoute"} <= set(broken)


def counted(ec2):
    kinds = [one.kind for one in aws_cleanup.owned_objects(ec2, account.TAGS)]
    return {kind: kinds.count(kind) for kind in kinds}


class Gone:
    """A cluster whose API nobody reaches."""

    def ready(self):
        raise ClusterError("expected the cluster's API, got none.")


def empty(session):
    here = run(session)
    here.cluster = Gone()
    clean_up.delete_cluster_objects(here)
    clean_up.delete_load_balancers(here)
    clean_up.delete_cluster(here)
    assert clean_up.inventory(here).empty
