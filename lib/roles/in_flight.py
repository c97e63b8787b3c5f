"""A role is given and taken away while tokens are on their way: a token keeps the roles that it was issued with."""

from __future__ import annotations

from lib.keycloak import groups
from lib.keycloak.admin import Keycloak
from lib.probes import workloads
from lib.roles import people
from lib.roles.application import NAME
from lib.roles.matrix import NO_ROLE
from lib.run import Run
from lib.steps import callers, endpoints

PATH = "/anything/articles/7"  # a reader may GET it, a user in no group may not
GROUP = people.GROUPS["reader"]
PAUSE = 0.05  # seconds between two requests: no policy is on its way here, only tokens are


def check(run: Run, keycloak: Keycloak) -> None:
    """Make a user in no group a reader for a moment; record what the user's old and new tokens are worth."""
    realm, user = run.params.realm, people.USERS[NO_ROLE]
    groups.ensure_no_member(keycloak, realm, user, GROUP)  # an interrupted check may have left it
    caller = callers.Caller(run, f"{endpoints.ingress_url(run)}{PATH}", workloads.location(run, NAME).host)
    before = people.token(run, NO_ROLE)
    groups.ensure_member(keycloak, realm, user, GROUP)  # not recorded as a change: it does not stay
    during = people.token(run, NO_ROLE)
    callers.check_statuses(
        run,
        ("a role is given: the token from before stays without it", caller, before, 403, ""),
        ("a role is given: a new token has it", caller, during, 200, ""),
        pause=PAUSE,
    )
    groups.ensure_no_member(keycloak, realm, user, GROUP)
    after = people.token(run, NO_ROLE)
    stays = "until it expires: the mesh asks nobody about a token"
    callers.check_statuses(
        run,
        ("a role is taken away: the token from before keeps it", caller, during, 200, stays),
        ("a role is taken away: a new token lacks it", caller, after, 403, ""),
        pause=PAUSE,
    )
