"""Random schedules of the core alone, one from each seed: `trueup chaos --core`.

A schedule is a story at the paper broker, and a delivery of it: events lost, doubled and shuffled, polls and looks that
come late, cuts, restarts and hours that pass. It uses no shrinking and no library, so that a million of them are
affordable. Not for the shell (`life.py` is). Invariant: nothing is ever counted beyond what traded, and one clean look
at the end makes belief the books.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from trueup.chaos.paper import EPOCH, PaperBroker, equals_the_books
from trueup.chaos.violation import FAULTS_OF_REASONING, Violation, demand, fall
from trueup.core.belief import Belief, new_belief
from trueup.core.events import ClockTicked, FeedAcknowledged, FeedLost, FeedRestored, RuntimeStarted
from trueup.core.model import ExecType, FeedName, OrderStatus, Side, SnapshotScope, Source, TradingState
from trueup.core.step import step
from trueup.ports import Input
from trueup.simulator.faults import Random, seeded

STREAM = FeedName.BROKER_EVENTS
PRICES = ("9.50", "10", "10.37")
SYMBOLS = ("AAPL", "MSFT")

SURE = "one clean look at the end leaves no doubt"
ONCE = "no execution is counted twice"


@dataclass
class Lived:
    """One schedule: what was told, and what belief made of it."""

    inputs: list[Input]
    belief: Belief
    broker: PaperBroker
    violation: Violation | None = None


def story(dice: Random, broker: PaperBroker) -> list[Input]:
    """Let the broker live, and keep what could be observed of it besides the stream."""
    seen: list[Input] = []
    for _ in range(dice.randint(2, 8)):
        verb = dice.random()
        if not broker.orders or verb < 0.15:
            side = Side.BUY if dice.random() < 0.6 else Side.SELL
            broker.place(dice.choice(SYMBOLS), side, dice.randint(1, 60))
            continue
        number = dice.randrange(len(broker.orders))
        if verb < 0.5:
            broker.fill(number, dice.randint(1, 40), dice.choice(PRICES))
        elif verb < 0.58:
            broker.cancel(number)
        elif verb < 0.64:
            broker.finish(number, OrderStatus.EXPIRED, ExecType.EXPIRED)
        elif verb < 0.72:
            broker.replace(number, int(broker.orders[number].filled) + dice.randint(1, 40))
        elif verb < 0.8:
            broker.bust(number)
        elif verb < 0.9:
            seen.append(broker.snapshot(SnapshotScope.ORDERS, Source.POLL, only_open=dice.random() < 0.5))
        else:
            seen.append(broker.snapshot(with_executions=dice.random() < 0.7))
    return seen


def delivery(dice: Random, items: list[Input]) -> list[Input]:
    """Lose some, double some, and shuffle: a little, or altogether."""
    kept = [item for item in items if dice.random() > 0.25]
    kept += [item for item in kept if dice.random() < 0.2]
    if dice.random() < 0.5:
        dice.shuffle(kept)
    else:
        for place in range(len(kept) - 1):
            if dice.random() < 0.3:
                kept[place], kept[place + 1] = kept[place + 1], kept[place]
    return kept


def live(seed: int) -> Lived:
    """Live one schedule and check it: nothing counted beyond what traded, and in the end belief is the books."""
    dice = seeded(seed)
    broker = PaperBroker()
    belief = new_belief(account="PAPER", epoch="schedule")
    inputs: list[Input] = []
    lived = Lived(inputs, belief, broker)

    def tell(item: Input) -> None:
        inputs.append(item)
        step(belief, item, belief.offset + 1)

    tell(FeedAcknowledged(at=EPOCH, feed=STREAM))
    tell(broker.snapshot())
    tell(FeedRestored(at=broker.now, feed=STREAM))
    seen = story(dice, broker)
    now = broker.now
    try:
        for item in delivery(dice, [*broker.events, *seen]):
            now += timedelta(milliseconds=dice.choice((1, 50, 2500, 16000)))
            chance = dice.random()
            if chance < 0.05:
                tell(FeedLost(at=now, feed=STREAM, reason="cut"))
            elif chance < 0.1:
                tell(RuntimeStarted(at=now, version="0", broker="paper"))
            elif belief.next_deadline is not None and belief.next_deadline <= now:
                tell(ClockTicked(at=now))
            tell(replace(item, at=now))
            _nothing_beyond_what_traded(belief, broker)
        broker.now = now + timedelta(seconds=1)
        tell(FeedAcknowledged(at=broker.now, feed=STREAM))
        tell(broker.snapshot())
        tell(FeedRestored(at=broker.now, feed=STREAM))
        equals_the_books(belief, broker)
        demand(belief.truth.open_gap is None, SURE, "a gap is open")
        demand(belief.truth.last_result == "clean", SURE, belief.truth.last_result)
        demand(not belief.drifts, SURE, "a drift is open")
        demand(belief.trading_state is TradingState.ACTIVE, SURE, belief.trading_state)
    except Violation as violation:
        lived.violation = violation
    except FAULTS_OF_REASONING as error:
        lived.violation = fall(error)
    return lived


def _nothing_beyond_what_traded(belief: Belief, broker: PaperBroker) -> None:
    for broker_order_id, leg in belief.by_broker.items():
        demand(leg.executed + leg.residual == leg.filled, ONCE, f"{broker_order_id} does not add up")
        order = broker.orders[int(broker_order_id.removeprefix("b-"))]
        traded = sum((item[1] for item in order.executions), Decimal(0))
        demand(0 <= leg.filled <= traded, ONCE, f"{broker_order_id} has {leg.filled}, {traded} ever traded")
