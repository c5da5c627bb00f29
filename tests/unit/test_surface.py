# SPDX-License-Identifier: Apache-2.0
"""The public names: each is listed once, can be loaded, and comes from where the table says."""

from __future__ import annotations

from importlib import import_module

import libnvc
from libnvc import errors, model, plan


def test_every_public_name_loads() -> None:
    assert sorted(libnvc.__all__) == sorted(libnvc._HOME)
    for name in libnvc.__all__:
        module = import_module(f"libnvc.{libnvc._HOME[name]}")
        assert getattr(libnvc, name) is getattr(module, name)


def test_nothing_public_is_forgotten() -> None:
    records = {
        name
        for module in (errors, model, plan)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    others = {name for name in libnvc.__all__ if libnvc._HOME[name].startswith("_")}
    assert records | others | {"CAPABILITIES", "CUDA_COMPAT_MODES"} == set(libnvc.__all__)


def test_an_unknown_name_is_named() -> None:
    try:
        libnvc.__getattr__("nothing")
    except AttributeError as error:
        assert str(error) == "module 'libnvc' has no attribute 'nothing'"
    else:
        raise AssertionError
