"""Small worlds: every sequence of inputs that the core could see of a short story, told completely.

A story is what the broker does. Of it the core may see: each stream event once, twice or never; the answer to the poll
and the answer to the look, each taken at some point of the story; the restart of the process. In a slow enough network
any order of these is possible, so a world is *all* orders of *all* choices, not a sample. Not for randomness (see
`schedules.py`). Invariant: no two sequences that `World.sequences` tells are equal.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import combinations
from math import comb, factorial

from trueup.chaos.paper import EPOCH, PaperBroker, equals_the_books
from trueup.chaos.violation import Violation
from trueup.core.belief import Belief, new_belief
from trueup.core.commands import SubmitOrder
from trueup.core.effects import SendOrder
from trueup.core.events import (
    FeedAcknowledged,
    FeedRestored,
    RequestAnswered,
    RuntimeStarted,
    SnapshotTaken,
)
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    OrderType,
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
from trueup.journal.codec import Codec
from trueup.ports import Input

OURS = ClientOrderId("tu-worlds-1")
STREAM = FeedName.BROKER_EVENTS
Act = Callable[[PaperBroker], object]


def place(quantity: int = 100, *, name: str | None = None, symbol: str = "AAPL", side: Side = Side.BUY) -> Act:
    """An order reaches the books."""
    return lambda broker: broker.place(symbol, side, quantity, name)


def fill(number: int, quantity: int, price: str = "10") -> Act:
    """Shares of an order trade."""
    return lambda broker: broker.fill(number, quantity, price)


def cancel(number: int) -> Act:
    """An order is canceled."""
    return lambda broker: broker.cancel(number)


def change(number: int, quantity: int) -> Act:
    """An order is replaced by one of another quantity."""
    return lambda broker: broker.replace(number, quantity)


def bust(number: int) -> Act:
    """The newest execution of an order is annulled."""
    return lambda broker: broker.bust(number)


@dataclass(frozen=True)
class Choice:
    """What is fixed before the order is: where poll and look are taken, what is lost, what comes twice."""

    poll_after: int
    look_after: int
    heard: tuple[int, ...]
    twice: int | None


@dataclass(frozen=True)
class World:
    """A story: `known` acts whose events were heard in good order, then `acts` about which everything is open."""

    name: str
    acts: tuple[Act, ...]
    known: tuple[Act, ...] = ()
    ours: bool = False

    def tell(self) -> Told:
        """Let the broker live the story, and keep all that could be observed of it."""
        return Told(self)


class Told:
    """One story, lived: its events, and poll and look as they would have been answered after each act."""

    def __init__(self, world: World) -> None:
        self.broker = broker = PaperBroker()
        self.opening: list[Input] = [
            FeedAcknowledged(at=EPOCH, feed=STREAM),
            broker.snapshot(),
            FeedRestored(at=broker.now, feed=STREAM),
        ]
        if world.ours:
            self.opening.append(
                SubmitOrder(
                    at=broker.now,
                    symbol=Symbol("AAPL"),
                    side=Side.BUY,
                    quantity=Decimal(100),
                    order_type=OrderType.LIMIT,
                    limit_price=Decimal(10),
                    client_order_id=OURS,
                )
            )
        for act in world.known:
            act(broker)
        self.opening.extend(broker.events)
        heard = len(broker.events)
        self.polls: list[Input] = [self._poll()]
        self.looks: list[Input] = [broker.snapshot()]
        replies: list[Input] = []
        for act in world.acts:
            act(broker)
            if world.ours and not replies:
                replies.append(self._reply())
            self.polls.append(self._poll())
            self.looks.append(broker.snapshot())
        self.events: list[Input] = [*replies, *broker.events[heard:]]
        self.peak = {
            BrokerOrderId(f"b-{order.number}"): sum((item[1] for item in order.executions), Decimal(0))
            for order in broker.orders
        }
        self.restart: Input = RuntimeStarted(at=broker.now, version="0", broker="paper")
        self.arrival = broker.now + timedelta(seconds=1)
        broker.now += timedelta(seconds=60)
        self.truth: list[Input] = [
            FeedAcknowledged(at=broker.now, feed=STREAM),
            broker.snapshot(),
            FeedRestored(at=broker.now, feed=STREAM),
        ]

    def _poll(self) -> SnapshotTaken:
        return self.broker.snapshot(SnapshotScope.ORDERS, Source.POLL)

    def _reply(self) -> RequestAnswered:
        return RequestAnswered(
            at=self.broker.now,
            kind=RequestKind.SUBMIT,
            client_order_id=OURS,
            outcome=RequestOutcome.ACCEPTED,
            report=self.broker.row(self.broker.orders[0]),
        )


def choices(told: Told, *, every: bool) -> Iterator[Choice]:
    """Every choice of a world; without `every`, what comes twice is tried with poll and look in mid-story only."""
    places = range(len(told.polls))
    middle = len(told.polls) // 2
    numbers = range(len(told.events))
    for poll_after in places:
        for look_after in places:
            repeats = every or poll_after == look_after == middle
            for size in range(len(told.events) + 1):
                for heard in combinations(numbers, size):
                    for twice in (None, *heard) if repeats else (None,):
                        yield Choice(poll_after, look_after, heard, twice)


def predicted(told: Told, *, every: bool) -> int:
    """How many sequences there are, by combinatorics alone.

    With k of n events heard, k + 3 inputs (poll, look and restart too) come in any order; if one of the k comes twice,
    k + 4 do, of which two are alike.
    """
    places, events = len(told.polls), len(told.events)
    once = sum(comb(events, heard) * factorial(heard + 3) for heard in range(events + 1))
    twice = sum(comb(events, heard) * heard * factorial(heard + 4) // 2 for heard in range(events + 1))
    return places**2 * once + (places**2 if every else 1) * twice


RESTART = 0
"""The place of the restart among the inputs that a choice holds."""

PLACES = 10
"""As many as the longest sequence has."""

Read = tuple[Input, Input]
"""An input as it came, and as the journal gives it back."""


class Explorer:
    """Walks through all sequences of one story, each prefix once, on the real core."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told = world.tell()
        self.codec = Codec()
        self.sequences = 0
        self.steps = 0
        self.folds = 0
        self.sends = 0
        self.opening = [self._from_the_journal(item) for item in self.told.opening]
        self.inputs: list[Read] = []
        self._read: dict[int, list[Read]] = {}

    def explore(self, *, every: bool) -> None:
        """Every sequence of every choice."""
        opened = self._opened()
        for choice in choices(self.told, every=every):
            self._walk(choice, pickle.loads(opened))

    def _opened(self) -> bytes:
        belief = new_belief(account="PAPER", epoch="worlds")
        for item in self.told.opening:
            self._step(belief, item)
        assert self.sends == (1 if self.world.ours else 0)
        assert belief.trading_state is TradingState.ACTIVE
        return pickle.dumps(belief, 5)

    def _walk(self, choice: Choice, belief: Belief) -> None:
        told = self.told
        here = [told.restart, told.polls[choice.poll_after], told.looks[choice.look_after]]
        here.extend(told.events[number] for number in choice.heard)
        left = [1] * len(here)
        if choice.twice is not None:
            left[3 + choice.heard.index(choice.twice)] = 2
        self._branch(belief, [self._on_arrival(item) for item in here], left, sum(left))

    def _on_arrival(self, item: Input) -> list[Read]:
        """The input as it would be at each place of a sequence, and as the journal gives it back."""
        at_each_place = self._read.get(id(item))
        if at_each_place is None:
            times = [self.told.arrival + timedelta(seconds=place) for place in range(PLACES)]
            arrived: list[Input] = [replace(item, at=at) for at in times]
            at_each_place = [(each, self._from_the_journal(each)) for each in arrived]
            self._read[id(item)] = at_each_place
        return at_each_place

    def _from_the_journal(self, item: Input) -> Input:
        return self.codec.decode(self.codec.encode(item))

    def _branch(self, belief: Belief, here: list[list[Read]], left: list[int], remaining: int) -> None:
        """Let each input that is still to come be the next one; the last of them may use up this belief."""
        if not remaining:
            self._heal(belief)
            return
        labels = [label for label, count in enumerate(left) if count]
        frozen = pickle.dumps(belief, 5) if len(labels) > 1 else b""
        for label in labels:
            now = belief if label == labels[-1] else pickle.loads(frozen)
            if label == RESTART:
                now = self._folded_from_the_journal(now)
            item = here[label][len(self.inputs)]
            self.inputs.append(item)
            self._step(now, item[0])
            self._look_for_harm(now)
            left[label] -= 1
            self._branch(now, here, left, remaining - 1)
            left[label] += 1
            self.inputs.pop()

    def _folded_from_the_journal(self, before: Belief) -> Belief:
        """What a new process knows: every input so far, as bytes and back, folded from nothing."""
        self.folds += 1
        belief = new_belief(account="PAPER", epoch="worlds")
        for item in self.opening:
            step(belief, item, belief.offset + 1)
        for _, item in self.inputs:
            step(belief, item, belief.offset + 1)
        assert belief == before, self._said()
        return belief

    def _step(self, belief: Belief, item: Input) -> None:
        outcome = step(belief, item, belief.offset + 1)
        self.steps += 1
        self.sends += sum(isinstance(effect, SendOrder) for effect in outcome.effects)

    def _look_for_harm(self, belief: Belief) -> None:
        """What must hold at every moment, healed or not."""
        for broker_order_id, leg in belief.by_broker.items():
            assert leg.executed + leg.residual == leg.filled, self._said()
            assert 0 <= leg.filled <= self.told.peak[broker_order_id], self._said()
        gap, proved = belief.truth.open_gap, belief.truth.proved_at
        if gap is not None:
            assert proved is None or proved <= gap.opened_at, self._said()
            assert belief.entries_gated, self._said()

    def _heal(self, belief: Belief) -> None:
        """A complete newer snapshot: belief is the books, the gap is closed, nothing was sent again."""
        self.sequences += 1
        for item in self.told.truth:
            self._step(belief, item)
        try:
            equals_the_books(belief, self.told.broker)
        except (AssertionError, Violation) as wrong:
            raise AssertionError(f"{wrong}\n{self._said()}") from wrong
        live = {f"b-{order.number}" for order in self.told.broker.orders if order.status not in TERMINAL}
        assert {order.leg.broker_order_id for order in belief.open_orders.values()} == live, self._said()
        assert belief.truth.open_gap is None, self._said()
        assert belief.truth.last_result == "clean", self._said()
        assert not belief.drifts, self._said()
        assert not belief.in_doubt(), self._said()
        assert belief.trading_state is TradingState.ACTIVE, self._said()
        assert all(item.reason == "opening balance" for book in belief.books.values() for item in book.adjustments)
        assert self.sends == (1 if self.world.ours else 0), self._said()

    def _said(self) -> str:
        lines = [f"world {self.world.name!r}; the core was told, after the opening:"]
        lines.extend(f"  {item}" for item, _ in self.inputs)
        return "\n".join(lines)


WORLDS = (
    World("an order fills in two parts", (place(), fill(0, 40), fill(0, 60, "11"))),
    World("a part fills, the rest is canceled", (place(), fill(0, 40), cancel(0))),
    World("a fill is busted", (fill(0, 40), fill(0, 60, "11"), bust(0)), known=(place(),)),
    World("replaced, then filled under the new id", (change(0, 80), fill(1, 80)), known=(place(),)),
    World("part filled, then replaced", (fill(0, 40), change(0, 80)), known=(place(),)),
    World(
        "two orders of one symbol, both ways",
        (fill(0, 100), fill(1, 30, "11"), cancel(1)),
        known=(place(), place(50, side=Side.SELL)),
    ),
    World("our own order: reply, acceptance and fill", (place(name=OURS), fill(0, 100)), ours=True),
)
