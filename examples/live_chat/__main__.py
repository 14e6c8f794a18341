"""A chat whose manners are in a file of their own, and change while people talk.

    python -m examples.live_chat --port 7003
    nc 127.0.0.1 7003

`manners.py` is loaded again whenever it is saved. `reload()` gives the new handlers to everybody
who is connected, from the next line on: nobody is disconnected, and what they share stays. A file
that cannot be loaded changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import runpy
from pathlib import Path

import mantou
from examples.live_chat.manners import Manners, Room

OFTEN = 0.2  # seconds between two looks at the file


async def watch(path: Path, listener: mantou.TCPSocketListener[Room]) -> None:
    """Reloads the handlers each time the file has changed."""
    seen = path.stat().st_mtime_ns
    while True:
        await asyncio.sleep(OFTEN)
        try:
            now = path.stat().st_mtime_ns
        except FileNotFoundError:  # some editors write a new file and rename it
            continue
        if now == seen:
            continue
        seen = now
        try:
            listener.reload(runpy.run_path(str(path))["Manners"]())
        except Exception as error:  # whatever is wrong with it, the old manners stay
            print(f"not reloaded: {type(error).__name__}: {error}", flush=True)
        else:
            print("reloaded", flush=True)


async def serve(hostname: str, port: int, path: Path) -> None:
    listener = mantou.listen(
        hostname=hostname,
        port=port,
        socket=Manners(),
        data=Room(),
        packet="line",
        packet_size=4096,
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    await watch(path, listener)


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat whose manners change while people talk.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7003, help="7003; 0 picks a free one")
    parser.add_argument("--manners", type=Path, default=Path(__file__).with_name("manners.py"))
    options = parser.parse_args()
    try:
        mantou.run(serve(options.hostname, options.port, options.manners))
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()
