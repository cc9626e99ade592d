"""Views as JSON: exact numbers, times with a Z, every field there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from trueup.bus.codec import encode, wire
from trueup.core.views import GapView, QuoteView, SeedStatus, TimelineEntryView
from trueup.ports import Envelope

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


def test_amounts_are_exact_numbers() -> None:
    quote = QuoteView(symbol="AAPL", bid=Decimal("178.420"), ask=Decimal("12345678901234567.123456789"), at=NOON)
    assert encode(quote) == (
        b'{"symbol":"AAPL","bid":178.420,"ask":12345678901234567.123456789,"at":"2026-03-12T12:00:00Z"}'
    )


def test_defaults_are_written() -> None:
    gap = GapView(id="g", feed="broker_events", reason="cut", opened_at=NOON, closed_at=None)
    assert json.loads(encode(gap)) == {
        "id": "g",
        "feed": "broker_events",
        "reason": "cut",
        "opened_at": "2026-03-12T12:00:00Z",
        "closed_at": None,
        "missed": 0,
        "learned_by": {},
    }


def test_words_are_their_values_and_tuples_arrays() -> None:
    assert (
        encode({"status": SeedStatus.CANCELLED, "all": (1, True, None)})
        == b'{"status":"CANCELLED","all":[1,true,null]}'
    )


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_number_for_never_leaves(word: str) -> None:
    entry = TimelineEntryView(
        offset=1,
        event="fill",
        source="stream",
        broker_at=None,
        arrived_at=NOON,
        status_after="NEW",
        filled_after=Decimal(word),
    )
    with pytest.raises(ValueError, match="JSON has no NaN"):
        encode(entry)
    assert encode({"company": word}) == json.dumps({"company": word}, separators=(",", ":")).encode()


def test_the_wire_form_holds_the_body_untouched() -> None:
    envelope = Envelope('a"b', "e\u00e9", 7, NOON, b'{"x":1.10}')
    text = wire(envelope)
    assert b'"data":{"x":1.10}' in text
    assert json.loads(text) == {
        "channel": 'a"b',
        "data": {"x": 1.1},
        "epoch": "e\u00e9",
        "offset": 7,
        "at": "2026-03-12T12:00:00Z",
    }
    assert list(json.loads(text)) == ["channel", "data", "epoch", "offset", "at"]


def test_cursors_go_with_a_snapshot() -> None:
    envelope = Envelope("system:snapshot", "e", 0, NOON, b"{}")
    assert json.loads(wire(envelope, {"truth:gap": 3}))["cursors"] == {"truth:gap": 3}
