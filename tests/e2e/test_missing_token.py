"""A missing token gets 401 and a challenge if the params ask for it; no other answer changes, and nobody gets in."""

from __future__ import annotations

import pytest

from lib import diagnose, params
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints
from tests.support import challenged

pytestmark = pytest.mark.sandbox


def test_a_missing_token_is_challenged_while_the_params_ask_for_it(first):
    usual = Run("missing-token", params.load("dev"), Record())
    asked = Run("missing-token", params.load("dev", {"missing_token": 401}), Record())
    before = challenged.others(usual)
    try:
        challenged.ensure(asked)
        challenged.ensure(asked)  # a second run changes nothing
        assert [row["action"] for row in asked.changes] == ["created", "created", "unchanged", "unchanged"]
        challenged.assert_challenged(asked)
        assert challenged.others(asked) == before
        url = f"{endpoints.ingress_url(asked)}/headers"
        found = diagnose.ask(asked.cluster, url, host="httpbin.example")
        assert found.cause == "no-token" and "401 RBAC: access denied" in found.refused
    finally:
        challenged.ensure(usual)
    assert [row["action"] for row in usual.changes] == ["deleted", "deleted"]
    challenged.settle(usual, "403 R")
    assert challenged.SHOWN not in challenged.user(usual).headers
