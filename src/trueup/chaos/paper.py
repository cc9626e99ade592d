"""A broker on paper: books that are right by construction, and every observation that one could make of them.

For: judging the core without a runtime, a million times over. Not for the shell: an exchange with latencies and faults
stands in `simulator/`. Invariant: the books share no code with the reasoning that they judge; each change of an order
raises its version, and leaves behind the stream event that a real broker would have sent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trueup.chaos.violation import demand
from trueup.core.belief import Belief
from trueup.core.events import OrderReported, SnapshotTaken
from trueup.core.model import (
    AccountId,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
    Snapshot,
    SnapshotScope,
    Source,
    Symbol,
    TimeInForce,
)
from trueup.core.positions import PositionBook

EPOCH = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
SYMBOLS = ("AAPL", "MSFT")
PRICES = ("9.50", "10", "10.37")
FINAL = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED, OrderStatus.REPLACED}


@dataclass
class PaperOrder:
    """One order in the broker's books."""

    number: int
    symbol: str
    side: Side
    quantity: Decimal
    client_order_id: str
    status: OrderStatus = OrderStatus.NEW
    version: datetime = EPOCH
    executions: list[tuple[str, Decimal, Decimal, datetime, Decimal]] = field(default_factory=list)
    busted: set[str] = field(default_factory=set)
    traded: Decimal = Decimal(0)
    """Shares ever executed, whatever was busted or corrected later."""
    replaces: int | None = None
    replaced_by: int | None = None

    @property
    def live(self) -> list[tuple[str, Decimal, Decimal, datetime, Decimal]]:
        """Executions that stand."""
        return [execution for execution in self.executions if execution[0] not in self.busted]

    @property
    def filled(self) -> Decimal:
        """Shares executed and not busted."""
        return sum((execution[1] for execution in self.live), Decimal(0))

    @property
    def value(self) -> Decimal:
        """What they cost."""
        return sum((execution[1] * execution[2] for execution in self.live), Decimal(0))


class PaperBroker:
    """Books for one account; every verb changes them and returns the stream event that tells of it."""

    def __init__(self, cash: Decimal = Decimal(100000)) -> None:
        self.now = EPOCH
        self.orders: list[PaperOrder] = []
        self.opening_cash = cash
        self.executions = 0
        self.events: list[OrderReported] = []
        self.totals: list[list[tuple[datetime, Decimal]]] = []
        """By order, oldest first: each version and the total that it stated."""
        self.lists_rename = False
        """True when lists name an execution otherwise than the stream does."""
        self.stands_still = False
        """True while everything happens in one and the same instant."""

    # --- verbs ----------------------------------------------------------------------------------------------------

    def place(
        self, symbol: str, side: Side, quantity: int | Decimal, client_order_id: str | None = None
    ) -> OrderReported:
        """Put a new order into the books."""
        order = PaperOrder(
            len(self.orders), symbol, side, Decimal(quantity), client_order_id or f"ext-{len(self.orders)}"
        )
        self.orders.append(order)
        return self._changed(order, ExecType.NEW)

    def fill(self, number: int, quantity: int | Decimal, price: str | Decimal) -> OrderReported | None:
        """Execute a part; None when nothing is left to execute."""
        order = self.orders[number]
        quantity = min(Decimal(quantity), order.quantity - order.filled)
        if quantity <= 0 or order.status in FINAL or order.status is OrderStatus.PENDING_NEW:
            return None
        self._tick()
        self.executions += 1
        name = f"exec-{self.executions}"
        cum = order.filled + quantity
        order.traded += quantity
        order.executions.append((name, quantity, Decimal(price), self.now, cum))
        order.status = OrderStatus.FILLED if cum == order.quantity else OrderStatus.PARTIALLY_FILLED
        return self._changed(order, ExecType.TRADE, execution=self._execution(order, order.executions[-1]))

    def finish(self, number: int, status: OrderStatus, exec_type: ExecType) -> OrderReported | None:
        """End an order; None when it has ended."""
        order = self.orders[number]
        if order.status in FINAL:
            return None
        order.status = status
        return self._changed(order, exec_type)

    def cancel(self, number: int) -> OrderReported | None:
        """End an order as cancelled."""
        return self.finish(number, OrderStatus.CANCELED, ExecType.CANCELED)

    def request_cancel(self, number: int) -> OrderReported | None:
        """Ask for a cancel."""
        return self.finish(number, OrderStatus.PENDING_CANCEL, ExecType.PENDING_CANCEL)

    def refuse_cancel(self, number: int) -> OrderReported | None:
        """Let a cancel come to nothing."""
        order = self.orders[number]
        if order.status is not OrderStatus.PENDING_CANCEL:
            return None
        order.status = OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.NEW
        return self._changed(order, ExecType.CANCEL_REJECTED)

    def replace(self, number: int, quantity: int | Decimal, client_order_id: str | None = None) -> OrderReported | None:
        """Put an order with another quantity into the place of one; None when that has ended."""
        old = self.orders[number]
        if old.status in FINAL:
            return None
        name = client_order_id or f"ext-{len(self.orders)}"
        new = PaperOrder(len(self.orders), old.symbol, old.side, Decimal(quantity), name, replaces=number)
        self.orders.append(new)
        old.status, old.replaced_by = OrderStatus.REPLACED, new.number
        event = self._changed(old, ExecType.REPLACED)
        self._changed(new, ExecType.NEW)
        return event

    def take_in_replace(self, number: int, quantity: int | Decimal, client_order_id: str) -> None:
        """Answer for a replace before carrying it out: the new order waits, and the old one still works."""
        old = self.orders[number]
        new = PaperOrder(len(self.orders), old.symbol, old.side, Decimal(quantity), client_order_id, replaces=number)
        new.status = OrderStatus.PENDING_NEW
        self.orders.append(new)
        self._changed(new, ExecType.PENDING_NEW)

    def decide_replace(self, number: int, *, carried_out: bool) -> None:
        """Carry out a replace that was taken in, unless its order has ended meanwhile; or refuse it."""
        new = self.orders[number]
        assert new.replaces is not None
        old = self.orders[new.replaces]
        if new.status in FINAL:
            return
        if carried_out and old.status not in FINAL:
            old.status, old.replaced_by, new.status = OrderStatus.REPLACED, number, OrderStatus.NEW
            self._changed(old, ExecType.REPLACED)
            self._changed(new, ExecType.NEW)
        else:
            self._changed(old, ExecType.REPLACE_REJECTED)
            new.status = OrderStatus.REJECTED
            self._changed(new, ExecType.REJECTED)

    def bust(self, number: int, which: int = -1, *, ends: bool = True) -> OrderReported | None:
        """Annul an execution that stands, the newest unless told otherwise; what was filled `ends` as cancelled."""
        order = self.orders[number]
        if not order.live:
            return None
        gone = order.live[which]
        order.busted.add(gone[0])
        if order.status is OrderStatus.FILLED and ends:
            order.status = OrderStatus.CANCELED
        return self._changed(
            order,
            ExecType.TRADE_CANCEL,
            execution=self._execution(order, gone),
            refers_to=ExecutionId(gone[0]),
        )

    def correct(self, number: int, which: int, price: str | Decimal, quantity: int | Decimal) -> OrderReported | None:
        """Give an execution that stands other terms, and a new name; the quantity can't grow."""
        order = self.orders[number]
        if not order.live:
            return None
        old = order.live[which]
        self._tick()
        self.executions += 1
        new = (f"exec-{self.executions}", min(Decimal(quantity), old[1]), Decimal(price), self.now, old[4])
        order.executions[order.executions.index(old)] = new
        told = replace(self._execution(order, new), cum_quantity=None)
        return self._changed(order, ExecType.TRADE_CORRECT, execution=told, refers_to=ExecutionId(old[0]))

    # --- what one can observe -------------------------------------------------------------------------------------

    def row(self, order: PaperOrder) -> OrderReport:
        """One order as a list shows it."""
        filled = order.filled
        return OrderReport(
            broker_order_id=BrokerOrderId(f"b-{order.number}"),
            client_order_id=ClientOrderId(order.client_order_id),
            symbol=Symbol(order.symbol),
            side=order.side,
            status=order.status,
            raw_status=order.status.value.lower(),
            filled_quantity=filled,
            average_price=order.value / filled if filled else None,
            quantity=order.quantity,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.DAY,
            limit_price=Decimal(10),
            version=order.version,
            submitted_at=order.version,
            replaces=BrokerOrderId(f"b-{order.replaces}") if order.replaces is not None else None,
            replaced_by=BrokerOrderId(f"b-{order.replaced_by}") if order.replaced_by is not None else None,
        )

    def snapshot(
        self,
        scope: SnapshotScope = SnapshotScope.FULL,
        source: Source = Source.RECONCILE,
        *,
        with_executions: bool = True,
        only_open: bool = False,
        known: tuple[BrokerOrderId, ...] = (),
    ) -> SnapshotTaken:
        """The books at this instant."""
        self._tick()
        rows = tuple(self.row(order) for order in self.orders if not only_open or order.status not in FINAL)
        executions = tuple(self._listed(order, item) for order in self.orders for item in order.live)
        full = scope is SnapshotScope.FULL
        here = {row.broker_order_id for row in rows}
        if only_open:
            rows += tuple(self.row(order) for order in self.orders if f"b-{order.number}" in set(known) - here)
        return SnapshotTaken(
            at=self.now,
            source=source,
            snapshot=Snapshot(
                scope=scope,
                started_at=self.now,
                finished_at=self.now,
                orders=rows if scope is not SnapshotScope.POSITIONS else (),
                executions=executions if full and with_executions else (),
                positions=None if scope is SnapshotScope.ORDERS else self.position_rows(),
                account=None if scope is SnapshotScope.ORDERS else self.account_row(),
            ),
        )

    def positions(self) -> dict[str, Decimal]:
        """Shares per symbol, without zeros."""
        held: dict[str, Decimal] = {}
        for order in self.orders:
            signed = order.filled if order.side is Side.BUY else -order.filled
            held[order.symbol] = held.get(order.symbol, Decimal(0)) + signed
        return {symbol: quantity for symbol, quantity in held.items() if quantity}

    def cash(self) -> Decimal:
        """What is left of the opening cash."""
        return self.opening_cash + sum(
            (-order.value if order.side is Side.BUY else order.value for order in self.orders), Decimal(0)
        )

    def position_rows(self) -> tuple[PositionReport, ...]:
        """Positions as a snapshot shows them."""
        return tuple(
            PositionReport(symbol=Symbol(symbol), quantity=quantity, average_price=Decimal(10))
            for symbol, quantity in self.positions().items()
        )

    def account_row(self) -> AccountReport:
        """The account as a snapshot shows it."""
        return AccountReport(
            account_id=AccountId("PAPER"),
            cash=self.cash(),
            equity=self.cash(),
            last_equity=self.opening_cash,
            buying_power=self.cash(),
        )

    # --- inside ---------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if not self.stands_still:
            self.now += timedelta(milliseconds=1)

    def _execution(self, order: PaperOrder, item: tuple[str, Decimal, Decimal, datetime, Decimal]) -> Execution:
        name, quantity, price, at, cum = item
        return Execution(
            execution_id=ExecutionId(name),
            broker_order_id=BrokerOrderId(f"b-{order.number}"),
            symbol=Symbol(order.symbol),
            side=order.side,
            quantity=quantity,
            price=price,
            at=at,
            cum_quantity=cum,
        )

    def _listed(self, order: PaperOrder, item: tuple[str, Decimal, Decimal, datetime, Decimal]) -> Execution:
        execution = self._execution(order, item)
        return replace(execution, execution_id=ExecutionId(f"listed-{item[0]}")) if self.lists_rename else execution

    def _changed(
        self,
        order: PaperOrder,
        exec_type: ExecType,
        execution: Execution | None = None,
        refers_to: ExecutionId | None = None,
    ) -> OrderReported:
        self._tick()
        order.version = self.now
        while len(self.totals) <= order.number:
            self.totals.append([])
        self.totals[order.number].append((self.now, order.filled))
        event = OrderReported(
            at=self.now,
            source=Source.STREAM,
            exec_type=exec_type,
            report=self.row(order),
            execution=execution,
            refers_to=refers_to,
            broker_at=self.now,
        )
        self.events.append(event)
        return event


# --- the judge ----------------------------------------------------------------------------------------------------

BOOKS = "belief equals the books"
HELD = "every execution is held once"
SURE = "one clean look at the end leaves no doubt"
_EXACT = Decimal("1e-20")


def folded_anew(belief: Belief, symbol: Symbol) -> PositionBook:
    """The book as a fold of all lots makes it, whether or not it needs one; belief stays as it is."""
    book = belief.book(symbol)
    needed = book.dirty
    book.dirty, book.settled = True, None
    folded = belief.settled_book(symbol)
    book.dirty, book.settled = needed, None
    return folded


def equals_the_books(belief: Belief, broker: PaperBroker) -> None:
    """Raise `Violation` unless every order, position and the cash are believed as the paper broker has them."""
    for order in broker.orders:
        name = f"b-{order.number}"
        leg = belief.by_broker.get(BrokerOrderId(name))
        demand(leg is not None, BOOKS, f"nothing is known of {name}")
        assert leg is not None
        told = (order.status, order.filled)
        demand((leg.status, leg.filled) == told, BOOKS, f"{name} is {leg.status} {leg.filled}, the books say {told}")
        held = sum((item.execution.quantity for item in leg.executions.values() if not item.busted), Decimal(0))
        demand(held + leg.residual == leg.filled, BOOKS, f"{name} holds {held} and {leg.residual} of {leg.filled}")
        if order.filled:
            value = leg.executed_value + leg.residual * leg.residual_price
            demand(abs(value - order.value) < _EXACT, BOOKS, f"{name} is worth {value}, the books say {order.value}")
    believed = {str(symbol): book.quantity for symbol, book in belief.books.items() if book.quantity}
    demand(believed == broker.positions(), BOOKS, f"positions are {believed}, the books say {broker.positions()}")
    for symbol in list(belief.books):
        running, folded = belief.books[symbol].quantity, folded_anew(belief, symbol).quantity
        demand(folded == running, "a fold of all lots is the running position", f"{symbol}: {folded} and {running}")
    cash = belief.cash
    is_equal = cash is not None and abs(cash - broker.cash()) < _EXACT
    demand(is_equal, BOOKS, f"cash is {cash}, the books say {broker.cash()}")


def holds_the_executions(belief: Belief, broker: PaperBroker) -> None:
    """Raise `Violation` unless of every order just those executions are held that stand, and nothing is inferred."""
    for order in broker.orders:
        leg = belief.by_broker[BrokerOrderId(f"b-{order.number}")]
        standing = [item.execution for item in leg.executions.values() if not item.busted]
        ours = Counter((execution.quantity, execution.price) for execution in standing)
        theirs = Counter((quantity, price) for _, quantity, price, _, _ in order.live)
        is_equal = ours == theirs and not leg.residual
        demand(is_equal, HELD, f"b-{order.number} holds {ours} and infers {leg.residual}, the books {theirs}")
