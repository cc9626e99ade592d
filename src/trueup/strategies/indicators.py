"""Incremental indicators; each holds its state as plain data and takes one price at a time."""

from __future__ import annotations

from collections import deque
from decimal import Decimal


class Sma:
    """Simple moving average over `length` prices; None until that many have come."""

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length
        self._prices: deque[Decimal] = deque(maxlen=length)
        self._sum = Decimal(0)

    def take(self, price: Decimal) -> Decimal | None:
        """Add one price and return the average."""
        if len(self._prices) == self.length:
            self._sum -= self._prices[0]
        self._prices.append(price)
        self._sum += price
        return self.value

    @property
    def value(self) -> Decimal | None:
        """The average now."""
        if len(self._prices) < self.length:
            return None
        return self._sum / self.length
