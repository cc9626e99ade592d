"""The order's life by tables: which report wins, what counts as filled, and that each execution counts once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import permutations

import pytest
from tests.core.build import AAPL, START, D, at, execution, leg, order, report

from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    OrderId,
    OrderReport,
    OrderStatus,
    RequestKind,
    Side,
    Source,
)
from trueup.core.orders import (
    RANK,
    TERMINAL,
    TRANSITIONS,
    Held,
    Join,
    Leg,
    contradicts,
    differs,
    join_executions,
    join_report,
    take_list,
)

S = OrderStatus
LIVE = [status for status in S if status not in TERMINAL]
BROKER_WORDS = [status for status in S if status is not S.DENIED]


def join(
    into: Leg,
    what: OrderReport,
    match: Execution | None = None,
    *,
    source: Source = Source.STREAM,
    exec_type: ExecType = ExecType.STATUS,
    refers_to: str | None = None,
    when: datetime = START,
) -> Join:
    return join_report(
        into,
        what,
        match,
        source=source,
        at=when,
        exec_type=exec_type,
        refers_to=ExecutionId(refers_to) if refers_to else None,
    )


def trade(into: Leg, what: OrderReport, match: Execution) -> Join:
    return join(into, what, match, exec_type=ExecType.TRADE)


def spoken(status: OrderStatus, version: float | None = 0) -> Leg:
    """A leg of which the broker has said this."""
    into = leg()
    join(into, report(status, version=version))
    return into


# --- status -------------------------------------------------------------------------------------------------------


def test_every_status_has_a_row_and_a_rank() -> None:
    assert set(TRANSITIONS) == set(S)
    assert set(RANK) == set(S)
    assert len(set(RANK.values())) == len(RANK)


@pytest.mark.parametrize("old", BROKER_WORDS)
@pytest.mark.parametrize("new", BROKER_WORDS)
def test_a_later_version_is_followed_unless_it_would_bring_the_dead_to_life(old: S, new: S) -> None:
    into = spoken(old)
    join(into, report(new, version=1))
    assert into.status is (old if old in TERMINAL and new not in TERMINAL else new)
    assert old is new or (new in TRANSITIONS[old]) == (into.status is new)


@pytest.mark.parametrize("old", BROKER_WORDS)
@pytest.mark.parametrize("new", BROKER_WORDS)
def test_an_older_version_moves_nothing_but_the_living_to_their_end(old: S, new: S) -> None:
    into = spoken(old, version=1)
    join(into, report(new, version=0))
    assert into.status is (new if old not in TERMINAL and new in TERMINAL else old)


@pytest.mark.parametrize("one", BROKER_WORDS)
@pytest.mark.parametrize("other", BROKER_WORDS)
def test_within_one_version_the_order_of_arrival_does_not_matter(one: S, other: S) -> None:
    forth, back = spoken(one), spoken(other)
    join(forth, report(other))
    join(back, report(one))
    assert forth.status is back.status
    expected = max((one, other), key=lambda status: (status in TERMINAL, RANK[status]))
    assert forth.status is expected


@pytest.mark.parametrize("status", list(S))
def test_nothing_leads_from_the_end_back_to_life(status: S) -> None:
    if status in TERMINAL:
        assert TRANSITIONS[status] <= TERMINAL
    else:
        assert TERMINAL - {S.DENIED} <= TRANSITIONS[status]
    assert status not in TRANSITIONS[status]


@pytest.mark.parametrize("concluded", [S.REJECTED, S.DENIED, S.PENDING_NEW])
@pytest.mark.parametrize("told", BROKER_WORDS)
def test_what_we_concluded_ourselves_yields_to_any_word_of_the_broker(concluded: S, told: S) -> None:
    into = leg()
    into.status = concluded
    join(into, report(told))
    assert into.status is told
    assert not into.presumed


def test_a_message_without_a_version_is_taken_first_and_outranks_nothing_later() -> None:
    into = leg()
    join(into, report(S.NEW, version=None))
    assert into.status is S.NEW
    join(into, report(S.PARTIALLY_FILLED, 10, version=5))
    join(into, report(S.NEW, version=None))
    assert (into.status, into.filled, into.version) == (S.PARTIALLY_FILLED, 10, at(5))


def test_the_broker_own_word_is_kept_beside_ours() -> None:
    into = leg()
    join(into, report(S.NEW))
    assert into.raw_status == "new"


# --- terms --------------------------------------------------------------------------------------------------------


def test_terms_come_from_the_newest_report() -> None:
    into = leg()
    join(into, report(quantity=100, limit="10", version=1))
    assert (into.broker_order_id, into.quantity, into.limit_price) == ("b-1", 100, D(10))
    join(into, report(quantity=80, limit="11", version=2))
    assert (into.quantity, into.limit_price) == (80, D(11))
    join(into, report(quantity=100, limit="10", version=1))
    assert (into.quantity, into.limit_price) == (80, D(11))


def test_a_report_that_leaves_terms_out_takes_none_away() -> None:
    into = leg()
    join(into, report(quantity=100, limit="10", version=1))
    join(into, report(quantity=None, version=2))
    assert (into.quantity, into.limit_price) == (100, D(10))


# --- filled quantity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "version", "expected"),
    [
        (Source.STREAM, 2, 60),  # lower and later, told by an event: a surprise, not a correction
        (Source.POLL, 2, 60),
        (Source.LOOKUP, 2, 60),
        (Source.REPLY, 2, 60),
        (Source.RECONCILE, 2, 40),  # a full reconciliation read the order twice
        (Source.RECONCILE, 1, 60),  # of two totals in one version the larger
        (Source.RECONCILE, 0, 60),  # older than what we know
        (Source.RECONCILE, None, 60),  # a crippled row takes nothing back
        (Source.STREAM, None, 60),
    ],
)
def test_what_may_lower_a_filled_quantity(source: Source, version: float | None, expected: int) -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 60, version=1))
    joined = join(into, report(S.PARTIALLY_FILLED, 40, version=version), source=source)
    assert into.filled == expected
    assert joined.delta == expected - 60
    later = version == 2
    assert joined.surprises == (["filled_quantity_fell"] if expected == 60 and later else [])


def test_an_older_total_is_not_believed_after_a_decrease() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 60, version=1))
    join(into, report(S.PARTIALLY_FILLED, 40, version=2), source=Source.RECONCILE)
    join(into, report(S.PARTIALLY_FILLED, 60, version=1))
    assert into.filled == 40
    join(into, report(S.PARTIALLY_FILLED, 70, version=3))
    assert into.filled == 70


# --- executions ---------------------------------------------------------------------------------------------------


def test_an_execution_counts_once_however_often_it_comes() -> None:
    into = leg()
    match = execution("e-1", 40, cum=40)
    first = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), match)
    again = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), match)
    assert [fill.quantity for fill in first.fills] == [40]
    assert again.fills == []
    assert again.duplicate
    assert not again.changed
    assert (into.executed, into.filled, into.residual) == (40, 40, 0)


def test_two_sources_may_name_one_match_differently() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("stream-1", 40, cum=40))
    joined = join_executions(into, [execution("list-1", 40, cum=40)], source=Source.RECONCILE, at=START, missed=False)
    assert not joined.changed
    assert into.aliases == {"list-1": "stream-1"}
    assert into.executed == 40


def test_equal_matches_one_after_the_other_are_two() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40))
    trade(into, report(S.PARTIALLY_FILLED, 80, version=2), execution("e-2", 40, cum=80))
    assert (into.executed, into.filled) == (80, 80)


def test_an_execution_beyond_the_brokers_total_is_held_and_not_counted() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40))
    joined = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("other-name", 40))
    assert joined.surprises == ["execution_beyond_total"]
    assert (into.executed, into.filled) == (40, 40)
    assert list(into.unplaced) == ["other-name"]
    # the broker's total rises: there was room for it after all
    joined = join(into, report(S.PARTIALLY_FILLED, 80, version=2))
    assert into.unplaced == {}
    assert (into.executed, into.filled) == (80, 80)
    assert sum(fill.quantity for fill in joined.fills) == 40


def test_the_executions_total_is_the_brokers_word_too() -> None:
    into = leg()
    joined = join_executions(into, [execution("e-2", 20, cum=60)], source=Source.RECONCILE, at=START, missed=False)
    assert (into.filled, into.executed, into.residual) == (60, 20, 40)
    assert joined.delta == 60


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_partial_fills_and_the_acceptance_in_any_order(arrival: tuple[int, ...]) -> None:
    story = [
        (ExecType.NEW, report(S.NEW, 0, version=0), None),
        (ExecType.TRADE, report(S.PARTIALLY_FILLED, 30, version=1, average="10"), execution("e-1", 30, "10", cum=30)),
        (
            ExecType.TRADE,
            report(S.PARTIALLY_FILLED, 50, version=2, average="10.4"),
            execution("e-2", 20, "11", cum=50),
        ),
        (ExecType.TRADE, report(S.FILLED, 100, version=3, average="10.7"), execution("e-3", 50, "11", cum=100)),
    ]
    into = leg()
    moved = Decimal(0)
    for index in arrival:
        exec_type, what, match = story[index]
        joined = join(into, what, match, exec_type=exec_type)
        moved += joined.delta
        assert into.executed + into.residual == into.filled
    assert (into.status, into.filled, into.residual, into.executed_value) == (S.FILLED, 100, 0, D(1070))
    assert moved == 100


# --- residuals ----------------------------------------------------------------------------------------------------


def test_shares_that_no_execution_explains_are_priced_by_the_brokers_average() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), execution("e-1", 40, "10", cum=40))
    joined = join(into, report(S.FILLED, 100, version=2, average="10.6"), source=Source.POLL)
    assert (into.residual, into.residual_price) == (60, D(11))
    assert [(fill.quantity, fill.price, fill.inferred) for fill in joined.fills] == [(60, D(11), True)]
    assert joined.value == 660


def test_the_real_execution_replaces_the_residual_and_adds_nothing() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), source=Source.POLL)
    joined = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, "10", cum=40))
    assert joined.delta == 0
    assert [(fill.quantity, fill.replaces_inferred) for fill in joined.fills] == [(40, True)]
    assert (into.residual, into.executed, into.filled) == (0, 40, 40)


def test_a_real_price_restates_what_was_inferred() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 40, version=1, average=None, limit="10"), source=Source.POLL)
    assert into.residual_price == 10
    joined = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, "9.50", cum=40))
    assert joined.restated
    assert joined.value == D("-20.00")
    assert into.executed_value == 380


def test_an_average_belongs_to_its_own_total() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 60, version=2, average="11"))
    join(into, report(S.PARTIALLY_FILLED, 40, version=1, average="9"))
    assert (into.filled, into.residual_price) == (60, D(11))


# --- busts and corrections ----------------------------------------------------------------------------------------


def two_matches() -> Leg:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), execution("e-1", 40, "10", cum=40))
    trade(into, report(S.FILLED, 100, version=2, average="10.6"), execution("e-2", 60, "11", cum=100))
    return into


def test_a_bust_takes_one_execution_back() -> None:
    into = two_matches()
    joined = join(into, report(S.CANCELED, 40, version=3), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    assert (into.filled, into.executed, into.residual) == (40, 40, 0)
    assert into.executions[ExecutionId("e-2")].busted
    assert joined.delta == -60
    assert joined.value == -660
    assert [(fill.kind, fill.quantity) for fill in joined.fills] == [("bust", -60)]


def test_a_bust_twice_is_one_bust() -> None:
    into = two_matches()
    join(into, report(S.CANCELED, 40, version=3), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    joined = join(into, report(S.CANCELED, 40, version=3), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    assert joined.duplicate
    assert not joined.changed
    assert into.filled == 40


def test_what_was_busted_does_not_come_back_with_a_late_repeat() -> None:
    into = two_matches()
    join(into, report(S.CANCELED, 40, version=3), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    trade(into, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100))
    assert (into.filled, into.executed, into.status) == (40, 40, S.CANCELED)


def test_a_bust_may_overtake_its_execution() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40))
    join(into, report(S.PARTIALLY_FILLED, 40, version=3), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    trade(into, report(S.PARTIALLY_FILLED, 100, version=2), execution("e-2", 60, cum=100))
    assert (into.filled, into.executed) == (40, 40)
    assert into.executions[ExecutionId("e-2")].busted


def test_a_bust_that_names_no_execution_is_a_surprise() -> None:
    into = two_matches()
    joined = join(into, report(S.PARTIALLY_FILLED, 40, version=3), exec_type=ExecType.TRADE_CANCEL)
    assert joined.surprises == ["correction_without_execution"]
    assert (into.filled, into.residual) == (40, -60)


def test_a_correction_restates_price_and_quantity() -> None:
    into = two_matches()
    joined = join(
        into,
        report(S.PARTIALLY_FILLED, 90, version=3),
        execution("e-2b", 50, "12", cum=90),
        exec_type=ExecType.TRADE_CORRECT,
        refers_to="e-2",
    )
    assert (into.filled, into.executed, into.executed_value) == (90, 90, D(1000))
    assert joined.restated
    assert joined.delta == -10
    assert joined.value == 1000 - 1060


def test_a_correction_under_a_new_name_is_counted_once_in_the_list() -> None:
    into = two_matches()
    corrected = execution("e-2b", 50, "12", cum=90)
    join(
        into,
        report(S.PARTIALLY_FILLED, 90, version=3),
        corrected,
        exec_type=ExecType.TRADE_CORRECT,
        refers_to="e-2",
    )
    joined = join_executions(into, [corrected], source=Source.RECONCILE, at=START, missed=False)
    assert not joined.changed
    assert joined.surprises == []
    assert into.executed == 90


def test_a_corrected_execution_can_be_busted_by_its_new_name() -> None:
    into = two_matches()
    join(
        into,
        report(S.PARTIALLY_FILLED, 90, version=3),
        execution("e-2b", 50, "12", cum=90),
        exec_type=ExecType.TRADE_CORRECT,
        refers_to="e-2",
    )
    join(into, report(S.CANCELED, 40, version=4), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2b")
    assert (into.filled, into.executed, into.residual) == (40, 40, 0)


def test_an_untold_bust_is_found_by_what_is_no_longer_listed() -> None:
    into = two_matches()
    join(into, report(S.CANCELED, 40, version=3), source=Source.RECONCILE)
    assert into.residual == -60
    joined = listed(into, execution("e-1", 40, "10", cum=40))
    assert joined.changed
    assert (into.executed, into.residual) == (40, 0)
    assert into.executions[ExecutionId("e-2")].busted


# --- the order, over its legs -------------------------------------------------------------------------------------


def chained(*states: tuple[S, int]) -> list[Leg]:
    """Legs of one chain, each with its filled quantity."""
    legs = []
    for number, (status, filled) in enumerate(states):
        name = BrokerOrderId(f"b-{number}")
        made = Leg(OrderId("o-1"), ClientOrderId(f"c-{number}"), name, AAPL, Side.BUY, quantity=D(100))
        made.status, made.presumed, made.filled = status, False, D(filled)
        if number:
            made.replaces = BrokerOrderId(f"b-{number - 1}")
            legs[-1].replaced_by = name
        legs.append(made)
    return legs


@pytest.mark.parametrize(
    ("states", "status", "filled", "leaves"),
    [
        ([(S.NEW, 0)], S.NEW, 0, 100),
        ([(S.PARTIALLY_FILLED, 40)], S.PARTIALLY_FILLED, 40, 60),
        ([(S.FILLED, 100)], S.FILLED, 100, 0),
        ([(S.REPLACED, 0), (S.NEW, 0)], S.NEW, 0, 100),
        ([(S.REPLACED, 40), (S.PARTIALLY_FILLED, 10)], S.PARTIALLY_FILLED, 50, 90),
        ([(S.PENDING_REPLACE, 40), (S.PENDING_NEW, 0)], S.PENDING_NEW, 40, 100),  # two live legs: the larger counts
        ([(S.FILLED, 100), (S.REJECTED, 0)], S.FILLED, 100, 0),  # the old one filled first
        ([(S.REPLACED, 0), (S.REJECTED, 0)], S.REJECTED, 0, 0),
        ([(S.REPLACED, 10), (S.REPLACED, 20), (S.CANCELED, 30)], S.CANCELED, 60, 0),
    ],
)
def test_an_order_is_the_sum_of_its_legs(states: list[tuple[S, int]], status: S, filled: int, leaves: int) -> None:
    whole = order(*chained(*states))
    assert (whole.status, whole.filled, whole.leaves) == (status, filled, leaves)
    assert whole.is_terminal == (leaves == 0)


def test_a_replaced_order_whose_successor_is_unknown_still_lives() -> None:
    only = chained((S.REPLACED, 40))
    only[0].replaced_by = BrokerOrderId("b-9")
    assert order(*only).status is S.PENDING_REPLACE
    assert not order(*only).is_terminal


def test_a_replace_that_was_given_up_does_not_hide_that_the_old_order_was_replaced() -> None:
    old = chained((S.REPLACED, 0))[0]
    old.replaced_by = BrokerOrderId("b-9")
    asked = Leg(
        OrderId("o-1"), ClientOrderId("c-9"), None, AAPL, Side.BUY, quantity=D(100), replaces=BrokerOrderId("b-0")
    )
    asked.status = S.DENIED
    assert order(old, asked).status is S.PENDING_REPLACE
    assert not order(old, asked).is_terminal


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("cancel_wanted", True, S.PENDING_CANCEL),
        ("in_flight", RequestKind.REPLACE, S.PENDING_REPLACE),
        ("in_doubt", RequestKind.REPLACE, S.PENDING_REPLACE),
        ("in_doubt", RequestKind.CANCEL, S.NEW),
    ],
)
def test_our_own_requests_under_way_show_in_the_status(field: str, value: object, status: S) -> None:
    whole = order(*chained((S.NEW, 0)))
    setattr(whole, field, value)
    assert whole.status is status


def test_an_order_in_doubt_is_not_over() -> None:
    whole = order(*chained((S.FILLED, 100)))
    whole.in_doubt = RequestKind.REPLACE
    assert not whole.is_terminal


def test_the_average_is_over_all_legs_and_residuals() -> None:
    old, new = chained((S.REPLACED, 0), (S.NEW, 0))
    trade(old, report(S.REPLACED, 40, version=1, broker_id="b-0", average="10"), execution("e-1", 40, "10", cum=40))
    join(new, report(S.PARTIALLY_FILLED, 60, version=2, broker_id="b-1", average="12"), source=Source.POLL)
    assert order(old, new).average_price == D("11.2")


def test_a_notional_order_has_no_leaves_and_no_price_before_its_fill() -> None:
    notional = leg()
    notional.quantity = None
    join(notional, report(S.NEW, quantity=None))
    whole = order(notional)
    assert whole.leaves is None
    assert whole.average_price is None


@pytest.mark.parametrize("kind", list(RequestKind))
@pytest.mark.parametrize("settled", list(RequestKind))
def test_settling_one_request_leaves_the_others_open(kind: RequestKind, settled: RequestKind) -> None:
    whole = order()
    whole.in_doubt, whole.doubt_since, whole.lookups_missed = kind, START, 1
    whole.settle_request(settled)
    if kind is settled:
        assert (whole.in_doubt, whole.doubt_since, whole.lookups_missed) == (None, None, 0)
    else:
        assert (whole.in_doubt, whole.doubt_since, whole.lookups_missed) == (kind, START, 1)


def test_fractions_to_nine_places_are_exact() -> None:
    into = leg()
    third = "0.333333333"
    for number in range(1, 4):
        cum = D(third) * number
        trade(
            into,
            report(S.PARTIALLY_FILLED, cum, version=number),
            execution(f"e-{number}", third, "178.42", cum=str(cum)),
        )
    assert into.filled == D("0.999999999")
    assert into.executed_value == D("0.999999999") * D("178.42")
    assert into.residual == 0


def test_one_name_with_two_terms_keeps_the_first_and_is_looked_into() -> None:
    into = two_matches()
    joined = trade(into, report(S.FILLED, 100, version=2), execution("e-2", 60, "11.50", cum=100))
    assert joined.surprises == ["execution_conflict"]
    assert into.executed_value == 1060
    joined = join_executions(
        into, [execution("e-2", 60, "11.50", cum=100)], source=Source.RECONCILE, at=START, missed=False
    )
    assert joined.restated
    assert joined.value == D("30.00")
    assert into.executions[ExecutionId("e-2")].corrected
    again = trade(into, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100))
    assert again.surprises == []
    assert (into.executed, into.executed_value) == (100, D("1090.00"))


def test_a_total_without_an_average_keeps_the_price_that_was_inferred() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), execution("e-1", 40, "10", cum=40))
    join(into, report(S.PARTIALLY_FILLED, 80, version=2, average="10.5"))
    assert into.residual_price == 11
    join(into, report(S.PARTIALLY_FILLED, 90, version=3, average=None))
    assert (into.residual, into.residual_price) == (50, 11)


def test_one_stretch_at_two_prices_is_not_one_execution() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, "10", cum=40))
    joined = trade(into, report(S.PARTIALLY_FILLED, 40, version=1), execution("r-1", 40, "10.01", cum=40))
    assert joined.surprises == ["execution_beyond_total"]
    assert into.aliases == {}
    assert (into.filled, into.executed) == (40, 40)


def test_shares_that_nobody_explained_are_taken_back_as_they_were_given() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 60, version=1, average="10"))
    joined = join(into, report(S.PARTIALLY_FILLED, 40, version=2, average="10"), source=Source.RECONCILE)
    assert [(fill.kind, fill.quantity, fill.inferred) for fill in joined.fills] == [("bust", -20, True)]
    assert (joined.delta, joined.value, joined.restated) == (-20, -200, True)


def test_a_leg_learns_its_names_and_times_once() -> None:
    into = Leg(OrderId("x-1"), None, BrokerOrderId("b-1"), AAPL, Side.BUY)
    join(into, replace(report(client_id=None, version=1), submitted_at=at(1)))
    assert (into.client_order_id, into.submitted_at) == (None, at(1))
    join(into, replace(report(client_id="theirs", version=2), submitted_at=at(1.5)))
    assert (into.client_order_id, into.submitted_at) == ("theirs", at(1))


@pytest.mark.parametrize("told_by", [Source.STREAM, Source.RECONCILE])
def test_a_correction_and_a_bust_of_one_instant_end_at_the_smaller_total(told_by: Source) -> None:
    into = leg()
    join(into, report(S.FILLED, 18, version=1), execution("e-1", 18, 10, cum=18), exec_type=ExecType.TRADE)
    corrected = execution("e-2", 18, 11, cum=18)
    join(
        into, report(S.FILLED, 18, version=2), corrected, exec_type=ExecType.TRADE_CORRECT, refers_to=ExecutionId("e-1")
    )
    if told_by is Source.STREAM:
        bust = {"exec_type": ExecType.TRADE_CANCEL, "refers_to": ExecutionId("e-2")}
        joined = join(into, report(S.FILLED, 0, version=2), corrected, **bust)
    else:
        joined = join(into, report(S.FILLED, 0, version=2), source=told_by)
    assert into.filled == 0
    assert "filled_quantity_fell" in joined.surprises, "two totals in one instant: a look must say which is right"


# --- what was planted and not noticed -----------------------------------------------------------------------------


def test_a_leg_heard_of_last_and_handed_over_does_not_speak_for_its_order() -> None:
    older, younger = leg(), leg()
    join(younger, report(S.REJECTED, version=2, broker_id="b-2", replaces="b-1"))
    join(older, report(S.REPLACED, version=1, replaced_by="b-2"))
    assert order(younger, older).leg is younger


def test_a_message_without_a_version_is_of_the_version_that_is_known() -> None:
    one = leg()
    join(one, report(S.NEW, version=1))
    join(one, report(S.PARTIALLY_FILLED, 10, version=None))
    assert (one.status, one.filled, one.version) == (S.PARTIALLY_FILLED, 10, at(1))
    join(one, report(S.NEW, 10, version=None))
    assert one.status is S.PARTIALLY_FILLED


def test_a_leg_believed_gone_takes_the_terms_of_any_report() -> None:
    one = leg()
    join(one, report(S.NEW, version=1, limit="10"))
    one.status, one.presumed = S.REJECTED, True
    joined = join(one, report(S.NEW, version=1, limit="11", quantity=80))
    assert (one.status, one.presumed, one.limit_price, one.quantity) == (S.NEW, False, 11, 80)
    assert joined.terms_changed
    join(one, report(S.NEW, version=0.5, limit="9"))
    assert one.limit_price == 11


def test_the_brokers_newest_word_stays_beside_an_unchanged_status() -> None:
    one = leg()
    join(one, report(S.NEW, version=1))
    join(one, replace(report(S.NEW, version=2), raw_status="held"))
    assert one.raw_status == "held"
    join(one, replace(report(S.NEW, version=1.5), raw_status="accepted"))
    assert one.raw_status == "held"


@pytest.mark.parametrize("name", ["e-1", "e-1b"])
def test_a_correction_is_no_duplicate_of_what_it_corrects(name: str) -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40))
    corrected = join(
        one,
        report(S.PARTIALLY_FILLED, 30, version=2),
        execution(name, 30),
        exec_type=ExecType.TRADE_CORRECT,
        refers_to="e-1",
    )
    assert not corrected.duplicate
    assert (one.executed, one.residual, len(one.executions)) == (30, 0, 1)


@pytest.mark.parametrize(("version", "believed"), [(2, 60), (1, 100), (3, 60)])
def test_a_fall_that_the_stream_told_is_believed_when_the_books_repeat_it(version: float, believed: int) -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 100, version=1))
    assert join(one, report(S.PARTIALLY_FILLED, 60, version=2)).surprises == ["filled_quantity_fell"]
    assert one.filled == 100
    join(one, report(S.PARTIALLY_FILLED, 60, version=version), source=Source.RECONCILE)
    assert one.filled == believed


@pytest.mark.parametrize(
    ("proven_by", "version", "believed", "waits"),
    [
        (Source.RECONCILE, 1, 0, True),  # the fill of an execution that was taken back before it was heard of
        (Source.RECONCILE, 3, 5, False),  # filled since
        (Source.STREAM, 1, 5, False),  # a cancel may overtake the fill before it, so one event proves no total
    ],
)
def test_a_fill_told_late_does_not_count_above_what_was_proven_later(
    proven_by: Source, version: float, believed: int, waits: bool
) -> None:
    one = leg()
    join(one, report(S.FILLED, 0, version=2), source=proven_by)
    filled = execution("e-1", 5, cum=5)
    told = join(one, report(S.FILLED, 5, version=version), filled, exec_type=ExecType.TRADE)
    assert (one.filled, list(one.unplaced), one.version) == (believed, ["e-1"] * waits, at(max(version, 2)))
    assert told.surprises == (["filled_quantity_fell", "execution_beyond_total"] if waits else [])
    again = join(one, report(S.FILLED, 5, version=version), filled, exec_type=ExecType.TRADE)
    assert (one.filled, again.surprises) == (believed, []), "one surprise is enough"


def bust(into: Leg, filled: int, version: float | None, name: str = "e-1") -> Join:
    return join(
        into,
        report(S.PARTIALLY_FILLED, filled, version=version),
        exec_type=ExecType.TRADE_CANCEL,
        refers_to=name,
    )


def filled_twice() -> Leg:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40, when=1))
    join(one, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100, when=2))
    return one


def test_a_late_bust_does_not_open_the_door_to_totals_from_before_the_newer_one() -> None:
    one = filled_twice()
    bust(one, 40, 5, "e-2")
    bust(one, 0, 3, "e-1")
    assert one.floor == at(5)
    join(one, report(S.PARTIALLY_FILLED, 90, version=4))
    assert one.filled == 40


def test_a_fill_in_the_instant_of_a_bust_counts() -> None:
    one = filled_twice()
    bust(one, 60, 5)
    join(one, report(S.PARTIALLY_FILLED, 80, version=5))
    assert one.filled == 80


def test_a_bust_without_a_version_is_believed_as_it_is_told() -> None:
    one = filled_twice()
    bust(one, 60, None)
    assert (one.filled, one.executed) == (60, 60)
    never = leg()
    join(never, report(S.PARTIALLY_FILLED, 40, version=None), execution("e-1", 40, cum=40))
    bust(never, 0, None)
    assert (never.filled, never.executed) == (0, 0)


def test_a_fall_below_an_older_bust_follows_what_the_broker_has_said_since() -> None:
    one = filled_twice()
    join(one, report(S.PARTIALLY_FILLED, 70, version=6))
    bust(one, 60, 5)
    assert one.filled == 70, "the newer total has the bust in it"


# --- executions, to the last fact ---------------------------------------------------------------------------------


def test_an_execution_is_missed_only_where_that_is_said() -> None:
    for missed in (False, True):
        one = leg()
        join_report(one, report(S.FILLED, 40), execution("e-1", 40), Source.POLL, START, missed=missed)
        assert one.executions[ExecutionId("e-1")].missed is missed
    assert join(leg(), report(S.FILLED, 40), execution("e-1", 40)).fills[0].held is not None
    one = leg()
    join(one, report(S.FILLED, 40), execution("e-1", 40))
    assert one.executions[ExecutionId("e-1")].missed is False


def test_a_repeat_is_a_duplicate_and_no_surprise_under_either_of_its_names() -> None:
    one = filled_twice()
    for name in ("e-2", "list-2", "list-2"):
        again = join(one, report(S.FILLED, 100, version=2), execution(name, 60, "11", cum=100, when=2))
        assert (again.duplicate, again.surprises, again.fills) == (True, [], [])
    assert one.aliases == {"list-2": "e-2"}
    other = join(one, report(S.FILLED, 100, version=2), execution("e-2", 59, "11", cum=100, when=2))
    assert (other.duplicate, other.surprises) == (True, ["execution_conflict"])


def test_a_correction_may_overtake_its_execution() -> None:
    one = leg()
    better = execution("e-1b", 30, "9.50")
    join(
        one,
        report(S.PARTIALLY_FILLED, 30, version=2),
        better,
        exec_type=ExecType.TRADE_CORRECT,
        refers_to="e-1",
    )
    join(one, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, "10", cum=40))
    held = one.executions[ExecutionId("e-1")]
    assert (held.execution, held.corrected, held.busted) == (better, True, False)
    assert (one.filled, one.executed, one.executed_value) == (30, 30, 285)


def test_what_exceeds_the_total_waits_under_its_name_and_is_told_once() -> None:
    one = leg()
    extra = execution("e-2", 60, "11", when=2)
    first = join(one, report(S.PARTIALLY_FILLED, 40, version=1), extra)
    assert (first.surprises, first.duplicate) == (["execution_beyond_total"], False)
    again = join(one, report(S.PARTIALLY_FILLED, 40, version=1), extra)
    assert (again.surprises, again.duplicate) == ([], True)
    join(one, report(S.FILLED, 100, version=2))
    assert (list(one.executions), one.unplaced, one.executed) == (["e-2"], {}, 60)


@pytest.mark.parametrize(
    ("matched", "learned", "source"),
    [(9, 10, Source.RECONCILE), (10, 10, Source.RECONCILE), (11, 20, Source.STREAM)],
)
def test_shares_were_learned_when_their_total_was_unless_they_are_younger(
    matched: float, learned: float, source: Source
) -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=8), source=Source.RECONCILE, when=at(10))
    match = execution("e-1", 40, cum=40, when=matched)
    join(one, report(S.PARTIALLY_FILLED, 40, version=8), match, when=at(20))
    held = one.executions[ExecutionId("e-1")]
    assert (held.learned_at, held.source) == (at(learned), source)


def test_once_every_share_has_its_execution_the_next_is_learned_for_itself() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=8), source=Source.RECONCILE, when=at(10))
    join(one, report(S.PARTIALLY_FILLED, 40, version=8), execution("e-1", 15, cum=15, when=7), when=at(20))
    assert one.residual_learned_at == at(10), "25 shares wait still"
    join(one, report(S.PARTIALLY_FILLED, 40, version=8), execution("e-2", 25, cum=40, when=8), when=at(21))
    assert one.residual_learned_at is None
    join(one, report(S.PARTIALLY_FILLED, 60, version=9), execution("e-3", 20, cum=60, when=9), when=at(22))
    learned = {name: (held.learned_at, held.source) for name, held in one.executions.items()}
    assert learned == {
        "e-1": (at(10), Source.RECONCILE),
        "e-2": (at(10), Source.RECONCILE),
        "e-3": (at(22), Source.STREAM),
    }


def test_executions_of_a_list_keep_its_way_its_time_and_whether_they_were_missed() -> None:
    one = leg()
    join(one, report(S.NEW, version=1))
    late = execution("e-2", 60, "11", cum=100, when=2)
    joined = join_executions(one, [late], source=Source.RECONCILE, at=at(9), missed=True)
    held = one.executions[ExecutionId("e-2")]
    assert (held.source, held.learned_at, held.missed) == (Source.RECONCILE, at(9), True)
    assert (one.filled, one.residual, joined.delta) == (100, 40, 100)
    assert (one.residual_source, one.residual_learned_at, one.residual_missed) == (Source.RECONCILE, at(9), True)


def test_of_two_executions_in_one_list_one_may_be_known_and_the_other_new() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 20, version=1, average="10"))
    both = [execution("e-2", 40, "11", cum=60, when=2), execution("e-1", 20, "10", cum=20, when=1)]
    joined = join_executions(one, both, source=Source.RECONCILE, at=at(9), missed=False)
    assert (joined.delta, joined.restated, joined.value) == (40, True, 440)
    assert (one.filled, one.executed, one.residual) == (60, 60, 0)


# --- residuals, to the last fraction ------------------------------------------------------------------------------


def test_a_total_that_fell_to_nothing_without_a_word_is_told_as_a_bust() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), when=at(1))
    fallen = join(one, report(S.NEW, 0, version=2), source=Source.RECONCILE, when=at(3))
    assert (fallen.delta, fallen.value, fallen.restated) == (-40, -400, True)
    (fill,) = fallen.fills
    assert (fill.quantity, fill.price, fill.kind, fill.inferred, fill.held) == (-40, 10, "bust", True, None)


def test_a_total_that_came_back_to_its_executions_is_restated_and_no_new_fill() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, cum=40))
    fallen = join(one, report(S.PARTIALLY_FILLED, 25, version=2), source=Source.RECONCILE)
    assert (one.residual, fallen.restated) == (-15, True)
    back = join(one, report(S.PARTIALLY_FILLED, 40, version=3))
    assert (one.residual, back.delta, back.fills, back.restated) == (0, 15, [], True)


def test_half_a_share_is_half_a_share() -> None:
    one = leg()
    grown = join(one, replace(report(S.PARTIALLY_FILLED, version=1, average="10"), filled_quantity=Decimal("0.5")))
    assert [(fill.quantity, fill.inferred) for fill in grown.fills] == [(Decimal("0.5"), True)]
    named = join(
        one,
        replace(report(S.PARTIALLY_FILLED, version=1), filled_quantity=Decimal("0.5")),
        execution("e-1", "0.5", "10", cum="0.5"),
    )
    assert [(fill.quantity, fill.replaces_inferred) for fill in named.fills] == [(Decimal("0.5"), True)]
    assert (one.residual, named.delta, named.restated) == (0, 0, True)


def test_only_shares_known_before_restate_what_was_booked() -> None:
    one = leg()
    grown = join(one, report(S.PARTIALLY_FILLED, 40, version=1, average="10"))
    assert (grown.restated, grown.delta, len(grown.fills)) == (False, 40, 1)
    repeated = join(one, report(S.PARTIALLY_FILLED, 40, version=1, average="10"))
    assert (repeated.changed, repeated.fills, repeated.value) == (False, [], 0)
    more = join(one, report(S.FILLED, 100, version=2), execution("e-2", 60, "11", cum=100, when=2))
    assert (more.restated, [fill.replaces_inferred for fill in more.fills]) == (False, [False])
    priced = join(one, report(S.FILLED, 100, version=3, average="10.64"))
    assert (priced.restated, priced.delta, priced.value, priced.fills) == (True, 0, 4, [])


def test_without_any_average_a_residual_costs_what_the_executions_did() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 40, version=1), execution("e-1", 40, "12.50", cum=40))
    joined = join(one, report(S.PARTIALLY_FILLED, 60, version=2))
    assert (one.residual, one.residual_price, joined.value) == (20, Decimal("12.50"), 250)


def test_a_fall_without_a_word_is_dated_by_the_broker_else_by_us() -> None:
    for version, dated in ((4, 4), (None, 9)):
        one = leg()
        join(one, report(S.PARTIALLY_FILLED, 40, version=None), execution("e-1", 40, cum=40))
        one.version = at(version) if version is not None else None
        one.filled = Decimal(25)
        join(one, report(S.PARTIALLY_FILLED, 25, version=version), source=Source.RECONCILE, when=at(9))
        assert (one.residual, one.residual_at) == (-15, at(dated))


# --- what a list tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("original_comes", ["first", "last", "never"])
def test_a_correction_that_a_list_told_first_is_counted_once(original_comes: str) -> None:
    into = leg()
    original = execution("e-1", 18, "10", cum=18)
    corrected = replace(original, execution_id=ExecutionId("e-2"), price=D(11))
    if original_comes == "first":
        trade(into, report(S.FILLED, 18, version=1), original)
    join_executions(into, [corrected], source=Source.RECONCILE, at=START, missed=False)
    told = replace(corrected, cum_quantity=None)
    for _ in range(2):  # once is enough, and twice is no more
        join(into, report(S.FILLED, 18, version=2), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-1")
    if original_comes == "last":
        trade(into, report(S.FILLED, 18, version=1), original)
    held = [item.execution for item in into.executions.values() if not item.busted]
    assert (into.filled, into.executed, into.executed_value) == (18, 18, 198)
    assert [(item.quantity, item.price) for item in held] == [(18, 11)]
    assert not into.unplaced
    join(into, report(S.FILLED, 0, version=3), told, exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    assert (into.filled, into.executed, into.residual) == (0, 0, 0)


@pytest.mark.parametrize("is_bust", [True, False])
def test_what_was_annulled_before_it_could_be_counted_is_not_counted_later(is_bust: bool) -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 24, version=1), execution("e-1", 24, "10", cum=24))
    second = execution("e-2", 18, "9.50", cum=18)
    trade(into, report(S.PARTIALLY_FILLED, 18, version=3), second)  # the bust of e-1 at version 2 was lost
    assert list(into.unplaced) == ["e-2"]
    if is_bust:
        join(into, report(S.PARTIALLY_FILLED, 0, version=4), second, exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    else:
        told = replace(second, price=D(11))
        join(into, report(S.PARTIALLY_FILLED, 18, version=4), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-2")
    listed(into, *([] if is_bust else [replace(second, price=D(11))]))
    assert into.executed_value == (0 if is_bust else 198)
    assert not into.unplaced


def test_two_names_in_one_list_are_two_executions() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 15, version=1), execution("e-1", 15, "10", cum=15))
    trade(into, report(S.FILLED, 30, version=2), execution("e-2", 15, "11", cum=30))
    corrected = execution("e-3", 15, "11", cum=30)  # e-1 under new terms, which happen to be those of e-2
    listed(into, execution("e-2", 15, "11", cum=30), corrected)
    assert set(standing(into)) == {"e-2", "e-3"}
    assert into.executed_value == 330


def test_a_corrected_execution_whose_original_was_lost_is_taken_from_the_list() -> None:
    into = leg()
    told = execution("e-2", 18, "11")
    join(into, report(S.FILLED, 18, version=2), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-1")
    assert (into.executed, into.residual) == (0, 18)
    by_list = replace(told, cum_quantity=D(18))
    join_executions(into, [by_list], source=Source.RECONCILE, at=START, missed=False)
    assert (into.executed, into.executed_value, into.residual) == (18, 198, 0)
    trade(into, report(S.FILLED, 18, version=1), execution("e-1", 18, "10", cum=18))
    join_executions(into, [by_list], source=Source.RECONCILE, at=START, missed=False)
    assert (into.executed, into.executed_value) == (18, 198)


def test_of_two_corrections_the_later_is_believed_when_the_first_was_lost() -> None:
    into = leg()
    trade(into, report(S.FILLED, 40, version=1), execution("e-1", 40, "10", cum=40))
    twice = execution("e-3", 40, "12")
    join(into, report(S.FILLED, 40, version=3), twice, exec_type=ExecType.TRADE_CORRECT, refers_to="e-2")
    assert into.executed_value == 400, "of e-2 nothing is known yet"
    listed(into, twice)
    assert (into.executed, into.executed_value, into.residual) == (40, 480, 0)
    assert not into.unplaced


def listed(into: Leg, *executions: Execution) -> Join:
    """A full look's list of this leg; it must make up its total."""
    assert sum(item.quantity for item in executions) == into.filled
    assert differs(into, list(executions))
    joined = take_list(into, list(executions), source=Source.RECONCILE, at=at(9), missed=False)
    assert not differs(into, list(executions)), "once taken there is nothing left to take"
    assert (into.residual, joined.delta) == (0, 0)
    return joined


def standing(into: Leg) -> dict[str, Execution]:
    return {str(name): held.execution for name, held in into.executions.items() if not held.busted}


def test_a_bust_of_another_match_on_the_same_terms_is_taken_back() -> None:
    into = leg()
    second = execution("e-2", 2, "10", cum=2, when=3)
    join_executions(into, [second], source=Source.RECONCILE, at=at(4), missed=False)
    first = execution("e-1", 2, "10", cum=2, when=1)
    trade(into, report(S.PARTIALLY_FILLED, 2, version=1), first)  # told late, and taken for the second
    join(into, report(S.NEW, 0, version=2), first, exec_type=ExecType.TRADE_CANCEL, refers_to="e-1")
    last = execution("e-3", 8, "11", cum=10, when=5)
    trade(into, report(S.FILLED, 10, version=5), last)
    assert (standing(into), into.residual) == ({"e-3": last}, 2)
    listed(into, second, last)
    assert standing(into) == {"e-2": second, "e-3": last}
    assert not into.annulled
    assert not trade(into, report(S.FILLED, 10, version=5), second).fills


def test_what_is_not_listed_was_busted_and_what_waited_is_counted() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    join(into, report(S.PARTIALLY_FILLED, 5, version=2), execution("e-2", 3, "10", cum=None, when=2), when=at(3))
    join(into, report(S.PARTIALLY_FILLED, 5, version=2), execution("e-3", 4, "10", cum=None, when=2), when=at(3))
    assert list(into.unplaced) == ["e-2", "e-3"]
    told = [execution("e-2", 3, "10", cum=3, when=2), execution("e-4", 2, "11", cum=5, when=4)]
    joined = listed(into, *told)
    assert [(fill.quantity, fill.price, fill.kind) for fill in joined.fills] == [
        (-5, 9, "bust"),
        (3, 10, "fill"),
        (2, 11, "fill"),
    ]
    assert standing(into) == {"e-2": told[0], "e-4": told[1]}
    assert (into.executed_value, dict(into.unplaced)) == (52, {})
    found = into.executions[ExecutionId("e-4")]
    assert (found.source, found.missed) == (Source.RECONCILE, False)
    assert (into.executions[ExecutionId("e-2")].learned_at, into.executions[ExecutionId("e-4")].learned_at) == (
        at(3),
        at(9),
    )
    for name, quantity, price in (("e-1", 5, "9"), ("e-3", 4, "10")):
        again = trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution(name, quantity, price, cum=5))
        assert (again.fills, again.duplicate, dict(into.unplaced)) == ([], True, {})


def test_a_listed_execution_has_the_terms_that_the_list_gives_it() -> None:
    into = leg()
    trade(into, report(S.FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    told = execution("e-1", 5, "9.50", cum=5)
    joined = listed(into, told)
    assert [(fill.price, fill.kind) for fill in joined.fills] == [(D("9.50"), "correction")]
    assert (standing(into), into.executed_value) == ({"e-1": told}, D("47.50"))


def test_a_match_that_was_taken_for_an_earlier_one_gets_its_own_place() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    trade(into, report(S.PARTIALLY_FILLED, 5, version=3), execution("e-2", 5, "9", cum=5))
    bust(into, 0, 2)
    assert (into.aliases, into.residual) == ({"e-2": "e-1"}, 5)
    listed(into, execution("e-2", 5, "9", cum=5))
    assert (list(standing(into)), into.aliases) == (["e-2"], {})


def twins() -> Leg:
    into = leg()
    for name, total in (("e-1", 5), ("e-2", 10), ("e-3", 15)):
        trade(into, report(S.PARTIALLY_FILLED, total, version=total), execution(name, 5, "9", cum=total))
    return into


def test_of_matches_on_the_same_terms_a_listed_one_is_that_of_its_name_then_that_of_its_total() -> None:
    into = twins()
    into.aliases[ExecutionId("list-1")] = ExecutionId("e-2")
    join(into, report(S.PARTIALLY_FILLED, 10, version=20), source=Source.RECONCILE)
    listed(into, execution("list-1", 5, "9", cum=5), execution("list-2", 5, "9", cum=15))
    assert (list(standing(into)), into.aliases) == (["e-2", "e-3"], {"list-1": "e-2", "list-2": "e-3"})


def test_a_name_that_stood_for_other_terms_is_not_followed() -> None:
    into = twins()
    into.aliases[ExecutionId("list-1")] = ExecutionId("e-2")
    join(into, report(S.PARTIALLY_FILLED, 9, version=20), source=Source.RECONCILE)
    listed(into, execution("list-1", 4, "9", cum=4), execution("e-3", 5, "9", cum=15))
    assert list(standing(into)) == ["e-3", "list-1"]


def test_a_stale_row_proves_nothing() -> None:
    one = leg()
    join(one, report(S.PARTIALLY_FILLED, 5, version=5), source=Source.RECONCILE)
    join(one, report(S.PARTIALLY_FILLED, 3, version=3), source=Source.RECONCILE)
    assert (one.filled, one.proved) == (5, at(5))


def test_what_waits_is_a_difference() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    into.unplaced[ExecutionId("e-2")] = into.executions[ExecutionId("e-1")]
    assert differs(into, [execution("e-1", 5, "9")])


@pytest.mark.parametrize("named", ["before", "now"])
def test_one_match_under_two_names_stays_one(named: str) -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    trade(into, report(S.PARTIALLY_FILLED, 10, version=2), execution("e-2", 5, "9", cum=10))
    one, two = execution("list-1", 5, "9", cum=5), execution("list-2", 5, "9", cum=10)
    if named == "before":
        join_executions(into, [one, two], source=Source.RECONCILE, at=at(8), missed=False)
    trade(into, report(S.FILLED, 12, version=3), execution("e-3", 2, "9", cum=12))
    into.executions[ExecutionId("e-3")].busted = True  # anything that makes the list worth a look
    into.executed, into.executed_value = D(10), D(90)
    joined = listed(into, one, two, execution("e-4", 2, "9", cum=12))
    assert list(standing(into)) == ["e-1", "e-2", "e-4"]
    assert {name: real for name, real in into.aliases.items() if real != name} == {"list-1": "e-1", "list-2": "e-2"}
    assert [fill.quantity for fill in joined.fills] == [2]


@pytest.mark.parametrize(
    ("held", "told", "expected"),
    [
        ([("e-1", 5, "9")], [("e-1", 5, "9")], False),
        ([("e-1", 5, "9")], [("e-1", 5, "9.50")], True),
        ([("e-1", 5, "9")], [("e-2", 5, "9")], True),
        ([("e-1", 5, "9"), ("e-2", 5, "9")], [("e-1", 5, "9"), ("e-2", 5, "9")], False),
        ([], [], False),
    ],
)
def test_a_list_differs_by_name_or_terms(
    held: list[tuple[str, int, str]], told: list[tuple[str, int, str]], expected: bool
) -> None:
    into, total = leg(), 0
    for name, quantity, price in held:
        total += quantity
        trade(into, report(S.PARTIALLY_FILLED, total, version=total), execution(name, quantity, price, cum=total))
    assert differs(into, [execution(name, quantity, price) for name, quantity, price in told]) is expected


def test_two_names_for_one_that_we_hold_are_a_difference() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    into.aliases[ExecutionId("e-2")] = ExecutionId("e-1")
    assert not differs(into, [execution("e-2", 5, "9")])
    assert differs(into, [execution("e-1", 5, "9"), execution("e-2", 5, "9")])


def test_shares_that_an_inferred_bust_took_are_booked_again() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 8, version=1), execution("e-2", 5, "10", cum=8))
    trade(into, report(S.PARTIALLY_FILLED, 5, version=0.5), execution("e-1", 5, "9", cum=5))
    told = execution("e-1b", 3, "9", cum=None)
    join(into, report(S.PARTIALLY_FILLED, 3, version=1), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-1")
    assert (into.filled, into.residual) == (3, -2)
    joined = join(into, report(S.PARTIALLY_FILLED, 8, version=2))
    assert (joined.delta, into.residual) == (5, 0)
    placed, back = joined.fills
    assert (placed.quantity, placed.price, placed.inferred) == (3, 9, False)
    assert (back.quantity, back.price, back.at, back.held, back.inferred) == (2, 10, at(1), None, True)
    assert joined.restated


def test_an_execution_that_waited_is_counted_once_when_it_is_told_again() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 24, version=1), execution("e-1", 24, cum=24))
    join(into, report(S.PARTIALLY_FILLED, 24, version=2), execution("e-2", 28, cum=None, when=3))
    assert list(into.unplaced) == ["e-2"]
    trade(into, report(S.PARTIALLY_FILLED, 52, version=3), execution("e-2", 28, cum=52, when=3))
    assert (into.executed, into.residual, dict(into.unplaced)) == (52, 0, {})
    join(into, report(S.PARTIALLY_FILLED, 80, version=4))
    assert (into.executed, into.residual) == (52, 28)


@pytest.mark.parametrize(("traded", "total"), [(2, 28), (4, 52)])
def test_a_listed_execution_adds_nothing_to_a_total_proven_after_it(traded: int, total: int) -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 24, version=1), execution("e-1", 24, "10", cum=24, when=1))
    join(into, report(S.FILLED, 28, version=3), source=Source.RECONCILE)  # e-1 was busted meanwhile
    second = execution("e-2", 28, "11", cum=52, when=traded)
    join_executions(into, [second], source=Source.RECONCILE, at=at(9), missed=False)
    assert into.filled == total
    if total == 28:
        assert list(into.unplaced) == ["e-2"]
        listed(into, second)
    assert (list(standing(into)), into.residual) == ((["e-2"], 0) if total == 28 else (["e-1", "e-2"], 0))


# --- the edges of what is proven ----------------------------------------------------------------------------------


def test_a_fill_in_the_instant_of_the_proof_counts() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 40, version=3), source=Source.RECONCILE)
    assert join(into, report(S.PARTIALLY_FILLED, 50, version=3)).delta == 10


@pytest.mark.parametrize(("when", "counts"), [(3, False), (3.5, True)])
def test_an_execution_of_the_very_instant_of_the_proof_is_in_what_was_proven(when: float, counts: bool) -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 40, version=3), source=Source.RECONCILE)
    join_executions(into, [execution("e-9", 50, cum=50, when=when)], source=Source.POLL, at=at(9), missed=False)
    assert into.filled == (50 if counts else 40)


def test_an_older_and_larger_total_surprises_once_unless_somebody_has_said_that_it_fell() -> None:
    into = leg()
    join(into, report(S.PARTIALLY_FILLED, 60, version=1))
    join(into, report(S.PARTIALLY_FILLED, 40, version=5), source=Source.RECONCILE)  # it says so
    assert join(into, report(S.PARTIALLY_FILLED, 60, version=2)).surprises == []
    other = leg()
    join(other, report(S.PARTIALLY_FILLED, 40, version=5), source=Source.RECONCILE)
    for surprises in (["filled_quantity_fell"], []):
        told = join(other, report(S.PARTIALLY_FILLED, 60, version=2))
        assert (told.delta, told.surprises) == (0, surprises)


@pytest.mark.parametrize(("version", "surprises"), [(2, ["filled_quantity_fell"]), (1, [])])
def test_a_total_of_before_a_known_bust_is_explained_by_it(version: float, surprises: list[str]) -> None:
    into = two_matches()
    join(into, report(S.PARTIALLY_FILLED, 40, version=2), exec_type=ExecType.TRADE_CANCEL, refers_to="e-2")
    join(into, report(S.PARTIALLY_FILLED, 40, version=5), source=Source.RECONCILE)
    told = join(into, report(S.PARTIALLY_FILLED, 100, version=version))
    assert (told.delta, told.surprises) == (0, surprises)


def test_a_bust_told_under_two_names_is_a_repeat() -> None:
    into = two_matches()
    told = execution("e-2b", 50, "12", cum=90)
    join(into, report(S.PARTIALLY_FILLED, 90, version=3), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-2")
    for name in ("e-2", "e-2b"):
        again = join(
            into, report(S.PARTIALLY_FILLED, 90, version=3), told, exec_type=ExecType.TRADE_CORRECT, refers_to=name
        )
        assert (again.duplicate, again.fills, again.restated) == (True, [], False)
    assert (into.executed, into.executed_value) == (90, 40 * 10 + 50 * 12)


def test_what_waits_is_forgotten_once_its_correction_is_held() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 24, version=1), execution("e-1", 24, "10", cum=24))
    trade(into, report(S.PARTIALLY_FILLED, 18, version=3), execution("e-2", 18, "9", cum=18))
    assert list(into.unplaced) == ["e-2"]
    by_list = execution("e-2b", 18, "11", cum=18)
    into.executions[by_list.execution_id] = Held(by_list, Source.RECONCILE, at(4))
    join(into, report(S.PARTIALLY_FILLED, 18, version=4), by_list, exec_type=ExecType.TRADE_CORRECT, refers_to="e-2")
    assert (dict(into.unplaced), into.executions[ExecutionId("e-2")].busted) == ({}, True)


def test_what_waited_under_corrected_terms_is_marked_as_corrected() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 24, version=1), execution("e-1", 24, "10", cum=24))
    second = execution("e-2", 18, "9", cum=18)
    trade(into, report(S.PARTIALLY_FILLED, 18, version=3), second)
    told = replace(second, price=D(11))
    join(into, report(S.PARTIALLY_FILLED, 18, version=4), told, exec_type=ExecType.TRADE_CORRECT, refers_to="e-2")
    join(into, report(S.PARTIALLY_FILLED, 42, version=5))
    held = into.executions[ExecutionId("e-2")]
    assert (held.execution.price, held.corrected) == (11, True)
    assert not contradicts(into, second), "its first terms are explained"


def test_a_listed_execution_in_a_gap_was_missed() -> None:
    into = leg()
    trade(into, report(S.PARTIALLY_FILLED, 5, version=1), execution("e-1", 5, "9", cum=5))
    take_list(into, [execution("e-2", 5, "11", cum=5)], source=Source.RECONCILE, at=at(9), missed=True)
    assert into.executions[ExecutionId("e-2")].missed
