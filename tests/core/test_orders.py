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
    Join,
    Leg,
    annul_unlisted,
    join_executions,
    join_report,
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
    joined = annul_unlisted(into, frozenset([ExecutionId("e-1")]), source=Source.RECONCILE, at=START)
    assert joined.changed
    assert (into.executed, into.residual) == (40, 0)
    assert into.executions[ExecutionId("e-2")].busted


def test_a_list_that_does_not_make_up_the_fall_busts_nothing() -> None:
    into = two_matches()
    join(into, report(S.CANCELED, 40, version=3), source=Source.RECONCILE)
    joined = annul_unlisted(into, frozenset(), source=Source.RECONCILE, at=START)
    assert not joined.changed
    assert into.residual == -60


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
