"""Many indexes at once with faults drawn at random: each cluster is a row with the reason of its last try."""

import os

import pytest

from lib.fleet import gather
from tests.support.stub_fleet import FAULTS, Simulation, a_round, calls

COUNT = int(os.environ.get("FLEET_INDEXES", "24"))


@pytest.fixture(scope="module")
def bucket(empty_s3):
    empty_s3.create_bucket(Bucket="proofs")
    return empty_s3


@pytest.mark.parametrize("seed", [3])
def test_each_fault_is_a_row_with_its_reason_and_the_rest_go_on(bucket, tmp_path, seed):
    one = a_round(f"s3://proofs/s{seed}", *(f"c{number:02}" for number in range(COUNT)))
    world = Simulation(bucket, one, seed, tmp_path / "first")
    world.run(one.clusters)
    assert len({*world.drawn.values()}) > len(FAULTS) // 2 and "evicted" not in world.drawn.values()
    assert len({*world.delays}) == len(world.delays) > COUNT, "each try has a delay of its own"
    assert any(pod["status"].get("reason") == "Evicted" for pod in world.cluster.items("v1", "Pod"))
    with calls(bucket) as made:
        rows = world.rows()
    assert sorted(row.name for row in rows) == sorted(world.drawn)
    for row in rows:
        state, words = world.expected(row.name)
        assert (row.state, words in row.note) == (state, True), (row.name, world.drawn[row.name], row.note)
    kept = {row.name for row in rows if row.state not in (gather.MISSING, gather.LATE)}
    assert made == {"ListObjectsV2": 1, "GetObject": len(kept)}
    again = Simulation(bucket, one, seed, tmp_path / "second", ["none"])
    again.run([member for member in one.clusters if member.name not in kept])
    bad = {row.name for row in rows if row.state in (gather.RED, gather.UNTRUSTED)}
    assert {row.name for row in again.rows() if row.state != gather.PROVED} == bad, "started again, it asks the others"
