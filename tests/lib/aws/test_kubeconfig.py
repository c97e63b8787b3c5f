"""The token says who and for which cluster; the kubeconfig says how to get one, and holds none."""

import base64
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from lib.aws import kubeconfig
from lib.aws import session as aws_session
from lib.errors import AwsError

ENDPOINT = "http://127.0.0.1:5000"


@pytest.fixture
def credentials(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=s1\n"
        "[sandbox]\naws_access_key_id=AKIASANDBOX\naws_secret_access_key=s2\n"
    )
    return str(path)


def opened(token):
    """Return the token's URL, split, and its query."""
    assert token.startswith("k8s-aws-v1.") and "=" not in token
    raw = token.removeprefix("k8s-aws-v1.")
    place = urlsplit(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode())
    return place, {name: values[0] for name, values in parse_qs(place.query).items()}


def test_a_token_is_a_presigned_call_that_covers_the_clusters_name(credentials):
    session = aws_session.session("eu-west-1", "sandbox", credentials)
    place, query = opened(kubeconfig.token(session, "demo", ENDPOINT))
    assert (place.scheme, place.netloc, place.path) == ("http", "127.0.0.1:5000", "/")
    assert (query["Action"], query["Version"], query["X-Amz-Expires"]) == ("GetCallerIdentity", "2011-06-15", "60")
    assert query["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    assert query["X-Amz-Credential"].startswith("AKIASANDBOX/")
    assert query["X-Amz-Credential"].endswith("/eu-west-1/sts/aws4_request")


def test_without_an_endpoint_it_is_amazons_of_the_region(credentials):
    place, _ = opened(kubeconfig.token(aws_session.session("eu-west-1", None, credentials), "demo"))
    assert (place.scheme, place.netloc) == ("https", "sts.eu-west-1.amazonaws.com")


def test_another_cluster_has_another_signature(credentials):
    session = aws_session.session("eu-west-1", "sandbox", credentials)
    one, two = (opened(kubeconfig.token(session, name, ENDPOINT))[1]["X-Amz-Signature"] for name in ("a", "b"))
    assert one != two


def test_the_credentials_file_wins_over_the_environment(credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3")
    _, query = opened(kubeconfig.token(aws_session.session("eu-west-1", None, credentials), "demo", ENDPOINT))
    assert query["X-Amz-Credential"].startswith("AKIADEFAULT/")


def test_a_profile_that_is_not_there(credentials):
    with pytest.raises(AwsError, match="ProfileNotFound: .*nobody.*; name a profile"):
        aws_session.session("eu-west-1", "nobody", credentials)


def test_a_credentials_file_that_is_not_there():
    with pytest.raises(AwsError, match="No credentials file at ~/no-such-file. If it is the sandbox.s, start it"):
        aws_session.session("eu-west-1", None, "~/no-such-file")


def test_the_exec_credential_ends_in_14_minutes(credentials, capsys):
    kubeconfig.print_exec_credential("demo", "eu-west-1", ENDPOINT, "sandbox", credentials)
    said = json.loads(capsys.readouterr().out)
    assert (said["kind"], said["apiVersion"]) == ("ExecCredential", "client.authentication.k8s.io/v1")
    ends = datetime.strptime(said["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert 13 * 60 < (ends - datetime.now(UTC)).total_seconds() <= 14 * 60
    assert opened(said["status"]["token"])


def written(path, **changed):
    values = {"endpoint": "https://198.18.0.10:6443", "ca_data_b64": "Q0E=", "python": "/venv/bin/python"}
    values |= {"root": path.parent, "region": "eu-west-1", "endpoint_url": ENDPOINT, **changed}
    return kubeconfig.write_kubeconfig(path, "demo", **values)


def test_a_kubeconfig_names_the_command(tmp_path):
    path = tmp_path / ".kube" / "dev"
    assert written(path, profile="sandbox", credentials_file="/c") == "created"
    said = yaml.safe_load(path.read_text())
    command = said["users"][0]["user"]["exec"]
    expected = ["-m", "lib", "token", "--cluster", "demo", "--region", "eu-west-1"]
    assert command["args"] == [
        *expected,
        "--endpoint-url",
        ENDPOINT,
        "--profile",
        "sandbox",
        "--credentials-file",
        "/c",
    ]
    assert (command["command"], command["interactiveMode"]) == ("/venv/bin/python", "Never")
    assert command["env"][0] == {"name": "PYTHONPATH", "value": str(path.parent)}
    cluster = said["clusters"][0]["cluster"]
    assert cluster == {"server": "https://198.18.0.10:6443", "certificate-authority-data": "Q0E="}
    assert said["current-context"] == "demo"


def test_it_is_written_once_for_its_owner_alone(tmp_path):
    path = tmp_path / ".kube" / "dev"
    assert [written(path), written(path)] == ["created", "unchanged"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert written(path) == "changed"
    assert path.stat().st_mode & 0o777 == 0o600
    assert written(path, endpoint="https://other:6443") == "changed"
    assert [one.name for one in path.parent.iterdir()] == ["dev"]
