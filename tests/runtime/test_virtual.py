"""Virtual time itself: it must jump, keep the order of things, and say so when nothing can happen any more."""

from __future__ import annotations

import asyncio

import pytest

from trueup.chaos.virtual import START, Stuck, VirtualClock, run_virtual


def test_an_hour_passes_in_a_moment_and_in_order() -> None:
    heard: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        heard.append((name, VirtualClock().monotonic()))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("hour", 3600))
            group.create_task(sleeper("second", 1))
            group.create_task(sleeper("minute", 60))

    run_virtual(main())
    assert heard == [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)]


def test_what_falls_on_the_same_instant_comes_in_the_order_it_was_asked_for() -> None:
    heard: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_later(1, heard.append, number)
        await asyncio.sleep(2)

    run_virtual(main())
    assert heard == list(range(100))


def test_the_clock_tells_the_loops_time() -> None:
    async def main() -> float:
        clock = VirtualClock()
        assert clock.now() == START
        await clock.sleep(90.5)
        return (clock.now() - START).total_seconds()

    assert run_virtual(main()) == 90.5


def test_timeouts_fire_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return VirtualClock().monotonic()

    assert run_virtual(main()) == 30.0


def test_work_for_a_thread_is_done_at_once_and_answered_later() -> None:
    done: list[str] = []

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()

        def work() -> int:
            done.append("done")
            return 7

        answer = loop.run_in_executor(None, work)
        assert done == ["done"]
        assert not answer.done()
        return await answer, loop.time()

    assert run_virtual(main(), disk_s=0.25) == (7, 0.25)


def test_a_program_that_can_go_no_further_fails() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing is left"):
        run_virtual(main())


def test_a_program_that_spins_fails() -> None:
    async def main() -> None:
        while True:
            await VirtualClock().sleep(0)

    with pytest.raises(Stuck, match="time does not pass"):
        run_virtual(main())
