"""Holes in the roles, made on purpose: the matrix and the probes turn red, and name each."""

from __future__ import annotations

import copy
import time

import pytest

from lib import diagnose, params
from lib.istio.extension_providers import AUTHORIZER
from lib.polling import wait
from lib.probes import model
from lib.probes.targets import this_mesh
from lib.record.events import Record
from lib.roles import application, comparison, drills, engines, matrix, people, tokens, trap
from lib.run import Run
from lib.steps import endpoints

pytestmark = pytest.mark.sandbox

STATED = matrix.read(application.MATRIX)
PATIENCE = 60  # seconds until a hole, or its mending, is seen
STREAK = 5  # answers in a row: an old listener still closes for a while
WRITE = "/anything/articles/7"


@pytest.fixture
def step(first):
    return Run("15-roles", params.load("dev", {"answer_deadline": 5}), Record())


def test_a_role_too_many_turns_its_cells_and_probes_red(step):
    """A reader among the values of the editors' rule, as a slip of the hand writes it."""
    right, known = application.authorization(step, STATED), tokens.kit(step)
    wrong = copy.deepcopy(right)
    rule = next(one for one in wrong[0]["spec"]["rules"] if "POST" in one["to"][0]["operation"]["methods"])
    rule["when"][-1]["values"].append("reader")
    try:
        step.apply(wrong)
        wait("the hole", lambda: application.answer(step, "reader", "POST", WRITE), "200 app".__eq__, deadline=PATIENCE)
        application.prove(step, STATED, known)
        probes = [probe for probe in model.load(model.ROLES) if probe.id[:3] in ("R01", "R09")]
        this_mesh.ask(step, application.NAME, probes=probes, known=known)
    finally:
        step.apply(right)
    wait("the mending", lambda: application.answer(step, "reader", "POST", WRITE), "403 R".__eq__, deadline=PATIENCE)
    red = {check.name for check in step.checks if check.red}
    cells = {f"roles, roles by realm: reader, {method} {WRITE}" for method in ("POST", "PUT")}
    assert red == {*cells, "roles: R01h a reader writes an article"}
    assert all("roles/roles-realm" in check.reason for check in step.checks if check.name in cells)


OPA = engines.WORKLOADS["opa"]
NOT_ALLOWED = "DELETE /anything/articles/7"


def checks_of(step, call):
    """The checks that a call records, by name."""
    before = len(step.checks)
    call()
    return {check.name: check for check in step.checks[before:]}


def test_a_policy_that_only_decodes_turns_its_trap_rows_red(step):
    """The verifying policy is replaced by the one that only decodes: forged tokens get in, and every row says so."""
    right = engines.files(step, STATED)
    wrong = {**right, f"{OPA}.rego": right[f"{engines.DECODE}.rego"]}
    known = tokens.kit(step)
    try:
        step.apply(engines.authorizer(step, wrong))
        application.wait(step, AUTHORIZER)
        found = checks_of(step, lambda: trap.prove(step, known))
    finally:
        step.apply(engines.authorizer(step, right))
        application.wait(step, AUTHORIZER)
    red = {name for name, check in found.items() if check.red}
    assert red == {f"{OPA}, from {place}: {title}" for place in ("outside", "inside") for title in trap.FORGED}
    mended = checks_of(step, lambda: trap.prove(step, known))
    assert not [check for check in mended.values() if check.red]


def test_the_drills_let_nothing_in_and_fail_open_does(step):
    found = checks_of(step, lambda: drills.run_drills(step, STATED))
    assert not [f"{check.name}: {check.actual}" for check in found.values() if check.red]
    holes = {name: check.actual for name, check in found.items() if name.startswith("the hole")}
    assert holes == {"the hole: down, with failOpen: requests let in that the matrix refuses": str(drills.EACH)}


def test_fail_open_turns_named_cells_red(step):
    """The policy names the provider that fails open, and the authorizer is down: the matrix turns red."""
    cells = matrix.Matrix(STATED.callers, tuple(row for row in STATED.rows if row.method == "DELETE"))
    known = tokens.kit(step)
    paths = [application.of_claim(cells, claim).rows[0].target for claim in people.CLAIMS]
    with drills.fail_open(step, STATED):
        wait(
            "the hole",
            lambda: {application.answer(step, "reader", "DELETE", path, OPA) for path in paths},
            {"200 app"}.__eq__,
            streak=STREAK,
            deadline=PATIENCE,
        )
        found = checks_of(step, lambda: application.prove(step, cells, known, OPA))
    wait(
        "the mending",
        lambda: application.answer(step, "reader", "DELETE", WRITE, OPA),
        "403 app".__eq__,
        deadline=PATIENCE,
    )
    red = {name for name, check in found.items() if check.red}
    assert red == {
        f"{OPA}, roles by {claim.name}: {caller}, DELETE {path}"
        for claim, path in zip(people.CLAIMS, paths, strict=True)
        for caller in STATED.callers
        if caller != "admin"
    }


def ask(step, token, workload=OPA):
    """What `why` says about a reader's forbidden request."""
    url = f"{endpoints.ingress_url(step)}/anything/articles/7"
    return diagnose.ask(step.cluster, url, token, host=f"{workload}.example", method="DELETE")


@pytest.mark.parametrize("workload, engine", [(OPA, "rego"), ("roles-cel", "cel")])
def test_why_names_the_engine_its_rule_and_the_decision(step, workload, engine):
    found = ask(step, people.token(step, "reader"), workload)
    assert found.cause == "authorizer-refused", str(found)
    assert f"engine {engine}" in found.why and NOT_ALLOWED.replace("7", "*") in found.why
    decided = comparison.decisions(step, workload, time.monotonic() - 20)
    assert any(one["decision_id"] in found.why for one in decided)


def test_why_names_a_missing_policy_a_misspelt_provider_and_an_authorizer_that_is_away(step):
    right, token = engines.files(step, STATED), people.token(step, "reader")
    without = {name: text for name, text in right.items() if name != f"{OPA}.rego"}
    cause = lambda: ask(step, token).cause  # noqa: E731
    try:
        step.apply(engines.authorizer(step, without))
        application.wait(step, AUTHORIZER)
        wait("the missing policy", cause, "authorizer-error".__eq__, deadline=PATIENCE)
        step.apply(engines.custom(step, OPA, "athorizer"))
        wait("the misspelt provider", cause, "unknown-provider".__eq__, deadline=PATIENCE)
    finally:
        step.apply([*engines.authorizer(step, right), *engines.custom(step, OPA)])
        application.wait(step, AUTHORIZER)
    with drills.down(step, STATED):
        found = wait(
            "why", lambda: ask(step, token), lambda one: one.cause == "authorizer-unreachable", deadline=PATIENCE
        )
    assert "roles/authorizer is not ready" in found.why
    wait("the mending", cause, "authorizer-refused".__eq__, deadline=PATIENCE)
