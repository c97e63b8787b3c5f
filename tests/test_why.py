"""Each way to break it, made on the sandbox: `why` names the cause, and docs/why.md tells what was seen.

The rows of that page are written to outputs/why.md as they were seen.
"""

from __future__ import annotations

import re

import nbformat
import pytest
from runbook import ROOT, python

from lib import mesh, params
from lib.record import Record
from lib.run import Run
from lib.why.breaks import BREAKS
from lib.why.labs import HOST, NAKED, URL, lab

pytestmark = pytest.mark.sandbox
PAGE = ROOT / "docs" / "why.md"
ROW = re.compile(r"^\| (?P<name>[^|]+) \| (?P<answer>[^|]+) \| `(?P<cause>[^`]+)` \|", re.MULTILINE)


@pytest.fixture(scope="module")
def here(first):
    with lab(Run("why", params.load("dev"), Record())) as made:
        yield made


@pytest.fixture(scope="module")
def rows():
    found: list[str] = []
    yield found
    (ROOT / "outputs" / "why.md").write_text("\n".join(found) + "\n")


@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name.replace(" ", "-"))
def test_why_names_the_cause_of_what_was_broken(here, rows, one):
    with one.made(here):
        found = one.why(here)
        print(found)
    rows.append(f"| {one.name} | {answered(found)} | `{found.cause}` | {plain(here, found.why)} |")
    assert found.cause == one.cause
    assert here.good not in str(found)
    assert {row["name"]: row["answer"] for row in ROW.finditer(PAGE.read_text())}[one.name] == answered(found)


def answered(found) -> str:
    """Return the answer of a diagnosis as the page has it: status and words, or why there was none."""
    said = found.refused
    if said.startswith("no answer"):
        return said.partition(",")[0]
    return re.search(r": (\d{3}.*)", said)[1].partition(". ")[0]


def plain(here, text: str) -> str:
    """Return a text with names for what is another with each run."""
    known = {mesh.keycloak_url(here.run): "http://keycloak", mesh.ingress_url(here.run): "http://gateway"}
    for one, name in known.items():
        text = text.replace(one, name).replace(one.removeprefix("http://"), name.removeprefix("http://"))
    text = re.sub(r"\b[\w-]{43}\b", "<kid>", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<sub>", text))
    return re.sub(r"\d+ s\b", "… s", re.sub(r"\d+\.\d+\.\d+\.\d+(:\d+)?", "<ip>", text))


LABS = sorted((ROOT / "notebooks" / "labs").glob("*.ipynb"))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_runs_and_each_of_its_breaks_is_named(first, path, tmp_path):
    copy = tmp_path / path.name
    done = python("-m", "papermill", str(path), str(copy), "--no-progress-bar", limit=600)
    assert done.returncode == 0
    cells = [cell for cell in nbformat.read(copy, 4).cells if cell.cell_type == "code"]
    asked = [re.search(r'break_it\("(.+)"\)', cell.source)[1] for cell in cells if "break_it(" in cell.source]
    told = ["".join(output.text for output in cell.outputs) for cell in cells if cell.source == "bench.why()"]
    causes = {row["name"]: row["cause"] for row in ROW.finditer(PAGE.read_text())}
    assert len(asked) == len(told) >= 5 and all(name in causes for name in asked)
    assert all("\nwhy: " in text and "\nchange: " in text for text in told)


def test_the_command_says_the_same(here, tmp_path):
    token = tmp_path / "token"
    token.write_text(mesh.user_token(here.run, client_id="no-audience"))
    words = ["-m", "lib", "why", "--env", "dev", here.url, "--host", HOST]
    done = python(*words, "--token-file", str(token))
    assert done.returncode == 0 and "why: the token is for nobody (it has no aud)" in done.stdout
    assert token.read_text() not in done.stdout + done.stderr
    plain = python("-m", "lib", "why", "--env", "dev", URL, "--from", NAKED)
    assert "no sidecar: plain text" in plain.stdout
    missing = python("-m", "lib", "why", "--env", "dev", URL, "--from", "nobody")
    assert missing.returncode == 2 and "expected a running pod app=nobody" in missing.stderr
