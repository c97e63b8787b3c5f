"""Keycloak's database: PostgreSQL in the cluster, or an external one that a CA verifies, and switches between."""

import base64

import pytest

from lib import params
from lib.errors import RunbookError
from lib.params import database
from lib.steps import endpoints, keycloak, keycloak_database
from tests.support.little_cluster import ENV, IMAGES, Served, deployment, environment, new_run, no_file_is_left  # noqa: F401

URL = "jdbc:postgresql://db.example.org:5432/keycloak"
VERIFIED = f"{URL}?sslmode=verify-full"


@pytest.fixture
def bundle(tmp_path):
    file = tmp_path / "bundle.pem"
    file.write_text("an authority")
    return file


def given(cluster, **changed):
    encoded = dict.fromkeys(("username", "password"), base64.b64encode(b"x").decode())
    cluster.kept["Secret", endpoints.KEYCLOAK, keycloak_database.GIVEN] = {"kind": "Secret", "data": encoded}
    return new_run(cluster, **{"keycloak_database": URL, **changed})


def pod(things):
    return deployment(things)["spec"]["template"]["spec"]


def checks(run):
    return {one.name: (one.verdict, one.actual) for one in run.checks}


def test_user_and_password_are_a_secrets_that_is_asked_for_by_name():
    with pytest.raises(RunbookError, match="Secret keycloak/keycloak-external-db .* got none of password, username"):
        keycloak.ensure_passwords(new_run(Served(), keycloak_database=URL))
    run = given(Served())
    keycloak.ensure_passwords(run)
    known = environment(keycloak.objects(run))
    assert known["KC_DB_URL"]["value"] == URL
    for name, key in (("KC_DB_USERNAME", "username"), ("KC_DB_PASSWORD", "password")):
        assert known[name]["valueFrom"]["secretKeyRef"] == {"name": keycloak_database.GIVEN, "key": key}


def test_none_is_made_and_no_pod_of_it_is_waited_for():
    run = given(Served())
    assert keycloak_database.objects(run) == [] and "initContainers" not in pod(keycloak.objects(run))
    assert ("Secret", endpoints.KEYCLOAK, keycloak_database.SECRET) not in run.cluster.kept
    keycloak_database.wait(run)


@pytest.mark.parametrize("tls", ["own-ca", "off"])
def test_the_database_ca_is_a_file_for_the_driver_and_another_ca_restarts_keycloak(bundle, tls):
    run = given(Served(), keycloak_database=VERIFIED, keycloak_database_ca_file=str(bundle), tls=tls)
    (kept,) = keycloak_database.objects(run)
    assert (kept["kind"], kept["data"]) == ("ConfigMap", {"ca.crt": "an authority"})
    things = keycloak.objects(run)
    assert environment(things)["KC_DB_URL"]["value"] == f"{VERIFIED}&sslrootcert=/database/ca.crt"
    assert {"name": "database", "configMap": {"name": kept["metadata"]["name"]}} in pod(things)["volumes"]
    assert pod(things)["containers"][0]["volumeMounts"][-1]["mountPath"] == "/database"
    notes = lambda: deployment(keycloak.objects(run))["spec"]["template"]["metadata"]["annotations"]  # noqa: E731
    before = notes()
    bundle.write_text("another")
    assert notes() != before


def test_a_missing_ca_file_is_an_error(tmp_path):
    named = str(tmp_path / "nowhere.pem")
    with pytest.raises(RunbookError, match="expected the CA of Keycloak's database at .*nowhere.pem, found"):
        keycloak_database.objects(given(Served(), keycloak_database=VERIFIED, keycloak_database_ca_file=named))


def test_a_database_that_nobody_verifies_is_red(bundle):
    cluster = Served()
    name = "Keycloak verifies its database"
    for url, more, verdict in (
        (URL, {}, ("fail", "none said")),
        (f"{URL}?sslmode=require", {}, ("fail", "require")),
        (VERIFIED, {"keycloak_database_ca_file": str(bundle)}, ("pass", "verify-full")),
    ):
        run = given(cluster, keycloak_database=url, **more)
        keycloak_database.check(run)
        assert checks(run) == {name: verdict}


def test_another_database_gets_a_new_first_administrator():
    cluster = Served()
    known = lambda: ("Secret", endpoints.KEYCLOAK, keycloak.BOOTSTRAP) in cluster.kept  # noqa: E731
    for changed, is_new in (({}, True), ({}, False), ({"keycloak_database": URL}, True), ({}, True)):
        cluster.kept.pop(("Secret", endpoints.KEYCLOAK, keycloak.BOOTSTRAP), None)
        run = given(cluster, **{"keycloak_database": None, **changed})
        keycloak.ensure_passwords(run)
        assert known() == is_new
        cluster.kept["Deployment", endpoints.KEYCLOAK, "keycloak"] = deployment(keycloak.objects(run))


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        ("postgresql://x/y", {}, "keycloak_database"),
        ("jdbc:postgresql://a b/c", {}, "keycloak_database"),
        ("jdbc:mysql://x/y", {}, "keycloak_database"),
        ("jdbc:postgresql://me:secret@x/y", {}, "must not hold user or password"),
        (f"{URL}?user=me&password=secret", {}, "must not hold user or password"),
        (None, {"keycloak_database_ca_file": "x"}, "is for keycloak_database; remove it"),
        (URL, {"keycloak_database_ca_file": "x"}, "verifies nothing without [?]sslmode=verify-full"),
        (f"{VERIFIED}&sslrootcert=/x", {"keycloak_database_ca_file": "x"}, "remove one of them"),
        (VERIFIED, {}, "needs keycloak_database_ca_file"),
    ],
)
def test_params_that_do_not_go_together_are_refused(url, more, message):
    with pytest.raises(ValueError, match=message):
        params.Params(env=ENV, cluster_source="existing", **IMAGES, keycloak_database=url, **more)


@pytest.mark.parametrize("more", ["sslrootcert=/x", "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory"])
def test_who_says_it_to_the_driver_needs_no_file(more):
    url = f"{VERIFIED}&{more}"
    values = params.Params(env=ENV, cluster_source="existing", **IMAGES, keycloak_database=url)
    assert database.driver(values.keycloak_database)["sslmode"] == "verify-full"
