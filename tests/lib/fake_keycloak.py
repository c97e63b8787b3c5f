"""A Keycloak of one page, on loopback, with state: as much of the real one's answers (26.7) as the tests need."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class FakeKeycloak(ThreadingHTTPServer):
    """`writes` lists what changed something, `logins` counts the administrator's; `tokens` are the bearers taken."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.realms, self.writes, self.logins, self.tokens = {}, [], 0, set()
        self.issuer = ""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def admin(self, method, parts, query, body):
        """Return (status, answer) of the admin API for /admin/realms/`parts`."""
        if not parts:
            attributes = {"kept": "1", **body.get("attributes", {})}
            self.realms[body["realm"]] = {"realm": {**body, "attributes": attributes}, "clients": {}, "users": {}}
            return 201, None
        if parts[0] not in self.realms:
            return 404, {"error": "Realm not found."}
        realm = self.realms[parts[0]]
        if len(parts) == 1:
            return self.item(method, self.realms, parts[0], realm["realm"], body)
        kind, rest = realm[parts[1]], parts[2:]
        if rest[1:2] == ["client-secret"]:
            return 200, {"type": "secret", "value": kind[rest[0]]["secret"]}
        if rest[1:2] == ["credentials"]:
            return 200, [{"type": "password"}] if "password" in kind[rest[0]] else []
        if rest[1:2] == ["reset-password"]:
            kind[rest[0]]["password"] = body["value"]
            return 204, None
        if rest[1:2] == ["protocol-mappers"]:
            kind, rest = kind[rest[0]].setdefault("mappers", {}), rest[3:]
        if rest:
            return self.item(method, kind, rest[0], kind[rest[0]], body)
        if method == "POST":
            kind[str(len(kind))] = {**body, "id": str(len(kind)), "secret": "made-by-keycloak"}
            return 201, None
        return 200, [one for one in kind.values() if all(one.get(k) == v for k, v in query.items() if k != "exact")]

    @staticmethod
    def item(method, holder, key, item, body):
        """Return the answer to GET, PUT or DELETE of one object."""
        if method == "DELETE":
            del holder[key]
        elif method == "PUT":
            item.update(body)
        return (200, item) if method == "GET" else (204, None)

    def token(self, realm, form):
        """Return (status, answer) of the token endpoint."""
        if realm == "master":
            self.logins += 1
            self.tokens.add(f"admin-{self.logins}")
            return 200, {"access_token": f"admin-{self.logins}", "expires_in": 60}
        inside = self.realms[realm]
        client = next(one for one in inside["clients"].values() if one["clientId"] == form["client_id"])
        user = next((one for one in inside["users"].values() if one["username"] == form["username"]), {})
        if form.get("client_secret") != client["secret"]:
            text = "Invalid client or Invalid client credentials"
            return 401, {"error": "unauthorized_client", "error_description": text}
        if user.get("password") != form["password"]:
            return 400, {"error": "invalid_grant", "error_description": "Invalid user credentials"}
        if not user.get("lastName"):
            return 400, {"error": "invalid_grant", "error_description": "Account is not fully set up"}
        return 200, {"access_token": "a.b.c", "expires_in": 300}


class Handler(BaseHTTPRequestHandler):
    """Routes a request to the server's functions."""

    def handle_one(self):
        """Answer a request of any method."""
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.answer(*self.route(place.path.strip("/").split("/"), query, text))

    do_GET = do_POST = do_PUT = do_DELETE = handle_one

    def route(self, parts, query, text):
        """Return (status, answer)."""
        if parts[-1] == "openid-configuration":
            return 200, {"issuer": self.server.issuer}
        if parts[-1] == "certs":
            return 200, {"keys": []}
        if parts[-1] == "token":
            return self.server.token(parts[1], {name: values[0] for name, values in parse_qs(text).items()})
        if parts[0] != "admin":
            return 404, {"error": "Unable to find matching target resource method"}
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.tokens:
            return 401, {"error": "HTTP 401 Unauthorized"}
        if self.command != "GET":
            self.server.writes.append(f"{self.command} {self.path}")
        return self.server.admin(self.command, parts[2:], query, json.loads(text or "null"))

    def answer(self, status, what):
        """Send the status and, unless None, `what` as JSON."""
        text = "" if what is None else json.dumps(what)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Say nothing."""
