"""Inputs to measure with: a day of orders, each submitted, acknowledged, filled in two parts.

Ready-made event objects, as the peers' own benchmarks use them; decoding is measured where it happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trueup.core.commands import SubmitOrder
from trueup.core.events import FeedAcknowledged, FeedRestored, OrderReported, SnapshotTaken
from trueup.core.model import (
    AccountId,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
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
from trueup.ports import Input

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST, _LAST, _ALL = Decimal(40), Decimal(60), Decimal(100)
_FIRST_PRICE, _LAST_PRICE, _AVERAGE = Decimal("10.40"), Decimal("10.50"), Decimal("10.46")


def account() -> AccountReport:
    cash = Decimal(1_000_000)
    return AccountReport(account_id=AccountId("BENCH"), cash=cash, equity=cash, last_equity=cash, buying_power=2 * cash)


def opening() -> list[Input]:
    """A live stream and an empty account."""
    snapshot = Snapshot(scope=SnapshotScope.FULL, started_at=START, finished_at=START, positions=(), account=account())
    return [
        FeedAcknowledged(at=START, feed=FeedName.BROKER_EVENTS),
        SnapshotTaken(at=START, source=Source.RECONCILE, snapshot=snapshot),
        FeedRestored(at=START, feed=FeedName.BROKER_EVENTS),
    ]


def side_of(number: int) -> Side:
    return Side.BUY if number % 2 else Side.SELL


def report(number: int, status: OrderStatus, filled: Decimal, version: datetime, symbols: int) -> OrderReport:
    return OrderReport(
        broker_order_id=BrokerOrderId(f"broker-{number:08d}"),
        client_order_id=ClientOrderId(f"client-{number:08d}"),
        symbol=Symbol(f"S{number % symbols}"),
        side=side_of(number),
        status=status,
        raw_status=status.value.lower(),
        filled_quantity=filled,
        average_price=None if not filled else _FIRST_PRICE if filled == _FIRST else _AVERAGE,
        quantity=_ALL,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        limit_price=_LAST_PRICE,
        version=version,
        submitted_at=START,
    )


def execution(
    number: int, part: str, quantity: Decimal, price: Decimal, cum: Decimal, at: datetime, symbols: int
) -> Execution:
    return Execution(
        execution_id=ExecutionId(f"execution-{number:08d}-{part}"),
        broker_order_id=BrokerOrderId(f"broker-{number:08d}"),
        symbol=Symbol(f"S{number % symbols}"),
        side=side_of(number),
        quantity=quantity,
        price=price,
        at=at,
        cum_quantity=cum,
    )


def told(exec_type: ExecType, row: OrderReport, match: Execution | None = None) -> OrderReported:
    at = row.version or START
    return OrderReported(at=at, source=Source.STREAM, exec_type=exec_type, report=row, execution=match, broker_at=at)


def day(orders: int, *, symbols: int = 50, ahead: int = 64) -> Iterator[Input]:
    """Four inputs an order; `ahead` orders are working at any time."""
    at = START
    for number in range(orders + ahead):
        if number < orders:
            at += _MILLISECOND
            yield SubmitOrder(
                at=at,
                symbol=Symbol(f"S{number % symbols}"),
                side=side_of(number),
                quantity=_ALL,
                order_type=OrderType.LIMIT,
                limit_price=_LAST_PRICE,
                client_order_id=ClientOrderId(f"client-{number:08d}"),
            )
            at += _MILLISECOND
            yield told(ExecType.NEW, report(number, OrderStatus.NEW, Decimal(0), at, symbols))
        done = number - ahead
        if done >= 0:
            at += _MILLISECOND
            row = report(done, OrderStatus.PARTIALLY_FILLED, _FIRST, at, symbols)
            yield told(ExecType.TRADE, row, execution(done, "a", _FIRST, _FIRST_PRICE, _FIRST, at, symbols))
            at += _MILLISECOND
            row = report(done, OrderStatus.FILLED, _ALL, at, symbols)
            yield told(ExecType.TRADE, row, execution(done, "b", _LAST, _LAST_PRICE, _ALL, at, symbols))


def large_snapshot(orders: int, positions: int, filled: Decimal, at: datetime) -> SnapshotTaken:
    """A full snapshot of `orders` open orders over `positions` symbols, each filled as said."""
    status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    rows = tuple(report(number, status, filled, at, positions) for number in range(orders))
    held: dict[Symbol, Decimal] = {}
    for row in rows:
        signed = filled if row.side is Side.BUY else -filled
        held[row.symbol] = held.get(row.symbol, Decimal(0)) + signed
    return SnapshotTaken(
        at=at,
        source=Source.RECONCILE,
        snapshot=Snapshot(
            scope=SnapshotScope.FULL,
            started_at=at,
            finished_at=at,
            orders=rows,
            executions=tuple(
                execution(number, "a", filled, _FIRST_PRICE, filled, at, positions) for number in range(orders)
            )
            if filled
            else (),
            positions=tuple(
                PositionReport(symbol=symbol, quantity=quantity, average_price=_FIRST_PRICE)
                for symbol, quantity in held.items()
                if quantity
            ),
            account=account(),
        ),
    )
