# SPDX-License-Identifier: Apache-2.0
"""Give containers devices that variables of their own switch on, beside GPUs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libnvc._config.settings import Config
    from libnvc._oci.wanted import Container


def with_gated(
    document: dict[str, Any], variables: tuple[str, ...], container: Container, config: Config
) -> dict[str, Any]:
    """Return a configuration with the devices and files that variables switch on.

    Args:
        document: the configuration; it is not changed.
        variables: "NVIDIA_" and a mode of `nvidia-ctk cdi generate`.
        container: what is known of it.
        config: the runtime's.

    Raises:
        NvcError: the host does not have them; the variable is named.
    """
    from libnvc._cdi.edits import apply_edits, merge
    from libnvc._cdi.generate import generate
    from libnvc._cdi.options import Options
    from libnvc._cdi.spec import check_document
    from libnvc._system.userns import in_user_namespace
    from libnvc.errors import NvcError

    # In a user namespace the host's groups are others, and runtimes refuse what they cannot give.
    is_without_groups = (
        "no-additional-gids-for-device-nodes" in config.features
        or container.user_namespace
        or in_user_namespace()
    )
    for variable in variables:
        options = Options(
            mode=variable.removeprefix("NVIDIA_").lower(),
            driver_root=config.cli.root or "/",
            no_additional_gids=is_without_groups,
        )
        try:
            made = generate(options)
            (device,) = check_document(variable, made.document).devices
            # Without the edits of all devices: their variable says that there shall be no GPUs.
            document = apply_edits(document, merge([device.edits]))
        except NvcError as error:
            raise NvcError(f"{variable}=enabled: {error}", hint=error.hint) from None
    return document
