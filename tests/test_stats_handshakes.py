"""Handshakes that were counted, and those that failed by what was wrong."""

from __future__ import annotations

import dataclasses
import logging
import ssl
from typing import Any

import pytest

import mantou
from tests.limits import arrive
from tests.support import (
    Handshaker,
    Recorder,
    dial,
    every_engine,
    listen,
)
from tests.tls_support import CLIENT_OPTIONS, context

pytestmark = pytest.mark.usefixtures("stats_before")


NO_FAILURES = mantou.HandshakeFailures(0, 0, 0, 0, 0)


@every_engine
async def test_handshakes_are_counted(link: str, stats_before: mantou.Stats) -> None:
    recorder = Recorder()
    with listen(recorder, link) as listener:
        peers = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 3)
        assert listener.stats().handshakes == 3
        assert listener.stats().handshake_failures == NO_FAILURES
        assert mantou.stats().handshakes - stats_before.handshakes == 3
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)
        assert listener.stats().handshakes == 3


async def fail(recorder: Recorder, listener: Any, data: bytes | None) -> None:
    peer = arrive(listener)
    if data is None:
        peer.reset()
    else:
        await peer.send(data)
    await recorder.until("connect_error")
    peer.close()


@every_engine
@pytest.mark.parametrize(
    ("kind", "data"),
    [("protocol", b"GET / HTTP/1.1\r\n\r\n"), ("lost", None), ("timeout", b"")],
)
async def test_failed_handshakes_are_counted_by_kind(
    link: str, kind: str, data: bytes | None, stats_before: mantou.Stats
) -> None:
    recorder = Recorder()
    with listen(recorder, link, handshake_timeout=0.2) as listener:
        await fail(recorder, listener, data)
        expected = dataclasses.replace(NO_FAILURES, **{kind: 1})
        assert listener.stats().handshake_failures == expected
        assert listener.stats().handshakes == 0
        failures = dataclasses.asdict(mantou.stats().handshake_failures)
        known = dataclasses.asdict(stats_before.handshake_failures)
        assert {name: failures[name] - known[name] for name in known} == dataclasses.asdict(
            expected
        )


@every_engine
async def test_a_client_that_refuses_us_is_an_alert(link: str) -> None:
    """It trusts nobody who has signed for us."""
    recorder = Recorder()
    with listen(recorder, link) as listener:
        with pytest.raises(ssl.SSLCertVerificationError):
            await mantou.connect(
                hostname="localhost",
                port=listener.port,
                socket=Recorder(),
                # So that the server is still in its handshake when it hears of that.
                tls={"max_version": "TLSv1.2"},
            )
        await recorder.until("connect_error")
        assert listener.stats().handshake_failures == dataclasses.replace(NO_FAILURES, alert=1)


@pytest.mark.parametrize("native", [True, False], ids=["rustls", "openssl"])
async def test_a_server_that_we_refuse_is_a_certificate(
    native: bool, stats_before: mantou.Stats
) -> None:
    tls: Any = True if native else ssl.create_default_context()
    with listen(Recorder(), "tls") as listener, pytest.raises(ssl.SSLCertVerificationError):
        await mantou.connect(hostname="localhost", port=listener.port, socket=Recorder(), tls=tls)
    certificate = mantou.stats().handshake_failures.certificate
    assert certificate - stats_before.handshake_failures.certificate == 1


@every_engine
async def test_a_client_without_a_certificate_is_refused_for_that(link: str) -> None:
    recorder = Recorder()
    tls: Any = {"request_cert": True, "ca": CLIENT_OPTIONS["ca"]}
    if link == "context":
        tls = context(server_side=True)
        tls.verify_mode = ssl.CERT_REQUIRED
    with listen(recorder, link, tls=tls) as listener:
        peer = await dial(listener, link)
        await recorder.until("connect_error")
        expected = dataclasses.replace(NO_FAILURES, certificate=1)
        assert listener.stats().handshake_failures == expected
        peer.close()


async def test_with_a_handshake_handler_it_is_the_same() -> None:
    recorder = Handshaker()
    with listen(recorder, "tls") as listener:
        peer = arrive(listener)
        await peer.send(b"no TLS at all, as anybody can see")
        await recorder.until("close")
        assert listener.stats().handshake_failures == dataclasses.replace(NO_FAILURES, protocol=1)
        peer.close()


@every_engine
async def test_failed_handshakes_are_in_the_log_for_those_who_look(
    link: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.DEBUG, "mantou"), listen(recorder, link) as listener:
        await fail(recorder, listener, b"no TLS at all, as anybody can see")
        (record,) = [record for record in caplog.records if record.levelno == logging.DEBUG]
        assert "the TLS handshake failed: " in record.getMessage()
        assert "remote=127.0.0.1:" in record.getMessage()
