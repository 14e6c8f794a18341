"""What is in the log of a listener, and what never is."""

from __future__ import annotations

import logging

import pytest

from tests.limits import arrive, echo
from tests.support import (
    Recorder,
    accepted,
    listen,
)

pytestmark = pytest.mark.usefixtures("stats_before")


async def test_a_limit_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with listen(recorder, max_connections_per_host=1) as listener:
        inside = arrive(listener)
        await recorder.until("open")
        for _ in range(3):
            refused = arrive(listener)
            with pytest.raises(ConnectionResetError):
                await refused.receive_some()
            refused.close()
        (record,) = [record for record in caplog.records if record.name == "mantou"]
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            f"{listener!r} has reached max_connections_per_host; its stats() count from now on"
        )
        inside.close()
        await recorder.until("close")


async def test_nothing_is_logged_for_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mantou"):
        async with accepted(Recorder(data=echo)) as (_, peer):
            begun = len(caplog.records)
            for _ in range(10):
                await peer.send(b"x")
                await peer.receive(1)
            assert len(caplog.records) == begun
