"""Steps 05, 06 and 12: pods with and without a sidecar."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import yaml

from lib.istio import installation, istioctl, proxy
from lib.run import Run
from lib.steps import authority


def caller(run: Run, name: str) -> list[dict]:
    """Return the objects of a pod that can send requests: in the mesh, with a service account of its own."""
    return run.load("caller.yaml", name=name, home=run.params.namespace, inject="true")


def outsider(run: Run) -> list[dict]:
    """Return the objects of a pod without a sidecar, in istiod's namespace.

    It reaches what istiod reaches, and its curl trusts the CA certificates that istiod trusts.
    """
    objects = run.load("caller.yaml", name="outsider", home=installation.ROOT_NAMESPACE, inject="false")
    if root := authority.trusted_certificates(run):
        pod = objects[1]["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": authority.CA_VOLUME, "configMap": {"name": installation.JWKS_CA}}]
        pod["containers"][0]["volumeMounts"] = [{"name": "ca", "mountPath": "/ca", "readOnly": True}]
        pod["containers"][0]["env"] = [{"name": "CURL_CA_BUNDLE", "value": f"/ca/{installation.JWKS_CA_KEY}"}]
    return authority.restart_on_ca_change(objects, root)


def would_inject(run: Run) -> bool:
    """Return whether a pod created in the namespace now would get a sidecar (a dry run: nothing is kept)."""
    pod = run.load("caller.yaml", name="dry-run", home=run.params.namespace, inject="true")[1]["spec"]["template"]
    metadata = {"name": "dry-run", "namespace": run.params.namespace, "labels": pod["metadata"]["labels"]}
    spec = {**pod["spec"], "serviceAccountName": "default"}
    return proxy.has_proxy(run.cluster.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))


def has_sidecar(run: Run, app: str, namespace: str = "") -> bool:
    """Return whether the running pod of an app has a sidecar; `namespace` defaults to that of the params."""
    return proxy.has_proxy(run.cluster.pod(f"app={app}", namespace or run.params.namespace))


def kube_inject(run: Run, objects: list[dict]) -> pd.DataFrame:
    """Return what the article's `istioctl kube-inject` adds to the Deployment among `objects`; nothing is applied."""
    plain = next(one for one in objects if one["kind"] == "Deployment")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plain.yaml"
        file.write_text(yaml.safe_dump(plain))
        text = istioctl.call(run.params.istioctl, "kube-inject", "-f", str(file), *_kubeconfig_options(run))
    injected = next(one for one in yaml.safe_load_all(text) if one)
    before, after = plain["spec"]["template"]["spec"], injected["spec"]["template"]["spec"]
    parts = ("initContainers", "containers", "volumes")
    rows = [(part, _names(before.get(part)), _names(after.get(part))) for part in parts]
    return pd.DataFrame(rows, columns=["part", "in the manifest", "after kube-inject"])


def check_injection(run: Run) -> None:
    """Record whether a pod created in the namespace now would get a sidecar."""
    run.check_until("a pod made in foo now would get a sidecar", True, lambda: would_inject(run))


def check(run: Run, apps: list[str]) -> None:
    """Record whether each app is ready, and whether its pod has a sidecar."""
    for app in apps:
        deployment = run.cluster.wait_rolled_out("Deployment", app, run.params.namespace, run.params.deadline)
        ready = deployment["status"].get("readyReplicas", 0)
        run.check(f"{app} ready", deployment["spec"]["replicas"], ready)
        run.check(f"{app} has its sidecar", True, has_sidecar(run, app))


def _kubeconfig_options(run: Run) -> list[str]:
    if run.params.cluster_source == "eks":
        return ["--kubeconfig", str(run.params.kubeconfig)]
    return ["--context", run.params.kube_context] if run.params.kube_context else []


def _names(parts: list[dict] | None) -> str:
    return ", ".join(part["name"] for part in parts or []) or "–"
