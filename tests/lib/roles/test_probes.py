"""The role probes: every token is known and used, and every cell's kind is asked."""

from string import Formatter

from lib.probes import model, workloads
from lib.roles import application, engines, people
from lib.roles.tokens import CATALOGUE

PROBES = model.load(model.ROLES)


def names(probe):
    texts = [name for text in (probe.path, *probe.headers) for _, name, *_ in Formatter().parse(text)]
    return {probe.token, *texts} - {"", None, "host"}


def test_there_are_enough_and_each_has_its_id():
    ids = [probe.id for probe in PROBES]
    assert len(ids) >= 100 and sorted(ids) == sorted(set(ids))
    assert {probe.family for probe in PROBES} == {"R"}
    assert {probe.id for probe in PROBES}.isdisjoint({probe.id for probe in model.load()})


def test_every_probe_goes_to_the_application():
    assert {probe.world for probe in PROBES} == {application.NAME}
    guarded = {*engines.CUSTOM, *engines.VERIFIED}
    assert set(workloads.APART) == {application.NAME, *guarded} and application.NAME not in guarded


def test_tokens_are_known_and_used():
    used = set().union(*map(names, PROBES))
    assert used - set(CATALOGUE) == set()
    assert set(CATALOGUE) - used == set()


def test_every_role_is_asked_with_a_right_and_a_wrong_path():
    for role in people.USERS:
        answers = {probe.expect for probe in PROBES if probe.token == role}
        assert "200 app" in answers and (role == "admin" or "403 R" in answers), role


def test_a_finding_lets_in():
    assert {probe.id for probe in PROBES if probe.finding and " app" not in probe.expect} == {"R10e"}
