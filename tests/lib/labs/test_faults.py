"""A fault heals the lab that it changed, and spares a lab that it did not change."""

from types import SimpleNamespace

import pytest

from lib.labs.fault import Fault
from lib.labs.faults import FAULTS


class Lab:
    """A lab that notes what is asked of it; its requests pass from the second try on."""

    good_token = "good"

    def __init__(self):
        self.changes, self.done = {}, []

    def set_jwt_rule(self, **changed):
        self.changes["RequestAuthentication"] = changed

    def heal(self):
        self.changes.clear()
        self.done.append("heal")

    def ask(self, token=None, caller=""):
        self.done.append("ask")
        return SimpleNamespace(cause="allowed" if len(self.done) > 3 else "issuer-mismatch")


def test_a_lab_that_a_fault_changed_is_healed_and_asked_until_its_requests_pass():
    lab = Lab()
    with Fault("a", "b", "401", lambda lab: lab.set_jwt_rule(issuer="x")).injected(lab):
        assert lab.changes and not lab.done
    assert lab.done == ["heal", *["ask"] * 4]


def test_it_is_healed_after_an_error_too():
    lab = Lab()
    with pytest.raises(ValueError), Fault("a", "b", "401", lambda lab: lab.set_jwt_rule(issuer="x")).injected(lab):
        raise ValueError
    assert lab.done[0] == "heal"


def test_a_lab_that_a_fault_did_not_change_is_left_alone():
    lab = Lab()
    (fault,) = [one for one in FAULTS if one.name == "the word null"]
    with fault.injected(lab):
        assert fault.token(lab) == "null"
    assert lab.done == []
