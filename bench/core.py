"""The core: inputs per second through `step`, with the journal off and on; memory; reconciliation; restart."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from bench import workload
from bench.harness import Options, Report, median, note
from trueup.core.belief import Belief, new_belief
from trueup.core.step import step
from trueup.journal.sqlite import FILE_NAME, SqliteJournal
from trueup.ports import Input
from trueup.runtime.fold import checkpoint, fold
from trueup.runtime.memory import settle_collector

BATCH = 256
"""Inputs in one group commit of the journaled measurement; about what queues up during one commit under load."""


def fresh() -> Belief:
    belief = new_belief(account="BENCH", epoch="benchmark")
    for item in workload.opening():
        step(belief, item, belief.offset + 1)
    return belief


def through_step(inputs: list[Input]) -> float:
    """Inputs per second with nothing but the core."""
    belief = fresh()
    offset = belief.offset
    settle_collector()
    started = time.perf_counter()
    for item in inputs:
        offset += 1
        step(belief, item, offset)
    seconds = time.perf_counter() - started
    check(belief, len(inputs) // 4)
    return len(inputs) / seconds


def through_journal(inputs: list[Input], folder: Path) -> float:
    """Inputs per second when each is encoded and on disk, in group commits with a flush each, before it is stepped."""
    journal = SqliteJournal(folder / FILE_NAME)
    belief = new_belief(account="BENCH", epoch=journal.epoch)
    journal.append(workload.opening())
    for entry in journal.read():
        step(belief, entry.input, entry.offset)
    settle_collector()
    started = time.perf_counter()
    for start in range(0, len(inputs), BATCH):
        batch = inputs[start : start + BATCH]
        offset = journal.append(batch)
        for item in batch:
            step(belief, item, offset)
            offset += 1
    seconds = time.perf_counter() - started
    check(belief, len(inputs) // 4)
    journal.close()
    return len(inputs) / seconds


def check(belief: Belief, orders: int) -> None:
    """A benchmark that computes something wrong measures nothing."""
    filled = sum(1 for leg in belief.by_broker.values() if leg.filled == 100) + len(belief.retired)
    if filled != orders or belief.open_orders:
        raise SystemExit(f"the workload ended with {filled} of {orders} orders filled")


def reconcile_seconds(orders: int, positions: int) -> tuple[float, float]:
    """Seconds to merge a full snapshot of open orders: one that changes nothing, and one where all have filled."""
    belief = fresh()
    at = workload.START + timedelta(seconds=10)
    step(belief, workload.large_snapshot(orders, positions, Decimal(0), at), belief.offset + 1)
    same = workload.large_snapshot(orders, positions, Decimal(0), at + timedelta(seconds=10))
    moved = workload.large_snapshot(orders, positions, Decimal(40), at + timedelta(seconds=20))
    settle_collector()
    started = time.perf_counter()
    step(belief, same, belief.offset + 1)
    middle = time.perf_counter()
    step(belief, moved, belief.offset + 1)
    ended = time.perf_counter()
    if belief.truth.last_result != "clean" or len(belief.open_orders) != orders:
        raise SystemExit(f"the large reconciliation was not clean: {belief.truth.last_result}")
    return middle - started, ended - middle


def peak_kb() -> int:
    """The highest resident memory of this process so far."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def peak_memory_mb(orders: int) -> float:
    """Peak resident memory that belief adds with `orders` orders working, in a process of its own."""
    code = (
        "from bench.core import peak_kb\n"
        "from bench import core, workload\n"
        "from trueup.core.step import step\n"
        "belief = core.fresh()\n"
        "before = peak_kb()\n"
        f"for item in workload.day({orders}, ahead={orders}):\n"
        "    step(belief, item, belief.offset + 1)\n"
        "print((peak_kb() - before) / 1024)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(answer.stdout)


def restart_seconds(entries: int, folder: Path) -> dict[str, float]:
    """Seconds from opening a journal of `entries` entries to belief, with the checkpoint a running process keeps."""
    journal = SqliteJournal(folder / FILE_NAME, durable=False)
    belief = new_belief(account="BENCH", epoch=journal.epoch)
    offset = journal.append(workload.opening()) - 1
    for item in workload.opening():
        offset += 1
        step(belief, item, offset)
    tail = 10_000
    batch: list[Input] = []
    for item in workload.day((entries - offset) // 4):
        batch.append(item)
        if len(batch) == 2000:
            journal.append(batch)
            for one in batch:
                offset += 1
                step(belief, one, offset)
            batch.clear()
            if offset >= entries - tail and journal.load_checkpoint() is None:
                checkpoint(journal, belief)
    if batch:
        journal.append(batch)
    journal.close()
    del belief, batch
    settle_collector()
    started = time.perf_counter()
    journal = SqliteJournal(folder / FILE_NAME)
    restored = fold(journal)
    seconds = time.perf_counter() - started
    found = restored.offset
    journal.close()
    return {"entries": found, "seconds": seconds}


def run(options: Options) -> Report:
    report = Report()
    rounds = 3 if options.quick else 7
    orders = 10_000
    inputs: list[Input] = list(workload.day(orders))
    note(f"core: {len(inputs)} inputs, {rounds} rounds")
    memory = [through_step(inputs) for _ in range(rounds)]
    journaled = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            journaled.append(through_journal(inputs, Path(folder)))
    note("core: reconciliation of 10,000 orders and 1,000 positions")
    pairs = [reconcile_seconds(10_000, 1_000) for _ in range(rounds)]
    # writing a million entries takes a minute; the quick run restarts from fewer, and claims nothing about a million
    entries = 200_000 if options.quick else 1_000_000
    note(f"core: restart with {entries:,} entries (writing them takes the longest)")
    with tempfile.TemporaryDirectory() as folder:
        restart = restart_seconds(entries, Path(folder))
    report.results = {
        "inputs": len(inputs),
        "inputs_per_s_memory": {"median": median(memory), "min": min(memory), "max": max(memory)},
        "inputs_per_s_journaled": {
            "median": median(journaled),
            "min": min(journaled),
            "max": max(journaled),
            "group_commit": BATCH,
        },
        "reconcile_10k_orders_s": {
            "nothing_changed": median([same for same, _ in pairs]),
            "every_order_filled": median([moved for _, moved in pairs]),
        },
        "peak_memory_10k_working_orders_mb": peak_memory_mb(orders),
        "restart": restart,
    }
    report.at_least("core.inputs_per_s_memory", median(memory), 100_000)
    report.at_least("core.inputs_per_s_journaled", median(journaled), 10_000)
    report.at_most("core.reconcile_10k_orders_s", median([moved for _, moved in pairs]), 1.0)
    if not options.quick:
        report.at_most("core.restart_1m_entries_s", restart["seconds"], 5.0)
    return report
