"""Belief as people see it: rows, money, health, and an age on every number."""

from __future__ import annotations

import pytest
from tests.core.build import AAPL, START, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.commands import CancelOrder, Kill, Resume
from trueup.core.events import FeedAcknowledged, FeedLost, FeedRestored
from trueup.core.model import ExecType, FeedName, OrderStatus, Quote, RequestOutcome, Side, Symbol
from trueup.core.projection import (
    SEED_STATUS,
    RuntimeNumbers,
    breakers_view,
    drifts_view,
    executions_view,
    gaps_view,
    health_view,
    kill_switch_view,
    log_views,
    order_detail_view,
    order_status_view,
    order_view,
    orders_view,
    portfolio_view,
    positions_view,
    quotes_view,
    system_snapshot_view,
)
from trueup.core.views import Channel, OrderStatusView, SeedStatus, TradeExecutedView

S = OrderStatus
NUMBERS = RuntimeNumbers()


def quote(bid: str = "10.90", ask: str = "11.10", *, symbol: str = AAPL, when: float = 0) -> dict[Symbol, Quote]:
    name = Symbol(symbol)
    return {name: Quote(symbol=name, bid=D(bid), ask=D(ask), at=at(when))}


def filled(quantity: int = 40, price: str = "10") -> Desk:
    desk = Desk()
    desk.submit(100)
    match = execution("e-1", quantity, price, cum=quantity, when=1)
    row = report(S.PARTIALLY_FILLED, quantity, version=1, average=price)
    desk.tell(streamed(ExecType.TRADE, row, match, when=1.25))
    return desk


# --- orders -------------------------------------------------------------------------------------------------------


def test_every_status_has_one_of_the_five_words() -> None:
    assert set(SEED_STATUS) == set(S)
    assert set(SEED_STATUS.values()) == set(SeedStatus)
    assert {status for status, word in SEED_STATUS.items() if word is SeedStatus.CANCELLED} == {S.CANCELED, S.EXPIRED}
    assert {status for status, word in SEED_STATUS.items() if word is SeedStatus.REJECTED} == {S.REJECTED, S.DENIED}
    assert {status for status, word in SEED_STATUS.items() if word is SeedStatus.FILLED} == {S.FILLED}


def test_a_row_tells_the_word_and_the_exact_status() -> None:
    row = order_view(filled().of())
    assert (row.status, row.detail) == ("SUBMITTED", "PARTIALLY_FILLED")
    assert (row.quantity, row.filled_quantity, row.leaves_quantity, row.average_price) == (100, 40, 60, 10)
    assert (row.client_order_id, row.broker_order_id, row.broker_order_ids) == ("c-1", "b-1", ("b-1",))
    assert (row.source, row.updated_at, row.confirmed_at) == ("stream", at(1.25), at(1.25))
    assert (row.terminal, row.in_doubt, row.origin) == (False, "", "operator")


def test_a_row_shows_doubt() -> None:
    desk = Desk()
    desk.submit(100)
    desk.answer(RequestOutcome.UNKNOWN, message="timeout", when=1)
    row = order_view(desk.of())
    assert (row.in_doubt, row.status, row.detail, row.broker_order_id) == ("submit", "PENDING", "PENDING_NEW", None)


def test_the_status_message_carries_the_row() -> None:
    order = filled().of()
    message = order_status_view(order)
    assert message.order == order_view(order)
    assert (message.id, message.broker_order_id, message.symbol) == ("o-4", "b-1", "AAPL")
    assert (message.status, message.detail, message.filled_quantity) == ("SUBMITTED", "PARTIALLY_FILLED", 40)
    assert message.filled_price == 10


def test_the_time_of_the_fill_comes_from_the_broker_or_from_the_last_match() -> None:
    desk = filled()
    assert order_view(desk.of()).filled_at is None
    match = execution("e-2", 60, cum=100, when=2)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), match, when=2))
    assert order_view(desk.of()).filled_at == at(2)
    desk.tell(streamed(ExecType.STATUS, report(S.FILLED, 100, version=3, filled_at=at(2.5)), when=4))
    assert order_view(desk.of()).filled_at == at(2.5)


def test_orders_are_listed_newest_first() -> None:
    desk = filled()
    desk.submit(5, client_id="c-2")
    assert [row.client_order_id for row in orders_view(desk.belief)] == ["c-2", "c-1"]


@pytest.mark.parametrize("any_id", ["o-4", "c-1", "b-1"])
def test_an_order_is_found_by_any_of_its_ids(any_id: str) -> None:
    detail = order_detail_view(filled().belief, any_id)
    assert detail is not None
    assert detail.order.id == "o-4"


def test_an_unknown_order_has_no_detail() -> None:
    assert order_detail_view(filled().belief, "o-99") is None


def test_a_story_tells_each_input_with_its_way_and_both_times() -> None:
    desk = filled()
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id, reason="changed my mind"))
    desk.lose(3)
    desk.restore(snapshot(report(S.CANCELED, 40, version=4), when=6, holdings={"AAPL": 40}), when=5)
    detail = order_detail_view(desk.belief, "c-1")
    assert detail is not None
    told = [(entry.event, entry.source, entry.status_after, entry.filled_after) for entry in detail.timeline]
    assert told == [
        ("intent", "command", "PENDING_NEW", 0),
        ("TRADE", "stream", "PARTIALLY_FILLED", 40),
        ("cancel_intent", "command", "PENDING_CANCEL", 40),
        ("STATUS", "reconcile", "CANCELED", 40),
    ]
    assert detail.timeline[1].broker_at == at(1)
    assert detail.timeline[1].arrived_at == at(1.25)
    assert detail.timeline[1].text == "fill 40 @ 10 (e-1)"
    assert [gap.reason for gap in detail.gaps] == ["cut"]


# --- executions ---------------------------------------------------------------------------------------------------


def test_an_execution_tells_how_late_and_by_which_way_it_was_learned() -> None:
    (view,) = executions_view(filled().belief)
    assert (view.id, view.quantity, view.entry_price, view.entry_time) == ("e-1", 40, 10, at(1))
    assert (view.source, view.learned_at, view.late_s, view.missed_by_stream) == ("stream", at(1.25), D("0.250"), False)
    assert (view.kind, view.inferred) == ("fill", False)


def test_shares_without_an_execution_are_told_as_inferred_until_it_comes() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=1, average="10"), when=2, holdings={"AAPL": 40}))
    (view,) = executions_view(desk.belief)
    assert (view.quantity, view.inferred, view.execution_id) == (40, True, "")
    match = execution("e-1", 40, cum=40, when=1)
    row = report(S.PARTIALLY_FILLED, 40, version=1)
    outcome = desk.tell(streamed(ExecType.TRADE, row, match, when=3))
    (view,) = executions_view(desk.belief)
    assert (view.quantity, view.inferred, view.execution_id) == (40, False, "e-1")
    (told,) = [item for _, item in log_views(desk.belief, outcome, at(3)) if isinstance(item, TradeExecutedView)]
    assert told.replaces_inferred


def test_a_bust_is_shown_and_not_erased() -> None:
    desk = filled()
    desk.tell(streamed(ExecType.TRADE_CANCEL, report(S.NEW, 0, version=2), refers_to="e-1", when=2))
    (view,) = executions_view(desk.belief)
    assert (view.id, view.kind) == ("e-1", "bust")


def test_executions_are_listed_newest_first_and_bounded() -> None:
    desk = filled()
    match = execution("e-2", 60, cum=100, when=2)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), match, when=2))
    assert [view.id for view in executions_view(desk.belief)] == ["e-2", "e-1"]
    assert [view.id for view in executions_view(desk.belief, 1)] == ["e-2"]


def test_what_a_step_publishes_fills_first_then_rows_then_the_rest() -> None:
    desk = Desk()
    desk.submit(100)
    match = execution("e-1", 110, cum=110, when=1)
    outcome = desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 110, version=1), match, when=1))
    channels = [channel for channel, _ in log_views(desk.belief, outcome, at(1))]
    assert channels == [Channel.TRADE_EXECUTED, Channel.ORDER_STATUS, Channel.RISK_ALERT, Channel.TRUTH_DRIFT]


def test_a_repeat_publishes_nothing() -> None:
    desk = filled()
    match = execution("e-1", 40, "10", cum=40, when=1)
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="10")
    outcome = desk.tell(streamed(ExecType.TRADE, row, match, when=2))
    assert log_views(desk.belief, outcome, at(2)) == []


# --- positions and money ------------------------------------------------------------------------------------------


def test_a_holding_is_valued_at_the_middle_of_the_newest_quote() -> None:
    (view,) = positions_view(filled().belief, quote(when=3), at(4))
    assert (view.quantity, view.average_price, view.price) == (40, 10, D("11.00"))
    assert (view.market_value, view.unrealized_pnl, view.quote_at) == (D("440.00"), D("40.00"), at(3))


def test_a_short_gains_when_the_price_falls() -> None:
    desk = Desk(holdings={"AAPL": -10})
    (view,) = positions_view(desk.belief, quote("8.90", "9.10"), at(1))
    assert (view.market_value, view.unrealized_pnl) == (D("-90.00"), D("10.00"))


def test_without_any_price_nothing_is_made_up() -> None:
    desk = filled()
    (view,) = positions_view(desk.belief, {}, at(4))
    assert (view.price, view.market_value, view.unrealized_pnl, view.quote_at) == (None, None, None, None)
    money = portfolio_view(desk.belief, {}, at(4))
    assert (money.positions_value, money.total_equity, money.daily_pnl) == (None, None, None)
    assert money.cash == D("99600.00")


def test_before_the_first_snapshot_nothing_is_known() -> None:
    desk = Desk(live=False)
    money = portfolio_view(desk.belief, {}, START)
    assert (money.cash, money.total_equity, money.daily_pnl_pct, money.max_drawdown_pct) == (None, None, None, None)
    assert money.as_of is None
    assert health_view(desk.belief, NUMBERS, START).truth_lag_s is None


def test_the_account_in_money() -> None:
    money = portfolio_view(filled().belief, quote(when=3), at(4))
    assert (money.cash, money.positions_value, money.total_equity) == (D("99600.00"), D("440.00"), D("100040.00"))
    assert (money.daily_pnl, money.daily_pnl_pct) == (D("40.00"), D("0.04"))
    assert (money.total_pnl, money.total_pnl_pct, money.max_drawdown_pct) == (D("40.00"), D("0.04"), D("0.00"))
    assert money.as_of == at(1.25)


@pytest.mark.parametrize(("age", "stale"), [(0, ()), (10, ()), (10.5, ("AAPL",))])
def test_an_old_price_is_named(age: float, stale: tuple[str, ...]) -> None:
    assert portfolio_view(filled().belief, quote(when=5), at(5 + age)).stale_symbols == stale


def test_a_flat_symbol_is_left_out_unless_it_drifts() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(10, Side.SELL)
    match = execution("e-1", 10, cum=10, when=1, side=Side.SELL)
    row = report(S.FILLED, 10, version=1, side=Side.SELL, quantity=10)
    desk.tell(streamed(ExecType.TRADE, row, match, when=1))
    assert positions_view(desk.belief, {}, at(2)) == ()
    desk.tell(snapshot(row, when=30, holdings={"AAPL": 3}))
    (view,) = positions_view(desk.belief, {}, at(31))
    assert (view.quantity, view.broker_quantity, view.drift) == (0, 3, "suspected")


def test_a_drifting_holding_is_as_old_as_its_last_proof() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    desk.tell(streamed(ExecType.NEW, report(symbol="MSFT", version=6), when=6))
    (view,) = positions_view(desk.belief, {}, at(7))
    assert view.as_of == at(-2)


# --- health -------------------------------------------------------------------------------------------------------


def test_a_live_desk_is_healthy() -> None:
    health = health_view(Desk().belief, NUMBERS, at(1))
    assert (health.status, health.trading_state, health.entries_gated, health.reasons) == (
        "healthy",
        "ACTIVE",
        False,
        (),
    )
    assert (health.truth_lag_s, health.broker_events.status) == (D("3.000"), "UP")
    assert (health.broker_events.last_result, health.broker_events.reconciliation_age_s) == ("clean", D("3.000"))


def test_health_before_the_first_reconciliation_is_down() -> None:
    health = health_view(Desk(live=False).belief, NUMBERS, at(1))
    assert (health.status, health.broker_events.status, health.entries_gated) == ("down", "DOWN", True)


def test_a_lost_stream_degrades_and_says_why() -> None:
    desk = Desk()
    desk.lose(1, "connection reset")
    health = health_view(desk.belief, NUMBERS, at(61))
    assert (health.status, health.trading_state) == ("degraded", "REDUCE_ONLY")
    assert any("connection reset" in reason for reason in health.reasons)
    assert health.truth_lag_s == D("63.000")
    assert health.gap is not None


def test_the_market_data_stream_has_its_own_health() -> None:
    desk = Desk()
    desk.tell(
        FeedAcknowledged(at=at(1), feed=FeedName.MARKET_DATA),
        FeedRestored(at=at(1), feed=FeedName.MARKET_DATA),
        FeedLost(at=at(2), feed=FeedName.MARKET_DATA, reason="cut"),
    )
    numbers = RuntimeNumbers(market_data_last_message_at=at(1), quote_symbol_count=3, queues={"outbox": 2})
    health = health_view(desk.belief, numbers, at(5))
    assert (health.market_data.status, health.market_data.age_s, health.market_data.symbol_count) == (
        "DOWN",
        D("4.000"),
        3,
    )
    assert (health.status, health.broker_events.status, health.entries_gated) == ("degraded", "UP", False)
    assert health.queues == {"outbox": 2}


def test_doubt_and_drift_are_counted() -> None:
    desk = Desk()
    desk.submit(100)
    desk.answer(RequestOutcome.UNKNOWN, when=1)
    desk.tell(snapshot(when=2, holdings={"MSFT": 1}))
    health = health_view(desk.belief, NUMBERS, at(3))
    assert (health.in_doubt_orders, health.open_drifts, health.working_orders) == (1, 1, 1)
    assert health.status == "degraded"


def test_a_kill_is_down_and_the_kill_switch_shows_it() -> None:
    desk = Desk()
    assert kill_switch_view(desk.belief) is None
    desk.tell(Kill(at=at(1), reason="storm"))
    assert health_view(desk.belief, NUMBERS, at(2)).status == "down"
    view = kill_switch_view(desk.belief)
    assert view is not None
    assert (view.action, view.reason, view.operator, view.timestamp) == ("activate", "storm", "human", at(1))
    desk.tell(Resume(at=at(3), reason="over"))
    view = kill_switch_view(desk.belief)
    assert view is not None
    assert (view.action, view.state) == ("deactivate", "ACTIVE")


def test_breakers_gaps_drifts_and_quotes_have_their_lists() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    desk.lose(6)
    assert [(view.breaker, view.demand) for view in breakers_view(desk.belief)] == [("stale_data", "REDUCE_ONLY")]
    assert [view.reason for view in gaps_view(desk.belief)] == ["cut"]
    assert [(view.subject, view.state) for view in drifts_view(desk.belief)] == [("AAPL", "suspected")]
    many = {**quote(symbol="MSFT"), **quote()}
    assert [view.symbol for view in quotes_view(many).quotes] == ["AAPL", "MSFT"]


def test_the_first_picture_holds_everything() -> None:
    desk = filled()
    picture = system_snapshot_view(desk.belief, quote(), NUMBERS, at(4))
    assert picture.portfolio == portfolio_view(desk.belief, quote(), at(4))
    assert picture.orders == orders_view(desk.belief)
    assert picture.executions == executions_view(desk.belief)
    assert picture.health == health_view(desk.belief, NUMBERS, at(4))
    assert picture.kill_switch is None


def test_looking_changes_nothing() -> None:
    desk = filled()
    first = system_snapshot_view(desk.belief, quote(), NUMBERS, at(4))
    assert system_snapshot_view(desk.belief, quote(), NUMBERS, at(4)) == first


def test_a_status_message_for_a_denied_order_says_why() -> None:
    desk = Desk()
    outcome = desk.submit(-1)
    (message,) = [view for _, view in log_views(desk.belief, outcome, at(0)) if isinstance(view, OrderStatusView)]
    assert (message.status, message.detail) == ("REJECTED", "DENIED")
    assert message.order is not None
    assert message.order.reason == "quantity must be greater than 0"
