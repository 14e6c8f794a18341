"""asyncssh and dask.distributed: many channels, processes, forwarding, and work among processes."""

from __future__ import annotations

import asyncio
import operator
from pathlib import Path

import asyncssh
import distributed
import pytest

from tests.programs.conftest import Certificates

# asyncssh


class Door(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("user", "secret")

    def connection_requested(self, *where: object) -> bool:
        return True


async def upper(process: asyncssh.SSHServerProcess[str]) -> None:
    async for line in process.stdin:
        process.stdout.write(line.upper())
    process.stderr.write("done\n")
    process.exit(3)


async def test_asyncssh(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    server = await asyncssh.create_server(
        Door,
        "127.0.0.1",
        0,
        server_host_keys=[key],
        process_factory=upper,
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(tmp_path)),
    )
    port = server.sockets[0].getsockname()[1]
    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    options = {"port": port, "username": "user", "known_hosts": known, "config": None}
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect("127.0.0.1", password="wrong", **options)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    behind = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with behind, asyncssh.connect("127.0.0.1", password="secret", **options) as connection:

        async def shout(number: int) -> None:
            lines = "".join(f"line {number}\n" for _ in range(2000))
            done = await connection.run(input=lines)
            assert done.stdout == lines.upper()
            assert (done.stderr, done.exit_status) == ("done\n", 3)

        await asyncio.gather(*(shout(number) for number in range(8)))
        async with connection.start_sftp_client() as files:
            await files.get("file", tmp_path / "copy")
            assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()
        there = behind.sockets[0].getsockname()[1]
        listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", there)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        body = bytes(range(256)) * 4000
        writer.write(body)
        writer.write_eof()
        assert await reader.read() == body
        writer.close()
        await writer.wait_closed()
        listener.close()
    server.close()
    await server.wait_closed()


# dask.distributed


def where(number: int) -> tuple[int, str]:
    return number * number, type(distributed.get_worker().loop.asyncio_loop).__module__


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_distributed(certificates: Certificates, secure: bool) -> None:
    security = None
    if secure:
        security = distributed.Security(
            tls_ca_file=str(certificates.ca_file),
            **{
                f"tls_{who}_{what}": str(getattr(certificates, f"{what}_file"))
                for who in ("client", "scheduler", "worker")
                for what in ("cert", "key")
            },
            require_encryption=True,
        )
    scheme = "tls" if secure else "tcp"
    options = {"security": security or {}, "dashboard_address": None}
    async with distributed.Scheduler(port=0, host=f"{scheme}://127.0.0.1", **options) as scheduler:
        workers = [
            distributed.Worker(scheduler.address, nthreads=2, security=security) for _ in "ab"
        ]
        async with (
            workers[0],
            workers[1],
            distributed.Client(scheduler.address, asynchronous=True, security=security) as client,
        ):
            found = await client.gather(client.map(where, range(200)))
            loops = {module for _, module in found}
            assert [square for square, _ in found] == [number * number for number in range(200)]
            assert loops == {type(asyncio.get_running_loop()).__module__}
            large = await client.scatter(b"x" * 5_000_000, broadcast=True)
            sizes = client.map(len, [large] * 4, pure=False)
            assert await client.submit(sum, sizes) == 20_000_000
            with pytest.raises(ZeroDivisionError):
                await client.submit(operator.truediv, 1, 0)
