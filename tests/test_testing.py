"""mantou.testing: pairs of sockets, and peers that are slow, cut off, or come in pieces."""

from __future__ import annotations

import asyncio
import gc
import re
import socket as kernel
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou import testing
from tests.support import Recorder

every_kind = pytest.mark.parametrize(
    "kind", [{}, {"unix": True}, {"tls": True}], ids=["tcp", "unix", "tls"]
)
both_sides = pytest.mark.parametrize("accepts", [False, True], ids=["serving", "connecting"])


def echo(**handlers: Any) -> Recorder:
    def answer(socket: mantou.Socket[Any], data: bytes) -> None:
        socket.write_all(data)

    return Recorder(data=answer, **handlers)


# socket_pair()


@every_kind
async def test_a_pair_is_connected(kind: dict[str, Any]) -> None:
    server, client = echo(), Recorder()
    async with testing.socket_pair(server, client, **kind) as (accepted, connected):
        assert server.names == client.names == ["open"]
        assert accepted.listener is not None
        assert connected.listener is None
        for number in range(1, 4):
            assert connected.write(b"question") == 8
            assert await client.until_received(8 * number) == b"question" * number
        family = kernel.AF_UNIX if "unix" in kind else kernel.AF_INET
        copy = kernel.socket(fileno=kernel.dup(connected.fileno()))
        assert copy.family == family
        copy.close()
    assert server.names[-1] == client.names[-1] == "close"
    assert accepted.fileno() == connected.fileno() == -1


async def test_a_pair_has_options_and_data_for_each_side() -> None:
    server, client = Recorder(), Recorder()
    async with testing.socket_pair(
        server,
        client,
        accepted_options={"data": "theirs", "idle_timeout": 0.05},
        connected_options={"data": "mine"},
    ) as (accepted, connected):
        assert (accepted.data, connected.data) == ("theirs", "mine")
        await server.until("timeout")


async def test_a_pair_may_have_a_factory_of_data() -> None:
    made: list[mantou.Socket[Any]] = []

    def factory(socket: mantou.Socket[Any]) -> str:
        made.append(socket)
        return "made"

    options = {"data_factory": factory}
    async with testing.socket_pair(Recorder(), Recorder(), accepted_options=options) as (one, _):
        assert made == [one]
        assert one.data == "made"


async def test_a_pair_speaks_tls_as_told() -> None:
    made = testing.certificates()
    async with testing.socket_pair(
        Recorder(), Recorder(), tls=({**made.server, "max_version": "TLSv1.2"}, made.client_context)
    ) as (accepted, connected):
        assert accepted.get_tls_version() == connected.get_tls_version() == "TLSv1.2"


async def test_a_pair_that_cannot_be_connected_says_why_and_leaves_nothing() -> None:
    server, client = Recorder(), Recorder()
    stranger: Any = {"ca": testing.certificates().server["cert"], "server_name": "localhost"}
    with pytest.raises(ssl.SSLCertVerificationError):
        async with testing.socket_pair(
            server, client, tls=(testing.certificates().server, {**stranger, "server_name": "x"})
        ):
            pytest.fail("it is not connected")
    assert client.names == ["connect_error"]


async def test_the_body_of_a_pair_may_raise() -> None:
    server, client = Recorder(), Recorder()
    with pytest.raises(ZeroDivisionError):
        async with testing.socket_pair(server, client):
            raise ZeroDivisionError
    assert server.names[-1] == client.names[-1] == "close"


# peer()


@every_kind
@both_sides
async def test_a_peer_converses(kind: dict[str, Any], accepts: bool) -> None:
    async with testing.peer(echo(), accepts=accepts, **kind) as peer:
        for message in (b"one", b"two", b"three"):
            assert await peer.send(message) == len(message)
            assert await peer.receive_exactly(len(message)) == message
        await peer.finish()
        assert await peer.receive_until_end() == b""


@every_kind
@both_sides
async def test_fragments_are_events_of_their_own(kind: dict[str, Any], accepts: bool) -> None:
    recorder = Recorder()
    async with testing.peer(recorder, accepts=accepts, fragments=[1, 2, 3], **kind) as peer:
        assert await peer.send(b"abcdefghijk") == 11
        pieces = [data for _, data in recorder.of("data")]
        assert pieces == [b"a", b"bc", b"def", b"g", b"hi", b"jk"]
        peer.fragments = ()
        await peer.send(b"at once")
        await recorder.until_received(18)
        assert recorder.of("data")[-1] == ("data", b"at once")


async def test_fragments_do_not_wait_for_who_has_paused() -> None:
    recorder = Recorder(open=lambda socket: socket.pause())
    async with testing.peer(recorder, fragments=[1]) as peer:
        assert await peer.send(b"abc") == 3
        assert recorder.names == ["open"]
        peer.socket.resume()
        assert await recorder.until_received(3) == b"abc"


@every_kind
async def test_a_fin_comes_after_so_many_bytes(kind: dict[str, Any]) -> None:
    recorder = echo()
    async with testing.peer(recorder, finish_after=5, fragments=[3], **kind) as peer:
        assert await peer.send(b"hello world") == 5
        assert await peer.receive_until_end() == b"hello"
        await recorder.until("close")
        assert recorder.names == ["open", "data", "end", "close"]
        assert recorder.errors == [None]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_rst_comes_after_so_many_bytes(tls: bool) -> None:
    recorder = Recorder()
    async with testing.peer(recorder, reset_after=3, fragments=[2], tls=tls) as peer:
        assert await peer.send(b"ab") == 2
        assert await peer.send(b"cdef") == 1
        await recorder.until("close")
        assert recorder.received == b"abc"
        assert isinstance(recorder.errors[0], ConnectionResetError)


@both_sides
async def test_a_tls_peer_can_cut_the_connection(accepts: bool) -> None:
    recorder = Recorder()
    async with testing.peer(recorder, accepts=accepts, tls=True) as peer:
        await peer.send(b"half")
        peer.truncate()
        await recorder.until("close")
        assert recorder.received == b"half"
        assert isinstance(recorder.errors[0], ssl.SSLEOFError)


@both_sides
async def test_a_slow_peer_is_felt(accepts: bool) -> None:
    size = 4 * 1024 * 1024
    recorder = Recorder(open=lambda socket: socket.write_all(bytes(size)))
    async with testing.peer(recorder, accepts=accepts, receive_buffer=4096) as peer:
        assert peer.socket.buffered > 0
        peer.socket.end()
        assert len(await peer.receive_until_end()) == size
        assert "drain" in recorder.names


async def test_what_a_peer_does_not_get_is_said() -> None:
    recorder = Recorder(open=lambda socket: socket.end(b"bye"))
    async with testing.peer(recorder) as peer:
        with pytest.raises(EOFError, match="3 bytes came, 4 were expected"):
            await peer.receive_exactly(4)


async def test_pauses_and_portions() -> None:
    recorder = Recorder(open=lambda socket: socket.end(b"abcdef"))
    loop = asyncio.get_running_loop()
    async with testing.peer(recorder, fragments=[1], pause=0.01) as peer:
        before = loop.time()
        await peer.send(b"xyz")
        assert await peer.receive_until_end(at_most=2, pause=0.01) == b"abcdef"
        assert loop.time() - before >= 0.05


@both_sides
async def test_a_handshake_that_fails_is_raised(accepts: bool) -> None:
    made = testing.certificates()
    # Each trusts the system's authorities, of which none has signed the certificate.
    ours: Any = {} if accepts else made.server
    theirs = made.server_context if accepts else ssl.create_default_context()
    with pytest.raises(ssl.SSLError):
        async with testing.peer(Recorder(), accepts=accepts, tls=(ours or True, theirs)):
            pytest.fail("it is not connected")


async def test_options_go_to_listen_and_connect() -> None:
    async with testing.peer(Recorder(), data=7) as peer:
        assert peer.socket.data == 7
    async with testing.peer(Recorder(), accepts=True, data=8) as peer:
        assert peer.socket.data == 8
    for accepts in (False, True):
        with pytest.raises(TypeError, match="idle_timeouts"):
            async with testing.peer(Recorder(), accepts=accepts, idle_timeouts=1):
                pytest.fail("it is not connected")


async def test_a_unix_socket_has_no_rst() -> None:
    with pytest.raises(ValueError, match="reset_after needs TCP"):
        async with testing.peer(Recorder(), unix=True, reset_after=1):
            pytest.fail("it is not connected")


def test_certificates_need_trustme(monkeypatch: pytest.MonkeyPatch) -> None:
    testing.certificates.cache_clear()
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r"pip install 'mantou\[testing\]'"):
        testing.certificates()


async def test_a_block_that_is_cancelled_leaves_nothing() -> None:
    recorder = Recorder()

    async def wait() -> None:
        async with testing.peer(recorder):
            await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(wait())
    await recorder.until("open")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.names[-1] == "close"
    gc.collect()


async def test_what_the_documentation_shows() -> None:
    page = Path(__file__).parent.parent / "docs" / "guides" / "testing.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, str(page), "exec"), names)
    shown = [test for name, test in names.items() if name.startswith("test_")]
    assert len(shown) == 3
    for test in shown:
        await test()


# Behind a proxy


@every_kind
async def test_a_peer_may_begin_with_a_proxy_header(kind: dict[str, Any]) -> None:
    recorder = echo()
    header = mantou.ProxyHeader(
        source_address="192.0.2.1",
        source_port=1,
        destination_address="192.0.2.2",
        destination_port=2,
    )
    options: dict[str, Any] = {"preface": bytes(header), "proxy_protocol": "require", **kind}
    async with testing.peer(recorder, **options) as peer:
        assert peer.socket.remote_address == "192.0.2.1"
        await peer.send(b"hello")
        assert await peer.receive_exactly(5) == b"hello"


async def test_who_is_turned_away_does_not_wait_for_ever() -> None:
    recorder = Recorder()
    options: dict[str, Any] = {"proxy_protocol": "require", "handshake_timeout": 0.1}
    with pytest.raises(ConnectionAbortedError, match="turned the connection away"):
        async with testing.peer(recorder, **options):
            pytest.fail("it came in")
    with pytest.raises(ConnectionAbortedError, match="turned the connection away"):
        async with testing.socket_pair(recorder, Recorder(), accepted_options=options):
            pytest.fail("it came in")
    assert recorder.names == ["connect_error"] * 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"fragments": [0]}, ValueError),
        ({"fragments": 5}, TypeError),
        ({"fragments": "12"}, TypeError),
        ({"fragments": [1, 1.5]}, TypeError),
        ({"pause": -1}, ValueError),
        ({"pause": None}, TypeError),
        ({"finish_after": -1}, ValueError),
        ({"reset_after": True}, TypeError),
        ({"receive_buffer": 0}, ValueError),
        ({"tls": {"ca": "-----BEGIN CERTIFICATE-----"}}, TypeError),
        ({"accepts": True, "preface": b"x"}, ValueError),
    ],
)
async def test_what_a_peer_cannot_do_is_refused(
    wrong: dict[str, Any], error: type[Exception]
) -> None:
    name = list(wrong)[-1]
    with pytest.raises(error, match=name):
        async with testing.peer(Recorder(), **wrong):
            pytest.fail("it began")
    if name in ("fragments", "pause", "finish_after", "reset_after"):
        async with testing.peer(Recorder()) as peer:
            setattr(peer, name, wrong[name])
            with pytest.raises(error, match=name):
                await peer.send(b"hello")
