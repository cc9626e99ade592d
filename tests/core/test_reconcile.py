"""Belief against snapshots: suspicion, confirmation, true-up, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.effects import FindOrder, TakeSnapshot
from trueup.core.events import ClockTicked, FeedLost, FeedRestored, OrderReported, SnapshotFailed, SnapshotTaken
from trueup.core.model import (
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
    OrderStatus,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.positions import Adjustment
from trueup.core.reconcile import ABSENT_SETTLE, POSITION_SETTLE, RECHECK, SETTLE_RECHECK
from trueup.core.transition import Outcome
from trueup.core.views import Channel, CircuitBreakerView, DriftView, RiskAlertView

S = OrderStatus
FULL, ORDERS, POSITIONS = SnapshotScope.FULL, SnapshotScope.ORDERS, SnapshotScope.POSITIONS


def kinds(desk: Desk) -> list[tuple[str, str, bool]]:
    return [(drift.kind, drift.state, drift.trued_up) for drift in desk.belief.drift_log]


# --- the opening balance ------------------------------------------------------------------------------------------


def test_the_first_full_snapshot_is_the_opening_balance_and_no_drift() -> None:
    desk = Desk(holdings={"AAPL": 10, "MSFT": -5})
    assert (desk.shares("AAPL"), desk.shares("MSFT")) == (10, -5)
    book = desk.belief.books[AAPL]
    assert [(item.quantity, item.price, item.reason) for item in book.adjustments] == [(10, 10, "opening balance")]
    assert desk.belief.drift_log == []
    assert desk.belief.baseline_at == at(-2)
    assert desk.belief.cash == 100000


def test_a_first_look_at_positions_alone_opens_no_books() -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(when=0, scope=POSITIONS, source=Source.POLL, holdings={"AAPL": 10}))
    assert desk.belief.baseline_at is None
    assert desk.belief.entries_gated
    desk.restore(snapshot(when=2, holdings={"AAPL": 10}), when=1)
    assert desk.shares() == 10
    assert not desk.belief.entries_gated


def test_orders_filled_before_the_books_opened_are_in_the_opening_balance() -> None:
    desk = Desk(live=False)
    row = report(S.PARTIALLY_FILLED, 40, version=-50, average="10")
    desk.restore(
        snapshot(row, when=1, executions=[execution("e-1", 40, cum=40, when=-50)], holdings={"AAPL": 40}), when=0
    )
    assert desk.shares() == 40
    assert (desk.of().origin, desk.of().leg.opening) == ("external", 40)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=5), execution("e-2", 60, cum=100, when=5), when=5))
    assert desk.shares() == 100
    assert desk.belief.cash == 100000 - 600


def test_an_old_finished_order_that_shows_up_later_moves_nothing() -> None:
    desk = Desk(holdings={"AAPL": 40})
    old = report(S.FILLED, 40, version=-4000, client_id="last-year", average="10")
    desk.tell(snapshot(old, when=5, holdings={"AAPL": 40}))
    assert desk.shares() == 40
    assert desk.belief.truth.last_result == "clean"
    assert desk.belief.cash == 100000


# --- suspicion, healing, confirmation -----------------------------------------------------------------------------


def test_one_snapshot_makes_a_suspicion_and_no_true_up() -> None:
    desk = Desk(holdings={"AAPL": 10})
    outcome = desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    drift = desk.belief.drifts["position:AAPL"]
    assert (drift.state, drift.believed, drift.reported, drift.trued_up) == ("suspected", "10", "12", False)
    assert desk.shares() == 10
    assert desk.belief.truth.last_result.startswith("unsettled: position in AAPL")
    assert Channel.TRUTH_DRIFT in [channel for channel, _ in outcome.changes.views]


def test_a_suspicion_asks_for_a_second_look() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    assert desk.belief.next_deadline == at(5) + RECHECK
    outcome = desk.tell(ClockTicked(at=at(5) + RECHECK))
    assert outcome.effects == (TakeSnapshot(scope=FULL, reason="suspected drift: position:AAPL"),)


def test_a_later_snapshot_that_agrees_heals() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}), snapshot(when=7, holdings={"AAPL": 10}))
    assert desk.belief.drifts == {}
    assert kinds(desk) == [("position", "healed", False)]
    assert desk.shares() == 10


def test_the_missing_event_heals() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(snapshot(when=5, scope=POSITIONS, source=Source.POLL, holdings={"AAPL": 40}))
    assert "position:AAPL" in desk.belief.drifts
    match = execution("e-1", 40, cum=40, when=4)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=4), match, when=6))
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=4), when=8, holdings={"AAPL": 40}))
    assert kinds(desk) == [("position", "healed", False)]
    assert desk.shares() == 40


def test_a_second_full_snapshot_confirms_and_trues_up_with_evidence() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    outcome = desk.tell(snapshot(when=7, holdings={"AAPL": 12}))
    assert desk.shares() == 12
    assert desk.belief.drifts == {}
    assert kinds(desk) == [("position", "confirmed", True)]
    entry = desk.belief.books[AAPL].adjustments[-1]
    assert (entry.quantity, entry.reason) == (2, "true-up")
    assert at(5).isoformat() in entry.evidence
    assert "+2 shares came without an execution" in entry.evidence
    alerts = [view for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]
    assert [(alert.type, alert.severity, alert.symbol) for alert in alerts] == [("position_drift", "critical", "AAPL")]
    assert desk.tell(snapshot(when=9, holdings={"AAPL": 12})).changes.views == []
    assert desk.belief.truth.last_result == "clean"


def test_a_true_up_in_a_gap_is_followed_by_the_look_that_closes_it() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(FeedLost(at=at(3), feed=FeedName.BROKER_EVENTS, reason="cut"))
    desk.restore(snapshot(when=5, holdings={"AAPL": 12}), when=4)
    desk.tell(snapshot(when=7, holdings={"AAPL": 12}))
    assert desk.shares() == 12
    assert desk.belief.truth.open_gap is not None, "the look that found a difference proves nothing"
    outcome = desk.tell(ClockTicked(at=at(7) + SETTLE_RECHECK))
    assert [(effect.scope, effect.reason) for effect in outcome.effects if isinstance(effect, TakeSnapshot)] == [
        (FULL, desk.belief.truth.last_result)
    ]
    desk.tell(snapshot(when=13, holdings={"AAPL": 12}))
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated
    assert desk.tell(ClockTicked(at=at(60))).effects == ()


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (snapshot(when=5.5, holdings={"AAPL": 12}), "too soon after the first"),
        (snapshot(when=7, started=4, holdings={"AAPL": 12}), "begun before the first was judged"),
        (snapshot(when=7, holdings={"AAPL": 13}), "another difference"),
        (snapshot(when=7, scope=POSITIONS, source=Source.POLL, holdings={"AAPL": 12}), "orders were not read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_confirm(second: SnapshotTaken, why: str) -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    desk.tell(second)
    assert desk.shares() == 10, why
    assert desk.belief.drifts["position:AAPL"].state == "suspected"


def test_a_fill_between_two_looks_begins_the_suspicion_anew() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(100)
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}))
    match = execution("e-1", 40, cum=40, when=6)
    row = report(S.PARTIALLY_FILLED, 40, version=6)
    desk.tell(streamed(ExecType.TRADE, row, match, when=6))
    desk.tell(snapshot(row, when=8, holdings={"AAPL": 52}))
    assert desk.belief.drifts["position:AAPL"].state == "suspected"
    assert desk.shares() == 50


@pytest.mark.parametrize(
    ("pause", "confirmed"), [(POSITION_SETTLE.seconds - 1, False), (POSITION_SETTLE.seconds, True)]
)
def test_after_a_fill_the_position_list_gets_its_time(pause: int, confirmed: bool) -> None:
    desk = Desk()
    desk.submit(100)
    row = report(S.PARTIALLY_FILLED, 40, version=1)
    desk.tell(streamed(ExecType.TRADE, row, execution("e-1", 40, cum=40, when=1), when=1))
    desk.tell(snapshot(row, when=4), snapshot(row, when=1 + pause))  # the list does not show the fill
    assert (desk.shares() == 0) == confirmed
    assert (desk.shares() == 40) != confirmed


def test_shares_that_are_gone_are_believed_only_when_told_twice() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5))
    assert desk.shares() == 10
    desk.tell(snapshot(when=8))
    assert desk.shares() == 0
    assert desk.belief.books[AAPL].adjustments[-1].quantity == -10


def test_a_failed_snapshot_is_no_empty_account() -> None:
    desk = Desk(holdings={"AAPL": 10})
    before = desk.belief.truth.proved_at
    desk.tell(SnapshotFailed(at=at(5), source=Source.RECONCILE, reason="page 2 of orders: 500"))
    assert desk.shares() == 10
    assert desk.belief.drifts == {}
    assert desk.belief.truth.last_result == "failed: page 2 of orders: 500"
    assert desk.belief.truth.proved_at == before
    desk.tell(SnapshotFailed(at=at(6), source=Source.POLL, reason="timeout"))
    assert desk.belief.truth.last_result == "failed: page 2 of orders: 500"
    assert desk.belief.counters["snapshots_failed"] == 2


# --- belief ahead of the snapshot ---------------------------------------------------------------------------------


def test_an_event_that_overtakes_the_snapshot_is_no_drift() -> None:
    """The snapshot is read, then a fill comes by stream, then the snapshot arrives."""
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    match = execution("e-1", 40, cum=40, when=5)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=5), match, when=5))
    desk.tell(snapshot(report(version=0), when=6, started=4))
    assert desk.belief.drifts == {}
    assert desk.shares() == 40
    assert desk.of().filled == 40
    assert desk.belief.truth.last_result == "clean"


def test_an_order_younger_than_the_snapshot_is_no_drift() -> None:
    desk = Desk()
    desk.submit(100, when=5)
    match = execution("e-1", 40, cum=40, when=5)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=5), match, when=5))
    desk.tell(snapshot(when=6, started=4))
    assert desk.belief.drifts == {}
    assert desk.shares() == 40


def test_a_fill_after_the_opening_of_a_torn_read_is_not_double_counted() -> None:
    """Orders were read before the fill, positions after it."""
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    desk.tell(snapshot(report(version=0), when=6, started=4, holdings={"AAPL": 40}))
    assert desk.belief.drifts["position:AAPL"].state == "suspected"
    match = execution("e-1", 40, cum=40, when=5)
    row = report(S.PARTIALLY_FILLED, 40, version=5)
    desk.tell(streamed(ExecType.TRADE, row, match, when=7), snapshot(row, when=9, holdings={"AAPL": 40}))
    assert desk.shares() == 40
    assert desk.belief.drifts == {}


def test_cash_of_an_older_snapshot_does_not_undo_newer_fills() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    match = execution("e-1", 40, "10", cum=40, when=5)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=5), match, when=5))
    desk.tell(snapshot(report(version=0), when=6, started=4, cash="100000"))
    assert desk.belief.cash == 99600
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=5), when=9, cash="99599.99", holdings={"AAPL": 40}))
    assert desk.belief.cash == D("99599.99")


# --- rows that are missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [FULL, ORDERS])
def test_a_row_that_is_missing_from_a_list_proves_nothing(scope: SnapshotScope) -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    for when in (5, 50, 500):
        desk.tell(snapshot(when=when, scope=scope))
    assert desk.of().status is S.NEW


def test_an_order_that_the_broker_does_not_know_by_id_is_believed_gone_only_after_a_while() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    settle = ABSENT_SETTLE.seconds
    desk.tell(snapshot(when=5, absent=["b-1"]), snapshot(when=5 + settle - 1, absent=["b-1"]))
    assert desk.of().status is S.NEW
    assert desk.belief.truth.last_result == "unsettled: order o-4 is unknown to the broker"
    outcome = desk.tell(snapshot(when=5 + settle, absent=["b-1"]))
    assert desk.of().status is S.REJECTED
    assert desk.of().order_id not in desk.belief.open_orders
    assert ("order_absent", "confirmed", True) in kinds(desk)
    assert "order_absent" in [view.type for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]


@pytest.mark.parametrize(
    "word",
    [snapshot(report(version=0), when=20), streamed(ExecType.STATUS, report(version=3), when=20)],
    ids=["a row", "an event"],
)
def test_a_word_in_between_begins_the_absence_anew(word: SnapshotTaken | OrderReported) -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    desk.tell(snapshot(when=5, absent=["b-1"]), word)
    desk.tell(snapshot(when=36, absent=["b-1"]))
    assert desk.of().status is S.NEW


def test_an_order_believed_gone_returns_at_the_brokers_word() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    desk.tell(snapshot(when=5, absent=["b-1"]), snapshot(when=40, absent=["b-1"]))
    match = execution("e-1", 40, cum=40, when=41)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=41), match, when=41))
    assert (desk.of().status, desk.shares()) == (S.PARTIALLY_FILLED, 40)
    assert desk.of().order_id in desk.belief.open_orders


# --- rows, executions and ways of learning ------------------------------------------------------------------------


def test_a_snapshot_brings_the_executions_behind_a_total() -> None:
    desk = Desk()
    desk.submit(100)
    desk.lose(1)
    row = report(S.CANCELED, 40, version=2, average="10.05")
    both = [execution("e-1", 30, "10", cum=30, when=2), execution("e-2", 10, "10.20", cum=40, when=2)]
    desk.restore(snapshot(row, when=4, executions=both, holdings={"AAPL": 40}, cash="99598.00"), when=3)
    leg = desk.of().leg
    assert (leg.filled, leg.executed, leg.residual, leg.status) == (40, 40, 0, S.CANCELED)
    assert leg.executed_value == D("402.00")
    assert all(held.missed for held in leg.executions.values())
    assert desk.shares() == 40
    assert desk.belief.cash == D("99598.00")


def test_the_real_price_of_an_external_fill_moves_cash() -> None:
    desk = Desk()
    row = report(S.FILLED, 40, version=3, client_id="theirs", quantity=40, limit="11")
    desk.tell(snapshot(row, when=4, scope=ORDERS, source=Source.POLL))
    assert (desk.shares(), desk.belief.cash) == (40, 100000 - 440)
    match = execution("e-1", 40, "10", cum=40, when=3)
    desk.tell(snapshot(row, when=6, scope=ORDERS, source=Source.POLL, executions=[match]))
    assert (desk.shares(), desk.belief.cash) == (40, 100000 - 400)
    assert desk.of("theirs").leg.opening == 0


def test_an_execution_of_an_unknown_order_is_asked_after() -> None:
    desk = Desk()
    stray = execution("e-1", 10, cum=10, when=3, broker_id="b-77")
    outcome = desk.tell(snapshot(when=5, executions=[stray]))
    assert outcome.effects == (FindOrder(broker_order_id=stray.broker_order_id),)
    assert desk.shares() == 0


def test_an_execution_from_before_the_books_is_not_asked_after() -> None:
    desk = Desk()
    stray = execution("e-1", 10, cum=10, when=-500, broker_id="b-77")
    assert desk.tell(snapshot(when=5, executions=[stray])).effects == ()


def test_the_same_row_again_changes_nothing_and_says_nothing() -> None:
    desk = Desk()
    desk.submit(100)
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="10")
    desk.tell(snapshot(row, when=5, holdings={"AAPL": 40}))
    outcome = desk.tell(snapshot(row, when=6, holdings={"AAPL": 40}))
    assert outcome.changes.orders == {}
    assert outcome.changes.fills == []
    assert desk.of().confirmed_at == at(6)


def test_what_a_poll_learns_on_a_live_stream_is_expected_of_the_stream() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=1), when=5, scope=ORDERS, source=Source.POLL))
    assert desk.shares() == 40
    assert list(desk.belief.expectations) == ["b-1"]
    assert desk.belief.drift_log == []


def test_a_missed_fill_learned_in_a_gap_is_told_as_a_healed_drift() -> None:
    desk = Desk()
    desk.submit(100)
    desk.lose(1)
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=1), when=5, scope=ORDERS, source=Source.POLL))
    assert kinds(desk) == [("order", "healed", False)]
    assert desk.belief.expectations == {}
    assert desk.belief.counters["fills_missed_by_stream"] == 1


def test_an_order_in_doubt_ends_with_its_row_in_a_snapshot() -> None:
    desk = Desk()
    desk.submit(100)
    desk.answer(RequestOutcome.UNKNOWN)
    desk.tell(snapshot(report(S.NEW, version=0), when=5, scope=ORDERS, source=Source.POLL))
    assert desk.of().in_doubt is None
    assert desk.of().status is S.NEW


# --- the account --------------------------------------------------------------------------------------------------


def test_a_blocked_account_halts_until_it_is_free() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 10}, blocked=True))
    assert desk.belief.trading_state is TradingState.HALTED
    assert desk.belief.halt_generation == 1
    outcome = desk.submit(1, Side.BUY)
    assert outcome.denied is not None
    desk.tell(snapshot(when=6, holdings={"AAPL": 10}))
    assert desk.belief.trading_state is TradingState.ACTIVE


def test_a_snapshot_of_another_account_is_not_believed_and_stops_trading() -> None:
    desk = Desk(holdings={"AAPL": 10})
    strange = report(S.FILLED, 7, version=4, broker_id="b-9", client_id="theirs")
    for when in (5, 8, 60):
        desk.tell(snapshot(strange, when=when, account="OTHER", holdings={"MSFT": 7}, cash="5"))
    assert (desk.shares("AAPL"), desk.shares("MSFT"), desk.belief.cash) == (10, 0, 100000)
    assert desk.belief.find_order("b-9") is None
    assert desk.belief.trading_state is TradingState.HALTED
    assert desk.belief.truth.last_result.startswith("failed: the broker answers for account OTHER")
    desk.tell(snapshot(when=90, holdings={"AAPL": 10}))
    assert desk.belief.trading_state is TradingState.ACTIVE


def test_drawdown_is_measured_from_the_highest_equity_told() -> None:
    desk = Desk()
    for when, equity in ((1, "110000"), (2, "99000"), (3, "104500")):
        desk.tell(snapshot(when=when, cash=equity))
    assert desk.belief.peak_equity == 110000
    assert desk.belief.max_drawdown == D("-0.1")


# --- what was planted and not noticed -----------------------------------------------------------------------------


def filling(desk: Desk, broker_id: str, filled: int, when: float, *, symbol: str = "AAPL", version: float = 0) -> None:
    """An order of others fills once, over the stream."""
    row = report(
        S.PARTIALLY_FILLED,
        filled,
        version=version or when,
        broker_id=broker_id,
        client_id=broker_id,
        symbol=symbol,
        average="10",
    )
    match = execution(f"e-{broker_id}-{when}", filled, when=when, broker_id=broker_id, symbol=symbol)
    desk.tell(streamed(ExecType.TRADE, row, match, when=when))


def clean(desk: Desk) -> bool:
    return desk.belief.truth.last_result == "clean"


def test_belief_is_ahead_by_what_came_after_the_row_on_every_order_of_the_symbol() -> None:
    desk = Desk()
    rows = []
    for number in (1, 2):
        name = f"b-{number}"
        old = report(S.PARTIALLY_FILLED, 40, version=1, broker_id=name, client_id=name, average="10")
        desk.tell(streamed(ExecType.TRADE, old, execution(f"e-{number}", 40, cum=40, when=1, broker_id=name), when=1))
        rows.append(old)
        new = report(S.PARTIALLY_FILLED, 60, version=3, broker_id=name, client_id=name, average="10")
        desk.tell(streamed(ExecType.TRADE, new, execution(f"f-{number}", 20, cum=60, when=3, broker_id=name), when=3))
    desk.tell(snapshot(*rows, when=4, started=2, holdings={"AAPL": 80}))
    assert clean(desk)
    assert desk.shares() == 120


def test_orders_that_the_snapshot_cannot_know_count_as_ahead_of_it_one_by_one() -> None:
    desk = Desk()
    filling(desk, "b-0", 5, 1, symbol="MSFT")
    filling(desk, "b-1", 10, 2)
    known = report(S.PARTIALLY_FILLED, 10, version=2, broker_id="b-1", client_id="b-1", average="10")
    filling(desk, "b-2", 3, 5)  # in the very instant in which the snapshot begins
    filling(desk, "b-3", 4, 6)
    desk.tell(snapshot(known, when=7, started=5, holdings={"AAPL": 10, "MSFT": 5}))
    assert clean(desk)
    assert desk.shares() == 17


def test_a_symbol_that_did_not_trade_hides_no_other_that_did() -> None:
    desk = Desk(holdings={"MSFT": 5})
    filling(desk, "b-0", 5, 1, symbol="MSFT")
    filling(desk, "b-1", 10, 6)
    desk.tell(snapshot(when=7, started=5, holdings={"MSFT": 10}))
    assert clean(desk)


def test_of_an_order_that_is_not_listed_only_what_came_since_is_ahead() -> None:
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 10, version=1, average="10")
    desk.tell(streamed(ExecType.TRADE, row, execution("e-1", 10, cum=10, when=1), when=1))
    row = report(S.PARTIALLY_FILLED, 30, version=6, average="10")
    desk.tell(streamed(ExecType.TRADE, row, execution("e-2", 20, cum=30, when=6), when=6))
    desk.tell(snapshot(when=7, started=5, holdings={"AAPL": 10}))
    assert clean(desk)
    busted = report(S.PARTIALLY_FILLED, 10, version=8, average="10")
    desk.tell(streamed(ExecType.TRADE_CANCEL, busted, refers_to="e-2", when=8))
    desk.tell(snapshot(when=9, started=5.5, holdings={"AAPL": 10}))
    assert clean(desk), "what was taken back is not ahead of anything"


@pytest.mark.parametrize(
    ("scope", "executions", "busted"),
    [
        (FULL, [], False),  # no list was read: it says nothing
        (FULL, [execution("e-2", 60, cum=100, when=2)], True),
        (ORDERS, [execution("e-2", 60, cum=100, when=2)], False),  # a poll's list may begin later
    ],
)
def test_an_untold_bust_is_looked_for_in_a_full_list_alone(
    scope: SnapshotScope, executions: list[Execution], busted: bool
) -> None:
    desk = Desk()
    for name, quantity, total, when in (("e-1", 40, 40, 1), ("e-2", 60, 100, 2)):
        row = report(S.PARTIALLY_FILLED, total, version=when, average="10")
        desk.tell(streamed(ExecType.TRADE, row, execution(name, quantity, cum=total, when=when), when=when))
    fallen = report(S.CANCELED, 60, version=5, average="10")
    desk.tell(snapshot(fallen, when=40, scope=scope, executions=executions, holdings={"AAPL": 60}))
    held = desk.of("b-1").leg.executions[ExecutionId("e-1")]
    assert (held.busted, desk.shares()) == (busted, 60)


@pytest.mark.parametrize(("source", "believed"), [(Source.RECONCILE, 28), (Source.POLL, 37)])
def test_a_row_that_says_what_is_believed_proves_it(source: Source, believed: int) -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    row = report(S.FILLED, 28, version=5, average="10")
    desk.find(row, broker_id="b-1", started=6)
    desk.tell(snapshot(row, when=40, source=source, holdings={"AAPL": 28}))
    late = report(S.FILLED, 37, version=3, average="10")
    desk.tell(streamed(ExecType.TRADE, late, execution("e-1", 37, cum=37, when=3), when=41))
    assert desk.shares() == believed


def test_when_nothing_is_left_of_a_total_every_execution_is_busted_whatever_a_list_says() -> None:
    desk = Desk()
    for name, quantity, total, when in (("e-1", 40, 40, 1), ("e-2", 60, 100, 2)):
        row = report(S.FILLED, total, version=when, average="10")
        desk.tell(streamed(ExecType.TRADE, row, execution(name, quantity, cum=total, when=when), when=when))
    desk.tell(snapshot(report(S.FILLED, 0, version=5), when=40, holdings={"AAPL": 0}))
    held = desk.of("b-1").leg
    assert all(item.busted for item in held.executions.values())
    assert (held.filled, held.residual, desk.shares()) == (0, 0, 0)


@pytest.mark.parametrize("absent", ["b-1", "b-99"])
def test_that_a_finished_or_a_strange_order_is_unknown_to_the_broker_unsettles_nothing(absent: str) -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=1), when=1))
    for when in (5, 50):
        desk.tell(snapshot(when=when, absent=[absent]))
        assert clean(desk)
    assert desk.of("b-1").status is S.CANCELED


def test_what_the_stream_told_before_a_first_look_that_does_not_know_it_is_taken_back() -> None:
    desk = Desk(live=False)
    filling(desk, "b-1", 40, 1)
    desk.restore(snapshot(when=4, started=3), when=2)
    assert desk.shares() == 0
    assert desk.belief.book(AAPL).adjustments == [
        Adjustment(at(3), D(-40), D(0), "opening balance", "first full snapshot")
    ]
    assert desk.belief.book(AAPL).proved_at == at(3)


def priced(taken: SnapshotTaken, average: str) -> SnapshotTaken:
    """The same snapshot, with another average price of every position."""
    positions = taken.snapshot.positions
    assert positions is not None
    better = tuple(replace(position, average_price=D(average)) for position in positions)
    return replace(taken, snapshot=replace(taken.snapshot, positions=better))


@pytest.mark.parametrize(("second", "confirmed"), [(20.9, False), (21, True), (21.5, True)])
def test_a_true_up_waits_for_a_look_that_began_half_a_pause_later(second: float, confirmed: bool) -> None:
    desk = Desk(holdings={"AAPL": 10})
    first = desk.tell(snapshot(when=20, holdings={"AAPL": 12}))
    (name,) = [view.id for _, view in first.changes.views if isinstance(view, DriftView)]
    assert name == f"d-{desk.belief.offset}-AAPL"
    outcome = desk.tell(priced(snapshot(when=22, started=second, holdings={"AAPL": 12}), "13"))
    assert ("position:AAPL" not in desk.belief.drifts) is confirmed
    if not confirmed:
        desk.tell(ClockTicked(at=at(22)))
        again = TakeSnapshot(scope=FULL, reason="suspected drift: position:AAPL")
        assert desk.tell(ClockTicked(at=at(24))).effects == (again,), "and is looked at again"
        return
    book = desk.belief.book(AAPL)
    assert (book.quantity, book.proved_at) == (12, at(second))
    adjustment = book.adjustments[-1]
    assert (adjustment.quantity, adjustment.price, adjustment.reason, adjustment.at) == (2, 13, "true-up", at(second))
    alerts = [view for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]
    assert [(alert.type, alert.severity, alert.symbol) for alert in alerts] == [("position_drift", "critical", "AAPL")]
    assert alerts[0].reason == "AAPL: believed 10, the broker holds 12; trued up"


def test_shares_that_are_gone_are_taken_off_at_the_price_they_were_held_at() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20), snapshot(when=23))
    adjustment = desk.belief.book(AAPL).adjustments[-1]
    assert (adjustment.quantity, adjustment.price) == (-10, 10)


def test_a_round_trip_between_two_looks_begins_the_suspicion_anew_though_the_difference_is_the_same() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20, holdings={"AAPL": 12}))
    for number, side in enumerate(Side):
        row = report(S.FILLED, 5, version=21, side=side, quantity=5, broker_id=f"b-{number}", client_id=f"c-{number}")
        match = execution(f"e-{number}", 5, cum=5, when=21, side=side, broker_id=f"b-{number}")
        desk.tell(streamed(ExecType.TRADE, row, match, when=21))
    assert desk.shares() == 10
    desk.tell(snapshot(when=40, holdings={"AAPL": 12}))
    assert "position:AAPL" in desk.belief.drifts
    desk.tell(snapshot(when=43, holdings={"AAPL": 12}))
    assert (desk.belief.drifts, desk.shares()) == ({}, 12)


@pytest.mark.parametrize(
    ("live", "scope", "proved"),
    [(True, ORDERS, 5), (True, POSITIONS, -2), (False, ORDERS, -2)],
)
def test_of_the_polls_only_one_of_orders_on_a_live_stream_proves(
    live: bool, scope: SnapshotScope, proved: float
) -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(when=-2))
    if live:
        desk.tell(FeedRestored(at=at(-1), feed=FeedName.BROKER_EVENTS))
    desk.tell(snapshot(when=6, started=5, scope=scope, source=Source.POLL))
    assert desk.belief.truth.proved_at == at(proved)


def test_a_poll_of_orders_proves_nothing_while_something_is_unsettled() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(version=1), when=1))
    desk.tell(snapshot(when=6, scope=ORDERS, source=Source.POLL, absent=["b-1"]))
    assert desk.belief.truth.proved_at == at(1)
    doubtful = Desk(holdings={"AAPL": 10})
    doubtful.tell(snapshot(when=5, holdings={"AAPL": 12}))
    doubtful.tell(snapshot(when=6, scope=ORDERS, source=Source.POLL))
    assert doubtful.belief.truth.proved_at == at(-2)


def test_a_result_names_three_of_what_is_unsettled() -> None:
    desk = Desk()
    desk.tell(snapshot(when=5, holdings={"A": 1, "B": 2, "C": 3, "D": 4}))
    assert desk.belief.truth.last_result == (
        "unsettled: position in A: believed 0, reported 1; position in B: believed 0, reported 2; "
        "position in C: believed 0, reported 3"
    )


def breakers(outcome: Outcome) -> list[tuple[str, str, str]]:
    shown = [view for _, view in outcome.changes.views if isinstance(view, CircuitBreakerView)]
    return [(view.breaker, view.action, view.reason) for view in shown]


def test_what_the_account_demands_is_told_once_and_taken_back_in_words() -> None:
    desk = Desk()
    blocked = desk.tell(snapshot(when=5, blocked=True))
    assert breakers(blocked) == [("account", "activated", "the broker has blocked trading on this account")]
    assert any(isinstance(view, RiskAlertView) for _, view in blocked.changes.views)
    assert desk.tell(snapshot(when=6, blocked=True)).changes.views == []
    free = desk.tell(snapshot(when=7))
    assert breakers(free) == [("account", "deactivated", "the broker allows trading on this account again")]
    desk.tell(snapshot(when=8, account="OTHER"))
    back = desk.tell(snapshot(when=9))
    words = "the broker speaks of the account that this belief is of"
    assert breakers(back) == [("another_account", "deactivated", words)]
