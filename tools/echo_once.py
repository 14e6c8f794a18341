"""Uses mantou once as it is installed, in the clear and over TLS: `echo_once.py CERTIFICATE KEY`.

That is what `make dist-check` asks first of a package in a new environment, and all that it asks
where there is nothing else: of a wheel for another machine, run by qemu. The certificate is one
for localhost.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from typing import Any

import mantou


class Echo(mantou.SocketHandler):
    """The server's side."""

    def data(self, socket: mantou.Socket, data: bytes) -> None:
        """Send back all there is, and the end."""
        socket.end(data)


class Client(mantou.SocketHandler):
    """The client's side: `data` is the list that it fills."""

    def data(self, socket: mantou.Socket, data: bytes) -> None:
        """Keep it."""
        socket.data.append(bytes(data))


async def echoed(message: bytes, server: dict[str, Any], client: dict[str, Any]) -> bytes:
    """Send a message there and back."""
    listener = mantou.listen(hostname="localhost", port=0, socket=Echo(), **server)
    answers: list[bytes] = []
    socket = await mantou.connect(
        hostname="localhost", port=listener.port, socket=Client(), data=answers, **client
    )
    socket.write(message)
    async with asyncio.timeout(60):
        await socket.closed()
    listener.stop()
    return b"".join(answers)


async def main(certificate: str, key: str) -> None:
    """Say how it went."""
    if not (mantou.__file__ or "").startswith(sys.prefix):
        raise SystemExit(f"this is not the installed mantou: {mantou.__file__}")
    identity = {"cert_file": certificate, "key_file": key}
    if await echoed(b"hello", {}, {}) != b"hello":
        raise SystemExit("the echo came back changed")
    if await echoed(b"secret", {"tls": identity}, {"tls": {"ca_file": certificate}}) != b"secret":
        raise SystemExit("the echo over TLS came back changed")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"mantou {mantou.__version__} works on {python}, {platform.machine()}, with TLS")


if __name__ == "__main__":
    mantou.run(main(*sys.argv[1:]))
