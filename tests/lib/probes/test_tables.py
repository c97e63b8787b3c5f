"""The tables of probes say what they mean: every name is known, every answer is one that can be given."""

from string import Formatter

import pytest

from lib.istio import answers
from lib.probes import model
from lib.probes.scenarios import requests
from lib.probes.tokens.catalogue import TOKENS

PROBES = model.load()
TEXTS = {"token", "good", "host", "canary", "nonce", "scheme"}  # what braces hold besides tokens: lib.probes.send
HELD = {"good", "expired", "ending", *requests.EDGES}  # tokens that sequences ask for
GRPC = 200  # its refusals have this status
STATUS = {"R": {403, GRPC}, "J16": {403}, "codec": set(answers.CODEC), "route": {404}, "upstream": {503}}


def names(probe):
    """The tokens that a probe sends."""
    fields = [name for text in (probe.path, probe.body, *probe.headers) for _, name, *_ in Formatter().parse(text)]
    return {probe.token, *fields} - {"", None}


def asked(probe):
    """The single answers that a probe expects."""
    expected = [probe.expect] if isinstance(probe.expect, str) else probe.expect
    return [*expected, *filter(None, (probe.figure_1, probe.hardened))]


def can_be(answer):
    """Whether an answer's code is known, and goes with its status."""
    status, _, code = answer.partition(" ")
    usual = STATUS.get(code, {401} if code in answers.JWT else {int(status)})
    return code in answers.MEANINGS and int(status) in usual


def test_there_are_enough():
    assert len(PROBES) >= 180


def test_ids_are_unique():
    ids = [probe.id for probe in PROBES]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize(("family", "last"), [("C", 31), ("D", 38)])
def test_no_row_of_the_list_is_left_out(family, last):
    there = {probe.id[:3] for probe in PROBES}
    assert {f"{family}{number:02}" for number in range(1, last + 1)} <= there


def test_rows_read_well():
    assert [probe.id for probe in PROBES if probe.title != probe.title.strip(" .") or not probe.source.strip()] == []


def test_a_finding_says_what_closes_it():
    assert [probe.id for probe in PROBES if bool(probe.finding) != bool(probe.closed_by)] == []


def test_no_token_stands_in_a_table():
    assert [path.name for path in model.TABLES.rglob("*.yml") if "eyJ" in path.read_text()] == []


def test_tokens_are_known_by_name():
    assert {probe.id: unknown for probe in PROBES if (unknown := names(probe) - {*TOKENS, *TEXTS})} == {}


def test_every_token_is_used():
    used = HELD.union(*map(names, PROBES))
    assert sorted({*TOKENS} - used) == []


def test_an_answer_is_one_that_can_be_given():
    given = {(probe.id, answer) for probe in PROBES if probe.how == "http" for answer in asked(probe)}
    assert {(name, answer) for name, answer in given if not can_be(answer)} == set()


def test_a_world_has_no_profile():
    assert [probe.id for probe in PROBES if probe.world and (probe.hardened or probe.figure_1)] == []
