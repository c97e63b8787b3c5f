"""The cluster: create or update objects by server-side apply, read them, wait for them, run a command in a pod.

Each write returns "created", "changed" or "unchanged": it compares the object before the write with the one after.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.stream import ws_client

from lib.ensured import Action
from lib.errors import ClusterError
from lib.kubernetes import applied, manifests, service_account
from lib.kubernetes.pod_shell import PodShells
from lib.kubernetes.rest import NotFound, Object, Query, Rest
from lib.kubernetes.status import is_running, is_terminating, missing_pods, public_address
from lib.polling import wait

MANAGER = "istio-keycloak-runbook"  # the field manager of the fields that the runbook applies
Execute = Callable[[list[str], str], tuple[str, int]]  # runs argv with this stdin in a pod: (output, exit code)
GONE = 120  # seconds that the deletion of an object may take
APPLY = {"Content-Type": "application/apply-patch+yaml"}  # makes a PATCH a server-side apply
Tell = Callable[[float, Any], None]  # gets the seconds so far and the last value of a wait


class Cluster:
    """One Kubernetes API, with objects as plain dicts."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api
        self._shells = PodShells(lambda place: self._exec(*place, ["sh"]))
        self._rest = Rest(api)

    @classmethod
    def from_kubeconfig(cls, path: Path | None = None, context: str | None = None) -> Cluster:
        """Return the cluster of a kubeconfig's context; raise ClusterError if there is no such context.

        Args:
            path: The kubeconfig; by default the file that KUBECONFIG names, else ~/.kube/config.
            context: The context's name; by default the kubeconfig's current context.
        """
        try:
            # The client library reads KUBECONFIG only once, when Python imports it
            return cls(config.new_client_from_config(str(path) if path else os.environ.get("KUBECONFIG"), context))
        except config.ConfigException as error:
            which, where = f"context {context}" if context else "current context", path or "the default kubeconfig"
            reason = str(error).rstrip(".")
            raise ClusterError(f"No {which} in {where}: {reason}. Run 01-cluster, or set kube_context.") from None

    @classmethod
    def existing(cls, context: str | None = None) -> Cluster:
        """Return the cluster of a kubeconfig's context; in a pod without a kubeconfig, the cluster that the pod is in.

        The client reads the service account's token again each minute, since the kubelet renews it.

        Raises:
            ClusterError: the kubeconfig has no such context, or the pod has no token.
        """
        if context or not service_account.is_used():
            return cls.from_kubeconfig(context=context)
        settings = client.Configuration()
        try:
            config.load_incluster_config(settings)
        except config.ConfigException as error:
            reason = str(error).rstrip(".")
            raise ClusterError(
                f"No service account in this pod: {reason}. Set automountServiceAccountToken: true in the pod."
            ) from None
        return cls(client.ApiClient(settings))

    @classmethod
    def of_token(cls, endpoint: str, authority_b64: str, token: Callable[[], str]) -> Cluster:
        """Return the cluster at an address, whose certificate the authority (PEM in base64) signed.

        Each request asks `token` for its bearer token.
        """
        place = {"server": endpoint, "certificate-authority-data": authority_b64}
        parts = {"cluster": place, "user": {"token": token()}, "context": {"cluster": "it", "user": "it"}}
        settings = {f"{part}s": [{"name": "it", part: value}] for part, value in parts.items()}
        made = cls(config.new_client_from_config_dict({**settings, "current-context": "it"}))
        made.api.configuration.refresh_api_key_hook = lambda it: it.api_key.update(BearerToken=f"Bearer {token()}")
        return made

    @property
    def host(self) -> str:
        """The API server's address."""
        return self.api.configuration.host

    def ready(self) -> bool:
        """Return whether the API server is ready."""
        return self.raw("/readyz") == "ok"

    def raw(self, path: str) -> str:
        """Return the body of a GET of one path of the API server, whatever its type is."""
        return self._rest.call("GET", path, headers={"Accept": "*/*"}).decode()

    def version(self) -> str:
        """Return the API server's version, as in v1.36.3."""
        return json.loads(self.raw("/version"))["gitVersion"]

    # Objects

    def apply_all(self, objects: Iterable[Object]) -> Iterator[tuple[Object, Action]]:
        """Apply objects in the order of their dependencies; yield each with its action (see `apply`).

        One list reads the objects of a kind and namespace. New definitions are waited for until their kinds are served.
        """
        held: dict[tuple, dict[str, Object]] = {}
        for kind, group in groupby(manifests.ordered(list(objects)), lambda one: one["kind"]):
            changed: list[Object] = []
            for obj in group:
                api_version, _, name, namespace = _key(obj)
                where = api_version, kind, namespace
                if where not in held:
                    held[where] = {found["metadata"]["name"]: found for found in self.items(*where)}
                action = self._apply(obj, MANAGER, held[where].get(name))
                changed += [obj] if action != "unchanged" else []
                yield obj, action
            if kind == manifests.DEFINITION:
                self._rest.wait_for_kinds(changed)

    def apply(self, obj: Object, manager: str = MANAGER) -> Action:
        """Create or update one object by server-side apply.

        An object that is being deleted must be gone first: the write would go with it. An object whose status,
        resourceVersion or managedFields alone differ is unchanged: the API server rewrites those. A `manager` other
        than MANAGER sets single fields of the runbook's object, and removes them by a later apply without them.
        """
        return self._apply(obj, manager, self.find(*_key(obj)))

    def _apply(self, obj: Object, manager: str, found: Object | None) -> Action:
        """Apply an object; `found` is what the API server returned for it a moment ago."""
        before = self._find_after_deletion(found, *_key(obj)) if found else None
        if before and applied.in_force(before, obj, manager):
            return "unchanged"
        after = json.loads(self._patch(obj, manager))
        if before is None:
            return "created"
        return "unchanged" if _desired(before) == _desired(after) else "changed"

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict:
        """Return one object; raise ClusterError if it does not exist."""
        obj = self.find(api_version, kind, name, namespace)
        if obj is None:
            place = f" in namespace {namespace}" if namespace else ""
            raise ClusterError(f"No {kind} {name}{place}. Run the step that creates it.", status=404)
        return obj

    def find(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict | None:
        """Return one object, or None if the cluster does not have it or its kind."""
        try:
            return json.loads(self._rest.call("GET", self._rest.path(api_version, kind, namespace, name)))
        except NotFound:
            return None

    def items(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "") -> list[dict]:
        """Return the objects of a kind with these labels, in one namespace or all; [] if the kind does not exist."""
        try:
            path = self._rest.path(api_version, kind, namespace, None)
            found = self._rest.call("GET", path, query=[("labelSelector", labels)] if labels else [])
        except NotFound:
            return []
        return [{"apiVersion": api_version, "kind": kind, **obj} for obj in json.loads(found)["items"]]

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> str:
        """Delete one object and its dependents; return "deleted" or "absent"."""
        try:
            path = self._rest.path(api_version, kind, namespace, name)
            self._rest.call("DELETE", path, query=[("propagationPolicy", "Foreground")])
        except NotFound:
            return "absent"
        return "deleted"

    def try_apply(self, obj: Object) -> str:
        """Apply an object as a dry run; return the API server's refusal, or "" if it would accept the object."""
        try:
            self._patch(obj, MANAGER, [("dryRun", "All")])
        except ClusterError as error:
            return str(error)
        return ""

    def dry_run(self, obj: Object) -> Object:
        """Return the object that the API server would create, admission webhooks included; it creates nothing."""
        return self.create(obj, [("dryRun", "All")])

    def create(self, obj: Object, query: Query | None = None) -> Object:
        """Create an object, which may have a `generateName` in place of a name; return the created object."""
        path = self._rest.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), None)
        headers = {"Content-Type": "application/yaml"}  # JSON is YAML; the client would encode JSON twice
        return json.loads(self._rest.call("POST", path, query=query, body=obj, headers=headers))

    # Waiting

    def wait_rolled_out(
        self, kind: str, name: str, namespace: str, deadline: float, tell: Tell | None = None
    ) -> Object:
        """Wait until a workload's pods have its current template and are ready; return the workload as read then."""
        fix = f"see kubectl -n {namespace} describe pods"
        found: list[Object] = []

        def missing() -> str:
            found[:] = [self.get("apps/v1", kind, name, namespace)]
            return missing_pods(found[0])

        wait(f"{kind} {namespace}/{name} ready", missing, lambda text: not text, deadline=deadline, fix=fix, tell=tell)
        return found[0]

    def wait_address(self, name: str, namespace: str, deadline: float, tell: Tell | None = None) -> str:
        """Wait until a Service of type LoadBalancer has an address; return the host name (AWS) or IP."""
        address = lambda: public_address(self.get("v1", "Service", name, namespace))  # noqa: E731
        fix = "the cluster needs a controller that gives addresses to Services of type LoadBalancer"
        return wait(f"an address of Service {namespace}/{name}", address, deadline=deadline, fix=fix, tell=tell)

    # Pods

    def pod(self, labels: str, namespace: str) -> dict:
        """Return a running pod with these labels; raise ClusterError if there is none."""
        pods = self.items("v1", "Pod", namespace, labels)
        pods = [pod for pod in pods if is_running(pod) and not is_terminating(pod)]
        if not pods:
            raise ClusterError(f"No running pod {labels} in namespace {namespace}. Run the step that creates it.")
        return pods[0]

    def execute(self, labels: str, namespace: str, container: str) -> Execute:
        """Return a function that runs a command in a running pod with these labels, for at most 60 seconds.

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
            return connection.read_stdout(timeout=0) or "", connection.returncode

        return run

    def _exec(self, name: str, namespace: str, container: str, argv: list[str]) -> ws_client.WSClient:
        streams = [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        query = [("container", container), *(("command", word) for word in argv), *streams]
        url, headers = self._rest.websocket(f"{self._rest.path('v1', 'Pod', namespace, name)}/exec", query)
        return ws_client.websocket_call(self.api.configuration, "GET", url, headers=headers, _preload_content=False)

    def logs(self, name: str, namespace: str, container: str, since_seconds: int) -> str:
        """Return the log of a pod's container of the last `since_seconds`."""
        path = f"{self._rest.path('v1', 'Pod', namespace, name)}/log"
        query = [("container", container), ("sinceSeconds", str(since_seconds))]
        return self._rest.call("GET", path, query=query, headers={"Accept": "*/*"}).decode(errors="replace")

    def connect(self, labels: str, namespace: str, port: int) -> socket.socket:
        """Return a socket to a port of a running pod with these labels, through the API server (port-forward)."""
        name = self.pod(labels, namespace)["metadata"]["name"]
        path = f"{self._rest.path('v1', 'Pod', namespace, name)}/portforward"
        url, headers = self._rest.websocket(path, [("ports", str(port))])
        return ws_client.portforward_call(self.api.configuration, "GET", url, headers=headers).socket(port)

    def _find_after_deletion(self, found: Object, *key: Any) -> Object | None:
        """Return the object `found`; if it is being deleted, wait until it is gone, and return its successor."""
        if not is_terminating(found):
            return found

        def remains() -> str:
            metadata = (self.find(*key) or {}).get("metadata", {})
            same = metadata.get("uid") == found["metadata"]["uid"]
            return f"still there, with finalizers {metadata.get('finalizers', [])}" if same else ""

        what = f"{key[1]} {key[2]}, which is being deleted, to be gone"
        wait(what, remains, lambda text: not text, deadline=GONE, fix="find the controller that keeps its finalizer")
        return self.find(*key)

    def _patch(self, obj: Object, manager: str, query: Query | None = None) -> bytes:
        api_version, kind, name, namespace = _key(obj)
        query = [("fieldManager", manager), ("force", "true"), *(query or [])]
        return self._rest.call("PATCH", self._rest.path(api_version, kind, namespace, name), query, obj, APPLY)


def _key(obj: Object) -> tuple[str, str, str, str | None]:
    """Return an object's apiVersion, kind, name and namespace."""
    metadata = obj["metadata"]
    return obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace")


def _desired(obj: Object) -> Object:
    """Return an object without its status, resourceVersion and managedFields."""
    kept = obj["metadata"].keys() - {"resourceVersion", "managedFields"}
    return {**obj, "metadata": {key: obj["metadata"][key] for key in kept}, "status": None}
