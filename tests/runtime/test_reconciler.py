"""When the broker is asked for its books, and that it is never asked twice at once."""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.runtime.scene import Scene, exchange, running

from trueup.chaos.virtual import VirtualClock, run_virtual, until
from trueup.core.commands import Reconcile
from trueup.core.events import SnapshotFailed, SnapshotTaken
from trueup.core.model import FeedStatus, OrderStatus, Snapshot, SnapshotScope, Source
from trueup.ports import SnapshotRequest
from trueup.runtime.reconciler import FIRST_FULL_S, Intervals
from trueup.simulator.broker import SimulatedBroker


def taken(scene: Scene, scope: SnapshotScope, *, since: datetime | None = None) -> list[SnapshotTaken]:
    return [
        item
        for item in scene.inputs
        if isinstance(item, SnapshotTaken) and item.snapshot.scope is scope and (since is None or item.at > since)
    ]


def gaps(items: list[SnapshotTaken]) -> list[float]:
    """Seconds between one snapshot and the next."""
    return [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(items)]


class Counting(SimulatedBroker):
    """A broker that notes what it is asked for, and how much at once."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self.__dict__ = broker.__dict__
        self.asked: list[SnapshotRequest] = []
        self.at_once = self.at_once_max = 0

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        self.asked.append(request)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            return await super().snapshot(request)
        finally:
            self.at_once -= 1


class Hanging(SimulatedBroker):
    """A broker whose lists of orders, asked for alone, never come while `hangs`."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self.__dict__ = broker.__dict__
        self.hangs = False
        self.hanging = self.given_up = 0

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        if self.hangs and request.scope is SnapshotScope.ORDERS:
            self.hanging += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        return await super().snapshot(request)


def test_open_orders_and_positions_are_asked_for_though_the_stream_is_up() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            await VirtualClock().sleep(290)
            orders, positions = taken(scene, SnapshotScope.ORDERS), taken(scene, SnapshotScope.POSITIONS)
            assert gaps(orders) == pytest.approx([10] * (len(orders) - 1), abs=1.1)
            assert gaps(positions) == pytest.approx([60] * (len(positions) - 1), abs=1.1)
            assert 26 <= len(orders) <= 29
            assert len(positions) == 4
            assert {item.source for item in orders + positions} == {Source.POLL}
            assert len(taken(scene, SnapshotScope.FULL)) == 1

    run_virtual(main())


def test_everything_is_compared_every_few_minutes() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            await VirtualClock().sleep(910)
            full = taken(scene, SnapshotScope.FULL)
            assert gaps(full) == pytest.approx([300, 300, 300], abs=1.1)
            assert {item.source for item in full} == {Source.RECONCILE}

    run_virtual(main())


def test_open_orders_are_asked_for_more_often_while_the_stream_is_down() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "drop", seconds=60)
            await until(lambda: scene.feed is FeedStatus.DOWN)
            lost_at = scene.now()
            scene.fill(order, 100)
            await until(lambda: order.status is OrderStatus.FILLED, within_s=3.5, told="the fill, by the poll")
            await VirtualClock().sleep(30)
            polls = taken(scene, SnapshotScope.ORDERS, since=lost_at)
            # one look at everything is among them, for the execution of what the poll found
            assert max(gaps(polls)) < 2 + 1.3
            assert sum(gaps(polls)) / (len(polls) - 1) == pytest.approx(2, abs=0.2)
            assert len(polls) >= 12
            (look,) = taken(scene, SnapshotScope.FULL, since=lost_at)
            assert look.reason == f"100 AAPL of order {order.order_id} are inferred"
            assert order.leg.residual == 0

    run_virtual(main())


def test_a_working_order_that_the_broker_no_longer_lists_as_open_is_asked_for_by_id() -> None:
    async def main() -> None:
        async with exchange() as sim:
            broker = Counting(sim.broker)
            async with running(sim=sim, broker=broker) as scene:
                await scene.up()
                order = await scene.working()
                await until(lambda: len(broker.asked) >= 2)
                assert broker.asked[-1].known == (order.leg.broker_order_id,)

    run_virtual(main())


def test_requests_that_wait_are_one() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            before = len(taken(scene, SnapshotScope.FULL))
            for number in range(5):
                scene.house.sequencer.offer(Reconcile(at=scene.now(), reason=f"asked {number}"))
            await VirtualClock().sleep(5)
            [once] = taken(scene, SnapshotScope.FULL)[before:]
            assert once.reason == "asked 0"

    run_virtual(main())


def test_a_request_made_during_a_snapshot_gets_one_that_begins_after_it() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "delay", seconds=60, by_seconds=1, match={"method": "GET"})
            before = len(taken(scene, SnapshotScope.FULL))
            await scene.house.sequencer.submit(Reconcile(at=scene.now(), reason="first"))
            await VirtualClock().sleep(1)
            asked = []
            for number in range(3):
                await scene.house.sequencer.submit(Reconcile(at=scene.now(), reason=f"later {number}"))
                asked.append(scene.now())
            await VirtualClock().sleep(30)
            first, second = taken(scene, SnapshotScope.FULL)[before:]
            assert first.snapshot.started_at < asked[0]
            assert second.snapshot.started_at > asked[-1]

    run_virtual(main())


def test_snapshots_never_overlap_whoever_asks() -> None:
    async def main() -> None:
        async with exchange() as sim:
            broker = Counting(sim.broker)
            async with running(sim=sim, broker=broker, intervals=Intervals(orders_s=1, positions_s=1)) as scene:
                await scene.up()
                sim.fault("rest", "delay", seconds=60, by_seconds=1, match={"method": "GET"})
                for _ in range(4):
                    sim.orders.cut()
                    await scene.house.sequencer.submit(Reconcile(at=scene.now()))
                    await VirtualClock().sleep(9)
                assert len(broker.asked) > 8
                assert broker.at_once_max == 1

    run_virtual(main())


def test_a_poll_gives_way_to_a_stream_that_waits_for_its_snapshot() -> None:
    """The answers of a poll hang; what the reopened stream needs does not wait for them, and nothing is left behind."""

    async def main() -> None:
        async with exchange() as sim:
            broker = Hanging(sim.broker)
            async with running(sim=sim, broker=broker, intervals=Intervals(orders_s=1)) as scene:
                await scene.up()
                broker.hangs = True
                await until(lambda: broker.hanging == 1, within_s=20)
                sim.orders.cut()
                await until(lambda: scene.feed is not FeedStatus.UP, within_s=20)
                await until(lambda: scene.feed is FeedStatus.UP, within_s=20)
                assert broker.hanging == broker.given_up == 1
                broker.hangs = False
                began = scene.now()
                await VirtualClock().sleep(5)
                assert taken(scene, SnapshotScope.ORDERS, since=began), "and polling goes on"

    run_virtual(main())


def test_a_failed_snapshot_is_said_to_have_failed_and_asked_for_again() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            fault = scene.sim.fault("rest", "error", seconds=10, match={"path": "/v2/account/activities"})
            await scene.house.sequencer.submit(Reconcile(at=scene.now(), reason="asked"))
            await until(lambda: any(isinstance(item, SnapshotFailed) for item in scene.inputs))
            assert scene.belief.truth.last_result.startswith("failed")
            await until(lambda: scene.belief.truth.last_result == "clean")
            assert 2 <= fault.hits <= 40, "again, but not in a tight loop"
            [once] = [item for item in taken(scene, SnapshotScope.FULL) if item.reason == "asked"]
            assert once.snapshot.executions == ()

    run_virtual(main())


def test_the_pause_that_a_limit_asks_for_is_kept() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            fault = scene.sim.fault("rest", "rate_limit", seconds=60, by_seconds=20, match={"method": "GET"})
            await VirtualClock().sleep(60)
            assert 1 <= fault.hits <= 3

    run_virtual(main())


def test_the_account_is_known_though_the_stream_can_not_be_opened() -> None:
    async def main() -> None:
        async with exchange() as sim:
            sim.fault("trade_updates", "refuse", seconds=600)
            async with running(sim=sim) as scene:
                await until(lambda: scene.belief.account_report is not None, within_s=10)
                assert scene.belief.entries_gated, "but nothing new may be risked on it"
                await VirtualClock().sleep(60)
                assert len(taken(scene, SnapshotScope.FULL)) == 1

    run_virtual(main())


def test_a_poll_that_another_snapshot_has_served_meanwhile_is_not_made() -> None:
    async def main() -> None:
        async with exchange() as sim:
            sim.fault("rest", "delay", seconds=20, by_seconds=2, match={"method": "GET"})
            async with running(sim=sim) as scene:
                await scene.up()
                assert VirtualClock().monotonic() > FIRST_FULL_S, "one was due while the stream's own was under way"
                await VirtualClock().sleep(60)
                assert len(taken(scene, SnapshotScope.FULL)) == 1
                assert scene.house.health.numbers().counters["restarts"] == 0

    run_virtual(main())


def test_what_asks_at_all_is_told_in_health() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "delay", seconds=10, by_seconds=1, match={"method": "GET"})
            await scene.house.sequencer.submit(Reconcile(at=scene.now()))
            await VirtualClock().sleep(0.5)
            scene.house.sequencer.offer(Reconcile(at=scene.now()))
            await VirtualClock().sleep(0.5)
            queues: dict[str, Any] = scene.house.health.numbers().queues
            assert queues["snapshots"] == 1

    run_virtual(main())
