"""The request budget, in a time of its own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.brokers.alpaca.budget import Priority, RequestBudget
from trueup.errors import RateLimited


class StepClock:
    """Time that moves when someone sleeps: to the earliest of those who do."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._sleepers: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        until = self.elapsed + seconds
        self._sleepers.append(until)
        while self.elapsed < until:
            await asyncio.sleep(0)
            if min(self._sleepers) == until:
                self.elapsed = max(self.elapsed, until)
        self._sleepers.remove(until)


def take_all(budget: RequestBudget, priority: Priority, most: int = 1000) -> int:
    for count in range(most):
        try:
            budget.take_now(priority)
        except RateLimited:
            return count
    return most


@settings(deadline=None)
@given(
    limit=st.integers(min_value=5, max_value=300),
    waits=st.lists(st.floats(min_value=0, max_value=30), min_size=20, max_size=200),
)
def test_no_minute_holds_more_requests_than_the_limit(limit: int, waits: list[float]) -> None:
    clock = StepClock()
    budget = RequestBudget(clock, per_minute=limit)
    sent: list[float] = []
    for wait in waits:
        clock.elapsed += wait
        for priority in (Priority.SUBMIT, Priority.CANCEL):
            sent += [clock.elapsed] * take_all(budget, priority)
    for start in sent:
        assert sum(1 for at in sent if start <= at < start + 60) <= limit + 1


def test_the_whole_limit_can_be_used_in_a_minute() -> None:
    clock = StepClock()
    budget = RequestBudget(clock, per_minute=200)
    sent = 0
    for _ in range(600):
        sent += take_all(budget, Priority.CANCEL)
        clock.elapsed += 0.1
    assert 195 <= sent <= 201


def test_cancels_keep_a_reserve_that_nothing_else_can_use() -> None:
    budget = RequestBudget(StepClock(), per_minute=200)
    assert take_all(budget, Priority.SUBMIT) == 40
    assert take_all(budget, Priority.CANCEL) == 10
    with pytest.raises(RateLimited) as caught:
        budget.take_now(Priority.SUBMIT)
    assert caught.value.retry_after_s == pytest.approx(0.5, abs=0.01)


def test_reading_leaves_room_for_sending() -> None:
    budget = RequestBudget(StepClock(), per_minute=200)
    assert take_all(budget, Priority.SNAPSHOT) == 30
    assert take_all(budget, Priority.FIND) == 6
    assert take_all(budget, Priority.SUBMIT) == 4


async def test_those_who_wait_go_by_priority_and_then_by_age() -> None:
    clock = StepClock()
    budget = RequestBudget(clock, per_minute=200)
    take_all(budget, Priority.CANCEL)
    order: list[str] = []

    async def ask(name: str, priority: Priority) -> None:
        await budget.take(priority, at_most_s=600)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, priority in (
            ("snapshot 1", Priority.SNAPSHOT),
            ("snapshot 2", Priority.SNAPSHOT),
            ("find 1", Priority.FIND),
            ("submit 1", Priority.SUBMIT),
            ("submit 2", Priority.SUBMIT),
            ("cancel 1", Priority.CANCEL),
        ):
            group.create_task(ask(name, priority))
    assert order == ["cancel 1", "submit 1", "submit 2", "find 1", "snapshot 1", "snapshot 2"]


async def test_a_wait_is_bounded() -> None:
    clock = StepClock()
    budget = RequestBudget(clock, per_minute=5)
    take_all(budget, Priority.SUBMIT)
    with pytest.raises(RateLimited):
        await budget.take(Priority.SNAPSHOT, at_most_s=3)
    assert clock.elapsed == pytest.approx(3)


def test_a_pause_holds_everything_but_cancels() -> None:
    for limit in (200, 0):
        clock = StepClock()
        budget = RequestBudget(clock, per_minute=limit)
        budget.pause(30)
        with pytest.raises(RateLimited) as caught:
            budget.take_now(Priority.SUBMIT)
        assert caught.value.retry_after_s == pytest.approx(30)
        budget.take_now(Priority.CANCEL)
        clock.elapsed += 30
        budget.take_now(Priority.SUBMIT)


def test_no_limit() -> None:
    budget = RequestBudget(StepClock(), per_minute=0)
    assert take_all(budget, Priority.SNAPSHOT, most=5000) == 5000
