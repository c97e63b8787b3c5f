"""What the scenarios of sessions and of the token endpoint do to a Keycloak, and that they leave nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event

import pytest

from lib.errors import KeycloakError
from lib.keycloak import representations
from lib.keycloak.admin import Keycloak
from lib.probes import model
from lib.probes.scenarios import sessions, token_endpoint, waiting
from lib.probes.scenarios.fixtures import CLIENTS, SETTINGS
from lib.probes.scenarios.requests import Context
from lib.probes.scenarios.token_endpoint import GUEST, PASSWORD, PUBLIC
from lib.probes.transport.messages import Reply
from tests.support.fake_keycloak import FakeKeycloak

ROWS = {probe.how: probe for probe in [*model.load(), *model.load(waiting.FOLDER)]}
APP = {"x-envoy-upstream-service-time": "1"}


@pytest.fixture
def server():
    with FakeKeycloak() as fake:
        yield fake


@pytest.fixture
def admin(server):
    return Keycloak(server.url, "admin", "secret")


@pytest.fixture
def here(server, admin):
    """The realm that the mesh trusts, with a client."""
    admin.ensure_realm(representations.realm("istio"))
    admin.ensure_client("istio", representations.client("istio"))
    admin.ensure_role("istio", "reader")
    known = []
    made = sessions.Sessions(
        f"{server.url}/realms/istio", "istio", "istio", "made-by-keycloak", "reader", admin, known.append
    )
    return made, known


@pytest.fixture
def endpoint(server, admin):
    """The realm whose token endpoint is tried."""
    admin.ensure_realm(representations.realm("probes", **SETTINGS))
    for name, settings in CLIENTS.items():
        admin.ensure_client("probes", representations.client(name, **settings))
    admin.ensure_user("probes", representations.user(GUEST))
    admin.set_password("probes", GUEST, "right")
    secrets = {name: "made-by-keycloak" for name in CLIENTS if name != PUBLIC}
    return token_endpoint.Endpoint(f"{server.url}/realms/probes", secrets, "right", admin, "probes", 3, lambda _: None)


def context(seen):
    """A workload that lets everybody pass."""

    def ask(requests):
        seen.extend(requests)
        return [Reply(200, headers=APP) for _ in requests]

    return Context("localhost:1", "httpbin.example", ask, str, "probe")


@pytest.mark.parametrize("name", sessions.SCENARIOS)
def test_a_session_ends_for_the_issuer_and_the_token_passes(server, here, name):
    made, known = here
    seen = []
    assert ", ".join(sessions.scenarios(made)[name](context(seen))) == ROWS[name].expected("figure-2")
    token = seen[0].headers[1].removeprefix("Authorization: Bearer ")
    assert token in known and seen[0].headers[0] == "Host: httpbin.example"
    assert server.realms["istio"]["users"] == {}
    assert server.realms["istio"]["realm"]["notBefore"] == 0
    assert made.admin.get_client("istio", "istio").get("notBefore", 0) == 0


def test_sessions_are_ended_once_for_all_workloads(server, here):
    held, seen = sessions.scenarios(here[0])["logged-out"], []
    first = held(context(seen))
    writes = len(server.writes)
    assert held(context(seen)) == first
    assert len(server.writes) == writes and seen[0].headers == seen[1].headers


def test_scenarios_of_one_user_run_at_once_and_one_of_all_users_alone():
    turns, together, log = sessions.Turns(), Barrier(3), []
    begun = Event()

    def one_user():
        with turns.taken(alone=False):
            begun.set()
            together.wait(timeout=20)  # breaks if the three do not run at once
            log.append("one user")

    def all_users():
        with turns.taken(alone=True):
            assert log.count("one user") in (0, 3)
            log.append("all users")

    with ThreadPoolExecutor(5) as pool:
        acts = [pool.submit(one_user)]
        begun.wait(timeout=20)
        acts += [pool.submit(all_users), pool.submit(all_users), pool.submit(one_user), pool.submit(one_user)]
        for act in acts:
            act.result(timeout=20)
    assert log == ["one user"] * 3 + ["all users"] * 2


def test_what_was_revoked_is_restored_even_if_the_scenario_breaks_off(server, here):
    made, _ = here

    def end(context, user):
        sessions.revoke_realm(context, user)
        raise RuntimeError("broke off")

    with pytest.raises(RuntimeError):
        sessions.ended(made, end, sessions.restore_realm)
    assert server.realms["istio"]["realm"]["notBefore"] == 0
    assert server.realms["istio"]["users"] == {}


@pytest.mark.parametrize("name", ["wrong-password", "wrong-client", "no-direct-grant", "after-logout"])
def test_the_token_endpoint_answers_as_the_table_says(endpoint, name):
    held = token_endpoint.scenarios(endpoint)[name]
    assert ", ".join(held(context([]))) == ROWS[name].expected("token-endpoint")
    assert [user["username"] for user in endpoint.admin.get("/probes/users")] == [GUEST]


def test_a_code_is_used_once(endpoint):
    assert token_endpoint.code_replay(endpoint)[:3] == ["200 token", "200 active", "400 invalid_grant/Code_not_valid"]


def test_a_page_for_people_tells_its_words(endpoint):
    assert token_endpoint.bad_redirect(endpoint) == ["400 page/Invalid_parameter_redirect_uri"] * 3


def test_a_disabled_user_and_one_with_something_left_to_do(endpoint):
    for name, settings in (
        (token_endpoint.DISABLED, {"enabled": False}),
        (token_endpoint.UNFINISHED, {"requiredActions": ["X"]}),
    ):
        endpoint.admin.ensure_user("probes", representations.user(name, **settings))
        endpoint.admin.set_password("probes", name, "right")
    assert ", ".join(token_endpoint.disabled_user(endpoint)) == ROWS["disabled-user"].expected("")
    assert ", ".join(token_endpoint.unfinished_user(endpoint)) == ROWS["unfinished-user"].expected("")


def test_every_sequence_of_keycloaks_has_a_row():
    for registry in (sessions.SCENARIOS, token_endpoint.SCENARIOS, waiting.SCENARIOS):
        assert set(registry) <= set(ROWS)
    assert PASSWORD in CLIENTS


class FakeWorld:
    """A mesh that learns of a change after some questions; `log` has what was done to it."""

    pause = 0.004  # seconds between two questions

    def __init__(self, late=2):
        self.log, self.late, self.keys, self.known = [], late, {"rsa-generated": (100, True, True)}, None
        self.allowed, self.reachable, self.where, self.down = True, True, "realm", set()
        self.asked, self.new = 0, False
        self.settle()

    def settle(self):
        """Let the mesh know the keys as they are."""
        if "keycloak" not in self.down and (self.where == "realm" or self.reachable):
            self.known = {name for name, (_, _, enabled) in self.keys.items() if enabled}

    def ask(self, token):
        self.asked += 1
        if self.asked % self.late == 0 and "istiod" not in self.down:
            self.settle()
        if not token or not self.allowed:
            return "403 R"
        if token == "not-a-token":
            return "401 J1"
        if self.new or (self.where == "late" and not self.reachable):
            return "401 J18"
        return "200 app" if token in self.known else "401 J17"

    def token(self, client=""):
        signing = {name: state[0] for name, state in self.keys.items() if state[1] and state[2]}
        return max(signing, key=signing.get)

    def ensure_key(self, name, priority=100, active=True, enabled=True):
        self.log.append(("key", name))
        self.keys[name] = (priority, active, enabled)

    def delete_key(self, name):
        self.keys.pop(name, None)

    def take_keys_from(self, where):
        self.where = where

    def set_reachable(self, reachable):
        self.reachable = reachable

    def set_allowed(self, allowed):
        self.allowed, self.new = allowed, False

    def stopped(self, part):
        @contextmanager
        def away():
            self.down.add(part)
            yield
            self.down.discard(part)
            self.new = self.new or "keycloak" in self.down

        return away()


@pytest.mark.parametrize("name", ["rotated", "passive", "disabled", "unreachable", "no-istiod", "converges"])
def test_a_slow_scenario_answers_as_the_table_says_and_restores(name):
    world = FakeWorld(late=3)
    (result,) = waiting.run_scenarios([ROWS[name]], world)
    assert (result.verdict, result.got) == ("pass", ROWS[name].expected("rotation"))
    assert world.keys == {"rsa-generated": (100, True, True)}
    assert (world.allowed, world.where, world.down) == (True, "realm", set())


def test_an_istiod_that_starts_without_keycloak_asks_at_the_next_push():
    outcome = waiting.new_istiod_no_keycloak(FakeWorld(), patience=0.1)
    assert ", ".join(outcome.answers) == ROWS["new-istiod-no-keycloak"].expected("rotation")


def test_keycloak_comes_back_only_when_istiod_has_given_up():
    class Trying(FakeWorld):
        """Its istiod has the keys after all where Keycloak is back before it was asked six times."""

        @contextmanager
        def stopped(self, part):
            begun = self.asked
            with super().stopped(part):
                yield
            if part == "keycloak" and self.asked - begun < 1 + 6:
                self.new = False

    outcome = waiting.new_istiod_no_keycloak(Trying(), patience=0.3)
    assert outcome.seconds["with Keycloak back, refused for"] > 0.2


def test_a_slow_scenario_tells_its_seconds():
    (result,) = waiting.run_scenarios([ROWS["converges"]], FakeWorld())
    assert "from apply to enforcement, p50: " in result.note and "p95: " in result.note


def test_a_scenario_that_broke_off_is_red_and_the_next_is_held():
    class Broken(FakeWorld):
        def ensure_key(self, name, **settings):
            raise KeycloakError("expected a key, got none; see Keycloak's log.")

    told = []
    found = waiting.run_scenarios([ROWS["no-istiod"], ROWS["rotated"]], Broken(), told.append)
    assert told == ["rotated", "no-istiod"]
    assert [one.verdict for one in found] == ["error", "pass"]
    assert "expected a key, got none" in found[0].note
