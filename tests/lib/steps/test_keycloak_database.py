"""Keycloak's database: in the cluster, or external and trusted by its authority, and moves between the two."""

import base64

import pytest

from lib import params
from lib.errors import RunbookError
from lib.params import database
from lib.steps import endpoints, keycloak, keycloak_database
from tests.support.little_cluster import ENV, IMAGES, Served, deployment, environment, no_file_is_left, run  # noqa: F401

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
    return run(cluster, **{"keycloak_database": URL, **changed})


def pod(things):
    return deployment(things)["spec"]["template"]["spec"]


def checks(made):
    return {one.name: (one.verdict, one.actual) for one in made.checks}


def test_user_and_password_are_a_secrets_that_is_asked_for_by_name():
    with pytest.raises(RunbookError, match="Secret keycloak/keycloak-external-db .* got none of password, username"):
        keycloak.ensure_passwords(run(Served(), keycloak_database=URL))
    here = given(Served())
    keycloak.ensure_passwords(here)
    known = environment(keycloak.objects(here))
    assert known["KC_DB_URL"]["value"] == URL
    for name, key in (("KC_DB_USERNAME", "username"), ("KC_DB_PASSWORD", "password")):
        assert known[name]["valueFrom"]["secretKeyRef"] == {"name": keycloak_database.GIVEN, "key": key}


def test_none_is_made_and_no_pod_of_it_is_waited_for():
    here = given(Served())
    assert keycloak_database.objects(here) == [] and "initContainers" not in pod(keycloak.objects(here))
    assert ("Secret", endpoints.KEYCLOAK, keycloak_database.SECRET) not in here.cluster.kept
    keycloak_database.wait(here)


@pytest.mark.parametrize("tls", ["own-ca", "off"])
def test_the_authority_is_a_file_for_the_driver_and_another_one_starts_keycloak_anew(bundle, tls):
    here = given(Served(), keycloak_database=VERIFIED, keycloak_database_ca_file=str(bundle), tls=tls)
    (kept,) = keycloak_database.objects(here)
    assert (kept["kind"], kept["data"]) == ("ConfigMap", {"ca.crt": "an authority"})
    things = keycloak.objects(here)
    assert environment(things)["KC_DB_URL"]["value"] == f"{VERIFIED}&sslrootcert=/database/ca.crt"
    assert {"name": "database", "configMap": {"name": kept["metadata"]["name"]}} in pod(things)["volumes"]
    assert pod(things)["containers"][0]["volumeMounts"][-1]["mountPath"] == "/database"
    notes = lambda: deployment(keycloak.objects(here))["spec"]["template"]["metadata"]["annotations"]  # noqa: E731
    before = notes()
    bundle.write_text("another")
    assert notes() != before


def test_an_authority_that_is_not_there_is_told(tmp_path):
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
        here = given(cluster, keycloak_database=url, **more)
        keycloak_database.check(here)
        assert checks(here) == {name: verdict}


def test_another_database_has_no_administrator_yet_so_the_first_one_is_made_anew():
    cluster = Served()
    known = lambda: ("Secret", endpoints.KEYCLOAK, keycloak.BOOTSTRAP) in cluster.kept  # noqa: E731
    for changed, made in (({}, True), ({}, False), ({"keycloak_database": URL}, True), ({}, True)):
        cluster.kept.pop(("Secret", endpoints.KEYCLOAK, keycloak.BOOTSTRAP), None)
        here = given(cluster, **{"keycloak_database": None, **changed})
        keycloak.ensure_passwords(here)
        assert known() == made
        cluster.kept["Deployment", endpoints.KEYCLOAK, "keycloak"] = deployment(keycloak.objects(here))


@pytest.mark.parametrize(
    ("url", "more", "told"),
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
def test_params_that_do_not_go_together_are_refused(url, more, told):
    with pytest.raises(ValueError, match=told):
        params.Params(env=ENV, cluster_source="existing", **IMAGES, keycloak_database=url, **more)


@pytest.mark.parametrize("more", ["sslrootcert=/x", "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory"])
def test_who_says_it_to_the_driver_needs_no_file(more):
    url = f"{VERIFIED}&{more}"
    made = params.Params(env=ENV, cluster_source="existing", **IMAGES, keycloak_database=url)
    assert database.driver(made.keycloak_database)["sslmode"] == "verify-full"
