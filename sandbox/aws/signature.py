"""Who signs a request to the AWS endpoint: one Authorization header, each of its parts once, all checked."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest

from sandbox.aws.canonical_request import FORM, Received
from sandbox.iam.sigv4 import ALGORITHM, SIGNATURE, FindIdentity, Identity, Refused, Scope, expected, moment, scope

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SKEW = timedelta(minutes=15)  # between client and server: S3's RequestTimeTooSkewed, the most that AWS allows
MAX_BODY = 64 << 20  # bytes; the runbook's largest upload, a bundle, has below 10 MiB
MAX_FORM = 64 << 10  # bytes of an unsigned form: a token of 20,000 characters, and session policies
BODY_TIME = 60  # seconds after which a body is late
MISSING, UNKNOWN, WRONG, BODY = range(4)
NAME = re.compile(r"[a-z0-9-]+")


class Denied(Refused):
    """A call that AWS would refuse: `kind` is MISSING, UNKNOWN, WRONG or BODY."""

    def __init__(self, kind: int, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Signer:
    """What the Authorization header states: an owner of an access key, and a signature that is not checked yet."""

    within: Scope
    identity: Identity
    date: str
    headers: dict[str, str]
    signed: list[str]
    signature: str


def signer(environ: WSGIEnvironment, find: FindIdentity, now: datetime) -> Signer:
    """Return who states to sign, from the headers alone. Raises Denied if the header is wrong or the key unknown."""
    headers = _headers(environ)
    parts = _authorization(headers.get("authorization", ""))
    names = parts["SignedHeaders"].split(";")
    if len(set(names)) != len(names) or not all(NAME.fullmatch(name) and name in headers for name in names):
        raise Denied(WRONG, "expected each signed header once, in lower case, and sent with the request, got others.")
    date = headers.get("x-amz-date", "")
    if not {"host", "x-amz-date"} <= set(names):
        raise Denied(WRONG, "expected host and x-amz-date among the signed headers, got others.")
    try:
        within, signed_at = scope(parts["Credential"]), moment(date)
    except Refused as reason:
        raise Denied(WRONG, str(reason)) from None
    identity = find(within.access_key, headers.get("x-amz-security-token"))
    if identity is None:
        raise Denied(UNKNOWN, "The security token included in the request is invalid: no such access key here.")
    if abs(now - signed_at) > SKEW or within.day != date[:8]:
        raise Denied(WRONG, f"Signature expired: expected 15 minutes around {now:%Y%m%dT%H%M%SZ} at most, got {date}.")
    return Signer(within, identity, date, headers, names, parts["Signature"])


def unsigned_form(environ: WSGIEnvironment, action: str) -> Received | None:
    """Return a form for `action` that nobody signed, None for another request. Raises Denied if it is too long."""
    headers, place = _headers(environ), (environ["REQUEST_METHOD"], environ["RAW_URI"])
    if (
        "authorization" in headers
        or place != ("POST", "/")
        or headers.get("content-type", "").partition(";")[0] != FORM
    ):
        return None
    body = _body(environ, MAX_FORM)
    asked = f"Action={action}".encode() in body.split(b"&")
    return Received(*place, headers, frozenset(), body) if asked else None


def received(environ: WSGIEnvironment, stated: Signer) -> Received:
    """Read the body and return the request. Raises Denied unless the signature and the body's hash are right."""
    body, headers = _body(environ), stated.headers
    digest = headers.get("x-amz-content-sha256", "")
    if digest and not hmac.compare_digest(digest.encode(), hashlib.sha256(body).hexdigest().encode()):
        raise Denied(WRONG, "expected x-amz-content-sha256 to be the body's hash; the sandbox takes no unsigned body.")
    path, _, query = environ["RAW_URI"].partition("?")
    signed = {name: headers[name] for name in stated.signed}
    request = AWSRequest(environ["REQUEST_METHOD"], f"http://{headers['host']}{path}", signed, body)
    found = Received(environ["REQUEST_METHOD"], environ["RAW_URI"], headers, frozenset(stated.signed), body)
    request.params = found.pairs  # type: ignore[assignment]  # pairs, which may repeat a name, as botocore's code takes
    method = S3SigV4Auth if stated.within.service == "s3" else SigV4Auth
    right = expected(method, stated.identity, request, stated.date, stated.within)
    if not SIGNATURE.fullmatch(stated.signature) or not hmac.compare_digest(right, stated.signature):
        raise Denied(WRONG, "The request signature we calculated does not match the signature you provided.")
    return found


def _authorization(header: str) -> dict[str, str]:
    kind, _, rest = header.partition(" ")
    pairs = [part.strip().partition("=")[::2] for part in rest.split(",")]
    if kind != ALGORITHM or sorted(name for name, _ in pairs) != ["Credential", "Signature", "SignedHeaders"]:
        raise Denied(MISSING, "Request is missing Authentication Token: expected an AWS4-HMAC-SHA256 header.")
    return dict(pairs)


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the headers by lower-case name; the server drops names with an underscore, and joins doubled ones."""
    found = {key[5:].lower().replace("_", "-"): text for key, text in environ.items() if key.startswith("HTTP_")}
    named = {"content-type": environ.get("CONTENT_TYPE"), "content-length": environ.get("CONTENT_LENGTH")}
    return found | {name: text for name, text in named.items() if text}


def _body(environ: WSGIEnvironment, most: int = MAX_BODY) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    if "HTTP_TRANSFER_ENCODING" in environ or not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > most:
        raise Denied(BODY, f"expected a Content-Length of at most {most} bytes, got another; send smaller parts.")
    body, deadline = bytearray(), time.monotonic() + BODY_TIME
    while len(body) < int(length):
        piece = environ["wsgi.input"].read1(min(int(length) - len(body), 1 << 16))
        if not piece or time.monotonic() > deadline:
            raise Denied(
                BODY, f"expected {length} bytes within {BODY_TIME} s, got {len(body)}; send the request again."
            )
        body += piece
    return bytes(body)
