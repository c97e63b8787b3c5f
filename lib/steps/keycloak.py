"""Step 03: Keycloak with the database, replicas and certificates that the params name, and its administrators.

Users reach Keycloak through a gateway in a namespace of its own. The gateway forwards the realms' pages and nothing of
the administration (notebooks/manifests/keycloak-edge.yaml). Pods reach Keycloak's Service, by TLS too.
"""

from __future__ import annotations

import base64
import json

from lib.errors import KeycloakError
from lib.http_client import over_http
from lib.istio import installation, proxy
from lib.keycloak import oidc, representations
from lib.keycloak.admin import Keycloak
from lib.kubernetes import manifests, service_annotations
from lib.names import KEYCLOAK_EDGE
from lib.run import Run
from lib.steps import authority, endpoints, gateway_tls, keycloak_database, load_balancer_readiness
from lib.steps.endpoints import ADMIN

TLS = "keycloak-tls"  # Secret
BOOTSTRAP = "keycloak-bootstrap"  # Secret: the temporary first administrator
FIRST = "bootstrap"  # user name of the temporary administrator
AUTHORITY = "keycloak-ca"  # Secret: the CA; the gateway verifies Keycloak with it, and Keycloak the deny-list
CONSOLE = "https://localhost:8443"  # the administration's URL while `kubectl port-forward` runs
METRICS = "its metrics say so, and must be on in the image or in keycloak_command (--metrics-enabled=true)"
CLUSTER_PORT = 7800  # replicas talk to each other here, by Keycloak's own mutual TLS
# Paths that must not be public, and the status that the gateway's client gets. Keycloak sees none of these paths.
HIDDEN = {
    **dict.fromkeys(("/", "/admin/", "/admin/master/console/", "/metrics", "/health/ready"), 404),
    **dict.fromkeys(("/realms/master", "/realms/master/account", "/realms/x/../master", "/realms/%6Daster"), 404),
    "/realms/x/..%2Fmaster": 400,
}


def gateway_objects(run: Run) -> list[dict]:
    """Return the objects of Keycloak's public gateway, with its Service of type LoadBalancer."""
    objects = gateway_tls.load(run, "keycloak-edge.yaml")
    if run.params.tls == authority.OFF:
        objects = [one for one in objects if one["kind"] != "DestinationRule"]
        if run.params.gateway_api == installation.ISTIO:
            routes = _of_kind(objects, "VirtualService")["spec"]["http"]
            routes[-1]["route"][0]["destination"]["port"]["number"] = 80
        else:
            for rule in _of_kind(objects, "HTTPRoute")["spec"]["rules"]:
                rule["backendRefs"][0]["port"] = 80
    return service_annotations.gateway(objects, run.params)


def routing(objects: list[dict]) -> list[dict]:
    """Return those objects of the gateway that decide how a request reaches Keycloak, for reading."""
    kinds = ("Service", "Gateway", "VirtualService", "HTTPRoute", "ReferenceGrant", "DestinationRule")
    return [one for one in objects if one["kind"] in kinds]


def ensure_passwords(run: Run) -> None:
    """Create the passwords of the database and of the administrators; an external database has its own."""
    keycloak_database.ensure_password(run)
    run.secret(ADMIN, endpoints.KEYCLOAK, username=lambda: "keycloak", password=oidc.generate_password)
    if keycloak_database.is_new(run):
        run.secret(BOOTSTRAP, endpoints.KEYCLOAK, username=lambda: FIRST, password=oidc.generate_password)


def ensure_certificates(run: Run) -> dict[str, str]:
    """Create Keycloak's certificates, the public one and the one inside; return the public one's names and issuer.

    With `tls: off` there are none. The DestinationRule is deleted, otherwise the gateway would still speak TLS.
    """
    if run.params.tls == authority.OFF:
        rule = _of_kind(run.load("keycloak-edge.yaml"), "DestinationRule")
        if run.cluster.find(rule["apiVersion"], rule["kind"], rule["metadata"]["name"], KEYCLOAK_EDGE):
            run.delete(rule)
        return {}
    inside = [endpoints.INSIDE, f"*.{endpoints.KEYCLOAK}.svc.cluster.local", "localhost"]
    authority.ensure_certificate(run, TLS, endpoints.KEYCLOAK, inside)
    root = base64.b64encode(authority.trusted_certificates(run).encode()).decode()
    for namespace in (KEYCLOAK_EDGE, endpoints.KEYCLOAK):
        metadata = {"name": AUTHORITY, "namespace": namespace}
        run.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"ca.crt": root}}])
    return gateway_tls.gateway_certificate(run, KEYCLOAK_EDGE, [endpoints.keycloak_host(run)])


def objects(run: Run) -> list[dict]:
    """Return Keycloak's Service and Deployment; with several replicas a PodDisruptionBudget too."""
    values = {
        "keycloak_url": endpoints.keycloak_url(run),
        "console_url": console_url(run),
        "keycloak_args": json.dumps(run.params.keycloak_command),
        "database_url": keycloak_database.url(run),
    }
    loaded = gateway_tls.with_tls_setting(run.load("keycloak.yaml", **values), run)
    deployment = _of_kind(loaded, "Deployment")
    keycloak_database.use_external(deployment, run)
    if run.params.tls == authority.OFF:
        _without_tls(deployment)
    else:
        authority.restart_on_ca_change([deployment], authority.authority(run))
    if run.params.keycloak_replicas > 1:
        _replicate(deployment, run.params.keycloak_replicas)
        return [*loaded, _disruption_budget()]
    return loaded


def console_url(run: Run) -> str:
    """Return the administration's URL: a port on loopback that leads to Keycloak while kubectl forwards it."""
    return CONSOLE.replace("https", "http").replace("8443", "8080") if run.params.tls == authority.OFF else CONSOLE


def wait(run: Run) -> None:
    """Wait until the database, Keycloak and its gateway are rolled out.

    Replicas that start at once share the cores, and the first makes the tables that the others wait for. So the
    deadline holds for each.
    """
    keycloak_database.wait(run)
    patience = run.params.deadline * run.params.keycloak_replicas
    run.cluster.wait_rolled_out("Deployment", "keycloak", endpoints.KEYCLOAK, patience)
    gateway = endpoints.keycloak_gateway(run)
    run.cluster.wait_rolled_out("Deployment", gateway.deployment, gateway.namespace, run.params.deadline)


def ensure_administrator(run: Run) -> None:
    """Replace the temporary administrator by a permanent one, and harden their realm; record each change.

    Keycloak creates the first administrator from KC_BOOTSTRAP_ADMIN_USERNAME, calls it temporary, and asks for this.
    Its Secret is deleted after the user.
    Source: https://www.keycloak.org/server/bootstrap-admin-recovery
    """
    secret = run.read_secret(ADMIN, endpoints.KEYCLOAK)
    name, keycloak = secret["username"], endpoints.keycloak_admin(run)
    if run.cluster.find("v1", "Secret", BOOTSTRAP, endpoints.KEYCLOAK):
        keycloak.administrator.patience = 0  # this administrator may not be there yet, and nobody else logs in as them
    if not _may_administer(keycloak):
        first = _first_administrator(run)
        user = representations.user(name, firstName="Keycloak", lastName="Administrator")
        _, action = first.ensure_user("master", user)
        first.set_password("master", name, secret["password"])
        first.ensure_user_role("master", name, "admin")
        run.changed("administrator", name, action)
    deleted = keycloak.delete_user("master", FIRST) == "deleted"
    run.changed("administrator", FIRST, "deleted" if deleted else "unchanged")
    settings = {"sslRequired": gateway_tls.ssl_required(run), "bruteForceProtected": True}
    master = representations.realm("master", **settings, attributes={"frontendUrl": console_url(run)})
    run.changed("realm", "master", keycloak.ensure_realm(master).action)
    if run.cluster.find("v1", "Secret", BOOTSTRAP, endpoints.KEYCLOAK):
        metadata = {"name": BOOTSTRAP, "namespace": endpoints.KEYCLOAK}
        run.delete({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})


def check(run: Run) -> None:
    """Record whether Keycloak answers publicly and inside, and whether its administration is hidden."""
    service = endpoints.keycloak_gateway(run)
    load_balancer_readiness.check(run, service.name, service.namespace, gateway_tls.port(run))
    url, master = endpoints.keycloak_url(run), f"{console_url(run)}/realms/master"
    inside = f"{endpoints.inside_url(run)}/realms/master"
    discovery = oidc.discovery(master, url=inside, session=endpoints.keycloak_session(run))
    run.check("administrators log in by port-forward alone", master, discovery["issuer"])
    run.check_ready("its public address answers", "Realm does not exist", lambda: _error(f"{url}/realms/no-such-realm"))
    run.check("the administration is not public", HIDDEN, {path: over_http(f"{url}{path}").status for path in HIDDEN})
    gateway_tls.check_closed(run, endpoints.keycloak_host(run))
    name, keycloak = run.read_secret(ADMIN, endpoints.KEYCLOAK)["username"], endpoints.keycloak_admin(run)
    run.check("its administrator can log in", name, keycloak.get_user("master", name)["username"])
    run.check("the administrator of the first start is gone", None, keycloak.find_user("master", FIRST))
    _check_pods(run)


def replica_count(run: Run) -> int:
    """Return how many replicas the one that answers sees, itself included: Infinispan's metric of its cluster size."""
    metrics = endpoints.keycloak_session(run, 9000).get(f"{endpoints.inside_url(run)}/metrics", timeout=5).text
    sizes = [line for line in metrics.splitlines() if line.startswith("vendor_cluster_size")]
    return int(float(sizes[0].split()[-1])) if sizes else 0


def _check_pods(run: Run) -> None:
    keycloak_database.check(run)
    names = ["keycloak"] if run.params.keycloak_database else ["keycloak", "postgres"]
    for name in names:
        pod = run.cluster.pod(f"app={name}", endpoints.KEYCLOAK)
        run.fact(name, pod["spec"]["containers"][0]["image"])
        run.check(f"{name} has no sidecar", False, proxy.has_proxy(pod))
    if run.params.keycloak_replicas > 1:
        expected = run.params.keycloak_replicas
        run.check_ready("its replicas see each other", expected, lambda: replica_count(run), reason=METRICS)


def _error(url: str) -> str:
    answer = over_http(url)
    try:
        return json.loads(answer.body).get("error", "")
    except ValueError:
        return f"{answer.status} {answer.reason}"


def _first_administrator(run: Run) -> Keycloak:
    """Return the admin API as the temporary administrator; KeycloakError if its Secret is gone too."""
    if not run.cluster.find("v1", "Secret", BOOTSTRAP, endpoints.KEYCLOAK):
        raise KeycloakError(
            f"expected the password in the Secret {endpoints.KEYCLOAK}/{ADMIN} to be the administrator's, Keycloak "
            "refused it; correct the Secret, or create an administrator: kc.sh bootstrap-admin user, in Keycloak's pod."
        )
    secret = run.read_secret(BOOTSTRAP, endpoints.KEYCLOAK)
    return Keycloak(endpoints.inside_url(run), secret["username"], secret["password"], endpoints.keycloak_session(run))


def _may_administer(keycloak: Keycloak) -> bool:
    """Return whether the user has this password (otherwise 401) and the role admin (otherwise 403)."""
    try:
        keycloak.get("/master")
    except KeycloakError as error:
        if error.error != "invalid_grant" and error.status != 403:
            raise
        return False
    return True


def _of_kind(objects: list[dict], kind: str) -> dict:
    return next(one for one in objects if one["kind"] == kind)


def _without_tls(deployment: dict) -> None:
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["env"] = [one for one in container["env"] if not one["name"].startswith(("KC_HTTPS_", "KC_TRUSTSTORE_"))]
    manifests.set_variable(container, "KC_HTTP_ENABLED", value="true")
    container["ports"] = [{"containerPort": 8080}, {"containerPort": 9000}]
    for probe in ("startupProbe", "readinessProbe"):
        container[probe]["httpGet"]["scheme"] = "HTTP"
    for mounts in (container["volumeMounts"], pod["volumes"]):
        mounts[:] = [one for one in mounts if one["name"] not in ("tls", "ca")]


def _replicate(deployment: dict, count: int) -> None:
    """Replicas find each other through a table of the database (jdbc-ping), and spread over nodes if they can."""
    spec = deployment["spec"]
    spec |= {"replicas": count, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}}
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    manifests.set_variable(container, "KC_CACHE", value="ispn")
    container["ports"].append({"containerPort": CLUSTER_PORT})
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod["topologySpreadConstraints"] = [{**spread, "labelSelector": {"matchLabels": {"app": "keycloak"}}}]


def _disruption_budget() -> dict:
    metadata = {"name": "keycloak", "namespace": endpoints.KEYCLOAK}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "keycloak"}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
