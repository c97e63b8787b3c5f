"""A mesh whose state and answers are recorded: a cluster's objects, one answer, and the proxies' log lines of it."""

from __future__ import annotations

import copy
import json

from lib.errors import RunbookError
from lib.http_client import REASON, Answer

START = "1970-01-01T00:00:00Z"
ROOT = "istio-system"


def pod(name, namespace, labels, ip, sidecar=True, account="", annotations=None, gateway=False):
    """A ready pod, with its proxy as an init container; a gateway's proxy is its only container."""
    proxy = {"name": "istio-proxy"}
    application = {"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}
    spec = {"serviceAccountName": account or name, "containers": [proxy if gateway else application]}
    if sidecar and not gateway:
        spec["initContainers"] = [proxy]
    metadata = {"name": f"{name}-1", "namespace": namespace, "labels": labels, "annotations": annotations or {}}
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def service(name, namespace, selector, port, target, balanced=""):
    """A Service; `balanced` is the address or name of its load balancer."""
    spec = {"selector": selector, "ports": [{"name": "http", "port": port, "targetPort": target}]}
    spec |= {"type": "LoadBalancer" if balanced else "ClusterIP", "clusterIPs": [f"10.96.0.{len(name)}"]}
    key = "ip" if balanced.replace(".", "").isdigit() else "hostname"
    status = {"loadBalancer": {"ingress": [{key: balanced}]}} if balanced else {}
    metadata = {"name": name, "namespace": namespace}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def istiod(config, revision=""):
    """Istio's control plane: its mesh configuration and its Deployment."""
    suffix = f"-{revision}" if revision else ""
    labels = {"app": "istiod", "istio.io/rev": revision or "default"}
    template = {"spec": {"containers": [{"name": "discovery", "env": config.pop("env", [])}]}}
    return [
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"istio{suffix}", "namespace": ROOT},
         "data": {"mesh": json.dumps(config)}},
        {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"template": template},
         "status": {"availableReplicas": 1},
         "metadata": {"name": f"istiod{suffix}", "namespace": ROOT, "labels": labels}},
        pod("istiod", ROOT, {"app": "istiod"}, "10.0.0.2", sidecar=False),
    ]  # fmt: skip


class Mesh:
    """A cluster that only answers: what a real one would, from its recorded objects."""

    def __init__(self, objects, answer, hops=(), istiod_log=(), dump=None, json_log=False, readable=True):
        self.objects = [self._whole(one) for one in objects]
        self.answer, self.hops, self.istiod_log, self.dump = answer, dict(hops), list(istiod_log), dump
        self.json_log, self.readable, self.label, self.asked = json_log, readable, "", []

    @staticmethod
    def _whole(one):
        made = copy.deepcopy(one)
        made["metadata"].setdefault("creationTimestamp", START)
        if made["kind"] == "Pod":
            made.setdefault("status", {})
        return made

    def items(self, api_version, kind, namespace=None, labels=""):
        """The objects of a kind, with these labels."""
        wanted = dict(one.split("=", 1) for one in labels.split(",")) if labels else {}
        group = api_version.rpartition("/")[0]
        return [one for one in self.objects
                if one["kind"] == kind and str(one.get("apiVersion", api_version)).rpartition("/")[0] == group
                and namespace in (None, one["metadata"].get("namespace"))
                and wanted.items() <= (one["metadata"].get("labels") or {}).items()]  # fmt: skip

    def find(self, api_version, kind, name, namespace=None):
        """One object, or None."""
        return next((one for one in self.items(api_version, kind, namespace) if one["metadata"]["name"] == name), None)

    def logs(self, name, namespace, container, seconds):
        """The log of a pod: istiod's lines, or the line that its proxy wrote of the request."""
        if container == "discovery":
            return "\n".join(self.istiod_log)
        hop = self.hops.get(name.removesuffix("-1"))
        return "" if hop is None or not self.readable else self._line(hop)

    def _line(self, hop):
        code, flags, details, upstream = (*hop, "", "", "")[:4]
        client = hop[4] if len(hop) > 4 else "10.0.0.9:40000"
        if self.json_log:
            return json.dumps({"response_code": code, "response_flags": flags or None, "user_agent": self.label,
                               "response_code_details": details, "upstream_host": upstream or None,
                               "request_id": "r", "downstream_remote_address": client})  # fmt: skip
        start = (
            f'[2026-01-01T00:00:00.000Z] "GET /headers HTTP/1.1" {code} {flags or "-"} {details or "-"} - "-" 0 0 1 -'
        )
        end = f"cluster 10.0.0.8:1 10.0.0.8:8080 {client} - -"
        return f'{start} "-" "{self.label}" "r" "web" "{upstream or "-"}" {end}'

    def execute(self, selector, namespace, container):
        """A command in a proxy: its configuration, if the case has one."""
        if self.dump is None:
            raise RunbookError("The pod does not answer.")
        return lambda argv, stdin: (json.dumps(self.dump), 0)

    def connect(self, *_):
        """No pod can be reached."""
        raise OSError("refused")

    def send(self, url, **options):
        """The recorded answer; the request's label is then in the log."""
        self.label = options["agent"]
        self.asked.append((url, options))
        status, body = self.answer.get("status", 0), self.answer.get("body", "")
        reason = self.answer.get("reason", body[:REASON] if status >= 400 else "")
        headers = {"server": "istio-envoy"} if status else {}
        return Answer(status, reason, 1.0, headers | self.answer.get("headers", {}), body)
