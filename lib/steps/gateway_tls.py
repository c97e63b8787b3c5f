"""The gateways' scheme, port and certificates; without TLS if the params say `tls: off`."""

from __future__ import annotations

from lib.http_client import over_http
from lib.istio import installation
from lib.run import Run
from lib.steps import authority

GATEWAY_TLS = "gateway-tls"  # Secret, in each gateway's namespace


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
    """Return the Gateway `httpbin-gateway`. Its selector is read from the live gateway's pod."""
    objects = with_tls_setting(run.load("gateway.yaml"), run)
    objects[0]["spec"]["selector"] = installation.ingress(run.cluster)["labels"]
    return objects


def with_tls_setting(objects: list[dict], run: Run) -> list[dict]:
    """Strip TLS from freshly loaded objects (in place) if `tls: off`; return them."""
    return [_without_tls(one) for one in objects] if run.params.tls == authority.OFF else objects


def check(run: Run) -> None:
    """Record that users' tokens and passwords are encrypted in transit; red with `tls: off`."""
    off = run.params.tls == authority.OFF
    reason = "tls: off sends passwords and tokens in plain text: set own-ca or given, or waive it with a reason"
    run.check("users' tokens and passwords are encrypted on their way", True, not off, reason if off else "")


def check_route(run: Run, url: str) -> None:
    """Record whether Envoy answers `url`: 200 before step 10, 403 once its policy is in force."""
    run.check_ready("the gateway has a route", True, lambda: over_http(url).status in (200, 403), run.params.streak)
    run.check("Envoy answers for it", "istio-envoy", over_http(url).headers.get("server"))


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


def _without_tls(manifest: dict) -> dict:
    """Replace port 443 of a Service, and the servers of a Gateway."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        plain = {443: {"name": "http", "port": 80, "targetPort": 8080}}
        spec["ports"] = [plain.get(one["port"], one) for one in spec["ports"]]
    if manifest["kind"] == "Gateway":
        hosts = spec["servers"][0]["hosts"]
        spec["servers"] = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}]
    return manifest
