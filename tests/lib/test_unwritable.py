"""Outputs that cannot be written: each command says so in two sentences with exit code 2, before it asks or changes."""

import os
import shlex
import subprocess
import sys
from functools import partial

import pytest

from lib.bundle import archive, history_pages
from lib.errors import NotWritable
from lib.files import require_folder, require_folders_of
from lib.params import ROOT
from tests.support.sealed_bundle import sealed
from tests.support.tiny import KEY

URL = ["--url", "http://127.0.0.1:9/", "--issuer", "x", "--audience", "x", "--token-command", "touch asked"]
COMMANDS = {
    "run": ["lib", "run", "--env", "dev"],
    "watch": ["lib.watch", "put", "--env", "dev", "--image", "none"],
    "probes": ["lib.probes", *URL, "--csv", "outputs/x.csv"],
}
VOLUMES = {
    "ro": "{}Read-only file system. Let user 0 write there.\n",
    "size=16k": "{}No space left on device. Make room on its disk.\n",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a volume")
@pytest.mark.parametrize(("name", "options"), [("run", "ro"), ("run", "size=16k"), ("watch", "ro"), ("probes", "ro")])
def test_a_volume_that_takes_nothing_is_two_sentences(name, options, tmp_path):
    """The volume hides the outputs in a mount namespace that ends with the command."""
    command = shlex.join([sys.executable, "-m", *COMMANDS[name]])
    mounted = f"mount -t tmpfs -o {options} none outputs && exec {command}"
    homes = {name: str(tmp_path / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "EKS_SANDBOX_HOME")}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted], cwd=ROOT, env=os.environ | homes, capture_output=True, text=True
    )
    where = {"watch": "outputs/watch/dev", "probes": "outputs"}.get(name, "outputs/dev")
    place = "" if name == "probes" else f"{ROOT}/"
    expected = VOLUMES[options].format(f"{place}{where} cannot be written: ")
    assert (done.returncode, done.stderr, done.stdout) == (2, expected, "")
    assert not (ROOT / "asked").exists(), "nobody asked for a token"


def test_a_folder_below_a_file_takes_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotWritable, match="file/dev cannot be written: Not a directory. Let user "):
        require_folder(tmp_path / "file" / "dev")
    require_folder(tmp_path / "new" / "dev")
    assert [*(tmp_path / "new" / "dev").iterdir()] == []


def test_a_file_that_exists_needs_no_room_in_its_folder(tmp_path):
    (tmp_path / "file").touch()
    require_folders_of(None, tmp_path / "file", tmp_path / "new" / "x.csv")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(NotWritable):
        require_folders_of(tmp_path / "file" / "x.csv")


def test_a_page_or_a_zip_that_cannot_be_written_is_two_sentences(tmp_path):
    folder, _ = sealed(tmp_path)
    writers = {
        f"compare-{folder.name}--{folder.name}.html": partial(history_pages.write_comparison, folder, folder, {}),
        "history.html": partial(history_pages.write_history, folder.parent),
        "x.zip": partial(archive.pack, folder, folder.parent / "x.zip", [KEY.public_key()]),
    }
    for name, write in writers.items():
        (folder.parent / name).mkdir()
        with pytest.raises(NotWritable, match=f"/{name} cannot be written: Is a directory. Let user "):
            write()
    assert not [*folder.parent.glob(".*")], "no draft is left"


SEALED_AGAIN = """
import subprocess, sys
from pathlib import Path
from lib.bundle import seal
from lib.errors import BundleError
from tests.support.sealed_bundle import KEY, sealed
folder, run = sealed(Path(sys.argv[1]))
(folder / "SHA256SUMS").unlink()
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
try:
    seal.seal(folder, run, KEY)
except BundleError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a volume")
def test_a_volume_that_becomes_read_only_during_a_run_is_a_sentence(tmp_path):
    mounted = (
        f"mount -t tmpfs none {tmp_path} && exec {shlex.join([sys.executable, '-c', SEALED_AGAIN, str(tmp_path)])}"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], cwd=ROOT, capture_output=True, text=True)
    assert "is incomplete (OSError: [Errno 30] Read-only file system" in done.stdout, done.stderr
