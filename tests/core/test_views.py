"""The shapes that leave the house: the ten first payloads field by field, and that fields are only ever added."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import datetime
from decimal import Decimal
from typing import get_args, get_type_hints

import pytest

from trueup.core import views
from trueup.core.views import CHANNEL_VIEWS, STATE_CHANNELS, Channel, SeedStatus, View

NUMBER = (Decimal, Decimal | None)
TIME = (datetime, datetime | None)
TEXT = (str, str | None)

PAYLOADS: dict[str, dict[str, tuple[object, ...]]] = {
    "portfolio:update": {
        "total_equity": NUMBER,
        "cash": NUMBER,
        "positions_value": NUMBER,
        "daily_pnl": NUMBER,
        "daily_pnl_pct": NUMBER,
        "total_pnl": NUMBER,
        "total_pnl_pct": NUMBER,
        "max_drawdown_pct": NUMBER,
        "positions": (tuple[views.PositionView, ...],),
        "sector_exposure": (dict[str, Decimal],),
    },
    "trade:executed": {
        "id": TEXT,
        "symbol": TEXT,
        "side": TEXT,
        "quantity": NUMBER,
        "entry_price": NUMBER,
        "entry_time": TIME,
        "strategy_name": TEXT,
    },
    "trade:pending_approval": {
        "symbol": TEXT,
        "side": TEXT,
        "quantity": NUMBER,
        "signal_strength": NUMBER,
        "strategy_name": TEXT,
        "risk_assessment": (dict[str, bool],),
        "requires_approval_by": TIME,
    },
    "order:status": {
        "id": TEXT,
        "broker_order_id": TEXT,
        "symbol": TEXT,
        "status": TEXT,
        "filled_at": TIME,
        "filled_price": NUMBER,
        "filled_quantity": NUMBER,
    },
    "signal:generated": {
        "symbol": TEXT,
        "direction": TEXT,
        "strength": NUMBER,
        "strategy_name": TEXT,
        "timestamp": TIME,
        "metadata": (dict[str, dict[str, Decimal]],),
    },
    "risk:alert": {
        "type": TEXT,
        "severity": TEXT,
        "reason": TEXT,
        "symbol": TEXT,
        "current_value": NUMBER,
        "limit_value": NUMBER,
        "timestamp": TIME,
    },
    "risk:circuit_breaker": {"breaker": TEXT, "action": TEXT, "reason": TEXT, "timestamp": TIME},
    "risk:kill_switch": {"action": TEXT, "reason": TEXT, "operator": TEXT, "timestamp": TIME},
    "system:feed:disconnected": {"timestamp": TIME, "reason": TEXT},
    "system:feed:reconnected": {"timestamp": TIME, "symbol_count": (int,)},
}
"""Channel -> the payload's own fields in order, each with the types that it may have."""


@pytest.mark.parametrize("channel", list(PAYLOADS))
def test_a_payload_keeps_its_fields_in_order(channel: str) -> None:
    shape = CHANNEL_VIEWS[Channel(channel)]
    names = [item.name for item in fields(shape)]
    assert names[: len(PAYLOADS[channel])] == list(PAYLOADS[channel])


@pytest.mark.parametrize(
    ("channel", "name"), [(channel, name) for channel, payload in PAYLOADS.items() for name in payload]
)
def test_a_payload_field_keeps_its_type(channel: str, name: str) -> None:
    hint = get_type_hints(CHANNEL_VIEWS[Channel(channel)])[name]
    assert hint in PAYLOADS[channel][name]


@pytest.mark.parametrize("channel", list(PAYLOADS))
def test_what_was_added_has_a_default(channel: str) -> None:
    """A sender of the ten payloads alone is still understood."""
    for item in fields(CHANNEL_VIEWS[Channel(channel)]):
        if item.name not in PAYLOADS[channel]:
            assert item.default is not MISSING or item.default_factory is not MISSING, item.name


def test_the_words_of_an_orders_status() -> None:
    assert [status.value for status in SeedStatus] == ["PENDING", "SUBMITTED", "FILLED", "CANCELLED", "REJECTED"]


def test_every_channel_has_one_shape_and_every_shape_a_channel() -> None:
    assert set(CHANNEL_VIEWS) == set(Channel)
    assert set(CHANNEL_VIEWS.values()) == set(get_args(View))
    assert set(Channel) >= {Channel(channel) for channel in PAYLOADS}


def test_only_pictures_of_the_present_are_conflated() -> None:
    assert {channel.value for channel in STATE_CHANNELS} == {"portfolio:update", "system:health", "market:quotes"}


@pytest.mark.parametrize("shape", [kind for kind in vars(views).values() if hasattr(kind, "__dataclass_fields__")])
def test_no_float_leaves_the_house(shape: type) -> None:
    for name, hint in get_type_hints(shape).items():
        assert "float" not in str(hint), f"{shape.__name__}.{name}"


@pytest.mark.parametrize("shape", [kind for kind in vars(views).values() if hasattr(kind, "__dataclass_fields__")])
def test_views_are_values(shape: type) -> None:
    assert shape.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert shape.__slots__ or not fields(shape)  # type: ignore[attr-defined]
