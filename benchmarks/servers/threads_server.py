"""threads_server.py THREADS WORK: prints the port of each thread, which has a loop and an echo.

WORK is what its handler does in Python for each message: so many numbers are added.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import mantou


class Echo(mantou.SocketHandler[Any]):
    def __init__(self, work: int) -> None:
        self.work = work

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        sum(range(self.work))
        socket.write_all(data)


def serve(work: int) -> None:
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo(work))
    # In one piece: another thread prints, too.
    print(f"{listener.port}\n", end="", flush=True)
    mantou.run()


def main(threads: str, work: str) -> None:
    for _ in range(int(threads) - 1):
        threading.Thread(target=serve, args=(int(work),), daemon=True).start()
    serve(int(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
