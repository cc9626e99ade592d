"""The tutorial's strategy: long while a fast average is above a slow one, flat otherwise.

Made to be read and to keep a demo lively, not to earn anything. Every other entry of a symbol is a limit order at the
ask, which fills at once or runs after the price; the ones between rest at the bid. An entry that rests is taken back
after `patience_s`; exits are market orders; and after each order its symbol has a rest of `rest_s`. It never holds more
than one `quantity` of a symbol, and never sells what it does not hold. Pure: its memory is plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from trueup.core.commands import CancelOrder, Command, SubmitOrder
from trueup.core.events import SignalGenerated
from trueup.core.model import OrderType, Quote, Side, Symbol, TimeInForce
from trueup.ports import StrategyView
from trueup.strategies.indicators import Sma

_CENT = Decimal("0.01")
_FULL_STRENGTH = Decimal("0.001")
"""The averages' relative distance at which a signal counts as strongest."""


@dataclass
class _Track:
    fast: Sma
    slow: Sma
    was_above: bool | None = None
    entries: int = 0
    acted_at: datetime | None = None


@dataclass
class SmaCross:
    """`fast` and `slow` are numbers of samples; one is taken each time the strategy is asked."""

    symbols: tuple[Symbol, ...]
    fast: int = 3
    slow: int = 8
    quantity: Decimal = Decimal(10)
    patience_s: int = 8
    rest_s: int = 12
    name: str = "sma_cross"
    tracks: dict[Symbol, _Track] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.fast < self.slow:
            raise ValueError(f"fast must be at least 1 and below slow, not {self.fast} and {self.slow}")

    def decide(self, view: StrategyView) -> Sequence[Command | SignalGenerated]:
        """Signals at each crossing and each order, and the orders."""
        wishes: list[Command | SignalGenerated] = []
        for resting in view.open_orders:
            if resting.side is Side.BUY and (view.at - resting.created_at).total_seconds() >= self.patience_s:
                wishes.append(CancelOrder(at=view.at, order_id=resting.order_id, reason="the price ran away"))
        busy = {order.symbol for order in view.open_orders}
        for symbol in self.symbols:
            quote = view.quotes.get(symbol)
            if quote is None or not quote.bid or not quote.ask:
                continue
            track = self.tracks.setdefault(symbol, _Track(Sma(self.fast), Sma(self.slow)))
            fast, slow = track.fast.take(quote.mid), track.slow.take(quote.mid)
            if fast is None or slow is None:
                continue
            above = fast > slow
            crossed = above is not track.was_above and (above or track.was_above is not None)
            track.was_above = above
            order = None if symbol in busy else self._order(track, symbol, quote, view, above=above)
            if crossed or order is not None:
                wishes.append(self._signal(symbol, fast, slow, view))
            if order is not None:
                track.acted_at = view.at
                wishes.append(order)
        return wishes

    def _order(
        self, track: _Track, symbol: Symbol, quote: Quote, view: StrategyView, *, above: bool
    ) -> SubmitOrder | None:
        """What the averages ask for, if anything, and if the symbol has had its rest."""
        if track.acted_at is not None and (view.at - track.acted_at).total_seconds() < self.rest_s:
            return None
        held = view.positions.get(symbol, Decimal(0))
        if above and held <= 0 and not view.entries_gated:
            track.entries += 1
            return self._enter(symbol, quote, view, at_the_bid=track.entries % 2 == 0)
        if not above and held > 0:
            return self._leave(symbol, quote, held, view)
        return None

    def _signal(self, symbol: Symbol, fast: Decimal, slow: Decimal, view: StrategyView) -> SignalGenerated:
        return SignalGenerated(
            at=view.at,
            strategy_name=self.name,
            symbol=symbol,
            direction="BUY" if fast > slow else "SELL",
            strength=min(Decimal(1), abs(fast / slow - 1) / _FULL_STRENGTH).quantize(_CENT),
            indicators={"sma_fast": fast.quantize(_CENT), "sma_slow": slow.quantize(_CENT)},
        )

    def _enter(self, symbol: Symbol, quote: Quote, view: StrategyView, *, at_the_bid: bool) -> SubmitOrder:
        return SubmitOrder(
            at=view.at,
            symbol=symbol,
            side=Side.BUY,
            quantity=self.quantity,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.DAY,
            limit_price=(quote.bid if at_the_bid else quote.ask).quantize(_CENT, ROUND_HALF_UP),
            strategy_name=self.name,
            reference_price=quote.mid,
        )

    def _leave(self, symbol: Symbol, quote: Quote, held: Decimal, view: StrategyView) -> SubmitOrder:
        return SubmitOrder(
            at=view.at,
            symbol=symbol,
            side=Side.SELL,
            quantity=held,
            order_type=OrderType.MARKET,
            time_in_force=TimeInForce.DAY,
            strategy_name=self.name,
            reference_price=quote.mid,
        )
