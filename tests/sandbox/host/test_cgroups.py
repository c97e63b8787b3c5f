"""A node's cgroups on v1, hybrid and v2 hosts: plain folders stand for the kernel's.

The kernel fills a new cgroup with files; here a group's folder gets beforehand those that the test needs.
"""

import pytest

from sandbox.host import cgroups

GROUP = f"{cgroups.PREFIX}one"


def hierarchy(folder, files=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"cgroup.procs": "", **dict(files)}.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def v1(tmp_path):
    root = tmp_path / "v1"
    hierarchy(root / "memory")
    hierarchy(root / "cpuset", {"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"})
    hierarchy(root / "cpu,cpuacct")
    (root / "cpu").symlink_to("cpu,cpuacct")
    (root / "other").mkdir()  # no cgroup.procs: no hierarchy
    return root


@pytest.fixture
def hybrid(v1):
    hierarchy(v1 / "unified")
    return v1


@pytest.fixture
def v2(tmp_path):
    return hierarchy(tmp_path / "v2", {"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n"})


def test_kind_v1_and_hybrid(v1):
    assert cgroups.kind(v1) == "v1"
    hierarchy(v1 / "unified")
    assert cgroups.kind(v1) == "hybrid"


def test_kind_v2(v2):
    assert cgroups.kind(v2) == "v2"


@pytest.mark.parametrize("host", ["v1", "hybrid"])
def test_make_creates_a_cgroup_in_every_hierarchy_only(host, request):
    root = request.getfixturevalue(host)
    assert cgroups.make("one", root) == f"/{GROUP}"
    made = {path.parent.name for path in root.glob(f"*/{GROUP}") if not path.parent.is_symlink()}
    assert made == {"memory", "cpuset", "cpu,cpuacct"} | ({"unified"} if host == "hybrid" else set())
    assert not (root / GROUP).exists()


def test_make_twice_is_no_error(v1):
    assert cgroups.make("one", v1) == cgroups.make("one", v1)


def test_make_fills_only_an_empty_cpuset(v1):
    mine = hierarchy(v1 / "cpuset" / GROUP, {"cpuset.cpus": "\n", "cpuset.mems": "1\n"})
    cgroups.make("one", v1)
    assert (mine / "cpuset.cpus").read_text() == "0-1\n"
    assert (mine / "cpuset.mems").read_text() == "1\n"


def test_make_delegates_the_available_and_wanted_controllers_on_v2(v2):
    mine = hierarchy(v2 / GROUP, {"cgroup.controllers": "cpu memory rdma\n"})
    assert cgroups.make("one", v2) == f"/{GROUP}"
    assert (v2 / "cgroup.subtree_control").read_text() == "+cpuset +cpu +io +memory +pids"
    assert (mine / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_make_delegates_nothing_without_controllers(v2):
    mine = hierarchy(v2 / GROUP, {"cgroup.controllers": "rdma\n"})
    cgroups.make("one", v2)
    assert not (mine / "cgroup.subtree_control").exists()


def test_leftovers_names_each_node_once(v1):
    assert cgroups.leftovers(v1) == []
    for name in ("two", "one"):
        cgroups.make(name, v1)
    (v1 / "memory" / "kubepods").mkdir()
    assert cgroups.leftovers(v1) == ["one", "two"]


def test_remove_takes_the_pods_groups_too_and_no_other_nodes(hybrid):
    for name in ("one", "two"):
        cgroups.make(name, hybrid)
    (hybrid / "memory" / GROUP / "kubepods" / "besteffort" / "pod1").mkdir(parents=True)
    cgroups.remove("one", hybrid)
    assert cgroups.leftovers(hybrid) == ["two"]
    assert not list(hybrid.glob(f"*/{GROUP}"))


def test_remove_keeps_busy_cgroups_and_leftovers_lists_them(v1):
    cgroups.make("one", v1)
    busy = v1 / "memory" / GROUP / "kubepods"
    (busy / "idle").mkdir(parents=True)
    (busy / "process").write_text("")  # a plain folder with a file refuses rmdir as a cgroup with a process does
    cgroups.remove("one", v1)
    assert busy.is_dir() and not (busy / "idle").exists() and not (v1 / "cpuset" / GROUP).exists()
    assert cgroups.leftovers(v1) == ["one"]


def test_remove_on_v2_and_of_a_missing_cgroup(v2):
    (v2 / GROUP / "kubepods").mkdir(parents=True)
    cgroups.remove("one", v2)
    cgroups.remove("one", v2)
    assert cgroups.leftovers(v2) == []
