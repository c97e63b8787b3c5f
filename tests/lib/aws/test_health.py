"""What ails a thing of EKS: every code that its API may give has a word of what to do."""

import botocore.session
import pytest

from lib.aws import eks_updates, health
from lib.errors import AwsError, TimedOut

MODEL = botocore.session.get_session().get_service_model("eks")
PLAIN = {"Unknown", "Other"}  # codes that say nothing


@pytest.mark.parametrize("shape", ["NodegroupIssueCode", "AddonIssueCode", "ClusterIssueCode", "ErrorCode"])
def test_every_code_of_the_api_says_what_to_do(shape):
    assert not set(MODEL.shape_for(shape).enum) - PLAIN - health.advice().keys()


def test_no_code_is_made_up():
    shapes = ("NodegroupIssueCode", "AddonIssueCode", "ClusterIssueCode", "ErrorCode")
    assert not health.advice().keys() - {code for shape in shapes for code in MODEL.shape_for(shape).enum}


def test_an_issue_has_its_code_its_message_and_what_to_do():
    found = {"health": {"issues": [{"code": "NodeCreationFailure", "message": "Instances failed to join."}]}}
    assert health.issues(found).startswith("NodeCreationFailure: Instances failed to join (the instances came")
    assert health.issues({"health": {"issues": [{"code": "New", "message": "x"}]}}) == "New: x"
    assert health.issues({}) == ""


class Updating:
    """EKS whose update ends in the order given."""

    def __init__(self, *statuses, errors=()):
        self.statuses, self.errors, self.asked = list(statuses), list(errors), []

    def describe_update(self, **named):
        self.asked.append(named)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {"update": {"id": "u", "status": status, "errors": self.errors}}


def ended(fake, deadline=60, status="InProgress"):
    update = {"id": "u", "status": status, "type": "ConfigUpdate"}
    of = {"nodegroupName": "workers"}
    return eks_updates.wait_update(fake, "demo", update, "node group workers", deadline, of=of, sleep=lambda _: None)


def test_an_update_is_waited_for():
    fake = Updating("InProgress", "InProgress", "Successful")
    assert ended(fake)["status"] == "Successful"
    assert fake.asked == [{"name": "demo", "updateId": "u", "nodegroupName": "workers"}] * 3


def test_one_that_is_over_is_not_asked_for():
    fake = Updating("Failed")
    assert ended(fake, status="Successful") and not fake.asked


def test_a_failed_or_endless_update_is_an_error():
    errors = [{"errorCode": "PodEvictionFailure", "errorMessage": "Reached max retries"}]
    with pytest.raises(
        AwsError, match="node group workers to be Successful, got Failed: PodEvictionFailure: .*Disruption"
    ):
        ended(Updating("InProgress", "Failed", errors=errors))
    with pytest.raises(TimedOut, match="node group workers to be updated .ConfigUpdate. within .*got 'InProgress'"):
        ended(Updating("InProgress"), deadline=0)
