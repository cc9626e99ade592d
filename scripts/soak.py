#!/usr/bin/env python3
"""Lives schedule after schedule for hours, and goes on where it was left.

For: more than a test can wait for. Every piece of the range ends as one line of JSON in a file, so that a run that was
broken off begins again behind the newest line. Not for living anything itself: that is `trueup chaos`. Invariant: a
line stands for schedules that were lived to their end, each once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """1 when anything that must hold did not."""
    parser = argparse.ArgumentParser(description="Live a million schedules; break it off and go on as you like.")
    parser.add_argument("--seed", type=int, default=1, help="what all of them are drawn from")
    parser.add_argument("--schedules", type=int, default=1_000_000, help="how many in all")
    parser.add_argument("--first", type=int, default=0, help="begin at this one; others were lived elsewhere")
    parser.add_argument("--every", type=int, default=10_000, help="schedules in one line")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--core", action="store_true", help="the core alone")
    arguments = parser.parse_args()
    kind = "core" if arguments.core else "full"
    record = ROOT / "build" / "soak" / f"{kind}-seed-{arguments.seed}.jsonl"
    record.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()] if record.exists() else []
    lines = [line for line in lines if line["first"] >= arguments.first]
    lived = arguments.first + sum(line["schedules"] for line in lines)
    violations = sum(line["violations"] for line in lines)
    if lines:
        print(f"{lived:,} were lived already, {violations} violations; going on", flush=True)
    while lived < arguments.schedules:
        count = min(arguments.every, arguments.schedules - lived)
        command = [sys.executable, "-m", "trueup", "chaos", "--json", "--jobs", str(arguments.jobs)]
        command += ["--seed", str(arguments.seed), "--first", str(lived), "--schedules", str(count)]
        command += ["--core"] if arguments.core else []
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        try:
            line = json.loads(done.stdout)
        except json.JSONDecodeError:
            print(f"soak: it broke off at schedule {lived:,}; start it again to go on", file=sys.stderr)
            return 1
        line["ended_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        lived += count
        violations += line["violations"]
        print(f"{lived:,} lived, {violations} violations, {line['seconds']:.0f} s for the last {count:,}", flush=True)
        for failure in line["failures"]:
            print(f"  {failure['checker']}: {failure['detail']}\n  again: {failure['again']}", flush=True)
    print(f"seed {arguments.seed}: {lived:,} {kind} schedules, {violations} violations; {record.relative_to(ROOT)}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
