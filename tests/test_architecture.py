"""The laws of the code: layers with imports that only point down, short modules, one place that sleeps."""

from __future__ import annotations

import ast
import graphlib
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Bottom first. A module imports from its own layer or a lower one. Names of one row are one layer.
LAYERS = {
    "lib": """
        errors names files polling recent crypto ensured parallel printable strict spreadsheet
        redact
        render http_client
        kubernetes
        params
        legacy istio keycloak
        gateway_api ambient
        aws
        record
        run
        diagnose
        steps
        planning
        probes
        vectors labs roles login
        bundle
        runner
        watch
        fleet
        __main__
    """,
    "lib.probes": """
        model
        transport
        tokens
        workloads
        reporting
        scenarios
        challenge
        runner
        targets
        __main__
    """,
    "sandbox": """
        paths
        build host
        iam
        node
        eks
        aws
        commands
        __main__
    """,
}
FILES = 20  # at most, of a package


def modules() -> dict[str, Path]:
    """Return every module of lib and sandbox by its dotted name; a package has the name of its folder."""
    found = {}
    for path in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "sandbox").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


parsed = cache(ast.parse)


@cache
def imported(text: str) -> frozenset[str]:
    """Return the modules that a text imports, lazily too; what only type checkers import is left out."""
    return frozenset(_imported(parsed(text)))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.orelse:
            yield from _imported(child)
        return
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "write the whole name of the module"
        for name in node.names:
            whole = f"{node.module}.{name.name}"
            yield whole if whole in MODULES else node.module
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def layers(package: str) -> dict[str, int]:
    """Return the height of each part of a package."""
    rows = [row.split() for row in LAYERS[package].strip().splitlines()]
    return {name: height for height, row in enumerate(rows) for name in row}


def upward(name: str, text: str) -> list[str]:
    """Return what a module imports from a higher layer than its own, "mine -> theirs"."""
    found = []
    for package in LAYERS:
        if not name.startswith(f"{package}."):
            continue
        heights = layers(package)
        mine = name[len(package) + 1 :].split(".")[0]
        for other in sorted(imported(text)):
            theirs = other[len(package) + 1 :].split(".")[0] if other.startswith(f"{package}.") else ""
            if theirs and heights[theirs] > heights[mine]:
                found.append(f"{name} -> {other}")
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_every_part_of_a_package_has_a_layer(package):
    parts = {name[len(package) + 1 :].split(".")[0] for name in MODULES if name.startswith(f"{package}.")}
    assert parts == set(layers(package))


@pytest.mark.parametrize("name", MODULES)
def test_no_import_points_up(name):
    assert upward(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lib.errors", "from lib.kubernetes import cluster"),
        ("lib.kubernetes.cluster", "def lazy():\n    from lib.aws import session"),
        ("lib.steps.clean_up", "import lib.probes.workloads"),
        ("lib.probes.model", "from lib.probes import runner"),
        ("lib.probes.transport.curl", "from lib.probes.tokens import forge"),
        ("sandbox.build.parts", "from sandbox.eks import api"),
    ],
)
def test_an_import_that_points_up_is_found(name, line):
    assert upward(name, line)
    assert not upward(name, "if TYPE_CHECKING:\n" + textwrap.indent(line, "    "))


def test_no_module_imports_itself_through_others():
    imports = {name: imported(path.read_text()) & set(MODULES) for name, path in MODULES.items()}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] == "lib"])
def test_lib_never_imports_the_sandbox(name):
    assert not [one for one in imported(MODULES[name].read_text()) if one.split(".")[0] == "sandbox"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_waits_in_one_place(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= 300
    calls = [node.func for node in ast.walk(parsed(text)) if isinstance(node, ast.Call)]
    sleeping = [called for called in calls if "sleep" in (getattr(called, "attr", ""), getattr(called, "id", ""))]
    assert not sleeping or name == "lib.polling"


def test_no_package_has_one_file_or_over_twenty():
    for folder in {path.parent for path in MODULES.values()}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        parts = [child for child in folder.iterdir() if (child / "__init__.py").is_file()]
        assert len(files) + len(parts) > 1, folder
        assert len(files) <= FILES, folder
