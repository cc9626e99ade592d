"""Finished orders leave belief for the journal; positions, names and late reports are as if they had stayed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from trueup.chaos.paper import EPOCH, PaperBroker
from trueup.core import belief as belief_module
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import SubmitOrder
from trueup.core.events import FeedAcknowledged, FeedRestored
from trueup.core.model import BrokerOrderId, ClientOrderId, FeedName, Side, Symbol
from trueup.core.step import step


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> tuple[PaperBroker, Belief]:
    """A live belief that keeps only a handful of finished orders, after sixty of them."""
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 10)
    broker = PaperBroker()
    belief = new_belief(account="PAPER", epoch="retire")
    step(belief, FeedAcknowledged(at=EPOCH, feed=FeedName.BROKER_EVENTS), 1)
    step(belief, broker.snapshot(), 2)
    step(belief, FeedRestored(at=broker.now, feed=FeedName.BROKER_EVENTS), 3)
    for number in range(60):
        broker.place("AAPL", Side.BUY if number % 3 else Side.SELL, 10)
        broker.fill(number, 4, "10.10")
        broker.fill(number, 6, f"{9 + number % 4}.25")
    for event in broker.events:
        step(belief, event, belief.offset + 1)
    return broker, belief


def test_finished_orders_leave_and_the_books_stay(busy: tuple[PaperBroker, Belief]) -> None:
    broker, belief = busy
    assert len(belief.orders) < 25
    assert len(belief.orders) + len(belief.retired) == 60
    book = belief.books[Symbol("AAPL")]
    assert book.quantity == broker.positions()["AAPL"]
    assert belief.cash == broker.cash()
    running = (book.quantity, book.cost, book.realized)
    book.dirty = True
    folded = belief.settled_book(Symbol("AAPL"))
    assert folded.quantity == running[0]
    assert abs(folded.cost - running[1]) < Decimal("1e-18")
    assert abs(folded.realized - running[2]) < Decimal("1e-18")


def test_repeats_of_an_order_that_left_change_nothing(busy: tuple[PaperBroker, Belief]) -> None:
    broker, belief = busy
    before = (len(belief.orders), belief.books[Symbol("AAPL")].quantity, belief.cash)
    for event in broker.events[:12]:
        step(belief, event, belief.offset + 1)
    assert (len(belief.orders), belief.books[Symbol("AAPL")].quantity, belief.cash) == before
    assert belief.counters["reports_on_retired_orders"] == 12


def test_a_bust_of_an_order_that_left_is_still_booked(busy: tuple[PaperBroker, Belief]) -> None:
    broker, belief = busy
    assert BrokerOrderId("b-0") in belief.retired
    broker.bust(0)
    step(belief, broker.events[-1], belief.offset + 1)
    step(belief, broker.snapshot(), belief.offset + 1)
    assert belief.books[Symbol("AAPL")].quantity == broker.positions()["AAPL"]
    assert belief.by_broker[BrokerOrderId("b-0")].filled == 4
    assert belief.truth.last_result == "clean"
    assert belief.cash is not None
    assert abs(belief.cash - broker.cash()) < Decimal("1e-18")


def test_a_client_order_id_is_never_free_again(busy: tuple[PaperBroker, Belief]) -> None:
    broker, belief = busy
    assert ClientOrderId("ext-0") in belief.retired_clients
    outcome = step(
        belief,
        SubmitOrder(
            at=broker.now,
            symbol=Symbol("AAPL"),
            side=Side.BUY,
            quantity=Decimal(1),
            client_order_id=ClientOrderId("ext-0"),
        ),
        belief.offset + 1,
    )
    assert outcome.denied is not None
    assert outcome.denied.code == "duplicate_client_order_id"
