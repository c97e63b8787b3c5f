"""The gateways' scheme, port and certificates; without TLS if the params say `tls: off`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lib.http_client import over_http
from lib.istio import gateway_api, installation
from lib.kubernetes import service_annotations
from lib.names import ISTIO_INGRESS
from lib.run import Run
from lib.steps import authority

GATEWAY_TLS = "gateway-tls"  # Secret, in each gateway's namespace
REDIRECT = "to-https"  # HTTPRoute


def scheme(run: Run) -> str:
    """Return the scheme of Keycloak's and the gateways' URLs: "https", or "http" with `tls: off`."""
    authority.trust(run)
    return "http" if run.params.tls == authority.OFF else "https"


def port(run: Run) -> int:
    """Return the port of Keycloak's and the gateways' load balancers."""
    return 80 if run.params.tls == authority.OFF else 443


def ssl_required(run: Run) -> str:
    """Return a realm's `sslRequired`: "all" refuses plain HTTP from every address, "none" is for `tls: off`."""
    return "none" if run.params.tls == authority.OFF else "all"


def gateway_certificate(run: Run, namespace: str, hosts: list[str]) -> dict[str, str]:
    """Create the certificate of the gateway in a namespace for these hosts; return its public fields.

    With `tls: given` the Secret must exist already, otherwise RunbookError. With `tls: off` the result is empty.
    """
    if run.params.tls == authority.OFF:
        return {}
    ensure = authority.check_given if run.params.tls == authority.GIVEN else authority.ensure_certificate
    return ensure(run, GATEWAY_TLS, namespace, hosts)


def gateway(run: Run) -> list[dict]:
    """Return the Gateway `httpbin-gateway`; the selector of Istio's is read from the live gateway's pod.

    With `gateway_api: gateway-api` its namespace comes first, and the redirect's HTTPRoute last.
    """
    objects = load(run, "gateway.yaml")
    if run.params.gateway_api == installation.ISTIO:
        objects[0]["spec"]["selector"] = installation.ingress(run.cluster)["labels"]
    return service_annotations.gateway(objects, run.params)


def route(run: Run, name: str, namespace: str = "", hosts: Sequence[str] = (), api: str = "") -> list[dict]:
    """Return the VirtualService or HTTPRoute that leads from `httpbin-gateway` to port 8000 of a Service.

    Args:
        run: The step's run.
        name: The Service's name, and the route's.
        namespace: Its namespace; default is that of the params.
        hosts: The hosts that the gateway routes; empty is every host.
        api: "istio" or "gateway-api", the kind of the route; default is that of the params.
    """
    istios = (api or run.params.gateway_api) == installation.ISTIO
    values = {"name": name, "namespace": namespace or run.params.namespace}
    values["hosts"] = json.dumps(list(hosts) or (["*"] if istios else []))
    values["gateway"] = f"{run.params.namespace}/httpbin-gateway"
    values["listener"] = "http" if run.params.tls == authority.OFF else "https"
    return run.load("route.yaml" if istios else "gateway-api/route.yaml", **values)


def load(run: Run, file: str) -> list[dict]:
    """Return the objects of a gateway's manifest, of the kinds and with the TLS that the params name."""
    folder = "" if run.params.gateway_api == installation.ISTIO else "gateway-api/"
    objects = with_tls_setting(run.load(f"{folder}{file}"), run)
    redirects = run.params.tls != authority.OFF
    return [one for one in objects if redirects or one["metadata"]["name"] != REDIRECT]


def with_tls_setting(objects: list[dict], run: Run) -> list[dict]:
    """Strip TLS from freshly loaded objects (in place) if `tls: off`; return them."""
    return [_without_tls(one) for one in objects] if run.params.tls == authority.OFF else objects


def check(run: Run) -> None:
    """Record that users' tokens and passwords are encrypted in transit; red with `tls: off`."""
    off = run.params.tls == authority.OFF
    reason = "tls: off sends passwords and tokens in plain text: set own-ca or given, or waive it with a reason"
    run.check("users' tokens and passwords are encrypted on their way", True, not off, reason if off else "")


def check_route(run: Run, url: str) -> None:
    """Record whether Envoy answers `url`: 200 before step 10, then what a missing token gets."""
    known = (200, 401, 403)
    run.check_ready("the gateway has a route", True, lambda: over_http(url).status in known, run.params.streak)
    run.check("Envoy answers for it", "istio-envoy", over_http(url).headers.get("server"))


def check_accepted(run: Run) -> None:
    """Record whether istiod accepts the Gateway and the route of httpbin; nothing with Istio's own kinds.

    Source: https://gateway-api.sigs.k8s.io/geps/gep-1364 (the conditions)
    """
    if run.params.gateway_api == installation.ISTIO:
        return

    def gateway() -> dict[str, str]:
        found = run.cluster.get(gateway_api.API, "Gateway", "httpbin-gateway", ISTIO_INGRESS)
        return _conditions(found.get("status", {}), "Accepted", "Programmed")

    def route() -> dict[str, str]:
        found = run.cluster.get(gateway_api.API, "HTTPRoute", "httpbin", run.params.namespace)
        parents = found.get("status", {}).get("parents", [])
        return _conditions(parents[0] if parents else {}, "Accepted", "ResolvedRefs")

    run.check_ready("the Gateway is accepted and programmed", {"Accepted": "True", "Programmed": "True"}, gateway)
    run.check_ready("the route is accepted, and has its backend", {"Accepted": "True", "ResolvedRefs": "True"}, route)


def check_redirect(run: Run, host: str) -> None:
    """Record whether a gateway redirects plain HTTP to https; nothing without TLS."""
    if run.params.tls != authority.OFF:
        run.check_ready(
            "plain HTTP is redirected to https",
            f"https://{host}/headers",
            lambda: over_http(f"http://{host}/headers").headers.get("location"),
        )


def check_closed(run: Run, host: str) -> None:
    """Record whether a host does not answer plain HTTP at all; nothing without TLS."""
    if run.params.tls != authority.OFF:
        run.check(f"plain HTTP is not answered at {host}", 0, over_http(f"http://{host}/", timeout=2).status)


def _conditions(status: Mapping, *types: str) -> dict[str, str]:
    found = {one["type"]: one["status"] for one in status.get("conditions", [])}
    return {name: found.get(name, "not reported") for name in types}


def _without_tls(manifest: dict) -> dict:
    """Replace port 443 of a Service, the servers or listeners of a Gateway, and the listener of an HTTPRoute."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        plain = {443: {"name": "http", "port": 80, "targetPort": 8080}}
        spec["ports"] = [plain.get(one["port"], one) for one in spec["ports"]]
    if manifest["kind"] == "HTTPRoute":
        spec["parentRefs"][0]["sectionName"] = "http"
    if manifest["apiVersion"] == gateway_api.API and manifest["kind"] == "Gateway":
        kept = {key: value for key, value in spec["listeners"][0].items() if key != "tls"}
        spec["listeners"] = [{**kept, "name": "http", "port": 80, "protocol": "HTTP"}]
    elif manifest["kind"] == "Gateway":
        hosts = spec["servers"][0]["hosts"]
        spec["servers"] = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}]
    return manifest
