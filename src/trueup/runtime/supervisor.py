"""Who keeps whom alive: starts children, restarts them, gives up upwards.

A *permanent* child must never end; a *transient* one may end well; a *temporary* one is not started again. A child that
fails more often than its allowance says ends the supervisor with the last reason; what no restart can mend, `Fatal` and
`BadInput`, passes through at once. Not for deciding what a failure means to an account: children turn what they can
into events before they fail. Invariant: this is the one place in the house where an exception of any kind is caught in
order to carry on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from trueup.errors import BadInput, Fatal
from trueup.ports import Clock
from trueup.runtime.backoff import Backoff, Jitter

log = logging.getLogger(__name__)


class Restart(StrEnum):
    """When a child is started again, as in Erlang."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One thing to keep alive. `on_failure` is told the reason, before any restart."""

    name: str
    start: Callable[[], Awaitable[None]]
    restart: Restart = Restart.PERMANENT
    allowance: int = 5
    within_s: float = 60.0
    on_failure: Callable[[str], None] | None = None


class GaveUp(Fatal):
    """A child failed more often than its allowance."""


class Supervisor:
    """Runs children side by side until one of them ends it."""

    def __init__(self, *, clock: Clock, jitter: Jitter) -> None:
        self._clock = clock
        self._jitter = jitter
        self.restarts = 0

    async def run(self, children: list[Child]) -> None:
        """Until every child has ended for good. Raises, in a group, what is `Fatal` or `BadInput`, and `GaveUp`."""
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(self._keep(child), name=child.name)

    async def _keep(self, child: Child) -> None:
        failures: deque[float] = deque()
        backoff = Backoff(self._jitter, base_s=0.1, cap_s=5.0)
        while True:
            try:
                await apart(child.start())
                if child.restart is not Restart.PERMANENT:
                    return
                reason = "it ended, and must not"
            except Exception as error:
                final = final_in(error)
                if final is not None:
                    raise final from error
                heed_cancel()
                reason = _in_words(error)
                log.exception("child failed child=%s", child.name)
            except asyncio.CancelledError:
                heed_cancel()
                reason = "it was cancelled from inside"  # a child must not vanish without a word
                log.exception("child failed child=%s", child.name)
            if child.on_failure is not None:
                child.on_failure(reason)
            if child.restart is Restart.TEMPORARY:
                log.error("child stopped child=%s reason=%s", child.name, reason)
                return
            now = self._clock.monotonic()
            failures.append(now)
            while now - failures[0] > child.within_s:
                failures.popleft()
            if len(failures) == 1:
                backoff.reset()
            if len(failures) > child.allowance:
                raise GaveUp(f"{child.name} failed {len(failures)} times in {child.within_s:.0f} s; last: {reason}")
            self.restarts += 1
            pause = backoff.next_s()
            log.warning("child restarted child=%s reason=%s pause_s=%.2f", child.name, reason, pause)
            await self._clock.sleep(pause)


def _in_words(error: BaseException) -> str:
    """The error itself, or the first one inside a group of tasks that failed together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


ResultT = TypeVar("ResultT")


async def apart(work: Awaitable[ResultT]) -> ResultT:
    """Await `work` in a task of its own.

    A group of tasks that fails leaves a cancellation behind in the task that waited for it (Python 3.11 takes it back
    only when the failure came early); in a task of its own that harms nobody, and `heed_cancel` can be believed.
    """
    return await asyncio.ensure_future(work)  # at once a task: one that never began still counts as awaited


def heed_cancel() -> None:
    """Go on being cancelled: tasks that failed in the very breath in which they were cancelled report only the failure.

    To be called by whoever catches what was awaited `apart` and would carry on.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def final_in(error: BaseException) -> Fatal | BadInput | None:
    """The error that no restart can mend in what a group of tasks raised, if there is one."""
    if isinstance(error, Fatal | BadInput):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            final = final_in(inner)
            if final is not None:
                return final
    return None
