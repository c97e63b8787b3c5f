"""Step 03: Keycloak's database: PostgreSQL in the cluster, or an external database, for example RDS.

Source of the TLS options: PostgreSQL JDBC, "Using SSL", https://jdbc.postgresql.org/documentation/ssl/.
"""

from __future__ import annotations

from pathlib import Path

from lib.errors import RunbookError
from lib.istio import istioctl
from lib.keycloak import oidc
from lib.kubernetes import manifests, storage_class
from lib.params import ROOT, database
from lib.run import Run
from lib.steps import endpoints

SECRET, GIVEN = "keycloak-db", "keycloak-external-db"  # Secrets: of PostgreSQL in the cluster, of an external database
OWN = "jdbc:postgresql://postgres/keycloak"
AUTHORITY, FOLDER, FILE = "keycloak-external-db-ca", "/database", "ca.crt"  # ConfigMap; where it is mounted; its key
AUTHORITY_NOTE = "runbook/database-ca"  # annotation
VERIFIED = "verify-full"  # value of sslmode: TLS, and the certificate is for this host


def url(run: Run) -> str:
    """Return the JDBC URL for Keycloak, with the path of the database's CA if the params name a file."""
    given = run.params.keycloak_database
    return f"{given}&sslrootcert={FOLDER}/{FILE}" if run.params.keycloak_database_ca_file else given or OWN


def is_new(run: Run) -> bool:
    """Return whether Keycloak is not deployed yet, or with another database. Then it needs a first administrator."""
    deployment = run.cluster.find("apps/v1", "Deployment", "keycloak", endpoints.KEYCLOAK)
    return not deployment or url(run) not in [one.get("value") for one in _container(deployment).get("env", [])]


def ensure_password(run: Run) -> None:
    """Create the password of the cluster's own database.

    Raises:
        RunbookError: the database is external, and its Secret lacks username or password.
    """
    if not run.params.keycloak_database:
        run.secret(SECRET, endpoints.KEYCLOAK, password=oidc.generate_password)
        return
    secret = run.cluster.find("v1", "Secret", GIVEN, endpoints.KEYCLOAK) or {}
    missing = sorted({"username", "password"} - set(secret.get("data", {})))
    if missing:
        raise RunbookError(
            f"expected a Secret {endpoints.KEYCLOAK}/{GIVEN} with username and password for keycloak_database, "
            f"got none of {', '.join(missing)}; make it from files: kubectl -n {endpoints.KEYCLOAK} create secret "
            f"generic {GIVEN} --from-file=username --from-file=password."
        )
    run.read_secret(GIVEN, endpoints.KEYCLOAK)


def objects(run: Run) -> list[dict]:
    """Return the in-cluster PostgreSQL objects, or for an external database the ConfigMap with its CA.

    Raises:
        RunbookError: the file of the external database's CA is missing.
        ClusterError: no StorageClass would provide PostgreSQL's volume.
    """
    if run.params.keycloak_database:
        root = _authority(run)
        metadata = {"name": AUTHORITY, "namespace": endpoints.KEYCLOAK}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {FILE: root}}
        return [config] if root else []
    storage_class.require(run.cluster, run.params.storage_class)
    return storage_class.with_class(run.load("postgres.yaml"), run.params.storage_class)


def use_external(deployment: dict, run: Run) -> dict:
    """Change Keycloak's Deployment in place for an external database; return the Deployment.

    There is no pod of PostgreSQL to wait for. The Secret names the user too. The CA is mounted, if the params name it.
    """
    if not run.params.keycloak_database:
        return deployment
    template, container = deployment["spec"]["template"], _container(deployment)
    template["spec"].pop("initContainers")
    for name, key in (("KC_DB_USERNAME", "username"), ("KC_DB_PASSWORD", "password")):
        manifests.set_variable(container, name, valueFrom={"secretKeyRef": {"name": GIVEN, "key": key}})
    if root := _authority(run):
        annotations = template["metadata"].setdefault("annotations", {})
        annotations[AUTHORITY_NOTE] = istioctl.authority_digest(root)  # with another CA the pods restart
        container["volumeMounts"].append({"name": "database", "mountPath": FOLDER, "readOnly": True})
        template["spec"]["volumes"].append({"name": "database", "configMap": {"name": AUTHORITY}})
    return deployment


def wait(run: Run) -> None:
    """Wait until the cluster's own database is rolled out."""
    if not run.params.keycloak_database:
        run.cluster.wait_rolled_out("StatefulSet", "postgres", endpoints.KEYCLOAK, run.params.deadline)


def check(run: Run) -> None:
    """Record whether the cluster's own database has a volume, or whether the external one is verified by TLS."""
    if run.params.keycloak_database:
        mode = database.driver(run.params.keycloak_database).get("sslmode", "none said")
        fix = "without it password hashes and keys can be read in transit: set sslmode=verify-full, or waive the check"
        run.check("Keycloak verifies its database", VERIFIED, mode, "" if mode == VERIFIED else fix)
        return
    claim = run.cluster.get("v1", "PersistentVolumeClaim", "postgres", endpoints.KEYCLOAK)
    run.check("volume bound", "Bound", claim["status"]["phase"], "the cluster needs a default StorageClass")


def _authority(run: Run) -> str:
    """Return the CA of the external database as PEM, or "" if the params name no file."""
    name = run.params.keycloak_database_ca_file
    if not name:
        return ""
    file = ROOT / Path(name).expanduser()
    if not file.is_file():
        raise RunbookError(
            f"expected the CA of Keycloak's database at {name}, found none; correct keycloak_database_ca_file."
        )
    return file.read_text()


def _container(deployment: dict) -> dict:
    return deployment["spec"]["template"]["spec"]["containers"][0]
