"""Verification finds each change of a bundle, also one that was signed again, and trusts only known keys."""

import base64
import hashlib
import json
import subprocess
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib import strict
from lib.__main__ import main
from lib.bundle import provenance, seal, signing_key
from lib.bundle.verify import verify
from lib.errors import BundleError
from tests.support.sealed_bundle import ABOUT, NOW, edit, sealed
from tests.support.tiny import KEY, problems

SUMS, STATEMENT = "SHA256SUMS", "provenance.dsse.json"


def resum(folder):
    """Forge SHA256SUMS, as someone would who edits a bundle."""
    names = seal.files(folder)
    (folder / SUMS).write_text("".join(f"{strict.digest(folder / name)}  {name}\n" for name in names))


def resign(folder, key=KEY):
    """Forge all that a signer can: sums, and a statement that fits."""
    resum(folder)
    run = json.loads((folder / "run.json").read_text())
    stated = provenance.statement(run, SUMS, strict.digest(folder / SUMS))
    (folder / STATEMENT).write_text(provenance.sign(stated, key))


def assert_problem(folder, words):
    found = problems(folder)
    assert any(words in one for one in found), found


def drop_a_row(folder):
    lines = (folder / "responses.csv").read_text().splitlines(keepends=True)
    (folder / "responses.csv").write_text("".join(lines[:-1]))


def swap_the_key(folder):
    other = Ed25519PrivateKey.generate()
    (folder / "signer.pem").write_text(signing_key.pem(other.public_key()))
    resign(folder, other)


CELL = edit("notebooks/01-a.ipynb", "Title", "Titel")
ADD = lambda folder: (folder / "more.txt").write_text("x")  # noqa: E731
REMOVE = lambda folder: (folder / "tokens.csv").unlink()  # noqa: E731
MOVE = edit("run.json", '"finished": "2026-01-31T12:00:10', '"finished": "2026-01-31T13:00:10')


@pytest.mark.parametrize(
    ("act", "file", "word"),
    [
        (CELL, "notebooks/01-a.ipynb", "was changed"),
        (drop_a_row, "responses.csv", "was changed"),
        (ADD, "more.txt", "was added"),
        (REMOVE, "tokens.csv", "is missing"),
        (MOVE, "run.json", "was changed"),
    ],
)
def test_a_changed_file_is_named_and_new_sums_do_not_hide_it(tmp_path, act, file, word):
    folder, _ = sealed(tmp_path)
    act(folder)
    assert any(file in one and word in one for one in problems(folder)), problems(folder)
    resum(folder)
    assert_problem(folder, "SHA256SUMS was changed after it was signed")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (drop_a_row, "responses.csv, line 3: the events make it '01-a,"),
        (edit("checks.csv", "pass,True", "fail,False"), "checks.csv, line 2: the events make it '01-a,"),
        (
            edit("run.json", '"verdict": "pass"', '"verdict": "fail"'),
            "has the verdict fail for 01-a, but its checks make it pass",
        ),
        (
            edit("run.json", '"exit_code": 0', '"exit_code": 1'),
            "run.json, exit_code: the events make it 0, the file has 1",
        ),
        (
            edit("run.json", '"exit_code": 0', '"exit_code": 7'),
            "does not follow its schema: exit_code: 7 is not one of",
        ),
        (edit("run.json", '"started": "2026-01-31T12:00:00', '"started": "2026-01-31T12:00:05'), "The events of 01-a"),
        (edit("run.json", '"user"', '"usher"'), "does not follow its schema"),
    ],
)
def test_a_contradiction_is_found_though_the_signer_signed_it(tmp_path, act, words):
    folder, _ = sealed(tmp_path)
    act(folder)
    resign(folder)
    assert_problem(folder, words)


def test_time_moved_in_the_statement_breaks_its_signature(tmp_path):
    folder, _ = sealed(tmp_path)
    envelope = json.loads((folder / STATEMENT).read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b"12:00:10", b"13:00:10")
    (folder / STATEMENT).write_text(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))
    assert_problem(folder, "The signature of provenance.dsse.json is not valid for any known key")
    assert_problem(folder, "provenance.dsse.json and run.json state different facts")


def test_a_key_that_is_not_trusted_is_named_by_its_fingerprint(tmp_path):
    folder, _ = sealed(tmp_path)
    assert problems(folder) == []
    swap_the_key(folder)
    found = problems(folder)
    assert len(found) == 1 and "which is not a trusted key" in found[0], found
    other = signing_key.public_key(folder / "signer.pem")
    assert verify(folder, [other]).problems == [] and verify(folder, [other]).signer == signing_key.fingerprint(other)
    assert "(trusted: none)" in verify(folder, []).problems[0]


@pytest.mark.parametrize("text", ["", "{}", '{"payload": 1}', "[]"])
def test_an_unreadable_statement_is_no_traceback(tmp_path, text):
    folder, _ = sealed(tmp_path)
    (folder / STATEMENT).write_text(text)
    assert_problem(folder, "provenance.dsse.json holds no signed statement")
    (folder / STATEMENT).unlink()
    assert_problem(folder, "Nobody vouches for this bundle")


def three(tmp_path):
    """Return the folders of three runs of one environment, an hour apart."""
    times = [NOW + timedelta(hours=number) for number in range(3)]
    return [sealed(tmp_path, now=time)[0] for time in times]


def test_each_run_names_the_one_before(tmp_path):
    folders = three(tmp_path)
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert [run["previous"] and run["previous"]["run"] for run in runs] == [None, *(one.name for one in folders[:2])]
    assert [problems(folder) for folder in folders] == [[], [], []] and not verify(folders[0], []).notes


def test_a_run_removed_is_missed_by_the_next(tmp_path):
    first, second, third = three(tmp_path)
    for path in sorted(second.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    second.rmdir()
    assert_problem(third, f"{second.name}, the run before this one, was removed")


def test_a_run_replaced_is_found_from_both_sides_though_its_signer_signed_it(tmp_path):
    first, second, third = three(tmp_path)
    edit("index.html", "</main>", "<p>all is well</p></main>")(second)
    resign(second)
    assert_problem(second, f"This run was replaced: {third.name}, the next run")
    assert_problem(third, f"{second.name}, the run before this one, was replaced after")
    assert problems(first) == []


def test_a_run_put_in_between_is_found(tmp_path):
    first, second, _ = three(tmp_path)
    late = sealed(tmp_path, now=NOW + timedelta(minutes=30))[0]
    assert_problem(second, f"{late.name} was inserted between {first.name} and this run")


def test_a_bundle_alone_says_that_its_chain_was_not_checked(tmp_path):
    folder = three(tmp_path)[1]
    (tmp_path / "inbox").mkdir()
    found = verify(folder.rename(tmp_path / "inbox" / folder.name), [KEY.public_key()])
    assert found.problems == [] and "no other run is beside it" in found.notes[0]


def test_a_bundle_from_before_the_plan_verifies_with_notes(tmp_path):
    folder, run = sealed(tmp_path)
    for name in ("assessment-plan.json", "component-definition.json"):
        (folder / name).unlink()
    resign(folder)
    assert_problem(folder, "assessment-plan.json: it is not readable")  # these templates make it
    edit("run.json", run["renderer"], "0" * 64)(folder)
    resign(folder)
    found = verify(folder, [KEY.public_key()])
    assert found.problems == []
    assert any("component-definition.json was made by another version" in note for note in found.notes), found.notes


def test_another_tool_can_check_the_signature(tmp_path):
    folder, _ = sealed(tmp_path)
    envelope = json.loads((folder / STATEMENT).read_text())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(folder / "signer.pem"), "-rawin"]
    places = ["-in", str(tmp_path / "pae"), "-sigfile", str(tmp_path / "sig")]
    assert subprocess.run([*command, *places], capture_output=True).returncode == 0
    (tmp_path / "pae").write_bytes(b"DSSEv1 x")
    assert subprocess.run([*command, *places], capture_output=True).returncode != 0


def test_the_statement_names_what_the_run_was_made_of(tmp_path):
    folder, run = sealed(tmp_path)
    stated, _ = provenance.read(folder)
    assert stated["subject"] == [{"name": SUMS, "digest": {"sha256": strict.digest(folder / SUMS)}}]
    made = {one["name"]: one["digest"] for one in stated["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert made["source"] == {"gitCommit": ABOUT["commit"]} and made["requirements.lock"] == {"sha256": "b" * 64}
    assert made["istio/pilot:1"] == {"sha256": "c" * 64}
    metadata = stated["predicate"]["runDetails"]["metadata"]
    assert metadata == {"invocationId": folder.name, "startedOn": run["started"], "finishedOn": run["finished"]}


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert signing_key.own_keys(home) == [] and not list(tmp_path.iterdir())
    first, again = signing_key.ensure_key(home), signing_key.ensure_key(home)
    assert signing_key.fingerprint(first.public_key()) == signing_key.fingerprint(again.public_key())
    assert signing_key.file(home).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in signing_key.file(home).parent.iterdir()] == ["signing-key.pem"]
    with pytest.raises(BundleError, match="FileNotFoundError"):
        signing_key.ensure_key({**home, "RUNBOOK_SIGNING_KEY": str(tmp_path / "none.pem")})


def test_the_command_verifies_with_a_key_that_it_is_given(tmp_path, capsys):
    folder, _ = sealed(tmp_path)
    assert main(["verify", str(folder), "--key", str(folder / "signer.pem")]) == 0
    assert signing_key.fingerprint(KEY.public_key())[:16] in capsys.readouterr().out
    CELL(folder)
    assert main(["verify", str(folder), "--key", str(folder / "signer.pem")]) == 1
    assert "notebooks/01-a.ipynb" in capsys.readouterr().out
    assert hashlib.sha256((folder / "signer.pem").read_bytes()).hexdigest() in (folder / SUMS).read_text()
