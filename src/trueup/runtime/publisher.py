"""The state channels: portfolio, health and quotes, as often as an eye can follow and never more.

Log channels leave the sequencer with the step that caused them; a state channel is a picture of now, drawn when
something changed and at the latest every few seconds, so that its own silence can be noticed. Invariant: nothing here
changes anything.
"""

from __future__ import annotations

from typing import NoReturn

from trueup.core.projection import portfolio_view, quotes_view
from trueup.core.views import Channel
from trueup.ports import Clock, EventBus
from trueup.runtime.health import Health
from trueup.runtime.quotes import Quotes
from trueup.runtime.sequencer import Sequencer

FRAME_S = 0.25
"""Seconds between two pictures."""

HEALTH_S = 1.0
"""Seconds after which health is drawn again although nothing changed."""

PORTFOLIO_S = 5.0
"""The same for the portfolio, whose proof ages."""


class Publisher:
    """Draws state views; `changed` says that belief moved."""

    def __init__(self, *, sequencer: Sequencer, bus: EventBus, quotes: Quotes, health: Health, clock: Clock) -> None:
        self._sequencer = sequencer
        self._bus = bus
        self._quotes = quotes
        self._health = health
        self._clock = clock
        self._moved = True

    def changed(self) -> None:
        """Belief moved; draw it in the next frame."""
        self._moved = True

    async def run(self) -> NoReturn:
        """Draw for ever."""
        quotes_seen = -1
        health_at = portfolio_at = -HEALTH_S - PORTFOLIO_S
        while True:
            await self._clock.sleep(FRAME_S)
            now, at = self._clock.monotonic(), self._clock.now()
            new_quotes = self._quotes.version != quotes_seen
            if new_quotes:
                quotes_seen = self._quotes.version
                self._bus.publish(Channel.MARKET_QUOTES, quotes_view(self._quotes.latest()), at)
            if self._moved or new_quotes or now - portfolio_at >= PORTFOLIO_S:
                view = portfolio_view(self._sequencer.belief, self._quotes.latest(), at)
                self._bus.publish(Channel.PORTFOLIO_UPDATE, view, at)
                portfolio_at = now
            if self._moved or now - health_at >= HEALTH_S:
                self._bus.publish(Channel.SYSTEM_HEALTH, self._health.view(at), at)
                health_at = now
            self._moved = False
