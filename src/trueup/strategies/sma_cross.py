"""The tutorial's strategy: long while a fast average is above a slow one, flat otherwise.

Made to be read and to keep a demo lively, not to earn anything. Entries are limit orders at the ask, which may rest
when the price runs away, and are taken back after `patience_s`; exits are market orders. It never holds more than one
`quantity` of a symbol, and never sells what it does not hold. Pure: its memory is plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class SmaCross:
    """Fast and slow are numbers of samples; one sample is taken each time the strategy is asked."""

    symbols: tuple[Symbol, ...]
    fast: int = 3
    slow: int = 8
    quantity: Decimal = Decimal(10)
    patience_s: int = 15
    name: str = "sma_cross"
    tracks: dict[Symbol, _Track] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.fast < self.slow:
            raise ValueError(f"fast must be at least 1 and below slow, not {self.fast} and {self.slow}")

    def decide(self, view: StrategyView) -> Sequence[Command | SignalGenerated]:
        """Signals at each crossing, and the orders that follow from them."""
        wishes: list[Command | SignalGenerated] = []
        for order in view.open_orders:
            if order.side is Side.BUY and (view.at - order.created_at).total_seconds() >= self.patience_s:
                wishes.append(CancelOrder(at=view.at, order_id=order.order_id, reason="the price ran away"))
        busy = {order.symbol for order in view.open_orders}
        for symbol in self.symbols:
            quote = view.quotes.get(symbol)
            if quote is None or not quote.bid or not quote.ask:
                continue
            signal = self._sample(symbol, quote, view)
            if signal is None:
                continue
            wishes.append(signal)
            held = view.positions.get(symbol, Decimal(0))
            if symbol in busy:
                continue
            if signal.direction == "BUY" and held <= 0 and not view.entries_gated:
                wishes.append(self._enter(symbol, quote, view))
            elif signal.direction == "SELL" and held > 0:
                wishes.append(self._leave(symbol, quote, held, view))
        return wishes

    def _sample(self, symbol: Symbol, quote: Quote, view: StrategyView) -> SignalGenerated | None:
        track = self.tracks.get(symbol)
        if track is None:
            track = self.tracks[symbol] = _Track(Sma(self.fast), Sma(self.slow))
        fast, slow = track.fast.take(quote.mid), track.slow.take(quote.mid)
        if fast is None or slow is None:
            return None
        above = fast > slow
        crossed = track.was_above is not None and above is not track.was_above
        first = track.was_above is None and above
        track.was_above = above
        if not crossed and not first:
            return None
        return SignalGenerated(
            at=view.at,
            strategy_name=self.name,
            symbol=symbol,
            direction="BUY" if above else "SELL",
            strength=min(Decimal(1), abs(fast / slow - 1) / _FULL_STRENGTH).quantize(_CENT),
            indicators={"sma_fast": fast.quantize(_CENT), "sma_slow": slow.quantize(_CENT)},
        )

    def _enter(self, symbol: Symbol, quote: Quote, view: StrategyView) -> SubmitOrder:
        return SubmitOrder(
            at=view.at,
            symbol=symbol,
            side=Side.BUY,
            quantity=self.quantity,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.DAY,
            limit_price=quote.ask.quantize(_CENT, ROUND_HALF_UP),
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
