"""A client of PostgreSQL, written with await.

    PGPASSWORD=secret python -m examples.postgres --user ann --ca ca.pem 'select version()'

The connection begins in the clear, asks for TLS, and goes on in it; the password is proved by
SCRAM, bound to the certificate that the server has shown.
"""

from __future__ import annotations

import struct
from typing import Any

import mantou
from examples.postgres.scram import PLUS, AuthenticationError, Scram

LONGEST = 64 * 1024 * 1024  # bytes of one message
TLS_REQUEST = struct.pack("!ii", 8, 80877103)
Row = tuple[str | None, ...]


class PostgresError(Exception):
    """What the server says is wrong; `code` is the SQLSTATE."""

    def __init__(self, body: bytes) -> None:
        fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
        self.code = fields.get(b"C", "")
        super().__init__(f"{fields.get(b'M', 'unknown')} ({self.code})")


class Connection:
    """A session with a server."""

    def __init__(self, stream: mantou.Stream, password: str) -> None:
        self._stream = stream
        self._password = password

    @classmethod
    async def connect(
        cls, place: tuple[str, int], user: str, password: str, database: str, tls: Any = False
    ) -> Connection:
        """With `tls`, which is that of `mantou.connect()`, a server without it is refused."""
        stream = await mantou.connect_stream(hostname=place[0], port=place[1])
        try:
            if tls:
                await stream.send(TLS_REQUEST)
                if await stream.receive_exactly(1) != b"S":
                    raise AuthenticationError("the server does not speak TLS")
                stream = await stream.upgrade_tls(tls=tls)
            connection = cls(stream, password)
            await connection._start(user, database)
        except BaseException:
            stream.abort()
            raise
        return connection

    async def query(self, text: str) -> list[Row]:
        """The rows of a query, as text; of several, those of all of them."""
        await self._send(b"Q", text.encode() + b"\0")
        rows: list[Row] = []
        error: PostgresError | None = None
        while True:
            kind, body = await self._receive()
            match kind:
                case b"D":
                    rows.append(row_of(body))
                case b"E":
                    error = PostgresError(body)
                case b"Z":
                    if error is not None:
                        raise error
                    return rows
                case _:
                    pass  # how the columns are called, how many rows there were, notices

    async def close(self) -> None:
        """Takes leave."""
        await self._send(b"X", b"")
        await self._stream.aclose()

    async def _start(self, user: str, database: str) -> None:
        words = ["user", user, "database", database, "client_encoding", "UTF8", ""]
        await self._send(b"", struct.pack("!i", 196608) + "\0".join([*words, ""]).encode())
        while True:
            kind, body = await self._receive()
            match kind:
                case b"R":
                    await self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
                case b"E":
                    raise PostgresError(body)
                case b"Z":
                    return
                case _:
                    pass  # settings, and the key for cancelling

    async def _authenticate(self, code: int, body: bytes) -> None:
        match code:
            case 0:
                return
            case 10:
                scram = self._scram(body.decode().split("\0"))
                first = scram.first()
                size = struct.pack("!i", len(first))
                await self._send(b"p", scram.mechanism.encode() + b"\0" + size + first)
                await self._send(b"p", scram.final(await self._challenge(11)))
                scram.verify(await self._challenge(12))
            case _:
                raise AuthenticationError(f"the server wants what this client has not: {code}")

    def _scram(self, mechanisms: list[str]) -> Scram:
        tls = self._stream.socket.get_tls_version() is not None
        if PLUS not in mechanisms:
            return Scram(self._password, None, can_bind=tls)
        return Scram(self._password, self._stream.socket.channel_binding("tls-server-end-point"))

    async def _challenge(self, code: int) -> bytes:
        kind, body = await self._receive()
        if kind == b"E":
            raise PostgresError(body)
        if kind != b"R" or struct.unpack_from("!i", body) != (code,):
            raise AuthenticationError("the server answers something else")
        return body[4:]

    async def _send(self, kind: bytes, body: bytes) -> None:
        await self._stream.send(kind + struct.pack("!i", len(body) + 4) + body)

    async def _receive(self) -> tuple[bytes, bytes]:
        kind, size = struct.unpack("!ci", await self._stream.receive_exactly(5))
        if not 4 <= size <= LONGEST:
            raise ConnectionError(f"a message of {size} bytes")
        return kind, await self._stream.receive_exactly(size - 4) if size > 4 else b""


def row_of(body: bytes) -> Row:
    (count,), at, row = struct.unpack_from("!h", body), 2, list[str | None]()
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        row.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return tuple(row)
