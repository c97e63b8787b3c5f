"""Changes bundles at random and asks every reader about them; run as a program, under a limit of memory and time.

Prints a count of cases, and a traceback for each case that had one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from lib.bundle import archive, audit, compare, history_pages
from lib.errors import RunbookError
from lib.runner.terminal import show_table
from tests.support.attacks import SIGNER, resign, target

MEMORY = 1_500_000_000  # bytes of address space; the imports alone take a third
SLOW = 60  # seconds that one case may take, on a machine that is busy
WORDS = [
    b"", b"{}", b"[]", b"null", b'{"at": 1}', b"x}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b"1e999",
    b"9" * 10_000, b'"\\ud800"', b"\r", b"\x00", b"\x1b[2J", b'"' + b"y" * 200_000 + b'"', b"a: &a [x, x]\nb: *a\n",
    b"step,at\n" * 3, b"-1", b'{"event": "check"}\n', b"\xe2\x80\xae",
]  # fmt: skip
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
VALUES = [None, True, -1, 1e15, 10**30, "x" * 5000, "\x1b[2J", [], {}, {"run": 1}, "../../etc", ["\u2028"], ""]


def mutate(folder: Path, dice: random.Random) -> None:
    """Change a bundle in one of several ways; about half of the time it is signed again."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    path = dice.choice(files)
    kind = dice.randrange(9)
    data = path.read_bytes()
    at = dice.randrange(len(data) + 1)
    if kind == 0:
        path.write_bytes(data[:at])
    elif kind == 1:
        path.write_bytes(data[:at] + dice.choice(WORDS) + data[at:])
    elif kind == 2:
        path.write_bytes(dice.choice(WORDS))
    elif kind == 3:
        path.unlink()
    elif kind == 4:
        change_json(dice.choice([one for one in files if one.suffix in (".json", ".ipynb")]), dice)
    elif kind == 5:
        place_odd(folder, path, dice)
    elif kind == 6:
        (folder / "objects" / "01-a.yaml").write_text(dice.choice([BOMB, "[" * 50_000, "a: b: c", "- 1", "kind: x"]))
    elif kind == 7:
        change_json(folder / "run.json", dice)
    else:
        lines = data.splitlines(keepends=True) or [b""]
        dice.shuffle(lines)
        path.write_bytes(b"".join(lines + lines[:1]))
    if dice.random() < 0.5:
        with contextlib.suppress(Exception):
            resign(folder, SIGNER)


def change_json(path: Path, dice: random.Random) -> None:
    value = json.loads(path.read_text())
    place = value
    while isinstance(place, (dict, list)) and place:
        key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], (dict, list)) or dice.random() < 0.3:
            place[key] = dice.choice(VALUES)
            break
        place = place[key]
    path.write_text(json.dumps(value))


def place_odd(folder: Path, path: Path, dice: random.Random) -> None:
    kind = dice.randrange(5)
    if kind == 0:
        os.mkfifo(folder / "pipe")
    elif kind == 1:
        path.unlink()
        path.symlink_to(dice.choice(["/dev/zero", path.name, "/nowhere", str(folder)]))
    elif kind == 2:
        with (folder / "sparse").open("wb") as file:
            file.truncate(3_000_000_000)
    elif kind == 3:
        os.mkdir(os.fsencode(folder) + b"/\xff\x1b[2J")
    else:
        path.unlink()
        path.mkdir()


def ask(folder: Path, other: Path) -> str:
    """Ask every reader about a bundle; return what was printed."""
    keys, out = [SIGNER.public_key()], io.StringIO()
    with contextlib.redirect_stdout(out):
        for line in (*audit.bundle(folder, keys)[0], *audit.environment(folder.parent, keys)[0]):
            print(line)
        table = compare.runs(folder.parent, keys).fillna("")
        show_table(table)
        history_pages.write_history(folder.parent, table)
        for act in (
            lambda: compare.compare(folder, other),
            lambda: compare.compare(other, folder),
            lambda: archive.pack(folder, folder.with_name("x.zip"), keys),
        ):
            with contextlib.suppress(RunbookError):
                act()
    return out.getvalue()


def main(scratch: Path, cases: int, seed: int) -> None:
    """Make the cases; the limit of memory begins after the imports."""
    three = target(scratch / "three")
    compare.compare(three, three)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts: Counter[str] = Counter()
    for number in range(cases):
        dice = random.Random(seed * 1000 + number)
        shutil.rmtree(scratch / "case", ignore_errors=True)
        shutil.copytree(three.parent, scratch / "case" / "tiny")
        folder, start = scratch / "case" / "tiny" / three.name, time.monotonic()
        try:
            for _ in range(dice.randrange(1, 4)):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    mutate(folder, dice)
            printed = ask(folder, sorted(folder.parent.iterdir())[0])
            counts["a sentence" if "not as it was sealed" in printed else "verifies"] += 1
        except Exception:
            counts["traceback"] += 1
            print(f"case {seed}.{number}", traceback.format_exc(), file=sys.stderr)
        if time.monotonic() - start > SLOW:
            counts["slow"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
