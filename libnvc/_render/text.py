# SPDX-License-Identifier: Apache-2.0
"""Show a plan to people: one line per operation."""

from __future__ import annotations

from ..plan import (
    BindMount,
    DeviceAccess,
    DeviceNode,
    Directory,
    Env,
    Group,
    LoaderCache,
    Symlink,
    Tmpfs,
    WriteFile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import Operation, Plan

_HEAD = ("#", "what", "where", "how", "why")


def plan_to_text(plan: Plan) -> str:
    """Return a table of the operations in the order they are applied, then the warnings.

    Columns: number (as in error messages), action, place in the container, details, and the
    rule behind the operation. Characters that would break a line are escaped.
    """
    rows = [_HEAD]
    for number, operation in enumerate(plan.operations):
        what, where, how = _describe(operation)
        rows.append((str(number), what, where, how, operation.origin))
    widths = [max(len(_printable(row[column])) for row in rows) for column in range(len(_HEAD))]
    lines = [f"driver {_printable(plan.driver_version)}", ""]
    lines += [_line(row, widths) for row in rows]
    if plan.warnings:
        lines += ["", *(f"warning: {_printable(warning)}" for warning in plan.warnings)]
    return "\n".join(lines) + "\n"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    number = row[0].rjust(widths[0])
    cells = [_printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "  ".join([number, *cells[1:]]).rstrip()


def _describe(operation: Operation) -> tuple[str, str, str]:
    """Return action, place and details; every kind of operation has an answer here."""
    match operation:
        case Tmpfs(mode=mode, fallback=fallback):
            how = f"empty, mode {mode:04o}" + (f", or on {fallback}" if fallback else "")
            return "tmpfs", operation.path, how
        case Directory(mode=mode):
            return "directory", operation.path, f"mode {mode:04o}"
        case WriteFile(content=content, mode=mode):
            return "write", operation.path, f"{len(content)} bytes, mode {mode:04o}"
        case BindMount(source=source, file_type=file_type, options=options):
            how = f"{file_type} {source} ({','.join(options)})"
            return "mount", operation.path, how
        case DeviceNode(major=major, minor=minor, source=source, mode=mode):
            how = source or f"new, mode {mode:04o}"
            return "device", operation.path, f"c {major}:{minor} {how}"
        case DeviceAccess(major=major, minor=minor, access=access):
            return "allow", f"c {major}:{minor}", access
        case Symlink(target=target, overwrite=overwrite):
            return "link", operation.path, f"-> {target}" + ("" if overwrite else " if none")
        case LoaderCache(libraries=libraries, directories=directories):
            how = f"add {len(libraries)} libraries" + "".join(f", {d} first" for d in directories)
            return "cache", operation.path, how
        case Env(name=name, value=value):
            return "env", name, value
        case Group(gid=gid):
            return "group", str(gid), ""
    raise TypeError(f"no text for {type(operation).__name__}")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
