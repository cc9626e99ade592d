"""What one input leaves behind besides quantities: who is told, by which way, as of when, and under which name.

The quantities themselves stand in `test_orders.py`, `test_reconcile.py` and the properties; small faults planted in the
transition showed that the facts around them were watched too little.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, report, snapshot, streamed

from trueup.core import transition as transition_module
from trueup.core.commands import CancelOrder, ReplaceOrder
from trueup.core.effects import FindOrder, SendCancel, TakeSnapshot
from trueup.core.events import SnapshotTaken
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    ExecutionId,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.projection import executions_view
from trueup.core.views import Channel, DriftView, GapView, RiskAlertView, View

S = OrderStatus


def views_of(outcome_views: list[tuple[Channel, View]], channel: Channel) -> list[View]:
    return [view for where, view in outcome_views if where is channel]


def filled_in_two_parts() -> Desk:
    desk = Desk()
    desk.tell(
        streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40, when=1)),
        streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100, when=2)),
    )
    return desk


# --- busts that nobody told of ------------------------------------------------------------------------------------


def test_a_fallen_total_annuls_the_execution_that_is_no_longer_listed_and_says_so() -> None:
    desk = filled_in_two_parts()
    fallen = report(S.CANCELED, 60, version=5, average="11")
    outcome = desk.tell(
        snapshot(fallen, when=40, executions=[execution("e-2", 60, "11", cum=100, when=2)], holdings={AAPL: 60})
    )
    leg = desk.belief.by_broker[BrokerOrderId("b-1")]
    assert {name: held.busted for name, held in leg.executions.items()} == {"e-1": True, "e-2": False}
    assert (desk.shares(), leg.residual, desk.belief.flow) == (60, 0, D(-660))
    order = desk.of("b-1")
    assert (order.source, order.updated_at) == (Source.RECONCILE, at(40))
    assert outcome.changes.orders[order.order_id] is order
    line = order.timeline[-1]
    assert (line.event, line.source, line.broker_at) == (ExecType.TRADE_CANCEL, Source.RECONCILE, at(5))
    assert [(fill.quantity, fill.price, fill.kind) for fill in line.fills] == [(-40, 10, "bust")]
    noted = outcome.changes.fills[-1]
    assert (noted.order, noted.leg, noted.source, noted.missed) == (order, leg, Source.RECONCILE, False)


def test_of_several_orders_only_the_one_whose_total_fell_loses_an_execution() -> None:
    desk = filled_in_two_parts()
    other = report(S.FILLED, 10, version=3, broker_id="b-2", client_id="c-2", quantity=10)
    desk.tell(streamed(ExecType.TRADE, other, execution("e-3", 10, cum=10, when=3, broker_id="b-2")))
    fallen = report(S.CANCELED, 60, version=5, average="11")
    listed = [execution("e-2", 60, "11", cum=100, when=2)]
    desk.tell(snapshot(other, fallen, when=40, executions=listed, holdings={AAPL: 70}))
    held = {name: item.busted for order in ("b-1", "b-2") for name, item in desk.of(order).leg.executions.items()}
    assert held == {"e-1": True, "e-2": False, "e-3": False}, "a list that lags takes nothing from a total that stands"
    assert desk.shares() == 70


@pytest.mark.parametrize(("price", "kind"), [(None, "bust"), ("9", "correction")])
def test_a_bust_and_a_correction_are_fills_with_terms_of_their_own(price: str | None, kind: str) -> None:
    desk = filled_in_two_parts()
    if price is None:
        what, match, quantity = ExecType.TRADE_CANCEL, execution("e-1", 40, when=1), D(-40)
        after = report(S.CANCELED, 60, version=6)
    else:
        what, match, quantity = ExecType.TRADE_CORRECT, execution("e-1b", 40, price, when=1), D(40)
        after = report(S.FILLED, 100, version=6)
    outcome = desk.tell(streamed(what, after, match, refers_to="e-1", when=7))
    fill = next(noted.fill for noted in outcome.changes.fills if noted.fill.kind == kind)
    assert (fill.quantity, fill.price, fill.at, fill.inferred) == (quantity, D(price or 10), at(1), False)
    assert fill.held is desk.of("b-1").leg.executions[next(iter(desk.of("b-1").leg.executions))]


# --- an order that the broker does not know -----------------------------------------------------------------------


def test_an_absent_order_ends_as_a_drift_with_its_evidence() -> None:
    desk = Desk()
    desk.submit(client_id="c-1")
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    order = desk.of()
    desk.tell(snapshot(when=10, absent=["b-1"]))
    assert order.status is S.NEW, "once is not enough"
    outcome = desk.tell(snapshot(when=41, absent=["b-1"]))
    assert (order.status, order.leg.presumed, order.source, order.updated_at) == (
        S.REJECTED,
        True,
        Source.RECONCILE,
        at(41),
    )
    assert order.reason == "the broker, asked by id, does not know this order"
    line = order.timeline[-1]
    assert (line.event, line.source, line.broker_at, line.text) == ("ABSENT", Source.RECONCILE, None, order.reason)
    (drift,) = views_of(outcome.changes.views, Channel.TRUTH_DRIFT)
    assert isinstance(drift, DriftView)
    assert (drift.kind, drift.subject, drift.state) == ("order_absent", order.order_id, "confirmed")
    assert (drift.believed, drift.reported, drift.trued_up) == ("NEW 0", "unknown", True)
    assert (drift.first_seen_at, drift.at) == (at(10), at(41))
    assert drift.id == f"d-{desk.belief.offset}-b-1"
    assert "30 s" in drift.evidence
    (alert,) = views_of(outcome.changes.views, Channel.RISK_ALERT)
    assert isinstance(alert, RiskAlertView)
    assert (alert.type, alert.severity, alert.symbol, alert.order_id) == (
        "order_absent",
        "critical",
        AAPL,
        order.order_id,
    )
    assert alert.reason == order.reason
    assert outcome.changes.orders[order.order_id] is order
    assert order.order_id not in desk.belief.open_orders


# --- adoption -----------------------------------------------------------------------------------------------------


def test_orders_of_others_are_adopted_one_by_one_with_what_the_broker_says_of_them() -> None:
    desk = Desk()
    first = replace(report(S.NEW, version=3, client_id="theirs-1"), submitted_at=at(2), order_class="bracket")
    second = report(S.NEW, version=4, client_id="theirs-2", broker_id="b-2")
    outcome = desk.tell(snapshot(first, second, when=5))
    one, two = desk.of("b-1"), desk.of("b-2")
    offset = desk.belief.offset
    assert (one.order_id, two.order_id) == (f"x-{offset}", f"x-{offset}-1")
    assert (one.created_at, two.created_at) == (at(2), at(5))
    assert (one.source, one.order_class, one.leg.client_order_id) == (Source.RECONCILE, "bracket", "theirs-1")
    assert one.updated_at == at(5)
    assert outcome.changes.adopted == 2
    assert desk.belief.counters["external_orders_adopted"] == 2
    assert desk.of("theirs-2") is two


def test_an_order_of_others_that_the_broker_has_only_just_received_is_open() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.PENDING_NEW, report(S.PENDING_NEW, version=1, client_id="theirs"), when=1))
    assert list(desk.belief.open_orders) == [desk.of("b-1").order_id]
    assert desk.belief.open_in(AAPL) == (desk.of("b-1"),)


def test_a_younger_leg_that_was_heard_of_first_becomes_the_second_of_its_chain() -> None:
    desk = Desk()
    young = report(S.PARTIALLY_FILLED, 10, version=4, broker_id="b-2", client_id="c-2", replaces="b-1")
    desk.tell(streamed(ExecType.TRADE, young, execution("e-2", 10, cum=10, when=4, broker_id="b-2"), when=4))
    assert [leg.broker_order_id for leg in desk.of("b-2").legs] == ["b-2"]
    old = report(S.REPLACED, 30, version=3, average="10", replaced_by="b-2")
    outcome = desk.tell(streamed(ExecType.REPLACED, old, when=5))
    order = desk.of("b-1")
    assert order is desk.of("b-2")
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", "b-2"]
    assert (order.filled, order.status, desk.shares()) == (40, S.PARTIALLY_FILLED, 40)
    assert [line.offset for line in order.timeline] == sorted(line.offset for line in order.timeline)
    assert list(outcome.changes.orders) == [order.order_id]
    assert list(desk.belief.orders) == [order.order_id] == list(desk.belief.open_orders)


def test_an_order_of_ours_keeps_its_name_when_a_strangers_leg_turns_out_to_be_its_successor() -> None:
    desk = Desk()
    desk.submit()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    ours = desk.of()
    stranger = report(S.NEW, version=4, broker_id="b-2", client_id="c-9", quantity=80)
    desk.tell(streamed(ExecType.NEW, stranger, when=4))
    assert desk.of("b-2") is not ours
    outcome = desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=5))
    assert desk.of("b-2") is ours
    assert [leg.order_id for leg in ours.legs] == [ours.order_id] * 2
    assert [leg.broker_order_id for leg in ours.legs] == ["b-1", "b-2"]
    assert (ours.leg.broker_order_id, ours.status) == ("b-2", S.NEW)
    assert outcome.changes.orders[ours.order_id] is ours
    assert list(desk.belief.open_orders) == [ours.order_id]


# --- executions that came without a report ------------------------------------------------------------------------


def test_an_execution_learned_by_asking_is_told_with_its_way_and_its_time() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    desk.lose(when=2)
    match = execution("e-1", 100, "10.5", cum=100, when=3)
    row = report(S.FILLED, 100, version=3, average="10.5")
    outcome = desk.tell(snapshot(row, when=6, executions=[match], holdings={AAPL: 100}))
    order = desk.of("b-1")
    line = order.timeline[-1]
    assert (line.event, line.source, line.broker_at) == (ExecType.TRADE, Source.RECONCILE, at(3))
    assert [fill.quantity for fill in line.fills] == [100]
    (row_shown,) = executions_view(desk.belief)
    assert (row_shown.execution_id, row_shown.entry_price, row_shown.entry_time) == ("e-1", D("10.5"), at(3))
    assert (row_shown.source, row_shown.learned_at, row_shown.missed_by_stream) == ("reconcile", at(6), True)
    assert (order.source, order.updated_at) == (Source.RECONCILE, at(6))
    assert outcome.changes.orders[order.order_id] is order
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert (gap.missed, gap.learned_by) == (1, {"reconcile": 1}), "one fill, though two facts told of it"


@pytest.mark.parametrize(("when", "asked"), [(-2, True), (5, True), (-3, False)])
def test_an_execution_of_an_unknown_order_is_asked_for_unless_it_is_older_than_the_books(
    when: float, asked: bool
) -> None:
    desk = Desk()
    known = execution("e-1", 10, cum=10, when=6)
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    unknown = execution("e-9", 5, when=when, broker_id="b-9")
    desk.tell(
        snapshot(report(S.PARTIALLY_FILLED, 10, version=6), when=7, executions=[unknown, known], holdings={AAPL: 10})
    )
    assert (FindOrder(broker_order_id=BrokerOrderId("b-9")) in desk.effects) is asked
    assert "e-1" in desk.of("b-1").leg.executions, "what is unknown does not hide what is known"


def test_two_prices_of_one_execution_are_a_surprise_that_asks_the_broker() -> None:
    desk = filled_in_two_parts()
    other = execution("e-1", 40, "12", cum=40, when=1)
    outcome = desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), other, when=20))
    order = desk.of("b-1")
    assert desk.belief.counters["execution_conflict"] == 1
    assert outcome.effects == (
        FindOrder(broker_order_id=BrokerOrderId("b-1")),
        TakeSnapshot(scope=SnapshotScope.FULL, reason=f"execution_conflict on order {order.order_id}"),
    )
    assert order.leg.executions[ExecutionId("e-1")].execution.price == 10, "an entry is not edited by hearsay"


def test_between_two_prices_of_one_execution_the_brokers_record_decides() -> None:
    desk = filled_in_two_parts()
    other = execution("e-1", 40, "12", cum=40, when=1)
    desk.tell(snapshot(report(S.FILLED, 100, version=2), when=20, executions=[other], holdings={AAPL: 100}))
    held = desk.of("b-1").leg.executions[ExecutionId("e-1")]
    assert (held.execution.price, held.corrected, desk.shares()) == (12, True, 100)
    line = desk.of("b-1").timeline[-1]
    assert [(fill.quantity, fill.price, fill.kind) for fill in line.fills] == [(40, 12, "correction")]


# --- doubt about a position ---------------------------------------------------------------------------------------


def test_an_overfill_doubts_the_position_in_words_that_people_can_check() -> None:
    desk = Desk()
    beyond = report(S.FILLED, 130, version=2, side=Side.SELL)
    outcome = desk.tell(
        streamed(ExecType.TRADE, beyond, execution("e-1", 130, cum=130, when=2, side=Side.SELL), when=3)
    )
    (drift,) = views_of(outcome.changes.views, Channel.TRUTH_DRIFT)
    assert isinstance(drift, DriftView)
    assert (drift.kind, drift.subject, drift.state, drift.trued_up) == ("position", AAPL, "suspected", False)
    assert (drift.believed, drift.reported) == ("-130", "not asked yet")
    assert (drift.id, drift.first_seen_at, drift.at) == (f"d-{desk.belief.offset}-{AAPL}", at(3), at(3))
    assert "beyond its quantity" in drift.evidence
    assert list(desk.belief.drifts) == [f"position:{AAPL}"]


def test_a_suspicion_keeps_its_name_and_its_first_sight_when_the_difference_changes() -> None:
    desk = Desk(holdings={AAPL: 10})
    first = desk.tell(snapshot(when=20, holdings={AAPL: 12}))
    second = desk.tell(snapshot(when=30, holdings={AAPL: 13}))
    ((one,), (two,)) = (views_of(outcome.changes.views, Channel.TRUTH_DRIFT) for outcome in (first, second))
    assert isinstance(one, DriftView)
    assert isinstance(two, DriftView)
    assert (one.id, one.first_seen_at, one.reported) == (two.id, two.first_seen_at, "12")
    assert (two.reported, two.believed, two.at, two.state) == ("13", "10", at(30), "suspected")
    assert two.evidence == "one snapshot differs; fills under way or a lagging position list could explain it"
    healed = desk.tell(snapshot(when=40, holdings={AAPL: 10}))
    (gone,) = views_of(healed.changes.views, Channel.TRUTH_DRIFT)
    assert isinstance(gone, DriftView)
    assert (gone.id, gone.state, gone.at) == (one.id, "healed", at(40))
    assert gone.evidence == "a later snapshot agrees; the broker's list was behind, or the missing events came"


def test_a_snapshot_shows_the_brokers_side_of_each_position() -> None:
    desk = Desk(holdings={AAPL: 10})
    taken = snapshot(when=20, started=19, holdings={AAPL: 10})
    positions = taken.snapshot.positions
    assert positions is not None
    priced = replace(positions[0], current_price=D(12))
    desk.tell(replace(taken, snapshot=replace(taken.snapshot, positions=(priced,))))
    book = desk.belief.book(AAPL)
    assert (book.broker_quantity, book.broker_average_price, book.broker_price) == (10, 10, 12)
    assert (book.broker_at, book.proved_at) == (at(20), at(19))


def test_a_gap_is_told_with_its_reason_and_its_instants() -> None:
    desk = Desk()
    opened = desk.lose(when=5, reason="cut by the other side")
    (view,) = views_of(opened.changes.views, Channel.TRUTH_GAP)
    assert isinstance(view, GapView)
    assert (view.id, view.feed, view.reason) == (f"g-{desk.belief.offset}", "broker_events", "cut by the other side")
    assert (view.opened_at, view.closed_at, view.missed, view.learned_by) == (at(5), None, 0, {})
    closed = desk.restore(snapshot(when=8), when=7)
    (view,) = views_of(closed.changes.views, Channel.TRUTH_GAP)
    assert isinstance(view, GapView)
    assert (view.opened_at, view.closed_at) == (at(5), at(8))


# --- what is counted, and how it is told --------------------------------------------------------------------------


def test_fills_are_counted_by_symbol_and_by_the_way_they_were_learned() -> None:
    desk = filled_in_two_parts()
    assert desk.belief.fill_counts == {AAPL: 2}
    assert desk.belief.counters["fills_by_stream"] == 2
    desk.tell(snapshot(report(S.FILLED, 5, version=9, broker_id="b-2", client_id="c-2", average="10"), when=9))
    assert desk.belief.fill_counts == {AAPL: 3}
    assert (desk.belief.counters["fills_by_stream"], desk.belief.counters["fills_by_reconcile"]) == (2, 1)


def test_what_was_learned_by_asking_in_a_gap_is_a_healed_drift_of_the_order() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    desk.lose(when=2)
    outcome = desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=3), when=6, holdings={AAPL: 40}))
    (drift,) = views_of(outcome.changes.views, Channel.TRUTH_DRIFT)
    assert isinstance(drift, DriftView)
    assert (drift.kind, drift.subject, drift.state) == ("order", desk.of("b-1").order_id, "healed")
    assert (drift.believed, drift.reported) == ("NEW 0", "PARTIALLY_FILLED 40")
    assert (drift.id, drift.first_seen_at, drift.at) == (f"d-{desk.belief.offset}-b-1", at(6), at(6))
    assert drift.evidence == "learned by reconcile while no broker event could arrive"


def test_what_was_learned_by_asking_on_a_live_stream_is_expected_of_it() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    desk.tell(
        snapshot(report(S.PARTIALLY_FILLED, 40, version=3), when=6, scope=SnapshotScope.ORDERS, source=Source.POLL)
    )
    expected = desk.belief.expectations[BrokerOrderId("b-1")]
    assert (expected.leg_id, expected.version, expected.filled) == ("b-1", at(3), 40)
    assert (expected.deadline, expected.source) == (at(9), "poll")
    assert desk.belief.next_deadline == at(9)


@pytest.mark.parametrize(
    ("taken", "kind", "words"),
    [
        (snapshot(when=20, blocked=True), "account_blocked", "the broker has blocked trading on this account"),
        (snapshot(when=20, account="OTHER"), "another_account", "the broker answers for account OTHER"),
        (
            snapshot(report(S.NEW, version=9, client_id="tu-table-7"), when=20),
            "second_writer",
            "tu-table-7 is named as our orders are and is not ours",
        ),
    ],
)
def test_what_stops_trading_is_told_in_words(taken: SnapshotTaken, kind: str, words: str) -> None:
    desk = Desk()
    outcome = desk.tell(taken)
    told = [view for view in views_of(outcome.changes.views, Channel.RISK_ALERT) if isinstance(view, RiskAlertView)]
    assert [(view.type, view.severity) for view in told] == [(kind, "critical")]
    assert told[0].reason.startswith(words)
    assert desk.belief.gate.trading_state is TradingState.HALTED
    assert any(reason.startswith(words) for _, reason in desk.belief.gate.demands.values())


def test_a_change_of_terms_alone_is_a_change_and_the_newest_terms_stand() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1, limit="10"), when=1))
    for change in (
        {"quantity": D(90)},
        {"limit_price": D(11)},
        {"stop_price": D(9)},
        {"replaces": BrokerOrderId("b-0")},
        {"replaced_by": BrokerOrderId("b-7")},
    ):
        leg = desk.of("b-1").leg
        row = report(S.NEW, version=2, limit="10")
        before = {"quantity": leg.quantity, "limit_price": leg.limit_price, "stop_price": leg.stop_price}
        before |= {"replaces": leg.replaces, "replaced_by": leg.replaced_by}
        row = replace(row, version=leg.version + timedelta(seconds=1) if leg.version else None, **(before | change))
        outcome = desk.tell(streamed(ExecType.RESTATED, row, when=3))
        assert list(outcome.changes.orders) == [desk.of("b-1").order_id], change
        assert {name: getattr(leg, name) for name in change} == change
        assert desk.of("b-1").timeline[-1].changed
        silent = replace(row, version=row.version + timedelta(seconds=1) if row.version else None, stop_price=None)
        assert not desk.tell(streamed(ExecType.RESTATED, silent, when=4)).changes.orders, (
            "what is not said is not taken"
        )
        assert leg.stop_price == row.stop_price


def test_an_execution_that_explains_a_residual_is_marked_so_and_keeps_its_own_terms() -> None:
    desk = Desk()
    desk.lose(when=0)
    desk.tell(snapshot(report(S.FILLED, 100, version=3, average="10.60"), when=6, holdings={AAPL: 100}))
    first = execution("e-1", 40, "10", cum=40, when=2)
    second = execution("e-2", 60, "11", cum=100, when=3)
    row = report(S.FILLED, 100, version=3, average="10.60")
    outcome = desk.tell(snapshot(row, when=9, executions=[first, second], holdings={AAPL: 100}))
    fills = [noted.fill for noted in outcome.changes.fills]
    assert [(fill.quantity, fill.price, fill.at) for fill in fills] == [(40, 10, at(2)), (60, 11, at(3))]
    assert [(fill.kind, fill.inferred, fill.replaces_inferred) for fill in fills] == [("fill", False, True)] * 2
    leg = desk.of("b-1").leg
    assert [fill.held for fill in fills] == list(leg.executions.values())
    assert (leg.residual, leg.executed_value, desk.shares(), desk.belief.flow) == (0, 1060, 100, -1060)
    assert {held.learned_at for held in leg.executions.values()} == {at(6)}, "the shares were known then"


def test_an_execution_that_explains_a_part_of_what_it_adds_is_marked_once() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=2, average="10"), when=2))
    inferred = desk.belief.counters["fills_by_stream"]
    late = execution("e-1", 40, "10", cum=40, when=2)
    more = execution("e-2", 60, "11", cum=100, when=4)
    row = report(S.FILLED, 100, version=4, average="10.60")
    outcome = desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=2), when=5, executions=[late, more]))
    assert inferred == 1
    assert [(n.fill.quantity, n.fill.replaces_inferred) for n in outcome.changes.fills] == [(40, True), (60, False)]
    desk.tell(streamed(ExecType.TRADE, row, more, when=6))
    assert (desk.shares(), desk.of("b-1").filled, desk.belief.flow) == (100, 100, -1060)


def test_a_residual_is_priced_and_dated_by_what_the_broker_says() -> None:
    desk = Desk()
    row = replace(report(S.PARTIALLY_FILLED, 40, version=3, average="10.25"), filled_at=at(2.5))
    desk.tell(snapshot(row, when=6, holdings={AAPL: 40}))
    leg = desk.of("b-1").leg
    assert (leg.residual, leg.residual_price, leg.residual_at) == (40, D("10.25"), at(2.5))
    assert (leg.residual_source, leg.residual_learned_at) == (Source.RECONCILE, at(6))
    (shown,) = executions_view(desk.belief)
    assert (shown.inferred, shown.quantity, shown.entry_price, shown.entry_time) == (True, 40, D("10.25"), at(2.5))
    later = report(S.PARTIALLY_FILLED, 60, version=7, average="10.50")
    desk.tell(snapshot(later, when=8, holdings={AAPL: 60}))
    assert (leg.residual, leg.residual_price, leg.residual_at) == (60, D("10.50"), at(7))


def test_a_total_that_fell_without_a_word_is_a_bust_of_the_difference() -> None:
    desk = Desk()
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=3, average="10"), when=6, holdings={AAPL: 40}))
    outcome = desk.tell(snapshot(report(S.PARTIALLY_FILLED, 25, version=7, average="10"), when=20, holdings={AAPL: 25}))
    (noted,) = outcome.changes.fills
    fill = noted.fill
    assert (fill.quantity, fill.price, fill.at, fill.kind, fill.inferred) == (-15, 10, at(3), "bust", True)
    assert (desk.shares(), desk.belief.flow, desk.of("b-1").filled) == (25, -250, 25)


# --- chains -------------------------------------------------------------------------------------------------------


def working() -> Desk:
    desk = Desk()
    desk.submit()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    return desk


def test_a_successor_that_names_its_predecessor_is_the_next_leg_of_its_order() -> None:
    desk = working()
    desk.tell(
        streamed(ExecType.NEW, report(S.NEW, version=3, broker_id="b-2", client_id="z-2", replaces="b-1"), when=3)
    )
    order = desk.of()
    assert [(leg.broker_order_id, leg.client_order_id) for leg in order.legs] == [("b-1", "c-1"), ("b-2", "z-2")]
    assert desk.of("z-2") is desk.of("b-2") is order
    assert list(desk.belief.orders) == [order.order_id]
    assert desk.belief.legs_by_symbol[AAPL] == order.legs


def test_a_predecessor_that_is_heard_of_last_becomes_the_first_leg() -> None:
    desk = Desk()
    young = report(S.NEW, version=4, broker_id="b-2", client_id="c-2")
    desk.tell(streamed(ExecType.NEW, young, when=4))
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=5))
    order = desk.of("b-2")
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", "b-2"]
    assert order.legs[0].client_order_id == "c-1"
    assert (order.leg.broker_order_id, order.status, len(desk.belief.orders)) == ("b-2", S.NEW, 1)


def test_our_replace_request_whose_name_the_broker_did_not_keep_finds_its_leg() -> None:
    desk = working()
    order = desk.of()
    desk.tell(ReplaceOrder(at=at(2), order_id=order.order_id, quantity=D(80)))
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", None]
    renamed = report(S.NEW, version=3, broker_id="b-2", client_id="renamed", quantity=80, replaces="b-1")
    desk.tell(streamed(ExecType.NEW, renamed, when=3))
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", "b-2"]
    assert desk.of("renamed") is order
    assert desk.belief.by_client[ClientOrderId("renamed")] is order.legs[1]
    assert (order.in_flight, order.leg.quantity) == (None, 80)
    assert not [effect for effect in desk.effects if isinstance(effect, FindOrder)]


def test_a_successor_of_another_order_does_not_take_our_pending_request() -> None:
    desk = working()
    order = desk.of()
    desk.tell(ReplaceOrder(at=at(2), order_id=order.order_id, quantity=D(80)))
    stranger = report(S.NEW, version=3, broker_id="b-9", client_id="z-9", replaces="b-8")
    desk.tell(streamed(ExecType.NEW, stranger, when=3))
    assert desk.of("b-9") is not order
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", None]
    assert order.in_flight is RequestKind.REPLACE


def test_a_replaced_order_asks_for_its_successor_only_when_no_request_of_ours_stands_for_it() -> None:
    for ask, wanted in ((False, True), (True, False)):
        desk = working()
        if ask:
            desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, quantity=D(80)))
        desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=3))
        assert (FindOrder(broker_order_id=BrokerOrderId("b-2")) in desk.effects) is wanted


def test_what_was_asked_of_one_end_holds_for_the_whole_chain() -> None:
    desk = working()
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id))
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=4, broker_id="b-2", client_id="c-9"), when=4))
    outcome = desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=5))
    order = desk.of("b-2")
    assert order is desk.of()
    assert order.cancel_wanted
    assert order.status is S.PENDING_CANCEL
    cancels = [effect for effect in outcome.effects if isinstance(effect, SendCancel)]
    assert BrokerOrderId("b-2") in [cancel.broker_order_id for cancel in cancels]
    assert {cancel.order_id for cancel in cancels} == {order.order_id}
    assert [line.offset for line in order.timeline] == sorted(line.offset for line in order.timeline)
    assert outcome.changes.orders == {order.order_id: order}


def test_a_doubt_outlives_the_joining_of_a_chain() -> None:
    desk = working()
    order = desk.of()
    desk.tell(ReplaceOrder(at=at(2), order_id=order.order_id, quantity=D(80)))
    name = order.legs[-1].client_order_id
    assert name is not None
    desk.answer(RequestOutcome.UNKNOWN, kind=RequestKind.REPLACE, client_id=name, when=3, message="504")
    assert (order.in_doubt, order.doubt_since) == (RequestKind.REPLACE, at(3))
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=4, broker_id="b-2", client_id="c-9"), when=4))
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=5))
    assert desk.of("b-2") is order
    assert (order.in_doubt, order.doubt_since) == (RequestKind.REPLACE, at(3))


# --- before the books began ---------------------------------------------------------------------------------------


def test_what_the_first_look_lists_is_in_the_opening_and_was_missed_by_nobody() -> None:
    desk = Desk(live=False)
    match = execution("e-1", 40, cum=40, when=-60)
    row = report(S.PARTIALLY_FILLED, 40, version=-60, average="10")
    outcome = desk.tell(snapshot(row, when=1, executions=[match], holdings={AAPL: 40}))
    leg = desk.of("b-1").leg
    assert (desk.shares(), leg.opening, leg.filled, desk.belief.flow) == (40, 40, 40, 0)
    assert not outcome.changes.fills
    assert not desk.belief.drift_log
    assert not desk.belief.counters.get("fills_missed_by_stream")


@pytest.mark.parametrize(("version", "opening"), [(-600, 10), (2, 0)])
def test_an_order_that_ended_before_the_books_began_moves_no_position(version: float, opening: int) -> None:
    desk = Desk(holdings={AAPL: 10})
    late = report(S.FILLED, 10, version=version, broker_id="b-9", client_id="z-9", quantity=10, average="10")
    desk.tell(snapshot(late, when=5, holdings={AAPL: 20 - opening}))
    assert (desk.of("b-9").leg.opening, desk.shares()) == (opening, 20 - opening)
    assert desk.belief.truth.last_result == "clean"


def test_a_question_about_a_finished_order_makes_no_line_and_an_event_does() -> None:
    desk = filled_in_two_parts()
    lines = len(desk.of("b-1").timeline)
    desk.tell(snapshot(report(S.FILLED, 100, version=2), when=5, holdings={AAPL: 100}))
    assert len(desk.of("b-1").timeline) == lines
    again = streamed(
        ExecType.TRADE, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100, when=2), when=6
    )
    desk.tell(again)
    line = desk.of("b-1").timeline[-1]
    assert (line.changed, line.fills, line.broker_at, line.text) == (False, (), at(2), "")
    assert desk.of("b-1").updated_at == at(0), "a repetition is no change"


# --- what counts as missed ----------------------------------------------------------------------------------------


def test_a_strangers_fill_first_seen_in_a_gap_was_missed() -> None:
    desk = Desk()
    desk.lose(when=1)
    row = report(S.FILLED, 40, version=3, client_id="theirs", quantity=40, average="10")
    outcome = desk.tell(snapshot(row, when=6, holdings={AAPL: 40}))
    assert desk.belief.counters["fills_missed_by_stream"] == 1
    assert [noted.missed for noted in outcome.changes.fills] == [True]
    assert [drift.kind for drift in desk.belief.drift_log] == ["order"]


def test_an_order_that_ended_long_before_the_books_was_missed_by_nobody() -> None:
    desk = Desk(holdings={AAPL: 40})
    desk.lose(when=1)
    old = report(S.FILLED, 40, version=-600, client_id="theirs", quantity=40, average="10")
    outcome = desk.tell(snapshot(old, when=6, holdings={AAPL: 40}))
    assert outcome.changes.fills == []
    assert (desk.shares(), desk.belief.drift_log) == (40, [])
    assert "fills_missed_by_stream" not in desk.belief.counters


@pytest.mark.parametrize(("version", "opening"), [(-152.001, True), (-152, False), (-151, False), (-110, False)])
def test_long_before_is_half_the_slack_of_a_snapshot(version: float, opening: bool) -> None:
    desk = Desk(holdings={AAPL: 40})
    late = report(S.FILLED, 10, version=version, client_id="theirs", quantity=10, average="10")
    desk.tell(streamed(ExecType.TRADE, late, when=5))
    assert (desk.of("b-1").leg.opening, desk.shares()) == ((10, 40) if opening else (0, 50))


def test_half_a_share_of_an_old_order_is_in_the_opening_too() -> None:
    desk = Desk(holdings={AAPL: 40})
    old = replace(report(S.FILLED, version=-600, client_id="theirs", average="10"), filled_quantity=D("0.5"))
    desk.tell(streamed(ExecType.TRADE, old, when=5))
    assert (desk.of("b-1").leg.opening, desk.shares()) == (D("0.5"), 40)


def test_an_end_that_was_learned_by_asking_in_a_gap_is_a_drift_and_a_mere_change_of_words_is_not() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    desk.lose(when=2)
    desk.tell(snapshot(report(S.PENDING_CANCEL, version=3), when=4))
    assert desk.belief.drift_log == []
    desk.tell(snapshot(report(S.CANCELED, version=5), when=6))
    (drift,) = desk.belief.drift_log
    assert (drift.believed, drift.reported) == ("PENDING_CANCEL 0", "CANCELED 0")


@pytest.mark.parametrize("live", [True, False])
def test_executions_of_a_list_were_missed_where_no_stream_was(live: bool) -> None:
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="10")
    desk.tell(streamed(ExecType.TRADE, row, when=1))
    desk.tell(streamed(ExecType.TRADE, row, execution("e-1", 15, cum=15, when=0.5), when=1))
    if not live:
        desk.lose(when=2)
    late = [execution("e-9", 20, "10", when=9), execution("e-2", 25, "10", when=1)]
    outcome = desk.tell(snapshot(row, when=10, executions=late, holdings={AAPL: 40}))
    order = desk.of("b-1")
    assert outcome.changes.fills[0].order is order
    assert [noted.missed for noted in outcome.changes.fills] == [not live]
    assert list(order.leg.unplaced) == ["e-9"]
    assert desk.belief.counters["execution_beyond_total"] == 1
    assert outcome.effects == (
        FindOrder(broker_order_id=BrokerOrderId("b-1")),
        TakeSnapshot(scope=SnapshotScope.FULL, reason=f"execution_beyond_total on order {order.order_id}"),
    )
    held = order.leg.unplaced[ExecutionId("e-9")]
    assert (held.source, held.learned_at, held.missed) == (Source.RECONCILE, at(10), not live)


def test_a_list_that_gives_totals_for_some_executions_alone_is_joined_all_the_same() -> None:
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 40, version=2, average="10")
    listed = [execution("e-2", 25, cum=40, when=2), execution("e-1", 15, when=1)]
    desk.tell(snapshot(row, when=5, executions=listed, holdings={AAPL: 40}))
    leg = desk.of("b-1").leg
    assert (list(leg.executions), leg.residual, leg.unplaced) == (["e-1", "e-2"], 0, {})


# --- prices that change alone -------------------------------------------------------------------------------------


def test_a_better_average_alone_moves_the_money_and_the_average() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=1, average="10"), when=1))
    outcome = desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2, average="10.50"), when=2))
    assert (desk.belief.cash, desk.shares()) == (D(100000 - 1050), 100)
    assert desk.belief.settled_book(AAPL).average_price == D("10.50")
    assert list(outcome.changes.orders) == [desk.of("b-1").order_id]


def test_a_better_average_in_the_first_look_prices_what_the_stream_told_before_it() -> None:
    desk = Desk(live=False)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=1, average="10"), when=1))
    desk.restore(snapshot(report(S.FILLED, 100, version=2, average="10.50"), when=4, holdings={AAPL: 100}), when=3)
    assert desk.shares() == 100
    assert desk.belief.settled_book(AAPL).average_price == D("10.50")
    assert list(desk.belief.books) == [AAPL]


# --- busts that nobody told of ------------------------------------------------------------------------------------


def nameless_bust() -> Desk:
    """The stream tells at 6 s that 40 shares are gone, and not which execution was taken back."""
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="10")
    desk.tell(streamed(ExecType.TRADE, row, execution("e-1", 40, cum=40, when=1), when=1))
    desk.tell(streamed(ExecType.TRADE_CANCEL, report(S.NEW, 0, version=6), when=6))
    assert (desk.shares(), desk.of("b-1").leg.residual) == (0, -40)
    return desk


@pytest.mark.parametrize(("version", "busted"), [(5, False), (6, True), (7, True), (None, False)])
def test_only_a_list_made_since_the_fall_can_tell_what_is_gone(version: float | None, busted: bool) -> None:
    desk = nameless_bust()
    other = report(S.NEW, version=3, broker_id="b-2", client_id="c-2")
    elsewhere = [execution("e-9", 5, cum=5, when=2, broker_id="b-3")]
    desk.tell(snapshot(other, report(S.NEW, 0, version=version), when=40, executions=elsewhere))
    assert desk.of("b-1").leg.executions[ExecutionId("e-1")].busted is busted
    assert desk.shares() == 0


def test_an_old_row_hides_no_newer_one_behind_it() -> None:
    desk = nameless_bust()
    row = report(S.PARTIALLY_FILLED, 30, version=1, broker_id="b-2", client_id="c-2", average="10")
    match = execution("e-2", 30, cum=30, when=1, broker_id="b-2")
    desk.tell(streamed(ExecType.TRADE, row, match, when=7))
    gone = report(S.NEW, 0, version=8, broker_id="b-2", client_id="c-2")
    desk.tell(streamed(ExecType.TRADE_CANCEL, gone, when=8))
    listed = [execution("e-9", 5, cum=5, when=2, broker_id="b-3")]
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=1), gone, when=40, executions=listed))
    held = {name: item.busted for order in ("b-1", "b-2") for name, item in desk.of(order).leg.executions.items()}
    assert held == {"e-1": False, "e-2": True}


def test_a_match_that_waits_may_show_which_one_is_gone_though_the_total_stands() -> None:
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 40, version=1, average="10")
    desk.tell(streamed(ExecType.TRADE, row, execution("e-1", 40, cum=40, when=1), when=1))
    instead = execution("e-2", 40, "12", when=3)
    for when in (40, 80):
        desk.tell(snapshot(row, when=when, executions=[instead], holdings={AAPL: 40}))
    held = {name: item.busted for name, item in desk.of("b-1").leg.executions.items()}
    assert held == {"e-1": True, "e-2": False}
    assert desk.shares() == 40


# --- names and chains ---------------------------------------------------------------------------------------------


def test_two_broker_orders_of_one_name_are_two_legs_of_one_order() -> None:
    desk = working()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=2, broker_id="b-2"), when=2))
    order = desk.of()
    assert [(leg.broker_order_id, leg.client_order_id) for leg in order.legs] == [("b-1", "c-1"), ("b-2", "c-1")]
    assert desk.of("b-2") is order
    assert list(desk.belief.orders) == [order.order_id]
    assert desk.belief.by_client[ClientOrderId("c-1")] is order.legs[0]


def test_an_order_keeps_its_own_id_when_its_older_leg_becomes_known() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=4, broker_id="b-2", client_id="c-2"), when=4))
    known = desk.of("b-2")
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=5))
    assert desk.of("b-1") is desk.of("b-2") is known
    assert list(desk.belief.orders) == [known.order_id] == ["x-4"]


def strangers(*, filled: bool = False) -> Desk:
    """Two orders of others, b-1 and b-2, that nobody has said are one."""
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1, client_id="z-1"), when=1))
    ended = S.FILLED if filled else S.NEW
    young = report(ended, 100 if filled else 0, version=2, broker_id="b-2", client_id="z-2", average="10")
    desk.tell(streamed(ExecType.TRADE, young, when=2))
    assert desk.of("b-1") is not desk.of("b-2")
    return desk


@pytest.mark.parametrize("teller", ["b-1", "b-2"])
@pytest.mark.parametrize("filled", [False, True])
def test_two_orders_of_others_become_the_one_that_was_spoken_of(teller: str, filled: bool) -> None:
    desk = strangers(filled=filled)
    spoken = desk.of(teller)
    if teller == "b-1":
        row = report(S.REPLACED, version=3, client_id="z-1", replaced_by="b-2")
    else:
        ended = S.FILLED if filled else S.NEW
        young = report(ended, 100 if filled else 0, version=3, broker_id="b-2", client_id="z-2", average="10")
        row = replace(young, replaces=BrokerOrderId("b-1"))
    outcome = desk.tell(streamed(ExecType.STATUS, row, when=5))
    assert desk.of("b-1") is desk.of("b-2") is spoken
    assert [leg.broker_order_id for leg in spoken.legs] == ["b-1", "b-2"]
    assert list(desk.belief.orders) == list(outcome.changes.orders) == [spoken.order_id]
    assert [line.offset for line in spoken.timeline] == [4, 5, 6]


def test_two_rows_of_one_snapshot_that_turn_out_to_be_one_order_change_one() -> None:
    desk = strangers()
    older = report(S.REPLACED, 10, version=3, client_id="z-1", average="10")
    younger = report(S.NEW, version=3, broker_id="b-2", client_id="z-2", replaces="b-1")
    outcome = desk.tell(snapshot(older, younger, when=5, holdings={AAPL: 10}))
    assert list(outcome.changes.orders) == [desk.of("b-2").order_id]
    assert desk.of("b-1") is desk.of("b-2")


def test_the_middle_of_a_chain_finds_both_its_ends() -> None:
    desk = strangers()
    middle = report(S.REPLACED, version=3, broker_id="b-2", client_id="z-2", replaces="b-1", replaced_by="b-3")
    outcome = desk.tell(streamed(ExecType.REPLACED, middle, when=5))
    assert desk.of("b-1") is desk.of("b-2")
    assert outcome.effects == (FindOrder(broker_order_id=BrokerOrderId("b-3")),)
    last = report(S.NEW, version=4, broker_id="b-3", client_id="z-3", replaces="b-2")
    desk.tell(streamed(ExecType.NEW, last, when=6))
    assert [leg.broker_order_id for leg in desk.of("b-3").legs] == ["b-1", "b-2", "b-3"]


def test_a_middle_whose_younger_end_is_known_already_still_finds_the_older() -> None:
    desk = strangers()
    young = report(S.NEW, version=4, broker_id="b-3", client_id="z-3", replaces="b-2")
    desk.tell(streamed(ExecType.NEW, young, when=4))
    middle = report(S.REPLACED, version=5, broker_id="b-2", client_id="z-2", replaces="b-1", replaced_by="b-3")
    desk.tell(streamed(ExecType.REPLACED, middle, when=5))
    assert [leg.broker_order_id for leg in desk.of("b-1").legs] == ["b-1", "b-2", "b-3"]


def test_a_request_under_way_outlives_the_joining_of_a_chain() -> None:
    desk = working()
    order = desk.of()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=4, broker_id="b-2", client_id="c-9"), when=4))
    desk.tell(ReplaceOrder(at=at(5), order_id=desk.of("b-2").order_id, quantity=D(80)))
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=3, replaced_by="b-2"), when=6))
    assert desk.of("b-2") is order
    assert order.in_flight is RequestKind.REPLACE


def test_a_nameless_order_is_cancelled_by_the_brokers_id() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1, client_id=None), when=1))
    order_id = desk.of("b-1").order_id
    outcome = desk.tell(CancelOrder(at=at(2), order_id=order_id))
    assert outcome.effects == (
        SendCancel(order_id=order_id, client_order_id=ClientOrderId(""), broker_order_id=BrokerOrderId("b-1")),
    )


def test_the_end_of_an_order_ends_the_doubt_about_its_cancel() -> None:
    desk = working()
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id))
    desk.answer(RequestOutcome.UNKNOWN, kind=RequestKind.CANCEL, when=3)
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=4), when=4))
    order = desk.of()
    assert (order.in_doubt, order.is_terminal, order.status) == (None, True, S.CANCELED)
    assert list(desk.belief.open_orders) == []


# --- overfills ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", ["0.5", "1", "30"])
def test_an_overfill_alarms_once_with_the_numbers(beyond: str) -> None:
    desk = working()
    total = 100 + D(beyond)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=1, average="10"), when=2))
    row = report(S.FILLED, str(total), version=2, average="10")
    outcome = desk.tell(streamed(ExecType.TRADE, row, when=3))
    (alert,) = views_of(outcome.changes.views, Channel.RISK_ALERT)
    assert alert == RiskAlertView(
        type="overfill",
        severity="critical",
        reason=f"order o-4 filled {total} of 100 AAPL; the broker's word is booked",
        symbol=AAPL,
        current_value=None,
        limit_value=None,
        timestamp=at(3),
        order_id="o-4",
    )
    drift = desk.belief.drifts[f"position:{AAPL}"]
    assert (drift.kind, drift.evidence) == ("position", "order o-4 was filled beyond its quantity")
    again = desk.tell(streamed(ExecType.TRADE, row, when=4))
    assert (again.changes.views, again.effects, desk.belief.counters["overfills"]) == ([], (), 1)


# --- what is kept -------------------------------------------------------------------------------------------------


def test_of_a_long_story_the_intent_and_the_newest_lines_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition_module, "TIMELINE_KEPT", 4)
    desk = working()
    for number in range(2, 8):
        desk.tell(streamed(ExecType.RESTATED, report(S.NEW, version=number, limit=str(number)), when=number))
    assert [line.offset for line in desk.of().timeline] == [4, 9, 10, 11]


def test_of_many_drifts_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition_module, "DRIFT_KEPT", 3)
    desk = Desk(holdings={AAPL: 10})
    for number in range(5):
        desk.tell(snapshot(when=10 * number, holdings={AAPL: 12}), snapshot(when=10 * number + 1, holdings={AAPL: 10}))
    assert [drift.at for drift in desk.belief.drift_log] == [at(21), at(31), at(41)]


# --- lists that do not make up a total ----------------------------------------------------------------------------


def half_known() -> Desk:
    """Two orders of which the list knows 40 of 100 each; what came before it begins is not in it."""
    desk = Desk()
    for name in ("1", "2"):
        row = report(S.PARTIALLY_FILLED, 100, version=3, broker_id=f"b-{name}", client_id=f"c-{name}", quantity=200)
        desk.tell(streamed(ExecType.TRADE, row, when=3))
    return desk


def test_what_a_list_knows_of_an_order_is_joined_in_its_order_and_told_as_of_its_last() -> None:
    desk = half_known()
    unknown = execution("e-9", 5, when=6, broker_id="b-9")
    listed = [
        execution(f"e-{name}{part}", 20, cum=cum, when=when, broker_id=f"b-{name}")
        for name in ("1", "2")
        for part, cum, when in (("b", 100, 2), ("a", 80, 3))
    ]
    outcome = desk.tell(snapshot(when=7, executions=[unknown, *listed], holdings={AAPL: 200}))
    assert FindOrder(broker_order_id=BrokerOrderId("b-9")) in outcome.effects
    for name in ("1", "2"):
        order = desk.of(f"b-{name}")
        assert list(order.leg.executions) == [f"e-{name}a", f"e-{name}b"], "by total, whatever their instants"
        assert order.leg.residual == 60
        line = order.timeline[-1]
        assert (line.event, line.source, line.broker_at) == (ExecType.TRADE, Source.RECONCILE, at(2))


def test_an_execution_known_by_another_name_is_no_news() -> None:
    desk = half_known()
    match = execution("e-1", 40, cum=100, when=2)
    desk.tell(snapshot(when=7, executions=[match], holdings={AAPL: 200}))
    again = replace(match, execution_id=ExecutionId("list-1"))
    desk.tell(snapshot(when=8, executions=[again], holdings={AAPL: 200}))
    lines = len(desk.of("b-1").timeline)
    before = desk.belief.counters.get("duplicates_ignored", 0)
    outcome = desk.tell(snapshot(when=9, executions=[again], holdings={AAPL: 200}))
    assert (outcome.changes.orders, len(desk.of("b-1").timeline)) == ({}, lines)
    assert desk.belief.counters.get("duplicates_ignored", 0) == before


def test_where_a_list_makes_up_the_total_it_says_how_and_when_it_was_learned() -> None:
    desk = half_known()
    row = report(S.PARTIALLY_FILLED, 100, version=3, quantity=200)
    desk.tell(snapshot(row, when=7, executions=[execution("e-1", 100, cum=100, when=2)], holdings={AAPL: 200}))
    held = desk.of("b-1").leg.executions[ExecutionId("e-1")]
    assert (held.source, held.learned_at, held.missed) == (Source.STREAM, at(3), False), "its shares were known before"
    bigger = report(S.PARTIALLY_FILLED, 130, version=8, quantity=200)
    desk.lose(when=8)
    listed = [execution("e-1", 100, cum=100, when=2), execution("e-2", 30, cum=130, when=8)]
    desk.tell(snapshot(bigger, when=9, executions=listed, holdings={AAPL: 230}))
    held = desk.of("b-1").leg.executions[ExecutionId("e-2")]
    assert (held.source, held.learned_at, held.missed) == (Source.RECONCILE, at(9), True)
    instead = [execution("e-3", 130, "12", cum=130, when=8)]
    desk.tell(snapshot(bigger, when=10, executions=instead, holdings={AAPL: 230}))
    held = desk.of("b-1").leg.executions[ExecutionId("e-3")]
    assert (held.source, held.learned_at, held.missed) == (Source.RECONCILE, at(10), True), "nobody knew of this one"
