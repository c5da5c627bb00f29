# SPDX-License-Identifier: Apache-2.0
"""The members of a CDI file: what each may be, and since which version of the format it exists."""

from __future__ import annotations

from .._oci.wanted import is_cdi_device
from ..errors import shown
from .edits import Device, Edits, Hook, Mount, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    _Reader = Callable[[Any, "Place"], Any]
    #: name -> how it is read, what it is where it is missing, since which version it exists
    _Members = Mapping[str, tuple[_Reader, Any, str]]

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")

_STAGES = (
    *("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"),
)
_UINT32, _INT64 = (1 << 32) - 1, (1 << 63) - 1
_LONGEST_NAME = 4096  # of a file, as CDI limits it
_NEEDED: Any = object()


class Place:
    """Where a value stands in a file; all places of a file know what version its values need."""

    __slots__ = ("_inside", "_name", "_needs")

    def __init__(self, name: str | int = "", inside: Place | None = None) -> None:
        self._name = name
        self._inside = inside
        self._needs: list[tuple[int, Place, str]] = [] if inside is None else inside._needs

    def __str__(self) -> str:
        above = "" if self._inside is None else str(self._inside)
        if isinstance(self._name, int):
            return f"{above}[{self._name}]"
        return f"{above}.{shown(self._name)}" if above else shown(self._name)

    def inside(self, name: str) -> Place:
        """Return the place of a member."""
        return Place(name, self)

    def at(self, index: int) -> Place:
        """Return the place of an element."""
        return Place(index, self)

    def fail(self, why: str) -> NoReturn:
        """Raise ValueError for what stands here."""
        place = str(self)
        raise ValueError(f"{place}: {why}" if place else why)

    def need(self, version: str, what: str = "") -> None:
        """Remember that what stands here is not in versions before this one."""
        self._needs.append((VERSIONS.index(version), self, what))

    def needed(self) -> tuple[str, str]:
        """Return the oldest version that has all that was needed anywhere, and what needs it."""
        if not self._needs:
            return VERSIONS[0], ""
        version, place, what = max(self._needs, key=_first)
        return VERSIONS[version], f"{place}{what}"

    def check(self, version: str) -> None:
        """Raise ValueError if a version is older than what was needed anywhere."""
        needed, why = self.needed()
        if VERSIONS.index(version) < VERSIONS.index(needed):
            self.inside("cdiVersion").fail(f"must be at least {needed} for {why}")


def _first(need: tuple[int, Place, str]) -> int:
    return need[0]


def read_table(value: Any, place: Place, members: _Members) -> dict[str, Any]:
    """Return all members that a table names, each as its reader returns it; null is missing.

    Raises:
        ValueError: a member is missing, unknown or not what it must be; it is named.
    """
    if type(value) is not dict:
        place.fail("not an object")
    for name in value:
        if name not in members:
            place.inside(name).fail("unknown")
    found = {}
    for name, (read, default, since) in members.items():
        item = value.get(name)
        if item is not None:
            here = place.inside(name)
            found[name] = read(item, here)
            if since and found[name] != default:
                here.need(since)
        elif default is _NEEDED:
            place.inside(name).fail("missing")
        else:
            found[name] = default
    return found


def _items(value: Any, place: Place, read: _Reader) -> tuple[Any, ...]:
    if type(value) is not list:
        place.fail("not a list")
    return tuple(read(item, place.at(index)) for index, item in enumerate(value))


def quoted(text: str) -> str:
    """Return a text as messages show it."""
    return f'"{shown(text)}"'


def _text(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        place.fail("not a string")
    text = str(value)
    is_odd = not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)
    if "\0" in text or is_odd:
        place.fail("has a character that no name has")
    return text


def _full(value: Any, place: Place) -> str:
    text = _text(value, place)
    if not text:
        place.fail("empty")
    return text


def _truth(value: Any, place: Place) -> bool:
    if _is_plain(value) and value in ("true", "false"):
        return bool(value == "true")
    if type(value) is not bool:
        place.fail("not true or false")
    return value


def _number(value: Any, place: Place, highest: int, lowest: int = 0) -> int:
    number = _yaml_number(value) if _is_plain(value) else value
    if type(number) is not int:
        place.fail("not a whole number")
    if not lowest <= number <= highest:
        place.fail(f"not from {lowest} to {highest}")
    return number


def _is_plain(value: Any) -> bool:
    """Tell whether a value is a word of YAML without quotes."""
    return isinstance(value, str) and type(value) is not str


def _yaml_number(text: str) -> int | None:
    is_octal = text[0] == "0" and text[1:].isdecimal()
    try:
        return int(text, 8 if is_octal else 0)
    except ValueError:
        return None


def _uint32(value: Any, place: Place) -> int:
    return _number(value, place, _UINT32)


def _seconds(value: Any, place: Place) -> int:
    return _number(value, place, _UINT32, 1)


def _int64(value: Any, place: Place) -> int:
    return _number(value, place, _INT64)


def _texts(value: Any, place: Place) -> tuple[str, ...]:
    return _items(value, place, _text)


def _variable(value: Any, place: Place) -> str:
    text = _text(value, place)
    if text.find("=") < 1:
        place.fail(f"invalid environment variable {quoted(text)}")
    return text


def _variables(value: Any, place: Place) -> tuple[str, ...]:
    return _items(value, place, _variable)


def _annotations(value: Any, place: Place) -> dict[str, str]:
    if type(value) is not dict:
        place.fail("not an object")
    return {name: _text(item, place.inside(name)) for name, item in value.items()}


def _word(*words: str) -> Callable[[Any, Place], str]:
    def read(value: Any, place: Place) -> str:
        text = _text(value, place)
        if text not in words:
            place.fail(f"{quoted(text)}: known are {', '.join(filter(None, words))}")
        return text

    return read


def _permissions(value: Any, place: Place) -> str:
    text = _text(value, place)
    if text != "none" and text.strip("rwm"):
        place.fail(f'{quoted(text)}: made of other letters than "rwm"')
    return text


def _clos_id(value: Any, place: Place) -> str:
    text = _text(value, place)
    is_name = text not in (".", "..") and not set(text) & {"/", "\n"} and len(text) < _LONGEST_NAME
    if not is_name and text != "/":
        place.fail(f"{quoted(text)}: not the name of a file")
    return text


def _node(value: Any, place: Place) -> Node:
    found = read_table(value, place, _NODE)
    return Node(
        path=found["path"],
        host_path=found["hostPath"],
        type=found["type"],
        major=found["major"],
        minor=found["minor"],
        mode=found["fileMode"],
        permissions=found["permissions"],
        uid=found["uid"],
        gid=found["gid"],
    )


def _mount(value: Any, place: Place) -> Mount:
    found = read_table(value, place, _MOUNT)
    return Mount(
        host_path=found["hostPath"],
        container_path=found["containerPath"],
        options=found["options"],
        type=found["type"],
    )


def _hook(value: Any, place: Place) -> Hook:
    found = read_table(value, place, _HOOK)
    return Hook(
        stage=found["hookName"],
        path=found["path"],
        args=found["args"],
        env=found["env"],
        timeout=found["timeout"],
    )


def _net_device(value: Any, place: Place) -> tuple[str, str]:
    found = read_table(value, place, _NET_DEVICE)
    return found["hostInterfaceName"], found["name"]


def _net_devices(value: Any, place: Place) -> tuple[tuple[str, str], ...]:
    pairs = _items(value, place, _net_device)
    for side, member in enumerate(("hostInterfaceName", "name")):
        seen: set[str] = set()
        for index, pair in enumerate(pairs):
            if pair[side] in seen:
                place.at(index).inside(member).fail(f"{quoted(pair[side])} is given twice")
            seen.add(pair[side])
    return pairs


def _intel_rdt(value: Any, place: Place) -> tuple[tuple[str, Any], ...]:
    found = read_table(value, place, _INTEL_RDT)
    return tuple((name, item) for name, item in found.items() if item)


def _listed(
    read: _Reader,
) -> Callable[[Any, Place], tuple[Any, ...]]:
    return lambda value, place: _items(value, place, read)


def _edits(value: Any, place: Place) -> Edits:
    found = read_table(value, place, _EDITS)
    return Edits(
        env=found["env"],
        nodes=found["deviceNodes"],
        mounts=found["mounts"],
        hooks=found["hooks"],
        gids=found["additionalGids"],
        net_devices=found["netDevices"],
        intel_rdt=found["intelRdt"],
    )


def _device_name(value: Any, place: Place) -> str:
    name = _text(value, place)
    if not is_cdi_device(name):
        place.fail(f"{quoted(name)}: not the name of a device")
    if not name[0].isalpha():
        place.need("0.5.0", ", a name that begins with a digit")
    return name


def _device(value: Any, place: Place) -> Device:
    found = read_table(value, place, _DEVICE)
    if found["containerEdits"] == _NO_EDITS:
        place.inside("containerEdits").fail("empty")
    return Device(name=found["name"], edits=found["containerEdits"])


_NO_EDITS = Edits()
_NODE: _Members = {
    "path": (_full, _NEEDED, ""),
    "hostPath": (_text, "", "0.5.0"),
    "type": (_word("", "b", "c", "u", "p"), "", ""),
    "major": (_int64, 0, ""),
    "minor": (_int64, 0, ""),
    "fileMode": (_uint32, None, ""),
    "permissions": (_permissions, "", ""),
    "uid": (_uint32, None, ""),
    "gid": (_uint32, None, ""),
}
_MOUNT: _Members = {
    "hostPath": (_full, _NEEDED, ""),
    "containerPath": (_full, _NEEDED, ""),
    "options": (_texts, (), ""),
    "type": (_text, "", "0.4.0"),
}
_HOOK: _Members = {
    "hookName": (_word(*_STAGES), _NEEDED, ""),
    "path": (_full, _NEEDED, ""),
    "args": (_texts, (), ""),
    "env": (_variables, (), ""),
    "timeout": (_seconds, None, ""),
}
_NET_DEVICE: _Members = {
    "hostInterfaceName": (_full, _NEEDED, ""),
    "name": (_full, _NEEDED, ""),
}
_INTEL_RDT: _Members = {
    "closID": (_clos_id, "", ""),
    "l3CacheSchema": (_text, "", ""),
    "memBwSchema": (_text, "", ""),
    "schemata": (_texts, (), "1.1.0"),
    "enableMonitoring": (_truth, False, "1.1.0"),
    # of the versions before
    "enableCMT": (_truth, False, ""),
    "enableMBM": (_truth, False, ""),
}
_EDITS: _Members = {
    "env": (_variables, (), ""),
    "deviceNodes": (_listed(_node), (), ""),
    "mounts": (_listed(_mount), (), ""),
    "hooks": (_listed(_hook), (), ""),
    "additionalGids": (_listed(_uint32), (), "0.7.0"),
    "netDevices": (_net_devices, (), "1.1.0"),
    "intelRdt": (_intel_rdt, None, "0.7.0"),
}
_DEVICE: _Members = {
    "name": (_device_name, _NEEDED, ""),
    "annotations": (_annotations, {}, "0.6.0"),
    "containerEdits": (_edits, _NEEDED, ""),
}
SPEC: _Members = {
    "cdiVersion": (_full, _NEEDED, ""),
    "kind": (_full, _NEEDED, ""),
    "annotations": (_annotations, {}, "0.6.0"),
    "devices": (_listed(_device), _NEEDED, ""),
    "containerEdits": (_edits, _NO_EDITS, ""),
}
