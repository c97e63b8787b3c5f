"""The laws of the documents and the tracked files: no secret, no gap, and what the README names exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from lib import params

ROOT = Path(__file__).resolve().parent.parent
MADE_UP = (
    "test_http_client.py",
    "test_docs.py",
    "test_remote.py",
    "test_versions.py",
    "test_authenticator.py",
    "test_leaks.py",
    "tiny.py",
)  # hold such, invented


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_params_of_every_environment_are_valid():
    for path in (ROOT / "params").glob("*.yml"):
        assert path.stem == params.FLEET or params.load(path.stem).env == path.stem


def test_nothing_tracked_holds_a_secret_or_an_index_address():
    forbidden = [
        r"eyJ[A-Za-z0-9_-]{16,}\.",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]",
        r"https?://[^\s\"']*/simple\b",
        r"--(?:extra-)?index-url|--find-links",
        r"https?://[^\s\"'/]*@",
    ]
    for path in tracked():
        if path.name in MADE_UP:
            continue
        text = path.read_text()
        assert not [pattern for pattern in forbidden if re.search(pattern, text)], path


def test_the_readme_names_what_make_has():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named <= targets
    assert targets - {"help"} <= named


def test_the_readme_links_files_that_exist_and_the_architecture():
    links = re.findall(r"\]\(([^)#:\s]+)\)", (ROOT / "README.md").read_text())
    assert "docs/architecture.md" in links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_no_document_has_a_gap_left():
    for path in [ROOT / "README.md", ROOT / "outputs" / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"@[A-Z]+@", path.read_text()), path


def test_the_bundle_contract_names_every_file():
    contract = (ROOT / "outputs" / "README.md").read_text()
    for name in ("run.json", "checks.csv", "responses.csv", "tokens.csv", "changes.csv", "params.yml", "SHA256SUMS"):
        assert name in contract
