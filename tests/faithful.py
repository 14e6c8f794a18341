"""One handshake and a few words, done by OpenSSL alone and by mantou: the two are compared.

OpenSSL alone is Python's `ssl` with both ends in memory. With mantou, one end is a socket of ours
and its peer is Python's `ssl` again, in a thread.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import mantou
from mantou._core import tls_facts
from mantou._ssl_object import SSLObject
from tests.support import Recorder
from tests.tls import HandshakeRecorder, foreign_client, foreign_server

SetUp = Callable[[ssl.SSLContext], object]
"""What is done to a context."""


@dataclass(frozen=True)
class Failure:
    """Why a side gave up, as far as programs look at it."""

    kind: type[BaseException]
    reason: str | None
    library: str | None
    verify_code: int | None
    verify_message: str | None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        return cls(
            type(error),
            getattr(error, "reason", None),
            getattr(error, "library", None),
            getattr(error, "verify_code", None),
            getattr(error, "verify_message", None),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of the side that is looked at, and what its peer was told."""

    failure: Failure | None
    peer_failure: str | None
    """The reason of the peer's error: the alert that it got."""
    facts: dict[str, Any] | None
    """What the session's object says, if it stands."""


def make(cls: type[ssl.SSLContext], server_side: bool, *set_ups: SetUp) -> ssl.SSLContext:
    """A context for one side, set up."""
    context = cls(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    for set_up in set_ups:
        set_up(context)
    return context


def told(of: ssl.SSLObject) -> dict[str, Any]:
    """All that an object of a session says and both engines can know."""
    return {
        "cipher": of.cipher(),
        "version": of.version(),
        "alpn": of.selected_alpn_protocol(),
        "compression": of.compression(),
        "certificate": of.getpeercert(),
        "binary": of.getpeercert(True),
        "server_side": of.server_side,
        "server_hostname": of.server_hostname,
        "pending": of.pending(),
        "reused": of.session_reused,
        "chain": _chain(of, "get_unverified_chain"),
        "verified": _chain(of, "get_verified_chain"),
    }


def _chain(of: Any, which: str) -> list[bytes]:
    if isinstance(of, SSLObject):
        return list(getattr(of, which)())
    # Before Python 3.13 only what is below the object tells.
    found = [one for one in getattr(of._sslobj, which)() or () if one is not None]
    return [one.public_bytes(cast("Any", ssl)._ssl.ENCODING_DER) for one in found]


def differences(truth: Outcome, ours: Outcome) -> dict[str, tuple[Any, Any]]:
    """What is not the same, by name: OpenSSL's and ours."""
    one, other = _flat(truth), _flat(ours)
    return {
        key: (one.get(key), other.get(key))
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    }


def _flat(outcome: Outcome) -> dict[str, Any]:
    return {
        "failure": outcome.failure,
        "peer_failure": outcome.peer_failure,
        **(outcome.facts or {}),
    }


def by_openssl(
    set_up: SetUp, peer: SetUp, *, server_side: bool, name: str | None = "localhost"
) -> Outcome:
    """Both ends are OpenSSL's."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = make(ssl.SSLContext, server_side, set_up)
    theirs = make(ssl.SSLContext, not server_side, peer)
    own = ours.wrap_bio(back, there, server_side, None if server_side else name)
    other = theirs.wrap_bio(there, back, not server_side, name if server_side else None)
    errors: dict[ssl.SSLObject, ssl.SSLError] = {}
    sides = (other, own) if server_side else (own, other)
    for side in sides * 4:
        if side in errors:
            continue
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            errors[side] = error
    for side in (own, other):
        if not errors.get(side):
            # A refusal of TLS 1.3 comes when the refused side thinks that it is done.
            try:
                side.read()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                errors[side] = error
    error = errors.get(own)
    return Outcome(
        None if error is None else Failure.of(error),
        errors[other].reason if other in errors else None,
        None if error is not None else told(own),
    )


async def by_mantou(
    set_up: SetUp,
    peer: SetUp,
    *,
    server_side: bool,
    name: str | None = "localhost",
    engine: str = "rustls",
) -> Outcome:
    """Ours is a `mantou.SSLContext`, over a socket of mantou's."""
    context = make(mantou.SSLContext, server_side, set_up)
    assert isinstance(context, mantou.SSLContext)
    assert context.tls_engine == engine, context.tls_engine_reason
    theirs = make(ssl.SSLContext, not server_side, peer)
    end = _as_server if server_side else _as_client
    return await end(context, theirs, name)


def _say_something(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"steamed")
    return tls.recv(100)


def _facts(
    context: ssl.SSLContext, socket: mantou.Socket[Any], server_side: bool, name: str | None
) -> dict[str, Any]:
    facts = tls_facts(socket)
    assert facts is not None, "it is not rustls that drives"
    encoded = None if name is None else name.encode("idna").decode()
    return told(SSLObject(context, facts, server_side, encoded))


async def _as_client(context: ssl.SSLContext, theirs: ssl.SSLContext, name: str | None) -> Outcome:
    facts: list[dict[str, Any]] = []
    # The name is another than that of where it connects to.
    recorder = HandshakeRecorder(
        open=lambda socket: name is None or socket.set_servername(name),
        data=lambda socket, data: socket.end(b"bun"),
    )
    async with foreign_server(theirs, _say_something) as server:
        try:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=server.port, socket=recorder, tls=context
            )
        except ssl.SSLError as error:
            alert = await server.failure()
            return Outcome(Failure.of(error), getattr(alert, "reason", None), None)
        facts.append(_facts(context, socket, False, name))
        assert await server.result() == b"bun"
        await recorder.until("close")
    return Outcome(None, None, facts[0])


async def _as_server(context: ssl.SSLContext, theirs: ssl.SSLContext, name: str | None) -> Outcome:
    facts: list[dict[str, Any]] = []

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        facts.append(_facts(context, socket, True, None))
        socket.end(b"bun")

    recorder = Recorder(data=answer)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
        address = ("127.0.0.1", listener.port)
        try:
            assert await foreign_client(theirs, address, _say_something, name=name) == b"bun"
        except ssl.SSLError as alert:
            _, error = await recorder.until("connect_error")
            return Outcome(Failure.of(error), alert.reason, None)
        await recorder.until("close")
    return Outcome(None, None, facts[0])
