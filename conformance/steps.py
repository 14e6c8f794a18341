"""What the peers of a scenario do, one after another: each waits for what it needs to have seen."""

from __future__ import annotations

import contextlib
import socket as kernel
import stat
import threading
from pathlib import Path
from typing import Any

from conformance import certificates
from conformance.peer import LIMIT, Peer, TlsPeer
from conformance.scenario import Action, Step
from conformance.stage import Stage, Stuck, shown


def connect(label: str = "P") -> Step:
    """A peer connects to the server."""

    def step(stage: Stage) -> None:
        sock = kernel.socket(stage.family, kernel.SOCK_STREAM)
        peer = stage.peers[label] = Peer(sock)
        try:
            sock.connect(stage.address)
        except ConnectionError:  # the RST was faster than we
            peer.was_reset = True

    return step


def accept(label: str = "P") -> Step:
    """A peer accepts what the client connects."""

    def step(stage: Stage) -> None:
        stage.peers[label] = Peer(stage.accept())

    return step


def secure(label: str = "P", version: str = "", before: str = "", **options: Any) -> Step:
    """A peer shakes hands: who connected as TLS client, who accepted as server.

    What it says before, in the clear, leaves in one segment with its first words.
    """

    def step(stage: Stage) -> None:
        serves = "S" not in stage.drivers
        name = {} if serves else {"server_hostname": "localhost"}
        context = certificates.context(serves, version, **options)
        peer = TlsPeer(stage.peers[label].sock, context, server_side=serves, **name)
        peer.seen = stage.peers[label].seen
        stage.peers[label] = peer
        peer.seen.append(peer.handshake(before.encode()))

    return step


def send(text: str, label: str = "P") -> Step:
    """A peer sends, if its connection is still there."""

    def step(stage: Stage) -> None:
        try:
            stage.peers[label].send(text.encode("latin-1"))
        except ConnectionError:
            stage.peers[label].seen.append("nobody to send to")

    return step


def send_filled(count: int, label: str = "P") -> Step:
    """A peer sends so many bytes."""
    return lambda stage: stage.peers[label].send(bytes(count))


def send_raw(text: str, label: str = "P") -> Step:
    """A peer sends past its own TLS."""

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        assert isinstance(peer, TlsPeer)
        peer.send_raw(text.encode("latin-1"))

    return step


def finish(label: str = "P") -> Step:
    """A peer sends a FIN, if its connection is still there: a RST may be under way."""

    def step(stage: Stage) -> None:
        with contextlib.suppress(OSError):
            stage.peers[label].finish()

    return step


def notify(label: str = "P") -> Step:
    """A peer sends a close_notify, and no FIN."""

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        assert isinstance(peer, TlsPeer)
        peer.notify()

    return step


def reset(label: str = "P") -> Step:
    """A peer sends a RST."""
    return lambda stage: stage.peers[label].reset()


def close(label: str = "P") -> Step:
    """A peer lets go of its socket."""
    return lambda stage: stage.peers[label].close()


def receive(count: int, label: str = "P") -> Step:
    """A peer receives so many bytes."""

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        data = peer.receive(count)
        peer.seen.append(f"got({shown(data)})")

    return step


def receive_end(label: str = "P", of: int = 0, tail: int = 0) -> Step:
    """A peer receives until the end, and with what it has received before this is to be everything.

    That is `of` bytes that tell their place, or some bytes and such a `tail`.
    """

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        data, ending = peer.receive_end()
        data = peer.before + data
        pattern = (bytes(range(251)) * ((of or tail) // 251 + 1))[: of or tail]
        if tail:
            peer.seen.append("got(all)" if data.endswith(pattern) else "got(a part)")
        elif of:
            whole = "all" if data == pattern else "a part" if pattern.startswith(data) else "other"
            peer.seen.append(f"got({whole})")
        elif data:
            peer.seen.append(f"got({shown(data)})")
        peer.seen.append(ending)

    return step


def receive_until(event: str, who: str = "S") -> Step:
    """A peer receives what comes until a handler has been called."""

    def step(stage: Stage) -> None:
        peer = stage.peers["P"]
        peer.sock.settimeout(0.05)
        while not stage.driver(who).wait(who, event, 1, seconds=0):
            try:
                peer.before += peer.read()
            except TimeoutError:
                continue
            except ConnectionError:
                peer.was_reset = True
                break
        wait(event, who)(stage)
        peer.sock.settimeout(LIMIT)

    return step


def receive_fin(label: str = "P") -> Step:
    """A peer of TLS looks what comes after the close_notify."""

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        assert isinstance(peer, TlsPeer)
        peer.seen.append(peer.receive_fin())

    return step


def wait(event: str, who: str = "S", count: int = 1) -> Step:
    """Until a handler, or one of several with `|` between, has been called so many times."""

    def step(stage: Stage) -> None:
        driver = stage.driver(who)
        if not driver.wait(who, event, count):
            told = [(one["who"], one["event"], one["value"]) for one in driver.events]
            raise Stuck(f"{who} waits for {event}, there were {told}")

    return step


def act(who: str, *actions: Action, socket: int | None = None) -> Step:
    """An end does something outside any handler, to its latest socket unless it is told which."""
    return lambda stage: void(stage.driver(who).ask(act=list(actions), socket=socket))


def void(_: object) -> None:
    """For what is done and not looked at."""


def settle() -> Step:
    """All ends get some turns of their loops, for what is there already."""
    return Stage.settle


def release() -> Step:
    """A loop that is held goes on."""
    return Stage.release


def fill_backlog() -> Step:
    """Others connect until the raw listener, on a unix socket, takes no more."""
    return Stage.fill_backlog


def flood(label: str) -> Step:
    """A peer sends without an end from now on."""

    def step(stage: Stage) -> None:
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                stage.peers[label].send(bytes(65536))

        def stop() -> None:
            over.set()
            thread.join()

        thread = threading.Thread(target=send)
        stage.tidy_up.append(stop)
        thread.start()

    return step


def send_while_taken(count: int, label: str = "P") -> Step:
    """A peer sends so many bytes, as long as the other end takes them."""

    def step(stage: Stage) -> None:
        peer = stage.peers[label]
        peer.sock.setblocking(False)
        left, refused = count, 0
        while left and refused < 8:
            try:
                left -= peer.sock.send(bytes(min(left, 65536)))
            except BlockingIOError:
                refused += 1
                stage.settle()
            except ConnectionError:
                break
            else:
                refused = 0
        peer.sock.settimeout(LIMIT)
        peer.seen.append("could not send all" if left else "sent all")

    return step


def replace_file() -> Step:
    """Somebody puts another file where the unix socket was."""

    def step(stage: Stage) -> None:
        path = Path(stage.address)
        path.unlink()
        path.touch()

    return step


def look_at_file(label: str = "P") -> Step:
    """A peer looks at the file of the unix socket."""

    def step(stage: Stage) -> None:
        path = Path(stage.address)
        mode = f"{stat.S_IMODE(path.stat().st_mode):o}" if path.exists() else "no file"
        stage.peers[label].seen.append(mode)

    return step


def refused(label: str = "P2") -> Step:
    """A peer that wants to connect is told whether it can."""

    def step(stage: Stage) -> None:
        sock = kernel.socket(stage.family, kernel.SOCK_STREAM)
        peer = stage.peers[label] = Peer(sock)
        try:
            sock.connect(stage.address)
        except ConnectionRefusedError:
            peer.seen.append("refused")
        except FileNotFoundError:
            peer.seen.append("no such file")
        else:
            peer.seen.append("connected")

    return step
