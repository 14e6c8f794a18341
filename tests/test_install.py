"""`install()`: whoever asks asyncio for a loop gets mantou's; `uninstall()` takes that back."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# What every program below begins with; it prints what `kind()` finds.
PRELUDE = """
import asyncio, multiprocessing, selectors, sys, warnings
from asyncio import new_event_loop, run
import mantou

async def running():
    return asyncio.get_running_loop()

def kind(loop):
    loop.close()
    return "mantou" if isinstance(loop, mantou.EventLoop) else "asyncio"

def in_child(queue=None):
    answer = kind(asyncio.run(running()))
    if queue is None:
        return answer
    queue.put(answer)
"""


def lines_of(program: str) -> list[str]:
    """What the program prints; a warning of ours would end it."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    assert done.returncode == 0
    return done.stdout.split()


WAYS = {
    "run": "asyncio.run(running())",
    "run that was imported before": "run(running())",
    "new_event_loop": "asyncio.new_event_loop()",
    "new_event_loop that was imported before": "new_event_loop()",
    "SelectorEventLoop": "asyncio.SelectorEventLoop()",
    "a selector of the standard library": "asyncio.SelectorEventLoop(selectors.PollSelector())",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_to_a_loop_leads_to_ours_and_back(way: str) -> None:
    program = f"""
        print(kind({way}))
        mantou.install()
        print(kind({way}))
        mantou.uninstall()
        print(kind({way}))
    """
    assert lines_of(program) == ["asyncio", "mantou", "asyncio"]


def test_runners_make_ours() -> None:
    program = """
        mantou.install()
        with asyncio.Runner() as runner:
            print(kind_of := type(runner.get_loop()) is mantou.EventLoop)
            print(runner.run(running()) is runner.get_loop())
    """
    assert lines_of(program) == ["True", "True"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.EventLoop is new in 3.13")
def test_the_newest_name_makes_ours() -> None:
    program = """
        mantou.install()
        print(kind(asyncio.EventLoop()))
        print(kind(asyncio.run(running(), loop_factory=asyncio.EventLoop)))
    """
    assert lines_of(program) == ["mantou", "mantou"]


def test_another_thread_makes_ours() -> None:
    program = """
        import threading
        mantou.install()
        thread = threading.Thread(target=lambda: print(kind(asyncio.run(running()))))
        thread.start()
        thread.join()
    """
    assert lines_of(program) == ["mantou"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="nothing makes a loop there any more")
def test_get_event_loop_makes_ours() -> None:
    program = """
        mantou.install()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # asyncio's own, of some versions
            print(kind(asyncio.get_event_loop()))
    """
    assert lines_of(program) == ["mantou"]


def test_installing_twice_is_installing_once() -> None:
    program = """
        def replaced():
            policy = asyncio.unix_events._UnixDefaultEventLoopPolicy
            return asyncio.SelectorEventLoop, vars(policy).copy()
        before = replaced()
        mantou.uninstall()
        mantou.install()
        mantou.install()
        mantou.uninstall()
        print(kind(asyncio.run(running())))
        mantou.uninstall()
        print(before == replaced())
    """
    assert lines_of(program) == ["asyncio", "True"]


def test_loops_are_told_by_the_same_class_as_before() -> None:
    program = """
        stock = asyncio.SelectorEventLoop()
        mantou.install()
        ours = asyncio.new_event_loop()
        told = asyncio.SelectorEventLoop
        print(isinstance(stock, told), isinstance(ours, told), isinstance(3, told), told.__name__)
        print(kind(stock), kind(ours))
    """
    assert lines_of(program) == [
        "True",
        "True",
        "False",
        "_UnixSelectorEventLoop",
        "asyncio",
        "mantou",
    ]


def test_a_class_that_derives_from_asyncios_keeps_what_it_inherits() -> None:
    program = """
        mantou.install()
        class Own(asyncio.SelectorEventLoop):
            def __init__(self, selector=None, *, more):
                super().__init__(selector)
                self.more = more
        loop = Own(selectors.SelectSelector(), more=3)
        print(loop.more, isinstance(loop, Own), isinstance(asyncio.SelectorEventLoop(), Own))
        print(kind(loop))
    """
    assert lines_of(program.replace("asyncio.SelectorEventLoop(), Own", "3, Own")) == [
        "3",
        "True",
        "False",
        "asyncio",
    ]


def test_a_selector_of_another_make_is_used() -> None:
    program = """
        mantou.install()
        class Counting(selectors.SelectSelector):
            count = 0
            def select(self, timeout=None):
                self.count += 1
                return super().select(timeout)
        selector = Counting()
        loop = asyncio.SelectorEventLoop(selector)
        loop.run_until_complete(asyncio.sleep(0))
        print(selector.count > 0, kind(loop))
    """
    assert lines_of(program) == ["True", "asyncio"]


POLICY = """
from asyncio import events
base = getattr(events, "AbstractEventLoopPolicy", None) or events._AbstractEventLoopPolicy
class Policy(base):
    def new_event_loop(self):
        return Own()
    def set_event_loop(self, loop):
        pass
class Own(asyncio.SelectorEventLoop):
    pass
def set_policy(policy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asyncio's own, since 3.14
        asyncio.set_event_loop_policy(policy)
def told():
    return type(asyncio.run(running())).__name__
"""


def test_a_policy_gives_way_and_comes_back() -> None:
    program = """
set_policy(Policy())
print(told())
mantou.install()
print(told())
mantou.uninstall()
print(told())
"""
    assert lines_of(POLICY + program) == ["Own", "EventLoop", "Own"]


def test_a_policy_that_is_set_later_is_obeyed() -> None:
    program = """
mantou.install()
set_policy(Policy())
print(told())
set_policy(None)
print(told())
"""
    assert lines_of(POLICY + program) == ["Own", "EventLoop"]


def test_forked_processes_have_it_and_spawned_ones_do_not() -> None:
    program = """
        import os
        mantou.install()
        if os.fork() == 0:
            print(in_child(), flush=True)
            os._exit(0)
        os.wait()
        from concurrent.futures import ProcessPoolExecutor
        policy = "__import__('asyncio').unix_events._UnixDefaultEventLoopPolicy"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            print(pool.submit(eval, f"{policy}._loop_factory.__name__").result())
    """
    assert lines_of(program) == ["mantou", "_UnixSelectorEventLoop"]
