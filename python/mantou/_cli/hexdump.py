"""Bytes as people read them: `--hex`."""

from __future__ import annotations

from .carrying import Sink, Source

_WIDTH = 16
_SHOWN = bytes(n if 0x20 <= n < 0x7F else ord(".") for n in range(256))


class Dump:
    """Writes what goes one way, each line behind a mark and the place of its first byte."""

    def __init__(self, mark: str, out: Sink) -> None:
        self._mark = mark
        self._out = out
        self._place = 0

    async def write(self, data: bytes) -> None:
        """Writes the lines of some bytes."""
        lines = list[str]()
        for start in range(0, len(data), _WIDTH):
            part = data[start : start + _WIDTH]
            codes = f"{part[:8].hex(' ')}  {part[8:].hex(' ')}".ljust(3 * _WIDTH + 1)
            text = part.translate(_SHOWN).decode("ascii")
            lines.append(f"{self._mark} {self._place + start:08x}  {codes} |{text}|\n")
        self._place += len(data)
        await self._out.write("".join(lines).encode("ascii"))

    async def finish(self) -> None:
        """Nothing is left to be written."""


class Dumped:
    """A source of which is shown what it gives."""

    def __init__(self, source: Source, dump: Dump) -> None:
        self._source = source
        self._dump = dump

    async def read(self) -> bytes:
        """What the source gives."""
        data = await self._source.read()
        await self._dump.write(data)
        return data
