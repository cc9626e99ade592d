"""Any input survives the journal, any envelope the bus."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.bus.codec import encode, wire
from trueup.core.views import CHANNEL_VIEWS, View
from trueup.journal.codec import CODEC
from trueup.ports import Envelope, Input

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


VIEWS = st.one_of(*(st.from_type(cls) for cls in dict.fromkeys(CHANNEL_VIEWS.values())))


@settings(max_examples=300, deadline=None)
@given(VIEWS, TEXT, TIMES)
def test_any_view_survives_the_bus(view: View, name: str, at: datetime) -> None:
    body = encode(view)
    assert msgspec.json.decode(body, type=type(view)) == view
    epoch = f"epoch {name}"  # what has no epoch came from outside, and has no place to tell of
    message = json.loads(wire(Envelope(name, epoch, 7, at, body), {name: 6}), parse_float=Decimal)
    assert message["data"] == json.loads(body, parse_float=Decimal)
    assert message["epoch"] == epoch
    assert (message["channel"], message["offset"], message["cursors"]) == (name, 7, {name: 6})
    assert datetime.fromisoformat(message["at"]) == at
