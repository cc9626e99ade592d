"""A whole runtime in virtual time: the real house over journal and bus in memory, and an exchange in process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trueup.bus.memory import MemoryBus
from trueup.chaos.virtual import VirtualClock, until
from trueup.core.belief import Belief
from trueup.core.commands import SubmitOrder
from trueup.core.effects import Denied
from trueup.core.model import BrokerOrderId, FeedName, FeedStatus, OrderId, OrderType, Side, Symbol
from trueup.core.orders import Order
from trueup.journal.memory import MemoryJournal
from trueup.ports import Input, Journal
from trueup.runtime.run import House, Parts, run
from trueup.simulator.broker import InProcess
from trueup.simulator.model import FillModel

AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")
BY_HAND = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
"""An exchange that acknowledges at once and fills only when told to."""


@dataclass
class Scene:
    """A running house and a hand on its exchange."""

    sim: InProcess
    house: House
    journal: Journal
    bus: MemoryBus
    task: asyncio.Task[None]
    expected: BaseException | None = None

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

    async def up(self, *, within_s: float = 60.0) -> None:
        """Wait until broker events are live and nothing is gated."""
        await until(
            lambda: self.feed is FeedStatus.UP and not self.belief.entries_gated,
            within_s=within_s,
            told="a live and proven feed",
        )

    async def ends(self) -> BaseException:
        """Wait until the house has ended by itself; what it raised, which is then as it should be."""
        await asyncio.wait([self.task])
        self.expected = self.task.exception()
        assert self.expected is not None
        return self.expected

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
        """Submit one order and wait until the broker has said that it works, by stream and by reply."""
        order = await self.submit(**terms)
        await until(lambda: order.status == "NEW", told="a working order")
        await VirtualClock().sleep(0.1)
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
async def exchange(*, seed: int = 1, **terms: Any) -> AsyncIterator[InProcess]:
    """An exchange that lives on its own, for houses that come and go."""
    sim = InProcess(clock=VirtualClock(), seed=seed, **({"fill_model": BY_HAND} | terms))
    living = asyncio.create_task(sim.run())
    try:
        yield sim
    finally:
        living.cancel()
        await asyncio.wait([living])
    if not living.cancelled():
        living.result()


@asynccontextmanager
async def running(
    *,
    seed: int = 1,
    journal: Journal | None = None,
    sim: InProcess | None = None,
    symbols: tuple[Symbol, ...] = (),
    exchange_terms: dict[str, Any] | None = None,
    **parts: Any,
) -> AsyncIterator[Scene]:
    """A house that runs beside its exchange; stopped in order when left, unless it has ended by itself.

    `sim` is handed in for houses that share an exchange; `parts` take the place of what `Parts` would get otherwise.
    """
    if sim is None:
        async with (
            exchange(seed=seed, symbols=symbols, **(exchange_terms or {})) as own,
            running(seed=seed, journal=journal, sim=own, symbols=symbols, **parts) as scene,
        ):
            yield scene
        return
    journal = journal or MemoryJournal()
    bus = MemoryBus(f"bus-{journal.last_offset() + 1}")
    ready: asyncio.Future[House] = asyncio.get_running_loop().create_future()
    usual: dict[str, Any] = {
        "broker": sim.broker,
        "broker_feed": sim.orders,
        "quote_feed": sim.quotes if symbols else None,
        "journal": journal,
        "bus": bus,
        "clock": VirtualClock(),
        "jitter": random.Random(seed).random,
        "version": "test",
    }
    task = asyncio.create_task(run(Parts(**(usual | parts)), ready=ready.set_result))
    try:
        task.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if ready.cancelled():
            task.result()
        scene = Scene(sim=sim, house=ready.result(), journal=journal, bus=bus, task=task)
        yield scene
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not scene.expected:
        task.result()
