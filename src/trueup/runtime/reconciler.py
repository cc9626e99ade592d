"""When to ask for a snapshot: polls at intervals, full reconciliations, and whatever the core asks for.

Polling is the safety net and never stops: open orders every 10 s, positions every 60 s, everything every 5 minutes;
while broker events are not live, open orders every 2 s. One snapshot is under way at a time, whoever asked for it;
requests for the same scope that wait are one, and one that begins after they were made serves them all. A poll gives
way to a stream that waits for its snapshot, which holds all that the poll would have told. Not for judging what comes
back (`core/reconcile.py`). Invariant: a snapshot that could not be completed is thrown away whole and said to have
failed.
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
        log.warning("snapshot failed scope=%s offset=%d reason=%s asked_for=%s", scope, belief.offset, error, reason)
        await sequencer.put(SnapshotFailed(at=clock.now(), source=source, reason=str(error)))
        if isinstance(error, RateLimited):
            raise
        return False
    await sequencer.settle(SnapshotTaken(at=clock.now(), source=source, snapshot=snapshot, reason=reason))
    return True


FIRST_FULL_S = 5.0
"""Seconds after which a first full snapshot is taken though the stream of order events could not be opened yet."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How one attempt at a snapshot ended; `retry_after_s` is a pause that the broker asked for."""

    done: bool
    retry_after_s: float | None = None


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
        self._under_way = asyncio.Lock()
        self._make_way = asyncio.Event()
        started = clock.monotonic()
        self._last = {scope: started for scope in SnapshotScope}
        self._last[SnapshotScope.FULL] -= self._intervals.full_s - min(FIRST_FULL_S, self._intervals.full_s)

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._wanted)

    def request(self, scope: SnapshotScope, reason: str) -> None:
        """Ask for a snapshot soon; a request that waits already takes this one's place too."""
        self._wanted.setdefault(scope, reason)
        self._work.set()

    async def full(self, reason: str) -> Tried:
        """One full reconciliation that begins now, or as soon as another full one is done."""
        self._make_way.set()
        async with self._under_way:
            self._make_way.clear()
            return await self._take(SnapshotScope.FULL, Source.RECONCILE, reason)

    async def run(self) -> NoReturn:
        """Poll, and serve requests."""
        while True:
            await self._until_due()
            async with self._under_way:
                due = self._due()
                if due is None:
                    continue  # somebody else's snapshot has served it meanwhile
                tried = await self._until_in_the_way(*due)
            if tried is None:
                continue
            if tried.done:
                self._backoff.reset()
            else:
                await self._clock.sleep(self._backoff.next_s(at_least_s=tried.retry_after_s))

    async def _until_in_the_way(self, scope: SnapshotScope, source: Source, reason: str) -> Tried | None:
        """Take a snapshot; None when it was broken off, being less than the full one that waits for it."""
        if scope is SnapshotScope.FULL:
            return await self._take(scope, source, reason)
        poll = asyncio.create_task(self._take(scope, source, reason))
        asked_for = asyncio.create_task(self._make_way.wait())
        try:
            await asyncio.wait({poll, asked_for}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked_for.cancel()
            if not poll.done():
                poll.cancel()
                await asyncio.wait({poll})
        return None if poll.cancelled() else poll.result()

    async def _take(self, scope: SnapshotScope, source: Source, reason: str) -> Tried:
        served = list(SnapshotScope) if scope is SnapshotScope.FULL else [scope]
        waiting = {each: self._wanted.pop(each) for each in served if each in self._wanted}
        tried = Tried(False)
        try:
            tried = Tried(
                await reconcile_state_with_broker(
                    self._broker, self._sequencer, self._clock, scope=scope, source=source, reason=reason
                )
            )
        except RateLimited as limited:
            tried = Tried(False, limited.retry_after_s)
        finally:
            for each in served if tried.done else [scope]:
                self._last[each] = self._clock.monotonic()
            if not tried.done:
                self._wanted = waiting | self._wanted
        return tried

    def _due(self) -> tuple[SnapshotScope, Source, str] | None:
        """What to ask for now, requests before polls and the widest scope first."""
        for scope in SnapshotScope:
            if scope in self._wanted:
                return scope, Source.RECONCILE, self._wanted[scope]
        for scope in SnapshotScope:
            if self._due_in(scope) <= 0:
                return scope, Source.RECONCILE if scope is SnapshotScope.FULL else Source.POLL, "interval"
        return None

    def _due_in(self, scope: SnapshotScope) -> float:
        return self._last[scope] + self._interval(scope) - self._clock.monotonic()

    async def _until_due(self) -> None:
        while self._due() is None:
            self._work.clear()
            # looked at again each second, since a lost feed shortens an interval that is already running
            pause = min(1.0, *(self._due_in(scope) for scope in SnapshotScope))
            try:
                async with asyncio.timeout(pause):
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
