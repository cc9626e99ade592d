"""Belief as people see it: rows, money, health, and an age on every number."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, ROUND_UP, localcontext

import pytest
from tests.core.build import AAPL, START, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.commands import CancelOrder, Kill, Resume, SubmitOrder
from trueup.core.events import FeedAcknowledged, FeedLost, FeedRestored, RuntimeStarted
from trueup.core.model import (
    ClientOrderId,
    ExecType,
    FeedName,
    OrderStatus,
    OrderType,
    Quote,
    RequestOutcome,
    Side,
    Source,
    Symbol,
    TimeInForce,
)
from trueup.core.orders import Fill, Held, TimelineEntry
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
    order_story_view,
    order_view,
    orders_view,
    portfolio_view,
    positions_view,
    quotes_view,
    system_snapshot_view,
    timeline_view,
)
from trueup.core.views import (
    BrokerEventsHealth,
    Channel,
    CircuitBreakerView,
    GapView,
    HealthView,
    KillSwitchView,
    MarketDataHealth,
    OrderStatusView,
    OrderView,
    PositionView,
    QuoteView,
    SeedStatus,
    TimelineEntryView,
    TimelineFillView,
    TradeExecutedView,
)

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


# --- every field of every row -------------------------------------------------------------------------------------


def strategic() -> Desk:
    """A strategy's stop-limit order to sell 100, of which 40 are sold."""
    desk = Desk(holdings={"AAPL": 100})
    desk.tell(
        SubmitOrder(
            at=at(0),
            symbol=AAPL,
            side=Side.SELL,
            quantity=D(100),
            order_type=OrderType.STOP_LIMIT,
            time_in_force=TimeInForce.GTC,
            limit_price=D("9.50"),
            stop_price=D("9.75"),
            client_order_id=ClientOrderId("c-1"),
            strategy_name="sma",
        )
    )
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="9.60", side=Side.SELL)
    match = execution("e-1", 40, "9.60", cum=40, when=1, side=Side.SELL)
    desk.tell(streamed(ExecType.TRADE, replace(row, submitted_at=at(0.5)), match, when=1.2507))
    return desk


def test_a_row_tells_all_that_is_known_of_an_order() -> None:
    row = OrderView(
        id="o-4",
        client_order_id="c-1",
        broker_order_id="b-1",
        symbol="AAPL",
        side="SELL",
        quantity=D(100),
        filled_quantity=D(40),
        average_price=D("9.60"),
        status="SUBMITTED",
        detail="PARTIALLY_FILLED",
        source="stream",
        updated_at=at(1.2507),
        type="STOP_LIMIT",
        time_in_force="GTC",
        limit_price=D("9.50"),
        stop_price=D("9.75"),
        leaves_quantity=D(60),
        in_doubt="",
        origin="strategy",
        strategy_name="sma",
        reason="",
        submitted_at=at(0.5),
        filled_at=None,
        confirmed_at=at(1.2507),
        terminal=False,
        broker_order_ids=("b-1",),
    )
    assert order_view(strategic().of()) == row


def test_a_row_of_an_order_that_was_never_sent_and_of_one_without_a_name() -> None:
    desk = Desk()
    desk.submit(-1, when=3)
    denied = order_view(desk.of())
    assert (denied.terminal, denied.broker_order_id, denied.broker_order_ids) == (True, None, ())
    assert (denied.submitted_at, denied.average_price) == (at(3), None)
    desk.tell(streamed(ExecType.NEW, report(client_id=None, broker_id="b-9", version=4), when=4))
    assert order_view(desk.of("b-9")).client_order_id == ""


def test_the_status_message_tells_when_it_filled() -> None:
    desk = strategic()
    assert order_status_view(desk.of()).filled_at is None
    desk.tell(
        streamed(ExecType.STATUS, report(S.FILLED, 100, version=3, side=Side.SELL, filled_at=at(2.5)), when=4),
    )
    assert order_status_view(desk.of()).filled_at == at(2.5)


SOLD = TradeExecutedView(
    id="e-1",
    symbol="AAPL",
    side="SELL",
    quantity=D(40),
    entry_price=D("9.60"),
    entry_time=at(1),
    strategy_name="sma",
    order_id="o-4",
    broker_order_id="b-1",
    execution_id="e-1",
    source="stream",
    learned_at=at(1.2507),
    late_s=D("0.250"),
)


def test_an_execution_tells_all_that_is_known_of_it() -> None:
    assert executions_view(strategic().belief) == (SOLD,)


def test_a_corrected_execution_says_so() -> None:
    desk = strategic()
    row = report(S.PARTIALLY_FILLED, 40, version=2, side=Side.SELL)
    better = execution("e-1b", 40, "9.65", when=1, side=Side.SELL)
    desk.tell(streamed(ExecType.TRADE_CORRECT, row, better, refers_to="e-1", when=3))
    (view,) = executions_view(desk.belief)
    assert view == replace(SOLD, id="e-1b", execution_id="e-1b", entry_price=D("9.65"), kind="correction")


def test_an_execution_beyond_the_brokers_total_is_shown_and_not_counted() -> None:
    desk = strategic()
    row = report(S.PARTIALLY_FILLED, 40, version=2, side=Side.SELL)
    more = execution("e-2", 30, "9.70", when=2, side=Side.SELL)
    desk.tell(streamed(ExecType.TRADE, row, more, when=2.5))
    assert order_view(desk.of()).filled_quantity == 40
    beyond = replace(
        SOLD,
        id="e-2",
        execution_id="e-2",
        quantity=D(30),
        entry_price=D("9.70"),
        entry_time=at(2),
        learned_at=at(2.5),
        late_s=D("0.500"),
        kind="unplaced",
    )
    assert executions_view(desk.belief) == (beyond, SOLD)


def test_shares_without_an_execution_are_told_with_all_that_is_known_of_them() -> None:
    desk = strategic()
    desk.lose(2)
    row = report(S.PARTIALLY_FILLED, 70, version=3, average="9.70", side=Side.SELL)
    outcome = desk.tell(snapshot(row, when=6, holdings={"AAPL": 30}))
    inferred = TradeExecutedView(
        id="inferred-b-1-70",
        symbol="AAPL",
        side="SELL",
        quantity=D(30),
        entry_price=D("9.833333"),
        entry_time=at(3),
        strategy_name="sma",
        order_id="o-4",
        broker_order_id="b-1",
        source="reconcile",
        learned_at=at(6),
        late_s=D("3.000"),
        missed_by_stream=True,
        inferred=True,
    )
    published = [view for _, view in log_views(desk.belief, outcome, at(6)) if isinstance(view, TradeExecutedView)]
    assert published == [inferred]
    assert executions_view(desk.belief) == (replace(inferred, id="inferred-b-1"), SOLD)


def test_a_bust_that_nobody_explained_is_published_as_one() -> None:
    desk = Desk()
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=3, average="10"), when=6, holdings={AAPL: 40}))
    fallen = report(S.PARTIALLY_FILLED, 25, version=7, average="10")
    outcome = desk.tell(snapshot(fallen, when=20, holdings={AAPL: 25}))
    (view,) = [view for _, view in log_views(desk.belief, outcome, at(20)) if isinstance(view, TradeExecutedView)]
    assert (view.quantity, view.kind, view.inferred, view.missed_by_stream) == (-15, "bust", True, False)


def test_the_newest_executions_are_found_among_many_orders() -> None:
    desk = Desk()
    for number in range(1, 9):
        name = f"b-{number}"
        row = report(S.FILLED, 5, version=number, broker_id=name, client_id=f"c-{number}", quantity=5)
        when = 20 if number == 2 else number
        match = execution(f"e-{number}", 5, cum=5, when=when, broker_id=name)
        desk.tell(streamed(ExecType.TRADE, row, match, when=number))
    assert [view.id for view in executions_view(desk.belief, 2)] == ["e-2", "e-8"]
    assert [view.id for view in executions_view(desk.belief, 1)] == ["e-8"], "four times as many are looked at"


def test_a_line_of_a_story_tells_all_its_fills() -> None:
    desk = strategic()
    first = desk.of().timeline[-1]
    desk.lose(2)
    row = report(S.PARTIALLY_FILLED, 70, version=3, average="9.70", side=Side.SELL)
    desk.tell(snapshot(row, when=6, holdings={"AAPL": 30}))
    late = [
        execution("e-2", 10, "9.80", cum=50, when=2, side=Side.SELL),
        execution("e-3", 20, "9.85", cum=70, when=3, side=Side.SELL),
    ]
    desk.tell(snapshot(row, when=9, executions=late, holdings={"AAPL": 30}))
    lines = timeline_view(desk.of().timeline)
    assert [line.text for line in lines] == [
        "allowed; client order id c-1",
        "fill 40 @ 9.60 (e-1)",
        "inferred 30 @ 9.833333",
        "fill 10 @ 9.80 (e-2), known before as inferred; fill 20 @ 9.85 (e-3), known before as inferred",
    ]
    assert (lines[1].offset, lines[1].changed, lines[1].status_after) == (first.offset, True, "PARTIALLY_FILLED")
    assert (lines[1].arrived_at, lines[1].filled_after) == (at(1.2507), 40)


def test_a_line_of_a_story_has_every_field_and_every_fill() -> None:
    line = timeline_view(strategic().of().timeline)[-1]
    assert line == TimelineEntryView(
        offset=5,
        event="TRADE",
        source="stream",
        broker_at=at(1),
        arrived_at=at(1.2507),
        status_after="PARTIALLY_FILLED",
        filled_after=D(40),
        text="fill 40 @ 9.60 (e-1)",
        changed=True,
        told="fill",
        fills=(TimelineFillView(kind="fill", quantity=D(40), price=D("9.60"), execution_id="e-1", replaced=D(0)),),
    )


def inferred(quantity: str) -> Fill:
    return Fill(D(quantity), D("9.1234567"), at(1), None, True)


def named(quantity: str, *, late: bool = True) -> Fill:
    held = Held(execution("e-9", quantity, "9"), Source.RECONCILE, at(2))
    return Fill(D(quantity), D(9), at(1), held, False, replaces_inferred=late)


def line(*fills: Fill, event: str = "STATUS", source: Source = Source.RECONCILE, changed: bool = True) -> TimelineEntry:
    return TimelineEntry(1, event, source, None, at(2), S.NEW, D(0), "", changed, fills)


@pytest.mark.parametrize(
    ("lines", "replaced"),
    [
        ([[inferred("30")]], [0]),
        ([[inferred("30")], [named("30")]], [30, 0]),
        ([[inferred("30")], [named("10")]], [10, 0]),
        ([[inferred("30")], [named("10")], [named("20")]], [30, 0, 0]),
        ([[inferred("30")], [named("10")], [named("25")]], [30, 0, 0]),
        ([[inferred("30")], [named("0.5")], [named("0.5")]], [1, 0, 0]),
        ([[inferred("30")], [named("30", late=False)]], [0, 0]),
        ([[inferred("30"), inferred("5")], [named("32")]], [30, 2, 0]),  # the oldest shares are named first
        ([[inferred("30")], [inferred("5")], [named("32")], [named("3")]], [30, 5, 0, 0]),
        ([[inferred("30")], [named("30")], [inferred("5")], [named("9")]], [30, 0, 5, 0]),
    ],
)
def test_an_inferred_fill_tells_how_many_of_its_shares_were_named_since(
    lines: list[list[Fill]], replaced: list[int]
) -> None:
    shown = timeline_view(line(*fills) for fills in lines)
    assert [fill.replaced for entry in shown for fill in entry.fills] == replaced


def test_a_fill_of_a_line_is_told_with_its_name_and_its_standing() -> None:
    first, second = (entry.fills[0] for entry in timeline_view([line(inferred("30")), line(named("30"))]))
    assert first == TimelineFillView(
        kind="fill", quantity=D(30), price=D("9.123457"), execution_id="", inferred=True, replaced=D(30)
    )
    assert second == TimelineFillView(
        kind="fill", quantity=D(30), price=D(9), execution_id="e-9", replaces_inferred=True, replaced=D(0)
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (line(event="intent"), "order allowed, to be sent"),
        (line(event=ExecType.TRADE_CANCEL), "fill annulled by the broker"),
        (line(event="A_WORD_of_tomorrow"), "a word of tomorrow"),
        (line(), "found in the broker's snapshot"),
        (line(source=Source.REPLY), "broker's answer to our request"),
        (line(named("3")), "fill, found in the broker's snapshot"),
        (line(named("3"), inferred("2"), source=Source.POLL), "fill inferred from the broker's total, found by a poll"),
    ],
)
def test_a_line_says_in_words_what_came_and_how(entry: TimelineEntry, told: str) -> None:
    assert [view.told for view in timeline_view([entry])] == [told]


@pytest.mark.parametrize("changed", [True, False])
def test_a_line_says_whether_it_changed_anything(changed: bool) -> None:
    assert [view.changed for view in timeline_view([line(changed=changed)])] == [changed]


def test_shares_that_fell_without_a_word_are_shown_as_of_the_last_change() -> None:
    desk = Desk()
    match = execution("e-1", 40, cum=40, when=1)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1), match, when=1))
    fallen = report(S.PARTIALLY_FILLED, 25, version=7, average="10")
    desk.tell(snapshot(fallen, when=20, holdings={AAPL: 25}))
    (below, _) = executions_view(desk.belief)
    assert (below.quantity, below.inferred, below.learned_at, below.late_s) == (-15, True, at(20), D("13.000"))


def test_a_bust_is_published_as_one() -> None:
    desk = strategic()
    row = report(S.NEW, 0, version=2, side=Side.SELL)
    outcome = desk.tell(streamed(ExecType.TRADE_CANCEL, row, refers_to="e-1", when=3))
    told = [view for _, view in log_views(desk.belief, outcome, at(3)) if isinstance(view, TradeExecutedView)]
    assert told == [replace(SOLD, kind="bust")]


GAP = GapView(id="g-1", feed="broker_events", reason="cut", opened_at=at(10), closed_at=at(20))


@pytest.mark.parametrize(
    ("born", "ended", "gap", "shown"),
    [
        (5, None, GAP, True),
        (20, None, GAP, True),  # born in the instant in which the gap closed
        (21, None, GAP, False),
        (5, 9, GAP, False),
        (5, 10, GAP, True),  # ended in the instant in which it opened
        (12, 14, GAP, True),
        (30, None, replace(GAP, closed_at=None), True),
        (5, 9, replace(GAP, closed_at=None), False),
        (30, 31, replace(GAP, closed_at=None), True),
    ],
)
def test_a_story_names_the_gaps_of_its_own_time(born: float, ended: float | None, gap: GapView, shown: bool) -> None:
    order = strategic().of()
    order.created_at = at(born)
    if ended is not None:
        order.leg.status, order.updated_at = S.CANCELED, at(ended)
    story = order_story_view(order, [], [gap])
    assert story.gaps == ((gap,) if shown else ())
    assert story.executions == (SOLD,)


# --- every number -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("average", "shown"),
    [
        ("10", "10"),
        ("10.10", "10.10"),
        ("10.123450", "10.123450"),  # six places say it all, as they came
        ("10.1234567", "10.123457"),
        ("10.1000004", "10.1"),
        ("10.12345650", "10.123456"),  # a half goes to the even neighbour
    ],
)
@pytest.mark.parametrize("rounding", [ROUND_HALF_EVEN, ROUND_UP])
def test_a_price_has_six_places_at_most_whatever_rounding_the_thread_prefers(
    average: str, shown: str, rounding: str
) -> None:
    desk = Desk()
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=3, average=average), when=6, holdings={AAPL: 40}))
    with localcontext() as context:
        context.rounding = rounding
        assert str(order_view(desk.of("b-1")).average_price) == shown


def two_holdings() -> tuple[Desk, dict[Symbol, Quote]]:
    """10 AAPL and 20 MSFT bought at 10; the peak of equity was 100,000."""
    desk = Desk(holdings={"AAPL": 10, "MSFT": 20})
    desk.tell(snapshot(when=2, holdings={"AAPL": 10, "MSFT": 20}, cash="100000"))
    return desk, {**quote("6.0005", "6.0005"), **quote("8", "8", symbol="MSFT")}


@pytest.mark.parametrize("rounding", [ROUND_HALF_EVEN, ROUND_UP])
def test_the_account_sums_its_holdings_and_knows_how_far_it_fell(rounding: str) -> None:
    desk, quotes = two_holdings()
    desk.tell(snapshot(when=3, holdings={"AAPL": 10, "MSFT": 20}, cash="95006"))
    with localcontext() as context:
        context.rounding = rounding
        money = portfolio_view(desk.belief, quotes, at(4))
    assert [view.symbol for view in money.positions] == ["AAPL", "MSFT"]
    assert (money.positions_value, money.total_equity) == (D("220.00"), D("95226.00"))
    assert (money.daily_pnl, money.daily_pnl_pct) == (D("220.00"), D("0.23"))
    assert (money.total_pnl, money.total_pnl_pct) == (D("-4774.00"), D("-4.77"))
    assert money.max_drawdown_pct == D("-4.99"), "the deepest that was seen, not the present one"
    assert (money.buying_power, money.sector_exposure) == (D("95006.00"), {})
    lower = {**quote("6", "6"), **quote("0.2575", "0.2575", symbol="MSFT")}
    desk.tell(snapshot(when=5, holdings={"AAPL": 10, "MSFT": 20}, cash="94000"))
    with localcontext() as context:
        context.rounding = rounding
        fallen = portfolio_view(desk.belief, lower, at(6))
    assert (fallen.total_equity, fallen.max_drawdown_pct) == (D("94065.15"), D("-6.00"))
    deeper = portfolio_view(desk.belief, {**quote("-500", "-500"), **quote("1", "1", symbol="MSFT")}, at(6))
    assert deeper.max_drawdown_pct == D("-10.98"), "the present price counts, though no snapshot has seen it"


def test_of_nothing_there_is_no_percentage() -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(when=1, cash="0"))
    money = portfolio_view(desk.belief, {}, at(2))
    assert (money.total_equity, money.daily_pnl, money.daily_pnl_pct) == (D("0.00"), D("0.00"), None)
    assert (money.total_pnl_pct, money.max_drawdown_pct) == (None, None)


def test_a_flat_symbol_hides_no_other_and_profit_is_told() -> None:
    desk = Desk(holdings={"AAPL": 10, "MSFT": 20})
    match = execution("e-1", 10, "12", cum=10, when=1, side=Side.SELL)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 10, version=1, side=Side.SELL, quantity=10), match, when=1))
    (view,) = positions_view(desk.belief, quote("8", "8", symbol="MSFT", when=3), at(4))
    assert view == PositionView(
        symbol="MSFT",
        quantity=D(20),
        average_price=D(10),
        market_value=D("160.00"),
        unrealized_pnl=D("-40.00"),
        as_of=at(1),
        price=D(8),
        quote_at=at(3),
        realized_pnl=D("0.00"),
        broker_quantity=D(20),
        drift="",
    )
    half = execution("e-2", 5, "12.005", cum=5, when=2, side=Side.SELL, symbol="MSFT", broker_id="b-2")
    row = report(S.FILLED, 5, version=2, side=Side.SELL, quantity=5, symbol="MSFT", broker_id="b-2", client_id="c-2")
    desk.tell(streamed(ExecType.TRADE, row, half, when=2))
    (view,) = positions_view(desk.belief, {}, at(4))
    assert view.realized_pnl == D("10.02")


@pytest.mark.parametrize(
    ("all_of_it", "this_book", "drifts", "as_of"),
    [
        (5, 3, False, 5),
        (3, 5, False, 5),
        (None, 5, False, 5),
        (5, None, False, 5),
        (5, 3, True, 3),
        (5, None, True, None),
    ],
)
def test_a_holding_is_as_old_as_its_newest_proof(
    all_of_it: float | None, this_book: float | None, drifts: bool, as_of: float | None
) -> None:
    desk = Desk(holdings={"AAPL": 10})
    if drifts:
        desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    desk.belief.truth.proved_at = at(all_of_it) if all_of_it is not None else None
    desk.belief.book(AAPL).proved_at = at(this_book) if this_book is not None else None
    (view,) = positions_view(desk.belief, {}, at(7))
    assert view.as_of == (at(as_of) if as_of is not None else None)


# --- every field of health ----------------------------------------------------------------------------------------


def test_health_tells_all_that_it_knows() -> None:
    desk = Desk(live=False)
    desk.tell(
        RuntimeStarted(at=at(-5), version="1.2", broker="paper"),
        FeedAcknowledged(at=at(-4), feed=FeedName.BROKER_EVENTS),
        snapshot(when=-3),
        FeedRestored(at=at(-2), feed=FeedName.BROKER_EVENTS),
        FeedLost(at=at(-1), feed=FeedName.BROKER_EVENTS, reason="reset"),
        FeedAcknowledged(at=at(0), feed=FeedName.BROKER_EVENTS),
        snapshot(when=0.5, started=0.25),
        FeedRestored(at=at(1), feed=FeedName.BROKER_EVENTS),
        FeedRestored(at=at(1), feed=FeedName.MARKET_DATA, symbol_count=9),
        FeedLost(at=at(2), feed=FeedName.MARKET_DATA, reason="cut"),
    )
    desk.submit(100, when=2)
    desk.tell(streamed(ExecType.NEW, report(version=3), when=3))
    desk.submit(100, client_id="c-2", when=3)
    desk.answer(RequestOutcome.UNKNOWN, client_id="c-2", when=4)
    numbers = RuntimeNumbers(
        market_data_last_message_at=at(1.5),
        quote_symbol_count=3,
        queues={"outbox": 2},
        counters={"frames": 7},
        reasons=("the disk is nearly full",),
    )
    expected = HealthView(
        status="degraded",
        trading_state="ACTIVE",
        truth_lag_s=D("7.000"),
        broker_events=BrokerEventsHealth(
            status="UP",
            last_trade_update_at=at(3),
            last_reconnect_at=at(1),
            reconnect_count=1,
            last_reconciliation_at=at(0.5),
            reconciliation_age_s=D("9.500"),
            last_result="clean",
            reason="",
            since=at(1),
        ),
        market_data=MarketDataHealth(
            status="DOWN",
            last_message_at=at(1.5),
            age_s=D("8.500"),
            reconnect_count=0,
            symbol_count=3,
            reason="cut",
        ),
        at=at(10),
        reasons=("market data is DOWN: cut", "the disk is nearly full", "1 orders in doubt"),
        entries_gated=False,
        gap=None,
        open_drifts=0,
        in_doubt_orders=1,
        working_orders=2,
        journal_offset=14,
        epoch="table",
        broker="paper",
        account="PAPER",
        queues={"outbox": 2},
        counters={"orders_submitted": 2, "frames": 7},
        version="1.2",
    )
    assert health_view(desk.belief, numbers, at(10)) == expected
    named = health_view(desk.belief, replace(numbers, broker="alpaca", version="2.0"), at(10))
    assert (named.broker, named.version) == ("alpaca", "2.0")


def test_health_of_a_stream_that_is_away_says_why_and_since_when() -> None:
    desk = Desk()
    desk.lose(5, "reset by the other side")
    desk.tell(snapshot(when=6, holdings={"MSFT": 1}))
    health = health_view(desk.belief, NUMBERS, at(8))
    assert (health.broker_events.reason, health.broker_events.since) == ("reset by the other side", at(5))
    assert health.reasons == (
        "broker events are DOWN: reset by the other side",
        "position drift suspected: MSFT",
    )
    assert health.gap == gaps_view(desk.belief)[0]
    assert health_view(Desk(live=False).belief, NUMBERS, at(8)).account == "PAPER"


def test_the_account_is_the_one_that_the_broker_names() -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(when=1, account="PA3X"))
    assert health_view(desk.belief, NUMBERS, at(2)).account == "PA3X"


@pytest.mark.parametrize(("learned", "age"), [(1.5, "0.500"), (1.000999, "0.000"), (0.5, "0.000")])
def test_an_age_is_in_milliseconds_and_never_negative(learned: float, age: str) -> None:
    numbers = replace(NUMBERS, market_data_last_message_at=at(1))
    assert health_view(Desk().belief, numbers, at(learned)).market_data.age_s == D(age)


def test_the_lists_of_dangers_ended_drifts_and_quotes_are_whole() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(5, client_id="c-1")
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}), snapshot(when=6, holdings={"AAPL": 10}))
    (ended,) = drifts_view(desk.belief)
    assert (ended.subject, ended.state, ended.at) == ("AAPL", "healed", at(6))
    desk.lose(7, "reset")
    assert breakers_view(desk.belief) == (
        CircuitBreakerView(
            breaker="stale_data",
            action="activated",
            reason="broker events are DOWN: reset",
            timestamp=at(7),
            demand="REDUCE_ONLY",
        ),
    )
    desk.tell(Kill(at=at(8), reason="storm", operator="system", asked_by="maria"))
    assert kill_switch_view(desk.belief) == KillSwitchView(
        action="activate",
        reason="storm",
        operator="system",
        timestamp=at(8),
        state="KILLED",
        open_orders_remaining=1,
        asked_by="maria",
    )
    assert quotes_view(quote("1", "2", when=3)).quotes == (QuoteView(symbol="AAPL", bid=D(1), ask=D(2), at=at(3)),)


def test_the_first_picture_is_made_of_the_same_views_and_is_bounded() -> None:
    desk = strategic()
    for number in range(51):
        desk.lose(10 + number)
        desk.restore(snapshot(when=10 + number, holdings={"AAPL": 60}), when=10 + number)
    desk.tell(snapshot(when=80, holdings={"AAPL": 61}), Kill(at=at(81), reason="storm"))
    (drift,) = desk.belief.drifts.values()
    desk.belief.drift_log.extend([drift] * 100)
    picture = system_snapshot_view(desk.belief, quote(), NUMBERS, at(90))
    assert picture.gaps == gaps_view(desk.belief)[:50]
    assert (len(gaps_view(desk.belief)), len(picture.gaps)) == (51, 50)
    assert (len(drifts_view(desk.belief)), len(picture.drifts)) == (101, 100)
    assert picture.drifts[0] == drifts_view(desk.belief)[0]
    assert picture.quotes == quotes_view(quote())
    assert picture.kill_switch == kill_switch_view(desk.belief)
    assert picture.breakers == breakers_view(desk.belief)
    assert picture.pending_approvals == ()
    for number in range(301):
        desk.tell(
            streamed(
                ExecType.TRADE,
                report(S.FILLED, 1, version=100, broker_id=f"z-{number}", client_id=f"z-{number}", quantity=1),
                execution(f"z-{number}", 1, cum=1, when=100, broker_id=f"z-{number}"),
                when=100,
            )
        )
    full = system_snapshot_view(desk.belief, quote(), NUMBERS, at(101))
    assert (len(full.orders), len(full.executions)) == (300, 300)
