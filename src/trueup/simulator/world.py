"""One running simulation: the exchange, the market that moves it, the faults, and those who listen.

For: letting time pass over exchange and market together, and handing every event on at once, in order. Not for: any
wire; listeners translate.
Invariant: whoever changes the exchange does it through `act`, so that an event has reached every listener before
the caller goes on.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NoReturn, TypeVar

from trueup.simulator.exchange import Exchange, stable_id
from trueup.simulator.faults import Dice, FaultBoard, WallClock
from trueup.simulator.hours import Hours
from trueup.simulator.market import MINUTE, Market, QuoteTick, Tick
from trueup.simulator.model import AccountRules, FillModel, OrderEvent
from trueup.simulator.replay import RecordedBar

T = TypeVar("T")


class World:
    """Exchange, market and faults under one clock."""

    def __init__(
        self,
        *,
        clock: WallClock,
        seed: int,
        rules: AccountRules,
        fill_model: FillModel,
        hours: Hours,
        speed: float,
        tick_seconds: float,
        recording: list[RecordedBar],
        only: Collection[str] | None = None,
    ) -> None:
        self.clock = clock
        self.seed = seed
        self.hours = hours
        self.started_at = clock.now()
        self.market = Market(
            seed=seed, start=self.started_at, speed=speed, tick_seconds=tick_seconds, recording=recording, only=only
        )
        self.exchange = Exchange(
            assets=self.market.assets(lambda place: stable_id(seed, "asset", place)),
            rules=rules,
            fill_model=fill_model,
            seed=seed,
            draw=Dice(seed, "fills").draw,
            day_end=hours.day_end,
            start=self.started_at,
        )
        self.faults = FaultBoard(seed, clock.now)
        self.equity: list[tuple[datetime, Decimal]] = [(self.started_at, rules.cash)]
        # None lets the hours decide; True or False is the operator's word.
        self.session_override: bool | None = None
        self._order_listeners: list[Callable[[OrderEvent], None]] = []
        self._market_listeners: list[Callable[[list[Tick]], None]] = []
        self._woken = asyncio.Event()
        for symbol in self.market.symbols():
            self.exchange.set_quote(self.market.quote(symbol), self.started_at)
        self.exchange.set_open(hours.is_open(self.started_at), self.started_at)

    def on_order_event(self, listener: Callable[[OrderEvent], None]) -> None:
        """Have every order event told to this listener, as it happens."""
        self._order_listeners.append(listener)

    def on_ticks(self, listener: Callable[[list[Tick]], None]) -> None:
        """Have every batch of quotes, trades and bars told to this listener."""
        self._market_listeners.append(listener)

    def act(self, change: Callable[[datetime], T]) -> T:
        """Change the exchange, and tell the listeners before returning; a refusal comes back as it is."""
        at = self.clock.now()
        self.exchange.advance(at)
        try:
            return change(at)
        finally:
            self._tell()
            self._woken.set()

    def move(self, symbol: str, price: Decimal, hold_seconds: float) -> None:
        """Set a symbol's price, and keep it there for a while."""
        at = self.clock.now()
        self._take(self.market.move(symbol, price, at, hold_seconds), at)

    def live(self) -> None:
        """Let everything happen that is due by now."""
        at = self.clock.now()
        is_open = self.hours.is_open(at) if self.session_override is None else self.session_override
        self.exchange.set_open(is_open, at)
        self.exchange.advance(at)
        self._take(self.market.advance(at), at)
        if at - self.equity[-1][0] >= MINUTE:
            self.equity.append((at, self.exchange.view().totals().equity))

    async def run(self) -> NoReturn:
        """Live for ever, waking only when something is due."""
        while True:
            self.live()
            due = self.market.next_step_at()
            exchange_due = self.exchange.next_due()
            if exchange_due is not None:
                due = min(due, exchange_due)
            pause = max((due - self.clock.now()) / timedelta(seconds=1), 0.0)
            self._woken.clear()
            if not pause:
                await asyncio.sleep(0)
                continue
            try:
                # Not wait_for: before Python 3.12 that swallows a cancellation that comes together with the waking.
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _take(self, ticks: list[Tick], at: datetime) -> None:
        for symbol in dict.fromkeys(tick.symbol for tick in ticks if isinstance(tick, QuoteTick)):
            self.exchange.set_quote(self.market.quote(symbol), at)
        self._tell()
        if ticks:
            for listener in self._market_listeners:
                listener(ticks)

    def _tell(self) -> None:
        for event in self.exchange.take_events():
            for listener in self._order_listeners:
                listener(event)
