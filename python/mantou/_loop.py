"""The event loop: an asyncio loop whose scheduler and queue of events are native."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, cast, overload

from ._attach import listeners_out_of_reach, new_engine, take_waiting_engine
from ._core import Engine, Scheduler
from ._descriptors import Descriptors
from ._host import Host
from ._transports import Transports

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


# What the native scheduler calls in Python where something else is in its place, a test's own clock
# perhaps.
REPLACEABLE = frozenset({"time", "call_at", "_run_once"})


class EventLoop(Scheduler, Transports, asyncio.SelectorEventLoop):
    """An asyncio event loop that runs mantou's sockets natively.

    Everything of asyncio works on it. Made by `run()`, or by `new_event_loop()` for
    `asyncio.Runner(loop_factory=mantou.new_event_loop)`. It may be made in one thread, run in
    another and closed by a third, one at a time: its sockets are for the thread that runs it, and
    while none does, for whoever comes. Not in Bun.
    """

    _csock: socket.socket
    _signal_handlers: dict[int, asyncio.Handle]

    def __init__(self) -> None:  # pyright: ignore[reportInconsistentConstructor] - of subclasses
        # As long as nothing was made there is nothing for asyncio's `__del__` to close.
        self._closed = True
        self._engine = take_waiting_engine() or new_engine()
        self._host = Host(self, self._engine)
        self._ended = False
        self._descriptors = Descriptors(self)
        self._signal_handlers = {}
        try:
            # Not by super(): that is the scheduler, which wants nothing more.
            Transports.__init__(self, self._descriptors)
        except BaseException:
            self.close()
            raise

    @property
    def engine(self) -> Engine:
        """The native engine; for mantou's own use."""
        return self._engine

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in REPLACEABLE:
            self._find_overridden()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in REPLACEABLE:
            self._find_overridden()

    def run_forever(self) -> None:
        """Runs the loop until `stop()`.

        :raises RuntimeError: it runs already, or another loop does in this thread.
        """
        # CPython 3.13.0 cleans up after a call that it refused, and so forgets which loop runs.
        cast("Any", self)._check_closed()
        cast("Any", self)._check_running()
        self._wake_by_signals()
        try:
            super().run_forever()
        finally:
            # A handler that asyncio keeps for the loop's next run needs what comes between the two.
            if not self._signal_handlers:
                self._sleep_through_signals()

    def _wake_by_signals(self) -> None:
        """A signal just before the loop waits ends that wait, unless somebody else hears it."""
        # Behind what ran last, there may be no bytecode at which Python would look for signals.
        fd = self._csock.fileno()
        with contextlib.suppress(ValueError):  # Only the main thread is told of signals.
            others = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
            if others not in (-1, fd):
                signal.set_wakeup_fd(others, warn_on_full_buffer=False)

    def _sleep_through_signals(self) -> None:
        with contextlib.suppress(ValueError):
            current = signal.set_wakeup_fd(-1)
            if current not in (-1, self._csock.fileno()):
                signal.set_wakeup_fd(current, warn_on_full_buffer=False)

    def remove_signal_handler(self, sig: int) -> bool:
        """As asyncio's: returns whether there was one."""
        removed = super().remove_signal_handler(sig)
        # With its last handler, asyncio stops hearing signals altogether.
        if self.is_running():
            self._wake_by_signals()
        return removed

    def add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[Ts]], object], *args: *Ts
    ) -> None:
        """As asyncio's. RuntimeError for a descriptor of one of our sockets."""
        if not self.is_closed():
            self._descriptors.forget_stale(fd)
        super().add_reader(fd, callback, *args)

    def add_writer(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[Ts]], object], *args: *Ts
    ) -> None:
        """As asyncio's. RuntimeError for a descriptor of one of our sockets."""
        if not self.is_closed():
            self._descriptors.forget_stale(fd)
        super().add_writer(fd, callback, *args)

    def _ensure_fd_no_transport(self, fd: FileDescriptorLike) -> None:
        # What asyncio asks before it watches a descriptor, or no longer does.
        cast("Any", super())._ensure_fd_no_transport(fd)
        self._check_no_transport(fd if isinstance(fd, int) else int(fd.fileno()))

    async def until_idle(self) -> None:
        """Returns when no referenced listener or socket is left; for mantou's own use."""
        waiter: asyncio.Future[None] = self.create_future()
        self._idle_waiter = waiter
        try:
            await waiter
        finally:
            self._idle_waiter = None

    async def shutdown_asyncgens(self) -> None:
        """Ends the asynchronous generators, and with them every socket."""
        # What runs before a loop is closed in an orderly way, while it can still run tasks.
        await self._end()
        await super().shutdown_asyncgens()

    def close(self) -> None:
        """Closes the loop, which runs no more: callbacks and tasks that wait are dropped.

        Sockets that are still open are terminated, with their `close` called. An async `close`
        cannot run any more; `shutdown_asyncgens()`, which `run()` and `asyncio.Runner` await
        before, gives it its time.

        :raises RuntimeError: the loop runs.
        """
        if self.is_closed():
            return
        try:
            if not (self._ended or self.is_running() or self._engine.left_behind):
                self._ended = True
                self._host.end_at_once(self)
        finally:
            super().close()
        # The queue is closed with the last reference to the engine; none of them is ours now.
        self._host.let_go()
        self._forget_servers()
        self._leave_engine()

    def _close_self_pipe(self) -> None:
        if hasattr(self, "_ssock"):
            cast("Any", super())._close_self_pipe()

    def _check_running(self) -> None:
        # To asyncio, a loop that ran when its process was forked runs in the child, too.
        if not self.is_closed():
            self._engine.check_process()
        super()._check_running()  # type: ignore[misc]

    async def _end(self) -> None:
        if not self._ended:
            self._ended = True
            await self._host.end()


EventLoop._own_calls()


def new_event_loop() -> EventLoop:
    """A new event loop, for `asyncio.Runner(loop_factory=mantou.new_event_loop)`. Not in Bun.

    What was listened on in this thread while no loop was running belongs to it from now on.

    :raises OSError: the system has no descriptors left for its queue.
    """
    return EventLoop()


@overload
def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T: ...
@overload
def run(main: None = None, *, debug: bool | None = None) -> None: ...
def run(main: Coroutine[Any, Any, T] | None = None, *, debug: bool | None = None) -> T | None:
    """Runs mantou's event loop.

    With a coroutine: until it is done, and returns its result, like `asyncio.run()`. Without one:
    until no listener and no socket is left that keeps it alive, as a Bun process does
    (`unref()` excludes one). Whatever is open at the end is terminated, with its `close` called.

    What was listened on before `os.fork()`, with no loop made yet, is served by each process that
    calls `run()`: they share its queue of connections. Listeners and connections of a loop stay
    with the process that made it, and the child's copies of their descriptors are closed.

    Not in Bun, where a process is one loop.

    :param debug: asyncio's debug mode; None leaves it as it is.
    :raises RuntimeError: inside a running event loop; or without `main` and with nothing to serve,
        while another thread listens and runs no loop yet, or in a process that was forked from a
        loop with listeners.
    :raises TypeError: `main` is not a coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        if main is not None and inspect.iscoroutine(main):
            main.close()
        raise RuntimeError("mantou.run() cannot be called from a running event loop")
    if main is not None and not inspect.iscoroutine(main):
        raise TypeError(f"run() needs a coroutine, got {main!r}")
    with _runner(debug) as (runner, loop):
        if main is not None:
            return cast("T", runner.run(main))
        if not loop.engine.referenced and (why := listeners_out_of_reach()):
            raise RuntimeError(f"mantou.run() has nothing to serve: {why}")
        runner.run(loop.until_idle())
        return None


@contextlib.contextmanager
def _runner(debug: bool | None) -> Generator[tuple[asyncio.Runner, EventLoop]]:
    runner = asyncio.Runner(debug=debug, loop_factory=new_event_loop)
    loop = cast("EventLoop", runner.get_loop())
    try:
        yield runner, loop
    finally:
        # A forked child cannot run its parent's loop; what ends the child is told as it is.
        forked = loop.engine.left_behind
        with contextlib.suppress(RuntimeError) if forked else contextlib.nullcontext():
            runner.close()
