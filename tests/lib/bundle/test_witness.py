"""A witness outside of the runs' folder notices that the newest run went or was replaced."""

import shutil
import subprocess
from datetime import timedelta

import pytest

from lib import strict
from lib.bundle import audit, witness
from lib.errors import BundleError
from tests.support.sealed_bundle import NOW, sealed
from tests.support.tiny import KEY

TRUSTED = [KEY.public_key()]


@pytest.fixture(scope="module")
def s3(empty_s3):
    client = empty_s3
    client.create_bucket(Bucket="witness", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket="witness", ObjectLockConfiguration=lock)
    return client


@pytest.fixture(params=["file", "git"])
def place(request, tmp_path):
    if request.param == "file":
        return str(tmp_path / "elsewhere" / "runs.jsonl")
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "notes.git"], check=True)
    return f"git:{tmp_path / 'notes.git'}"


def test_it_notices_the_newest_run_that_goes_or_is_replaced(tmp_path, place):
    runs = [sealed(tmp_path / "runs", now=NOW + timedelta(hours=number)) for number in range(2)]
    for folder, run in runs:
        assert "has the SHA-256 of this run's SHA256SUMS" in witness.tell(place, folder, run, lambda: None)
    first, newest = (folder for folder, _ in runs)
    lines, problem = audit.environment(first.parent, TRUSTED, witness_at=place)
    assert not problem and "2 verify" in lines[-1], lines
    shutil.rmtree(newest)
    for report, folder in ((audit.environment, first.parent), (audit.bundle, first)):
        lines, problem = report(folder, TRUSTED, witness_at=place)
        assert problem and any(f"{newest.name} is missing or was never sealed" in line for line in lines), lines
    sealed(tmp_path / "runs", "fail", now=NOW + timedelta(hours=1))
    lines, problem = audit.bundle(newest, TRUSTED, witness_at=place)
    assert problem and any(f"{newest.name} was replaced" in line for line in lines), lines


def test_in_s3_the_oldest_version_counts(tmp_path, s3):
    folder, run = sealed(tmp_path)
    sentence = witness.tell("s3://witness/runs", folder, run, lambda: s3)
    assert f"s3://witness/runs/tiny/{folder.name}.json, locked until" in sentence
    known = witness.known("s3://witness/runs", "tiny", lambda: s3)
    key = f"runs/tiny/{folder.name}.json"
    s3.delete_object(Bucket="witness", Key=key)
    s3.put_object(Bucket="witness", Key=key, Body=b'{"env": "tiny", "run": "x", "sha256": "0"}')
    assert witness.known("s3://witness/runs", "tiny", lambda: s3) == known and list(known) == [folder.name]


def test_a_git_note_that_is_rewritten_later_still_knows_the_first_entry(tmp_path):
    folder, run = sealed(tmp_path)
    git = ["git", f"--git-dir={tmp_path / 'notes.git'}"]
    subprocess.run([*git, "init", "--quiet", "--bare"], check=True)
    place = f"git:{tmp_path / 'notes.git'}"
    with pytest.raises(BundleError, match="so it knows no run"):
        witness.known(place, "tiny", lambda: None)
    witness.tell(place, folder, run, lambda: None)
    before = witness.known(place, "tiny", lambda: None)
    lie = f'{{"env": "tiny", "run": "{folder.name}", "sha256": "0"}}'
    notes = [*git, *witness.AUTHOR, "notes", "--ref", witness.NOTES]
    subprocess.run([*notes, "add", "--force", "-m", lie, run["commit"]], check=True, capture_output=True)
    assert witness.known(place, "tiny", lambda: None) == before == {folder.name: strict.digest(folder / "SHA256SUMS")}


def test_a_repository_that_is_none_gets_a_sentence(tmp_path):
    with pytest.raises(BundleError, match="The witness's git failed: .*does not (appear|exist)"):
        witness.known(f"git:{tmp_path / 'none'}", "tiny", lambda: None)
