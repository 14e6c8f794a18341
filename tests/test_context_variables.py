"""Context variables: each connection has a context of its own, as asyncio's transports have."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

import mantou
from tests.support import Recorder, accepted, dial, every_link, every_stream, linked, listen, reach
from tests.tls_support import SERVER_OPTIONS, secured

Socket = mantou.Socket[Any]

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def login(socket: Socket, data: bytes) -> None:
    """Sets the variable to what came, or answers with what it is."""
    if data == b"who":
        socket.write(user.get())
    else:
        user.set(data.decode())
        socket.write(b"ok")


async def login_slowly(socket: Socket, data: bytes) -> None:
    await asyncio.sleep(0)
    login(socket, data)


async def ask(peer: Any, question: bytes, size: int) -> bytes:
    await peer.send(question)
    answer: bytes = await peer.receive(size)
    return answer


@every_stream
@pytest.mark.parametrize("handler", [login, login_slowly], ids=["plain", "async"])
async def test_no_connection_sees_what_another_has_set(link: str, handler: Any) -> None:
    with listen(Recorder(data=handler), link) as listener:
        ann, ben = await dial(listener, link), await dial(listener, link)
        assert await ask(ann, b"ann", 2) == b"ok"
        assert await ask(ben, b"who", 6) == b"nobody"
        assert await ask(ann, b"who", 3) == b"ann"
        assert await ask(ben, b"ben", 2) == b"ok"
        assert await ask(ann, b"who", 3) == b"ann"
        ann.close()
        ben.close()
    assert user.get() == "nobody"
    # Nor does the loop.
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: later.set_result(user.get()))
    assert await later == "nobody"


@every_link
async def test_all_handlers_of_a_connection_share_one(link: str) -> None:
    seen: list[tuple[str, str]] = []

    def note(name: str) -> Any:
        def handler(socket: Socket, *_: object) -> bool:
            seen.append((name, user.get()))
            user.set(f"set in {name}")
            return True

        return handler

    names = ["open", "data", "drain", "end", "timeout", "close"]
    recorder = Recorder(**{name: note(name) for name in names})
    async with linked(link, recorder) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        socket.timeout(0.01)
        await recorder.until("timeout")
        socket.timeout(0)
        peer.finish()
        await recorder.until("close")
    order = [name for name, _ in seen]
    assert order == ["open", "data", "timeout", "end", "close"]
    assert [value for _, value in seen] == ["nobody", *(f"set in {name}" for name in order[:-1])]


async def test_an_error_handler_is_in_it_too() -> None:
    seen: list[str] = []

    def on_data(socket: Socket, data: bytes) -> None:
        user.set("who failed")
        raise LookupError

    recorder = Recorder(data=on_data, error=lambda socket, error: seen.append(user.get()))
    async with accepted(recorder) as (_, peer):
        await peer.send(b"x")
        await recorder.until("close")
    assert seen == ["who failed"]


@every_stream
async def test_it_begins_as_where_listen_and_connect_were_called(link: str) -> None:
    seen: list[str] = []
    note = Recorder(open=lambda socket: seen.append(user.get()))
    context = contextvars.copy_context()
    context.run(user.set, "listener")
    listener = context.run(listen, note, link)
    token = user.set("client")
    with listener:
        socket = await reach(listener, note, link)
        await note.until("open", 2)
        user.reset(token)
        socket.terminate()
        await note.until("close", 2)
    assert sorted(seen) == ["client", "listener"]


async def test_data_factory_is_in_it() -> None:
    recorder = Recorder(open=lambda socket: socket.write(user.get()))
    factory = {"data_factory": lambda socket: user.set("made")}
    async with accepted(recorder, **factory) as (_, peer):
        assert await peer.receive(4) == b"made"
    assert user.get() == "nobody"


async def test_tasks_and_callbacks_of_a_handler_inherit_it() -> None:
    seen = asyncio.get_running_loop().create_future()

    def on_data(socket: Socket, data: bytes) -> None:
        user.set("ann")
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(user.get()))

    async with accepted(Recorder(data=on_data)) as (_, peer):
        await peer.send(b"x")
        assert await seen == "ann"


async def test_reload_and_upgrade_keep_it() -> None:
    secure = Recorder(data=login)
    first = Recorder(data=login)

    def upgrade(socket: Socket, data: bytes) -> None:
        socket.write(b"go")
        socket.upgrade_tls(tls=SERVER_OPTIONS, socket=secure)

    async with accepted(first) as (socket, peer):
        assert await ask(peer, b"ann", 2) == b"ok"
        socket.reload(Recorder(data=login))
        assert await ask(peer, b"who", 3) == b"ann"
        socket.reload(Recorder(data=upgrade))
        assert await ask(peer, b"STARTTLS", 2) == b"go"
        over_tls = await secured(peer.sock, server_side=False)
        assert await ask(over_tls, b"who", 3) == b"ann"


async def test_a_handler_may_connect() -> None:
    """The new connection's context is a copy of the one that the handler runs in."""
    seen: list[str] = []
    client = Recorder(open=lambda socket: (seen.append(user.get()), user.set("client")))
    with listen(Recorder()) as listener:

        async def on_data(socket: Socket, data: bytes) -> None:
            user.set("server")
            other = await reach(listener, client)
            seen.append(user.get())
            other.terminate()
            socket.write(b"done")

        async with accepted(Recorder(data=on_data)) as (_, peer):
            assert await ask(peer, b"x", 4) == b"done"
        await client.until("close")
    assert seen == ["server", "server"]
