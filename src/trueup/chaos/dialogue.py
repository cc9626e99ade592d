"""Random schedules of the core in talk with a broker: requests, answers, look-ups and crashes, one from each seed.

The shell here is outbox, feed and reconciler in a few lines: it carries the effects that `step` asks for to the broker
on paper, badly, and puts what came back before `step`, late, in any order, or never. A crash forgets all that was under
way, and not what was on the road. Not for what a broker tells unasked (`cores.py`), nor for the real shell (`life.py`).
Invariant: until the broker has spoken of a request, belief holds it in flight or in doubt; and after a new process, a
live stream and time, belief is the books.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from trueup.chaos.judge import ARRIVED
from trueup.chaos.paper import (
    FINAL,
    PRICES,
    SURE,
    SYMBOLS,
    PaperBroker,
    equals_the_books,
    holds_the_executions,
)
from trueup.chaos.violation import Violation, demand
from trueup.core.belief import Belief
from trueup.core.commands import CancelOrder, Kill, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import FindOrder, SendCancel, SendOrder, SendReplace
from trueup.core.events import (
    ClockTicked,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    OrderLookedUp,
    OrderReported,
    RequestAnswered,
    RuntimeStarted,
    SnapshotTaken,
)
from trueup.core.model import (
    ClientOrderId,
    FeedName,
    OrderReport,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    Symbol,
    TradingState,
)
from trueup.core.orders import TERMINAL
from trueup.core.step import step
from trueup.ports import Input
from trueup.simulator.faults import Random

STREAM = FeedName.BROKER_EVENTS

UNHEARD = "a request without an answer is in flight or in doubt"
ONE_SEND = "no request is sent twice"
LISTS = "the open orders are those that have not ended"

Request = SendOrder | SendReplace


class Dialogue:
    """One account, one belief, one shell that loses, delays, repeats and forgets."""

    def __init__(self, dice: Random, broker: PaperBroker, belief: Belief, inputs: list[Input]) -> None:
        self._dice = dice
        self._broker = broker
        self._belief = belief
        self._inputs = inputs
        self._requests: list[Request] = []
        self._cancels: list[SendCancel] = []
        self._finds: list[FindOrder] = []
        self._answers: list[RequestAnswered | OrderLookedUp | SnapshotTaken] = []
        self._on_the_road: list[Request] = []
        self._undecided: list[int] = []
        """Replaces that the broker has taken in and not carried out yet, by the number of the new order."""
        self._events: list[OrderReported] = []
        self._delivered = 0
        self._is_live = False
        self._sent: set[str] = set()
        self._unheard: dict[str, RequestKind] = {}

    # --- the core's side ---

    def _tell(self, item: Input) -> None:
        self._inputs.append(item)
        self._hear(item)
        outcome = step(self._belief, item, self._belief.offset + 1)
        for effect in outcome.effects:
            match effect:
                case SendOrder():
                    self._note(str(effect.allowed.order.client_order_id), RequestKind.SUBMIT)
                    self._requests.append(effect)
                case SendReplace():
                    self._note(str(effect.change.client_order_id), RequestKind.REPLACE)
                    self._requests.append(effect)
                case SendCancel():
                    self._cancels.append(effect)
                case FindOrder():
                    self._finds.append(effect)
        self._judge_requests()
        self._judge_lists()

    def _note(self, name: str, kind: RequestKind) -> None:
        demand(name not in self._sent, ONE_SEND, name)
        self._sent.add(name)
        self._unheard[name] = kind

    def _hear(self, item: Input) -> None:
        """Forget what has been heard of; a refused replace on the stream names its order alone, so it tells of none."""
        if isinstance(item, RequestAnswered) and item.outcome is not RequestOutcome.UNKNOWN:
            self._unheard.pop(str(item.client_order_id), None)
        reports: tuple[OrderReport, ...] = ()
        if isinstance(item, SnapshotTaken):
            reports = item.snapshot.orders
        elif isinstance(item, OrderReported | OrderLookedUp | RequestAnswered) and item.report is not None:
            reports = (item.report,)
        for report in reports:
            self._unheard.pop(str(report.client_order_id), None)

    def _judge_requests(self) -> None:
        for name, kind in self._unheard.items():
            leg = self._belief.by_client[ClientOrderId(name)]
            order = self._belief.orders[leg.order_id]
            if leg.status is OrderStatus.DENIED or leg.broker_order_id is not None:
                continue  # looked up and not found, as often as it takes; or taken for what replaced the same order
            is_held = kind in (order.in_flight, order.in_doubt) and any(leg is asked for asked in order.asked)
            demand(is_held, UNHEARD, f"{name} is {leg.status}, and {order.order_id} is {order.status}")

    def _judge_lists(self) -> None:
        belief = self._belief
        unfinished = {name for name, order in belief.orders.items() if not order.is_terminal}
        listed = set(belief.open_orders)
        demand(listed == unfinished, LISTS, f"{sorted(listed ^ unfinished)}")

    def _now(self) -> None:
        self._broker.now += timedelta(milliseconds=1)

    # --- the broker's side ---

    def _collect(self) -> None:
        """What the broker has sent since waits on the stream, or is lost with it."""
        new = self._broker.events[self._delivered :]
        self._delivered = len(self._broker.events)
        if self._is_live:
            self._events.extend(new)

    def _arrive(self, request: Request) -> int | None:
        """The number of the order that it made; None when the broker would not have it."""
        broker = self._broker
        if isinstance(request, SendOrder):
            terms = request.allowed.order
            broker.place(terms.symbol, terms.side, terms.quantity or 0, terms.client_order_id)
        else:
            change = request.change
            number = int(request.broker_order_id.removeprefix("b-"))
            if broker.orders[number].status in FINAL:
                return None
            self._carry_out(number, change.quantity or broker.orders[number].quantity, change.client_order_id)
        return len(broker.orders) - 1

    def _carry_out(self, number: int, quantity: Decimal, name: str) -> None:
        """A replace, at once or after a while in which it may still be refused."""
        if self._dice.random() < 0.5:
            self._broker.take_in_replace(number, quantity, name)
            self._undecided.append(len(self._broker.orders) - 1)
        else:
            self._broker.replace(number, quantity, name)

    def _answer(self, kind: RequestKind, name: str, outcome: RequestOutcome, number: int | None = None) -> None:
        report = None if number is None else self._broker.row(self._broker.orders[number])
        self._answers.append(
            RequestAnswered(
                at=self._broker.now, kind=kind, client_order_id=ClientOrderId(name), outcome=outcome, report=report
            )
        )

    def _row_of(self, find: FindOrder) -> OrderReport | None:
        for order in self._broker.orders:
            if find.broker_order_id == f"b-{order.number}" or find.client_order_id == order.client_order_id:
                return self._broker.row(order)
        return None

    # --- what happens ---

    def live(self) -> None:
        """Raises `Violation` at the first thing that must not be."""
        self._be_restored()
        acts = [getattr(self, name) for name in WEIGHTS]
        weights = list(WEIGHTS.values())
        for _ in range(self._dice.randint(20, 100)):
            act = self._dice.choices(acts, weights)[0]
            self._now()
            act()
            if not self._is_live and self._dice.random() < 0.3:
                self._be_restored()
            self._collect()
        self._heal()

    def _wish(self) -> None:
        side = Side.BUY if self._dice.random() < 0.7 else Side.SELL
        symbol, quantity = Symbol(self._dice.choice(SYMBOLS)), Decimal(self._dice.randint(1, 40))
        self._tell(SubmitOrder(at=self._broker.now, symbol=symbol, side=side, quantity=quantity))

    def _change(self) -> None:
        working = list(self._belief.open_orders)
        if working:
            quantity = Decimal(self._dice.randint(1, 60))
            self._tell(ReplaceOrder(at=self._broker.now, order_id=self._dice.choice(working), quantity=quantity))

    def _take_back(self) -> None:
        working = list(self._belief.open_orders)
        if working:
            self._tell(CancelOrder(at=self._broker.now, order_id=self._dice.choice(working)))

    def _switch(self) -> None:
        command = Resume if self._belief.gate.kill.killed else Kill
        self._tell(command(at=self._broker.now, reason="chaos"))

    def _send(self) -> None:
        if not self._requests:
            return
        request = self._requests.pop(self._dice.randrange(len(self._requests)))
        is_submit = isinstance(request, SendOrder)
        name = request.allowed.order.client_order_id if is_submit else request.change.client_order_id  # type: ignore[union-attr]
        kind = RequestKind.SUBMIT if is_submit else RequestKind.REPLACE
        fate = self._dice.random()
        if request.halt_generation < self._belief.halt_generation:
            self._answer(kind, str(name), RequestOutcome.NOT_SENT)
        elif fate < 0.1:
            self._answer(kind, str(name), RequestOutcome.REFUSED)
        elif fate < 0.25:
            self._answer(kind, str(name), RequestOutcome.UNKNOWN)
            if fate < 0.2:
                self._on_the_road.append(request)
        else:
            number = self._arrive(request)
            if number is None:
                self._answer(kind, str(name), RequestOutcome.REFUSED)
            elif fate < 0.85:
                self._answer(kind, str(name), RequestOutcome.ACCEPTED, number)
            else:
                self._answer(kind, str(name), RequestOutcome.UNKNOWN)

    def _arrive_late(self) -> None:
        if self._on_the_road:
            self._arrive(self._on_the_road.pop(0))

    def _decide(self) -> None:
        if self._undecided:
            self._broker.decide_replace(self._undecided.pop(0), carried_out=self._dice.random() < 0.6)

    def _send_cancel(self) -> None:
        if not self._cancels:
            return
        effect = self._cancels.pop(0)
        number = int(effect.broker_order_id.removeprefix("b-"))
        is_over = self._broker.orders[number].status in FINAL
        fate = self._dice.random()
        if fate < 0.4:
            self._broker.cancel(number)
        elif fate < 0.6:
            self._broker.request_cancel(number)
        if is_over or fate > 0.9:
            outcome = RequestOutcome.REFUSED
        else:
            outcome = RequestOutcome.ACCEPTED if fate < 0.6 else RequestOutcome.UNKNOWN
        self._answer(RequestKind.CANCEL, str(effect.client_order_id), outcome)

    def _look_up(self) -> None:
        if not self._finds:
            return
        find = self._finds.pop(self._dice.randrange(len(self._finds)))
        if find.not_before is not None:
            self._broker.now = max(self._broker.now, find.not_before)
        self._answers.append(
            OrderLookedUp(
                at=self._broker.now,
                started_at=self._broker.now,
                report=self._row_of(find),
                client_order_id=find.client_order_id,
                broker_order_id=find.broker_order_id,
            )
        )

    def _look(self) -> None:
        is_full = self._dice.random() < 0.5
        scope, source = (SnapshotScope.FULL, Source.RECONCILE) if is_full else (SnapshotScope.ORDERS, Source.POLL)
        self._answers.append(self._broker.snapshot(scope, source))

    def _answer_comes(self) -> None:
        if self._answers:
            answer = self._answers.pop(self._dice.randrange(len(self._answers)))
            self._tell(replace(answer, at=self._broker.now))

    def _event_comes(self) -> None:
        if self._events:
            place = 0 if self._dice.random() < 0.7 else self._dice.randrange(len(self._events))
            event = self._events.pop(place)
            if self._dice.random() < 0.8:
                self._tell(replace(event, at=self._broker.now))

    def _trade(self) -> None:
        if self._broker.orders:
            number = self._dice.randrange(len(self._broker.orders))
            self._broker.fill(number, self._dice.choice((2, 5, 99)), self._dice.choice(PRICES))

    def _annul(self) -> None:
        if not self._broker.orders:
            return
        number = self._dice.randrange(len(self._broker.orders))
        matches = len(self._broker.orders[number].live)
        which = self._dice.randrange(max(matches, 1))
        if self._dice.random() < 0.6:
            self._broker.bust(number, which, ends=False)
        else:
            self._broker.correct(number, which, self._dice.choice(PRICES), self._dice.choice((1, 99)))

    def _meddle(self) -> None:
        """Another client of the same account."""
        broker, verb = self._broker, self._dice.random()
        if verb < 0.4 or not broker.orders:
            broker.place(self._dice.choice(SYMBOLS), Side.BUY, self._dice.randint(1, 30))
        else:
            number = self._dice.randrange(len(broker.orders))
            if verb < 0.7:
                broker.cancel(number)
            elif broker.orders[number].status not in FINAL:
                self._carry_out(number, broker.orders[number].filled + 7, f"ext-{len(broker.orders)}")

    def _cut(self) -> None:
        self._events.clear()
        self._is_live = False
        self._tell(FeedLost(at=self._broker.now, feed=STREAM, reason="cut"))

    def _be_restored(self) -> None:
        self._collect()
        self._is_live = True
        self._tell(FeedAcknowledged(at=self._broker.now, feed=STREAM))
        self._now()
        self._tell(self._broker.snapshot())
        self._tell(FeedRestored(at=self._broker.now, feed=STREAM))

    def _crash(self) -> None:
        for waiting in (self._requests, self._cancels, self._finds, self._answers, self._events):
            waiting.clear()
        self._is_live = False
        self._tell(RuntimeStarted(at=self._broker.now, version="0", broker="paper"))

    def _wait(self) -> None:
        self._broker.now += timedelta(seconds=self._dice.choice((1, 4, 31)))
        self._tell(ClockTicked(at=self._broker.now))

    # --- the end ---

    def _heal(self) -> None:
        broker, belief = self._broker, self._belief
        while self._on_the_road:
            self._arrive_late()
        while self._undecided:
            self._decide()
        self._crash()
        if belief.gate.kill.killed:
            self._switch()
        self._be_restored()
        for _ in range(200):
            if not self._finds:
                break
            self._look_up()
            self._answer_comes()
            self._now()
        demand(not self._finds, SURE, "the look-ups never end")
        self._tell(broker.snapshot())
        equals_the_books(belief, broker)
        holds_the_executions(belief, broker)
        known = {order.client_order_id for order in broker.orders}
        for order in belief.orders.values():
            doubts = (order.in_flight, order.in_doubt)
            demand(doubts == (None, None), SURE, f"{order.order_id} is {order.status}, {doubts}")
            for leg in order.legs:
                if leg.broker_order_id is None:
                    is_told = leg.status in TERMINAL and str(leg.client_order_id) not in known
                    demand(is_told, ARRIVED, f"{leg.client_order_id} is {leg.status}")
        demand(belief.truth.last_result == "clean", SURE, belief.truth.last_result)
        demand(belief.truth.open_gap is None, SURE, "a gap is open")
        demand(not belief.drifts, SURE, "a drift is open")
        if belief.trading_state is not TradingState.ACTIVE:
            raise Violation(SURE, f"trading is {belief.trading_state}")


WEIGHTS = {
    "_wish": 6,
    "_change": 14,
    "_take_back": 4,
    "_switch": 0.4,
    "_send": 20,
    "_arrive_late": 3,
    "_decide": 6,
    "_send_cancel": 9,
    "_look_up": 4,
    "_look": 2,
    "_answer_comes": 22,
    "_event_comes": 20,
    "_trade": 7,
    "_annul": 3,
    "_meddle": 2,
    "_cut": 0.8,
    "_be_restored": 1,
    "_crash": 1.5,
    "_wait": 2,
}
"""Every act and how often it comes."""
