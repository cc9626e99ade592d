"""All that we hold true about one account, as one value: the fold of the journal through `step`.

Belief is a mutable value with one owner, the sequencer: `step` folds an input into it in place, because copying it for
each input costs more than everything else together. Everyone else reads. It is plain data without clocks, locks or
callables, so that it can be kept as a checkpoint. Invariant: only `step` and what it calls change it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from trueup.core.breakers import STALE_DATA, Gate
from trueup.core.model import (
    ZERO,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    OrderId,
    Symbol,
    TradingState,
    sign,
)
from trueup.core.orders import Leg, Order
from trueup.core.positions import Lot, PositionBook
from trueup.core.truth import FeedState, Truth

TERMINAL_KEPT = 5000
"""Finished orders that stay in belief at the least; the older half of twice as many is left to the journal."""

SNAPSHOT_SLACK = timedelta(minutes=5)
"""How far behind the last proof a snapshot looks for changes: broker clocks, replicas and activity lists lag."""

LIST_BACK = timedelta(days=1)
"""How far behind the last proof a snapshot looks at most, for an order whose executions don't make up its total."""


class Inferred(NamedTuple):
    """A leg's inferred shares will be asked about at `due`, `pause` after they were before, or were noticed."""

    due: datetime
    pause: timedelta


@dataclass(slots=True)
class Drift:
    """One difference between belief and a snapshot, from suspicion to its end."""

    drift_id: str
    kind: str
    subject: str
    believed: str
    reported: str
    first_seen_at: datetime
    at: datetime
    state: str = "suspected"
    evidence: str = ""
    trued_up: bool = False
    difference: Decimal = ZERO
    fills_seen: int = 0


@dataclass(slots=True)
class Expectation:
    """Something was learned by asking, and the live stream ought to tell it too until `deadline`."""

    leg_id: BrokerOrderId
    version: datetime | None
    filled: Decimal
    deadline: datetime
    source: str
    fills: int


class Retired(NamedTuple):
    """What stays of a finished order's leg once its story is left to the journal: enough to know a late report."""

    filled: Decimal
    average_price: Decimal


@dataclass(slots=True)
class Belief:
    """One account's orders, positions and cash as believed, and how sure of it we are."""

    account: str
    epoch: str
    offset: int = 0
    at: datetime | None = None
    orders: dict[OrderId, Order] = field(default_factory=dict)
    open_orders: dict[OrderId, Order] = field(default_factory=dict)
    open_by_symbol: dict[Symbol, dict[OrderId, Order]] = field(default_factory=dict)
    by_broker: dict[BrokerOrderId, Leg] = field(default_factory=dict)
    by_client: dict[ClientOrderId, Leg] = field(default_factory=dict)
    retired: dict[BrokerOrderId, Retired] = field(default_factory=dict)
    retired_clients: dict[ClientOrderId, OrderId] = field(default_factory=dict)
    legs_by_symbol: dict[Symbol, list[Leg]] = field(default_factory=dict)
    books: dict[Symbol, PositionBook] = field(default_factory=dict)
    fill_counts: dict[Symbol, int] = field(default_factory=dict)
    last_fill_at: dict[Symbol, datetime] = field(default_factory=dict)
    """When a fill of the symbol was last learned, by our clock."""
    account_report: AccountReport | None = None
    cash_base: Decimal | None = None
    flow: Decimal = ZERO
    """Money in (+) and out (-) by all fills; cash is its base plus what flowed since."""
    flow_base: Decimal = ZERO
    initial_equity: Decimal | None = None
    peak_equity: Decimal = ZERO
    max_drawdown: Decimal = ZERO
    baseline_at: datetime | None = None
    truth: Truth = field(default_factory=Truth)
    gate: Gate = field(default_factory=Gate)
    drifts: dict[str, Drift] = field(default_factory=dict)
    drift_log: list[Drift] = field(default_factory=list)
    expectations: dict[BrokerOrderId, Expectation] = field(default_factory=dict)
    inferred: dict[BrokerOrderId, Inferred] = field(default_factory=dict)
    """Legs whose inferred shares will be asked about."""
    timers: list[tuple[datetime, int, str, str]] = field(default_factory=list)
    timer_count: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    broker: str = ""
    runtime_version: str = ""

    @property
    def name_prefix(self) -> str:
        """How every client order id begins that this journal coins."""
        return f"tu-{self.epoch[:8]}-"

    @property
    def trading_state(self) -> TradingState:
        """The strictest trading state that anyone demands."""
        return self.gate.trading_state

    @property
    def entries_gated(self) -> bool:
        """True when nothing may leave that can increase risk."""
        return self.gate.trading_state is not TradingState.ACTIVE

    @property
    def halt_generation(self) -> int:
        """Raised by every halt and kill; what was decided under an older one is not sent."""
        return self.gate.halt_generation

    @property
    def next_deadline(self) -> datetime | None:
        """When the core wants to be told the time."""
        return self.timers[0][0] if self.timers else None

    @property
    def feeds(self) -> dict[FeedName, FeedState]:
        """The streams as the core knows them."""
        return self.truth.feeds

    @property
    def cash(self) -> Decimal | None:
        """Cash as the broker last stated it, plus what fills have moved since; None before the first statement."""
        if self.cash_base is None:
            return None
        return self.cash_base + (self.flow - self.flow_base)

    def working_broker_ids(self) -> tuple[BrokerOrderId, ...]:
        """Broker order ids of every leg that may still change, for a snapshot to ask after."""
        ids = []
        for order in self.open_orders.values():
            for leg in order.legs:
                if leg.broker_order_id is not None and (
                    order.leg is leg or leg.replaced_by is None or leg.replaced_by not in self.by_broker
                ):
                    ids.append(leg.broker_order_id)
                if leg.replaced_by is not None and leg.replaced_by not in self.by_broker:
                    ids.append(leg.replaced_by)
        return tuple(dict.fromkeys(ids))

    def snapshot_since(self) -> datetime | None:
        """From when on a snapshot must tell closed orders and executions; None before the first."""
        proved_at = self.truth.proved_at
        if proved_at is None:
            return None
        since = proved_at - SNAPSHOT_SLACK
        for leg_id in self.inferred:  # which of an order's executions are gone, only the list of all of them can tell
            leg = self.by_broker.get(leg_id)
            if leg is not None:
                since = min(since, leg.submitted_at or self.orders[leg.order_id].created_at)
        return max(since, proved_at - LIST_BACK, (self.baseline_at or proved_at) - SNAPSHOT_SLACK)

    def in_doubt(self) -> list[ClientOrderId]:
        """Client order ids of requests whose outcome nobody knows."""
        return [
            leg.client_order_id
            for order in self.open_orders.values()
            if order.in_doubt is not None and (leg := order.pending or order.legs[-1]).client_order_id is not None
        ]

    def truth_lag_s(self, now: datetime) -> Decimal | None:
        """Seconds since belief was last known to equal the broker's books; None before the first proof."""
        return self.truth.lag_s(now)

    def index(self, order: Order) -> None:
        """Keep the lists of open orders in step with an order's status."""
        if order.is_terminal:
            if self.open_orders.pop(order.order_id, None) is not None:
                del self.open_by_symbol[order.symbol][order.order_id]
            if len(self.orders) - len(self.open_orders) >= 2 * TERMINAL_KEPT:
                self._retire()
        elif order.order_id not in self.open_orders:
            self.open_orders[order.order_id] = order
            self.open_by_symbol.setdefault(order.symbol, {})[order.order_id] = order

    def _retire(self) -> None:
        """Leave the oldest finished orders to the journal; what they did to positions stays, folded."""
        finished = [order for order in self.orders.values() if order.order_id not in self.open_orders]
        finished.sort(key=lambda order: order.updated_at)
        old = finished[:TERMINAL_KEPT]
        symbols: dict[Symbol, list[Leg]] = {}
        for order in old:
            del self.orders[order.order_id]
            for leg in order.legs:
                symbols.setdefault(leg.symbol, []).append(leg)
                if leg.client_order_id is not None:
                    self.by_client.pop(leg.client_order_id, None)
                    self.retired_clients[leg.client_order_id] = order.order_id
                if leg.broker_order_id is not None:
                    self.by_broker.pop(leg.broker_order_id, None)
                    average = leg.value / leg.filled if leg.filled else ZERO
                    self.retired[leg.broker_order_id] = Retired(leg.filled, average)
        for symbol, legs in symbols.items():
            gone = set(map(id, legs))
            self.legs_by_symbol[symbol] = [leg for leg in self.legs_by_symbol[symbol] if id(leg) not in gone]
            if any(leg.filled for leg in legs):
                self.book(symbol).absorb([lot for leg in legs for lot in _lots_of(leg)])
        self.count("orders_retired", len(old))

    def open_in(self, symbol: Symbol) -> tuple[Order, ...]:
        """The orders of one symbol that may still fill."""
        orders = self.open_by_symbol.get(symbol)
        return tuple(orders.values()) if orders else ()

    def book(self, symbol: Symbol) -> PositionBook:
        """The book of one symbol, opened when it is first asked for."""
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = PositionBook(symbol)
        return book

    def settled_book(self, symbol: Symbol) -> PositionBook:
        """The book with average price and profit folded, whatever arrived out of order. Looking changes nothing.

        A look must not leave a trace in belief: a replay, where nobody looks, has to end at the same bytes.
        """
        book = self.book(symbol)
        if not book.dirty:
            return book
        if book.settled is None:
            book.settled = book.refolded(self._lots(symbol))
        return book.settled

    def settle(self) -> None:
        """Fold every book that is out of order, for good; done at each full reconciliation."""
        for symbol, book in self.books.items():
            if book.dirty:
                book.refold(self._lots(symbol))

    def _lots(self, symbol: Symbol) -> Iterator[Lot]:
        for leg in self.legs_by_symbol.get(symbol, ()):
            yield from _lots_of(leg)

    def set_timer(self, at: datetime, kind: str, key: str) -> None:
        """Ask to be told the time at `at`."""
        self.timer_count += 1
        heapq.heappush(self.timers, (at, self.timer_count, kind, key))

    def due_timers(self, now: datetime) -> list[tuple[str, str]]:
        """Take out every timer that is due, in order."""
        due = []
        while self.timers and self.timers[0][0] <= now:
            _, _, kind, key = heapq.heappop(self.timers)
            due.append((kind, key))
        return due

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter that health shows."""
        self.counters[name] = self.counters.get(name, 0) + by

    def find_order(self, any_id: str) -> Order | None:
        """An order by our id, a client order id, or a broker order id."""
        order = self.orders.get(OrderId(any_id))
        if order is not None:
            return order
        leg = self.by_client.get(ClientOrderId(any_id)) or self.by_broker.get(BrokerOrderId(any_id))
        return self.orders[leg.order_id] if leg is not None else None


def new_belief(*, account: str, epoch: str) -> Belief:
    """Belief before anything was heard; what may increase risk waits for the first reconciliation."""
    belief = Belief(account=account, epoch=epoch)
    belief.gate.demand(STALE_DATA, TradingState.REDUCE_ONLY, "the account has not been reconciled yet")
    return belief


def _lots_of(leg: Leg) -> Iterator[Lot]:
    """What a leg did to its position; shares of the opening balance are left out."""
    buys = sign(leg.side) > 0
    skip = leg.opening  # these shares are in the opening balance
    residual = leg.residual
    if residual and leg.residual_at is not None:
        if skip and residual > 0:
            residual, skip = max(residual - skip, ZERO), max(skip - residual, ZERO)
        if residual:
            yield Lot(leg.residual_at, f"~{leg.broker_order_id}", residual if buys else -residual, leg.residual_price)
    held_in_time = leg.executions.items()
    for name, held in sorted(held_in_time, key=lambda item: item[1].execution.at) if skip else held_in_time:
        if held.busted:
            continue
        execution = held.execution
        quantity = execution.quantity
        if skip:
            quantity, skip = max(quantity - skip, ZERO), max(skip - quantity, ZERO)
            if not quantity:
                continue
        # as Lot(...) makes it, in a third of the time: a retirement makes thousands
        yield tuple.__new__(Lot, (execution.at, name, quantity if buys else -quantity, execution.price))
    if skip:  # a bust took shares that the opening balance holds
        busted = [held.execution for held in leg.executions.values() if held.busted]
        when = leg.floor or leg.residual_at or leg.version or max(match.at for match in busted)
        price = busted[-1].price if busted else leg.residual_price
        yield Lot(when, f"-{leg.broker_order_id}", -skip if buys else skip, price)
