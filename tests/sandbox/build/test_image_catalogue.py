"""The catalogue: every image that it names is made, of layers that are there."""

import json
import tarfile

from lib import params
from sandbox.build import image_catalogue, login_images

BUILT = {
    "programs": ("pause", "coredns", "pilot-discovery", "pilot-agent", "go-httpbin", "envoy_bootstrap.json"),
    "envoy": ("envoy",),
    "base": ("layer.tar", "root/etc/ssl/certs/ca-certificates.crt"),
    "jre": ("layer.tar",),
    "keycloak": ("layer.tar",),
    "postgres": ("layer.tar",),
}


def built(folder) -> dict:
    """Folders as the parts leave them, with a word in each file."""
    for part, files in BUILT.items():
        for name in files:
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    return {part: folder / part for part in BUILT}


def test_every_named_image_is_built(tmp_path):
    images = image_catalogue.images_of(built(tmp_path), tmp_path)
    assert sorted(image.name for image in images) == sorted(image_catalogue.names().values())
    assert all(path.is_file() for image in images for path in image.layers)


def test_the_proxies_watchdogs_are_calm_and_the_rest_of_istios_bootstrap_is_as_it_was(tmp_path):
    parts = built(tmp_path)
    (parts["programs"] / "envoy_bootstrap.json").write_text('{\n  "node": {"id": "{{ .nodeID }}"}\n}')
    images = {one.name.partition("/")[2].partition(":")[0]: one for one in image_catalogue.images_of(parts, tmp_path)}
    with tarfile.open(images["istio/proxyv2"].layers[1]) as layer:
        made = json.load(layer.extractfile("var/lib/istio/envoy/envoy_bootstrap_tmpl.json"))
    assert made.pop("watchdogs")["worker_watchdog"]["miss_timeout"] == "10s"
    assert made == {"node": {"id": "{{ .nodeID }}"}}


def test_no_image_runs_as_root_unless_it_must(tmp_path):
    as_root = {
        image.name.split("/", 1)[1].rsplit(":", 1)[0]
        for image in image_catalogue.images_of(built(tmp_path), tmp_path)
        if not image.user
    }
    # coredns binds port 53, istio-init writes iptables, PostgreSQL's user comes from the pod
    assert as_root == {"coredns", "istio/proxyv2", "postgres"}


def test_the_images_of_the_eks_params_exist_under_their_public_names(tmp_path):
    here = params.load("eks")
    wanted = {here.keycloak_image, here.postgres_image, here.httpbin_image, here.sleep_image}
    found = {name: image for image in image_catalogue.images_of(built(tmp_path), tmp_path) for name in image.also}
    assert set(found) == wanted
    for name, image in found.items():
        program, version = image.name.rsplit("/", 1)[1].split(":")
        assert name.endswith(f":{version}") or program == "curl"


def test_the_images_of_the_login_are_built_and_stand_in_for_the_public_ones(tmp_path):
    parts = {**built(tmp_path), **{name: tmp_path / name for name in ("oauth2-proxy", "redis", "deny-list")}}
    for part, file in (("oauth2-proxy", "oauth2-proxy"), ("redis", "layer.tar"), ("deny-list", "deny-list")):
        parts[part].mkdir()
        (parts[part] / file).write_text(part)
    images = login_images.images_of(parts, tmp_path)
    assert sorted(image.name for image in images) == sorted(login_images.names().values())
    assert all(path.is_file() for image in images for path in image.layers) and all(image.user for image in images)
    here, dev = params.load("eks"), params.load("dev")
    assert {name for image in images for name in image.also} == {here.oauth2_proxy_image, here.redis_image}
    assert {image.name for image in images} == {dev.oauth2_proxy_image, dev.redis_image, dev.deny_list_image}
