"""Groups, memberships, client roles and composite roles are made once, and left alone the second time."""

import pytest

from lib.errors import KeycloakError
from lib.keycloak import groups
from lib.keycloak.admin import Keycloak
from lib.keycloak.read_once import ReadOnce
from lib.keycloak.representations import client, group_mapper, realm, realm_role_mapper, user


@pytest.fixture
def keycloak(server):
    made = Keycloak(server.url, "admin", "secret")
    made.ensure_realm(realm("istio"))
    made.ensure_client("istio", client("app"))
    made.ensure_user("istio", user("eddie"))
    for role in ("reader", "editor"):
        made.ensure_role("istio", role)
    return made


def build(keycloak):
    return [
        groups.ensure_group(keycloak, "istio", "/staff"),
        groups.ensure_group(keycloak, "istio", "/staff/editors"),
        groups.ensure_client_role(keycloak, "istio", "app", "editor"),
        groups.ensure_group_role(keycloak, "istio", "/staff/editors", "editor"),
        groups.ensure_group_role(keycloak, "istio", "/staff/editors", "editor", "app"),
        groups.ensure_composite(keycloak, "istio", "editor", "reader"),
        groups.ensure_member(keycloak, "istio", "eddie", "/staff/editors"),
    ]


def test_twice(server, keycloak):
    assert build(keycloak) == ["created"] * 7
    server.writes.clear()
    assert build(keycloak) == ["unchanged"] * 7
    assert server.writes == []


def test_what_is_read_once_is_read_again_after_a_write_of_ones_own(server, keycloak):
    reader = ReadOnce(keycloak)
    assert reader.find_user("istio", "alice") is None
    keycloak.ensure_user("istio", user("alice"))
    assert reader.find_user("istio", "alice") is None
    reader.ensure_role("istio", "owner")
    assert reader.find_user("istio", "alice") and server.logins == 1
    assert build(reader) == ["created"] * 7 and build(reader) == ["unchanged"] * 7


def test_a_subgroup_stands_below_its_parent(server, keycloak):
    build(keycloak)
    assert set(server.realms["istio"]["groups"]) == {"/staff", "/staff/editors"}
    assert groups.find_group(keycloak, "istio", "/editors") is None


def test_a_group_has_the_realms_role_and_the_clients_apart(server, keycloak):
    build(keycloak)
    group = server.realms["istio"]["groups"]["/staff/editors"]
    owners = {key: [role["containerId"] for role in held] for key, held in group.items() if "role-mappings" in key}
    own = keycloak.get_client("istio", "app")["id"]
    assert owners == {"role-mappings/realm": ["realm"], f"role-mappings/clients/{own}": [own]}


def test_a_membership_ends_once(keycloak):
    build(keycloak)
    ended = [groups.ensure_no_member(keycloak, "istio", "eddie", "/staff/editors") for _ in range(2)]
    assert ended == ["deleted", "absent"]
    assert groups.ensure_member(keycloak, "istio", "eddie", "/staff/editors") == "created"


def test_what_is_missing_is_named(keycloak):
    with pytest.raises(KeycloakError, match=r"no group /staff in realm istio\. Create it first \(ensure_group\)"):
        groups.ensure_group(keycloak, "istio", "/staff/editors")
    groups.ensure_group(keycloak, "istio", "/staff")
    with pytest.raises(KeycloakError, match="no role owner in client app"):
        groups.ensure_group_role(keycloak, "istio", "/staff", "owner", "app")


def test_mappers_write_lists_into_access_tokens():
    for mapper, kind in ((realm_role_mapper("x"), "realm-role"), (group_mapper("groups"), "group-membership")):
        assert kind in mapper["protocolMapper"] and mapper["config"]["access.token.claim"] == "true"
    assert realm_role_mapper("x")["config"]["multivalued"] == "true"
    assert group_mapper("groups")["config"]["full.path"] == "true"
