"""`python -m bench NAME [--json] [--quick]`, or `all` with `--table FILE` for the docs."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from bench.harness import Benchmark, Options, as_object, as_text

NAMES = ("core", "fanout", "truth", "faults", "redis")


def load(name: str) -> Benchmark:
    run: Benchmark = importlib.import_module(f"bench.{name}").run
    return run


def table(objects: list[dict[str, object]]) -> str:
    """A Markdown table of every goal, for `docs/reference/benchmarks.md`."""
    machine = objects[0]["machine"]
    assert isinstance(machine, dict)
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}. Made anew by"
        " `make bench`.",
        "",
        "| goal | measured | wanted | met |",
        "|---|---:|---:|---|",
    ]
    for item in objects:
        goals = item["goals"]
        assert isinstance(goals, list)
        for goal in goals:
            lines.append(
                f"| `{goal['name']}` | {goal['value']:,.4g} | {goal['goal']:,g} | {'yes' if goal['met'] else 'no'} |"
            )
    for item in objects:
        lines += ["", f"## {item['bench']}", "", "```json", json.dumps(item["results"], indent=2, default=str), "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure trueup on this machine.")
    parser.add_argument("name", choices=(*NAMES, "all"), help="which benchmark")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; ends within 50 s")
    parser.add_argument("--table", type=Path, help="with `all`: write the Markdown table here")
    arguments = parser.parse_args()
    objects = []
    for name in NAMES if arguments.name == "all" else (arguments.name,):
        report = load(name)(Options(quick=arguments.quick))
        objects.append(as_object(name, report))
        sys.stdout.write((json.dumps(objects[-1], default=str) if arguments.json else as_text(name, report)) + "\n")
        sys.stdout.flush()
    if arguments.table is not None:
        arguments.table.write_text(table(objects), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
