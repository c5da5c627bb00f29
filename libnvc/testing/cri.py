# SPDX-License-Identifier: Apache-2.0
"""Drive a container engine as a kubelet does: by the Kubernetes Container Runtime Interface.

A call is one HTTP/2 request with a message in front of which stand five bytes (gRPC), and curl can
make it. Messages are written here as a mapping from the numbers of api.proto's fields.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .oci import ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, TypeAlias

    One: TypeAlias = "int | str | Message"
    Message: TypeAlias = "Mapping[int, One | Sequence[One]]"

_SECONDS = 60

# NamespaceOption with the node's network, so that no CNI is needed.
_NODE_NETWORK: Message = {1: 2}


class Cri:
    """The client of an engine's socket."""

    def __init__(self, socket: Path) -> None:
        """Take the path of the engine's socket."""
        self._socket = socket

    def wait_for_image(self, name: str) -> None:
        """Wait until the engine has noticed an image that did not come through this interface.

        Raises:
            ContainerFailedError: it does not notice.
        """
        deadline = time.monotonic() + _SECONDS
        while 1 not in self.call("ImageService/ImageStatus", {1: {1: name}}):
            if time.monotonic() > deadline:
                raise ContainerFailedError(f"{name}: the engine does not know this image")

    def pod(self, name: str, handler: str = "") -> Pod:
        """Return a pod, which is made when it is entered.

        Args:
            name: unique.
            handler: a runtime's name in the engine's configuration; "" for the default.
        """
        return Pod(self, name, handler)

    def call(self, method: str, message: Message) -> dict[int, int | bytes]:
        """Call a method, and return of each field of the answer the last value.

        Raises:
            ContainerFailedError: the engine refused, or there is none.
        """
        body = _encode(message)
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--include"),
                *("--unix-socket", self._socket, "--max-time", f"{_SECONDS}"),
                *("--header", "Content-Type: application/grpc", "--header", "TE: trailers"),
                *("--data-binary", "@-", f"http://localhost/runtime.v1.{method}"),
            ],
            input=b"\0" + len(body).to_bytes(4, "big") + body,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise ContainerFailedError(done.stderr.decode().strip())
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        end = 5 + int.from_bytes(rest[1:5], "big")
        said = (head + b"\r\n" + rest[end:]).decode()
        status = dict(re.findall(r"^(grpc-\w+): (.*?)\r?$", said, re.MULTILINE))
        if status["grpc-status"] != "0":
            raise ContainerFailedError(unquote(status["grpc-message"]))
        return _decode(rest[5:end])


class Pod:
    """A pod on the node's network, with containers that run one command each.

    A context manager: entering makes it, leaving removes it and its containers.
    """

    def __init__(self, cri: Cri, name: str, handler: str) -> None:
        self._call = cri.call
        self._handler = handler
        self._name = name
        self._config: Message = {
            1: {1: name, 2: name, 3: "default"},  # metadata: name, uid, namespace
            8: {2: {1: _NODE_NETWORK}},  # linux.security_context.namespace_options
        }
        self._id = ""

    def __enter__(self) -> Self:
        request: Message = {1: self._config, 2: self._handler}
        self._id = _text(self._call("RuntimeService/RunPodSandbox", request), 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call("RuntimeService/StopPodSandbox", {1: self._id})
        self._call("RuntimeService/RemovePodSandbox", {1: self._id})

    def start(
        self,
        name: str,
        image: str,
        *,
        environment: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        cdi_devices: Sequence[str] = (),
    ) -> CriContainer:
        """Start a container that sleeps.

        Args:
            name: unique in the pod.
            image: its name, known to the engine.
            environment: beside the image's.
            annotations: of the container.
            cdi_devices: fully qualified names, as the kubelet passes those of device plugins and
                of dynamic resource allocation on.

        Raises:
            ContainerFailedError: the engine, its runtime or a hook refused.
        """
        config: Message = {
            1: {1: name},
            2: {1: image},
            3: ["sleep", "1000000"],
            6: _pairs(environment),
            10: _pairs(annotations),
            15: {2: {3: _NODE_NETWORK}},  # linux.security_context.namespace_options
            17: [{1: name} for name in cdi_devices],
        }
        request: Message = {1: self._id, 2: config, 3: self._config}
        container = _text(self._call("RuntimeService/CreateContainer", request), 1)
        self._call("RuntimeService/StartContainer", {1: container})
        return CriContainer(self._call, container)


class CriContainer:
    """A container that runs.

    Attributes:
        id: what containerd calls it.
    """

    def __init__(
        self, call: Callable[[str, Message], dict[int, int | bytes]], identifier: str
    ) -> None:
        self._call = call
        self.id = identifier

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container and return what it printed and its exit status."""
        answer = self._call("RuntimeService/ExecSync", {1: self.id, 2: command, 3: _SECONDS})
        status = answer.get(3, 0)
        assert isinstance(status, int)
        return subprocess.CompletedProcess(command, status, _text(answer, 1), _text(answer, 2))


def _pairs(mapping: Mapping[str, str] | None) -> list[One]:
    return [{1: name, 2: value} for name, value in (mapping or {}).items()]


def _text(answer: Mapping[int, int | bytes], number: int) -> str:
    value = answer.get(number, b"")
    assert isinstance(value, bytes)
    return value.decode()


def _encode(message: Message) -> bytes:
    """Write a message in protobuf's wire format; a sequence is a repeated field."""
    data = b""
    for number, value in message.items():
        if isinstance(value, int | str | Mapping):
            data += _field(number, value)
        else:
            data += b"".join(_field(number, one) for one in value)
    return data


def _field(number: int, value: One) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else _encode(value)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def _decode(data: bytes) -> dict[int, int | bytes]:
    answer: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        answer[key >> 3] = value
        if key & 7 == 2:
            answer[key >> 3] = data[at : at + value]
            at += value
    return answer


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
