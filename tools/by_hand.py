"""What a person applies who follows the article by hand, as files for tools/by_hand.sh; `make bench` times that script.

The objects are those of steps 02 to 10, for the load balancers' addresses of the standing cluster. A new sandbox gives
the same addresses again, in the order that the Services are made. The files hold secrets: the folder must be private.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from lib import params
from lib.istio import installation
from lib.keycloak import oidc, representations
from lib.kubernetes import manifests
from lib.names import KEYCLOAK, KEYCLOAK_EDGE
from lib.record.events import Record
from lib.run import Run
from lib.steps import (
    authority,
    end_user_policy,
    endpoints,
    gateway_tls,
    istiod,
    keycloak,
    keycloak_database,
    realm,
    workloads,
)


def write(folder: Path) -> None:
    """Write the files of by_hand.sh, which names them, into a folder."""
    run = Run("by hand", params.load("dev"), Record())
    values, ingress = run.params, endpoints.ingress_gateway(run)
    gateway_api = values.gateway_api == installation.GATEWAY_API
    gateway = gateway_tls.gateway(run)
    root = authority.trusted_certificates(run)
    istio = [*run.load("istio-namespace.yaml"), *istiod.objects(run, root)]
    definitions = [one for one in istio if one["kind"] == manifests.DEFINITION]
    if gateway_api and values.gateway_api_crds:
        definitions += istiod.definitions(Path(values.gateway_api_crds).expanduser())
    policy, password = end_user_policy.objects(run), oidc.generate_password()
    bootstrap = {"username": "admin", "password": password}
    written = {
        "definitions.yaml": definitions,
        "istio.yaml": [one for one in istio if one["kind"] != manifests.DEFINITION] + (gateway if gateway_api else []),
        "keycloak.yaml": [
            *run.load("keycloak-namespace.yaml"),
            *keycloak.gateway_objects(run),
            *keycloak_database.objects(run),
            *keycloak.objects(run),
            _secret(run, gateway_tls.GATEWAY_TLS, KEYCLOAK_EDGE),
            *(_secret(run, name, KEYCLOAK) for name in (keycloak_database.SECRET, keycloak.TLS, keycloak.AUTHORITY)),
            _secret(run, keycloak.AUTHORITY, KEYCLOAK_EDGE),
            {**_object("Secret", keycloak.BOOTSTRAP, KEYCLOAK), "stringData": bootstrap},
        ],
        "workloads.yaml": [
            *run.load("namespace.yaml"),
            *run.load("httpbin.yaml", name="httpbin"),
            *workloads.caller(run, "sleep"),
            *workloads.caller(run, "visitor"),
            *workloads.outsider(run),
        ],
        "route.yaml": [
            _secret(run, gateway_tls.GATEWAY_TLS, ingress.namespace),
            *([] if gateway_api else gateway),
            *gateway_tls.route(run, "httpbin"),
        ],
        "mutual-tls.yaml": run.load("peer-authentication.yaml"),
        "policies.yaml": [*policy.authentication, *policy.authorization],
    }
    for name, objects in written.items():
        (folder / name).write_text(yaml.safe_dump_all(manifests.ordered(objects)))
    client_secret = oidc.generate_password()
    mapper = representations.audience_mapper(values.client_id)
    client = representations.client(values.client_id, secret=client_secret, protocolMappers=[mapper])
    credentials = [{"type": "password", "value": password, "temporary": False}]
    for name, content in (
        ("realm.json", realm.representation(run, values.realm)),
        ("client.json", client),
        ("user.json", representations.user(values.user, credentials=credentials)),
    ):
        (folder / name).write_text(json.dumps(content))
    grant = f"grant_type=password&password={password}"
    (folder / "admin.form").write_text(f"{grant}&username=admin&client_id=admin-cli")
    user = f"{grant}&username={values.user}&client_id={values.client_id}&client_secret={client_secret}"
    (folder / "user.form").write_text(user)
    (folder / "ca.pem").write_text(root)
    services = {"keycloak": endpoints.keycloak_gateway(run), "gateway": ingress}
    addresses = {"keycloak": endpoints.keycloak_host(run), "gateway": endpoints.gateway_host(run)}
    names = [f"{name}={addresses[name]} {name}_service={one.namespace}/{one.name}" for name, one in services.items()]
    (folder / "names").write_text("\n".join(names) + "\n")


def _object(kind: str, name: str, namespace: str) -> dict:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _secret(run: Run, name: str, namespace: str) -> dict:
    """Return a Secret of the standing cluster, without what the API server added."""
    found = run.cluster.get("v1", "Secret", name, namespace)
    return {**_object("Secret", name, namespace), "type": found["type"], "data": found["data"]}
