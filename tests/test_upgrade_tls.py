"""upgrade_tls(): a connection that begins in clear and goes on with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

import mantou
from mantou import ReadyState
from tests.kernel import unused_port
from tests.peers import Peer
from tests.support import Handshaker, Recorder, accepted, connected, fill, others_had_their_turn
from tests.tls_support import (
    CERTIFICATE,
    CLIENT_OPTIONS,
    KEY,
    SERVER_OPTIONS,
    VERSIONS,
    TlsPeer,
    context,
)


def upgrade(socket: mantou.Socket[Any], recorder: Any, **options: Any) -> mantou.Socket[Any]:
    """Makes TLS of it on the side it has, and returns the TLS socket."""
    tls = CLIENT_OPTIONS if socket.listener is None else SERVER_OPTIONS
    raw, secure = socket.upgrade_tls(**({"tls": tls, "socket": recorder} | options))
    assert raw is socket
    return secure


async def handshaken(peer: Peer, server_side: bool) -> TlsPeer:
    return await TlsPeer(peer.sock, server_side).handshake()


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
async def test_a_client_upgrades(inside: bool) -> None:
    secure = Recorder()

    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        if inside:
            upgrade(socket, secure, data="context")

    clear = Recorder(data=act)
    async with connected(clear, data="in clear") as (socket, peer):
        await peer.send(b"220 ready")
        await clear.until("data")
        if not inside:
            upgrade(socket, secure, data="context")
        assert socket.ready_state == ReadyState.DETACHED
        over_tls = await handshaken(peer, server_side=True)
        await secure.until("open")
        (upgraded,) = secure.sockets
        assert upgraded is not socket
        assert (socket.data, upgraded.data) == ("in clear", "context")
        assert socket.write(b"x") == socket.end() == -1
        with pytest.raises(BrokenPipeError):
            socket.write_all(b"x")
        assert upgraded.write(b"over TLS") == 8
        assert await over_tls.receive(8) == b"over TLS"
        await over_tls.send(b"answer")
        assert await secure.until_received(6) == b"answer"
        # Each counts its own bytes.
        assert (socket.bytes_read, socket.bytes_written) == (9, 0)
        assert (upgraded.bytes_read, upgraded.bytes_written) == (6, 8)
        over_tls.finish()
        await secure.until("close")
        assert socket.ready_state == ReadyState.CLOSED
    assert clear.names == ["open", "data", "close"]
    assert secure.names == ["open", "data", "end", "close"]
    assert clear.errors == secure.errors == [None]


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
async def test_a_server_upgrades(inside: bool) -> None:
    secure = Recorder()

    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        if inside:
            socket.write(b"220 go ahead")
            upgrade(socket, secure)

    clear = Recorder(data=act)
    async with accepted(clear) as (socket, peer):
        await peer.send(b"STARTTLS")
        await clear.until("data")
        if not inside:
            socket.write(b"220 go ahead")
            upgrade(socket, secure)
        assert await peer.receive(12) == b"220 go ahead"
        over_tls = await handshaken(peer, server_side=False)
        await secure.until("open")
        (upgraded,) = secure.sockets
        assert upgraded.listener is socket.listener is not None
        assert socket.listener.connections == 1
        await over_tls.send(b"hello")
        assert await secure.until_received(5) == b"hello"
        upgraded.end(b"bye")
        assert await over_tls.receive_until_fin() == b"bye"
        over_tls.finish()
        await secure.until("close")
        assert upgraded.listener.connections == 0
    assert clear.names == ["open", "data", "close"]
    assert secure.names == ["open", "data", "end", "close"]


async def test_raw_closes_just_before_tls() -> None:
    order: list[str] = []
    clear = Recorder(close=lambda socket, error: order.append("raw"))
    secure = Recorder(close=lambda socket, error: order.append("tls"))
    async with accepted(clear) as (socket, peer):
        upgrade(socket, secure)
        over_tls = await handshaken(peer, server_side=False)
        await secure.until("open")
        over_tls.truncate()
        await secure.until("close")
    assert order == ["raw", "tls"]
    assert isinstance(clear.errors[0], ssl.SSLEOFError)
    assert clear.errors == secure.errors


async def test_both_sides_are_mantou() -> None:
    secure_client, secure_server = Recorder(), Recorder()

    def on_server(socket: mantou.Socket[Any], data: bytes) -> None:
        assert data == b"STARTTLS\r\n"
        socket.write(b"220 go ahead\r\n")
        upgrade(socket, secure_server)

    def on_client(socket: mantou.Socket[Any], data: bytes) -> None:
        assert data == b"220 go ahead\r\n"
        upgrade(socket, secure_client)

    server, client = Recorder(data=on_server), Recorder(data=on_client)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
        socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client)
        socket.write(b"STARTTLS\r\n")
        await secure_client.until("open")
        await secure_server.until("open")
        secure_client.sockets[0].end(b"over TLS")
        await secure_client.until("close")
        await secure_server.until("close")
    assert secure_server.received == b"over TLS"
    assert secure_client.sockets[0].authorized
    for recorder in (client, server, secure_client, secure_server):
        assert recorder.errors == [None]


async def test_the_client_hello_behind_the_command() -> None:
    """Both in one segment: what the handler got of TLS is given on with `initial`."""
    secure = Recorder(data=lambda socket, data: socket.write(data))

    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        command, _, rest = data.partition(b"\r\n")
        assert command == b"STARTTLS"
        upgrade(socket, secure, initial=rest)

    async with accepted(Recorder(data=act)) as (_, peer):
        over_tls = TlsPeer(peer.sock, server_side=False)
        with pytest.raises(ssl.SSLWantReadError):
            over_tls.ssl.do_handshake()
        await Peer.send(peer, b"STARTTLS\r\n" + over_tls.outgoing.read())
        await over_tls.handshake()
        await over_tls.send(b"echo")
        assert await over_tls.receive(4) == b"echo"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("when", ["at once", "in open"])
@pytest.mark.parametrize("packet", ["raw", "line"])
async def test_a_change_of_how_tls_begins_keeps_what_has_come(
    packet: Any, when: str, version: str
) -> None:
    def change(socket: mantou.Socket[Any]) -> None:
        # Another session takes the place of the one that was given the first bytes.
        socket.set_verify_mode(True, False)

    secure = Handshaker(
        data=lambda socket, data: socket.write(data),
        open=lambda socket: change(socket) if when == "in open" else None,
    )

    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        upgraded = upgrade(socket, secure, initial=data.partition(b"\r\n")[2])
        if when == "at once":
            change(upgraded)

    async with accepted(Recorder(data=act), packet=packet) as (_, peer):
        over_tls = TlsPeer(peer.sock, server_side=False, version=version)
        await peer.send(b"STARTTLS\r\n" + await over_tls.first_words())
        await over_tls.handshake()
        await over_tls.send(b"echo\n")
        assert await over_tls.receive(4) == b"echo"
        assert secure.names == ["open", "handshake", "data"]


@pytest.mark.parametrize("how", ["initial", "one segment", "next segment"])
async def test_plaintext_behind_the_command_is_refused(how: str) -> None:
    secure = Recorder()

    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        initial = data.partition(b"\r\n")[2]
        assert bool(initial) == (how == "initial")
        upgrade(socket, secure, initial=initial)

    server = Recorder(data=act)
    if how == "one segment":
        # The handler is slow: more has come before it asks for TLS.
        server = Recorder(data=lambda socket, data: socket.pause())
    async with accepted(server) as (socket, peer):
        evil = b"RSET\r\nMAIL FROM:<mallory>\r\n"
        await peer.send(b"STARTTLS\r\n" + (evil if how == "initial" else b""))
        await server.until("data")
        await peer.send(evil)
        if how == "one segment":
            await others_had_their_turn()
            upgrade(socket, secure)
        _, error = await secure.until("connect_error")
        with contextlib.suppress(ConnectionResetError):
            # An alert in clear, and the end.
            assert (await peer.receive_until_fin())[:1] in (b"\x15", b"")
        await server.until("close")
    assert isinstance(error, ssl.SSLError)
    assert secure.names == ["connect_error"]
    assert evil not in bytes(server.received)[10 + len(evil) :]


async def test_what_was_accepted_before_leaves_in_clear_once() -> None:
    secure = Recorder()
    clear = Recorder()
    queued = b"queued in clear" * 100_000
    async with connected(clear) as (socket, peer):
        filled = fill(socket)
        socket.write_all(queued)
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        upgraded = upgrade(socket, secure)
        assert socket.bytes_written == filled + len(queued)
        assert upgraded.bytes_written == 0
        content = await peer.receive(filled + len(queued))
        assert content == bytes(filled) + queued
        await waiting
        over_tls = await handshaken(peer, server_side=True)
        await secure.until("open")
        upgraded.end(b"sealed")
        assert await over_tls.receive_until_fin() == b"sealed"
        over_tls.finish()
        await secure.until("close")
    assert "drain" not in clear.names + secure.names


@pytest.mark.parametrize("ending", ["close", "end"])
async def test_what_was_accepted_before_survives_closing_at_once(ending: str) -> None:
    clear, secure = Recorder(), Recorder()
    async with connected(clear) as (socket, peer):
        filled = fill(socket)
        socket.write_all(b"accepted")
        upgraded = upgrade(socket, secure)
        getattr(upgraded, ending)()
        content = await peer.receive(filled + 8)
        assert content[filled:] == b"accepted"
        if ending == "close":
            with contextlib.suppress(ConnectionResetError):
                await peer.receive_until_fin()
            await secure.until("connect_error")
            await clear.until("close")


async def test_a_cork_or_a_pause_of_the_plain_socket_does_not_stay() -> None:
    secure = Recorder(data=lambda socket, data: socket.write(data))
    async with accepted(Recorder()) as (socket, peer):
        with socket.cork():
            socket.write(b"220 go ahead")
            socket.pause()
            upgrade(socket, secure)
            assert await peer.receive(12) == b"220 go ahead"
        over_tls = await handshaken(peer, server_side=False)
        await over_tls.send(b"echo")
        assert await over_tls.receive(4) == b"echo"


async def test_an_upgrade_in_drain() -> None:
    """The event that calls `drain` may bring input too: that is TLS already."""
    secure = Recorder()
    clear = Recorder(drain=lambda socket: upgrade(socket, secure))
    async with accepted(clear) as (socket, peer):
        filled = fill(socket)
        over_tls = TlsPeer(peer.sock, server_side=False)
        with pytest.raises(ssl.SSLWantReadError):
            over_tls.ssl.do_handshake()
        socket.pause()
        await over_tls.flush()
        assert len(await Peer.receive(Peer(peer.sock), filled)) == filled
        await over_tls.handshake()
        await secure.until("open")
        await over_tls.send(b"x")
        assert await secure.until_received(1) == b"x"
    assert clear.names[:2] == ["open", "drain"]
    assert "data" not in clear.names


async def test_server_side_may_be_chosen() -> None:
    secure = Recorder()
    async with connected(Recorder()) as (socket, peer):
        socket.upgrade_tls(tls=SERVER_OPTIONS, socket=secure, server_side=True)
        over_tls = await handshaken(peer, server_side=False)
        await secure.until("open")
        secure.sockets[0].write(b"served")
        assert await over_tls.receive(6) == b"served"


async def test_stop_closes_upgraded_connections() -> None:
    clear, secure = Recorder(), Recorder()
    async with accepted(clear) as (socket, peer):
        upgrade(socket, secure)
        over_tls = await handshaken(peer, server_side=False)
        await secure.until("open")
        listener = socket.listener
        assert listener is not None
        listener.stop(True)
        assert await over_tls.receive_until_fin() == b""
        await listener.closed()
        assert listener.connections == 0
    assert clear.errors == secure.errors == [None]


async def test_a_failed_verification_closes_both() -> None:
    clear, secure = Recorder(), Recorder()
    async with connected(clear) as (socket, peer):
        socket.upgrade_tls(tls=CLIENT_OPTIONS | {"server_name": "other.example"}, socket=secure)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await (await handshaken(peer, server_side=True)).receive(1)
        _, error = await secure.until("connect_error")
        await clear.until("close")
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert clear.errors == [error]


async def test_misuse_is_refused_and_leaves_the_socket_alone() -> None:
    clear = Recorder()
    async with connected(clear) as (socket, peer):
        good: Any = {"tls": CLIENT_OPTIONS, "socket": Recorder()}
        wrong: list[tuple[type[Exception], dict[str, Any]]] = [
            (TypeError, {"tls": CLIENT_OPTIONS}),
            (TypeError, {"socket": Recorder()}),
            (TypeError, good | {"socket": {}}),
            (TypeError, good | {"tls": None}),
            (TypeError, good | {"tls": False}),
            (TypeError, good | {"tls": 7}),
            (TypeError, good | {"tls": {"certt": "x"}}),
            (TypeError, good | {"initial": "text"}),
            (ValueError, good | {"server_side": True}),
            (ValueError, good | {"tls": {"ca": "no certificate"}}),
        ]
        for kind, options in wrong:
            with pytest.raises(kind):
                socket.upgrade_tls(**options)
        assert socket.ready_state == ReadyState.ESTABLISHED
        assert socket.write(b"alive") == 5
        assert await peer.receive(5) == b"alive"


@pytest.mark.parametrize("state", ["ended", "ended by the peer", "closed", "detached", "secure"])
async def test_only_an_open_plain_socket_can_be_upgraded(state: str) -> None:
    clear, secure = Recorder(), Recorder()
    async with connected(clear, allow_half_open=True) as (socket, peer):
        if state == "ended":
            socket.end()
        elif state == "ended by the peer":
            peer.finish()
            await clear.until("end")
        elif state == "closed":
            socket.close()
            await clear.until("close")
        else:
            upgraded = upgrade(socket, secure)
            await handshaken(peer, server_side=True)
            await secure.until("open")
        if state == "secure":
            with pytest.raises(ValueError, match="TLS already"):
                upgrade(upgraded, Recorder())
        else:
            reason = "peer has finished" if state == "ended by the peer" else "open socket"
            with pytest.raises(ConnectionError, match=reason) as caught:
                upgrade(socket, Recorder())
            assert caught.value.errno == errno.ENOTCONN
        if state != "closed":
            (secure.sockets or clear.sockets)[0].terminate()
            await clear.until("close")


# Peers with protocols of their own


async def test_starttls_of_pythons_smtplib() -> None:
    """Smtplib is the client, mantou the server."""
    mail: list[bytes] = []

    def serve(socket: mantou.Socket[Any], data: bytes) -> None:
        verb = data[:4].upper()
        if verb == b"EHLO":
            socket.write(b"250-mantou\r\n250 STARTTLS\r\n")
        elif verb == b"STAR":
            socket.write(b"220 go ahead\r\n")
            upgrade(socket, {"data": serve})
        elif verb == b"DATA":
            socket.write(b"354 go ahead\r\n")
        elif verb == b"QUIT":
            socket.end(b"221 bye\r\n")
        elif data.endswith(b"\r\n.\r\n"):
            mail.append(data)
            socket.write(b"250 OK\r\n")
        else:
            socket.write(b"250 OK\r\n")

    def deliver(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.starttls(context=context(server_side=False))
            client.sendmail("a@localhost", ["b@localhost"], "Subject: buns\r\n\r\nSteamed.")

    greeting = {"open": lambda socket: socket.write(b"220 mantou\r\n"), "data": serve}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=greeting) as listener:  # type: ignore[arg-type]
        await asyncio.to_thread(deliver, listener.port)
        listener.stop()
        await listener.closed()
    assert len(mail) == 1
    assert b"Steamed." in mail[0]


async def test_starttls_of_aiosmtpd() -> None:
    """Aiosmtpd is the server, mantou the client."""
    delivered: list[Any] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            delivered.append((session.ssl is not None, envelope.content))
            return "250 OK"

    def protocol() -> Any:
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context(server_side=True),
            enable_SMTPUTF8=True,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    clear, secure = Recorder(), Recorder()

    async def ask(recorder: Recorder, line: bytes, answer: bytes) -> None:
        recorder.received.clear()
        recorder.sockets[0].write_all(line + b"\r\n")
        await recorder.until_true(lambda: recorder.received.endswith(b"\r\n"))
        assert recorder.received.startswith(answer)

    async with server:
        port = server.sockets[0].getsockname()[1]
        socket = await mantou.connect(hostname="127.0.0.1", port=port, socket=clear)
        await clear.until_true(lambda: clear.received.endswith(b"\r\n"))
        await ask(clear, b"EHLO localhost", b"250")
        await ask(clear, b"STARTTLS", b"220")
        upgrade(socket, secure)
        await secure.until("open")
        await ask(secure, b"EHLO localhost", b"250")
        await ask(secure, b"MAIL FROM:<a@localhost>", b"250")
        await ask(secure, b"RCPT TO:<b@localhost>", b"250")
        await ask(secure, b"DATA", b"354")
        await ask(secure, b"Subject: buns\r\n\r\nSteamed.\r\n.", b"250")
        await ask(secure, b"QUIT", b"221")
        await secure.until("close")
    assert delivered == [(True, b"Subject: buns\r\n\r\nSteamed.\r\n")]


@pytest.fixture
def postgres() -> Iterator[int]:
    """A PostgreSQL server with TLS; yields its port."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(binaries[-1]) if binaries else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    # What watches our memory or threads is not for others' programs.
    process: dict[str, Any] = {
        "cwd": "/",
        "env": {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
    }
    if Path("/proc/self").owner() == "root":
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        process |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    # Not `tmp_path`: another user has no way into it.
    with tempfile.TemporaryDirectory() as directory:
        if "user" in process:
            shutil.chown(directory, process["user"], process["group"])
        yield from serve_postgres(initdb, Path(directory), process)


def serve_postgres(initdb: str, data: Path, process: dict[str, Any]) -> Iterator[int]:
    """Sets up a server in the empty directory and runs it; yields its port."""
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "mantou", "--no-sync"],
        check=True,
        capture_output=True,
        timeout=60,
        **process,
    )
    for name, text in (("server.key", KEY), ("server.crt", CERTIFICATE)):
        file = data / name
        file.write_text(text)
        file.chmod(0o600)
        if "user" in process:
            shutil.chown(file, process["user"], process["group"])
    port = unused_port()
    settings = {
        "ssl": "on",
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
    }
    arguments = [f"-c{name}={value}" for name, value in settings.items()]
    with subprocess.Popen(
        [str(Path(initdb).with_name("postgres")), "-D", data, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        **process,
    ) as server:
        assert server.stderr is not None
        try:
            assert any("ready to accept connections" in line for line in server.stderr)
            yield port
        finally:
            # A fast shutdown.
            server.send_signal(2)
            server.stderr.read()
            server.wait(timeout=20)


@pytest.mark.loops("mantou")
async def test_postgresqls_ssl_request(postgres: int) -> None:
    secure = Recorder()

    def answered(socket: mantou.Socket[Any], data: bytes) -> None:
        assert data == b"S"
        upgrade(socket, secure)

    clear = Recorder(
        open=lambda socket: socket.write((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")),
        data=answered,
    )
    await mantou.connect(hostname="127.0.0.1", port=postgres, socket=clear)
    await secure.until("open")
    socket = secure.sockets[0]
    assert socket.authorized
    body = b"\0\3\0\0user\0mantou\0database\0postgres\0\0"
    socket.write((len(body) + 4).to_bytes(4, "big") + body)
    # ReadyForQuery, idle.
    await secure.until_true(lambda: secure.received.endswith(b"Z\0\0\0\5I"))
    query = b"select ssl, version from pg_stat_ssl where pid = pg_backend_pid()\0"
    secure.received.clear()
    socket.write(b"Q" + (len(query) + 4).to_bytes(4, "big") + query)
    await secure.until_true(lambda: secure.received.endswith(b"Z\0\0\0\5I"))
    assert b"TLSv1.3" in secure.received
    socket.end(b"X\0\0\0\4")
    await secure.until("close")
