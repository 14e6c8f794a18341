"""Echo servers to compare: `servers.py mantou|asyncio|uvloop` prints its port and serves."""

import asyncio
import sys


def serve_mantou() -> None:
    import mantou

    class Echo(mantou.SocketHandler[None]):
        def data(self, socket: mantou.Socket[None], data: bytes) -> None:
            socket.write(data)

    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo())
    print(listener.port, flush=True)
    mantou.run()


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_protocol() -> None:
    server = await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(kind: str) -> None:
    if kind == "mantou":
        serve_mantou()
    elif kind == "uvloop":
        import uvloop

        uvloop.run(serve_protocol())
    else:
        asyncio.run(serve_protocol())


if __name__ == "__main__":
    main(sys.argv[1])
