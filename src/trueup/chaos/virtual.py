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
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from trueup.errors import TrueupError

T = TypeVar("T")

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
SPINS_MAX = 100_000
"""Rounds of the loop without time passing, after which it is taken to spin for ever."""


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, or nothing ever lets time pass."""


class _NoSockets:
    """Stands where a selector stands: instead of waiting it moves the time on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._spins = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck(f"nothing is left to wait for at {self._loop.time():.3f} s of virtual time")
        if timeout > 0:
            if self._loop.time() + timeout > self._loop.horizon_s:
                self._loop.horizon_s = math.inf  # for the rounds in which the rest is cancelled
                raise Stuck(f"no end at {self._loop.time():.3f} s of virtual time")
            self._spins = 0
            self._loop.pass_time(timeout)
        else:
            self._spins += 1
            if self._spins > SPINS_MAX:
                self._spins = 0  # for the rounds in which the rest is cancelled
                raise Stuck(f"time does not pass any more at {self._loop.time():.3f} s of virtual time")
        return []

    def close(self) -> None:
        """Nothing is held."""


class _InOrder(asyncio.TimerHandle):
    """A timer that knows its place among those of the same instant; asyncio's own leaves that to chance."""

    number = 0

    def __lt__(self, other: Any) -> bool:
        """True when this one comes first."""
        if self._when == other._when:  # type: ignore[attr-defined]
            return bool(self.number < other.number)
        return bool(self._when < other._when)  # type: ignore[attr-defined]


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time; `disk_s` is how long work in a thread seems to take."""

    def __init__(self, *, disk_s: float = 0.0) -> None:
        super().__init__()
        self.disk_s = disk_s
        self.horizon_s = math.inf
        """Virtual seconds after which it is taken never to end."""
        self._now = 0.0
        self._wall_at, self._wall = 0.0, START
        self._timers = 0
        self._scheduled: list[_InOrder]
        self._clock_resolution = 1e-9
        self._selector = _NoSockets(self)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def wall(self) -> datetime:
        """The same as a moment: the loop's beginning is START."""
        if self._wall_at != self._now:  # asked for many times in one instant
            self._wall_at, self._wall = self._now, START + timedelta(microseconds=round(self._now * 1_000_000))
        return self._wall

    def pass_time(self, seconds: float) -> None:
        """Move the time on."""
        self._now += seconds

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at that instant; of two calls at the same instant the one asked for first comes first."""
        timer = _InOrder(when, callback, args, self, context)
        self._timers += 1
        timer.number = self._timers
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

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

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


class VirtualClock:
    """The clock of the running virtual loop."""

    def now(self) -> datetime:
        """Aware UTC time; the loop's beginning is START."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise Stuck("virtual time passes in a virtual loop only")
        return loop.wall()

    def monotonic(self) -> float:
        """Seconds of virtual time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(max(0.0, seconds))


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
