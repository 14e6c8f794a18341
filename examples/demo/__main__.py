"""Run all parts of the demonstration, one after the other, on TCP and on a unix socket.

python -m examples.demo --size 256
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mantou

from .conversations import echo, half_open, hot_reload, idle_timeout
from .narrator import Narrator
from .transfer import transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
PART_LIMIT = 300.0  # seconds: a part that hangs is a part that failed


@contextlib.contextmanager
def part(narrator: Narrator, title: str, why: str) -> Iterator[None]:
    """Announce a part; an exception in it is a failed check, and the next part goes on."""
    narrator.part(title, why)
    try:
        yield
    except Exception as error:
        narrator.check(f"{title}: {type(error).__name__}: {error}", passed=False)


async def demonstrate(narrator: Narrator, size: int, directory: Path) -> None:
    """Run the parts. `directory` is where the unix sockets live."""
    speeds: dict[str, float] = {}
    places: dict[str, Path | None] = {"TCP": None, "unix socket": directory / "demo.sock"}

    for name, path in places.items():
        why = "Each connection has its own context in socket.data; here, who it is."
        with part(narrator, f"Echo over {name}", why):
            async with asyncio.timeout(PART_LIMIT):
                await echo(narrator, path)

    for name, path in places.items():
        why = (
            "The sender writes until the kernel takes no more and goes on at `drain`; the "
            "receiver pauses now and then. Nothing may be lost, and nothing piles up."
        )
        with part(narrator, f"{size // MIB} MiB over {name}", why):
            async with asyncio.timeout(PART_LIMIT):
                speeds[name] = await transfer(narrator, path, size)

    why = "The client ends its side and still gets an answer: a FIN is not the end."
    with part(narrator, "Half-open", why):
        async with asyncio.timeout(PART_LIMIT):
            await half_open(narrator)

    why = "New handlers for connections that are open: no reconnect, no lost byte."
    with part(narrator, "Hot reload", why):
        async with asyncio.timeout(PART_LIMIT):
            await hot_reload(narrator)

    why = "A peer that stays silent is let go."
    with part(narrator, "Idle timeout", why):
        async with asyncio.timeout(PART_LIMIT):
            await idle_timeout(narrator)

    narrator.summary(speeds)


def main() -> int:
    parser = argparse.ArgumentParser(description="See sockets at work.")
    parser.add_argument("--size", type=int, default=256, help="MiB to transfer (256)")
    options = parser.parse_args()
    if options.size < 1:
        parser.error("--size must be at least 1")
    narrator = Narrator()
    with tempfile.TemporaryDirectory(prefix="mantou-") as directory:
        mantou.run(demonstrate(narrator, options.size * MIB, Path(directory)))
    return 1 if narrator.failed else 0


if __name__ == "__main__":
    sys.exit(main())
