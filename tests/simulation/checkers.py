"""What must hold in every life, whatever happened in it; each checker is one sentence about the whole house."""

from __future__ import annotations

from decimal import Decimal

from trueup.bus.memory import MemoryBus
from trueup.core.belief import Belief
from trueup.core.model import BrokerOrderId, OrderStatus
from trueup.core.orders import TERMINAL
from trueup.errors import FeedEnded
from trueup.ports import Journal
from trueup.runtime.fold import belief_digest, fold
from trueup.simulator.broker import STATUS
from trueup.simulator.exchange import Exchange
from trueup.simulator.model import Refused


def belief_equals_the_books(belief: Belief, exchange: Exchange) -> None:
    """Every order, execution, position and the cash are believed as the exchange has them."""
    view = exchange.view()
    filled_by: dict[str, Decimal] = {}
    for match in view.executions():
        filled_by[match.order_id] = filled_by.get(match.order_id, Decimal(0)) + match.qty
    for order in view.orders():
        leg = belief.by_broker.get(BrokerOrderId(order.id))
        assert leg is not None, f"nothing is known of order {order.id} of {order.client_order_id}"
        believed = (leg.status, leg.filled)
        assert believed == (STATUS[order.status], order.filled_qty), f"order {order.id} of {order.client_order_id}"
        held = [held.execution.quantity for held in leg.executions.values() if not held.busted]
        counted = sum(held, Decimal(0)) + leg.residual
        assert counted == filled_by.get(order.id, Decimal(0)), f"executions of order {order.id}"
    theirs = {symbol: position.qty for symbol, position in view.positions().items()}
    ours = {str(symbol): book.quantity for symbol, book in belief.books.items() if book.quantity}
    assert ours == theirs, f"positions: believed {ours}, the exchange has {theirs}"
    assert belief.cash == view.cash(), f"cash: believed {belief.cash}, the exchange has {view.cash()}"


def nothing_was_received_twice(received: list[str]) -> None:
    """Each submit and each replace reached the exchange once at most."""
    requests = [line for line in received if not line.startswith("cancel ")]
    assert len(requests) == len(set(requests)), sorted(line for line in requests if requests.count(line) > 1)


def every_denied_order_never_arrived(belief: Belief, exchange: Exchange) -> None:
    """What we say was never sent is not at the exchange, and every request of ours has ended by somebody's word."""
    for order in belief.orders.values():
        assert order.in_flight is None, f"{order.order_id} is {order.status} with a {order.in_flight} in flight"
        assert order.in_doubt is None, f"{order.order_id} is {order.status} with a {order.in_doubt} in doubt"
        for leg in order.legs:
            assert leg.status in TERMINAL, f"{leg.client_order_id} of {order.order_id} is {leg.status}"
            if leg.status is OrderStatus.DENIED and leg.client_order_id is not None:
                assert not _is_known(exchange, leg.client_order_id), f"{leg.client_order_id} is at the exchange"


def _is_known(exchange: Exchange, client_order_id: str) -> bool:
    try:
        exchange.view().order_by_client_id(client_order_id)
    except Refused:
        return False
    return True


def replay_equals_live(journal: Journal, live: Belief) -> None:
    """Folding the journal again, from the beginning or from a checkpoint, ends at the same belief."""
    assert journal.last_offset() == live.offset
    assert belief_digest(fold(journal, from_checkpoint=False)) == belief_digest(live)
    assert belief_digest(fold(journal)) == belief_digest(live)


async def watch_channels(bus: MemoryBus) -> None:
    """Read every channel to its end: offsets follow one another without a hole."""
    seen: dict[str, int] = {}
    subscription = bus.subscribe()
    while True:
        try:
            envelope = await subscription.get()
        except FeedEnded:
            return
        before = seen.get(envelope.channel, envelope.offset - 1)
        assert envelope.offset > before, envelope.channel
        seen[envelope.channel] = envelope.offset
