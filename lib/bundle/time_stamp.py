"""Time stamps (RFC 3161): an authority attests when a bundle's signed statement existed at the latest.

The authority stamps the statement's file, so the signature too: a thief of the key cannot sign for a time before the
theft. The authority's answer lies beside the statement, and SHA256SUMS does not list it.
"""

from __future__ import annotations

import hashlib
import http.client
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from lib import strict
from lib.bundle import provenance
from lib.errors import BundleError
from lib.http_client import connect, why
from lib.params import ROOT, Params
from lib.printable import printable

if TYPE_CHECKING:
    from rfc3161_client import SignedData

FILE = "provenance.tsr"  # a TimeStampResp in DER, as `openssl ts` reads it
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"  # RFC 3161, 3.4
MOST = 64 * 1024  # bytes of an answer; with a chain of three certificates it has about 6,000
DEADLINE = 20.0  # seconds for the whole answer
SHA256 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")  # RFC 5754, 2.2

Roots = Sequence[x509.Certificate]


@dataclass(frozen=True)
class Authority:
    """A time-stamping authority: its address, the roots that its certificate must lead to, the seconds it may take."""

    url: str
    roots: Roots
    deadline: float = DEADLINE

    def stamp(self, data: bytes) -> bytes:
        """Return the authority's answer about the SHA-256 of some data, a TimeStampResp in DER.

        Over https:// the server's certificate is verified. http:// serves as well, as the answer is signed (RFC 3161,
        3.4). No proxy is used, and no redirect is followed.

        Raises:
            BundleError: the authority gave no answer, or the answer is not right in every part.
        """
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
        try:
            answer = _within(self.deadline, partial(_post, self.url, request.as_bytes(), self.deadline))
            check(answer, data, self.roots, request.nonce)
        except (OSError, http.client.HTTPException) as error:
            raise BundleError(f"{self.url} gave no time stamp: {printable(why(error))}.") from None
        except ValueError as error:
            raise BundleError(f"{self.url} gave no time stamp: {printable(error)}.") from None
        return answer


def authority(params: Params) -> Authority | None:
    """Return the authority that the params name, None if they name none.

    Raises:
        BundleError: `time_stamp_ca_file` holds no certificate.
    """
    if not params.time_stamp_url or not params.time_stamp_ca_file:
        return None
    return Authority(params.time_stamp_url, roots(ROOT / Path(params.time_stamp_ca_file).expanduser()))


def roots(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file; raise BundleError if there is none."""
    try:
        return x509.load_pem_x509_certificates(strict.content(path.resolve(strict=True), strict.SMALL))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"There is no certificate in {path} ({type(error).__name__}). "
            "Name a PEM file with the root certificate of the time-stamping authority."
        ) from None


def check(answer: bytes, data: bytes, roots: Roots, nonce: int | None = None) -> tuple[datetime, str]:
    """Return the time that an answer attests for data, and the name in the authority's certificate.

    Args:
        answer: a TimeStampResp in DER.
        data: what it must be about.
        roots: the certificates that the authority's chain must lead to, at the attested time; without roots neither the
            chain nor the signature is checked. No revocation is looked up.
        nonce: the request's number, which the answer must repeat; None if the request is not known any more.

    Raises:
        ValueError: why it is no time stamp of the data by such an authority.
    """
    from rfc3161_client import VerificationError, decode_timestamp_response
    from rfc3161_client.verify import VerifierBuilder

    digest = hashlib.sha256(data).digest()
    try:
        response = decode_timestamp_response(answer)
        if response.status:
            raise ValueError(
                f"its status is {response.status}, expected 0 (granted) {response.status_string or ''}".strip()
            )
        info = response.tst_info
        if (info.message_imprint.hash_algorithm, info.message_imprint.message) != (SHA256, digest):
            raise ValueError("it stamps something else")
        if nonce is not None and info.nonce != nonce:
            raise ValueError("it does not repeat the request's nonce")
        signer = _signer(response.signed_data)
        if roots:
            VerifierBuilder(roots=list(roots)).build().verify(response, digest)
    except VerificationError as error:
        chain = re.findall(r'"Verify error: ?([^"]+)"', str(error))  # of OpenSSL's list of errors
        reasons = chain or re.findall(r'reason: "([^"]+)"', str(error)) or [str(error)]
        raise ValueError(printable(", ".join(reasons))) from None
    except (TypeError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"it is not readable ({type(error).__name__})") from None
    return info.gen_time, printable(signer.subject.rfc4514_string())


def judge(folder: Path, run: dict, roots: Roots) -> tuple[list[str], list[str], str]:
    """Return the problems of a bundle's time stamp, notes on what was not checked, and in words what it attests.

    Args:
        folder: the bundle.
        run: the content of its run.json.
        roots: the certificates of authorities that are trusted.
    """
    asked = run.get("time_stamp")
    if not asked or "missing" in asked:
        added = [f"{FILE} was added after the bundle was sealed."] if (folder / FILE).is_file() else []
        reason = [f"the time by an authority: {asked['missing'].rstrip('.')}"] if asked else []
        return added, reason, "without a time stamp" if asked else ""
    if not (folder / FILE).exists():
        return [f"{FILE} is missing."], [], ""
    try:
        answer, statement = strict.content(folder / FILE, MOST), strict.content(folder / provenance.FILE, strict.SMALL)
        at, by = check(answer, statement, roots)
    except ValueError as error:
        return [f"{FILE} is no trusted time stamp of {provenance.FILE}: {error}."], [], ""
    if not roots:
        note = f"{FILE}: no root certificate of a time-stamping authority is named, so nobody attests its time"
        return [], [note], "its time stamp not checked"
    late = (at - datetime.fromisoformat(run["finished"])).total_seconds()
    after = f"{abs(late):.0f} s {'after' if late >= 0 else 'before'} its end by its own clock"
    return [], [], f"time-stamped {at:%Y-%m-%dT%H:%M:%SZ} by {by}, {after}"


def _signer(signed: SignedData) -> x509.Certificate:
    """Return the certificate of the one who signed a token; ValueError if it is not for time stamps alone."""
    if len(signed.signer_infos) != 1:
        raise ValueError(f"it has {len(signed.signer_infos)} signatures, expected one")
    (signature,) = signed.signer_infos
    enclosed = [x509.load_der_x509_certificate(one) for one in signed.certificates]
    found = [one for one in enclosed if one.serial_number == signature.serial_number]
    if len(found) != 1:
        raise ValueError(f"it holds {len(found)} certificates of its signer, expected one")
    try:
        usage = found[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        usage = None
    if not usage or not usage.critical or [*usage.value] != [ExtendedKeyUsageOID.TIME_STAMPING]:  # RFC 3161, 2.3
        raise ValueError("its signer's certificate is not, critically and alone, for time stamps (extended key usage)")
    return found[0]


def _within(seconds: float, job: Callable[[], bytes]) -> bytes:
    """Return what a function returns; raise TimeoutError after some seconds, and leave it to its thread."""
    outcome: Future[bytes] = Future()

    def work() -> None:
        try:
            outcome.set_result(job())
        except Exception as error:
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


def _post(url: str, query: bytes, seconds: float) -> bytes:
    """Send a query and return the body of the answer; ValueError if it is no time stamp's, or too long."""
    place = urlsplit(url)
    connection = connect(place, seconds)
    try:
        headers = {"Content-Type": QUERY, "Accept": REPLY, "Connection": "close"}
        connection.request("POST", place.path or "/", query, headers)
        got = connection.getresponse()
        body = got.read(MOST + 1)
    finally:
        connection.close()
    if got.status != 200 or got.headers.get_content_type() != REPLY:
        raise ValueError(printable(f"it answered {got.status} with {got.headers.get_content_type()}, expected {REPLY}"))
    if len(body) > MOST:
        raise ValueError(f"its answer has more than {MOST} bytes")
    return body
