"""The gate in front of moto: it refuses calls without the signature of a known access key, and records every call."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from moto.core.request import Request
from moto.core.routing import get_service_router
from werkzeug.exceptions import MethodNotAllowed, NotFound

from sandbox.iam.signed_call import Call, Refusal
from sandbox.iam.sigv4 import (
    ALGORITHM,
    SIGNATURE,
    FindIdentity,
    Identity,
    Refused,
    Scope,
    expected,
    moment,
    scope,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

STATUS_PATH = "/_sandbox/clusters"
SKEW = timedelta(minutes=15)  # between client and server: S3's RequestTimeTooSkewed, the most that AWS allows
CONTENT_HASH = "x-amz-content-sha256"

# AWS's error codes by protocol: no signature, unknown access key, wrong signature.
MISSING, UNKNOWN, WRONG = range(3)
CODES = {
    "query": ("MissingAuthenticationToken", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    "ec2": ("AuthFailure", "AuthFailure", "AuthFailure"),
    "s3": ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    "json": ("MissingAuthenticationTokenException", "UnrecognizedClientException", "InvalidSignatureException"),
}
FORMS = {
    "query": "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
    "ec2": "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors></Response>",
    "s3": "<Error><Code>{}</Code><Message>{}</Message></Error>",
}
FORM_OF = {"iam": "query", "sts": "query", "elasticloadbalancing": "query", "ec2": "ec2", "s3": "s3"}  # others: json

Rule = Callable[[Call], Refusal | None]
Answer = tuple[str, str] | Refusal  # content type and text, or a refusal


class Denied(Refused):
    """A call that AWS would refuse: `kind` is MISSING, UNKNOWN or WRONG."""

    def __init__(self, kind: int, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Gate:
    """A WSGI application in front of moto's.

    Args:
        app: moto's application.
        find: returns the owner of an access key.
        overview: returns the answer to GET /_sandbox/clusters, which needs no signature.
        record: takes one dict a call.
        log: takes one line.
        rules: each may refuse a call.
        missing: answers the calls that moto lacks; None for all others.
    """

    def __init__(
        self,
        app: WSGIApplication,
        find: FindIdentity,
        overview: Callable[[], list[dict]],
        record: Callable[[dict], None],
        log: Callable[[str], None],
        rules: Iterable[Rule] = (),
        missing: Callable[[Call], Answer | None] = lambda call: None,
    ) -> None:
        self.app, self.find, self.overview, self.record, self.log = app, find, overview, record, log
        self.rules, self.missing = tuple(rules), missing

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: a refusal, the answer of `missing`, or moto's."""
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("GET", STATUS_PATH):
            return _answer(start_response, "200 OK", "application/json", json.dumps(self.overview()))
        environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)  # with it a client of moto chooses its account; AWS has no such way
        body = _body(environ)
        form, row = _form(environ), {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        start = self._recorded(row, start_response)
        try:
            within, identity = caller(environ, body, self.find, datetime.now(UTC))
        except Denied as denied:
            row.update(service="", action="", user="", refused=str(denied))
            self.log(f"aws: call refused: {denied}")
            return _refusal(start, "403 Forbidden", form, CODES[form][denied.kind], str(denied))
        action = _action(within.service, environ, body)
        row.update(service=within.service, action=action, user=identity.arn)
        call = Call(within.service, action, within.region, identity, environ["PATH_INFO"], body)
        if environ["PATH_INFO"].startswith(("/moto-api", "/latest/")):
            return _refusal(start, "404 Not Found", form, "NotFound", "expected a path of AWS, got one of moto's own.")
        refused = next((refusal for rule in self.rules if (refusal := rule(call))), None)
        answer = refused or self.missing(call)
        if isinstance(answer, Refusal):
            row.update(refused=answer.message)
            return _refusal(start, answer.status, form, answer.code, answer.message)
        if answer:
            return _answer(start, "200 OK", *answer)
        try:
            return self.app(environ, start)
        except NotImplementedError as error:
            return _refusal(start, "501 Not Implemented", form, "NotImplemented", f"the sandbox lacks this: {error}.")

    def _recorded(self, row: dict, start_response: StartResponse) -> StartResponse:
        """Return a start_response that records `row` with the status and the request's id."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            by_name = {name.lower(): value for name, value in headers}
            request_id = by_name.get("x-amzn-requestid") or by_name.get("x-amz-request-id", "")
            self.record({**row, "status": int(status.split()[0]), "request_id": request_id})
            return start_response(status, headers, exc_info)

        return start


def caller(environ: WSGIEnvironment, body: bytes, find: FindIdentity, now: datetime) -> tuple[Scope, Identity]:
    """Return the scope and the owner of the request's signature. Raises Denied unless it is right."""
    parts = _authorization(environ.get("HTTP_AUTHORIZATION", ""))
    headers = {name: _header(environ, name) for name in parts["SignedHeaders"].split(";")}
    date = headers.get("x-amz-date", "")
    if "host" not in headers or not date:
        raise Denied(WRONG, "expected host and x-amz-date among the signed headers, got others.")
    try:
        within, signed_at = scope(parts["Credential"]), moment(date)
    except Refused as reason:
        raise Denied(WRONG, str(reason)) from None
    identity = find(within.access_key, _header(environ, "x-amz-security-token") or None)
    if identity is None:
        raise Denied(UNKNOWN, "The security token included in the request is invalid: no such access key here.")
    if abs(now - signed_at) > SKEW or within.day != date[:8]:
        raise Denied(WRONG, f"Signature expired: expected 15 minutes around {now:%Y%m%dT%H%M%SZ} at most, got {date}.")
    _check_body(environ, body, within.service)
    signer = S3SigV4Auth if within.service == "s3" else SigV4Auth
    right = expected(signer, identity, _request(environ, body, headers), date, within)
    if not SIGNATURE.fullmatch(parts["Signature"]) or not hmac.compare_digest(right, parts["Signature"]):
        raise Denied(WRONG, "The request signature we calculated does not match the signature you provided.")
    return within, identity


def recorder(path: Path | None) -> Callable[[dict], None]:
    """Return a function that appends a dict as a JSON line to `path`, or drops it if `path` is None."""
    if path is None:
        return lambda row: None
    lock = threading.Lock()

    def record(row: dict) -> None:
        with lock, path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    return record


def _authorization(header: str) -> dict[str, str]:
    kind, _, rest = header.partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if kind != ALGORITHM or set(parts) != {"Credential", "SignedHeaders", "Signature"}:
        raise Denied(MISSING, "Request is missing Authentication Token: expected an AWS4-HMAC-SHA256 header.")
    return parts


def _check_body(environ: WSGIEnvironment, body: bytes, service: str) -> None:
    stated = _header(environ, CONTENT_HASH)
    if not stated:
        return  # the signature itself covers the body
    if service == "s3" and (stated == "UNSIGNED-PAYLOAD" or stated.startswith("STREAMING-")):
        return  # a chunked upload signs its chunks, or nothing: the gate verifies headers and path alone
    if not hmac.compare_digest(stated.encode(), hashlib.sha256(body).hexdigest().encode()):
        raise Denied(WRONG, f"expected {CONTENT_HASH} to be the body's hash, got another.")


def _request(environ: WSGIEnvironment, body: bytes, headers: dict[str, str]) -> AWSRequest:
    path, _, query = environ["RAW_URI"].partition("?")  # as the client signed it; PATH_INFO is decoded
    url, pairs = f"http://{headers['host']}{path}", parse_qsl(query, keep_blank_values=True)
    # botocore's stubs ask for a mapping, its code also takes pairs, which may repeat a name
    return AWSRequest(environ["REQUEST_METHOD"], url, headers, body, pairs)  # type: ignore[arg-type]


def _header(environ: WSGIEnvironment, name: str) -> str:
    key = name.upper().replace("-", "_")
    return environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", "")


def _body(environ: WSGIEnvironment) -> bytes:
    """Read the request's body and put it back for moto."""
    chunked = environ.get("wsgi.input_terminated")  # such a body has no Content-Length
    body = environ["wsgi.input"].read(-1 if chunked else int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _action(service: str, environ: WSGIEnvironment, body: bytes) -> str:
    """Return the call's name as IAM policies spell it, "" if it is unknown."""
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode("latin-1")).get("Action", [""])[0]
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return target.rpartition(".")[2]
    try:
        return get_service_router(service).match(Request(environ.copy()))[0].name
    except (NotFound, MethodNotAllowed, BotoCoreError):
        return ""


def _form(environ: WSGIEnvironment) -> str:
    """Return the key in FORMS of the service's errors; for an unsigned request a guess by its content type."""
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    if len(credential) > 3:
        return FORM_OF.get(credential[3], "json")
    return "query" if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") else "s3"


def _refusal(start: StartResponse, status: str, form: str, code: str, message: str) -> list[bytes]:
    if form == "json":
        return _answer(start, status, "application/json", json.dumps({"__type": code, "message": message}), code)
    return _answer(start, status, "text/xml", FORMS[form].format(code, escape(message)), code)


def _answer(start: StartResponse, status: str, kind: str, text: str, code: str = "") -> list[bytes]:
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start(status, headers + ([("x-amzn-ErrorType", code)] if code else []))
    return [body]
