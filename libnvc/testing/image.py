# SPDX-License-Identifier: Apache-2.0
"""Write a root file system as an image that container engines can import."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TYPE = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


def write_image(
    archive: Path,
    rootfs: Path,
    name: str,
    *,
    environment: Sequence[str] = (),
    command: Sequence[str] = ("/bin/sh",),
) -> Path:
    """Write an image of one layer in the OCI layout and in Docker's, as one tar archive.

    Args:
        archive: where.
        rootfs: what the image shall hold.
        name: its name and tag ("test:1").
        environment: "NAME=value" each, after PATH.
        command: what runs unless told otherwise.

    Returns:
        The archive.
    """
    layer = _tar(rootfs)
    config = _json(_config(layer, [_PATH, *environment], command))
    manifest = _json(_manifest(config, layer))
    reference = {"io.containerd.image.name": name}
    entry = {**_descriptor("manifest.v1+json", manifest), "annotations": reference}
    index = _json({"schemaVersion": 2, "manifests": [entry]})
    docker = {"Config": _place(config), "RepoTags": [name], "Layers": [_place(layer)]}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", index)
        _add(tar, "manifest.json", _json([docker]))
        for blob in (layer, config, manifest):
            _add(tar, _place(blob), blob)
    return archive


def _tar(rootfs: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    return stream.getvalue()


def _config(layer: bytes, environment: Sequence[str], command: Sequence[str]) -> dict[str, object]:
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": list(environment), "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }


def _manifest(config: bytes, layer: bytes) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": _descriptor("config.v1+json", config),
        "layers": [_descriptor("layer.v1.tar", layer)],
    }


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": f"{_TYPE}.{kind}", "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _place(blob: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document).encode("ascii")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
