"""Keycloak as the params have it, and who its administrator is: the first one goes, wherever it was interrupted."""

import pytest

from lib.crypto import certificates
from lib.errors import KeycloakError
from lib.steps import authority, endpoints, gateway_tls
from lib.steps import keycloak as steps_keycloak
from tests.support.fake_keycloak import FakeKeycloak
from tests.support.little_cluster import ENV, IMAGES, Cluster, Served, deployment, environment, new_run, no_file_is_left  # noqa: F401


@pytest.fixture
def keycloak():
    """A Keycloak after its very first start: it has its temporary administrator, and nobody else."""
    with FakeKeycloak() as server:
        run = new_run(Served(server), tls="off")
        steps_keycloak.ensure_passwords(run)
        server.admin("POST", [], {}, {"realm": "master"})
        server.realms["master"]["roles"]["admin"] = {"id": "r", "name": "admin"}
        known = run.read_secret(steps_keycloak.BOOTSTRAP, endpoints.KEYCLOAK)
        first = {"id": "u0", "role-mappings": [{"name": "admin"}]}
        server.realms["master"]["users"]["u0"] = {**first, **{key: known[key] for key in ("username", "password")}}
        yield run, server


def names(server):
    return [one["username"] for one in server.realms["master"]["users"].values()]


def test_the_first_administrator_makes_a_lasting_one_and_goes_with_the_secret(keycloak):
    run, server = keycloak
    steps_keycloak.ensure_administrator(run)
    assert (
        names(server) == ["keycloak"]
        and ("Secret", endpoints.KEYCLOAK, steps_keycloak.BOOTSTRAP) not in run.cluster.kept
    )
    assert server.realms["master"]["realm"]["bruteForceProtected"] is True
    server.writes.clear()
    again = new_run(run.cluster, tls="off")
    run.cluster.kept["Deployment", endpoints.KEYCLOAK, "keycloak"] = deployment(steps_keycloak.objects(run))
    steps_keycloak.ensure_passwords(again)
    steps_keycloak.ensure_administrator(again)
    assert server.writes == [] and {row["action"] for row in again.changes} == {"unchanged"}


@pytest.mark.parametrize("calls", range(1, 9))
def test_wherever_it_was_interrupted_the_next_run_ends_with_one_administrator(keycloak, calls):
    run, server = keycloak
    serve, left = server.admin, [calls]

    def until_killed(method, *rest):
        if method != "GET":
            left[0] -= 1
            if left[0] < 0:
                return 500, {"error": "killed"}
        return serve(method, *rest)

    server.admin = until_killed
    try:
        steps_keycloak.ensure_administrator(run)
    except KeycloakError:
        server.admin = serve
        steps_keycloak.ensure_administrator(new_run(run.cluster, tls="off"))
    assert names(server) == ["keycloak"]
    assert ("Secret", endpoints.KEYCLOAK, steps_keycloak.BOOTSTRAP) not in run.cluster.kept


def test_a_password_that_is_not_the_administrators_is_an_error(keycloak):
    run, _ = keycloak
    run.cluster.delete("v1", "Secret", steps_keycloak.BOOTSTRAP, endpoints.KEYCLOAK)
    with pytest.raises(KeycloakError, match="expected the password in the Secret keycloak/keycloak-admin"):
        steps_keycloak.ensure_administrator(run)


def test_one_replica_keeps_no_cluster_and_waits_for_its_database():
    things = steps_keycloak.objects(new_run(Served()))
    assert [thing["kind"] for thing in things] == ["Service", "Deployment"]
    assert environment(things)["KC_CACHE"]["value"] == "local"
    assert environment(things)["KC_HOSTNAME"]["value"] == "https://198.18.0.2"
    assert deployment(things)["spec"]["template"]["spec"]["initContainers"][0]["name"] == "database"


def test_replicas_find_each_other_and_one_of_them_stays():
    things = steps_keycloak.objects(new_run(Served(), keycloak_replicas=2))
    assert [thing["kind"] for thing in things] == ["Service", "Deployment", "PodDisruptionBudget"]
    spec = deployment(things)["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    assert environment(things)["KC_CACHE"]["value"] == "ispn"
    assert {"containerPort": 7800} in spec["template"]["spec"]["containers"][0]["ports"]


def test_another_authority_restarts_keycloak():
    cluster = Served()
    notes = lambda: deployment(steps_keycloak.objects(new_run(cluster)))["spec"]["template"]["metadata"]["annotations"]  # noqa: E731
    before = notes()
    assert before == notes()
    cluster.put(authority.AUTHORITY, authority.HOME, *certificates.generate_authority("two"))
    assert before != notes()


def test_without_tls_nothing_speaks_of_it():
    run = new_run(Served(), tls="off")
    things = steps_keycloak.objects(run)
    known = environment(things)
    assert known["KC_HTTP_ENABLED"]["value"] == "true" and not [name for name in known if "HTTPS" in name]
    assert known["KC_HOSTNAME"]["value"] == "http://198.18.0.2"
    way = steps_keycloak.gateway_objects(run)
    assert "DestinationRule" not in [thing["kind"] for thing in way] and "443" not in str(way)
    assert steps_keycloak.ensure_certificates(run) == {} and gateway_tls.port(run) == 80


def test_the_public_way_passes_realms_and_resources_alone():
    ways = next(one for one in steps_keycloak.gateway_objects(new_run(Served())) if one["kind"] == "VirtualService")[
        "spec"
    ]["http"]
    refused, passed = ways
    assert refused["directResponse"] == {"status": 404} and {"uri": {"exact": "/realms/master"}} in refused["match"]
    assert {"uri": {"prefix": "/resources/"}} in passed["match"] and len(passed["match"]) == 2


@pytest.mark.parametrize("replicas", [1, 3])
def test_each_replica_has_the_whole_deadline(replicas):
    class Patient(Cluster):
        waited = {}

        def wait_rolled_out(self, kind, name, namespace, deadline):
            self.waited[name] = deadline

    run = new_run(Patient(), keycloak_replicas=replicas, deadline=20)
    steps_keycloak.wait(run)
    assert run.cluster.waited["keycloak"] == replicas * 20 and run.cluster.waited["postgres"] == 20
