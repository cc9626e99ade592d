"""What a schedule holds, as data: the world it plays in, and every act with its instant and dice of its own.

For: numbering schedules, living one again, and leaving acts out until only those remain that matter. Not for doing
anything (`life.py`). Invariant: a plan follows from its seed and length alone; an act draws from its own dice, so that
leaving others out changes nothing in what it would do, only what it meets.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from trueup.simulator.broker import Delays
from trueup.simulator.faults import Random, seeded
from trueup.simulator.model import FillModel

SHORT_S = 6.0
"""Virtual seconds of harm in a schedule when nothing else is asked for."""

PAUSES_S = (0.0, 0.0, 0.01, 0.1, 0.5, 1.5)
"""What the pause between two acts is drawn from, each then shortened by chance; many fall on the very same instant."""

WEIGHTS: dict[str, float] = {
    "wish": 32,
    "wish_again": 2,
    "cancel": 10,
    "replace": 8,
    "stranger": 6,
    "price": 6,
    "bust": 2,
    "correct": 2,
    "move_shares": 0.2,
    "reconcile": 2,
    "kill": 1.5,
    "resume": 6,
    "fault": 9,
    "cut": 3,
    "garble": 0.5,
    "stop": 1,
    "crash": 2.5,
}
"""Every act and how often it comes."""

MEDDLING = ("stranger_cancels", "stranger_replaces")
"""What another client does to whatever works, ours or not; drawn apart, so that all else is the same without it."""
MEDDLES_S = 2.0
"""Virtual seconds between two of those, on average."""

_MASK = (1 << 64) - 1


def schedule_seed(seed: int, number: int) -> int:
    """The seed of schedule `number` (from 0) of a run; neighbours have nothing in common."""
    value = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) >> 16


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens; `at_s` counts from the moment the house stood."""

    number: int
    at_s: float
    name: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How slow and how unsteady this schedule's world is; seconds."""

    fill_model: FillModel
    delays: Delays
    disk_s: float
    tick_s: float
    checkpoint_every: int
    polls_apart: bool
    """A poll reads what is no longer open at another instant than the list of what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One schedule."""

    seed: int
    seconds: float
    setting: Setting
    acts: tuple[Act, ...]

    @property
    def plain(self) -> Plan:
        """The same without `MEDDLING` and with polls of one instant: what schedules were before 2026-11-22."""
        setting = replace(self.setting, polls_apart=False)
        return replace(self, setting=setting, acts=tuple(act for act in self.acts if act.name not in MEDDLING))

    def keeping(self, numbers: Collection[int]) -> Plan:
        """The same with no other acts than these."""
        return replace(self, acts=tuple(act for act in self.acts if act.number in numbers))


def plan(seed: int, seconds: float = SHORT_S) -> Plan:
    """Draw the schedule of a seed."""
    dice = seeded(seed, "plan")
    setting = _setting(dice, polls_apart=seeded(seed, "polls").random() < 0.5)
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    acts: list[Act] = []
    at_s = 0.0
    while True:
        at_s += dice.choice(PAUSES_S) * dice.random()
        if at_s >= seconds:
            break
        name = dice.choices(names, weights)[0]
        acts.append(Act(len(acts) + 1, round(at_s, 6), name, dice.getrandbits(32)))
    acts += _meddling(seed, acts, seconds)
    return Plan(seed=seed, seconds=seconds, setting=setting, acts=tuple(sorted(acts, key=lambda act: act.at_s)))


def _meddling(seed: int, acts: list[Act], seconds: float) -> list[Act]:
    """Half of it on the very instant of something else."""
    dice = seeded(seed, "meddling")
    others = [act.at_s for act in acts]
    more: list[Act] = []
    at_s = 0.0
    while True:
        at_s += dice.uniform(0, 2 * MEDDLES_S)
        if at_s >= seconds:
            return more
        instant = dice.choice(others) if others and dice.random() < 0.5 else round(at_s, 6)
        more.append(Act(len(acts) + len(more) + 1, instant, dice.choice(MEDDLING), dice.getrandbits(32)))


def checkpoint_every(dice: Random) -> int:
    """Entries between two checkpoints of one process."""
    return dice.choice((7, 30, 100_000))


def _setting(dice: Random, *, polls_apart: bool) -> Setting:
    return Setting(
        fill_model=FillModel(
            ack_latency_ms=dice.choice((0, 5, 400)),
            fill_latency_ms=dice.choice((1, 20, 300)),
            slice_latency_ms=dice.choice((50, 900)),
            cancel_latency_ms=dice.choice((0, 10, 1500)),
            replace_latency_ms=dice.choice((0, 10, 800)),
            partial_probability=dice.choice((0.1, 0.8)),
            reject_probability=dice.choice((0.0, 0.05)),
        ),
        delays=Delays(request_s=dice.choice((0.02, 0.4)), event_s=dice.choice((0.005, 0.2)), spread_s=0.3),
        disk_s=dice.choice((0.0, 0.002, 0.05, 0.3)),
        tick_s=dice.choice((1.0, 3.0)),
        checkpoint_every=checkpoint_every(dice),
        polls_apart=polls_apart,
    )
