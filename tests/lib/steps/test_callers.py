"""When a check stops asking: as soon as the policies that stand demand the wrong answer."""

import pytest

from lib.diagnose.diagnosis import Diagnosis
from lib.params import ROOT
from lib.steps import callers


@pytest.mark.parametrize(
    ("cause", "answered", "hopeless"),
    [
        ("nothing-demanded", 200, True),
        ("policy-just-applied", 200, False),  # the change is on its way
        ("keys-too-early", 401, False),
        ("allowed", 200, False),  # Envoy takes an expired token for another minute
        ("claim-missing", 403, False),  # the status that is expected: the other answers came by old connections
    ],
)
def test_no_further_try_helps_if_a_policy_stands(cause, answered, hopeless):
    found = Diagnosis(cause, f"the application foo/httpbin: {answered}", "", "")
    assert callers.stands(found, 403) is hopeless


def test_each_of_these_causes_is_one_of_why():
    page = (ROOT / "docs" / "why.md").read_text()
    assert all(f"`{cause}`" in page for cause in callers.STANDING)
