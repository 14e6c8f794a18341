"""A pre-fork server: several processes behind one listener.

    python examples/prefork_server.py --port 7000 --processes 4

The listener is made once, before the processes are forked: they share its queue of connections,
and the kernel gives each connection to one of those that are idle. One process alone uses one core.
"""

from __future__ import annotations

import argparse
import os
import signal

import mantou

SIGNALS = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}


class Echo(mantou.SocketHandler[None]):
    def open(self, socket: mantou.Socket[None]) -> None:
        socket.write_all(f"this is process {os.getpid()}\n")

    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        socket.write_all(data)
        if socket.buffered:  # the client reads slower than it writes: let it catch up
            socket.pause()

    def drain(self, socket: mantou.Socket[None]) -> None:
        socket.resume()


def start_process() -> int:
    """Forks a process that serves until it is told to stop; returns its number."""
    process = os.fork()
    if process == 0:
        # SIGINT stays blocked: Ctrl-C reaches every process of a terminal, and the first decides.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS - {signal.SIGINT})
        try:
            mantou.run()
        finally:
            os._exit(0)
    return process


def take_ended() -> int:
    """The number of a process that has ended, or 0."""
    return os.waitpid(-1, os.WNOHANG)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="A pre-fork echo server.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="7000; 0 picks a free one")
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()

    listener = mantou.listen(hostname=options.hostname, port=options.port, socket=Echo())
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    # Blocked, they come one at a time, when they are asked for: never between a fork and its note.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    processes = {start_process() for _ in range(options.processes)}
    while signal.sigwait(SIGNALS) == signal.SIGCHLD:
        while ended := take_ended():
            processes.remove(ended)
            processes.add(start_process())
    for process in processes:
        os.kill(process, signal.SIGTERM)
    for process in processes:
        os.waitpid(process, 0)
    listener.stop()
    print("bye")


if __name__ == "__main__":
    main()
