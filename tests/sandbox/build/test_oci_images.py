"""The OCI layout: every blob is what its digest says, and what images share stands in it once."""

import hashlib
import json
import tarfile

import pytest

from sandbox.build.oci_images import Image, archive, files_layer


def contents(path):
    with tarfile.open(path) as tar:
        names = tar.getnames()
        return names, {name: tar.extractfile(name).read() for name in names}


def blob(files, descriptor):
    content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert len(content) == descriptor["size"]
    return content


@pytest.fixture
def two(tmp_path):
    """Two images over one base: one has a layer more, an entrypoint and a user."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    base = files_layer({"/etc/base": program}, tmp_path / "base.tar")
    top = files_layer({"/usr/local/bin/program": program}, tmp_path / "top.tar")
    plain = Image("hub.local/plain:1", (base,))
    labels = {"some": "label"}
    full = Image("hub.local/deep/full:2.0", (base, top), ("/usr/local/bin/program",), "65532:65532", ("A=b",), labels)
    return [plain, full]


@pytest.fixture
def layout(two, tmp_path):
    digests = archive(two, tmp_path / "images.tar")
    names, files = contents(tmp_path / "images.tar")
    return digests, names, files


def images_in(files):
    """Each image's manifest and configuration by its name, every size and digest followed."""
    found = {}
    for entry in json.loads(files["index.json"])["manifests"]:
        manifest = json.loads(blob(files, entry))
        name = entry["annotations"]["io.containerd.image.name"]
        found[name] = (entry, manifest, json.loads(blob(files, manifest["config"])))
    return found


def test_every_blob_matches_its_digest(layout):
    _, names, files = layout
    blobs = [name for name in names if name.startswith("blobs/sha256/")]
    assert sorted(set(names) - set(blobs)) == ["index.json", "oci-layout"]
    assert [hashlib.sha256(files[name]).hexdigest() for name in blobs] == [name.rsplit("/", 1)[1] for name in blobs]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_a_shared_layer_is_stored_once(layout, two):
    _, names, files = layout
    assert len(names) == len(set(names))
    found = images_in(files)
    plain, full = (found[image.name][1]["layers"] for image in two)
    assert plain == full[:1] and len(full) == 2
    assert blob(files, plain[0]) == two[0].layers[0].read_bytes()
    assert blob(files, full[1]) == two[1].layers[1].read_bytes()
    assert len(names) == 2 + 2 + 2 + 2  # layers, configurations, manifests, the layout's own files


def test_the_index_names_each_image_and_returns_its_digest(layout, two):
    digests, _, files = layout
    found = images_in(files)
    assert digests == {name: entry["digest"] for name, (entry, _, _) in found.items()}
    assert list(digests) == [image.name for image in two]
    tags = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry, _, _ in found.values()]
    assert tags == ["1", "2.0"]


def test_the_configuration_has_the_images_command(layout, two):
    found = images_in(layout[2])
    _, manifest, config = found[two[1].name]
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/program"]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Env"][-1] == "A=b" and config["config"]["Env"][0].startswith("PATH=")
    assert config["config"]["Labels"]["some"] == "label"
    assert found[two[0].name][2]["config"]["Entrypoint"] == []


def test_equal_images_give_equal_bytes(two, tmp_path):
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    assert archive(two, first) == archive(two, second)
    assert first.read_bytes() == second.read_bytes()


def test_another_layer_gives_another_digest(two, tmp_path):
    before = archive(two, tmp_path / "before.tar")
    two[1].layers[1].write_bytes(two[0].layers[0].read_bytes() + bytes(512))
    after = archive(two, tmp_path / "after.tar")
    assert before[two[0].name] == after[two[0].name] and before[two[1].name] != after[two[1].name]


def test_a_layer_of_files_has_folders_first_and_keeps_executable_bits(tmp_path):
    program, text = tmp_path / "program", tmp_path / "text"
    program.write_text("run")
    program.chmod(0o700)
    text.write_text("read")
    text.chmod(0o600)
    made = files_layer({"/usr/bin/program": program, "/etc/some/text": text}, tmp_path / "layer.tar")
    with tarfile.open(made) as tar:
        found = {info.name: info for info in tar.getmembers()}
        assert tar.extractfile("etc/some/text").read() == b"read"
    assert list(found) == ["etc", "etc/some", "usr", "usr/bin", "etc/some/text", "usr/bin/program"]
    assert [info.isdir() for info in found.values()] == [True] * 4 + [False] * 2
    assert found["usr/bin/program"].mode == 0o755 and found["etc/some/text"].mode == 0o644
    assert {(info.mtime, info.uid, info.gid) for info in found.values()} == {(0, 0, 0)}


def test_an_image_with_several_names_is_stored_once(two, tmp_path):
    known = Image(**{**two[0].__dict__, "also": ("docker.io/some/plain:1.0",)})
    digests = archive([known], tmp_path / "images.tar")
    names, _ = contents(tmp_path / "images.tar")
    assert list(digests) == ["hub.local/plain:1", "docker.io/some/plain:1.0"] and len(set(digests.values())) == 1
    assert len(names) == len(set(names))
