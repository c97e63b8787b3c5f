"""A cluster in memory, with a Keycloak on loopback where a test needs one."""

from __future__ import annotations

import base64
import os
import socket

import pytest

from lib import params
from lib.crypto import certificates
from lib.istio import installation
from lib.record.events import Record
from lib.run import Run
from lib.steps import authority

IMAGES = {key: "x" for key in ("keycloak_image", "postgres_image", "httpbin_image", "sleep_image", "istio_tag")}
ENV = f"of-the-ssos-tests-{os.getpid()}"  # two test processes at once have a file each


class Cluster:
    """A cluster in memory: it keeps the objects that are applied."""

    def __init__(self):
        self.kept = {}

    def find(self, api_version, kind, name, namespace=None):
        return self.kept.get((kind, namespace, name))

    get = find

    def items(self, api_version, kind, namespace=None, labels=""):
        return [thing for (its, home, _), thing in self.kept.items() if its == kind and namespace in (None, home)]

    def apply(self, thing):
        key = thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]
        action = "created" if key not in self.kept else "unchanged" if self.kept[key] == thing else "changed"
        self.kept[key] = thing
        return action

    def apply_all(self, things):
        return ((thing, self.apply(thing)) for thing in things)

    def put(self, name, namespace, certificate, key):
        data = {authority.CERTIFICATE: certificate, authority.KEY: key}
        encoded = {part: base64.b64encode(text.encode()).decode() for part, text in data.items()}
        self.kept["Secret", namespace, name] = {"kind": "Secret", "data": encoded}

    def certificate(self, name, namespace):
        return base64.b64decode(self.kept["Secret", namespace, name]["data"][authority.CERTIFICATE]).decode()


class Served(Cluster):
    """A cluster whose Keycloak is on loopback."""

    def __init__(self, server=None):
        super().__init__()
        self.server = server
        service = installation.KEYCLOAK_GATEWAY[installation.ISTIO]
        self.kept["Service", service.namespace, service.name] = {"kind": "Service"}

    def connect(self, labels, namespace, port):
        return socket.create_connection(("127.0.0.1", self.server.server_port), 5)

    def items(self, api_version, kind, namespace=None, labels=""):
        return [thing for (its, home, _), thing in self.kept.items() if its == kind and namespace in (None, home)]

    def apply(self, thing):
        if thing["kind"] == "Secret" and "stringData" in thing:
            data = {key: base64.b64encode(value.encode()).decode() for key, value in thing["stringData"].items()}
            thing = {**thing, "data": data}
        return super().apply(thing)

    def delete(self, api_version, kind, name, namespace=None):
        return "deleted" if self.kept.pop((kind, namespace, name), None) else "absent"

    def wait_address(self, *_):
        return "198.18.0.2"


@pytest.fixture(scope="module", autouse=True)
def no_file_is_left():
    yield
    (params.ROOT / ".kube" / f"{ENV}-ca.pem").unlink(missing_ok=True)


def new_run(cluster, **changed):
    made = Run("03-keycloak", params.Params(env=ENV, cluster_source="existing", **IMAGES, **changed), Record())
    made.cluster = cluster
    if made.params.tls != "off" and not cluster.find("v1", "Secret", authority.AUTHORITY, authority.HOME):
        cluster.put(authority.AUTHORITY, authority.HOME, *certificates.generate_authority("one"))
    return made


def deployment(things):
    return next(thing for thing in things if thing["kind"] == "Deployment")


def environment(things):
    return {one["name"]: one for one in deployment(things)["spec"]["template"]["spec"]["containers"][0]["env"]}
