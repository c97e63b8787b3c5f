"""A temporary realm with keys that rotate and a workload that trusts it: the world of the scenarios in `waiting`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from lib.crypto import jwt
from lib.istio import installation
from lib.istio.extension_providers import AUTHORIZER, DENY_LIST
from lib.keycloak import oidc, realm_keys, representations
from lib.keycloak.admin import Keycloak, only, path
from lib.names import LOGIN, ROLES
from lib.polling import PAUSE, wait
from lib.probes import workloads
from lib.probes.scenarios.waiting import GOOD, REFRESH, STREAK, WORLD
from lib.probes.tokens import forge
from lib.probes.tokens.keys import SigningKey
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import over_sockets
from lib.run import Run
from lib.steps import endpoints, gateway_tls
from lib.steps import keycloak as steps_keycloak

REALM = "rotating"
HOME = "probes-slow"  # namespace
LATE = "keys-late"  # Service in Keycloak's namespace, without endpoints at first
SHORT = "short"  # a client whose tokens live for a second
LIFE = 900  # seconds that a token lives: longer than each scenario
OWN = "own"  # the realm's key whose private half this module generates
MANAGER = "runbook-probes-slow"  # the field manager of single fields of istiod and Keycloak; see Cluster.apply
PARTS = {"istiod": installation.ROOT_NAMESPACE, "keycloak": endpoints.KEYCLOAK, DENY_LIST: LOGIN, AUTHORIZER: ROLES}
INTERVAL = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"


@contextmanager
def mesh_world(run: Run, keycloak: Keycloak) -> Iterator[MeshWorld]:
    """Create the world and let istiod fetch keys often; at the end, even on errors, delete it and restore istiod."""
    world = MeshWorld(run, keycloak)
    try:
        refresh_every(run, f"{REFRESH}s")
        world.build()
        yield world
    finally:
        run.cluster.delete("v1", "Namespace", HOME)
        run.cluster.delete("v1", "Service", LATE, endpoints.KEYCLOAK)
        _wait_gone(run, lambda: run.cluster.find("v1", "Namespace", HOME), f"namespace {HOME}")
        keycloak.delete_realm(REALM)
        refresh_every(run, "")


def refresh_every(run: Run, interval: str) -> None:
    """Set istiod's interval between key fetches, as in `10s`; empty restores its default. Wait for its restart."""
    set_istiod_environment(run, **({INTERVAL: interval} if interval else {}))


def set_istiod_environment(run: Run, **environment: str) -> None:
    """Set these variables in istiod, and remove those set before; wait until istiod runs with them."""
    stated = {"name": "discovery", "env": [{"name": name, "value": value} for name, value in environment.items()]}
    run.cluster.apply(
        _deployment("istiod", {"template": {"spec": {"containers": [stated]}}} if environment else {}), MANAGER
    )
    run.cluster.wait_rolled_out("Deployment", "istiod", PARTS["istiod"], run.params.deadline)


@contextmanager
def stopped(run: Run, part: str) -> Iterator[None]:
    """Scale a part of PARTS to 0, and back to its replicas at the end."""
    cluster, home = run.cluster, PARTS[part]
    replicas = cluster.get("apps/v1", "Deployment", part, home)["spec"]["replicas"]
    try:
        cluster.apply(_deployment(part, {"replicas": 0}), MANAGER)
        _wait_gone(run, lambda: cluster.items("v1", "Pod", home, f"app={part}"), f"{part}'s pods")
        yield
    finally:
        cluster.apply(_deployment(part, {"replicas": replicas}), MANAGER)
        cluster.wait_rolled_out("Deployment", part, home, run.params.deadline)


class MeshWorld:
    """The world in the live cluster. lib.probes.scenarios.waiting.World says what its functions do."""

    pause = PAUSE

    def __init__(self, run: Run, keycloak: Keycloak) -> None:
        self.run, self.keycloak = run, keycloak
        self.issuer = endpoints.issuer(run, REALM)
        self.password, self.pem = oidc.generate_password(), realm_keys.generate_key()
        for secret in (self.password, self.pem):
            run.record.secret(secret)
        self._send = over_sockets(workloads.shared_gateway(run))

    def build(self) -> None:
        """Create realm, workload and policies; wait until a token of the realm passes."""
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
        """As in World."""
        bearer = (f"Authorization: Bearer {token}",) if token else ()
        lines = (f"Host: {WORLD}.example", *bearer, f"User-Agent: {WORLD}")
        return self._send([Request("GET", "/headers", lines)])[0].answer

    def token(self, client: str = "") -> str:
        """As in World."""
        name = client or self.run.params.client_id
        endpoint, secret = f"{self.issuer}/protocol/openid-connect/token", self.keycloak.client_secret(REALM, name)
        token = oidc.password_token(endpoint, name, secret, self.run.params.user, self.password)["access_token"]
        self.run.record.secret(token)
        return token

    def signed(self, exp: int) -> str:
        """As in World."""
        claims = {**jwt.claims(self.token()), "exp": exp, "iat": exp - 300}
        token = forge.signed(SigningKey.from_pem(self.pem), claims)
        self.run.record.secret(token)
        return token

    def ensure_key(
        self, name: str, priority: int = realm_keys.OWN_PRIORITY, active: bool = True, enabled: bool = True
    ) -> None:
        """As in World."""
        realm_keys.ensure_generated_key(self.keycloak, REALM, name, priority, active, enabled)

    def delete_key(self, name: str) -> None:
        """As in World."""
        found = only(self.keycloak.get(path(REALM, "components"), type=realm_keys.PROVIDER), "name", name)
        if found:
            self.keycloak.call("DELETE", path(REALM, "components", found["id"]))

    def take_keys_from(self, where: str) -> None:
        """As in World."""
        uri = endpoints.jwks_uri(self.run, REALM)
        if where == "late":
            uri = uri.replace(endpoints.INSIDE, f"{LATE}.{endpoints.KEYCLOAK}.svc.cluster.local")
        self._apply("request-authentication.yaml", issuer=self.issuer, jwks_uri=uri)

    def set_reachable(self, reachable: bool) -> None:
        """As in World."""
        spec = {
            "selector": {"app": "keycloak" if reachable else "nobody"},
            "ports": steps_keycloak.objects(self.run)[0]["spec"]["ports"],
        }
        metadata = {"name": LATE, "namespace": endpoints.KEYCLOAK}
        self.run.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def set_allowed(self, allowed: bool) -> None:
        """As in World."""
        for policy in self._load("figure-2.yaml", issuer=self.issuer):
            closed = {key: value for key, value in policy["spec"].items() if key != "rules"}
            self.run.cluster.apply(policy if allowed else {**policy, "spec": closed})

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """As in World."""
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
        _wait_gone(run, lambda: _ending(run.cluster.find("v1", "Namespace", HOME)), f"the old namespace {HOME}")
        self._apply("namespace.yaml")
        self._apply("httpbin.yaml")
        for route in gateway_tls.route(run, WORLD, HOME, [f"{WORLD}.example"]):
            run.cluster.apply(route)
        self.take_keys_from("realm")
        self.set_allowed(True)
        run.cluster.wait_rolled_out("Deployment", WORLD, HOME, run.params.deadline)

    def _load(self, file: str, **values: str) -> list[dict]:
        return self.run.load(file, **{"name": WORLD, "namespace": HOME, **values})

    def _apply(self, file: str, **values: str) -> None:
        for obj in self._load(file, **values):
            self.run.cluster.apply(obj)


def _deployment(name: str, spec: dict) -> dict:
    metadata = {"name": name, "namespace": PARTS[name]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, **({"spec": spec} if spec else {})}


def _ending(obj: dict | None) -> bool:
    return bool(obj and obj["metadata"].get("deletionTimestamp"))


def _wait_gone(run: Run, find: Callable[[], object], what: str) -> None:
    wait(f"{what} gone", find, lambda found: not found, deadline=run.params.deadline)
