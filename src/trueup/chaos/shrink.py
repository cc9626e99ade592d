"""A schedule that fails, made as short as it can be while the same thing still goes wrong.

For: reading three acts instead of forty. Acts are left out in halves, quarters and so on (delta debugging), until none
can be spared. Not for finding failures. Invariant: what is returned was lived, and failed by the same checker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trueup.chaos.life import Lived, live
from trueup.chaos.plan import Plan
from trueup.chaos.violation import Violation

TRIALS_MAX = 1_500
"""Lives that one shrinking may take; a schedule that is not shortest by then is short enough."""


def shrink(failed: Lived, live: Callable[[Plan], Lived] = live) -> Lived:
    """The shortest life found whose violation names the same checker as that of `failed`."""
    violation = failed.violation
    if violation is None:
        raise ValueError("only a life that failed can be shrunk")
    best, trials = failed, 0
    numbers: Sequence[int] = [act.number for act in failed.plan.acts]
    parts = 2
    while len(numbers) > 0 and trials < TRIALS_MAX:
        size = -(-len(numbers) // parts)
        for first in range(0, len(numbers), size):
            kept = [*numbers[:first], *numbers[first + size :]]
            trials += 1
            lived = live(failed.plan.keeping(kept))
            if _is_same(lived.violation, violation):
                best, numbers, parts = lived, kept, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(numbers))
    return best


def _is_same(found: Violation | None, wanted: Violation) -> bool:
    return found is not None and found.checker == wanted.checker
