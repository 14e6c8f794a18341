"""Errors of the system name what they are about: an address, a path or a descriptor."""

from __future__ import annotations

import asyncio
import errno
import os
import socket as kernel
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.kernel import FullListener, unused_port
from tests.support import RawListener, Recorder, connected
from tests.tls_support import CLIENT_OPTIONS

# Of TEST-NET-1: no machine has it.
FOREIGN = "192.0.2.1"


def names(error: OSError, code: int, where: str) -> None:
    """Asserts that the error is the system's, and that its text names this besides."""
    assert type(error) is type(OSError(code, ""))
    assert (error.errno, error.strerror) == (code, os.strerror(code))
    assert str(error) == f"[Errno {code}] {os.strerror(code)}: {where!r}"


class Told(Recorder):
    """Notes the text of `connect_error`'s error as it was then."""

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> object:
        self.text = str(error)
        return super().connect_error(socket, error)


async def failure(**options: Any) -> OSError:
    """What connect() raises; the handler was told the same."""
    recorder = Told()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await mantou.connect(**{"socket": recorder, **options})
    assert recorder.events == [("connect_error", caught.value)]
    assert recorder.text == str(caught.value)
    return caught.value


def listen_failure(**options: Any) -> OSError:
    """What listen() raises."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        mantou.listen(**{"socket": Recorder(), **options})
    return caught.value


# connect()


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_a_refused_connection_names_the_address(host: str, shown: str) -> None:
    port = unused_port(host)
    names(await failure(hostname=host, port=port), errno.ECONNREFUSED, f"{shown}:{port}")
    error = await failure(hostname=f"[{host}]" if ":" in host else host, port=str(port))
    names(error, errno.ECONNREFUSED, f"{shown}:{port}")


async def test_several_addresses_are_named_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        hosts = ("127.0.0.1", "127.0.0.2")
        return [(kernel.AF_INET, kernel.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    error = await failure(hostname="several.test", port=port)
    names(error, errno.ECONNREFUSED, f"127.0.0.1:{port}")
    assert [note.split()[0] for note in error.__notes__] == ["127.0.0.1", "127.0.0.2"]


async def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise kernel.gaierror(kernel.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    error = await failure(hostname="nobody.test", port=80)
    assert type(error) is kernel.gaierror
    assert (error.errno, error.strerror) == (kernel.EAI_NONAME, "Name or service not known")
    assert str(error).endswith("Name or service not known: 'nobody.test:80'")


async def test_a_connection_that_takes_too_long_names_the_address() -> None:
    with FullListener() as full:
        error = await failure(hostname="127.0.0.1", port=full.port, connect_timeout=0.05)
        assert type(error) is TimeoutError
        assert error.errno == errno.ETIMEDOUT
        assert f"127.0.0.1 port {full.port} within 0.05 s" in str(error)


async def test_a_local_address_is_named_where_it_is_the_trouble() -> None:
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": unused_port()}
    error = await failure(**options, local_address=FOREIGN, local_port=7)
    names(error, errno.EADDRNOTAVAIL, f"{FOREIGN}:7")
    with RawListener() as taken:
        error = await failure(**options, local_port=taken.port)
        names(error, errno.EADDRINUSE, f"0.0.0.0:{taken.port}")


async def test_connecting_to_a_unix_socket_names_the_path(tmp_path: Path) -> None:
    names(await failure(unix=tmp_path / "s"), errno.ENOENT, str(tmp_path / "s"))
    abstract = f"\0mantou-{os.getpid()}-nobody"
    names(await failure(unix=abstract), errno.ECONNREFUSED, abstract)
    with FullListener(str(tmp_path / "full"), kernel.AF_UNIX):
        error = await failure(unix=tmp_path / "full", connect_timeout=0.05)
    assert type(error) is TimeoutError
    assert repr(str(tmp_path / "full")) in str(error)


async def test_connecting_with_a_wrong_fd_names_it() -> None:
    names(await failure(fd=2**31 - 1), errno.EBADF, f"fd {2**31 - 1}")
    with kernel.socket() as lonely:
        names(await failure(fd=lonely.fileno()), errno.ENOTCONN, f"fd {lonely.fileno()}")
    with open(os.devnull) as file:
        names(await failure(fd=file.fileno()), errno.ENOTSOCK, f"fd {file.fileno()}")


async def test_a_reset_within_the_handshake_names_the_address() -> None:
    with RawListener() as raw:
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": raw.port}
        connecting = asyncio.ensure_future(
            mantou.connect(**options, socket=Recorder(), tls=CLIENT_OPTIONS)
        )
        peer = await raw.accept()
        await peer.receive(1)
        peer.reset()
        with pytest.raises(ConnectionResetError) as caught:
            await connecting
        names(caught.value, errno.ECONNRESET, f"127.0.0.1:{raw.port}")


async def test_what_a_handler_raises_is_left_alone() -> None:
    def fail(_: object) -> None:
        raise mine

    mine = OSError(errno.EIO, "mine")
    with RawListener() as raw:
        with pytest.raises(OSError, match="mine") as caught:
            await mantou.connect(
                hostname="127.0.0.1",
                port=raw.port,
                socket={"open": fail, "error": lambda socket, error: None},
            )
        assert caught.value is mine
        assert mine.filename is None


# listen()


async def test_a_port_that_is_taken_names_the_address() -> None:
    with RawListener() as taken:
        error = listen_failure(hostname="127.0.0.1", port=taken.port)
        names(error, errno.EADDRINUSE, f"127.0.0.1:{taken.port}")


async def test_an_address_that_is_not_ours_is_named() -> None:
    names(listen_failure(hostname=FOREIGN, port=0), errno.EADDRNOTAVAIL, f"{FOREIGN}:0")
    error = listen_failure(hostname="fe80::1%nowhere", port=7)
    assert (error.errno, error.filename) == (errno.ENODEV, "[fe80::1%nowhere]:7")


async def test_listening_by_name_notes_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawListener(("127.0.0.1", 0)) as taken:
        found = [
            (kernel.AF_INET, kernel.SOCK_STREAM, 6, "", (host, taken.port))
            for host in ("127.0.0.1", FOREIGN)
        ]
        monkeypatch.setattr(kernel, "getaddrinfo", lambda *_, **__: found)
        error = listen_failure(hostname="several.test", port=taken.port)
        names(error, errno.EADDRINUSE, f"127.0.0.1:{taken.port}")
    expected = [("127.0.0.1", errno.EADDRINUSE), (FOREIGN, errno.EADDRNOTAVAIL)]
    for note, (host, code) in zip(error.__notes__, expected, strict=True):
        assert host in note
        assert os.strerror(code) in note


async def test_listening_at_a_unix_path_names_it(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "s"
    names(listen_failure(unix=path), errno.ENOENT, str(path))
    (tmp_path / "file").touch()
    names(listen_failure(unix=tmp_path / "file"), errno.EADDRINUSE, str(tmp_path / "file"))


async def test_listening_with_a_wrong_fd_names_it() -> None:
    names(listen_failure(fd=2**31 - 1), errno.EBADF, f"fd {2**31 - 1}")
    with open(os.devnull) as file:
        names(listen_failure(fd=file.fileno()), errno.ENOTSOCK, f"fd {file.fileno()}")


@pytest.mark.loops("mantou")
async def test_an_fd_that_is_used_already_is_named() -> None:
    async with connected(Recorder()) as (socket, _):
        fd = socket.fileno()
        names(await failure(fd=fd), errno.EEXIST, f"fd {fd}")
        assert socket.fileno() == fd
        socket.terminate()
