"""The token webhook of a cluster: the API server asks who a token belongs to, and what a user may do."""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lib.crypto.jwt import fingerprint
from sandbox.iam.sigv4 import Refused

MAX_REVIEW = 65536  # bytes; a TokenReview of authenticator.MAX_TOKEN characters has about 5,000
HANDSHAKE = 15.0  # seconds of silence; two busy cores need less than one
AUTHENTICATION_API, AUTHORIZATION_API = "authentication.k8s.io/v1", "authorization.k8s.io/v1"

Authenticate = Callable[[str], dict | None]  # token -> the user (username, uid, groups, extra), or Refused
Authorize = Callable[[dict], bool]  # spec of a SubjectAccessReview -> allowed
Log = Callable[[str], None]


def serve(
    host: str,
    port: int,
    certfile: Path,
    keyfile: Path,
    client: Path,
    authenticate: Authenticate,
    log: Log,
    authorize: Authorize,
    handshake: float = HANDSHAKE,
) -> ThreadingHTTPServer:
    """Serve POST /authenticate, POST /authorize and GET /healthz over TLS 1.2 or later in a daemon thread.

    Args:
        host: the address to listen on.
        port: the port, 0 for a free one.
        certfile: the server's certificate, PEM.
        keyfile: its key.
        client: the certificate of the only client that gets a connection, the API server's, PEM.
        authenticate: maps a token to its user.
        log: takes one line a token, with the token's fingerprint.
        authorize: decides a SubjectAccessReview.
        handshake: seconds of silence after which a handshake ends: any pod can open a connection.

    Returns:
        The server. To end it, call `shutdown()`, then `server_close()`.
    """
    context = tls(certfile, keyfile)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client)  # this certificate alone is trusted, not the CA's others
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    server = _Server((host, port), _endpoint(authenticate, authorize, log, handshake))
    server.log = log
    # Each connection's thread makes its handshake, so that a silent client does not block the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="webhook", daemon=True).start()
    return server


def tls(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """Return the context of a server with TLS 1.2 or later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certfile, keyfile)
    return context


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    log: Log

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.log(f"webhook: a connection ended: {type(sys.exception()).__name__}")  # the message may contain a token


def _endpoint(
    authenticate: Authenticate, authorize: Authorize, log: Log, handshake: float
) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60  # seconds of silence after which the server closes a connection; the API server opens another
        disable_nagle_algorithm = True  # else the body waits 40 ms for the API server to acknowledge the headers

        def setup(self) -> None:
            self.request.settimeout(handshake)
            self.request.do_handshake()
            super().setup()

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
                return self._refuse(400, f"expected a TokenReview of {AUTHENTICATION_API} with a token, got another.")
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
        maps = all(isinstance(spec.get(name, {}), dict) for name in ("extra", "resourceAttributes"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return spec if known and maps else None


def _token(body: bytes) -> str | None:
    token = (_spec(body, AUTHENTICATION_API, "TokenReview") or {}).get("token")
    return token if isinstance(token, str) and token.isascii() and token else None
