"""The risk engine: may this order leave? `Allowed` or `Denied`, with the field and the reason.

Checks run in a fixed order and the first that fails denies. What only reduces the position passes every gate but its
own terms' validity, a halt and a kill. Not for limits of size or exposure beyond what the account's state demands.
Invariant: an in-doubt order counts as if it were live.
"""

from __future__ import annotations

from decimal import Decimal

from trueup.core.belief import Belief
from trueup.core.commands import SubmitOrder
from trueup.core.effects import Allowed, Denied
from trueup.core.model import ZERO, ClientOrderId, NewOrder, OrderType, Side, Symbol, TradingState, sign
from trueup.core.orders import Order

# Members by a name of their own: reading one through its class costs ten times as much, and this runs for every input.
_ACTIVE = TradingState.ACTIVE
_HALTED = TradingState.HALTED
_KILLED = TradingState.KILLED
_SELL = Side.SELL

_WITH_LIMIT = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_WITH_STOP = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_NOT_SENT = frozenset({OrderType.OTHER, OrderType.TRAILING_STOP})


def judge_order(belief: Belief, command: SubmitOrder, client_order_id: ClientOrderId) -> Allowed | Denied:
    """Judge one submit against its own terms and the state of the account."""
    denied = _bad_terms(command)
    if denied is not None:
        return denied
    if client_order_id in belief.by_client or client_order_id in belief.retired_clients:
        return Denied(
            code="duplicate_client_order_id",
            field="client_order_id",
            reason=f"client_order_id {client_order_id} was used before; it must be unique for ever",
        )
    reduces = only_reduces(belief, command.symbol, command.side, command.quantity)
    denied = _gated(belief, command, reduces)
    if denied is not None:
        return denied
    order = NewOrder(
        client_order_id,
        command.symbol,
        command.side,
        command.quantity,
        command.order_type,
        command.time_in_force,
        command.limit_price,
        command.stop_price,
        command.extended_hours,
    )
    return Allowed(order, reduces)


def only_reduces(belief: Belief, symbol: Symbol, side: Side, quantity: Decimal) -> bool:
    """True when the order can only shrink the position, however it and everything else on its side fills."""
    book = belief.books.get(symbol)
    held = book.quantity if book is not None else ZERO
    if book is not None and book.broker_quantity is not None and f"position:{symbol}" in belief.drifts:
        # while the two disagree, only what shrinks both is sure to reduce
        held = min(held, book.broker_quantity) if side is _SELL else max(held, book.broker_quantity)
    room = -held * sign(side) - quantity
    if room < 0:
        return False
    for order in belief.open_in(symbol):
        if order.side is side:
            shares = exposure(order)
            if shares is None:
                return False
            room -= shares
    return room >= 0


def exposure(order: Order) -> Decimal | None:
    """Shares that the order may still execute; in doubt counts as live, and of two live legs the larger.

    None on an order over an amount of money: nobody knows how many shares that will be.
    """
    leaves = order.leaves
    if leaves is not None:
        return leaves
    quantities = [leg.quantity for leg in order.legs if leg.quantity is not None]
    return max(quantities) if quantities else None


def _bad_terms(command: SubmitOrder) -> Denied | None:
    if not command.symbol or command.symbol != command.symbol.strip().upper():
        return Denied(code="invalid_symbol", field="symbol", reason="symbol must be upper-case letters, such as AAPL")
    if not command.quantity.is_finite() or command.quantity <= 0:
        return Denied(code="invalid_quantity", field="quantity", reason="quantity must be greater than 0")
    kind = command.order_type
    denied = _bad_price(kind, "limit_price", command.limit_price, kind in _WITH_LIMIT) or _bad_price(
        kind, "stop_price", command.stop_price, kind in _WITH_STOP
    )
    if denied is None and kind in _NOT_SENT:
        return Denied(
            code="unsupported_type", field="type", reason="type must be one of MARKET, LIMIT, STOP, STOP_LIMIT"
        )
    return denied


def _bad_price(kind: OrderType, name: str, price: Decimal | None, wanted: bool) -> Denied | None:
    if price is None:
        return Denied(code=f"missing_{name}", field=name, reason=f"a {kind} order needs a {name}") if wanted else None
    if not wanted:
        return Denied(code=f"unexpected_{name}", field=name, reason=f"a {kind} order takes no {name}")
    if not price.is_finite() or price <= 0:
        return Denied(code=f"invalid_{name}", field=name, reason=f"{name} must be greater than 0")
    return None


def _gated(belief: Belief, command: SubmitOrder, reduces: bool) -> Denied | None:
    state = belief.trading_state
    if state is _KILLED:
        why = "; ".join(belief.gate.reasons())
        return Denied(code="killed", field="", reason=f"nothing but cancels leaves while killed: {why}")
    if state is _HALTED:
        why = "; ".join(belief.gate.reasons())
        return Denied(code="halted", field="", reason=f"nothing but cancels leaves while halted: {why}")
    if reduces:
        return None
    if state is not _ACTIVE:
        why = "; ".join(belief.gate.reasons())
        return Denied(code="entries_gated", field="", reason=f"only orders that reduce a position may leave now: {why}")
    return symbol_in_doubt(belief, command.symbol)


def symbol_in_doubt(belief: Belief, symbol: Symbol) -> Denied | None:
    """Why nothing that could increase the position in one symbol may leave; None when its position is sure."""
    if f"position:{symbol}" in belief.drifts:
        return Denied(
            code="symbol_in_doubt",
            field="symbol",
            reason=f"the position in {symbol} differs from the broker's; only reducing orders may leave",
        )
    for order in belief.open_in(symbol):
        if order.in_doubt is not None:
            return Denied(
                code="symbol_in_doubt",
                field="symbol",
                reason=f"order {order.order_id} in {symbol} has an unknown outcome; wait until it is resolved",
            )
    return None
