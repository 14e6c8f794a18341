"""Processes forked from within a loop that runs: programs, because pytest must not run twice."""

from __future__ import annotations

import sys
import textwrap

import pytest

from tests.scripts import run_script

every_place = pytest.mark.parametrize("place", ["handler", "coroutine"])

# What `child_does()` does ends the child, or leaves it in its parent's loop.
SERVER = """
import asyncio, os, sys, mantou

child = None

def fork():
    global child
    child = os.fork()
    if child == 0:
        child_does()

class Server(mantou.SocketHandler):
    def data(self, socket, data):
        if data == b"fork" and place == "handler":
            fork()
        socket.write(data)

async def main():
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Server())
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"fork")
    if place == "coroutine":
        fork()
    assert await reader.readexactly(4) == b"fork"
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    writer.write(b"more")
    assert await reader.readexactly(4) == b"more"
    writer.close()
    await writer.wait_closed()
    listener.stop()
    return os.waitstatus_to_exitcode(status)
"""


def program(place: str, child_does: str, end: str) -> str:
    return "\n".join(
        [
            f"place = {place!r}",
            f"def child_does(): {child_does}",
            SERVER,
            textwrap.dedent(end),
        ]
    )


@every_place
def test_a_child_that_goes_on_in_the_loop_is_stopped(place: str) -> None:
    result = run_script(
        program(
            place,
            "os.close(0)",
            """
            try:
                status = mantou.run(main())
            except RuntimeError as error:
                assert "forked" in str(error)
                os._exit(3 if child == 0 else 4)
            os._exit(5 if child == 0 else status)
            """,
        )
    )
    assert result.returncode == 3, result.stderr


# The child's SystemExit becomes a RuntimeError of asyncio's, and its loop runs on for ever: without
# a socket of ours as well.
FORKED_TASKS_FAIL = sys.version_info >= (3, 14)


@every_place
def test_a_child_may_exit_from_within_the_loop(place: str) -> None:
    if place == "coroutine" and FORKED_TASKS_FAIL:
        pytest.skip("a forked task fails at its own loop, which asyncio says does not run")
    result = run_script(program(place, "sys.exit(7)", "sys.exit(mantou.run(main()))"))
    assert result.returncode == 7, result.stderr
    # The parent's loop is not what the child failed at.
    assert "belong to the process" not in result.stderr


@pytest.mark.skipif(FORKED_TASKS_FAIL, reason="a forked task fails at its own loop")
@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run"])
def test_a_child_that_exits_from_within_a_foreign_loop_says_nothing(runner: str) -> None:
    result = run_script(f"""
        import asyncio, os, sys, mantou, uvloop

        async def main():
            mantou.listen(hostname="127.0.0.1", port=0, socket={{"open": print}})
            child = os.fork()
            if child == 0:
                sys.exit(7)
            # The child has taken the loop's own descriptors out of the queue that they share.
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status))

        {runner}(main())
    """)
    assert result.returncode == 7, result.stderr
    assert "mantou" not in result.stderr
    assert "_end_with" not in result.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("runner", ["mantou.run", "asyncio.run", "uvloop.run"])
def test_multiprocessing_beside_open_sockets(method: str, runner: str) -> None:
    result = run_script(f"""
        import asyncio, multiprocessing, os, mantou, uvloop, warnings

        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)

        class Echo(mantou.SocketHandler):
            def data(self, socket, data):
                socket.write(data)

        def work(pool):
            return len(set(pool.map(abs, range(100))))

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60
            listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                assert await asyncio.to_thread(work, pool) == 100
                writer.write(b"beside")
                assert await reader.readexactly(6) == b"beside"
                # The processes hold nothing back.
                writer.write_eof()
                assert await reader.read() == b""
                listener.stop()
                await listener.closed()
                try:
                    await asyncio.open_connection("127.0.0.1", listener.port)
                except ConnectionRefusedError:
                    print("done")
                pool.close()
                await asyncio.to_thread(pool.join)
            writer.close()

        if __name__ == "__main__":
            {runner}(main())
    """)
    assert (result.stdout, result.stderr) == ("done\n", "")
