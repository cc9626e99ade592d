"""What every bus promises, written once and run for each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.redis_server import RedisServer

from trueup.bus.memory import MemoryBus
from trueup.bus.redis import RedisBus, RedisLink, RedisMirror, redis_subscriber
from trueup.core.views import (
    Channel,
    FeedReconnectedView,
    KillSwitchView,
    PortfolioView,
    QuotesView,
    QuoteView,
    View,
)
from trueup.errors import Busy, FeedEnded
from trueup.ports import Envelope, EventBus, Subscription
from trueup.runtime.clock import SystemClock

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)

BusMaker = Callable[..., Awaitable[EventBus]]


class Across:
    """A bus whose publishers and readers sit in different processes: what goes in at one end is read at the other."""

    def __init__(self, link: RedisLink, epoch: str, *, history: int = 1024, backlog: int = 4096) -> None:
        self.near = RedisBus(epoch, link, history=history)
        self.far = RedisMirror(link, history=history, backlog=backlog)
        self.work = [asyncio.ensure_future(self.near.run()), asyncio.ensure_future(redis_subscriber(link, self.far))]

    @property
    def epoch(self) -> str:
        return self.far.epoch

    def publish(self, channel: str, view: View, at: datetime) -> None:
        self.near.publish(channel, view, at)

    def subscribe(self) -> Subscription:
        return self.far.subscribe()

    def cursors(self) -> Mapping[str, int]:
        return self.far.cursors()

    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None:
        return self.far.since(channel, offset)

    async def settle(self) -> None:
        """Until the far end has all that was published, and knows who publishes."""
        async with asyncio.timeout(30):
            while self.far.epoch != self.near.epoch or dict(self.far.cursors()) != dict(self.near.cursors()):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.near.close()
        await self.far.close()


async def settle(bus: EventBus) -> None:
    """Until what was published has arrived; at once, where one publishes into one's own process."""
    if isinstance(bus, Across):
        await bus.settle()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.external_service),
        pytest.param("across redis", marks=pytest.mark.external_service),
    ]
)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Awaitable[EventBus]]]:
    kind: str = request.param
    working: list[asyncio.Future[object]] = []

    async def made(epoch: str, **how: int) -> EventBus:
        if kind == "memory":
            return MemoryBus(epoch, **how)
        server: RedisServer = request.getfixturevalue("redis_server")
        link = RedisLink(url=server.url, clock=SystemClock(), jitter=lambda: 0.5)
        if kind == "redis":
            bus = RedisBus(epoch, link, **how)
            working.append(asyncio.ensure_future(bus.run()))
            return bus
        across = Across(link, epoch, **how)
        working.extend(across.work)
        await across.settle()
        return across

    if kind != "memory":
        request.getfixturevalue("redis_server")
    yield made
    for work in working:
        work.cancel()
    await asyncio.gather(*working, return_exceptions=True)


def reconnected(count: int) -> View:
    return FeedReconnectedView(timestamp=NOON, symbol_count=count)


def quotes(price: int) -> View:
    return QuotesView(quotes=(QuoteView(symbol="AAPL", bid=Decimal(price), ask=Decimal(price), at=NOON),))


async def take(subscription: Subscription, count: int) -> list[Envelope]:
    async with asyncio.timeout(20):
        return [await subscription.get() for _ in range(count)]


async def has_nothing(subscription: Subscription) -> bool:
    waiting = asyncio.ensure_future(subscription.get())
    for _ in range(5):
        await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return not done


async def test_offsets_are_contiguous_per_channel(make: BusMaker) -> None:
    bus = await make("epoch-1")
    subscription = bus.subscribe()
    for count in range(3):
        bus.publish(Channel.FEED_RECONNECTED, reconnected(count), NOON)
    bus.publish(
        Channel.RISK_KILL_SWITCH, KillSwitchView(action="activate", reason="x", operator="human", timestamp=NOON), NOON
    )
    got = await take(subscription, 4)
    assert [(envelope.channel, envelope.offset) for envelope in got] == [
        ("system:feed:reconnected", 1),
        ("system:feed:reconnected", 2),
        ("system:feed:reconnected", 3),
        ("risk:kill_switch", 1),
    ]
    assert {envelope.epoch for envelope in got} == {"epoch-1"}
    assert bus.cursors() == {"system:feed:reconnected": 3, "risk:kill_switch": 1}


async def test_the_body_is_the_view_as_json(make: BusMaker) -> None:
    bus = await make("e")
    subscription = bus.subscribe()
    later = NOON + timedelta(microseconds=7)
    bus.publish(Channel.FEED_RECONNECTED, reconnected(503), later)
    (envelope,) = await take(subscription, 1)
    assert envelope.at == later
    assert json.loads(envelope.body) == {
        "timestamp": "2026-03-12T12:00:00Z",
        "symbol_count": 503,
        "feed": "market_data",
    }


async def test_everyone_hears_what_follows_their_subscription(make: BusMaker) -> None:
    bus = await make("e")
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    await settle(bus)
    early = bus.subscribe()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(2), NOON)
    await settle(bus)
    late = bus.subscribe()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(3), NOON)
    assert [envelope.offset for envelope in await take(early, 2)] == [2, 3]
    assert [envelope.offset for envelope in await take(late, 1)] == [3]
    assert await has_nothing(early)


async def test_a_waiting_reader_is_woken(make: BusMaker) -> None:
    bus = await make("e")
    subscription = bus.subscribe()
    waiting = asyncio.create_task(subscription.get())
    await asyncio.sleep(0)
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    async with asyncio.timeout(20):
        assert (await waiting).offset == 1


async def test_a_cancelled_wait_loses_nothing(make: BusMaker) -> None:
    bus = await make("e")
    subscription = bus.subscribe()
    assert await has_nothing(subscription)
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    assert [envelope.offset for envelope in await take(subscription, 1)] == [1]


async def test_only_the_newest_of_a_state_waits(make: BusMaker) -> None:
    bus = await make("e", backlog=3)
    subscription = bus.subscribe()
    for price in range(1, 101):
        bus.publish(Channel.MARKET_QUOTES, quotes(price), NOON)
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    await settle(bus)
    first, second = await take(subscription, 2)
    assert (first.channel, first.offset) == ("market:quotes", 100)
    assert json.loads(first.body)["quotes"][0]["bid"] == 100
    assert (second.channel, second.offset) == ("system:feed:reconnected", 1)
    assert await has_nothing(subscription)


async def test_a_log_that_overflows_ends_its_reader_and_nobody_else(make: BusMaker) -> None:
    bus = await make("e", backlog=3)
    slow, quick = bus.subscribe(), bus.subscribe()
    for count in range(1, 6):
        bus.publish(Channel.FEED_RECONNECTED, reconnected(count), NOON)
        assert [envelope.offset for envelope in await take(quick, 1)] == [count]
    for _ in range(2):
        with pytest.raises(Busy, match="snapshot"):
            await slow.get()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(6), NOON)
    assert [envelope.offset for envelope in await take(quick, 1)] == [6]
    await settle(bus)
    again = bus.subscribe()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(7), NOON)
    assert [envelope.offset for envelope in await take(again, 1)] == [7]


async def test_states_never_end_a_reader(make: BusMaker) -> None:
    bus = await make("e", backlog=1)
    subscription = bus.subscribe()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    for price in range(10):
        bus.publish(Channel.MARKET_QUOTES, quotes(price), NOON)
    await settle(bus)
    assert [(e.channel, e.offset) for e in await take(subscription, 2)] == [
        ("system:feed:reconnected", 1),
        ("market:quotes", 10),
    ]


async def test_what_was_missed_can_be_asked_for(make: BusMaker) -> None:
    bus = await make("e", history=3)
    assert bus.since(Channel.FEED_RECONNECTED, 0) == []
    for count in range(1, 6):
        bus.publish(Channel.FEED_RECONNECTED, reconnected(count), NOON)
    await settle(bus)

    def offsets(after: int) -> list[int] | None:
        missed = bus.since(Channel.FEED_RECONNECTED, after)
        return None if missed is None else [envelope.offset for envelope in missed]

    assert offsets(5) == []
    assert offsets(2) == [3, 4, 5]
    assert offsets(1) is None
    assert offsets(6) is None
    assert offsets(-1) is None


async def test_a_view_that_cannot_be_encoded_does_not_reach_the_publisher(
    make: BusMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await make("e")
    subscription = bus.subscribe()
    broken = PortfolioView(
        total_equity=Decimal("NaN"),
        cash=None,
        positions_value=None,
        daily_pnl=None,
        daily_pnl_pct=None,
        total_pnl=None,
        total_pnl_pct=None,
        max_drawdown_pct=None,
    )
    bus.publish(Channel.PORTFOLIO_UPDATE, broken, NOON)
    bus.publish(Channel.PORTFOLIO_UPDATE, object(), NOON)  # type: ignore[arg-type]
    assert "PortfolioView" in caplog.text
    assert "NaN" in caplog.text
    assert await has_nothing(subscription)
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    assert [envelope.offset for envelope in await take(subscription, 1)] == [1]


async def test_a_closed_subscription_gives_what_it_has_and_ends(make: BusMaker) -> None:
    bus = await make("e")
    closed, other = bus.subscribe(), bus.subscribe()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(1), NOON)
    await settle(bus)
    closed.close()
    bus.publish(Channel.FEED_RECONNECTED, reconnected(2), NOON)
    assert [envelope.offset for envelope in await take(closed, 1)] == [1]
    with pytest.raises(FeedEnded):
        await closed.get()
    assert [envelope.offset for envelope in await take(other, 2)] == [1, 2]


async def test_closing_the_bus_wakes_every_reader(make: BusMaker) -> None:
    bus = await make("e")
    waiting = asyncio.create_task(bus.subscribe().get())
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(FeedEnded):
        async with asyncio.timeout(20):
            await waiting
