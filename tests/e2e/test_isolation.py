"""What pods of the sandbox reach of this machine, and what a namespace's Pod Security level refuses."""

from __future__ import annotations

import socket

import pytest

from lib import params
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.status import is_ready
from lib.polling import wait
from sandbox.host.veth import Link
from sandbox.node.node import WEBHOOK_PORT
from sandbox.paths import AWS_PORT
from tests.support.loopback import heard, served

pytestmark = pytest.mark.sandbox
NAMESPACE = "isolation"
CURL = ["curl", "--silent", "--insecure", "--max-time", "2", "--output", "/dev/null", "--write-out", "%{http_code}"]
CONNECT, TIME_OUT = 7, 28  # exit codes of curl
CLOSED = (2379, 2380, 10248, 10249, 10255, 10256, 10257, 10259)  # of etcd and Kubernetes
FOLDERS = ("/proc/sys", "/sys", "/dev")


def pod(name: str, image: str, **security) -> dict:
    """A pod that mounts the node's FOLDERS under /node, without privileges unless `security` gives them."""
    mounts = [{"name": f"v{number}", "mountPath": f"/node{path}"} for number, path in enumerate(FOLDERS)]
    volumes = [{"name": f"v{number}", "hostPath": {"path": path}} for number, path in enumerate(FOLDERS)]
    container = {"name": "c", "image": image, "command": ["sleep", "600"], "volumeMounts": mounts}
    root = {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {"containers": [{**container, "securityContext": {**root, **security}}], "volumes": volumes}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {**spec, "terminationGracePeriodSeconds": 0},
    }  # fmt: skip


def says_ok(connection: socket.socket) -> None:
    """What a program of this machine says to every request."""
    heard(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def asker(first):
    """A cluster, and what a pod of it answers to a command: (output, exit code)."""
    here = params.load("dev")
    cluster = Cluster.from_kubeconfig(here.kubeconfig)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(pod("asker", here.sleep_image))
    wait("the pod that asks", lambda: is_ready(cluster.get("v1", "Pod", "asker", NAMESPACE)), deadline=60)
    yield cluster, cluster.execute("app=asker", NAMESPACE, "c")
    cluster.delete("v1", "Namespace", NAMESPACE)


def test_a_pod_reaches_of_this_machine_the_webhook_of_the_api_server_and_the_aws_endpoint_alone(asker):
    _, run = asker
    host, node = Link(0).host, Link(0).node
    with served(says_ok, host) as place:
        assert run([*CURL, f"http://{place}/"])[0].startswith("000")
        with socket.create_connection(place.split(":")) as own:  # this machine itself gets the answer
            own.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert own.recv(12) == b"HTTP/1.1 200"
    for path in ("healthz", "authenticate", "authorize"):
        answer, code = run([*CURL, f"https://{host}:{WEBHOOK_PORT}/{path}"])
        assert answer.startswith("000") and code not in (CONNECT, TIME_OUT)  # TLS ends: there is no client certificate
    for path in ("", "_sandbox/clusters", "moto-api/data.json"):  # nothing without a signature
        assert run([*CURL, f"https://{host}:{AWS_PORT}/{path}"])[0].startswith("403")
    assert run([*CURL, f"http://{host}:{AWS_PORT}/"])[0].startswith("000")
    assert [run([*CURL, f"https://{node}:{port}/pods"])[0][:3] for port in (6443, 10250)] == ["403", "401"]
    assert {port: run([*CURL, f"http://{node}:{port}/"])[1] for port in CLOSED} == dict.fromkeys(CLOSED, CONNECT)


def test_a_pod_that_mounts_the_nodes_folders_changes_no_setting_of_this_machine(asker):
    _, run = asker
    written = "echo x > /node/proc/sys/kernel/core_pattern || echo x > /node/sys/kernel/uevent_helper"
    assert run(["sh", "-c", f"({written}) 2>&1"])[0].count("Read-only file system") == 2
    devices = set(run(["ls", "/node/dev"])[0].split())
    names = {"fd", "full", "kmsg", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"}
    assert devices == {*names, "urandom", "zero"}
    assert run(["sh", "-c", "head -c 1 /node/dev/kmsg | wc -c"])[0].strip() == "0"


def test_no_service_takes_an_address_that_is_not_its_own(asker):
    cluster, _ = asker
    spec = {"ports": [{"port": 6443}], "selector": {"app": "asker"}, "externalIPs": [Link(0).node]}
    place = {"name": "thief", "namespace": NAMESPACE}
    refusal = cluster.try_apply({"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": spec})
    assert "external IPs is denied" in refusal


def test_a_label_forbids_privileged_pods_in_a_namespace(asker):
    cluster, _ = asker
    image = params.load("dev").sleep_image
    assert cluster.try_apply(pod("root", image, privileged=True, allowPrivilegeEscalation=True)) == ""
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    for refused in (pod("root", image, privileged=True, allowPrivilegeEscalation=True), pod("folders", image)):
        assert 'violates PodSecurity "baseline:latest"' in cluster.try_apply(refused)
