"""Find phrases and names that make a reader read twice, in everything a person reads; `make check` calls it.

docs/architecture.md has the rules of language; this holds the part of them that a machine can hold.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHRASES = {  # what not to write: what to write instead
    r"\b(?:is|are|was|were|be|been) told\b": "name who says it, or what the reader sees",
    r"\btold (?:of|as|apart)\b": "reports, lists, distinguishes",
    r"\bone's own\b": "your own, an external, a private",
    r"\bwhom\b": "name the person or the program",
    r"\banew\b": "again",
    r"\bby which\b|\bof which\b|\bin which\b": "two sentences",
    r"\bforet(?:ell|old|elling)\b": "predict",
    r"\bthither\b|\bthereof\b|\bwherein\b": "name the place",
    r"\bof those that\b|\bone of those\b": "name the noun",
    r"\bwhat (?:there is|it is|stands|is there|is not there)\b": "name the objects",
    r"\bReturn (?:it|the same|that)\b": "name what is returned",
    r"\bdo(?:es)? not (?:say|tell) so\b": "say what is missing",
}
NAMES = {"told", "said", "here", "things", "thing"}  # names of values that have a real name
PROSE = (".md", ".j2", ".yml", ".yaml", ".toml", "Makefile", ".sh")
ALLOWED = {"tools/plain_english.py", "requirements.lock", "tools/uv.lock"}


def main(arguments: list[str]) -> int:
    """Print each find as file:line; return 1 if there is one. Arguments: paths to read, all tracked files if none."""
    finds = [find for path in _files(arguments) for find in _finds(path)]
    print("\n".join(finds) if finds else "plain English: nothing found")
    return 1 if finds else 0


def _files(paths: list[str]) -> list[Path]:
    words = ["git", "ls-files", "-z", "--", *paths]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and name not in ALLOWED and (ROOT / name).is_file()]


def _finds(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT)
    for line, text in _texts(path):
        for pattern, instead in PHRASES.items():
            for match in re.finditer(pattern, text, re.I):
                yield f"{name}:{line + text.count(chr(10), 0, match.start())}: “{match[0]}”: {instead}"
    if path.suffix == ".py" and name.parts[0] != "tests":
        for line, word in _names(ast.parse(path.read_text(encoding="utf-8"))):
            yield f"{name}:{line}: the name {word}: say what it holds"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what a person reads in a file, each with the line where it begins."""
    if path.suffix == ".py":
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
        for number, line in enumerate(text.splitlines(), 1):
            if comment := re.search(r"(?:^|\s)# (.*)", line):
                yield number, comment[1]
    elif path.suffix == ".ipynb":
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            yield number, "".join(cell["source"]).replace("\n", " ")
    elif path.name.endswith(PROSE):
        yield 1, path.read_text(encoding="utf-8")


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names that are bound: assigned, or parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NAMES:
            yield node.lineno, node.id
        if isinstance(node, ast.arg) and node.arg in NAMES:
            yield node.lineno, node.arg


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
