"""The gate in front of moto: it reads a call once, refuses what AWS refuses, and hands moto that reading."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from sandbox.aws.canonical_request import Environ, protocol, read
from sandbox.aws.signature import MISSING, Denied, received, signer, unsigned_form
from sandbox.iam.signed_call import Answer, Call, Refusal, Unreadable
from sandbox.iam.sigv4 import FindIdentity, Identity, Scope
from sandbox.iam.trust_policies import WEB_IDENTITY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

STATUS_PATH = "/_sandbox/clusters"
MOTOS_OWN = ("/moto-api", "/latest/", "/favicon.ico", "/v20180820/")  # moto takes no such name for a bucket's
# AWS's error codes by protocol: no signature, unknown access key, wrong signature, no readable body.
CODES = {
    "query": ("MissingAuthenticationToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "MalformedInput"),
    "ec2": ("AuthFailure", "AuthFailure", "AuthFailure", "MalformedInput"),
    "rest-xml": ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "IncompleteBody"),
    "json": ("MissingAuthenticationTokenException", "UnrecognizedClientException", "InvalidSignatureException",
             "SerializationException"),
}  # fmt: skip
FORMS = {
    "query": "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
    "ec2": "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors></Response>",
    "rest-xml": "<Error><Code>{}</Code><Message>{}</Message></Error>",
}

NOBODY = Identity("", "", "", "", "")  # the caller of the one call that is not signed
UNSIGNED = Scope("", "", "us-east-1", "sts")

Rule = Callable[[Call], Refusal | None]


class Gate:
    """A WSGI application in front of moto's.

    Args:
        app: moto's application.
        hosts: the values of Host that the endpoint has; S3 names buckets in the path, so it has no others.
        find: returns the owner of an access key.
        complete: returns a call's parameters with those that AWS derives from the caller.
        overview: returns the answer to GET /_sandbox/clusters, which needs no signature; None answers nothing there.
        record: takes one dict a call.
        log: takes one line.
        rules: each may refuse a call.
        missing: answers the calls that moto lacks; None for all others.
    """

    def __init__(
        self,
        app: WSGIApplication,
        hosts: Iterable[str],
        find: FindIdentity,
        complete: Callable[[Call], dict[str, Any]],
        overview: Callable[[], list[dict]] | None,
        record: Callable[[dict], None],
        log: Callable[[str], None],
        rules: Iterable[Rule] = (),
        missing: Callable[[Call], Answer | None] = lambda call: None,
    ) -> None:
        self.app, self.hosts, self.find, self.complete = app, frozenset(hosts), find, complete
        self.overview, self.record, self.log = overview, record, log
        self.rules, self.missing = tuple(rules), missing

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: a refusal, the answer of `missing`, or moto's."""
        asks = (environ["REQUEST_METHOD"], environ["RAW_URI"]) == ("GET", STATUS_PATH)
        if self.overview and asks and environ.get("HTTP_HOST") in self.hosts:  # not for a browser's page with its name
            return _answer(start_response, "200 OK", "application/json", json.dumps(self.overview()))
        form, row = _stated_form(environ), {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        row.update(service="", action="", user="")
        start = self._recorded(row, start_response)
        try:
            call, canonical = self._read(environ, row)
        except (Denied, Unreadable) as reason:
            code, status = (CODES[form][reason.kind], "403 Forbidden") if isinstance(reason, Denied) else (
                "ValidationError", "400 Bad Request")  # fmt: skip
            self.log(f"aws: call refused: {reason}")
            return _refusal(start, row, form, Refusal(code, str(reason), status))
        if canonical["PATH_INFO"].startswith(MOTOS_OWN):
            return _refusal(
                start, row, form, Refusal("NotFound", "expected a path of AWS, got one of moto's own.", "404 Not Found")
            )
        answer = next((refusal for rule in self.rules if (refusal := rule(call))), None) or self.missing(call)
        if isinstance(answer, Refusal):
            return _refusal(start, row, form, answer)
        if answer:
            return _answer(start, "200 OK", *answer, request_id=call.id)
        assert call.identity != NOBODY  # `missing` answers it
        try:
            return self.app(canonical, start)
        except NotImplementedError as error:
            lacks = Refusal("NotImplemented", f"the sandbox lacks this: {error}.", "501 Not Implemented")
            return _refusal(start, {}, form, lacks)

    def _read(self, environ: WSGIEnvironment, row: dict) -> tuple[Call, Environ]:
        """Return the call, and moto's request; write service, action and user into `row`. Raises Denied, Unreadable."""
        if came := unsigned_form(environ, WEB_IDENTITY.partition(":")[2]):
            within, identity = UNSIGNED, NOBODY
        else:
            stated = signer(environ, self.find, datetime.now(UTC))
            came, within, identity = received(environ, stated), stated.within, stated.identity
        row.update(service=within.service, user=identity.arn)
        if came.headers.get("host") not in self.hosts:
            raise Unreadable(f"expected a Host among {sorted(self.hosts)}, and a bucket in the path, got another.")
        call, canonical = read(came, within, identity, self.complete)
        if identity == NOBODY and call.name != WEB_IDENTITY:
            raise Denied(MISSING, "Request is missing Authentication Token.")
        row.update(action=call.action)
        return call, canonical

    def _recorded(self, row: dict, start_response: StartResponse) -> StartResponse:
        """Return a start_response that records `row` with the status and the request's id."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            by_name = {name.lower(): value for name, value in headers}
            request_id = by_name.get("x-amzn-requestid") or by_name.get("x-amz-request-id", "")
            self.record({**row, "status": int(status.split()[0]), "request_id": request_id})
            return start_response(status, headers, exc_info)

        return start


def recorder(path: Path | None) -> Callable[[dict], None]:
    """Return a function that appends a dict as a JSON line to `path`, or drops it if `path` is None."""
    if path is None:
        return lambda row: None
    lock = threading.Lock()

    def record(row: dict) -> None:
        with lock, path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    return record


def _stated_form(environ: WSGIEnvironment) -> str:
    """Return the key in FORMS, or json, of the errors that this client reads."""
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    if len(credential) > 3:
        kind = protocol(credential[3])
        return kind if kind in FORMS else "json"
    return "query" if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") else "rest-xml"


def _refusal(start: StartResponse, row: dict, form: str, refusal: Refusal) -> list[bytes]:
    row.update(refused=refusal.message)
    code, message = refusal.code, refusal.message
    if form == "json":
        text = json.dumps({"__type": code, "message": message})
        return _answer(start, refusal.status, "application/json", text, code)
    return _answer(start, refusal.status, "text/xml", FORMS[form].format(code, escape(message)), code)


def _answer(
    start: StartResponse, status: str, kind: str, text: str, code: str = "", request_id: str = ""
) -> list[bytes]:
    body = text.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("x-amzn-RequestId", request_id or str(uuid.uuid4())),
    ]
    start(status, headers + ([("x-amzn-ErrorType", code)] if code else []))
    return [body]
