"""The documents for clients: valid, complete, committed, and true to the examples that the channels began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from trueup.bus import schema
from trueup.bus.codec import encode, wire
from trueup.core.views import (
    CHANNEL_VIEWS,
    Channel,
    CircuitBreakerView,
    FeedDisconnectedView,
    FeedReconnectedView,
    KillSwitchView,
    OrderStatusView,
    PendingApprovalView,
    PortfolioView,
    RiskAlertView,
    SeedStatus,
    SignalView,
    TradeExecutedView,
)
from trueup.ports import Envelope

TYPES = Path(__file__).resolve().parents[2] / "web" / "src" / "api" / "types.ts"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def money(text: str) -> Decimal:
    return Decimal(text)


EXAMPLES: dict[str, tuple[str, object]] = {
    "portfolio:update": (
        """{"total_equity": 25000.00, "cash": 5000.00, "positions_value": 20000.00, "daily_pnl": 250.00,
            "daily_pnl_pct": 1.02, "total_pnl": 1500.00, "total_pnl_pct": 6.38, "max_drawdown_pct": -2.5,
            "positions": [], "sector_exposure": {"tech": 0.4}}""",
        PortfolioView(
            total_equity=money("25000.00"),
            cash=money("5000.00"),
            positions_value=money("20000.00"),
            daily_pnl=money("250.00"),
            daily_pnl_pct=money("1.02"),
            total_pnl=money("1500.00"),
            total_pnl_pct=money("6.38"),
            max_drawdown_pct=money("-2.5"),
            sector_exposure={"tech": money("0.4")},
        ),
    ),
    "trade:executed": (
        """{"id": "trade-123", "symbol": "AAPL", "side": "BUY", "quantity": 10, "entry_price": 178.42,
            "entry_time": "2026-03-12T14:30:00Z", "strategy_name": "mean_reversion"}""",
        TradeExecutedView(
            id="trade-123",
            symbol="AAPL",
            side="BUY",
            quantity=money("10"),
            entry_price=money("178.42"),
            entry_time=at("2026-03-12T14:30:00Z"),
            strategy_name="mean_reversion",
        ),
    ),
    "trade:pending_approval": (
        """{"symbol": "AAPL", "side": "BUY", "quantity": 10, "signal_strength": 0.82, "strategy_name": "ml_signal",
            "risk_assessment": {"position_limit_ok": true, "portfolio_limit_ok": true, "pdt_ok": true},
            "requires_approval_by": "2026-03-12T14:45:00Z"}""",
        PendingApprovalView(
            symbol="AAPL",
            side="BUY",
            quantity=money("10"),
            signal_strength=money("0.82"),
            strategy_name="ml_signal",
            risk_assessment={"position_limit_ok": True, "portfolio_limit_ok": True, "pdt_ok": True},
            requires_approval_by=at("2026-03-12T14:45:00Z"),
        ),
    ),
    "order:status": (
        """{"id": "order-456", "broker_order_id": "12345678", "symbol": "MSFT", "status": "FILLED",
            "filled_at": "2026-03-12T14:32:11Z", "filled_price": 415.67, "filled_quantity": 5}""",
        OrderStatusView(
            id="order-456",
            broker_order_id="12345678",
            symbol="MSFT",
            status=SeedStatus.FILLED,
            filled_at=at("2026-03-12T14:32:11Z"),
            filled_price=money("415.67"),
            filled_quantity=money("5"),
        ),
    ),
    "signal:generated": (
        """{"symbol": "TSLA", "direction": "BUY", "strength": 0.75, "strategy_name": "momentum_crossover",
            "timestamp": "2026-03-12T14:35:00Z", "metadata": {"indicators": {"rsi": 42.5, "macd": 2.3}}}""",
        SignalView(
            symbol="TSLA",
            direction="BUY",
            strength=money("0.75"),
            strategy_name="momentum_crossover",
            timestamp=at("2026-03-12T14:35:00Z"),
            metadata={"indicators": {"rsi": money("42.5"), "macd": money("2.3")}},
        ),
    ),
    "risk:alert": (
        """{"type": "position_limit", "severity": "warning", "reason": "AAPL position size 6.2% exceeds 5% limit",
            "symbol": "AAPL", "current_value": 6.2, "limit_value": 5.0, "timestamp": "2026-03-12T14:40:00Z"}""",
        RiskAlertView(
            type="position_limit",
            severity="warning",
            reason="AAPL position size 6.2% exceeds 5% limit",
            symbol="AAPL",
            current_value=money("6.2"),
            limit_value=money("5.0"),
            timestamp=at("2026-03-12T14:40:00Z"),
        ),
    ),
    "risk:circuit_breaker": (
        """{"breaker": "vix_spike", "action": "activated", "reason": "VIX crossed threshold: 37.2 > 35",
            "timestamp": "2026-03-12T14:50:00Z"}""",
        CircuitBreakerView(
            breaker="vix_spike",
            action="activated",
            reason="VIX crossed threshold: 37.2 > 35",
            timestamp=at("2026-03-12T14:50:00Z"),
        ),
    ),
    "risk:kill_switch": (
        """{"action": "activate", "reason": "Manual override - unusual market conditions", "operator": "human",
            "timestamp": "2026-03-12T15:00:00Z"}""",
        KillSwitchView(
            action="activate",
            reason="Manual override - unusual market conditions",
            operator="human",
            timestamp=at("2026-03-12T15:00:00Z"),
        ),
    ),
    "system:feed:disconnected": (
        """{"timestamp": "2026-03-12T16:00:00Z", "reason": "IB Gateway connection closed (market close)"}""",
        FeedDisconnectedView(
            timestamp=at("2026-03-12T16:00:00Z"), reason="IB Gateway connection closed (market close)"
        ),
    ),
    "system:feed:reconnected": (
        """{"timestamp": "2026-03-13T09:30:00Z", "symbol_count": 503}""",
        FeedReconnectedView(timestamp=at("2026-03-13T09:30:00Z"), symbol_count=503),
    ),
}
"""The ten first channels: the example that clients were promised, and the same as a view of ours."""


@pytest.mark.parametrize("channel", EXAMPLES)
def test_the_first_channels_say_what_was_promised(channel: str) -> None:
    promised_text, view = EXAMPLES[channel]
    promised = json.loads(promised_text)
    assert type(view) is CHANNEL_VIEWS[Channel(channel)]
    sent = json.loads(encode(view))
    assert {name: sent[name] for name in promised} == promised
    for name, value in promised.items():
        assert type(sent[name]) is type(value), f"{name} changed its type"
    # Whatever came later comes later on the wire too, and nobody has to give it.
    assert list(sent)[: len(promised)] == list(promised)
    envelope = Envelope(channel, "e", 1, at("2026-03-12T14:30:00Z"), encode(view))
    Draft202012Validator(schema.json_schema()).validate(json.loads(wire(envelope)))


def test_every_example_channel_is_a_channel_and_none_is_forgotten() -> None:
    assert len(EXAMPLES) == 10
    assert set(EXAMPLES) <= {channel.value for channel in Channel}
    assert set(CHANNEL_VIEWS) == set(Channel)


def test_the_words_of_an_order_status() -> None:
    assert [word.value for word in SeedStatus] == ["PENDING", "SUBMITTED", "FILLED", "CANCELLED", "REJECTED"]


def test_the_json_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema.json_schema())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: message["data"].pop("cash"),
        lambda message: message["data"].update(cash="5000.00"),
        lambda message: message.update(channel="portfolio:updates"),
        lambda message: message.pop("epoch"),
        lambda message: message.update(offset=-1),
    ],
)
def test_the_json_schema_refuses_what_is_wrong(spoil: Any) -> None:
    body = encode(EXAMPLES["portfolio:update"][1])
    message = json.loads(wire(Envelope("portfolio:update", "e", 1, at("2026-03-12T14:30:00Z"), body)))
    validator = Draft202012Validator(schema.json_schema())
    assert validator.is_valid(message)
    spoil(message)
    assert not validator.is_valid(message)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.mark.parametrize("document", [schema.json_schema(), schema.asyncapi()])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_the_asyncapi_document_names_every_channel() -> None:
    document = schema.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    messages = document["components"]["messages"]
    assert {channel.value for channel in Channel} <= {message["name"] for message in messages.values()}
    assert set(document["channels"]["dashboard"]["messages"]) == set(messages)
    said = {reference.rsplit("/", 1)[1] for reference in references(document["operations"])} - {"dashboard"}
    assert said == set(messages)
    for message in messages.values():
        Draft202012Validator.check_schema(message["payload"])


def test_the_dashboards_types_are_the_generated_ones() -> None:
    assert TYPES.read_text(encoding="utf-8") == schema.typescript(), (
        "web/src/api/types.ts is behind core/views.py: run `trueup schema --typescript --out web/src/api/types.ts`"
    )


def test_the_typescript_reads_as_a_client_expects() -> None:
    text = schema.typescript()
    assert "  late_s: number | null;\n" in text
    assert "  executions: readonly TradeExecutedView[];\n" in text
    assert "  learned_by: Readonly<Record<string, number>>;\n" in text
    assert "  metadata: Readonly<Record<string, Readonly<Record<string, number>>>>;\n" in text
    assert '  "truth:gap": GapView;\n' in text


def test_a_shape_that_clients_could_not_read_is_refused() -> None:
    with pytest.raises(TypeError, match="clients would not know"):
        schema._write(float, schema._TYPESCRIPT)
