# SPDX-License-Identifier: Apache-2.0
"""The same request through every entry point: one plan; and what becomes of it in a document."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from libnvc.cli import container_cli, runtime_create, runtime_front, runtime_hook
from libnvc.cli.runtime_args import Call
from libnvc.cli.runtime_log import RuntimeLog

import libnvc
from libnvc._config.settings import load_config
from libnvc._render.oci import edit_oci
from libnvc._system.programs import search_path
from libnvc.testing import make_rootfs

DOCUMENTS = Path(__file__).parent / "documents"
UPDATE = os.environ.get("NVC_UPDATE_GOLDEN") == "1"
PROGRAMS = "/opt/nvc/bin"
BOTH = ("compute", "utility")
SEVEN = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")

#: environment, and the same as a request
REQUESTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "all": (("NVIDIA_VISIBLE_DEVICES=all",), {"devices": ("all",), "capabilities": BOTH}),
    "two": (("NVIDIA_VISIBLE_DEVICES=3,1",), {"devices": ("3", "1"), "capabilities": BOTH}),
    "none": (("NVIDIA_VISIBLE_DEVICES=none",), {"devices": (), "capabilities": BOTH}),
    "everything": (
        ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"),
        {"devices": ("all",), "capabilities": SEVEN},
    ),
    "one-capability": (
        ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility"),
        {"devices": ("0",), "capabilities": ("utility",)},
    ),
    "requirement": (
        ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=cuda>=12.0"),
        {"devices": ("0",), "capabilities": BOTH, "requirements": ("cuda>=12.0",)},
    ),
    "legacy-image": (
        ("CUDA_VERSION=11.2.1",),
        {"devices": ("all",), "capabilities": SEVEN, "requirements": ("cuda>=11.2",)},
    ),
}


class Entries:
    """The entry points, for one bundle; what would be applied is kept instead."""

    def __init__(self, directory: Path, driver: Path, patch: pytest.MonkeyPatch) -> None:
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        self.rootfs = make_rootfs(self.bundle / "rootfs", ["true"])
        self.driver = driver
        self.config = directory / "config.toml"
        self.patch = patch
        self.plans: list[libnvc.Plan] = []
        patch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(self.config))
        patch.setenv("PATH", search_path(""))
        patch.setattr(libnvc, "apply", self._apply)
        patch.setattr(runtime_create, "edit_oci", self._edit)

    def _apply(
        self, plan: libnvc.Plan, target: libnvc.Target, *, ldconfig: str | None
    ) -> libnvc.Applied:
        assert ldconfig is None
        assert target == libnvc.Target(pid=os.getpid(), rootfs=str(self.rootfs))
        self.plans.append(plan)
        return libnvc.Applied(target=target)

    def _edit(self, document: Any, plan: libnvc.Plan, *, nodes: bool) -> Any:
        self.plans.append(plan)
        return edit_oci(document, plan, nodes=True)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.bundle / "config.json").read_text())
        return found

    def _write(self, env: tuple[str, ...], mode: str) -> None:
        text = f'[nvidia-container-cli]\nroot = "{self.driver}"\nload-kmods = false\n'
        self.config.write_text(f'{text}[nvidia-container-runtime]\nmode = "{mode}"\n')
        process = {"env": list(env)}
        document = {"ociVersion": "1.0.2", "process": process, "root": {"path": "rootfs"}}
        (self.bundle / "config.json").write_text(json.dumps(document))

    def api(self, *, graphics: bool = False, **request: Any) -> libnvc.Plan:
        layout = libnvc.inspect_rootfs(str(self.rootfs))
        wanted = () if graphics else None
        found = libnvc.discover(str(self.driver), path=search_path(""), graphics=wanted)
        return libnvc.make_plan(found, libnvc.Request(layout=layout, **request))

    def cli(self, **request: Any) -> libnvc.Plan:
        words = [f"--{name}" for name in request["capabilities"]]
        words += [f"--device={device}" for device in request["devices"]]
        words += [f"--require={text}" for text in request.get("requirements", ())]
        words += [f"--pid={os.getpid()}", str(self.rootfs)]
        argv = ["nvidia-container-cli", f"--root={self.driver}", "configure", *words]
        assert container_cli.main(argv) == 0
        return self.plans.pop()

    def hook(self, env: tuple[str, ...]) -> libnvc.Plan:
        self._write(env, "legacy")
        return self._prestart()

    def _prestart(self) -> libnvc.Plan:
        state = json.dumps({"pid": os.getpid(), "bundle": str(self.bundle)})
        self.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(state.encode())))
        assert runtime_hook.main("prestart") == 0
        return self.plans.pop()

    def legacy(self, env: tuple[str, ...]) -> libnvc.Plan:
        self._write(env, "legacy")
        self._create()
        hook = self.document()["hooks"]["prestart"][0]
        assert hook["args"] == ["nvidia-container-runtime-hook", "prestart"]
        return self._prestart()

    def runtime(self, env: tuple[str, ...], mode: str) -> libnvc.Plan:
        self._write(env, mode)
        self._create()
        return self.plans.pop()

    def _create(self) -> None:
        config = load_config(str(self.config), required=True)
        call = Call(is_create=True, bundle=str(self.bundle), container="c")
        origin = runtime_front.Origin(
            program=f"{PROGRAMS}/nvidia-container-runtime",
            name="nvidia-container-runtime",
            config="",
            environment={},
            container="c",
        )
        runtime_create.create(config, call, origin, RuntimeLog([], "info"))


@pytest.fixture
def entries(tmp_path: Path, dgx_a100: Path, monkeypatch: pytest.MonkeyPatch) -> Entries:
    return Entries(tmp_path, dgx_a100, monkeypatch)


@pytest.mark.parametrize("name", REQUESTS)
def test_one_plan(entries: Entries, name: str) -> None:
    env, request = REQUESTS[name]
    plan = entries.api(**request)
    assert entries.cli(**request) == plan
    if "graphics" in request["capabilities"]:  # for a container, not for a command line
        plan = entries.api(graphics=True, **request)
        assert {op.origin for op in plan.operations} >= {"graphics", "capability:graphics"}
    assert entries.hook(env) == plan
    assert entries.legacy(env) == plan
    assert entries.runtime(env, "jit-cdi") == plan
    assert entries.runtime(env, "auto") == plan
    assert entries.plans == []


@pytest.mark.parametrize("name", ["two", "none"])
def test_the_document(entries: Entries, name: str) -> None:
    entries.runtime(REQUESTS[name][0], "auto")
    text = json.dumps(entries.document(), indent=2) + "\n"
    text = text.replace(str(entries.bundle), "/BUNDLE")
    if UPDATE:
        DOCUMENTS.mkdir(exist_ok=True)
        (DOCUMENTS / f"{name}.json").write_text(text)
    assert text == (DOCUMENTS / f"{name}.json").read_text()
