# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk cdi transform root`: move the paths of a CDI file to another root."""

from __future__ import annotations

import os

from libnvc._cdi.raw import parse_document, read_document
from libnvc._cdi.spec import MAX_SIZE
from libnvc._cdi.transform import move_root
from libnvc._cdi.write import output_path, to_text, write_file
from libnvc.errors import RequestError

from ._flags import Flag
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

FLAGS = (
    Flag(name="from", doc="The root that paths have", variable="NVIDIA_CTK_CDI_TRANSFORM_FROM"),
    Flag(name="to", doc="The root that they get", variable="NVIDIA_CTK_CDI_TRANSFORM_TO"),
    Flag(name="input", doc="The file; - for standard input", default="-"),
    Flag(name="output", doc="Write to this file; standard output if not given"),
    Flag(name="relative-to", doc="Whose paths: host or container", default="host"),
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command.

    Raises:
        RequestError: a flag has no meaning.
        NvcError: the file cannot be read.
        MalformedFileError: it is no CDI file.
        ConfigError: the output cannot be written.
    """
    side = values["relative-to"]
    if side not in ("host", "container"):
        raise RequestError(f"invalid value for --relative-to: {side}", hint="host or container")
    if values["input"] in ("", "-"):
        with open(0, "rb", closefd=False) as stream:
            document = parse_document("standard input", stream.read(MAX_SIZE + 1))
    else:
        document, _ = read_document(os.path.abspath(values["input"]))
    moved = move_root(document, values["from"], values["to"], side)
    path, form = output_path(values["output"], "")
    text = to_text(moved, form)
    if path:
        write_file(path, text)
        log.info(f"Wrote {path}")
    else:
        put(text)
