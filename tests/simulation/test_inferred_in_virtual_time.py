"""Shares that are believed and not explained get their executions within seconds, however old their order is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.runtime.scene import Scene, broker_id_of, running, until

from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.core.orders import Order


def held(order: Order) -> list[tuple[int, bool]]:
    return [(int(item.execution.quantity), item.busted) for item in order.leg.executions.values()]


async def later(scene: Scene, minutes: int) -> None:
    """Time passes, and the stream has just told of something else, so that it is not taken for mute since long ago."""
    await VirtualClock().sleep(60 * minutes + 30)
    await scene.working()


async def loses(scene: Scene, order: Order, quantity: int) -> None:
    """A fill that the live stream never tells."""
    scene.sim.fault("trade_updates", "lose", count=1, seconds=5)
    scene.fill(order, quantity)
    await VirtualClock().sleep(0.5)


@pytest.mark.parametrize("minutes", [0, 30])
def test_a_fill_that_a_live_stream_lost_is_found_by_its_own_name(minutes: int) -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.fill(order, 10)
            await later(scene, minutes)
            await loses(scene, order, 20)
            scene.fill(order, 5)
            await until(lambda: order.leg.residual == 20, told="a hole")
            await until(lambda: order.leg.residual == 0, within_s=8, told="the execution that was lost")
            assert sorted(held(order)) == [(5, False), (10, False), (20, False)]

    run_virtual(main())


@pytest.mark.parametrize("minutes", [1, 30])
def test_an_old_execution_whose_bust_was_never_told_is_found(minutes: int) -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            for quantity in (30, 40):
                scene.fill(order, quantity)
                await VirtualClock().sleep(0.5)
            gone = scene.sim.exchange.view().executions()[0]
            await later(scene, minutes)
            scene.sim.fault("trade_updates", "lose", count=1, seconds=5)
            scene.sim.act(lambda exchange, at: exchange.bust(gone.id, at))
            await until(lambda: order.filled == Decimal(40), told="the smaller total, by a poll")
            await until(lambda: order.leg.residual == 0, within_s=10, told="the execution that is gone")
            assert held(order) == [(30, True), (40, False)]
            assert scene.belief.book(order.symbol).quantity == 40
            assert broker_id_of(order) not in scene.belief.inferred

    run_virtual(main())
