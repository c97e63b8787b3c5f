"""A waypoint on the sandbox, between gateways and httpbin, with the policies that `python -m lib.ambient` writes.

An istiod of a revision of its own has ambient on, and knows one namespace only. The sandbox's Envoy is upstream's.
Four parts of a waypoint's configuration are Istio's own. A bootstrap extension and two filters look up a peer's
workload for telemetry: they are left out. The kind of string that carries the caller's principal becomes upstream's.
The sandbox has no ztunnel: httpbin's sidecar takes HBONE from the waypoint in its place, and enforces the guard.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from lib.ambient.effects import CLASS, USE, WAYPOINT
from lib.http_client import Answer, over_exec, over_http
from lib.istio import access_log, gateway_api, istioctl
from lib.istio.policies import API, GATEWAY_NAME, REQUESTS, RULES
from lib.kubernetes.manifests import as_yaml
from lib.names import GATEWAY_GROUP, ISTIO_SYSTEM
from lib.polling import wait
from lib.run import Run
from lib.steps import authority, endpoints, istiod
from tests.support.hands import shell
from tests.support.runbook import python

SPACE = REVISION = "ambient"  # the namespace, and the revision of its istiod
APP, HOST = "httpbin", "httpbin.example"
FRONT, OTHER, NOBODY = "front", "other", "nobody"  # two gateways with service accounts of their own, and no gateway
TEMPLATE = "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"  # in the proxy's image
FOLDER, BOOTSTRAP = "/etc/istio/upstream", "bootstrap"
PODS = {name: f"{GATEWAY_NAME}={name}" for name in (FRONT, WAYPOINT)} | {APP: f"app={APP}"}  # labels, by name
PATIENCE = 240  # seconds; a quiet machine needs some 15 at most

# Source of the filters: istio/istio 1.31, pilot/pkg/xds/filters/filters.go
MANAGER = "envoy.filters.network.http_connection_manager"
LOOKUPS = ("waypoint_downstream_peer_metadata", "waypoint_upstream_peer_metadata")
STATES = {
    "envoy.filters.listener.original_dst.local_ip": "%REQ(:AUTHORITY)%",
    "envoy.filters.listener.original_dst.remote_ip": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "io.istio.connect_authority": "%REQ(:AUTHORITY)%",
    "io.istio.peer_principal": "%DOWNSTREAM_PEER_URI_SAN%",
    "io.istio.local_principal": "%DOWNSTREAM_LOCAL_URI_SAN%",
}


class Ambient:
    """The namespace with two gateways and httpbin, and its istiod."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.cluster, self.file = run, run.cluster, folder / "mesh.yaml"

    def build(self) -> None:
        """Make everything but what the command writes."""
        labels = {"istio.io/rev": REVISION, "mesh": REVISION}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}
        self._apply([space, *self._istiod()])
        self.cluster.wait_rolled_out("Deployment", f"istiod-{REVISION}", ISTIO_SYSTEM, PATIENCE)
        gateway = {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
        backend = {"backendRefs": [{"name": APP, "port": 8000}]}
        route = {"parentRefs": [{"name": FRONT}, {"name": OTHER}], "hostnames": [HOST], "rules": [backend]}
        gateways = [_of(gateway_api.API, "Gateway", name, spec=gateway) for name in (FRONT, OTHER)]
        self._apply([*gateways, _of(gateway_api.API, "HTTPRoute", APP, spec=route), *self._upstream(), *self._app()])

    def close(self) -> None:
        """Delete the namespace, its istiod, and what that made outside the namespace."""
        gone = [("v1", "Namespace", SPACE)]
        gone += [
            (one["apiVersion"], one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
            for one in self._istiod()
        ]
        for one in gone:
            self.cluster.delete(*one)
        left = lambda: self.cluster.find("apps/v1", "Deployment", f"istiod-{REVISION}", ISTIO_SYSTEM)  # noqa: E731
        wait(f"the end of istiod-{REVISION}", left, lambda found: not found, deadline=PATIENCE)
        self.cluster.delete(gateway_api.API, "GatewayClass", CLASS)
        for lease in self.cluster.items("coordination.k8s.io/v1", "Lease", ISTIO_SYSTEM):
            if (lease["spec"].get("holderIdentity") or "").startswith(f"istiod-{REVISION}"):
                self.cluster.delete("coordination.k8s.io/v1", "Lease", lease["metadata"]["name"], ISTIO_SYSTEM)

    def written(self, gateway: str, service: str) -> tuple[list[dict], str]:
        """Return the objects that the command writes for Figure 1, and its comments as one line.

        Args:
            gateway: The gateway whose principal Figure 1 has.
            service: The gateway whose principal is in place of the service sleep's.
        """
        names = {"name": APP, "namespace": SPACE, "issuer": endpoints.issuer(self.run)}
        names |= {"gateway": self._principal(gateway), "sleep": self._principal(service)}
        policies = [
            one
            for file in ("request-authentication.yaml", "figure-1.yaml")
            for one in self.run.load(file, **names, jwks_uri=endpoints.jwks_uri(self.run))
        ]
        self.file.write_text(as_yaml([*self._app(), *policies]))
        text = python("-m", "lib.ambient", str(self.file)).stdout
        comments = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        return [one for one in yaml.safe_load_all(text) if one], " ".join(comments)

    def apply_waypoint(self, made: list[dict]) -> None:
        """Apply the waypoint among the written objects, with the bootstrap for upstream's Envoy; wait for it."""
        (waypoint,) = [one for one in made if one["kind"] == "Gateway"]
        overlay = {"parametersRef": {"group": "", "kind": "ConfigMap", "name": WAYPOINT}}
        self._apply([{**waypoint, "spec": {**waypoint["spec"], "infrastructure": overlay}}])
        self._rolled_out(WAYPOINT)

    def apply_policies(self, made: list[dict]) -> None:
        """Apply the policies with targetRefs among the written objects."""
        self._apply([one for one in made if one["kind"] in (REQUESTS, RULES) and "targetRefs" in one["spec"]])

    def apply_guards(self, made: list[dict]) -> None:
        """Apply the guards among the written objects."""
        self._apply([one for one in made if one["kind"] == RULES and "selector" in one["spec"]])

    def use_waypoint(self) -> None:
        """Label the namespace, and wait until istiod has bound httpbin's Service and its policy to the waypoint."""
        shell(f"kubectl label namespace {SPACE} {USE}={WAYPOINT}")
        self._wait_condition("istio.io/WaypointBound", "v1", "Service", APP)
        self._wait_condition("WaypointAccepted", API, RULES, f"{APP}-waypoint")

    def enter_by_waypoint(self, comments: str) -> None:
        """Run the command in the comments that lets gateways use the waypoint."""
        shell(re.search(r"kubectl label service \S.*?=true", comments)[0])

    def ask(self, gateway: str, token: str | None = None, agent: str = "") -> Answer:
        """Return the answer to a user's request through a gateway."""
        name = f"{gateway}-istio"
        address = self.run.recently.get(name, lambda: self.cluster.wait_address(name, SPACE, PATIENCE))
        return over_http(f"http://{address}/headers", host=HOST, token=token, agent=agent)

    def ask_by_sidecar(self) -> int:
        """Return the status of a request of the service sleep, whose sidecar knows nothing of waypoints."""
        execute = self.cluster.execute("app=sleep", self.run.params.namespace, "curl")
        return over_exec(execute, f"http://{APP}.{SPACE}:8000/headers").status

    def upstreams(self, label: str) -> dict[str, str]:
        """Return where each proxy sent a request with this User-Agent, by the names of PODS."""
        logs = {name: access_log.fetch(self.cluster, labels, SPACE, 60) for name, labels in PODS.items()}
        return {name: hops[label].upstream for name, hops in logs.items() if label in hops}

    def address(self, name: str) -> str:
        """Return the address of a pod of PODS."""
        return self.cluster.pod(PODS[name], SPACE)["status"]["podIP"]

    def _istiod(self) -> list[dict]:
        """Return the istiod with ambient. Without multi-network no listener needs Istio's own kind of string."""
        params = self.run.params
        ambient = ("PILOT_ENABLE_AMBIENT=true", "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT=false")
        settings = [*params.istio_settings, *istiod.NO_INGRESS, f"revision={REVISION}"]
        settings += [f"values.pilot.env.{one}" for one in ambient]
        settings += [f"meshConfig.discoverySelectors[0].matchLabels.mesh={REVISION}"]
        trusted = authority.trusted_certificates(self.run)
        made = istioctl.manifest(params.istioctl, params.istio_hub, params.istio_tag, settings, trusted)
        return [one for one in made if REVISION in one["metadata"]["name"]]

    def _app(self) -> list[dict]:
        """Return httpbin, whose sidecar takes HBONE without the bootstrap extension."""
        made = self.run.load("httpbin.yaml", name=APP, namespace=SPACE)
        proxy = {"proxyMetadata": {"ISTIO_META_ENABLE_HBONE": "true", "PEER_METADATA_DISCOVERY": "false"}}
        (pods,) = [one["spec"]["template"] for one in made if one["kind"] == "Deployment"]
        pods["metadata"]["annotations"] = {"proxy.istio.io/config": json.dumps(proxy)}
        return made

    def _upstream(self) -> list[dict]:
        """Return what makes upstream's Envoy a waypoint: a bootstrap, how its pod gets it, and changed filters."""
        execute = self.cluster.execute(*endpoints.ingress_selector(self.run), access_log.PROXY)
        template, _ = execute(["cat", TEMPLATE])
        assert ".metadata_discovery" in template
        container = {
            "name": access_log.PROXY,
            "env": [{"name": "ISTIO_BOOTSTRAP", "value": f"{FOLDER}/{BOOTSTRAP}"}],
            "volumeMounts": [{"name": BOOTSTRAP, "mountPath": FOLDER}],
        }
        pods = {"containers": [container], "volumes": [{"name": BOOTSTRAP, "configMap": {"name": BOOTSTRAP}}]}
        overlay = json.dumps({"spec": {"template": {"spec": pods}}})
        target = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": WAYPOINT}
        places = {WAYPOINT: {"targetRefs": [target]}, APP: {"workloadSelector": {"labels": {"app": APP}}}}
        return [
            _of("v1", "ConfigMap", BOOTSTRAP, data={BOOTSTRAP: template.replace(".metadata_discovery", "false")}),
            _of("v1", "ConfigMap", WAYPOINT, data={"deployment": overlay}),
            *(
                _of("networking.istio.io/v1alpha3", "EnvoyFilter", name, spec={**place, "configPatches": _patches()})
                for name, place in places.items()
            ),
        ]

    def _principal(self, gateway: str) -> str:
        return endpoints.principal(self.run, SPACE, f"{gateway}-istio")

    def _rolled_out(self, name: str) -> None:
        made = lambda: self.cluster.find("apps/v1", "Deployment", name, SPACE)  # noqa: E731
        wait(f"a Deployment {name}", made, bool, deadline=PATIENCE)
        self.cluster.wait_rolled_out("Deployment", name, SPACE, PATIENCE)

    def _wait_condition(self, name: str, *place: str) -> None:
        """Wait until a condition of an object is true."""

        def conditions() -> dict[str, str]:
            status = self.cluster.get(*place, SPACE).get("status", {})
            return {one["type"]: one["status"] for one in status.get("conditions", [])}

        wait(f"{name} of {place[1]}", conditions, lambda found: found.get(name) == "True", deadline=PATIENCE)

    def _apply(self, objects: list[dict]) -> None:
        list(self.cluster.apply_all(objects))


def _of(api: str, kind: str, name: str, **parts: object) -> dict:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": SPACE}, **parts}


def _patches() -> list[dict]:
    """Return the changes of the filters that only Istio's Envoy has."""
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [_state(*one) for one in STATES.items()],
    }
    replaced = {"value": {"name": "connect_authority", "typed_config": config}}
    changes = [(name, {"operation": "REMOVE"}) for name in LOOKUPS]
    changes.append(("connect_authority", {"operation": "REPLACE", **replaced}))
    return [
        {
            "applyTo": "HTTP_FILTER",
            "match": {
                "context": "SIDECAR_INBOUND",
                "listener": {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": name}}}},
            },
            "patch": patch,
        }
        for name, patch in changes
    ]


def _state(key: str, text: str) -> dict:
    """Return a value that goes along with the connection; those of Istio's keys are strings."""
    kind = {"factory_key": "envoy.hashable_string"} if key.startswith("io.istio.") else {}
    value = {"text_format_source": {"inline_string": text}}
    return {"object_key": key, **kind, "format_string": value, "shared_with_upstream": "ONCE"}
