"""Container images as one OCI layout in a tar: layers that several images share stand in it once.

The format is the OCI image layout, https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """One image: its name, its layer tars from the bottom up, how it starts, and under which names it is known too."""

    name: str
    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    env: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def config(self) -> dict:
        """Return the runtime part of the image's configuration."""
        config = {"Env": [_PATH, *self.env], "Entrypoint": list(self.entrypoint), "User": self.user}
        return {
            **config,
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.vendor": "eks-sandbox", **self.labels},
        }


def files_layer(files: dict[str, Path], target: Path) -> Path:
    """Write a layer tar of single files (place in the image -> file on this machine); return `target`."""
    with tarfile.open(target, "w") as tar:
        for folder in sorted({str(up) for place in files for up in Path(place).parents if str(up) != "/"}):
            info = tarfile.TarInfo(folder.lstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for place, source in sorted(files.items()):
            info = tarfile.TarInfo(place.lstrip("/"))
            info.size, info.mode = source.stat().st_size, 0o755 if source.stat().st_mode & 0o100 else 0o644
            with source.open("rb") as content:
                tar.addfile(info, content)
    return target


def archive(images: list[Image], target: Path) -> dict[str, str]:
    """Write all images into one OCI layout tar; return each image's name and its manifest's digest."""
    with tarfile.open(target, "w") as tar:
        done: dict[Path, dict] = {}
        index = [entry for image in images for entry in _add_image(tar, image, done)]
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": index}).encode())
    return {entry["annotations"]["io.containerd.image.name"]: entry["digest"] for entry in index}


def _add_image(tar: tarfile.TarFile, image: Image, done: dict[Path, dict]) -> list[dict]:
    """Add an image; return its entry in the index for each of its names."""
    layers = [done.get(path) or done.setdefault(path, _add_layer(tar, path)) for path in image.layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": image.config(),
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _blob(tar, config, _CONFIG), "layers": layers}
    entry = _blob(tar, manifest, _MANIFEST)
    return [{**entry, "annotations": _named(name)} for name in (image.name, *image.also)]


def _named(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}


def _add_layer(tar: tarfile.TarFile, path: Path) -> dict:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    tar.add(path, arcname=f"blobs/sha256/{digest}")
    return {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": path.stat().st_size}


def _blob(tar: tarfile.TarFile, value: dict, media_type: str) -> dict:
    content = json.dumps(value, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    _add(tar, f"blobs/sha256/{digest}", content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
