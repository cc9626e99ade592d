"""The newest quote of each symbol. Conflates, never journals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from trueup.core.model import Quote, Symbol
from trueup.ports import Clock


class Quotes:
    """What the market-data feed last said; `last_message_at` is when it last said anything."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest: dict[Symbol, Quote] = {}
        self.last_message_at: datetime | None = None
        self.version = 0

    def put(self, quote: Quote) -> None:
        """Take a quote; an older one than we have is counted as life and otherwise dropped."""
        self.last_message_at = self._clock.now()
        known = self._latest.get(quote.symbol)
        if known is None or quote.at >= known.at:
            self._latest[quote.symbol] = quote
            self.version += 1

    def latest(self) -> Mapping[Symbol, Quote]:
        """Symbol -> newest quote."""
        return self._latest
