"""Any input survives the journal, any envelope the bus."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.journal.codec import CODEC
from trueup.ports import Input

TIMES = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda at: at.replace(fold=0)  # means nothing in UTC
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

st.register_type_strategy(datetime, TIMES)
st.register_type_strategy(Decimal, DECIMALS)
st.register_type_strategy(str, TEXT)

INPUTS = st.one_of(*(st.from_type(cls) for cls in get_args(Input)))


@settings(max_examples=300, deadline=None)
@given(INPUTS)
def test_any_input_survives_the_journal(item: Input) -> None:
    body = CODEC.encode(item)
    back = CODEC.decode(body)
    assert back == item
    assert repr(back) == repr(item)
    assert CODEC.encode(back) == body
