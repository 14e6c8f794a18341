"""Figures for Prometheus, by its own client library.

It needs the extra: ``pip install mantou[prometheus]``. What the library offers to show metrics (a
server of its own, WSGI and ASGI applications, a push gateway) shows these as well::

    prometheus_client.REGISTRY.register(Collector({"public": listener}))
    prometheus_client.start_http_server(9000)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ImportError:
    raise ImportError(
        "mantou.prometheus needs the package 'prometheus-client': pip install mantou[prometheus]"
    ) from None

from ._listener import TCPSocketListener, UnixSocketListener
from ._stats import ListenerStats, Stats, stats
from ._validate import shown

__all__ = ["Collector"]

_Listener = TCPSocketListener[Any] | UnixSocketListener[Any]
_Listeners = dict[str, _Listener]


class Collector:
    """Collects what `mantou.stats()` says and, of the listeners given, what `stats()` of them does.

    It looks only when it is asked, from whichever thread that is. Not in Bun.

    :param listeners: those to tell apart, each by the name that its label `listener` is to have.
    :raises TypeError: not a mapping of str to listeners.
    :raises ValueError: a name is empty.
    """

    def __init__(
        self,
        listeners: Mapping[str, TCPSocketListener[Any] | UnixSocketListener[Any]] | None = None,
    ) -> None:
        self._listeners = _checked(listeners)

    def collect(self) -> Iterator[Metric]:
        """Everything at this moment. The registry calls it. Not in Bun."""
        whole = stats()
        yield GaugeMetricFamily("mantou_listeners", "Listeners.", whole.listeners)
        yield CounterMetricFamily(
            "mantou_connected", "Connections made or taken over.", whole.connected
        )
        yield from _common("mantou", {"": whole})
        parts = {name: listener.stats() for name, listener in self._listeners.items()}
        yield from _common("mantou_listener", parts)
        waiting = _gauge("mantou_listener_waiting", "Connections that wait to be accepted.", parts)
        backlog = _gauge("mantou_listener_backlog", "How many of them may wait.", parts)
        for name, part in parts.items():
            if part.waiting is not None and part.backlog is not None:
                waiting.add_metric([name], part.waiting)
                backlog.add_metric([name], part.backlog)
        yield waiting
        yield backlog


def _checked(listeners: Mapping[Any, Any] | None) -> _Listeners:
    if listeners is None:
        return {}
    if not isinstance(cast("object", listeners), Mapping):
        raise TypeError(
            f"Collector() takes a mapping of names to listeners, got {shown(listeners)}"
        )
    checked: _Listeners = {}
    for name, listener in listeners.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a listener must be a str, got {shown(name)}")
        if not name:
            raise ValueError("the name of a listener is empty, as it is of the process as a whole")
        if not isinstance(listener, TCPSocketListener | UnixSocketListener):
            raise TypeError(f"what is named {name!r} must be a listener, got {shown(listener)}")
        checked[name] = listener
    return checked


_Parts = Mapping[str, Stats] | Mapping[str, ListenerStats]


def _common(prefix: str, parts: _Parts) -> Iterator[Metric]:
    """What the process and its listeners have in common."""
    connections = _gauge(f"{prefix}_connections", "Open connections.", parts)
    queued = _gauge(f"{prefix}_queued_bytes", "Bytes that wait to be sent.", parts)
    accepted = _counter(f"{prefix}_accepted", "Connections accepted.", parts)
    read = _counter(f"{prefix}_read_bytes", "Bytes of applications' data received.", parts)
    written = _counter(f"{prefix}_written_bytes", "Bytes of applications' data sent.", parts)
    refused = _counter(f"{prefix}_refused", "Connections refused for their host's number.", parts)
    handshakes = _counter(f"{prefix}_tls_handshakes", "TLS handshakes.", parts, "outcome")
    pauses = _counter(f"{prefix}_accept_pauses", "Pauses of accepting.", parts, "reason")
    for name, part in parts.items():
        label = [name] if name else []
        connections.add_metric(label, part.connections)
        queued.add_metric(label, part.queued)
        accepted.add_metric(label, part.accepted)
        read.add_metric(label, part.bytes_read)
        written.add_metric(label, part.bytes_written)
        refused.add_metric(label, part.refused)
        handshakes.add_metric([*label, "success"], part.handshakes)
        for kind, count in asdict(part.handshake_failures).items():
            handshakes.add_metric([*label, kind], count)
        for reason, count in asdict(part.pauses).items():
            pauses.add_metric([*label, reason], count)
    yield from (connections, queued, accepted, read, written, refused, handshakes, pauses)


def _gauge(name: str, text: str, parts: _Parts) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=_labels(parts))


def _counter(name: str, text: str, parts: _Parts, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=[*_labels(parts), *labels])


def _labels(parts: _Parts) -> list[str]:
    """The process as a whole has no name."""
    return [] if "" in parts else ["listener"]
