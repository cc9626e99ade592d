"""What the shell must do, in the imperative. Derived, never journaled: replaying the inputs derives them again.

Invariant: `SendOrder` takes only an `Allowed` order, and every send carries the halt generation it was decided under.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    NewOrder,
    OrderChange,
    OrderId,
    SnapshotScope,
)


class Allowed(NamedTuple):
    """An order that the risk engine let pass; only `core/risk.py` makes one."""

    order: NewOrder
    reduces: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Why an order may not leave; `field` names what to change, `code` is stable for programs."""

    code: str
    field: str
    reason: str


class SendOrder(NamedTuple):
    """Submit once; never again under any circumstances."""

    order_id: OrderId
    allowed: Allowed
    halt_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCancel:
    """Ask for a cancel; safe to repeat, never gated. `client_order_id` names the order's current request."""

    order_id: OrderId
    client_order_id: ClientOrderId
    broker_order_id: BrokerOrderId


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReplace:
    """Ask for a replace once, under the new `change.client_order_id`."""

    order_id: OrderId
    broker_order_id: BrokerOrderId
    change: OrderChange
    halt_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOrder:
    """Ask the broker for one order, not before `not_before`; exactly one id is set."""

    client_order_id: ClientOrderId | None = None
    broker_order_id: BrokerOrderId | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSnapshot:
    """Ask for a snapshot; requests that wait for the same scope are one."""

    scope: SnapshotScope
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecycleFeed:
    """Close a stream that was found mute, and open it anew."""

    feed: FeedName
    reason: str


Effect = SendOrder | SendCancel | SendReplace | FindOrder | TakeSnapshot | RecycleFeed
