"""Whole lives amid random harm: each seed ends healed, with belief equal to the exchange's books.

Long lives here; `make test-proof` lives tens of thousands of short ones. What chaos is made of stands in
`src/trueup/chaos/`; that it catches what it is there to catch, in `tests/chaos/`.
"""

from __future__ import annotations

import pytest

from trueup.chaos.life import Lived, live
from trueup.chaos.plan import plan, schedule_seed
from trueup.runtime.fold import belief_digest, fold

MINUTES = 2


@pytest.fixture(autouse=True)
def _in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="trueup")


def long_life(seed: int) -> Lived:
    return live(plan(seed, MINUTES * 60.0))


@pytest.mark.parametrize("seed", range(16))
def test_a_long_life_heals(seed: int) -> None:
    lived = long_life(seed)
    assert lived.violation is None, str(lived.violation)
    assert lived.steps > 200


@pytest.mark.parametrize(
    "seed",
    [
        239507974556704,  # a replacing order whose cancel was under way was filled, and then again with 0 shares
    ],
)
def test_seeds_that_once_ended_in_a_violation_as_another_client_meddled(seed: int) -> None:
    lived = live(plan(seed))
    assert lived.violation is None, str(lived.violation)


@pytest.mark.parametrize("number", range(40))
def test_a_short_life_heals(number: int) -> None:
    lived = live(plan(schedule_seed(1, number)))
    assert lived.violation is None, str(lived.violation)


def test_a_life_is_the_same_whatever_was_lived_before_it() -> None:
    crowded = plan(schedule_seed(2, 374)).plain  # many requests are broken off in one instant
    alone = live(crowded)
    for number in (49, 822):
        live(plan(schedule_seed(2, number)))
    assert list(live(crowded).journal.read()) == list(alone.journal.read())


def test_one_seed_is_one_life() -> None:
    first, again, other = (live(plan(seed)) for seed in (5, 5, 6))
    assert list(first.journal.read()) == list(again.journal.read())
    assert first.story == again.story
    assert belief_digest(fold(first.journal)) == belief_digest(fold(again.journal))
    assert list(first.journal.read()) != list(other.journal.read())


@pytest.mark.parametrize(
    "seed",
    [
        109958880839697,  # a correction and a bust of one instant: the larger total was kept for ever
        77883730358238,  # a correction told by a list first: the execution was held under both of its names
        2531078244395,  # a corrected execution was taken for another one of the same size and price
        204542930836756,  # a correction whose original was lost kept the list's execution out
        230595501213688,  # a fill told seconds after its bust had been read was counted again
        260705306102081,  # of two corrections the first was lost: the order kept its first price
        102646687291760,  # the same
        162100145906374,  # a bust told late hit another match on the same terms, which was never counted again
        147359175675738,  # the same
        197106605165396,  # the same
        196608807002150,  # a listed execution of before two busts raised the total above what the same look had proven
        140525405460163,  # a late reply to one replace ended another, which a crash then forgot
        18998819769776,  # a late refusal of one replace was taken for that of a later one
        78335708427943,  # an order that only a doubt had kept open stayed among the open ones
        20803881585188,  # a bust that nobody told left an execution that a negative rest took back
        145581930296274,  # a bust told late hit the match that a look had listed in its stead: inferred from then on
        197804202246317,  # a live stream lost the event of one fill and told the next: inferred for five minutes
        216551881136887,  # the same
        114617238987746,  # the same
        42339118578138,  # the late refusal of a replace whose order had been cancelled ended the next replace
    ],
)
def test_seeds_that_once_ended_in_a_violation(seed: int) -> None:
    lived = live(plan(seed).plain)
    assert lived.violation is None, str(lived.violation)
