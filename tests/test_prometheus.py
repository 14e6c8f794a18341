"""What Prometheus gets to see, by its own client library."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import mantou
from mantou.prometheus import Collector
from tests.limits import arrive, listen_over
from tests.support import Recorder, dial, listen

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_server_s_figures_reach_whoever_scrapes() -> None:
    recorder = Recorder(data=lambda socket, data: socket.write_all(data))
    before = mantou.stats()
    with (
        listen(recorder, "tls", max_connections_per_host=2) as public,
        listen_over("unix", recorder) as local,
    ):
        peers = [await dial(public, "tls") for _ in range(2)]
        await recorder.until("open", 2)
        refused = arrive(public)
        with pytest.raises(ConnectionResetError):
            await refused.receive_some()
        refused.close()
        await peers[0].send(bytes(100))
        await peers[0].receive(100)

        registry = prometheus_client.CollectorRegistry()
        registry.register(Collector({"public": public, "local": local}))
        server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
        try:
            url = f"http://127.0.0.1:{server.server_port}/metrics"
            text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()
        found = samples_of(text)

        def of(name: str, **labels: str) -> float:
            return found[f"mantou_{name}", tuple(sorted(labels.items()))]

        assert of("listeners") == 2
        assert of("connections") == 2
        assert of("connected_total") == before.connected
        assert of("accepted_total") == before.accepted + 2
        assert of("read_bytes_total") == before.bytes_read + 100
        assert of("written_bytes_total") == before.bytes_written + 100
        assert of("queued_bytes") == 0
        assert of("refused_total") == before.refused + 1
        assert of("tls_handshakes_total", outcome="success") == before.handshakes + 2
        assert of("listener_connections", listener="public") == 2
        assert of("listener_connections", listener="local") == 0
        assert of("listener_accepted_total", listener="public") == 2
        assert of("listener_read_bytes_total", listener="public") == 100
        assert of("listener_refused_total", listener="public") == 1
        assert of("listener_tls_handshakes_total", listener="public", outcome="success") == 2
        assert of("listener_tls_handshakes_total", listener="public", outcome="timeout") == 0
        assert of("listener_accept_pauses_total", listener="public", reason="accept_rate") == 0
        assert of("listener_waiting", listener="public") == 0
        assert of("listener_backlog", listener="public") > 0
        # The kernel does not tell of a unix socket.
        assert ("mantou_listener_waiting", (("listener", "local"),)) not in found
        for peer in peers:
            peer.close()
        await recorder.until("close", 2)


async def test_what_is_no_named_listener_is_refused() -> None:
    with listen(Recorder()) as listener:
        server = mantou.serve_streams(print, hostname="127.0.0.1", port=0)  # type: ignore[call-overload]
        wrong: list[tuple[Any, type[Exception], str]] = [
            ([listener], TypeError, "a mapping of names to listeners"),
            ({5: listener}, TypeError, "must be a str, got 5"),
            ({"": listener}, ValueError, "is empty"),
            ({"a": None}, TypeError, "'a' must be a listener, got None"),
            ({"streams": server}, TypeError, "'streams' must be a listener, got <mantou"),
        ]
        for listeners, error, text in wrong:
            with pytest.raises(error, match=text):
                Collector(listeners)
        await server.aclose()


async def test_a_stopped_listener_and_a_forked_process_have_figures_too() -> None:
    recorder = Recorder()
    registry = prometheus_client.CollectorRegistry(auto_describe=True)
    with listen(recorder) as listener:
        registry.register(Collector({'odd "name"\n': listener}))
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(Collector({"another": listener}))
        (await dial(listener)).close()
        await recorder.until("close")
    labels = (("listener", 'odd "name"\n'),)
    found = samples_of(prometheus_client.generate_latest(registry).decode())
    assert found["mantou_listener_accepted_total", labels] == 1
    assert ("mantou_listener_waiting", labels) not in found
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(write, prometheus_client.generate_latest(registry))
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as output:
        inherited = samples_of(output.read().decode())
    os.waitpid(child, 0)
    assert inherited["mantou_listener_accepted_total", labels] == 0
    assert inherited["mantou_connections", ()] == 0


def test_without_the_library_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["prometheus_client"] = None
try:
    import mantou.prometheus
except ImportError as error:
    print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert "pip install mantou[prometheus]" in output


def test_nobody_needs_the_library_who_does_not_ask_for_it() -> None:
    program = "import sys, mantou; mantou.stats(); print('prometheus_client' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert output == "False\n"
