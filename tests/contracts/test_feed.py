"""What every feed promises, written once and run for each of them.

An adapter is added to `RIGS`: something that opens a feed and can make it deliver, break and refuse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from trueup.brokers.alpaca.endpoints import endpoints
from trueup.brokers.alpaca.stock_data_stream import StockDataStream
from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.core.events import OrderReported
from trueup.core.model import FeedName, Quote, Symbol
from trueup.errors import BadCredentials, FeedEnded
from trueup.ports import Feed
from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.broker import InProcess
from trueup.simulator.model import OrderRequest, OrderType, Side, TimeInForce

GENEROUS_S = 30


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Rig:
    """A feed, and a hand on the server behind it."""

    feed: Feed[Any]
    stranger: Feed[Any]
    """The same feed with keys that the broker does not know."""
    name: FeedName
    kind: type
    """What it delivers."""
    make_one: Callable[[], Awaitable[None]]
    """Make something happen that it must deliver."""
    cut: Callable[[], Awaitable[None]]
    """Break its connection, and let nobody in any more."""
    mend: Callable[[], Awaitable[None]]
    """Let everybody in again."""


@asynccontextmanager
async def alpaca(target: str) -> AsyncIterator[Rig]:
    async with (
        SimulatorServer(SimulatorConfig(port=0, rate_limit=0, tick_seconds=0.05)) as sim,
        httpx.AsyncClient(base_url=sim.url, timeout=30) as http,
    ):
        at = endpoints(alpaca_url=sim.url)

        def feed(secret: str) -> Feed[Any]:
            if target == "trade_updates":
                return TradingStream(key="SIM", secret=secret, url=at.trading_stream, clock=RealClock())
            url, symbols = at.stock_data_stream, [Symbol("AAPL")]
            return StockDataStream(key="SIM", secret=secret, url=url, symbols=symbols, clock=RealClock())

        async def post(path: str, **body: Any) -> None:
            response = await http.post(path, json=body)
            assert response.status_code < 300, response.text

        async def make_one() -> None:
            if target == "trade_updates":
                await post("/sim/orders", symbol="AAPL", side="buy", qty="1")
            else:
                await post("/sim/price", symbol="AAPL", price="230")

        async def cut() -> None:
            await post("/sim/faults", target=target, kind="drop", seconds=600)

        async def mend() -> None:
            assert (await http.delete("/sim/faults")).status_code == 200

        is_orders = target == "trade_updates"
        name = FeedName.BROKER_EVENTS if is_orders else FeedName.MARKET_DATA
        yield Rig(feed("SIM"), feed("NOT-SIM"), name, OrderReported if is_orders else Quote, make_one, cut, mend)


@asynccontextmanager
async def in_process(target: str) -> AsyncIterator[Rig]:
    symbol = Symbol("AAPL")
    sim = InProcess(clock=RealClock(), seed=7, symbols=(symbol,), tick_seconds=0.05)
    _, orders, quotes = sim.faces()
    orders.forget_keys()
    quotes.forget_keys()

    async def make_one() -> None:
        if target == "trade_updates":
            terms = OrderRequest(
                symbol=symbol, side=Side.BUY, type=OrderType.MARKET, time_in_force=TimeInForce.DAY, qty=Decimal(1)
            )
            sim.act(lambda exchange, at: exchange.submit(terms, at, is_external=True))
        else:
            sim.world.move(symbol, Decimal(230), 0.0)

    async def cut() -> None:
        sim.fault(target, "drop", seconds=600)

    async def mend() -> None:
        sim.world.faults.clear()

    living = asyncio.create_task(sim.run())
    try:
        if target == "trade_updates":
            yield Rig(sim.orders, orders, FeedName.BROKER_EVENTS, OrderReported, make_one, cut, mend)
        else:
            yield Rig(sim.quotes, quotes, FeedName.MARKET_DATA, Quote, make_one, cut, mend)
    finally:
        living.cancel()
        await asyncio.wait([living])


RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "alpaca order events": lambda: alpaca("trade_updates"),
    "alpaca quotes": lambda: alpaca("market_data"),
    "order events in process": lambda: in_process("trade_updates"),
    "quotes in process": lambda: in_process("market_data"),
}


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with RIGS[request.param]() as opened:
        yield opened


async def following(items: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(GENEROUS_S):
        return await anext(items)


async def end_of(items: AsyncIterator[Any]) -> FeedEnded:
    try:
        async with asyncio.timeout(GENEROUS_S):
            async for _ in items:
                pass
    except FeedEnded as error:
        return error
    raise AssertionError("a feed never just stops")


async def refusal_of(feed: Feed[Any]) -> FeedEnded | BadCredentials:
    try:
        async with asyncio.timeout(GENEROUS_S), feed.connect():
            raise AssertionError("connected")
    except (FeedEnded, BadCredentials) as error:
        return error


async def test_a_feed_has_its_name(rig: Rig) -> None:
    assert rig.feed.name is rig.name


async def test_what_happens_once_it_is_connected_is_delivered(rig: Rig) -> None:
    async with rig.feed.connect() as items:
        await rig.make_one()
        assert isinstance(await following(items), rig.kind)


async def test_a_break_ends_it_with_a_reason(rig: Rig) -> None:
    async with rig.feed.connect() as items:
        await rig.cut()
        assert (await end_of(items)).reason.strip()


async def test_an_ended_feed_stays_ended(rig: Rig) -> None:
    async with rig.feed.connect() as items:
        await rig.cut()
        await end_of(items)
        await rig.mend()
        await rig.make_one()
        assert (await end_of(items)).reason


async def test_connecting_in_vain_ends_with_a_reason(rig: Rig) -> None:
    await rig.cut()
    error = await refusal_of(rig.feed)
    assert isinstance(error, FeedEnded)
    assert error.reason.strip()


async def test_one_feed_connects_again_and_again(rig: Rig) -> None:
    for _ in range(3):
        async with rig.feed.connect() as items:
            await rig.make_one()
            assert isinstance(await following(items), rig.kind)
        await rig.cut()
        assert isinstance(await refusal_of(rig.feed), FeedEnded)
        await rig.mend()


async def test_keys_that_are_refused_for_good_are_bad_credentials(rig: Rig) -> None:
    assert isinstance(await refusal_of(rig.stranger), BadCredentials)


async def test_an_error_of_the_consumer_passes_through_as_it_is(rig: Rig) -> None:
    with pytest.raises(ZeroDivisionError):
        async with rig.feed.connect():
            raise ZeroDivisionError


async def test_a_waiting_consumer_can_be_cancelled(rig: Rig) -> None:
    is_waiting = asyncio.Event()

    async def consume() -> None:
        async with rig.feed.connect() as items:
            is_waiting.set()
            async for _ in items:
                pass

    task = asyncio.create_task(consume())
    async with asyncio.timeout(GENEROUS_S):
        await is_waiting.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
