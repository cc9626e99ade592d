"""What happened, in the past tense: the facts that adapters and the runtime put before the core.

Not for wishes (`commands.py`). Invariant: an event holds all that the core needs to decide, the time included; `at` is
our clock's instant of arrival, the broker's own times are inside what it reports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
    OrderReport,
    RequestKind,
    RequestOutcome,
    Snapshot,
    Source,
    Symbol,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReported:
    """The broker said something about one order; `execution` is set on TRADE, TRADE_CANCEL and TRADE_CORRECT.

    `refers_to` is the execution that a bust or correction names; `broker_at` the broker's time of the event itself.
    """

    at: datetime
    source: Source
    exec_type: ExecType
    report: OrderReport
    execution: Execution | None = None
    refers_to: ExecutionId | None = None
    broker_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken:
    """A complete snapshot came back; `source` is POLL for the safety net and RECONCILE for a proof."""

    at: datetime
    source: Source
    snapshot: Snapshot
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFailed:
    """A snapshot could not be completed; nothing of it may be believed."""

    at: datetime
    source: Source
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered:
    """How a request that changes something ended, under the client order id that names the request."""

    at: datetime
    kind: RequestKind
    client_order_id: ClientOrderId
    outcome: RequestOutcome
    report: OrderReport | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLookedUp:
    """The broker was asked for one order by id; `report` is None when it answered that there is none."""

    at: datetime
    started_at: datetime
    report: OrderReport | None = None
    client_order_id: ClientOrderId | None = None
    broker_order_id: BrokerOrderId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAcknowledged:
    """A stream is connected, authorised and has confirmed the subscription; what came before is unknown."""

    at: datetime
    feed: FeedName


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRestored:
    """A stream is live: for broker events, after a snapshot begun since the acknowledgement was merged."""

    at: datetime
    feed: FeedName
    symbol_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLost:
    """A stream ended or could not be opened; `reason` is one line for people."""

    at: datetime
    feed: FeedName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameQuarantined:
    """A frame that could not be read, kept whole; the belief it touched must be proven again."""

    at: datetime
    feed: FeedName
    raw: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalGenerated:
    """A strategy formed an opinion; `direction` is BUY, SELL or HOLD, `strength` 0 to 1."""

    at: datetime
    strategy_name: str
    symbol: Symbol
    direction: str
    strength: Decimal
    indicators: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStarted:
    """A process opened the journal and folded it; requests without an answer are in doubt from here on."""

    at: datetime
    version: str
    broker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockTicked:
    """Time passed a deadline that belief named."""

    at: datetime


Event = (
    OrderReported
    | SnapshotTaken
    | SnapshotFailed
    | RequestAnswered
    | OrderLookedUp
    | FeedAcknowledged
    | FeedRestored
    | FeedLost
    | FrameQuarantined
    | SignalGenerated
    | RuntimeStarted
    | ClockTicked
)
