"""What is built: each part once for its inputs, in an order that holds, from the versions that are pinned."""

import re
from dataclasses import replace

import pytest

from lib import params
from sandbox.build import authorizer_image
from sandbox.build.image_catalogue import names
from sandbox.build.parts import GO_PROGRAMS, HERE, OAUTH2_PROXY, Part, keys, parts
from sandbox.paths import HUB, VERSIONS

MODULES = {
    "kubernetes": "k8s.io/kubernetes",
    "istio": "istio.io/istio",
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "go-httpbin": "github.com/mccutchen/go-httpbin/v2",
}


AUTHORIZER = {"opa": "github.com/open-policy-agent/opa", "cel": "cel.dev/cel-go"}


def part(name, inputs="", needs=()):
    return Part(name, inputs, lambda folder, log: None, needs)


def go_mod(folder="go"):
    """The version of each module that a go.mod requires, by its path."""
    return dict(re.findall(r"^(?:require )?\t?(\S+) (v\S+)", (HERE / folder / "go.mod").read_text(), re.M))


CHAIN = [part("a", "1"), part("b", "2", ("a",)), part("c", "3", ("b",)), part("d", "4")]


def test_keys_are_stable_and_differ():
    assert keys(CHAIN) == keys(list(CHAIN))
    assert len(set(keys(CHAIN).values())) == len(CHAIN)
    assert all(re.fullmatch("[0-9a-f]{12}", key) for key in keys(CHAIN).values())


@pytest.mark.parametrize("changed, moved", [("a", "abc"), ("b", "bc"), ("c", "c"), ("d", "d")])
def test_a_changed_input_moves_the_part_and_what_needs_it(changed, moved):
    other = [replace(one, inputs="other") if one.name == changed else one for one in CHAIN]
    before, after = keys(CHAIN), keys(other)
    assert "".join(name for name in before if before[name] != after[name]) == moved


def test_another_need_moves_the_key():
    other = [*CHAIN[:2], replace(CHAIN[2], needs=("a",)), CHAIN[3]]
    assert keys(other)["c"] != keys(CHAIN)["c"]


def test_a_parts_name_is_no_input_of_its_key():
    assert keys([part("x", "same")])["x"] == keys([part("y", "same")])["y"]


def test_a_part_comes_after_its_needs():
    seen = []
    for one in parts():
        assert one.name not in seen
        assert set(one.needs) <= set(seen), f"{one.name}: expected its needs before it, got {seen}"
        seen.append(one.name)
    assert set(keys(parts())) == set(seen)


def test_go_parts_run_in_their_own_lane():
    assert {one.lane for one in parts()} == {"go", "other"}
    assert [one.name for one in parts() if one.lane == "go"] == [
        "go",
        "gateway-api",
        "programs",
        "oauth2-proxy",
        "deny-list",
        "authorizer",
        "conformance",
        "istio-suites",
    ]


@pytest.mark.parametrize("name", MODULES)
def test_go_mod_has_the_pinned_version(name):
    pin = VERSIONS[name]
    assert go_mod()[MODULES[name]] == pin.get("module", f"v{pin['version']}")
    assert pin["from"] == f"Go module {MODULES[name]}"


def test_oauth2_proxys_own_go_mod_has_its_pinned_version_and_asks_for_no_newer_go():
    pin, text = VERSIONS["oauth2-proxy"], (HERE / "oauth2_proxy" / "go.mod").read_text()
    assert go_mod("oauth2_proxy")[OAUTH2_PROXY] == f"v{pin['version']}"
    assert pin["from"] == f"Go module {OAUTH2_PROXY}"
    assert OAUTH2_PROXY in (HERE / "oauth2_proxy" / "tools.go").read_text() and "replace" not in text
    assert "\ngo 1.26.0\n" in text


@pytest.mark.parametrize("name", AUTHORIZER)
def test_the_authorizer_has_the_pinned_version(name):
    assert f"v{VERSIONS[name]['version']}" == go_mod("authorizer")[AUTHORIZER[name]]
    assert VERSIONS[name]["from"] == f"Go module {AUTHORIZER[name]}"


def test_the_authorizer_moves_no_other_part_and_dev_names_its_image():
    built = {one.name: one for one in parts()}
    text = (HERE / "authorizer" / "main.go").read_text()
    assert [name for name, one in built.items() if text in one.inputs] == ["authorizer"]
    assert [one.name for one in parts() if "authorizer" in one.needs] == []
    assert params.load("dev").authorizer_image == authorizer_image.NAME


def test_istios_version_and_its_commit_agree():
    pin = VERSIONS["istio"]
    assert pin["module"].rsplit("-", 1)[1] == pin["version"].rsplit("-", 1)[1]


def test_go_mod_asks_for_no_newer_go_than_is_pinned():
    wanted = re.search(r"^go (\S+)$", (HERE / "go" / "go.mod").read_text(), re.M).group(1)
    assert [int(n) for n in wanted.split(".")] <= [int(n) for n in VERSIONS["go"]["version"].split(".")]


def test_no_module_comes_from_a_folder_or_another_module():
    assert not re.search(r"^\s*replace\b.*=>\s*(\.|/)", (HERE / "go" / "go.mod").read_text(), re.M)


def test_go_sum_holds_every_pinned_module():
    lines = (HERE / "go" / "go.sum").read_text().splitlines()
    found = {tuple(line.split()[:2]) for line in lines}
    wanted = {(module, go_mod()[module]) for module in MODULES.values()}
    assert wanted <= found


def test_tools_go_imports_each_program_built_from_another_module():
    imported = re.findall(r'^\s+_ "([^"]+)"', (HERE / "go" / "tools.go").read_text(), re.M)
    assert sorted(imported) == sorted(name for name in GO_PROGRAMS if not name.startswith("./"))


def test_each_local_program_exists():
    local = [name for name in GO_PROGRAMS if name.startswith("./")]
    assert local and all((HERE / "go" / name / "main.go").is_file() for name in local)


def test_every_image_name_has_the_local_registry_and_a_tag():
    full = names().values()
    assert len(set(full)) == len(full)
    assert all(re.fullmatch(rf"{re.escape(HUB)}/[a-z0-9/-]+:[\w.-]+", name) for name in full)
    assert not [name for name in full if name.endswith(":latest")]
