"""Many schedules, on as many processes as there are processors, and what became of them.

For: counting. A run is a seed and a range of numbers, so that it can be split, resumed and done again elsewhere. Not
for living one (`life.py`, `cores.py`), nor for showing anything. Invariant: the same seed and range give the same
counts, whatever the number of processes.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from multiprocessing.process import BaseProcess

from trueup.chaos import cores, life
from trueup.chaos.plan import SHORT_S, plan, schedule_seed

BATCH = {False: 25, True: 1_000}
"""Schedules that a process lives before it reports, for whole lives and for the core alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One schedule that ended in a violation: its number in the run, its own seed, and what was violated."""

    number: int
    seed: int
    checker: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What became of some schedules. `steps` counts inputs; `harm` in how many schedules something was met."""

    schedules: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    harm: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    digest: int = 0
    """Of what was believed at the end of each, in whatever order they were lived."""

    def add(self, other: Tally) -> None:
        """Count the other's schedules too."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.harm.update(other.harm)
        self.digest ^= other.digest
        self.failures = sorted([*self.failures, *other.failures], key=lambda failure: failure.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Schedules `first` to `first + schedules - 1` of a seed; `seconds` is the virtual length of the harm in each."""

    seed: int
    schedules: int
    first: int = 0
    seconds: float = SHORT_S
    core: bool = False

    def batches(self) -> Iterator[range]:
        """The numbers, in pieces fit for a process."""
        end, size = self.first + self.schedules, BATCH[self.core]
        for begin in range(self.first, end, size):
            yield range(begin, min(begin + size, end))


def prove(run: Run, jobs: int) -> Iterator[Tally]:
    """Live them all; yields what became of each piece as it is done. With one job all of it happens in this process."""
    if jobs <= 1:
        prepare()
        for numbers in run.batches():
            yield live_batch(run, numbers)
        return
    context = multiprocessing.get_context("spawn")
    batches = run.batches()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=prepare)
    try:
        waiting: set[Future[Tally]] = {pool.submit(live_batch, run, numbers) for numbers in islice(batches, 2 * jobs)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(live_batch, run, numbers) for numbers in islice(batches, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def prepare() -> None:
    """Make this process fit for it: lives are loud, and leave many circles behind that need no hurry."""
    for name in ("trueup", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    gc.freeze()
    gc.set_threshold(5_000, 20, 100)  # so that what a life makes stays in the caches


def _end_with(parent: BaseProcess) -> None:
    """A pool whose owner was killed would wait for work for ever."""
    parent.join()
    os._exit(1)


def live_batch(run: Run, numbers: range) -> Tally:
    """Live some schedules one after the other."""
    tally = Tally()
    for number in numbers:
        seed = run.seed + number if run.core else schedule_seed(run.seed, number)
        if run.core:
            told = cores.live(seed)
            violation, steps = told.violation, len(told.inputs)
            tally.harm.update({type(item).__name__ for item in told.inputs})
        else:
            lived = life.live(plan(seed, run.seconds))
            violation, steps = lived.violation, lived.steps
            tally.harm.update({what for what, count in lived.harm.items() if count})
            tally.virtual_s += lived.virtual_s
            tally.digest ^= int.from_bytes(sha256(f"{number}:{lived.digest}".encode()).digest()[:8])
        tally.schedules += 1
        tally.steps += steps
        if violation is not None:
            failure = Failure(number=number, seed=seed, checker=violation.checker, detail=violation.detail)
            tally.failures.append(failure)
    return tally
