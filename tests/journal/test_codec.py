"""Entries as bytes: compact, exact, and readable by whoever comes later."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import pytest

from trueup.core.commands import CancelOrder, Command, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.core.events import ClockTicked, FeedLost, FrameQuarantined
from trueup.core.model import FeedName, OrderId, Side, Symbol
from trueup.errors import JournalCorrupt, JournalUnusable
from trueup.journal.codec import CODEC, INPUT_TYPES, VERSIONS, Codec

NOON = datetime(2026, 3, 12, 12, 0, 0, 5, tzinfo=UTC)


def test_an_entry_names_its_type_and_version_and_leaves_defaults_out() -> None:
    assert CODEC.encode(Kill(at=NOON, reason="enough")) == (
        b'["Kill",2,{"at":"2026-03-12T12:00:00.000005Z","reason":"enough"}]'
    )


@pytest.mark.parametrize(
    "command",
    [
        SubmitOrder(
            at=NOON, symbol=Symbol("AAPL"), side=Side.BUY, quantity=Decimal("1.50"), limit_price=Decimal("0.10")
        ),
        CancelOrder(at=NOON, order_id=OrderId("o-1"), reason="x"),
        ReplaceOrder(at=NOON, order_id=OrderId("o-1"), quantity=Decimal("2.0")),
        Kill(at=NOON, reason="x", operator="system"),
        Resume(at=NOON, reason="x"),
        Reconcile(at=NOON),
    ],
)
def test_commands_of_the_time_when_nobody_was_named_are_still_read(command: Command) -> None:
    written = CODEC.encode(command)
    assert written.count(b'",2,{') == 1
    assert CODEC.decode(written.replace(b'",2,{', b'",1,{')) == command
    named = replace(command, asked_by="oleg")
    assert CODEC.decode(CODEC.encode(named)) == named


def test_amounts_keep_every_digit() -> None:
    for digits in ("1.50", "0E-9", "123456789012345678901234.000000001", "1E+3", "-0.0"):
        order = SubmitOrder(at=NOON, symbol=Symbol("A"), side=Side.BUY, quantity=Decimal(digits))
        back = CODEC.decode(CODEC.encode(order))
        assert isinstance(back, SubmitOrder)
        assert str(back.quantity) == digits


def test_times_are_written_in_utc() -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    body = CODEC.encode(ClockTicked(at=in_tokyo))
    assert b"2026-03-12T12:00:00.000005Z" in body
    assert CODEC.decode(body) == ClockTicked(at=NOON)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        CODEC.encode(ClockTicked(at=NOON.replace(tzinfo=None)))


def test_a_frame_of_broken_text_can_be_kept() -> None:
    broken = FrameQuarantined(at=NOON, feed=FeedName.BROKER_EVENTS, raw="a\ud800b", reason="half a character")
    back = CODEC.decode(CODEC.encode(broken))
    assert isinstance(back, FrameQuarantined)
    assert (back.raw, back.reason, back.feed) == ("a?b", "half a character", FeedName.BROKER_EVENTS)


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(JournalUnusable, match=r"journal entry 7 is a 'MoonRose'.*newer trueup"):
        CODEC.decode(b'["MoonRose",1,{}]', offset=7)


def test_a_newer_form_is_named() -> None:
    with pytest.raises(JournalUnusable, match=r"journal entry 7 is a Kill in form 99.*reads up to 2"):
        CODEC.decode(b'["Kill",99,{}]', offset=7)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'["Kill",1,{"at":"2026-03-12T12:00:00Z"',
        b'["Kill",1,{"reason":"no time"}]',
        b'["Kill",1,{"at":"yesterday","reason":"x"}]',
        b'["FeedLost",1,{"at":"2026-03-12T12:00:00Z","feed":"telegraph","reason":"x"}]',
        b'["Kill",1,{"at":"2026-03-12T12:00:00Z","reason":"\xff"}]',
    ],
)
def test_what_nobody_wrote_is_damage(body: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="journal entry 3"):
        CODEC.decode(body, offset=3)


def test_old_forms_are_lifted_one_version_at_a_time() -> None:
    def name_the_feed(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "feed": {"orders": "broker_events"}[raw.pop("stream")]}

    def give_a_reason(raw: dict[str, Any]) -> dict[str, Any]:
        return {"reason": "not said", **raw}

    codec = Codec(versions={"FeedLost": 3}, lifters={("FeedLost", 1): name_the_feed, ("FeedLost", 2): give_a_reason})
    lifted = FeedLost(at=NOON, feed=FeedName.BROKER_EVENTS, reason="not said")
    assert codec.decode(b'["FeedLost",1,{"at":"2026-03-12T12:00:00.000005Z","stream":"orders"}]') == lifted
    assert codec.decode(b'["FeedLost",2,{"at":"2026-03-12T12:00:00.000005Z","feed":"broker_events"}]') == lifted
    assert codec.encode(lifted).startswith(b'["FeedLost",3,')
    assert codec.decode(codec.encode(lifted)) == lifted


def test_a_version_that_nothing_lifts_is_found_at_once() -> None:
    with pytest.raises(TypeError, match="nothing lifts version 1"):
        Codec(versions={"Kill": 2}, lifters={})


@dataclass
class Either:
    at: datetime
    what: datetime | FeedLost


def test_a_field_that_could_not_be_told_apart_is_found_at_once() -> None:
    with pytest.raises(TypeError, match="can't be told apart"):
        Codec(types=[Either])


def shape(kind: Any) -> Any:
    """The fields of a type and of all types inside it, as they stand in the journal."""
    base = getattr(kind, "__supertype__", kind)
    if is_dataclass(base):
        hints = get_type_hints(base)
        return {item.name: shape(hints[item.name]) for item in fields(base)}
    if get_args(base):
        return [str(getattr(base, "__origin__", "union")), *(shape(part) for part in get_args(base))]
    return getattr(base, "__name__", str(base))


SHAPES = {
    "OrderReported": "1 f12bd14c7392",
    "SnapshotTaken": "1 fff7e41bc88e",
    "SnapshotFailed": "1 6cc3023bfc7b",
    "RequestAnswered": "1 fbc888658ff6",
    "OrderLookedUp": "1 882f5eae5180",
    "FeedAcknowledged": "1 3a9e4b051ec6",
    "FeedRestored": "1 9d5f88c3c3ee",
    "FeedLost": "1 3d600a7fb872",
    "FrameQuarantined": "1 673637ab318d",
    "SignalGenerated": "1 e1c77b591f64",
    "RuntimeStarted": "1 028495726edd",
    "ClockTicked": "1 967f4af006a3",
    "SubmitOrder": "2 acb13ea06f26",
    "CancelOrder": "2 3d5321eeb7eb",
    "ReplaceOrder": "2 26e332e201f1",
    "Kill": "2 c3ab8f7322f6",
    "Resume": "2 c3ab8f7322f6",
    "Reconcile": "2 1f2eda24d244",
}
"""Type name -> version and a digest of its fields."""


def test_no_field_changes_without_a_version() -> None:
    found = {
        cls.__name__: f"{VERSIONS.get(cls.__name__, 1)} "
        + hashlib.sha256(json.dumps(shape(cls)).encode()).hexdigest()[:12]
        for cls in INPUT_TYPES
    }
    assert found == SHAPES, (
        "an input, or a noun inside it, has other fields than journals in the world: raise its version in "
        "journal/codec.py, register a lifter for the old form, and bring this table up to date"
    )
