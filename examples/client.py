"""A client: sends its arguments, or the lines of its input, and prints what comes back.

python examples/client.py --port 7000 hello there
python examples/client.py --port 7000 < some-file
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import mantou


class Printer(mantou.SocketHandler[asyncio.Event]):
    """Prints what arrives; `socket.data` is set when the connection is over."""

    def data(self, socket: mantou.Socket[asyncio.Event], data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def close(self, socket: mantou.Socket[asyncio.Event], error: BaseException | None) -> None:
        if error:
            print(f"connection lost: {error}", file=sys.stderr)
        socket.data.set()


async def talk(hostname: str, port: int, text: str) -> None:
    over = asyncio.Event()
    # Leaving the block ends our side: the server sees it, sends what is left and ends its own.
    with await mantou.connect(hostname=hostname, port=port, socket=Printer(), data=over) as socket:
        if text:
            socket.write_all(f"{text}\n")
        else:
            # The input may be a terminal: wait for it in a thread, not in the loop.
            while line := await asyncio.to_thread(sys.stdin.buffer.readline):
                socket.write_all(line)
                await socket.drained()
    await over.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="Send lines and print the answers.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("text", nargs="*", help="one line to send; without it, the input's lines")
    options = parser.parse_args()
    try:
        mantou.run(talk(options.hostname, options.port, " ".join(options.text)))
    except OSError as error:
        print(f"{options.hostname}:{options.port}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
