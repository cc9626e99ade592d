"""When to ask for a snapshot: polls at intervals, full reconciliations, and whatever the core asks for.

Polling is the safety net and never stops: open orders every 10 s, positions every 60 s, everything every 5 minutes;
while broker events are not live, open orders every 2 s. One snapshot is under way at a time, requests for the same
scope that wait are one. Not for judging what comes back (`core/reconcile.py`). Invariant: a snapshot that could not be
completed is thrown away whole and said to have failed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import NoReturn

from trueup.core.events import SnapshotFailed, SnapshotTaken
from trueup.core.model import FeedName, FeedStatus, SnapshotScope, Source
from trueup.errors import BrokerUnavailable, OutcomeUnknown, RateLimited, RequestRefused
from trueup.ports import Broker, Clock, SnapshotRequest
from trueup.runtime.backoff import Backoff, Jitter
from trueup.runtime.sequencer import Sequencer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds between two polls of each kind; `orders_doubtful_s` while broker events are not live."""

    orders_s: float = 10.0
    orders_doubtful_s: float = 2.0
    positions_s: float = 60.0
    full_s: float = 300.0


async def reconcile_state_with_broker(
    broker: Broker,
    sequencer: Sequencer,
    clock: Clock,
    *,
    scope: SnapshotScope = SnapshotScope.FULL,
    source: Source = Source.RECONCILE,
    reason: str,
) -> bool:
    """Ask for one snapshot and put it before the core; returns once it is folded, False when it could not be completed.

    Raises `RateLimited` after noting the failure, so that the caller can pause as asked.
    """
    belief = sequencer.belief
    full = scope is SnapshotScope.FULL
    request = SnapshotRequest(
        scope=scope,
        known=belief.working_broker_ids() if scope is not SnapshotScope.POSITIONS else (),
        since=belief.snapshot_since() if full else None,
    )
    try:
        snapshot = await broker.snapshot(request)
    except (BrokerUnavailable, RateLimited, RequestRefused, OutcomeUnknown) as error:
        log.warning("snapshot failed scope=%s reason=%s asked_for=%s", scope, error, reason)
        await sequencer.put(SnapshotFailed(at=clock.now(), source=source, reason=str(error)))
        if isinstance(error, RateLimited):
            raise
        return False
    await sequencer.submit(SnapshotTaken(at=clock.now(), source=source, snapshot=snapshot, reason=reason))
    return True


class Reconciler:
    """Asks at intervals and on request; `run` for ever."""

    def __init__(
        self, *, broker: Broker, sequencer: Sequencer, clock: Clock, jitter: Jitter, intervals: Intervals | None = None
    ) -> None:
        self._broker = broker
        self._sequencer = sequencer
        self._clock = clock
        self._intervals = intervals or Intervals()
        self._backoff = Backoff(jitter, base_s=0.5, cap_s=15.0)
        self._wanted: dict[SnapshotScope, str] = {}
        self._work = asyncio.Event()
        self._last: dict[SnapshotScope, float] = {}

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._wanted)

    def request(self, scope: SnapshotScope, reason: str) -> None:
        """Ask for a snapshot soon; a request that waits already takes this one's place too."""
        self._wanted.setdefault(scope, reason)
        self._work.set()

    async def run(self) -> NoReturn:
        """Poll, and serve requests."""
        started = self._clock.monotonic()
        for scope in SnapshotScope:
            self._last[scope] = started
        while True:
            scope, source, reason = await self._next()
            retry_after: float | None = None
            done = False
            try:
                done = await reconcile_state_with_broker(
                    self._broker, self._sequencer, self._clock, scope=scope, source=source, reason=reason
                )
            except RateLimited as limited:
                retry_after = limited.retry_after_s
            now = self._clock.monotonic()
            self._last[scope] = now
            if done:
                self._backoff.reset()
                if scope is SnapshotScope.FULL:
                    self._last[SnapshotScope.ORDERS] = self._last[SnapshotScope.POSITIONS] = now
            else:
                if source is Source.RECONCILE:
                    self._wanted.setdefault(scope, reason)
                await self._clock.sleep(self._backoff.next_s(at_least_s=retry_after))

    async def _next(self) -> tuple[SnapshotScope, Source, str]:
        """What to ask for next, and since when it is due."""
        while True:
            if self._wanted:
                scope = next(scope for scope in SnapshotScope if scope in self._wanted)
                return scope, Source.RECONCILE, self._wanted.pop(scope)
            scope, due_in = min(
                (
                    (scope, self._last[scope] + self._interval(scope) - self._clock.monotonic())
                    for scope in SnapshotScope
                ),
                key=lambda pair: pair[1],
            )
            if due_in <= 0:
                source = Source.RECONCILE if scope is SnapshotScope.FULL else Source.POLL
                return scope, source, "interval"
            self._work.clear()
            try:
                # looked at again each second, since a lost feed shortens an interval that is already running
                async with asyncio.timeout(min(due_in, 1.0)):
                    await self._work.wait()
            except TimeoutError:
                continue

    def _interval(self, scope: SnapshotScope) -> float:
        match scope:
            case SnapshotScope.FULL:
                return self._intervals.full_s
            case SnapshotScope.POSITIONS:
                return self._intervals.positions_s
            case SnapshotScope.ORDERS:
                live = self._sequencer.belief.feeds[FeedName.BROKER_EVENTS].status is FeedStatus.UP
                return self._intervals.orders_s if live else self._intervals.orders_doubtful_s
