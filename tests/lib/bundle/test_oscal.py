"""A run as OSCAL assessment results: valid by trestle's model, the same bytes each time, and honest when red."""

import ast
import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from trestle.oscal import OSCAL_VERSION
from trestle.oscal.assessment_plan import AssessmentPlan
from trestle.oscal.assessment_results import AssessmentResults
from trestle.oscal.component import ComponentDefinition

from lib.bundle import controls, oscal, seal
from lib.params import ROOT
from lib.probes import model
from lib.steps import cases
from tests.support.sealed_bundle import sealed

RUN = {
    "user": "alice", "host": "box", "env": "tiny", "commit": "a" * 40, "dirty": False, "verdict": "pass",
    "started": "2026-01-31T12:00:00.000Z", "finished": "2026-01-31T12:00:10.000Z",
    "versions": {"cluster": {"istiod": "1.31", "pods": {"a": [1]}, "": ""}},
    "steps": [{"step": "10-end-user-policy", "verdict": "pass"}, {"step": "12-figure-1", "verdict": "not run"}],
}  # fmt: skip
MODELS = {
    "assessment-plan.json": AssessmentPlan,
    "component-definition.json": ComponentDefinition,
    "assessment-results.json": AssessmentResults,
}
INDICATORS = {  # a second copy of the mapping: a change of one must be a change of both
    "ia-2": "IAM-APM IAM-ELP",
    "ia-8": "IAM-APM",
    "ia-9": "",
    "sc-8": "CNA-MAT CNA-ULN SVC-SIN",
    "sc-13": "SVC-SIN SVC-VRI",
    "sc-23": "IAM-APM IAM-ELP IAM-JIT SVC-SIN SVC-VCM SVC-VRI",
    "ac-3": "IAM-APM IAM-ELP IAM-JIT",
    "ac-4": "IAM-ELP IAM-JIT IAM-SNU",
    "au-10": "",
}
WAIVER = "waived by dora until 2026-03-01: the chart is mended in March"
AT = "2026-01-31T12:00:05.000Z"


def check(step, name, verdict="pass", reason=""):
    held = {"pass": True, "skipped": None}.get(verdict, False)
    more = {"verdict": verdict, "passed": held, "seconds": 0.1, "tries": 1, "reason": reason}
    return {"step": step, "at": AT, "name": name, "expected": "1", "actual": "1" if held else "0", **more}


def probe(number, verdict="pass", note="", finding=""):
    asked = {"figure": "figure-2", "request": "GET /", "caller": "user", "token": "x", "probe": number, "title": "it"}
    more = {"verdict": verdict, "passed": verdict == "pass", "note": note, "finding": finding, "closed_by": "a cure"}
    return {"step": "11-testing", "at": AT, **asked, "expected": "401", "got": "401", "reason": "", **more}


def case(caller, token, verdict="pass", figure="figure-1"):
    row = {**probe("", verdict), "request": "GET /headers", "figure": figure, "caller": caller, "token": token}
    return {**row, "title": ""}


def everything(verdict="pass"):
    """Return tables with a row for each line of evidence of each control."""
    lines = [line for control in controls.load() for line in control.evidence]
    words = [(step, word) for line in lines for step in line.steps for word in line.words or ["any"]]
    checks = [check(f"{step}-x", word, verdict) for step, word in dict.fromkeys(words)]
    probes = [probe(number, verdict) for number in dict.fromkeys(one for line in lines for one in line.probes)]
    figures = [case(*one, verdict) for one in {"user": "other realm", "sleep": "none", "visitor": "valid"}.items()]
    figures += [case("outsider", token, verdict) for token in cases.TOKENS]
    return {"checks.csv": checks, "responses.csv": probes + figures}


def made(tables, run=RUN):
    """Return the result, after trestle's models have read the three documents and lost nothing of them."""
    texts = oscal.documents(run, tables)
    defined: set[str] = set()
    for name, read in MODELS.items():
        given = json.loads(texts[name])
        ((_, content),) = given.items()
        kept = json.loads(read(**content).oscal_serialize_json())
        assert comparable(kept) == comparable(given)
        numbers = re.findall(r'"uuid": "(.*?)"', texts[name])
        assert len(numbers) == len(set(numbers))
        defined |= set(numbers)
        # Each number that a document names is in that document or in the documents before it.
        assert set(re.findall(r'(?:-uuid": "|#)([0-9a-f]{8}-[0-9a-f-]{27})', texts[name])) <= defined
    (result,) = given["assessment-results"]["results"]
    return result


def document(run, tables):
    """Return the assessment results as text."""
    return oscal.documents(run, tables)["assessment-results.json"]


def comparable(value):
    """The model writes the same instants with another sign for UTC."""
    if isinstance(value, dict):
        return {key: comparable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\S+", value):
        return datetime.fromisoformat(value)
    return value


def states(result):
    return {one["target"]["target-id"][:-4]: one["target"]["status"]["state"] for one in result.get("findings", [])}


def finding(result, control):
    return next(one for one in result["findings"] if one["target"]["target-id"] == f"{control}_smt")


def test_a_green_run_satisfies_every_control():
    result = made(everything())
    assert states(result) == {control.id: "satisfied" for control in controls.load()}
    assert {one["target"]["status"]["reason"] for one in result["findings"]} == {"pass"} and "risks" not in result
    lines = [line for control in controls.load() for line in control.evidence]
    assert len(result["observations"]) == len(lines)
    chosen = result["reviewed-controls"]["control-selections"][0]["include-controls"]
    assert {one["control-id"] for one in chosen} == states(result).keys()


def test_what_failed_is_not_satisfied_and_named():
    tables = everything()
    tables["responses.csv"].append(probe("G04a", "fail", "let through"))
    result = made(tables, {**RUN, "verdict": "fail"})
    assert "12-figure-1 (not run)" in result["description"]
    red = {name for name, state in states(result).items() if state == "not-satisfied"}
    assert red == {"ia-9", "sc-13"}
    (single,) = [one for one in result["observations"] if one["types"] == ["finding"]]
    assert single["title"] == "fail: 11-testing, figure-2: G04a it" and "let through" in single["description"]
    told = finding(result, "sc-13")
    assert {"observation-uuid": single["uuid"]} in told["related-observations"]
    assert told["target"]["status"]["reason"] == "fail"


@pytest.mark.parametrize("verdict", ["error", "skipped"])
def test_errors_and_skipped_checks_make_no_finding(verdict):
    result = made(everything(verdict))
    assert states(result) == {}
    assert {one["title"].split(":")[0] for one in result["observations"]} >= {verdict, "IA-2", "AU-10"}


def test_a_skipped_check_beside_what_passed_is_told_in_the_finding():
    tables = everything()
    tables["responses.csv"].append(probe("C01", "skipped", "no key"))
    status = finding(made(tables), "sc-13")["target"]["status"]
    assert status == {"state": "satisfied", "reason": "other", "remarks": "Not judged: 1 skipped."}


def test_an_error_beside_what_passed_leaves_the_control_open():
    tables = everything()
    tables["responses.csv"].append(probe("C01", "error", "no answer"))
    assert states(made(tables)).keys() == {control.id for control in controls.load()} - {"sc-13"}
    tables["responses.csv"].append(probe("C02", "fail", "let through"))
    assert states(made(tables))["sc-13"] == "not-satisfied"


def test_a_line_of_evidence_of_which_nothing_passed_leaves_its_control_open():
    tables = everything()
    tables["responses.csv"] = [row for row in tables["responses.csv"] if not row["probe"].startswith("C")]
    assert states(made(tables)).keys() == {control.id for control in controls.load()} - {"sc-13"}


def test_a_waiver_is_a_risk_of_its_owner_until_its_day():
    tables = everything()
    tables["checks.csv"].append(check("08-mesh-mtls", "plain text is refused", "waived", WAIVER))
    result = made(tables)
    (risk,) = result["risks"]
    assert (risk["status"], risk["deadline"]) == ("deviation-approved", "2026-03-01T23:59:59Z")
    assert risk["description"] == "the chart is mended in March"
    assert [one["value"] for one in risk["props"]] == ["dora", "2026-03-01"]
    told = finding(result, "sc-8")
    assert told["target"]["status"]["state"] == "not-satisfied"
    assert "dora until 2026-03-01" in told["target"]["status"]["remarks"]
    assert told["related-risks"] == [{"risk-uuid": risk["uuid"]}]


def test_what_one_would_not_wish_is_an_open_risk_with_its_cure():
    tables = everything()
    tables["responses.csv"] += [probe("D01", finding="it lives on"), probe("D01", "fail", finding="another")]
    (risk,) = made(tables)["risks"]
    assert (risk["description"], risk["status"], risk["title"]) == ("it lives on", "open", "Known: D01")
    assert risk["remediations"][0]["description"] == "a cure"


def test_the_same_run_is_the_same_bytes_and_another_is_not():
    one = document(RUN, everything())
    assert one == document(dict(RUN), everything())
    assert one == json.dumps(json.loads(one), indent=1, ensure_ascii=False) + "\n"
    other = document({**RUN, "started": "2026-01-31T12:00:01.000Z"}, everything())
    assert not set(re.findall(r'"uuid": "(.*?)"', one)) & set(re.findall(r'"uuid": "(.*?)"', other))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5.*", json.loads(one)["assessment-results"]["uuid"])


def test_the_plan_is_the_notebooks_that_ran():
    texts = oscal.documents(RUN, everything())
    content = json.loads(texts["assessment-results.json"])["assessment-results"]
    planned = json.loads(texts[content["import-ap"]["href"]])["assessment-plan"]
    plan = next(one for one in planned["back-matter"]["resources"] if "notebooks" in one["title"])
    assert plan["rlinks"] == [{"href": "notebooks/10-end-user-policy.ipynb"}] and "a" * 40 in plan["description"]
    assert content["metadata"]["oscal-version"] == OSCAL_VERSION


def test_the_three_documents_name_each_other():
    tables, texts = everything(), oscal.documents(RUN, everything())
    plan = json.loads(texts["assessment-plan.json"])["assessment-plan"]
    (component,) = json.loads(texts["component-definition.json"])["component-definition"]["components"]
    assert plan["local-definitions"]["components"][0]["uuid"] == component["uuid"]
    system = next(one for one in plan["back-matter"]["resources"] if plan["import-ssp"]["href"] == f"#{one['uuid']}")
    assert system["rlinks"] == [{"href": "component-definition.json"}]
    (implementation,) = component["control-implementations"]
    required = {one["control-id"]: one for one in implementation["implemented-requirements"]}
    tasks = {f"assessment-plan.json#{one['uuid']}": one for one in plan["tasks"]}
    activities = {one["uuid"]: one for one in plan["local-definitions"]["activities"]}
    for control in controls.load():
        task = tasks.pop(required[control.id]["links"][0]["href"])
        done = [activities.pop(one["activity-uuid"])["title"] for one in task["associated-activities"]]
        assert done == [f"{control.name}: {line.what}" for line in control.evidence]
        link = finding(made(tables), control.id)["links"][0]["href"]
        assert link == f"component-definition.json#{required[control.id]['uuid']}"
    assert not tasks and not activities


def test_a_control_names_the_indicators_of_fedramp_that_list_it():
    tables = everything()
    (component,) = json.loads(oscal.documents(RUN, tables)["component-definition.json"])["component-definition"][
        "components"
    ]
    required = component["control-implementations"][0]["implemented-requirements"]
    named = {one["control-id"]: [prop["value"] for prop in one.get("props", [])] for one in required}
    assert named == {control: [f"KSI-{name}" for name in names.split()] for control, names in INDICATORS.items()}
    told = {
        one.id: [prop["value"] for prop in finding(made(tables), one.id).get("props", [])] for one in controls.load()
    }
    assert told == named
    assert {one["value"] for one in component["props"]} == {"istiod 1.31", "pods {'a': [1]}"}


def test_trestle_validates_the_three_together(tmp_path, monkeypatch, capsys):
    from trestle.cli import Trestle  # takes a second, which no other test needs

    folder, _ = sealed(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert Trestle().run(["init", "--local"]) == 0
    for name in MODELS:
        place = tmp_path / {"component-definition.json": "component-definitions"}.get(name, name[:-5].rstrip("s") + "s")
        (place / "run").mkdir(parents=True)
        shutil.copy(folder / name, place / "run" / name)
    assert Trestle().run(["validate", "--all"]) == 0
    assert capsys.readouterr().out.count("VALID: Model") == 3


def test_a_run_broken_as_a_whole_stays_readable():
    tables = {"checks.csv": [], "responses.csv": [probe(one.id, "error", "x" * 120) for one in model.load()] * 4}
    assert len(tables["responses.csv"]) > 1700
    assert "more rows did not pass" in made(tables)["remarks"]
    assert len(document(RUN, tables)) < 1_000_000


def test_a_bundle_has_it_and_its_tables_say_the_same(tmp_path):
    folder, run = sealed(tmp_path, "fail")
    text = (folder / "assessment-results.json").read_text()
    assert all(read.oscal_read(folder / name) for name, read in MODELS.items())
    tables = {name: seal.read_rows(folder, name) for name in seal.TABLES}
    assert document(run, tables) == text
    assert "assessment-results.json" in (folder / "SHA256SUMS").read_text()


# The mapping against what the notebooks and tables have


def checks_of(notebook: Path) -> list[str]:
    """Return the names of the checks that a notebook makes, itself or by a module of lib that checks for it."""
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    modules = {name.split(".")[0] for name in called if ".check" in name and not name.startswith("run.")}
    files = {
        name.asname or name.name: path if path.is_file() else path.parent.with_suffix(".py")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        for path in [ROOT.joinpath(*node.module.split("."), f"{name.name}.py")]
    }
    for node in ast.walk(tree):  # person = Person(run)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in files:
            files |= {ast.unparse(target): files[ast.unparse(node.value.func)] for target in node.targets}
    trees = [tree, *(ast.parse(files[name].read_text()) for name in sorted(modules))]
    return [name for one in trees for node in ast.walk(one) if isinstance(node, ast.Call) for name in names_of(node)]


def names_of(call: ast.Call) -> list[str]:
    """Return the names of the checks that run.check… or callers.check_… makes, with {} for what is filled in."""
    function = ast.unparse(call.func)
    if function == "callers.check_statuses":
        return [filled(row.elts[0]) for row in call.args[1:]]
    if not re.fullmatch(r"(self\.)?run\.check(_until|_ready)?|callers\.check_(status|reason|peer)", function):
        return []
    return [filled(call.args[function.startswith("callers.")])]


def filled(name: ast.expr) -> str:
    """Return the text of a string or f-string, with {} for each value."""
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)


NAMES = {path.stem: checks_of(path) for path in sorted((ROOT / "notebooks").glob("[01]*.ipynb"))}
EVIDENCE = [(control, line) for control in controls.load() for line in control.evidence]


def test_every_word_of_the_mapping_is_in_the_name_of_a_check():
    for control, line in EVIDENCE:
        names = [name for step, found in NAMES.items() if step[:2] in line.steps for name in found]
        assert all(any(step.startswith(number) for step in NAMES) for number in line.steps), control.id
        missing = [word for word in line.words if not any(word in name for name in names)]
        assert not missing, (control.id, line.what)
        assert names or not line.steps, (control.id, line.what)


def test_every_probe_of_the_mapping_is_there_and_every_probe_is_mapped():
    ids = [one.id for one in model.load()]
    begins = {begin for _, line in EVIDENCE for begin in line.probes}
    assert not [begin for begin in begins if not any(number.startswith(begin) for number in ids)]
    assert not [number for number in ids if not number.startswith(tuple(begins))]
    assert {number[0] for number in ids} == set("ABCDEFGH")


def test_every_case_of_the_mapping_is_one_of_the_figures():
    asked = [case(one.caller, one.token, figure=name) for name in ("figure-1", "figure-2") for one in figure(name)]
    lines = [(control, line) for control, line in EVIDENCE if line.figures or line.callers or line.tokens]
    for control, line in lines:
        for value in [*line.figures, *line.callers, *line.tokens]:
            covered = [row for row in asked if line.covers(row)]
            assert any(value in row.values() for row in covered), (control.id, value)


def figure(name):
    return {"figure-1": cases.FIGURE_1, "figure-2": cases.FIGURE_2}[name]


def test_each_line_of_the_mapping_means_something_and_each_control_has_its_reason():
    assert [control.id for control, _ in EVIDENCE if not control.why.endswith(".")] == []
    assert {control.name for control in controls.load()} == set(
        ["IA-2", "IA-8", "IA-9", "SC-8", "SC-13", "SC-23", "AC-3", "AC-4", "AU-10"]
    )
    assert all(line.steps or line.probes or line.figures or line.callers or line.tokens for _, line in EVIDENCE)
