"""One index: how it reaches its cluster, what it takes from there, and what it says if S3 does not take its bundle."""

import base64
import os
import stat
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from lib.crypto import certificates
from lib.errors import AwsError, ClusterError, RunbookError
from lib.fleet import prove
from lib.fleet.__main__ import main
from lib.fleet.model import Member
from lib.names import WATCH
from lib.probes.targets import remote
from tests.support import eks_token
from tests.support.little_cluster import Cluster
from tests.support.stub_fleet import KEY, S3_FAULTS, a_round, asking, faulty

USER = {"client": "istio", "client-secret": "the secret", "username": "alice", "password": "the password"}
HOSTILE = {"token_command": "touch /tmp/x", "tokens": {"id": "touch /tmp/x"}, "ca": "/etc/passwd", "families": "Z"}
MESH = {"url": "https://mesh.example/x", "issuer": "https://k", "audience": "istio", "profile": "figure-1"}
MEMBER = Member(name="one", eks="one-eks", region="eu-west-1")


class Watched(Cluster):
    """A cluster with what `make watch` left there, or something else in its place."""

    def __init__(self, mesh=MESH, user=USER, ca="PEM"):
        super().__init__()
        text = mesh if isinstance(mesh, str) else yaml.safe_dump(mesh)
        encoded = {name: base64.b64encode(value.encode()).decode() for name, value in user.items()}
        for kind, name, data in (("ConfigMap", "mesh", {"mesh.yml": text, "ca.pem": ca}), ("Secret", "user", encoded)):
            self.apply({"kind": kind, "metadata": {"name": name, "namespace": WATCH}, "data": data})

    def get(self, api_version, kind, name, namespace):
        found = self.find(api_version, kind, name, namespace)
        if found is None:
            raise ClusterError(f"No {kind} {name}.", 404)
        return found


class Broken(Cluster):
    """A cluster whose API answers with this status, or not at all."""

    def __init__(self, status):
        super().__init__()
        self.status = status

    def get(self, *_):
        raise ClusterError(f"GET: {self.status}.", self.status)


def test_an_index_takes_no_command_and_no_path_from_a_cluster(tmp_path):
    mesh, secrets, _ = prove.mesh(Watched(MESH | HOSTILE), tmp_path)
    written = yaml.safe_load(mesh.read_text())
    command = f"-m lib.watch user-token --user {tmp_path}/user --mesh {mesh}"
    assert written.pop("token_command").endswith(command)
    assert written == {**MESH, "ca": str(tmp_path / "ca.pem")}
    assert secrets == {"the secret", "the password"}
    assert remote.settings({}, mesh).families == "A,B,C,D"
    for name, value in USER.items():
        assert (tmp_path / "user" / name).read_text() == value
        assert stat.S_IMODE(os.stat(tmp_path / "user" / name).st_mode) == 0o600


def test_a_cluster_with_a_public_certificate_has_no_ca(tmp_path):
    assert "ca" not in yaml.safe_load(prove.mesh(Watched(ca=""), tmp_path)[0].read_text())


@pytest.mark.parametrize("damage", [{"mesh": "- a"}, {"mesh": "{"}, {"user": {"client": "x"}}])
def test_a_damaged_watch_is_a_sentence(tmp_path, damage):
    with pytest.raises(RunbookError, match="is damaged .*Run make watch"):
        prove.mesh(Watched(**damage), tmp_path)


def test_a_cluster_without_a_watch_or_without_the_right_says_what_to_do(tmp_path):
    bare = Watched()
    bare.kept.clear()
    with pytest.raises(ClusterError, match="No ConfigMap mesh. Run make watch against this cluster"):
        prove.mesh(bare, tmp_path)
    with pytest.raises(ClusterError, match="403. Apply image/fleet-member.yaml"):
        prove.mesh(Broken(403), tmp_path)


@pytest.mark.parametrize("status", [0, 401, 500, 503])
def test_what_make_watch_cannot_mend_has_no_advice_to_run_it(tmp_path, status):
    with pytest.raises(ClusterError) as caught:
        prove.mesh(Broken(status), tmp_path)
    assert (str(caught.value), caught.value.status) == (f"GET: {status}.", status)


class Eks:
    """EKS and STS as a session's clients; a role that is assumed is kept."""

    def __init__(self, status="ACTIVE"):
        root, _ = certificates.generate_authority("of this test")
        data = {"data": base64.b64encode(root.encode()).decode()}
        place = {"endpoint": "https://127.0.0.1:6443", "arn": "arn:one", "certificateAuthority": data}
        self.about, self.roles = {**place, "status": status}, []
        self.real = boto3.Session("AKIAPOD", "secret", region_name="eu-west-1")

    def client(self, service, **options):
        return self if service == "eks" or self.roles is None else self.real.client(service, **options)

    def describe_cluster(self, name):
        if not self.about["endpoint"]:
            error = {"Error": {"Code": "ResourceNotFoundException", "Message": "No cluster found."}}
            raise self.real.client("eks").exceptions.ClientError(error, "DescribeCluster")
        return {"cluster": self.about}


def test_the_token_is_the_pods_own_and_the_certificate_is_verified():
    cluster, arn = prove.connected(Eks(), MEMBER)
    settings = cluster.api.configuration
    assert (arn, cluster.host, settings.verify_ssl) == ("arn:one", "https://127.0.0.1:6443", True)
    assert "BEGIN CERTIFICATE" in Path(settings.ssl_ca_cert).read_text()
    bearer = settings.auth_settings()["BearerToken"]["value"]
    url = eks_token.opened(bearer.removeprefix("Bearer "))
    assert "AKIAPOD" in url and "GetCallerIdentity" in url and "x-k8s-aws-id" in url


def test_a_cluster_of_another_account_is_asked_with_the_role_of_that_account():
    other = MEMBER.model_copy(update={"role_arn": "arn:aws:iam::444455556666:role/fleet"})
    with mock_aws():
        pod = boto3.Session("AKIAPOD", "secret", region_name="eu-west-1")
        made = pod.client("sts").assume_role(RoleArn=other.role_arn, RoleSessionName="maker")["Credentials"]
        there = boto3.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], "eu-west-1")
        about = {"roleArn": other.role_arn, "resourcesVpcConfig": {}}
        there.client("eks").create_cluster(name=MEMBER.eks, **about)
        with pytest.raises(ClusterError, match="There is no EKS cluster one-eks"):
            prove.connected(pod, MEMBER)
        cluster, arn = prove.connected(pod, other)
    assert arn == "arn:aws:eks:eu-west-1:444455556666:cluster/one-eks"
    url = eks_token.opened(cluster.api.configuration.auth_settings()["BearerToken"]["value"].removeprefix("Bearer "))
    assert "ASIA" in url and "X-Amz-Security-Token" in url and "AKIAPOD" not in url


def test_a_cluster_that_is_gone_or_not_ready_is_a_sentence():
    gone = Eks()
    gone.about["endpoint"] = ""
    with pytest.raises(
        ClusterError, match="There is no EKS cluster one-eks in eu-west-1. Correct the fleet's clusters"
    ):
        prove.connected(gone, MEMBER)
    with pytest.raises(ClusterError, match="The EKS cluster one-eks is DELETING. Wait until it is ACTIVE."):
        prove.connected(Eks("DELETING"), MEMBER)


@pytest.mark.parametrize("fault", S3_FAULTS)
def test_a_fault_of_s3_is_a_sentence_and_leaves_nothing(empty_s3, tmp_path, fault):
    empty_s3.create_bucket(Bucket="faults")
    one = a_round("s3://faults", "one")
    with faulty(empty_s3, fault) as s3, pytest.raises(AwsError) as caught:
        prove.prove(one, one.clusters[0], asking(), s3, KEY, tmp_path)
    assert S3_FAULTS[fault][1] in str(caught.value)
    assert "Contents" not in empty_s3.list_objects_v2(Bucket="faults")


def test_an_index_ends_with_its_reason_in_one_last_line(tmp_path, capsys, monkeypatch):
    file = tmp_path / "fleet.json"
    file.write_text(a_round("s3://proofs", "one").model_dump_json())
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert main(["index", "--round", str(file)]) == 2
    assert capsys.readouterr().err == "expected an index below 1 in JOB_COMPLETION_INDEX, got '1'.\n"
