"""A stop that meets a failure in the same breath is still a stop: nothing is started again, nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from tests.runtime.scene import running

from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.runtime.supervisor import Child, Supervisor


async def _fails_in_a_group() -> None:
    async def fails() -> None:
        await VirtualClock().sleep(1)
        raise ValueError("at the very moment of the stop")

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
        group.create_task(asyncio.Event().wait())


def test_a_child_that_fails_while_it_is_stopped_is_not_started_again() -> None:
    lives: list[float] = []

    async def start() -> None:
        lives.append(VirtualClock().monotonic())
        await _fails_in_a_group()

    async def main() -> None:
        supervisor = Supervisor(clock=VirtualClock(), jitter=lambda: 1.0)
        task = asyncio.create_task(supervisor.run([Child(name="child", start=start)]))
        await asyncio.sleep(1)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=60)
        assert done, "the supervisor goes on after it was stopped"
        assert task.cancelled()

    run_virtual(main())
    assert lives == [0.0]


@pytest.mark.parametrize("rounds", range(12))
def test_a_house_stops_though_its_stream_ends_in_the_same_moment(rounds: int) -> None:
    """The cut travels up through groups of tasks; the stop must not be lost at any step of its way."""

    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.orders.cut()
            for _ in range(rounds):
                await asyncio.sleep(0)
            scene.task.cancel()
            done, _ = await asyncio.wait([scene.task], timeout=60)
            assert done, "the house goes on after it was stopped"
            assert scene.task.cancelled()

    run_virtual(main())
