"""The journal of a life folded once more, each step held against what the exchange had done by then.

For: what must hold at every moment and not only once healed: nothing believed before it happened, nothing decided while
unproven, no doubt ended by anything but the broker's word. Not for the end of a life (`checkers.py`). Invariant: the
yardstick is the exchange's own history with its instants; the core is asked only for what it believes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from trueup.chaos.paper import folded_anew
from trueup.chaos.violation import Violation, demand
from trueup.chaos.virtual import START
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import ReplaceOrder, SubmitOrder
from trueup.core.effects import SendOrder, SendReplace
from trueup.core.events import (
    FeedAcknowledged,
    FeedLost,
    OrderLookedUp,
    OrderReported,
    RequestAnswered,
    RuntimeStarted,
    SnapshotTaken,
)
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    FeedName,
    OrderId,
    OrderReport,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.orders import TERMINAL, Leg, Order
from trueup.core.step import step
from trueup.core.transition import Outcome
from trueup.ports import Input
from trueup.runtime.fold import ACCOUNT
from trueup.simulator.model import EventKind, OrderEvent

ONCE = "no execution is counted twice"
LOTS = "a position is what its fills make it"
EARLY = "nothing is believed before it has happened"
BACKWARDS = "no older word replaces a newer one"
BUFFER = "no event is believed before the snapshot that it raced with"
PROVEN = "nothing that could add risk is sent while unproven"
HALTED = "nothing leaves but cancels while halted or killed"
ONE_INTENT = "no request is decided twice"
WORD = "a doubt ends by the broker's word"
DOUBT = "a request without an answer is in doubt"
NEWEST = "an order's newest total is believed at once"
ARRIVED = "no order at the exchange is said never to have arrived"

_SPEAKS = (RequestAnswered, OrderReported, OrderLookedUp, SnapshotTaken)
_TAKES_BACK = (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT)
_MAY_ADD = (RequestKind.SUBMIT, RequestKind.REPLACE)


class History:
    """What the exchange did and when, kept as it happened: a listener for its events."""

    def __init__(self) -> None:
        self._traded: dict[str, tuple[list[datetime], list[Decimal]]] = {}
        self._ended: dict[str, datetime] = {}
        self._born: dict[str, tuple[datetime, str]] = {}

    def note(self, event: OrderEvent) -> None:
        """Remember one event."""
        order, execution = event.order, event.execution
        self._born.setdefault(order.client_order_id, (order.submitted_at, order.id))
        if order.status.is_terminal:
            self._ended.setdefault(order.id, event.at)
        if execution is not None and event.kind in (EventKind.FILL, EventKind.PARTIAL_FILL):
            instants, totals = self._traded.setdefault(order.id, ([], []))
            instants.append(event.at)
            totals.append((totals[-1] if totals else Decimal(0)) + execution.qty)

    def traded_by(self, order_id: str, at: datetime) -> Decimal:
        """Shares that had ever been executed by then, busts not taken back."""
        instants, totals = self._traded.get(order_id, ([], []))
        place = bisect_right(instants, at)
        return totals[place - 1] if place else Decimal(0)

    def had_ended_by(self, order_id: str, at: datetime) -> bool:
        """True when the order had reached a final status."""
        ended = self._ended.get(order_id)
        return ended is not None and ended <= at

    def was_working_at(self, client_order_id: str, at: datetime) -> bool:
        """True when the exchange had an order of that name that could still fill."""
        born = self._born.get(client_order_id)
        return born is not None and born[0] <= at and not self.had_ended_by(born[1], at)


class Judge:
    """Folds inputs one by one; raises `Violation` at the first step that must not be."""

    def __init__(self, history: History, epoch: str) -> None:
        self.belief: Belief = new_belief(account=ACCOUNT, epoch=epoch)
        self.seen: Counter[str] = Counter()
        """How often each kind of trouble was met."""
        self._history = history
        self._intents: set[ClientOrderId] = set()
        self._doubted: set[OrderId] = set()
        self._under_way: set[OrderId] = set()
        self._versions: dict[BrokerOrderId, datetime] = {}
        self._told: dict[BrokerOrderId, datetime] = {}
        self._acknowledged_at: datetime | None = None
        self._is_merged = False
        self._now = START

    @property
    def _is_proven(self) -> bool:
        return self._acknowledged_at is not None and self._is_merged

    def take(self, item: Input, offset: int) -> None:
        """Fold one input, and judge the step."""
        # what was held back bears the instant at which it came, and is told behind what was asked meanwhile
        self._now = max(self._now, item.at)
        self._note_proof(item)
        gap_was_open = self.belief.truth.open_gap is not None
        outcome = step(self.belief, item, offset)
        if gap_was_open and self.belief.truth.open_gap is None:
            demand(self._is_proven, PROVEN, f"entry {offset} closed the gap")
        self._judge_effects(outcome, item)
        orders = outcome.changes.orders.values()
        for order in orders:
            for leg in order.legs:
                self._judge_leg(order, leg)
            book = self.belief.books.get(order.symbol)
            if book is not None:
                folded = folded_anew(self.belief, order.symbol).quantity
                if book.quantity != folded:
                    raise Violation(LOTS, f"{order.symbol} is {book.quantity}, its fills make {folded}")
        self._judge_totals(item)
        self._judge_doubts(orders, item)
        self._count(item, outcome)

    def _note_proof(self, item: Input) -> None:
        match item:
            case RuntimeStarted() | FeedLost(feed=FeedName.BROKER_EVENTS):
                self._acknowledged_at, self._is_merged = None, False
            case FeedAcknowledged(feed=FeedName.BROKER_EVENTS):
                self._acknowledged_at, self._is_merged = item.at, False
            case SnapshotTaken() if item.snapshot.scope is SnapshotScope.FULL:
                acknowledged = self._acknowledged_at
                self._is_merged |= acknowledged is not None and item.snapshot.started_at >= acknowledged
            case OrderReported(source=Source.STREAM):
                demand(self._is_proven, BUFFER, f"{item.exec_type} of {item.report.broker_order_id} at {item.at}")

    def _judge_effects(self, outcome: Outcome, item: Input) -> None:
        for effect in outcome.effects:
            if isinstance(effect, SendOrder):
                name = effect.allowed.order.client_order_id
            elif isinstance(effect, SendReplace):
                name = effect.change.client_order_id
            else:
                continue
            demand(name not in self._intents, ONE_INTENT, f"{name} by {type(item).__name__}")
            self._intents.add(name)
            state = self.belief.trading_state
            demand(state not in (TradingState.HALTED, TradingState.KILLED), HALTED, f"{name} while {state}")
            if not self._is_proven:
                demand(self._shrinks(effect, item), PROVEN, f"{name} by {type(item).__name__} at {item.at}")

    def _shrinks(self, effect: SendOrder | SendReplace, item: Input) -> bool:
        """True when it can only bring the position nearer to nothing."""
        if isinstance(effect, SendReplace):
            order = self.belief.orders[effect.order_id]
            old = next(leg for leg in order.legs if leg.broker_order_id == effect.broker_order_id)
            wanted = effect.change.quantity
            return isinstance(item, ReplaceOrder) and None not in (wanted, old.quantity) and wanted <= old.quantity  # type: ignore[operator]
        wish = effect.allowed.order
        held = self.belief.book(wish.symbol).quantity
        quantity = wish.quantity or Decimal(0)
        against = held > 0 if wish.side is Side.SELL else held < 0
        return isinstance(item, SubmitOrder) and against and quantity <= abs(held)

    def _judge_leg(self, order: Order, leg: Leg) -> None:
        # Not by `demand`: this runs for every leg of every step, and to word what is wrong costs more than to look.
        broker_id, at = leg.broker_order_id, self._now
        held = sum((item.execution.quantity for item in leg.executions.values() if not item.busted), Decimal(0))
        if held != leg.executed:
            raise Violation(ONCE, f"{broker_id} counts {leg.executed}, and holds executions of {held}")
        if broker_id is None:
            if leg.filled:
                raise Violation(EARLY, f"{leg.client_order_id} filled {leg.filled}, and was never at the exchange")
            if leg.status in TERMINAL and leg.client_order_id is not None:
                is_there = self._history.was_working_at(leg.client_order_id, at)
                if is_there:
                    raise Violation(ARRIVED, f"{leg.client_order_id} is {leg.status} at {at}: {order.reason}")
            return
        traded = self._history.traded_by(broker_id, at)
        if not 0 <= leg.filled <= traded:
            raise Violation(ONCE, f"{broker_id} filled {leg.filled} at {at}, {traded} had traded")
        if leg.status in TERMINAL:
            ended = self._history.had_ended_by(broker_id, at)
            if not ended:
                raise Violation(EARLY, f"{broker_id} is {leg.status} at {at}, and works at the exchange")
        if leg.version is not None:
            before = self._versions.get(broker_id)
            if not (before is None or leg.version >= before):
                raise Violation(BACKWARDS, f"{broker_id}: {leg.version} after {before}")
            self._versions[broker_id] = leg.version

    def _judge_totals(self, item: Input) -> None:
        if isinstance(item, SnapshotTaken):
            for row in item.snapshot.orders:
                self._is_news(row)
        elif isinstance(item, OrderReported | OrderLookedUp | RequestAnswered) and item.report is not None:
            report = item.report
            leg = self.belief.by_broker.get(report.broker_order_id)
            if self._is_news(report) and leg is not None:
                takes_back = isinstance(item, OrderReported) and item.exec_type in _TAKES_BACK
                total = report.filled_quantity
                is_believed = leg.filled == total if takes_back else leg.filled >= total
                demand(is_believed, NEWEST, f"{report.broker_order_id}: told {total}, believed {leg.filled}")

    def _is_news(self, report: OrderReport) -> bool:
        """True when no report of that order heard so far is of the same instant or a later one."""
        before, version = self._told.get(report.broker_order_id), report.version
        if version is None or (before is not None and version <= before):
            return False
        self._told[report.broker_order_id] = version
        return True

    def _judge_doubts(self, changed: Iterable[Order], item: Input) -> None:
        orders = self.belief.orders
        if isinstance(item, RuntimeStarted):
            for order_id in self._under_way:
                order = orders.get(order_id)
                is_doubted = order is None or order.in_doubt is not None
                demand(is_doubted, DOUBT, f"{order_id} was on its way when the process ended")
        if isinstance(item, RequestAnswered) and item.outcome is RequestOutcome.UNKNOWN and item.kind in _MAY_ADD:
            leg = self.belief.by_client.get(item.client_order_id)
            if leg is not None and leg.presumed and leg.status is not OrderStatus.DENIED:
                is_doubted = orders[leg.order_id].in_doubt in _MAY_ADD
                demand(is_doubted, DOUBT, f"{item.client_order_id}: no answer came, and it is {leg.status}")
        for order_id in list(self._doubted):
            order = orders.get(order_id)
            if order is None or order.in_doubt is None:
                speaks = isinstance(item, _SPEAKS)
                speaks = speaks and not (isinstance(item, RequestAnswered) and item.outcome is RequestOutcome.UNKNOWN)
                demand(speaks, WORD, f"{type(item).__name__} ended the doubt about {order_id}")
                self._doubted.discard(order_id)
        for order in changed:
            if order.in_doubt is not None:
                self._doubted.add(order.order_id)
        if isinstance(item, RuntimeStarted):
            self._under_way.clear()
        for order in changed:
            if order.in_flight in _MAY_ADD:
                self._under_way.add(order.order_id)
        self._under_way = {name for name in self._under_way if name in orders and orders[name].in_flight in _MAY_ADD}

    def _count(self, item: Input, outcome: Outcome) -> None:
        seen = self.seen
        seen[type(item).__name__] += 1
        if isinstance(item, RequestAnswered):
            seen[f"{item.kind.value} {item.outcome.value}"] += 1
        elif isinstance(item, OrderLookedUp) and item.report is None:
            seen["not found"] += 1
        elif isinstance(item, SnapshotTaken) and item.at - item.snapshot.started_at > timedelta(seconds=1):
            seen["slow snapshot"] += 1
        for noted in outcome.changes.fills:
            if noted.source is not Source.STREAM:
                seen["fill learned by asking"] += 1
