"""Whole lives amid random harm: each seed ends healed, with belief equal to the exchange's books.

More of them: TRUEUP_SEEDS=1000 python -m pytest tests/simulation
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from tests.simulation.chaos import live_through

from trueup.runtime.fold import belief_digest, fold

SEEDS = int(os.environ.get("TRUEUP_SEEDS", "16"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_life_heals(seed: int) -> None:
    life = live_through(seed)
    assert life.journal.last_offset() > 50


def test_one_seed_is_one_life() -> None:
    first, again, other = live_through(5), live_through(5), live_through(6)
    assert list(first.journal.read()) == list(again.journal.read())
    assert belief_digest(fold(first.journal)) == belief_digest(fold(again.journal))
    assert list(first.journal.read()) != list(other.journal.read())


def test_there_is_harm_in_these_lives() -> None:
    """A storm that never breaks anything would prove nothing: what must be found out is there to be found."""
    seen: Counter[str] = Counter()
    for seed in range(4):
        life = live_through(seed)
        seen.update(life.done)
        belief = fold(life.journal)
        seen.update(belief.counters)
        seen.update(type(entry.input).__name__ for entry in life.journal.read())
        seen["gaps"] += len(belief.truth.gaps)
        seen["drifts"] += len(belief.drift_log)
    told = dict(seen)
    for what in ("fault", "restart", "kill", "bust", "gaps", "drifts", "FeedLost", "SnapshotFailed", "OrderLookedUp"):
        assert seen[what] > 0, f"no {what} in {told}"
    assert seen["fills_missed_by_stream"] > 0, told
    assert seen["RuntimeStarted"] > 4, told
