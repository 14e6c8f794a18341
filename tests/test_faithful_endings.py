"""A TLS connection on mantou's loop ends as on asyncio's: what is told, when, and the wire."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import mantou
from tests.faithful_endings import SIDES, Case, Connection, Setting, Story, failed, on_loop, told
from tests.peers import Peer
from tests.protocols import Buffered, Plain
from tests.tls_support import VERSIONS, TlsPeer

CASES: dict[str, tuple[Case, dict[str, Any]]] = {}


def case(**settings: Any) -> Callable[[Case], Case]:
    def enter(function: Case) -> Case:
        CASES[function.__name__.replace("_", " ")] = (function, settings)
        return function

    return enter


# The peer ends


@case()
async def the_peer_notifies(made: Connection) -> None:
    made.peer.notify()
    await made.see()
    await made.see_the_end()


@case()
async def the_peer_notifies_and_finishes(made: Connection) -> None:
    made.peer.finish()
    await made.see()
    await made.see_the_end()


@case()
async def data_and_close_notify_in_one_segment(made: Connection) -> None:
    await made.peer.part(b"last")
    await made.see()
    await made.see_the_end()


@case()
async def garbage_behind_close_notify(made: Connection) -> None:
    await made.peer.part(b"last", behind=b"\x17\x03\x03\x00\x05steam")
    await made.see()
    await made.see_the_end()


@case()
async def the_peer_truncates(made: Connection) -> None:
    made.peer.truncate()
    await made.see()


@case()
async def the_peer_truncates_behind_data(made: Connection) -> None:
    await made.peer.send(b"cut")
    made.peer.truncate()
    await made.see()


@case()
async def the_peer_truncates_in_mid_record(made: Connection) -> None:
    made.peer.sock.send(made.peer.seal(b"x" * 1000)[:500])
    made.peer.truncate()
    await made.see()


@case()
async def the_peer_truncates_in_mid_header(made: Connection) -> None:
    made.peer.sock.send(made.peer.seal(b"x" * 1000)[:3])
    made.peer.truncate()
    await made.see()


@case()
async def the_peer_resets(made: Connection) -> None:
    made.peer.reset()


@case()
async def the_peer_notifies_and_resets(made: Connection) -> None:
    made.peer.notify()
    made.peer.reset()


@case()
async def a_broken_record(made: Connection) -> None:
    sealed = bytearray(made.peer.seal(b"x" * 1000))
    sealed[-1] ^= 1
    made.peer.sock.send(sealed)
    await made.protocol.lost


@case()
async def what_is_no_record(made: Connection) -> None:
    made.peer.sock.send(b"GET / HTTP/1.1\r\n\r\n")
    await made.protocol.lost


@case()
async def the_peer_notifies_while_we_do_not_read(made: Connection) -> None:
    made.transport.pause_reading()
    await made.peer.send(b"waits")
    made.peer.notify()
    made.transport.write(b"said")
    assert await made.peer.receive(4) == b"said"
    made.notes.append(list(made.protocol.calls))
    made.transport.resume_reading()
    await made.see()
    await made.see_the_end()


@case()
async def the_peer_notifies_with_much_on_the_way(made: Connection) -> None:
    made.transport.write(bytes(4 << 20))
    made.peer.notify()
    await made.see()
    await made.see_the_end()


# We end


@case()
async def close(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.notes.append(list(made.protocol.calls))
    made.peer.finish()
    await made.protocol.lost
    await made.see_the_end()


@case()
async def close_and_the_peer_notifies_only(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.peer.notify()
    await made.see_the_end()


@case()
async def close_and_the_peer_truncates(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.peer.truncate()
    await made.see_the_end()


@case()
async def close_and_the_peer_resets(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.peer.reset()


@case()
async def close_and_both_notify_at_once(made: Connection) -> None:
    made.peer.notify()
    made.transport.close()
    await made.see()
    await made.see_the_end()


@case()
async def close_with_much_on_the_way(made: Connection) -> None:
    made.transport.write(bytes(4 << 20))
    made.transport.close()
    await made.see()
    made.peer.finish()
    await made.see_the_end()


@case()
async def close_while_the_peer_sends(made: Connection) -> None:
    made.transport.close()
    await made.see()
    await made.peer.send(b"late")
    made.peer.finish()
    await made.protocol.lost


@case()
async def close_while_data_waits(made: Connection) -> None:
    made.transport.pause_reading()
    await made.peer.send(b"early")
    made.transport.close()
    await made.see()
    made.peer.finish()
    await made.protocol.lost


@case()
async def close_while_the_goodbye_waits(made: Connection) -> None:
    made.transport.pause_reading()
    made.peer.notify()
    made.transport.write(b"said")
    assert await made.peer.receive(4) == b"said"
    made.transport.close()
    await made.see()
    await made.see_the_end()


@case()
async def close_and_garbage(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.peer.sock.send(b"GET / HTTP/1.1\r\n\r\n")
    await made.protocol.lost


@case()
async def close_twice(made: Connection) -> None:
    made.transport.close()
    made.transport.close()
    made.notes.append(made.transport.is_closing())
    await made.see()
    made.peer.finish()
    await made.see_the_end()


@case()
async def close_and_abort(made: Connection) -> None:
    made.transport.close()
    made.transport.abort()
    await made.see()


@case()
async def abort(made: Connection) -> None:
    made.transport.abort()
    made.notes.append(list(made.protocol.calls))
    await made.protocol.lost
    await made.see()


@case()
async def abort_behind_a_write(made: Connection) -> None:
    made.transport.write(b"last words")
    made.transport.abort()
    await made.see()


@case()
async def abort_with_much_on_the_way(made: Connection) -> None:
    made.transport.write(bytes(4 << 20))
    made.transport.abort()
    await made.protocol.lost


@case()
async def write_eof(made: Connection) -> None:
    made.notes.append(made.transport.can_write_eof())
    with pytest.raises(NotImplementedError):
        made.transport.write_eof()
    made.transport.write(b"goes on")
    assert await made.peer.receive(7) == b"goes on"
    made.transport.abort()


class Answering(Plain):
    def eof_received(self) -> bool:
        self.transport.write(b"goodbye")
        return super().eof_received()


class Staying(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.keeps_open = True


class Failing(Plain):
    def eof_received(self) -> bool:
        super().eof_received()
        raise ValueError("eof")


class Leaving(Plain):
    def eof_received(self) -> bool:
        self.transport.close()
        return super().eof_received()


@case(protocol=Answering)
async def an_answer_to_the_goodbye(made: Connection) -> None:
    made.peer.notify()
    await made.see()
    await made.see_the_end()


@case(protocol=Answering)
async def an_answer_to_a_truncation(made: Connection) -> None:
    made.peer.truncate()
    await made.see()


@case(protocol=Staying)
async def staying_has_no_effect(made: Connection) -> None:
    made.peer.notify()
    await made.see()
    await made.see_the_end()


@case(protocol=Failing)
async def an_exception_in_eof_received(made: Connection) -> None:
    made.peer.notify()
    await made.protocol.lost


@case(protocol=Leaving)
async def close_in_eof_received(made: Connection) -> None:
    made.peer.notify()
    await made.see()
    await made.see_the_end()


@case(protocol=Buffered)
async def close_with_a_buffered_protocol(made: Connection) -> None:
    made.transport.close()
    await made.see()
    made.peer.finish()
    await made.see_the_end()


@case(shutdown_timeout=0.05)
async def close_and_the_peer_never_answers(made: Connection) -> None:
    made.transport.close()
    await made.see()
    await made.protocol.lost
    await made.see_the_end()


@case(shutdown_timeout=0.05)
async def close_and_the_peer_never_reads(made: Connection) -> None:
    made.transport.write(bytes(16 << 20))
    made.transport.close()
    await made.protocol.lost


# As uvloop has it: to asyncio that is an SSLError, and a reset for the peer.
UVLOOPS = ("close while the peer sends", "close while data waits")

engines = pytest.mark.parametrize(
    "kind", [ssl.SSLContext, mantou.SSLContext], ids=["openssl", "rustls"]
)


@functools.cache
def truth_of(name: str, side: str, version: str) -> Story:
    """The story that asyncio tells, or uvloop."""
    function, options = CASES[name]
    setting = Setting(side, version, ssl.SSLContext, **options)
    truth = on_loop(asyncio.SelectorEventLoop, functools.partial(told, function, setting))
    if name in UVLOOPS:
        assert truth.error == (ssl.SSLError, "APPLICATION_DATA_AFTER_CLOSE_NOTIFY")
        truth = on_loop(uvloop.new_event_loop, functools.partial(told, function, setting))
    return truth


@engines
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", CASES)
def test_an_ending_is_told_as_asyncio_tells_it(
    name: str, side: str, version: str, kind: type[ssl.SSLContext]
) -> None:
    function, options = CASES[name]
    setting = Setting(side, version, kind, **options)
    ours = on_loop(mantou.EventLoop, functools.partial(told, function, setting))
    assert ours == truth_of(name, side, version)


# A handshake that comes to nothing


async def finishing(peer: TlsPeer) -> None:
    Peer.finish(peer)


async def finishing_in_mid_record(peer: TlsPeer) -> None:
    hello = await peer.first_words()
    await Peer.send(peer, hello[: len(hello) // 2])
    Peer.finish(peer)


async def finishing_behind_the_first_words(peer: TlsPeer) -> None:
    await Peer.send(peer, await peer.first_words())
    Peer.finish(peer)


async def resetting(peer: TlsPeer) -> None:
    peer.reset()


async def resetting_behind_the_first_words(peer: TlsPeer) -> None:
    hello = await peer.first_words()
    await Peer.send(peer, hello[: len(hello) // 2])
    peer.reset()


async def speaking_http(peer: TlsPeer) -> None:
    await Peer.send(peer, b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def saying_nothing(_: TlsPeer) -> None:
    pass


FAILURES = [
    finishing,
    finishing_in_mid_record,
    finishing_behind_the_first_words,
    resetting,
    resetting_behind_the_first_words,
    speaking_http,
    saying_nothing,
]


@engines
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda it: it.__name__)
def test_a_handshake_fails_as_asyncios_does(
    failure: Callable[[TlsPeer], Any], side: str, kind: type[ssl.SSLContext]
) -> None:
    limit = 0.05 if failure is saying_nothing else 10.0

    def story(of: type[ssl.SSLContext]) -> Any:
        setting = Setting(side, "TLSv1.3", of, handshake_timeout=limit)
        return functools.partial(failed, failure, setting)

    truth = on_loop(asyncio.SelectorEventLoop, story(ssl.SSLContext))
    assert on_loop(mantou.EventLoop, story(kind)) == truth
