"""Who is started again, how often, and what goes straight up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.errors import BadCredentials, BadInput, Fatal
from trueup.runtime.supervisor import Child, GaveUp, Restart, Supervisor, final_in


class Life:
    """A child that does, life by life, what it is told: ends, fails with an error, or lives on."""

    def __init__(self, *lives: BaseException | str | None, each_s: float = 0.0) -> None:
        self._lives = list(lives)
        self._each_s = each_s
        self.begun: list[float] = []

    async def __call__(self) -> None:
        self.begun.append(VirtualClock().monotonic())
        await VirtualClock().sleep(self._each_s)
        fate = self._lives.pop(0) if self._lives else "live"
        if fate == "live":
            await asyncio.Event().wait()
        if isinstance(fate, BaseException):
            raise fate


def supervise(*children: Child, seconds: float = 600, jitter: Callable[[], float] = lambda: 1.0) -> Supervisor:
    """Run children for a while; returns their supervisor."""
    supervisor = Supervisor(clock=VirtualClock(), jitter=jitter)

    async def main() -> None:
        try:
            async with asyncio.timeout(seconds):
                await supervisor.run(list(children))
        except TimeoutError:
            return

    run_virtual(main())
    return supervisor


def child(start: Callable[[], Awaitable[None]], restart: Restart = Restart.PERMANENT) -> Child:
    return Child(name="child", start=start, restart=restart)


@pytest.mark.parametrize(
    ("restart", "fate", "lives"),
    [
        (Restart.PERMANENT, None, 2),
        (Restart.PERMANENT, ValueError("bug"), 2),
        (Restart.PERMANENT, asyncio.CancelledError(), 2),
        (Restart.TRANSIENT, None, 1),
        (Restart.TRANSIENT, ValueError("bug"), 2),
        (Restart.TEMPORARY, None, 1),
        (Restart.TEMPORARY, ValueError("bug"), 1),
    ],
)
def test_who_is_started_again(restart: Restart, fate: BaseException | None, lives: int) -> None:
    life = Life(fate)
    supervisor = supervise(child(life, restart))
    assert len(life.begun) == lives
    assert supervisor.restarts == lives - 1


def test_a_failure_leaves_the_other_children_alone() -> None:
    failing, other = Life(ValueError("bug"), ValueError("bug")), Life()
    supervise(child(failing), child(other))
    assert (len(failing.begun), len(other.begun)) == (3, 1)


def test_the_reason_is_told_before_the_restart() -> None:
    told: list[str] = []
    life = Life(ValueError("bug"), None)
    supervise(Child(name="child", start=life, on_failure=lambda reason: told.append(f"{len(life.begun)} {reason}")))
    assert told == ["1 ValueError: bug", "2 it ended, and must not"]


def test_too_many_failures_in_a_while_end_the_supervisor_with_the_last_reason() -> None:
    life = Life(*(ValueError(f"bug {number}") for number in range(20)))
    with pytest.raises(ExceptionGroup) as ended:
        supervise(child(life))
    gave_up = final_in(ended.value)
    assert isinstance(gave_up, GaveUp)
    assert "child failed 6 times" in str(gave_up)
    assert "bug 5" in str(gave_up)
    assert len(life.begun) == 6


def test_of_a_group_that_fails_the_first_error_inside_is_named() -> None:
    inner = ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("deeper", [ValueError("the bug")])])
    told: list[str] = []
    supervise(Child(name="child", start=Life(inner), restart=Restart.TEMPORARY, on_failure=told.append))
    assert told == ["ValueError: the bug"]


def test_failures_far_apart_are_forgiven_and_pauses_start_small_again() -> None:
    life = Life(*(ValueError("bug") for _ in range(20)), each_s=61)
    supervise(child(life), seconds=3600)
    assert len(life.begun) == 21
    pauses = [round(later - earlier - 61, 3) for earlier, later in zip(life.begun, life.begun[1:], strict=False)]
    assert pauses == [0.1] * 20


def test_pauses_grow_while_failures_follow_each_other() -> None:
    life = Life(*(ValueError("bug") for _ in range(5)))
    supervise(child(life))
    pauses = [round(later - earlier, 3) for earlier, later in zip(life.begun, life.begun[1:], strict=False)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


@pytest.mark.parametrize(
    "error",
    [
        BadCredentials("no such keys"),
        BadInput("port is taken", field="port"),
        ExceptionGroup("in a group of tasks", [ValueError("bug"), ExceptionGroup("deeper", [Fatal("the end")])]),
    ],
)
def test_what_no_restart_can_mend_passes_through(error: Exception) -> None:
    life, other = Life(error), Life()
    with pytest.raises(ExceptionGroup) as ended:
        supervise(child(life), child(other))
    assert final_in(ended.value) is final_in(error)
    assert len(life.begun) == 1


def test_a_stop_is_no_failure() -> None:
    life = Life()

    async def main() -> None:
        supervisor = Supervisor(clock=VirtualClock(), jitter=lambda: 1.0)
        task = asyncio.create_task(supervisor.run([child(life)]))
        await VirtualClock().sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert supervisor.restarts == 0

    run_virtual(main())
