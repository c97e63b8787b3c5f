"""A second pair of eyes: detect-secrets finds nothing in a run's bundle but what is explained here."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings

pytestmark = pytest.mark.sandbox

JWK = r'\\"(n|x5c|x5t|kid|x5t#S256)\\"'

# What it takes for a secret, and why it is none: the files, the kind, what the value is, what its line must hold.
FALSE_ALARMS = [
    # digests of evidence, fingerprints of certificates, and those of tokens, which a reader compares
    (r"(events|notebooks)/.*", "Hex High Entropy String", r"[0-9a-f]{64}|[0-9a-f]{16}", r"sha256|fingerprint"),
    (r"index\.html", "Base64 High Entropy String", r"sha256-.*", r"Content-Security-Policy"),
    # the commit of the code; digests of its lock file, of its pages' templates, of the run before
    (r"[a-z-]+\.json", "Hex High Entropy String", r"[0-9a-f]{40}", r""),
    (r"run\.json", "Hex High Entropy String", r"[0-9a-f]{64}", r'"\w*sha256"|"renderer"'),
    # the signed statement, its signature and the name of the signer's key
    (r"provenance\.dsse\.json", r".* High Entropy String", r".*", r'"(payload|keyid|sig)"'),
    # the name of a key, which each token states
    (r"events/.*", "Base64 High Entropy String", r"[\w-]{43}", r'"kid": "[\w-]{43}"'),
    # the realm's public keys and their certificates, in the listeners' JWKS and in the authorizer's data
    (r"mesh/.*\.listeners\.json", "Base64 High Entropy String", r".*", JWK),
    (r"objects/15-roles\.yaml", "Base64 High Entropy String", r".*", JWK),
    # names of Secrets, and the settings of Istio's chart that name one
    (r"objects/.*", "Secret Keyword", r"[a-z0-9-]+", r"(?i)secret"),
    (r"objects/02-istio\.yaml", "Secret Keyword", r".*", r"(?i)secret|cacert|password|token|key"),
]
PICTURE = re.compile(r'data:image/png;base64,(?:[\w+/=]|\\n|",\s*")+')


def test_a_detector_of_others_finds_no_secret_in_the_bundle(first, tmp_path):
    found = SecretsCollection(root=str(tmp_path))
    with detector():
        for path in sorted(first.rglob("*")):
            if path.is_file() and path.parent.name != "html":  # the pages say what the notebooks say
                copy = tmp_path / path.relative_to(first)
                copy.parent.mkdir(exist_ok=True)
                copy.write_text(PICTURE.sub("a picture", path.read_text()))
                found.scan_file(str(copy.relative_to(tmp_path)))
    assert not [alarm for file, secret in found if (alarm := unexplained(tmp_path, file, secret))]


def test_the_detector_looks_also_into_a_line_with_a_call(tmp_path):
    found = SecretsCollection(root=str(tmp_path))
    (tmp_path / "x.yaml").write_text("---\na: 1\n---\npassword: 'x7Gk2mQ9vL4pR8sT' # if a == b(c)\n")
    with detector():
        found.scan_file("x.yaml")
    assert [secret.type for _, secret in found] == ["Secret Keyword"]


@contextmanager
def detector():
    """Scan with all of the detector's rules, without its filter of references: that skips lines such as `a = b(c)`.

    The filter's pattern took 70 % of the scan, on lines of tables, which are long and have many spaces.
    """
    with default_settings() as settings:
        settings.disable_filters("detect_secrets.filters.heuristic.is_indirect_reference")
        yield


def unexplained(bundle: Path, file: str, secret) -> str:
    """Return where the alarm is and its kind, but not the value; "" if it is explained."""
    line = (bundle / file).read_text().splitlines()[secret.line_number - 1]
    for files, kind, value, holds in FALSE_ALARMS:
        texts = (files, file), (kind, secret.type), (value, secret.secret_value)
        if all(re.fullmatch(pattern, text) for pattern, text in texts) and re.search(holds, line):
            return ""
    return f"{file}:{secret.line_number}: {secret.type}"
