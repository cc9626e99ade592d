"""The risk engine by tables: what may leave, and for everything else the field and the reason."""

from __future__ import annotations

import pytest
from tests.core.build import AAPL, D, Desk, at, report, snapshot, streamed

from trueup.core.commands import CancelOrder, Kill, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import Allowed, Denied, SendOrder, TakeSnapshot
from trueup.core.model import (
    ClientOrderId,
    ExecType,
    OrderStatus,
    OrderType,
    RequestOutcome,
    Side,
    SnapshotScope,
    Symbol,
    TradingState,
)
from trueup.core.risk import exposure, judge_order, only_reduces
from trueup.core.views import Channel

S = OrderStatus
BUY, SELL = Side.BUY, Side.SELL


def wish(
    quantity: str | int = 10,
    side: Side = BUY,
    *,
    symbol: str = AAPL,
    order_type: OrderType = OrderType.MARKET,
    limit: str | None = None,
    stop: str | None = None,
) -> SubmitOrder:
    return SubmitOrder(
        at=at(5),
        symbol=Symbol(symbol),
        side=side,
        quantity=D(quantity),
        order_type=order_type,
        limit_price=D(limit) if limit is not None else None,
        stop_price=D(stop) if stop is not None else None,
    )


def judged(desk: Desk, command: SubmitOrder) -> Allowed | Denied:
    return judge_order(desk.belief, command, ClientOrderId("c-new"))


LIMIT, STOP, STOP_LIMIT = OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT


@pytest.mark.parametrize(
    ("command", "code", "field"),
    [
        (wish(symbol=""), "invalid_symbol", "symbol"),
        (wish(symbol="aapl"), "invalid_symbol", "symbol"),
        (wish(symbol=" AAPL"), "invalid_symbol", "symbol"),
        (wish(0), "invalid_quantity", "quantity"),
        (wish(-1), "invalid_quantity", "quantity"),
        (wish("NaN"), "invalid_quantity", "quantity"),
        (wish("Infinity"), "invalid_quantity", "quantity"),
        (wish(order_type=LIMIT), "missing_limit_price", "limit_price"),
        (wish(order_type=LIMIT, limit="0"), "invalid_limit_price", "limit_price"),
        (wish(order_type=LIMIT, limit="-1"), "invalid_limit_price", "limit_price"),
        (wish(order_type=LIMIT, limit="NaN"), "invalid_limit_price", "limit_price"),
        (wish(order_type=LIMIT, limit="10", stop="9"), "unexpected_stop_price", "stop_price"),
        (wish(limit="10"), "unexpected_limit_price", "limit_price"),
        (wish(order_type=STOP), "missing_stop_price", "stop_price"),
        (wish(order_type=STOP, stop="Infinity"), "invalid_stop_price", "stop_price"),
        (wish(order_type=STOP_LIMIT, limit="10"), "missing_stop_price", "stop_price"),
        (wish(order_type=STOP_LIMIT, stop="10"), "missing_limit_price", "limit_price"),
        (wish(order_type=OrderType.TRAILING_STOP), "unsupported_type", "type"),
        (wish(order_type=OrderType.OTHER), "unsupported_type", "type"),
    ],
)
def test_bad_terms_are_named(command: SubmitOrder, code: str, field: str) -> None:
    verdict = judged(Desk(), command)
    assert isinstance(verdict, Denied)
    assert (verdict.code, verdict.field) == (code, field)
    assert field in verdict.reason or field == "type"


@pytest.mark.parametrize(
    "command",
    [
        wish(),
        wish("0.000000001"),
        wish(symbol="BTC/USD"),
        wish(symbol="BRK.B"),
        wish(order_type=LIMIT, limit="0.0001"),
        wish(order_type=STOP, stop="10"),
        wish(order_type=STOP_LIMIT, limit="10", stop="9"),
    ],
)
def test_good_terms_pass_unchanged(command: SubmitOrder) -> None:
    verdict = judged(Desk(), command)
    assert isinstance(verdict, Allowed)
    order = verdict.order
    assert order.client_order_id == "c-new"
    assert (order.symbol, order.side, order.quantity) == (command.symbol, command.side, command.quantity)
    assert (order.order_type, order.limit_price, order.stop_price) == (
        command.order_type,
        command.limit_price,
        command.stop_price,
    )
    assert order.time_in_force is command.time_in_force


@pytest.mark.parametrize(
    ("held", "side", "quantity", "reduces"),
    [
        (0, BUY, 1, False),
        (0, SELL, 1, False),
        (10, SELL, 9, True),
        (10, SELL, 10, True),
        (10, SELL, 11, False),  # would go through zero
        (10, BUY, 1, False),
        (-10, BUY, 10, True),
        (-10, BUY, 11, False),
        (-10, SELL, 1, False),
    ],
)
def test_what_only_reduces(held: int, side: Side, quantity: int, reduces: bool) -> None:
    desk = Desk(holdings={"AAPL": held})
    assert only_reduces(desk.belief, AAPL, side, D(quantity)) == reduces


def test_every_working_order_of_the_same_side_takes_its_part_of_the_room() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(4, SELL)
    assert only_reduces(desk.belief, AAPL, SELL, D(6))
    assert not only_reduces(desk.belief, AAPL, SELL, D(7))
    desk.submit(50, BUY, client_id="c-2")  # the other side makes no room
    assert not only_reduces(desk.belief, AAPL, SELL, D(7))


def test_an_order_in_doubt_counts_as_if_it_were_live() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(4, SELL)
    desk.answer(RequestOutcome.UNKNOWN)
    assert exposure(desk.of()) == 4
    assert not only_reduces(desk.belief, AAPL, SELL, D(7))


def test_while_belief_and_broker_disagree_only_what_shrinks_both_reduces() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 6}))
    assert only_reduces(desk.belief, AAPL, SELL, D(6))
    assert not only_reduces(desk.belief, AAPL, SELL, D(7))
    desk.tell(snapshot(when=6, holdings={"AAPL": -2}))
    assert not only_reduces(desk.belief, AAPL, SELL, D(1))


def test_of_two_live_legs_the_larger_exposure_counts() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report()))
    desk.tell(ReplaceOrder(at=at(1), order_id=desk.of().order_id, quantity=D(150)))
    assert exposure(desk.of()) == 150
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1)))
    assert exposure(desk.of()) == 150


def test_beside_an_order_over_an_amount_of_money_nothing_surely_reduces() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(streamed(ExecType.NEW, report(quantity=None, client_id="theirs", side=SELL)))
    assert exposure(desk.of("theirs")) is None
    assert not only_reduces(desk.belief, AAPL, SELL, D(1))


@pytest.mark.parametrize("reduces", [False, True])
def test_a_kill_stops_what_reduces_too(reduces: bool) -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(Kill(at=at(1), reason="storm"))
    verdict = judged(desk, wish(5, SELL if reduces else BUY))
    assert isinstance(verdict, Denied)
    assert verdict.code == "killed"
    assert "storm" in verdict.reason


def test_in_a_gap_only_what_reduces_may_leave() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.lose(1, "connection reset")
    assert isinstance(judged(desk, wish(10, SELL)), Allowed)
    verdict = judged(desk, wish(1, BUY))
    assert isinstance(verdict, Denied)
    assert verdict.code == "entries_gated"
    assert "connection reset" in verdict.reason


def test_before_the_first_reconciliation_nothing_new_may_leave() -> None:
    desk = Desk(live=False)
    outcome = desk.submit()
    assert outcome.denied is not None
    assert outcome.denied.code == "entries_gated"
    assert outcome.effects == ()


def test_a_suspected_drift_gates_its_symbol_alone() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=5, holdings={"AAPL": 6}))
    verdict = judged(desk, wish(1))
    assert isinstance(verdict, Denied)
    assert (verdict.code, verdict.field) == ("symbol_in_doubt", "symbol")
    assert isinstance(judged(desk, wish(1, symbol="MSFT")), Allowed)
    assert isinstance(judged(desk, wish(1, SELL)), Allowed)


def test_an_unknown_outcome_gates_its_symbol_alone() -> None:
    desk = Desk()
    desk.submit()
    desk.answer(RequestOutcome.UNKNOWN)
    verdict = judged(desk, wish(1))
    assert isinstance(verdict, Denied)
    assert verdict.code == "symbol_in_doubt"
    assert desk.of().order_id in verdict.reason
    assert isinstance(judged(desk, wish(1, symbol="MSFT")), Allowed)


def test_a_client_order_id_is_used_once_for_ever_even_when_denied() -> None:
    desk = Desk()
    first = desk.submit(0)
    assert first.denied is not None
    again = desk.submit(10)
    assert again.denied is not None
    assert again.denied.code == "duplicate_client_order_id"
    assert again.order_id == first.order_id
    assert desk.wants(SendOrder) == []


def test_a_denied_order_is_told_and_never_sent() -> None:
    desk = Desk()
    outcome = desk.submit(-5)
    assert desk.of().status is S.DENIED
    assert desk.of().is_terminal
    assert outcome.effects == ()
    assert [channel for channel, _ in outcome.changes.views] == [Channel.RISK_ALERT]


def test_should_the_broker_know_a_denied_order_after_all_its_word_counts() -> None:
    desk = Desk()
    desk.submit(-5)
    desk.tell(streamed(ExecType.NEW, report(version=1)))
    assert desk.of().status is S.NEW
    assert desk.of().order_id in desk.belief.open_orders


@pytest.mark.parametrize("side", [BUY, SELL])
def test_while_halted_nothing_leaves_but_cancels(side: Side) -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(20)
    desk.tell(streamed(ExecType.NEW, report(version=1, quantity=20)))
    desk.tell(snapshot(report(version=1, quantity=20), when=2, holdings={"AAPL": 10}, blocked=True))
    verdict = judged(desk, wish(5, side))
    assert isinstance(verdict, Denied)
    assert verdict.code == "halted"
    assert "blocked" in verdict.reason
    shrink = desk.tell(ReplaceOrder(at=at(3), order_id=desk.of().order_id, quantity=D(5)))
    assert shrink.denied is not None
    assert desk.tell(CancelOrder(at=at(4), order_id=desk.of().order_id)).denied is None


def test_an_overfill_gates_its_symbol_until_a_snapshot_has_spoken() -> None:
    desk = Desk()
    desk.submit(10)
    row = report(S.FILLED, 12, version=1, quantity=10)
    outcome = desk.tell(streamed(ExecType.TRADE, row, when=1))
    assert TakeSnapshot(scope=SnapshotScope.FULL, reason="order o-4 was filled beyond its quantity") in outcome.effects
    verdict = judged(desk, wish(1))
    assert isinstance(verdict, Denied)
    assert verdict.code == "symbol_in_doubt"
    desk.tell(snapshot(row, when=2, holdings={"AAPL": 12}))
    assert isinstance(judged(desk, wish(1)), Allowed)
    assert desk.shares() == 12


def test_an_order_that_only_we_could_have_named_halts_until_a_person_resumes() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(client_id="tu-table-77", version=1), when=1))
    assert desk.belief.trading_state is TradingState.HALTED
    assert "tu-table-77" in desk.belief.gate.reasons()[0]
    desk.tell(Resume(at=at(2), reason="that was the old machine"))
    assert desk.belief.trading_state is TradingState.ACTIVE


def test_another_journals_names_are_those_of_any_external_order() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(client_id="tu-other-77", version=1), when=1))
    assert desk.belief.trading_state is TradingState.ACTIVE
    assert desk.of("tu-other-77").origin == "external"


# --- the words of a denial, and the size of an exposure -----------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (wish(symbol="aapl"), "symbol must be upper-case letters, such as AAPL"),
        (wish(0), "quantity must be greater than 0"),
        (wish(order_type=LIMIT), "a LIMIT order needs a limit_price"),
        (wish(order_type=STOP), "a STOP order needs a stop_price"),
        (wish(limit="10"), "a MARKET order takes no limit_price"),
        (wish(order_type=LIMIT, limit="10", stop="9"), "a LIMIT order takes no stop_price"),
        (wish(order_type=LIMIT, limit="0"), "limit_price must be greater than 0"),
        (wish(order_type=OrderType.OTHER), "type must be one of MARKET, LIMIT, STOP, STOP_LIMIT"),
    ],
)
def test_a_denial_says_what_would_be_right(command: SubmitOrder, reason: str) -> None:
    verdict = judged(Desk(), command)
    assert isinstance(verdict, Denied)
    assert verdict.reason == reason


def test_a_denial_by_the_state_of_the_account_names_every_reason() -> None:
    desk = Desk()
    desk.lose(1, "cut")
    why = "broker events are DOWN: cut"
    gated = f"only orders that reduce a position may leave now: {why}"
    assert judged(desk, wish()) == Denied(code="entries_gated", field="", reason=gated)
    desk.belief.gate.demand("disk", TradingState.HALTED, "the disk is full")
    halted = f"nothing but cancels leaves while halted: {why}; the disk is full"
    assert judged(desk, wish()) == Denied(code="halted", field="", reason=halted)
    desk.belief.gate.withdraw("disk")
    desk.belief.gate.demand("manual", TradingState.REDUCE_ONLY, "lunch")
    two = f"only orders that reduce a position may leave now: {why}; lunch"
    assert judged(desk, wish()) == Denied(code="entries_gated", field="", reason=two)
    desk.tell(Kill(at=at(2), reason="storm"))
    killed = f"nothing but cancels leaves while killed: kill switch: storm; {why}; lunch"
    assert judged(desk, wish()) == Denied(code="killed", field="", reason=killed)


def test_a_denial_by_the_doubt_about_a_symbol_says_which_doubt() -> None:
    desk = Desk()
    desk.submit(10)
    desk.answer(RequestOutcome.UNKNOWN, when=1)
    unknown = "order o-4 in AAPL has an unknown outcome; wait until it is resolved"
    assert judged(desk, wish()) == Denied(code="symbol_in_doubt", field="symbol", reason=unknown)
    desk.tell(snapshot(when=2, holdings={"AAPL": 7}))
    differs = "the position in AAPL differs from the broker's; only reducing orders may leave"
    assert judged(desk, wish()) == Denied(code="symbol_in_doubt", field="symbol", reason=differs)


@pytest.mark.parametrize(("quantity", "reduces"), [(6, True), (7, False), (10, False)])
def test_a_short_in_doubt_is_reduced_by_what_both_believe_alone(quantity: int, reduces: bool) -> None:
    desk = Desk(holdings={"AAPL": -10})
    desk.tell(snapshot(when=5, holdings={"AAPL": -6}))
    assert only_reduces(desk.belief, Symbol(AAPL), BUY, D(quantity)) is reduces


def test_an_exposure_is_what_may_still_execute() -> None:
    desk = Desk()
    desk.submit(100)
    assert exposure(desk.of()) == 100
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1), when=1))
    assert exposure(desk.of()) == 60
    desk.tell(streamed(ExecType.REPLACED, report(S.REPLACED, 40, version=2, replaced_by="b-2"), when=2))
    assert exposure(desk.of()) == 100, "what the successor may execute is not known; the whole order counts"
    notional = report(S.NEW, version=1, broker_id="b-9", client_id="c-9", quantity=None)
    desk.tell(streamed(ExecType.NEW, notional, when=3))
    assert exposure(desk.of("b-9")) is None
