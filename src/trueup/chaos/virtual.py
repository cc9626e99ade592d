"""Virtual time: an event loop whose clock jumps to the next thing to do, so that an hour passes in a moment.

For: running a whole runtime, unchanged, through hours in moments. Work meant for a thread is done at once, and its
answer delivered after `disk_s` of virtual time. A program that can go no further, or that spins without letting time
pass, fails with a word about it. Not for anything that touches a socket. Invariant: no thread and no real waiting; what
runs here depends on nothing but its inputs, and runs again in exactly the same order.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from trueup.errors import TrueupError

T = TypeVar("T")

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
RESOLUTION_S = 1e-9
"""Timers that lie closer together than this are due in the same round."""

SPINS_MAX = 100_000
"""Rounds of the loop without time passing, after which it is taken to spin for ever."""


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, or nothing ever lets time pass."""


class _NoSockets:
    """Stands where a selector stands, so that the loop has something to close."""

    def close(self) -> None:
        """Nothing is held."""


class _Call(asyncio.Handle):
    """A call that is due. Made some thousand times in a life, so without what asyncio keeps for debugging."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        _fill(self, callback, args, loop, context)


class _Timer(asyncio.TimerHandle):
    """The same, due at an instant."""

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        _fill(self, callback, args, loop, context)
        self._when = when
        self._scheduled = True


def _fill(handle: Any, callback: object, args: object, loop: object, context: contextvars.Context | None) -> None:
    """What `asyncio.Handle` holds."""
    handle._context = contextvars.copy_context() if context is None else context
    handle._loop = loop
    handle._callback = callback
    handle._args = args
    handle._cancelled = False
    handle._repr = None
    handle._source_traceback = None


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is decided by when it was made; asyncio's own leaves that to its address.

    A task group cancels its tasks in the order of a set, so without this two lives of one seed could differ.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **terms: Any) -> None:
        self._number = number
        super().__init__(coro, **terms)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time; `disk_s` is how long work in a thread seems to take."""

    _ready: deque[Any]
    _stopping: bool

    def __init__(self, *, disk_s: float = 0.0) -> None:
        super().__init__()
        self.disk_s = disk_s
        self.horizon_s = math.inf
        """Virtual seconds after which it is taken never to end."""
        self._now = 0.0
        self._wall_at, self._wall = 0.0, START
        self._made = 0
        """Tasks and timers so far."""
        self._spins = 0
        self._timers: list[tuple[float, int, _Timer]] = []
        """A heap; of two timers at the same instant the one asked for first comes first."""
        self._selector = _NoSockets()

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def wall(self) -> datetime:
        """The same as a moment: the loop's beginning is START."""
        if self._wall_at != self._now:  # asked for many times in one instant
            self._wall_at, self._wall = self._now, START + timedelta(microseconds=round(self._now * 1_000_000))
        return self._wall

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call in the next round."""
        call = _Call(callback, args, self, context)
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call so many seconds from now."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at that instant; of two calls at the same instant the one asked for first comes first."""
        timer = _Timer(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def create_task(self, coro: Any, **terms: Any) -> asyncio.Task[Any]:
        """As asyncio's own, with a number."""
        self._made += 1
        return _Task(coro, number=self._made, loop=self, **terms)

    def _run_once(self) -> None:
        """One round: if nothing is due, jump to what is due next; then call what is due."""
        ready, timers = self._ready, self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if ready or self._stopping:
            self._spin()
        else:
            self._jump()
        due = self._now + RESOLUTION_S
        while timers and timers[0][0] < due:
            timer: Any = heapq.heappop(timers)[2]
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            call = ready.popleft()
            if not call._cancelled:
                call._run()

    def _jump(self) -> None:
        if not self._timers:
            raise Stuck(f"nothing is left to wait for at {self._now:.3f} s of virtual time")
        seconds = self._timers[0][0] - self._now
        if seconds <= 0:
            self._spin()
            return
        if self._now + seconds > self.horizon_s:
            self.horizon_s = math.inf  # for the rounds in which the rest is cancelled
            raise Stuck(f"no end at {self._now:.3f} s of virtual time")
        self._spins = 0
        self._now += seconds

    def _spin(self) -> None:
        self._spins += 1
        if self._spins > SPINS_MAX:
            self._spins = 0  # for the rounds in which the rest is cancelled
            raise Stuck(f"time does not pass any more at {self._now:.3f} s of virtual time")

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Do the work now; deliver the answer, or an error of ours, later. Any other error is raised at once."""
        answer: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except TrueupError as error:
            self._deliver(answer, answer.set_exception, error)
        else:
            self._deliver(answer, answer.set_result, result)
        return answer

    def _deliver(self, answer: asyncio.Future[T], put: Callable[[Any], None], value: Any) -> None:
        def arrive() -> None:
            if not answer.done():
                put(value)

        if self.disk_s:
            self.call_later(self.disk_s, arrive)
        else:
            arrive()

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


class VirtualClock:
    """The clock of the virtual loop in which it is first read."""

    def __init__(self) -> None:
        self._bound: VirtualLoop | None = None

    @property
    def _loop(self) -> VirtualLoop:
        # Kept, as asking asyncio for it costs a system call on Python 3.11.
        if self._bound is None:
            loop = asyncio.get_running_loop()
            if not isinstance(loop, VirtualLoop):
                raise Stuck("virtual time passes in a virtual loop only")
            self._bound = loop
        return self._bound

    def now(self) -> datetime:
        """Aware UTC time; the loop's beginning is START."""
        return (self._bound or self._loop).wall()

    def monotonic(self) -> float:
        """Seconds of virtual time."""
        return (self._bound or self._loop)._now

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        loop = self._bound or self._loop
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def run_virtual(main: Coroutine[Any, Any, T], *, disk_s: float = 0.0) -> T:
    """Run one program to its end in virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(disk_s=disk_s)) as runner:
        return runner.run(main)


async def until(what: Callable[[], object], *, within_s: float = 60.0, told: str = "", every_s: float = 0.01) -> None:
    """Let virtual time pass until `what` holds; raises `Stuck` when it never does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not what():
        if loop.time() >= deadline:
            raise Stuck(f"waited {within_s:g} s of virtual time for {told or what}")
        await asyncio.sleep(every_s)
