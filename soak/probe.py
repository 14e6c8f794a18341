"""How long an answer takes meanwhile: one connection that asks again and again."""

from __future__ import annotations

import socket as kernel
import statistics
import threading
import time

EVERY = 0.01


class Probe:
    """A thread that asks an echo server until it is stopped; seconds that each answer took."""

    def __init__(self, port: int) -> None:
        self._sock = kernel.create_connection(("127.0.0.1", port), timeout=60)
        self._sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
        self._over = threading.Event()
        self.took: list[float] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.wait(EVERY):
            asked = time.perf_counter()
            self._sock.sendall(b"?")
            if self._sock.recv(2) != b"?":
                raise ConnectionError("the probe was not answered")
            self.took.append(time.perf_counter() - asked)

    def stop(self) -> dict[str, float]:
        """The percentiles, in milliseconds."""
        self._over.set()
        self._thread.join()
        if not self.took:
            raise ConnectionError("the probe was never answered")
        self._sock.close()
        parts = statistics.quantiles(self.took, n=1000)
        return {name: 1000 * parts[n] for name, n in (("p50", 499), ("p99", 989), ("p999", 998))}
