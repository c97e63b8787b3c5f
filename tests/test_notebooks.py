"""The laws of the notebooks: prose over lib, literal parameters, one place in the series, known manifests."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

from lib import params
from lib.steps import cases

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str = "code") -> list[dict]:
    found = json.loads(path.read_text())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"] == kind]


def imported(text: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return names


def by_name(path: Path) -> str:
    return path.name


def test_the_series_is_numbered_and_two_notebooks_stand_apart():
    assert [path.name[:2] for path in NOTEBOOKS] == [*(f"{step:02}" for step in range(16)), "90", "99"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_is_prose_over_lib(path):
    code = cells(path)
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]
    text = "\n".join(cell["source"] for cell in code)
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
    banned = (ast.FunctionDef, ast.ClassDef, ast.Try, ast.While)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, banned)]
    assert not re.search(r"^\s*[!%]|sleep\(|subprocess", text, re.M)
    assert not [name for name in imported(text) if name.split(".")[0] == "sandbox"]
    assert code[-1]["source"] == "run.finish()"
    assert f'Run.open("{path.stem}", globals())' in code[1]["source"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_has_one_cell_of_literal_parameters(path):
    tagged = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for node in ast.parse(tagged[0]["source"]).body:
        assert isinstance(node, ast.Assign) and node.targets[0].id in params.Params.model_fields
        ast.literal_eval(node.value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_what_a_notebook_takes_from_lib_exists(path):
    tree = ast.parse("\n".join(cell["source"] for cell in cells(path)))
    modules = {}
    for node in [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("lib")]:
        for name in node.names:
            modules[name.asname or name.name] = taken(node.module, name.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)


def taken(module: str, name: str):
    """Return what `from module import name` would."""
    there = importlib.import_module(module)
    return getattr(there, name) if hasattr(there, name) else importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_leads_to_its_neighbours(path):
    text = cells(path, "markdown")
    assert len(re.findall(r"^# ", text[0]["source"], re.M)) == 1
    place = NOTEBOOKS.index(path)
    near = [*NOTEBOOKS[max(place - 1, 0) : place], *NOTEBOOKS[place + 1 : place + 2]]
    for other in [*near, NOTEBOOKS[0]]:
        assert f"({other.name})" in text[-1]["source"]


@pytest.mark.parametrize("path", NOTEBOOKS[1:-2], ids=by_name)
def test_a_step_tells_where_we_are_the_articles_words_the_new_one_and_what_went_wrong(path):
    told, code = cells(path, "markdown"), cells(path)
    whole = "\n".join(cell["source"] for cell in told)
    assert code[2]["source"].endswith("overview.show(run)")
    assert re.search(r"^> \*", told[0]["source"], re.M) and "../docs/glossary.md" in told[0]["source"]
    new = re.search(r"New here: \*\*(.+?)\*\*", told[0]["source"])[1]
    assert re.search(rf"^\| \*\*[^*|]*{new}", (ROOT / "docs" / "glossary.md").read_text(), re.M), new
    for part in ("**Goal.**", "**You need**", "**How to read it.**", "**What went wrong for others.**", "**Try it.**"):
        assert part in whole, part


def test_manifests_are_named_objects_with_known_gaps():
    known = {*params.Params.model_fields, "name", "home", "inject", "hosts", "issuer", "jwks_uri", "gateway", "sleep"}
    known |= {"keycloak_url", "database_url", "console_url", "keycloak_args", "context", "peer"}
    for path in (ROOT / "notebooks" / "manifests").glob("*.yaml"):
        text = path.read_text()
        assert set(re.findall(r"(?<!\$)\$\{(\w+)\}", text)) <= known, path.name
        for thing in yaml.safe_load_all(re.sub(r"\$\{\w+\}", "x", text)):
            assert thing["metadata"]["name"]


def test_both_figures_ask_the_same_and_differ_where_they_should():
    one = {case.name: case.expected for case in cases.FIGURE_1}
    two = {case.name: case.expected for case in cases.FIGURE_2}
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} == {"sleep, none", "visitor, valid"}
    assert {case.token for case in cases.FIGURE_1} == set(cases.TOKENS)
    assert {case.caller for case in cases.FIGURE_1} == set(cases.CALLERS)
