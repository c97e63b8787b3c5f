"""Keycloak's objects are created once, changed when they differ, and left alone otherwise."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.errors import KeycloakError
from lib.keycloak import browser_login, oidc, realm_keys
from lib.keycloak.admin import Keycloak
from lib.keycloak.representations import audience_mapper, client, realm, user

PASSWORD = "correct horse"


@pytest.fixture
def keycloak(server):
    return Keycloak(server.url, "admin", "secret")


def build(keycloak):
    """Make realm, client, mapper, user and password; return the actions."""
    return [
        keycloak.ensure_realm(realm("istio", sslRequired="none", attributes={"frontendUrl": "http://kc/"}))[1],
        keycloak.ensure_client("istio", client("istio", attributes={"access.token.lifespan": "60"}))[1],
        keycloak.ensure_audience_mapper("istio", "istio", audience_mapper("istio"))[1],
        keycloak.ensure_user("istio", user("Alice", email="Alice@example.org"))[1],
        keycloak.ensure_password("istio", "alice", PASSWORD, "istio"),
    ]


def test_twice(server, keycloak):
    assert build(keycloak) == ["created"] * 5
    server.writes.clear()
    assert build(keycloak) == ["unchanged"] * 5
    assert server.writes == []


def test_what_differs_is_changed_and_the_rest_kept(server, keycloak):
    build(keycloak)
    kept, action = keycloak.ensure_realm(realm("istio", attributes={"frontendUrl": "http://other/"}))
    assert (action, kept["attributes"]) == ("changed", {"kept": "1", "frontendUrl": "http://other/"})
    assert kept["sslRequired"] == "none"
    assert keycloak.ensure_client("istio", client("istio", standardFlowEnabled=True))[1] == "changed"
    assert keycloak.ensure_audience_mapper("istio", "istio", audience_mapper("other"))[1] == "changed"
    assert keycloak.ensure_user("istio", user("alice", email="alice@example.org", firstName="Alicia"))[1] == "changed"
    assert keycloak.ensure_password("istio", "alice", "another", "istio") == "changed"


def test_the_clients_secret_comes_only_when_asked_for(keycloak):
    build(keycloak)
    assert "secret" not in keycloak.ensure_client("istio", client("istio"))[0]
    assert "secret" not in keycloak.get_client("istio", "istio")
    assert keycloak.client_secret("istio", "istio") == "made-by-keycloak"


def test_a_realm_is_deleted_once(keycloak):
    build(keycloak)
    assert [keycloak.delete_realm("istio"), keycloak.delete_realm("istio")] == ["deleted", "absent"]


def test_a_client_that_is_not_there(keycloak):
    keycloak.ensure_realm(realm("istio"))
    with pytest.raises(KeycloakError, match=r"no client istio in realm istio\. Create it first \(ensure_client\)"):
        keycloak.client_secret("istio", "istio")


def test_threads_that_need_a_token_at_once_log_in_once(server):
    keycloak = Keycloak(server.url, "admin", "secret")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: keycloak.get("/istio"), range(16)))
    assert server.logins == 1


def test_programs_that_log_in_at_once_all_get_in(server):
    server.login_seconds = 0.1
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: Keycloak(server.url, "admin", "secret").get("/istio"), range(4)))
    assert got == [None] * 4 and server.logins == 4
    hasty = Keycloak(server.url, "admin", "secret")
    hasty.administrator.patience = 0
    with server.logging_in, pytest.raises(KeycloakError, match="Check the password"):
        hasty.get("/istio")


def test_the_admins_token_is_renewed_before_its_end_and_after_a_401(server):
    now = [0.0]
    keycloak = Keycloak(server.url, "admin", "secret", clock=lambda: now[0])
    keycloak.ensure_realm(realm("istio"))
    assert server.logins == 1
    now[0] = 49.0
    keycloak.ensure_realm(realm("istio"))
    assert server.logins == 1
    now[0] = 51.0
    keycloak.ensure_realm(realm("istio"))
    assert server.logins == 2
    server.tokens.clear()
    assert keycloak.ensure_realm(realm("istio"))[1] == "unchanged"
    assert server.logins == 3


def test_what_keycloak_does_not_keep_is_told(server, keycloak):
    build(keycloak)
    server.item = lambda method, holder, key, item, body: (200, item) if method == "GET" else (204, None)
    with pytest.raises(KeycloakError, match="realm istio: Keycloak keeps another value of sslRequired than it got"):
        keycloak.ensure_realm(realm("istio", sslRequired="all"))


@pytest.mark.parametrize(
    ("secret", "user", "password", "sentence"),
    [
        ("wrong", "alice", PASSWORD, "401 unauthorized_client: Invalid client .*\\. Read the client's secret again"),
        ("made-by-keycloak", "alice", "wrong", "400 invalid_grant: Invalid user credentials\\. Check the password"),
        ("made-by-keycloak", "half", PASSWORD, "400 invalid_grant: Account is not fully set up\\. Give the user"),
    ],
)
def test_a_refused_token_says_why_and_no_secret(server, keycloak, secret, user, password, sentence):
    build(keycloak)
    server.realms["istio"]["users"]["9"] = {"id": "9", "username": "half", "password": PASSWORD}
    endpoint = f"{server.url}/realms/istio/protocol/openid-connect/token"
    with pytest.raises(KeycloakError, match=sentence) as caught:
        oidc.password_token(endpoint, "istio", secret, user, password)
    assert secret not in str(caught.value) and password not in str(caught.value)


def test_an_unfinished_user_is_told_not_given_another_password(server, keycloak):
    build(keycloak)
    server.realms["istio"]["users"]["9"] = {"id": "9", "username": "half", "password": PASSWORD}
    with pytest.raises(KeycloakError, match="not fully set up"):
        keycloak.ensure_password("istio", "half", PASSWORD, "istio")


def test_discovery_compares_the_issuer_byte_for_byte(server):
    issuer = f"{server.url}/realms/istio"
    server.issuer = issuer
    assert oidc.discovery(issuer) == {"issuer": issuer}
    server.issuer = issuer + "/"
    with pytest.raises(KeycloakError, match=rf"from character {len(issuer) + 1} on: expected '', got '/'"):
        oidc.discovery(issuer)
    server.issuer = "https://sso.example/realms/istio"
    assert oidc.discovery(server.issuer, url=issuer)["issuer"] == server.issuer


def test_a_key_set_without_keys(server):
    with pytest.raises(KeycloakError, match=r"No keys at .*jwks_uri"):
        oidc.jwks(f"{server.url}/realms/istio/certs")


def test_nobody_listens_and_auth_in_the_address(server):
    with pytest.raises(KeycloakError, match=r"ConnectionError\. Wait until its pod is ready"):
        oidc.jwks("http://127.0.0.1:1/certs")
    with pytest.raises(KeycloakError, match="Leave /auth out"):
        oidc.jwks(f"{server.url}/auth/realms/istio")


def test_passwords_differ():
    assert oidc.generate_password() != oidc.generate_password()
    assert len(oidc.generate_password()) >= 40


def test_a_role_is_given_once(server, keycloak):
    build(keycloak)
    assert [keycloak.ensure_role("istio", "reader")[1] for _ in range(2)] == ["created", "unchanged"]
    assert [keycloak.ensure_user_role("istio", "alice", "reader") for _ in range(2)] == ["created", "unchanged"]
    assert [keycloak.ensure_client_role("istio", "istio", "reader") for _ in range(2)] == ["created", "unchanged"]
    with pytest.raises(KeycloakError, match=r"no role writer in realm istio\. Create it first \(ensure_role\)"):
        keycloak.ensure_user_role("istio", "alice", "writer")


def test_an_imported_key_is_compared_without_its_private_half(server, keycloak):
    keycloak.ensure_realm(realm("istio"))
    pem = realm_keys.generate_key()
    key, action = realm_keys.ensure_imported_key(keycloak, "istio", "realm-key", pem, 50)
    assert (action, key["config"]["priority"], key["config"]["privateKey"]) == ("created", ["50"], ["**********"])
    assert realm_keys.ensure_imported_key(keycloak, "istio", "realm-key", pem, 50)[1] == "unchanged"
    assert realm_keys.ensure_imported_key(keycloak, "istio", "realm-key", pem, 200)[1] == "changed"
    assert (
        realm_keys.ensure_imported_key(keycloak, "istio", "realm-key", realm_keys.generate_key(), 200)[1] == "changed"
    )


def test_a_certificate_is_the_same_again(server):
    pem = realm_keys.generate_key()
    assert realm_keys.certificate(pem, "realm-key") == realm_keys.certificate(pem, "realm-key")
    assert len(realm_keys.key_id(pem)) == 43


def test_a_user_is_deleted_once(server, keycloak):
    build(keycloak)
    assert [keycloak.delete_user("istio", "alice"), keycloak.delete_user("istio", "alice")] == ["deleted", "absent"]
    assert keycloak.find_user("istio", "alice") is None


def test_a_client_asks_for_itself_refreshes_and_logs_out(server, keycloak):
    build(keycloak)
    issuer = f"{server.url}/realms/istio"
    endpoint, client = f"{issuer}/protocol/openid-connect/token", ("istio", "made-by-keycloak")
    assert oidc.client_token(endpoint, *client)["access_token"]
    tokens = oidc.password_token(endpoint, *client, "alice", PASSWORD)
    assert oidc.refreshed(endpoint, *client, tokens["refresh_token"])["access_token"]
    assert oidc.introspection(issuer, *client, tokens["access_token"])["active"] is True
    oidc.logout(issuer, *client, tokens["refresh_token"])
    assert oidc.introspection(issuer, *client, tokens["access_token"])["active"] is False
    with pytest.raises(KeycloakError, match="a refreshed token for the client istio failed: 400 invalid_grant"):
        oidc.refreshed(endpoint, *client, tokens["refresh_token"])


def test_a_challenge_is_the_one_of_the_rfc():
    assert (
        browser_login.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
