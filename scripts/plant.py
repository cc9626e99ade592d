#!/usr/bin/env python3
"""Plants deliberate faults, one at a time, into a copy of the source, and shows which checker of chaos finds each.

For: knowing that the proof could fail. A fault is a small piece of text and what stands in its place; each is lived
through at most a thousand schedules. Not for the working copy, which is never touched: everything happens under
build/plant. Invariant: a fault whose text is no longer there exactly once is an error, never silently left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEDULES = 1_000
PATIENCE_S = 1_800
"""Seconds for one fault; the slowest is found in a hundredth of that on two quiet cores."""


@dataclass(frozen=True)
class Plant:
    """One fault: where, what stands there, and what is put in its place."""

    name: str
    file: str
    old: str
    new: str
    core: bool = False


PLANTS = (
    Plant(
        "count an execution twice",
        "core/orders.py",
        "    if name in leg.executions:\n        join.duplicate = True\n",
        "    if name in leg.executions:\n        _count(leg, leg.executions[name])\n        join.duplicate = True\n",
    ),
    Plant(
        "book a fill twice",
        "core/transition.py",
        "            book.apply(fill.quantity if factor > 0 else -fill.quantity, fill.price, fill.at)\n",
        "            for _ in range(1 if source is Source.STREAM else 2):\n"
        "                book.apply(fill.quantity if factor > 0 else -fill.quantity, fill.price, fill.at)\n",
    ),
    Plant(
        "merge a stale snapshot",
        "core/orders.py",
        "    newer = known is None or (version is not None and version > known)\n",
        "    newer = known is None or version is not None\n",
    ),
    Plant(
        "skip the buffer",
        "runtime/feeds.py",
        "            if self._live:\n                await self._sequencer.put(item)\n",
        "            if not self._held_back:\n                await self._sequencer.put(item)\n",
    ),
    Plant(
        "trust the increment",
        "core/orders.py",
        "        if cum > leg.filled and (leg.proved is None or execution.at > leg.proved):\n"
        "            leg.filled = cum  # the execution is itself the broker's word on the total\n",
        "        leg.filled += execution.quantity\n",
        core=True,
    ),
    Plant(
        "forget intents on restart",
        "core/step.py",
        "        if order.in_flight is not None and order.in_flight is not RequestKind.CANCEL:\n",
        "        if order.in_flight is RequestKind.REPLACE:\n",
    ),
    Plant(
        "resend a submit in doubt",
        "runtime/outbox.py",
        "                    return await _once(send())\n",
        "                    answer = await _once(send())\n"
        "                    return answer if answer.outcome is not RequestOutcome.UNKNOWN else await _once(send())\n",
    ),
    Plant(
        "treat a timeout as a reject",
        "runtime/outbox.py",
        "    except OutcomeUnknown as doubt:\n"
        '        return _Answer(RequestOutcome.UNKNOWN, None, "", str(doubt))\n'
        "    except BrokerUnavailable",
        "    except OutcomeUnknown as doubt:\n"
        '        return _Answer(RequestOutcome.REFUSED, None, "", str(doubt))\n'
        "    except BrokerUnavailable",
    ),
    Plant(
        "treat absence as an end",
        "core/step.py",
        "    if order.lookups_missed < LOOKUPS_NEEDED:\n",
        "    if order.lookups_missed > LOOKUPS_NEEDED:\n",
    ),
    Plant(
        "close a gap with any snapshot",
        "core/step.py",
        "        if feed.status is FeedStatus.UP and proven:\n",
        "        if feed.status is not FeedStatus.DOWN:\n",
    ),
    Plant(
        "open the gate before the snapshot",
        "core/step.py",
        "    elif feed.status is not FeedStatus.UP:\n"
        '        why = f"broker events are {feed.status}: {feed.reason}"\n'
        "    elif gap is not None:\n",
        "    elif feed.status is FeedStatus.DOWN:\n"
        '        why = f"broker events are {feed.status}: {feed.reason}"\n'
        "    elif gap is not None and feed.status is FeedStatus.SUSPECT:\n",
    ),
    Plant(
        "close the gate late on a kill",
        "runtime/sequencer.py",
        "        return self._kills_under_way == 0 and halt_generation >= self._generation\n",
        "        return halt_generation >= self._generation\n",
    ),
    Plant(
        "send in spite of a halt",
        "runtime/outbox.py",
        "                if not self._gate.allows(halt_generation):\n",
        "                if not self._gate.allows(halt_generation + 1):\n",
    ),
    Plant(
        "believe a checkpoint's label",
        "runtime/fold.py",
        "    if not isinstance(belief, Belief) or belief.offset != offset or belief.epoch != journal.epoch:\n",
        "    if isinstance(belief, Belief):\n"
        "        belief.offset = offset\n"
        "    if not isinstance(belief, Belief) or belief.epoch != journal.epoch:\n",
    ),
    Plant(
        "add an inferred fill to the real one",
        "core/orders.py",
        "        if cum > leg.filled and (leg.proved is None or execution.at > leg.proved):\n"
        "            leg.filled = cum  # the execution is itself the broker's word on the total\n",
        "        if cum > leg.filled or leg.residual > 0:\n            leg.filled += execution.quantity\n",
        core=True,
    ),
    Plant(
        "let an older word raise what was proven",
        "core/orders.py",
        "    if filled > leg.filled and leg.proved is not None and version is not None and version < leg.proved:\n",
        "    if leg.proved is None and version is not None and filled < ZERO:\n",
        core=True,
    ),
    Plant(
        "drop the fills of a replaced order",
        "core/orders.py",
        "    if filled > leg.filled:\n        leg.filled = filled\n",
        "    if filled > leg.filled and leg.replaced_by is None:\n        leg.filled = filled\n",
    ),
    Plant(
        "ignore a bust",
        "core/orders.py",
        "        lowered = corrects = True\n",
        "        lowered = corrects = False\n",
    ),
    Plant(
        "take a cancel's reply for its end",
        "core/step.py",
        "            _settle(order, leg, event.kind)\n            if event.report is None:\n",
        "            _settle(order, leg, event.kind)\n"
        "            if event.kind is RequestKind.CANCEL:\n"
        "                leg.status = OrderStatus.CANCELED\n"
        "            if event.report is None:\n",
    ),
    Plant(
        "take a refusal for the newest request's",
        "core/transition.py",
        "    if exec_type is _EXEC_REPLACE_REJECTED and",
        "    if exec_type is _EXEC_REPLACE_REJECTED and order.pending is not None:\n"
        "        order.pending.status = OrderStatus.REJECTED\n"
        "        order.settle_request(_REPLACE_REQUEST)\n"
        "    if exec_type is _EXEC_REPLACE_REJECTED and",
        core=True,
    ),
    Plant(
        "leave inferred shares to the interval",
        "core/transition.py",
        '    belief.set_timer(at + pause, "inferred", leg_id)\n',
        "",
    ),
    Plant(
        "swallow a cancellation",
        "runtime/supervisor.py",
        "    if task is not None and task.cancelling():\n",
        "    if task is None:\n",
    ),
    Plant(
        "tell the dashboard of one order only",
        "core/projection.py",
        "    for order in changes.orders.values():\n        views.append((Channel.ORDER_STATUS,",
        "    for order in list(changes.orders.values())[:1]:\n        views.append((Channel.ORDER_STATUS,",
    ),
)


class DoesNotApply(Exception):
    """The text of a fault is not there, or not once."""


def planted(plant: Plant, source: Path) -> str:
    """The text of the file with the fault in it; raises `DoesNotApply`."""
    text = (source / "trueup" / plant.file).read_text(encoding="utf-8")
    count = text.count(plant.old)
    if count != 1:
        raise DoesNotApply(f"{plant.name}: its text stands {count} times in {plant.file}; write the fault anew")
    return text.replace(plant.old, plant.new)


def find(plant: Plant, jobs: int, schedules: int = SCHEDULES) -> dict[str, object]:
    """Plant one fault into a copy, and live schedules until a checker complains."""
    place = ROOT / "build" / "plant" / plant.name.replace(" ", "-").replace("'", "")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "src", place, ignore=shutil.ignore_patterns("__pycache__", "static"))
    (place / "trueup" / plant.file).write_text(planted(plant, ROOT / "src"), encoding="utf-8")
    command = [sys.executable, "-m", "trueup", "chaos", "--stop", "--json", "--jobs", str(jobs)]
    command += ["--schedules", str(schedules), *(["--core"] if plant.core else [])]
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"plant": plant.name, "caught_by": "", "reason": f"no end within {PATIENCE_S} s"}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    found: dict[str, object] = {"plant": plant.name, "core": plant.core, "caught_by": "", "reason": ""}
    try:
        told = json.loads(done.stdout)
    except json.JSONDecodeError:
        return found | {"reason": f"it did not run: {done.stderr.strip()[-500:]}"}
    if told["failures"]:
        first = told["failures"][0]
        found |= {"caught_by": first["checker"], "schedule": first["number"] + 1, "detail": first["detail"]}
    return found


def main() -> int:
    """Plant all of them, or those whose name has a word in it; 1 when one is not caught."""
    parser = argparse.ArgumentParser(description="Plant faults and see which checker finds each.")
    parser.add_argument("word", nargs="?", default="", help="only faults whose name has this in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="at most so many for each")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    arguments = parser.parse_args()
    chosen = [plant for plant in PLANTS if arguments.word in plant.name]
    try:
        for plant in PLANTS:
            planted(plant, ROOT / "src")
    except DoesNotApply as wrong:
        print(f"plant: {wrong}", file=sys.stderr)
        return 1
    table = []
    for plant in chosen:
        found = find(plant, arguments.jobs, arguments.schedules)
        table.append(found)
        if not arguments.json:
            where = f"schedule {found['schedule']}" if found["caught_by"] else "NOT CAUGHT"
            print(f"{plant.name:<38} {where:<14} {found['caught_by'] or found['reason']}", flush=True)
    caught = sum(bool(found["caught_by"]) for found in table)
    if arguments.json:
        print(json.dumps({"plants": len(table), "caught": caught, "table": table}))
    else:
        print(f"{caught} of {len(table)} caught")
    return 0 if caught == len(table) and table else 1


if __name__ == "__main__":
    sys.exit(main())
