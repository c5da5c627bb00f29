# SPDX-License-Identifier: Apache-2.0
"""Say what a container wants as a request to the planner, and as settings of the discovery."""

from __future__ import annotations

from libnvc.errors import NvcError
from libnvc.model import Request

from .container_common import Settings, imex_channels, wants_mig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libnvc._config.settings import Config
    from libnvc._oci.wanted import Wanted
    from libnvc.model import Identity, Layout


def compat_mode(config: Config) -> str:
    """Return what becomes of the image's CUDA compatibility libraries."""
    mode = config.runtime.cuda_compat_mode
    return mode if mode in ("ldconfig", "mount") else "disabled"


def ldconfig(config: Config) -> str | None:
    """Return the host's program that updates loader caches, or None where libnvc does it."""
    return config.cli.ldconfig.removeprefix("@") if config.ldcache == "exec" else None


def read_request(wanted: Wanted, config: Config, layout: Layout) -> Request:
    """Return the request of a container."""
    return Request(
        devices=wanted.devices or (),
        capabilities=wanted.capabilities,
        requirements=wanted.requirements,
        mig_config=wants_mig("mig-config", (wanted.mig_config,)),
        mig_monitor=wants_mig("mig-monitor", (wanted.mig_monitor,)),
        imex_channels=imex_channels(wanted.imex_channels),
        cuda_compat_mode=compat_mode(config),
        layout=layout,
    )


def read_settings(config: Config) -> Settings:
    """Return what `nvidia-container-cli` would be told by its global options."""
    cli = config.cli
    user = None
    if cli.user:
        from .container_user import parse_user

        user = parse_user(cli.user)
    defaults = Settings()
    return Settings(
        root=cli.root or defaults.root,
        ldcache=cli.ldcache or defaults.ldcache,
        user=user,
        debug=cli.debug,
        load_kmods=cli.load_kmods,
        no_create_imex_channels="disable-imex-channel-creation" in config.features,
        graphics=True,
    )


def on_tegra(config: Config) -> tuple[bool, tuple[Identity, ...]]:
    """Tell whether CSV files describe the host's driver, and what that rests on."""
    from libnvc._discover.platform import is_tegra
    from libnvc._discover.root import DriverRoot

    try:
        root = DriverRoot(config.cli.root or "/")
    except NvcError:
        return False, ()
    return is_tegra(root), tuple(root.identities.values())


def rest_on(
    dependencies: tuple[Identity, ...], platform: tuple[Identity, ...]
) -> tuple[Identity, ...]:
    """Return what both name, nothing if the first is empty: then nothing may be kept."""
    return tuple(dict.fromkeys((*dependencies, *platform))) if dependencies else ()
