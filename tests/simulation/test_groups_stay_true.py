"""Another client's order groups, over the wire: what the stream does not tell is learned by asking.

The real runtime with Alpaca's adapter runs beside the simulated exchange; the vendor's own client, which our code knows
nothing of, sends the groups. At the end belief has to equal the exchange's books, order by order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal as D
from typing import Any

import pytest
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, TimeInForce
from alpaca.trading.requests import (
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLossRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)

from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.rest import ClientOptions
from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.bus.memory import MemoryBus
from trueup.chaos.checkers import every_execution_is_held_once
from trueup.chaos.violation import Violation
from trueup.core.belief import Belief
from trueup.core.model import BrokerOrderId, FeedName, FeedStatus, OrderStatus
from trueup.core.orders import Order
from trueup.journal.memory import MemoryJournal
from trueup.runtime.clock import SystemClock
from trueup.runtime.reconciler import Intervals
from trueup.runtime.run import House, Parts, run
from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.broker import STATUS
from trueup.simulator.exchange import Exchange
from trueup.simulator.model import AccountRules, FillModel
from trueup.simulator.model import Order as TheirOrder
from trueup.simulator.model import Status as TheirStatus

PROMPT = FillModel(
    ack_latency_ms=0, fill_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, partial_probability=0
)
NEVER = Intervals(orders_s=600, orders_doubtful_s=600, positions_s=600, full_s=600)
POLLED = Intervals(orders_s=0.2, orders_doubtful_s=0.2, positions_s=600, full_s=600)
RECONCILED = Intervals(orders_s=600, orders_doubtful_s=600, positions_s=600, full_s=0.2)


@dataclass
class Scene:
    """A running house, the exchange under it, and the client of somebody else."""

    sim: SimulatorServer
    house: House
    other: TradingClient

    @property
    def belief(self) -> Belief:
        return self.house.sequencer.belief

    @property
    def exchange(self) -> Exchange:
        return self.sim.world.exchange

    def price(self, value: str) -> None:
        """Put AAPL at a price and keep it there."""
        self.sim.world.move("AAPL", D(value), 3600)

    def cut(self) -> None:
        """Cut the stream and let nobody in."""
        self.sim.world.faults.add({"target": "trade_updates", "kind": "refuse", "seconds": 600})
        assert self.sim._trade_updates is not None
        self.sim._trade_updates.cut()

    def heal(self) -> None:
        """Let the stream in again."""
        self.sim.world.faults.clear()

    async def send(self, request: Any) -> Any:
        """Have the other client send an order; as the exchange answers it."""
        return await asyncio.to_thread(self.other.submit_order, request)

    def of(self, order: Any) -> Order:
        """What is believed of one of the exchange's orders."""
        return self.belief.orders[self.belief.by_broker[BrokerOrderId(str(order.id))].order_id]

    def is_up(self) -> bool:
        feed = self.belief.feeds[FeedName.BROKER_EVENTS].status
        return feed is FeedStatus.UP and self.belief.truth.open_gap is None

    def is_true(self) -> bool:
        """Belief equals the books, each execution is held once, and nothing gates."""
        return not self.differences() and self.is_up() and not self.belief.entries_gated

    def differences(self) -> list[str]:
        """Where belief and the exchange's books differ."""
        view, found = self.exchange.view(), []
        for order in view.orders():
            leg = self.belief.by_broker.get(BrokerOrderId(order.id))
            if leg is None or leg.status not in self.expected(order) or leg.filled != order.filled_qty:
                ours = None if leg is None else (leg.status, leg.filled)
                found.append(f"{order.type} {order.id} is {ours}, the books say {order.status} {order.filled_qty}")
        ours_held = {str(symbol): book.quantity for symbol, book in self.belief.books.items() if book.quantity}
        theirs_held = {symbol: position.qty for symbol, position in view.positions().items()}
        if ours_held != theirs_held:
            found.append(f"positions are {ours_held}, the books say {theirs_held}")
        if self.belief.cash != view.cash():
            found.append(f"cash is {self.belief.cash}, the books say {view.cash()}")
        try:
            every_execution_is_held_once(self.belief, self.exchange)
        except Violation as violation:
            found.append(str(violation))
        return found

    def expected(self, order: TheirOrder) -> tuple[OrderStatus, ...]:
        """How one of the exchange's orders may be believed; by either word one that its sibling replaced is over."""
        if order.status is TheirStatus.REPLACED:
            assert order.replaced_by is not None
            if self.exchange.order(order.replaced_by).replaces != order.id:
                return OrderStatus.CANCELED, OrderStatus.REPLACED
        return (STATUS[order.status],)

    def statuses(self) -> list[str]:
        """The exchange's orders, oldest first."""
        return [order.status.value for order in self.exchange.view().orders()]


async def until(holds: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited 60 s for {told}"
        await asyncio.sleep(0.01)


async def true(scene: Scene) -> None:
    """Wait until belief equals the books; says what differs when it never does."""
    deadline = time.monotonic() + 60
    while not scene.is_true():
        assert time.monotonic() < deadline, scene.differences()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(intervals: Intervals = NEVER, **settings: Any) -> AsyncIterator[Scene]:
    config = SimulatorConfig(rate_limit=0, fill_model=PROMPT, tick_seconds=0.05, **settings)
    async with SimulatorServer(config) as sim:
        sim.world.move("AAPL", D(200), 3600)
        clock = SystemClock()
        keys = {"key": "SIM", "secret": "SIM"}
        options = ClientOptions(requests_per_minute=0)
        parts = Parts(
            broker=AlpacaBroker(**keys, url=sim.url, clock=clock, options=options),
            broker_feed=TradingStream(**keys, url=sim.trade_updates_url, clock=clock),
            quote_feed=None,
            journal=MemoryJournal(),
            bus=MemoryBus("groups"),
            clock=clock,
            jitter=lambda: 0.5,
            version="test",
            intervals=intervals,
            backoff_cap_s=0.2,
        )
        houses: list[House] = []
        task = asyncio.create_task(run(parts, ready=houses.append))
        try:
            await until(lambda: bool(houses) or task.done(), "a house")
            other = TradingClient("SIM", "SIM", paper=True, url_override=sim.url)
            running = Scene(sim, houses[0], other)
            await until(lambda: running.is_up() or task.done(), "a proven feed")
            yield running
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def bracket(kind: type = MarketOrderRequest, **more: Any) -> Any:
    terms = {
        "symbol": "AAPL",
        "qty": 10,
        "side": OrderSide.BUY,
        "time_in_force": TimeInForce.GTC,
        "order_class": OrderClass.BRACKET,
        "take_profit": TakeProfitRequest(limit_price=210),
        "stop_loss": StopLossRequest(stop_price=190),
    }
    return kind(**(terms | more))


WAYS = [
    pytest.param({}, "211", ["filled", "filled", "canceled"], id="take-profit"),
    pytest.param({}, "189", ["filled", "canceled", "filled"], id="stop"),
    pytest.param(
        {"rules": AccountRules(stop_replaces_target=True)},
        "189",
        ["filled", "replaced", "filled"],
        id="stop-replaces-take-profit",
    ),
    pytest.param({"held_is_open": False}, "211", ["filled", "filled", "canceled"], id="held-is-hidden"),
    pytest.param({"held_is_open": False}, "189", ["filled", "canceled", "filled"], id="hidden-stop"),
]


@pytest.mark.parametrize(("settings", "price", "ends"), WAYS)
async def test_a_leg_that_fills_in_a_gap_and_its_silent_sibling_are_learned(
    settings: dict[str, Any], price: str, ends: list[str]
) -> None:
    async with scene(**settings) as it:
        sent = await it.send(bracket())
        target, stop = sent.legs
        await until(lambda: it.belief.book("AAPL").quantity == 10, "the entry's fill")
        await until(lambda: BrokerOrderId(str(target.id)) in it.belief.by_broker, "the take-profit")
        it.cut()
        await until(lambda: not it.is_up(), "the cut to be noticed")
        it.price(price)
        assert it.statuses() == ends
        it.heal()
        await true(it)
        assert it.belief.book("AAPL").quantity == 0
        assert {it.of(leg).order_class for leg in (target, stop)} == {"bracket"}
        assert not it.belief.open_orders


@pytest.mark.parametrize(("settings", "price", "ends"), WAYS)
async def test_an_unbroken_stream_that_is_silent_about_the_sibling_is_asked_after(
    settings: dict[str, Any], price: str, ends: list[str]
) -> None:
    # A poll asks after what is open or known, and a held leg that the broker hides is neither.
    is_hidden = not settings.get("held_is_open", True)
    async with scene(RECONCILED if is_hidden else POLLED, **settings) as it:
        sent = await it.send(bracket())
        stop = BrokerOrderId(str(sent.legs[1].id))
        await until(lambda: it.belief.book("AAPL").quantity == 10, "the entry's fill")
        await until(lambda: stop in it.belief.by_broker, "the held stop")
        it.price(price)
        assert it.statuses() == ends
        await true(it)
        assert it.belief.book("AAPL").quantity == 0
        assert not it.belief.open_orders


async def test_a_stop_that_shrank_in_a_gap_is_believed_as_small_as_it_is() -> None:
    async with scene() as it:
        sent = await it.send(bracket())
        target, stop = sent.legs
        await until(lambda: it.belief.book("AAPL").quantity == 10, "the entry's fill")
        it.cut()
        await until(lambda: not it.is_up(), "the cut to be noticed")
        it.sim.world.act(lambda at: it.exchange.fill(str(target.id), at, qty=D(4)))
        it.heal()
        await true(it)
        assert (it.of(target).leaves, it.of(stop).leaves) == (6, 6)


async def test_a_whole_group_that_comes_and_goes_in_a_gap_is_learned() -> None:
    async with scene() as it:
        it.cut()
        await until(lambda: not it.is_up(), "the cut to be noticed")
        sent = await it.send(bracket(LimitOrderRequest, limit_price=200.5))
        await asyncio.to_thread(it.other.replace_order_by_id, sent.legs[1].id, ReplaceOrderRequest(stop_price=195))
        it.price("194")
        assert it.statuses() == ["filled", "canceled", "replaced", "filled"]
        it.heal()
        await true(it)
        for leg in sent.legs:
            assert it.of(leg).parent == str(sent.id)


async def test_an_entry_that_is_cancelled_takes_its_silent_legs_along() -> None:
    async with scene(POLLED) as it:
        sent = await it.send(bracket(LimitOrderRequest, limit_price=150, stop_loss=StopLossRequest(stop_price=140)))
        await until(lambda: BrokerOrderId(str(sent.legs[1].id)) in it.belief.by_broker, "the legs")
        await true(it)
        await asyncio.to_thread(it.other.cancel_order_by_id, sent.id)
        assert it.statuses() == ["canceled"] * 3
        await true(it)
        assert not it.belief.open_orders


async def test_an_oco_and_a_trailing_stop_are_kept_true() -> None:
    async with scene(POLLED) as it:
        await it.send(MarketOrderRequest(symbol="AAPL", qty=15, side=OrderSide.BUY, time_in_force=TimeInForce.DAY))
        await it.send(bracket(LimitOrderRequest, side=OrderSide.SELL, order_class=OrderClass.OCO))
        trailing = TrailingStopOrderRequest(
            symbol="AAPL", qty=5, side=OrderSide.SELL, time_in_force=TimeInForce.GTC, trail_price=4
        )
        sent = await it.send(trailing)
        await true(it)
        it.price("205")
        it.price("200")
        assert it.exchange.order(str(sent.id)).status == "filled"
        it.price("189")
        await true(it)
        assert it.belief.book("AAPL").quantity == 0
        assert it.statuses() == ["filled", "canceled", "filled", "filled"]
        assert not it.belief.open_orders
