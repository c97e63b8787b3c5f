"""The pods that ask inside a cluster: what they are, when they go, and what an index does with their answers."""

import json
import os
import signal
import subprocess

import pytest

from lib.bundle import controls
from lib.errors import ClusterError, TimedOut
from lib.fleet import callers
from lib.kubernetes import manifests
from lib.names import CALLERS
from lib.params import ROOT
from lib.probes.targets import remote
from tests.support.little_cluster import Cluster
from tests.support.little_mesh import AUDIENCE, ISSUER, signed
from tests.support.loopback import reset, served

MANIFEST = manifests.load(ROOT / "image" / "fleet-callers.yaml")
NAMES = ["outsider-demo", "sleep-demo"]
READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
WAITS = {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}
SIDECAR = {"name": "istio-proxy"}


class Member(Cluster):
    """A cluster whose pods are ready at once. Their curl is this machine's."""

    def __init__(self, status=READY, injects=True, denies=0):
        super().__init__()
        self.status, self.injects, self.denies, self.deleted, self.address = status, injects, denies, [], ""

    def create(self, pod):
        spec = pod["spec"]
        if self.injects and pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "true":
            spec = {**spec, "initContainers": [SIDECAR]}
        metadata = {**pod["metadata"], "creationTimestamp": "2026-01-02T03:04:05Z"}
        self.apply({**pod, "metadata": metadata, "spec": spec, "status": self.status})
        return self.find("v1", "Pod", pod["metadata"]["name"], CALLERS)

    def items(self, api_version, kind, namespace=None, labels=""):
        if self.denies:
            raise ClusterError("GET: 403.", self.denies)
        wanted = dict(one.split("=") for one in labels.split(","))
        return [one for one in super().items(api_version, kind, namespace) if wanted.items() <= labels_of(one).items()]

    def delete(self, api_version, kind, name, namespace):
        self.deleted.append(name)
        del self.kept[kind, namespace, name]

    def execute(self, labels, namespace, container):
        assert len(self.items("v1", "Pod", namespace, labels)) == 1
        return self.proxy if container == "istio-proxy" else curl

    def proxy(self, argv, stdin):
        name = f"spiffe://mesh.example/ns/{CALLERS}/sa/sleep"
        certs = {"certificates": [{"cert_chain": [{"subject_alt_names": [{"uri": name}]}]}]}
        port = self.address.rpartition(":")[2]
        lines = f"outbound|{port}||web.shop.x.svc.cluster.local::10.0.0.9:1::cx_active::0\n"
        lines += f"outbound|{port}||127.0.0.1.svc.cluster.local::default_priority::max_connections::4294967295\n"
        lines += f"outbound|{port}||127.0.0.1.svc.cluster.local::{self.address}::cx_active::0\n"
        return (json.dumps(certs) if argv[-1] == "certs" else lines), 0

    def names(self):
        return sorted(name for kind, _, name in self.kept if kind == "Pod")


def labels_of(pod):
    return pod["metadata"]["labels"]


def curl(argv, stdin):
    done = subprocess.run(argv, input=stdin.encode(), capture_output=True, timeout=60, check=False)
    return done.stdout.decode(errors="replace"), done.returncode


def test_the_pods_go_when_their_probes_are_sent():
    cluster = Member()
    with callers.standing(cluster, "curl:1", "demo") as labels:
        assert cluster.names() == NAMES
        assert labels == {"stranger": "app=sleep,runbook/fleet=demo", "outsider": "app=outsider,runbook/fleet=demo"}
        for one in cluster.items("v1", "Pod", CALLERS, "runbook/fleet=demo"):
            assert one["spec"]["activeDeadlineSeconds"] == 180 and one["spec"]["restartPolicy"] == "Never"
            assert one["spec"]["automountServiceAccountToken"] is False
            assert one["spec"]["serviceAccountName"] == labels_of(one)["app"]
            assert one["spec"]["containers"][0]["image"] == "curl:1"
    assert cluster.names() == []


def test_the_pods_go_when_the_index_fails_or_is_stopped():
    cluster = Member()
    with pytest.raises(ZeroDivisionError), callers.standing(cluster, "curl:1", "demo"):
        assert 1 / 0
    assert cluster.names() == []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="SIGTERM"), callers.standing(cluster, "curl:1", "demo"):
        assert cluster.names() == NAMES
        os.kill(os.getpid(), signal.SIGTERM)
    assert cluster.names() == [] and signal.getsignal(signal.SIGTERM) is before


def test_pods_that_a_killed_index_left_go_first_and_those_of_another_fleet_stay():
    cluster = Member()
    for fleet in ("demo", "other"):
        cluster.create(callers.pod("outsider", "curl:1", fleet))
    with callers.standing(cluster, "curl:1", "demo"):
        assert cluster.deleted == ["outsider-demo"]
    assert cluster.names() == ["outsider-other"]


def test_pods_that_cannot_ask_are_a_sentence_and_go():
    with pytest.raises(ClusterError, match="403. Apply image/fleet-callers.yaml"), standing(Member(denies=403)):
        pass
    bare = Member(injects=False)
    with pytest.raises(ClusterError, match="got no sidecar. Label that namespace"), standing(bare):
        pass
    waiting = Member(WAITS)
    with (
        pytest.raises(TimedOut, match="outsider-demo: ErrImagePull: no such image"),
        callers.standing(waiting, "curl:1", "demo", start=0),
    ):
        pass
    assert bare.names() == waiting.names() == []


def standing(cluster):
    return callers.standing(cluster, "curl:1", "demo")


def test_a_workload_that_resets_everybody_is_red_for_the_callers_of_the_mesh(tmp_path):
    def end(connection):
        connection.recv(1)  # curl may call an earlier reset a refused connection
        reset(connection)

    cluster = Member()
    with served(end) as cluster.address:
        found = callers.ask(cluster, "curl:1", "demo", f"http://{cluster.address}", settings(tmp_path))
    verdicts = {one.id: one.verdict for one in found}
    assert verdicts.keys() == {*callers.PROBES}
    assert {id for id, verdict in verdicts.items() if verdict == "pass"} == {"G01a", "G01b", "G01c", "G02"}
    assert cluster.names() == []


def test_with_callers_a_bundle_has_evidence_of_the_controls_between_services():
    lines = {one.name: f"{one.covered(callers.PROBES)} of {len(one.evidence)}" for one in controls.load()}
    found = {name: text for name, text in lines.items() if not text.startswith("0")}
    assert found == {"IA-9": "2 of 6", "SC-8": "1 of 6", "SC-13": "1 of 6", "AC-4": "1 of 6"}


def test_a_probe_that_a_caller_cannot_send_is_no_result(tmp_path):
    class Broken(Member):
        def execute(self, labels, namespace, container):
            def run(argv, stdin):
                return "sh: curl: not found", 127

            return super().execute(labels, namespace, container) if container == "istio-proxy" else run

    cluster = Broken()
    cluster.address = "127.0.0.1:1"
    with pytest.raises(ClusterError, match="A caller in runbook-callers could not send A06: .*curl: not found"):
        callers.ask(cluster, "curl:1", "demo", "http://127.0.0.1:1", settings(tmp_path))
    assert cluster.names() == []


@pytest.mark.parametrize("inside", ["", "https://web.shop:443", "http://web:80", "http://web.shop:80/x", "file:///x"])
def test_a_cluster_names_no_other_address_than_a_services(tmp_path, inside):
    with pytest.raises(ClusterError, match="in the ConfigMap mesh, got .*Run make watch again"):
        callers.ask(Member(), "curl:1", "demo", inside, settings(tmp_path))


def settings(tmp_path):
    (tmp_path / "token").write_text(signed())
    given = {"url": "https://mesh.example/headers", "issuer": ISSUER, "audience": AUDIENCE, "profile": "figure-1"}
    return remote.settings({**given, "token_command": f"cat {tmp_path}/token"})


def test_a_workload_without_pods_is_a_sentence():
    with pytest.raises(ClusterError, match="knows no pod of web.shop:80. Is the workload up?"):
        callers.endpoint(lambda *_: ("outbound|80||web.shopping.svc::10.0.0.1:80::x", 0), "web.shop:80")


def test_the_namespaces_rules_fit_the_pods():
    kinds = {one["kind"]: one for one in MANIFEST}
    homes = {one["metadata"].get("namespace") for one in MANIFEST if one["kind"] in ("Role", "RoleBinding")}
    assert homes == {CALLERS} and not {"ClusterRole", "ClusterRoleBinding"} & kinds.keys()
    accounts = {one["metadata"]["name"] for one in MANIFEST if one["kind"] == "ServiceAccount"}
    assert accounts == {*callers.PODS.values()}
    first = kinds["ValidatingAdmissionPolicy"]["spec"]["validations"][0]["expression"]
    assert first.endswith(f"<= {callers.LIFETIME}")
