"""What every benchmark shares: options, goals, medians, the machine, and the one object that is printed.

Not for measuring anything itself. Invariant: a goal is met or not met by its figure alone; nothing is rounded first.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    """`quick` ends within 50 s; the full run takes more rounds."""

    quick: bool = False


@dataclass(frozen=True)
class Goal:
    """One figure against its bound; `at_least` says which side is good."""

    name: str
    value: float
    goal: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Report:
    """What a benchmark found."""

    results: dict[str, Any] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)

    def at_least(self, name: str, value: float, goal: float) -> None:
        self.goals.append(Goal(name, value, goal, True))

    def at_most(self, name: str, value: float, goal: float) -> None:
        self.goals.append(Goal(name, value, goal, False))


Benchmark = Callable[[Options], Report]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def note(text: str) -> None:
    """Progress, on standard error so that `--json` stays clean."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_object(name: str, report: Report) -> dict[str, Any]:
    return {
        "bench": name,
        "machine": machine(),
        "results": report.results,
        "goals": [
            {"name": goal.name, "value": goal.value, "goal": goal.goal, "met": goal.met} for goal in report.goals
        ],
    }


def as_text(name: str, report: Report) -> str:
    lines = [f"bench {name}"]
    for goal in report.goals:
        sign = ">=" if goal.at_least else "<="
        lines.append(
            f"  {'met ' if goal.met else 'MISS'}  {goal.name:42} {goal.value:>14,.4g}  goal {sign} {goal.goal:,g}"
        )
    lines.append(json.dumps(report.results, indent=2, default=str))
    return "\n".join(lines)
