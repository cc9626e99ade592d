"""Growing pauses between tries: full jitter under a doubling ceiling, and never less than the other side asked for."""

from __future__ import annotations

from collections.abc import Callable

Jitter = Callable[[], float]
"""Draws from 0 to 1; handed in, so that a simulation draws from its seed."""


class Backoff:
    """Counts failures and says how long to wait; `base_s` and `cap_s` in seconds."""

    def __init__(self, jitter: Jitter, *, base_s: float = 0.5, cap_s: float = 30.0) -> None:
        self._jitter = jitter
        self._base_s = base_s
        self._cap_s = cap_s
        self.failures = 0

    def next_s(self, *, at_least_s: float | None = None) -> float:
        """The pause before the next try, one failure more behind us."""
        ceiling = min(self._cap_s, self._base_s * 2.0**self.failures)
        self.failures = min(self.failures + 1, 32)
        pause = self._jitter() * ceiling
        return pause if at_least_s is None else at_least_s + pause

    def reset(self) -> None:
        """Something went well for long enough."""
        self.failures = 0
