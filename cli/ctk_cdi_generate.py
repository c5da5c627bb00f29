# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk cdi generate`: write a CDI file for this host."""

from __future__ import annotations

from libnvc._cdi.generate import generate
from libnvc._cdi.options import stamp
from libnvc._cdi.write import FORMATS, output_path, to_text, write_file
from libnvc.errors import NvcError, RequestError

from ._flags import Flag
from .ctk_cdi import GENERATE_FLAGS, read_options
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libnvc._cdi.generate import Generated

    from .ctk import Log

FLAGS = (
    Flag(
        name="output",
        doc="Write to this file, in one step; standard output if not given",
        variable="NVIDIA_CTK_CDI_OUTPUT_FILE_PATH",
    ),
    Flag(
        name="format",
        doc="yaml or json; what the output's name says if not given",
        variable="NVIDIA_CTK_CDI_GENERATE_OUTPUT_FORMAT",
    ),
    Flag(
        name="if-stale",
        kind=bool,
        doc="Write the output only if it is not what is generated now",
    ),
    *GENERATE_FLAGS,
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command.

    Raises:
        RequestError: a flag has no meaning, or a device is not known.
        DiscoveryError: there is no usable driver.
        ConfigError: the output cannot be written.
    """
    form = values["format"]
    if form and form not in FORMATS:
        raise RequestError(f"invalid output format: {form}", hint=f"known are {', '.join(FORMATS)}")
    if values["if-stale"] and not values["output"]:
        raise RequestError("--if-stale needs --output")
    path, form = output_path(values["output"], form)
    if path.endswith(".yml"):
        log.warning(f"{path}: readers of CDI files look at names with .yaml and .json only")
    options = read_options(values, log)
    made = generate(options)
    for warning in made.warnings:
        log.warning(warning)
    text = to_text(made.document, form, stamp(options, made.driver_version))
    kept = _kept(path, made) if values["if-stale"] else ""
    if not path:
        put(text)
    elif not write_file(path, kept or text) and kept:
        log.info(f"Nothing to change in {path}")
        return
    log.info(f"Generated CDI spec with version {made.document['cdiVersion']}")


def _kept(path: str, made: Generated) -> str:
    """Return the text of a file that says what is generated now, else ""."""
    from libnvc._cdi.raw import read_document

    try:
        document, text = read_document(path)
    except NvcError:
        return ""
    return text if document == made.document else ""
