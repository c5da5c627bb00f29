# SPDX-License-Identifier: Apache-2.0
"""`nvc`: the entry point and its one error edge. The application is in `nvc_app`."""

from __future__ import annotations

from .output import OutputError, complain, hint_line, one_line

_NAME = "nvc"
_INSTALL = "this command needs Typer; install it with: pip install 'libnvc[cli]'"


def main() -> int:
    """Run the command line of this process and return the exit status.

    Raises:
        SystemExit: with status 2, a usage error; with status 0, help.
    """
    from .exit_codes import DONE, FAILED, exit_code

    try:
        import typer  # noqa: F401
    except ImportError:
        complain(f"{_NAME}: {_INSTALL}\n")
        return FAILED
    from .nvc_app import app

    try:
        app(prog_name=_NAME)
    except Exception as error:
        from libnvc.errors import NvcError

        known = isinstance(error, NvcError | OutputError | OSError)
        text = str(error) if known else f"internal error: {type(error).__name__}: {error}"
        complain(f"{_NAME}: {one_line(text)}\n{hint_line(_NAME, error)}")
        return exit_code(error)
    return DONE
