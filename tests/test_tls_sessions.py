"""Sessions that are resumed, and a listener whose certificate is changed."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

import mantou
from tests.support import Recorder
from tests.tls import (
    VERSIONS,
    Authority,
    HandshakeRecorder,
    authority,
    client_context,
    client_options,
    echo_once,
    foreign_client,
    foreign_server,
    read_all,
    server_context,
    server_credential,
    server_options,
)
from tests.tls_pairs import joined, listener_is_empty
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS

versions = pytest.mark.parametrize("version", VERSIONS)


@versions
async def test_sessions_are_resumed(version: str) -> None:
    server, client = Recorder(data=lambda socket, data: socket.write(data)), Recorder()
    tls = client_options(min_version=version, max_version=version)
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        async with joined(listener, server, client, tls) as (accepted, first):
            await client.until_received(1)
            session = first.get_session()
            assert session is not None
            assert not first.is_session_reused()
            assert not accepted.is_session_reused()
            assert accepted.get_session() is None
        for mine in (
            tls | {"session": session},
            client_options(session=session, max_version=version),
        ):
            async with joined(listener, server, client, mine) as (accepted, again):
                assert again.is_session_reused()
                assert accepted.is_session_reused()
                assert again.authorized
                # The server's certificate is remembered along with it.
                described = again.get_peer_certificate()
                assert described is not None
                assert described["raw"] == server_credential().der
        restored = HandshakeRecorder(open=lambda socket: socket.set_session(session))
        async with joined(listener, server, restored, tls) as (accepted, third):
            assert third.is_session_reused()
            assert accepted.is_session_reused()
            with pytest.raises(ValueError, match="before the handshake"):
                third.set_session(session)


@versions
async def test_sessions_are_resumed_with_the_ssl_module(version: str) -> None:
    recorder = Recorder(data=lambda socket, data: socket.end(data))

    def talk(tls: ssl.SSLSocket) -> tuple[Any, bool | None]:
        tls.sendall(b"bun")
        read_all(tls)
        session = tls.session, tls.session_reused
        tls.unwrap()
        return session

    context = client_context(version=VERSIONS[version])
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
    ) as listener:
        address = ("127.0.0.1", listener.port)
        session, reused = await foreign_client(context, address, talk)
        assert reused is False
        _, reused = await foreign_client(context, address, talk, session=session)
        assert reused is True
        await listener_is_empty(listener)
    # And the other way round: a server of OpenSSL's and tickets from it.
    context = server_context(version=VERSIONS[version])
    tls = client_options()
    for reused in (False, True):
        client = Recorder(open=lambda socket: socket.write_all(b"bun"))
        async with foreign_server(context, echo_and_tell) as server:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=server.port, socket=client, tls=tls
            )
            await client.until_received(3)
            assert socket.is_session_reused() is reused
            tls["session"] = socket.get_session()
            socket.end()
            assert await server.result() is reused
            await client.until("close")


def echo_and_tell(tls: ssl.SSLSocket) -> bool | None:
    reused = tls.session_reused
    echo_once(tls)
    return reused


async def test_a_session_with_another_server_is_not_used() -> None:
    server, client = Recorder(data=lambda socket, data: socket.write(data)), Recorder()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        async with joined(listener, server, client, client_options()) as (_, first):
            await client.until_received(1)
            session = first.get_session()
        other = client_options(session=session, server_name="localhost")
        async with joined(listener, server, client, other) as (_, again):
            assert not again.is_session_reused()
        untrusting = client_options(session=session, ca=Authority("another").pem)
        with pytest.raises(ssl.SSLCertVerificationError):
            await mantou.connect(
                hostname="127.0.0.1", port=listener.port, socket=Recorder(), tls=untrusting
            )


# A listener's configuration


async def test_set_tls_is_for_new_connections() -> None:
    server = Recorder(data=lambda socket, data: socket.write(data))
    first, second = Recorder(), Recorder()
    fresh = authority().issue("127.0.0.1")
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        old = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=first, tls=client_options()
        )
        with pytest.raises(ValueError, match="'cert'"):
            listener.set_tls({"cert": "nonsense", "key": fresh.key_pem})
        listener.set_tls(fresh.options)
        new = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=second, tls=client_options()
        )
        for socket, client, credential in [
            (old, first, server_credential()),
            (new, second, fresh),
        ]:
            described = socket.get_peer_certificate()
            assert described is not None
            assert described["raw"] == credential.der
            assert socket.write(b"bun") == 3
            assert await client.until_received(3) == b"bun"
            socket.end()
            await client.until("close")
        await listener_is_empty(listener)


async def test_a_listener_has_no_session_to_resume() -> None:
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=Recorder(), tls=SERVER_OPTIONS
    ) as listener:
        socket = await mantou.connect(
            hostname="localhost", port=listener.port, socket=Recorder(), tls=CLIENT_OPTIONS
        )
        with pytest.raises(ValueError, match="'session'"):
            mantou.listen(
                hostname="127.0.0.1",
                port=0,
                socket=Recorder(),
                tls={**SERVER_OPTIONS, "session": socket.get_session()},
            )
        socket.end()
