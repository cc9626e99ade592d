"""Shows views to one strategy at a fixed pace, and sends its wishes on.

A strategy that fails stops, alone: it is a *temporary* child. Not for judging wishes (`core/risk.py`). Invariant: what
a strategy is shown is belief after a whole step, and every command carries the price it was formed on.
"""

from __future__ import annotations

import logging
from typing import NoReturn

from trueup.core.model import ZERO
from trueup.errors import Busy
from trueup.ports import Clock, OpenOrder, Strategy, StrategyView
from trueup.runtime.quotes import Quotes
from trueup.runtime.sequencer import Sequencer

log = logging.getLogger(__name__)

PACE_S = 1.0
"""Seconds between two questions."""


class StrategyHost:
    """One strategy's life."""

    def __init__(
        self, *, strategy: Strategy, sequencer: Sequencer, quotes: Quotes, clock: Clock, pace_s: float = PACE_S
    ) -> None:
        self._strategy = strategy
        self._sequencer = sequencer
        self._quotes = quotes
        self._clock = clock
        self._pace_s = pace_s

    async def run(self) -> NoReturn:
        """Ask for ever."""
        while True:
            await self._clock.sleep(self._pace_s)
            for wish in self._strategy.decide(self._view()):
                try:
                    self._sequencer.offer(wish)
                except Busy as busy:
                    log.warning("wish dropped strategy=%s reason=%s", self._strategy.name, busy)

    def _view(self) -> StrategyView:
        belief = self._sequencer.belief
        return StrategyView(
            at=self._clock.now(),
            quotes=self._quotes.latest(),
            positions={symbol: book.quantity for symbol, book in belief.books.items() if book.quantity != ZERO},
            open_orders=tuple(
                OpenOrder(order_id=order.order_id, symbol=order.symbol, side=order.side, created_at=order.created_at)
                for order in belief.open_orders.values()
                if order.strategy_name == self._strategy.name and not order.cancel_wanted
            ),
            entries_gated=belief.entries_gated,
        )
