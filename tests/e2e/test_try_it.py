"""What the notebooks tell a learner to try is tried: each line of it says what the notebook says that it will."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import json
import re
from pathlib import Path

import pytest

from tests.support.runbook import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-1][0-9]-*.ipynb"))
BLOCK = re.compile(r"\*\*Try it\.\*\*.*?```python\n(.*?)```", re.S)
TOLD = re.compile(r"  # (→|✗) (.+)$")


def sources(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def block(path: Path) -> str:
    (found,) = [match[1] for text in sources(path, "markdown") if (match := BLOCK.search(text))]
    return found


def promises(text: str) -> list[tuple[ast.stmt, str, str]]:
    """Each statement of a block with what its line says of it: → and a value, ✗ and a refusal, or nothing."""
    lines = text.splitlines()
    said = [TOLD.search(lines[one.end_lineno - 1]) for one in ast.parse(text).body]
    return [
        (one, *(found.groups() if found else ("", ""))) for one, found in zip(ast.parse(text).body, said, strict=True)
    ]


def setting(path: Path) -> str:
    """The statements of a notebook that bind what its block uses, and what those use: a kernel that ran the cells."""
    wanted, kept = loaded(ast.parse(block(path))), []
    for statement in reversed(ast.parse("\n".join(sources(path, "code"))).body):
        if bound(statement) & wanted:
            kept.insert(0, ast.unparse(statement))
            wanted |= loaded(statement)
    return "\n".join(kept)


def loaded(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def bound(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.asname or node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


def outcome(statement: ast.stmt, names: dict) -> str:
    """What a statement gives: its value as a notebook shows it, or what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "try it", "exec"), names)
            return ""
        value = eval(compile(ast.Expression(statement.value), "try it", "eval"), names)
    return printed.getvalue() or repr(value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_something_to_try_and_says_what_will_come(path):
    assert len([mark for _, mark, _ in promises(block(path)) if mark]) >= 2


@pytest.mark.sandbox
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_tried_comes_as_the_notebook_says(first, path):
    names: dict = {"env": "dev"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(setting(path), path.name, "exec"), names)
    for statement, mark, told in promises(block(path)):
        about = ast.unparse(statement)
        try:
            got = outcome(statement, names)
        except Exception as error:
            assert mark == "✗" and told in str(error), f"{about}: {error}"
            continue
        assert mark != "✗", f"{about} was not refused"
        if mark == "→":
            assert doctest.OutputChecker().check_output(f"{told}\n", f"{got}\n", doctest.ELLIPSIS), f"{about}: {got}"
