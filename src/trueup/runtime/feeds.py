"""Carries feeds to the sequencer, and marks every break.

A broker-event feed is believed only after a proof: connect, authorise, listen, *acknowledged*; from there on events
are held back while a full snapshot is taken; then the snapshot, then what was held back, in order, and only then is the
feed live. A feed that ends, for whatever reason, says why, and is opened again after a pause with full jitter.

Not for sockets (`brokers/`), not for what an event means. Invariant: between two `FeedRestored` there is a `FeedLost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, TypeVar

from trueup.core.events import FeedAcknowledged, FeedLost, FeedRestored
from trueup.core.model import FeedName, Quote
from trueup.errors import BadCredentials, FeedEnded, TrueupError
from trueup.ports import Clock, Feed, FeedItem, QuoteFeed
from trueup.runtime.backoff import Backoff, Jitter
from trueup.runtime.reconciler import Reconciler
from trueup.runtime.sequencer import Sequencer
from trueup.runtime.supervisor import apart, heed_cancel

log = logging.getLogger(__name__)

HELD_BACK_LIMIT = 20_000
"""Events held back during one snapshot; more than that, and the feed is opened anew rather than silently cut."""

STABLE_S = 30.0
"""A feed that lived this long has earned a fresh start of its pauses."""


class _Reopened:
    """What both feeds share: open, tell of the loss once, pause, open again."""

    def __init__(self, name: FeedName, sequencer: Sequencer, clock: Clock, jitter: Jitter, cap_s: float) -> None:
        self._name = name
        self._sequencer = sequencer
        self._clock = clock
        self._backoff = Backoff(jitter, cap_s=cap_s)
        self._recycled: str | None = None
        self._recycle = asyncio.Event()
        self._told = False
        self._is_open = False
        self._live_since: float | None = None

    def recycle(self, reason: str) -> None:
        """Close the stream, if it is open, and open it anew at once."""
        if self._is_open:
            self._recycled = reason
            self._recycle.set()

    async def acknowledged(self) -> None:
        """The broker has confirmed the subscription; from now on the next end is a new loss.

        Returns when that is folded, so that whatever is asked next is asked with all that came before in mind.
        """
        self._told = False
        self._is_open = True
        await self._sequencer.settle(FeedAcknowledged(at=self._clock.now(), feed=self._name))

    async def restored(self, symbol_count: int = 0) -> None:
        """The stream is live."""
        self._live_since = self._clock.monotonic()
        await self._sequencer.put(FeedRestored(at=self._clock.now(), feed=self._name, symbol_count=symbol_count))
        log.info("feed live feed=%s offset=%d", self._name, self._offset)

    async def keep_open(self, live_once: Callable[[], Awaitable[None]]) -> NoReturn:
        """Run lives of the feed one after the other."""
        if self._is_open:
            self._is_open = False
            await self._lost("the last life broke off")
        while True:
            self._recycle.clear()
            self._recycled = None
            self._live_since = None
            reason, retry_after = await self._one_life(live_once)
            heed_cancel()
            self._is_open = False
            if not self._told:
                await self._lost(reason)
            if self._recycle.is_set():
                log.info("feed recycled feed=%s offset=%d reason=%s", self._name, self._offset, self._recycled)
                continue
            if self._lived_s() >= STABLE_S:
                self._backoff.reset()
            pause = self._backoff.next_s(at_least_s=retry_after)
            log.info("feed down feed=%s offset=%d reason=%s next_try_s=%.2f", self._name, self._offset, reason, pause)
            await self._clock.sleep(pause)

    @property
    def _offset(self) -> int:
        return self._sequencer.belief.offset

    async def _lost(self, reason: str) -> None:
        self._told = True
        await self._sequencer.put(FeedLost(at=self._clock.now(), feed=self._name, reason=reason))

    def _lived_s(self) -> float:
        """Seconds that the stream was live in its last life."""
        return 0.0 if self._live_since is None else self._clock.monotonic() - self._live_since

    async def _one_life(self, live_once: Callable[[], Awaitable[None]]) -> tuple[str, float | None]:
        """Why it ended, and the pause that the broker asked for."""
        ends: list[FeedEnded] = []
        try:
            await apart(live_once())
        except* FeedEnded as ended:
            ends.extend(_each(ended))
        except* BadCredentials as refused:
            reason = str(_each(refused)[0])
            await self._lost(reason)
            raise BadCredentials(reason) from None
        return (ends[0].reason, ends[0].retry_after_s) if ends else ("the feed ended", None)

    async def until_recycled(self) -> NoReturn:
        """Ends the life of the feed when someone asks for that."""
        await self._recycle.wait()
        raise FeedEnded(f"recycled: {self._recycled}")


ErrorT = TypeVar("ErrorT", bound=TrueupError)


def _each(group: BaseExceptionGroup[ErrorT]) -> list[ErrorT]:
    """The errors in what a group of tasks raised, the first one first."""
    found: list[ErrorT] = []
    for error in group.exceptions:
        found.extend(_each(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


class BrokerEvents:
    """The stream that tells of our own orders."""

    def __init__(
        self,
        *,
        feed: Feed[FeedItem],
        reconciler: Reconciler,
        sequencer: Sequencer,
        clock: Clock,
        jitter: Jitter,
        backoff_cap_s: float = 30.0,
        held_back_limit: int = HELD_BACK_LIMIT,
    ) -> None:
        self._feed = feed
        self._reconciler = reconciler
        self._sequencer = sequencer
        self._clock = clock
        self._jitter = jitter
        self._keeper = _Reopened(feed.name, sequencer, clock, jitter, backoff_cap_s)
        self._held_back: deque[FeedItem] = deque()
        self._held_back_limit = held_back_limit
        self._live = False
        self._was_live = False

    @property
    def depth(self) -> int:
        """Events held back while a snapshot is merged."""
        return len(self._held_back)

    def recycle(self, reason: str) -> None:
        """Open the stream anew."""
        self._keeper.recycle(reason)

    async def run(self) -> NoReturn:
        """Keep the stream open for ever. Raises `BadCredentials` when the broker refuses our keys."""
        await self._keeper.keep_open(self._live_once)

    async def _live_once(self) -> None:
        self._held_back.clear()
        self._live = False
        async with self._feed.connect() as items:
            await self._keeper.acknowledged()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(items))
                group.create_task(self._keeper.until_recycled())
                group.create_task(self._restore())

    async def _carry(self, items: AsyncIterator[FeedItem]) -> NoReturn:
        async for item in items:
            if self._live:
                await self._sequencer.put(item)
            elif len(self._held_back) >= self._held_back_limit:
                raise FeedEnded(f"more than {self._held_back_limit} events came while a snapshot was taken")
            else:
                self._held_back.append(item)
        raise FeedEnded("the stream ended")

    async def _restore(self) -> None:
        """Snapshot, then what was held back, then live."""
        backoff = Backoff(self._jitter, base_s=0.25, cap_s=10.0)
        reason = "reconnect" if self._was_live else "stream start"
        while not (tried := await self._reconciler.full(reason)).done:
            await self._clock.sleep(backoff.next_s(at_least_s=tried.retry_after_s))
        await self._let_go()
        await self._keeper.restored()
        await self._let_go()
        self._live = self._was_live = True  # in the same breath as the empty queue was seen: nothing slips in between

    async def _let_go(self) -> None:
        while self._held_back:
            await self._sequencer.put(self._held_back.popleft())


class MarketData:
    """The stream that tells of the world. Quotes go to `put` and are never journaled; the loss of the stream is."""

    def __init__(
        self,
        *,
        feed: QuoteFeed,
        put: Callable[[Quote], None],
        sequencer: Sequencer,
        clock: Clock,
        jitter: Jitter,
        backoff_cap_s: float = 30.0,
    ) -> None:
        self._feed = feed
        self._put = put
        self._sequencer = sequencer
        self._clock = clock
        self._keeper = _Reopened(feed.name, sequencer, clock, jitter, backoff_cap_s)

    def recycle(self, reason: str) -> None:
        """Open the stream anew."""
        self._keeper.recycle(reason)

    async def run(self) -> NoReturn:
        """Keep the stream open for ever."""
        await self._keeper.keep_open(self._live_once)

    async def _live_once(self) -> None:
        async with self._feed.connect() as quotes:
            await self._keeper.acknowledged()
            await self._keeper.restored(symbol_count=len(self._feed.symbols()))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(quotes))
                group.create_task(self._keeper.until_recycled())

    async def _carry(self, quotes: AsyncIterator[Quote]) -> NoReturn:
        async for quote in quotes:
            self._put(quote)
        raise FeedEnded("the stream ended")
