"""A whole runtime in virtual time: the real house over journal and bus in memory, and an exchange in process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.virtual import VirtualClock, until

from trueup.bus.memory import MemoryBus
from trueup.core.belief import Belief
from trueup.core.commands import SubmitOrder
from trueup.core.effects import Denied
from trueup.core.model import BrokerOrderId, FeedName, FeedStatus, OrderId, OrderType, Side, Symbol
from trueup.core.orders import Order
from trueup.journal.memory import MemoryJournal
from trueup.ports import Broker, Input, Journal, Strategy
from trueup.runtime.reconciler import Intervals
from trueup.runtime.run import House, Parts, run
from trueup.simulator.broker import Delays, InProcess
from trueup.simulator.model import FillModel

AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")
BY_HAND = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
"""An exchange that acknowledges at once and fills only when told to."""


@dataclass
class Scene:
    """A running house and a hand on its exchange."""

    sim: InProcess
    house: House
    journal: MemoryJournal
    bus: MemoryBus
    task: asyncio.Task[None]

    @property
    def belief(self) -> Belief:
        return self.house.sequencer.belief

    @property
    def feed(self) -> FeedStatus:
        return self.belief.feeds[FeedName.BROKER_EVENTS].status

    @property
    def inputs(self) -> list[Input]:
        """Everything that is in the journal."""
        return [entry.input for entry in self.journal.read()]

    @property
    def names(self) -> list[str]:
        """The kinds of everything in the journal, in order."""
        return [type(item).__name__ for item in self.inputs]

    def now(self) -> Any:
        return VirtualClock().now()

    async def up(self) -> None:
        """Wait until broker events are live and nothing is gated."""
        await until(lambda: self.feed is FeedStatus.UP and not self.belief.entries_gated, told="a live and proven feed")

    async def submit(
        self, *, symbol: Symbol = AAPL, side: Side = Side.BUY, quantity: int = 100, limit: str | None = "200"
    ) -> Order:
        """Submit one order and return it as soon as it is decided; it must have been allowed."""
        outcome = await self.house.sequencer.submit(
            SubmitOrder(
                at=self.now(),
                symbol=symbol,
                side=side,
                quantity=Decimal(quantity),
                order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
                limit_price=None if limit is None else Decimal(limit),
            )
        )
        assert not isinstance(outcome.denied, Denied), outcome.denied
        assert outcome.order_id is not None
        return self.belief.orders[outcome.order_id]

    async def working(self, **terms: Any) -> Order:
        """Submit one order and wait until the broker has said that it works."""
        order = await self.submit(**terms)
        await until(lambda: order.status == "NEW", told="a working order")
        return order

    def fill(self, order: Order, quantity: int, price: str = "200") -> None:
        """Have the exchange execute part of an order."""
        broker_id = broker_id_of(order)
        self.sim.act(lambda exchange, at: exchange.fill(broker_id, at, qty=Decimal(quantity), price=Decimal(price)))

    def order(self, order_id: OrderId) -> Order:
        return self.belief.orders[order_id]


def broker_id_of(order: Order) -> BrokerOrderId:
    """The broker order id of an order that has one."""
    assert order.leg.broker_order_id is not None
    return order.leg.broker_order_id


@asynccontextmanager
async def running(
    *,
    seed: int = 1,
    journal: MemoryJournal | None = None,
    sim: InProcess | None = None,
    fill_model: FillModel = BY_HAND,
    delays: Delays | None = None,
    strategies: tuple[Strategy, ...] = (),
    symbols: tuple[Symbol, ...] = (),
    intervals: Intervals | None = None,
    journal_as: Journal | None = None,
    broker: Broker | None = None,
    checkpoint_every: int = 100_000,
    backoff_cap_s: float = 30.0,
    **more: Any,
) -> AsyncIterator[Scene]:
    """A house that runs beside its exchange; stopped in order when left, unless it has ended by itself.

    `sim` is handed in to start a second house against the same exchange; it must be running already then.
    """
    clock = VirtualClock()
    journal = journal or MemoryJournal()
    exchange = sim or InProcess(
        clock=clock, seed=seed, fill_model=fill_model, delays=delays, symbols=symbols, tick_seconds=0.5
    )
    bus = MemoryBus(f"bus-{journal.last_offset() + 1}")
    ready: asyncio.Future[House] = asyncio.get_running_loop().create_future()
    parts = Parts(
        broker=broker or exchange.broker,
        broker_feed=exchange.orders,
        quote_feed=exchange.quotes if symbols else None,
        journal=journal_as or journal,
        bus=bus,
        clock=clock,
        jitter=random.Random(seed).random,
        version="test",
        strategies=strategies,
        intervals=intervals or Intervals(),
        checkpoint_every=checkpoint_every,
        backoff_cap_s=backoff_cap_s,
        **more,
    )
    living = asyncio.create_task(exchange.run()) if sim is None else None
    task = asyncio.create_task(run(parts, ready=ready.set_result))
    try:
        task.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if ready.cancelled():
            task.result()
        yield Scene(sim=exchange, house=ready.result(), journal=journal, bus=bus, task=task)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if living is not None:
            living.cancel()
            await asyncio.wait([living])
            if not living.cancelled():
                living.result()
    if not task.cancelled():
        task.result()
