# SPDX-License-Identifier: Apache-2.0
"""The manifest by which podman and CRI-O add a hook to containers (`hooks.d`)."""

from __future__ import annotations

import os

from . import json_file
from .backup import find
from .files import Change, read_file, resolved

_DIRECTORIES = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)


def manifest(hook: str) -> bytes:
    """Return the manifest for a hook's absolute path."""
    directory, name = os.path.split(hook)
    more = [] if directory in _DIRECTORIES else [directory]
    return json_file.write(
        {
            "version": "1.0.0",
            "hook": {
                "path": hook,
                "args": [name, "prestart"],
                "env": [f"PATH={':'.join([*_DIRECTORIES, *more])}"],
            },
            "when": {"always": True, "commands": [".*"]},
            "stages": ["prestart"],
        },
        indent=2,
    )


def configure(path: str, hook: str) -> list[Change]:
    """Return what writes the manifest.

    Raises:
        ConfigError: the file is there and is no manifest.
    """
    path = resolved(path)
    before = read_file(path)
    json_file.parse(path, before or b"")
    return [Change(path=path, before=before, after=manifest(hook))]


def unset(path: str, hook: str) -> list[Change]:
    """Return what removes the manifest; one of another hook stays.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    path = resolved(path)
    before = read_file(path)
    is_ours = find(json_file.parse(path, before or b""), ("hook", "path")) == hook
    return [Change(path=path, before=before, after=None if is_ours else before)]
