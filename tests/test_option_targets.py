"""Unix paths, their listener options, and file descriptors."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantou._addresses import Literal, Name
from mantou._options import parse_connect, parse_listen
from mantou._targets import (
    FdTarget,
    TcpTarget,
    UnixTarget,
    parse_fd,
    parse_tcp,
    parse_unix,
    parse_unix_listen,
)

HANDLERS = {"open": print}


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"/run/\xff"


class BrokenPath:
    def __fspath__(self) -> str:
        return 5  # type: ignore[return-value]


def test_tcp_keeps_the_hostname_as_given() -> None:
    target = parse_tcp({"hostname": "[::1]", "port": 80}, lowest_port=1)
    assert isinstance(target.host, Literal)
    assert str(target.host) == "::1"
    assert target.hostname == "[::1]"
    target = parse_tcp({"hostname": "Example.com", "port": 80}, lowest_port=1)
    assert target == TcpTarget(Name("Example.com"), 80, "Example.com")


@pytest.mark.parametrize(
    ("value", "path", "given"),
    [
        ("/run/s", b"/run/s", "/run/s"),
        ("relative", b"relative", "relative"),
        (b"/run/s", b"/run/s", "/run/s"),
        (PurePosixPath("/run/s"), b"/run/s", "/run/s"),
        (BytesPath(), b"/run/\xff", "/run/\udcff"),
        ("/run/\u00e9", "/run/\u00e9".encode(), "/run/\u00e9"),
        ("\0name", b"\0name", "\0name"),
        (b"\0name", b"\0name", "\0name"),
    ],
)
def test_unix_paths(value: object, path: bytes, given: str) -> None:
    target = parse_unix({"unix": value})
    assert target == UnixTarget(path, given)
    assert target.is_abstract == (path[:1] == b"\0")


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=107).filter(lambda path: b"\0" not in path))
def test_every_path_round_trips(path: bytes) -> None:
    target = parse_unix({"unix": path})
    assert target.path == path
    assert os.fsencode(target.given) == path
    assert parse_unix({"unix": target.given}) == target
    assert not target.is_abstract


@pytest.mark.parametrize("longest", ["x" * 107, "\u00e9" * 53 + "x", "\0" + "x" * 107])
def test_longest_paths(longest: str) -> None:
    parse_unix({"unix": longest})
    with pytest.raises(ValueError, match=r"'unix'.*bytes long.*got 10[89]"):
        parse_unix({"unix": longest + "x"})


@pytest.mark.parametrize(
    "value", ["", b"", "\0", "a\0", "a\0b", "\0a\0", "\0\0", "\ud800"], ids=repr
)
def test_paths_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="'unix'") as caught:
        parse_unix({"unix": value})
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    "value",
    [None, 0, True, 1.5, bytearray(b"/s"), ["/s"], BrokenPath()],
    ids=lambda value: type(value).__name__,
)
def test_paths_of_a_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match=r"'unix'.*got"):
        parse_unix({"unix": value})


def test_connect_and_listen_check_the_path() -> None:
    for parse in (parse_connect, parse_listen):
        with pytest.raises(ValueError, match="'unix'"):
            parse({"unix": "", "socket": HANDLERS})
        with pytest.raises(TypeError, match="'unix'"):
            parse({"unix": None, "socket": HANDLERS})


@pytest.mark.parametrize("mode", [0, 0o600, 0o777])
def test_mode(mode: int) -> None:
    target = parse_unix_listen({"unix": Path("/s"), "mode": mode, "unlink_stale": True})
    assert target == UnixTarget(b"/s", "/s", mode, True)


@pytest.mark.parametrize("mode", [None, True, 1.0, "0600"], ids=repr)
def test_mode_of_a_wrong_type(mode: object) -> None:
    with pytest.raises(TypeError, match="'mode'"):
        parse_unix_listen({"unix": "/s", "mode": mode})


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o100600])
def test_mode_beyond_permission_bits(mode: int) -> None:
    with pytest.raises(ValueError, match="'mode'"):
        parse_unix_listen({"unix": "/s", "mode": mode})


@pytest.mark.parametrize("value", [None, 0, 1, "yes"], ids=repr)
def test_unlink_stale_of_a_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match="'unlink_stale'"):
        parse_unix_listen({"unix": "/s", "unlink_stale": value})


@pytest.mark.parametrize(("name", "value"), [("mode", 0o600), ("unlink_stale", True)])
def test_an_abstract_socket_has_no_file(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"'{name}'.*abstract 'unix'"):
        parse_unix_listen({"unix": "\0name", name: value})
    assert parse_unix_listen({"unix": "\0name"}).is_abstract


@pytest.mark.parametrize("fd", [0, 7, 2**31 - 1])
def test_fds(fd: int) -> None:
    assert parse_fd({"fd": fd}) == FdTarget(fd)


@pytest.mark.parametrize("fd", [None, True, False, 1.0, "1", b"1", print], ids=repr)
def test_fds_of_a_wrong_type(fd: object) -> None:
    with pytest.raises(TypeError, match="'fd'"):
        parse_fd({"fd": fd})


@pytest.mark.parametrize("fd", [-1, 2**31])
def test_fds_out_of_range(fd: int) -> None:
    with pytest.raises(ValueError, match="'fd'"):
        parse_fd({"fd": fd})
