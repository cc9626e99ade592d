"""Random schedules of the core, one from each seed: `python -m tests.worlds.schedules --schedules 1000000 --seed 1`.

A schedule is a story at the broker, and a delivery of it: events lost, doubled and shuffled, polls and looks that come
late, cuts, restarts and hours that pass. It uses no shrinking and no library, so that a million of them are affordable;
what it finds is found again from its seed. Not for the shell (`trueup chaos` is).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from tests.core.paper_broker import EPOCH, PaperBroker
from tests.properties.test_delivery_order import assert_equal_books

from trueup.core.belief import Belief, new_belief
from trueup.core.events import ClockTicked, FeedAcknowledged, FeedLost, FeedRestored, RuntimeStarted
from trueup.core.model import ExecType, FeedName, OrderStatus, Side, SnapshotScope, Source, TradingState
from trueup.core.step import step
from trueup.ports import Input

STREAM = FeedName.BROKER_EVENTS
PRICES = ("9.50", "10", "10.37")
SYMBOLS = ("AAPL", "MSFT")


@dataclass
class Lived:
    """One schedule: what was told, and what belief made of it."""

    inputs: list[Input]
    belief: Belief
    broker: PaperBroker
    violation: str | None = None


def story(dice: random.Random, broker: PaperBroker) -> list[Input]:
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


def delivery(dice: random.Random, items: list[Input]) -> list[Input]:
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
    dice = random.Random(seed)
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
        assert_equal_books(belief, broker)
        assert belief.truth.open_gap is None, "a gap is open"
        assert belief.truth.last_result == "clean", belief.truth.last_result
        assert not belief.drifts, "a drift is open"
        assert belief.trading_state is TradingState.ACTIVE, belief.trading_state
    except AssertionError as wrong:
        lived.violation = str(wrong) or "an invariant does not hold"
    return lived


def _nothing_beyond_what_traded(belief: Belief, broker: PaperBroker) -> None:
    for broker_order_id, leg in belief.by_broker.items():
        assert leg.executed + leg.residual == leg.filled, f"{broker_order_id} does not add up"
        order = broker.orders[int(broker_order_id.removeprefix("b-"))]
        traded = sum((item[1] for item in order.executions), Decimal(0))
        assert 0 <= leg.filled <= traded, f"{broker_order_id} has {leg.filled}, {traded} ever traded"


def run(schedules: int, seed: int, tell: Callable[[str], object] = lambda text: None) -> dict[str, object]:
    """Live `schedules` schedules, the first one from `seed`; returns counts, seconds, and the seeds that failed."""
    began = time.perf_counter()
    steps = 0
    failed: list[int] = []
    for number in range(seed, seed + schedules):
        lived = live(number)
        steps += len(lived.inputs)
        if lived.violation is not None:
            failed.append(number)
            tell(f"seed {number}: {lived.violation}")
            for item in lived.inputs:
                tell(f"  {item}")
            tell(f"again with: python -m tests.worlds.schedules --schedules 1 --seed {number}")
    return {
        "schedules": schedules,
        "seed": seed,
        "violations": len(failed),
        "steps": steps,
        "seconds": round(time.perf_counter() - began, 1),
        "failed_seeds": failed[:20],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Live random schedules of the core.")
    parser.add_argument("--schedules", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first one's seed; the next ones count up")
    arguments = parser.parse_args()
    found = run(arguments.schedules, arguments.seed, lambda text: sys.stderr.write(f"{text}\n"))
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
