"""A random walk over all that can happen to orders, with a shell that loses, delays, repeats and forgets.

The shell here is outbox, feed and reconciler in a few lines: it performs the effects that `step` asks for at
the broker on paper, badly, and puts what came back before `step`. After each input the invariants are looked at; at the
end the process is started anew, everything heals, and belief must be the broker's books.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trueup.chaos.paper import FINAL, PaperBroker, equals_the_books, folded_anew
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import CancelOrder, Command, Kill, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import FindOrder, SendCancel, SendOrder, SendReplace
from trueup.core.events import (
    ClockTicked,
    Event,
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
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    FeedName,
    FeedStatus,
    OrderId,
    OrderReport,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    Side,
    SnapshotScope,
    Source,
    Symbol,
    TradingState,
    sign,
)
from trueup.core.orders import TERMINAL
from trueup.core.step import LOOKUP_SETTLE, LOOKUPS_NEEDED, step
from trueup.core.transition import Outcome

EXAMPLES = int(os.environ.get("TRUEUP_EXAMPLES", "200"))
"""Raised for a longer hunt: `TRUEUP_EXAMPLES=5000 pytest tests/properties/test_order_machine.py`."""

SYMBOLS = ("AAPL", "MSFT")
PRICES = ("9.50", "10", "10.37")
BROKER_EVENTS = FeedName.BROKER_EVENTS

Ended = tuple[RequestKind, datetime | None]
pick = st.integers(0, 9)
sizes = st.integers(1, 60)


class OrderMachine(RuleBasedStateMachine):
    """One account, one belief, one unreliable shell."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = PaperBroker()
        self.belief: Belief = new_belief(account="PAPER", epoch="machine")
        self.sends: list[SendOrder] = []
        self.cancels: list[SendCancel] = []
        self.replaces: list[SendReplace] = []
        self.finds: list[FindOrder] = []
        self.answers: list[RequestAnswered | OrderLookedUp] = []
        self.held_back: list[SnapshotTaken] = []
        self.on_the_road: list[SendOrder | SendReplace] = []
        self.delivered = 0
        self.waiting: list[OrderReported] = []
        self.told: list[OrderReported] = []
        self.peak: dict[int, Decimal] = {}
        self.sent_names: set[ClientOrderId] = set()
        self.final: dict[BrokerOrderId, OrderStatus] = {}
        self.not_found: dict[OrderId, list[datetime]] = {}
        self.inputs: list[Event | Command] = []
        self.outcomes: list[Outcome] = []

    # --- the shell ------------------------------------------------------------------------------------------------

    def tell(self, item: Event | Command) -> None:
        """Fold one input, take its effects, and look at what may not happen in one step."""
        belief = self.belief
        state_before = belief.trading_state
        doubts = {order.order_id: (order.in_doubt, order.doubt_since) for order in belief.orders.values()}
        if isinstance(item, OrderLookedUp) and item.report is None and item.client_order_id is not None:
            leg = belief.by_client[item.client_order_id]
            order = belief.orders[leg.order_id]
            if order.doubt_since is not None and item.started_at - order.doubt_since >= LOOKUP_SETTLE:
                self.not_found.setdefault(order.order_id, []).append(item.started_at)
        outcome = step(belief, item, belief.offset + 1)
        self.inputs.append(item)
        self.outcomes.append(outcome)
        for effect in outcome.effects:
            if isinstance(effect, SendOrder):
                assert isinstance(item, SubmitOrder), "only a command sends an order"
                name = effect.allowed.order.client_order_id
                assert name not in self.sent_names, f"{name} was sent before"
                self.sent_names.add(name)
                assert effect.halt_generation == belief.halt_generation
                assert state_before in (TradingState.ACTIVE, TradingState.REDUCE_ONLY)
                if state_before is TradingState.REDUCE_ONLY:
                    terms = effect.allowed.order
                    held = belief.books[terms.symbol].quantity
                    assert effect.allowed.reduces
                    assert sign(terms.side) * held < 0
                    assert abs(held) >= terms.quantity
                self.sends.append(effect)
            elif isinstance(effect, SendReplace):
                assert isinstance(item, ReplaceOrder)
                assert state_before is not TradingState.KILLED
                assert effect.halt_generation == belief.halt_generation
                assert effect.change.client_order_id not in self.sent_names
                self.sent_names.add(effect.change.client_order_id)
                self.replaces.append(effect)
            elif isinstance(effect, SendCancel):
                self.cancels.append(effect)
            elif isinstance(effect, FindOrder):
                self.finds.append(effect)
        for order_id, (kind, since) in doubts.items():
            if kind is not None and order_id in belief.orders:
                self._doubt_ended_rightly(item, order_id, (kind, since))

    def _doubt_ended_rightly(self, item: Event | Command, order_id: OrderId, before: Ended) -> None:
        order = self.belief.orders[order_id]
        kind, since = before
        looked = self.not_found.get(order_id, [])
        if order.in_doubt is not kind or order.doubt_since != since:
            self.not_found.pop(order_id, None)
        if order.in_doubt is kind:
            return
        match item:
            case OrderReported() | SnapshotTaken() | RequestAnswered():
                return
            case OrderLookedUp(report=None):
                apart = [looked[0]]
                apart.extend(later for later in looked[1:] if later - apart[-1] >= LOOKUP_SETTLE)
                assert len(apart) >= LOOKUPS_NEEDED, f"{order_id} was given up after {looked}"
            case OrderLookedUp():
                return
            case _:
                raise AssertionError(f"{type(item).__name__} ended the doubt about {order_id}")

    def now(self) -> datetime:
        self.broker._tick()
        return self.broker.now

    def number_of(self, broker_order_id: BrokerOrderId) -> int:
        return int(broker_order_id.removeprefix("b-"))

    def row(self, number: int) -> OrderReport:
        return self.broker.row(self.broker.orders[number])

    def arrive(self, effect: SendOrder | SendReplace) -> int | None:
        """A request reaches the broker; returns the number of the order that it made."""
        if isinstance(effect, SendOrder):
            terms = effect.allowed.order
            self.broker.place(terms.symbol, terms.side, terms.quantity, terms.client_order_id)
        else:
            change = effect.change
            number = self.number_of(effect.broker_order_id)
            quantity = change.quantity or self.broker.orders[number].quantity
            if self.broker.replace(number, quantity, change.client_order_id) is None:
                return None
        return len(self.broker.orders) - 1

    def collect(self) -> None:
        """Events that the broker has sent since: they wait for delivery, or are lost with the stream."""
        new = self.broker.events[self.delivered :]
        self.delivered = len(self.broker.events)
        status = self.belief.feeds[BROKER_EVENTS].status
        if status in (FeedStatus.UP, FeedStatus.RESTORING, FeedStatus.SUSPECT):
            self.waiting.extend(new)
        for order in self.broker.orders:
            self.peak[order.number] = max(self.peak.get(order.number, Decimal(0)), order.filled)

    def answer(
        self, kind: RequestKind, name: ClientOrderId, outcome: RequestOutcome, report: OrderReport | None = None
    ) -> None:
        self.answers.append(
            RequestAnswered(at=self.now(), kind=kind, client_order_id=name, outcome=outcome, report=report)
        )

    # --- beginnings -----------------------------------------------------------------------------------------------

    @initialize(held=st.integers(-30, 30))
    def begin(self, held: int) -> None:
        if held:
            self.broker.place("AAPL", Side.BUY if held > 0 else Side.SELL, abs(held))
            self.broker.fill(0, abs(held), "10")
        self.collect()
        self.tell(FeedAcknowledged(at=self.now(), feed=BROKER_EVENTS))
        self.tell(self.broker.snapshot())
        self.tell(FeedRestored(at=self.now(), feed=BROKER_EVENTS))
        assert self.belief.trading_state is TradingState.ACTIVE

    # --- wishes ---------------------------------------------------------------------------------------------------

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(Side), size=sizes)
    def submit(self, symbol: str, side: Side, size: int) -> None:
        self.tell(SubmitOrder(at=self.now(), symbol=Symbol(symbol), side=side, quantity=Decimal(size)))

    @precondition(lambda self: self.belief.orders)
    @rule(which=pick)
    def cancel(self, which: int) -> None:
        ids = list(self.belief.orders)
        self.tell(CancelOrder(at=self.now(), order_id=ids[which % len(ids)]))

    @precondition(lambda self: self.belief.open_orders)
    @rule(which=pick, size=sizes)
    def replace(self, which: int, size: int) -> None:
        ids = list(self.belief.open_orders)
        self.tell(ReplaceOrder(at=self.now(), order_id=ids[which % len(ids)], quantity=Decimal(size)))

    @rule()
    def kill(self) -> None:
        self.tell(Kill(at=self.now(), reason="test"))
        assert self.belief.trading_state is TradingState.KILLED

    @precondition(lambda self: self.belief.gate.kill.killed)
    @rule()
    def resume(self) -> None:
        self.tell(Resume(at=self.now(), reason="test"))

    # --- the outbox -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sends or self.replaces)
    @rule(which=pick, fate=st.sampled_from(["ok", "ok", "ok", "no answer", "delayed", "lost", "refused"]))
    def send(self, which: int, fate: str) -> None:
        every: list[SendOrder | SendReplace] = [*self.sends, *self.replaces]
        effect = every[which % len(every)]
        if isinstance(effect, SendOrder):
            self.sends.remove(effect)
            kind, name = RequestKind.SUBMIT, effect.allowed.order.client_order_id
        else:
            self.replaces.remove(effect)
            kind, name = RequestKind.REPLACE, effect.change.client_order_id
        if effect.halt_generation < self.belief.halt_generation:
            self.answer(kind, name, RequestOutcome.NOT_SENT)
        elif fate == "refused":
            self.answer(kind, name, RequestOutcome.REFUSED)
        elif fate in ("delayed", "lost"):
            self.answer(kind, name, RequestOutcome.UNKNOWN)
            if fate == "delayed":
                self.on_the_road.append(effect)
        else:
            number = self.arrive(effect)
            self.collect()
            if number is None:
                self.answer(kind, name, RequestOutcome.REFUSED)
            elif fate == "ok":
                self.answer(kind, name, RequestOutcome.ACCEPTED, self.row(number))
            else:
                self.answer(kind, name, RequestOutcome.UNKNOWN)

    @precondition(lambda self: self.on_the_road)
    @rule()
    def arrive_late(self) -> None:
        self.arrive(self.on_the_road.pop(0))
        self.collect()

    @precondition(lambda self: self.cancels)
    @rule(fate=st.sampled_from(["ok", "ok", "asked", "no answer", "lost", "refused"]))
    def send_cancel(self, fate: str) -> None:
        effect = self.cancels.pop(0)
        number = self.number_of(effect.broker_order_id)
        over = self.broker.orders[number].status in FINAL
        if fate in ("ok", "no answer"):
            self.broker.cancel(number)
        elif fate == "asked":
            self.broker.request_cancel(number)
        self.collect()
        if over or fate == "refused":
            outcome = RequestOutcome.REFUSED
        else:
            outcome = RequestOutcome.ACCEPTED if fate in ("ok", "asked") else RequestOutcome.UNKNOWN
        self.answer(RequestKind.CANCEL, effect.client_order_id, outcome)

    @precondition(lambda self: self.finds)
    @rule(which=pick, at_once=st.booleans())
    def find(self, which: int, at_once: bool) -> None:
        effect = self.finds.pop(which % len(self.finds))
        if effect.not_before is not None:
            self.broker.now = max(self.broker.now, effect.not_before)
        started = self.now()
        report = None
        for order in self.broker.orders:
            row = self.broker.row(order)
            if row.broker_order_id == effect.broker_order_id or row.client_order_id == effect.client_order_id:
                report = row
        looked = OrderLookedUp(
            at=started,
            started_at=started,
            report=report,
            client_order_id=effect.client_order_id,
            broker_order_id=effect.broker_order_id,
        )
        if at_once:
            self.tell(looked)
        else:
            self.answers.append(looked)

    @precondition(lambda self: self.answers)
    @rule(which=pick)
    def answer_comes(self, which: int) -> None:
        self.tell(replace(self.answers.pop(which % len(self.answers)), at=self.now()))

    # --- the broker's own life ------------------------------------------------------------------------------------

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(Side), size=sizes)
    def placed_elsewhere(self, symbol: str, side: Side, size: int) -> None:
        self.broker.place(symbol, side, size)
        self.collect()

    @precondition(lambda self: self.broker.orders)
    @rule(which=pick, size=sizes, price=st.sampled_from(PRICES))
    def fill(self, which: int, size: int, price: str) -> None:
        self.broker.fill(which % len(self.broker.orders), size, price)
        self.collect()

    @precondition(lambda self: self.broker.orders)
    @rule(which=pick, verb=st.sampled_from(["cancel", "expire", "refuse_cancel", "bust", "replace"]), size=sizes)
    def broker_acts(self, which: int, verb: str, size: int) -> None:
        number = which % len(self.broker.orders)
        if verb == "cancel":
            self.broker.cancel(number)
        elif verb == "expire":
            self.broker.finish(number, OrderStatus.EXPIRED, ExecType.EXPIRED)
        elif verb == "refuse_cancel":
            self.broker.refuse_cancel(number)
        elif verb == "bust":
            self.broker.bust(number)
        else:
            self.broker.replace(number, self.broker.orders[number].filled + size)
        self.collect()

    # --- what is heard of it --------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(which=pick)
    def event_comes(self, which: int) -> None:
        event = self.waiting.pop(which % len(self.waiting))
        self.told.append(event)
        self.tell(replace(event, at=self.now()))

    @precondition(lambda self: self.told)
    @rule(which=pick)
    def event_comes_again(self, which: int) -> None:
        self.tell(replace(self.told[which % len(self.told)], at=self.now()))

    @precondition(lambda self: self.waiting)
    @rule(which=pick)
    def event_is_lost(self, which: int) -> None:
        self.waiting.pop(which % len(self.waiting))

    @rule(
        scope=st.sampled_from(SnapshotScope),
        source=st.sampled_from([Source.POLL, Source.RECONCILE]),
        executions=st.booleans(),
        only_open=st.booleans(),
        at_once=st.booleans(),
    )
    def look(self, scope: SnapshotScope, source: Source, executions: bool, only_open: bool, at_once: bool) -> None:
        full = scope is SnapshotScope.FULL
        taken = self.broker.snapshot(
            scope,
            source,
            with_executions=executions,
            only_open=only_open and not full,
            known=self.belief.working_broker_ids(),
        )
        if at_once:
            self.tell(taken)
        else:
            self.held_back.append(taken)

    @precondition(lambda self: self.held_back)
    @rule(which=pick)
    def snapshot_comes_late(self, which: int) -> None:
        self.tell(replace(self.held_back.pop(which % len(self.held_back)), at=self.now()))

    @rule()
    def stream_is_cut(self) -> None:
        self.waiting.clear()
        self.tell(FeedLost(at=self.now(), feed=BROKER_EVENTS, reason="cut"))

    @rule()
    def stream_is_back(self) -> None:
        self.tell(FeedAcknowledged(at=self.now(), feed=BROKER_EVENTS))
        self.tell(self.broker.snapshot())
        self.tell(FeedRestored(at=self.now(), feed=BROKER_EVENTS))

    @rule(seconds=st.sampled_from([1, 4, 31]))
    def time_passes(self, seconds: int) -> None:
        self.broker.now += timedelta(seconds=seconds)
        self.tell(ClockTicked(at=self.now()))

    @rule()
    def process_starts_anew(self) -> None:
        """What the shell had in memory is gone; what was on the road arrives or not."""
        self.sends.clear()
        self.cancels.clear()
        self.replaces.clear()
        self.finds.clear()
        self.answers.clear()
        self.held_back.clear()
        self.waiting.clear()
        self.tell(RuntimeStarted(at=self.now(), version="0", broker="paper"))

    # --- what must be true after every input ----------------------------------------------------------------------

    @invariant()
    def executions_and_residuals_are_what_is_filled(self) -> None:
        for order in self.belief.orders.values():
            for leg in order.legs:
                counted = [held.execution for held in leg.executions.values() if not held.busted]
                assert sum((match.quantity for match in counted), Decimal(0)) == leg.executed
                assert sum((match.quantity * match.price for match in counted), Decimal(0)) == leg.executed_value
                assert leg.executed + leg.residual == leg.filled

    @invariant()
    def nothing_is_filled_beyond_what_the_broker_ever_said(self) -> None:
        for broker_order_id, leg in self.belief.by_broker.items():
            assert leg.filled <= self.peak.get(self.number_of(broker_order_id), Decimal(0))
            assert leg.filled >= 0

    @invariant()
    def what_is_final_stays_final(self) -> None:
        for broker_order_id, leg in self.belief.by_broker.items():
            if broker_order_id in self.final:
                assert leg.status in TERMINAL, f"{broker_order_id} was {self.final[broker_order_id]}"
            if leg.status in TERMINAL and not leg.presumed:
                self.final[broker_order_id] = leg.status

    @invariant()
    def positions_are_explained(self) -> None:
        belief = self.belief
        for symbol, book in belief.books.items():
            explained = sum((item.quantity for item in book.adjustments), Decimal(0))
            for leg in belief.legs_by_symbol.get(symbol, ()):
                explained += sign(leg.side) * (leg.filled - leg.opening)
            assert book.quantity == explained, symbol
            assert all(item.reason == "opening balance" for item in book.adjustments), "this broker moves no shares"

    @invariant()
    def folding_again_changes_no_quantity(self) -> None:
        for symbol, book in list(self.belief.books.items()):
            folded = folded_anew(self.belief, symbol)
            assert folded.quantity == book.quantity

    @invariant()
    def the_lists_agree(self) -> None:
        belief = self.belief
        unfinished = [order.order_id for order in belief.orders.values() if not order.is_terminal]
        assert sorted(belief.open_orders) == sorted(unfinished)
        by_symbol = [order_id for orders in belief.open_by_symbol.values() for order_id in orders]
        assert sorted(by_symbol) == sorted(unfinished)
        for broker_order_id, leg in belief.by_broker.items():
            assert leg.broker_order_id == broker_order_id
            assert any(leg is other for other in belief.orders[leg.order_id].legs)
        for order in belief.orders.values():
            assert order.legs
            assert {leg.order_id for leg in order.legs} == {order.order_id}

    @invariant()
    def nothing_is_proven_inside_a_gap(self) -> None:
        gap = self.belief.truth.open_gap
        proved = self.belief.truth.proved_at
        if gap is not None:
            assert proved is None or proved <= gap.opened_at
            assert self.belief.entries_gated

    @invariant()
    def doubt_has_a_beginning_and_somebody_asks(self) -> None:
        for order in self.belief.orders.values():
            if order.in_doubt is not None:
                assert order.doubt_since is not None
                assert order.order_id in self.belief.open_orders

    # --- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """A new process, a live stream, and time: everything heals by the broker's word."""
        if self.belief.baseline_at is None:
            return
        while self.on_the_road:
            self.arrive_late()
        self.process_starts_anew()
        if self.belief.gate.kill.killed:
            self.resume()
        self.stream_is_back()
        for _ in range(400):
            if not self.finds:
                break
            self.find(0, True)
        assert not self.finds, "the look-ups never end"
        self.tell(self.broker.snapshot())
        equals_the_books(self.belief, self.broker)
        for order in self.belief.orders.values():
            assert order.in_doubt is None
        for order in self.belief.open_orders.values():
            assert order.in_flight is None
            for leg in order.legs:
                assert leg.broker_order_id is not None or leg.status in TERMINAL
        live = {f"b-{order.number}" for order in self.broker.orders if order.status not in FINAL}
        assert {order.leg.broker_order_id for order in self.belief.open_orders.values()} == live
        assert self.belief.truth.open_gap is None
        assert self.belief.truth.last_result == "clean"
        assert not self.belief.drifts
        assert self.belief.trading_state is TradingState.ACTIVE


TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(deadline=None, max_examples=EXAMPLES, stateful_step_count=40)
