"""What users meet first: the gateways' names, ports and certificates, and what `tls: off` makes of them."""

from __future__ import annotations

from lib.http_client import over_http
from lib.istio import installation
from lib.run import Run
from lib.steps import authority

GATEWAY_TLS = "gateway-tls"  # Secret, in each gateway's namespace


def scheme(run: Run) -> str:
    """Return how users ask Keycloak and the gateways: https, or http where the params say `tls: off`."""
    authority.trust(run)
    return "http" if run.params.tls == authority.OFF else "https"


def port(run: Run) -> int:
    """Return the port that users ask Keycloak and the gateways at."""
    return 80 if run.params.tls == authority.OFF else 443


def ssl_required(run: Run) -> str:
    """Return a realm's sslRequired: "all", for whoever asks from wherever, unless the params say `tls: off`."""
    return "none" if run.params.tls == authority.OFF else "all"


def gateway_certificate(run: Run, namespace: str, hosts: list[str]) -> dict[str, str]:
    """Make the certificate of the gateway in a namespace for these hosts; return what may be shown of it.

    With `tls: given` it is there, or RunbookError.
    """
    if run.params.tls == authority.OFF:
        return {}
    make = authority.check_given if run.params.tls == authority.GIVEN else authority.ensure_certificate
    return make(run, GATEWAY_TLS, namespace, hosts)


def gateway(run: Run) -> list[dict]:
    """Return the Gateway httpbin-gateway: it selects the live gateway's pods, by the labels that those have."""
    things = with_tls_setting(run.load("gateway.yaml"), run)
    things[0]["spec"]["selector"] = installation.ingress(run.cluster)["labels"]
    return things


def with_tls_setting(things: list[dict], run: Run) -> list[dict]:
    """Return objects just loaded as they are, or made plain in place where the params say `tls: off`."""
    return [_plain(thing) for thing in things] if run.params.tls == authority.OFF else things


def check(run: Run) -> None:
    """Record that users' tokens and passwords are encrypted on their way; red where the params say `tls: off`."""
    told = "tls: off, so who is on the way reads passwords and tokens: waive it with a reason, or take own-ca or given"
    off = run.params.tls == authority.OFF
    run.check("users' tokens and passwords are encrypted on their way", True, not off, told if off else "")


def check_redirect(run: Run, host: str) -> None:
    """Record whether a gateway sends who comes in clear on to https; nothing where there is no TLS."""
    if run.params.tls != authority.OFF:
        sent = lambda: over_http(f"http://{host}/headers").headers.get("location")  # noqa: E731
        run.check_ready("who comes in clear is sent on", f"https://{host}/headers", sent)


def check_closed(run: Run, host: str) -> None:
    """Record whether nobody answers a host in clear; nothing where there is no TLS."""
    if run.params.tls != authority.OFF:
        run.check(f"in clear nobody answers at {host}", 0, over_http(f"http://{host}/", timeout=2).status)


def _plain(thing: dict) -> dict:
    """Without TLS: a Service's ports, a Gateway's servers."""
    spec = thing.get("spec", {})
    if thing["kind"] == "Service":
        ports = {443: {"name": "http", "port": 80, "targetPort": 8080}}
        spec["ports"] = [ports.get(one["port"], one) for one in spec["ports"]]
    if thing["kind"] == "Gateway":
        hosts = spec["servers"][0]["hosts"]
        spec["servers"] = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}]
    return thing
