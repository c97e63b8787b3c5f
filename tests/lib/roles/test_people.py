"""What step 15 makes in Keycloak, and how the roles of a token are read."""

from types import SimpleNamespace

from lib.keycloak.admin import Keycloak
from lib.keycloak.representations import client, realm
from lib.roles import people
from lib.roles.matrix import NO_ROLE
from tests.support.fake_keycloak import FakeKeycloak


class Secrets(dict):
    """A run without a cluster: Secrets by name, and the recorded changes."""

    def __init__(self):
        self.params = SimpleNamespace(realm="istio", client_id="istio")
        self.changes = []

    def changed(self, kind, name, action, namespace=""):
        self.changes.append((kind, name, action))

    def put_secret(self, name, namespace, **values):
        self[name] = values

    def secret(self, name, namespace, **make):
        return self.setdefault(name, {key: maker() for key, maker in make.items()})


def test_people_are_made_once():
    with FakeKeycloak() as server:
        keycloak, run = Keycloak(server.url, "admin", "secret"), Secrets()
        keycloak.ensure_realm(realm("istio"))
        keycloak.ensure_client("istio", client("istio"))
        people.ensure(run, keycloak)
        assert {action for *_, action in run.changes} == {"created"}
        held = {one["username"]: [group["path"] for group in one.get("groups", [])]
                for one in server.realms["istio"]["users"].values()}  # fmt: skip
        assert held == {user: [people.GROUPS[role]] if role != NO_ROLE else [] for role, user in people.USERS.items()}
        run.changes.clear()
        server.writes.clear()
        people.ensure(run, keycloak)
        assert {action for *_, action in run.changes} == {"unchanged"} and server.writes == []


def test_a_dot_in_a_claims_name_is_escaped_for_keycloak():
    names = [mapper["config"]["claim.name"] for mapper in people.mappers()]
    assert names == ["groups", r"https://example\.com/roles", r"my-app\.user-roles"]


def test_roles_are_read_at_the_claim():
    claims = {"realm_access": {"roles": ["reader"]}, "groups": "/staff", people.URL_CLAIM: ["editor"]}
    found = {claim.name: people.roles_in(claims, claim) for claim in people.CLAIMS}
    assert found == {"realm": ["reader"], "client": [], "groups": ["/staff"], "url": ["editor"], "dotted": []}
