"""What takes more bytes than a test in between should move: `make nightly`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.support import Recorder, listen, reach


@pytest.mark.loops("mantou")
@pytest.mark.timeout(600)
async def test_more_bytes_than_32_bits_count(tmp_path: Path) -> None:
    size = 2**32 + 2**20
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
    received = 0

    class Taking(Recorder):
        binary_type = "memoryview"

        def data(self, socket: mantou.Socket[Any], data: memoryview) -> None:
            nonlocal received
            received += len(data)

    taking, sending = Taking(), Recorder()
    with listen(taking) as listener, path.open("rb") as file:
        socket = await reach(listener, sending)
        assert await socket.send_file(file) == size
        socket.end()
        await taking.until("close")
        assert received == size
        assert taking.sockets[0].bytes_read == size == socket.bytes_written
        assert taking.sockets[0].stats().bytes_read == size
        await sending.until("close")
