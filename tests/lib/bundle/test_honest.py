"""What an honest run leaves verifies, whatever its texts are, or says that it is incomplete."""

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.bundle import seal
from lib.bundle.verify import verify
from lib.record.check import Check
from lib.record.events import Record
from tests.support.sealed_bundle import ABOUT, AT, NOW, answer, sealed, step
from tests.support.tiny import KEY, problems, write_notebook

ODD = st.characters(codec=None, exclude_categories=())  # halves of surrogate pairs too
TEXT = st.one_of(
    st.text(ODD, max_size=30),
    st.sampled_from(["\r", "a\rb", 'x",\n"y', "\x00", "\ud800", "=HYPERLINK(1)", "\u2028", "\x1b[2J", "' or 1"]),
)
VALUE = st.one_of(TEXT, st.integers(-(10**20), 10**20), st.floats(), st.booleans(), st.none())
CHECK = st.builds(
    lambda name, expected, actual, verdict, reason: Check(name, expected, actual, verdict, 0.1, 1, reason).row(),
    TEXT, TEXT, TEXT, st.sampled_from(["pass", "fail", "error", "skipped", "waived"]), TEXT,
)  # fmt: skip
RESPONSE = st.builds(lambda figure, got, reason: answer(figure, got, got) | {"reason": reason}, TEXT, TEXT, TEXT)
EVENT = st.one_of(
    st.tuples(st.just("check"), CHECK),
    st.tuples(st.just("check"), st.dictionaries(st.sampled_from(["name", "verdict", "passed", "seconds"]), VALUE)),
    st.tuples(st.just("response"), RESPONSE),
    st.tuples(st.just("fact"), st.fixed_dictionaries({"key": TEXT, "value": VALUE})),
    st.tuples(st.just("fact"), st.fixed_dictionaries({"key": st.sampled_from(["images", "real"]), "value": VALUE})),
    st.tuples(st.just("change"), st.dictionaries(st.sampled_from(["kind", "namespace", "name", "action"]), VALUE)),
    st.tuples(st.just("token"), st.fixed_dictionaries({"name": TEXT, "fingerprint": TEXT, "aud": VALUE})),
)


@settings(max_examples=60)
@given(st.lists(EVENT, max_size=8), TEXT, TEXT, st.sets(st.sampled_from(["passed", "started", "verdict", "expected"])))
def test_whatever_a_run_records_it_verifies(recorded, error, name, secrets):
    with tempfile.TemporaryDirectory() as scratch:
        folder = seal.create("tiny", "a" * 40, NOW, Path(scratch))
        record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
        for kind, fields in recorded:
            record.write(kind, **fields)
        error = error.encode("utf-8", "replace").decode()
        run = {**ABOUT, "steps": [step("01-a", "error", error)], "host": error}
        seal.seal(folder, run, KEY, secrets | {name})
        assert problems(folder) == [] and seal.incomplete(folder) == ""


def opened(tmp_path, *verdicts):
    """Return a folder that is not sealed yet, its record, and a run of one step."""
    folder = seal.create("tiny", "a" * 40, NOW, tmp_path)
    write_notebook(folder / "notebooks" / "01-a.ipynb", "1")
    record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
    record.write("check", **Check("first", "1", "1", "pass").row())
    return folder, record, {**ABOUT, "steps": [step("01-a", *verdicts)]}


def test_a_field_of_a_megabyte_verifies(tmp_path):
    folder, record, run = opened(tmp_path)
    record.write("check", **Check("long", "1", "x" * 1_000_000, "pass").row())
    seal.seal(folder, run, KEY)
    assert problems(folder) == [] and len(seal.read_rows(folder, "checks.csv")[1]["actual"]) == 1_000_000


@pytest.mark.parametrize("at", ["2026-01-31T11:59:59.000Z", "2026-01-31T12:00:10.001Z", "2027-01-31T12:00:00.000Z"])
def test_a_clock_that_is_set_while_a_run_goes_on(tmp_path, at):
    folder, record, run = opened(tmp_path)
    record.clock = lambda: at
    record.write("check", **Check("later", "1", "1", "pass").row())
    seal.seal(folder, run, KEY)
    assert problems(folder) == []
    assert bool(verify(folder, [KEY.public_key()], alone=True).notes) == at.startswith("2027")


def test_a_full_disk_leaves_half_of_a_line_and_of_a_notebook(tmp_path):
    folder, record, run = opened(tmp_path, "error", "OSError: no space left.")
    with (folder / "events" / "01-a.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    record.write("check", **Check("after it", "1", "2", "fail").row())
    notebook = folder / "notebooks" / "01-a.ipynb"
    notebook.write_text(notebook.read_text()[:100])
    made = seal.seal(folder, run, KEY)
    assert problems(folder) == [] and made["verdict"] == "error"
    assert '"unreadable"' in (folder / "events" / "01-a.jsonl").read_text()


def test_a_line_that_is_no_event_makes_a_passed_step_an_error(tmp_path):
    folder, record, run = opened(tmp_path)
    record.write("check", name="x", verdict="great", seconds="long")
    made = seal.seal(folder, run, KEY)
    assert problems(folder) == [] and made["exit_code"] == 2
    assert "1 events of the step are not readable" in made["steps"][0]["error"]


def test_a_step_that_was_interrupted_before_its_row_was_written(tmp_path):
    folder, _, run = opened(tmp_path, "not run")
    assert seal.seal(folder, {**run, "exit_code": 130}, KEY)["verdict"] == "error" and problems(folder) == []


def test_a_passed_run_that_ctrl_c_ended_is_an_error(tmp_path):
    folder, _, run = opened(tmp_path)
    made = seal.seal(folder, {**run, "exit_code": 130}, KEY)
    assert (made["verdict"], made["exit_code"]) == ("error", 130) and problems(folder) == []


def test_evidence_of_any_bytes_and_names(tmp_path):
    folder, record, run = opened(tmp_path)
    record.evidence("mesh/01-a.json", "{}")
    (folder / "mesh" / "01-binary").write_bytes(bytes(range(256)))
    (folder / "mesh" / "deep").mkdir()
    (folder / "mesh" / "deep" / "one\nline\u2028\\").write_text("x")
    (folder / "mesh" / ".draft.123").write_text("a killed process left it")
    seal.seal(folder, run, KEY)
    assert problems(folder) == [] and (folder / "mesh" / "01-binary").read_bytes() == bytes(range(256))
    assert (folder / "mesh" / "deep" / "one%0Aline%E2%80%A8%5C").is_file()


@pytest.mark.parametrize("secret", ["passed", "started", "verdict", "a" * 40, "2026-01-31", "created", "01-a.ipynb"])
def test_a_secret_that_equals_a_word_of_the_record(tmp_path, secret):
    folder, run = sealed(tmp_path, secrets={secret})
    assert problems(folder) == [] and run["totals"]["passed"] == 3


def test_a_bundle_that_would_not_verify_says_that_it_is_incomplete(tmp_path):
    folder, _, run = opened(tmp_path)
    (folder / "mesh").mkdir()
    (folder / "mesh" / "link").symlink_to("../run.json")
    seal.seal(folder, run, KEY)
    assert not (folder / "SHA256SUMS").exists() and "mesh/link" in seal.incomplete(folder)
    assert "INCOMPLETE.txt says: mesh/link was added" in problems(folder)[0]


FULL = """
    import json, resource, sys
    from pathlib import Path
    from lib.bundle import seal
    from lib.errors import BundleError
    from tests.support.sealed_bundle import sealed
    sys.dont_write_bytecode = True  # else Python keeps the first 3000 bytes of modules that are imported from here on
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # no file can have more bytes, as on a full disk
    try:
        sealed(Path(sys.argv[1]))
    except BundleError as error:
        print(error)
"""


def test_a_disk_that_is_full_while_the_run_is_sealed(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "is incomplete (OSError" in done.stdout, done.stderr
    (folder,) = (tmp_path / "tiny").iterdir()
    assert not (folder / "SHA256SUMS").exists() and "OSError" in problems(folder)[0]
