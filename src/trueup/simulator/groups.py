"""Order groups: brackets, one-cancels-other, one-triggers-other; who is in one, and what may be asked for.

An entry brings legs that close it again: a take-profit (the target) and a stop. A bracket has both, an OTO either. An
OCO has no entry of its own: it is a target and a stop for shares that are held already, and the target is the order
that was sent. Three rules follow the broker's documents: no leg works before its entry is filled wholly; of two legs
the target works and the stop stays held beside it until its price is reached, when it takes the target's place; and
whatever ends without being filled takes the rest of its group with it.

Where the documents are silent, what users saw decides, and then what seems least surprising:

- What is held is silent on the stream: neither its beginning nor its end by its group is told, only what a client asked
  of it. So the cancel of a stop beside a filled take-profit is never heard, and that of a take-profit is.
- A target that is filled in part takes as much from its stop; a stop that fires ends its target at once, before it
  trades, so that a gap cannot fill both. Only an explicit forced fill can.
- An entry that ends with a part of it filled leaves that part without exits: the legs go with it.
- The rest of a group ends as canceled, also where the first member to end had expired or was rejected.
- An exit is as large as its entry, and needs no buying power; whether the position is still there is not asked again.
- A replaced parent hands its legs to its successor.

For: the terms of a request, and which member may work. Not for: matching or events; the exchange has those.
Invariant: of a target and a stop never more than one may work at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

from trueup.simulator.model import (
    UNPROCESSABLE,
    VALIDATION,
    OrderClass,
    OrderRequest,
    OrderType,
    Refused,
    Role,
    Side,
    TimeInForce,
)

CENT = Decimal("0.01")


@dataclass(slots=True)
class Group:
    """The members as they stand, by order id; a place is None when nobody has it, or not any more."""

    order_class: OrderClass
    parent: str
    is_armed: bool
    """True once the entry is filled; an OCO is so from the start."""
    entry: str | None = None
    target: str | None = None
    stop: str | None = None
    legs: list[str] = field(default_factory=list)
    """Every leg that ever was, in order of submission, replaced ones too."""

    def lets_work(self, role: Role) -> bool:
        """True when a member in this role may trade, as far as the others are concerned."""
        match role:
            case Role.ENTRY:
                return True
            case Role.TARGET:
                return self.is_armed
            case Role.STOP:
                return self.is_armed and self.target is None

    def members(self) -> Iterator[str]:
        """Those who have a place now: entry, target, stop."""
        return (name for name in (self.entry, self.target, self.stop) if name is not None)

    def dissolve(self) -> list[str]:
        """Give up every place; whoever had one."""
        members = list(self.members())
        self.entry = self.target = self.stop = None
        return members

    def supersede(self, old: str, new: str) -> None:
        """Give the place of one order to the one that replaces it."""
        self.parent = new if self.parent == old else self.parent
        self.entry = new if self.entry == old else self.entry
        self.target = new if self.target == old else self.target
        self.stop = new if self.stop == old else self.stop


def checked(request: OrderRequest) -> OrderRequest:
    """The request of a group with its parent's terms complete, or Refused; prices are not compared here."""
    name = request.order_class
    if name is OrderClass.OCO:
        if request.type is not OrderType.LIMIT:
            raise Refused(422, VALIDATION, "oco orders must be limit orders")
    elif request.type not in {OrderType.MARKET, OrderType.LIMIT}:
        raise Refused(422, VALIDATION, f"{name} orders must be market or limit orders")
    target = request.take_profit_price
    stop = request.stop_loss.stop_price if request.stop_loss is not None else None
    if request.stop_loss is not None and stop is None:
        raise Refused(422, VALIDATION, f"{name} orders require stop_loss.stop_price")
    if name is OrderClass.OTO:
        if (target is None) == (stop is None):
            raise Refused(
                422, VALIDATION, "oto orders require exactly one of take_profit.limit_price and stop_loss.stop_price"
            )
    elif target is None:
        raise Refused(422, VALIDATION, f"{name} orders require take_profit.limit_price")
    elif stop is None:
        raise Refused(422, VALIDATION, f"{name} orders require stop_loss.stop_price")
    if request.time_in_force not in {TimeInForce.DAY, TimeInForce.GTC}:
        raise Refused(422, UNPROCESSABLE, f"{name} orders must be DAY or GTC")
    if request.extended_hours:
        raise Refused(422, UNPROCESSABLE, "extended hours orders must be simple orders")
    if request.notional is not None or (request.qty is not None and request.qty % 1):
        raise Refused(422, UNPROCESSABLE, "fractional orders must be simple orders")
    if name is OrderClass.OCO:
        if request.limit_price not in {None, target}:
            raise Refused(422, VALIDATION, "limit_price of oco orders must be left out or be take_profit.limit_price")
        return replace(request, limit_price=target)
    return request


def check_exits(exit_side: Side, *, base: Decimal | None, target: Decimal | None, stop: Decimal | None) -> None:
    """Refused unless target and stop lie on their sides of the base price, and of one another, by a cent at least."""
    above, below = (target, stop) if exit_side is Side.SELL else (stop, target)
    names = ("take_profit.limit_price", "stop_loss.stop_price")
    high_name, low_name = names if exit_side is Side.SELL else names[::-1]
    if base is not None:
        told = f"{base:f}"
        if above is not None and above < base + CENT:
            raise Refused(422, UNPROCESSABLE, f"{high_name} must be >= base_price + 0.01", base_price=told)
        if below is not None and below > base - CENT:
            raise Refused(422, UNPROCESSABLE, f"{low_name} must be <= base_price - 0.01", base_price=told)
    if above is not None and below is not None and above < below + CENT:
        raise Refused(422, UNPROCESSABLE, f"{high_name} must be >= {low_name} + 0.01")
