"""The bus inside one process: numbers each view per channel, encodes it once, hands it to every subscription.

Not for crossing processes, and not for threads: everything happens in the one event loop. Invariant: offsets are
contiguous per channel, and no reader, however slow, can delay or fail the one who publishes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime

from trueup.bus.codec import encode
from trueup.core.views import STATE_CHANNELS, View
from trueup.errors import Busy, FeedEnded
from trueup.ports import Envelope

log = logging.getLogger(__name__)

HISTORY = 1024
"""Envelopes kept per channel for readers that come back."""

BACKLOG = 4096
"""Envelopes that may wait in one subscription; a reader of the same process is this far behind only when it hangs."""


_LAPSED = "too far behind, or the bus began anew; subscribe again and start from a snapshot"


class MemorySubscription:
    """One reader's bounded queue; a state channel holds one place in it, which the newest envelope takes over."""

    def __init__(self, bus: MemoryBus, backlog: int) -> None:
        self._bus = bus
        self._backlog = backlog
        self._queue: deque[Envelope | str] = deque()
        self._newest: dict[str, Envelope] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._lapsed = False
        self._closed = False

    async def get(self) -> Envelope:
        """The next envelope; `Busy` once the reader fell too far behind, `FeedEnded` once closed and drained."""
        while True:
            if self._lapsed:
                raise Busy(_LAPSED)
            if self._queue:
                item = self._queue.popleft()
                return self._newest.pop(item) if isinstance(item, str) else item
            if self._closed:
                raise FeedEnded("the subscription is closed")
            await self.arrival()

    def take_all(self, count: int) -> list[Envelope]:
        """Up to `count` envelopes that wait, without waiting; `Busy` as in `get`."""
        if self._lapsed:
            raise Busy(_LAPSED)
        taken: list[Envelope] = []
        while self._queue and len(taken) < count:
            item = self._queue.popleft()
            taken.append(self._newest.pop(item) if isinstance(item, str) else item)
        return taken

    async def arrival(self) -> None:
        """Returns once something waits, or the subscription has lapsed or closed."""
        while not (self._queue or self._lapsed or self._closed):
            if self._waiter is not None:
                raise RuntimeError("a subscription has one reader")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Stop receiving; what is queued can still be read."""
        self._closed = True
        self._bus.forget(self)
        self._wake()

    def put(self, envelope: Envelope) -> None:
        """Queue one envelope; never waits. Called by the bus."""
        if envelope.epoch and envelope.channel in STATE_CHANNELS:
            if envelope.channel not in self._newest:
                self._queue.append(envelope.channel)
            self._newest[envelope.channel] = envelope
        elif len(self._queue) >= self._backlog:
            # One envelope of a log lost is a lie told for ever; better to send the reader back to a snapshot.
            self.lapse()
        else:
            self._queue.append(envelope)
        self._wake()

    def lapse(self) -> None:
        """What follows does not continue what came before; the reader must start anew. Called by the bus."""
        self._lapsed = True
        self._queue.clear()
        self._newest.clear()
        self._bus.forget(self)
        self._wake()

    @property
    def lapsed(self) -> bool:
        """True once it must be given up for a new one."""
        return self._lapsed

    def __len__(self) -> int:
        return len(self._queue)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class MemoryBus:
    """All channels of one process; `epoch` is this process's life and says that older offsets mean nothing now."""

    def __init__(self, epoch: str, *, history: int = HISTORY, backlog: int = BACKLOG) -> None:
        self.epoch = epoch
        self._history_length = history
        self._backlog = backlog
        self._cursors: dict[str, int] = {}
        self._history: dict[str, deque[Envelope]] = {}
        self._subscriptions: dict[MemorySubscription, None] = {}

    def publish(self, channel: str, view: View, at: datetime) -> None:
        """Number and encode the view, and hand it to every subscription; a view that can't be encoded is logged."""
        self.number(channel, view, at)

    def number(self, channel: str, view: View, at: datetime) -> Envelope | None:
        """As `publish`; returns the envelope, or None for a view that can't be encoded."""
        try:
            body = encode(view)
        except (TypeError, ValueError) as error:
            log.error("a view was not published channel=%s view=%s reason=%s", channel, type(view).__name__, error)
            return None
        channel = str(channel)
        envelope = Envelope(channel, self.epoch, self._cursors.get(channel, 0) + 1, at, body)
        self.take(envelope)
        return envelope

    def take(self, envelope: Envelope) -> None:
        """Keep an envelope that has its number already, and hand it to every subscription."""
        self.keep(envelope)
        self.pass_on(envelope)

    def keep(self, envelope: Envelope) -> None:
        """Put an envelope into the history, and nowhere else."""
        self._cursors[envelope.channel] = envelope.offset
        kept = self._history.get(envelope.channel)
        if kept is None:
            kept = self._history[envelope.channel] = deque(maxlen=self._history_length)
        kept.append(envelope)

    def pass_on(self, envelope: Envelope) -> None:
        """Hand an envelope to every subscription, and keep nothing."""
        for subscription in tuple(self._subscriptions):
            subscription.put(envelope)

    def begin(self, epoch: str) -> None:
        """Forget everything under a new epoch; every reader is told to start anew."""
        self.epoch = epoch
        self._cursors.clear()
        self._history.clear()
        self.lapse()

    def lapse(self) -> None:
        """Tell every reader to start anew."""
        for subscription in tuple(self._subscriptions):
            subscription.lapse()

    @property
    def cursors_now(self) -> Mapping[str, int]:
        """As `cursors`, but changing with what follows."""
        return self._cursors

    def history(self) -> Sequence[Envelope]:
        """All that is kept, oldest first within each channel."""
        return [envelope for kept in self._history.values() for envelope in kept]

    def subscribe(self) -> MemorySubscription:
        """Start receiving every channel from the next envelope on."""
        subscription = MemorySubscription(self, self._backlog)
        self._subscriptions[subscription] = None
        return subscription

    def cursors(self) -> Mapping[str, int]:
        """The newest offset of every channel that ever spoke."""
        return dict(self._cursors)

    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None:
        """What followed `offset` on one channel, oldest first; None when some of it is gone or never was."""
        newest = self._cursors.get(str(channel), 0)
        if not 0 <= offset <= newest:
            return None
        kept = self._history.get(str(channel), deque())
        missed = [envelope for envelope in kept if envelope.offset > offset]
        # Offsets of a state may have been skipped on the way here; those of a log never are.
        whole = not missed or missed[0].offset == offset + 1 or str(channel) in STATE_CHANNELS
        return missed if whole and (missed or offset == newest) else None

    def forget(self, subscription: MemorySubscription) -> None:
        """Hand nothing more to one subscription."""
        self._subscriptions.pop(subscription, None)

    def depth(self) -> int:
        """Envelopes that wait in the fullest subscription, for health."""
        return max(map(len, self._subscriptions), default=0)

    async def close(self) -> None:
        """End every subscription; what is queued in it can still be read."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
