"""`make watch` from outside: what it puts into a cluster, its first run, its exit code, and how it goes away."""

import base64
from argparse import Namespace

import pytest
import yaml

from lib import params
from lib.errors import NotWritable, RunbookError
from lib.names import KEYCLOAK, WATCH
from lib.record.events import Record
from lib.run import Run
from lib.watch import prove, standing
from lib.watch.__main__ import main, put
from lib.watch.standing import NoImage
from tests.lib.watch.test_proofs import GOOD
from tests.lib.watch.test_reports import HOLED
from tests.support.little_cluster import IMAGES, Cluster

ARGS = Namespace(image="image:1", schedule="17 * * * *", stale_after=3.0, off=False)
OFF = Namespace(off=True)
SECRETS = {"client-istio-istio": {"client-secret": "the secret"}, "user-alice": {"password": "the password"}}


class Watched(Cluster):
    """A cluster in memory: a Job that is applied has ended at once, and its pod has sent the probes."""

    def __init__(self):
        super().__init__()
        self.found, self.waiting, self.jobs = GOOD, "", 0
        for name, values in SECRETS.items():
            data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
            super().apply({"kind": "Secret", "metadata": {"name": name, "namespace": KEYCLOAK}, "data": data})

    def apply(self, thing):
        if thing["kind"] == "Job":
            self.jobs += 1
            state = {"waiting": {"reason": self.waiting}} if self.waiting else {"terminated": {}}
            status = {"containerStatuses": [{"image": "image:1", "state": state}]}
            super().apply({"kind": "Pod", "metadata": {"name": "first", "namespace": WATCH}, "status": status})
            if self.found:
                prove.prove(self, None, 3, lambda _: self.found)
        kept = self.find("", thing["kind"], thing["metadata"]["name"], thing["metadata"].get("namespace"))
        return super().apply({**(kept or {}), **thing})

    def delete(self, api_version, kind, name, namespace=None):
        if kind == "Namespace":
            self.kept = {key: thing for key, thing in self.kept.items() if name not in key}
        return "deleted" if self.kept.pop((kind, namespace, name), None) else "absent"


@pytest.fixture
def run():
    hosts = {"gateway_host": "mesh.example", "keycloak_host": "login.example"}
    about = {"env": "here", "cluster_source": "existing", "realm": "istio", "client_id": "istio", "user": "alice"}
    made = Run("watch", params.Params(**about, **hosts, **IMAGES), Record())
    made.cluster = Watched()
    return made


def data(run, kind, name):
    return run.cluster.get("v1", kind, name, WATCH)["data"]


def test_put_leaves_what_the_pods_and_a_fleet_read(run):
    standing.put(run, "image:1", "17 * * * *", 3)
    kept = data(run, "ConfigMap", "mesh")
    mesh = yaml.safe_load(kept["mesh.yml"])
    assert kept["inside"] == "http://httpbin.foo:8000"
    assert (mesh["url"], mesh["host"]) == ("https://mesh.example/headers", "httpbin.example")
    assert (mesh["issuer"], mesh["audience"]) == ("https://login.example/realms/istio", "istio")
    assert (mesh["profile"], mesh["token_command"]) == ("figure-2", "python3 -m lib.watch user-token")
    user = {key: base64.b64decode(value).decode() for key, value in data(run, "Secret", "user").items()}
    assert user == {"client": "istio", "client-secret": "the secret", "username": "alice", "password": "the password"}
    spec = run.cluster.get(*standing.CRON_JOB)["spec"]
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert (spec["schedule"], container["image"]) == ("17 * * * *", "image:1")
    assert container["command"][-1] == "--stale-after=3"
    assert "the password" not in str([thing for thing in run.cluster.kept.values() if thing["kind"] != "Secret"])


def test_put_again_keeps_the_proofs(run, tmp_path):
    assert put(ARGS, run, tmp_path) == 0
    kept = prove.read(run.cluster)
    assert put(ARGS, run, tmp_path) == 0
    assert prove.read(run.cluster) == kept and run.cluster.jobs == 1, "only the first call sends the probes at once"


@pytest.mark.parametrize(("found", "code"), [(GOOD, 0), (HOLED, 1)])
def test_the_exit_code_says_whether_each_control_is_proved(run, tmp_path, capsys, found, code):
    run.cluster.found = found
    assert put(ARGS, run, tmp_path) == code
    text = capsys.readouterr().out
    assert "IA-2" in text and text.count("here/index.html") == text.count("here/metrics.prom") == 1
    assert (tmp_path / "here" / "index.html").is_file()
    assert (tmp_path / "here" / "metrics.prom").read_text() == data(run, "ConfigMap", "proofs")[prove.METRICS]
    assert not run.cluster.find("batch/v1", "Job", standing.FIRST, WATCH), "the first run's Job is gone"


def test_off_takes_the_namespace_away_and_sends_nothing(run, tmp_path, capsys):
    assert put(ARGS, run, tmp_path) == 0
    jobs = run.cluster.jobs
    assert put(OFF, run, tmp_path) == 0
    assert not [key for key in run.cluster.kept if WATCH in key] and run.cluster.jobs == jobs
    assert run.cluster.find("v1", "Secret", "user-alice", KEYCLOAK), "the realm's own Secrets stay"


def test_a_first_run_without_a_proof_or_without_an_image_is_a_sentence(run):
    standing.put(run, "image:1", "17 * * * *", 3)
    run.cluster.found = []
    with pytest.raises(RunbookError, match="The Job watch-first left no proof. See: kubectl -n runbook logs"):
        standing.run_now(run)
    run.cluster.waiting = "ImagePullBackOff"
    with pytest.raises(NoImage, match="The node cannot get the image image:1: ImagePullBackOff. Run make image"):
        standing.run_now(run)


def test_what_cannot_run_has_the_exit_code_2(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(NotWritable):
        put(ARGS, run, tmp_path / "file")
    assert run.cluster.jobs == 0 and not run.cluster.find(*standing.CRON_JOB)
    assert main(["put", "--env", "no-such-environment", "--image", "image:1"]) == 2
    assert "no-such-environment" in capsys.readouterr().err
