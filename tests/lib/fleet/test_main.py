"""The commands `put` and `gather`, from the fleet's params to the exit code; a simulation runs the Job."""

import json
from argparse import Namespace

import pytest
from moto import mock_aws

from lib import params
from lib.bundle import signing_key
from lib.errors import MissingStep, NotWritable, ParamsError
from lib.fleet import __main__ as commands
from lib.fleet import model, prove, standing
from lib.names import WATCH
from lib.record.events import Record
from lib.run import Run
from tests.support.little_cluster import IMAGES
from tests.support.stub_fleet import KEY, PUBLIC, Control, a_round, asking

ROLE = "arn:aws:iam::123456789012:role/fleet"
PUT = Namespace(image="image:1", since="")
GATHER = Namespace(key=None, since="")


@pytest.fixture(scope="module")
def bucket(empty_s3):
    empty_s3.create_bucket(Bucket="proofs")
    return empty_s3


@pytest.fixture
def opened(bucket, tmp_path):
    """A fleet of two clusters that were never asked."""
    one = a_round(f"s3://proofs/{tmp_path.name}", "one", "two")
    about = {"name": "demo", "control": "here", "bucket": one.bucket, "role_arn": ROLE, "clusters": one.clusters}
    run = Run("fleet", params.Params(env="here", cluster_source="existing", **IMAGES), Record())
    run.cluster = Control(bucket, tmp_path / "pods")
    return commands.Opened(model.Fleet(**about), run, one, bucket, tmp_path / "page")


def states(opened):
    content = json.loads((opened.folder / f"{opened.one.round}.json").read_text())
    return {row["name"]: (row["state"], row["note"]) for row in content["clusters"]}


def test_put_asks_each_cluster_and_trusts_the_key_that_it_made(opened, capsys):
    assert commands.put(PUT, opened) == 0
    first, *_, evidence, page, data = capsys.readouterr().out.splitlines()
    assert evidence.startswith("Lines of evidence: IA-2 2 of 8, ") and ", IA-9 0 of 6, " in evidence
    assert first == "Round 2026-01-02 of the fleet demo: asking 2 of 2 clusters."
    assert page.endswith("/page/index.html") and data.endswith("/page/2026-01-02.json")
    assert states(opened) == {"one": ("proved", ""), "two": ("proved", "")}
    job = opened.run.cluster.find("batch/v1", "Job", "fleet-demo", WATCH)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["spec"]["completions"], container["image"]) == (2, "image:1")


def test_put_again_asks_only_the_clusters_without_a_bundle(opened, capsys):
    rest, cluster = opened.one.model_copy(update={"clusters": opened.one.clusters[1:]}), opened.run.cluster
    assert commands.put(PUT, opened._replace(one=rest)) == 0
    cluster.faults = ["dies"]
    assert commands.put(PUT, opened) == 1
    assert states(opened) == {"one": ("late", "OOMKilled"), "two": ("proved", "")}
    cluster.faults = ["none"]
    assert commands.put(PUT, opened) == 0
    assert capsys.readouterr().out.count("asking 1 of 2 clusters.") == 2
    assert (cluster.jobs, commands.put(PUT, opened), cluster.jobs) == (3, 0, 3), "no cluster is left, so no Job starts"
    assert "asking" not in capsys.readouterr().out


def test_gather_starts_no_job_and_prints_what_changed(opened, capsys):
    assert commands.put(PUT, opened) == 0
    later = opened._replace(one=opened.one.model_copy(update={"round": "2026-01-03"}))
    opened.run.cluster.faults = ["hole"]
    assert commands.put(PUT, later) == 1
    capsys.readouterr()
    assert commands.report(GATHER, later) == 1
    text = capsys.readouterr().out
    assert "asking" not in text and "one: proved is now red\n" in text and "two: A01: 403 R is now 200 app\n" in text
    assert opened.run.cluster.jobs == 2
    assert commands.report(GATHER, opened) == 0, "the round before is as it was"


def test_since_names_the_round_to_compare_with(opened, capsys):
    cluster, rounds = opened.run.cluster, ("2026-01-01", "2026-01-02", "2026-01-03")
    for round, fault in zip(rounds, ("none", "hole", "hole"), strict=True):
        cluster.faults = [fault]
        commands.put(PUT, opened._replace(one=opened.one.model_copy(update={"round": round})))
    last = opened._replace(one=opened.one.model_copy(update={"round": rounds[-1]}))
    capsys.readouterr()
    commands.report(GATHER, last)
    assert "is now" not in capsys.readouterr().out, "the hole was there in the round before"
    commands.report(Namespace(key=None, since=rounds[0]), last)
    assert "one: proved is now red\n" in capsys.readouterr().out
    assert "What changed since 2026-01-01" in (opened.folder / "index.html").read_text()
    for since in ("2026-01-03", "2025-12-31"):
        with pytest.raises(ParamsError, match=f"got {since}; the last are 2026-01-01, 2026-01-02."):
            commands.report(Namespace(key=None, since=since), last)


def test_two_fleets_below_one_prefix_have_bundles_of_their_own(opened, tmp_path):
    other = opened.one.model_copy(update={"fleet": "other"})
    prove.prove(other, other.clusters[0], asking(), opened.s3, KEY, tmp_path / "other")
    assert commands.put(PUT, opened) == 0
    assert states(opened) == {"one": ("proved", ""), "two": ("proved", "")}


def test_a_page_that_cannot_be_written_is_said_before_a_cluster_is_asked(opened, tmp_path):
    (tmp_path / "file").touch()
    for command, args in ((commands.put, PUT), (commands.report, GATHER)):
        with pytest.raises(NotWritable, match="file/page cannot be written: Not a directory"):
            command(args, opened._replace(folder=tmp_path / "file" / "page"))
    assert opened.run.cluster.jobs == 0


def test_gather_trusts_the_key_of_the_option_in_place_of_the_secrets(opened, tmp_path):
    for member in opened.one.clusters:
        prove.prove(opened.one, member, asking(), opened.s3, KEY, tmp_path / member.name)
    with pytest.raises(MissingStep, match="No Secret fleet-signer in namespace runbook. Run make fleet first."):
        commands.report(GATHER, opened)
    file = tmp_path / "key.pem"
    file.write_text(signing_key.pem(PUBLIC[0]))
    assert commands.report(Namespace(key=file, since=""), opened) == 0
    standing.signer(opened.run)
    assert commands.report(GATHER, opened) == 1
    assert {state for state, _ in states(opened).values()} == {"not trusted"}


def test_a_client_is_of_the_environments_account_or_of_the_roles(opened, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAME")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with mock_aws():
        for role, account in ((None, "123456789012"), ("arn:aws:iam::444455556666:role/fleet", "444455556666")):
            sts = commands.client(opened.run.params, "sts", "eu-west-1", role)
            assert sts.get_caller_identity()["Account"] == account


@pytest.mark.parametrize("words", [["put", "--image", "image:1"], ["gather"]])
def test_a_fleet_that_is_not_there_is_a_sentence(tmp_path, capsys, words):
    assert commands.main([*words, "--fleet", str(tmp_path / "none.yml")]) == 2
    assert capsys.readouterr().err.startswith("There is no fleet in ")
