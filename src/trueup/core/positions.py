"""Executions into positions and profit.

A book holds one symbol. Its **quantity** is exact at every moment: the opening balance, plus every share that the
broker counts as filled, plus true-ups. **Average price** and **realised profit** depend on the order in which shares
were traded, so they are a fold over lots in the broker's order of time; a lot that arrives late, or is restated, marks
the book and the fold is made again when someone looks.

Average-cost accounting: adding to a position averages the price, reducing it realises profit, crossing zero opens the
other side at the price of the crossing lot. Not for cash or market value. Invariant: the folded quantity equals the
running one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trueup.core.model import ZERO, Symbol


class Lot(NamedTuple):
    """A signed number of shares at a price, at the broker's time; what one execution does to a position.

    A tuple, whose own order is the order of folding: by time, then by name.
    """

    at: datetime
    key: str
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A true-up or an opening balance: shares that no execution explains, with the evidence for them."""

    at: datetime
    quantity: Decimal
    price: Decimal
    reason: str
    evidence: str


@dataclass(slots=True)
class PositionBook:
    """One symbol's holding."""

    symbol: Symbol
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    """Average price times quantity, kept exact while a position only grows."""
    realized: Decimal = ZERO
    last_at: datetime | None = None
    base: tuple[Decimal, Decimal, Decimal] = (ZERO, ZERO, ZERO)
    """Quantity, cost and realised profit of the lots that were absorbed; every fold begins here."""
    dirty: bool = False
    settled: PositionBook | None = field(default=None, compare=False, repr=False)
    """What a look at a dirty book has folded; thrown away by the next change, and no part of belief."""
    adjustments: list[Adjustment] = field(default_factory=list)
    broker_quantity: Decimal | None = None
    broker_average_price: Decimal | None = None
    broker_price: Decimal | None = None
    broker_at: datetime | None = None
    proved_at: datetime | None = None
    """Start of the newest snapshot whose quantity equalled ours."""

    @property
    def average_price(self) -> Decimal:
        """Mean price of the shares held; 0 when flat."""
        return self.cost / self.quantity if self.quantity else ZERO

    def apply(self, quantity: Decimal, price: Decimal, at: datetime) -> None:
        """Book a signed quantity; in time order at once, out of order by marking the book for a new fold."""
        if self.dirty or (self.last_at is not None and at < self.last_at):
            self.restate(quantity)
            return
        self.last_at = at
        self._fold(quantity, price)

    def restate(self, quantity: Decimal) -> None:
        """Change the quantity now, and the average and profit when the book is folded anew."""
        self.quantity += quantity
        self.dirty = True
        self.settled = None

    def refolded(self, lots: Iterable[Lot]) -> PositionBook:
        """A copy of this book, folded anew."""
        copy = replace(self)
        copy.refold(lots)
        return copy

    def refold(self, lots: Iterable[Lot]) -> None:
        """Fold all lots and adjustments anew, in the broker's order of time."""
        self.quantity, self.cost, self.realized = self.base
        every = [*lots, *(Lot(a.at, "", a.quantity, a.price) for a in self.adjustments)]
        every.sort()
        for lot in every:
            self._fold(lot.quantity, lot.price)
        self.last_at = every[-1].at if every else None
        self.dirty = False
        self.settled = None

    def absorb(self, lots: Iterable[Lot]) -> None:
        """Fold lots of finished orders into the base, as if they came before all others; the present stays as it is."""
        past = PositionBook(self.symbol, base=self.base)
        past.refold(lots)
        self.base = (past.quantity, past.cost, past.realized)

    def _fold(self, quantity: Decimal, price: Decimal) -> None:
        held = self.quantity
        total = held + quantity
        if not held or (held > 0) == (quantity > 0):
            self.cost += quantity * price
        elif not total:
            self.realized += held * price - self.cost
            self.cost = ZERO
        elif (held > 0) == (total > 0):
            average = self.cost / held
            self.realized += quantity * (average - price)
            self.cost = average * total
        else:
            self.realized += held * price - self.cost
            self.cost = total * price
        self.quantity = total
