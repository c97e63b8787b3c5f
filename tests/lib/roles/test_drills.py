"""A drill counts what gets in while the authorizer is away, and turns red if that is too much or too little."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from lib.roles import drills, engines
from lib.roles.drills import EACH, MAY, Counts, Drill


class World:
    """A run that keeps checks, and a mesh that lets in these two counts of EACH while the fault holds."""

    def __init__(self, may, may_not, draining=0):
        self.away, self.during, self.checks = False, (may, may_not), {}
        self.draining = draining  # bursts after a change: one connection still has the old policy
        self.params = SimpleNamespace(deadline=5)

    def check(self, name, expected, actual, reason=""):
        """Keep a check."""
        self.checks[name] = expected == actual

    @contextmanager
    def change(self, run, found):
        """The fault."""
        self.away = True
        yield
        self.away = False

    def ask(self, request, times):
        """Send a request so many times."""
        usual = EACH * (request == MAY)
        now, other = (self.during[request != MAY], usual) if self.away else (usual, self.during[request != MAY])
        late = int(self.draining > 0 and times > 1)
        self.draining -= late
        return Counts(round(now * times / EACH) + late * ((other > now) - (other < now)), 1.0)


@pytest.mark.parametrize(
    ("counts", "kind", "red"),
    [
        ((0, 0), {}, []),
        ((0, EACH), {}, ["x: requests let in that the matrix refuses"]),
        ((EACH, 0), {"partly": True}, []),
        ((EACH, EACH), {"opens": True}, []),
        (
            (0, 0),
            {"opens": True},
            ["the hole: x: requests let in that the matrix refuses", "x: requests let in that the matrix allows"],
        ),
    ],
)
def test_a_drill_is_red_if_another_number_gets_in(counts, kind, red):
    world = World(*counts)
    short = Drill("x", world.change, **kind)
    row = drills.drill(world, None, short, world.ask, patience=0.3)
    assert [name for name, passed in world.checks.items() if not passed] == red
    assert row[f"let in, of {EACH} that may not"] == counts[1]


def test_a_drill_counts_after_the_last_connection_has_the_new_policy():
    world = World(EACH, EACH, draining=3)
    drills.drill(world, None, Drill("x", world.change, opens=True), world.ask, patience=5)
    assert world.checks and all(world.checks.values())


def test_a_drill_is_over_after_the_last_connection_has_the_right_policy_again():
    world = World(EACH, EACH)

    @contextmanager
    def change(run, found):
        with world.change(run, found):
            yield
        world.draining = 3

    drills.drill(world, None, Drill("x", change, opens=True), world.ask, patience=1)
    assert all(world.checks.values()) and not world.draining


def test_a_slow_policy_is_the_same_policy_that_first_asks_another_service():
    policy = (engines.POLICIES / "roles-opa.rego").read_text()
    slow = drills.waiting(policy, "http://open.probes:8000/delay/3")
    assert '"url": "http://open.probes:8000/delay/3"' in slow
    assert slow.replace('"waited": waited, ', "").startswith(policy)


def test_only_the_drill_that_fails_open_lets_everything_in():
    assert [one.name for one in drills.DRILLS if one.opens] == ["down, with failOpen"]
    assert len({one.name for one in drills.DRILLS}) == len(drills.DRILLS) >= 7
