"""The one reading of a request by AWS's model of the service, and the request that moto gets in its place.

A request becomes an operation with parameters, and these become a new request, which moto gets. If the new request does
not say all that the old one says, then the old one has a part that the model lacks, or has it twice: it is refused.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlencode
from xml.etree import ElementTree

from botocore.model import OperationNotFoundError
from botocore.serialize import create_serializer
from botocore.session import get_session
from botocore.utils import parse_to_aware_datetime
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS, RequestDict, RequestParserError
from moto.core.request import Request
from moto.core.routing import PROTOCOL_ROUTERS
from moto.core.utils import get_service_model
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import HTTPException

from sandbox.iam.enforced import SERVICES
from sandbox.iam.signed_call import Call, Unreadable
from sandbox.iam.sigv4 import Identity, Scope

FORM = "application/x-www-form-urlencoded"
FORMS = ("query", "ec2")  # protocols whose parameters are a form
# What a client may send unsigned or what the signature itself is made of: none of it reaches moto.
TRANSPORT = {"content-length", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
Environ = dict[str, Any]
# What botocore's and moto's readers raise about a request that does not fit the model.
UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    *(HTTPException, ElementTree.ParseError, RequestParserError, OperationNotFoundError),
)


@dataclass(frozen=True)
class Received:
    """A request as it came; the names of headers are in lower case, `signed` are those that the signature covers."""

    method: str
    uri: str
    headers: dict[str, str] = field(repr=False)
    signed: frozenset[str]
    body: bytes = field(repr=False)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of the query."""
        return parse_qsl(self.uri.partition("?")[2], keep_blank_values=True)


def protocol(service: str) -> str:
    """Return the protocol of a service by its name in signatures: query, ec2, json, rest-json or rest-xml."""
    return str(_model(service).resolved_protocol) if service in SERVICES else "json"


def read(
    received: Received, within: Scope, identity: Identity, complete: Callable[[Call], dict]
) -> tuple[Call, Environ]:
    """Return the call, and the WSGI environ of a request that says the call and nothing else.

    Args:
        received: the request.
        within: the scope of its signature, which has its service and region.
        identity: who signed it.
        complete: returns the call's parameters with those that AWS derives from the caller.

    Raises:
        Unreadable: a part of the request is unknown, doubled, or unsigned where it decides.
    """
    if within.service not in SERVICES:
        known = ", ".join(sorted(SERVICES))
        raise Unreadable(f"the sandbox enforces no permissions of {within.service[:40]!r}, so it has {known} only.")
    if within.region not in _regions():
        raise Unreadable(f"expected a region such as us-east-1 in the credential, got {within.region[:40]!r}.")
    model, kind = _model(within.service), protocol(within.service)
    serialize = create_serializer(kind, include_validation=False).serialize_to_request
    try:
        operation, params = _parsed(received, model, kind)
        _compare(received, serialize(params, operation), operation, kind)
        call = Call(within.service, operation.name, within.region, identity, params)
        call = Call(within.service, operation.name, within.region, identity, complete(call))
        return call, _rebuilt(serialize(call.params, operation), kind, within, identity)
    except UNREADABLE:
        raise Unreadable(f"expected a request by AWS's model of {within.service}, got another.") from None


@cache
def _regions() -> frozenset[str]:
    return frozenset(get_session().get_available_regions("ec2"))


def _model(service: str) -> ServiceModel:
    return get_service_model(SERVICES[service].model)


@cache
def _router(service: str, kind: str) -> Any:
    return PROTOCOL_ROUTERS[kind](get_service_model(service))


def _parsed(received: Received, model: ServiceModel, kind: str) -> tuple[OperationModel, dict[str, Any]]:
    values, labels, body = received.pairs, {}, received.body
    if kind in FORMS:
        if received.headers.get("content-type", "").partition(";")[0] != FORM:
            raise Unreadable(f"expected a form of the type {FORM}, got another type.")
        values, body = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True), b""
        operation = model.operation_model(dict(values)["Action"])
    elif kind == "json":
        operation = model.operation_model(received.headers["x-amz-target"].rpartition(".")[2])
    else:
        operation, labels = _router(model.service_name, kind).match(Request(_environ(received.method, received.uri,
                                                                                     received.headers)))  # fmt: skip
    if kind.endswith("json"):
        json.loads(body or b"{}", object_pairs_hook=_each_once)
    elif b"<!" in body and not _streams(operation):
        raise Unreadable("expected XML without a document type, got one.")
    parts: dict[str, Any] = {
        "method": received.method,
        "headers": Headers(received.headers),
        "body": body,
        "url_path": received.uri,
    }
    parser = PROTOCOL_PARSERS[kind](operation, timestamp_parser=parse_to_aware_datetime)
    parts |= {"values": MultiDict(values), "url_params": labels}
    return operation, parser.parse(cast(RequestDict, parts)) or {}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Unreadable("expected each member of a JSON object once, got one of them twice.")
    return dict(pairs)


def _compare(received: Received, rebuilt: dict[str, Any], operation: OperationModel, kind: str) -> None:
    """Raise Unreadable unless both requests say the same."""
    url = _url(rebuilt)
    path, query = url.partition("?")[::2]
    if received.method != rebuilt["method"] or _segments(received.uri.partition("?")[0]) != _segments(path):
        raise Unreadable(f"expected {rebuilt['method']} {path}, got another method or path.")
    if sorted(received.pairs) != sorted(parse_qsl(query, keep_blank_values=True)):
        raise Unreadable(f"expected a query by AWS's model of {operation.name}, got another.")
    modelled = {name.lower() for name in _header_names(operation)}
    came = {
        name: text
        for name, text in received.headers.items()
        if name not in TRANSPORT and (name.startswith("x-amz-") or name in modelled or name == "content-encoding")
    }
    wanted = {name.lower(): str(text) for name, text in rebuilt["headers"].items()}
    wanted = {name: text for name, text in wanted.items() if name not in TRANSPORT
              and (name != "content-type" or name in modelled)}  # fmt: skip
    if came != wanted or not came.keys() <= received.signed:
        raise Unreadable(f"expected signed headers by AWS's model of {operation.name}, got others: {sorted(came)}.")
    if not _same_body(received.body, rebuilt["body"], kind, operation):
        raise Unreadable(f"expected a body by AWS's model of {operation.name}, got another.")


def _same_body(came: bytes, rebuilt: Any, kind: str, operation: OperationModel) -> bool:
    if kind in FORMS:
        pairs = parse_qsl(came.decode(), keep_blank_values=True, strict_parsing=True)
        return sorted(pairs) == sorted((name, str(value)) for name, value in rebuilt.items())
    if kind == "json" or (kind == "rest-json" and not _streams(operation)):
        return json.loads(came or b"{}") == json.loads(rebuilt or b"{}")
    rebuilt = rebuilt.encode() if isinstance(rebuilt, str) else rebuilt
    if came == rebuilt or _streams(operation):
        return came == rebuilt
    return (
        bool(came) and bool(rebuilt) and _tree(ElementTree.fromstring(came)) == _tree(ElementTree.fromstring(rebuilt))
    )


def _tree(node: ElementTree.Element) -> tuple:
    children = sorted((_tree(child) for child in node), key=lambda child: child[0])
    return node.tag.rpartition("}")[2], "" if children else node.text or "", children


def _streams(operation: OperationModel) -> bool:
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape else None
    return bool(shape and payload and shape.members[payload].type_name in ("blob", "string"))


def _header_names(operation: OperationModel) -> list[str]:
    members = operation.input_shape.members if operation.input_shape else {}
    return [shape.serialization.get("name", name) for name, shape in members.items()
            if shape.serialization.get("location") == "header"]  # fmt: skip


def _segments(path: str) -> list[bytes]:
    return [unquote_to_bytes(part) for part in path.split("/")]


def _url(rebuilt: dict[str, Any]) -> str:
    query = urlencode(rebuilt["query_string"], doseq=True)
    joint = "&" if "?" in rebuilt["url_path"] else "?"
    return rebuilt["url_path"] + (joint + query if query else "")


def _rebuilt(rebuilt: dict[str, Any], kind: str, within: Scope, identity: Identity) -> Environ:
    body = rebuilt["body"]
    if kind in FORMS:
        body = urlencode(body)
    body = body.encode() if isinstance(body, str) else body
    if kind.endswith("json"):  # moto also looks for a form's Action in a body of JSON
        body = body.replace(b"&", b"\\u0026").replace(b"=", b"\\u003d")
    signer = f"{identity.access_key}/{within.day}/{within.region}/{within.service}/aws4_request"
    headers = {name: str(value) for name, value in rebuilt["headers"].items() if name.lower() != "content-length"}
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={signer}, SignedHeaders=host, Signature=checked"
    if identity.session_token:
        headers["X-Amz-Security-Token"] = identity.session_token
    return _environ(rebuilt["method"], _url(rebuilt), headers, body)


def _environ(method: str, uri: str, headers: dict[str, str], body: bytes = b"") -> Environ:
    path, _, query = uri.partition("?")
    names = {name: name.upper().replace("-", "_") for name in headers}
    named = {key if key == "CONTENT_TYPE" else f"HTTP_{key}": headers[name] for name, key in names.items()}
    return {
        **named, "HTTP_HOST": "127.0.0.1", "REQUEST_METHOD": method, "SCRIPT_NAME": "", "RAW_URI": uri,
        "REQUEST_URI": uri, "PATH_INFO": unquote(path, "latin-1"), "QUERY_STRING": query, "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": str(len(body)), "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
