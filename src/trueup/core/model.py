"""The nouns: ids, orders as the broker reports them, executions, positions, money.

Not for behaviour: nothing here decides. Invariant: every value is immutable, every amount a `Decimal`, every time an
aware UTC `datetime` that came in from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from typing import NamedTuple, NewType

AccountId = NewType("AccountId", str)
OrderId = NewType("OrderId", str)
ClientOrderId = NewType("ClientOrderId", str)
BrokerOrderId = NewType("BrokerOrderId", str)
ExecutionId = NewType("ExecutionId", str)
Symbol = NewType("Symbol", str)

ZERO = Decimal(0)
MONEY_CONTEXT = Context(prec=34)
"""The one arithmetic context; 34 digits hold every exact sum of prices times nine-place quantities that occurs."""


class Side(StrEnum):
    """Buy or sell; a short sale is a SELL that goes through zero."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """Order types that we send; OTHER stands for one that only the broker knows."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TRAILING_STOP = "TRAILING_STOP"
    OTHER = "OTHER"


class TimeInForce(StrEnum):
    """How long an order stands."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    OPG = "OPG"
    CLS = "CLS"
    OTHER = "OTHER"


class OrderStatus(StrEnum):
    """How an order stands. REPLACED is said of one broker order id in a chain, never of the order of ours."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"


class ExecType(StrEnum):
    """Why a report was sent (FIX tag 150); STATUS is the answer to a question, not an event."""

    NEW = "NEW"
    TRADE = "TRADE"
    TRADE_CANCEL = "TRADE_CANCEL"
    TRADE_CORRECT = "TRADE_CORRECT"
    PENDING_NEW = "PENDING_NEW"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DONE_FOR_DAY = "DONE_FOR_DAY"
    SUSPENDED = "SUSPENDED"
    STOPPED = "STOPPED"
    CALCULATED = "CALCULATED"
    RESTATED = "RESTATED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    STATUS = "STATUS"
    UNKNOWN = "UNKNOWN"


class Source(StrEnum):
    """By which way a fact was learned."""

    STREAM = "stream"
    REPLY = "reply"
    POLL = "poll"
    RECONCILE = "reconcile"
    LOOKUP = "lookup"
    COMMAND = "command"
    RUNTIME = "runtime"


class TradingState(StrEnum):
    """What may leave the house; always the strictest that anyone demands, in this order."""

    ACTIVE = "ACTIVE"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"
    KILLED = "KILLED"


class FeedName(StrEnum):
    """The streams that are watched apart from one another."""

    BROKER_EVENTS = "broker_events"
    MARKET_DATA = "market_data"


class FeedStatus(StrEnum):
    """UP: delivering and proven; SUSPECT: found mute; DOWN: none; RESTORING: acknowledged, snapshot not yet merged."""

    UP = "UP"
    SUSPECT = "SUSPECT"
    DOWN = "DOWN"
    RESTORING = "RESTORING"


class SnapshotScope(StrEnum):
    """What a snapshot states: FULL is orders, executions, positions and cash; the others are the two polls."""

    FULL = "full"
    ORDERS = "orders"
    POSITIONS = "positions"


class RequestKind(StrEnum):
    """Requests that change something at the broker."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    REPLACE = "replace"


class RequestOutcome(StrEnum):
    """ACCEPTED and REFUSED are the broker's word; NOT_SENT is certain; UNKNOWN makes the order in doubt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """What the broker says about one broker order id at one moment.

    `filled_quantity` is cumulative (FIX CumQty). `version` is the broker's own last-change time of the order, and the
    only thing that orders two reports of one order; None where a broker or a crippled message has none.
    `quantity` is None on a notional order.
    """

    broker_order_id: BrokerOrderId
    symbol: Symbol
    side: Side
    status: OrderStatus
    filled_quantity: Decimal
    client_order_id: ClientOrderId | None = None
    order_type: OrderType = OrderType.OTHER
    time_in_force: TimeInForce = TimeInForce.OTHER
    quantity: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    average_price: Decimal | None = None
    raw_status: str = ""
    version: datetime | None = None
    submitted_at: datetime | None = None
    filled_at: datetime | None = None
    replaces: BrokerOrderId | None = None
    replaced_by: BrokerOrderId | None = None
    parent: BrokerOrderId | None = None
    order_class: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One match. `cum_quantity` is the order's cumulative quantity right after it, where the source says so.

    Two sources may name one match differently; (order, cum_quantity, quantity) is the same in both.
    """

    execution_id: ExecutionId
    broker_order_id: BrokerOrderId
    symbol: Symbol
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime
    cum_quantity: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionReport:
    """The broker's statement about one holding; `quantity` is signed, a short is negative."""

    symbol: Symbol
    quantity: Decimal
    average_price: Decimal
    market_value: Decimal | None = None
    current_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """The broker's statement about the pot; `last_equity` is equity at the previous close. All in account currency."""

    account_id: AccountId
    cash: Decimal
    equity: Decimal
    last_equity: Decimal
    buying_power: Decimal
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The broker's whole statement within `scope`, taken between two instants; complete or never built.

    `orders` holds every open order and, in a FULL or ORDERS scope, every order that was asked for by id. `absent` are
    the ids that were asked for and that the broker does not know. Positions and account are None outside their scope.
    """

    scope: SnapshotScope
    started_at: datetime
    finished_at: datetime
    orders: tuple[OrderReport, ...] = ()
    executions: tuple[Execution, ...] = ()
    absent: tuple[BrokerOrderId, ...] = ()
    positions: tuple[PositionReport, ...] | None = None
    account: AccountReport | None = None


class NewOrder(NamedTuple):
    """Terms of one submit request, as they go to the broker; `client_order_id` is its name for ever."""

    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    quantity: Decimal
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange:
    """Terms of one replace request; None leaves a term as it is."""

    client_order_id: ClientOrderId
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Best bid and ask; a reference for people and checks, never journaled."""

    symbol: Symbol
    bid: Decimal
    ask: Decimal
    at: datetime
    bid_size: Decimal = ZERO
    ask_size: Decimal = ZERO

    @property
    def mid(self) -> Decimal:
        """Half way between bid and ask; the one that exists where the other side is empty (zero)."""
        if not self.bid or not self.ask:
            return self.bid or self.ask
        return (self.bid + self.ask) / 2


_BUY = Side.BUY


def sign(side: Side) -> int:
    """+1 for a buy, -1 for a sell."""
    return 1 if side is _BUY else -1
