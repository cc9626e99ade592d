"""The sockets in our walls: what the runtime needs of brokers, feeds, journals, buses and clocks, and no more.

Adapters satisfy these protocols without inheriting from them; `tests/contracts/` says what satisfying means.
Invariant: nothing here names a broker, a database or a wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeVar

from trueup.core.commands import Command
from trueup.core.events import Event, FrameQuarantined, OrderReported, SignalGenerated
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    NewOrder,
    OrderChange,
    OrderId,
    OrderReport,
    Quote,
    Side,
    Snapshot,
    SnapshotScope,
    Symbol,
)
from trueup.core.views import View

Input = Event | Command


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """What a snapshot must hold: all open orders, every id in `known`, and all that changed since `since`.

    `known` are the broker order ids that belief holds as not terminal; each comes back in `orders` or in `absent`.
    `since` bounds the executions and closed orders (broker time, with the adapter's own slack); None asks for today's.
    """

    scope: SnapshotScope
    known: tuple[BrokerOrderId, ...] = ()
    since: datetime | None = None


class Broker(Protocol):
    """The firm that holds one account, asked by request and answer. Every call is bounded in time.

    All methods raise `BrokerUnavailable` or `RateLimited` when nothing was changed, `BadCredentials` for refused keys.
    """

    name: str

    async def submit(self, order: NewOrder) -> OrderReport:
        """Send a new order once. `RequestRefused` is the broker's no; `OutcomeUnknown` when it may have gone in."""

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """Ask for a cancel; returning means asked, not cancelled. Goes by a lane that nothing else can fill."""

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """Ask for new terms; returns the report of the replacing order. Errors as `submit`."""

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        """Look one order up by exactly one id; None is the broker's word that there is none."""

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Take a whole snapshot, all pages of it, or raise; a part that failed is never left out in silence."""

    async def close(self) -> None:
        """Release sockets and threads."""


FeedItem = OrderReported | FrameQuarantined
"""What a broker-event feed delivers, already in our words."""


ItemT = TypeVar("ItemT", covariant=True)


class Feed(Protocol[ItemT]):
    """One stream. Entering `connect()` is connect, authorise, subscribe and *acknowledged*; iterating delivers.

    Both raise `FeedEnded` with a reason; `BadCredentials` when keys are refused for good. A feed never reconnects.
    """

    name: FeedName

    def connect(self) -> AbstractAsyncContextManager[AsyncIterator[ItemT]]:
        """Open the stream; the context ends it, promptly and without leaking a task or a socket."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One input at its place in the journal; offsets are 1, 2, 3 without holes."""

    offset: int
    input: Input


class Journal(Protocol):
    """The durable, append-only sequence of inputs. Synchronous: the sequencer calls it from a thread of its own."""

    epoch: str
    """The unbroken life of this journal; coined once when it is created."""

    def append(self, inputs: Sequence[Input]) -> int:
        """Write all or none and return the first offset; on disk when this returns. Raises `JournalUnusable`."""

    def read(self, after: int = 0) -> Iterator[Entry]:
        """All entries behind offset `after`, in order. Raises `JournalCorrupt` where bytes are damaged."""

    def last_offset(self) -> int:
        """Offset of the newest entry, 0 when empty."""

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        """Keep a fold of everything up to `offset`; only ever a shortcut, the entries stay the truth."""

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """The newest intact checkpoint, or None."""

    def close(self) -> None:
        """Release the files."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One view on its way: offsets are contiguous per channel within an epoch; the body is encoded once."""

    channel: str
    epoch: str
    offset: int
    at: datetime
    body: bytes


class Subscription(Protocol):
    """One reader's bounded queue of envelopes; state channels conflate in it, log channels wait or end it."""

    async def get(self) -> Envelope:
        """The next envelope; `Busy` once the reader is too far behind and must start anew, `FeedEnded` once closed."""

    def take_all(self, count: int) -> Sequence[Envelope]:
        """Up to `count` envelopes that wait, without waiting; `Busy` as in `get`."""

    def close(self) -> None:
        """Stop receiving."""


class EventBus(Protocol):
    """How views leave the sequencer. Publishing never blocks and never fails the publisher."""

    epoch: str

    def publish(self, channel: str, view: View, at: datetime) -> None:
        """Number and encode the view, and hand it to every subscription."""

    def subscribe(self) -> Subscription:
        """Start receiving every channel from the next envelope on."""

    def cursors(self) -> Mapping[str, int]:
        """The newest offset of every channel that ever spoke; what a snapshot taken now already holds."""

    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None:
        """What followed `offset` on one channel; None when it is no longer (or was never) there."""

    async def close(self) -> None:
        """Deliver what is under way and release sockets."""


class Clock(Protocol):
    """The only way to know the time."""

    def now(self) -> datetime:
        """Aware UTC time."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, for measuring stretches."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class QuoteFeed(Feed[Quote], Protocol):
    """The market-data stream."""

    def symbols(self) -> tuple[Symbol, ...]:
        """What is subscribed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """One working order as a strategy sees it."""

    order_id: OrderId
    symbol: Symbol
    side: Side
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyView:
    """All that a strategy may know: prices, what it holds, what works, and whether entries are gated.

    Positions are signed shares; `open_orders` are the ones that this strategy sent.
    """

    at: datetime
    quotes: Mapping[Symbol, Quote]
    positions: Mapping[Symbol, Decimal]
    open_orders: tuple[OpenOrder, ...]
    entries_gated: bool


class Strategy(Protocol):
    """A pure function from views to wishes, with its own memory as plain data."""

    name: str

    def decide(self, view: StrategyView) -> Sequence[Command | SignalGenerated]:
        """What to want now; called at a fixed pace. No clock, no dice, no sockets."""
