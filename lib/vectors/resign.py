"""Remake a test vector on JSON claims, since Envoy reads the payload before the signature.

The vectors sign plain words. The new token keeps the vector's key, header and fault; the vector's payload becomes a
claim of the new payload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from lib.crypto.base64url import FOREIGN, canonical, decoded, encoded, with_unused_bits
from lib.vectors import signatures
from lib.vectors.model import Vector

ATTACKER = 7  # a private key of ours for the attacker, since the vectors do not have the attacker's
EDITS = 4  # characters that may differ between two spellings of one signature
AFFIXES = re.compile(r"^([^A-Za-z0-9_-]*)(.*?)([^A-Za-z0-9_-]*)$", re.S)


@dataclass(frozen=True)
class Derived:
    """A token, and a description of how its signature was made."""

    jws: str
    how: str


def claims(payload: str) -> str:
    """Return the payload segment that replaces a vector's: JSON claims without `exp`.

    Its last character has unused bits. Vectors that set such bits need them.
    """
    text = json.dumps({"iss": "https://vectors.example", "sub": "vector", "was": canonical(payload)})
    return encoded(text.encode() + b" " * ((1 - len(text)) % 3))


def derive(vectors: Iterable[Vector]) -> list[Derived]:
    """Return each vector on JSON claims, in the order of the vectors."""
    vectors = list(vectors)
    known: dict[str, list[Known]] = {}
    for one in vectors:
        if one.result == "valid" and one.jws.count(".") == 2:
            new = _derived(one, []).jws.split(".")
            known.setdefault(one.group, []).append(Known(_parts(one), new))
    return [_derived(one, known.get(one.group, [])) for one in vectors]


@dataclass(frozen=True)
class Known:
    """The three parts of a valid vector, and their replacements; other vectors are compared with the old parts."""

    old: list[str]
    new: list[str]


def _derived(vector: Vector, known: Sequence[Known]) -> Derived:
    if vector.jws.startswith("{"):
        return Derived(_replaced(vector.jws, known), "parts replaced in the JSON text")
    parts = _parts(vector)
    if len(parts) != 3:
        became = {old: new for one in known for old, new in zip(one.old, one.new, strict=True)}
        return Derived(".".join(became.get(part, part) for part in parts), "parts replaced where they stand")
    header, payload, signature = parts
    if "jwk" in _members(header):
        return _embedded(header, payload)
    sent = f"{header}.{_payload(vector)}"
    made, how = _signature(vector, known, sent) if signature else ("", "no signature")
    return Derived(f"{sent}.{made}", how)


def _payload(vector: Vector) -> str:
    """Return the new payload; an empty one stays empty, unless the vector signed it empty."""
    header, payload, signature = _parts(vector)
    if not payload and not _recognised(vector, [(f"{header}.", "")], decoded(signature)):
        return ""
    return _carried(payload)


def _carried(payload: str) -> str:
    found = AFFIXES.match(payload)
    assert found  # the pattern matches every text
    before, core, behind = found.groups()
    new = claims(core)
    inner = with_unused_bits(new) if FOREIGN.sub("", core) != canonical(core) else new
    return before + inner + behind


def _signature(vector: Vector, known: Sequence[Known], sent: str) -> tuple[str, str]:
    header, payload, signature = _parts(vector)
    heads = dict.fromkeys([header, canonical(header), *(one.old[0] for one in known)])
    loads = dict.fromkeys([payload, canonical(payload), *(one.old[1] for one in known)])
    texts = [(f"{head}.{load}", f"{head}.{_carried(load)}") for head, load in product(heads, loads)]
    if signature == canonical(signature) and (found := _recognised(vector, texts, decoded(signature))):
        return found
    if found := _edited(signature, known):
        return found
    for key in vector.private:
        made = signatures.flawed(key, _alg(header), f"{header}.{payload}", decoded(signature))
        if made:
            return encoded(made[0](sent)), made[1]
    return signature, "signature kept as it is"


def _recognised(vector: Vector, texts: Sequence[tuple[str, str]], signature: bytes) -> tuple[str, str] | None:
    """Return the new signature for the first old text that a key signed, with a description; None if no key did."""
    for (old, new), key in product(texts, vector.private):
        if made := signatures.recognised(key, _alg(old.partition(".")[0]), old, signature):
            return encoded(made[0](new)), made[1]
    return None


def _edited(text: str, known: Sequence[Known]) -> tuple[str, str] | None:
    """Return the new valid signature with the edits of this edited one, with a description; None without edits."""
    for old, new in ((one.old[2], one.new[2]) for one in known):
        if old in text:
            return text.replace(old, new), "the valid signature, characters added"
        if len(old) == len(text) and sum(a != b for a, b in zip(old, text, strict=True)) <= EDITS:
            return _same_edit(old, text, new), "the valid signature, characters replaced"
    return None


def _same_edit(old: str, text: str, new: str) -> str:
    """Return `new` with the characters of `text` that differ from `old`; "Y" if `new` has such a character already."""
    triples = zip(old, text, new, strict=True)
    return "".join(n if o == t else t if t != n else "Y" for o, t, n in triples)


def _replaced(text: str, known: Sequence[Known]) -> str:
    for old, new in ((old, new) for one in known for old, new in zip(one.old[1:], one.new[1:], strict=True)):
        text = text.replace(f'"{old}"', f'"{new}"')
    return text


def _embedded(header: str, payload: str) -> Derived:
    """Return a token whose header embeds the key that signed it: our key instead of the attacker's."""
    members = json.loads(decoded(header))
    numbers = signatures.ec_public(ATTACKER)
    members["jwk"] |= {"x": encoded(numbers[0]), "y": encoded(numbers[1])}
    sent = f"{encoded(json.dumps(members, separators=(',', ':')).encode())}.{_carried(payload)}"
    made = signatures.ecdsa(ATTACKER, "256", sent)
    return Derived(f"{sent}.{encoded(made)}", "signed by our attacker's key, which the header embeds")


def _alg(header: str) -> str:
    return str(_members(header).get("alg", ""))


def _members(header: str) -> dict:
    try:
        found = json.loads(decoded(header))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _parts(vector: Vector) -> list[str]:
    return vector.jws.split(".")
