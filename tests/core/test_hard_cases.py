"""The hard cases of keeping order state true, by their numbers in docs/reference/order-truth.md.

One test a case, for those that the core decides; the reference lists which test elsewhere covers the others. What is
asserted is what is right.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.commands import CancelOrder, Kill, ReplaceOrder
from trueup.core.effects import FindOrder, RecycleFeed, SendCancel, SendOrder, SendReplace, TakeSnapshot
from trueup.core.events import (
    ClockTicked,
    FeedAcknowledged,
    FeedRestored,
    FrameQuarantined,
    RuntimeStarted,
    SnapshotFailed,
)
from trueup.core.model import (
    BrokerOrderId,
    ExecType,
    Execution,
    FeedName,
    FeedStatus,
    OrderReport,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.projection import executions_view, order_view
from trueup.core.reconcile import ABSENT_SETTLE
from trueup.core.step import CANCEL_OVERDUE
from trueup.core.transition import STREAM_GRACE

S = OrderStatus
ACCEPTED, REFUSED, UNKNOWN = RequestOutcome.ACCEPTED, RequestOutcome.REFUSED, RequestOutcome.UNKNOWN
CANCEL, REPLACE = RequestKind.CANCEL, RequestKind.REPLACE
FULL, ORDERS = SnapshotScope.FULL, SnapshotScope.ORDERS
EVENTS = FeedName.BROKER_EVENTS

PARTIAL = report(S.PARTIALLY_FILLED, 40, version=2, average="10")
MATCH = execution("e-1", 40, "10", cum=40, when=2)


def submitted() -> Desk:
    desk = Desk()
    desk.submit(100)
    return desk


def working() -> Desk:
    desk = submitted()
    desk.answer(ACCEPTED, report(S.NEW, version=1), when=1)
    desk.effects.clear()
    return desk


def filling(desk: Desk, what: OrderReport = PARTIAL, match: Execution | None = MATCH, *, when: float = 2) -> None:
    desk.tell(streamed(ExecType.TRADE, what, match, when=when))


def polled(desk: Desk, *rows: OrderReport, when: float) -> None:
    desk.tell(snapshot(*rows, when=when, scope=ORDERS, source=Source.POLL))


def state(desk: Desk, any_id: str = "c-1") -> tuple[S, int, int]:
    """Status, filled shares and position, which must be explained by executions and residuals."""
    order = desk.of(any_id)
    for leg in order.legs:
        assert leg.executed + leg.residual == leg.filled
    return order.status, int(order.filled), int(desk.shares())


# --- the request and its answer -----------------------------------------------------------------------------------


def test_case_01_fill_event_before_the_submit_reply() -> None:
    desk = submitted()
    filling(desk)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    desk.answer(ACCEPTED, report(S.NEW, 0, version=1), when=3)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert len(desk.belief.orders) == 1


def test_case_02_accepted_event_before_a_reply_that_is_lost() -> None:
    desk = submitted()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=1))
    desk.answer(UNKNOWN, message="timeout", when=5)
    assert (desk.of().status, desk.of().in_doubt) == (S.NEW, None)


def test_case_03_reply_lost_and_nothing_heard() -> None:
    desk = submitted()
    desk.answer(UNKNOWN, when=1)
    desk.tell(ClockTicked(at=at(100000)))
    assert (desk.of().status, desk.of().in_doubt) == (S.PENDING_NEW, RequestKind.SUBMIT)
    assert desk.of().leaves == 100, "exposure counts as if it were live"
    refused = desk.submit(1, client_id="c-2", when=100001)
    assert refused.denied is not None
    assert refused.denied.code == "symbol_in_doubt"
    desk.find(None, client_id="c-1", started=100002)
    assert desk.of().in_doubt is not None, "one answer is not enough"
    desk.find(None, client_id="c-1", started=100007)
    assert (desk.of().status, desk.of().in_doubt) == (S.DENIED, None)


def test_case_04_a_failed_reply_is_no_rejection_and_is_never_sent_again() -> None:
    desk = submitted()
    desk.answer(UNKNOWN, message="504", when=1)
    for second in (2, 40, 4000):
        desk.tell(ClockTicked(at=at(second)))
    desk.tell(RuntimeStarted(at=at(5000), version="1", broker="paper"))
    assert len(desk.wants(SendOrder)) == 1
    assert all(isinstance(effect, FindOrder | SendOrder) for effect in desk.effects)


def test_case_05_must_be_unique_means_that_the_first_was_accepted() -> None:
    desk = submitted()
    desk.answer(UNKNOWN, when=1)
    desk.find(report(S.NEW, version=1), client_id="c-1", started=2)
    desk.answer(REFUSED, message="client_order_id must be unique", code="40010001", when=3)
    assert state(desk) == (S.NEW, 0, 0)
    assert desk.of().order_id in desk.belief.open_orders


def test_case_06_client_order_ids_are_unique_over_restarts_and_a_second_writer_is_noticed() -> None:
    desk = Desk()
    first = desk.submit(1, client_id="").effects[0]
    desk.tell(RuntimeStarted(at=at(10), version="2", broker="paper"))
    desk.restore(snapshot(when=12), when=11)
    desk.find(None, client_id="tu-table-4", started=20)
    desk.find(None, client_id="tu-table-4", started=30)
    second = desk.submit(1, client_id="", when=31).effects[0]
    assert isinstance(first, SendOrder)
    assert isinstance(second, SendOrder)
    assert first.allowed.order.client_order_id != second.allowed.order.client_order_id
    desk.tell(streamed(ExecType.NEW, report(client_id="tu-table-9999", broker_id="b-9", version=40), when=40))
    refused = desk.submit(1, client_id="c-3", when=41)
    assert refused.denied is not None
    assert refused.denied.code == "halted"


# --- counting shares ----------------------------------------------------------------------------------------------


def test_case_07_cumulative_beyond_the_executions_is_a_hole_that_moves_the_position_at_once() -> None:
    desk = working()
    filling(desk, report(S.PARTIALLY_FILLED, 70, version=3, average="10"), execution("e-2", 30, "10", cum=70, when=3))
    assert state(desk) == (S.PARTIALLY_FILLED, 70, 70)
    assert desk.of().leg.residual == 40
    filling(desk, PARTIAL, MATCH, when=4)
    assert state(desk) == (S.PARTIALLY_FILLED, 70, 70)
    assert desk.of().leg.residual == 0


def test_case_08_an_identical_event_is_ignored_and_counted() -> None:
    desk = working()
    filling(desk)
    filling(desk)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert desk.belief.counters["duplicates_ignored"] == 1


def test_case_09_the_same_execution_under_a_new_name() -> None:
    desk = working()
    filling(desk)
    filling(desk, PARTIAL, execution("again", 40, "10", cum=40, when=2))
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert desk.wants(TakeSnapshot) == [], "the stretch of shares tells that they are one"
    filling(desk, PARTIAL, execution("nameless", 40, "10", when=2))
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert list(desk.of().leg.unplaced) == ["nameless"]
    assert len(desk.wants(TakeSnapshot)) == 1, "without a stretch it is quarantined, and the broker is asked"


def test_case_10_one_name_with_two_prices() -> None:
    desk = working()
    filling(desk)
    filling(desk, PARTIAL, execution("e-1", 40, "11", cum=40, when=2))
    assert desk.of().average_price == 10
    assert desk.belief.counters["execution_conflict"] == 1
    assert desk.wants(FindOrder)
    assert desk.wants(TakeSnapshot)
    record = execution("e-1", 40, "11", cum=40, when=2)
    desk.tell(snapshot(PARTIAL, when=5, executions=[record], holdings={"AAPL": 40}, cash="99560"))
    assert desk.of().leg.executed_value == 440
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    desk.effects.clear()
    desk.tell(snapshot(PARTIAL, when=8, executions=[record], holdings={"AAPL": 40}, cash="99560"))
    assert desk.effects == []


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_case_11_out_of_order(arrival: tuple[int, ...]) -> None:
    story = [
        (ExecType.NEW, report(S.NEW, version=1), None),
        (ExecType.TRADE, PARTIAL, MATCH),
        (
            ExecType.TRADE,
            report(S.PARTIALLY_FILLED, 70, version=3, average="10.3"),
            execution("e-2", 30, "10.70", cum=70, when=3),
        ),
        (ExecType.CANCELED, report(S.CANCELED, 70, version=4, average="10.3"), None),
    ]
    desk = submitted()
    for index in arrival:
        exec_type, what, match = story[index]
        desk.tell(streamed(exec_type, what, match, when=5))
    assert state(desk) == (S.CANCELED, 70, 70)
    assert desk.of().leg.executed_value == D("721.00")
    assert desk.belief.settled_book(AAPL).average_price == D("10.30")


def test_case_12_a_cancel_overtakes_the_last_partial() -> None:
    desk = working()
    filling(desk)
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 40, version=4), when=3))
    filling(desk, report(S.PARTIALLY_FILLED, 60, version=3), execution("e-2", 20, "10", cum=60, when=3), when=4)
    assert state(desk) == (S.CANCELED, 60, 60)
    assert desk.of().order_id not in desk.belief.open_orders


@pytest.mark.parametrize("with_executions", [True, False])
def test_case_13_partly_filled_then_cancelled_both_inside_a_gap(with_executions: bool) -> None:
    desk = working()
    desk.lose(1.5)
    row = report(S.CANCELED, 40, version=3, average="10")
    told = [MATCH] if with_executions else []
    desk.restore(snapshot(row, when=6, executions=told, holdings={"AAPL": 40}, cash="99600"), when=5)
    assert state(desk) == (S.CANCELED, 40, 40)
    (view,) = executions_view(desk.belief)
    assert (view.quantity, view.entry_price, view.inferred) == (40, 10, not with_executions)
    assert desk.belief.truth.last_result == "clean"
    desk.tell(snapshot(row, when=9, executions=[MATCH], holdings={"AAPL": 40}, cash="99600"))
    assert state(desk) == (S.CANCELED, 40, 40)
    assert [view.execution_id for view in executions_view(desk.belief)] == ["e-1"]


def test_case_14_filled_inside_a_gap_and_gone_from_the_open_list() -> None:
    desk = working()
    desk.lose(1.5)
    polled(desk, when=3)
    assert state(desk) == (S.NEW, 0, 0), "a row that is missing means nothing"
    assert desk.belief.working_broker_ids() == ("b-1",), "so it is asked for by its id"
    polled(desk, report(S.FILLED, 100, version=2, average="10"), when=4)
    assert state(desk) == (S.FILLED, 100, 100)


def test_case_15_gone_from_the_open_list_and_not_yet_in_the_closed_one() -> None:
    desk = working()
    for second in range(5, 5 + ABSENT_SETTLE.seconds, 5):
        desk.tell(snapshot(when=second, absent=["b-1"]))
        assert state(desk) == (S.NEW, 0, 0)
    desk.tell(snapshot(report(S.FILLED, 100, version=2, average="10"), when=36, holdings={"AAPL": 100}))
    assert state(desk) == (S.FILLED, 100, 100)


def test_case_16_a_torn_snapshot_confirms_nothing() -> None:
    """Orders were read before a fill, positions after it."""
    desk = working()
    desk.tell(snapshot(report(S.NEW, version=1), when=3, started=1, holdings={"AAPL": 40}))
    assert desk.belief.drifts["position:AAPL"].state == "suspected"
    assert desk.shares() == 0
    filling(desk, when=4)
    desk.tell(snapshot(PARTIAL, when=6, holdings={"AAPL": 40}))
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert [drift.state for drift in desk.belief.drift_log] == ["healed"]
    assert not any(item.reason == "true-up" for item in desk.belief.books[AAPL].adjustments)


def test_case_17_a_snapshot_older_than_the_last_event_lowers_nothing() -> None:
    desk = working()
    filling(desk)
    polled(desk, report(S.NEW, 0, version=1), when=3)
    desk.tell(snapshot(report(S.NEW, 0, version=1), when=4, started=1.5))
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert desk.belief.drifts == {}


def test_case_18_events_during_a_snapshot_before_or_after_it_make_the_same_belief() -> None:
    taken = snapshot(report(S.NEW, 0, version=1), when=4, started=1.5)
    results = []
    for event_first in (True, False):
        desk = working()
        event = streamed(ExecType.TRADE, PARTIAL, MATCH, when=2)
        desk.tell(*((event, taken) if event_first else (taken, event)))
        results.append((state(desk), desk.belief.cash, desk.of().leg.executed_value, dict(desk.belief.drifts)))
    assert results[0] == results[1]


# --- streams ------------------------------------------------------------------------------------------------------


def test_case_19_a_reconnect_is_distrusted_until_a_snapshot_begun_since_has_been_merged() -> None:
    desk = working()
    desk.lose(2)
    desk.tell(FeedAcknowledged(at=at(3), feed=EVENTS))
    assert desk.belief.feeds[EVENTS].status is FeedStatus.RESTORING
    assert desk.belief.entries_gated
    desk.tell(snapshot(report(S.NEW, version=1), when=5, started=2.5))
    desk.tell(FeedRestored(at=at(6), feed=EVENTS))
    assert desk.belief.entries_gated, "that snapshot began before the subscription"
    desk.tell(snapshot(report(S.NEW, version=1), when=8, started=7))
    assert not desk.belief.entries_gated


def test_case_20_connected_but_mute() -> None:
    desk = working()
    polled(desk, PARTIAL, when=5)
    outcome = desk.tell(ClockTicked(at=at(5) + STREAM_GRACE))
    assert [type(effect) for effect in outcome.effects] == [RecycleFeed]
    assert desk.belief.feeds[EVENTS].status is FeedStatus.SUSPECT
    assert desk.belief.entries_gated


def test_case_21_a_single_frame_lost_on_a_healthy_stream() -> None:
    desk = working()
    polled(desk, PARTIAL, when=5)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40), "the poll goes the same way as the event"
    desk.tell(ClockTicked(at=at(5) + STREAM_GRACE))
    assert desk.belief.counters["fills_missed_by_stream"] == 1
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert gap.learned_by == {"poll": 1}


# --- what is undone -----------------------------------------------------------------------------------------------


def test_case_22_a_bust_is_an_entry_that_names_the_execution() -> None:
    desk = working()
    filling(desk)
    filling(desk, report(S.FILLED, 100, version=3), execution("e-2", 60, "11", cum=100, when=3), when=3)
    desk.tell(streamed(ExecType.TRADE_CANCEL, report(S.CANCELED, 40, version=4), refers_to="e-2", when=4))
    assert state(desk) == (S.CANCELED, 40, 40)
    assert desk.belief.cash == 99600
    assert {view.id: view.kind for view in executions_view(desk.belief)} == {"e-1": "fill", "e-2": "bust"}
    filling(desk, report(S.FILLED, 100, version=3), execution("e-2", 60, "11", cum=100, when=3), when=5)
    assert state(desk) == (S.CANCELED, 40, 40), "an older total does not come back"


def test_case_22_a_correction_restates_price_and_shares() -> None:
    desk = working()
    filling(desk)
    corrected = execution("e-1b", 30, "10.50", cum=30, when=2)
    row = report(S.PARTIALLY_FILLED, 30, version=4)
    desk.tell(streamed(ExecType.TRADE_CORRECT, row, corrected, refers_to="e-1", when=4))
    assert state(desk) == (S.PARTIALLY_FILLED, 30, 30)
    assert desk.belief.cash == D("99685.00")
    assert desk.belief.settled_book(AAPL).average_price == D("10.50")


def test_case_23_an_overfill_is_booked_alarms_and_gates_the_symbol() -> None:
    desk = working()
    row = report(S.FILLED, 110, version=2)
    filling(desk, row, execution("e-1", 110, "10", cum=110, when=2))
    assert state(desk) == (S.FILLED, 110, 110)
    refused = desk.submit(1, client_id="c-2", when=3)
    assert refused.denied is not None
    assert refused.denied.code == "symbol_in_doubt"


# --- replace and cancel -------------------------------------------------------------------------------------------


def replacing(quantity: int = 150) -> tuple[Desk, str]:
    desk = working()
    desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, quantity=D(quantity)))
    (effect,) = desk.wants(SendReplace)
    assert isinstance(effect, SendReplace)
    return desk, effect.change.client_order_id


def test_case_24_a_replace_is_one_chain_and_its_fills_are_one_sum() -> None:
    desk, name = replacing()
    desk.tell(streamed(ExecType.TRADE, report(S.PENDING_REPLACE, 40, version=2.5), MATCH, when=2.5))
    new = report(S.NEW, version=3, broker_id="b-2", client_id=name, quantity=110, replaces="b-1")
    desk.answer(ACCEPTED, new, kind=REPLACE, client_id=name, when=3)
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, 40, version=3, replaced_by="b-2"), when=3))
    order = desk.of()
    assert [leg.status for leg in order.legs] == [S.REPLACED, S.NEW]
    assert order.leaves == 110, "the broker's quantity counts, not the one asked for"
    match = execution("e-9", 110, "10", cum=110, when=4, broker_id="b-2")
    row = report(S.FILLED, 110, version=4, broker_id="b-2", client_id=name, quantity=110, replaces="b-1")
    desk.tell(streamed(ExecType.TRADE, row, match, when=4))
    assert state(desk) == (S.FILLED, 150, 150)
    assert order_view(order).broker_order_ids == ("b-1", "b-2")


@pytest.mark.parametrize(("outcome", "message"), [(ACCEPTED, ""), (REFUSED, "no such order"), (UNKNOWN, "timed out")])
def test_case_24_a_late_reply_ends_no_later_replace(outcome: RequestOutcome, message: str) -> None:
    desk, first = replacing()
    new = report(S.NEW, version=3, broker_id="b-2", client_id=first, quantity=150, replaces="b-1")
    desk.tell(streamed(ExecType.NEW, new, when=3))
    desk.tell(ReplaceOrder(at=at(4), order_id=desk.of().order_id, quantity=D(120)))
    second = desk.wants(SendReplace)[-1].change.client_order_id
    assert (desk.of().in_flight, second != first) == (REPLACE, True)
    row = new if outcome is ACCEPTED else None
    desk.answer(outcome, row, kind=REPLACE, client_id=first, message=message, when=5)
    assert (desk.of().in_flight, desk.of().in_doubt) == (REPLACE, None)
    restarted(desk)
    assert desk.of().in_doubt is REPLACE, "the second one may work at the broker"
    desk.find(None, client_id=first, started=106)
    desk.find(None, client_id=first, started=112)
    assert desk.of().in_doubt is REPLACE, "answers about the first one say nothing of it"


def test_case_24_a_refusal_names_the_order_and_ends_no_request_before_its_reply() -> None:
    desk, first = replacing()
    new = report(S.PENDING_NEW, version=3, broker_id="b-2", client_id=first, quantity=150, replaces="b-1")
    desk.answer(ACCEPTED, new, kind=REPLACE, client_id=first, when=3)
    ended = report(S.CANCELED, version=4, broker_id="b-2", client_id=first, quantity=150, replaces="b-1")
    desk.tell(streamed(ExecType.CANCELED, ended, when=4))
    desk.tell(ReplaceOrder(at=at(5), order_id=desk.of().order_id, quantity=D(120)))
    sent = desk.wants(SendReplace)[-1]
    assert sent.broker_order_id == "b-1"
    for row in (report(S.NEW, version=4), report(S.NEW, version=6), ended):
        desk.tell(streamed(ExecType.REPLACE_REJECTED, row, when=6))
        assert (desk.of().in_flight, desk.of().legs[-1].status) == (REPLACE, S.PENDING_NEW), (
            "it may be the first one's echo, or another client's"
        )
    assert desk.wants(FindOrder) == [], "the reply is on its way"
    desk.answer(REFUSED, kind=REPLACE, client_id=sent.change.client_order_id, message="too late to replace", when=7)
    assert (desk.of().in_flight, desk.of().legs[-1].status) == (None, S.REJECTED)


def test_case_24_a_refusal_has_a_request_in_doubt_asked_for_at_once_by_its_own_name() -> None:
    desk, name = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=3)
    desk.effects.clear()
    desk.tell(streamed(ExecType.REPLACE_REJECTED, report(S.NEW, version=4), when=5))
    assert desk.wants(FindOrder) == [FindOrder(client_order_id=name)]
    assert desk.of().in_doubt is REPLACE
    row = report(S.REJECTED, version=4, broker_id="b-2", client_id=name, quantity=150, replaces="b-1")
    desk.find(row, client_id=name, started=5.1)
    assert (desk.of().in_doubt, desk.of().status, desk.of().leaves) == (None, S.NEW, 100)


def test_case_24_a_refusal_about_one_leg_asks_for_no_request_about_another() -> None:
    desk, first = replacing()
    new = report(S.NEW, version=3, broker_id="b-2", client_id=first, quantity=150, replaces="b-1")
    desk.answer(ACCEPTED, new, kind=REPLACE, client_id=first, when=3)
    old = report(S.REPLACED, version=3, replaced_by="b-2")
    desk.tell(streamed(ExecType.REPLACED, old, when=3))
    desk.tell(ReplaceOrder(at=at(4), order_id=desk.of().order_id, quantity=D(120)))
    desk.answer(UNKNOWN, kind=REPLACE, client_id=desk.wants(SendReplace)[-1].change.client_order_id, when=5)
    desk.effects.clear()
    desk.tell(streamed(ExecType.REPLACE_REJECTED, old, when=6))
    assert desk.wants(FindOrder) == []


def test_case_24_a_strangers_replace_ends_none_of_ours() -> None:
    desk, first = replacing()
    taken_in = report(S.PENDING_NEW, version=3, broker_id="b-2", client_id=first, quantity=150, replaces="b-1")
    desk.answer(ACCEPTED, taken_in, kind=REPLACE, client_id=first, when=3)
    desk.tell(ReplaceOrder(at=at(4), order_id=desk.of().order_id, quantity=D(120)))
    second = desk.wants(SendReplace)[-1].change.client_order_id
    old = report(S.REPLACED, version=5, replaced_by="b-3")
    desk.tell(streamed(ExecType.REPLACED, old, when=5))
    theirs = report(S.NEW, version=5, broker_id="b-3", client_id="theirs", quantity=90, replaces="b-1")
    desk.tell(streamed(ExecType.NEW, theirs, when=5))
    order = desk.of()
    assert [leg.client_order_id for leg in order.legs] == ["c-1", first, second, "theirs"]
    assert (order.in_flight, order.pending and order.pending.client_order_id) == (REPLACE, second)
    restarted(desk)
    assert (order.in_doubt, desk.belief.in_doubt()) == (REPLACE, [second])
    for when in (106, 112):
        desk.find(None, client_id=second, started=when)
    assert (order.in_doubt, order.status, order.pending) == (None, S.NEW, None)


@pytest.mark.parametrize("found", [True, False])
def test_case_24_of_two_requests_on_one_chain_none_is_forgotten(found: bool) -> None:
    desk, ours = replacing()
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=3, broker_id="b-2", client_id="theirs"), when=3))
    stranger = desk.of("b-2").order_id
    desk.tell(ReplaceOrder(at=at(4), order_id=stranger, quantity=D(80)))
    second = desk.wants(SendReplace)[-1].change.client_order_id
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=5, replaced_by="b-2"), when=5))
    order = desk.of()
    assert [leg.client_order_id for leg in order.asked] == [ours, second]
    restarted(desk)
    assert order.in_doubt is REPLACE
    assert [effect.client_order_id for effect in desk.wants(FindOrder)] == [second]
    if found:
        row = report(S.NEW, version=6, broker_id="b-3", client_id=second, quantity=80, replaces="b-2")
        desk.find(row, client_id=second, started=106)
    else:
        for when in (106, 112):
            desk.find(None, client_id=second, started=when)
    assert (order.in_doubt, [leg.client_order_id for leg in order.asked]) == (REPLACE, [ours])
    assert ours in [effect.client_order_id for effect in desk.wants(FindOrder)], "it is asked for in its turn"
    for when in (118, 124):
        assert order.in_doubt is REPLACE
        desk.find(None, client_id=ours, started=when)
    assert (order.in_doubt, order.asked, order.status) == (None, [], S.NEW)


def test_case_24_an_answer_about_an_older_replace_counts_nothing_for_a_later_one() -> None:
    desk, first = replacing()
    desk.answer(REFUSED, kind=REPLACE, client_id=first, message="too late", when=3)
    desk.tell(ReplaceOrder(at=at(4), order_id=desk.of().order_id, quantity=D(120)))
    second = desk.wants(SendReplace)[-1].change.client_order_id
    desk.answer(UNKNOWN, kind=REPLACE, client_id=second, when=5)
    for when in (11, 17, 23):
        desk.find(None, client_id=first, started=when)
    assert desk.of().in_doubt is REPLACE


def test_case_25_the_reply_to_a_replace_is_lost_and_the_old_order_fills() -> None:
    desk, name = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=3)
    assert desk.of().leaves == 150, "the larger of both counts"
    match = execution("e-1", 100, "10", cum=100, when=4)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=4), match, when=4))
    assert desk.of().in_doubt is REPLACE, "the old order's end says nothing of the new one"
    desk.find(None, client_id=name, started=9)
    desk.find(None, client_id=name, started=15)
    assert state(desk) == (S.FILLED, 100, 100)
    assert desk.of().is_terminal


def test_case_25_a_refusal_told_after_the_end_leaves_nothing_open_once_it_has_been_asked_for() -> None:
    desk, name = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=3)
    ended = report(S.CANCELED, version=4)
    desk.tell(streamed(ExecType.CANCELED, ended, when=4))
    assert list(desk.belief.open_orders) == [desk.of().order_id], "the new order may work"
    desk.tell(streamed(ExecType.REPLACE_REJECTED, ended, when=5))
    assert list(desk.belief.open_orders) == [desk.of().order_id], "whose replace was refused is not said"
    row = report(S.REJECTED, version=5, broker_id="b-2", client_id=name, quantity=150, replaces="b-1")
    desk.find(row, client_id=name, started=5.1)
    assert (desk.of().in_doubt, list(desk.belief.open_orders)) == (None, [])


def test_case_26_a_cancel_without_an_answer_is_never_taken_for_done() -> None:
    desk = working()
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id))
    desk.answer(UNKNOWN, kind=CANCEL, when=3)
    for second in range(10, 200, 10):
        desk.tell(ClockTicked(at=at(second)))
    assert desk.of().status is S.PENDING_CANCEL
    assert len(desk.wants(SendCancel)) > 3, "it is asked for again"
    desk.answer(REFUSED, kind=CANCEL, message="order is already filled", when=201)
    assert isinstance(desk.effects[-1], FindOrder)
    desk.find(report(S.FILLED, 100, version=150, average="10"), broker_id="b-1", started=202)
    assert state(desk) == (S.FILLED, 100, 100)


def test_case_26_a_word_about_a_replaced_leg_says_nothing_of_the_cancel() -> None:
    desk, name = replacing()
    new = report(S.NEW, version=3, broker_id="b-2", client_id=name, quantity=150, replaces="b-1")
    desk.answer(ACCEPTED, new, kind=REPLACE, client_id=name, when=3)
    old = report(S.REPLACED, version=3, replaced_by="b-2")
    desk.tell(streamed(ExecType.REPLACED, old, when=3), CancelOrder(at=at(4), order_id=desk.of().order_id))
    desk.answer(UNKNOWN, kind=CANCEL, client_id=name, when=5)
    assert desk.of().in_doubt is CANCEL
    desk.tell(streamed(ExecType.REPLACED, old, when=6))
    assert (desk.of().in_doubt, desk.of().status) == (CANCEL, S.PENDING_CANCEL)
    desk.tell(
        streamed(ExecType.CANCELED, report(S.CANCELED, version=7, broker_id="b-2", client_id=name, replaces="b-1"))
    )
    assert (desk.of().in_doubt, desk.of().status) == (None, S.CANCELED)


def test_case_26_the_order_is_asked_for_and_not_a_replace_that_came_to_nothing() -> None:
    desk, name = replacing()
    desk.answer(REFUSED, kind=REPLACE, client_id=name, message="too late", when=3)
    desk.tell(CancelOrder(at=at(4), order_id=desk.of().order_id))
    desk.answer(UNKNOWN, kind=CANCEL, when=5)
    assert desk.of().in_doubt is CANCEL
    restarted(desk)
    assert {effect.broker_order_id for effect in desk.wants(FindOrder)} == {"b-1"}
    desk.effects.clear()
    desk.tell(ClockTicked(at=at(200)))
    assert {effect.broker_order_id for effect in desk.wants(FindOrder)} == {"b-1"}, "overdue, and asked for again"


def test_case_27_a_cancel_that_is_only_asked_for_lets_fills_through() -> None:
    desk = working()
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id))
    desk.answer(ACCEPTED, kind=CANCEL, when=3)
    desk.tell(streamed(ExecType.PENDING_CANCEL, report(S.PENDING_CANCEL, version=3), when=3))
    filling(desk, report(S.PENDING_CANCEL, 40, version=4), MATCH, when=4)
    assert state(desk) == (S.PENDING_CANCEL, 40, 40)
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 40, version=5), when=5))
    assert state(desk) == (S.CANCELED, 40, 40)


def test_case_28_rejected_after_accepted() -> None:
    desk = working()
    desk.tell(streamed(ExecType.REJECTED, report(S.REJECTED, version=2), when=2))
    assert state(desk) == (S.REJECTED, 0, 0)
    desk.tell(streamed(ExecType.NEW, report(S.NEW, version=1), when=3))
    assert state(desk) == (S.REJECTED, 0, 0)


# --- crashes ------------------------------------------------------------------------------------------------------


def restarted(desk: Desk, when: float = 100) -> None:
    desk.effects.clear()
    desk.tell(RuntimeStarted(at=at(when), version="2", broker="paper"))


def test_case_29_crash_between_the_intent_and_the_send() -> None:
    desk = submitted()
    restarted(desk)
    assert [type(effect) for effect in desk.effects] == [FindOrder]
    desk.find(None, client_id="c-1", started=106)
    desk.find(None, client_id="c-1", started=112)
    assert desk.of().status is S.DENIED
    assert "never reached the broker" in desk.of().reason
    assert desk.wants(SendOrder) == [], "nothing is sent by itself"


def test_case_30_crash_between_the_send_and_the_reply() -> None:
    desk = submitted()
    restarted(desk)
    desk.find(report(S.PARTIALLY_FILLED, 40, version=2, average="10"), client_id="c-1", started=101)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    assert (desk.of().origin, desk.of().in_doubt) == ("operator", None)


# --- what others do to the account --------------------------------------------------------------------------------


def test_case_34_an_external_order_is_adopted_shown_and_counted() -> None:
    desk = Desk(holdings={"AAPL": 10})
    row = report(S.NEW, version=1, client_id="by-hand", side=Side.SELL, quantity=10)
    desk.tell(streamed(ExecType.NEW, row, when=1))
    assert order_view(desk.of("by-hand")).origin == "external"
    desk.lose(2)
    refused = desk.submit(5, Side.SELL, client_id="c-2", when=3)
    assert refused.denied is not None, "together they could go through zero"
    desk.tell(Kill(at=at(4), reason="storm"))
    assert [effect.broker_order_id for effect in desk.wants(SendCancel) if isinstance(effect, SendCancel)] == ["b-1"]


def test_case_35_an_external_order_with_our_prefix_is_a_second_writer() -> None:
    desk = Desk()
    polled(desk, report(S.NEW, version=1, client_id="tu-table-12345"), when=2)
    assert desk.belief.trading_state is TradingState.HALTED
    assert desk.of("tu-table-12345").origin == "external"


@pytest.mark.parametrize("change", [7, -4], ids=["shares arrive", "shares leave"])
def test_case_36_a_position_that_no_order_explains_gates_its_symbol_and_is_trued_up_in_the_open(change: int) -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20, holdings={"AAPL": 10 + change}))
    refused = desk.submit(1, when=21)
    assert refused.denied is not None
    assert refused.denied.code == "symbol_in_doubt"
    desk.tell(snapshot(when=23, holdings={"AAPL": 10 + change}))
    assert desk.shares() == 10 + change
    entry = desk.belief.books[AAPL].adjustments[-1]
    assert (entry.quantity, entry.reason) == (change, "true-up")
    assert entry.evidence
    assert [(drift.state, drift.trued_up) for drift in desk.belief.drift_log] == [("confirmed", True)]


def test_case_37_a_holding_that_is_missing_at_the_broker() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(SnapshotFailed(at=at(20), source=Source.RECONCILE, reason="positions: 500"))
    desk.tell(SnapshotFailed(at=at(40), source=Source.RECONCILE, reason="positions: 500"))
    assert desk.shares() == 10, "a failed answer is not flat"
    desk.tell(snapshot(when=60))
    assert desk.shares() == 10, "one complete answer is not enough"
    desk.tell(snapshot(when=63))
    assert desk.shares() == 0


def test_case_38_a_parent_that_only_a_list_names_is_learned() -> None:
    desk = working()
    child = report(S.NEW, version=3, broker_id="b-2", client_id="made-by-broker", side=Side.SELL)
    desk.tell(streamed(ExecType.NEW, child, when=3))
    assert desk.of("b-2").parent is None
    named = replace(child, parent=BrokerOrderId("b-1"), order_class="bracket")
    outcome = desk.tell(snapshot(named, when=4, scope=ORDERS, source=Source.POLL))
    order = desk.of("b-2")
    assert (order.parent, order.order_class, order.status) == ("b-1", "bracket", S.NEW)
    assert order.order_id in outcome.changes.orders, "it is shown"
    polled(desk, replace(named, parent=BrokerOrderId("b-9")), when=5)
    assert order.parent == "b-1"


def test_case_38_bracket_children_belong_to_their_parent_and_close_the_position() -> None:
    desk = working()
    filling(desk, report(S.FILLED, 100, version=2), execution("e-1", 100, "10", cum=100, when=2))
    child = report(S.PENDING_NEW, version=2, broker_id="b-2", client_id="made-by-broker", side=Side.SELL)
    child = OrderReport(**{name: getattr(child, name) for name in child.__slots__} | {"parent": BrokerOrderId("b-1")})
    polled(desk, child, when=3)
    assert desk.of("b-2").parent == "b-1"
    desk.lose(4)
    row = report(S.FILLED, 100, version=5, broker_id="b-2", client_id="made-by-broker", side=Side.SELL, average="12")
    desk.restore(snapshot(row, when=7), when=6)
    assert state(desk, "b-2") == (S.FILLED, 100, 0)
    assert desk.belief.settled_book(AAPL).realized == 200


# --- numbers ------------------------------------------------------------------------------------------------------


def test_case_40_fractional_shares_are_exact() -> None:
    desk = submitted()
    tenth = "0.100000001"
    for number in range(1, 11):
        cum = str(D(tenth) * number)
        match = execution(f"e-{number}", tenth, "178.42", cum=cum, when=number)
        filling(desk, report(S.PARTIALLY_FILLED, cum, version=number), match, when=number)
    assert desk.shares() == D("1.000000010")
    assert desk.belief.cash == D(100000) - D("1.00000001") * D("178.42")


def test_case_41_a_notional_order_has_a_cumulative_quantity_and_no_leaves() -> None:
    desk = Desk()
    row = report(S.FILLED, "2.803497366", version=1, client_id="by-hand", quantity=None, average="178.35")
    desk.tell(streamed(ExecType.TRADE, row, when=1))
    assert desk.of("by-hand").filled == D("2.803497366")
    assert order_view(desk.of("by-hand")).quantity is None
    assert desk.belief.counters.get("overfills", 0) == 0


def test_case_42_money_is_kept_as_value_and_quantity() -> None:
    desk = submitted()
    for number, price in enumerate(("10.01", "10.02", "10.04"), start=1):
        match = execution(f"e-{number}", 1, price, cum=number, when=number)
        filling(desk, report(S.PARTIALLY_FILLED, number, version=number), match, when=number)
    assert desk.of().leg.executed_value == D("30.07")
    assert desk.belief.settled_book(AAPL).cost == D("30.07")
    assert desk.belief.cash == D("99969.93")


def test_case_43_through_zero_the_other_side_opens_at_the_crossing_price() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(25, Side.SELL)
    match = execution("e-1", 25, "12", cum=25, when=1, side=Side.SELL)
    filling(desk, report(S.FILLED, 25, version=1, side=Side.SELL, quantity=25), match, when=1)
    book = desk.belief.settled_book(AAPL)
    assert (book.quantity, book.average_price, book.realized) == (-15, 12, 20)


def test_case_45_an_old_order_is_always_asked_for_by_its_id() -> None:
    desk = working()
    desk.tell(streamed(ExecType.NEW, report(version=1, broker_id="b-9", client_id="by-hand"), when=1))
    polled(desk, when=86400 * 30)
    assert desk.belief.working_broker_ids() == ("b-1", "b-9")


def test_case_47_nothing_is_taken_from_a_read_that_failed_in_part() -> None:
    desk = Desk(holdings={"AAPL": 10, "MSFT": 5})
    before = desk.belief.truth.proved_at
    desk.tell(SnapshotFailed(at=at(5), source=Source.RECONCILE, reason="page 2 of orders: 500"))
    assert (desk.shares("AAPL"), desk.shares("MSFT"), desk.belief.drifts) == (10, 5, {})
    assert desk.belief.truth.proved_at == before


def test_case_48_our_clock_never_orders_the_brokers_facts() -> None:
    """Our clock is an hour behind, then an hour ahead."""
    desk = working()
    filling(desk, PARTIAL, MATCH, when=-3600)
    filling(desk, report(S.NEW, 0, version=1), None, when=3600)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)


# --- days, corporate actions, accounts ----------------------------------------------------------------------------


def test_case_49_a_day_order_ends_by_the_brokers_word_and_not_by_the_calendar() -> None:
    desk = working()
    filling(desk)
    desk.tell(streamed(ExecType.DONE_FOR_DAY, report(S.PARTIALLY_FILLED, 40, version=3), when=3))
    desk.tell(ClockTicked(at=at(86400)))
    assert desk.of().order_id in desk.belief.open_orders
    polled(desk, report(S.EXPIRED, 40, version=4, average="10"), when=86401)
    assert state(desk) == (S.EXPIRED, 40, 40)
    assert order_view(desk.of()).status == "CANCELLED"


def test_case_50_a_long_outage_is_one_gap_one_gate_and_no_storm() -> None:
    desk = working()
    for second in range(2, 60, 2):
        outcome = desk.lose(second, "maintenance")
        assert outcome.effects == ()
    assert len(desk.belief.truth.gaps) == 1
    assert desk.belief.truth.gaps[0].opened_at == at(2)
    desk.restore(snapshot(report(S.NEW, version=1), when=62), when=61)
    assert not desk.belief.entries_gated


def test_case_51_a_split_is_shares_without_an_execution() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20, holdings={"AAPL": 40}), snapshot(when=23, holdings={"AAPL": 40}))
    assert desk.shares() == 40
    assert desk.belief.fill_counts == {}, "nothing was traded"
    assert executions_view(desk.belief) == ()


@pytest.mark.parametrize("left", [0, 3])
def test_case_52_assignment_and_expiry_move_a_position_without_an_order(left: int) -> None:
    desk = Desk(holdings={"AAPL": 10})
    holdings: dict[str, int | str] = {"AAPL": left} if left else {}
    desk.tell(snapshot(when=20, holdings=holdings), snapshot(when=23, holdings=holdings))
    assert desk.shares() == left


def test_case_53_reinvested_dividends_arrive_as_fractions() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20, holdings={"AAPL": "10.0137"}), snapshot(when=23, holdings={"AAPL": "10.0137"}))
    assert desk.shares() == D("10.0137")
    assert desk.belief.books[AAPL].adjustments[-1].quantity == D("0.0137")


def test_case_54_another_account_is_never_reconciled_into_these_books() -> None:
    desk = Desk(holdings={"AAPL": 10})
    for when in (20, 23, 60):
        desk.tell(snapshot(when=when, account="RESET", cash="100000"))
    assert desk.shares() == 10
    assert desk.belief.trading_state is TradingState.HALTED


# --- frames, races, people ----------------------------------------------------------------------------------------


def test_case_56_an_event_that_cannot_be_read_is_a_gap_and_no_end() -> None:
    desk = working()
    desk.tell(FrameQuarantined(at=at(2), feed=EVENTS, raw="{...}", reason="order has no symbol"))
    assert desk.wants(TakeSnapshot)
    assert desk.belief.entries_gated
    filling(desk, when=3)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    desk.tell(snapshot(PARTIAL, when=5, holdings={"AAPL": 40}))
    assert not desk.belief.entries_gated


@pytest.mark.parametrize("poll_first", [True, False])
def test_case_58_poll_and_event_race_on_the_same_fill(poll_first: bool) -> None:
    desk = working()
    if poll_first:
        polled(desk, PARTIAL, when=3)
    filling(desk, when=4)
    polled(desk, PARTIAL, when=5)
    assert state(desk) == (S.PARTIALLY_FILLED, 40, 40)
    (view,) = executions_view(desk.belief)
    assert (view.execution_id, view.inferred) == ("e-1", False)
    match = execution("e-2", 60, "10", cum=100, when=6)
    filling(desk, report(S.FILLED, 100, version=6), match, when=6)
    assert state(desk) == (S.FILLED, 100, 100)


def test_case_59_late_executions_at_other_prices_replace_what_was_inferred() -> None:
    desk = working()
    polled(desk, report(S.FILLED, 100, version=4, average="10.5"), when=5)
    assert desk.belief.cash == 98950
    filling(desk, PARTIAL, execution("e-1", 40, "9", cum=40, when=2), when=6)
    assert state(desk) == (S.FILLED, 100, 100)
    assert desk.belief.cash == 98950, "the rest carries the remainder of the broker's average"
    last = execution("e-2", 60, "11.50", cum=100, when=4)
    filling(desk, report(S.FILLED, 100, version=4, average="10.5"), last, when=7)
    assert state(desk) == (S.FILLED, 100, 100)
    assert [(view.entry_price, view.inferred) for view in executions_view(desk.belief)] == [
        (D("11.50"), False),
        (D(9), False),
    ]
    assert desk.belief.settled_book(AAPL).cost == 1050


def test_case_60_an_order_that_rests_is_no_error() -> None:
    desk = submitted()
    desk.answer(ACCEPTED, report(S.PENDING_NEW, version=1), when=1)
    for hour in range(1, 60):
        desk.tell(ClockTicked(at=at(hour * 3600)))
        polled(desk, report(S.PENDING_NEW, version=1), when=hour * 3600 + 1)
    assert desk.of().status is S.PENDING_NEW
    assert desk.of().confirmed_at == at(59 * 3600 + 1), "its age is known"


def test_case_61_a_restart_with_the_orders_of_yesterday() -> None:
    desk = working()
    desk.tell(streamed(ExecType.NEW, report(version=1, broker_id="b-2", client_id="by-hand"), when=1))
    since = desk.belief.truth.proved_at
    restarted(desk, when=86400)
    assert desk.belief.working_broker_ids() == ("b-1", "b-2")
    look_back = desk.belief.snapshot_since()
    assert since is not None
    assert look_back is not None
    assert look_back < since, "with an overlap"
    rows = (
        report(S.FILLED, 100, version=40, average="10"),
        report(S.CANCELED, version=50, broker_id="b-2", client_id="by-hand"),
    )
    desk.restore(snapshot(*rows, when=86402, holdings={"AAPL": 100}), when=86401)
    assert state(desk) == (S.FILLED, 100, 100)
    assert desk.of("by-hand").status is S.CANCELED
    assert not desk.belief.entries_gated


def test_case_62_a_kill_during_an_outage_holds_until_every_order_has_ended() -> None:
    desk = working()
    desk.submit(5, client_id="c-2", when=2)
    desk.answer(UNKNOWN, client_id="c-2", when=3)
    desk.lose(4)
    desk.tell(Kill(at=at(5), reason="storm"))
    restarted(desk, when=10)
    assert desk.belief.trading_state is TradingState.KILLED
    assert [type(effect) for effect in desk.effects].count(SendCancel) == 1
    assert desk.belief.in_doubt() == ["c-2"], "unknown outcomes stay listed"
    desk.answer(REFUSED, kind=CANCEL, message="server error", when=11)
    desk.effects.clear()
    desk.tell(ClockTicked(at=at(10) + CANCEL_OVERDUE))
    assert len(desk.wants(SendCancel)) == 1
    found = report(S.NEW, version=3, broker_id="b-2", client_id="c-2", quantity=5)
    desk.find(found, client_id="c-2", started=50)
    assert isinstance(desk.effects[-1], SendCancel)
    assert desk.effects[-1].broker_order_id == "b-2"


def test_no_answer_about_an_order_is_taken_for_one_about_another() -> None:
    """A look-up that names an id is judged by what it found, not by what was asked."""
    desk = working()
    desk.find(report(S.CANCELED, version=3, broker_id="b-7", client_id="other"), client_id="c-1", started=4)
    assert desk.of("c-1").status is S.NEW
    assert desk.of("b-7").status is S.CANCELED
