"""A cluster's images are links to one store, but its databases are its own; another store replaces them."""

import pytest

from sandbox.node import image_store

LAYERS = ("content/blobs/sha256/a", "snapshots/snapshots/1/fs/bin/sh")
DATABASES = ("metadata/meta.db", "snapshots/metadata.db")


@pytest.fixture
def store(tmp_path):
    made = tmp_path / "imported-1"
    for name in (*LAYERS, *DATABASES):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("1")
    return made


@pytest.fixture
def images(store, tmp_path):
    made = tmp_path / "nodes" / "a-cluster" / "containerd"
    image_store.link(store, made)
    return made


def inode(path):
    return path.stat().st_ino


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_and_its_content_are_on_the_disk_once(store, images, name):
    assert inode(images / name) == inode(store / name)


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_is_the_clusters_own(store, images, name):
    (images / name).write_text("written by its containerd")
    assert (store / name).read_text() == "1"


def test_what_a_cluster_has_pulled_since_stays_until_the_store_is_another(store, images, tmp_path):
    pulled = images / "content" / "blobs" / "sha256" / "b"
    pulled.write_text("2")
    image_store.link(store, images)
    assert pulled.exists()
    image_store.link(store.rename(tmp_path / "imported-2"), images)
    assert not pulled.exists()


def test_a_copy_that_was_killed_is_made_again(store, images):
    (images / "metadata" / "meta.db").unlink()
    images.with_name(image_store.MARK).unlink()
    image_store.link(store, images)
    assert (images / "metadata" / "meta.db").read_text() == "1"
