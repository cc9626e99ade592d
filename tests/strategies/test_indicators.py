"""Indicators against their definitions, recomputed from scratch at every step."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.strategies.indicators import Sma

prices = st.decimals(min_value="0.01", max_value="100000", places=2)


@given(st.integers(1, 12), st.lists(prices, min_size=1, max_size=60))
def test_a_moving_average_is_the_mean_of_the_last_prices(length: int, taken: list[Decimal]) -> None:
    sma = Sma(length)
    for count, price in enumerate(taken, start=1):
        value = sma.take(price)
        assert value == sma.value
        if count < length:
            assert value is None
        else:
            assert value == sum(taken[count - length : count], Decimal(0)) / length


@pytest.mark.parametrize("length", [0, -3])
def test_a_length_that_makes_no_sense_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length must be at least 1, not {length}"):
        Sma(length)
