"""A house to knock at: the real sequencer over a journal and a bus in memory; the broker says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from trueup.api.app import build_app
from trueup.api.deps import GatewayOptions
from trueup.api.serve import serve_gateway
from trueup.bus import codec
from trueup.bus.memory import MemoryBus
from trueup.core.belief import new_belief
from trueup.core.effects import Effect, SendOrder, TakeSnapshot
from trueup.core.events import (
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    OrderReported,
    RequestAnswered,
    RuntimeStarted,
    SnapshotTaken,
)
from trueup.core.model import (
    AccountId,
    AccountReport,
    BrokerOrderId,
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
    OrderReport,
    OrderStatus,
    Quote,
    RequestKind,
    RequestOutcome,
    Snapshot,
    SnapshotScope,
    Source,
    Symbol,
)
from trueup.core.projection import RuntimeNumbers
from trueup.journal.memory import MemoryJournal
from trueup.ports import Input
from trueup.runtime.clock import SystemClock, secret
from trueup.runtime.sequencer import Sequencer


class Quotes:
    def __init__(self) -> None:
        self.newest: dict[Symbol, Quote] = {}

    def latest(self) -> Mapping[Symbol, Quote]:
        return self.newest


class Health:
    def numbers(self) -> RuntimeNumbers:
        return RuntimeNumbers(broker="paper", version="test")


@dataclass
class House:
    """Everything behind the gateway; `sent` are the effects that would have left."""

    sequencer: Sequencer
    bus: MemoryBus
    journal: MemoryJournal
    quotes: Quotes = field(default_factory=Quotes)
    health: Health = field(default_factory=Health)
    clock: SystemClock = field(default_factory=SystemClock)
    sent: list[Effect] = field(default_factory=list)
    reports: dict[str, OrderReport] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def feed(self, *items: Input) -> None:
        for item in items:
            await self.sequencer.submit(item)

    async def start(self) -> None:
        """Up to live and reconciled."""
        await self.feed(RuntimeStarted(at=self.now, version="test", broker="paper"))
        await self.connect()

    async def connect(self) -> None:
        await self.feed(FeedAcknowledged(at=self.now, feed=FeedName.BROKER_EVENTS))
        await self.feed(self.snapshot())
        await self.feed(FeedRestored(at=self.now, feed=FeedName.BROKER_EVENTS))

    async def lose_feed(self) -> None:
        await self.feed(FeedLost(at=self.now, feed=FeedName.BROKER_EVENTS, reason="cut by the test"))

    def snapshot(self) -> SnapshotTaken:
        at = self.now
        money = Decimal(100000)
        account = AccountReport(
            account_id=AccountId("PA1"), cash=money, equity=money, last_equity=money, buying_power=money
        )
        return SnapshotTaken(
            at=at,
            source=Source.RECONCILE,
            snapshot=Snapshot(
                scope=SnapshotScope.FULL,
                started_at=at,
                finished_at=at,
                orders=tuple(self.reports.values()),
                executions=tuple(self.executions),
                positions=(),
                account=account,
            ),
        )

    async def accept(self, index: int = -1) -> str:
        """The broker takes one of the orders that were sent; returns its broker order id."""
        sends = [effect for effect in self.sent if isinstance(effect, SendOrder)]
        order = sends[index].allowed.order
        broker_id = f"b-{order.client_order_id}"
        report = OrderReport(
            broker_order_id=BrokerOrderId(broker_id),
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            status=OrderStatus.NEW,
            raw_status="new",
            filled_quantity=Decimal(0),
            quantity=order.quantity,
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
            version=self.now,
            submitted_at=self.now,
        )
        self.reports[broker_id] = report
        await self.feed(
            RequestAnswered(
                at=self.now,
                kind=RequestKind.SUBMIT,
                client_order_id=order.client_order_id,
                outcome=RequestOutcome.ACCEPTED,
                report=report,
            )
        )
        return broker_id

    async def fill(self, broker_id: str, price: str = "178.42") -> None:
        """The stream tells of a whole fill."""
        before = self.reports[broker_id]
        assert before.quantity is not None
        at = self.now + timedelta(microseconds=1)
        fields: dict[str, Any] = {name: getattr(before, name) for name in before.__dataclass_fields__}
        fields |= {
            "status": OrderStatus.FILLED,
            "raw_status": "filled",
            "filled_quantity": before.quantity,
            "average_price": Decimal(price),
            "version": at,
            "filled_at": at,
        }
        report = self.reports[broker_id] = OrderReport(**fields)
        execution = Execution(
            execution_id=ExecutionId(f"x-{broker_id}"),
            broker_order_id=report.broker_order_id,
            symbol=report.symbol,
            side=report.side,
            quantity=before.quantity,
            price=Decimal(price),
            at=at,
            cum_quantity=before.quantity,
        )
        self.executions.append(execution)
        await self.feed(
            OrderReported(
                at=at,
                source=Source.STREAM,
                exec_type=ExecType.TRADE,
                report=report,
                execution=execution,
                broker_at=at,
            )
        )

    async def until_snapshot_asked(self, after: int) -> None:
        async with asyncio.timeout(30):
            # Nobody rings a bell for an effect.
            while self.snapshots_asked() == after:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def snapshots_asked(self) -> int:
        return sum(1 for effect in self.sent if isinstance(effect, TakeSnapshot))

    def orders_sent(self) -> int:
        return sum(1 for effect in self.sent if isinstance(effect, SendOrder))


@asynccontextmanager
async def running_house(*, queue_limit: int = 1000, backlog: int = 4096) -> AsyncIterator[House]:
    journal = MemoryJournal()
    bus = MemoryBus("bus-1", backlog=backlog)
    clock = SystemClock()
    belief = new_belief(account="default", epoch=journal.epoch)
    sequencer = Sequencer(belief=belief, journal=journal, bus=bus, clock=clock, queue_limit=queue_limit)
    house = House(sequencer=sequencer, bus=bus, journal=journal, clock=clock)
    sequencer.dispatch = house.sent.append
    writing = asyncio.create_task(sequencer.run())
    try:
        yield house
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        sequencer.close()


def options(**changes: Any) -> GatewayOptions:
    return GatewayOptions(**({"codec": codec, "secret": secret} | changes))


@asynccontextmanager
async def http_client(house: House, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(house, options(**changes))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        yield client


@asynccontextmanager
async def served(house: House, **changes: Any) -> AsyncIterator[int]:
    """The gateway on a real port."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_gateway(house, options(**{"port": 0} | changes), ready=lambda port: listening.set_result(port))
    )
    try:
        async with asyncio.timeout(30):
            either: set[asyncio.Future[Any]] = {listening, serving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield listening.result()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
