"""The policies made from a matrix decide as the matrix does, whatever claim has the roles."""

import pytest

from lib.istio.evaluator import Call, decide
from lib.roles import application, matrix, people, policies
from lib.roles.matrix import NO_ROLE, NO_TOKEN

ISSUER = "https://sso.example/realms/istio"
STATED = matrix.read(application.MATRIX)


def policy(claim, stated=STATED):
    return policies.authorization(stated, claim, ISSUER, "p", "roles", "roles")


def claims(claim, *roles):
    node = [claim.value(role) for role in roles]
    for part in reversed(claim.path):
        node = {part: node}
    return {"typ": "Bearer", **node}


def call(claim, caller, method, path, **more):
    if caller == NO_TOKEN:
        return Call(method=method, path=path)
    held = claims(claim) if caller == NO_ROLE else claims(claim, caller)
    return Call(claims={"iss": ISSUER, "sub": "u", **held, **more}, method=method, path=path)


@pytest.mark.parametrize("claim", people.CLAIMS, ids=lambda claim: claim.name)
def test_a_policy_decides_every_cell_as_the_matrix_does(claim):
    made = policy(claim)
    wrong = [
        cell for cell in STATED.cells() if decide([made], call(claim, cell.caller, cell.method, cell.path)).allowed
        is not cell.may
    ]  # fmt: skip
    assert wrong == []


def test_a_claim_of_another_kind_gives_nothing():
    realm, client = people.CLAIMS[:2]
    made, asked = policy(realm), call(client, "admin", "GET", "/anything/admin/7")
    assert not decide([made], asked).allowed


@pytest.mark.parametrize("caller", [NO_ROLE, "admin"])
def test_an_id_token_and_another_issuer_count_for_nothing(caller):
    claim = people.CLAIMS[0]
    made, asked = policy(claim), call(claim, caller, "GET", "/anything/profile")
    assert decide([made], asked).allowed
    assert not decide([made], call(claim, caller, "GET", "/anything/profile", typ="ID")).allowed
    foreign = Call(claims={**asked.claims, "iss": "https://evil.example"}, path=asked.path)
    assert not decide([made], foreign).allowed


def test_callers_that_may_do_the_same_share_a_rule():
    rules = policy(people.CLAIMS[0])["spec"]["rules"]
    assert len(rules) == len({row.allowed for row in STATED.rows}) == 6
    assert "from" not in rules[0]


def test_the_paths_of_another_claim_are_apart():
    moved = application.of_claim(STATED, people.CLAIMS[2])
    assert {row.path for row in moved.rows}.isdisjoint({row.path for row in STATED.rows})
    assert moved.rows[0].path == "/anything/by-groups/welcome"


def test_a_key_names_the_claim_step_by_step():
    keys = {claim.name: claim.key for claim in people.CLAIMS}
    assert keys["realm"] == "request.auth.claims[realm_access][roles]"
    assert keys["url"] == "request.auth.claims[https://example.com/roles]"
    assert keys["dotted"] == "request.auth.claims[my-app.user-roles]"
