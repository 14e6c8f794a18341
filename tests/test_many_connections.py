"""More connections than is usual, or than there are descriptors for."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import textwrap

import pytest

from tests.support import Recorder, every_stream, listen, reach


@every_stream
async def test_thousands_of_connections_at_once(link: str) -> None:
    # Two descriptors for each, and some to spare.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(4000, (limit - 200) // 2)
    server = Recorder(data=lambda socket, data: socket.write_all(data))
    client = Recorder()
    with listen(server, link) as listener:
        sockets = await asyncio.gather(*(reach(listener, client, link) for _ in range(count)))
        # Not recorded by the peers: thousands of events are searched too slowly.
        assert len({socket.local_port for socket in sockets}) == count
        for socket in sockets:
            assert socket.write(b"1234") == 4
        await client.until_received(4 * count)
        assert len(client.received) == 4 * count
        for socket in sockets:
            socket.terminate()
        listener.stop(close_active_connections=True)
        await listener.closed()
    assert len(client.of("close")) == count
    assert len(server.of("close")) == count


async def test_connecting_again_and_again_starves_nobody() -> None:
    # To this machine the kernel connects at once, so that there is little to wait for.
    loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns, again
        turns += 1
        again = loop.call_soon(turn)

    again = loop.call_soon(turn)
    client = Recorder()
    with listen(Recorder()) as listener:
        for _ in range(300):
            (await reach(listener, client)).terminate()
        assert turns >= 4
        again.cancel()
        await client.until("close", 300)
        listener.stop(close_active_connections=True)
        await listener.closed()


STARVED = """
import asyncio, json, logging, os, resource, socket, sys, time
import mantou
from tests.support import Peer, listen
from tests.tls_support import TlsPeer

kind, link = sys.argv[1:]

class Count(logging.Handler):
    warnings = 0
    def emit(self, record):
        Count.warnings += 1

logging.getLogger("mantou").addHandler(Count())

async def main():
    loop = asyncio.get_running_loop()
    sockets = []
    changed = asyncio.Event()
    class Handlers(mantou.SocketHandler):
        def open(self, socket):
            sockets.append(socket)
            changed.set()
        def data(self, socket, data):
            socket.write(data)
        def close(self, socket, error):
            sockets.remove(socket)
            changed.set()
        # So that `open` does not wait for it.
        def handshake(self, socket, success, error):
            pass
    async def until(count):
        while len(sockets) != count:
            changed.clear()
            await changed.wait()
    # Made beforehand, outside the limit that follows.
    listener = listen(Handlers(), link)
    peers = [socket.socket() for _ in range(20)]
    first = TlsPeer(peers[0], server_side=False) if link == "tls" else Peer(peers[0])
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    # Gaps below would count as free.
    fillers = []
    while (free := os.dup(0)) <= highest:
        fillers.append(free)
    os.close(free)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 5, hard))
    for peer in peers:
        peer.setblocking(False)
        peer.connect_ex(("127.0.0.1", listener.port))
    await until(5)
    result = {}
    start, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(1)
    result["cpu"] = (time.process_time() - cpu) / (time.monotonic() - start)
    # Existing connections go on.
    if link == "tls":
        await first.handshake()
    await first.send(b"hello")
    result["echo"] = (await first.receive(5)).decode()
    result["while starved"] = len(sockets)
    # One goes, one comes.
    before = set(sockets)
    sockets[0].terminate()
    while set(sockets) <= before or len(sockets) < 5:
        changed.clear()
        await changed.wait()
    result["after one"] = len(sockets)
    # Room that nobody tells us of is found, too.
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 100, hard))
    await until(19)
    result["after all"] = len(sockets)
    result["warnings"] = Count.warnings
    for peer in peers:
        peer.close()
    await until(0)
    print(json.dumps(result))

if kind == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
else:
    factory = {"mantou": mantou.new_event_loop, "asyncio": asyncio.SelectorEventLoop}[kind]
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(asyncio.wait_for(main(), 30))
"""


@every_stream
@pytest.mark.parametrize("kind", ["mantou", "asyncio", "uvloop"])
def test_out_of_descriptors_while_accepting(link: str, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STARVED), kind, link],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    result = json.loads(done.stdout)
    assert result.pop("cpu") < 0.1
    # A second shortage, after an accept that succeeded, is reported again.
    assert 1 <= result.pop("warnings") <= 2
    assert result == {"echo": "hello", "while starved": 5, "after one": 5, "after all": 19}


def test_out_of_descriptors_while_connecting() -> None:
    script = """
    import asyncio, errno, os, resource, socket
    import mantou

    async def main():
        events = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            await asyncio.sleep(0)
            port = server.getsockname()[1]
            # Whatever asyncio and mantou need of their own is there.
            first = await mantou.connect(hostname="127.0.0.1", port=port, socket={"open": print})
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
            try:
                for options in ({}, {"exclusive": True}, {"tls": True}):
                    try:
                        await mantou.connect(
                            hostname="127.0.0.1", port=port, **options,
                            socket={"connect_error": lambda _, error: events.append(error)},
                        )
                    except OSError as error:
                        assert error is events[-1]
                        assert error.errno == errno.EMFILE
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert len(events) == 3
            assert first.write(b"goes on") == 7
            first.terminate()

    mantou.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
