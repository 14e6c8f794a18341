"""An echo server: sends back whatever it gets.

    python examples/echo_server.py --port 7000

A client that sends without reading does not fill the memory: while its echo waits to be sent,
nothing more is read from it.
"""

from __future__ import annotations

import argparse

import mantou


class Echo(mantou.SocketHandler[None]):
    def open(self, socket: mantou.Socket[None]) -> None:
        print(f"+ {socket.remote_address}:{socket.remote_port}", flush=True)

    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        socket.write_all(data)
        if socket.buffered:  # the client reads slower than it writes: let it catch up
            socket.pause()

    def drain(self, socket: mantou.Socket[None]) -> None:
        socket.resume()

    def close(self, socket: mantou.Socket[None], error: BaseException | None) -> None:
        why = f" ({error})" if error else ""
        print(f"- {socket.remote_address}:{socket.remote_port}{why}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="7000; 0 picks a free one")
    options = parser.parse_args()

    listener = mantou.listen(hostname=options.hostname, port=options.port, socket=Echo())
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        mantou.run()  # until the listener is stopped and the last connection is gone
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()
