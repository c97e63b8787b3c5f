"""The token webhook of a cluster: it maps `k8s-aws-v1.` tokens to users, as EKS does.

A token is a presigned STS GetCallerIdentity URL. aws-iam-authenticator checks the form of the URL and sends it to STS.
The sandbox has no such STS, so the webhook recomputes the signature and makes the checks of STS too.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import ssl
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from lib.crypto.jwt import fingerprint
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

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
MAX_TOKEN = 4096  # characters; aws-iam-authenticator, pkg/token/token.go: maxTokenLenBytes
MAX_REVIEW = 65536  # bytes; a TokenReview of MAX_TOKEN characters has about 5,000
LIFETIME = timedelta(minutes=15)  # token.go: presignedURLExpiration, from X-Amz-Date, whatever X-Amz-Expires says
SKEW = timedelta(
    minutes=5
)  # that a client's clock may be ahead: IAM user guide, "Elements of an AWS API request signature"
AUTHENTICATION_API, AUTHORIZATION_API = "authentication.k8s.io/v1", "authorization.k8s.io/v1"

REQUIRED = {  # query parameters with one valid value
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": ALGORITHM,
    "X-Amz-SignedHeaders": f"host;{CLUSTER_HEADER}",  # the webhook knows no other header of the signed request
}
VARIABLE = {"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"}  # required, with any value
OPTIONAL = {"X-Amz-Security-Token"}

Authenticate = Callable[[str], dict | None]  # token -> the user (username, uid, groups, extra), or Refused
Authorize = Callable[[dict], bool]  # spec of a SubjectAccessReview -> allowed
Log = Callable[[str], None]


def verify(
    token: str, *, cluster_name: str, region: str, hosts: set[str], find: FindIdentity, now: datetime
) -> Identity:
    """Return the identity that made the token for this cluster.

    The checks are those of aws-iam-authenticator, and those of STS: scope, date, access key, signature.

    Args:
        token: the bearer token.
        cluster_name: the cluster that the token must be for.
        region: the region of the credential scope.
        hosts: the STS hosts, with port, that the URL may name.
        find: returns the owner of an access key.
        now: the present time.

    Raises:
        Refused: with the reason.

    Source: aws-iam-authenticator, pkg/token/token.go, tokenVerifier.Verify.
    """
    url = _url(token)
    parts = urlsplit(url)
    _check_url(parts, hosts)
    query = _query(parts)
    _check_times(query, now)
    within = _scope(query, region, parts.netloc)
    identity = find(within.access_key, query.get("X-Amz-Security-Token"))
    if identity is None:
        raise Refused("expected an access key (and session token) that the account knows, got another.")
    _check_signature(parts, query, within, identity, cluster_name)
    return identity


def serve(
    host: str,
    port: int,
    certfile: Path,
    keyfile: Path,
    authenticate: Authenticate,
    log: Log,
    authorize: Authorize = lambda spec: False,
) -> ThreadingHTTPServer:
    """Serve POST /authenticate, POST /authorize and GET /healthz over TLS 1.2 or later in a daemon thread.

    Args:
        host: the address to listen on.
        port: the port, 0 for a free one.
        certfile: the server's certificate, PEM.
        keyfile: its key.
        authenticate: maps a token to its user.
        log: takes one line a token, with the token's fingerprint.
        authorize: decides a SubjectAccessReview.

    Returns:
        The server. To end it, call `shutdown()`, then `server_close()`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certfile, keyfile)
    server = _Server((host, port), _endpoint(authenticate, authorize, log))
    server.log = log
    # Each connection's thread makes its handshake, so that a silent client does not block the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="webhook", daemon=True).start()
    return server


def review(token: str, authenticate: Authenticate, log: Log) -> dict:
    """Return the status of a TokenReview: the user, or the reason of the refusal."""
    name = fingerprint(token)
    try:
        user = authenticate(token)
        if not user:
            raise Refused("expected a token of a known user, got another.")
    except Refused as reason:
        log(f"webhook: token {name} refused: {reason}")
        return {"authenticated": False, "error": str(reason)}
    log(f"webhook: token {name} accepted as {user['username']}")
    return {"authenticated": True, "user": user}


def _url(token: str) -> str:
    if len(token) > MAX_TOKEN:
        raise Refused(f"expected a token of at most {MAX_TOKEN} characters, got {len(token)}.")
    if not token.startswith(PREFIX):
        raise Refused(f"expected a token that begins with {PREFIX}, got another; make one with aws eks get-token.")
    body = token.removeprefix(PREFIX)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", body) or len(body) % 4 == 1:
        raise Refused("expected base64url without padding after the prefix, got something else.")
    url = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode("latin-1")
    if not re.fullmatch(r"[!-~]+", url):  # urlsplit drops tabs and line ends, which the signature covers
        raise Refused("expected a URL of printable ASCII in the token, got something else.")
    return url


def _check_url(parts: SplitResult, hosts: set[str]) -> None:
    if parts.scheme not in ("https", "http"):
        raise Refused(f"expected an https or http URL, got the scheme {parts.scheme[:20]!r}.")
    if parts.netloc not in hosts:
        raise Refused(f"expected a URL of one of {sorted(hosts)}, got the host {parts.netloc[:100]!r}.")
    if parts.path != "/" or parts.fragment:
        raise Refused(f"expected the path / and no fragment in the URL, got {parts.path[:100]!r}.")


def _query(parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise Refused("expected a query of name=value parameters, got something else.") from None
    query = dict(pairs)
    if strange := sorted(set(query) - set(REQUIRED) - VARIABLE - OPTIONAL):
        raise Refused(f"expected only the parameters of a presigned GetCallerIdentity, got {strange[0][:40]!r} too.")
    if len(pairs) != len(query):
        raise Refused("expected each query parameter once, got one of them twice.")
    if missing := sorted((set(REQUIRED) | VARIABLE) - set(query)):
        raise Refused(f"expected the query parameter {missing[0]}, got none.")
    for name, value in REQUIRED.items():
        if query[name] != value:
            raise Refused(f"expected {name} to be {value}, got {query[name][:60]!r}.")
    return query


def _check_times(query: dict[str, str], now: datetime) -> None:
    expires = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,3}", expires) or not 1 <= int(expires) <= 900:
        raise Refused(f"expected X-Amz-Expires between 1 and 900 seconds, got {expires[:20]!r}.")
    date = moment(query["X-Amz-Date"])
    if now > date + LIFETIME:
        raise Refused(
            f"expected an X-Amz-Date of the last 15 minutes, got {query['X-Amz-Date']}: the token is expired."
        )
    if date > now + SKEW:
        raise Refused(f"expected an X-Amz-Date that is not in the future, got {query['X-Amz-Date']}; set the clock.")


def _scope(query: dict[str, str], region: str, host: str) -> Scope:
    within = scope(query["X-Amz-Credential"])
    signed_region = "us-east-1" if host == "sts.amazonaws.com" else region  # the global endpoint's region
    found = (within.day, within.region, within.service)
    if found != (query["X-Amz-Date"][:8], signed_region, "sts"):
        raise Refused(
            f"expected a credential scope of the date, {signed_region} and sts, got {'/'.join(found)[:80]!r}."
        )
    return within


def _check_signature(parts: SplitResult, query: dict, within: Scope, identity: Identity, cluster_name: str) -> None:
    kept = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-Signature=")]
    request = AWSRequest("GET", parts._replace(query="&".join(kept)).geturl(), headers={CLUSTER_HEADER: cluster_name})
    right = expected(SigV4QueryAuth, identity, request, query["X-Amz-Date"], within)
    given = query["X-Amz-Signature"]
    if not SIGNATURE.fullmatch(given) or not hmac.compare_digest(right, given):
        raise Refused(
            f"expected a signature for the cluster {cluster_name} with the access key's secret, got another: "
            "the token is for another cluster, was changed, or is signed with another secret."
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    log: Log

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.log(f"webhook: a connection ended: {type(sys.exception()).__name__}")  # the message may contain a token


def _endpoint(authenticate: Authenticate, authorize: Authorize, log: Log) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60  # seconds of silence after which the server closes a connection; the API server opens another

        def do_GET(self) -> None:
            if self.path != "/healthz":
                return self._refuse(404, "expected GET /healthz, got another path.")
            return self._answer(200, {"status": "ok"})

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            path = self.path.partition("?")[0]
            if path not in ("/authenticate", "/authorize"):
                return self._refuse(404, "expected POST /authenticate or /authorize, got another path.")
            if not re.fullmatch(r"[0-9]{1,6}", length) or int(length) > MAX_REVIEW:
                return self._refuse(413, f"expected a review of up to {MAX_REVIEW} bytes, got more, or no length.")
            body = self.rfile.read(int(length))
            if path == "/authorize":
                return self._authorize(_spec(body, AUTHORIZATION_API, "SubjectAccessReview"))
            token = _token(body)
            if token is None:
                return self._refuse(
                    400, f"expected a TokenReview of {AUTHENTICATION_API} with a token, got something else."
                )
            status = review(token, authenticate, log)
            return self._answer(200, {"apiVersion": AUTHENTICATION_API, "kind": "TokenReview", "status": status})

        def _authorize(self, spec: dict | None) -> None:
            if spec is None:
                return self._refuse(400, f"expected a SubjectAccessReview of {AUTHORIZATION_API}, got something else.")
            status = {"allowed": authorize(spec)}  # false without "denied" leaves the decision to RBAC
            return self._answer(200, {"apiVersion": AUTHORIZATION_API, "kind": "SubjectAccessReview", "status": status})

        def _refuse(self, status: int, sentence: str) -> None:
            self.close_connection = True  # the unread body must not become the next request
            self._answer(status, {"error": sentence})

        def _answer(self, status: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing: `log` gets a line for each token."""

    return Endpoint


def _spec(body: bytes, api: str, kind: str) -> dict | None:
    try:
        content = json.loads(body)
        spec = content["spec"]
        known = (content["apiVersion"], content["kind"]) == (api, kind) and isinstance(spec, dict)
    except (ValueError, KeyError, TypeError):
        return None
    return spec if known else None


def _token(body: bytes) -> str | None:
    token = (_spec(body, AUTHENTICATION_API, "TokenReview") or {}).get("token")
    return token if isinstance(token, str) and token.isascii() and token else None
