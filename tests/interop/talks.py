"""The scenarios: what mantou and a peer do with each other, in either role."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mantou
from tests.interop.peers import MESSAGES, Ask, Peer
from tests.interop.stage import LIMIT, End, Process, call, running, serving
from tests.tls import (
    CLIENT_AUTH,
    Credential,
    authority,
    client_context,
    client_options,
    server_context,
    server_options,
)

# Nothing in it is a command of a peer's at the beginning of what it reads.
_WORDS = b"steamed buns are best when they are hot; "
PIECE = _WORDS * 5
BULK = _WORDS * (256 * 1024 // len(_WORDS)) + b".end of it"
BYTES = b"mantou with sesame, a byte a record"
_GROUPS = {"P-256": "prime256v1", "P-384": "secp384r1"}


@dataclass(frozen=True)
class Scenario:
    name: str
    ask: Ask
    talk: str = "piece"
    """What is said: "piece", "bulk", "bytes", "cut", "update"."""


def _scenarios() -> list[Scenario]:
    versions = ("TLSv1.2", "TLSv1.3")
    found = [Scenario(one, Ask(one)) for one in versions]
    for group in ("X25519", "P-256", "P-384", "X25519MLKEM768"):
        found.append(Scenario(group, Ask("TLSv1.3", group=group)))
    for one in versions:
        found.append(Scenario(f"client certificate, {one}", Ask(one, client_certificate=True)))
        found.append(Scenario(f"resumption, {one}", Ask(one, resume=True)))
    found.append(Scenario("key update", Ask("TLSv1.3", update=True), "update"))
    found.append(Scenario("early close", Ask("TLSv1.3"), "cut"))
    found.append(Scenario("records of 16 KiB", Ask("TLSv1.3"), "bulk"))
    found.append(Scenario("records of one byte", Ask("TLSv1.3"), "bytes"))
    return found


SCENARIOS = _scenarios()


def for_peer(scenario: Scenario, peer: Peer) -> Scenario:
    """With TLS 1.2 where a peer has nothing newer, and the version does not matter."""
    if "TLSv1.3" not in peer.cannot or "TLSv1.3" in scenario.name:
        return scenario
    return replace(scenario, ask=replace(scenario.ask, version="TLSv1.2"))


@dataclass(frozen=True)
class Engine:
    """What drives mantou's end."""

    name: str

    def client(self, ask: Ask, session: object = None) -> Any:
        own = _client() if ask.client_certificate else None
        if self.name == "ssl.SSLContext":
            return client_context(own)
        options = client_options(**(own.options if own else {}))
        return options if session is None else options | {"session": session}

    def server(self, ask: Ask) -> Any:
        if self.name == "ssl.SSLContext":
            context = server_context()
            if ask.client_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(cadata=authority().pem.decode())
            return context
        if ask.client_certificate:
            return server_options(ca=authority().pem, request_cert=True, reject_unauthorized=True)
        return server_options()


def _client() -> Credential:
    return authority().issue(common_name="a client", usage=CLIENT_AUTH)


RUSTLS, OPENSSL = Engine("rustls"), Engine("ssl.SSLContext")


# The peer serves


async def with_server(peer: Peer, engine: Engine, scenario: Scenario) -> None:
    ask = scenario.ask
    async with serving(peer, ask) as (process, port):
        socket, end = await call(port, engine.client(ask))
        check(socket, engine, ask)
        if scenario.talk == "cut":
            await cut_server(peer, process, socket, end)
            return
        await _SERVED["http" if peer.http else scenario.talk](peer, process, socket, end)
        socket.end()
        await end.closed()
        if ask.resume:
            assert end.session is not None, "it got no session"
            socket, end = await call(port, engine.client(ask, end.session))
            assert socket.is_session_reused(), "the session was not resumed"
            await _SERVED["http" if peer.http else "piece"](peer, process, socket, end)
            socket.end()
            await end.closed()


def check(socket: mantou.Socket[Any], engine: Engine, ask: Ask) -> None:
    assert socket.get_tls_version() == ask.version
    if ask.group is not None and engine is RUSTLS:
        told = socket.get_ephemeral_key_info()
        assert told is not None
        assert told["name"] == _GROUPS.get(ask.group, ask.group)


async def exchange(
    peer: Peer, process: Process, socket: mantou.Socket[Any], end: End, data: bytes
) -> None:
    """The peer gets data, and mantou the same from it."""
    before = len(end.received)
    socket.write_all(data)
    if not peer.echoes:
        await process.hear(data)
        process.say(data)
    received = await end.receive(before + len(data))
    assert received[before:] == data


async def piece(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    await exchange(peer, process, socket, end, PIECE + b"\n")


async def bulk(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    await exchange(peer, process, socket, end, BULK + b"\n")


async def one_by_one(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    """Each byte in a record of its own: the next follows when it has come back."""
    for at in range(len(BYTES)):
        socket.write_all(BYTES[at : at + 1])
        if not peer.echoes:
            await process.hear(BYTES[: at + 1])
            process.say(BYTES[at : at + 1])
        assert (await end.receive(at + 1))[at:] == BYTES[at : at + 1]


async def updated(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    """The peer's keys change, and it asks for new ones of ours, three times."""
    await piece(peer, process, socket, end)
    for turn in range(3):
        process.say(UPDATES[peer.program])
        await exchange(peer, process, socket, end, b"turn %d " % turn + PIECE + b"\n")
    # The answer to the last one comes with what is sent next.
    await piece(peer, process, socket, end)
    await updates(peer, sent=3, answered=3)


async def updates(peer: Peer, *, sent: int, answered: int) -> None:
    """Waits until a peer that tells of it has sent so many updates, and has got so many."""
    if peer.program != "openssl":
        return
    async with asyncio.timeout(LIMIT):
        while True:
            told = Path(MESSAGES).read_text() if Path(MESSAGES).exists() else ""
            found = [len(re.findall(rf"{way} TLS 1.3.*KeyUpdate", told)) for way in (">>>", "<<<")]
            if found[0] >= sent and found[1] >= answered:
                return
            # Nothing tells when another process writes a file.
            await asyncio.sleep(0.01)


UPDATES = {"openssl": b"K\n", "gnutls-cli": b"^rekey^\n"}


async def requested(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    """A server of HTTP: the request in records of a byte."""
    for byte in b"GET / HTTP/1.0\r\n\r\n":
        socket.write_all(bytes([byte]))
        await asyncio.sleep(0)
    received = await end.receive(16)
    assert received.startswith(b"HTTP/1.0 200 OK")


_Talk = Callable[[Peer, Process, mantou.Socket[Any], End], Awaitable[None]]
_SERVED: dict[str, _Talk] = {
    "piece": piece,
    "bulk": bulk,
    "bytes": one_by_one,
    "update": updated,
    "http": requested,
}


async def cut_server(peer: Peer, process: Process, socket: mantou.Socket[Any], end: End) -> None:
    if not peer.http:
        await piece(peer, process, socket, end)
    process.kill()
    error = await end.closed()
    assert isinstance(error, ssl.SSLEOFError | ConnectionResetError), f"a cut was told as {error!r}"


# The peer connects


async def with_client(peer: Peer, engine: Engine, scenario: Scenario) -> None:
    ask = scenario.ask
    server = Served(peer, scenario)
    tls = engine.server(ask)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        commands = peer.connects(listener.port, ask)
        for command in commands:
            async with running(command) as process:
                await _talk_to_client(peer, process, server, scenario)
        if ask.resume:
            assert server.reused == [False, True], "the session was not resumed"
        assert set(server.versions) == {ask.version}
        if ask.group is not None and engine is RUSTLS:
            assert set(server.groups) == {_GROUPS.get(ask.group, ask.group)}
        if ask.client_certificate:
            assert all(server.authorized)


class Served(End):
    """mantou's server: it echoes, or answers requests."""

    def __init__(self, peer: Peer, scenario: Scenario) -> None:
        super().__init__(open=self._opened, data=self._answer)
        self._http = peer.program == "curl"
        self._talk = scenario.talk
        self.versions: list[str | None] = []
        self.groups: list[str] = []
        self.reused: list[bool] = []
        self.authorized: list[bool] = []

    def _opened(self, socket: mantou.Socket[Any]) -> None:
        self.versions.append(socket.get_tls_version())
        told = socket.get_ephemeral_key_info()
        self.groups.append(told["name"] if told else "")
        self.reused.append(socket.is_session_reused())
        self.authorized.append(socket.authorized)

    async def _reply(self, socket: mantou.Socket[Any]) -> None:
        body = BULK if self._talk == "bulk" else PIECE
        length = len(body) + (1 if self._talk == "cut" else 0)
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
        answer = head + body
        if self._talk == "bytes":
            for byte in answer:
                socket.write_all(bytes([byte]))
                await asyncio.sleep(0)
        else:
            socket.write_all(answer)
        if self._talk == "cut":
            socket.terminate()
        else:
            socket.end()

    def _answer(self, socket: mantou.Socket[Any], data: bytes) -> object:
        if not self._http:
            # One record, however short, for one that came.
            return socket.write_all(data)
        return self._reply(socket) if data.endswith(b"\r\n\r\n") else None


async def _talk_to_client(peer: Peer, process: Process, server: Served, scenario: Scenario) -> None:
    if peer.program == "curl":
        body = BULK if scenario.talk == "bulk" else PIECE
        if scenario.talk != "cut":
            await process.hear(body)
        code = await process.ended()
        assert (code == 0) is (scenario.talk != "cut"), f"curl ended with {code}: {process.words()}"
        return
    if scenario.talk == "bytes":
        for at in range(len(BYTES)):
            process.say(BYTES[at : at + 1])
            await process.hear(BYTES[: at + 1])
        return
    if scenario.talk == "update":
        for turn in range(3):
            process.say(UPDATES[peer.program])
            # Before it has acted on a command, what follows would be a part of it.
            await updates(peer, sent=turn + 1, answered=turn)
            process.say(b"turn %d " % turn + PIECE + b"\n")
            await process.hear(b"turn %d " % turn + PIECE)
            await updates(peer, sent=turn + 1, answered=turn + 1)
        return
    data = BULK if scenario.talk == "bulk" else PIECE
    process.say(data + b"\n")
    await process.hear(data)
    if scenario.talk == "cut":
        process.kill()
        error = await server.closed()
        assert isinstance(error, ssl.SSLEOFError | ConnectionResetError), (
            f"a cut was told as {error!r}"
        )


def why_not(peer: Peer, role: str, engine: Engine, scenario: Scenario) -> str | None:
    """Why it cannot be at all, for something that one of the two has not."""
    if theirs := peer.why_not(role, scenario.name):  # type: ignore[arg-type]
        return f"not in the peer: {theirs}"
    if (
        engine is OPENSSL
        and scenario.name == "X25519MLKEM768"
        and ssl.OPENSSL_VERSION_INFO < (3, 5)
    ):
        return f"not in {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"
    if engine is OPENSSL and role == "serves" and scenario.ask.resume:
        return "not in mantou: it hands out sessions of its own engine"
    if engine is RUSTLS and peer.program == "curl" and scenario.name == "resumption, TLSv1.2":
        return "not in mantou: curl takes no tickets, and mantou keeps no sessions for clients"
    return None


async def attempt(peer: Peer, role: str, engine: Engine, scenario: Scenario) -> str:
    """Why it failed, or nothing."""
    Path(MESSAGES).unlink(missing_ok=True)
    play = with_server if role == "serves" else with_client
    try:
        await asyncio.wait_for(play(peer, engine, for_peer(scenario, peer)), 3 * LIMIT)
    except (AssertionError, OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
