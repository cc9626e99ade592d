"""Alpaca's words into ours, against one recording per kind of message."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.brokers.alpaca import decode
from trueup.core.events import OrderReported
from trueup.core.model import ExecType, OrderStatus, OrderType, Side, Source, TimeInForce

FRAMES = Path(__file__).parent / "frames"
NAMES = sorted(path.stem for path in FRAMES.glob("*.json"))
AT = datetime(2026, 5, 11, 13, 45, 20, tzinfo=UTC)


def data_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FRAMES / f"{name}.json").read_text(encoding="utf-8"))["data"]
    return content


def decoded(data: Any, oddities: Counter[str] | None = None) -> OrderReported:
    (event,) = decode.trade_update(data, AT, Counter() if oddities is None else oddities)
    return event


EXPECTED = {
    "accepted": (ExecType.PENDING_NEW, OrderStatus.PENDING_NEW, "0", None),
    "pending_new": (ExecType.PENDING_NEW, OrderStatus.PENDING_NEW, "0", None),
    "new": (ExecType.NEW, OrderStatus.NEW, "0", None),
    "held": (ExecType.PENDING_NEW, OrderStatus.PENDING_NEW, "0", None),
    "partial_fill": (ExecType.TRADE, OrderStatus.PARTIALLY_FILLED, "30", ("30", "415.46", "30")),
    "fill": (ExecType.TRADE, OrderStatus.FILLED, "80", ("50", "415.484", "80")),
    "fill_at_once": (ExecType.TRADE, OrderStatus.FILLED, "80", ("80", "415.46", "80")),
    "canceled": (ExecType.CANCELED, OrderStatus.CANCELED, "30", None),
    "expired": (ExecType.EXPIRED, OrderStatus.EXPIRED, "0", None),
    "done_for_day": (ExecType.DONE_FOR_DAY, OrderStatus.PARTIALLY_FILLED, "30", None),
    "replaced": (ExecType.REPLACED, OrderStatus.REPLACED, "0", None),
    "new_after_replace": (ExecType.NEW, OrderStatus.NEW, "0", None),
    "rejected": (ExecType.REJECTED, OrderStatus.REJECTED, "0", None),
    "pending_cancel": (ExecType.PENDING_CANCEL, OrderStatus.PENDING_CANCEL, "0", None),
    "pending_replace": (ExecType.PENDING_REPLACE, OrderStatus.PENDING_REPLACE, "0", None),
    "stopped": (ExecType.STOPPED, OrderStatus.NEW, "0", None),
    "calculated": (ExecType.CALCULATED, OrderStatus.PARTIALLY_FILLED, "30", None),
    "suspended": (ExecType.SUSPENDED, OrderStatus.NEW, "0", None),
    "order_cancel_rejected": (ExecType.CANCEL_REJECTED, OrderStatus.FILLED, "80", None),
    "order_replace_rejected": (ExecType.REPLACE_REJECTED, OrderStatus.PARTIALLY_FILLED, "30", None),
    "restated": (ExecType.RESTATED, OrderStatus.NEW, "0", None),
    "trade_bust": (ExecType.TRADE_CANCEL, OrderStatus.PARTIALLY_FILLED, "30", ("50", "415.484", None)),
    "trade_correct": (ExecType.TRADE_CORRECT, OrderStatus.FILLED, "80", ("50", "415.474", None)),
    "sell_short": (ExecType.NEW, OrderStatus.NEW, "0", None),
    "notional_fill": (ExecType.TRADE, OrderStatus.FILLED, "0.240703", ("0.240703", "415.45", "0.240703")),
    "numbers_unquoted": (ExecType.TRADE, OrderStatus.PARTIALLY_FILLED, "30", ("30", "415.46", "30")),
}


def test_every_recording_has_its_expectation() -> None:
    assert set(NAMES) == {*EXPECTED, "multi_leg_fill"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_says_in_our_words_what_it_said_in_alpacas(name: str) -> None:
    exec_type, status, filled, execution = EXPECTED[name]
    oddities: Counter[str] = Counter()
    event = decoded(data_of(name), oddities)
    assert (event.exec_type, event.report.status, event.report.filled_quantity) == (exec_type, status, Decimal(filled))
    assert event.source is Source.STREAM
    assert event.at == AT
    assert event.report.raw_status == data_of(name)["order"]["status"]
    if execution is None:
        assert event.execution is None
    else:
        quantity, price, cum = execution
        assert event.execution is not None
        assert event.execution.quantity == Decimal(quantity)
        assert event.execution.price == Decimal(price)
        assert event.execution.cum_quantity == (None if cum is None else Decimal(cum))
        assert event.execution.execution_id == data_of(name)["execution_id"]
        assert event.execution.broker_order_id == event.report.broker_order_id
    assert not oddities, "a recording of the documented wire holds nothing unexpected"


def test_every_field_of_an_order() -> None:
    report = decoded(data_of("partial_fill")).report
    assert report.symbol == "MSFT"
    assert report.side is Side.BUY
    assert report.client_order_id == "tu-0001"
    assert report.order_type is OrderType.LIMIT
    assert report.time_in_force is TimeInForce.DAY
    assert (report.quantity, report.notional) == (Decimal(80), None)
    assert (report.limit_price, report.stop_price, report.average_price) == (Decimal("415.5"), None, Decimal("415.46"))
    assert report.version == datetime(2026, 5, 11, 13, 45, 12, 299004, tzinfo=UTC)
    assert report.submitted_at == datetime(2026, 5, 11, 13, 45, 10, 203900, tzinfo=UTC), "nanoseconds are cut"
    assert report.order_class == ""


def test_a_replace_links_both_orders_and_a_reason_is_kept() -> None:
    old, new = decoded(data_of("replaced")).report, decoded(data_of("new_after_replace")).report
    assert old.replaced_by == new.broker_order_id
    assert new.replaces == old.broker_order_id
    assert decoded(data_of("rejected")).report.reason == "VENUE_REFUSED"


@pytest.mark.parametrize("name", ["trade_bust", "trade_correct"])
def test_a_bust_or_correction_names_the_execution_that_it_annuls(name: str) -> None:
    data = data_of(name)
    assert decoded(data).refers_to == data_of("fill")["execution_id"]
    del data["previous_execution_id"]
    assert decoded({**data, "previous_id": "older"}).refers_to == "older"
    assert decoded(data).refers_to == data["execution_id"]


def test_a_short_sale_is_a_sell() -> None:
    assert decoded(data_of("sell_short")).report.side is Side.SELL


def test_a_multi_leg_fill_is_one_event_a_leg_and_none_for_the_parent() -> None:
    events = decode.trade_update(data_of("multi_leg_fill"), AT, Counter())
    assert [(event.report.symbol, event.report.side) for event in events] == [
        ("MSFT260619C00420000", Side.BUY),
        ("MSFT260619C00430000", Side.SELL),
    ]
    assert [event.execution and event.execution.price for event in events] == [Decimal("2.5"), Decimal(1)]
    assert {event.report.parent for event in events} == {data_of("multi_leg_fill")["order"]["id"]}


# --- the status and event tables, row by row ------------------------------------------------------

STATUS_ROWS = [
    ("new", "0", OrderStatus.NEW),
    ("partially_filled", "30", OrderStatus.PARTIALLY_FILLED),
    ("filled", "80", OrderStatus.FILLED),
    ("canceled", "30", OrderStatus.CANCELED),
    ("expired", "0", OrderStatus.EXPIRED),
    ("replaced", "0", OrderStatus.REPLACED),
    ("rejected", "0", OrderStatus.REJECTED),
    ("pending_cancel", "0", OrderStatus.PENDING_CANCEL),
    ("pending_replace", "30", OrderStatus.PENDING_REPLACE),
    ("accepted", "0", OrderStatus.PENDING_NEW),
    ("pending_new", "0", OrderStatus.PENDING_NEW),
    ("pending_review", "0", OrderStatus.PENDING_NEW),
    ("held", "0", OrderStatus.PENDING_NEW),
    ("accepted_for_bidding", "0", OrderStatus.NEW),
    ("done_for_day", "0", OrderStatus.NEW),
    ("done_for_day", "30", OrderStatus.PARTIALLY_FILLED),
    ("stopped", "30", OrderStatus.PARTIALLY_FILLED),
    ("suspended", "30", OrderStatus.PARTIALLY_FILLED),
    ("calculated", "80", OrderStatus.FILLED),
]


@pytest.mark.parametrize(("raw", "filled", "status"), STATUS_ROWS)
def test_a_status(raw: str, filled: str, status: OrderStatus) -> None:
    oddities: Counter[str] = Counter()
    report = decode.order_report({**data_of("new")["order"], "status": raw, "filled_qty": filled}, oddities)
    assert (report.status, report.raw_status) == (status, raw)
    assert not oddities


def test_no_status_is_left_out_of_the_rows() -> None:
    assert {raw for raw, _, _ in STATUS_ROWS} == set(decode.STATUS)


@pytest.mark.parametrize(
    ("filled", "status"), [("0", OrderStatus.NEW), ("30", OrderStatus.PARTIALLY_FILLED), ("80", OrderStatus.FILLED)]
)
def test_an_unknown_status_is_placed_by_what_is_filled_and_kept_raw_and_counted(
    filled: str, status: OrderStatus
) -> None:
    oddities: Counter[str] = Counter()
    order = {**data_of("new")["order"], "status": "frozen", "filled_qty": filled}
    report = decode.order_report(order, oddities)
    assert (report.status, report.raw_status) == (status, "frozen")
    assert oddities == {"unknown:status:frozen": 1}


def test_an_unknown_event_still_delivers_its_report() -> None:
    oddities: Counter[str] = Counter()
    event = decoded({**data_of("partial_fill"), "event": "levitated"}, oddities)
    assert event.exec_type is ExecType.UNKNOWN
    assert event.report.filled_quantity == Decimal(30)
    assert oddities == {"unknown:event:levitated": 1}


def test_unknown_terms_are_other_and_counted() -> None:
    oddities: Counter[str] = Counter()
    order = {**data_of("new")["order"], "type": "iceberg", "time_in_force": "gtx", "asset_class": "moon_rock"}
    report = decode.order_report(order, oddities)
    assert (report.order_type, report.time_in_force) == (OrderType.OTHER, TimeInForce.OTHER)
    assert oddities == {"unknown:type:iceberg": 1, "unknown:time_in_force:gtx": 1}


# --- crippled messages ----------------------------------------------------------------------------

FIELDS = [
    (name, where, field)
    for name in ("new", "partial_fill", "fill", "canceled", "replaced", "trade_bust")
    for where in ("update", "order")
    for field in (data_of(name) if where == "update" else data_of(name)["order"])
    if (where, field) not in {("update", "order"), ("order", "id"), ("order", "symbol")}
]
RUINS: list[Any] = [None, "", "?!", [], {}, True, -1, "NaN", "1e999999999"]


def crippled(name: str, where: str, field: str) -> tuple[dict[str, Any], dict[str, Any]]:
    data = data_of(name)
    holder = data if where == "update" else data["order"]
    assert field in holder
    return data, holder


@pytest.mark.parametrize(("name", "where", "field"), FIELDS)
def test_any_field_but_the_essential_ones_may_be_missing(name: str, where: str, field: str) -> None:
    data, holder = crippled(name, where, field)
    whole = decoded(data_of(name))
    del holder[field]
    event = decoded(data)
    assert event.report.broker_order_id == whole.report.broker_order_id
    assert event.report.side is whole.report.side
    if field != "event":
        assert event.exec_type is whole.exec_type
    if (where, field) in {("update", "event"), ("order", "status")}:
        assert event.report.filled_quantity == whole.report.filled_quantity
    else:
        assert event.report.status is whole.report.status
    if event.report.filled_quantity != whole.report.filled_quantity:
        assert field == "filled_qty"
        assert event.report.version is None, "a report that does not know what is filled must not outrank one that does"


@pytest.mark.parametrize(("name", "where", "field"), FIELDS)
def test_any_field_but_the_essential_ones_may_be_nonsense(name: str, where: str, field: str) -> None:
    for ruin in RUINS:
        data, holder = crippled(name, where, field)
        holder[field] = ruin
        if field in ("side", "position_intent"):
            holder["side" if field == "position_intent" else "position_intent"] = "buy"
        assert decoded(data).report.broker_order_id == data["order"]["id"]


@pytest.mark.parametrize("field", ["id", "symbol"])
def test_an_order_without_its_essential_fields_is_unreadable(field: str) -> None:
    data = data_of("fill")
    del data["order"][field]
    with pytest.raises(decode.Unreadable, match=field):
        decoded(data)


def test_the_side_may_come_from_the_intent_but_not_from_nowhere() -> None:
    data = data_of("fill")
    del data["order"]["side"]
    data["order"]["position_intent"] = "sell_to_close"
    assert decoded(data).report.side is Side.SELL
    del data["order"]["position_intent"]
    with pytest.raises(decode.Unreadable, match="side"):
        decoded(data)


@pytest.mark.parametrize("data", [None, [], "text", 7, {}, {"order": None}, {"order": []}, {"event": "fill"}])
def test_what_is_no_trade_update_is_unreadable(data: Any) -> None:
    with pytest.raises(decode.Unreadable):
        decode.trade_update(data, AT, Counter())


def test_a_fill_that_does_not_say_how_much_still_tells_what_is_filled() -> None:
    data = data_of("fill")
    del data["qty"]
    event = decoded(data)
    assert event.exec_type is ExecType.TRADE
    assert event.execution is None
    assert event.report.filled_quantity == Decimal(80)
    assert event.report.average_price == Decimal("415.475")


def test_a_price_missing_from_the_only_execution_is_the_average() -> None:
    data = data_of("fill_at_once")
    del data["price"]
    event = decoded(data)
    assert event.execution is not None
    assert event.execution.price == Decimal("415.46")


def test_an_execution_without_an_id_is_named_after_its_stretch_and_so_the_same_twice() -> None:
    data = data_of("fill")
    del data["execution_id"]
    first, second = decoded(data), decoded(data)
    assert first.execution is not None
    assert first.execution == second.execution
    assert first.execution.execution_id == f"{data['order']['id']}@80"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # drawing is slow on a busy machine
@given(
    changes=st.dictionaries(st.sampled_from(sorted(data_of("fill"))), json_values, max_size=4),
    order_changes=st.dictionaries(st.sampled_from(sorted(data_of("fill")["order"])), json_values, max_size=6),
)
def test_whatever_comes_is_decoded_or_unreadable_and_nothing_else(
    changes: dict[str, Any], order_changes: dict[str, Any]
) -> None:
    data = data_of("fill")
    data["order"].update(order_changes)
    data.update(changes)
    try:
        events = decode.trade_update(data, AT, Counter())
    except decode.Unreadable:
        return
    for event in events:
        assert event.report.filled_quantity.is_finite()
        assert event.report.version is None or event.report.version.utcoffset() is not None


# --- scalars --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "amount"),
    [
        ("41.25", "41.25"),
        (" 7 ", "7"),
        (7, "7"),
        (0.1, "0.1"),
        (1e-9, "0.000000001"),
        ("-3.5", "-3.5"),
        ("0.000000001", "0.000000001"),
    ],
)
def test_a_number(wire: object, amount: str) -> None:
    assert decode.number(wire) == Decimal(amount)


@pytest.mark.parametrize(
    "wire", ["", "ten", "NaN", "Infinity", "-inf", "1e99", True, None, [], {}, float("nan"), float("inf")]
)
def test_no_number(wire: object) -> None:
    assert decode.number(wire) is None


@pytest.mark.parametrize(
    ("wire", "at"),
    [
        ("2026-05-11T13:45:12.298871345Z", datetime(2026, 5, 11, 13, 45, 12, 298871, tzinfo=UTC)),
        ("2026-05-11T09:45:12.5-04:00", datetime(2026, 5, 11, 13, 45, 12, 500000, tzinfo=UTC)),
        ("2026-05-11T13:45:12Z", datetime(2026, 5, 11, 13, 45, 12, tzinfo=UTC)),
        ("2026-05-11T13:45:12", datetime(2026, 5, 11, 13, 45, 12, tzinfo=UTC)),
        ("2026-05-11", datetime(2026, 5, 11, tzinfo=UTC)),
    ],
)
def test_a_time(wire: str, at: datetime) -> None:
    found = decode.instant(wire)
    assert found == at
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize("wire", ["", "soon", 1778507112, None, "2026-13-40T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_no_time(wire: object) -> None:
    assert decode.instant(wire) is None


# --- the rest of a snapshot -----------------------------------------------------------------------

FILL = {
    "activity_type": "FILL",
    "id": "20260511094512298::1f7d6a3c-6f0e-4a2b-9a51-0000000000aa",
    "transaction_time": "2026-05-11T13:45:12.298871Z",
    "type": "partial_fill",
    "price": "415.46",
    "qty": "30",
    "side": "buy",
    "symbol": "MSFT",
    "leaves_qty": "50",
    "cum_qty": "30",
    "order_id": "7c1b1a52-3f0e-4f1c-9a57-0a6d5d3e0101",
    "order_status": "partially_filled",
}


def test_a_fill_activity() -> None:
    fill = decode.fill_activity(FILL, Counter())
    assert fill.execution_id == "1f7d6a3c-6f0e-4a2b-9a51-0000000000aa"
    assert (fill.broker_order_id, fill.symbol, fill.side) == (FILL["order_id"], "MSFT", Side.BUY)
    assert (fill.quantity, fill.price, fill.cum_quantity) == (Decimal(30), Decimal("415.46"), Decimal(30))
    assert decode.fill_activity({**FILL, "side": "sell_short"}, Counter()).side is Side.SELL


@pytest.mark.parametrize("field", sorted(FILL))
def test_a_fill_activity_without_a_field(field: str) -> None:
    activity = {name: value for name, value in FILL.items() if name != field}
    if field in {"activity_type", "type", "leaves_qty", "cum_qty", "order_status"}:
        assert decode.fill_activity(activity, Counter()).quantity == Decimal(30)
    else:
        with pytest.raises(decode.Unreadable, match=field):
            decode.fill_activity(activity, Counter())


POSITION = {
    "asset_id": "2d6f0f6a-75b1-4a0f-8a62-6a1f25d3c001",
    "symbol": "MSFT",
    "qty": "-80",
    "side": "short",
    "avg_entry_price": "415.475",
    "cost_basis": "-33238",
    "market_value": "-33200",
    "current_price": "415",
}


def test_a_position() -> None:
    position = decode.position_report(POSITION, Counter())
    assert (position.symbol, position.quantity, position.average_price) == ("MSFT", Decimal(-80), Decimal("415.475"))
    assert (position.market_value, position.current_price) == (Decimal(-33200), Decimal(415))


@pytest.mark.parametrize("field", sorted(set(POSITION) - {"symbol", "qty"}))
def test_a_position_without_a_field(field: str) -> None:
    position = decode.position_report({name: value for name, value in POSITION.items() if name != field}, Counter())
    assert (position.quantity, position.average_price) == (Decimal(-80), Decimal("415.475"))


@pytest.mark.parametrize("change", [{"qty": "80"}, {"side": "long"}, {"qty": None}, {"symbol": ""}])
def test_a_position_that_contradicts_itself_or_says_nothing_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(decode.Unreadable):
        decode.position_report({**POSITION, **change}, Counter())


ACCOUNT = {
    "id": "5a1e7c1e-9a55-4d0e-9e7d-000000000001",
    "account_number": "PA3SIM000001",
    "status": "ACTIVE",
    "cash": "95050.5",
    "equity": "100012.5",
    "portfolio_value": "100012.5",
    "position_market_value": "4962",
    "last_equity": "100000",
    "buying_power": "195063",
    "regt_buying_power": "195063",
    "trading_blocked": False,
    "account_blocked": False,
    "trade_suspended_by_user": False,
}


def test_an_account() -> None:
    account = decode.account_report(ACCOUNT, Counter())
    assert account.account_id == "PA3SIM000001"
    assert (account.cash, account.equity, account.last_equity) == (
        Decimal("95050.5"),
        Decimal("100012.5"),
        Decimal(100000),
    )
    assert account.buying_power == Decimal(195063)
    assert not account.blocked


@pytest.mark.parametrize("field", sorted(set(ACCOUNT) - {"cash"}))
def test_an_account_without_a_field(field: str) -> None:
    account = decode.account_report({name: value for name, value in ACCOUNT.items() if name != field}, Counter())
    assert (account.cash, account.equity) == (Decimal("95050.5"), Decimal("100012.5"))
    assert account.buying_power == Decimal(195063)


@pytest.mark.parametrize("flag", ["trading_blocked", "account_blocked", "trade_suspended_by_user"])
def test_an_account_that_may_not_trade_is_blocked(flag: str) -> None:
    assert decode.account_report({**ACCOUNT, flag: True}, Counter()).blocked
    assert decode.account_report({**ACCOUNT, flag: "true"}, Counter()).blocked


@pytest.mark.parametrize("change", [{"cash": None}, {"cash": "lots"}, {"id": None, "account_number": None}])
def test_an_account_without_cash_or_name_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(decode.Unreadable):
        decode.account_report({**ACCOUNT, **change}, Counter())


# --- quotes ---------------------------------------------------------------------------------------


def test_a_quote_whose_numbers_are_floats() -> None:
    at = datetime(2026, 5, 11, 13, 45, tzinfo=UTC)
    quote = decode.quote({"T": "q", "S": "MSFT", "bp": 415.1, "bs": 300, "ap": 415.12, "as": 2, "t": at}, AT, Counter())
    assert (quote.bid, quote.ask) == (Decimal("415.1"), Decimal("415.12"))
    assert (quote.bid_size, quote.ask_size, quote.at) == (Decimal(300), Decimal(2), at)


def test_a_quote_without_sizes_or_time_is_as_of_its_arrival() -> None:
    quote = decode.quote({"S": "MSFT", "bp": 1, "ap": 2}, AT, Counter())
    assert (quote.bid_size, quote.ask_size, quote.at) == (Decimal(0), Decimal(0), AT)


@pytest.mark.parametrize("change", [{"S": None}, {"bp": None}, {"ap": "high"}])
def test_a_quote_without_symbol_or_prices_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(decode.Unreadable):
        decode.quote({"S": "MSFT", "bp": 1, "ap": 2, **change}, AT, Counter())


@pytest.mark.parametrize(
    ("order_class", "replaced_by", "status"),
    [
        ("bracket", None, OrderStatus.CANCELED),
        ("oco", None, OrderStatus.CANCELED),
        ("bracket", "new-id", OrderStatus.REPLACED),
        ("", None, OrderStatus.REPLACED),
    ],
)
def test_a_member_of_a_group_that_nothing_replaces_has_ended(
    order_class: str, replaced_by: str | None, status: OrderStatus
) -> None:
    raw = {**data_of("replaced")["order"], "replaced_by": replaced_by, "order_class": order_class}
    report = decode.order_report(raw, Counter())
    assert (report.status, report.raw_status) == (status, "replaced")


def test_nested_legs_come_out_flat_and_name_their_parent() -> None:
    parent = data_of("new")["order"]
    leg = {**data_of("held")["order"]}
    reports = decode.order_reports({**parent, "order_class": "bracket", "legs": [leg]}, Counter())
    assert [(report.broker_order_id, report.parent) for report in reports] == [
        (parent["id"], None),
        (leg["id"], parent["id"]),
    ]
