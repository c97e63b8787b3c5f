"""A time-stamping authority on loopback for tests, and answers with one wrong part.

`openssl cms` signs the answers: unlike `openssl ts` it signs with any certificate.
"""

import contextlib
import datetime
import hashlib
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from rfc3161_client._rust import parse_timestamp_request

from lib.bundle.time_stamp import REPLY, Authority
from lib.crypto import certificates
from tests.support.loopback import heard, served

TST_INFO = "1.2.840.113549.1.9.16.1.4"  # RFC 3161, 2.4.2
SHA256 = bytes.fromhex("300d06096086480165030402010500")
SHA3_256 = bytes.fromhex("300b0609608648016503040208")
ALONE = x509.ExtendedKeyUsage([Usage.TIME_STAMPING])
AT = datetime.datetime(2026, 1, 31, 12, 0, 12, tzinfo=datetime.UTC)
YEAR = datetime.timedelta(days=365)


def der(tag, *parts):
    content = b"".join(parts)
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (length if len(content) < 128 else bytes([128 | len(length)]) + length) + content


def integer(number):
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def file(self, folder):
        path = Path(folder) / f"{self.certificate.serial_number}.pem"
        path.write_text(certificates.pem(self.certificate) + certificates.key_pem(self.key))
        return str(path)


def authority(name, of=None):
    """A certificate authority: a root, or one below another."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = certificates.key_usage(key_cert_sign=True, crl_sign=True)
    extensions = (x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)
    above = {"issuer": of.certificate, "issuer_key": of.key} if of else {}
    name = certificates.common_name(name)
    return Pair(certificates.certificate(name, key, AT - YEAR, AT + 20 * YEAR, *extensions, **above), key)


def signer(of, usage=(ALONE, True), since=AT - YEAR, until=AT + YEAR, name="the clock of these tests"):
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [(certificates.key_usage(digital_signature=True), True), *([usage] if usage else [])]
    name = certificates.common_name(name)
    made = certificates.certificate(name, key, since, until, *extensions, issuer=of.certificate, issuer_key=of.key)
    return Pair(made, key)


ROOT = authority("root of these tests")
CLOCK = signer(ROOT)


@dataclass(frozen=True)
class Parts:
    """The parts of an answer; a test makes one of them wrong."""

    digest: bytes
    nonce: int | None = None
    algorithm: bytes = SHA256
    status: bytes = integer(0)
    at: datetime.datetime = AT
    by: Pair = CLOCK
    extra: tuple[Pair, ...] = ()  # further signers
    certificates: bool = True
    between: tuple[Pair, ...] = ()  # authorities between the root and the signer

    def info(self):
        policy, serial = der(6, bytes.fromhex("2a0304")), integer(7)
        time = der(24, f"{self.at:%Y%m%d%H%M%SZ}".encode())
        imprint = der(48, self.algorithm, der(4, self.digest))
        return der(48, integer(1), policy, imprint, serial, time, *([integer(self.nonce)] if self.nonce else []))

    def token(self):
        with TemporaryDirectory() as folder:
            command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-cades", "-outform", "DER"]
            command += ["-econtent_type", TST_INFO, *([] if self.certificates else ["-nocerts"])]
            command += [word for one in (self.by, *self.extra) for word in ("-signer", one.file(folder))]
            command += [word for one in self.between for word in ("-certfile", one.file(folder))]
            return subprocess.run(command, input=self.info(), capture_output=True, check=True).stdout

    def answer(self):
        return der(48, der(48, self.status), self.token() if self.status == integer(0) else b"")


def parts(data, nonce=None):
    return Parts(hashlib.sha256(data).digest(), nonce)


def http(body, status="200 OK", kind=REPLY):
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(), kind.encode(), len(body), body,
    )  # fmt: skip


def query(connection):
    """Return the head of a query to the authority, and the query."""
    head, _, body = heard(connection).partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


@contextlib.contextmanager
def clock(change=lambda right: right, answer=http, deadline=5.0):
    """Serve an authority on loopback; `change` makes a part of its answers wrong, `answer` the HTTP around them."""

    def speak(connection):
        asked = parse_timestamp_request(query(connection)[1])
        right = Parts(asked.message_imprint.message, asked.nonce)
        connection.sendall(answer(change(right).answer()))

    with served(speak) as address:
        yield Authority(f"http://{address}/", [ROOT.certificate], deadline)


def changed(**parts):
    """What makes these parts of an answer other than they should be."""
    return lambda right: replace(right, **parts)
