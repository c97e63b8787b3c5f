"""The verifier of one file agrees with `python -m lib verify` on what both look at, and needs nothing but Python."""

import ast
import random
import re
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lib.bundle import signing_key
from lib.bundle.verify import verify as whole
from lib.params import ROOT
from tests.support import attacks, hostile
from tests.support.attacks import ATTACKS, OUTSIDER, SIGNER
from tools import verify_bundle

FILE = ROOT / "tools" / "verify_bundle.py"
KEY = SIGNER.public_key()
RAW = KEY.public_bytes_raw()
SHARED = re.compile(  # the beginnings of the sentences about what both look at
    r"SHA256SUMS is not|There is no SHA256SUMS|SHA256SUMS was changed after it was signed|The folder "
    r"|provenance\.dsse\.json (?!contains)|signer\.pem is not the key|The signature of|The bundle is signed by"
    r"|This run was replaced|run\.json is not readable|.* (was changed|was added) after the bundle was sealed"
    r"|(?!.* ran, but).*[^,] is missing\.$|.*, where a file was sealed\.$|.*, the run before .*, (was|has)"
    r"|.*its SHA256SUMS was removed\.$|.* was inserted between|.* as the run before it, which is not older"
    r"|.* that it is its environment's first run"
)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return attacks.target(tmp_path_factory.mktemp("three"))


def head(sentence):
    """A sentence up to what the two commands word in their own way."""
    return re.split(r" \(|: the run was sealed|: the bundle is incomplete|(?<=not readable): ", sentence)[0]


def shared(problems):
    return {head(one) for one in problems if SHARED.match(one)}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_it_says_of_an_attack_what_the_whole_one_says_of_what_both_look_at(attack, three, tmp_path):
    shutil.copytree(three.parent, tmp_path / "tiny")
    folder = attack.act(tmp_path / "tiny" / three.name) or tmp_path / "tiny" / three.name
    expected, found = whole(folder, [KEY], pages=False).problems, verify_bundle.verify(folder, [RAW])[0]
    assert {head(one) for one in found} >= shared(expected), expected
    assert bool(found) <= bool(expected), found
    assert found or attack.who != OUTSIDER  # nobody without the key can make a bundle that it accepts


@pytest.mark.parametrize("seed", range(40))
def test_it_never_accepts_what_the_whole_one_refuses_for_what_both_look_at(seed, three, tmp_path):
    dice = random.Random(seed)
    shutil.copytree(three.parent, tmp_path / "tiny")
    folder = dice.choice(sorted((tmp_path / "tiny").iterdir()))
    for _ in range(dice.randrange(1, 4)):
        with suppress(OSError, ValueError, IndexError):
            hostile.mutate(folder, dice)
    for run in sorted((tmp_path / "tiny").iterdir()):
        expected, found = whole(run, [KEY], pages=False).problems, verify_bundle.verify(run, [RAW])[0]
        assert bool(shared(expected)) <= bool(found) <= bool(expected), (expected, found)


def test_it_accepts_each_honest_run_and_says_what_it_did_not_check(three):
    for folder in three.parent.iterdir():
        assert verify_bundle.verify(folder, [RAW]) == ([], [])


def test_a_bundle_alone_says_that_its_chain_was_not_checked(three, tmp_path):
    copy = shutil.copytree(three, tmp_path / "inbox" / three.name)
    problems, notes = verify_bundle.verify(copy, [RAW])
    assert problems == [] and "no other run is beside it" in notes[0]


def run(*arguments):
    """The file as an auditor runs it: without this project's packages, its environment and its folder."""
    command = [sys.executable, "-I", "-S", str(FILE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def test_the_program_wants_a_fingerprint_or_a_key_from_elsewhere(three, tmp_path):
    mark, pem, other = signing_key.fingerprint(KEY), tmp_path / "signer.pem", tmp_path / "other.pem"
    pem.write_text(signing_key.pem(KEY))
    other.write_text(signing_key.pem(attacks.STRANGER.public_key()))
    for key in (mark, pem):
        done = run(three, "--key", key)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"signed by {mark}" in done.stdout and "Not done: making the tables" in done.stdout
    for keys in ((), ("--key", other), ("--key", mark[:16]), ("--key", "0" * 64)):
        done = run(three, *keys)
        assert done.returncode == 1 and f"The bundle is signed by {mark}, which is not a trusted key" in done.stdout


def test_nothing_is_printed_that_a_terminal_obeys(three, tmp_path):
    copy = shutil.copytree(three, tmp_path / three.name)
    attacks.write(f"{attacks.FORGED}/x\nwhole", "")(copy)
    done = run(copy, "--key", signing_key.fingerprint(KEY))
    assert done.returncode == 1 and "\x1b" not in done.stdout and "\nwhole" not in done.stdout


def test_it_imports_the_standard_library_alone_and_reads_as_python_3_9():
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {(node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert names and {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


# RFC 8032, 7.1, tests 1 to 3: public key, message, signature.
VECTORS = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(key, message, signature):
    key, message, signature = map(bytes.fromhex, (key, message, signature))
    assert verify_bundle.signed(key, message, signature)
    assert not verify_bundle.signed(key, message + b"x", signature)
    more = int.from_bytes(signature[32:], "little") + verify_bundle.ORDER  # the same signature, written in another way
    assert not verify_bundle.signed(key, message, signature[:32] + more.to_bytes(32, "little"))


def openssl(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


@pytest.mark.parametrize("seed", range(30))
def test_it_judges_signatures_as_openssl_does(seed):
    dice = random.Random(seed)
    private = Ed25519PrivateKey.from_private_bytes(dice.randbytes(32))
    message = dice.randbytes(dice.randrange(200))
    parts = [private.public_key().public_bytes_raw(), message, private.sign(message)]
    assert verify_bundle.signed(*parts) and openssl(*parts)
    at = dice.choice((0, 2))
    bit = dice.randrange(len(parts[at]) * 8)
    parts[at] = (int.from_bytes(parts[at], "little") ^ 1 << bit).to_bytes(len(parts[at]), "little")
    assert verify_bundle.signed(*parts) == openssl(*parts)
