"""What is in the log of a listener, and what never is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import mantou
from tests.limits import arrive, echo
from tests.support import (
    Recorder,
    accepted,
    listen,
    others_had_their_turn,
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


# Who logs, and what they make of it


class Exploding(logging.Handler):
    """A handler of somebody's who has not read that it must not raise."""

    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError(f"cannot log: {record.getMessage()}")


@pytest.fixture
def exploding() -> Iterator[None]:
    log, handler = logging.getLogger("mantou"), Exploding()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield
    log.removeHandler(handler)
    log.setLevel(before)


@pytest.mark.usefixtures("exploding")
async def test_a_log_that_raises_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(data=echo)
    with listen(recorder, max_connections_per_host=1) as listener:
        inside = arrive(listener)
        await recorder.until("open")
        refused = arrive(listener)
        with pytest.raises(ConnectionResetError):
            await refused.receive_some()
        refused.close()
        assert await listener.drain(grace=0) == 1
        with pytest.raises(ConnectionResetError):
            await inside.receive_some()
        inside.close()
    shown = capsys.readouterr().err
    for said in ("listening", "has reached", "1 connections are open", "were cut"):
        assert said in shown


@pytest.mark.usefixtures("exploding")
async def test_a_log_that_raises_changes_nothing_for_streams(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(_: mantou.Stream) -> None:
        raise ZeroDivisionError("a fault of the handler")

    async with mantou.serve_streams(fail, hostname="127.0.0.1", port=0) as server:
        for _ in range(2):
            peer = arrive(server.listener)
            assert await peer.receive_until_fin() == b""
            peer.close()
    assert capsys.readouterr().err.count("cannot log: the handler of a stream failed") == 2


@pytest.mark.parametrize("served", ["sockets", "streams"])
async def test_what_peers_do_wrong_is_for_those_who_look(
    served: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody could fill a log with it."""

    async def serve(stream: mantou.Stream) -> None:
        await stream.receive()

    options: Any = {"hostname": "127.0.0.1", "port": 0, "proxy_protocol": "require"}
    if served == "sockets":
        listener: Any = mantou.listen(socket=Recorder(), **options)
    else:
        listener = mantou.serve_streams(serve, **options).listener
    with caplog.at_level(logging.DEBUG, "mantou"), listener:
        peer = arrive(listener)
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()
        name = f"remote=127.0.0.1:{peer.sock.getsockname()[1]}"
        peer.close()
        await others_had_their_turn()
    said = [record for record in caplog.records if "PROXY header" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.DEBUG]
    assert name in said[0].getMessage()
    assert said[0].exc_info is None


async def test_a_record_names_the_place_where_it_was_made(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mantou"):
        listen(Recorder()).stop()
    assert [record.filename for record in caplog.records] == ["_listen.py", "_listener.py"]
