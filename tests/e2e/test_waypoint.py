"""A waypoint on the sandbox: Figure 1 by targetRefs, as `python -m lib.ambient` writes it, reached by HBONE."""

from __future__ import annotations

import uuid

import pytest

from lib import params
from lib.ambient.effects import WAYPOINT
from lib.crypto import jwt
from lib.istio.answers import JWT, RBAC
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.steps import tokens
from tests.support.waypoint import APP, FRONT, NOBODY, OTHER, PATIENCE, Ambient

pytestmark = pytest.mark.sandbox

# The answers to no token, a good one and a forged one
FORGED = (401, JWT["J18"])
OPEN, CLOSED = [(200, "")] * 3, [(403, RBAC)] * 3
USERS = [(403, RBAC), (200, ""), FORGED]  # through the gateway that Figure 1 names
SERVICE = [(200, ""), (200, ""), FORGED]  # from the service that it names
STRANGER = [(403, RBAC), (403, RBAC), FORGED]


@pytest.fixture(scope="module")
def ambient(first, tmp_path_factory):
    made = Ambient(Run("waypoint", params.load("dev"), Record()), tmp_path_factory.mktemp("ambient"))
    try:
        made.build()
        yield made
    finally:
        made.close()


def test_figure_1_holds_at_a_waypoint_for_those_who_come_through_it(ambient):
    good = tokens.user_token(ambient.run)

    def settle(gateway, expected):
        ask = lambda: [ambient.ask(gateway, token) for token in (None, good, jwt.tampered(good))]  # noqa: E731
        got = lambda: [(one.status, one.reason) for one in ask()]  # noqa: E731
        wait(f"{expected} through {gateway}", got, lambda found: found == expected, deadline=PATIENCE, streak=3)

    def settle_sidecar(status):  # its proxy may still have a connection to the listener of before
        wait(f"{status} for sleep", ambient.ask_by_sidecar, lambda got: got == status, deadline=PATIENCE, streak=3)

    made, comments = ambient.written(FRONT, NOBODY)
    ambient.apply_waypoint(made)
    ambient.apply_policies(made)
    ambient.use_waypoint()
    settle(FRONT, OPEN)  # istiod says that all is bound, and the gateway goes around
    settle_sidecar(200)
    ambient.apply_guards(made)
    settle(FRONT, CLOSED)
    settle_sidecar(403)
    ambient.enter_by_waypoint(comments)
    settle(FRONT, USERS)
    settle(OTHER, STRANGER)
    assert ambient.ask_by_sidecar() == 403

    label, tunnel = uuid.uuid4().hex, "envoy://connect_originate"
    assert ambient.ask(FRONT, good, label).status == 200
    pod = f"{ambient.address(APP)}:8080"
    way = {FRONT: f"{tunnel}/{ambient.address(WAYPOINT)}:15008", WAYPOINT: f"{tunnel}/{pod}", APP: pod}
    wait(f"the way {way}", lambda: ambient.upstreams(label), lambda found: found == way, deadline=PATIENCE)

    made, _ = ambient.written(NOBODY, OTHER)
    ambient.apply_policies(made)
    settle(FRONT, STRANGER)
    settle(OTHER, SERVICE)
