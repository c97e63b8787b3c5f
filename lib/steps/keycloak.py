"""Step 03: Keycloak as the params have it (database, replicas, certificates), its administrators, and how it is asked.

Users come by a gateway of its own, in a namespace of its own, that passes the realms' pages and nothing of the
administration (notebooks/manifests/keycloak-edge.yaml). Inside the cluster its Service is asked, by TLS too.
"""

from __future__ import annotations

import base64
import json

from lib.errors import KeycloakError
from lib.http_client import over_http
from lib.istio import proxy
from lib.keycloak import oidc, representations
from lib.keycloak.admin import Keycloak
from lib.kubernetes import load_balancer, manifests
from lib.run import Run
from lib.steps import authority, endpoints, gateway_tls, keycloak_database
from lib.steps import load_balancer as steps_load_balancer

TLS = "keycloak-tls"  # Secret
ADMIN, BOOTSTRAP = "keycloak-admin", "keycloak-bootstrap"  # Secrets of the administrator, and of who makes that one
FIRST = "bootstrap"  # user name
AUTHORITY = "keycloak-ca"  # Secret: by whom the gateway believes Keycloak
CONSOLE = "https://localhost:8443"  # the administration's address: kubectl port-forward leads from there to Keycloak
METRICS = "told by its metrics, which the image or keycloak_command must have on (--metrics-enabled=true)"
CLUSTER_PORT = 7800  # at which replicas talk to each other, by mutual TLS of Keycloak's own
# What must not be public, and what it is answered: by the gateway, Keycloak never sees it
HIDDEN = {
    **dict.fromkeys(("/", "/admin/", "/admin/master/console/", "/metrics", "/health/ready"), 404),
    **dict.fromkeys(("/realms/master", "/realms/master/account", "/realms/x/../master", "/realms/%6Daster"), 404),
    "/realms/x/..%2Fmaster": 400,
}


def gateway_objects(run: Run) -> list[dict]:
    """Return the objects of the public way to Keycloak, its Service of type LoadBalancer among them."""
    things = gateway_tls.with_tls_setting(run.load("keycloak-edge.yaml"), run)
    if run.params.tls == authority.OFF:
        things = [thing for thing in things if thing["kind"] != "DestinationRule"]
        ways = next(thing for thing in things if thing["kind"] == "VirtualService")["spec"]["http"]
        ways[-1]["route"][0]["destination"]["port"]["number"] = 80
    return load_balancer.gateway(things, run.params)


def ensure_certificates(run: Run) -> dict[str, str]:
    """Make Keycloak's certificates, the public one and the one inside; return what may be shown of the public one.

    Without TLS there are none, and the rule by which the gateway would go on asking for Keycloak's is taken away.
    """
    if run.params.tls == authority.OFF:
        rule = next(thing for thing in run.load("keycloak-edge.yaml") if thing["kind"] == "DestinationRule")
        if run.cluster.find(rule["apiVersion"], rule["kind"], rule["metadata"]["name"], endpoints.KEYCLOAK_EDGE):
            run.delete(rule)
        return {}
    inside = [endpoints.INSIDE, f"*.{endpoints.KEYCLOAK}.svc.cluster.local", "localhost"]
    authority.ensure_certificate(run, TLS, endpoints.KEYCLOAK, inside)
    root = base64.b64encode(authority.trusted_certificates(run).encode()).decode()
    about = {"name": AUTHORITY, "namespace": endpoints.KEYCLOAK_EDGE}
    run.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": {"ca.crt": root}}])
    return gateway_tls.gateway_certificate(run, endpoints.KEYCLOAK_EDGE, [endpoints.keycloak_host(run)])


def ensure_passwords(run: Run) -> None:
    """Make the passwords of the database and of the administrators on first use; a given database has its own."""
    keycloak_database.ensure_password(run)
    run.secret(ADMIN, endpoints.KEYCLOAK, username=lambda: "keycloak", password=oidc.generate_password)
    if keycloak_database.is_new(run):
        run.secret(BOOTSTRAP, endpoints.KEYCLOAK, username=lambda: FIRST, password=oidc.generate_password)


def objects(run: Run) -> list[dict]:
    """Return Keycloak's objects: its Service inside, its Deployment, and with replicas what keeps one of them up."""
    here = run.params
    names = {"keycloak_url": endpoints.keycloak_url(run), "console_url": console_url(run)}
    names["keycloak_args"] = json.dumps(here.keycloak_command)
    names["database_url"] = keycloak_database.url(run)
    things = gateway_tls.with_tls_setting(run.load("keycloak.yaml", **names), run)
    made = next(thing for thing in things if thing["kind"] == "Deployment")
    keycloak_database.use_external(made, run)
    if here.tls == authority.OFF:
        _plain(made)
    else:
        authority.restart_on_ca_change(made, authority.authority(run))
    if here.keycloak_replicas > 1:
        _several(made, here.keycloak_replicas)
        things += _budget()
    return things


def console_url(run: Run) -> str:
    """Return the administration's address: a port on loopback that leads to Keycloak while kubectl forwards it."""
    return CONSOLE.replace("https", "http").replace("8443", "8080") if run.params.tls == authority.OFF else CONSOLE


def wait(run: Run) -> None:
    """Wait until the database, Keycloak and the way to it are ready."""
    keycloak_database.wait(run)
    run.cluster.wait_rolled_out("Deployment", "keycloak", endpoints.KEYCLOAK, run.params.deadline)
    run.cluster.wait_rolled_out("Deployment", "gateway", endpoints.KEYCLOAK_EDGE, run.params.deadline)


def ensure_administrator(run: Run) -> None:
    """Replace the administrator of the first start by a lasting one, and harden their realm; record what was done.

    Keycloak calls the first one temporary, and asks for this itself. The first one's Secret goes when the user is gone.
    """
    known = run.read_secret(ADMIN, endpoints.KEYCLOAK)
    name, lasting = known["username"], endpoints.keycloak_admin(run)
    if not _administers(lasting):
        first = _first(run)
        _, action = first.ensure_user(
            "master", representations.user(name, firstName="Keycloak", lastName="Administrator")
        )
        first.set_password("master", name, known["password"])
        first.ensure_user_role("master", name, "admin")
        run.changed("administrator", name, action)
    gone = lasting.delete_user("master", FIRST)
    run.changed("administrator", FIRST, "deleted" if gone == "deleted" else "unchanged")
    hardened = {"sslRequired": gateway_tls.ssl_required(run), "bruteForceProtected": True}
    master = representations.realm("master", **hardened, attributes={"frontendUrl": console_url(run)})
    _, action = lasting.ensure_realm(master)
    run.changed("realm", "master", action)
    if run.cluster.find("v1", "Secret", BOOTSTRAP, endpoints.KEYCLOAK):
        run.delete(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": BOOTSTRAP, "namespace": endpoints.KEYCLOAK}}
        )


def check(run: Run) -> None:
    """Record whether Keycloak answers as it should, publicly and inside, and whether what must not be public is not."""
    steps_load_balancer.check(run, endpoints.KEYCLOAK_SERVICE, endpoints.KEYCLOAK_EDGE, gateway_tls.port(run))
    url, master = endpoints.keycloak_url(run), f"{console_url(run)}/realms/master"
    found = oidc.discovery(
        master, url=f"{endpoints.inside_url(run)}/realms/master", session=endpoints.keycloak_session(run)
    )
    run.check("administrators log in by port-forward alone", master, found["issuer"])
    run.check_ready("its public address answers", "Realm does not exist", lambda: _error(f"{url}/realms/no-such-realm"))
    run.check("the administration is not public", HIDDEN, {path: over_http(f"{url}{path}").status for path in HIDDEN})
    gateway_tls.check_closed(run, endpoints.keycloak_host(run))
    name, lasting = run.read_secret(ADMIN, endpoints.KEYCLOAK)["username"], endpoints.keycloak_admin(run)
    run.check("its administrator can log in", name, lasting.get_user("master", name)["username"])
    run.check("the administrator of the first start is gone", None, lasting.find_user("master", FIRST))
    _check_pods(run)


def _check_pods(run: Run) -> None:
    keycloak_database.check(run)
    names = ["keycloak"] if run.params.keycloak_database else ["keycloak", "postgres"]
    for name in names:
        pod = run.cluster.pod(f"app={name}", endpoints.KEYCLOAK)
        run.fact(name, pod["spec"]["containers"][0]["image"])
        run.check(f"{name} has no sidecar", False, proxy.has_proxy(pod))
    if run.params.keycloak_replicas > 1:
        seen = lambda: replica_count(run)  # noqa: E731
        run.check_ready("its replicas see each other", run.params.keycloak_replicas, seen, reason=METRICS)


def replica_count(run: Run) -> int:
    """Return how many replicas the one that was asked sees, itself among them (Infinispan's cluster size)."""
    said = endpoints.keycloak_session(run, 9000).get(f"{endpoints.inside_url(run)}/metrics", timeout=5).text
    sizes = [line for line in said.splitlines() if line.startswith("vendor_cluster_size")]
    return int(float(sizes[0].split()[-1])) if sizes else 0


def _error(url: str) -> str:
    said = over_http(url)
    try:
        return json.loads(said.body).get("error", "")
    except ValueError:
        return f"{said.status} {said.reason}"


def _first(run: Run) -> Keycloak:
    """The administration as the administrator of the first start; KeycloakError where that one is nobody either."""
    if not run.cluster.find("v1", "Secret", BOOTSTRAP, endpoints.KEYCLOAK):
        raise KeycloakError(
            f"expected the password in the Secret {endpoints.KEYCLOAK}/{ADMIN} to be the administrator's, Keycloak refused "
            "it; put the right one there, or make a new one: kc.sh bootstrap-admin user, in Keycloak's pod."
        )
    known = run.read_secret(BOOTSTRAP, endpoints.KEYCLOAK)
    return Keycloak(endpoints.inside_url(run), known["username"], known["password"], endpoints.keycloak_session(run))


def _administers(who: Keycloak) -> bool:
    """Whether it is a user with this password (else 401) and the role (else 403)."""
    try:
        who.get("/master")
    except KeycloakError as error:
        if error.error != "invalid_grant" and error.status != 403:
            raise
        return False
    return True


def _plain(deployment: dict) -> None:
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["env"] = [one for one in container["env"] if not one["name"].startswith("KC_HTTPS_")]
    manifests.set_variable(container, "KC_HTTP_ENABLED", value="true")
    container["ports"] = [{"containerPort": 8080}, {"containerPort": 9000}]
    container["readinessProbe"]["httpGet"]["scheme"] = "HTTP"
    for held in (container["volumeMounts"], pod["volumes"]):
        held[:] = [one for one in held if one["name"] != "tls"]


def _several(deployment: dict, count: int) -> None:
    """Replicas find each other by a table of the database (jdbc-ping), and go to nodes of their own if they can."""
    spec = deployment["spec"]
    spec |= {"replicas": count, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}}
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    manifests.set_variable(container, "KC_CACHE", value="ispn")
    container["ports"].append({"containerPort": CLUSTER_PORT})
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod["topologySpreadConstraints"] = [{**spread, "labelSelector": {"matchLabels": {"app": "keycloak"}}}]


def _budget() -> list[dict]:
    about = {"name": "keycloak", "namespace": endpoints.KEYCLOAK}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "keycloak"}}}
    return [{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": spec}]
