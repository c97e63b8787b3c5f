"""Results judged, written and read; baselines kept and never overwritten in silence."""

import csv

import pytest

from lib.bundle import seal
from lib.errors import ParamsError
from lib.istio.access_log import Hop, Trail, who_answered
from lib.probes.model import Probe
from lib.probes.reporting import baselines, results
from lib.probes.reporting.results import judge, skipped
from lib.probes.transport.messages import Reply

HEAD = "eyJhbGciOiJub25lIn0"
RBAC = "RBAC: access denied"


def probe(**more):
    return Probe(**{"id": "B01", "title": "a title", "source": "a source", "expect": "403 R", **more})


def refused(status=403, body=RBAC):
    return Reply(status, f"HTTP/1.1 {status} No", {}, body, 3.5)


def hop(name, details="via_upstream", code=403, flags="", request_id="1"):
    return Hop(name, code, flags, details, request_id, "")


def trail(gateway, sidecar=None):
    return Trail(gateway, sidecar, who_answered(gateway, sidecar))


DENIED = trail(hop("gateway"), hop("sidecar", "rbac_access_denied_matched_policy[none]", flags="UAEX"))


def test_an_expected_answer_passes_with_all_that_is_known_of_it():
    got = judge(probe(), "figure-2", "403 R", refused(), [DENIED], tries=2)
    assert (got.verdict, got.note, got.reason, got.hop, got.flags) == ("pass", "", RBAC, "sidecar", "UAEX")
    assert (got.details, got.latency_ms, got.tries) == ("rbac_access_denied_matched_policy[none]", 3.5, 2)
    assert (got.request, got.family, got.status_line) == ("GET /headers", "B", "HTTP/1.1 403 No")


def test_another_answer_fails_with_both_told():
    got = judge(probe(), "figure-2", "200 app", Reply(200, "HTTP/1.1 200 OK"))
    assert (got.verdict, got.note) == ("fail", "expected 403 R, got 200 app")


def test_the_right_answer_with_the_wrong_details_fails_with_both_told():
    by_the_application = trail(hop("gateway"), hop("sidecar"))
    got = judge(probe(), "figure-2", "403 R", refused(), [by_the_application])
    assert (got.verdict, got.hop) == ("fail", "application")
    assert "via_upstream" in got.note and "403 R" in got.note


def test_an_answer_without_a_log_line_is_judged_by_itself():
    assert judge(probe(), "figure-2", "403 R", refused()).verdict == "pass"


def test_hops_that_do_not_belong_together_are_told():
    mixed = Trail(hop("gateway"), None, "gateway", "request ids differ")
    assert "request ids differ" in judge(probe(expect="200 app"), "figure-2", "200 app", Reply(200), [mixed]).note


def test_profiles_expect_answers_of_their_own():
    row = probe(expect="200 app", hardened="403 R", finding="it passes", closed_by="typ")
    open_one = judge(row, "figure-2", "200 app", Reply(200))
    shut = judge(row, "hardened", "403 R", refused())
    assert (open_one.verdict, open_one.finding, open_one.closed_by) == ("pass", "it passes", "typ")
    assert (shut.verdict, shut.finding, shut.closed_by) == ("pass", "", "")


def test_a_measured_probe_without_baseline_is_unmeasured_whatever_came():
    for got in ("403 R", "200 app"):
        one = judge(probe(measured=True), "figure-2", got, refused())
        assert (one.verdict, one.expected, one.got) == ("unmeasured", "403 R", got)
        assert one.note.startswith("no baseline for B01")


def test_a_measured_probe_is_held_to_its_baseline():
    row = probe(measured=True)
    assert judge(row, "figure-2", "400 codec", refused(400, ""), baseline="400 codec").verdict == "pass"
    assert judge(row, "figure-2", "403 R", refused(), baseline="400 codec").note == "expected 400 codec, got 403 R"


def test_a_probe_that_is_not_measured_ignores_a_baseline():
    assert judge(probe(), "figure-2", "403 R", refused(), baseline="200 app").verdict == "pass"


def test_what_the_application_must_see_and_must_not():
    row = probe(expect="200 app", sees="x-jwt", sees_not="Authorization")
    seen = lambda body: judge(row, "lens", "200 app", Reply(200, body=body))  # noqa: E731
    assert seen("x-jwt: 1").verdict == "pass"
    assert seen("nothing").note == "the application did not see 'x-jwt'"
    assert seen("x-jwt Authorization").note == "the application saw 'Authorization'"


def test_a_token_that_the_application_echoes_is_not_what_it_saw():
    """An upgrade to h2c was red in every profile: the letters stood in the token's signature."""
    row = probe(expect="200 app", sees="Authorization", sees_not="h2c")
    seen = lambda body: judge(row, "lens", "200 app", Reply(200, body=body))  # noqa: E731
    assert seen('{"Authorization": ["Bearer eyJhbGci.eyJpc3Mi.x0h2cY_-h2c"]}').verdict == "pass"
    assert seen('{"Authorization": ["Bearer eyJhbGci.eyJpc3Mi.x0"], "Upgrade": ["h2c"]}').verdict == "fail"


def test_a_sequence_is_judged_by_all_its_answers():
    row = probe(how="keep-alive", expect=["200 app", "403 R"])
    passed = trail(hop("gateway", code=200), hop("sidecar", code=200))
    got = judge(row, "figure-2", ["200 app", "403 R"], None, [passed, DENIED])
    assert (got.verdict, got.got, got.request) == ("pass", "200 app, 403 R", "keep-alive")
    assert judge(row, "figure-2", ["200 app", "403 R"], None, [DENIED, passed]).verdict == "fail"


def test_an_upgrade_is_the_applications_however_it_ended():
    ended = trail(hop("gateway", code=101), hop("sidecar", "downstream_remote_disconnect", code=101))
    got = judge(probe(expect="101 app"), "figure-2", "101 app", Reply(101), [ended])
    assert (got.verdict, got.hop) == ("pass", "application")


def test_no_token_stays_in_a_result():
    echo = refused(403, f"what you sent: {HEAD}.e30.AAAA and opaque-secret")
    got = judge(probe(path="/headers?access_token={good}"), "figure-2", "403 app", echo, secrets=["opaque-secret"])
    assert HEAD not in str(got) and "opaque-secret" not in str(got)
    assert got.request == "GET /headers?access_token={good}"


def test_the_reason_is_short_and_only_a_refusals():
    assert len(judge(probe(), "figure-2", "403 app", refused(403, "word " * 100)).reason) <= results.REASON
    assert judge(probe(), "figure-2", "200 app", Reply(200, body="all fine")).reason == ""
    assert judge(probe(), "figure-2", "0 reset", Reply(0, reason="reset")).reason == "reset"


def test_a_skipped_probe_says_why():
    got = skipped(probe(world="lens"), "lens", "there is none")
    assert (got.verdict, got.note, got.profile, got.got) == ("skipped", "there is none", "lens", "")


def test_results_are_read_as_they_were_written(tmp_path):
    every = [judge(probe(), "figure-2", "403 R", refused(), [DENIED]), skipped(probe(), "hardened", 'a "reason", two')]
    results.write(every, tmp_path / "r.csv")
    assert results.read(tmp_path / "r.csv") == every


def test_another_table_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns"):
        results.read(tmp_path / "r.csv")


OLD = {"B01": {"figure-2": "403 R"}}


def test_a_baseline_is_written_and_read(tmp_path):
    file = tmp_path / "b.yml"
    name = baselines.triple("1.2", "3", "4")
    assert baselines.record(name, OLD, file) == []
    assert baselines.known(name, file) == OLD
    assert baselines.known("another", file) == {}


def test_a_differing_baseline_is_told_and_not_written(tmp_path):
    file = tmp_path / "b.yml"
    baselines.record("t", OLD, file)
    new = {"B01": {"figure-2": "200 app", "hardened": "403 R"}}
    assert baselines.record("t", new, file) == ["B01, figure-2: was 403 R, is 200 app"]
    assert baselines.known("t", file) == OLD
    baselines.record("t", new, file, accept=True)
    assert baselines.known("t", file) == new


def test_new_answers_are_added_beside_other_triples(tmp_path):
    file = tmp_path / "b.yml"
    baselines.record("t", OLD, file)
    baselines.record("u", {"B01": {"figure-2": "200 app"}}, file)
    assert baselines.record("t", {"B02": {"lens": "200 app"}}, file) == []
    assert baselines.known("t", file) == {**OLD, "B02": {"lens": "200 app"}}
    assert baselines.known("u", file) == {"B01": {"figure-2": "200 app"}}


def test_only_measured_rows_that_answered_become_a_baseline():
    every = [
        judge(probe(id="B01", measured=True), "figure-2", "200 app", Reply(200)),
        judge(probe(id="B02"), "figure-2", "403 R", refused()),
        skipped(probe(id="B03", measured=True), "figure-2", "no"),
    ]
    assert baselines.measured(every, {"B01", "B03"}) == {"B01": {"figure-2": "200 app"}}


def test_a_baseline_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "b.yml").write_text("t: {B01: 403 R}\n")
    with pytest.raises(ParamsError, match="b.yml"):
        baselines.read(tmp_path / "b.yml")


def test_the_projects_own_baselines_can_be_read():
    assert isinstance(baselines.read(), dict)


def test_a_refusal_of_head_is_told_by_the_access_log():
    bare = Reply(403, "HTTP/1.1 403 Forbidden", {"content-length": "19"})
    assert bare.answer == "403 bare"
    told = judge(probe(method="HEAD"), "figure-2", bare.answer, bare, [DENIED])
    assert (told.verdict, told.got, told.hop) == ("pass", "403 R", "sidecar")
    of_the_application = judge(
        probe(method="HEAD"), "figure-2", bare.answer, bare, [trail(hop("gateway"), hop("sidecar"))]
    )
    assert (of_the_application.verdict, of_the_application.got) == ("fail", "403 app")


def test_without_a_log_the_status_of_a_bare_refusal_counts():
    assert judge(probe(), "figure-2", "403 bare").verdict == "pass"
    assert judge(probe(), "figure-2", "401 bare").verdict == "fail"


def test_results_are_read_from_a_bundles_responses_too(tmp_path):
    columns = seal.TABLES["responses.csv"][1].split()
    one = judge(probe(), "figure-2", "403 R", refused(), [DENIED], tries=2)
    row = {**vars(one), "probe": one.id, "figure": one.profile}
    with (tmp_path / "responses.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["step", "at", *columns], extrasaction="ignore")
        table.writeheader()
        table.writerows([{"figure": "figure-2", "caller": "user", "got": "403"}, row])
    assert results.read(tmp_path / "responses.csv") == [one]
