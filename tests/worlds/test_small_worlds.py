"""Exhaustive small worlds: in every one of them, however told, belief ends as the broker's books.

`TRUEUP_WORLDS=whole` also tries what comes twice with every pair of poll and look; without it, in mid-story only.
`pytest -s` prints the counts.
"""

from __future__ import annotations

import os
import sys

import pytest
from tests.worlds.worlds import WORLDS, Explorer, World, predicted

EVERY = os.environ.get("TRUEUP_WORLDS") == "whole"


def named(world: World) -> str:
    count = predicted(world.tell(), every=EVERY)
    return f"{world.name.replace(' ', '-').replace(',', '').replace(':', '')}-{count}-sequences"


@pytest.mark.parametrize("world", WORLDS, ids=named)
def test_every_sequence_that_the_core_could_see_ends_at_the_books(world: World) -> None:
    explorer = Explorer(world)
    explorer.explore(every=EVERY)
    assert explorer.sequences == predicted(explorer.told, every=EVERY)
    sys.stdout.write(
        f"\n{world.name}: {explorer.sequences:,} sequences, {explorer.steps:,} steps, {explorer.folds:,} restarts\n"
    )
