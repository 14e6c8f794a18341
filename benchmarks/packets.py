"""What a message costs that is cut natively, beside the same framing in Python.

    python benchmarks/packets.py
    python benchmarks/packets.py --lines 200000 --rounds 5 --output /tmp/trial

Lines as of a Redis client, many in each read, and a handler that counts them. CPU time of the
process that receives, sender apart, all ways in turn; the result is the median of the rounds, in
results/packets.md. "The same" does what `packet="line"` does: it stops where the handler pauses or
closes, changes the framing in mid-read, and bounds the length. The short way does none of that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket as kernel
import statistics
import time
from pathlib import Path
from typing import Any

import runs

import mantou

LINE = b"GET user:%09d\r\n"  # 20 bytes with the number
LIMIT = 1024 * 1024
CR = 13
Socket = mantou.Socket[Any]


class Counter(mantou.SocketHandler[Any]):
    """What has so many lines to count; each way calls `line` for one."""

    def __init__(self, lines: int) -> None:
        self.left = lines
        self.done = asyncio.get_running_loop().create_future()

    def line(self, socket: Socket, data: bytes) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


class Native(Counter):
    data = Counter.line


class Same(Counter):
    """Framing in Python that keeps the promises of the native one."""

    def __init__(self, lines: int) -> None:
        super().__init__(lines)
        self.waiting = b""
        self.searched = 0
        self.framing = "line"
        self.stopped = False

    def data(self, socket: Socket, data: bytes) -> None:
        if self.waiting:
            data = self.waiting + data
        find, start, searched = data.find, 0, self.searched
        while not self.stopped and self.framing == "line":
            end = find(b"\n", searched)
            if end < 0:
                searched = len(data)
                if searched - start > LIMIT + 1:
                    socket.close()
                break
            line = data[start : end - 1 if data[end - 1] == CR and end > start else end]
            start = searched = end + 1
            if len(line) > LIMIT:
                socket.close()
                break
            self.line(socket, line)
        self.waiting, self.searched = data[start:], searched - start


class Short(Counter):
    """The shortest way to lines in Python."""

    def __init__(self, lines: int) -> None:
        super().__init__(lines)
        self.rest = b""

    def data(self, socket: Socket, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        for line in lines:
            self.line(socket, line)


WAYS: dict[str, tuple[type[Counter], str, dict[str, Any]]] = {
    "native": (Native, '`packet="line"`', {"packet": "line"}),
    "same": (Same, "the same in Python", {}),
    "short": (Short, "`split()`, without the promises", {}),
}


def send(port: int, lines: int) -> int:
    """Begin to send in a process of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        block = b"".join(LINE % number for number in range(10_000))
        with kernel.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(lines // 10_000):
                connection.sendall(block)
            connection.recv(1)
    finally:
        os._exit(0)


async def measure(way: str, lines: int) -> float:
    """Return the microseconds of CPU time that a line costs."""
    kind, _, options = WAYS[way]
    counter = kind(lines)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=counter, **options) as listener:
        child = send(listener.port, lines)
        begun = time.process_time()
        await counter.done
        spent = time.process_time() - begun
        listener.stop(True)
        await listener.closed()
    os.waitpid(child, 0)
    return spent / lines * 1e6


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=500_000, help="in a round (500000)")
    parser.add_argument("--rounds", type=int, default=11, help="of each way (11)")
    parser.add_argument("--output", type=Path, default=runs.RESULTS, help="folder of the result")
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.lines = max(1, options.lines // 10_000) * 10_000
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in list(WAYS) if number % 2 else reversed(WAYS):
            costs[way].append(mantou.run(measure(way, options.lines)))
    run = runs.this_run({}, f"{options.rounds} rounds of {options.lines:,} lines")
    machine = "Python {python}, {cpus} x {cpu}, {kernel}".format_map(
        {**run["machine"], **run["versions"]}
    )
    text = f"""# Packets

Written by `{run["command"]}`, {run["date"]}, {machine}. {run["method"]} of 20 bytes, over TCP on
this machine; CPU time of the receiver. The ratio is the median of the rounds' ratios.

| | a line | lines per CPU second | native is so many times as fast |
|---|--:|--:|--:|
"""
    for way, (_, label, _) in WAYS.items():
        cost = statistics.median(costs[way])
        ratios = (other / own for other, own in zip(costs[way], costs["native"], strict=True))
        row = f"| {label} | {cost:.3f} us | {1e6 / cost:,.0f} | {statistics.median(ratios):.2f} |"
        print(row, flush=True)
        text += row + "\n"
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "packets.md").write_text(text)


if __name__ == "__main__":
    main()
