"""How a stream is opened, believed, lost and opened again."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal as D
from itertools import pairwise
from typing import Any

from tests.runtime.scene import AAPL, MSFT, Scene, exchange, running

from trueup.chaos.virtual import VirtualClock, run_virtual, until
from trueup.core.events import FeedAcknowledged, FeedLost, FeedRestored, OrderReported, SnapshotFailed, SnapshotTaken
from trueup.core.model import FeedName, FeedStatus, OrderStatus, TradingState
from trueup.errors import BadCredentials, FeedEnded
from trueup.ports import FeedItem
from trueup.runtime.feeds import STABLE_S
from trueup.simulator.model import OrderRequest, OrderType, Side, TimeInForce


def losses(scene: Scene, feed: FeedName = FeedName.BROKER_EVENTS) -> list[str]:
    return [item.reason for item in scene.inputs if isinstance(item, FeedLost) and item.feed is feed]


def by_a_stranger(scene: Scene, quantity: int = 7) -> None:
    """Another client of the account places an order."""
    terms = OrderRequest(
        symbol=MSFT,
        side=Side.BUY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        qty=D(quantity),
        limit_price=D(100),
    )
    scene.sim.act(lambda market, at: market.submit(terms, at, is_external=True))


# --- opening ---


def test_a_stream_is_believed_only_after_acknowledgement_and_snapshot() -> None:
    async def main() -> None:
        async with running() as scene:
            assert scene.belief.entries_gated
            await until(lambda: scene.feed is FeedStatus.RESTORING)
            assert scene.belief.trading_state is TradingState.REDUCE_ONLY
            await scene.up()
            assert scene.names == ["RuntimeStarted", "FeedAcknowledged", "SnapshotTaken", "FeedRestored"]
            acknowledged, taken = scene.inputs[1], scene.inputs[2]
            assert isinstance(taken, SnapshotTaken)
            assert taken.snapshot.started_at >= acknowledged.at
            assert taken.reason == "stream start"

    run_virtual(main())


def test_events_that_come_during_the_snapshot_follow_it_in_order() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            before = scene.belief.offset
            scene.sim.fault("rest", "delay", seconds=60, by_seconds=3, match={"method": "GET"})
            scene.sim.orders.cut()
            await until(lambda: scene.feed is FeedStatus.RESTORING)
            for quantity in (10, 20, 30):
                await VirtualClock().sleep(0.5)
                scene.fill(order, quantity)
            assert order.filled == 0, "nothing is let through before the snapshot"
            await until(lambda: scene.feed is FeedStatus.UP)
            entries = [entry.input for entry in scene.journal.read(before)]
            kinds = [type(item).__name__ for item in entries if not isinstance(item, SnapshotTaken)]
            assert kinds == ["FeedLost", "FeedAcknowledged", *["OrderReported"] * 3, "FeedRestored"]
            place = next(n for n, item in enumerate(entries) if isinstance(item, OrderReported))
            assert isinstance(entries[place - 1], SnapshotTaken)
            reported = [item for item in entries if isinstance(item, OrderReported)]
            assert [item.report.filled_quantity for item in reported] == [10, 30, 60]
            assert reported[0].at < entries[place - 1].at, "they arrived before the snapshot did"
            assert order.filled == 60
            assert scene.belief.book(AAPL).quantity == 60

    run_virtual(main())


def test_what_happened_during_a_gap_is_learned_and_the_gap_closed() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            partly, wholly = await scene.working(), await scene.working()
            scene.sim.fault("trade_updates", "drop", seconds=10)
            await until(lambda: scene.feed is FeedStatus.DOWN)
            scene.fill(partly, 40)
            scene.fill(wholly, 100)
            by_a_stranger(scene)
            await scene.up()
            assert (partly.filled, wholly.status) == (D(40), OrderStatus.FILLED)
            assert [order.symbol for order in scene.belief.open_orders.values()] == [AAPL, MSFT]
            assert scene.belief.truth.open_gap is None
            assert scene.belief.truth.gaps[-1].missed == 2
            taken = [item for item in scene.inputs if isinstance(item, SnapshotTaken) and item.reason == "reconnect"]
            assert len(taken) == 1

    run_virtual(main())


def test_the_snapshot_is_asked_for_again_until_it_is_whole_while_events_are_held_back() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("rest", "error", seconds=12, match={"path": "/v2/positions"})
            scene.sim.orders.cut()
            await until(lambda: scene.feed is FeedStatus.RESTORING)
            scene.fill(order, 25)
            await VirtualClock().sleep(10)
            assert scene.feed is FeedStatus.RESTORING
            assert scene.belief.entries_gated
            await scene.up()
            assert order.filled == 25
            assert len(losses(scene)) == 1, "the stream itself was never lost again"
            failures = [item for item in scene.inputs if isinstance(item, SnapshotFailed)]
            assert 2 <= len(failures) <= 60

    run_virtual(main())


def test_more_events_than_can_be_held_back_open_the_stream_anew() -> None:
    async def main() -> None:
        async with running(held_back_limit=5) as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("rest", "delay", count=1, by_seconds=5, match={"path": "/v2/account/activities"})
            scene.sim.orders.cut()
            await until(lambda: scene.feed is FeedStatus.RESTORING)
            for _ in range(6):
                scene.fill(order, 1)
            await until(lambda: len(losses(scene)) == 2)
            assert losses(scene)[1] == "more than 5 events came while a snapshot was taken"
            await scene.up()
            assert order.filled == 6, "nothing was lost in silence"

    run_virtual(main())


# --- losing ---


def test_a_loss_is_told_once_however_often_opening_fails() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            fault = scene.sim.fault("trade_updates", "drop", seconds=60)
            await until(lambda: scene.feed is FeedStatus.DOWN)
            await scene.up(within_s=120)
            assert fault.hits >= 4
            assert losses(scene) == ["the connection was lost"]
            assert scene.belief.feeds[FeedName.BROKER_EVENTS].reconnect_count == 1

    run_virtual(main())


def test_a_stream_that_can_not_be_opened_at_the_start_says_so() -> None:
    async def main() -> None:
        async with exchange() as sim:
            sim.fault("trade_updates", "drop", seconds=20)
            async with running(sim=sim) as scene:
                await until(lambda: scene.belief.feeds[FeedName.BROKER_EVENTS].reason == "the connection was refused")
                await scene.up()

    run_virtual(main())


def test_unknown_keys_end_the_house_with_one_clear_error() -> None:
    async def main() -> None:
        async with exchange() as sim:
            sim.orders.forget_keys()
            async with running(sim=sim) as scene:
                error = await scene.ends()
                assert isinstance(error, BadCredentials)
                assert "does not know these keys" in str(error)
                assert len(losses(scene)) == 1

    run_virtual(main())


def test_a_mute_stream_is_found_out_and_opened_anew_at_once() -> None:
    async def main() -> None:
        async with running(jitter=lambda: 1.0) as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "mute", seconds=60)
            scene.fill(order, 100)
            await until(lambda: bool(losses(scene)), within_s=20, told="suspicion")
            assert order.status is OrderStatus.FILLED, "the poll has told"
            [lost] = [item for item in scene.inputs if isinstance(item, FeedLost)]
            await until(lambda: scene.feed is FeedStatus.UP)
            assert (scene.now() - lost.at).total_seconds() < 0.4, "without the usual pause"
            assert scene.sim.orders.connects == 2
            assert scene.belief.truth.gaps[-1].missed == 1
            assert "mute" in scene.belief.truth.gaps[-1].reason

    run_virtual(main())


# --- the pauses between tries ---


@dataclass
class Tries:
    """A stream that lives as long as it is told to, and the instants of all tries."""

    lives_s: deque[float]
    retry_after_s: float | None = None
    name: FeedName = FeedName.BROKER_EVENTS

    def __post_init__(self) -> None:
        self.at: list[float] = []
        self.ended: list[float] = []

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[FeedItem]]:
        clock = VirtualClock()
        self.at.append(clock.monotonic())
        life = self.lives_s.popleft() if self.lives_s else 0.0
        if not life:
            self.ended.append(clock.monotonic())
            raise FeedEnded("not today", retry_after_s=self.retry_after_s)
        yield self._for(life)

    async def _for(self, seconds: float) -> AsyncIterator[FeedItem]:
        await VirtualClock().sleep(seconds)
        self.ended.append(VirtualClock().monotonic())
        for _ in ():
            yield _
        raise FeedEnded("it was cut")


def pauses(tries: Tries) -> list[float]:
    """Seconds from each end to the next try."""
    return [round(begun - ended, 3) for ended, begun in zip(tries.ended, tries.at[1:], strict=False)]


async def trying(tries: Tries, jitter: Callable[[], float], *, seconds: float) -> None:
    async with exchange() as sim:
        sim.orders = tries  # type: ignore[assignment]
        async with running(sim=sim, jitter=jitter):
            await VirtualClock().sleep(seconds)


def test_pauses_double_up_to_their_cap() -> None:
    async def main() -> None:
        tries = Tries(deque())
        await trying(tries, lambda: 1.0, seconds=200)
        assert pauses(tries)[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    run_virtual(main())


def test_the_pause_that_the_broker_asked_for_is_the_least() -> None:
    async def main() -> None:
        tries = Tries(deque(), retry_after_s=90)
        await trying(tries, lambda: 0.0, seconds=300)
        assert pauses(tries) == [90, 90, 90]

    run_virtual(main())


def test_only_a_stable_life_makes_the_pauses_short_again() -> None:
    async def main() -> None:
        tries = Tries(deque([0, 0, 0, STABLE_S / 2, 0, STABLE_S + 1, 0]))
        await trying(tries, lambda: 1.0, seconds=150)
        assert pauses(tries)[:7] == [0.5, 1, 2, 4, 8, 0.5, 1]

    run_virtual(main())


def test_times_of_tries_differ_between_processes() -> None:
    async def main(seed: int) -> list[float]:
        tries = Tries(deque())
        async with exchange() as sim:
            sim.orders = tries  # type: ignore[assignment]
            async with running(sim=sim, seed=seed):
                await VirtualClock().sleep(60)
        return [later - earlier for earlier, later in pairwise(tries.at)]

    assert run_virtual(main(1)) == run_virtual(main(1))
    assert run_virtual(main(1)) != run_virtual(main(2))


# --- a feed with a bug ---


class Buggy:
    """A stream whose client falls over in its first life, right after the third event."""

    name = FeedName.BROKER_EVENTS

    def __init__(self, scene_orders: Any) -> None:
        self._orders = scene_orders
        self._is_first = True

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[FeedItem]]:
        async with self._orders.connect() as items:
            yield self._falling(items) if self._is_first else items

    async def _falling(self, items: AsyncIterator[FeedItem]) -> AsyncIterator[FeedItem]:
        self._is_first = False
        for _ in range(3):
            yield await anext(items)
        raise AttributeError("a bug")


def test_a_bug_in_a_stream_is_a_loss_like_any_other() -> None:
    async def main() -> None:
        async with exchange() as sim:
            sim.orders = Buggy(sim.orders)  # type: ignore[assignment]
            async with running(sim=sim) as scene:
                await scene.up()
                order = await scene.working()
                scene.fill(order, 5)
                await until(lambda: bool(losses(scene)), told="the loss")
                scene.fill(order, 6)
                await scene.up()
                assert order.filled == 11
                marks = [item for item in scene.inputs if isinstance(item, FeedLost | FeedRestored | FeedAcknowledged)]
                assert [type(mark).__name__ for mark in marks] == [
                    "FeedAcknowledged",
                    "FeedRestored",
                    "FeedLost",
                    "FeedAcknowledged",
                    "FeedRestored",
                ]

    run_virtual(main())


# --- market data ---


def test_quotes_are_kept_and_shown_but_never_journaled() -> None:
    async def main() -> None:
        async with running(symbols=(AAPL, MSFT)) as scene:
            reader = scene.bus.subscribe()
            await scene.up()
            await VirtualClock().sleep(10)
            assert set(scene.house.quotes.latest()) == {AAPL, MSFT}
            age = scene.now() - scene.house.quotes.last_message_at
            assert age.total_seconds() < 2
            assert not [name for name in scene.names if "Quote" in name]
            reader.close()
            shown = scene.bus.cursors()["market:quotes"]
            assert 10 <= shown <= 41, "at most four a second"
            up = scene.belief.feeds[FeedName.MARKET_DATA]
            assert (up.status, up.symbol_count) == (FeedStatus.UP, 2)

    run_virtual(main())


def test_the_loss_of_market_data_is_told_once_and_gates_nothing() -> None:
    async def main() -> None:
        async with running(symbols=(AAPL,)) as scene:
            await scene.up()
            scene.sim.fault("market_data", "drop", seconds=30)
            await until(lambda: scene.belief.feeds[FeedName.MARKET_DATA].status is FeedStatus.DOWN)
            assert not scene.belief.entries_gated
            await until(lambda: scene.belief.feeds[FeedName.MARKET_DATA].status is FeedStatus.UP)
            assert len(losses(scene, FeedName.MARKET_DATA)) == 1
            assert losses(scene) == []

    run_virtual(main())
