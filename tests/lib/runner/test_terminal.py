"""The lines of a run on a terminal."""

import io

from lib.record.events import Record
from lib.runner.terminal import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_each_running_step_has_a_live_line_and_what_is_printed_stands_above(tmp_path):
    out = Terminal()
    progress = Progress(2, out, clock=lambda: 7.0)
    one, two = (Record(tmp_path / name) for name in ("1", "2"))
    check = {"name": "answer", "expected": "200", "actual": "200", "seconds": 0.1, "tries": 1, "reason": ""}
    one.write("check", **check, verdict="pass", passed=True)
    two.write("waiting", what="Keycloak", seconds=3.0, deadline=60.0, seen="")
    with progress.live(), progress.running(1, "01-a", one.path), progress.running(2, "02-b", two.path):
        lines = progress._lines().plain.splitlines()
        progress.say("[done] x")
    assert [line.split("  (")[0] for line in lines] == [
        "[ 1/2] 01-a                 … 1 of 1 checks  0 s",
        "[ 2/2] 02-b                 … 0 of 0 checks  0 s",
    ]
    assert lines[1].endswith("waiting for: Keycloak") and "[done] x" in out.getvalue()
    progress.say("after")
    assert out.getvalue().endswith("after\n") and progress._lines().plain == ""
