# SPDX-License-Identifier: Apache-2.0
"""OCI documents: what is refused and with which words; what is written."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from libnvc._oci.document import MAX_SIZE, dumps, read, read_state
from libnvc.errors import MalformedFileError, NvcError

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = [
    (b"", "expecting value (line 1, column 1)"),
    (b"\n\n  ", "expecting value (line 3, column 3)"),
    (b"\xef\xbb\xbf{}", "expecting value (line 1, column 1)"),
    (b"{} x", "extra data (line 1, column 4)"),
    (b"{}\n{}", "extra data (line 2, column 1)"),
    (b"[]", "not an object"),
    (b'"x"', "not an object"),
    (b"null", "not an object"),
    (b'{"a":\n01}', "expecting ',' delimiter (line 2, column 2)"),
    (b'{"a": "\n"}', "invalid control character at (line 1, column 8)"),
    (b'{"a', "unterminated string starting at (line 1, column 2)"),
    (b'{"a": x}', "expecting value (line 1, column 7)"),
    (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
    (b'{"a": NaN}', "NaN is not a number in JSON"),
    (b'{"a": -Infinity}', "-Infinity is not a number in JSON"),
    (b'{"a": 1e999}', "the number 1e999 is out of range"),
    (b'{"a": -1e999}', "the number -1e999 is out of range"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number has too many digits"),
    (b'{"a":' * 200_000, "nested too deeply"),
    (b"[" * 200_000, "nested too deeply"),
    (b" " * (MAX_SIZE + 1), "larger than 16777216 bytes"),
]


@pytest.mark.parametrize(("data", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(data)
    with pytest.raises(MalformedFileError) as caught:
        read(str(file))
    assert caught.value.message == f"{file}: not an OCI configuration: {why}"
    assert caught.value.path == str(file)
    with pytest.raises(MalformedFileError) as caught:
        read_state(io.BytesIO(data))
    assert caught.value.message == f"could not decode container state: {why}"


def test_errors_have_a_place_also_where_json_is_not_loaded() -> None:
    program = (
        "import io, sys; before = set(sys.modules)\n"
        "from libnvc._oci.document import dumps, read_state\n"
        "dumps(read_state(io.BytesIO(b'{\"a\": [1.5]}')))\n"
        "assert not {'json', 're'} & (set(sys.modules) - before)\n"
        "read_state(io.BytesIO(b'{'))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{program}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == (
        "libnvc.errors.MalformedFileError: could not decode container state: expecting property "
        "name enclosed in double quotes (line 1, column 2)"
    )


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(MalformedFileError) as caught:
        read(str(path))
    assert caught.value.message == f"{path}: not an OCI configuration: not a regular file"


def test_a_directory_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(MalformedFileError) as caught:
        read(str(tmp_path))
    assert caught.value.message == f"{tmp_path}: not an OCI configuration: not a regular file"


def test_a_missing_document(tmp_path: Path) -> None:
    path = str(tmp_path / "a\nb")
    with pytest.raises(NvcError) as caught:
        read(path)
    assert caught.value.message == f"{tmp_path}/a\\nb: no such file or directory"
    assert (caught.value.errno, caught.value.path) == (errno.ENOENT, path)


def test_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "state", os.O_WRONLY | os.O_CREAT)
    with open(fd, "rb") as stream, pytest.raises(MalformedFileError) as caught:
        read_state(stream)
    assert caught.value.message == "could not decode container state: bad file descriptor"


def test_a_large_document_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    text = "x" * (3 << 20)
    file.write_bytes(dumps({"a": text}))
    assert read(str(file)) == {"a": text}


def test_the_last_of_members_given_twice_holds() -> None:
    assert read_state(io.BytesIO(b'{"a":1,"a":2}')) == {"a": 2}


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ({}, b"{}\n"),
        ({"b": 1, "a": [True, None, -0.5, {}]}, b'{"b":1,"a":[true,null,-0.5,{}]}\n'),
        (
            {"n": 2**80, "f": 1e22, "one": 1.0},
            b'{"n":1208925819614629174706176,"f":1e+22,"one":1.0}\n',
        ),
        ({"ä": "\u2028\n\0/"}, b'{"\xc3\xa4":"\xe2\x80\xa8\\n\\u0000/"}\n'),
        ({"half": "\ud83d"}, b'{"half":"\\ud83d"}\n'),
    ],
)
def test_what_is_written(document: dict[str, object], data: bytes) -> None:
    assert dumps(document) == data
    assert repr(read_state(io.BytesIO(data))) == repr(document)


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        (b"x", TypeError, "bytes is not in JSON"),
        (float("nan"), ValueError, "Out of range float values are not JSON compliant"),
    ],
)
def test_what_is_not_written(value: object, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        dumps({"a": value})


def test_what_is_nested_too_deeply_is_not_written() -> None:
    document: dict[str, object] = {}
    for _ in range(200_000):
        document = {"a": document}
    with pytest.raises(MalformedFileError) as caught:
        dumps(document)
    assert caught.value.message == "OCI configuration: nested too deeply"
