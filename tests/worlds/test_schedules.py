"""Random schedules of the core, a few of them each time; `make test-proof` lives a million."""

from __future__ import annotations

import pytest

from trueup.chaos.cores import live

SCHEDULES = 3_000


def test_every_schedule_ends_at_the_books() -> None:
    failed = {seed: str(lived.violation) for seed in range(SCHEDULES) if (lived := live(seed)).violation is not None}
    assert not failed


def test_a_seed_tells_the_same_schedule_again() -> None:
    assert live(7).inputs == live(7).inputs
    assert live(7).inputs != live(8).inputs


def test_the_schedules_lose_double_cut_and_restart() -> None:
    kinds = {type(item).__name__ for seed in range(200) for item in live(seed).inputs}
    assert {"OrderReported", "SnapshotTaken", "FeedLost", "RuntimeStarted", "ClockTicked"} <= kinds
    missed = sum(live(seed).belief.counters.get("fills_by_reconcile", 0) for seed in range(200))
    assert missed > 20, "so few fills were lost that healing was hardly tried"


@pytest.mark.parametrize(
    "seed", [65817, 245145, 373258, 497854, 519258, 530029, 680750, 735371, 743331, 757596, 761266, 986861]
)
def test_seeds_that_once_ended_beside_the_books(seed: int) -> None:
    """A list of executions that is older than a leg's newest report once annulled that report's execution."""
    assert live(seed).violation is None


@pytest.mark.parametrize("seed", [160530150513470, 178776920769856])
def test_a_bust_of_an_execution_that_was_not_counted_yet(seed: int) -> None:
    """It was forgotten, and the execution counted once another made room for it."""
    assert live(seed).violation is None
