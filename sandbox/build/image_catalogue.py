"""Which images there are, and what each is made of."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.build.oci_images import Image, files_layer
from sandbox.paths import HUB, version

# The public images that a node has without a registry: each is one of ours, of the same program at the same version.
STANDS_IN = {
    "go-httpbin": ("docker.io/mccutchen/go-httpbin:2.26.0",),
    "curl": ("docker.io/curlimages/curl:8.16.0",),  # Debian's curl, which is older: 7.88
    "postgres": ("docker.io/library/postgres:15",),
    "keycloak": ("quay.io/keycloak/keycloak:26.7.0",),
}


def names() -> dict[str, str]:
    """Return the full name of each image by its short one."""
    tags = {
        "pause": version("kubernetes"),
        "coredns": version("coredns"),
        "istio/pilot": version("istio"),
        "istio/proxyv2": version("istio"),
        "go-httpbin": version("go-httpbin"),
        "curl": f"debian-{version('debian')}",
        "postgres": "15",
        "keycloak": version("keycloak"),
    }
    return {short: f"{HUB}/{short}:{tag}" for short, tag in tags.items()}


def images_of(parts: dict[str, Path], folder: Path) -> list[Image]:
    """Return all images, from built parts; layers of single files are written into `folder`."""
    programs, full = parts["programs"], names()
    base, jre = parts["base"] / "layer.tar", parts["jre"] / "layer.tar"

    def files(name: str, places: dict[str, Path]) -> Path:
        return files_layer(places, folder / f"{name}.layer.tar")

    def program(name: str, file: str) -> Path:
        return files(name, {f"/usr/local/bin/{name}": programs / file})

    certificates = files(
        "certificates", {"/etc/ssl/certs/ca-certificates.crt": parts["base"] / "root/etc/ssl/certs/ca-certificates.crt"}
    )
    proxy = {
        "/usr/local/bin/pilot-agent": programs / "pilot-agent",
        "/usr/local/bin/envoy": parts["envoy"] / "envoy",
        "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": _calm(programs / "envoy_bootstrap.json", folder),
    }
    return [
        Image(full["pause"], (program("pause", "pause"),), ("/usr/local/bin/pause",), "65535:65535"),
        Image(full["coredns"], (certificates, program("coredns", "coredns")), ("/usr/local/bin/coredns",)),
        Image(
            full["istio/pilot"],
            (certificates, program("pilot-discovery", "pilot-discovery")),
            ("/usr/local/bin/pilot-discovery",),
            "1337:1337",
        ),
        Image(full["istio/proxyv2"], (base, files("proxy", proxy)), ("/usr/local/bin/pilot-agent",)),
        Image(
            full["go-httpbin"],
            (program("go-httpbin", "go-httpbin"),),
            ("/usr/local/bin/go-httpbin",),
            "65532:65532",
            also=STANDS_IN["go-httpbin"],
        ),
        Image(full["curl"], (base,), (), "65532:65532", also=STANDS_IN["curl"]),
        Image(
            full["postgres"],
            (base, parts["postgres"] / "layer.tar"),
            (),
            "",
            ("PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin",),
            also=STANDS_IN["postgres"],
        ),
        Image(
            full["keycloak"],
            (base, jre, parts["keycloak"] / "layer.tar"),
            ("/opt/keycloak/bin/kc.sh",),
            "1000:0",
            also=STANDS_IN["keycloak"],
        ),
    ]


def _calm(bootstrap: Path, folder: Path) -> Path:
    """Return a copy of Istio's bootstrap with watchdogs that look at Envoy's threads each 10 s, not each 0.2 s.

    For its watchdogs each of some forty idle proxies wakes up 35 times a second. Source:
    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto#config-bootstrap-v3-watchdogs
    """
    slow = {"miss_timeout": "10s", "megamiss_timeout": "20s"}
    watchdogs = {"main_thread_watchdog": slow, "worker_watchdog": slow}
    made = folder / "envoy_bootstrap.json"
    made.write_text(bootstrap.read_text().replace("{", f'{{\n  "watchdogs": {json.dumps(watchdogs)},', 1))
    return made
