"""EKS takes a token for 15 minutes; a step may be longer: the client asks for another before its token's end."""

import base64
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import boto3
import pytest
import yaml
from kubernetes import client

from lib.aws import kubeconfig
from lib.kubernetes.cluster import Cluster

COUNTING = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[1]); number = int(file.read_text() or 0) + 1; file.write_text(str(number))
status = {"token": f"token-{number}", "expirationTimestamp": sys.argv[2]}
print(json.dumps({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}))
"""


@pytest.fixture
def api():
    """An API server on loopback that is ready, and remembers the tokens it was shown."""
    shown = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            shown.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", shown
    server.shutdown()
    server.server_close()


def cluster(folder, server, left):
    """A cluster whose tokens have `left` of their life when they are made."""
    ends = (datetime.now(UTC) + left).strftime("%Y-%m-%dT%H:%M:%SZ")
    count = folder / "count"
    count.write_text("")
    command = {"apiVersion": kubeconfig.API, "command": sys.executable, "interactiveMode": "Never",
               "args": ["-c", COUNTING, str(count), ends]}  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {"exec": command}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }))  # fmt: skip
    return Cluster.from_kubeconfig(path)


def test_a_token_that_has_most_of_its_life_is_used_again(api, tmp_path):
    server, shown = api
    found = cluster(tmp_path, server, kubeconfig.LIFETIME)
    assert all(found.ready() for _ in range(3))
    assert shown == ["Bearer token-1"] * 3


def test_a_token_near_its_end_is_renewed_before_it_is_over(api, tmp_path):
    server, shown = api
    found = cluster(tmp_path, server, timedelta(minutes=4))
    assert all(found.ready() for _ in range(3))
    assert len(set(shown)) == 3


def test_so_are_those_of_the_clients_that_run_commands_in_pods(api, tmp_path):
    """Streams take a client of their own, over the same configuration."""
    server, shown = api
    found = cluster(tmp_path, server, timedelta(minutes=4))
    for _ in range(2):
        own = client.ApiClient(found.api.configuration)
        own.call_api(*own.param_serialize("GET", "/readyz", auth_settings=["BearerToken"]))
    assert len(set(shown)) == 2


def test_the_life_that_is_told_is_shorter_than_what_eks_grants(capsys, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    kubeconfig.print_exec_credential("c", "us-east-1")
    ends = datetime.fromisoformat(json.loads(capsys.readouterr().out)["status"]["expirationTimestamp"])
    assert timedelta(minutes=13) < ends - datetime.now(UTC) < timedelta(minutes=15)


AWS_CLI = """#!{python}
import json, pathlib, sys
pathlib.Path({said!r}).write_text(json.dumps(sys.argv[1:]))
status = {{"token": "k8s-aws-v1.of-the-cli", "expirationTimestamp": {ends!r}}}
print(json.dumps({{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1", "status": status}}))
"""


def test_a_kubeconfig_of_aws_eks_update_kubeconfig_is_taken_as_it_is(tmp_path, api, monkeypatch):
    """Clusters of CloudFormation and eksctl: its names are ARNs, and its command is the AWS CLI's own."""
    server, shown = api
    arn, said = "arn:aws:eks:us-east-1:123456789012:cluster/theirs", tmp_path / "said"
    cli = tmp_path / "aws"
    ends = (datetime.now(UTC) + timedelta(minutes=14)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cli.write_text(AWS_CLI.format(python=sys.executable, said=str(said), ends=ends))
    cli.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = ["--region", "us-east-1", "eks", "get-token", "--cluster-name", "theirs", "--output", "json"]
    command = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "args": asked}
    written = {
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "another",
        "clusters": [{"name": arn, "cluster": {"server": server}}],
        "contexts": [{"name": "my-cluster", "context": {"cluster": arn, "user": arn}}],
        "users": [{"name": arn, "user": {"exec": command}}],
    }  # fmt: skip
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(written))
    assert Cluster.from_kubeconfig(path, "my-cluster").ready()
    assert shown == ["Bearer k8s-aws-v1.of-the-cli"] and json.loads(said.read_text()) == asked


def test_a_runs_own_token_is_asked_for_by_each_request_and_client(api):
    server, shown = api
    tokens = iter("abcdef")
    found = Cluster.of_token(server, base64.b64encode(b"no authority").decode(), lambda: next(tokens))
    found.ready()
    own = client.ApiClient(found.api.configuration)
    own.call_api(*own.param_serialize("GET", "/readyz", auth_settings=["BearerToken"]))
    assert shown == ["Bearer b", "Bearer c"]


def test_it_is_made_anew_before_its_end():
    seconds = [0.0]
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-west-1")
    bearer = kubeconfig.bearer(session, "c", clock=lambda: seconds[0])
    first = bearer()
    seconds[0] = 13 * 60
    assert bearer() == first
    seconds[0] = 14 * 60
    time.sleep(1.1)  # a token is signed for a second
    assert bearer() != first
