"""Random schedules of the core alone, one from each seed: `trueup chaos --core`.

A schedule is a story at the paper broker, and a delivery of it: events lost, doubled and shuffled, polls and looks that
come late, cuts, restarts and hours that pass. It uses no shrinking and no library, so that a million of them are
affordable. Not for the shell (`life.py` is). Invariant: nothing is ever counted beyond what traded, and one clean look
at the end makes belief the books.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trueup.chaos.dialogue import Dialogue
from trueup.chaos.judge import BACKWARDS, ONCE
from trueup.chaos.paper import (
    EPOCH,
    PRICES,
    SURE,
    SYMBOLS,
    PaperBroker,
    equals_the_books,
    holds_the_executions,
)
from trueup.chaos.violation import FAULTS_OF_REASONING, Violation, demand, fall
from trueup.core.belief import Belief, new_belief
from trueup.core.events import (
    ClockTicked,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    OrderReported,
    RuntimeStarted,
    SnapshotTaken,
)
from trueup.core.model import (
    BrokerOrderId,
    ExecType,
    FeedName,
    OrderReport,
    OrderStatus,
    Side,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.step import step
from trueup.ports import Input
from trueup.simulator.faults import Random, seeded

STREAM = FeedName.BROKER_EVENTS


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
    for _ in range(dice.randint(2, 9)):
        verb = dice.random()
        broker.stands_still = verb < 0.62 and dice.random() < 0.1
        if not broker.orders or verb < 0.13:
            side = Side.BUY if dice.random() < 0.6 else Side.SELL
            broker.place(dice.choice(SYMBOLS), side, dice.randint(1, 60))
            continue
        number = dice.randrange(len(broker.orders))
        matches = len(broker.orders[number].live)
        if verb < 0.45:
            broker.fill(number, dice.choice((5, 5, dice.randint(1, 40))), dice.choice(PRICES))
        elif verb < 0.51:
            broker.cancel(number)
        elif verb < 0.55:
            broker.finish(number, OrderStatus.EXPIRED, ExecType.EXPIRED)
        elif verb < 0.62:
            broker.replace(number, int(broker.orders[number].filled) + dice.randint(1, 40))
        elif verb < 0.72:
            broker.bust(number, dice.randrange(max(matches, 1)), ends=dice.random() < 0.5)
        elif verb < 0.79:
            broker.correct(number, dice.randrange(max(matches, 1)), dice.choice(PRICES), dice.choice((3, 99)))
        elif verb < 0.88:
            seen.append(broker.snapshot(SnapshotScope.ORDERS, Source.POLL, only_open=dice.random() < 0.5))
        else:
            seen.append(broker.snapshot(with_executions=dice.random() < 0.7))
    broker.stands_still = False
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
    """Live one schedule and check it; every fourth is a talk with the broker, the others are what it tells unasked."""
    dice = seeded(seed)
    broker = PaperBroker()
    broker.lists_rename = dice.random() < 0.3
    lived = Lived([], new_belief(account="PAPER", epoch="schedule"), broker)
    try:
        if seed % 4 == 0:
            Dialogue(dice, broker, lived.belief, lived.inputs).live()
        else:
            _hear(dice, lived)
    except Violation as violation:
        lived.violation = violation
    except FAULTS_OF_REASONING as error:
        lived.violation = fall(error)
    return lived


def _hear(dice: Random, lived: Lived) -> None:
    """Nothing is counted beyond what traded, nothing proven is taken back, and in the end belief is the books."""
    broker, belief, inputs = lived.broker, lived.belief, lived.inputs

    def tell(item: Input) -> None:
        inputs.append(item)
        step(belief, item, belief.offset + 1)

    tell(FeedAcknowledged(at=EPOCH, feed=STREAM))
    tell(broker.snapshot())
    tell(FeedRestored(at=broker.now, feed=STREAM))
    seen = story(dice, broker)
    proofs = _Proofs(broker)
    now = broker.now
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
        proofs.note(item)
        proofs.judge(belief)
    broker.now = now + timedelta(seconds=1)
    tell(FeedAcknowledged(at=broker.now, feed=STREAM))
    tell(broker.snapshot())
    tell(FeedRestored(at=broker.now, feed=STREAM))
    equals_the_books(belief, broker)
    holds_the_executions(belief, broker)
    demand(belief.truth.open_gap is None, SURE, "a gap is open")
    demand(belief.truth.last_result == "clean", SURE, belief.truth.last_result)
    demand(not belief.drifts, SURE, "a drift is open")
    demand(belief.trading_state is TradingState.ACTIVE, SURE, belief.trading_state)


def _nothing_beyond_what_traded(belief: Belief, broker: PaperBroker) -> None:
    for broker_order_id, leg in belief.by_broker.items():
        demand(leg.executed + leg.residual == leg.filled, ONCE, f"{broker_order_id} does not add up")
        order = broker.orders[int(broker_order_id.removeprefix("b-"))]
        fits = 0 <= leg.filled <= order.traded
        demand(fits, ONCE, f"{broker_order_id} has {leg.filled}, {order.traded} ever traded")


class _Proofs:
    """What full looks have proven of each order, and whether belief keeps to it."""

    def __init__(self, broker: PaperBroker) -> None:
        self._broker = broker
        self._newest: dict[str, datetime] = {}
        self._proven: dict[str, datetime] = {}

    def note(self, item: Input) -> None:
        """Remember what was told; a row proves its total when nothing newer of its order was told before."""
        if isinstance(item, OrderReported):
            self._hear(item.report)
        elif isinstance(item, SnapshotTaken):
            for row in item.snapshot.orders:
                if self._hear(row) and item.source is Source.RECONCILE and row.version is not None:
                    self._proven[row.broker_order_id] = row.version

    def _hear(self, report: OrderReport) -> bool:
        newest, version = self._newest.get(report.broker_order_id), report.version
        if version is None or (newest is not None and version < newest):
            return False
        self._newest[report.broker_order_id] = version
        return True

    def judge(self, belief: Belief) -> None:
        """Raise `Violation` where a total is believed that only versions before the proof have stated."""
        for name, proven in self._proven.items():
            leg = belief.by_broker[BrokerOrderId(name)]
            totals = self._broker.totals[int(name.removeprefix("b-"))]
            fits = any(total == leg.filled for version, total in totals if version >= proven)
            demand(fits, BACKWARDS, f"{name} is believed at {leg.filled} after {proven} was proven")
