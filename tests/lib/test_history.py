"""Several runs beside each other, and one as a file."""

import hashlib
import shutil
from zipfile import ZipFile

import pytest
from test_bundle import sealed
from tiny import KEY, problems

from lib import archive, bundle, history
from lib.__main__ import main
from lib.errors import BundleError

TRUSTED = [KEY.public_key()]


@pytest.fixture
def two(tmp_path):
    """A green run and a red one, whose second answer is another."""
    return sealed(tmp_path)[0], sealed(tmp_path, "fail")[0]


def test_a_run_does_not_differ_from_itself(two):
    assert history.compare(two[0], two[0]) == {}


def test_what_differs_is_told_by_part(two):
    found = history.compare(*two)
    assert set(found) == {"verdicts", "answers"}
    assert found["verdicts"].to_dict("records") == [{"what": "01-a", "A": "pass", "B": "fail"}]
    assert found["answers"].to_dict("records") == [{"what": "Figure 1: /ip, sleep, none", "A": "200", "B": "200 ✗"}]


def test_only_sealed_runs_are_compared(two):
    (two[1] / bundle.SUMS).unlink()
    with pytest.raises(BundleError, match="sealed"):
        history.compare(*two)


def test_history_is_oldest_first_and_knows_what_was_never_sealed(two):
    killed = two[0].with_name("20270131T120000Z-aaaaaaaa")
    killed.mkdir()
    table = history.runs(two[0].parent)
    assert list(table["run"]) == [*(one.name for one in two), killed.name]
    assert list(table["verdict"]) == ["pass", "fail", "incomplete"]
    assert table.loc[1, "passed"] == 2 and table.loc[1, "commit"] == "a" * 8


def test_the_commands_tell_by_their_exit_code(two, capsys):
    assert main(["compare", str(two[0]), str(two[0])]) == 0
    assert main(["compare", *map(str, two)]) == 1
    assert "Figure 1" in capsys.readouterr().out
    assert main(["history", "no-such-environment"]) == 2


def test_a_bundle_is_the_same_bytes_each_time_and_whole_again_when_unpacked(two, tmp_path):
    folder = two[0]
    first = hashlib.sha256(archive.pack(folder, tmp_path / "a.zip", TRUSTED).read_bytes()).hexdigest()
    moved = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, moved)  # other times, another place
    assert hashlib.sha256(archive.pack(moved, tmp_path / "b.zip", TRUSTED).read_bytes()).hexdigest() == first
    with ZipFile(tmp_path / "a.zip") as packed:
        packed.extractall(tmp_path / "out")
    assert problems(tmp_path / "out" / folder.name) == []


def test_a_bundle_that_was_changed_is_not_packed(two, tmp_path):
    (two[0] / "checks.csv").write_text("")
    with pytest.raises(BundleError, match="checks.csv"):
        archive.pack(two[0], tmp_path / "a.zip", TRUSTED)
    assert not list(tmp_path.glob("*.zip"))
