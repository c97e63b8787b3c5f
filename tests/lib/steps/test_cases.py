"""The two figures side by side, and beside the article's own answers."""

import pandas as pd
import pytest

from lib.steps import cases


def table(figure):
    return pd.DataFrame([{"caller": case.caller, "token": case.token, "got": case.expected} for case in figure])


def test_two_rows_differ_between_the_figures():
    both = cases.side_by_side(table(cases.FIGURE_2), table(cases.FIGURE_1))
    differing = both[both["differs"] == "◀"]
    assert differing[["caller", "token"]].values.tolist() == [["sleep", "none"], ["visitor", "valid"]]
    assert len(both) == len(cases.FIGURE_2) and set(both["differs"]) == {"", "◀"}


def test_the_articles_istio_answered_401_to_a_missing_token():
    changed = cases.changed_since_article(table(cases.FIGURE_2))
    assert sorted(changed.values.tolist()) == [[who, "none", 401, 403] for who in ("sleep", "user", "visitor")]


@pytest.mark.parametrize(("figure", "left"), [(cases.FIGURE_2, ["sleep", "visitor"]), (cases.FIGURE_1, ["visitor"])])
def test_a_challenge_is_for_users_alone(figure, left):
    changed = [cases.with_answer(case, 401) for case in figure]
    differing = [(one.caller, one.token, one.expected, one.reason) for one in changed if one not in figure]
    assert differing == [("user", "none", 401, "RBAC: access denied")]
    assert sorted(one.caller for one in changed if (one.token, one.expected) == ("none", 403)) == left
    assert [cases.with_answer(case, 403) for case in figure] == figure


def test_every_reason_is_a_sentence_of_todays_envoy():
    reasons = {case.reason for case in cases.FIGURE_2}
    assert reasons == {
        "",
        "RBAC: access denied",
        "Jwt verification fails",
        "Jwt is not in the form of Header.Payload.Signature",
        "Jwt is expired",
        "Jwt issuer is not configured",
        "Audiences in Jwt are not allowed",
        "connection reset",
    }
