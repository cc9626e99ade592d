"""The nouns of the simulated exchange: orders, executions, positions, and what happens to them.

For: plain immutable values that the exchange keeps and the wire faces translate. Not for: rules (those are in
`exchange`) or anybody's JSON (that is in `wire`).
Invariant: every value here is frozen; a change is a new version, so that the past can be read again as it was.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

ZERO = Decimal(0)

# The broker's error codes.
VALIDATION = 40010001
FORBIDDEN = 40310000
NOT_FOUND = 40410000
UNPROCESSABLE = 42210000


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class OrderClass(StrEnum):
    SIMPLE = "simple"
    BRACKET = "bracket"
    OCO = "oco"
    OTO = "oto"


class Role(StrEnum):
    """What a member is to its group. An OCO has no entry: its take-profit is the order that was sent."""

    ENTRY = "entry"
    TARGET = "target"
    STOP = "stop"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class Status(StrEnum):
    ACCEPTED = "accepted"
    PENDING_NEW = "pending_new"
    # a leg that waits for its entry, or a stop that waits beside a working take-profit
    HELD = "held"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REJECTED = "rejected"

    @property
    def is_terminal(self) -> bool:
        """True when the order can never trade again by the exchange's own doing."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REPLACED, Status.REJECTED})


class EventKind(StrEnum):
    ACCEPTED = "accepted"
    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIAL_FILL = "partial_fill"
    FILL = "fill"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    EXPIRED = "expired"
    PENDING_REPLACE = "pending_replace"
    REPLACED = "replaced"
    REJECTED = "rejected"
    ORDER_CANCEL_REJECTED = "order_cancel_rejected"
    ORDER_REPLACE_REJECTED = "order_replace_rejected"
    TRADE_BUST = "trade_bust"
    TRADE_CORRECT = "trade_correct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One tradable symbol and what may be done with it."""

    id: str
    symbol: str
    name: str
    exchange: str
    fractionable: bool = True
    shortable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLoss:
    """The terms of a stop leg; with a limit price it is a stop-limit order."""

    stop_price: Decimal | None = None
    limit_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """What a client asks for; exactly one of qty and notional is set (the exchange checks)."""

    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    client_order_id: str | None = None
    extended_hours: bool = False
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    order_class: OrderClass = OrderClass.SIMPLE
    take_profit_price: Decimal | None = None
    stop_loss: StopLoss | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceRequest:
    """What a client wants changed; None leaves a term as it is. `qty` is the new total, fills included.

    `trail` is the new trail price or trail percentage, whichever the order has.
    """

    qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: TimeInForce | None = None
    client_order_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What one order is in its group; `parent` is the id of the order that it is a leg of, None for that one itself."""

    order_class: OrderClass
    role: Role
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """How a trailing stop follows the price: by dollars or by percent, from its high (low) water mark."""

    price: Decimal | None = None
    percent: Decimal | None = None
    hwm: Decimal | None = None

    def moved(self, side: Side, last: Decimal) -> Decimal:
        """The water mark after a trade at `last`: the highest price so far for a sell, the lowest for a buy."""
        if self.hwm is None:
            return last
        return max(self.hwm, last) if side is Side.SELL else min(self.hwm, last)

    def stop_price(self, side: Side) -> Decimal | None:
        """Where the stop is now, on the price grid; None before the first price."""
        if self.hwm is None:
            return None
        distance = self.price if self.price is not None else self.hwm * (self.percent or ZERO) / 100
        stop = self.hwm + side.sign * distance
        return stop.quantize(Decimal("0.01") if stop >= 1 else Decimal("0.0001"), ROUND_HALF_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One version of one order. `number` is its place in the order of submission, from 1."""

    id: str
    number: int
    client_order_id: str
    symbol: str
    asset_id: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    status: Status
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime
    expires_at: datetime
    qty: Decimal | None = None
    notional: Decimal | None = None
    # A notional order learns its quantity from its first execution price; the wire keeps showing qty as null.
    target_qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False
    position_intent: str = "buy_to_open"
    is_triggered: bool = False
    is_external: bool = False
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    canceled_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    group: Membership | None = None
    trail: Trail | None = None

    @property
    def is_open(self) -> bool:
        """True until the order has reached a terminal status."""
        return not self.status.is_terminal

    @property
    def total_qty(self) -> Decimal | None:
        """Shares ordered; None for a notional order that has not traded yet."""
        return self.qty if self.qty is not None else self.target_qty

    @property
    def leaves_qty(self) -> Decimal:
        """Shares that may still trade; zero for a terminal order or a notional one of unknown size."""
        total = self.total_qty
        if total is None or not self.is_open:
            return ZERO
        return max(total - self.filled_qty, ZERO)

    @property
    def filled_avg_price(self) -> Decimal | None:
        """Weighted mean price of the live executions; None when there are none."""
        return self.filled_value / self.filled_qty if self.filled_qty else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One match. `cum_qty` and `leaves_qty` are the order's right after it; `number` is its place among them all."""

    id: str
    number: int
    order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    at: datetime
    cum_qty: Decimal
    leaves_qty: Decimal
    order_status: Status
    annulled_at: datetime | None = None
    corrects: str | None = None

    @property
    def signed_qty(self) -> Decimal:
        """Shares into the position: positive for a buy, negative for a sell."""
        return self.qty * self.side.sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A change of a position (and of cash) without an execution: a split by `ratio`, or a journal of `qty` shares."""

    id: str
    number: int
    symbol: str
    at: datetime
    description: str
    ratio: Decimal | None = None
    qty: Decimal = ZERO
    net_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Net shares (negative when short) and their average entry price; flat is qty zero."""

    symbol: str
    qty: Decimal = ZERO
    avg_entry_price: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Best bid, best ask and last trade of a symbol, in dollars a share."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """Something happened to an order. `order` is the version right after it; `number` rises by one an event."""

    number: int
    kind: EventKind
    at: datetime
    order: Order
    event_execution_id: str | None = None
    execution: Execution | None = None
    position_qty: Decimal | None = None
    previous_execution_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillModel:
    """How orders get worked: latencies in milliseconds, and how often and into how many slices a match is cut."""

    ack_latency_ms: int = 5
    fill_latency_ms: int = 20
    slice_latency_ms: int = 150
    cancel_latency_ms: int = 10
    replace_latency_ms: int = 10
    partial_probability: float = 0.1
    slices_max: int = 3
    reject_probability: float = 0.0
    # In manual mode nothing fills or triggers except by an explicit `fill`.
    is_manual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRules:
    """What the account may do. `multiplier` is buying power per dollar of equity."""

    cash: Decimal = Decimal(100_000)
    multiplier: Decimal = Decimal(2)
    shorting_enabled: bool = True
    # Real accounts refuse one order that sells through zero; tests of flips may allow it.
    flips_allowed: bool = False
    # After a partial fill the new order of a replace carries total minus filled; True repeats the reported
    # behaviour of carrying the whole total again.
    replace_repeats_total: bool = False
    # A stop that fires takes the place of its take-profit, which is then canceled; True repeats the reported
    # behaviour of showing the take-profit as replaced by the stop.
    stop_replaces_target: bool = False


class Refused(Exception):
    """The exchange says no: HTTP status, broker code, message and extra fields, as the broker words them."""

    def __init__(self, status: int, code: int, message: str, **extra: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The account's money at one instant, in dollars."""

    cash: Decimal
    equity: Decimal
    long_market_value: Decimal
    short_market_value: Decimal
    buying_power: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
