"""Packing a folder as a layer: in order, without times, with deletions in OCI's form."""

import contextlib
import os
import socket
import stat
import tarfile

import pytest

from sandbox.build import debian_layers


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "upper"
    (made / "b" / "deep").mkdir(parents=True)
    (made / "a.txt").write_text("first")
    (made / "b" / "deep" / "z").write_bytes(bytes(range(256)) * 300)
    (made / "b" / "run").write_text("#!/bin/sh\n")
    (made / "b" / "run").chmod(0o4755)
    (made / "link").symlink_to("b")
    return made


def packed(folder, tmp_path):
    with tarfile.open(debian_layers.pack(folder, tmp_path / "layer.tar")) as tar:
        return {info.name: info for info in tar.getmembers()}


def white_out(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("a device 0:0 takes root to make")


def test_entries_are_sorted_and_links_are_not_followed(folder, tmp_path):
    found = packed(folder, tmp_path)
    assert list(found) == ["a.txt", "b", "b/deep", "b/deep/z", "b/run", "link"]
    assert found["link"].issym() and found["link"].linkname == "b"


def test_layers_contain_no_state_of_the_machine(folder, tmp_path):
    found = packed(folder, tmp_path).values()
    assert {(info.mtime, info.uname, info.gname) for info in found} == {(0, "", "")}
    assert {info.uid for info in found} == {os.getuid()}


def test_a_folder_gives_equal_bytes_whatever_its_timestamps(folder, tmp_path):
    first = debian_layers.pack(folder, tmp_path / "first.tar").read_bytes()
    os.utime(folder / "a.txt", (1, 1.5))
    os.utime(folder / "b", (2, 2))
    assert debian_layers.pack(folder, tmp_path / "second.tar").read_bytes() == first


def test_content_mode_and_hard_links_are_kept(folder, tmp_path):
    os.link(folder / "a.txt", folder / "c.txt")
    with tarfile.open(debian_layers.pack(folder, tmp_path / "layer.tar")) as tar:
        assert tar.extractfile("b/deep/z").read() == bytes(range(256)) * 300
        assert tar.extractfile("c.txt").read() == b"first"
        assert tar.getmember("c.txt").islnk() and tar.getmember("c.txt").linkname == "a.txt"
        assert tar.getmember("b/run").mode == 0o4755


def test_a_white_out_is_written_in_the_form_of_oci(folder, tmp_path):
    white_out(folder / "gone")
    white_out(folder / "b" / "deep" / "gone")
    found = packed(folder, tmp_path)
    assert {".wh.gone", "b/deep/.wh.gone"} <= set(found) and not {"gone", "b/deep/gone"} & set(found)
    mark = found["b/deep/.wh.gone"]
    assert mark.isreg() and mark.size == 0 and mark.mtime == 0


def test_another_device_is_no_white_out(folder, tmp_path):
    try:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("a device takes root to make")
    found = packed(folder, tmp_path)["null"]
    assert found.ischr() and (found.devmajor, found.devminor) == (1, 3)


def test_an_opaque_folder_hides_the_lower_layers(folder, tmp_path):
    try:
        os.setxattr(folder / "b", "trusted.overlay.opaque", b"y")
    except OSError:
        pytest.skip("overlayfs' mark takes root and a file system with extended attributes")
    found = packed(folder, tmp_path)
    assert list(found)[1:4] == ["b", "b/.wh..wh..opq", "b/deep"]
    assert [name for name in found if name.endswith(".wh..wh..opq")] == ["b/.wh..wh..opq"]


def test_a_socket_is_left_out(folder, tmp_path):
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as made:  # its path may have 107 characters
        made.bind("sock")
        assert "sock" not in packed(folder, tmp_path)


def test_install_names_the_packages_and_leaves_no_lists():
    script = debian_layers.install("one two")
    assert "apt-get install -q -y --no-install-recommends one two\n" in script
    assert "rm -rf /var/lib/apt/lists/*" in script
