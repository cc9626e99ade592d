"""The shapes that people and strategies see, each beside its channel name.

Not for computing them (`projection.py`). Invariant: the field names, types and enumeration words of the ten seed
channels never change; fields are only added, always with a default. Amounts leave the house as exact JSON numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Channel(StrEnum):
    """Every channel; a state channel conflates, a log channel never loses an envelope."""

    PORTFOLIO_UPDATE = "portfolio:update"
    TRADE_EXECUTED = "trade:executed"
    TRADE_PENDING_APPROVAL = "trade:pending_approval"
    ORDER_STATUS = "order:status"
    SIGNAL_GENERATED = "signal:generated"
    RISK_ALERT = "risk:alert"
    RISK_CIRCUIT_BREAKER = "risk:circuit_breaker"
    RISK_KILL_SWITCH = "risk:kill_switch"
    FEED_DISCONNECTED = "system:feed:disconnected"
    FEED_RECONNECTED = "system:feed:reconnected"
    SYSTEM_HEALTH = "system:health"
    SYSTEM_SNAPSHOT = "system:snapshot"
    MARKET_QUOTES = "market:quotes"
    TRUTH_GAP = "truth:gap"
    TRUTH_DRIFT = "truth:drift"


STATE_CHANNELS = frozenset({Channel.PORTFOLIO_UPDATE, Channel.SYSTEM_HEALTH, Channel.MARKET_QUOTES})
"""Only the newest envelope of these matters; every other is a log. SYSTEM_SNAPSHOT goes to one client only."""


class SeedStatus(StrEnum):
    """The five words of `order:status`; the exact status goes into `detail`."""

    PENDING = "PENDING"
    SUBMITTED = "SUBMITTED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionView:
    """One holding. `as_of`: when the broker's books last proved the quantity; `quote_at`: the time of the price."""

    symbol: str
    quantity: Decimal
    average_price: Decimal | None
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    as_of: datetime | None
    price: Decimal | None = None
    quote_at: datetime | None = None
    realized_pnl: Decimal | None = None
    broker_quantity: Decimal | None = None
    drift: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioView:
    """`portfolio:update`: money in account currency, percentages in per cent; None is what nobody knows yet."""

    total_equity: Decimal | None
    cash: Decimal | None
    positions_value: Decimal | None
    daily_pnl: Decimal | None
    daily_pnl_pct: Decimal | None
    total_pnl: Decimal | None
    total_pnl_pct: Decimal | None
    max_drawdown_pct: Decimal | None
    positions: tuple[PositionView, ...] = ()
    sector_exposure: dict[str, Decimal] = field(default_factory=dict)
    as_of: datetime | None = None
    stale_symbols: tuple[str, ...] = ()
    buying_power: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeExecutedView:
    """`trade:executed`: one fill. `source` is the way it was learned, `late_s` seconds between match and knowledge.

    `inferred` marks shares that the broker counts as filled before their executions are known; when those arrive they
    come with `replaces_inferred` and count nothing twice.
    """

    id: str
    symbol: str
    side: str
    quantity: Decimal
    entry_price: Decimal | None
    entry_time: datetime
    strategy_name: str
    order_id: str = ""
    broker_order_id: str = ""
    execution_id: str = ""
    source: str = ""
    learned_at: datetime | None = None
    late_s: Decimal | None = None
    missed_by_stream: bool = False
    inferred: bool = False
    replaces_inferred: bool = False
    kind: str = "fill"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatusView:
    """`order:status`; the order's whole row travels with it so that a table needs no second question."""

    id: str
    broker_order_id: str | None
    symbol: str
    status: str
    filled_at: datetime | None
    filled_price: Decimal | None
    filled_quantity: Decimal
    detail: str = ""
    order: OrderView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """One order as `/api/orders` lists it. `status` is one of the five seed words, `detail` the exact status.

    `in_doubt` names the request whose outcome nobody knows ("" when none). `source` is how the last change was learned.
    """

    id: str
    client_order_id: str
    broker_order_id: str | None
    symbol: str
    side: str
    quantity: Decimal | None
    filled_quantity: Decimal
    average_price: Decimal | None
    status: str
    detail: str
    source: str
    updated_at: datetime
    type: str = ""
    time_in_force: str = ""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    leaves_quantity: Decimal | None = None
    in_doubt: str = ""
    origin: str = ""
    strategy_name: str = ""
    reason: str = ""
    submitted_at: datetime | None = None
    filled_at: datetime | None = None
    confirmed_at: datetime | None = None
    terminal: bool = False
    broker_order_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineFillView:
    """Shares that one line of a story added or took; `kind` is fill, bust or correction.

    `inferred`: the broker's total says so and no execution did yet; `replaced` of those shares have been named by real
    executions since. `replaces_inferred`: this is such a real execution. Neither counts twice.
    """

    kind: str
    quantity: Decimal
    price: Decimal | None
    execution_id: str
    replaced: Decimal
    inferred: bool = False
    replaces_inferred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntryView:
    """One line of an order's story: what came, how, when the broker says, when it arrived, what we believed then.

    `event` is a word for programs, `told` the same for people.
    """

    offset: int
    event: str
    source: str
    broker_at: datetime | None
    arrived_at: datetime
    status_after: str
    filled_after: Decimal
    text: str = ""
    changed: bool = True
    told: str = ""
    fills: tuple[TimelineFillView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDetailView:
    """`/api/orders/{id}`: the row, its timeline, its executions, and the gaps that fell into its life."""

    order: OrderView
    timeline: tuple[TimelineEntryView, ...]
    executions: tuple[TradeExecutedView, ...]
    gaps: tuple[GapView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    """`signal:generated`; `strength` is 0.0 to 1.0."""

    symbol: str
    direction: str
    strength: Decimal
    strategy_name: str
    timestamp: datetime
    metadata: dict[str, dict[str, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingApprovalView:
    """`trade:pending_approval`: a trade that waits for a person."""

    symbol: str
    side: str
    quantity: Decimal
    signal_strength: Decimal
    strategy_name: str
    risk_assessment: dict[str, bool]
    requires_approval_by: datetime
    approval_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskAlertView:
    """`risk:alert`; `severity` is info, warning or critical; the two values where there is a limit."""

    type: str
    severity: str
    reason: str
    symbol: str | None
    current_value: Decimal | None
    limit_value: Decimal | None
    timestamp: datetime
    order_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerView:
    """`risk:circuit_breaker`; `action` is activated or deactivated."""

    breaker: str
    action: str
    reason: str
    timestamp: datetime
    demand: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchView:
    """`risk:kill_switch`; `action` is activate or deactivate, `operator` human or system, `asked_by` a name."""

    action: str
    reason: str
    operator: str
    timestamp: datetime
    state: str = ""
    open_orders_remaining: int = 0
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedDisconnectedView:
    """`system:feed:disconnected`; `feed` is market_data or broker_events."""

    timestamp: datetime
    reason: str
    feed: str = "market_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedReconnectedView:
    """`system:feed:reconnected`."""

    timestamp: datetime
    symbol_count: int
    feed: str = "market_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GapView:
    """`truth:gap`: a stretch in which broker events may have been missed. Open while `closed_at` is None.

    `missed` counts the fills that were learned after they should have come by stream, `learned_by` by which way.
    """

    id: str
    feed: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None
    missed: int = 0
    learned_by: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """`truth:drift`: a difference between belief and a snapshot; `state` is suspected, confirmed or healed."""

    id: str
    kind: str
    subject: str
    state: str
    believed: str
    reported: str
    evidence: str
    at: datetime
    first_seen_at: datetime
    trued_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEventsHealth:
    """Health of the stream that tells of our own orders; `status` is UP, SUSPECT, DOWN or RESTORING."""

    status: str
    last_trade_update_at: datetime | None
    last_reconnect_at: datetime | None
    reconnect_count: int
    last_reconciliation_at: datetime | None
    reconciliation_age_s: Decimal | None
    last_result: str
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataHealth:
    """Health of the stream that tells of the world."""

    status: str
    last_message_at: datetime | None
    age_s: Decimal | None
    reconnect_count: int
    symbol_count: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """`system:health` and `/api/health`. `status` is healthy, degraded or down; truth lag in seconds."""

    status: str
    trading_state: str
    truth_lag_s: Decimal | None
    broker_events: BrokerEventsHealth
    market_data: MarketDataHealth
    at: datetime
    reasons: tuple[str, ...] = ()
    entries_gated: bool = False
    gap: GapView | None = None
    open_drifts: int = 0
    in_doubt_orders: int = 0
    working_orders: int = 0
    journal_offset: int = 0
    epoch: str = ""
    broker: str = ""
    account: str = ""
    queues: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteView:
    """Best bid and ask with the exchange's time."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotesView:
    """`market:quotes`: the newest quote of each symbol."""

    quotes: tuple[QuoteView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSnapshotView:
    """`system:snapshot`: all that a dashboard needs on connect, in one envelope, before anything else."""

    portfolio: PortfolioView
    orders: tuple[OrderView, ...]
    executions: tuple[TradeExecutedView, ...]
    health: HealthView
    quotes: QuotesView
    gaps: tuple[GapView, ...]
    drifts: tuple[DriftView, ...]
    kill_switch: KillSwitchView | None
    breakers: tuple[CircuitBreakerView, ...]
    pending_approvals: tuple[PendingApprovalView, ...]
    alerts: tuple[RiskAlertView, ...] = ()
    signals: tuple[SignalView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedView:
    """What was set about, at which entry and when, in a line for people; `times` when the same was done in a row."""

    offset: int
    at: datetime
    what: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BandView:
    """A stretch in which somebody demanded a trading state; `kind` is kill or breaker. On while `closed_at` is None."""

    kind: str
    name: str
    demand: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BelievedView:
    """What was believed from `at` on, until the next of these: of an order, of its symbol, and of ourselves.

    `position` is the signed quantity held of the order's symbol. `gap` names the gap that is open ("" when none);
    while one is, `proved_at` is the last instant at which belief is known to have equalled the broker's books.
    """

    at: datetime
    offset: int
    detail: str
    filled_quantity: Decimal
    in_doubt: str
    source: str
    position: Decimal
    trading_state: str
    broker_events: str
    gap: str
    proved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentView:
    """What was believed at one time. `order` is None when nothing was known of it yet.

    `ahead` are the lines whose facts the broker had by then and that changed belief later; `truth_lag_s` seconds.
    """

    at: datetime
    offset: int
    order: OrderView | None
    trading_state: str
    broker_events: str
    truth_lag_s: Decimal | None
    gap: GapView | None
    ahead: tuple[TimelineEntryView, ...] = ()
    position: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationView:
    """`/api/explain/{id}`: one order's story up to entry `folded_to`, and what we did for it.

    `moment` is there when one was asked about. `meanwhile` is what was done about the account while the order lived.
    `beliefs` are the changes of what was believed, oldest first; from `beliefs_end_at` on there were too many to tell.
    """

    detail: OrderDetailView
    deeds: tuple[DeedView, ...]
    moment: MomentView | None
    folded_to: int
    folded_at: datetime | None = None
    meanwhile: tuple[DeedView, ...] = ()
    bands: tuple[BandView, ...] = ()
    beliefs: tuple[BelievedView, ...] = ()
    beliefs_end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceView:
    """One drift from its first suspicion to its end, in every form that it took; `ended_by` is "" while it stands."""

    id: str
    kind: str
    subject: str
    state: str
    believed: str
    reported: str
    first_seen_at: datetime
    ended_at: datetime | None
    trued_up: bool
    cause: str
    history: tuple[DriftView, ...]
    ended_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergencesView:
    """`/api/divergences`: every drift and every gap in a journal, oldest first, without the oldest `left_out`."""

    drifts: tuple[DivergenceView, ...]
    gaps: tuple[GapView, ...]
    folded_to: int
    folded_at: datetime | None = None
    left_out: int = 0


View = (
    PortfolioView
    | TradeExecutedView
    | OrderStatusView
    | SignalView
    | PendingApprovalView
    | RiskAlertView
    | CircuitBreakerView
    | KillSwitchView
    | FeedDisconnectedView
    | FeedReconnectedView
    | GapView
    | DriftView
    | HealthView
    | QuotesView
    | SystemSnapshotView
)

CHANNEL_VIEWS: dict[Channel, type] = {
    Channel.PORTFOLIO_UPDATE: PortfolioView,
    Channel.TRADE_EXECUTED: TradeExecutedView,
    Channel.TRADE_PENDING_APPROVAL: PendingApprovalView,
    Channel.ORDER_STATUS: OrderStatusView,
    Channel.SIGNAL_GENERATED: SignalView,
    Channel.RISK_ALERT: RiskAlertView,
    Channel.RISK_CIRCUIT_BREAKER: CircuitBreakerView,
    Channel.RISK_KILL_SWITCH: KillSwitchView,
    Channel.FEED_DISCONNECTED: FeedDisconnectedView,
    Channel.FEED_RECONNECTED: FeedReconnectedView,
    Channel.SYSTEM_HEALTH: HealthView,
    Channel.SYSTEM_SNAPSHOT: SystemSnapshotView,
    Channel.MARKET_QUOTES: QuotesView,
    Channel.TRUTH_GAP: GapView,
    Channel.TRUTH_DRIFT: DriftView,
}
"""The one table of channel and shape; the schema documents and the dashboard's types are generated from it."""
