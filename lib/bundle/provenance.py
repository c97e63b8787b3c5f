"""The signed origin of a bundle: an in-toto statement with SLSA provenance in a DSSE envelope.

Sources: in-toto attestation v1 (Statement), SLSA v1 (provenance), DSSE v1.0 (envelope and pre-authentication encoding).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from lib import strict
from lib.bundle import signing_key

FILE, KEY_FILE = "provenance.dsse.json", "signer.pem"
PAYLOAD = "application/vnd.in-toto+json"
BEFORE = "previous run"  # the name of the material that is the run before
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD, BUILDER = "urn:istio-keycloak-runbook:run:v1", "urn:istio-keycloak-runbook:runner"


def statement(run: dict, sums: str, sums_sha256: str) -> dict:
    """Return the statement about a run.

    Args:
        run: the content of run.json.
        sums: the name of the file that lists the bundle's files.
        sums_sha256: the SHA-256 of that file in hex.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": sums, "digest": {"sha256": sums_sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {"env": run["env"], "command": run["command"], "params": run["params"]},
                "resolvedDependencies": _materials(run),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": run["versions"]["runner"]},
                "metadata": {"invocationId": run["run"], "startedOn": run["started"], "finishedOn": run["finished"]},
                "byproducts": [{"name": "verdict", "annotations": {"verdict": run["verdict"], **run["totals"]}}],
            },
        },
    }


def sign(statement: dict, key: Ed25519PrivateKey) -> str:
    """Return the statement in an envelope signed with the key, as JSON."""
    public = SSlibKey.from_crypto(key.public_key(), keyid=signing_key.fingerprint(key.public_key()))
    payload = json.dumps(statement, indent=1)  # indented JSON in base64 does not begin with eyJ, as a token does
    envelope = Envelope(payload.encode(), PAYLOAD, {})
    envelope.sign(CryptoSigner(key, public))
    return json.dumps(envelope.to_dict(), indent=1) + "\n"


def read(folder: Path) -> tuple[dict, Envelope]:
    """Return the statement in a bundle and its envelope; raise ValueError if the file holds no statement."""
    try:
        envelope = Envelope.from_dict(strict.json_value(strict.text(folder / FILE, strict.SMALL)))
        statement = strict.json_value(envelope.payload.decode())
        str(envelope.payload_type).encode()
    except (KeyError, TypeError, AttributeError, ValueError, SecureSystemsError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not isinstance(statement, dict) or not isinstance(envelope.payload_type, str):
        raise ValueError("its payload or its payload's type is of another kind than a statement has")
    return statement, envelope


def unsigned(folder: Path, envelope: Envelope) -> str:
    """Return what an envelope holds that no signature covers, "" if it is as `sign` writes it."""
    if envelope.payload_type != PAYLOAD:
        return f"its payloadType is {envelope.payload_type}, expected {PAYLOAD}"
    if len(envelope.signatures) != 1:
        return f"it has {len(envelope.signatures)} signatures, expected one"
    written = json.dumps(envelope.to_dict(), indent=1) + "\n"
    more = [name for one in envelope.signatures.values() for name in one.unrecognized_fields]
    if more or strict.text(folder / FILE, strict.SMALL) != written:
        return "it has fields or spaces that `sign` does not write, and that nobody signed"
    return ""


def place(statement: dict) -> tuple[str, str, dict[str, str] | None]:
    """Return the SHA-256 that a statement is about, the run's name, and the run before it as {run, sha256} or None.

    Raises:
        ValueError: the statement is not as `statement` makes it.
    """
    try:
        predicate = statement["predicate"]
        subject, name = statement["subject"][0]["digest"]["sha256"], predicate["runDetails"]["metadata"]["invocationId"]
        materials = predicate["buildDefinition"]["resolvedDependencies"]
        before = [one for one in materials if one["name"] == BEFORE and "uri" in one]
        previous = {"run": before[0]["uri"], "sha256": before[0]["digest"]["sha256"]} if before else None
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the statement lacks {error}") from None
    if not all(isinstance(one, str) for one in (subject, name, *(previous or {}).values())):
        raise ValueError("the statement has other values than texts")
    return subject, name, previous


def signer(envelope: Envelope, keys: Iterable[Ed25519PublicKey]) -> Ed25519PublicKey | None:
    """Return the first of the keys that signed the envelope, or None."""
    return next((key for key in keys if _signed_by(envelope, key)), None)


def _signed_by(envelope: Envelope, key: Ed25519PublicKey) -> bool:
    try:
        envelope.verify([SSlibKey.from_crypto(key, keyid=signing_key.fingerprint(key))], 1)
        return True
    except (VerificationError, ValueError):
        return False


def _materials(run: dict) -> list[dict]:
    source = {"name": "source", "digest": {"gitCommit": run["commit"]}, "annotations": {"dirty": run["dirty"]}}
    lock = {"name": "requirements.lock", "digest": {"sha256": run["requirements_lock_sha256"]}}
    images = [
        {"name": name, "digest": dict([value.split(":", 1)])} for name, value in run["images"].items() if ":" in value
    ]
    before = run["previous"]
    chain = [{"name": BEFORE, "uri": before["run"], "digest": {"sha256": before["sha256"]}}] if before else []
    return [source, lock, *images, *chain]
