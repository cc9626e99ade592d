"""The state channels: a picture soon after each change, never more than an eye can follow, and never silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from tests.runtime.scene import AAPL, Scene, running

from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.errors import FeedEnded
from trueup.ports import Envelope


class Seen:
    """Every envelope of the bus, with the instant at which it was read."""

    def __init__(self, scene: Scene) -> None:
        self._reader = scene.bus.subscribe()
        self.envelopes: list[tuple[float, Envelope]] = []

    async def read(self) -> None:
        try:
            while True:
                envelope = await self._reader.get()
                self.envelopes.append((VirtualClock().monotonic(), envelope))
        except FeedEnded:
            return

    def close(self) -> None:
        self._reader.close()

    def times(self, channel: str) -> list[float]:
        return [at for at, envelope in self.envelopes if envelope.channel == channel]

    def last(self, channel: str) -> object:
        bodies = [envelope.body for _, envelope in self.envelopes if envelope.channel == channel]
        return json.loads(bodies[-1])


@asynccontextmanager
async def watched(scene: Scene) -> AsyncIterator[Seen]:
    seen = Seen(scene)
    reading = asyncio.create_task(seen.read())
    yield seen
    seen.close()
    await reading


def test_health_is_never_silent() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            async with watched(scene) as seen:
                await VirtualClock().sleep(60)
                times = seen.times("system:health")
                assert len(times) >= 12
                assert max(later - earlier for earlier, later in pairwise(times)) <= 5
                assert seen.times("portfolio:update"), "its proof ages, so it is drawn again too"

    run_virtual(main())


def test_a_change_is_shown_soon_and_many_changes_are_one_picture() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working(quantity=1000)
            async with watched(scene) as seen:
                await VirtualClock().sleep(0.1)
                filled_at = VirtualClock().monotonic()
                for _ in range(200):
                    scene.fill(order, 1)
                    await VirtualClock().sleep(0.01)
                await VirtualClock().sleep(1)
                times = seen.times("portfolio:update")
                assert times[0] - filled_at <= 0.3
                assert all(later - earlier >= 0.24 for earlier, later in pairwise(times))
                assert 7 <= len([at for at in times if at <= filled_at + 2]) <= 9
                assert len(seen.times("trade:executed")) == 200, "a log loses nothing"
                last = seen.last("portfolio:update")
                assert isinstance(last, dict)
                assert [row["quantity"] for row in last["positions"]] == [200]

    run_virtual(main())


def test_a_fill_is_told_in_the_step_that_learned_it_and_not_with_the_next_picture() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            async with watched(scene) as seen:
                filled_at = VirtualClock().monotonic()
                scene.fill(order, 1)
                await VirtualClock().sleep(1)
                [told_at] = seen.times("trade:executed")
                assert told_at - filled_at < 0.02

    run_virtual(main())


def test_quotes_are_shown_at_most_four_times_a_second() -> None:
    async def main() -> None:
        async with running(symbols=(AAPL,), exchange_terms={"tick_seconds": 0.05}) as scene:
            await scene.up()
            async with watched(scene) as seen:
                await VirtualClock().sleep(10)
                times = seen.times("market:quotes")
                assert 30 <= len(times) <= 41
                shown = seen.last("market:quotes")
                assert isinstance(shown, dict)
                assert [row["symbol"] for row in shown["quotes"]] == ["AAPL"]

    run_virtual(main())
