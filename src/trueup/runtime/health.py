"""Health as numbers: ages, queue depths and counters of the shell, beside what belief knows of itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from trueup.core.projection import RuntimeNumbers, health_view
from trueup.core.views import HealthView
from trueup.ports import Clock
from trueup.runtime.quotes import Quotes
from trueup.runtime.sequencer import Sequencer

SKEW_ALLOWED_S = 5.0
"""Seconds by which the machine's clock and the broker's may differ before health says so."""


class Health:
    """Gathers what `RuntimeNumbers` needs; `gauges` and `counters` are asked each time."""

    def __init__(self, *, sequencer: Sequencer, quotes: Quotes, clock: Clock, broker: str, version: str) -> None:
        self._sequencer = sequencer
        self._quotes = quotes
        self._clock = clock
        self._broker = broker
        self._version = version
        self.gauges: dict[str, Callable[[], int]] = {"sequencer": lambda: sequencer.depth}
        self.counters: dict[str, Callable[[], int]] = {}
        self.clock_skew_s: Callable[[], float | None] = lambda: None
        self.notes: dict[str, str] = {}

    def numbers(self) -> RuntimeNumbers:
        """The shell's numbers now."""
        reasons = list(self.notes.values())
        skew = self.clock_skew_s()
        if skew is not None and abs(skew) > SKEW_ALLOWED_S:
            reasons.append(f"the machine's clock differs from the broker's by {skew:.1f} s; set it right")
        return RuntimeNumbers(
            market_data_last_message_at=self._quotes.last_message_at,
            quote_symbol_count=len(self._quotes.latest()),
            queues={name: gauge() for name, gauge in self.gauges.items()},
            counters={name: counter() for name, counter in self.counters.items()},
            reasons=tuple(reasons),
            broker=self._broker,
            version=self._version,
        )

    def view(self, at: datetime | None = None) -> HealthView:
        """Health as people see it."""
        return health_view(self._sequencer.belief, self.numbers(), at or self._clock.now())
