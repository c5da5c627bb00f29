# SPDX-License-Identifier: Apache-2.0
"""What stands in for the OCI runtime and its hook until they are installed with the package.

    stand_in.py runtime HOOK [RUNTIME'S ARGUMENT...]
    stand_in.py hook prestart

It knows as much of what they do as the engines' tests need, and trusts its input.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

CONFIG = "/etc/nvidia-container-runtime/config.toml"


def main() -> None:
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    path = os.environ.get("NVIDIA_CTK_CONFIG_FILE_PATH", CONFIG)
    config = tomllib.loads(Path(path).read_text())
    if sys.argv[1] == "hook":
        configure(config["nvidia-container-cli"])
    low_level = config.get("nvidia-container-runtime", {}).get("runtimes", ["runc"])[0]
    arguments = sys.argv[3:]
    if "create" in arguments:
        bundle = arguments[arguments.index("--bundle") + 1]
        add_hook(Path(bundle, "config.json"), sys.argv[2])
    os.execvp(low_level, [low_level, *arguments])


def configure(config: dict[str, Any]) -> None:
    state = json.load(sys.stdin)
    document = json.loads(Path(state["bundle"], "config.json").read_text())
    devices = environment(document).get("NVIDIA_VISIBLE_DEVICES", "void")
    if devices == "void":
        sys.exit()
    rootfs = Path(state["bundle"], document["root"]["path"])
    options = ["--no-cgroups"] if config.get("no-cgroups") else []
    cli = str(Path(sys.executable).with_name("nvidia-container-cli"))
    command = [cli, f"--root={config['root']}", "configure", f"--device={devices}"]
    command += ["--utility", "--compute", f"--pid={state['pid']}", *options, str(rootfs)]
    os.execv(cli, command)


def add_hook(path: Path, hook: str) -> None:
    document = json.loads(path.read_text())
    if "NVIDIA_VISIBLE_DEVICES" in environment(document):
        hooks = document.setdefault("hooks", {}).setdefault("prestart", [])
        hooks.append({"path": hook, "args": [hook, "prestart"]})
        path.write_text(json.dumps(document))


def environment(document: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in document["process"]["env"])


if __name__ == "__main__":
    main()
