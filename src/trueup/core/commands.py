"""What someone wants, in the imperative: people's and strategies' wishes, put before the core.

Not for facts (`events.py`). `asked_by` names the person or program whose wish it is, as the gateway knows them; it is
empty for a strategy, and sways no decision. Invariant: a command holds all that judging it needs, the reference price
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trueup.core.model import ClientOrderId, OrderId, OrderType, Side, Symbol, TimeInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOrder:
    """Send a new order. Without a `client_order_id` one is coined from the command's place in the journal."""

    at: datetime
    symbol: Symbol
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False
    client_order_id: ClientOrderId | None = None
    strategy_name: str = ""
    reference_price: Decimal | None = None
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Ask the broker to cancel; never blocked by any state."""

    at: datetime
    order_id: OrderId
    reason: str = ""
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceOrder:
    """Ask the broker to change a working order; None leaves a term as it is."""

    at: datetime
    order_id: OrderId
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    reference_price: Decimal | None = None
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Close the gate for everything but cancels, and cancel every working order; latched."""

    at: datetime
    reason: str
    operator: str = "human"
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Take the kill back."""

    at: datetime
    reason: str
    operator: str = "human"
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """Compare belief with a full snapshot now."""

    at: datetime
    reason: str = "asked for by a person"
    asked_by: str = ""


Command = SubmitOrder | CancelOrder | ReplaceOrder | Kill | Resume | Reconcile
