"""Five verdicts: what makes which, what outweighs what, and what a waiver can do."""

from datetime import date

import pytest
from pydantic import ValidationError

from lib import params, run
from lib.errors import ParamsError, RedCheck
from lib.params.waiver import Waiver
from lib.record import verdicts
from lib.record.events import Record
from lib.record.verdicts import ERROR, FAIL, PASS, SKIPPED, WAIVED

WAIVER = dict(step="12-figure-1", check="figure-2: E05", owner="alice", expires="2026-01-31", reason="known, #7")
TINY = dict(
    env="tiny", cluster_source="eks", istio_tag="1", keycloak_image="k", postgres_image="p", httpbin_image="h",
    sleep_image="s", answer_deadline=5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("found", "whole"),
    [([PASS, FAIL, ERROR], ERROR), ([PASS, FAIL], FAIL), ([PASS, "not run"], PASS), ([], ERROR), (["not run"], ERROR)],
)
def test_error_outweighs_fail_outweighs_pass(found, whole):
    assert verdicts.worst(found) == whole


@pytest.mark.parametrize(
    ("verdict", "check", "day", "becomes", "says"),
    [
        (FAIL, "figure-2: E05", 31, WAIVED, "waived by alice until 2026-01-31: known, #7"),
        (FAIL, "figure-2: E05 a title", 1, WAIVED, "waived by alice until 2026-01-31: known, #7"),
        (FAIL, "figure-2: E05b a title", 1, FAIL, ""),
        (FAIL, "figure-1: E05", 1, FAIL, ""),
        (FAIL, "figure-2: E05", 32, FAIL, "alice's waiver ended on 2026-01-31"),
        (ERROR, "figure-2: E05", 1, ERROR, ""),
        (PASS, "figure-2: E05", 1, PASS, ""),
        (SKIPPED, "figure-2: E05", 1, SKIPPED, ""),
    ],
)
def test_a_waiver_is_for_one_failure_until_its_day_is_over(verdict, check, day, becomes, says):
    today = date(2026, 1, day) if day < 32 else date(2026, 2, 1)
    assert verdicts.waived(verdict, "12-figure-1", check, [Waiver(**WAIVER)], today) == (becomes, says)
    assert verdicts.waived(verdict, "11-testing", check, [Waiver(**WAIVER)], today)[0] == verdict


@pytest.mark.parametrize("wrong", [{"owner": ""}, {"expires": "tomorrow"}, {"expires": ""}, {"until": "2026-01-31"}])
def test_a_waiver_without_owner_or_day_is_none(wrong):
    with pytest.raises(ValidationError):
        Waiver(**{**WAIVER, **wrong})


def test_params_say_which_part_of_a_waiver_is_wrong(tmp_path):
    text = "\n".join(f"{key}: '{value}'" for key, value in TINY.items() if key != "answer_deadline")
    lines = [f"{key}: '{value}'" for key, value in WAIVER.items() if key != "owner"]
    (tmp_path / "tiny.yml").write_text(f"{text}\nwaivers:\n  - " + "\n    ".join(lines))
    with pytest.raises(ParamsError, match="waivers.0.owner: Field required"):
        params.load("tiny", folder=tmp_path)


def made(*waivers):
    """Return a run of step 12 with these waivers, in memory."""
    return run.Run("12-figure-1", params.Params(**TINY, waivers=waivers), Record())


def test_a_check_that_breaks_is_an_error_and_the_step_says_so():
    def ask():
        raise OSError("no route")

    one = made()
    one.check_until("answers", 200, ask, deadline=0)
    one.check("equal", 1, 2)
    with pytest.raises(RedCheck, match="answers: expected 200, got OSError: no route"):
        one.finish()
    told = [event["verdict"] for event in one.record.events if "verdict" in event]
    assert told == [ERROR, FAIL, ERROR]


def test_a_waived_failure_is_no_red_check_and_says_who_answers():
    one = made({**WAIVER, "check": "equal", "expires": "2999-12-31"})
    one.check("equal", 1, 2, reason="it was 1 once")
    one.skip("not here", 1, "there is no such part")
    one.finish()
    waived, skipped, finished = one.record.events[1:]
    assert (waived["verdict"], waived["passed"]) == (WAIVED, False)
    assert waived["reason"] == "waived by alice until 2999-12-31: known, #7; it was 1 once"
    assert (skipped["verdict"], skipped["passed"], finished["verdict"]) == (SKIPPED, None, PASS)
