"""Keycloak's database: PostgreSQL in the cluster, or one of your own, RDS for example, believed by its authority.

How the driver verifies: PostgreSQL JDBC, "Using SSL", https://jdbc.postgresql.org/documentation/ssl/.
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

SECRET, GIVEN = "keycloak-db", "keycloak-external-db"  # of the one in the cluster, and of one's own
OWN = "jdbc:postgresql://postgres/keycloak"
AUTHORITY, FOLDER, FILE = "keycloak-external-db-ca", "/database", "ca.crt"  # ConfigMap, and where its key is a file
AUTHORITY_NOTE = "runbook/database-ca"  # annotation
VERIFIED = "verify-full"


def url(run: Run) -> str:
    """Return the address that Keycloak is given, with the file of the database's authority where there is one."""
    given = run.params.keycloak_database
    return f"{given}&sslrootcert={FOLDER}/{FILE}" if run.params.keycloak_database_ca_file else given or OWN


def is_new(run: Run) -> bool:
    """Whether Keycloak is not there yet, or with another database: then its first administrator is to be made."""
    found = run.cluster.find("apps/v1", "Deployment", "keycloak", endpoints.KEYCLOAK)
    return not found or url(run) not in [one.get("value") for one in _container(found).get("env", [])]


def ensure_password(run: Run) -> None:
    """Make the password of the cluster's own database on first use; RunbookError where a given one's is not there."""
    if not run.params.keycloak_database:
        run.secret(SECRET, endpoints.KEYCLOAK, password=oidc.generate_password)
        return
    found = run.cluster.find("v1", "Secret", GIVEN, endpoints.KEYCLOAK)
    missing = sorted({"username", "password"} - set((found or {}).get("data", {})))
    if missing:
        raise RunbookError(
            f"expected a Secret {endpoints.KEYCLOAK}/{GIVEN} with username and password for keycloak_database, got none of "
            f"{', '.join(missing)}; make it from files: kubectl -n {endpoints.KEYCLOAK} create secret generic {GIVEN} "
            "--from-file=username --from-file=password."
        )
    run.read_secret(GIVEN, endpoints.KEYCLOAK)


def objects(run: Run) -> list[dict]:
    """Return PostgreSQL's objects; of a database of one's own, what it is believed by.

    RunbookError where that file is not there; ClusterError where nobody would make PostgreSQL's volume.
    """
    if run.params.keycloak_database:
        held = _authority(run)
        about = {"name": AUTHORITY, "namespace": endpoints.KEYCLOAK}
        return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {FILE: held}}] if held else []
    storage_class.require(run.cluster, run.params.storage_class)
    return storage_class.with_class(run.load("postgres.yaml"), run.params.storage_class)


def use_external(deployment: dict, run: Run) -> dict:
    """Return Keycloak's Deployment, changed in place for a database that is not in the cluster.

    It has no pod that is waited for, a user's name of its own, and an authority that it is believed by.
    """
    if not run.params.keycloak_database:
        return deployment
    template, container = deployment["spec"]["template"], _container(deployment)
    template["spec"].pop("initContainers")
    for name, key in (("KC_DB_USERNAME", "username"), ("KC_DB_PASSWORD", "password")):
        manifests.set_variable(container, name, valueFrom={"secretKeyRef": {"name": GIVEN, "key": key}})
    if held := _authority(run):
        notes = template["metadata"].setdefault("annotations", {})
        notes[AUTHORITY_NOTE] = istioctl.authority_digest(held)  # with another one pods start anew
        container["volumeMounts"].append({"name": "database", "mountPath": FOLDER, "readOnly": True})
        template["spec"]["volumes"].append({"name": "database", "configMap": {"name": AUTHORITY}})
    return deployment


def wait(run: Run) -> None:
    """Wait until the cluster's own database is ready."""
    if not run.params.keycloak_database:
        run.cluster.wait_rolled_out("StatefulSet", "postgres", endpoints.KEYCLOAK, run.params.deadline)


def check(run: Run) -> None:
    """Record that the cluster's own database keeps its data, or that one of one's own is asked by verified TLS."""
    if run.params.keycloak_database:
        told = "who is on the way reads password hashes and keys: sslmode=verify-full, or waive it with a reason"
        said = database.driver(run.params.keycloak_database).get("sslmode", "none said")
        run.check("Keycloak verifies its database", VERIFIED, said, "" if said == VERIFIED else told)
        return
    claim = run.cluster.get("v1", "PersistentVolumeClaim", "postgres", endpoints.KEYCLOAK)
    run.check("volume bound", "Bound", claim["status"]["phase"], "the cluster needs a default StorageClass")


def _authority(run: Run) -> str:
    named = run.params.keycloak_database_ca_file
    if not named:
        return ""
    file = ROOT / Path(named).expanduser()
    if not file.is_file():
        raise RunbookError(f"expected the authority of Keycloak's database at {named}, found none; mend the param.")
    return file.read_text()


def _container(deployment: dict) -> dict:
    return deployment["spec"]["template"]["spec"]["containers"][0]
