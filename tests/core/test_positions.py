"""Executions into positions: average cost, realised profit, and that the order of arrival does not matter."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest
from tests.core.build import AAPL, D, Desk, at, execution, report, snapshot, streamed

from trueup.core.model import ExecType, OrderStatus, Side
from trueup.core.positions import Adjustment, Lot, PositionBook

S = OrderStatus
Trades = list[tuple[int, str]]


def folded(trades: Trades) -> PositionBook:
    book = PositionBook(AAPL)
    for second, (quantity, price) in enumerate(trades):
        book.apply(D(quantity), D(price), at(second))
    return book


@pytest.mark.parametrize(
    ("trades", "quantity", "average", "realized"),
    [
        ([], 0, "0", "0"),
        ([(10, "100")], 10, "100", "0"),
        ([(10, "100"), (10, "110")], 20, "105", "0"),
        ([(10, "100"), (-4, "110")], 6, "100", "40"),
        ([(10, "100"), (-10, "90")], 0, "0", "-100"),
        ([(10, "100"), (-15, "110")], -5, "110", "100"),  # through zero: the rest opens a short at that price
        ([(-10, "100")], -10, "100", "0"),
        ([(-10, "100"), (-10, "90")], -20, "95", "0"),
        ([(-10, "100"), (4, "90")], -6, "100", "40"),
        ([(-10, "100"), (10, "110")], 0, "0", "-100"),
        ([(-10, "100"), (25, "80")], 15, "80", "200"),  # and back through zero
        ([(10, "100"), (-15, "110"), (10, "100")], 5, "100", "150"),
        ([(3, "0.10"), (3, "0.20"), (-6, "0.15")], 0, "0", "0"),
        ([(1, "178.42"), (2, "178.425"), (-3, "178.43")], 0, "0", "0.02"),
    ],
)
def test_average_cost(trades: Trades, quantity: int, average: str, realized: str) -> None:
    book = folded(trades)
    assert (book.quantity, book.average_price, book.realized) == (quantity, D(average), D(realized))
    assert book.cost == book.average_price * book.quantity


def test_cost_stays_exact_where_the_average_cannot() -> None:
    book = folded([(1, "10"), (2, "10.01")])
    assert book.cost == D("30.02")
    assert abs(book.average_price * 3 - book.cost) < D("1e-25")


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_a_fold_out_of_order_equals_the_fold_in_order(arrival: tuple[int, ...]) -> None:
    trades: Trades = [(10, "100"), (-15, "110"), (8, "90"), (2, "95")]
    in_order = folded(trades)
    book = PositionBook(AAPL)
    running = Decimal(0)
    for index in arrival:
        quantity, price = trades[index]
        book.apply(D(quantity), D(price), at(index))
        running += quantity
        assert book.quantity == running, "the quantity is exact at every moment"
    lots = [Lot(at(index), str(index), D(quantity), D(price)) for index, (quantity, price) in enumerate(trades)]
    if book.dirty:
        book.refold(lots)
    assert (book.quantity, book.cost, book.realized) == (in_order.quantity, in_order.cost, in_order.realized)


def test_what_comes_in_order_needs_no_second_fold() -> None:
    assert not folded([(10, "100"), (-15, "110")]).dirty


def test_adjustments_take_part_in_the_fold_at_their_own_time() -> None:
    book = PositionBook(AAPL)
    book.adjustments.append(Adjustment(at(1), D(10), D(100), "opening balance", "first full snapshot"))
    book.refold([Lot(at(2), "e-2", D(-4), D(110)), Lot(at(0), "e-0", D(10), D(90))])
    assert (book.quantity, book.average_price, book.realized) == (16, D(95), D(60))


def test_absorbed_lots_stay_in_the_base() -> None:
    past = [Lot(at(0), "e-0", D(10), D(100)), Lot(at(1), "e-1", D(-4), D(110))]
    later = [Lot(at(2), "e-2", D(-6), D(120))]
    book = PositionBook(AAPL)
    book.refold([*past, *later])
    whole = (book.quantity, book.cost, book.realized)
    book.absorb(past)
    assert (book.quantity, book.cost, book.realized) == whole
    book.refold(later)
    assert (book.quantity, book.cost, book.realized) == whole == (0, 0, D(160))


# --- through the whole core ---------------------------------------------------------------------------------------


def test_a_bust_of_shares_that_the_opening_balance_holds_lowers_the_position_for_good() -> None:
    """The order was filled before our books began; its shares came with the opening balance."""
    desk = Desk(live=False)
    filled = report(S.FILLED, 100, version=-100, average="10")
    desk.restore(
        snapshot(filled, when=1, executions=[execution("e-1", 100, cum=100, when=-100)], holdings={"AAPL": 100}), when=0
    )
    assert desk.shares() == 100
    desk.tell(streamed(ExecType.TRADE_CANCEL, report(S.CANCELED, 0, version=5), refers_to="e-1", when=5))
    assert desk.shares() == 0
    desk.tell(snapshot(report(S.CANCELED, 0, version=5), when=30))
    assert desk.shares() == 0
    assert desk.belief.truth.last_result == "clean"


def test_fills_that_the_stream_told_before_the_opening_snapshot_are_counted_once() -> None:
    """A cold start while an order is being filled: the stream speaks first, then the snapshot that opens the books."""
    desk = Desk(live=False)
    match = execution("e-1", 40, cum=40, when=1)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1, average="10"), match, when=1))
    row = report(S.PARTIALLY_FILLED, 60, version=2, average="10")
    both = [match, execution("e-2", 20, cum=60, when=2)]
    desk.restore(snapshot(row, when=4, executions=both, holdings={"AAPL": 60}), when=3)
    assert desk.shares() == 60
    desk.tell(
        streamed(ExecType.TRADE, report(S.FILLED, 100, version=6), execution("e-3", 40, "11", cum=100, when=6), when=6)
    )
    assert desk.shares() == 100
    desk.tell(snapshot(report(S.FILLED, 100, version=6), when=30, holdings={"AAPL": 100}))
    assert desk.belief.truth.last_result == "clean"


def test_a_sell_larger_than_the_long_opens_a_short() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.submit(25, Side.SELL)
    sold = execution("e-1", 25, "11", cum=25, when=1, side=Side.SELL)
    desk.tell(streamed(ExecType.TRADE, report(S.FILLED, 25, version=1, side=Side.SELL, quantity=25), sold, when=1))
    assert desk.shares() == -15
    book = desk.belief.settled_book(AAPL)
    assert (book.average_price, book.realized) == (11, 10)


def test_cash_moves_with_every_fill_bust_and_restatement() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.PENDING_NEW, report(S.PARTIALLY_FILLED, 40, version=1, average="10")))
    assert desk.belief.cash == 100000 - 400
    real = execution("e-1", 40, "9.75", cum=40, when=1)
    desk.tell(streamed(ExecType.TRADE, report(S.PARTIALLY_FILLED, 40, version=1), real))
    assert desk.belief.cash == 100000 - 390
    desk.tell(streamed(ExecType.TRADE_CANCEL, report(S.NEW, 0, version=2), refers_to="e-1"))
    assert desk.belief.cash == 100000


# --- fractions, equal times, and looking --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trades", "quantity", "cost", "realized"),
    [
        ([("10", "100"), ("-4", "110"), ("-2", "120")], "4", "400", "80"),  # profit adds up
        ([("0.5", "100"), ("-0.2", "110")], "0.3", "30", "2"),
        ([("2", "100"), ("-1.5", "110")], "0.5", "50", "15"),
        ([("-0.5", "100"), ("0.2", "90")], "-0.3", "-30", "2"),
        ([("0.5", "100"), ("-0.8", "110")], "-0.3", "-33", "5"),
    ],
)
def test_fractions_of_a_share_are_shares(
    trades: list[tuple[str, str]], quantity: str, cost: str, realized: str
) -> None:
    book = PositionBook(AAPL)
    for second, (each, price) in enumerate(trades):
        book.apply(D(each), D(price), at(second))
    assert (book.quantity, book.cost, book.realized) == (D(quantity), D(cost), D(realized))


def test_two_lots_of_one_instant_are_in_order() -> None:
    book = PositionBook(AAPL)
    book.apply(D(10), D(100), at(1))
    book.apply(D(-4), D(110), at(1))
    assert book.dirty is False
    assert book.realized == 40


def test_an_adjustment_comes_before_the_lots_of_its_instant() -> None:
    book = PositionBook(AAPL)
    book.adjustments.append(Adjustment(at(1), D(10), D(90), "opening balance", "first full snapshot"))
    book.refold([Lot(at(1), "A-1", D(-15), D(110))])
    assert (book.quantity, book.cost, book.realized) == (-5, -550, 200)


def test_after_a_fold_lots_are_booked_at_once_again_unless_they_are_older() -> None:
    book = PositionBook(AAPL)
    book.restate(D(10))
    assert book.dirty is True
    book.refold([Lot(at(5), "e-1", D(10), D(100))])
    assert book.dirty is False
    book.apply(D(-4), D(110), at(6))
    assert (book.dirty, book.quantity, book.realized) == (False, 6, 40)
    book.refold([Lot(at(5), "e-1", D(10), D(100))])
    book.apply(D(10), D(90), at(4))
    assert (book.dirty, book.quantity) == (True, 20)


def test_a_look_at_a_book_that_changed_since_the_last_look_sees_the_change() -> None:
    desk = Desk()
    for number, (when, price) in enumerate([(9, "10"), (5, "20"), (2, "30")], 1):
        row = report(S.FILLED, 10, version=when, broker_id=f"b-{number}", client_id=f"c-{number}", quantity=10)
        match = execution(f"e-{number}", 10, price, cum=10, when=when, broker_id=f"b-{number}")
        desk.tell(streamed(ExecType.TRADE, row, match, when=10))
        looked = desk.belief.settled_book(AAPL)
        assert looked.quantity == 10 * number
        assert desk.belief.settled_book(AAPL) is looked, "a second look folds nothing anew"
    assert (looked.average_price, looked.dirty) == (20, False)
    assert desk.belief.book(AAPL).dirty, "looking leaves no trace"
    desk.belief.settle()
    assert desk.belief.settled_book(AAPL) is desk.belief.book(AAPL)
