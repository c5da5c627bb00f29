# SPDX-License-Identifier: Apache-2.0
"""Evaluate what an image requires of driver and GPUs: "cuda>=12.1 brand=tesla,driver>=470".

A requirement holds if any of its clauses (separated by spaces) does; a clause holds if all of its
tests (separated by commas) do. A test whose reference value is unknown holds.
"""

from __future__ import annotations

from ..errors import RequirementError, shown
from .checks import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..model import Inventory

_UNKNOWN = (("", ""),)  # without a GPU
_OPERATORS = ("=", "!=", "!", "<", "<=", ">", ">=")
_ADVICE = ", please update your driver to a newer version, or use an earlier cuda container"


def check_requirements(
    requirements: Iterable[str], *, cuda: str, driver: str, gpus: Sequence[tuple[str, str]]
) -> None:
    """Refuse where a requirement does not hold for each of the GPUs.

    What is not known is "".

    Args:
        requirements: expressions.
        cuda: its version.
        driver: its version.
        gpus: compute capability and brand of each.

    Raises:
        RequirementError: it is no such expression, or does not hold; its first clause is named.
    """
    for text in requirements:
        for arch, brand in gpus or _UNKNOWN:
            try:
                holds = _holds(text, _known(cuda, driver, arch, brand))
            except RequirementError as error:
                error.hint = f"in the requirement '{shown(text)}'"
                raise
            if not holds:
                first = text.partition(" ")[0]
                advice = _ADVICE if first.startswith("cuda>=") else ""
                raise RequirementError(f"unsatisfied condition: {printable(first)}{advice}")


def are_undecided(inventory: Inventory, requirements: Iterable[str]) -> bool:
    """Tell whether what is not known could change the answer of `check_requirements`."""
    cuda, driver = inventory.cuda_version, inventory.driver_version
    gpus = {(gpu.arch, gpu.brand) for gpu in inventory.gpus} or _UNKNOWN
    return any(
        _is_undecided(text, _known(cuda, driver, arch, brand))
        for text in requirements
        for arch, brand in gpus
    )


def _known(cuda: str, driver: str, arch: str, brand: str) -> dict[str, str]:
    return {"cuda": cuda, "driver": driver, "arch": arch, "brand": brand}


def _holds(text: str, known: dict[str, str]) -> bool:
    clauses = list(_clauses(text))
    return not clauses or any(
        all(_test(test, known) is not False for test in clause) for clause in clauses
    )


def _is_undecided(text: str, known: dict[str, str]) -> bool:
    for clause in _clauses(text):
        is_open = False
        try:
            for test in clause:
                answer = _test(test, known)
                if answer is False:
                    break
                is_open |= answer is None
            else:
                return is_open
        except RequirementError:
            return is_open  # it is refused, unless a test before decides
    return False


def _clauses(text: str) -> Iterator[list[str]]:
    return ([test for test in clause.split(",") if test] for clause in text.split(" ") if clause)


def _test(test: str, known: dict[str, str]) -> bool | None:
    """Return whether a test holds, None if its reference value is not known."""
    start = next((i for i, letter in enumerate(test) if letter in "<>=!"), len(test))
    end = next((i for i in range(start, len(test)) if test[i] not in "<>=!"), len(test))
    name, operator, value = test[:start].lower(), test[start:end], test[end:]
    if name not in known or operator not in _OPERATORS or not value:
        raise _invalid()
    if name == "brand":
        if operator not in ("=", "!=", "!"):
            raise _invalid()
        if not known[name]:
            return None
        return (known[name].lower() == value.lower()) == (operator == "=")
    order = _compare(known[name], value) if known[name] else None
    if order is None:
        _version(value)
        return None
    return {
        "=": order == 0,
        "!=": order != 0,
        "!": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[operator]


def _compare(one: str, other: str) -> int:
    """Return -1, 0 or 1; trailing zeros do not count."""
    a, b = _version(one), _version(other)
    return (a > b) - (a < b)


def _version(text: str) -> list[int]:
    parts = text.split(".")
    for part in parts:
        # The length: Python refuses to read thousands of digits, with an exception of its own.
        if part and not (part.isascii() and part.isdigit() and len(part) < 19):
            raise _invalid()
    numbers = [int(part or 0) for part in parts]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _invalid() -> RequirementError:
    return RequirementError("invalid expression")
