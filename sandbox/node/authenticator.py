"""The token webhook of a cluster: takes `k8s-aws-v1.` tokens as EKS does, and says whose they are.

A token is a presigned STS GetCallerIdentity URL. aws-iam-authenticator checks its form and then sends it to STS;
here the signature is recomputed instead, and more is checked, since no STS stands behind.
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
from urllib.parse import SplitResult, parse_qsl, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from lib.crypto.jwt import fingerprint
from sandbox.iam.sigv4 import ALGORITHM, SIGNATURE, Identity, Refused, Scope, expected, moment, scope

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
MAX_TOKEN = 4096  # characters; aws-iam-authenticator, pkg/token/token.go: maxTokenLenBytes
MAX_REVIEW = 65536  # bytes
LIFETIME = timedelta(minutes=15)  # token.go: presignedURLExpiration, from X-Amz-Date, whatever X-Amz-Expires says
SKEW = timedelta(minutes=5)  # that a client's clock may be ahead
API = "authentication.k8s.io/v1"
RIGHTS = "authorization.k8s.io/v1"

FIXED = {
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": ALGORITHM,
    "X-Amz-SignedHeaders": f"host;{CLUSTER_HEADER}",  # nothing else is known here of the request that was signed
}
FREE = {"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"}
OPTIONAL = {"X-Amz-Security-Token"}

FindIdentity = Callable[[str, str | None], Identity | None]  # (access key, session token) -> None if unknown


def verify(
    token: str, *, cluster_name: str, region: str, hosts: set[str], find: FindIdentity, now: datetime
) -> Identity:
    """Return who made the token for this cluster; raise Refused with the reason.

    `hosts` are the STS hosts (with port) that a URL may name. The checks are those of aws-iam-authenticator's
    tokenVerifier.Verify (pkg/token/token.go) and, beyond it, those of STS: scope, date, access key, signature.
    """
    url = _url(token)
    parts = urlsplit(url)
    _check_place(parts, hosts)
    said = _query(parts)
    _check_times(said, now)
    within = _scope(said, region, parts.netloc)
    identity = find(within.access_key, said.get("X-Amz-Security-Token"))
    if identity is None:
        raise Refused("expected an access key (and session token) that the account knows, got another.")
    _check_signature(parts, said, within, identity, cluster_name)
    return identity


def serve(
    host: str,
    port: int,
    certfile: Path,
    keyfile: Path,
    authenticate: Callable[[str], dict | None],
    log,
    authorize: Callable[[dict], bool] = lambda asked: False,
) -> ThreadingHTTPServer:
    """Serve POST /authenticate, POST /authorize and GET /healthz over TLS 1.2 or later in a daemon thread.

    `authenticate(token)` returns the user (username, uid, groups), or raises Refused; `authorize(spec)` says whether
    what a SubjectAccessReview asks is allowed. `log(line)` gets one line a token, by its fingerprint. Returns the
    server: end it with `shutdown()`, then `server_close()`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certfile, keyfile)
    server = _Server((host, port), _endpoint(authenticate, authorize, log))
    server.log = log
    # The handshake waits for the connection's own thread: a silent client must not hold the others up.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="webhook", daemon=True).start()
    return server


def review(token: str, authenticate: Callable[[str], dict | None], log) -> dict:
    """Return the status of a TokenReview: authenticated and the user, or not and the reason."""
    name = fingerprint(token)
    try:
        user = authenticate(token)
        if not user:
            raise Refused("expected a token of somebody known here, got another.")
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
    if not re.fullmatch(r"[!-~]+", url):  # urlsplit drops tabs and line ends: what is checked must be what was signed
        raise Refused("expected a URL of printable ASCII in the token, got something else.")
    return url


def _check_place(parts: SplitResult, hosts: set[str]) -> None:
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
    said = dict(pairs)
    if strange := sorted(set(said) - set(FIXED) - FREE - OPTIONAL):
        raise Refused(f"expected only the parameters of a presigned GetCallerIdentity, got {strange[0][:40]!r} too.")
    if len(pairs) != len(said):
        raise Refused("expected each query parameter once, got one of them twice.")
    if missing := sorted((set(FIXED) | FREE) - set(said)):
        raise Refused(f"expected the query parameter {missing[0]}, got none.")
    for name, value in FIXED.items():
        if said[name] != value:
            raise Refused(f"expected {name} to be {value}, got {said[name][:60]!r}.")
    return said


def _check_times(said: dict[str, str], now: datetime) -> None:
    expires = said["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,3}", expires) or not 1 <= int(expires) <= 900:
        raise Refused(f"expected X-Amz-Expires between 1 and 900 seconds, got {expires[:20]!r}.")
    date = moment(said["X-Amz-Date"])
    if now > date + LIFETIME:
        raise Refused(f"expected an X-Amz-Date of the last 15 minutes, got {said['X-Amz-Date']}: the token is expired.")
    if date > now + SKEW:
        raise Refused(f"expected an X-Amz-Date that is not in the future, got {said['X-Amz-Date']}; set the clock.")


def _scope(said: dict[str, str], region: str, host: str) -> Scope:
    within = scope(said["X-Amz-Credential"])
    place = "us-east-1" if host == "sts.amazonaws.com" else region  # the global endpoint is signed for that region
    found = (within.day, within.region, within.service)
    if found != (said["X-Amz-Date"][:8], place, "sts"):
        raise Refused(f"expected a credential scope of the date, {place} and sts, got {'/'.join(found)[:80]!r}.")
    return within


def _check_signature(parts: SplitResult, said: dict, within: Scope, identity: Identity, cluster_name: str) -> None:
    kept = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-Signature=")]
    request = AWSRequest("GET", parts._replace(query="&".join(kept)).geturl(), headers={CLUSTER_HEADER: cluster_name})
    right = expected(SigV4QueryAuth, identity, request, said["X-Amz-Date"], within)
    given = said["X-Amz-Signature"]
    if not SIGNATURE.fullmatch(given) or not hmac.compare_digest(right, given):
        raise Refused(
            f"expected a signature for the cluster {cluster_name} with the access key's secret, got another: "
            "the token is for another cluster, was changed, or is signed with another secret."
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        self.log(f"webhook: a connection ended: {type(sys.exception()).__name__}")  # its text might hold a token


def _endpoint(
    authenticate: Callable[[str], dict | None], authorize: Callable[[dict], bool], log
) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60  # seconds that a connection may be silent

        def do_GET(self):
            if self.path != "/healthz":
                return self._refuse(404, "expected GET /healthz, got another path.")
            self._answer(200, {"status": "ok"})

        def do_POST(self):
            length = self.headers.get("Content-Length", "")
            path = self.path.partition("?")[0]
            if path not in ("/authenticate", "/authorize"):
                return self._refuse(404, "expected POST /authenticate or /authorize, got another path.")
            if not re.fullmatch(r"[0-9]{1,6}", length) or int(length) > MAX_REVIEW:
                return self._refuse(413, f"expected a review of up to {MAX_REVIEW} bytes, got more, or no length.")
            body = self.rfile.read(int(length))
            if path == "/authorize":
                return self._rights(_spec(body, RIGHTS, "SubjectAccessReview"))
            token = _token(body)
            if token is None:
                return self._refuse(400, f"expected a TokenReview of {API} with a token, got something else.")
            self._answer(200, {"apiVersion": API, "kind": "TokenReview", "status": review(token, authenticate, log)})

        def _rights(self, asked: dict | None) -> None:
            if asked is None:
                return self._refuse(400, f"expected a SubjectAccessReview of {RIGHTS}, got something else.")
            answer = {"allowed": authorize(asked)}  # not allowed is no denial: RBAC has its own say
            self._answer(200, {"apiVersion": RIGHTS, "kind": "SubjectAccessReview", "status": answer})

        def _refuse(self, status: int, sentence: str) -> None:
            self.close_connection = True  # of a body that was not read nothing may be left for the next request
            self._answer(status, {"error": sentence})

        def _answer(self, status: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """The webhook's own lines, by token, are enough."""

    return Endpoint


def _spec(body: bytes, api: str, kind: str) -> dict | None:
    try:
        said = json.loads(body)
        spec = said["spec"]
        known = (said["apiVersion"], said["kind"]) == (api, kind) and isinstance(spec, dict)
    except (ValueError, KeyError, TypeError):
        return None
    return spec if known else None


def _token(body: bytes) -> str | None:
    token = (_spec(body, API, "TokenReview") or {}).get("token")
    return token if isinstance(token, str) and token.isascii() and token else None
