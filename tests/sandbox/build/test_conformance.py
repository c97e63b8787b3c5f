"""The conformance suite's part: built by its name alone, of the release that Istio is built with."""

import pytest

from sandbox.build import conformance
from sandbox.build.builder import chosen
from sandbox.build.parts import GATEWAY_API, HERE, parts
from sandbox.paths import HUB, VERSIONS


def pinned(folder, module):
    lines = (HERE / folder / "go.mod").read_text().splitlines()
    line = next(line for line in lines if f"{module} v" in line)
    return next(word for word in line.split() if word.startswith("v"))


def test_all_parts_are_chosen_but_the_optional_and_a_name_chooses_it():
    assert {part.name for part in parts()} - {part.name for part in chosen(parts())} == {
        "conformance",
        "istio-suites",
        "python",
    }
    assert [part.name for part in chosen(parts(), ("go", "conformance"))] == ["go", "conformance"]


def test_no_other_part_depends_on_the_suite():
    assert [part.name for part in parts() if "conformance" in part.needs] == []
    text = (HERE / "conformance" / "go.mod").read_text()
    assert [part.name for part in parts() if text in part.inputs] == ["conformance"]


@pytest.mark.parametrize("module", [conformance.SUITE, GATEWAY_API])
def test_the_suite_is_of_the_release_that_istio_is_built_with(module):
    pin = VERSIONS["gateway-api-conformance"]
    assert pinned("conformance", module) == pinned("go", GATEWAY_API) == f"v{pin['version']}"
    assert pin["from"] == f"Go module {conformance.SUITE}"
    assert f"{conformance.SUITE}/echo-basic" in (HERE / "conformance" / "tools.go").read_text()
    assert "replace" not in (HERE / "conformance" / "go.mod").read_text()


def test_the_cluster_and_the_suite_have_coredns_of_one_release():
    module = "github.com/coredns/coredns"
    assert pinned("conformance", module) == pinned("go", module) == f"v{VERSIONS['coredns']['version']}"


def test_the_suites_coredns_is_an_input_of_its_part():
    source = (HERE / "conformance" / "coredns" / "main.go").read_text()
    assert source in conformance.inputs() and '"forward"' in source


def test_the_images_have_the_names_that_the_suites_manifests_want(tmp_path):
    (tmp_path / "base").mkdir()
    lines = ["          image: hub.example/echo-basic:v1", "        - image: hub.example/other:v1", "kind: Pod"]
    (tmp_path / "base" / "manifests.yaml").write_text("\n".join(lines))
    (tmp_path / "tests.yaml").write_text("    image: hub.example/coredns:v2\n    image: hub.example/echo-basic:v2\n")
    public = conformance.public_names(tmp_path)
    echo, coredns = conformance.images(tmp_path / "echo", tmp_path / "coredns", public)
    assert echo.also == ("hub.example/echo-basic:v1", "hub.example/echo-basic:v2") and echo.user == "65532:65532"
    assert coredns.also == ("hub.example/coredns:v2",)
    assert echo.name.startswith(f"{HUB}/") and coredns.name.startswith(f"{HUB}/")
