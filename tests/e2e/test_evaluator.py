"""The evaluator of policies says what the real Envoy does: random policies, tokens and requests.

`make test` sends 200 pairs, `make test-evaluator` sends 3,000. The test writes its figures to outputs/evaluator.md.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from lib import params
from lib.record.events import Record
from lib.run import Run
from tests.support.evaluated_mesh import EvaluatedMesh
from tests.support.runbook import ROOT

pytestmark = pytest.mark.sandbox
CASES, EACH = (18, 8, 6), 5  # cases that are in force together: for HTTP, for TCP, at the gateway; requests to each
MODES = 2  # PeerAuthentications are drawn so often for the same cases
ROUNDS = int(os.environ.get("EVALUATOR_ROUNDS", "1"))
SEED = int(os.environ.get("EVALUATOR_SEED", "20261128"))


@pytest.fixture(scope="module")
def mesh(first):
    made = EvaluatedMesh(Run("evaluator", params.load("dev"), Record()))
    try:
        made.build()
        yield made
    finally:
        made.close()


def test_the_evaluator_agrees_with_envoy(mesh):
    found = [pair for number in range(ROUNDS) for pair in mesh.pairs(SEED + number, CASES, EACH, MODES)]
    unknown = [one for one in found if one.evaluator is None]
    wrong = [one for one in found if one.evaluator is not None and one.evaluator is not one.envoy]
    fields = Counter(field for one in unknown for field in one.unknown)
    passed = sum(one.envoy for one in found)
    known, because = len(found) - len(unknown), ", ".join(f"{name} {count}" for name, count in fields.most_common())
    lines = [
        "| pairs | let in by Envoy | agreement | not known | because of |",
        "|---|---|---|---|---|",
        f"| {len(found)} | {passed} | {known - len(wrong)} of {known} | {len(unknown)} | {because} |",
    ]
    (ROOT / "outputs" / "evaluator.md").write_text("\n".join(lines) + "\n")
    print("\n".join([*lines, *map(str, wrong)]))
    assert not wrong, wrong[:5]
    assert len(unknown) < 0.05 * len(found)
    assert (
        0.2 < sum(one.envoy for one in found) / len(found) < 0.8
    )  # both answers are common, so the law says something
