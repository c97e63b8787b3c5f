"""The faults of a login: Keycloak's client gets back what a fault changed; an environment without a login says so."""

from types import SimpleNamespace

import pytest

from lib.errors import RunbookError
from lib.keycloak import representations
from lib.keycloak.admin import Keycloak
from lib.labs import login
from lib.labs.lab import Lab
from lib.login import application
from lib.steps import endpoints
from tests.support.fake_keycloak import FakeKeycloak
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401


@pytest.fixture
def server():
    with FakeKeycloak() as fake:
        keycloak = Keycloak(fake.url, "admin", "secret")
        keycloak.ensure_realm(representations.realm("istio"))
        keycloak.ensure_client("istio", representations.client(application.CLIENT, redirectUris=["https://a/back"]))
        keycloak.ensure_audience_mapper("istio", application.CLIENT, representations.audience_mapper("istio"))
        yield fake


@pytest.fixture
def lab(server):
    run = new_run(Served(server), tls="off")
    run.put_secret("keycloak-admin", endpoints.KEYCLOAK, username="admin", password="secret")
    return SimpleNamespace(run=run, log_outs=None)


def only_client(server):
    (found,) = server.realms["istio"]["clients"].values()
    return found


@pytest.mark.parametrize(
    ("within", "field"),
    [
        (lambda lab: login.client(lab, redirectUris=["https://a/other"]), "redirectUris"),
        (login.other_secret, "secret"),
        (login.no_audience, "mappers"),
    ],
)
def test_the_client_gets_back_what_a_fault_changed_even_after_an_error(lab, server, within, field):
    def value():
        found = only_client(server)[field]
        return [one["name"] for one in found.values()] if field == "mappers" else found

    before = value()
    with pytest.raises(ValueError), within(lab):
        assert value() != before
        raise ValueError
    assert value() == before


@pytest.mark.parametrize("off", [{"login_engine": "none"}, {"deny_list_image": ""}])
def test_a_lab_without_a_login_names_the_missing_steps(off):
    with pytest.raises(RunbookError, match=r"Run the steps 13 and 14 first"):
        _ = Lab(new_run(Served(), **off)).log_outs
