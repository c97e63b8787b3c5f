"""The external authorizers: istioctl gets the whole list, and what reads the mesh's configuration knows their names."""

from lib.istio import istioctl, mesh
from lib.istio.extension_providers import AUTHORIZER, FAIL_OPEN, OAUTH2_PROXY, PROVIDERS

# A program in istioctl's place that prints the operator file: the last argument
PRINTS_ITS_FILE = '#!/bin/sh\nfor file in "$@"; do :; done\ncat "$file"\n'


def test_istioctl_gets_every_authorizer_and_the_authority(tmp_path):
    program = tmp_path / "istioctl"
    program.write_text(PRINTS_ITS_FILE)
    program.chmod(0o755)
    (operator,) = istioctl.manifest(str(program), "hub", "tag", [], "PEM")
    assert operator["spec"]["meshConfig"] == {"extensionProviders": PROVIDERS}
    assert operator["spec"]["values"]["pilot"]["jwksResolverExtraRootCA"] == "PEM"


def test_each_authorizer_has_a_name_of_its_own_that_policies_can_use():
    names = mesh.of_config({"extensionProviders": PROVIDERS}).providers
    assert len(set(names)) == len(PROVIDERS) and OAUTH2_PROXY in names


def test_only_the_authorizer_of_the_drills_lets_requests_in_if_it_fails():
    settings = {one["name"]: one["envoyExtAuthzGrpc"] for one in PROVIDERS if "envoyExtAuthzGrpc" in one}
    assert [name for name, one in settings.items() if one["failOpen"]] == [FAIL_OPEN]
    assert settings[AUTHORIZER] == {**settings[FAIL_OPEN], "failOpen": False}
