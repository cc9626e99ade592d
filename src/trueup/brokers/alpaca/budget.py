"""The request budget: how fast requests may leave, and in which order those that have to wait go.

Two token buckets sized so that no stretch of a minute holds more requests than the limit: a common one, and a reserve
that only cancels may draw on. Waiting requests go by priority, then by age.

Not for sending. Invariant: a cancel never waits for anything but other cancels and the broker's limit itself.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from enum import IntEnum

from trueup.errors import RateLimited
from trueup.ports import Clock

RESERVE_SHARE = 0.2
"""The part of the limit that is kept for cancels."""
BURST_SHARE = 0.25
"""The part of a bucket that may go at once; the rest flows evenly, so that the two together keep to the limit."""


class Priority(IntEnum):
    """Who goes first."""

    CANCEL = 0
    SUBMIT = 1
    FIND = 2
    SNAPSHOT = 3


HEADROOM = {Priority.CANCEL: 0.0, Priority.SUBMIT: 0.0, Priority.FIND: 0.1, Priority.SNAPSHOT: 0.25}
"""The part of the common burst that stays untouched by a priority, so that reading never uses up what sending needs."""


class _Bucket:
    def __init__(self, per_minute: float, now: float) -> None:
        self.capacity = max(1.0, per_minute * BURST_SHARE)
        self.rate = max(per_minute - self.capacity, per_minute * BURST_SHARE) / 60
        self._tokens = self.capacity
        self._at = now

    def missing_s(self, now: float, headroom: float = 0.0) -> float:
        """Seconds until one token is there beyond `headroom`, a part of the capacity; 0 when it is."""
        self._tokens = min(self.capacity, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        # a wait that ends a hair early must not count as a token short
        needed = min(1 + self.capacity * headroom, self.capacity) - 1e-9
        return 0.0 if self._tokens >= needed else (needed - self._tokens) / self.rate

    def take(self) -> None:
        """Use one token up."""
        self._tokens = max(0.0, self._tokens - 1)


class RequestBudget:
    """Hands out the right to send one request; `per_minute` 0 means no limit."""

    def __init__(self, clock: Clock, *, per_minute: int = 200) -> None:
        self._clock = clock
        self._is_limited = per_minute > 0
        now = clock.monotonic()
        reserve = max(1.0, per_minute * RESERVE_SHARE)
        self._reserve = _Bucket(reserve, now)
        self._common = _Bucket(max(1.0, per_minute - reserve), now)
        self._paused_until = now
        self._waiting: list[tuple[Priority, int]] = []
        self._arrivals = 0

    def pause(self, seconds: float) -> None:
        """The broker said to wait; holds everything but cancels, whose next try is their caller's to time."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def take_now(self, priority: Priority) -> None:
        """Take a token without waiting, or raise `RateLimited` with the seconds until one would be there."""
        wait_s = self._wait_s(priority)
        if wait_s > 0 or any(other < (priority, 0) for other in self._waiting):
            raise RateLimited("our own request budget is used up; nothing was sent", retry_after_s=max(wait_s, 0.05))
        self._spend(priority)

    async def take(self, priority: Priority, *, at_most_s: float) -> None:
        """Wait for a token, behind those of higher priority. Raises `RateLimited` after `at_most_s` seconds."""
        self._arrivals += 1
        ticket = (priority, self._arrivals)
        give_up_at = self._clock.monotonic() + at_most_s
        with self._queued(ticket):
            while True:
                wait_s = self._wait_s(priority)
                is_first = self._waiting[0] == ticket or priority is Priority.CANCEL
                if wait_s <= 0 and is_first:
                    self._spend(priority)
                    return
                left_s = give_up_at - self._clock.monotonic()
                if left_s <= 0:
                    raise RateLimited("our own request budget is used up; nothing was sent", retry_after_s=wait_s)
                await self._clock.sleep(min(max(wait_s, 0.01), left_s))

    @contextlib.contextmanager
    def _queued(self, ticket: tuple[Priority, int]) -> Iterator[None]:
        heapq.heappush(self._waiting, ticket)
        try:
            yield
        finally:
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)

    def _wait_s(self, priority: Priority) -> float:
        now = self._clock.monotonic()
        if not self._is_limited:
            return 0.0 if priority is Priority.CANCEL else max(0.0, self._paused_until - now)
        common = self._common.missing_s(now, HEADROOM[priority])
        if priority is Priority.CANCEL:
            return min(common, self._reserve.missing_s(now))
        return max(common, self._paused_until - now)

    def _spend(self, priority: Priority) -> None:
        now = self._clock.monotonic()
        if not self._is_limited:
            return
        # cancels take from the common part while there is some, and so keep their reserve for when it matters
        if priority is Priority.CANCEL and self._common.missing_s(now) > 0:
            self._reserve.take()
        else:
            self._common.take()
