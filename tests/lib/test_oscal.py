"""Assessment results are OSCAL's own model, the same bytes each time, and say of each control what its checks said."""

import json

import pytest
from test_bundle import sealed
from trestle.oscal.assessment_results import Model

from lib import oscal
from lib.params import ROOT
from lib.probes import model
from lib.series import numbered

RUN = {
    "run": "20260131T120000Z-aaaaaaaa", "env": "dev", "started": "2026-01-31T12:00:00.000Z", "commit": "a" * 40,
    "finished": "2026-01-31T12:01:00.000Z", "dirty": False, "verdict": "fail", "totals": {"passed": 1, "checks": 2},
}  # fmt: skip
AT = "2026-01-31T12:00:30.000Z"


def check(step, verdict, name="mutual TLS", reason=""):
    return dict(step=step, at=AT, name=name, expected=200, actual=200, verdict=verdict, reason=reason)


def probe(id, verdict, note=""):
    asked = dict(figure="figure-2", probe=id, title="a <token>", caller="user", request="GET /")
    about = {"step": "12-figure-1", "at": AT, **asked}
    return {**about, "expected": "401 J15", "got": "401 J15", "verdict": verdict, "note": note, "reason": ""}


def told(checks, responses=()):
    text = oscal.document(RUN, {"checks.csv": checks, "responses.csv": list(responses)})
    (result,) = json.loads(text)["assessment-results"]["results"]
    states = {one["target"]["target-id"]: one["target"]["status"]["state"] for one in result.get("findings", [])}
    return text, result, states


def same(model_text, text):
    """Whether nothing was lost or added on the way through OSCAL's model, times apart, which it writes otherwise."""
    times = {"start", "end", "collected", "last-modified"}
    plain = lambda one: (  # noqa: E731
        {key: plain(value) for key, value in one.items() if key not in times}
        if isinstance(one, dict)
        else [plain(value) for value in one] if isinstance(one, list) else one
    )
    return plain(json.loads(model_text)) == plain(json.loads(text))


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_bundles_file_is_valid_to_oscals_own_model_and_loses_nothing(tmp_path, verdict):
    folder, _ = sealed(tmp_path, verdict)
    text = (folder / oscal.FILE).read_text()
    assert same(Model.model_validate_json(text).model_dump_json(by_alias=True, exclude_none=True), text)


def test_findings_and_all_are_valid_and_the_same_bytes_each_time():
    rows = [check("08-mesh-mtls", "pass"), check("09-client-mtls", "fail"), check("10-end-user-policy", "error")]
    text, result, _ = told(rows, [probe("C01", "waived", "waived by alice until 2026-12-31: why")])
    assert same(Model.model_validate_json(text).model_dump_json(by_alias=True, exclude_none=True), text)
    assert told(rows, [probe("C01", "waived", "waived by alice until 2026-12-31: why")])[0] == text
    uuids = [one["uuid"] for kind in ("observations", "findings") for one in result[kind]]
    assert len(uuids) == len(set(uuids))
    related = {one["observation-uuid"] for found in result["findings"] for one in found["related-observations"]}
    assert related <= {one["uuid"] for one in result["observations"]}


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        (["pass", "pass"], "satisfied"),
        (["pass", "skipped"], "satisfied"),
        (["pass", "fail"], "not-satisfied"),
        (["pass", "waived"], "not-satisfied"),
        (["fail", "error"], "not-satisfied"),
        (["pass", "error"], None),
        (["skipped"], None),
        (["error"], None),
    ],
)
def test_a_control_is_what_its_checks_are(verdicts, state):
    _, result, states = told([check("08-mesh-mtls", verdict) for verdict in verdicts])
    assert (states.get("sc-8_obj"), states.get("ia-9_obj")) == (state, state) and "ac-3_obj" not in states
    controls = result["reviewed-controls"]["control-selections"][0]["include-controls"]
    assert [one["control-id"] for one in controls] == ["ia-9", "sc-8"]


def test_a_waived_failure_keeps_its_owner_and_its_day():
    _, result, _ = told([], [probe("C01", "waived", "waived by alice until 2026-12-31: why")])
    (finding,) = result["findings"]
    assert "alice until 2026-12-31" in finding["remarks"]
    assert any("figure-2: C01 a <token>" in one["title"] for one in result["observations"])


def test_the_mapping_names_what_there_is_and_leaves_no_family_out():
    families, steps = {one.family for one in model.load()}, {path.stem[:2] for path in numbered(ROOT / "notebooks")}
    mapping = oscal.controls().values()
    assert {one for control in mapping for one in control.get("families", ())} == families
    assert {one for control in mapping for one in control.get("steps", ())} <= steps
    assert all(control["why"] and control["title"] for control in mapping)
    wanted = {"ia-2", "ia-8", "ia-9", "sc-8", "sc-13", "sc-23", "ac-3", "ac-4", "au-10"}
    assert set(oscal.controls()) == wanted
