"""What must hold at the end of every life, whatever happened in it; each checker is one sentence about the whole house.

For: the exchange's books against belief, what a dashboard was shown against both, and one fold against the other. Not
for what must hold at every single step (`judge.py`). Invariant: a checker takes the exchange's own word, and none of
the core's, for what is true.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from decimal import Decimal
from typing import Any

from trueup.bus.codec import encode
from trueup.bus.memory import MemoryBus
from trueup.chaos.paper import HELD
from trueup.chaos.violation import demand
from trueup.core.belief import Belief
from trueup.core.model import BrokerOrderId, OrderId, OrderStatus
from trueup.core.orders import TERMINAL
from trueup.core.projection import order_status_view
from trueup.core.views import STATE_CHANNELS, Channel
from trueup.errors import FeedEnded
from trueup.ports import Journal
from trueup.runtime.fold import belief_digest, fold
from trueup.simulator.broker import STATUS
from trueup.simulator.exchange import Exchange
from trueup.simulator.model import Refused

BOOKS = "belief equals the books once healed"
CAUSE = "no position is trued up without a cause"
ONE_SEND = "no request reaches the exchange twice"
WORD = "every request ends by the broker's word"
REPLAY = "replay equals live"
OFFSETS = "offsets follow one another without a hole"
SCREEN = "the dashboard shows what is believed"


def belief_equals_the_books(belief: Belief, exchange: Exchange) -> None:
    """Every order, execution, position and the cash are believed as the exchange has them."""
    view = exchange.view()
    for order in view.orders():
        name = f"order {order.id} of {order.client_order_id}"
        leg = belief.by_broker.get(BrokerOrderId(order.id))
        demand(leg is not None, BOOKS, f"nothing is known of {name}")
        assert leg is not None
        told = (STATUS[order.status], order.filled_qty)
        demand((leg.status, leg.filled) == told, BOOKS, f"{name} is {leg.status} {leg.filled}, the books say {told}")
    ours = {str(symbol): book.quantity for symbol, book in belief.books.items() if book.quantity}
    demand(ours == _positions(exchange), BOOKS, f"positions are {ours}, the books say {_positions(exchange)}")
    demand(belief.cash == view.cash(), BOOKS, f"cash is {belief.cash}, the books say {view.cash()}")


def every_execution_is_held_once(belief: Belief, exchange: Exchange) -> None:
    """Of every order just those executions are held that the exchange lists: as many of each size and price.

    Not compared by name: a bust and a new match on the same terms can't be told from one match that two sources name
    differently.
    """
    listed: dict[str, Counter[tuple[Decimal, Decimal]]] = {}
    for match in exchange.view().executions():
        listed.setdefault(match.order_id, Counter())[match.qty, match.price] += 1
    for order_id, leg in belief.by_broker.items():
        theirs = listed.get(str(order_id), Counter())
        standing = [item.execution for item in leg.executions.values() if not item.busted]
        ours = Counter((execution.quantity, execution.price) for execution in standing)
        demand(ours == theirs, HELD, f"order {order_id} holds {_told(ours)}, and the exchange {_told(theirs)}")
        demand(not leg.residual, HELD, f"order {order_id} infers {leg.residual}, and holds {_told(ours)}")


def _told(executions: Counter[tuple[Decimal, Decimal]]) -> str:
    return ", ".join(f"{count} x {quantity} at {price}" for (quantity, price), count in executions.items()) or "nothing"


def every_true_up_has_a_cause(belief: Belief, exchange: Exchange) -> None:
    """A position is put right without an execution only where the exchange moved shares without one."""
    moved = {adjustment.symbol for adjustment in exchange.view().adjustments()}
    for symbol, book in belief.books.items():
        entries = [entry for entry in book.adjustments if entry.reason == "true-up"]
        demand(not entries or symbol in moved, CAUSE, f"{symbol}: {'; '.join(entry.evidence for entry in entries)}")


def _positions(exchange: Exchange) -> dict[str, Decimal]:
    return {symbol: position.qty for symbol, position in exchange.view().positions().items()}


def nothing_was_received_twice(received: list[str]) -> None:
    """Each submit and each replace reached the exchange once at most."""
    requests = [line for line in received if not line.startswith("cancel ")]
    twice = sorted({line for line in requests if requests.count(line) > 1})
    demand(not twice, ONE_SEND, ", ".join(twice))


def every_denied_order_never_arrived(belief: Belief, exchange: Exchange) -> None:
    """What we say was never sent is not at the exchange, and every request of ours has ended by somebody's word."""
    for order in belief.orders.values():
        name = f"{order.order_id} is {order.status}"
        demand(order.in_flight is None, WORD, f"{name} with a {order.in_flight} in flight")
        demand(order.in_doubt is None, WORD, f"{name} with a {order.in_doubt} in doubt")
        for leg in order.legs:
            demand(leg.status in TERMINAL, WORD, f"{leg.client_order_id} of {order.order_id} is {leg.status}")
            if leg.status is OrderStatus.DENIED and leg.client_order_id is not None:
                known = _is_known(exchange, leg.client_order_id)
                demand(not known, WORD, f"{leg.client_order_id} is denied and at the exchange")


def _is_known(exchange: Exchange, client_order_id: str) -> bool:
    try:
        exchange.view().order_by_client_id(client_order_id)
    except Refused:
        return False
    return True


def replay_equals_live(journal: Journal, live: Belief, judged: Belief) -> str:
    """Folding the journal again, from the beginning (`judged`) or from a checkpoint, ends at the same belief.

    Returns a digest of it.
    """
    last = journal.last_offset()
    demand(last == live.offset, REPLAY, f"the journal ends at {last}, belief at {live.offset}")
    told = encode(live)
    demand(_is_the_same(judged, live, told), REPLAY, "from the beginning")
    demand(_is_the_same(fold(journal), live, told), REPLAY, "from the newest checkpoint")
    return hashlib.sha256(told).hexdigest()


def _is_the_same(one: Belief, other: Belief, other_told: bytes) -> bool:
    # As JSON first, which is quick and holds more than belief's own digest does: also what is merely kept at hand.
    return encode(one) == other_told or belief_digest(one) == belief_digest(other)


class Screen:
    """What a dashboard that reads every channel to its end would show."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._portfolio = b"{}"
        self._orders: dict[bytes, bytes] = {}
        """By its first field, which is the order's id: the newest word about it."""

    async def watch(self, bus: MemoryBus) -> None:
        """Read until the bus closes; offsets follow one another, in logs without a hole."""
        subscription = bus.subscribe()
        while True:
            try:
                envelope = await subscription.get()
            except FeedEnded:
                return
            channel, before = envelope.channel, self._seen.get(envelope.channel)
            if before is not None:
                follows = envelope.offset > before if channel in STATE_CHANNELS else envelope.offset == before + 1
                demand(follows, OFFSETS, f"{channel} {envelope.offset} follows {before}")
            self._seen[channel] = envelope.offset
            if channel == Channel.ORDER_STATUS:
                self._orders[envelope.body.partition(b",")[0]] = envelope.body
            elif channel == Channel.PORTFOLIO_UPDATE:
                self._portfolio = envelope.body

    def shows(self, belief: Belief, exchange: Exchange) -> None:
        """The newest portfolio is the exchange's books, and the last word about each order is what is believed."""
        rows = _exact(self._portfolio).get("positions", ())
        shown = {row["symbol"]: row["quantity"] for row in rows if row["quantity"]}
        held = _positions(exchange)
        demand(shown == held, SCREEN, f"positions {shown}, the exchange holds {held}")
        newest = {told["id"]: told for told in map(_exact, self._orders.values())}
        for order_id, told in newest.items():
            order = belief.orders.get(OrderId(order_id))
            if order is None:
                continue  # an adopted order that turned out to be a part of ours
            view = order_status_view(order)
            now = (view.detail, view.filled_quantity, "" if order.in_doubt is None else order.in_doubt.value)
            then = (told["detail"], told["filled_quantity"], told["order"]["in_doubt"])
            demand(now == then, SCREEN, f"{order_id} was last told as {then}, and is believed to be {now}")


def _exact(body: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    return told
