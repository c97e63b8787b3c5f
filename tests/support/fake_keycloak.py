"""A Keycloak of one page, on loopback, with state: as much of the real one's answers (26.7) as the tests need."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

UNKNOWN = "Invalid client or Invalid client credentials"
FORM = '<form id="kc-form-login" onsubmit="x" action="{}" method="post">'


class FakeKeycloak(ThreadingHTTPServer):
    """`writes` lists what changed something, `logins` counts the administrator's; `tokens` are the bearers taken.

    `sessions` are those of users by id: {realm, user, client, iat}; `codes` the authorization codes that may be used.
    One administrator logs in at a time, for `login_seconds`.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.realms, self.writes, self.logins, self.tokens = {}, [], 0, set()
        self.sessions, self.codes, self.made = {}, {}, 0
        self.issuer, self.administrators = "", {}
        self.login_seconds, self.logging_in = 0.0, threading.Lock()

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
            own = {"notBefore": 0, **body, "id": f"id-{body['realm']}", "attributes": attributes}
            kinds = ("clients", "users", "roles", "components", "groups")
            self.realms[body["realm"]] = {"realm": own, **{kind: {} for kind in kinds}}
            return 201, None
        if parts[0] not in self.realms:
            return 404, {"error": "Realm not found."}
        realm = self.realms[parts[0]]
        if len(parts) == 1:
            return self.item(method, self.realms, parts[0], realm["realm"], body)
        if parts[1] == "sessions":
            return (204, None) if self.sessions.pop(parts[2], None) else (404, {"error": "Sesssion not found"})
        if parts[1] == "attack-detection":
            return 204, None
        if parts[1] == "roles":
            return self.role(method, realm["roles"], parts[2:], body)
        if parts[1] == "group-by-path":
            found = realm["groups"].get("/" + "/".join(parts[2:]))
            return (200, found) if found else (404, {"error": "Group path does not exist"})
        if parts[1] == "groups":
            return self.group(method, realm["groups"], parts[2:], body)
        if parts[1] == "users" and parts[3:4] == ["groups"]:
            return self.membership(method, realm, realm["users"][parts[2]], parts[4:])
        return self.inside(method, realm[parts[1]], parts[2:], query, body)

    def inside(self, method, kind, rest, query, body):
        """Return (status, answer) for a realm's clients, users or components."""
        if rest[1:2] == ["client-secret"]:
            return 200, {"type": "secret", "value": kind[rest[0]]["secret"]}
        if rest[1:2] == ["credentials"]:
            return 200, [{"type": "password"}] if "password" in kind[rest[0]] else []
        if rest[1:2] == ["reset-password"]:
            kind[rest[0]]["password"] = body["value"]
            return 204, None
        if rest[1:2] == ["logout"]:
            self.forget(lambda session: session["user"] is kind[rest[0]])
            return 204, None
        if rest[1:2] == ["roles"]:
            return self.role(method, kind[rest[0]].setdefault("roles", {}), rest[2:], body, rest[0])
        if rest[1:2] in (["role-mappings"], ["scope-mappings"]):
            return self.mapped(method, kind[rest[0]].setdefault(rest[1], []), body)
        if rest[1:2] == ["protocol-mappers"]:
            kind, rest = kind[rest[0]].setdefault("mappers", {}), rest[3:]
        if rest and rest[0] not in kind:
            return 404, {"error": "not found"}
        if rest:
            return self.item(method, kind, rest[0], kind[rest[0]], body)
        if method == "POST":
            self.made += 1
            kind[str(self.made)] = {**body, "id": str(self.made), "secret": "made-by-keycloak"}
            return 201, None
        asked = {key: value for key, value in query.items() if key not in ("exact", "parent", "type")}
        return 200, [shown(one) for one in kind.values() if all(one.get(k) == v for k, v in asked.items())]

    def group(self, method, groups, rest, body):
        """Return (status, answer) for groups by their ids, which are `group-<path>` with dots for slashes."""
        holder = next((one for one in groups.values() if rest and one["id"] == rest[0]), {"path": ""})
        if "role-mappings" in rest:
            return self.mapped(method, holder.setdefault("/".join(rest[1:]), []), body)
        name = f"{holder['path']}/{body['name']}"
        groups[name] = {"id": f"group{name.replace('/', '.')}", "path": name, **body}
        return 201, groups[name]

    @staticmethod
    def membership(method, realm, user, rest):
        """Return (status, answer) for the groups of a user."""
        held = user.setdefault("groups", [])
        if method == "GET":
            return 200, held
        held[:] = [group for group in held if group["id"] != rest[0]]
        held += [group for group in realm["groups"].values() if group["id"] == rest[0] and method == "PUT"]
        return 204, None

    def role(self, method, roles, rest, body, owner="realm"):
        """Return (status, answer) for the roles of a realm or of a client."""
        if rest[1:2] == ["composites"]:
            return self.mapped(method, roles[rest[0]].setdefault("parts", []), body)
        if method == "POST":
            roles[body["name"]] = {"id": f"role-{body['name']}", "containerId": owner, **body}
            return 201, None
        return (200, roles[rest[0]]) if rest[0] in roles else (404, {"error": "Could not find role"})

    @staticmethod
    def mapped(method, roles, body):
        """Return (status, answer) for the roles of a user, or those that a client tells."""
        if method == "GET":
            return 200, roles
        names = [role["name"] for role in body]
        roles[:] = [role for role in roles if role["name"] not in names] + (body if method == "POST" else [])
        return 204, None

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
            known = self.realms.get("master", {}).get("users", {}).values()  # where nobody is known, everybody may
            said = form["username"], form["password"]
            who = next((one for one in known if (one["username"], one.get("password")) == said), None)
            if known and not who:
                return invalid("Invalid user credentials")
            if not self.logging_in.acquire(blocking=False):  # as with brute force protection
                return invalid("Invalid user credentials")
            time.sleep(self.login_seconds)
            self.logging_in.release()
            self.logins += 1
            self.administrators[f"admin-{self.logins}"] = who
            self.tokens.add(f"admin-{self.logins}")
            return 200, {"access_token": f"admin-{self.logins}", "expires_in": 60}
        client, refused = self.client(realm, form)
        if refused:
            return refused
        kind = form.get("grant_type")
        if kind == "client_credentials":
            return 200, {"access_token": jwt(azp=client["clientId"]), "expires_in": 300}
        if kind == "refresh_token":
            known = body_of(form["refresh_token"]).get("sid") in self.sessions
            return (200, self.issued(realm, client, None)) if known else invalid("Session not active")
        if kind == "authorization_code":
            user = self.codes.pop(form["code"], None)
            return (200, self.issued(realm, client, user)) if user else invalid("Code not valid")
        return self.password(realm, client, form)

    def password(self, realm, client, form):
        """Return (status, answer) of the password grant."""
        if not client.get("directAccessGrantsEnabled"):
            text = "Client not allowed for direct access grants"
            return 400, {"error": "unauthorized_client", "error_description": text}
        user = next((one for one in self.realms[realm]["users"].values() if one["username"] == form["username"]), {})
        if user.get("password") != form["password"]:
            return invalid("Invalid user credentials")
        if not user.get("lastName") or user.get("requiredActions"):
            return invalid("Account is not fully set up")
        if not user.get("enabled", True):
            return invalid("Account disabled")
        return 200, self.issued(realm, client, user)

    def issued(self, realm, client, user):
        """Return the tokens of a new session."""
        self.made += 1
        sid = f"session-{self.made}"
        self.sessions[sid] = {"realm": realm, "user": user, "client": client, "iat": int(time.time())}
        about = {"sid": sid, "iat": self.sessions[sid]["iat"], "azp": client["clientId"]}
        kinds = {"access_token": "Bearer", "refresh_token": "Refresh", "id_token": "ID"}
        return {"expires_in": 300, **{name: jwt(typ=kind, **about) for name, kind in kinds.items()}}

    def active(self, token):
        """Whether a token's session, user, client and realm still stand by it."""
        session = self.sessions.get(body_of(token).get("sid"))
        if not session:
            return False
        inside = self.realms[session["realm"]]
        revoked = max(inside["realm"]["notBefore"], session["client"].get("notBefore") or 0)
        there = any(one is session["user"] for one in inside["users"].values())
        return there and session["user"].get("enabled", True) and session["iat"] >= revoked

    def client(self, realm, form):
        """Return the client that the form names, or the refusal."""
        clients = self.realms[realm]["clients"].values()
        client = next((one for one in clients if one["clientId"] == form.get("client_id")), None)
        if client is None:
            return None, (401, {"error": "invalid_client", "error_description": UNKNOWN})
        if not client.get("publicClient") and form.get("client_secret") != client["secret"]:
            return None, (401, {"error": "unauthorized_client", "error_description": UNKNOWN})
        return client, None

    def forget(self, whose):
        """End the sessions for which `whose` holds."""
        self.sessions = {sid: session for sid, session in self.sessions.items() if not whose(session)}


class Handler(BaseHTTPRequestHandler):
    """Routes a request to the server's functions."""

    def handle_one(self):
        """Answer a request of any method."""
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.answer(*self.route(place.path.strip("/").split("/"), query, text))

    do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815 (http.server's names)

    def route(self, parts, query, text):
        """Return (status, answer)."""
        form = {name: values[0] for name, values in parse_qs(text).items()} if parts[0] == "realms" else {}
        if parts[-1] == "openid-configuration":
            return 200, {"issuer": self.server.issuer}
        if parts[-1] == "certs":
            return 200, {"keys": []}
        if parts[-1] == "token":
            return self.server.token(parts[1], form)
        if parts[-1] == "introspect":
            return 200, {"active": self.server.active(form["token"])}
        if parts[-1] == "logout" and parts[0] == "realms":
            self.server.sessions.pop(body_of(form["refresh_token"])["sid"], None)
            return 204, None
        if parts[-1] in ("auth", "authenticate"):
            return self.browser(parts, query, form)
        if parts[0] != "admin":
            return 404, {"error": "Unable to find matching target resource method"}
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.tokens:
            return 401, {"error": "HTTP 401 Unauthorized"}
        who = self.server.administrators.get(self.headers["Authorization"].removeprefix("Bearer "))
        if who and "admin" not in [role["name"] for role in who.get("role-mappings", [])]:
            return 403, {"error": "HTTP 403 Forbidden"}
        if self.command != "GET":
            self.server.writes.append(f"{self.command} {self.path}")
        return self.server.admin(self.command, parts[2:], query, json.loads(text or "null"))

    def browser(self, parts, query, form):
        """Return the login form, a page that says no, or the redirect with a code."""
        client = next(
            one for one in self.server.realms[parts[1]]["clients"].values() if one["clientId"] == query["client_id"]
        )
        if query["redirect_uri"] not in client.get("redirectUris", []):
            return 400, '<div id="kc-error-message"> <p class="x">Invalid parameter: redirect_uri</p></div>'
        if parts[-1] == "auth":
            action = f"{self.server.url}/realms/{parts[1]}/authenticate?{urlencode(query)}"
            return 200, FORM.format(action.replace("&", "&amp;"))
        users = self.server.realms[parts[1]]["users"].values()
        user = next(one for one in users if one["username"] == form["username"])
        self.server.codes["code-1"] = user
        return 302, f"{query['redirect_uri']}?{urlencode({'code': 'code-1'})}"

    def answer(self, status, what):
        """Send the status and, unless None, `what`: as JSON, as a page if it is text, as a place to go to."""
        text = "" if what is None or status == 302 else what if isinstance(what, str) else json.dumps(what)
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(what, str) else "application/json")
        if status == 302:
            self.send_header("Location", what)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Say nothing."""


def shown(one):
    """Return an object as the admin API shows it: a key's private half is asterisks."""
    config = one.get("config", {})
    return {**one, "config": {**config, "privateKey": ["**********"]}} if "privateKey" in config else one


def invalid(text):
    """Return the refusal of a grant."""
    return 400, {"error": "invalid_grant", "error_description": text}


def jwt(**claims):
    """Return something of a token's form."""
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts) + ".c2ln"


def body_of(token):
    """Return a token's claims, none if it is no token."""
    part = token.split(".")[1] if token.count(".") == 2 else "e30"
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
