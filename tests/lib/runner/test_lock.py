"""One run on one cluster; the message to a second run names the holder."""

import subprocess
import sys

import boto3
import pytest
import yaml
from moto import mock_aws

from lib.errors import Locked
from lib.runner import lock
from lib.runner.lock import held, identities

WHO = {"user": "alice", "host": "box", "pid": 7, "since": "2026-01-01T00:00:00Z", "command": "run --env dev"}
HOLDER = """
import sys
from pathlib import Path
from lib.runner.lock import held
with held(["c"], {**dict(user="alice", host="box", pid=7, since="today", command="run --env dev")}, Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_reads_who_holds_the_lock(tmp_path):
    with held(["a"], WHO, tmp_path):
        words = r"in use \(a\) by alice@box \(process 7\) since 2026-01-01T.* for: run --env dev. Wait"
        with pytest.raises(Locked, match=words), held(["a"], WHO, tmp_path):
            pass
        with held(["b"], WHO, tmp_path):
            pass
    with held(["a"], WHO, tmp_path):
        pass


def test_the_lock_ends_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match="alice@box"), held(["c"], WHO, tmp_path):
            pass
        process.kill()
    with held(["c"], WHO, tmp_path):
        pass


def test_a_lock_for_each_identity(tmp_path):
    with held(["a", "b"], WHO, tmp_path), pytest.raises(Locked, match=r"in use \(b\)"), held(["c", "b"], WHO, tmp_path):
        pass
    with held(["c"], WHO, tmp_path):
        pass


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    with held(["a"], WHO, tmp_path) as (path,):
        pass
    path.unlink()
    (tmp_path / "kept").write_text("kept")
    path.symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="symbolic links"), held(["a"], WHO, tmp_path):
        pass
    assert (tmp_path / "kept").read_text() == "kept"


AWS = {
    "cluster_source": "eks", "aws_endpoint_url": None, "aws_profile": "a", "aws_credentials_file": None,
    "region": "us-east-1", "cluster_name": "n",
}  # fmt: skip


@pytest.fixture
def account(tmp_path):
    """An account of AWS with two profiles."""
    keys = "aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = s\n"
    (tmp_path / "credentials").write_text(f"[a]\n{keys}[b]\n{keys}")
    with mock_aws():
        yield {**AWS, "aws_credentials_file": str(tmp_path / "credentials")}


def test_a_cluster_of_aws_is_its_account_region_and_name(account):
    names = [identities({**account, **other}) for other in ({}, {"aws_profile": "b"}, {"region": "eu-west-1"},
                                                            {"cluster_name": "m"})]  # fmt: skip
    assert names[0] == names[1] == ["AWS account 123456789012, us-east-1, cluster n"]
    assert len({*names[1], *names[2], *names[3]}) == 3


def test_a_cluster_is_the_same_by_a_kubeconfig(account, tmp_path, monkeypatch):
    session = boto3.Session("AKIAEXAMPLE", "s", None, "us-east-1")
    vpc = {"subnetIds": ["subnet-1", "subnet-2"]}
    role = "arn:aws:iam::123456789012:role/r"
    made = session.client("eks").create_cluster(name="n", roleArn=role, resourcesVpcConfig=vpc)["cluster"]
    data = made["certificateAuthority"]["data"]
    cluster = {"server": "https://anything", "certificate-authority-data": data}
    config = {
        "contexts": [{"name": "mine", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "current-context": "mine",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{tmp_path / 'config'}")
    existing = {"cluster_source": "existing", "kube_context": None}
    assert identities(existing) == identities({**existing, "kube_context": "mine"}) == identities(account)[1:]
    del cluster["certificate-authority-data"]
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    assert identities(existing) == ["Kubernetes at https://anything"]
    assert identities({**existing, "kube_context": "other"}) == ["Kubernetes at other"]


def test_an_emulated_aws_is_its_address_however_it_is_spelt(account, monkeypatch):
    for url in ("http://127.0.0.1:1", "http://localhost:1/"):
        assert lock._address(url) == "127.0.0.1:1"
    assert identities({**account, "aws_endpoint_url": "http://127.0.0.1:1"}) == [
        "http://127.0.0.1:1, us-east-1, cluster n"  # nothing answers there
    ]
