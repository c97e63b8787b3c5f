"""The cluster: create-or-update through server-side apply, reading, waiting, and running a command in a pod.

Every write says which of created, changed or unchanged it was, from the object before and after it
(https://kubernetes.io/docs/reference/using-api/server-side-apply/).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.stream import portforward, stream
from kubernetes.stream.ws_client import WSClient

from lib.errors import ClusterError
from lib.kubernetes.pod_shell import PodShells
from lib.polling import wait

MANAGER = "istio-keycloak-runbook"  # the field manager that owns what the runbook applies
Execute = Callable[[list[str], str], tuple[str, int]]  # runs argv with this stdin in a pod: (output, exit code)
GONE = 120  # seconds that an object may take to be deleted


class Cluster:
    """One Kubernetes API, with objects as plain dicts."""

    def __init__(self, api: client.ApiClient):
        self.api = api
        self.core = client.CoreV1Api(api)
        self._shells = PodShells(lambda place: self._exec(*place, ["sh"]))
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path | None = None, context: str | None = None) -> Cluster:
        """Return the cluster of a kubeconfig's context; raise ClusterError where there is none."""
        try:
            # The client itself looks at KUBECONFIG but once, when it is imported
            return cls(config.new_client_from_config(str(path) if path else os.environ.get("KUBECONFIG"), context))
        except config.ConfigException as error:
            where = path or "the default kubeconfig"
            raise ClusterError(
                f"expected a context {context or ''} in {where}, got: {error}; run 01-cluster, or set kube_context."
            ) from None

    @property
    def host(self) -> str:
        """The API server's address."""
        return self.api.configuration.host

    def ready(self) -> bool:
        """Return whether the API server says it is ready."""
        return self.raw("/readyz") == "ok"

    def raw(self, path: str) -> str:
        """Return the body of a GET of one path of the API server."""
        return self._call("GET", path).decode()

    def version(self) -> str:
        """Return the API server's version, as in v1.36.3."""
        return json.loads(self.raw("/version"))["gitVersion"]

    # Objects

    def apply(self, thing: dict, manager: str = MANAGER) -> str:
        """Create or update one object (server-side apply); return created, changed or unchanged.

        Unchanged is an object whose status and bookkeeping alone may be others: the API server rewrites some of those.
        A `manager` of its own states, and takes back, single fields of an object that is the runbook's otherwise.
        One that is being deleted is waited for until it is gone: what is written to it would go with it.
        """
        api_version, kind, name = thing["apiVersion"], thing["kind"], thing["metadata"]["name"]
        namespace = thing["metadata"].get("namespace")
        before = self._alive(api_version, kind, name, namespace)
        path = self._path(api_version, kind, namespace, name)
        query = [("fieldManager", manager), ("force", "true")]
        content = {"Content-Type": "application/apply-patch+yaml"}
        after = json.loads(self._call("PATCH", path, query=query, body=thing, headers=content))
        if before is None:
            return "created"
        return "unchanged" if _stated(before) == _stated(after) else "changed"

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict:
        """Return one object; raise ClusterError where there is none."""
        found = self.find(api_version, kind, name, namespace)
        if found is None:
            place = f" in namespace {namespace}" if namespace else ""
            raise ClusterError(f"expected {kind} {name}{place}, found none; run the step that makes it.")
        return found

    def find(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict | None:
        """Return one object, or None where it, or its kind, is not there."""
        try:
            return json.loads(self._call("GET", self._path(api_version, kind, namespace, name)))
        except _NotFound:
            return None

    def items(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "") -> list[dict]:
        """Return all objects of a kind, of all namespaces or one, with these labels; none where no such kind is."""
        try:
            path = self._path(api_version, kind, namespace, None)
            return json.loads(self._call("GET", path, query=[("labelSelector", labels)] if labels else []))["items"]
        except _NotFound:
            return []

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> str:
        """Delete one object and what belongs to it; return deleted or absent."""
        try:
            path = self._path(api_version, kind, namespace, name)
            self._call("DELETE", path, query=[("propagationPolicy", "Foreground")])
        except _NotFound:
            return "absent"
        return "deleted"

    def try_apply(self, thing: dict) -> str:
        """Return what the API server says to an object without keeping it (dry run): '' is yes, else its refusal."""
        try:
            metadata = thing["metadata"]
            path = self._path(thing["apiVersion"], thing["kind"], metadata.get("namespace"), metadata["name"])
            query = [("fieldManager", MANAGER), ("force", "true"), ("dryRun", "All")]
            self._call("PATCH", path, query=query, body=thing, headers={"Content-Type": "application/apply-patch+yaml"})
        except ClusterError as error:
            return str(error)
        return ""

    def dry_run(self, thing: dict) -> dict:
        """Return what would be made of an object, admission webhooks included, without keeping it."""
        metadata = thing["metadata"]
        path = self._path(thing["apiVersion"], thing["kind"], metadata.get("namespace"), None)
        headers = {"Content-Type": "application/yaml"}  # JSON is YAML; the client would encode JSON twice
        return json.loads(self._call("POST", path, query=[("dryRun", "All")], body=thing, headers=headers))

    # Waiting

    def wait_rolled_out(self, kind: str, name: str, namespace: str, deadline: float, tell=None) -> dict:
        """Wait until a Deployment or StatefulSet has all its pods of today's template ready; return it."""
        fix = f"see kubectl -n {namespace} describe pods"

        def missing() -> str:
            return _missing(self.get("apps/v1", kind, name, namespace))

        wait(f"{kind} {namespace}/{name} ready", missing, lambda text: not text, deadline=deadline, fix=fix, tell=tell)
        return self.get("apps/v1", kind, name, namespace)

    def wait_address(self, name: str, namespace: str, deadline: float, tell=None) -> str:
        """Wait until a Service of type LoadBalancer has an address; return it: a host name on AWS, else an IP."""

        def address() -> str:
            status = self.get("v1", "Service", name, namespace)["status"]
            entry = (status.get("loadBalancer", {}).get("ingress") or [{}])[0]
            return entry.get("hostname") or entry.get("ip") or ""

        fix = "the cluster needs something that gives addresses to Services of type LoadBalancer"
        return wait(f"an address of Service {namespace}/{name}", address, deadline=deadline, fix=fix, tell=tell)

    # Pods

    def pod(self, labels: str, namespace: str) -> dict:
        """Return a running pod with these labels; raise ClusterError where there is none."""
        pods = [pod for pod in self.items("v1", "Pod", namespace, labels) if _running(pod)]
        if not pods:
            raise ClusterError(
                f"expected a running pod {labels} in namespace {namespace}, found none; run the step that makes it."
            )
        return pods[0]

    def execute(self, labels: str, namespace: str, container: str) -> Execute:
        """Return a function that runs a command (argv, stdin) in a pod and returns its output and exit code.

        Commands of `sh` share shells that stay open in the pod; each other command has an exec session to itself.
        """
        name = self.pod(labels, namespace)["metadata"]["name"]

        def run(argv: list[str], stdin: str = "") -> tuple[str, int]:
            if argv[0] == "sh":
                return self._shells.run((name, namespace, container), argv, stdin)
            connection = self._exec(name, namespace, container, argv)
            if stdin:
                connection.write_stdin(stdin)
            connection.run_forever(timeout=60)
            out = connection.read_stdout(timeout=0) or ""
            return out, connection.returncode

        return run

    def _exec(self, name: str, namespace: str, container: str, argv: list[str]) -> WSClient:
        # A client of its own: the stream takes the client's transport over while it lasts
        core = client.CoreV1Api(client.ApiClient(self.api.configuration))
        streams = {"stdin": True, "stdout": True, "stderr": True, "tty": False}
        options = {"container": container, "command": argv, **streams, "_preload_content": False}
        return stream(core.connect_get_namespaced_pod_exec, name, namespace, **options)

    def logs(self, name: str, namespace: str, container: str, since_seconds: int) -> str:
        """Return what a pod's container wrote in the last seconds."""
        path = f"{self._path('v1', 'Pod', namespace, name)}/log"
        query = [("container", container), ("sinceSeconds", str(since_seconds))]
        return self._call("GET", path, query=query, headers={"Accept": "*/*"}).decode(errors="replace")

    def connect(self, labels: str, namespace: str, port: int) -> socket.socket:
        """Return a socket to a pod's port, through the API server (port-forward)."""
        name = self.pod(labels, namespace)["metadata"]["name"]
        core = client.CoreV1Api(client.ApiClient(self.api.configuration))
        return portforward(core.connect_get_namespaced_pod_portforward, name, namespace, ports=str(port)).socket(port)

    def _alive(self, *where: str | None) -> dict | None:
        """The object, once it is not being deleted."""
        found = self.find(*where)
        if not found or not found["metadata"].get("deletionTimestamp"):
            return found

        def left() -> str:
            about = (self.find(*where) or {}).get("metadata", {})
            same = about.get("uid") == found["metadata"]["uid"]
            return f"it there, with finalizers {about.get('finalizers', [])}" if same else ""

        what = f"{where[1]} {where[2]}, which is being deleted, to be gone"
        wait(what, left, lambda said: not said, deadline=GONE, fix="see who has not done its part")
        return self.find(*where)

    # The wire

    def _path(self, api_version: str, kind: str, namespace: str | None, name: str | None) -> str:
        plural, namespaced = self._resource(api_version, kind)
        home = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{_base(api_version)}{home}/{plural}" + (f"/{name}" if name else "")

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if (api_version, kind) not in self._resources:
            for known in json.loads(self._call("GET", _base(api_version)))["resources"]:
                if "/" not in known["name"]:
                    self._resources[api_version, known["kind"]] = (known["name"], known["namespaced"])
        try:
            return self._resources[api_version, kind]
        except KeyError:
            raise _NotFound(f'no matches for kind "{kind}" in version "{api_version}"') from None

    def _call(self, method: str, path: str, query=(), body: Any = None, headers: dict | None = None) -> bytes:
        sent = {"Accept": "application/json", **(headers or {})}
        text = json.dumps(body) if body is not None else None
        asked = self.api.param_serialize(
            method, path, query_params=list(query), header_params=sent, body=text, auth_settings=["BearerToken"]
        )
        try:
            response = self.api.call_api(*asked, _request_timeout=30)
            content = response.read()
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"expected the cluster's API at {self.host}, got {error}; is the cluster up?") from None
        if response.status >= 300:
            raise _refusal(response.status, content.decode(errors="replace"), method, path)
        return content


class _NotFound(ClusterError):
    """The API server has no such object or kind."""


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _stated(thing: dict) -> dict:
    """Return an object without its status, and without what the API server keeps of who wrote it when."""
    kept = thing["metadata"].keys() - {"resourceVersion", "managedFields"}
    return {**thing, "metadata": {key: thing["metadata"][key] for key in kept}, "status": None}


def _refusal(status: int, body: str, method: str, path: str) -> ClusterError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError):
        message = body
    if status == 404:
        return _NotFound(message.strip())
    stranger = "; the cluster does not know you: check the profile, run 01-cluster, or ask for an access entry"
    hints = {401: stranger, 403: "; ask for that right"}
    return ClusterError(f"{method} {path}: expected success, got {status} {message.strip()}{hints.get(status, '')}.")


def _missing(thing: dict) -> str:
    wanted, status = thing["spec"].get("replicas", 1), thing.get("status", {})
    if status.get("observedGeneration", 0) < thing["metadata"]["generation"]:
        return "not looked at yet"
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "readyReplicas")]
    return "" if counts == [wanted] * 3 else f"{counts[2]} of {wanted} ready"


def _running(pod: dict) -> bool:
    return pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
