"""The bus through a real Redis: what others see there, what strangers may say, and what survives its absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import redis.asyncio
from tests.redis_server import RedisServer

from trueup.bus import redis as bus_redis
from trueup.bus.memory import MemorySubscription
from trueup.bus.redis import ForeignVoices, RedisBus, RedisLink, RedisMirror, redis_subscriber
from trueup.core.views import Channel, FeedReconnectedView, PortfolioView, QuotesView, QuoteView
from trueup.errors import BadInput
from trueup.ports import Envelope
from trueup.runtime.clock import SystemClock

pytestmark = pytest.mark.external_service

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
SECONDS = 30

PORTFOLIO = PortfolioView(
    total_equity=Decimal("25000.00"),
    cash=Decimal("5000.00"),
    positions_value=Decimal("20000.00"),
    daily_pnl=None,
    daily_pnl_pct=None,
    total_pnl=None,
    total_pnl_pct=None,
    max_drawdown_pct=None,
)


class QuickClock(SystemClock):
    """Counts the pauses that are asked for, and makes them short."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(min(seconds, 0.05))


def link_to(server: RedisServer, clock: SystemClock | None = None) -> RedisLink:
    return RedisLink(url=server.url, clock=clock or QuickClock(), jitter=lambda: 0.5)


@asynccontextmanager
async def working(*work: Awaitable[object]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def take(subscription: MemorySubscription, count: int) -> list[Envelope]:
    async with asyncio.timeout(SECONDS):
        return [await subscription.get() for _ in range(count)]


def say(bus: RedisBus, *numbers: int) -> None:
    for number in numbers:
        bus.publish(Channel.FEED_RECONNECTED, FeedReconnectedView(timestamp=NOON, symbol_count=number), NOON)


def numbers(envelopes: list[Envelope]) -> list[int]:
    return [json.loads(envelope.body)["symbol_count"] for envelope in envelopes]


# --- what others see, and say ---


async def test_a_subscriber_of_redis_sees_the_documented_payload(redis_server: RedisServer) -> None:
    bus = RedisBus("e1", link_to(redis_server))
    client = redis.asyncio.Redis.from_url(redis_server.url)
    async with client, client.pubsub() as listener, working(bus.run()):
        await listener.subscribe("portfolio:update")
        assert (await listener.get_message(timeout=SECONDS))["type"] == "subscribe"
        bus.publish(Channel.PORTFOLIO_UPDATE, PORTFOLIO, NOON)
        message = await listener.get_message(timeout=SECONDS)
    assert message["channel"] == b"portfolio:update"
    told = json.loads(message["data"])
    assert (told["total_equity"], told["cash"], told["positions_value"]) == (25000.00, 5000.00, 20000.00)
    assert b'"total_equity":25000.00' in message["data"]
    assert "epoch" not in told
    assert "offset" not in told


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            '{"total_equity": 26000, "cash": 6000, "positions_value": 20000}',
            {"total_equity": 26000, "cash": 6000, "positions_value": 20000},
        ),
        ("not json", {"raw": "not json"}),
        ('{"a": NaN}', {"raw": '{"a": NaN}'}),
        ("", {"raw": ""}),
        ("[" * 100_000, {"raw": "[" * (64 * 1024)}),
    ],
)
async def test_what_anybody_publishes_is_passed_on_without_a_number(
    redis_server: RedisServer, said: str, shown: object
) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    async with working(near.run(), redis_subscriber(link, far), redis_subscriber(link, ForeignVoices(near))):
        await until(lambda: far.epoch == "e1")
        here, there = near.subscribe(), far.subscribe()
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            while await client.publish("portfolio:update", said) < 2:  # noqa: ASYNC110 - both must listen
                await asyncio.sleep(0.01)
        for subscription in (here, there):
            (heard,) = await take(subscription, 1)
            assert (heard.channel, heard.epoch, heard.offset) == ("portfolio:update", "", 0)
            assert json.loads(heard.body) == shown
        assert "portfolio:update" not in far.cursors()


async def test_our_own_words_come_back_to_nobody(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    async with working(near.run(), redis_subscriber(link, far), redis_subscriber(link, ForeignVoices(near))):
        await until(lambda: far.epoch == "e1")
        here, there = near.subscribe(), far.subscribe()
        say(near, *range(1, 201))
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            for _ in range(5):
                await client.publish("system:feed:reconnected", '{"symbol_count": 0}')
        for subscription in (here, there):
            heard = await take(subscription, 205)
            assert numbers([each for each in heard if each.epoch]) == list(range(1, 201))
            assert numbers([each for each in heard if not each.epoch]) == [0] * 5
            assert len(subscription) == 0


# --- while Redis is away ---


async def test_nothing_of_a_log_is_lost_or_repeated_when_redis_is_killed(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    reasons: list[str] = []
    near.on_reason = reasons.append
    async with working(near.run(), redis_subscriber(link, far)):
        await until(lambda: far.epoch == "e1")
        there = far.subscribe()
        say(near, *range(1, 51))
        assert numbers(await take(there, 50)) == list(range(1, 51))
        redis_server.kill()
        say(near, *range(51, 101))
        await until(lambda: bool(near.reason and far.reason))
        say(near, *range(101, 151))
        assert near.depth >= 50
        assert near.since("system:feed:reconnected", 149) is not None  # its own dashboards go on
        redis_server.start()
        assert numbers(await take(there, 100)) == list(range(51, 151))
        await until(lambda: not near.reason and not far.reason)
        say(near, 151)
        assert numbers(await take(there, 1)) == [151]
    assert any("Redis is away" in reason for reason in reasons)
    assert reasons[-1] == ""
    late = RedisMirror(link)
    async with working(redis_subscriber(link, late)):
        await until(lambda: late.cursors() == {"system:feed:reconnected": 151})
        missed = late.since("system:feed:reconnected", 0)
        assert missed is not None
        assert numbers(list(missed)) == list(range(1, 152))


async def test_of_a_state_only_the_newest_waits_for_redis(redis_server: RedisServer) -> None:
    redis_server.kill()
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    for price in range(1, 1001):
        view = QuotesView(quotes=(QuoteView(symbol="A", bid=Decimal(price), ask=Decimal(price), at=NOON),))
        near.publish(Channel.MARKET_QUOTES, view, NOON)
    assert near.depth == 1
    there = far.subscribe()
    async with working(near.run(), redis_subscriber(link, far)):
        redis_server.start()
        await until(lambda: far.cursors().get("market:quotes") == 1000)
    del there


async def test_more_than_may_wait_begins_anew_and_says_so(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_redis, "WAITING_MAX", 20)
    link = link_to(redis_server)
    near, far = RedisBus("e1", link, history=10), RedisMirror(link, history=10)
    reasons: list[str] = []
    near.on_reason = reasons.append
    async with working(near.run(), redis_subscriber(link, far)):
        await until(lambda: far.epoch == "e1")
        say(near, 1)
        await until(lambda: far.cursors() == near.cursors() and not near.depth)
        # All in one turn of the loop: nothing leaves meanwhile, Redis keeps what it has, and the hole is a real one.
        say(near, *range(2, 400))
        await until(lambda: far.cursors() == near.cursors())
        await until(lambda: reasons[-1:] == [""])
        missed = far.since("system:feed:reconnected", 395)
        assert missed is not None
        assert numbers(list(missed)) == [396, 397, 398, 399]
        assert far.since("system:feed:reconnected", 1) is None
    assert any("has a hole behind 1; its history begins anew" in reason for reason in reasons)


async def test_an_absent_redis_is_not_asked_in_a_loop(redis_server: RedisServer) -> None:
    redis_server.kill()
    clock = QuickClock()
    link = RedisLink(url=redis_server.url, clock=clock, jitter=lambda: 1.0)
    near = RedisBus("e1", link)
    async with working(near.run()):
        await until(lambda: len(clock.pauses) >= 9)
    assert clock.pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    clock.pauses.clear()
    impatient = RedisBus("e2", RedisLink(url=redis_server.url, clock=clock, jitter=lambda: 0.0))
    async with working(impatient.run()):
        await until(lambda: len(clock.pauses) >= 3)
    assert min(clock.pauses) > 0


async def test_a_second_runtime_silences_the_first(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    first, second, far = RedisBus("e1", link), RedisBus("e2", link), RedisMirror(link)
    async with working(first.run(), redis_subscriber(link, far)):
        await until(lambda: far.epoch == "e1" and not first.reason)
        say(first, 1)
        await until(lambda: bool(far.cursors()))
        async with working(second.run()):
            await until(lambda: far.epoch == "e2")
            assert far.cursors() == {}
            say(second, 7)
            await until(lambda: far.cursors() == {"system:feed:reconnected": 1})
            say(first, 2)
            await until(lambda: "another trueup" in first.reason)
            assert far.cursors() == {"system:feed:reconnected": 1}


async def test_the_last_words_leave_when_the_bus_closes(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    say(near, 1, 2, 3)
    await near.close()
    async with working(redis_subscriber(link, far)):
        await until(lambda: far.cursors() == {"system:feed:reconnected": 3})


async def test_a_gateway_begins_from_the_snapshot_that_the_runtime_left(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    near.picture = lambda: PORTFOLIO
    async with working(near.run()):
        say(near, 1, 2)
        async with working(redis_subscriber(link, far)):
            await until(lambda: far.picture() is not None)
            taken = far.picture()
            assert taken is not None
            envelope, cursors = taken
            assert (envelope.channel, envelope.epoch, envelope.offset) == ("system:snapshot", "e1", 0)
            assert json.loads(envelope.body)["cash"] == 5000
            assert set(cursors) <= {"system:feed:reconnected"}


async def test_rubbish_among_the_heads_harms_nobody(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    near, far = RedisBus("e1", link), RedisMirror(link)
    async with working(near.run(), redis_subscriber(link, far)):
        await until(lambda: far.epoch == "e1")
        there = far.subscribe()
        for rubbish in ("", "e1\nx", "e1\na b c", "\udc80", "e9\nrisk:alert 5 2026-03-12T12:00:00+00:00"):
            async with redis.asyncio.Redis.from_url(redis_server.url) as client:
                await client.publish("trueup:heads", rubbish.encode("utf-8", "surrogateescape"))
        say(near, 1, 2)
        assert numbers(await take(there, 2)) == [1, 2]
        assert far.epoch == "e1"


def test_an_address_that_is_none() -> None:
    link = RedisLink(url="http://127.0.0.1", clock=SystemClock(), jitter=lambda: 0.5)
    with pytest.raises(BadInput, match="redis://") as refused:
        link.client()
    assert refused.value.field == "redis_url"
