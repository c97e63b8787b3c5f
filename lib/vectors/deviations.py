"""The rules that explain why Envoy's verdict on a test vector differs from its authors'."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from lib.crypto.base64url import FOREIGN, canonical, decoded
from lib.vectors import signatures
from lib.vectors.model import Vector

AGREES, STRICTER, LAXER, UNSENDABLE = "agrees", "stricter", "laxer", "not sendable"
HALF = 32  # bytes of r and of s in ES256


@dataclass(frozen=True)
class Judged:
    """The input of a rule: the vector, the sent token, Envoy's answer, and the valid tokens of the vector's group."""

    vector: Vector
    sent: str
    answer: str
    valid: frozenset[str] = frozenset()

    @property
    def parts(self) -> list[str]:
        """The token's parts, split at the dots."""
        return self.sent.split(".")

    @property
    def genuine(self) -> bool:
        """Whether one of the vector's keys signed the sent header and payload with the header's algorithm."""
        full, alg = [part for part in self.parts if part], str(self.header.get("alg", ""))
        if len(full) != 3:
            return False
        text, signature = ".".join(full[:2]), decoded(full[2])
        found = (signatures.recognised(key, alg, text, signature) for key in self.vector.private)
        return any(one and one[1] == f"signed again, {alg}" for one in found)

    @property
    def header(self) -> dict:
        """The token's header; {} if it is no JSON object."""
        try:
            found = json.loads(decoded(self.parts[0]))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Deviation:
    """A kind of difference: the verdict, a condition on the token, and the reason."""

    verdict: str
    name: str
    reason: str
    holds: Callable[[Judged], bool]


def explained(verdict: str, judged: Judged) -> Deviation | None:
    """Return the first rule that explains the verdict, or None. No rule excuses a wrong signature that passes."""
    if verdict == LAXER and not judged.genuine:
        return None
    return next((rule for rule in RULES if rule.verdict == verdict and rule.holds(judged)), None)


def _keys(judged: Judged, **wanted: str) -> bool:
    return any(all(key.get(name) == value for name, value in wanted.items()) for key in judged.vector.keys)


def _other_algorithm(judged: Judged) -> bool:
    named = [key["alg"] for key in judged.vector.keys if "alg" in key]
    return judged.answer == "401 J17" and bool(named) and judged.header.get("alg") not in named


def _foreign(judged: Judged) -> bool:
    inside = any(FOREIGN.search(part) for part in judged.parts[:2])
    return judged.answer in ("401 J2", "401 J7") and inside


def _empty_part(judged: Judged) -> bool:
    full = [part for part in judged.parts if part]
    return len(judged.parts) > 3 and len(full) == 3


def _spaces(judged: Judged) -> bool:
    """Return whether the parts are correct except for spaces."""
    return " " in judged.sent and all(_right(part.replace(" ", "")) for part in judged.parts)


def _right(part: str) -> bool:
    return not FOREIGN.search(part) and part == canonical(part)


def _unused_bits(judged: Judged) -> bool:
    head, load, made = (judged.parts + ["", "", ""])[:3]
    return _right(head) and _right(made) and not FOREIGN.search(load) and load != canonical(load)


def _zeros_before(judged: Judged) -> bool:
    made = decoded(judged.parts[-1])
    halves = made[: len(made) // 2], made[len(made) // 2 :]
    longer = len(halves[0]) == len(halves[1]) > HALF
    return judged.header.get("alg") == "ES256" and longer and all(not any(half[:-HALF]) for half in halves)


def _mixed(judged: Judged) -> bool:
    return len({key.get("kty") == "oct" for key in judged.vector.keys}) == 2


def _twice(judged: Judged) -> bool:
    names = [key.get("kid") for key in judged.vector.keys]
    return names.count(judged.header.get("kid")) > 1


def _short_modulus(judged: Judged) -> bool:
    return any(len(decoded(key["n"])) < 256 for key in judged.vector.keys if "n" in key)


def _short_secret(judged: Judged) -> bool:
    found = re.fullmatch(r"HS(\d+)", str(judged.header.get("alg")))
    width = int(found[1]) // 8 if found else 0
    return any(0 < len(decoded(key["k"])) < width for key in judged.vector.keys if "k" in key)


RULES = (
    Deviation(
        STRICTER,
        "no JSON claims",
        "The payload is no JSON object. RFC 7519 7.2 requires one, and Envoy reads it before the signature.",
        lambda judged: judged.answer == "401 J8",
    ),
    Deviation(
        STRICTER,
        "empty payload",
        "The payload is empty. Envoy requires three parts that are not empty; a JWT always has claims.",
        lambda judged: judged.answer == "401 J1" and len(judged.parts) == 3 and not judged.parts[1],
    ),
    Deviation(
        STRICTER,
        "expired example",
        "The RFC's example expired in 2011; Envoy checks the time before the signature.",
        lambda judged: judged.answer == "401 J15" and "exp" in json.loads(decoded(judged.parts[1])),
    ),
    Deviation(
        STRICTER,
        "key of another algorithm",
        "The key names another algorithm than the token, and Envoy refuses the token (RFC 7517 4.4, RFC 8725 3.1). The"
        " vector counts it as valid.",
        _other_algorithm,
    ),
    Deviation(
        STRICTER,
        "no such algorithm",
        "The key names ES521, which does not exist (RFC 7518 3.1 has ES512 for P-521). Envoy does not load the key.",
        lambda judged: judged.answer.startswith("not loaded") and _keys(judged, alg="ES521", crv="P-521"),
    ),
    Deviation(
        STRICTER,
        "foreign characters",
        "The token has a character outside of base64url. The vector counts it as valid; RFC 7515 2 does not allow such"
        " characters, and Envoy refuses them.",
        _foreign,
    ),
    Deviation(
        LAXER,
        "the vector contradicts itself",
        "The group also has this token, character by character, as valid. The token does not have the fault that its"
        " comment describes.",
        lambda judged: judged.vector.jws in judged.valid,
    ),
    Deviation(
        LAXER,
        "empty part",
        "Envoy ignores empty parts, and thus an extra dot (RFC 7515 7.1 has two dots). The signed text is unchanged;"
        " nothing can be smuggled in, but one token has many spellings.",
        _empty_part,
    ),
    Deviation(
        LAXER,
        "spaces",
        "Envoy's base64url reader ignores spaces (RFC 7515 2 allows none). The signature covers spaces in header and"
        " payload; spaces in the signature change no byte of it.",
        _spaces,
    ),
    Deviation(
        LAXER,
        "unused bits",
        "The last character of the payload has unused bits, and they are set. Envoy ignores them; the signature covers"
        " the character itself.",
        _unused_bits,
    ),
    Deviation(
        LAXER,
        "long ES256 signature",
        "Envoy halves a signature of any length: r and s may have zeros before them (RFC 7518 3.4 requires 64 bytes)."
        " r and s are correct, and nothing is forged, but one token has many spellings.",
        _zeros_before,
    ),
    Deviation(
        LAXER,
        "use",
        "Envoy does not read a key's `use`: an encryption key verifies signatures too, unless its `alg` differs from"
        " the token's.",
        lambda judged: _keys(judged, use="enc"),
    ),
    Deviation(
        LAXER,
        "key_ops",
        "Envoy does not read a key's `key_ops`: an encryption key verifies signatures too, unless its `alg` differs"
        " from the token's.",
        lambda judged: any("key_ops" in key and "verify" not in key["key_ops"] for key in judged.vector.keys),
    ),
    Deviation(
        LAXER,
        "mixed set",
        "One set has a secret among public keys. Envoy uses the key that kid and alg name. The publisher of such a set"
        " reveals the secret, and must not mix them.",
        _mixed,
    ),
    Deviation(
        LAXER,
        "kid twice",
        "Two keys have one kid, which RFC 7517 4.5 advises against. Envoy tries each.",
        _twice,
    ),
    Deviation(
        LAXER,
        "weak RSA key (ROCA)",
        "Envoy does not check keys for this weakness (CVE-2017-15361); the publisher of the keys must.",
        lambda judged: "Roca" in judged.vector.comment and judged.header.get("alg") == "RS256",
    ),
    Deviation(
        LAXER,
        "short RSA key",
        "Envoy accepts RSA keys below 2048 bits (RFC 7518 3.3 forbids them); the publisher must check the length.",
        _short_modulus,
    ),
    Deviation(
        LAXER,
        "short secret",
        "Envoy accepts secrets shorter than the hash (RFC 7518 3.2 forbids them); their maker must check the length.",
        _short_secret,
    ),
)
