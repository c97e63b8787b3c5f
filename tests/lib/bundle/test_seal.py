"""A bundle is sealed as a whole, and every change after that is found and named."""

import base64
import csv
import hashlib
import json
import re
import subprocess
import xml.etree.ElementTree as ET

import nbformat
import pytest

from lib.bundle import derived, seal
from lib.diagnose import bypasses
from lib.record.check import Check
from lib.record.events import Record
from tests.support.sealed_bundle import ABOUT, AT, NOW, answer, edit, sealed, step
from tests.support.tiny import KEY, TOKEN, problems, write_notebook


def test_the_name_has_time_and_commit_and_is_never_used_twice(tmp_path):
    names = [seal.create("tiny", "abcdef0123456789", NOW, tmp_path).name for _ in range(3)]
    assert names == [f"20260131T120000Z-abcdef01{suffix}" for suffix in ("", "-2", "-3")]
    assert seal.create("tiny", "", NOW, tmp_path).name == "20260131T120000Z-uncommitted"


def test_run_json_counts_and_keeps_the_facts(tmp_path):
    folder, run = sealed(tmp_path)
    assert run == json.loads((folder / "run.json").read_text())
    assert (run["verdict"], run["exit_code"]) == ("pass", 0)
    assert run["totals"] == {
        "checks": 3, "passed": 3, "failed": 0, "errors": 0, "skipped": 0, "waived": 0,
        "created": 1, "changed": 0, "unchanged": 1, "deleted": 0,
    }  # fmt: skip
    assert run["versions"] == {"runner": {"python": "3"}, "cluster": {"istiod": "1.31"}}
    assert run["cluster"] == {"cluster_arn": "arn:aws:eks:r:0:cluster/c"}
    assert (run["real"], run["emulated"]) == (["Kubernetes", "Envoy"], ["EKS"])


def test_tables_hold_the_events(tmp_path):
    folder, _ = sealed(tmp_path)
    rows = {path.name: list(csv.DictReader(path.open())) for path in folder.glob("*.csv")}
    assert {name: len(found) for name, found in rows.items()} == {
        "checks.csv": 1, "responses.csv": 2, "tokens.csv": 1, "changes.csv": 2,
    }  # fmt: skip
    assert rows["responses.csv"][0]["reason"] == "RBAC: <denied>" and rows["checks.csv"][0]["step"] == "01-a"


def test_sha256sum_agrees_and_so_does_verify(tmp_path):
    folder, _ = sealed(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert problems(folder) == []


def test_the_page_lists_the_ways_around_the_policies_and_who_tried_them(tmp_path):
    folder = seal.create("tiny", "a" * 40, NOW, tmp_path)
    record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
    write_notebook(folder / "notebooks" / "01-a.ipynb", "1")
    ways = {"no sidecar": {"foo/<web>": "no proxy"}}
    record.write("fact", key="standing", value={"parts": {}, "may": {}, "bypasses": ways})
    record.write("response", **answer("hardened", 403, 403), probe="G15a", title="a copy without a sidecar")
    seal.seal(folder, {**ABOUT, "steps": [step("01-a")]}, KEY)
    assert problems(folder) == []
    page = (folder / "index.html").read_text()
    table = re.search(r'<section id="bypasses">.*?</section>', page, re.S)[0]
    rows = [re.sub(r"<.*?>|\s+", " ", row) for row in re.findall(r"<tr>.*?</tr>", table, re.S)][1:]
    assert "foo/&lt;web&gt;" in rows[0] and "no proxy" in rows[0] and "G15a" in rows[0] and "G01a" not in rows[0]
    assert len(rows) == len(bypasses.KINDS) and all("none" in row and "not tried" in row for row in rows[1:])
    assert "not tried" not in rows[0]
    folder, _ = sealed(tmp_path)
    assert 'id="bypasses"' not in (folder / "index.html").read_text()


def test_a_red_run_is_sealed_alike(tmp_path):
    folder, run = sealed(tmp_path, "fail")
    assert (run["verdict"], run["exit_code"], run["totals"]["passed"]) == ("fail", 1, 2)
    assert problems(folder) == []
    assert "Failed in 01-a: it did not hold. 1 of 2 steps ran" in (folder / "index.html").read_text()


def test_page_needs_nothing_and_escapes(tmp_path):
    text = (sealed(tmp_path)[0] / "index.html").read_text()
    assert "http" not in text.replace("http-equiv", "")
    script = re.search("<script>(.*)</script>", text, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert text.count("<script") == 1 and f"script-src 'sha256-{allowed}'\"" in text
    assert "RBAC: &lt;denied&gt;" in text and "Figure 1" in text and "prefers-color-scheme" in text


def test_outputs_are_redacted_before_they_are_hashed(tmp_path):
    folder = seal.create("tiny", "", NOW, tmp_path)
    path = folder / "notebooks" / "01-a.ipynb"
    write_notebook(path, "1")
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("stream", text="hunter2hunter2\n"),
        nbformat.v4.new_output("display_data", {"text/html": f"<b>{TOKEN}</b>", "application/json": {"a": TOKEN}}),
        nbformat.v4.new_output("error", ename="E", evalue="hunter2hunter2", traceback=["x hunter2hunter2"]),
    ]
    nbformat.write(notebook, path)
    (folder / "html" / "01-a.html").write_text(f"<p>hunter2hunter2 {TOKEN}</p>")
    run = {**ABOUT, "steps": [step("01-a", "error", "the password is hunter2hunter2.")]}
    seal.seal(folder, run, KEY, {"hunter2hunter2"})
    texts = [found.read_text() for found in folder.rglob("*") if found.is_file()]
    assert not any("hunter2" in text or "eyJ" in text for text in texts)
    assert problems(folder) == [] and nbformat.validate(nbformat.read(path, 4)) is None


def test_a_step_keeps_its_name_if_a_secret_is_that_word(tmp_path):
    folder, run = sealed(tmp_path, secrets={"httpbin", "01-a 02-b", "01-a"})
    assert [row["step"] for row in run["steps"]] == ["01-a", "02-b"] and problems(folder) == []
    assert "httpbin" not in (folder / "changes.csv").read_text()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (
            edit("notebooks/01-a.ipynb", "Title", "Titel"),
            "notebooks/01-a.ipynb was changed after the bundle was sealed",
        ),
        (edit("checks.csv", "ready", "steady"), "checks.csv was changed after the bundle was sealed"),
        (lambda folder: (folder / "more.txt").write_text("x"), "more.txt was added after"),
        (lambda folder: (folder / "link").symlink_to("run.json"), "link was added after"),
        (lambda folder: (folder / "tokens.csv").unlink(), "tokens.csv is missing."),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "its SHA256SUMS was removed, so the bundle is incomplete"),
        (lambda folder: (folder / "run.json").write_text("{"), "run.json is not readable"),
        (edit("events/01-a.jsonl", "ready", TOKEN), "events/01-a.jsonl contains a secret: a token"),
    ],
)
def test_a_change_is_named(tmp_path, act, words):
    folder, _ = sealed(tmp_path)
    act(folder)
    assert any(words in problem for problem in problems(folder)), problems(folder)


def seal_with_probe(tmp_path, **more):
    """Return a sealed folder whose step recorded one probe under one profile."""
    folder = seal.create("tiny", "a" * 40, NOW, tmp_path)
    record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
    row = dict(answer("figure-2", "401 J15", "401 J15"), probe="D02", title="an expired <token>", verdict="pass")
    record.write("response", **{**row, "note": "", "hop": "sidecar", **more})
    return folder, seal.seal(folder, {**ABOUT, "steps": [step("01-a")]}, KEY)


def test_the_page_has_the_heat_map_of_the_probes(tmp_path):
    folder, _ = seal_with_probe(tmp_path)
    text = (folder / "index.html").read_text()
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="heat-map" role="img"' in text
    assert "D02 an expired &lt;token&gt;, from sleep, figure-2: 401 J15" in text


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        ("pass", "✓ passed"),
        ("fail", "✗ failed"),
        ("error", "! error"),
        ("skipped", "– skipped"),
        ("waived", "~ waived"),
    ],
)
def test_the_page_has_a_word_for_each_verdict_of_a_check(tmp_path, verdict, shown):
    folder = seal.create("tiny", "a" * 40, NOW, tmp_path)
    record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
    for name, one in (("first", "pass"), ("second", verdict)):
        record.write("check", **Check(name, "1", "1", one).row())
    seal.seal(folder, {**ABOUT, "steps": [step("01-a")]}, KEY)
    text = (folder / "index.html").read_text().partition('id="checks-table"')[2]
    assert shown in text and text.count("✓ passed") == 1 + (verdict == "pass")
    first = text.index('<th scope="row">first</th>') < text.index('<th scope="row">second</th>')
    assert first == (verdict in ("pass", "skipped"))


@pytest.mark.parametrize(
    ("verdict", "passed", "child"), [("pass", True, None), ("fail", False, "failure"), ("skipped", None, "skipped")]
)
def test_junit_has_a_case_for_each_check_and_response(tmp_path, verdict, passed, child):
    folder, _ = seal_with_probe(tmp_path, verdict=verdict, passed=passed, note="why")
    (suite,) = ET.fromstring((folder / "junit.xml").read_text())
    (case,) = suite
    assert (suite.get("name"), case.get("name")) == ("01-a", "D02 an expired <token>")
    assert [one.tag for one in case] == [child] * bool(child)
    checks = sealed(tmp_path, "fail")[0] / "junit.xml"
    assert [case.get("name") for case in ET.parse(checks).iter("testcase")] == ["ready", *["/ip, sleep, none"] * 2]
    assert [one.get("message") for one in ET.parse(checks).iter("failure")] == ["expected 403, got 200"]


def test_the_last_fact_counts_whichever_step_recorded_it():
    def fact(second, **value):
        return {"at": f"2026-01-31T12:00:0{second}.000Z", "event": "fact", "key": "standing", "value": value}

    events = {"01-a": [fact(1, parts=1), fact(3, parts=2)], "02-b": [fact(2, parts=1)]}
    run = {**ABOUT, "steps": [step("01-a"), step("02-b")]}
    assert derived.complete(run, events)["standing"] == {"parts": 2}
