"""The one door: what each input does, what it asks the shell to do, and how doubt ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.breakers import KillSwitch
from trueup.core.commands import CancelOrder, Command, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import (
    Allowed,
    Denied,
    FindOrder,
    RecycleFeed,
    SendCancel,
    SendOrder,
    SendReplace,
    TakeSnapshot,
)
from trueup.core.events import (
    ClockTicked,
    Event,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    FrameQuarantined,
    RuntimeStarted,
    SignalGenerated,
)
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    FeedName,
    FeedStatus,
    NewOrder,
    OrderId,
    OrderReport,
    OrderStatus,
    OrderType,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    Symbol,
    TimeInForce,
    TradingState,
)
from trueup.core.projection import executions_view
from trueup.core.step import CANCEL_OVERDUE, LOOKUP_FIRST, LOOKUP_SETTLE
from trueup.core.transition import EXECUTIONS_DUE, STREAM_GRACE, Outcome
from trueup.core.views import (
    Channel,
    CircuitBreakerView,
    DriftView,
    FeedDisconnectedView,
    FeedReconnectedView,
    GapView,
    KillSwitchView,
    RiskAlertView,
    SignalView,
)

S = OrderStatus
ACCEPTED, REFUSED, NOT_SENT, UNKNOWN = (
    RequestOutcome.ACCEPTED,
    RequestOutcome.REFUSED,
    RequestOutcome.NOT_SENT,
    RequestOutcome.UNKNOWN,
)
SUBMIT, CANCEL, REPLACE = RequestKind.SUBMIT, RequestKind.CANCEL, RequestKind.REPLACE


def working(filled: int = 0) -> Desk:
    """A live desk with one working order of 100, c-1 at the broker as b-1."""
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0)))
    if filled:
        match = execution("e-0", filled, cum=filled, when=0.5)
        desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, filled, version=0.5), match, when=0.5))
    desk.effects.clear()
    return desk


def replacing(quantity: int = 150) -> Desk:
    """The same, with a replace just sent; its name is n-1."""
    desk = working()
    desk.tell(ReplaceOrder(at=at(1), order_id=desk.of().order_id, quantity=D(quantity)))
    return desk


def replace_name(desk: Desk) -> str:
    (effect,) = desk.wants(SendReplace)
    assert isinstance(effect, SendReplace)
    return effect.change.client_order_id


def cancel(desk: Desk, when: float = 1) -> None:
    desk.tell(CancelOrder(at=at(when), order_id=desk.of().order_id))


def successor(desk: Desk, status: S = S.NEW, filled: int = 0, *, version: float = 2) -> OrderReport:
    return report(
        status, filled, version=version, broker_id="b-2", client_id=replace_name(desk), quantity=150, replaces="b-1"
    )


def test_every_input_type_is_in_this_files_tables() -> None:
    told = {
        "OrderReported", "SnapshotTaken", "SnapshotFailed", "RequestAnswered", "OrderLookedUp", "FeedAcknowledged",
        "FeedRestored", "FeedLost", "FrameQuarantined", "SignalGenerated", "RuntimeStarted", "ClockTicked",
        "SubmitOrder", "CancelOrder", "ReplaceOrder", "Kill", "Resume", "Reconcile",
    }  # fmt: skip
    assert {kind.__name__ for kind in (*get_args(Event), *get_args(Command))} == told


# --- submit -------------------------------------------------------------------------------------------------------


def test_a_submit_is_an_intent_first_and_then_one_effect() -> None:
    desk = Desk()
    outcome = desk.submit(100)
    order = desk.of()
    assert outcome.order_id == order.order_id == "o-4"
    assert (order.status, order.in_flight, order.origin) == (S.PENDING_NEW, SUBMIT, "operator")
    (effect,) = outcome.effects
    assert isinstance(effect, SendOrder)
    assert (effect.order_id, effect.allowed.order.client_order_id, effect.halt_generation) == ("o-4", "c-1", 0)


def test_without_a_name_one_is_coined_from_the_place_in_the_journal() -> None:
    desk = Desk()
    outcome = desk.submit(100, client_id="")
    (effect,) = outcome.effects
    assert isinstance(effect, SendOrder)
    assert effect.allowed.order.client_order_id == "tu-table-4"


def test_an_accepted_reply_settles_the_request() -> None:
    desk = Desk()
    desk.submit(100)
    desk.answer(ACCEPTED, report(S.PENDING_NEW, version=1), when=1)
    order = desk.of()
    assert (order.in_flight, order.in_doubt, order.leg.broker_order_id) == (None, None, "b-1")


@pytest.mark.parametrize(("outcome", "status"), [(REFUSED, S.REJECTED), (NOT_SENT, S.DENIED)])
def test_a_request_that_came_to_nothing_ends_the_order(outcome: RequestOutcome, status: S) -> None:
    desk = Desk()
    desk.submit(100)
    desk.answer(outcome, message="insufficient buying power", code="40310000", when=1)
    order = desk.of()
    assert order.status is status
    assert order.order_id not in desk.belief.open_orders
    assert "insufficient buying power" in order.reason


def test_a_refusal_after_the_broker_has_spoken_changes_nothing() -> None:
    desk = working()
    desk.answer(REFUSED, message="client_order_id must be unique")
    assert desk.of().status is S.NEW
    assert desk.of().order_id in desk.belief.open_orders


def test_an_answer_to_a_request_nobody_knows_is_counted() -> None:
    desk = Desk()
    desk.answer(ACCEPTED, client_id="stranger")
    assert desk.belief.counters["answers_to_unknown_requests"] == 1
    assert desk.belief.orders == {}


# --- the doubt about a submit -------------------------------------------------------------------------------------


def doubtful() -> Desk:
    desk = Desk()
    desk.submit(100)
    desk.answer(UNKNOWN, message="no answer", when=1)
    return desk


def test_a_lost_answer_is_doubt_and_a_question() -> None:
    desk = doubtful()
    order = desk.of()
    assert (order.in_doubt, order.in_flight, order.status) == (SUBMIT, None, S.PENDING_NEW)
    assert desk.wants(FindOrder) == [FindOrder(client_order_id=ClientOrderId("c-1"), not_before=at(1) + LOOKUP_FIRST)]
    assert len(desk.wants(SendOrder)) == 1
    assert desk.belief.in_doubt() == ["c-1"]
    assert (order.timeline[-1].event, order.timeline[-1].text) == ("submit_in_doubt", "no answer")


def test_a_doubt_alarms() -> None:
    desk = Desk()
    desk.submit(100)
    outcome = desk.answer(UNKNOWN, message="no answer", when=1)
    (alert,) = [view for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]
    assert (alert.type, alert.severity, alert.symbol) == ("in_doubt", "warning", "AAPL")


def test_no_clock_ends_a_doubt() -> None:
    desk = doubtful()
    for day in range(1, 4):
        desk.tell(ClockTicked(at=at(day * 86400)))
    assert desk.of().in_doubt is SUBMIT
    assert desk.of().order_id in desk.belief.open_orders


SPEAKERS = {
    "stream": lambda desk: desk.tell(streamed(ExecType.NEW, report(version=2), when=3)),
    "late reply": lambda desk: desk.answer(ACCEPTED, report(S.NEW, version=2), when=3),
    "look-up": lambda desk: desk.find(report(S.NEW, version=2), client_id="c-1", started=3),
    "poll": lambda desk: desk.tell(
        snapshot(report(S.NEW, version=2), when=3, scope=SnapshotScope.ORDERS, source=Source.POLL)
    ),
    "snapshot": lambda desk: desk.tell(snapshot(report(S.NEW, version=2), when=3)),
}


@pytest.mark.parametrize("speaker", list(SPEAKERS))
def test_any_word_of_the_broker_ends_the_doubt(speaker: str) -> None:
    desk = doubtful()
    SPEAKERS[speaker](desk)
    order = desk.of()
    assert (order.in_doubt, order.doubt_since, order.status) == (None, None, S.NEW)
    assert order.leg.broker_order_id == "b-1"
    assert len(desk.belief.orders) == 1


@pytest.mark.parametrize(
    ("asked", "given_up"),
    [
        ([2], False),
        ([2, 3, 4, 5], False),  # all within the settle time of the doubt
        ([6], False),
        ([6, 7, 8, 10.9], False),  # the second must be a settle time after the first
        ([6, 11], True),
        ([2, 6, 7, 11], True),
    ],
)
def test_only_two_counted_answers_end_it_otherwise(asked: list[float], given_up: bool) -> None:
    assert LOOKUP_SETTLE.seconds == 5
    desk = doubtful()
    for started in asked:
        desk.find(None, client_id="c-1", started=started)
    order = desk.of()
    assert (order.status is S.DENIED) == given_up
    assert (order.in_doubt is None) == given_up
    assert (order.order_id in desk.belief.open_orders) != given_up
    if not given_up:
        (*_, last) = desk.wants(FindOrder)
        assert last == FindOrder(client_order_id=ClientOrderId("c-1"), not_before=at(asked[-1]) + LOOKUP_SETTLE)


def test_an_order_given_up_returns_at_the_brokers_word() -> None:
    desk = doubtful()
    desk.find(None, client_id="c-1", started=6)
    desk.find(None, client_id="c-1", started=11)
    match = execution("e-1", 100, cum=100, when=12)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=12), match, when=12))
    assert (desk.of().status, desk.shares()) == (S.FILLED, 100)
    assert len(desk.belief.orders) == 1


def test_a_lost_answer_after_the_stream_has_spoken_is_no_doubt() -> None:
    desk = working()
    desk.answer(UNKNOWN, message="timeout", when=2)
    assert desk.of().in_doubt is None
    assert desk.wants(FindOrder) == []


def test_not_found_about_an_order_without_doubt_changes_nothing() -> None:
    desk = working()
    for started in (10, 20, 30):
        desk.find(None, broker_id="b-1", started=started)
        desk.find(None, client_id="c-1", started=started)
    assert desk.of().status is S.NEW


def test_a_find_of_a_stranger_adopts_it() -> None:
    desk = Desk()
    desk.find(report(S.NEW, version=2, client_id="theirs", broker_id="b-9"), broker_id="b-9", started=3)
    assert desk.of("b-9").origin == "external"
    desk.find(None, broker_id="b-10", started=4)
    assert desk.belief.find_order("b-10") is None


# --- cancel -------------------------------------------------------------------------------------------------------


def test_a_cancel_is_asked_for_and_not_assumed() -> None:
    desk = working()
    cancel(desk)
    assert desk.effects == [
        SendCancel(
            order_id=desk.of().order_id, client_order_id=ClientOrderId("c-1"), broker_order_id=BrokerOrderId("b-1")
        )
    ]
    assert desk.of().status is S.PENDING_CANCEL
    desk.answer(ACCEPTED, kind=CANCEL, when=2)
    assert desk.of().status is S.PENDING_CANCEL
    assert desk.of().timeline[-1].event == "cancel_accepted"
    match = execution("e-1", 40, cum=40, when=3)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=3), match, when=3))
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 40, version=4), when=4))
    assert (desk.of().status, desk.of().filled, desk.of().cancel_wanted) == (S.CANCELED, 40, False)


def test_a_cancel_of_what_is_unknown_or_over_is_refused() -> None:
    desk = working()
    unknown = desk.tell(CancelOrder(at=at(1), order_id=OrderId("o-99")))
    assert unknown.denied is not None
    assert unknown.denied.code == "unknown_order"
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=2)))
    over = desk.tell(CancelOrder(at=at(3), order_id=desk.of().order_id))
    assert over.denied is not None
    assert over.denied.code == "order_is_final"
    assert desk.wants(SendCancel) == []


def test_a_cancel_before_the_broker_has_named_the_order_is_sent_once_it_has() -> None:
    desk = Desk()
    desk.submit(100)
    cancel(desk)
    assert desk.wants(SendCancel) == []
    desk.answer(ACCEPTED, report(S.PENDING_NEW, version=2), when=2)
    assert [effect.broker_order_id for effect in desk.wants(SendCancel) if isinstance(effect, SendCancel)] == ["b-1"]


def test_a_refused_cancel_is_taken_back_and_looked_into() -> None:
    desk = working()
    cancel(desk)
    desk.answer(REFUSED, kind=CANCEL, message="order is not cancelable", code="42210000", when=2)
    assert desk.of().status is S.NEW
    assert desk.wants(FindOrder) == [FindOrder(broker_order_id=BrokerOrderId("b-1"))]
    desk.find(report(S.FILLED, 100, version=2), broker_id="b-1", started=3)
    assert (desk.of().status, desk.shares()) == (S.FILLED, 100)


def test_a_cancel_that_comes_too_late_in_a_gap_finds_the_missed_fill_by_its_look_up() -> None:
    desk = working()
    desk.lose(when=1)
    desk.tell(CancelOrder(at=at(2), order_id=desk.of().order_id))
    desk.answer(REFUSED, kind=CANCEL, message="order is already filled", code="42210000", when=3)
    desk.find(report(S.FILLED, 100, version=2), broker_id="b-1", started=4)
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert (gap.missed, gap.learned_by) == (1, {"lookup": 1})
    desk.restore(snapshot(report(S.FILLED, 100, version=2), when=6, holdings={"AAPL": 100}), when=5)
    assert (gap.missed, gap.learned_by) == (1, {"lookup": 1}), "the snapshot finds nothing more to tell"


def test_a_cancel_without_an_answer_stays_wanted_and_is_asked_for_again_after_a_look() -> None:
    desk = working()
    cancel(desk)
    desk.answer(UNKNOWN, kind=CANCEL, when=2)
    assert (desk.of().in_doubt, desk.of().status) == (CANCEL, S.PENDING_CANCEL)
    desk.find(report(S.NEW, version=0), broker_id="b-1", started=4)
    assert desk.of().in_doubt is None
    assert len(desk.wants(SendCancel)) == 2
    assert desk.of().status is S.PENDING_CANCEL


def test_an_overdue_cancel_is_told_and_asked_for_again() -> None:
    desk = working()
    cancel(desk)
    due = at(1) + CANCEL_OVERDUE
    outcome = desk.tell(ClockTicked(at=due))
    assert [type(effect) for effect in outcome.effects] == [FindOrder, SendCancel]
    assert [view.type for _, view in outcome.changes.views if isinstance(view, RiskAlertView)] == ["cancel_overdue"]
    assert desk.belief.next_deadline == due + CANCEL_OVERDUE
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=40), when=40))
    assert desk.tell(ClockTicked(at=due + CANCEL_OVERDUE)).effects == ()
    assert desk.belief.next_deadline is None


def test_asking_twice_for_a_cancel_keeps_one_watch() -> None:
    desk = working()
    cancel(desk)
    cancel(desk, 2)
    assert len(desk.belief.timers) == 1


def test_a_lost_answer_to_a_cancel_of_what_has_ended_is_no_doubt() -> None:
    desk = working()
    cancel(desk)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), when=2))
    desk.answer(UNKNOWN, kind=CANCEL, when=3)
    order = desk.of()
    assert (order.in_doubt, order.is_terminal) == (None, True)
    assert order.order_id not in desk.belief.open_orders


@pytest.mark.parametrize("outcome", [UNKNOWN, REFUSED, ACCEPTED])
def test_a_cancels_answer_ends_no_other_doubt(outcome: RequestOutcome) -> None:
    desk = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=replace_name(desk), when=2)
    cancel(desk, 3)
    desk.answer(outcome, kind=CANCEL, when=4)
    assert desk.of().in_doubt is REPLACE


# --- replace ------------------------------------------------------------------------------------------------------


def test_a_replace_is_one_effect_under_a_new_name() -> None:
    desk = replacing()
    (effect,) = desk.effects
    assert isinstance(effect, SendReplace)
    assert (effect.broker_order_id, effect.change.quantity, effect.halt_generation) == ("b-1", 150, 0)
    assert desk.of().status is S.PENDING_REPLACE
    assert len(desk.of().legs) == 2
    assert desk.of(effect.change.client_order_id) is desk.of("c-1")


def test_a_replace_that_worked_is_one_order_with_two_legs() -> None:
    desk = replacing()
    desk.answer(ACCEPTED, successor(desk), kind=REPLACE, client_id=replace_name(desk), when=2)
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, 10, version=2, replaced_by="b-2"), when=3))
    order = desk.of()
    assert (order.status, order.filled, order.leaves) == (S.NEW, 10, 150)
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", "b-2"]
    assert len(desk.belief.orders) == 1
    assert desk.shares() == 10


def test_a_refused_replace_leaves_the_order_as_the_broker_says() -> None:
    desk = replacing()
    desk.answer(REFUSED, kind=REPLACE, client_id=replace_name(desk), message="nothing changed", when=2)
    order = desk.of()
    assert (order.status, order.in_flight, order.leaves) == (S.NEW, None, 100)
    assert desk.wants(FindOrder) == [FindOrder(broker_order_id=BrokerOrderId("b-1"))]
    assert order.reason == ""


def test_a_replace_in_doubt_is_looked_up_by_its_own_name() -> None:
    desk = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=replace_name(desk), when=2)
    order = desk.of()
    assert (order.in_doubt, order.status, order.leaves) == (REPLACE, S.PENDING_REPLACE, 150)
    assert desk.wants(FindOrder) == [
        FindOrder(client_order_id=ClientOrderId(replace_name(desk)), not_before=at(2) + LOOKUP_FIRST)
    ]
    desk.tell(streamed(ExecType.STATUS, report(S.NEW, version=1), when=3))
    assert desk.of().in_doubt is REPLACE, "a word about the old leg says nothing of the new one"
    desk.find(successor(desk), client_id=replace_name(desk), started=4)
    assert (desk.of().in_doubt, desk.of().leg.broker_order_id) == (None, "b-2")


def test_a_replace_given_up_asks_after_the_old_order_and_follows_it() -> None:
    """The replace worked, but the broker kept another name for it."""
    desk = replacing()
    name = replace_name(desk)
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=2)
    desk.find(None, client_id=name, started=8)
    desk.find(None, client_id=name, started=14)
    assert desk.of().in_doubt is None
    assert desk.effects[-1] == FindOrder(broker_order_id=BrokerOrderId("b-1"))
    desk.find(report(S.REPLACED, version=2, replaced_by="b-2"), broker_id="b-1", started=15)
    assert desk.effects[-1] == FindOrder(broker_order_id=BrokerOrderId("b-2"))
    assert not desk.of().is_terminal
    assert desk.of().order_id in desk.belief.open_orders
    found = report(S.NEW, version=2, broker_id="b-2", client_id="generated", quantity=150, replaces="b-1")
    desk.find(found, broker_id="b-2", started=16)
    assert desk.of("b-2") is desk.of("c-1")
    assert (desk.of().status, desk.of().leaves) == (S.NEW, 150)


def test_the_old_order_may_fill_while_its_replace_is_under_way() -> None:
    desk = replacing()
    match = execution("e-1", 100, cum=100, when=2)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 100, version=2), match, when=2))
    desk.answer(REFUSED, kind=REPLACE, client_id=replace_name(desk), message="order is filled", when=3)
    assert (desk.of().status, desk.of().filled, desk.shares()) == (S.FILLED, 100, 100)
    assert desk.of().order_id not in desk.belief.open_orders


def test_a_cancel_wanted_follows_the_order_to_its_new_leg() -> None:
    desk = replacing()
    cancel(desk, 2)
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=2, replaced_by="b-2"), when=3))
    desk.tell(streamed(ExecType.NEW, successor(desk), when=3))
    assert [effect.broker_order_id for effect in desk.wants(SendCancel) if isinstance(effect, SendCancel)] == [
        "b-1",
        "b-2",
    ]
    assert desk.of().status is S.PENDING_CANCEL


def test_a_cancel_outlives_the_refusal_of_a_replacement() -> None:
    desk = replacing()
    desk.answer(ACCEPTED, successor(desk, S.PENDING_NEW), kind=REPLACE, client_id=replace_name(desk), when=2)
    cancel(desk, 3)
    desk.tell(streamed(ExecType.REJECTED, successor(desk, S.REJECTED, version=4), when=4))
    assert desk.of().cancel_wanted, "the old order is still there"
    assert desk.of().status is S.PENDING_CANCEL


def test_a_successor_heard_of_first_and_its_order_become_one_without_a_ghost() -> None:
    """Ours is in doubt, somebody replaces it by hand; the successor is heard of before, and tied together after."""
    desk = doubtful()
    by_hand = report(S.NEW, version=4, broker_id="b-2", client_id="by-hand", quantity=150, replaces="b-1")
    desk.tell(streamed(ExecType.NEW, by_hand, when=4))
    assert desk.of("b-2").origin == "external"
    desk.tell(streamed(ExecType.NEW, report(version=2), when=5))
    desk.tell(streamed(ExecType.NEW, by_hand, when=6))
    assert desk.of("b-2") is desk.of("c-1")
    assert list(desk.belief.open_orders) == list(desk.belief.orders) == [desk.of().order_id]
    assert list(desk.belief.open_by_symbol[AAPL]) == [desk.of().order_id]


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({}, "nothing_to_change"),
        ({"quantity": "0"}, "invalid_quantity"),
        ({"quantity": "NaN"}, "invalid_quantity"),
        ({"quantity": "Infinity"}, "invalid_quantity"),
        ({"limit_price": "-1"}, "invalid_limit_price"),
        ({"stop_price": "0"}, "invalid_stop_price"),
        ({"quantity": "40"}, "invalid_quantity"),  # 40 are filled already
    ],
)
def test_bad_terms_of_a_replace_are_named(terms: dict[str, str], code: str) -> None:
    desk = working(filled=40)
    numbers = {name: D(text) for name, text in terms.items()}
    outcome = desk.tell(ReplaceOrder(at=at(1), order_id=desk.of().order_id, **numbers))
    assert outcome.denied is not None
    assert outcome.denied.code == code
    assert desk.wants(SendReplace) == []
    assert len(desk.of().legs) == 1


def test_a_busy_order_is_not_replaced() -> None:
    desk = replacing()
    outcome = desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, quantity=D(160)))
    assert outcome.denied is not None
    assert outcome.denied.code == "order_busy"


@pytest.mark.parametrize(("quantity", "passes"), [(50, True), (100, True), (101, False)])
def test_in_a_gap_an_order_may_only_shrink(quantity: int, passes: bool) -> None:
    desk = working()
    desk.lose(1)
    outcome = desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, quantity=D(quantity)))
    assert (outcome.denied is None) == passes


@pytest.mark.parametrize(("quantity", "passes"), [(50, True), (101, False)])
def test_while_its_position_is_doubtful_an_order_may_only_shrink(quantity: int, passes: bool) -> None:
    desk = working()
    desk.tell(snapshot(report(version=0), when=2, holdings={"AAPL": 7}))
    outcome = desk.tell(ReplaceOrder(at=at(3), order_id=desk.of().order_id, quantity=D(quantity)))
    assert (outcome.denied is None) == passes


# --- kill and resume ----------------------------------------------------------------------------------------------


def test_a_kill_cancels_every_working_order_and_stops_the_rest() -> None:
    desk = working()
    desk.tell(streamed(ExecType.NEW, report(version=1, broker_id="b-9", client_id="theirs"), when=1))
    outcome = desk.tell(Kill(at=at(2), reason="storm"))
    cancelled = [effect.broker_order_id for effect in outcome.effects if isinstance(effect, SendCancel)]
    assert cancelled == ["b-1", "b-9"]
    assert desk.belief.trading_state is TradingState.KILLED
    assert desk.belief.halt_generation == 1
    (view,) = [view for channel, view in outcome.changes.views if channel is Channel.RISK_KILL_SWITCH]
    assert isinstance(view, KillSwitchView)
    assert (view.action, view.state, view.open_orders_remaining) == ("activate", "KILLED", 2)


def test_what_was_decided_before_a_kill_carries_the_older_generation() -> None:
    desk = Desk()
    desk.submit(100)
    (effect,) = desk.wants(SendOrder)
    desk.tell(Kill(at=at(1), reason="storm"))
    assert isinstance(effect, SendOrder)
    assert effect.halt_generation < desk.belief.halt_generation
    desk.answer(NOT_SENT, message="killed meanwhile", when=2)
    assert desk.of().status is S.DENIED


def test_a_kill_keeps_asking_although_a_cancel_is_refused() -> None:
    desk = working()
    desk.tell(Kill(at=at(1), reason="storm"))
    desk.tell(streamed(ExecType.CANCEL_REJECTED, report(S.NEW, version=2), when=2))
    desk.answer(REFUSED, kind=CANCEL, message="pending replace", when=2)
    assert desk.of().cancel_wanted
    outcome = desk.tell(ClockTicked(at=at(1) + CANCEL_OVERDUE))
    assert [type(effect) for effect in outcome.effects] == [FindOrder, SendCancel]
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=40), when=40))
    assert not desk.of().cancel_wanted


def test_a_kill_reaches_an_order_whose_outcome_is_unknown() -> None:
    desk = doubtful()
    desk.tell(Kill(at=at(2), reason="storm"))
    assert desk.wants(SendCancel) == []
    desk.find(report(S.NEW, version=1), client_id="c-1", started=3)
    assert [effect.broker_order_id for effect in desk.wants(SendCancel) if isinstance(effect, SendCancel)] == ["b-1"]


def test_a_resume_asks_for_the_truth() -> None:
    desk = Desk()
    desk.tell(Kill(at=at(1), reason="storm"))
    outcome = desk.tell(Resume(at=at(2), reason="over"))
    assert desk.belief.trading_state is TradingState.ACTIVE
    assert outcome.effects == (TakeSnapshot(scope=SnapshotScope.FULL, reason="resumed after a kill"),)


def test_a_resume_in_a_gap_leaves_entries_gated() -> None:
    desk = Desk()
    desk.lose(1)
    desk.tell(Kill(at=at(2), reason="storm"), Resume(at=at(3), reason="over"))
    assert desk.belief.trading_state is TradingState.REDUCE_ONLY


# --- a new process ------------------------------------------------------------------------------------------------


def started(when: float = 100) -> RuntimeStarted:
    return RuntimeStarted(at=at(when), version="2", broker="paper")


def test_a_request_without_an_answer_is_in_doubt_after_a_restart() -> None:
    desk = Desk()
    desk.submit(100)
    desk.effects.clear()
    desk.tell(started())
    assert desk.of().in_doubt is SUBMIT
    assert desk.effects == [FindOrder(client_order_id=ClientOrderId("c-1"), not_before=at(100) + LOOKUP_FIRST)]
    assert desk.wants(SendOrder) == []


@pytest.mark.parametrize("was_in_doubt", [False, True])
def test_a_replace_without_an_answer_is_asked_for_by_its_own_name_after_a_restart(was_in_doubt: bool) -> None:
    desk = replacing()
    name = ClientOrderId(replace_name(desk))
    if was_in_doubt:
        desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=2)
    desk.effects.clear()
    desk.tell(started())
    assert desk.of().in_doubt is REPLACE
    (asked,) = desk.wants(FindOrder)
    assert isinstance(asked, FindOrder)
    assert asked.client_order_id == name


def test_the_counting_of_look_ups_begins_anew_with_the_process() -> None:
    desk = doubtful()
    desk.find(None, client_id="c-1", started=6)
    desk.tell(started())
    for asked in (101, 106.5):  # the first is too soon after the start
        desk.find(None, client_id="c-1", started=asked)
        assert desk.of().in_doubt is SUBMIT
    desk.find(None, client_id="c-1", started=112)
    assert desk.of().in_doubt is None


def test_a_wanted_cancel_is_asked_for_again_after_a_restart() -> None:
    desk = working()
    cancel(desk)
    desk.effects.clear()
    desk.tell(started())
    assert [type(effect) for effect in desk.effects] == [SendCancel]
    assert desk.belief.next_deadline == at(100) + CANCEL_OVERDUE


def test_a_kill_survives_a_restart() -> None:
    desk = Desk()
    desk.tell(Kill(at=at(1), reason="storm"), started())
    desk.restore(snapshot(when=102), when=101)
    assert desk.belief.trading_state is TradingState.KILLED
    assert desk.belief.halt_generation == 1


def test_a_suspected_drift_is_looked_at_again_after_a_restart() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 12}), started())
    outcome = desk.tell(ClockTicked(at=at(100)))
    assert outcome.effects == (TakeSnapshot(scope=SnapshotScope.FULL, reason="suspected drift: position:AAPL"),)


# --- what a request in doubt does not ask -------------------------------------------------------------------------


def test_a_word_about_the_old_leg_asks_nothing_of_the_replace_in_doubt() -> None:
    desk = replacing()
    desk.answer(UNKNOWN, kind=REPLACE, client_id=replace_name(desk), when=2)
    outcome = desk.tell(streamed(ExecType.PENDING_REPLACE, report(S.PENDING_REPLACE, version=1), when=3))
    assert (outcome.effects, desk.of().in_doubt) == ((), REPLACE)


def test_an_answer_that_brings_no_report_ends_the_request_all_the_same() -> None:
    desk = replacing()
    desk.answer(ACCEPTED, kind=REPLACE, client_id=replace_name(desk), when=2)
    assert (desk.of().in_flight, desk.of().in_doubt) == (None, None)


# --- inferred shares ----------------------------------------------------------------------------------------------


def inferring(when: float = 5) -> Desk:
    """A live stream that lost the event of 40 shares, and told the next: 10 more."""
    desk = working()
    match = execution("e-2", 10, cum=50, when=when)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 50, version=when), match, when=when))
    assert desk.of().leg.residual == 40
    desk.effects.clear()
    return desk


def asked_of(desk: Desk) -> TakeSnapshot:
    return TakeSnapshot(
        scope=SnapshotScope.FULL, reason=f"{desk.of().leg.residual} AAPL of order {desk.of().order_id} are inferred"
    )


def test_the_executions_of_inferred_shares_are_asked_for_after_ever_longer_pauses() -> None:
    desk = inferring()
    for due in (10, 20, 40, 80, 160):
        assert desk.belief.next_deadline == at(due)
        assert desk.tell(ClockTicked(at=at(due - 1))).effects == ()
        assert desk.tell(ClockTicked(at=at(due))).effects == (asked_of(desk),)
    assert desk.belief.next_deadline == at(320), "the last answer has had its time"
    assert list(desk.belief.inferred) == ["b-1"]
    assert desk.tell(ClockTicked(at=at(320))).effects == ()
    assert (desk.belief.next_deadline, desk.belief.inferred) == (None, {})


def test_nobody_is_asked_once_they_have_come() -> None:
    desk = inferring()
    match = execution("e-1", 40, cum=40, when=4)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=4), match, when=7))
    assert desk.tell(ClockTicked(at=at(5) + EXECUTIONS_DUE)).effects == ()
    assert (desk.belief.next_deadline, desk.belief.inferred) == (None, {})


def test_more_of_them_do_not_put_the_question_off() -> None:
    desk = inferring()
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 60, version=8), when=8))
    assert desk.of().leg.residual == 50
    assert desk.tell(ClockTicked(at=at(5) + EXECUTIONS_DUE)).effects == (asked_of(desk),)


def test_once_answered_the_next_inferred_share_is_asked_about_as_soon_as_the_first() -> None:
    desk = inferring()
    desk.tell(ClockTicked(at=at(10)), ClockTicked(at=at(20)))
    listed = [execution("e-1", 40, cum=40, when=4), execution("e-2", 10, cum=50, when=5)]
    row = report(S.PARTIALLY_FILLED, 50, version=5)
    desk.tell(snapshot(row, when=21, executions=listed, holdings={"AAPL": 50}))
    assert desk.belief.inferred == {}
    match = execution("e-4", 10, cum=80, when=37)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 80, version=37), match, when=37))
    assert desk.tell(ClockTicked(at=at(40))).effects == (), "the old question is not asked of the new shares"
    assert desk.tell(ClockTicked(at=at(42))).effects == (asked_of(desk),)


@pytest.mark.parametrize(
    ("submitted_h", "baseline_h", "since_h"),
    [(-2, -9, -2), (-30, -99, -24), (-2, -1, -1), (None, -9, -3)],
    ids=["from the order's beginning", "a day at most", "not before our books", "else when we heard of it"],
)
def test_where_shares_are_inferred_a_snapshot_lists_all_of_their_order(
    submitted_h: float | None, baseline_h: float, since_h: float
) -> None:
    desk = inferring()
    hour, slack = timedelta(hours=1), timedelta(minutes=5)
    desk.belief.baseline_at = at(0) + baseline_h * hour
    desk.of().created_at = at(0) - 3 * hour
    desk.of().leg.submitted_at = at(0) + submitted_h * hour if submitted_h is not None else None
    proved_at = desk.belief.truth.proved_at
    assert proved_at is not None
    expected = {-24: proved_at - 24 * hour, -1: at(0) - hour - slack}.get(int(since_h), at(0) + since_h * hour)
    assert desk.belief.snapshot_since() == expected
    desk.belief.inferred.clear()
    if baseline_h < -1:
        assert desk.belief.snapshot_since() == proved_at - slack


def test_a_bust_that_takes_what_the_total_still_counts_is_asked_about() -> None:
    desk = working(filled=40)
    listed = [execution("l-1", 40, cum=40)]
    desk.tell(snapshot(report(S.PARTIALLY_FILLED, 40, version=0.5), when=5, executions=listed, holdings={"AAPL": 40}))
    desk.effects.clear()
    bust = report(S.PARTIALLY_FILLED, 0, version=0.4)
    desk.tell(streamed(ExecType.TRADE_CANCEL, bust, refers_to="e-0", when=6))
    assert (desk.shares(), desk.of().leg.residual) == (40, 40)
    assert desk.tell(ClockTicked(at=at(6) + EXECUTIONS_DUE)).effects == (asked_of(desk),)


def test_nobody_is_asked_about_an_order_that_was_left_to_the_journal_meanwhile() -> None:
    desk = inferring()
    del desk.belief.by_broker[BrokerOrderId("b-1")]
    assert desk.tell(ClockTicked(at=at(5) + EXECUTIONS_DUE)).effects == ()
    assert desk.belief.inferred == {}


def test_they_are_asked_for_after_a_restart_too() -> None:
    desk = inferring()
    desk.tell(started(when=100))
    assert desk.belief.next_deadline == at(100) + EXECUTIONS_DUE
    assert desk.tell(ClockTicked(at=at(100) + EXECUTIONS_DUE)).effects == (asked_of(desk),)


def test_shares_of_before_our_books_are_not_asked_for() -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(report(S.FILLED, 40, version=-9, client_id="theirs"), when=0, holdings={"AAPL": 40}))
    assert (desk.shares(), desk.belief.inferred) == (40, {})


def test_nor_does_a_fill_of_such_an_order_ask_for_them() -> None:
    desk = Desk(live=False)
    row = report(S.PARTIALLY_FILLED, 40, version=-9, client_id="theirs")
    desk.tell(snapshot(row, when=0, holdings={"AAPL": 40}))
    match = execution("e-2", 10, cum=50, when=3)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 50, version=3, client_id="theirs"), match, when=3))
    assert (desk.shares(), desk.of("theirs").leg.residual, desk.belief.inferred) == (50, 40, {})
    later = execution("e-4", 10, cum=70, when=5)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 70, version=5, client_id="theirs"), later, when=5))
    assert list(desk.belief.inferred) == ["b-1"], "of these 10 the event was lost"


# --- a mute stream ------------------------------------------------------------------------------------------------


def polled(filled: int = 40, when: float = 5) -> Desk:
    desk = working()
    row = report(S.PARTIALLY_FILLED, filled, version=when - 1)
    desk.tell(snapshot(row, when=when, scope=SnapshotScope.ORDERS, source=Source.POLL))
    desk.effects.clear()
    return desk


def test_a_stream_that_never_tells_what_a_poll_found_is_mute() -> None:
    desk = polled()
    outcome = desk.tell(ClockTicked(at=at(5) + STREAM_GRACE))
    (effect,) = outcome.effects
    assert isinstance(effect, RecycleFeed)
    assert effect.feed is FeedName.BROKER_EVENTS
    assert desk.belief.feeds[FeedName.BROKER_EVENTS].status is FeedStatus.SUSPECT
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert (gap.opened_at, gap.missed, gap.learned_by) == (at(0), 1, {"poll": 1})
    assert desk.belief.entries_gated
    assert desk.belief.counters["fills_missed_by_stream"] == 1


@pytest.mark.parametrize("with_execution", [True, False])
def test_what_a_mute_stream_never_told_is_marked_as_missed(with_execution: bool) -> None:
    desk = working()
    row = report(S.PARTIALLY_FILLED, 40, version=4)
    match = [execution("e-1", 40, cum=40, when=4)] if with_execution else []
    desk.tell(snapshot(row, when=5, source=Source.POLL, executions=match, holdings={"AAPL": 40}))
    assert [view.missed_by_stream for view in executions_view(desk.belief)] == [False]
    desk.tell(ClockTicked(at=at(5) + STREAM_GRACE))
    assert [view.missed_by_stream for view in executions_view(desk.belief)] == [True]


def test_a_stream_that_tells_it_a_little_later_is_not() -> None:
    desk = polled()
    match = execution("e-1", 40, cum=40, when=4)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=4), match, when=7))
    assert desk.tell(ClockTicked(at=at(5) + STREAM_GRACE)).effects == ()
    assert not desk.belief.entries_gated
    assert desk.shares() == 40


def test_a_later_event_of_the_same_order_tells_it_too() -> None:
    desk = polled()
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 40, version=6), when=6))
    assert desk.tell(ClockTicked(at=at(5) + STREAM_GRACE)).effects == ()


def test_an_older_event_does_not() -> None:
    desk = polled()
    desk.tell(streamed(ExecType.NEW, report(version=0), when=6))
    assert len(desk.tell(ClockTicked(at=at(5) + STREAM_GRACE)).effects) == 1


def test_nothing_is_expected_of_a_stream_that_was_lost_meanwhile() -> None:
    desk = polled()
    desk.lose(6)
    assert desk.tell(ClockTicked(at=at(5) + STREAM_GRACE)).effects == ()
    assert len(desk.belief.truth.gaps) == 1


def test_the_cut_of_a_mute_stream_opens_no_second_gap() -> None:
    desk = polled()
    desk.tell(ClockTicked(at=at(5) + STREAM_GRACE))
    desk.lose(9, "recycled")
    assert len(desk.belief.truth.gaps) == 1
    row = report(S.PARTIALLY_FILLED, 40, version=4)
    desk.restore(snapshot(row, when=11, holdings={"AAPL": 40}), when=10)
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated


# --- the rest -----------------------------------------------------------------------------------------------------


def test_a_signal_is_shown_and_moves_nothing() -> None:
    desk = Desk()
    outcome = desk.tell(
        SignalGenerated(
            at=at(1),
            strategy_name="sma",
            symbol=Symbol("AAPL"),
            direction="BUY",
            strength=D("0.75"),
            indicators={"rsi": D("42.5")},
        )
    )
    ((channel, view),) = outcome.changes.views
    assert channel is Channel.SIGNAL_GENERATED
    assert isinstance(view, SignalView)
    assert (view.symbol, view.strength, view.metadata) == ("AAPL", D("0.75"), {"indicators": {"rsi": D("42.5")}})
    assert desk.belief.orders == {}


def test_a_wish_to_reconcile_asks_for_a_full_snapshot() -> None:
    outcome = Desk().tell(Reconcile(at=at(1), reason="I want to know"))
    assert outcome.effects == (TakeSnapshot(scope=SnapshotScope.FULL, reason="I want to know"),)


def test_each_input_leaves_its_offset_and_time() -> None:
    desk = Desk()
    desk.tell(ClockTicked(at=at(9)))
    assert (desk.belief.offset, desk.belief.at) == (4, at(9))


def test_an_overfill_is_booked_and_alarms() -> None:
    desk = working()
    match = execution("e-1", 110, cum=110, when=1)
    outcome = desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 110, version=1), match, when=1))
    assert desk.shares() == 110
    assert desk.belief.counters["overfills"] == 1
    assert "overfill" in [view.type for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]


def test_a_total_that_falls_without_a_word_is_looked_into() -> None:
    desk = working(filled=40)
    outcome = desk.tell(streamed(ExecType.STATUS, report(S.PARTIALLY_FILLED, 30, version=2), when=2))
    assert desk.shares() == 40
    assert [type(effect) for effect in outcome.effects] == [FindOrder, TakeSnapshot]


def test_a_replacement_under_a_name_of_the_brokers_own_is_still_ours() -> None:
    desk = replacing()
    theirs = report(S.NEW, version=2, broker_id="b-2", client_id="generated", quantity=150, replaces="b-1")
    desk.tell(streamed(ExecType.NEW, theirs, when=2))
    order = desk.of()
    assert [leg.broker_order_id for leg in order.legs] == ["b-1", "b-2"]
    assert (order.in_flight, order.status, order.leaves) == (None, S.NEW, 150)
    assert desk.of("generated") is desk.of(replace_name(desk)) is order
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=2, replaced_by="b-2"), when=3))
    assert desk.wants(FindOrder) == [], "the successor is known"


def test_what_was_asked_of_an_order_survives_its_union_with_another() -> None:
    """An external order that a person cancels and replaces turns out to be the successor of ours."""
    desk = doubtful()
    by_hand = report(S.NEW, version=4, broker_id="b-2", client_id="by-hand", quantity=150)
    desk.tell(streamed(ExecType.NEW, by_hand, when=4))
    desk.tell(ReplaceOrder(at=at(5), order_id=desk.of("b-2").order_id, quantity=D(120)))
    name = replace_name(desk)
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=6)
    desk.tell(CancelOrder(at=at(7), order_id=desk.of("b-2").order_id))
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, version=4, replaced_by="b-2"), when=8))
    order = desk.of("c-1")
    assert desk.of("b-2") is order
    assert (order.in_doubt, order.cancel_wanted, order.doubt_since) == (REPLACE, True, at(6))
    assert desk.belief.in_doubt() == [name]
    desk.find(None, client_id=name, started=12)
    desk.find(None, client_id=name, started=18)
    assert (desk.of().in_doubt, desk.of().status) == (None, S.PENDING_CANCEL)


def test_an_unreadable_frame_alarms() -> None:
    outcome = Desk().tell(FrameQuarantined(at=at(1), feed=FeedName.BROKER_EVENTS, raw="{", reason="no order"))
    (alert,) = [view for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]
    assert (alert.type, alert.reason) == ("unreadable_frame", "a broker event could not be read: no order")


# --- what is told: the order's story, the alarms, the refusals ----------------------------------------------------


def told(desk: Desk, any_id: str = "c-1") -> tuple[str, Source, datetime | None, str, bool]:
    """The newest line of an order's story."""
    line = desk.of(any_id).timeline[-1]
    return line.event, line.source, line.broker_at, line.text, line.changed


def alarms(outcome: Outcome) -> list[RiskAlertView]:
    return [view for _, view in outcome.changes.views if isinstance(view, RiskAlertView)]


def alarm(
    kind: str, severity: str, reason: str, when: float, *, symbol: str | None = "AAPL", order_id: str = "o-4"
) -> RiskAlertView:
    return RiskAlertView(
        type=kind,
        severity=severity,
        reason=reason,
        symbol=symbol,
        current_value=None,
        limit_value=None,
        timestamp=at(when),
        order_id=order_id,
    )


def test_an_order_keeps_every_term_of_its_command_and_sends_them() -> None:
    desk = Desk()
    outcome = desk.tell(
        SubmitOrder(
            at=at(5),
            symbol=AAPL,
            side=Side.SELL,
            quantity=D(10),
            order_type=OrderType.STOP_LIMIT,
            time_in_force=TimeInForce.GTC,
            limit_price=D("9.50"),
            stop_price=D("9.75"),
            extended_hours=True,
            client_order_id=ClientOrderId("c-1"),
            strategy_name="sma",
        )
    )
    order = desk.of()
    assert (order.side, order.order_type, order.time_in_force) == (Side.SELL, OrderType.STOP_LIMIT, TimeInForce.GTC)
    assert (order.origin, order.strategy_name, order.extended_hours) == ("strategy", "sma", True)
    assert (order.created_at, order.updated_at, order.source) == (at(5), at(5), Source.COMMAND)
    assert (order.leg.quantity, order.leg.limit_price, order.leg.stop_price) == (10, D("9.50"), D("9.75"))
    terms = NewOrder(
        ClientOrderId("c-1"),
        AAPL,
        Side.SELL,
        D(10),
        OrderType.STOP_LIMIT,
        TimeInForce.GTC,
        D("9.50"),
        D("9.75"),
        extended_hours=True,
    )
    allowed = Allowed(terms, reduces=False)
    assert outcome.effects == (SendOrder(order_id=OrderId("o-4"), allowed=allowed, halt_generation=0),)
    assert told(desk) == ("intent", Source.COMMAND, None, "allowed; client order id c-1", True)
    assert desk.belief.counters["orders_submitted"] == 1


def test_a_denied_order_tells_why_to_its_story_to_its_sender_and_to_everybody() -> None:
    desk = Desk()
    outcome = desk.submit(0, when=5)
    why = "quantity must be greater than 0"
    assert outcome.denied == Denied(code="invalid_quantity", field="quantity", reason=why)
    assert (desk.of().reason, outcome.order_id, outcome.effects) == (why, "o-4", ())
    assert told(desk) == ("denied", Source.COMMAND, None, why, True)
    assert alarms(outcome) == [alarm("invalid_quantity", "warning", why, 5)]
    assert desk.belief.counters["orders_denied"] == 1


def test_a_name_used_twice_is_refused_and_leads_to_the_order_that_bears_it() -> None:
    desk = Desk()
    desk.submit(10)
    outcome = desk.submit(10, when=5)
    why = "client_order_id c-1 was used before; it must be unique for ever"
    assert outcome.denied == Denied(code="duplicate_client_order_id", field="client_order_id", reason=why)
    assert alarms(outcome) == [alarm("duplicate_client_order_id", "warning", why, 5, symbol=None, order_id="")]
    assert (outcome.order_id, outcome.effects, list(desk.belief.orders)) == ("o-4", (), ["o-4"])


@pytest.mark.parametrize(
    ("outcome", "code", "event", "reason", "severity"),
    [
        (REFUSED, "40310000", "submit_refused", "no buying power (40310000)", "warning"),
        (REFUSED, "", "submit_refused", "no buying power", "warning"),
        (NOT_SENT, "", "submit_not_sent", "not sent: no buying power", "info"),
    ],
)
def test_a_request_that_came_to_nothing_is_told(
    outcome: RequestOutcome, code: str, event: str, reason: str, severity: str
) -> None:
    desk = Desk()
    desk.submit()
    answered = desk.answer(outcome, when=7, message="no buying power", code=code)
    order = desk.of()
    assert (order.reason, order.source, order.updated_at) == (reason, Source.REPLY, at(7))
    words = reason.removeprefix("not sent: ")
    assert told(desk) == (event, Source.REPLY, None, words, True)
    assert alarms(answered) == [alarm(event, severity, words, 7)]


def test_a_lost_answer_is_told() -> None:
    desk = Desk()
    desk.submit()
    outcome = desk.answer(UNKNOWN, when=7, message="no answer in 5 s")
    assert told(desk) == ("submit_in_doubt", Source.RUNTIME, None, "no answer in 5 s", True)
    why = "the outcome of the submit of order o-4 is unknown: no answer in 5 s"
    assert alarms(outcome) == [alarm("in_doubt", "warning", why, 7)]
    assert desk.of().updated_at == at(7)


def test_a_lost_answer_to_what_the_broker_has_spoken_of_is_one_line_and_no_alarm() -> None:
    desk = working()
    outcome = desk.answer(UNKNOWN, when=2, message="no answer in 5 s")
    assert told(desk) == ("reply_lost", Source.REPLY, None, "the broker has spoken already", True)
    assert (alarms(outcome), outcome.effects) == ([], ())


def test_an_answer_without_the_order_settles_the_request_and_is_told() -> None:
    desk = Desk()
    desk.submit()
    desk.answer(ACCEPTED, when=1)
    assert desk.of().in_flight is None
    assert told(desk) == ("submit_accepted", Source.REPLY, None, "", True)


def test_an_answer_with_the_order_is_a_report_with_the_brokers_time() -> None:
    desk = Desk()
    desk.submit()
    desk.answer(ACCEPTED, report(version=1), when=2)
    assert told(desk) == ("STATUS", Source.REPLY, at(1), "the broker's answer to our submit", True)
    assert desk.of().source is Source.REPLY


def test_an_answer_about_an_order_of_others_adopts_it_and_is_not_unknown() -> None:
    desk = Desk()
    desk.answer(ACCEPTED, report(version=1, client_id="stranger"), client_id="stranger", when=2)
    assert desk.of("stranger").origin == "external"
    assert "answers_to_unknown_requests" not in desk.belief.counters


def test_what_a_look_up_found_is_told_with_the_brokers_time() -> None:
    desk = doubtful()
    desk.find(report(version=1), client_id="c-1", started=3)
    assert told(desk) == ("STATUS", Source.LOOKUP, at(1), "", True)


def test_each_look_up_in_vain_is_told_and_the_last_ends_it() -> None:
    desk = doubtful()
    desk.find(None, client_id="c-1", started=7)
    assert told(desk) == ("not_found", Source.LOOKUP, None, "counting answers: 1", False)
    outcome = desk.find(None, client_id="c-1", started=13)
    assert [line.event for line in desk.of().timeline[-2:]] == ["not_found", "never_arrived"]
    why = "never reached the broker: looked up 2 times by client order id"
    assert told(desk) == ("never_arrived", Source.LOOKUP, None, why, True)
    assert list(outcome.changes.orders) == ["o-4"]


def test_a_look_up_by_the_old_name_says_nothing_about_a_cancel_in_doubt() -> None:
    desk = working()
    cancel(desk)
    desk.answer(UNKNOWN, kind=CANCEL, when=2, message="no answer")
    desk.find(None, client_id="c-1", started=20)
    desk.find(None, client_id="c-1", started=40)
    order = desk.of()
    assert (order.in_doubt, order.lookups_missed, order.status) == (CANCEL, 0, S.PENDING_CANCEL)


def test_a_look_up_by_a_broker_order_id_in_vain_ends_no_doubt() -> None:
    desk = replacing()
    name = replace_name(desk)
    desk.answer(UNKNOWN, kind=REPLACE, client_id=name, when=2)
    desk.find(None, broker_id="b-1", started=20)
    desk.find(None, broker_id="b-1", started=40)
    desk.find(None, started=60)
    assert (desk.of().in_doubt, desk.of().lookups_missed, desk.of().leg.status) == (REPLACE, 0, S.NEW)


def test_a_cancel_that_the_broker_refused_is_not_asked_for_again_by_a_look_up() -> None:
    desk = working()
    cancel(desk)
    desk.answer(UNKNOWN, kind=CANCEL, when=2)
    desk.tell(streamed(ExecType.CANCEL_REJECTED, report(version=3), when=3))
    assert not desk.of().cancel_wanted
    outcome = desk.find(report(version=3), broker_id="b-1", started=5)
    assert outcome.effects == ()
    assert desk.of().in_doubt is None


def test_a_cancel_is_told_with_its_reason() -> None:
    desk = working()
    outcome = desk.tell(CancelOrder(at=at(3), order_id=OrderId("o-4"), reason="changed my mind"))
    assert (outcome.order_id, outcome.denied) == ("o-4", None)
    assert told(desk) == ("cancel_intent", Source.COMMAND, None, "changed my mind", True)
    assert list(outcome.changes.orders) == ["o-4"]
    assert outcome.effects == (
        SendCancel(order_id=OrderId("o-4"), client_order_id=ClientOrderId("c-1"), broker_order_id=BrokerOrderId("b-1")),
    )


@pytest.mark.parametrize(
    ("reason", "asked_by", "text"),
    [
        ("", "", ""),
        ("too late", "", "too late"),
        ("", "maria", "asked for by maria"),
        ("too late", "maria", "too late; asked for by maria"),
    ],
)
def test_a_wish_is_told_with_its_reason_and_whose_it_was(reason: str, asked_by: str, text: str) -> None:
    desk = working()
    desk.tell(CancelOrder(at=at(3), order_id=OrderId("o-4"), reason=reason, asked_by=asked_by))
    assert told(desk)[3] == text


def test_an_overdue_cancel_is_told_looked_into_and_asked_for_again() -> None:
    desk = working()
    cancel(desk)
    outcome = desk.tell(ClockTicked(at=at(31)))
    why = "order o-4 still stands 30 s after its cancel was asked for"
    assert alarms(outcome) == [alarm("cancel_overdue", "warning", why, 31)]
    assert told(desk) == ("cancel_overdue", Source.RUNTIME, None, why, False)
    assert outcome.effects == (
        FindOrder(broker_order_id=BrokerOrderId("b-1"), not_before=at(31)),
        SendCancel(order_id=OrderId("o-4"), client_order_id=ClientOrderId("c-1"), broker_order_id=BrokerOrderId("b-1")),
    )
    assert desk.belief.next_deadline == at(61)


@pytest.mark.parametrize(
    ("terms", "code", "field", "reason"),
    [
        ({}, "nothing_to_change", "quantity", "name a new quantity, limit_price or stop_price"),
        ({"quantity": "0"}, "invalid_quantity", "quantity", "quantity must be greater than 0"),
        ({"limit_price": "-1"}, "invalid_limit_price", "limit_price", "limit_price must be greater than 0"),
        ({"stop_price": "NaN"}, "invalid_stop_price", "stop_price", "stop_price must be greater than 0"),
        ({"quantity": "40"}, "invalid_quantity", "quantity", "40 are filled already; ask for more, or cancel"),
    ],
)
def test_a_refused_replace_names_the_field_and_what_would_be_right(
    terms: dict[str, str], code: str, field: str, reason: str
) -> None:
    desk = working(filled=40)
    numbers = {name: D(text) for name, text in terms.items()}
    outcome = desk.tell(ReplaceOrder(at=at(1), order_id=OrderId("o-4"), **numbers))
    assert outcome.denied == Denied(code=code, field=field, reason=reason)
    assert (outcome.order_id, outcome.effects) == ("o-4", ())


def test_what_is_unknown_over_or_busy_is_refused_in_words() -> None:
    desk = replacing()
    busy = desk.tell(ReplaceOrder(at=at(2), order_id=OrderId("o-4"), quantity=D(160)))
    why = "a request for this order is under way; wait for its outcome"
    assert busy.denied == Denied(code="order_busy", field="order_id", reason=why)
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, version=3), when=3))
    desk.answer(REFUSED, kind=REPLACE, client_id=replace_name(desk), when=3)
    for wish in (ReplaceOrder, CancelOrder):
        over = desk.tell(wish(at=at(4), order_id=OrderId("o-4")))
        why = "order o-4 is CANCELED already"
        assert over.denied == Denied(code="order_is_final", field="order_id", reason=why)
        assert over.order_id == "o-4"
        unknown = desk.tell(wish(at=at(4), order_id=OrderId("o-99")))
        why = "there is no order o-99"
        assert unknown.denied == Denied(code="unknown_order", field="order_id", reason=why)
        assert (unknown.order_id, unknown.effects) == (None, ())


def test_what_gates_a_larger_order_is_told_reason_by_reason() -> None:
    desk = working()
    desk.lose(2, "connection reset")
    desk.tell(Kill(at=at(3), reason="storm"))
    outcome = desk.tell(ReplaceOrder(at=at(4), order_id=OrderId("o-4"), quantity=D(160)))
    why = "only a smaller quantity may be asked for now: kill switch: storm; broker events are DOWN: connection reset"
    assert outcome.denied == Denied(code="entries_gated", field="quantity", reason=why)


@pytest.mark.parametrize(
    ("terms", "asked", "leg"),
    [
        ({"quantity": "1"}, (D(1), None, None), (1, 10, None)),
        ({"limit_price": "0.50"}, (None, D("0.50"), None), (100, D("0.50"), None)),
        ({"stop_price": "0.75"}, (None, None, D("0.75")), (100, 10, D("0.75"))),
    ],
)
def test_a_replace_sends_what_changes_and_believes_the_rest_as_it_was(
    terms: dict[str, str], asked: tuple[object, ...], leg: tuple[object, ...]
) -> None:
    desk = Desk()
    desk.submit(100, limit="10")
    desk.tell(streamed(ExecType.NEW, report(version=0, limit="10")))
    numbers = {name: D(text) for name, text in terms.items()}
    outcome = desk.tell(ReplaceOrder(at=at(2), order_id=OrderId("o-4"), **numbers))
    name = ClientOrderId("tu-table-6")
    (effect,) = outcome.effects
    assert isinstance(effect, SendReplace)
    assert (effect.order_id, effect.broker_order_id, effect.halt_generation) == ("o-4", "b-1", 0)
    assert effect.change.client_order_id == name
    assert (effect.change.quantity, effect.change.limit_price, effect.change.stop_price) == asked
    order = desk.of()
    young = order.legs[-1]
    assert (young.quantity, young.limit_price, young.stop_price) == leg
    assert (young.client_order_id, young.replaces, young.broker_order_id) == (name, "b-1", None)
    assert (outcome.order_id, list(outcome.changes.orders)) == ("o-4", ["o-4"])
    assert (order.updated_at, order.source, order.in_flight) == (at(2), Source.COMMAND, REPLACE)
    assert told(desk) == ("replace_intent", Source.COMMAND, None, "client order id tu-table-6", True)
    assert desk.belief.legs_by_symbol[AAPL] == order.legs


def test_a_replace_of_the_same_size_is_no_increase_while_the_position_is_doubtful() -> None:
    desk = working()
    desk.tell(snapshot(report(version=0), when=2, holdings={"AAPL": 7}))
    outcome = desk.tell(ReplaceOrder(at=at(3), order_id=OrderId("o-4"), quantity=D(100), limit_price=D(9)))
    assert outcome.denied is None


def test_a_doubt_about_a_replace_ends_the_same_way_when_the_broker_refuses_it() -> None:
    desk = replacing()
    name = replace_name(desk)
    outcome = desk.answer(REFUSED, kind=REPLACE, client_id=name, when=2, message="too late", code="42210000")
    assert outcome.effects == (FindOrder(broker_order_id=BrokerOrderId("b-1")),)
    assert told(desk) == ("replace_refused", Source.REPLY, None, "too late (42210000)", True)
    assert alarms(outcome) == [alarm("replace_refused", "warning", "too late (42210000)", 2)]
    assert desk.of().reason == "", "the order itself was not refused"


# --- what is told: streams, kills, starts -------------------------------------------------------------------------


def test_a_kill_and_a_resume_are_told_with_who_why_and_when() -> None:
    desk = working()
    killed = desk.tell(Kill(at=at(2), reason="storm", operator="system"))
    assert desk.belief.gate.kill == KillSwitch(True, "storm", "system", at(2))
    (view,) = [view for _, view in killed.changes.views if isinstance(view, KillSwitchView)]
    assert view == KillSwitchView(
        action="activate",
        reason="storm",
        operator="system",
        timestamp=at(2),
        state="KILLED",
        open_orders_remaining=1,
    )
    assert told(desk)[3] == "kill: storm"
    assert killed.effects[-1] == TakeSnapshot(scope=SnapshotScope.FULL, reason="what a kill left standing")
    resumed = desk.tell(Resume(at=at(3), reason="over", operator="human", asked_by="maria"))
    assert desk.belief.gate.kill == KillSwitch(False, "over", "human", at(3), "maria")
    assert resumed.changes.views == [
        (
            Channel.RISK_KILL_SWITCH,
            KillSwitchView(
                action="deactivate",
                reason="over",
                operator="human",
                timestamp=at(3),
                state="ACTIVE",
                open_orders_remaining=1,
                asked_by="maria",
            ),
        )
    ]
    assert resumed.effects == (TakeSnapshot(scope=SnapshotScope.FULL, reason="resumed after a kill"),)


def test_a_resume_takes_back_what_only_a_person_may() -> None:
    desk = Desk()
    desk.tell(snapshot(report(version=9, client_id="tu-table-7"), when=20))
    resumed = desk.tell(Resume(at=at(21), reason="mine"))
    breakers = [view for _, view in resumed.changes.views if isinstance(view, CircuitBreakerView)]
    assert breakers == [
        CircuitBreakerView(
            breaker="second_writer", action="deactivated", reason="a person has looked", timestamp=at(21), demand=""
        )
    ]


def test_each_change_of_a_stream_is_told_with_its_reason_and_since_when() -> None:
    desk = Desk(live=False)
    for feed, words in (
        (FeedName.BROKER_EVENTS, "subscribed; merging a snapshot"),
        (FeedName.MARKET_DATA, "subscribed"),
    ):
        state = desk.belief.feeds[feed]
        desk.tell(FeedAcknowledged(at=at(1), feed=feed))
        assert (state.status, state.since, state.acknowledged_at) == (FeedStatus.RESTORING, at(1), at(1))
        assert state.reason == words
        restored = desk.tell(FeedRestored(at=at(2), feed=feed, symbol_count=503))
        assert (state.status, state.since, state.reason, state.symbol_count) == (FeedStatus.UP, at(2), "", 503)
        shown = FeedReconnectedView(timestamp=at(2), symbol_count=503, feed=feed.value)
        assert restored.changes.views[0] == (Channel.FEED_RECONNECTED, shown)
        lost = desk.tell(FeedLost(at=at(3), feed=feed, reason="cut"))
        assert (state.status, state.since, state.reason) == (FeedStatus.DOWN, at(3), "cut")
        gone = FeedDisconnectedView(timestamp=at(3), reason="cut", feed=feed.value)
        assert lost.changes.views[0] == (Channel.FEED_DISCONNECTED, gone)
        desk.tell(FeedLost(at=at(4), feed=feed, reason="refused"))
        assert (state.since, state.reason) == (at(3), "refused"), "away since the first loss, for the newest reason"
        for life in (1, 2):
            desk.tell(FeedRestored(at=at(4 + life), feed=feed))
            assert (state.reconnect_count, state.last_reconnect_at) == (life, at(4 + life))


@pytest.mark.parametrize(
    ("tale", "why"),
    [
        ([], "the account has not been reconciled yet"),
        ([FeedLost(at=at(1), feed=FeedName.BROKER_EVENTS, reason="cut")], "the account has not been reconciled yet"),
        (
            [snapshot(when=1), FeedLost(at=at(2), feed=FeedName.BROKER_EVENTS, reason="cut")],
            "broker events are DOWN: cut",
        ),
        (
            [
                snapshot(when=1),
                RuntimeStarted(at=at(2), version="1", broker="paper"),
                FeedAcknowledged(at=at(3), feed=FeedName.BROKER_EVENTS),
                FeedRestored(at=at(3), feed=FeedName.BROKER_EVENTS),
            ],
            "a gap is open: process start",
        ),
    ],
)
def test_why_entries_are_gated_is_told(tale: list[Event], why: str) -> None:
    desk = Desk(live=False)
    for item in tale:
        desk.tell(item)
    assert desk.belief.gate.demands == {"stale_data": (TradingState.REDUCE_ONLY, why)}


def test_the_gate_that_opens_again_says_so() -> None:
    desk = Desk()
    desk.lose(1)
    restored = desk.restore(snapshot(when=3), when=2)
    breakers = [view for _, view in restored.changes.views if isinstance(view, CircuitBreakerView)]
    assert breakers == [
        CircuitBreakerView(
            breaker="stale_data",
            action="deactivated",
            reason="broker events are live and belief is reconciled",
            timestamp=at(3),
            demand="",
        )
    ]


@pytest.mark.parametrize(("acknowledged", "started", "closed"), [(5, 5, True), (6, 5, False), (None, 5, True)])
def test_a_snapshot_begun_with_the_gap_or_with_the_acknowledgement_closes_it(
    acknowledged: float | None, started: float, closed: bool
) -> None:
    desk = Desk(live=False)
    desk.tell(snapshot(when=1))
    desk.tell(RuntimeStarted(at=at(5), version="1", broker="paper"))
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert gap.opened_at == at(1)
    if acknowledged is not None:
        desk.tell(FeedAcknowledged(at=at(acknowledged), feed=FeedName.BROKER_EVENTS))
    desk.tell(snapshot(when=7, started=started), FeedRestored(at=at(8), feed=FeedName.BROKER_EVENTS))
    assert (desk.belief.truth.open_gap is None) == closed


def test_a_stream_that_lives_closes_no_gap_without_any_snapshot() -> None:
    desk = Desk(live=False)
    desk.tell(
        RuntimeStarted(at=at(1), version="1", broker="paper"),
        FeedAcknowledged(at=at(2), feed=FeedName.BROKER_EVENTS),
        FeedRestored(at=at(3), feed=FeedName.BROKER_EVENTS),
    )
    assert desk.belief.truth.open_gap is not None


def test_the_very_instant_of_the_cut_is_proven_by_a_snapshot_begun_then() -> None:
    desk = Desk()
    desk.lose(5)
    desk.restore(snapshot(when=6, started=5), when=5)
    assert desk.belief.truth.open_gap is None


def test_a_new_process_says_what_it_is_and_asks_again_for_what_was_left() -> None:
    desk = working()
    desk.submit(10, client_id="c-2")
    desk.submit(10, client_id="c-3")
    desk.answer(UNKNOWN, client_id="c-3", when=2)
    cancel(desk)
    outcome = desk.tell(RuntimeStarted(at=at(50), version="1.2", broker="paper"))
    belief = desk.belief
    assert (belief.broker, belief.runtime_version) == ("paper", "1.2")
    for feed in belief.feeds.values():
        assert (feed.status, feed.since, feed.reason) == (FeedStatus.DOWN, at(50), "the process has just started")
    assert belief.truth.gaps[-1].reason == "process start"
    assert told(desk, "c-2")[3] == "the process ended before the answer came"
    assert told(desk) == ("cancel_intent", Source.COMMAND, None, "asked for before the process started", True)
    asked = [effect for effect in outcome.effects if isinstance(effect, FindOrder)]
    assert asked == [
        FindOrder(client_order_id=ClientOrderId("c-2"), not_before=at(50) + LOOKUP_FIRST),
        FindOrder(client_order_id=ClientOrderId("c-3"), not_before=at(50)),
    ]


def test_an_unreadable_frame_is_told_and_asks_for_the_truth() -> None:
    outcome = Desk().tell(FrameQuarantined(at=at(1), feed=FeedName.BROKER_EVENTS, raw="{", reason="no order"))
    words = "a frame could not be read: no order"
    assert outcome.effects == (TakeSnapshot(scope=SnapshotScope.FULL, reason=words),)
    why = "a broker event could not be read: no order"
    assert alarms(outcome) == [alarm("unreadable_frame", "warning", why, 1, symbol=None, order_id="")]
    (gap,) = [view for _, view in outcome.changes.views if isinstance(view, GapView)]
    assert (gap.reason, gap.opened_at) == (words, at(1))


def test_a_mute_stream_is_told_in_every_place_that_shows_it() -> None:
    desk = working(filled=10)
    both = [execution("e-0", 10, cum=10, when=0.5), execution("e-1", 30, cum=40, when=4)]
    row = report(S.PARTIALLY_FILLED, 40, version=4)
    desk.tell(snapshot(row, when=5, source=Source.POLL, executions=both, holdings={"AAPL": 40}))
    outcome = desk.tell(ClockTicked(at=at(8)))
    why = "mute: poll found a fill of order o-4 that the stream never told"
    feed = desk.belief.feeds[FeedName.BROKER_EVENTS]
    assert (feed.status, feed.since, feed.reason) == (FeedStatus.SUSPECT, at(8), why)
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert (gap.reason, gap.opened_at, gap.missed, gap.learned_by) == (why, at(0.5), 1, {"poll": 1})
    assert [view for _, view in outcome.changes.views if isinstance(view, DriftView)] == [
        DriftView(
            id=f"d-{desk.belief.offset}-b-1",
            kind="missed_event",
            subject="o-4",
            state="healed",
            believed="stream silent",
            reported="PARTIALLY_FILLED 40",
            evidence=why,
            at=at(8),
            first_seen_at=at(8),
        )
    ]
    assert alarms(outcome) == [alarm("stream_mute", "warning", why, 8)]
    assert outcome.effects == (RecycleFeed(feed=FeedName.BROKER_EVENTS, reason=why),)
    assert list(outcome.changes.orders) == ["o-4"]
    missed = {name: held.missed for name, held in desk.of().leg.executions.items()}
    assert missed == {"e-0": False, "e-1": True}, "what the stream did tell was not missed"


def test_a_stream_that_was_mute_from_the_beginning_opens_its_gap_at_the_last_proof() -> None:
    desk = Desk()
    row = report(S.PARTIALLY_FILLED, 40, version=4, client_id="by-hand")
    desk.tell(snapshot(report(client_id="by-hand"), when=3))
    desk.tell(snapshot(row, when=5, source=Source.POLL, scope=SnapshotScope.ORDERS))
    desk.tell(ClockTicked(at=at(8)))
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert gap.opened_at == at(5)


@pytest.mark.parametrize("indicators", [{}, {"rsi": D("42.5")}])
def test_a_signal_is_shown_as_it_was_formed(indicators: dict[str, Decimal]) -> None:
    outcome = Desk().tell(
        SignalGenerated(
            at=at(1), strategy_name="sma", symbol=AAPL, direction="SELL", strength=D("0.75"), indicators=indicators
        )
    )
    assert outcome.changes.views == [
        (
            Channel.SIGNAL_GENERATED,
            SignalView(
                symbol="AAPL",
                direction="SELL",
                strength=D("0.75"),
                strategy_name="sma",
                timestamp=at(1),
                metadata={"indicators": indicators} if indicators else {},
            ),
        )
    ]


def test_the_brokers_time_of_an_event_stands_in_the_story() -> None:
    desk = working()
    event = streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=4), execution("e-1", 40, cum=40, when=4))
    desk.tell(replace(event, broker_at=at(3.5)))
    assert told(desk)[2] == at(3.5)
