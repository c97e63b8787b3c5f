"""Which steps run, and what each of them waits for."""

from pathlib import Path

import pytest

from lib.errors import ParamsError
from lib.params import ROOT
from lib.runner import order
from lib.steps import overview

STEPS = [Path(f"notebooks/{name}.ipynb") for name in ("00-start", "04-realm", "11-testing")]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["00-start", "04-realm", "11-testing"]),
        ({"first": "4"}, ["04-realm", "11-testing"]),
        ({"first": "04"}, ["04-realm", "11-testing"]),
        ({"only": "04-realm"}, ["04-realm"]),
        ({"only": "0"}, ["00-start"]),
        ({"only": "11"}, ["11-testing"]),
    ],
)
def test_selection(options, names):
    assert [path.stem for path in order.select(STEPS, **options)] == names


def test_how_many_steps_run_at_once_is_said_by_the_environment(monkeypatch):
    monkeypatch.delenv(order.AT_ONCE, raising=False)
    assert order.at_once() == 2
    monkeypatch.setenv(order.AT_ONCE, "1")
    assert order.at_once() == 1
    for wrong in ("0", "many", ""):
        monkeypatch.setenv(order.AT_ONCE, wrong)
        with pytest.raises(ParamsError, match="expected a number from 1 to 9 in RUNBOOK_AT_ONCE, got"):
            order.at_once()


@pytest.mark.parametrize("options", [{"first": "5"}, {"only": "1"}, {"only": "realm"}])
def test_an_unknown_step_names_the_known(options):
    with pytest.raises(ParamsError, match=r"no step \w+. Name one by its number: 00-start, 04-realm, 11-testing\.$"):
        order.select(STEPS, **options)


def test_first_and_only_do_not_go_together():
    with pytest.raises(ParamsError, match="Both a first step \\(4\\) and an only step"):
        order.select(STEPS, "4", "4")


def named(steps):
    """The numbers of the steps that each step needs."""
    return {step.stem[:2]: {one.stem[:2] for one in needs} for step, needs in order.needs(steps).items()}


def test_a_step_needs_what_its_notebook_names_and_else_the_step_before_it():
    whole = order.numbered(ROOT / "notebooks")
    needs = named(whole)
    assert (needs["00"], needs["01"], needs["05"]) == (set(), {"00"}, {"02"})
    assert needs["12"] == {"04", "07", "08", "11"}
    late = named(whole[10:])  # what was left out has run
    assert (late["10"], late["12"], late["14"]) == (set(), {"11"}, {"12", "13"})


def test_a_step_waits_for_all_parts_that_it_cannot_do_without():
    needs = named(order.numbered(ROOT / "notebooks"))

    def before(step):
        return needs[step].union(*map(before, needs[step]))

    for step, parts in overview.NEEDED.items():
        assert {overview._maker(part) for part in parts} <= before(step), step
