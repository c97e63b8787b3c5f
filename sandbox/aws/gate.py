"""The gate in front of moto: only what a known access key signed comes through, and each call is put down."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from moto.core.request import Request
from moto.core.routing import get_service_router
from werkzeug.exceptions import MethodNotAllowed, NotFound

from sandbox.iam.signed_call import Call, Refusal
from sandbox.iam.sigv4 import ALGORITHM, SIGNATURE, Identity, Refused, Scope, expected, moment, scope

STATUS_PATH = "/_sandbox/clusters"
SKEW = timedelta(minutes=15)  # between the client's clock and ours; S3's, the most that AWS allows
CONTENT_HASH = "x-amz-content-sha256"

# The codes by which AWS refuses, in each service's own words: no signature, unknown access key, wrong signature.
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
FORM_OF = {"iam": "query", "sts": "query", "elasticloadbalancing": "query", "ec2": "ec2", "s3": "s3"}  # else: json


class Denied(Refused):
    """A call that AWS would refuse: `kind` is MISSING, UNKNOWN or WRONG."""

    def __init__(self, kind: int, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Gate:
    """A WSGI application in front of moto's.

    `find` says whose an access key is; `shown` returns what GET /_sandbox/clusters tells anybody; `record` takes
    one dict a call; `log` takes a line. Each of `rules` may refuse a call (a Refusal, or None); `lacking` answers what
    moto lacks (content type and text, a Refusal, or None).
    """

    def __init__(
        self, app, find, shown, record: Callable[[dict], None], log, rules=(), lacking=lambda call: None
    ) -> None:
        self.app, self.find, self.shown, self.record, self.log = app, find, shown, record, log
        self.rules, self.lacking = rules, lacking

    def __call__(self, environ: dict, start_response):
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("GET", STATUS_PATH):
            return _answer(start_response, "200 OK", "application/json", json.dumps(self.shown()))
        environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)  # moto's way into another account: no part of AWS
        body = _body(environ)
        form, call = _form(environ), {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        start = self._recorded(call, start_response)
        try:
            within, identity = caller(environ, body, self.find, datetime.now(UTC))
        except Denied as denied:
            call.update(service="", action="", user="", refused=str(denied))
            self.log(f"aws: call refused: {denied}")
            return _refusal(start, "403 Forbidden", form, CODES[form][denied.kind], str(denied))
        action = _action(within.service, environ, body)
        call.update(service=within.service, action=action, user=identity.arn)
        asked = Call(within.service, action, within.region, identity, environ["PATH_INFO"], body)
        if environ["PATH_INFO"].startswith(("/moto-api", "/latest/")):
            return _refusal(start, "404 Not Found", form, "NotFound", "expected a path of AWS, got one of moto's own.")
        found = next((told for rule in self.rules if (told := rule(asked))), None) or self.lacking(asked)
        if isinstance(found, Refusal):
            call.update(refused=found.message)
            return _refusal(start, found.status, form, found.code, found.message)
        if found:
            return _answer(start, "200 OK", *found)
        try:
            return self.app(environ, start)
        except NotImplementedError as error:
            return _refusal(start, "501 Not Implemented", form, "NotImplemented", f"the sandbox lacks this: {error}.")

    def _recorded(self, call: dict, start_response):
        def start(status, headers, exc_info=None):
            named = {name.lower(): value for name, value in headers}
            request_id = named.get("x-amzn-requestid") or named.get("x-amz-request-id", "")
            self.record({**call, "status": int(status.split()[0]), "request_id": request_id})
            return start_response(status, headers, exc_info)

        return start


def caller(environ: dict, body: bytes, find, now: datetime) -> tuple[Scope, Identity]:
    """Return what the request's Authorization header is for and whose it is; raise Denied unless it is right."""
    said = _authorization(environ.get("HTTP_AUTHORIZATION", ""))
    headers = {name: _header(environ, name) for name in said["SignedHeaders"].split(";")}
    date = headers.get("x-amz-date", "")
    if "host" not in headers or not date:
        raise Denied(WRONG, "expected host and x-amz-date among the signed headers, got others.")
    try:
        within, signed_at = scope(said["Credential"]), moment(date)
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
    if not SIGNATURE.fullmatch(said["Signature"]) or not hmac.compare_digest(right, said["Signature"]):
        raise Denied(WRONG, "The request signature we calculated does not match the signature you provided.")
    return within, identity


def recorder(path: Path | None) -> Callable[[dict], None]:
    """Return what appends a dict as a JSON line to `path`; with None, what drops it."""
    lock = threading.Lock()

    def record(call: dict) -> None:
        with lock, path.open("a") as file:
            file.write(json.dumps(call) + "\n")

    return record if path else lambda call: None


def _authorization(header: str) -> dict[str, str]:
    kind, _, rest = header.partition(" ")
    said = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if kind != ALGORITHM or set(said) != {"Credential", "SignedHeaders", "Signature"}:
        raise Denied(MISSING, "Request is missing Authentication Token: expected an AWS4-HMAC-SHA256 header.")
    return said


def _check_body(environ: dict, body: bytes, service: str) -> None:
    stated = _header(environ, CONTENT_HASH)
    if not stated:
        return  # then the signature itself is computed over the body
    if service == "s3" and (stated == "UNSIGNED-PAYLOAD" or stated.startswith("STREAMING-")):
        return  # chunked uploads sign each chunk, or none: headers and path are verified, the content is not
    if not hmac.compare_digest(stated.encode(), hashlib.sha256(body).hexdigest().encode()):
        raise Denied(WRONG, f"expected {CONTENT_HASH} to be the body's hash, got another.")


def _request(environ: dict, body: bytes, headers: dict[str, str]) -> AWSRequest:
    path, _, query = environ["RAW_URI"].partition("?")  # as sent: PATH_INFO is decoded
    url = f"http://{headers['host']}{path}"
    return AWSRequest(environ["REQUEST_METHOD"], url, headers, body, parse_qsl(query, keep_blank_values=True))


def _header(environ: dict, name: str) -> str:
    key = name.upper().replace("-", "_")
    return environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", "")


def _body(environ: dict) -> bytes:
    """Read the request's body and put it back for moto."""
    whole = environ.get("wsgi.input_terminated")  # of a chunked one; of others the length is stated
    body = environ["wsgi.input"].read(-1 if whole else int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _action(service: str, environ: dict, body: bytes) -> str:
    """The call's name as IAM policies spell it; empty where it cannot be told."""
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode("latin-1")).get("Action", [""])[0]
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return target.rpartition(".")[2]
    try:
        return get_service_router(service).match(Request(environ.copy()))[0].name
    except (NotFound, MethodNotAllowed, BotoCoreError):
        return ""


def _form(environ: dict) -> str:
    """How the service that is asked writes its errors; without a signature, a guess by the request's form."""
    said = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    if len(said) > 3:
        return FORM_OF.get(said[3], "json")
    return "query" if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") else "s3"


def _refusal(start, status: str, form: str, code: str, message: str):
    if form == "json":
        return _answer(start, status, "application/json", json.dumps({"__type": code, "message": message}), code)
    return _answer(start, status, "text/xml", FORMS[form].format(code, escape(message)), code)


def _answer(start, status: str, kind: str, text: str, code: str = ""):
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start(status, headers + ([("x-amzn-ErrorType", code)] if code else []))
    return [body]
