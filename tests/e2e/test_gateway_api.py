"""The Gateway API on the sandbox: `why` names what is broken in it, and a translated gateway answers as the old one."""

from __future__ import annotations

from random import Random

import pytest

from lib import params
from lib.record.events import Record
from lib.run import Run
from tests.support import broken_gateways
from tests.support.side_by_side import SideBySide

pytestmark = pytest.mark.sandbox
HOSTS = 15  # of the gateway whose translation stands beside it


@pytest.fixture(scope="module")
def here(first):
    return Run("gateway-api", params.load("dev"), Record())


def test_a_translated_gateway_answers_as_the_old_one_does(here):
    forms = SideBySide(here, Random(20261128))
    try:
        forms.build(HOSTS)
        asked, then, now = forms.answers(HOSTS, 10)
        assert then == now
        assert {200, 301, 401, 403, 404} <= {status for status, _, _ in then}  # each answer is common
        assert len(asked) == 10 * HOSTS and forms.removed()
    finally:
        forms.close()


@pytest.mark.parametrize("name", broken_gateways.BROKEN)
def test_why_names_what_is_broken_in_the_gateway_api(here, name):
    broken_gateways.check(here, name)


def test_a_selector_at_a_gateway_is_in_vain_where_istiod_takes_only_targets(here):
    broken_gateways.check_only_targets(here)
