# SPDX-License-Identifier: Apache-2.0
"""The public names: each is listed once, can be loaded, and comes from where the table says."""

from __future__ import annotations

import libnvc
from libnvc import _api, errors, model, plan


def test_every_public_name_loads() -> None:
    assert sorted(libnvc.__all__) == sorted(libnvc._HOME)
    modules = {"_api": _api, "errors": errors, "model": model, "plan": plan}
    for name in libnvc.__all__:
        assert getattr(libnvc, name) is getattr(modules[libnvc._HOME[name]], name)


def test_nothing_public_is_forgotten() -> None:
    records = {
        name
        for module in (errors, model, plan)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    assert records | set(_api.__all__) | {"CAPABILITIES", "CUDA_COMPAT_MODES"} == set(
        libnvc.__all__
    )


def test_an_unknown_name_is_named() -> None:
    try:
        libnvc.__getattr__("nothing")
    except AttributeError as error:
        assert str(error) == "module 'libnvc' has no attribute 'nothing'"
    else:
        raise AssertionError
