"""docs/why.md and the code name the same causes."""

import ast
import re

from lib.diagnose import login, nearest_rule
from lib.istio import installation
from lib.params import ROOT
from tests.support.faults import EVERY

PAGE = (ROOT / "docs" / "why.md").read_text()
CODE = sorted((ROOT / "lib" / "diagnose").glob("*.py"))
CELL = re.compile(r"`[a-z-]+`(, `[a-z-]+`)*")  # a cell with nothing but names of causes
UNTRIED = re.compile(
    r"^\| (?P<causes>`[^|]+`) \| [^|]+ \| (?P<reason>[^|]*)\|$", re.MULTILINE
)  # cause, meaning, why not


def test_the_page_has_each_cause_of_the_code_and_no_other():
    assert in_the_code() - in_the_page() == set()
    assert in_the_page() - in_the_code() == set()


def test_a_fault_tries_each_cause_or_the_page_says_why_none_does():
    rows = {name: row["reason"].strip() for row in UNTRIED.finditer(PAGE.partition("## Causes without a fault")[2])
            for name in re.findall(r"`([^`]+)`", row["causes"])}  # fmt: skip
    tried = {one.form(api).cause for one in EVERY for api in (installation.ISTIO, installation.GATEWAY_API)}
    assert in_the_code() - tried == rows.keys()
    assert [name for name, reason in rows.items() if len(reason.split()) < 3] == []


def test_the_page_has_a_row_for_each_thing_that_is_not_seen():
    rows = [line for line in PAGE.partition("does not see")[2].partition("##")[0].splitlines() if line.startswith("| ")]
    assert len(rows) >= 3 and all(row.count("|") == 3 for row in rows)


def in_the_page():
    tables = PAGE.partition("## The causes that it distinguishes")[2]
    cells = [cell.strip() for line in tables.splitlines() if line.startswith("| ") for cell in line.split("|")]
    return {name for cell in cells if CELL.fullmatch(cell) for name in re.findall(r"`([^`]+)`", cell)}


def in_the_code():
    functions = [one for file in CODE for one in ast.walk(ast.parse(file.read_text()))
                 if isinstance(one, ast.FunctionDef)]  # fmt: skip
    return {name for one in functions for name in causes(one)} | {sign.cause for sign in login.SIGNS}


def causes(function):
    """The causes that a function may give: the second argument of explain, the first of Slip, also by a variable."""
    for call in (one for one in ast.walk(function) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)):
        place = {"explain": 1, "Slip": 0}.get(call.func.id)
        if place is None or isinstance(call.args[place], ast.Starred):
            continue
        given = call.args[place]
        if isinstance(given, ast.Name):
            yield from assigned(function, given.id)
        elif isinstance(given, ast.JoinedStr):  # "{kind}-not-allowed"
            yield from (f"{one.removesuffix('s')}-not-allowed" for one in nearest_rule.TARGETS)
        else:
            yield from constants(given)


def assigned(function, name):
    for one in (each for each in ast.walk(function) if isinstance(each, ast.Assign)):
        names = [each.id for each in ast.walk(one.targets[0]) if isinstance(each, ast.Name)]
        if name in names:
            pairs = [each for each in ast.walk(one.value) if isinstance(each, ast.Tuple)]
            yield from (text for pair in pairs for text in constants(pair.elts[names.index(name)]))


def constants(node):
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
