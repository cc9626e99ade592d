"""Belief's own lists: ids to ask after, orders left to the journal, timers, and lots beside an opening balance."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, leg, report, snapshot, streamed

from trueup.core import belief as belief_module
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import ReplaceOrder
from trueup.core.model import BrokerOrderId, ExecType, ExecutionId, OrderStatus, RequestOutcome, Side, Source
from trueup.core.orders import Held, Leg
from trueup.core.positions import PositionBook

S = OrderStatus


# --- what a snapshot must ask after -------------------------------------------------------------------------------


def chain(*rows: tuple[S, str | None]) -> Desk:
    """One order of ours at the broker as b-1, b-2, ...: the status of each and the id that it was replaced by."""
    desk = Desk()
    desk.submit()
    for number, (status, replaced_by) in enumerate(rows, 1):
        row = report(
            status,
            version=number,
            broker_id=f"b-{number}",
            client_id=f"c-{number}",
            replaces=f"b-{number - 1}" if number > 1 else None,
            replaced_by=replaced_by,
        )
        desk.tell(streamed(ExecType.STATUS, row, when=number))
    assert len(desk.of().legs) == len(rows)
    return desk


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        ([(S.NEW, None)], ["b-1"]),
        ([(S.REPLACED, "b-2"), (S.NEW, None)], ["b-2"]),
        ([(S.PENDING_REPLACE, None), (S.NEW, None)], ["b-1", "b-2"]),  # two lives until one has ended
        ([(S.REPLACED, "b-2")], ["b-1", "b-2"]),  # a successor that nobody has told of yet
        ([(S.REPLACED, "b-2"), (S.REPLACED, "b-3")], ["b-2", "b-3"]),
        ([(S.REPLACED, "b-9"), (S.NEW, None)], ["b-1", "b-9", "b-2"]),
        ([(S.NEW, "b-2"), (S.REJECTED, None)], ["b-1", "b-2"]),  # it lives on, though its successor came to nothing
        ([(S.CANCELED, None)], []),
    ],
)
def test_every_id_that_may_still_change_is_asked_after(rows: list[tuple[S, str | None]], asked: list[str]) -> None:
    assert list(chain(*rows).belief.working_broker_ids()) == asked


def test_a_request_without_an_id_cannot_be_asked_after_by_one() -> None:
    desk = Desk()
    desk.submit()
    assert desk.belief.working_broker_ids() == ()
    desk.tell(streamed(ExecType.NEW, report(version=1), when=1))
    desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, quantity=D(90)))
    assert desk.belief.working_broker_ids() == ("b-1",)
    desk.answer(RequestOutcome.UNKNOWN, client_id="c-1", when=3)
    assert len(set(desk.belief.working_broker_ids())) == 1


def test_a_new_belief_is_of_one_account_and_one_epoch() -> None:
    belief = new_belief(account="PA3X", epoch="0123456789")
    assert (belief.account, belief.epoch, belief.name_prefix) == ("PA3X", "0123456789", "tu-01234567-")
    assert belief.gate.reasons() == ("the account has not been reconciled yet",)
    assert belief.book(AAPL) == PositionBook(AAPL)
    assert belief.book(AAPL).symbol == AAPL


# --- timers -------------------------------------------------------------------------------------------------------


def test_timers_of_one_instant_come_in_the_order_in_which_they_were_set() -> None:
    belief = new_belief(account="PAPER", epoch="table")
    wanted = [("recheck", "b"), ("cancel", "c"), ("recheck", "a"), ("cancel", "a")]
    for kind, key in wanted:
        belief.set_timer(at(1), kind, key)
    belief.set_timer(at(0), "unsettled", "x")
    belief.set_timer(at(2), "cancel", "later")
    assert belief.due_timers(at(1)) == [("unsettled", "x"), *wanted]
    assert belief.next_deadline == at(2)


# --- orders that leave for the journal ----------------------------------------------------------------------------


def finished(desk: Desk, number: int, *, filled: int = 0, price: str = "10", client_id: str | None = None) -> None:
    row = report(
        S.FILLED if filled else S.CANCELED,
        filled,
        version=number,
        broker_id=f"z-{number}",
        client_id=client_id or f"z-{number}",
        quantity=filled or 5,
        average=price,
    )
    match = execution(f"e-{number}", filled, price, cum=filled, when=number, broker_id=f"z-{number}")
    desk.tell(streamed(ExecType.TRADE, row, match if filled else None, when=number))


def test_the_older_half_leaves_as_soon_as_twice_as_many_have_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 3)
    desk = Desk()
    for number in range(1, 4):
        desk.submit(5, client_id=f"open-{number}", limit="1")
    for number in range(1, 6):
        finished(desk, number, filled=2 if number != 2 else 0, price=f"1{number}")
    assert len(desk.belief.orders) == 8, "orders that stand do not count as finished"
    assert desk.belief.retired == {}
    finished(desk, 6, filled=2)
    assert [order.order_id for order in desk.belief.orders.values() if order.is_terminal] == ["x-10", "x-11", "x-12"]
    assert {name: (old.filled, old.average_price) for name, old in desk.belief.retired.items()} == {
        "z-1": (2, 11),
        "z-2": (0, 0),
        "z-3": (2, 13),
    }
    assert desk.belief.retired_clients == {"z-1": "x-7", "z-2": "x-8", "z-3": "x-9"}
    assert desk.belief.counters["orders_retired"] == 3
    assert len(desk.belief.open_orders) == 3
    assert desk.shares() == 10
    again = desk.submit(5, client_id="z-1")
    assert again.order_id == "x-7"


def test_orders_that_were_never_sent_leave_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 2)
    desk = Desk()
    for number in range(1, 8):
        desk.submit(-1, client_id=f"c-{number}", when=number)
    assert list(desk.belief.orders) == ["o-8", "o-9", "o-10"]
    assert list(desk.belief.retired_clients) == ["c-1", "c-2", "c-3", "c-4"]


def test_two_orders_of_one_name_can_both_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 2)
    desk = Desk()
    for number in (1, 2):
        desk.tell(snapshot(report(S.CANCELED, version=number, broker_id=f"z-{number}", client_id=None), when=number))
    desk.belief.by_broker[BrokerOrderId("z-1")].client_order_id = leg().client_order_id
    desk.belief.by_broker[BrokerOrderId("z-2")].client_order_id = leg().client_order_id
    for number in (3, 4):
        finished(desk, number)
    assert list(desk.belief.retired) == ["z-1", "z-2"]
    assert len(desk.belief.orders) == 2


def retiring(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that has left z-1 to the journal: 10 shares in two executions, 4 at 10 and 6 at 11."""
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 1)
    desk = Desk()
    part = report(S.PARTIALLY_FILLED, 4, version=1, broker_id="z-1", client_id="z-1", quantity=10, average="10")
    match = execution("e-1", 4, "10", cum=4, when=1, broker_id="z-1")
    desk.tell(streamed(ExecType.TRADE, part, match, when=1))
    whole = report(S.FILLED, 10, version=2, broker_id="z-1", client_id="z-1", quantity=10, average="10.60")
    match = execution("e-1b", 6, "11", cum=10, when=2, broker_id="z-1")
    desk.tell(streamed(ExecType.TRADE, whole, match, when=2))
    finished(desk, 3, filled=2)
    assert "z-1" in desk.belief.retired
    return desk


def test_a_bust_of_what_left_takes_back_its_share_of_the_money(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = retiring(monkeypatch)
    assert desk.belief.cash == 100000 - 106 - 20
    fallen = report(S.CANCELED, 4, version=9, broker_id="z-1", client_id="z-1", quantity=10, average="10")
    desk.tell(streamed(ExecType.TRADE_CANCEL, fallen, refers_to="e-1b", when=9))
    assert desk.belief.cash == 100000 - 40 - 20
    assert desk.shares() == 6


def test_a_better_price_of_what_left_moves_the_money_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = retiring(monkeypatch)
    better = report(S.FILLED, 10, version=9, broker_id="z-1", client_id="z-1", quantity=10, average="10.50")
    desk.tell(streamed(ExecType.TRADE_CORRECT, better, refers_to="e-1b", when=9))
    assert desk.belief.cash == 100000 - 105 - 20
    assert desk.shares() == 12


@pytest.mark.parametrize(
    ("source", "filled", "cash"),
    [
        (Source.STREAM, 4, 100000 - 106 - 20),  # an older event that comes late
        (Source.STREAM, 10, 100000 - 106 - 20),
        (Source.RECONCILE, 4, 100000 - 40 - 20),  # the broker's books as they are now
    ],
)
def test_of_what_left_only_news_is_heard(
    monkeypatch: pytest.MonkeyPatch, source: Source, filled: int, cash: int
) -> None:
    desk = retiring(monkeypatch)
    row = report(S.FILLED, filled, version=9, broker_id="z-1", client_id="z-1", quantity=10, average="10")
    if source is Source.STREAM:
        desk.tell(streamed(ExecType.TRADE, row, when=9))
    else:
        desk.tell(snapshot(row, when=9, holdings={"AAPL": filled + 2}, cash=str(cash)))
    assert desk.belief.cash == cash
    assert desk.shares() == (filled + 2 if source is Source.RECONCILE else 12)


def test_a_list_with_executions_of_what_left_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = retiring(monkeypatch)
    known = execution("e-1b", 6, "11", cum=10, when=2, broker_id="z-1")
    outcome = desk.tell(snapshot(when=9, executions=[known], holdings={"AAPL": 12}))
    assert outcome.effects == ()


# --- lots beside an opening balance -------------------------------------------------------------------------------


def partly_opened(
    opening: str,
    matches: list[tuple[str, str, str, float]],
    *,
    filled: str,
    busted: tuple[str, ...] = (),
    side: Side = Side.BUY,
    residual_at: datetime | None = None,
    floor: datetime | None = None,
    version: datetime | None = None,
) -> Belief:
    """A belief with one leg, of whose shares the opening balance holds some; a match is name, quantity, price, time."""
    one: Leg = leg(side)
    one.broker_order_id = BrokerOrderId("b-1")
    one.opening, one.filled = D(opening), D(filled)
    one.residual_at, one.floor, one.version, one.residual_price = residual_at, floor, version, D(7)
    for name, quantity, price, when in matches:
        held = Held(execution(name, quantity, price, when=when), Source.STREAM, at(when), busted=name in busted)
        one.executions[ExecutionId(name)] = held
        if not held.busted:
            one.executed += D(quantity)
    belief = new_belief(account="PAPER", epoch="table")
    belief.legs_by_symbol[AAPL] = [one]
    belief.book(AAPL).dirty = True
    return belief


A, B = ("e-9", "40", "10", 1.0), ("e-1", "60", "11", 2.0)  # their names tell nothing of their times


@pytest.mark.parametrize(
    ("opening", "matches", "filled", "quantity", "cost"),
    [
        ("0", [A, B], "100", "100", "1060"),
        ("40", [A, B], "100", "60", "660"),
        ("40", [B, A], "100", "60", "660"),  # the oldest shares are the ones in the opening, however they came
        ("50", [B, A], "100", "50", "550"),
        ("100", [A, B], "100", "0", "0"),
        ("0.4", [("A", "0.5", "10", 1.0)], "0.5", "0.1", "1.0"),
    ],
)
def test_shares_of_the_opening_balance_are_not_counted_twice(
    opening: str, matches: list[tuple[str, str, str, float]], filled: str, quantity: str, cost: str
) -> None:
    book = partly_opened(opening, matches, filled=filled).settled_book(AAPL)
    assert (book.quantity, book.cost) == (D(quantity), D(cost))


@pytest.mark.parametrize(
    ("opening", "filled", "quantity", "cost"),
    [
        ("0", "40", "40", "280"),
        ("15", "40", "25", "175"),
        ("0.25", "0.75", "0.5", "3.5"),  # a part of one share
        ("40", "40", "0", "0"),
    ],
)
def test_a_residual_beside_an_opening_balance_counts_what_is_left_of_it(
    opening: str, filled: str, quantity: str, cost: str
) -> None:
    book = partly_opened(opening, [], filled=filled, residual_at=at(3)).settled_book(AAPL)
    assert (book.quantity, book.cost) == (D(quantity), D(cost))


def test_a_fall_below_the_executions_is_taken_from_the_position_at_its_price() -> None:
    belief = partly_opened("100", [A, B], filled="70", residual_at=at(5))
    belief.book(AAPL).refold([])
    belief.book(AAPL).dirty = True
    book = belief.settled_book(AAPL)
    assert (book.quantity, book.cost) == (-30, -210)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(
    ("residual_at", "floor", "version", "expected"),
    [
        (at(5), at(6), at(7), 6),
        (at(5), None, at(7), 5),
        (None, None, at(7), 7),
        (None, None, None, 2),  # the newest of the busted matches
    ],
)
def test_a_bust_of_opening_shares_is_booked_at_the_instant_of_the_fall(
    side: Side,
    residual_at: datetime | None,
    floor: datetime | None,
    version: datetime | None,
    expected: float,
) -> None:
    belief = partly_opened(
        "100",
        [A, B],
        filled="0",
        busted=("e-9", "e-1"),
        side=side,
        residual_at=residual_at,
        floor=floor,
        version=version,
    )
    book = belief.settled_book(AAPL)
    assert book.last_at == at(expected)
    sign = Decimal(-1 if side is Side.BUY else 1)
    assert (book.quantity, book.cost) == (sign * 100, sign * 1100), "at the price of the last that was busted"
