"""The series on tiny notebooks, in real kernels: what it returns, prints and leaves."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from lib.bundle import archive, signing_key
from lib.crypto import certificates
from lib.errors import BundleError, Locked
from lib.params import ROOT, load
from lib.polling import wait
from lib.runner import lock, order, series
from tests.support import moto_s3, time_stamps
from tests.support.tiny import CHANGE, KEY, OPEN, TOKEN, check, problems, write_notebook, write_params

SECRET = "hunter2hunter2"
MAKE = f"secret, token = {SECRET[::-1]!r}[::-1], {TOKEN[::-1]!r}[::-1]\nrecord.secret(secret)"  # not in the source
RED = "from lib.errors import RedCheck\nraise RedCheck('02-b: answer: expected 200, got 403.')"
SLOW = "import time\ntime.sleep(3)"
WARM = "import gc\nfrom lib import render\ngc.get_freeze_count() > 100_000, list(render._environment().cache)[0][1]"
READ = "from lib.aws import session\nsession.session('eu-west-1')._session.get_component('data_loader')._cache.keys()"
COMMAND = """
import signal, sys
from pathlib import Path
from lib.runner import series
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
at = Path(sys.argv[1])
print(series.run("tiny", notebooks=at, outputs=at / "outputs", params=at / "params", locks=at, command="test"))
"""


class Ran:
    """A run of a folder's notebooks: its exit code, what it printed, its bundle."""

    def __init__(self, folder, more="", **options):
        out = io.StringIO()
        self.code = series.run("tiny", out=out, command="test", key=KEY, **places(folder, more), **options)
        self.printed = out.getvalue()
        self.read(folder)

    def read(self, folder):
        self.folder = next((folder / "outputs" / "tiny").iterdir())
        self.run = json.loads((self.folder / "run.json").read_text())
        self.steps = {row["step"]: row for row in self.run["steps"]}
        self.verdicts = [row["verdict"] for row in self.run["steps"]]
        self.cells = {path.stem: json.loads(path.read_text())["cells"] for path in self.folder.glob("notebooks/*")}
        self.text = "".join(path.read_text(errors="replace") for path in self.folder.rglob("*") if path.is_file())
        return self


def places(folder, more=""):
    write_params(folder / "params", more=f"aws_credentials_file: none\n{more}")  # so no run of these tests asks AWS
    return {"notebooks": folder, "outputs": folder / "outputs", "params": folder / "params", "locks": folder}


@pytest.fixture(scope="module")
def green(tmp_path_factory):
    folder = tmp_path_factory.mktemp("green")
    declared = "env = 'none'\nrealm = 'none'\nother = 1"
    first = ["before = dir()\n'lib' in before, env, realm, other", OPEN, MAKE, CHANGE, check(), "print(secret, token)"]
    write_notebook(folder / "01-a.ipynb", *first, parameters=declared)
    write_notebook(folder / "02-b.ipynb", "'before' in globals()", WARM, READ, OPEN, check())
    write_notebook(folder / "99-clean-up.ipynb", "1 / 0")
    return Ran(folder)


def outputs(cells):
    return json.dumps([cell.get("outputs", []) for cell in cells])


def test_green(green):
    assert (green.code, green.verdicts, green.run["verdict"]) == (0, ["pass", "pass"], "pass")
    assert problems(green.folder) == []
    assert sorted(path.name for path in green.folder.glob("html/*")) == ["01-a.html", "02-b.html"]
    assert green.steps["01-a"]["title"] == "Title of 01-a" and green.steps["01-a"]["created"] == 1


def test_it_prints_a_line_for_each_step(green):
    lines = green.printed.splitlines()
    assert lines[0].startswith("[ 1/2] 01-a") and "✓ 1 checks" in lines[0] and "elapsed" in lines[0]
    assert lines[2] == "Passed: all 2 steps ran, 2 of 2 checks passed." and lines[3].endswith("/index.html")


def test_each_notebook_has_a_kernel_of_its_own_and_the_parameters_it_declares(green):
    assert "(False, 'tiny', 'istio', 1)" in outputs(green.cells["01-a"])
    assert "False" in outputs(green.cells["02-b"])


def test_what_each_kernel_would_do_again_is_done_before_it_is_forked(green):
    assert "(True, 'overview.svg.j2')" in outputs(green.cells["02-b"])
    assert "('load_service_model', 'sts', 'service-2')" in outputs(green.cells["02-b"])


def test_no_secret_is_left(green):
    assert "[redacted] [jwt sha256:" in outputs(green.cells["01-a"])
    assert SECRET not in green.text and "eyJ" not in green.text


def test_a_red_step_ends_the_run_and_seals_it(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check())
    write_notebook(tmp_path / "02-b.ipynb", OPEN, check(), check(False), RED)
    write_notebook(tmp_path / "03-c.ipynb", OPEN)
    ran = Ran(tmp_path)
    assert (ran.code, ran.run["exit_code"], ran.run["verdict"]) == (1, 1, "fail")
    assert ran.verdicts == ["pass", "fail", "not run"] and list(ran.cells) != []
    assert ran.steps["02-b"]["error"] == "02-b: answer: expected 200, got 403."
    assert "✗ 1 of 2 checks" in ran.printed and "Traceback" not in ran.printed
    lines = [line for line in ran.printed.splitlines() if not line.startswith("✗ 02-b: ")]  # it may be printed at once
    assert "expected 200, got 403" in lines[2]
    assert problems(ran.folder) == []


def meets(folder, own, other):
    """The source of a cell that waits until the cell of the other step runs too."""
    return (
        f"from pathlib import Path\nfrom lib.polling import wait\nPath({str(folder / own)!r}).touch()\n"
        f"wait('the other step', Path({str(folder / other)!r}).exists, deadline=60)"
    )


def test_steps_that_need_the_same_run_at_once_and_after_a_red_one_no_other_begins(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check())
    write_notebook(tmp_path / "02-b.ipynb", OPEN, meets(tmp_path, "b", "c"), check(False), RED, needs="step 01")
    write_notebook(tmp_path / "03-c.ipynb", OPEN, meets(tmp_path, "c", "b"), SLOW, check(), needs="step 01")
    write_notebook(tmp_path / "04-d.ipynb", OPEN, needs="step 03")
    ran = Ran(tmp_path)
    assert (ran.code, ran.verdicts) == (1, ["pass", "fail", "pass", "not run"])
    ended = [line.split()[2] for line in ran.printed.splitlines() if line.startswith("[")]
    assert ended == ["01-a", "02-b", "03-c"] and problems(ran.folder) == []


def test_on_a_busy_machine_they_can_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setenv(order.AT_ONCE, "1")
    mark = f"from pathlib import Path\nmark = Path({str(tmp_path / 'mark')!r})\n"
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check())
    write_notebook(tmp_path / "02-b.ipynb", OPEN, SLOW, f"{mark}mark.touch()", check(), needs="step 01")
    write_notebook(tmp_path / "03-c.ipynb", f"{mark}assert mark.exists()", OPEN, check(), needs="step 01")
    assert Ran(tmp_path).verdicts == ["pass"] * 3


def test_the_first_red_check_is_printed_while_the_step_goes_on(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(), check(False), SLOW, RED)
    lines = Ran(tmp_path).printed.splitlines()
    assert lines[0] == "✗ 01-a: answer: expected 200, got 403" and "01-a" in lines[1]


def test_an_authority_stamps_the_record_with_the_time(tmp_path):
    (tmp_path / "root.pem").write_text(certificates.pem(time_stamps.ROOT.certificate))
    write_notebook(tmp_path / "01-a.ipynb", OPEN)
    more = "time_stamp_url: {}\ntime_stamp_ca_file: {}\n"
    with time_stamps.clock() as known:
        ran = Ran(tmp_path, more=more.format(known.url, tmp_path / "root.pem"))
    assert ran.code == 0 and "The record is time-stamped 2026-01-31T12:00:12Z by CN=the clock" in ran.printed


def test_a_record_is_uploaded_whatever_its_verdict(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(False))
    where = places(tmp_path)
    keys = "\n".join(f"{name} = {value}" for name, value in moto_s3.KEYS.items() if name.startswith("aws"))
    (tmp_path / "keys").write_text(f"[default]\n{keys}")
    with moto_s3.serving() as s3:
        more = f"aws_endpoint_url: {s3.meta.endpoint_url}\naws_credentials_file: {tmp_path / 'keys'}\n"
        write_params(tmp_path / "params", more=more)
        s3.create_bucket(Bucket="records")
        buckets = ("records", "none")
        codes = [series.run("tiny", key=KEY, out=io.StringIO(), to=f"s3://{one}/x", **where) for one in buckets]
        (kept,) = s3.list_objects_v2(Bucket="records")["Contents"]
        file = tmp_path / "kept.zip"
        s3.download_file("records", kept["Key"], str(file))
    assert codes == [1, 1] and problems(archive.unpack(file, tmp_path / "unpacked")) == []


def test_a_record_that_cannot_be_uploaded_is_an_error(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check())
    out = io.StringIO()
    assert series.run("tiny", key=KEY, out=out, to="s3://records", **places(tmp_path)) == 2
    (folder,) = (path for path in (tmp_path / "outputs" / "tiny").iterdir() if path.is_dir())
    *_, last = out.getvalue().splitlines()
    assert last.startswith("The upload to s3://records failed. No credentials file")
    assert last.endswith(f"The record is kept. To upload it: python -m lib bundle {folder} --to=s3://records")
    assert problems(archive.unpack(folder.with_name(f"{folder.name}.zip"), tmp_path / "unpacked")) == []
    with pytest.raises(BundleError, match="is no S3 address"):
        series.run("tiny", key=KEY, to="records", **places(tmp_path))


def test_a_failed_check_is_red_though_nobody_raised(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(False))
    ran = Ran(tmp_path)
    assert (ran.code, ran.steps["01-a"]["error"]) == (1, "answer: expected 200, got 403; see the step.")


def test_an_error_keeps_what_was_done_without_the_secret_in_its_traceback(tmp_path):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(), MAKE, "raise ValueError(secret + token)", "'after'")
    ran = Ran(tmp_path)
    assert (ran.code, ran.verdicts) == (2, ["error"])
    assert ran.steps["01-a"]["error"].startswith("ValueError: [redacted][jwt sha256:")
    assert ran.steps["01-a"]["passed"] == 1 and "ValueError" in outputs(ran.cells["01-a"])
    assert SECRET not in ran.text + ran.printed and "eyJ" not in ran.text + ran.printed
    assert problems(ran.folder) == []


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        ("import os\nos._exit(1)", {}, "The kernel died. Look at"),
        ("while True:\n    x = 1", {"cell_timeout": 1}, "A cell took longer than 1 s. Look at"),
    ],
)
def test_a_kernel_that_dies_or_hangs_is_an_error(tmp_path, cell, options, words):
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(), cell)
    ran = Ran(tmp_path, **options)
    assert (ran.code, ran.steps["01-a"]["verdict"]) == (2, "error") and words in ran.steps["01-a"]["error"]
    assert ran.cells["01-a"][-1]["metadata"]["papermill"]["status"] == "failed"
    assert "Error" in outputs(ran.cells["01-a"]) and problems(ran.folder) == []


def test_what_is_no_notebook_is_an_error(tmp_path):
    (tmp_path / "01-a.ipynb").write_text("{")
    ran = Ran(tmp_path)
    assert (ran.code, ran.verdicts) == (2, ["error"]) and problems(ran.folder) == []


def test_ctrl_c_seals_what_was_done(tmp_path):
    begun = [tmp_path / "a", tmp_path / "b"]
    cells = [OPEN, check(), f"{MAKE}\nprint(secret)", f"{meets(tmp_path, 'a', 'b')}\nimport time\ntime.sleep(99)"]
    write_notebook(tmp_path / "01-a.ipynb", *cells)
    write_notebook(tmp_path / "02-b.ipynb", f"{meets(tmp_path, 'b', 'a')}\nwhile True:\n    pass", needs="step 00")
    write_notebook(tmp_path / "03-c.ipynb", "1")
    places(tmp_path)
    command = [sys.executable, "-c", COMMAND, str(tmp_path)]
    options = {"cwd": ROOT, "env": {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, **options) as process:
        wait("both cells to begin", lambda: all(one.exists() for one in begun), deadline=60)
        half = next(tmp_path.glob("outputs/*/*/notebooks/01-a.ipynb")).read_text()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        printed, _ = process.communicate(timeout=30)
    assert printed.splitlines()[-1] == "130", printed
    ran = Ran.__new__(Ran).read(tmp_path)
    assert ran.verdicts == ["error", "error", "not run"]
    assert ran.steps["01-a"]["error"] == ran.steps["02-b"]["error"] == "interrupted"
    assert ran.run["exit_code"] == 130 and ran.steps["01-a"]["passed"] == 1
    key = signing_key.ensure_key({"XDG_CONFIG_HOME": str(tmp_path / "config")})  # made on first use
    assert problems(ran.folder, key) == []
    assert "KeyboardInterrupt" in outputs(ran.cells["01-a"])
    assert SECRET not in half and "[redacted]" in half  # even while it ran


def test_a_run_leaves_no_temporary_files_neither_its_own_nor_those_of_a_killed_run(tmp_path):
    temporary, begun = tmp_path / "t", tmp_path / "begun"
    temporary.mkdir()
    places(tmp_path)
    command = [sys.executable, "-c", COMMAND, str(tmp_path)]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "TMPDIR": str(temporary)}
    leave = "import tempfile\ntempfile.mkstemp()"
    write_notebook(tmp_path / "01-a.ipynb", leave, f"open({str(begun)!r}, 'w')\nimport time\ntime.sleep(99)")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True) as killed:
        wait("the cell to begin", begun.exists, deadline=60)
        killed.kill()
    assert {path.name.partition("-")[0] for path in temporary.iterdir()} == {"kernels", "pymp"}
    write_notebook(tmp_path / "01-a.ipynb", OPEN, check(), leave)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert list(temporary.iterdir()) == []


def test_two_runs_keep_off_one_cluster(tmp_path):
    where = places(tmp_path)
    write_notebook(tmp_path / "01-a.ipynb", "1")
    who = {"user": "alice", "host": "box", "pid": 7, "since": "today", "command": "the other"}
    identities = lock.identities(load("tiny", folder=where["params"]).model_dump())
    with lock.held(identities, who, tmp_path), pytest.raises(Locked, match="alice@box"):
        series.run("tiny", **where)
    assert not where["outputs"].exists()
