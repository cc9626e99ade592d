"""Delivery order does not matter.

For any interleaving, repetition or loss of stream events, poll answers and snapshots: once a complete snapshot newer
than all of them has been applied, belief equals the broker's books.
"""

from __future__ import annotations

import os
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.chaos.paper import EPOCH, FINAL, PaperBroker, equals_the_books
from trueup.core.belief import Belief, new_belief
from trueup.core.events import FeedAcknowledged, FeedLost, FeedRestored, OrderReported, SnapshotTaken
from trueup.core.model import BrokerOrderId, FeedName, OrderStatus, Side, SnapshotScope, Source, Symbol
from trueup.core.projection import executions_view
from trueup.core.step import step

EXAMPLES = int(os.environ.get("TRUEUP_EXAMPLES", "300"))
"""Raised for a longer hunt: `TRUEUP_EXAMPLES=20000 pytest tests/properties`."""

SYMBOLS = ("AAPL", "MSFT")
PRICES = tuple(Decimal(text) for text in ("9.50", "10", "10.37"))

Verb = tuple[str, int, int, int]
verbs = st.tuples(
    st.sampled_from(
        [
            "place",
            "fill",
            "fill",
            "fill",
            "cancel",
            "request_cancel",
            "refuse_cancel",
            "replace",
            "bust",
            "poll",
            "look",
        ]
    ),
    st.integers(0, 4),
    st.integers(1, 60),
    st.integers(0, 2),
)


def act(broker: PaperBroker, verb: Verb, seen: list[OrderReported | SnapshotTaken]) -> None:
    """Carry out one verb on the paper books; what anybody could observe of it is added to `seen`."""
    name, which, size, price = verb
    if name == "poll":
        seen.append(broker.snapshot(SnapshotScope.ORDERS, Source.POLL, only_open=bool(size % 2)))
    elif name == "look":
        seen.append(broker.snapshot(SnapshotScope.FULL, Source.RECONCILE, with_executions=bool(size % 2)))
    elif name == "place":
        broker.place(SYMBOLS[which % 2], Side.BUY if size % 2 else Side.SELL, size)
    elif broker.orders:
        number = which % len(broker.orders)
        if name == "fill":
            broker.fill(number, size, PRICES[price])
        elif name == "replace":
            broker.replace(number, int(broker.orders[number].filled) + size)
        else:
            getattr(broker, name)(number)


def apply_all(belief: Belief, inputs: list[OrderReported | SnapshotTaken]) -> None:
    for item in inputs:
        step(belief, item, belief.offset + 1)


def begin(broker: PaperBroker) -> Belief:
    """A live runtime with an empty account."""
    belief = new_belief(account="PAPER", epoch="property")
    step(belief, FeedAcknowledged(at=EPOCH, feed=FeedName.BROKER_EVENTS), 1)
    step(belief, broker.snapshot(), 2)
    step(belief, FeedRestored(at=broker.now, feed=FeedName.BROKER_EVENTS), 3)
    return belief


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(verbs, min_size=1, max_size=25), st.data())
def test_belief_equals_the_books_after_a_newer_complete_snapshot(script: list[Verb], data: st.DataObject) -> None:
    broker = PaperBroker()
    belief = begin(broker)
    seen: list[OrderReported | SnapshotTaken] = []
    for verb in script:
        act(broker, verb, seen)
    seen.extend(broker.events)
    # any of them, any number of times, in any order
    delivered = data.draw(st.lists(st.sampled_from(seen), max_size=2 * len(seen))) if seen else []
    if data.draw(st.booleans()):
        delivered.insert(
            data.draw(st.integers(0, len(delivered))),
            FeedLost(at=broker.now, feed=FeedName.BROKER_EVENTS, reason="cut"),  # type: ignore[arg-type]
        )
    apply_all(belief, delivered)
    apply_all(belief, [broker.snapshot()])
    equals_the_books(belief, broker)
    assert belief.truth.last_result == "clean"


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(verbs, min_size=1, max_size=20), st.data())
def test_what_arrives_late_changes_nothing(script: list[Verb], data: st.DataObject) -> None:
    broker = PaperBroker()
    belief = begin(broker)
    seen: list[OrderReported | SnapshotTaken] = []
    for verb in script:
        act(broker, verb, seen)
    apply_all(belief, [broker.snapshot()])
    old = [*seen, *broker.events]
    late = data.draw(st.lists(st.sampled_from(old), max_size=2 * len(old))) if old else []
    apply_all(belief, late)
    apply_all(belief, [broker.snapshot()])
    equals_the_books(belief, broker)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    st.lists(verbs, min_size=1, max_size=20).filter(lambda script: all(verb[0] != "bust" for verb in script)),
    st.randoms(),
)
def test_all_events_in_any_order_need_no_snapshot(script: list[Verb], random: object) -> None:
    """Without busts the events alone are enough, in whatever order they come."""
    broker = PaperBroker()
    belief = begin(broker)
    for verb in script:
        act(broker, verb, [])
    shuffled = list(broker.events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    apply_all(belief, list(shuffled))
    for order in broker.orders:
        leg = belief.by_broker[BrokerOrderId(f"b-{order.number}")]
        assert (leg.filled, leg.status) == (order.filled, order.status)
        assert leg.residual == 0
        assert leg.executed_value == order.value
    believed = {symbol: book.quantity for symbol, book in belief.books.items() if book.quantity}
    assert believed == {Symbol(symbol): quantity for symbol, quantity in broker.positions().items()}


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(verbs, min_size=1, max_size=20), st.data())
def test_every_execution_is_counted_once(script: list[Verb], data: st.DataObject) -> None:
    broker = PaperBroker()
    belief = begin(broker)
    seen: list[OrderReported | SnapshotTaken] = []
    for verb in script:
        act(broker, verb, seen)
    seen.extend(broker.events)
    apply_all(belief, data.draw(st.lists(st.sampled_from(seen), max_size=3 * len(seen))) if seen else [])
    broker.place("AAPL", Side.BUY, 1)
    broker.fill(len(broker.orders) - 1, 1, "10")  # an execution list that is empty says nothing about busts
    apply_all(belief, [broker.snapshot(), broker.snapshot()])
    counted = [
        (view.broker_order_id, view.quantity, view.entry_price)
        for view in executions_view(belief)
        if view.kind == "fill" and not view.inferred
    ]
    expected = [(f"b-{order.number}", item[1], item[2]) for order in broker.orders for item in order.live]
    assert sorted(counted) == sorted(expected)


def test_the_final_statuses_of_the_paper_broker_are_ours() -> None:
    assert {status for status in OrderStatus if status in FINAL} == FINAL
