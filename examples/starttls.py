"""A connection that begins in clear and goes on over TLS, as in SMTP, IMAP or PostgreSQL.

    python examples/starttls.py

The client asks for TLS with a line of text; the server agrees, and both upgrade the connection
that they have. Each side hands over to new handlers: nothing of the clear part is mixed up with
the rest. The certificate is made on the spot; a real server has one from a file (`cert_file`,
`key_file`).
"""

from __future__ import annotations

import asyncio

import trustme

import mantou


class ClearServer(mantou.SocketHandler[None]):
    def __init__(self, tls: mantou.TLSOptions) -> None:
        self.tls = tls

    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        if data != b"STARTTLS\n":
            socket.end("500 only STARTTLS is understood here\n")
            return
        socket.write("220 go ahead\n")  # still in clear: it is sent before TLS begins
        socket.upgrade_tls(tls=self.tls, socket=SecureServer())


class SecureServer(mantou.SocketHandler[None]):
    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        print(f"server: {data!r} over {socket.get_tls_version()}")
        socket.end(b"you said " + data)


class ClearClient(mantou.SocketHandler[asyncio.Future[bytes]]):
    def __init__(self, tls: mantou.TLSOptions) -> None:
        self.tls = tls

    def open(self, socket: mantou.Socket[asyncio.Future[bytes]]) -> None:
        socket.write("STARTTLS\n")

    def data(self, socket: mantou.Socket[asyncio.Future[bytes]], data: bytes) -> None:
        print(f"client: {data!r} in clear")
        socket.upgrade_tls(tls=self.tls, socket=SecureClient(), data=socket.data)


class SecureClient(mantou.SocketHandler[asyncio.Future[bytes]]):
    def open(self, socket: mantou.Socket[asyncio.Future[bytes]]) -> None:
        print(f"client: verified, {socket.authorized}")
        socket.write("a secret")

    def data(self, socket: mantou.Socket[asyncio.Future[bytes]], data: bytes) -> None:
        socket.data.set_result(data)
        socket.end()


async def main() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    server_tls: mantou.TLSOptions = {
        "cert": [pem.bytes() for pem in certificate.cert_chain_pems],
        "key": certificate.private_key_pem.bytes(),
    }
    client_tls: mantou.TLSOptions = {"ca": authority.cert_pem.bytes()}
    answer = asyncio.get_running_loop().create_future()
    server = ClearServer(server_tls)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
        await mantou.connect(
            hostname="localhost", port=listener.port, socket=ClearClient(client_tls), data=answer
        )
        print(f"client: {await answer!r}")


if __name__ == "__main__":
    mantou.run(main())
