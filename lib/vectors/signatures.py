"""Signatures as numbers: find the key and text of a signature, and repeat its flaw for another text.

Only for the test vectors, whose private keys are public: this code is not hardened, and must not sign trusted data.
Sources: RFC 8017 (RSA), RFC 7518 (the algorithms' names), FIPS 186-4 (ECDSA).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from lib.crypto.base64url import decoded

Remake = Callable[[str], bytes]  # returns the signature of a text
HASHES = ("256", "384", "512")
PREFIX = {  # DigestInfo before the hash, RFC 8017 9.2
    "256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
CURVES = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "512": ec.SECP521R1()}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
Shift = Callable[[int], int]
SHIFTED: dict[str, tuple[Shift, Shift]] = {  # a change of r or s of an ECDSA signature: how to undo and redo it
    "as it is": (lambda number: number, lambda number: number),
    "plus the order": (lambda number: number - ORDER, lambda number: number + ORDER),
    "plus 2^256": (lambda number: number - 2**256, lambda number: number + 2**256),
    "a zero byte behind": (lambda number: number >> 8, lambda number: number << 8),
}


def recognised(jwk: dict, alg: str, text: str, signature: bytes) -> tuple[Remake, str] | None:
    """Return a function that signs another text as `signature` signs this one, with a description.

    Args:
        jwk: A private key.
        alg: The algorithm in the token's header; the signature may use another one.
        text: The signed text.
        signature: The signature, with or without a flaw.

    Returns:
        None if the key did not sign the text, or if the flaw is unknown.
    """
    kind = _mac if "k" in jwk else _rsa if "n" in jwk else _ecdsa
    return kind(jwk, alg, text, signature)


def flawed(jwk: dict, alg: str, text: str, signature: bytes) -> tuple[Remake, str] | None:
    """Return a function that repeats the flaw in RSA's encoded message, with a description, or None."""
    if "n" not in jwk or alg[2:] not in HASHES:
        return None
    number, modulus = int.from_bytes(signature), decoded_number(jwk["n"])
    if len(signature) != _length(modulus) or number % modulus in (0, 1, modulus - 1) or number >= modulus:
        return None  # the number does not depend on the text
    encoded = pow(number, decoded_number(jwk["e"]), modulus).to_bytes(len(signature))
    edit = _padding_carried if alg.startswith("RS") else _salted_carried
    if not edit(encoded, alg[2:], text, text):
        return None

    def made(new: str) -> bytes:
        edited = edit(encoded, alg[2:], text, new)
        assert edited is not None  # it depends only on the old text
        return _raw(jwk, edited)

    return made, "flaw carried over in the encoded message"


def ecdsa(number: int, size: str, text: str) -> bytes:
    """Return the deterministic ECDSA signature (r and s joined) of a text by the private key `number`."""
    digest = getattr(hashes, f"SHA{size}")()
    key = ec.derive_private_key(number, CURVES[size])
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(digest, deterministic_signing=True)))
    width = (CURVES[size].key_size + 7) // 8
    return r.to_bytes(width) + s.to_bytes(width)


def ec_public(number: int) -> tuple[bytes, bytes]:
    """Return x and y of the public key for a private key on P-256."""
    numbers = ec.derive_private_key(number, CURVES["256"]).public_key().public_numbers()
    return numbers.x.to_bytes(32), numbers.y.to_bytes(32)


def decoded_number(text: str) -> int:
    """Return the number that a member of a JWK holds."""
    return int.from_bytes(decoded(text))


def _mac(jwk: dict, alg: str, text: str, signature: bytes) -> tuple[Remake, str] | None:
    for size in HASHES:

        def made(new: str, size: str = size) -> bytes:
            return hmac.digest(decoded(jwk["k"]), new.encode(), f"sha{size}")

        if made(text) == signature:
            return made, f"signed again, HS{size}"
    return None


def _ecdsa(jwk: dict, alg: str, text: str, signature: bytes) -> tuple[Remake, str] | None:
    size, half = alg[2:], len(signature) // 2
    if "d" not in jwk or size not in CURVES or not alg.startswith("ES") or len(signature) % 2:
        return None
    number = decoded_number(jwk["d"])
    public = ec.derive_private_key(number, CURVES[size]).public_key()
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    for first, (undo_r, redo_r) in SHIFTED.items():
        for second, (undo_s, redo_s) in SHIFTED.items():
            if _holds(public, size, text, undo_r(r), undo_s(s)):

                def made(new: str, redo_r: Shift = redo_r, redo_s: Shift = redo_s) -> bytes:
                    fresh = ecdsa(number, size, new)
                    width = len(fresh) // 2
                    pair = redo_r(int.from_bytes(fresh[:width])), redo_s(int.from_bytes(fresh[width:]))
                    return b"".join(one.to_bytes(half) for one in pair)

                usual = first == second == "as it is"
                return made, f"signed again, {alg}" + ("" if usual else f", r {first}, s {second}")
    return None


def _holds(public: ec.EllipticCurvePublicKey, size: str, text: str, r: int, s: int) -> bool:
    if r <= 0 or s <= 0:
        return False
    try:
        public.verify(encode_dss_signature(r, s), text.encode(), ec.ECDSA(getattr(hashes, f"SHA{size}")()))
    except InvalidSignature:
        return False
    return True


def _rsa(jwk: dict, alg: str, text: str, signature: bytes) -> tuple[Remake, str] | None:
    modulus = decoded_number(jwk["n"])
    length = _length(modulus)
    variants: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {"": (signature, lambda new: new)}
    if signature[:2] == bytes(2):
        variants[", zeros before"] = (signature[2:], lambda new: bytes(2) + new)
    if signature[-2:] == bytes(2):
        variants[", zeros behind"] = (signature[:-2], lambda new: new + bytes(2))
    times, rest = divmod(int.from_bytes(signature), modulus)
    if times:
        variants[f", plus {times} times the modulus"] = (
            rest.to_bytes(length),
            lambda new: (int.from_bytes(new) + times * modulus).to_bytes(len(signature)),
        )
    for words, (plain, redo) in variants.items():
        fits = len(plain) == length and int.from_bytes(plain) < modulus
        if fits and (found := _encoding(jwk, text, plain)):

            def made(new: str, encode: Callable[[str], bytes] = found[0], redo: Callable = redo) -> bytes:
                return redo(_raw(jwk, encode(new)))

            return made, f"signed again, {found[1]}{words}"
    return None


def _encoding(jwk: dict, text: str, signature: bytes) -> tuple[Callable[[str], bytes], str] | None:
    modulus = decoded_number(jwk["n"])
    encoded = pow(int.from_bytes(signature), decoded_number(jwk["e"]), modulus).to_bytes(len(signature))
    for size in HASHES:
        if encoded == _padded(text, size, len(encoded)):
            return lambda new, size=size: _padded(new, size, len(encoded)), f"RS{size}"
        salt = _salt(encoded, size)
        if salt is not None and encoded == _salted(text, size, len(encoded), salt):
            usual = "" if len(salt) * 8 == int(size) else f", a salt of {len(salt)} bytes"
            return lambda new, size=size, salt=salt: _salted(new, size, len(encoded), salt), f"PS{size}{usual}"
    return None


def _raw(jwk: dict, encoded: bytes) -> bytes:
    """Return the encoded message to the power of d, by Chinese remainders if the key has its primes."""
    number, modulus = int.from_bytes(encoded), decoded_number(jwk["n"])
    if "p" not in jwk or "q" not in jwk:
        return pow(number, decoded_number(jwk["d"]), modulus).to_bytes(len(encoded))
    p, q, d = (decoded_number(jwk[name]) for name in "pqd")
    of_p, of_q = pow(number % p, d % (p - 1), p), pow(number % q, d % (q - 1), q)
    return (of_q + q * ((of_p - of_q) * pow(q, -1, p) % p)).to_bytes(len(encoded))


def _digest(text: str, size: str) -> bytes:
    return hashlib.new(f"sha{size}", text.encode()).digest()


def _padded(text: str, size: str, length: int) -> bytes:
    """Return the text encoded by EMSA-PKCS1-v1_5."""
    tail = b"\0" + PREFIX[size] + _digest(text, size)
    return b"\0\1" + b"\xff" * (length - len(tail) - 2) + tail


def _padding_carried(encoded: bytes, size: str, old: str, new: str) -> bytes | None:
    """Return the encoded message with the old hash, or most of it, replaced; None if it has no old hash."""
    before, after = _digest(old, size), _digest(new, size)
    for part in (slice(None), slice(None, -1), slice(1, None)):
        if before[part] in encoded:
            return encoded.replace(before[part], after[part])
    return None


def _salted(text: str, size: str, length: int, salt: bytes) -> bytes:
    """Return the text encoded by EMSA-PSS."""
    block, hashed = _block(text, size, length, salt)
    masked = _xor(block, _mask(hashed, len(block), size))
    return bytes([masked[0] & 0x7F]) + masked[1:] + hashed + b"\xbc"


def _block(text: str, size: str, length: int, salt: bytes) -> tuple[bytes, bytes]:
    hashed = hashlib.new(f"sha{size}", bytes(8) + _digest(text, size) + salt).digest()
    return (b"\1" + salt).rjust(length - len(hashed) - 1, b"\0"), hashed


def _opened(encoded: bytes, size: str) -> tuple[bytes, bytes]:
    """Return the block without its mask, and the hash."""
    width = int(size) // 8
    masked, hashed = encoded[: -width - 1], encoded[-width - 1 : -1]
    block = _xor(masked, _mask(hashed, len(masked), size))
    return bytes([block[0] & 0x7F]) + block[1:], hashed


def _salt(encoded: bytes, size: str) -> bytes | None:
    block = _opened(encoded, size)[0].lstrip(b"\0")
    return block[1:] if block[:1] == b"\1" else None


def _salted_carried(encoded: bytes, size: str, old: str, new: str) -> bytes:
    """Return the new text's encoding with the wrong bits of the old one, in the block, the hash and the last byte."""
    block, hashed = _opened(encoded, size)
    found = _salt(encoded, size)
    salt = found if found is not None else block[-int(size) // 8 :]
    right, right_hash = _block(old, size, len(encoded), salt)
    fresh, fresh_hash = _block(new, size, len(encoded), salt)
    made = _xor(fresh_hash, _xor(hashed, right_hash))
    masked = _xor(_xor(fresh, _xor(block, right)), _mask(made, len(block), size))
    return bytes([masked[0] & 0x7F | encoded[0] & 0x80]) + masked[1:] + made + encoded[-1:]


def _mask(seed: bytes, length: int, size: str) -> bytes:
    """Return the mask of MGF1."""
    rounds = range(-(-length // (int(size) // 8)))
    return b"".join(hashlib.new(f"sha{size}", seed + one.to_bytes(4)).digest() for one in rounds)[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _length(modulus: int) -> int:
    return (modulus.bit_length() + 7) // 8
