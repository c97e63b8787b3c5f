"""The world of lib.probes.slow: a realm whose keys may rotate and a workload that trusts it, there while it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from joserfc import jwt
from joserfc.jwk import RSAKey

from lib.crypto import jwt as crypto_jwt
from lib.istio import installation
from lib.keycloak import oidc, realm_keys, representations
from lib.keycloak.admin import Keycloak, only, path
from lib.polling import wait
from lib.probes import workloads
from lib.probes.scenarios.waiting import GOOD, REFRESH, STREAK, WORLD
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import over_sockets
from lib.run import Run
from lib.steps import endpoints, gateway_tls
from lib.steps import keycloak as steps_keycloak

REALM = "rotating"
HOME = "probes-slow"  # namespace
LATE = "keys-late"  # Service in Keycloak's namespace, with nobody behind it at first
SHORT = "short"  # a client whose tokens live for a second
LIFE = 900  # seconds of a token: all drills with one
OWN = "own"  # a key whose private half is known here
MANAGER = "runbook-probes-slow"  # of single fields of istiod and Keycloak; see lib.kube.Cluster.apply
PARTS = {"istiod": installation.ROOT_NAMESPACE, "keycloak": endpoints.KEYCLOAK}
INTERVAL = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"


@contextmanager
def world(run: Run, keycloak: Keycloak) -> Iterator[Rotation]:
    """Make the world, with an istiod that fetches keys often; take it all away again at the end, whatever happens."""
    here = Rotation(run, keycloak)
    try:
        refresh_every(run, f"{REFRESH}s")
        here.build()
        yield here
    finally:
        run.cluster.delete("v1", "Namespace", HOME)
        run.cluster.delete("v1", "Service", LATE, endpoints.KEYCLOAK)
        _wait_gone(run, lambda: run.cluster.find("v1", "Namespace", HOME), f"namespace {HOME}")
        keycloak.delete_realm(REALM)
        refresh_every(run, "")


def refresh_every(run: Run, interval: str) -> None:
    """Let istiod fetch keys in this interval, as in `10s`; empty is its own default. Wait until it does."""
    discovery(run, **({INTERVAL: interval} if interval else {}))


def discovery(run: Run, **environment: str) -> None:
    """Give istiod these variables, and none besides of those given before; wait until it runs with them."""
    stated = {"name": "discovery", "env": [{"name": name, "value": value} for name, value in environment.items()]}
    run.cluster.apply(
        _deployment("istiod", {"template": {"spec": {"containers": [stated]}}} if environment else {}), MANAGER
    )
    run.cluster.wait_rolled_out("Deployment", "istiod", PARTS["istiod"], run.params.deadline)


@contextmanager
def stopped(run: Run, part: str) -> Iterator[None]:
    """Stop a part of PARTS, and start it again at the end."""
    cluster, home = run.cluster, PARTS[part]
    replicas = cluster.get("apps/v1", "Deployment", part, home)["spec"]["replicas"]
    try:
        cluster.apply(_deployment(part, {"replicas": 0}), MANAGER)
        _wait_gone(run, lambda: cluster.items("v1", "Pod", home, f"app={part}"), f"{part}'s pods")
        yield
    finally:
        cluster.apply(_deployment(part, {"replicas": replicas}), MANAGER)
        cluster.wait_rolled_out("Deployment", part, home, run.params.deadline)


class Rotation:
    """One world; see lib.probes.slow.Slow for what its functions do."""

    def __init__(self, run: Run, keycloak: Keycloak):
        self.run, self.keycloak = run, keycloak
        self.issuer = endpoints.issuer(run, REALM)
        self.password, self.pem = oidc.generate_password(), realm_keys.generate_key()
        for secret in (self.password, self.pem):
            run.record.secret(secret)
        self._way = over_sockets(workloads.shared(run))

    def build(self) -> None:
        """Make realm, workload and policies, and wait until a token of the realm passes."""
        self._build_realm()
        self._build_workload()
        token = self.token()
        deadline = self.run.params.deadline
        wait(
            "a token of the realm to pass",
            lambda: self.ask(token),
            lambda got: got == GOOD,
            streak=STREAK,
            deadline=deadline,
        )

    def ask(self, token: str) -> str:
        """See Slow."""
        bearer = (f"Authorization: Bearer {token}",) if token else ()
        lines = (f"Host: {WORLD}.example", *bearer, f"User-Agent: {WORLD}")
        return self._way([Request("GET", "/headers", lines)])[0].answer

    def token(self, client: str = "") -> str:
        """See Slow."""
        name = client or self.run.params.client_id
        endpoint, secret = f"{self.issuer}/protocol/openid-connect/token", self.keycloak.client_secret(REALM, name)
        said = oidc.password_token(endpoint, name, secret, self.run.params.user, self.password)
        self.run.record.secret(said["access_token"])
        return said["access_token"]

    def signed(self, exp: int) -> str:
        """See Slow."""
        key, claims = RSAKey.import_key(self.pem), {**crypto_jwt.claims(self.token()), "exp": exp, "iat": exp - 300}
        token = jwt.encode({"alg": "RS256", "typ": "JWT", "kid": realm_keys.key_id(self.pem)}, claims, key)
        self.run.record.secret(token)
        return token

    def key(
        self, name: str, priority: int = realm_keys.OWN_PRIORITY, active: bool = True, enabled: bool = True
    ) -> None:
        """See Slow."""
        realm_keys.ensure_generated_key(self.keycloak, REALM, name, priority, active, enabled)

    def drop_key(self, name: str) -> None:
        """See Slow."""
        found = only(self.keycloak.get(path(REALM, "components"), type=realm_keys.PROVIDER), "name", name)
        if found:
            self.keycloak.call("DELETE", path(REALM, "components", found["id"]))

    def keys_from(self, where: str) -> None:
        """See Slow."""
        uri = endpoints.jwks_uri(self.run, REALM)
        uri = (
            uri.replace(endpoints.INSIDE, f"{LATE}.{endpoints.KEYCLOAK}.svc.cluster.local") if where == "late" else uri
        )
        self._apply("request-authentication.yaml", issuer=self.issuer, jwks_uri=uri)

    def reach(self, reachable: bool) -> None:
        """See Slow."""
        spec = {
            "selector": {"app": "keycloak" if reachable else "nobody"},
            "ports": steps_keycloak.objects(self.run)[0]["spec"]["ports"],
        }
        metadata = {"name": LATE, "namespace": endpoints.KEYCLOAK}
        self.run.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def allow(self, allowed: bool) -> None:
        """See Slow."""
        for thing in self._load("figure-2.yaml", issuer=self.issuer):
            closed = {key: value for key, value in thing["spec"].items() if key != "rules"}
            self.run.cluster.apply(thing if allowed else {**thing, "spec": closed})

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """See Slow."""
        return stopped(self.run, part)

    def _build_realm(self) -> None:
        keycloak, client, user = self.keycloak, self.run.params.client_id, self.run.params.user
        keycloak.ensure_realm_with_user(
            representations.realm(REALM, sslRequired=gateway_tls.ssl_required(self.run), accessTokenLifespan=LIFE),
            [
                representations.client(client),
                representations.client(SHORT, attributes={"access.token.lifespan": "1"}),
            ],
            representations.user(user),
            self.password,
            audience=client,
        )
        realm_keys.ensure_imported_key(keycloak, REALM, OWN, self.pem, realm_keys.OWN_PRIORITY // 2)

    def _build_workload(self) -> None:
        run = self.run
        _wait_gone(run, lambda: _ending(run.cluster.find("v1", "Namespace", HOME)), f"a namespace {HOME} of before")
        self._apply("namespace.yaml")
        self._apply("httpbin.yaml")
        for thing in self._load("route.yaml", hosts=f"{WORLD}.example"):
            gateway = f"{run.params.namespace}/httpbin-gateway"
            run.cluster.apply({**thing, "spec": {**thing["spec"], "gateways": [gateway]}})
        self.keys_from("realm")
        self.allow(True)
        run.cluster.wait_rolled_out("Deployment", WORLD, HOME, run.params.deadline)

    def _load(self, file: str, **values: str) -> list[dict]:
        return self.run.load(file, **{"name": WORLD, "namespace": HOME, **values})

    def _apply(self, file: str, **values: str) -> None:
        for thing in self._load(file, **values):
            self.run.cluster.apply(thing)


def _deployment(name: str, spec: dict) -> dict:
    metadata = {"name": name, "namespace": PARTS[name]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, **({"spec": spec} if spec else {})}


def _ending(thing: dict | None) -> bool:
    return bool(thing and thing["metadata"].get("deletionTimestamp"))


def _wait_gone(run: Run, find, what: str) -> None:
    wait(f"{what} gone", find, lambda found: not found, deadline=run.params.deadline)
