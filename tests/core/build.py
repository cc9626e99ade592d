"""Short words for the values that the tables are made of: reports, executions, events, commands, and a live belief.

Every builder has one default for everything, so that a row of a table names only what it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trueup.chaos.paper import folded_anew
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import Command, SubmitOrder
from trueup.core.effects import Effect
from trueup.core.events import (
    Event,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    OrderLookedUp,
    OrderReported,
    RequestAnswered,
    SnapshotTaken,
)
from trueup.core.model import (
    AccountId,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
    OrderId,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    RequestKind,
    RequestOutcome,
    Side,
    Snapshot,
    SnapshotScope,
    Source,
    Symbol,
    TimeInForce,
)
from trueup.core.orders import Leg, Order
from trueup.core.step import step
from trueup.core.transition import Outcome
from trueup.core.views import CHANNEL_VIEWS

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
AAPL = Symbol("AAPL")
D = Decimal


def at(seconds: float = 0) -> datetime:
    """An instant, in seconds after the table's beginning."""
    return START + timedelta(microseconds=round(seconds * 1_000_000))


def report(
    status: OrderStatus = OrderStatus.NEW,
    filled: int | str | Decimal = 0,
    *,
    version: float | None = 0,
    broker_id: str = "b-1",
    client_id: str | None = "c-1",
    symbol: str = AAPL,
    side: Side = Side.BUY,
    quantity: int | str | None = 100,
    average: str | None = None,
    limit: str | None = None,
    replaces: str | None = None,
    replaced_by: str | None = None,
    filled_at: datetime | None = None,
) -> OrderReport:
    """What the broker says about order b-1; `version` in seconds, None for a crippled message."""
    return OrderReport(
        broker_order_id=BrokerOrderId(broker_id),
        symbol=Symbol(symbol),
        side=side,
        status=status,
        filled_quantity=D(filled),
        client_order_id=ClientOrderId(client_id) if client_id is not None else None,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        quantity=D(quantity) if quantity is not None else None,
        average_price=D(average) if average is not None else None,
        limit_price=D(limit) if limit is not None else None,
        raw_status=status.value.lower(),
        version=at(version) if version is not None else None,
        replaces=BrokerOrderId(replaces) if replaces is not None else None,
        replaced_by=BrokerOrderId(replaced_by) if replaced_by is not None else None,
        filled_at=filled_at,
    )


def execution(
    name: str,
    quantity: int | str,
    price: str = "10",
    *,
    cum: int | str | None = None,
    when: float = 0,
    broker_id: str = "b-1",
    symbol: str = AAPL,
    side: Side = Side.BUY,
) -> Execution:
    """One match of order b-1."""
    return Execution(
        execution_id=ExecutionId(name),
        broker_order_id=BrokerOrderId(broker_id),
        symbol=Symbol(symbol),
        side=side,
        quantity=D(quantity),
        price=D(price),
        at=at(when),
        cum_quantity=D(cum) if cum is not None else None,
    )


def leg(side: Side = Side.BUY) -> Leg:
    """A request that the broker has not spoken of yet."""
    return Leg(OrderId("o-1"), ClientOrderId("c-1"), None, AAPL, side, quantity=D(100))


def order(*legs: Leg, side: Side = Side.BUY) -> Order:
    """An order of ours with these legs, or with one that the broker has not spoken of yet."""
    return Order(
        order_id=OrderId("o-1"),
        symbol=AAPL,
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        origin="operator",
        created_at=START,
        updated_at=START,
        source=Source.COMMAND,
        legs=list(legs) or [leg(side)],
    )


def streamed(
    exec_type: ExecType, what: OrderReport, match: Execution | None = None, *, refers_to: str = "", when: float = 0
) -> OrderReported:
    """An event of the broker's stream."""
    return OrderReported(
        at=at(when),
        source=Source.STREAM,
        exec_type=exec_type,
        report=what,
        execution=match,
        refers_to=ExecutionId(refers_to) if refers_to else None,
        broker_at=what.version,
    )


def snapshot(
    *reports: OrderReport,
    when: float,
    started: float | None = None,
    scope: SnapshotScope = SnapshotScope.FULL,
    source: Source = Source.RECONCILE,
    executions: Iterable[Execution] = (),
    holdings: dict[str, int | str] | None = None,
    absent: Iterable[str] = (),
    cash: str = "100000",
    account: str = "PAPER",
    blocked: bool = False,
) -> SnapshotTaken:
    """A complete snapshot that came back at `when`; `holdings` are signed shares by symbol, at an average of 10."""
    with_positions = scope is not SnapshotScope.ORDERS
    return SnapshotTaken(
        at=at(when),
        source=source,
        snapshot=Snapshot(
            scope=scope,
            started_at=at(when if started is None else started),
            finished_at=at(when),
            orders=reports,
            executions=tuple(executions),
            absent=tuple(BrokerOrderId(name) for name in absent),
            positions=tuple(
                PositionReport(symbol=Symbol(symbol), quantity=D(quantity), average_price=D(10))
                for symbol, quantity in (holdings or {}).items()
            )
            if with_positions
            else None,
            account=AccountReport(
                account_id=AccountId(account),
                cash=D(cash),
                equity=D(cash),
                last_equity=D(cash),
                buying_power=D(cash),
                blocked=blocked,
            )
            if with_positions
            else None,
        ),
    )


class Desk:
    """A belief and the offsets that feed it; what was told is kept."""

    def __init__(self, *, live: bool = True, holdings: dict[str, int | str] | None = None) -> None:
        self.belief: Belief = new_belief(account="PAPER", epoch="table")
        self.effects: list[Effect] = []
        if live:
            self.tell(FeedAcknowledged(at=at(-3), feed=FeedName.BROKER_EVENTS))
            self.tell(snapshot(when=-2, holdings=holdings))
            self.tell(FeedRestored(at=at(-1), feed=FeedName.BROKER_EVENTS))

    def tell(self, *items: Event | Command) -> Outcome:
        """Fold inputs one by one; returns what the last of them led to."""
        assert items
        for item in items:
            outcome = step(self.belief, item, self.belief.offset + 1)
            self.effects.extend(outcome.effects)
            for order_id, changed in outcome.changes.orders.items():
                assert self.belief.orders[order_id] is changed, "what changed is shown as belief holds it"
            for channel, view in outcome.changes.views:
                assert isinstance(view, CHANNEL_VIEWS[channel]), "a channel tells views of its own shape alone"
        return outcome

    def submit(
        self,
        quantity: int | str = 100,
        side: Side = Side.BUY,
        *,
        client_id: str = "c-1",
        when: float = 0,
        symbol: str = AAPL,
        limit: str | None = None,
    ) -> Outcome:
        """Ask for an order; its order id is in the outcome."""
        return self.tell(
            SubmitOrder(
                at=at(when),
                symbol=Symbol(symbol),
                side=side,
                quantity=D(quantity),
                order_type=OrderType.LIMIT if limit else OrderType.MARKET,
                limit_price=D(limit) if limit else None,
                client_order_id=ClientOrderId(client_id),
            )
        )

    def answer(
        self,
        outcome: RequestOutcome,
        what: OrderReport | None = None,
        *,
        kind: RequestKind = RequestKind.SUBMIT,
        client_id: str = "c-1",
        when: float = 0,
        message: str = "",
        code: str = "",
    ) -> Outcome:
        """How a request ended."""
        return self.tell(
            RequestAnswered(
                at=at(when),
                kind=kind,
                client_order_id=ClientOrderId(client_id),
                outcome=outcome,
                report=what,
                message=message,
                code=code,
            )
        )

    def find(
        self,
        what: OrderReport | None,
        *,
        client_id: str | None = None,
        broker_id: str | None = None,
        started: float,
        when: float | None = None,
    ) -> Outcome:
        """The broker's answer to a look-up."""
        return self.tell(
            OrderLookedUp(
                at=at(started if when is None else when),
                started_at=at(started),
                report=what,
                client_order_id=ClientOrderId(client_id) if client_id else None,
                broker_order_id=BrokerOrderId(broker_id) if broker_id else None,
            )
        )

    def lose(self, when: float = 0, reason: str = "cut") -> Outcome:
        """The stream of broker events ends."""
        return self.tell(FeedLost(at=at(when), feed=FeedName.BROKER_EVENTS, reason=reason))

    def restore(self, *taken: SnapshotTaken, when: float) -> Outcome:
        """The stream is back: acknowledged, snapshots merged, live."""
        return self.tell(
            FeedAcknowledged(at=at(when), feed=FeedName.BROKER_EVENTS),
            *taken,
            FeedRestored(at=at(when + 1), feed=FeedName.BROKER_EVENTS),
        )

    def of(self, any_id: str = "c-1") -> Order:
        """The order of any id."""
        found = self.belief.find_order(any_id)
        assert found is not None, f"no order {any_id}"
        return found

    def shares(self, symbol: str = AAPL) -> Decimal:
        """The believed position; the fold over lots must agree with the running quantity."""
        running = self.belief.book(Symbol(symbol)).quantity
        assert folded_anew(self.belief, Symbol(symbol)).quantity == running
        return running

    def wants(self, kind: type[Effect]) -> list[Effect]:
        """Effects of one kind, oldest first."""
        return [effect for effect in self.effects if isinstance(effect, kind)]
