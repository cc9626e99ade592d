"""Replay equals live: the same inputs make the same belief, effects and views, whatever the process or its hash seed.

The stories come from the order machine, driven by a seeded die; compared is a rendering of every field of belief.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from tests.properties.test_order_machine import OrderMachine

from trueup.core.belief import Belief, new_belief
from trueup.core.model import Side, SnapshotScope, Source
from trueup.core.projection import RuntimeNumbers, log_views, system_snapshot_view
from trueup.core.step import step

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(12)
STEPS = 120


def render(value: object) -> str:
    """Every field that counts, in its order, with exact numbers and times; what has no order may not occur."""
    match value:
        case Enum():
            return str(value)
        case None | bool() | int() | str() | Decimal() | timedelta():
            return repr(value)
        case datetime():
            return value.isoformat()
        case dict():
            return "{" + ", ".join(f"{render(key)}: {render(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(render(item) for item in value) + "]"
    assert is_dataclass(value), f"{type(value).__name__} has no place in belief"
    parts = (f"{item.name}={render(getattr(value, item.name))}" for item in fields(value) if item.compare)
    return f"{type(value).__name__}({', '.join(parts)})"


def live(seed: int) -> OrderMachine:
    """One story: the order machine, its rules chosen by a die."""
    dice = random.Random(seed)
    machine = OrderMachine()
    machine.begin(dice.randint(-30, 30))
    fates = ["ok", "ok", "no answer", "delayed", "lost", "refused"]
    for _ in range(STEPS):
        which, size = dice.randint(0, 9), dice.randint(1, 60)
        match dice.randint(0, 18):
            case 0 | 1:
                machine.submit(dice.choice(["AAPL", "MSFT"]), dice.choice(list(Side)), size)
            case 2 | 3 | 4 if machine.sends or machine.replaces:
                machine.send(which, dice.choice(fates))
            case 5 if machine.belief.open_orders:
                machine.replace(which, size)
            case 6 if machine.belief.orders:
                machine.cancel(which)
            case 7 if machine.cancels:
                machine.send_cancel(dice.choice(["ok", "asked", "no answer", "refused"]))
            case 8 | 9 if machine.broker.orders:
                machine.fill(which, size, dice.choice(["9.50", "10", "10.37"]))
            case 10 | 11 | 12 if machine.waiting:
                machine.event_comes(which)
            case 13 if machine.answers:
                machine.answer_comes(which)
            case 14 if machine.finds:
                machine.find(which, True)
            case 15:
                machine.look(dice.choice(list(SnapshotScope)), Source.POLL, size % 2 == 0, which % 2 == 0, True)
            case 16:
                dice.choice([machine.stream_is_cut, machine.stream_is_back, machine.process_starts_anew])()
            case 17 if machine.broker.orders:
                machine.broker_acts(which, dice.choice(["cancel", "expire", "bust", "replace"]), size)
            case _:
                machine.time_passes(dice.choice([1, 4, 31]))
    return machine


def told(belief: Belief, outcomes: Iterable[object], views: Iterable[object]) -> str:
    picture = system_snapshot_view(belief, {}, RuntimeNumbers(), belief.at) if belief.at is not None else None
    return "\n".join([render(belief), *map(render, outcomes), *map(render, views), render(picture)])


def replayed(machine: OrderMachine) -> str:
    """The same inputs folded into a belief that has heard nothing."""
    belief = new_belief(account="PAPER", epoch="machine")
    effects, views = [], []
    for offset, item in enumerate(machine.inputs, start=1):
        outcome = step(belief, item, offset)
        effects.append(outcome.effects)
        views.append(log_views(belief, outcome, item.at))
    return told(belief, effects, views)


def digests() -> str:
    return " ".join(hashlib.sha256(replayed(live(seed)).encode()).hexdigest() for seed in SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_inputs_make_the_same_belief_effects_and_views(seed: int) -> None:
    machine = live(seed)
    once = replayed(machine)
    assert once == replayed(machine)
    assert render(machine.belief) in once, "the fold of the journal is what lived"
    assert [render(outcome.effects) for outcome in machine.outcomes] == once.splitlines()[1 : len(machine.inputs) + 1]


def test_stories_are_worth_replaying() -> None:
    kinds = {type(item).__name__ for seed in SEEDS for item in live(seed).inputs}
    assert len(kinds) >= 11, kinds
    assert len({render(live(seed).belief) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_another_process_with_another_hash_seed_comes_to_the_same(hash_seed: str) -> None:
    told_there = subprocess.run(
        [sys.executable, "-c", "from tests.properties.test_replay import digests; print(digests())"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert told_there.stdout.split() == digests().split()
