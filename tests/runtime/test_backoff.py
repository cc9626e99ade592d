"""Pauses between tries: bounds that hold for every draw."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trueup.runtime.backoff import Backoff

draws = st.floats(min_value=0, max_value=1)


@given(st.lists(draws, min_size=1, max_size=80), st.floats(0.01, 5), st.floats(5, 60))
def test_every_pause_lies_under_a_doubling_ceiling_and_the_cap(drawn: list[float], base: float, cap: float) -> None:
    source = iter(drawn)
    backoff = Backoff(lambda: next(source), base_s=base, cap_s=cap)
    for failures, draw in enumerate(drawn):
        pause = backoff.next_s()
        assert pause == draw * min(cap, base * 2.0 ** min(failures, 32))
        assert 0 <= pause <= cap


@given(draws, st.floats(0, 600))
def test_a_pause_that_was_asked_for_is_never_cut_short(draw: float, asked: float) -> None:
    backoff = Backoff(lambda: draw, base_s=0.5, cap_s=30)
    for _ in range(10):
        assert asked <= backoff.next_s(at_least_s=asked) <= asked + 30


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(lambda: 1.0, base_s=0.5, cap_s=30)
    assert [backoff.next_s() for _ in range(3)] == [0.5, 1, 2]
    backoff.reset()
    assert backoff.next_s() == 0.5
