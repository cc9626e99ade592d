"""The simulator's values in Alpaca's JSON shapes.

For: every object that leaves on the broker's wire: orders, trade updates, positions, the account, activities,
assets, market data. Not for: deciding what is sent, or reading what comes in.
Invariant: trading numbers leave as strings and market-data numbers as numbers, as on the real wire.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from trueup.simulator.exchange import View, plain, stable_id
from trueup.simulator.hours import NEW_YORK, Hours
from trueup.simulator.market import Bar, QuoteTick, TradeTick
from trueup.simulator.model import (
    ZERO,
    Adjustment,
    Asset,
    Execution,
    Order,
    OrderEvent,
    Position,
    Quote,
    Side,
)

Json = dict[str, object]
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MICRO_DOLLAR = Decimal("0.000001")
MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at: datetime) -> str:
    """An instant as the wire writes it, UTC with Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _maybe_time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _maybe_number(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def money(value: Decimal) -> str:
    """Dollars with at most six decimals, as a string."""
    return plain(value.quantize(MICRO_DOLLAR, ROUND_HALF_EVEN))


def ulid(at: datetime, number: int) -> str:
    """An event id that rises with time and number."""
    value = ((at - EPOCH) // MILLISECOND << 80) | number
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def order_json(order: Order, legs: Sequence[Order] = (), *, is_stream: bool = False) -> Json:
    """One order object, its legs nested; the stream's form has cancel_requested_at, the REST form has not."""
    average = order.filled_avg_price
    trail = order.trail
    body: Json = {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": rfc3339(order.created_at),
        "updated_at": rfc3339(order.updated_at),
        "submitted_at": rfc3339(order.submitted_at),
        "filled_at": _maybe_time(order.filled_at),
        "expired_at": _maybe_time(order.expired_at),
        "expires_at": rfc3339(order.expires_at),
        "canceled_at": _maybe_time(order.canceled_at),
        "failed_at": _maybe_time(order.failed_at),
        "replaced_at": _maybe_time(order.replaced_at),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": order.asset_id,
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": _maybe_number(order.notional),
        "qty": _maybe_number(order.qty),
        "filled_qty": plain(order.filled_qty),
        "filled_avg_price": None if average is None else money(average),
        "order_class": "" if order.group is None else order.group.order_class.value,
        "order_type": order.type.value,
        "type": order.type.value,
        "side": order.side.value,
        "position_intent": order.position_intent,
        "time_in_force": order.time_in_force.value,
        "limit_price": _maybe_number(order.limit_price),
        "stop_price": _maybe_number(order.stop_price),
        "status": order.status.value,
        "extended_hours": order.extended_hours,
        "legs": [order_json(leg) for leg in legs] if legs else None,
        "trail_percent": None if trail is None else _maybe_number(trail.percent),
        "trail_price": None if trail is None else _maybe_number(trail.price),
        "hwm": None if trail is None else _maybe_number(trail.hwm),
        "subtag": None,
        "source": None,
    }
    if is_stream:
        body["cancel_requested_at"] = _maybe_time(order.cancel_requested_at)
    return body


def trade_update_json(event: OrderEvent) -> Json:
    """The `data` of one trade_updates frame."""
    data: Json = {
        "event": event.kind.value,
        "event_id": ulid(event.at, event.number),
        "at": rfc3339(event.at),
        "execution_id": event.event_execution_id,
        "timestamp": rfc3339(event.execution.at if event.execution else event.at),
        "order": order_json(event.order, is_stream=True),
    }
    if event.execution is not None:
        data["price"] = plain(event.execution.price)
        data["qty"] = plain(event.execution.qty)
        data["position_qty"] = plain(event.position_qty or ZERO)
    if event.previous_execution_id is not None:
        data["previous_execution_id"] = event.previous_execution_id
    if event.reason is not None:
        data["reason"] = event.reason
    return data


def event_facts(event: OrderEvent) -> dict[str, str | None]:
    """What a fault may match an order event by."""
    return {
        "event": event.kind.value,
        "symbol": event.order.symbol,
        "side": event.order.side.value,
        "client_order_id": event.order.client_order_id,
    }


def activity_id(at: datetime, unique: str) -> str:
    """New York local time to the millisecond, then a UUID: ids sort by time."""
    local = at.astimezone(NEW_YORK)
    return f"{local:%Y%m%d%H%M%S}{local.microsecond // 1000:03d}::{unique}"


def fill_activity_json(execution: Execution, order: Order, seed: int, *, ids_match: bool) -> Json:
    """One FILL activity. Nobody promises that its UUID is the stream's execution id; `ids_match` says whether it is."""
    unique = execution.id if ids_match else stable_id(seed, "activity", execution.number)
    side = order.side.value
    if order.position_intent == "sell_to_open":
        side = "sell_short"
    is_last = not execution.leaves_qty and execution.order_status.value == "filled"
    return {
        "activity_type": "FILL",
        "id": activity_id(execution.at, unique),
        "transaction_time": rfc3339(execution.at),
        "type": "fill" if is_last else "partial_fill",
        "price": plain(execution.price),
        "qty": plain(execution.qty),
        "side": side,
        "symbol": execution.symbol,
        "leaves_qty": plain(execution.leaves_qty),
        "cum_qty": plain(execution.cum_qty),
        "order_id": execution.order_id,
        "order_status": execution.order_status.value,
    }


def adjustment_json(adjustment: Adjustment) -> Json:
    """One non-trade activity: a split, or shares journaled in or out."""
    return {
        "activity_type": "SPLIT" if adjustment.ratio is not None else "JNLS",
        "id": activity_id(adjustment.at, adjustment.id),
        "date": adjustment.at.astimezone(NEW_YORK).date().isoformat(),
        "created_at": rfc3339(adjustment.at),
        "net_amount": plain(adjustment.net_amount),
        "symbol": adjustment.symbol,
        "qty": plain(adjustment.ratio if adjustment.ratio is not None else adjustment.qty),
        "description": adjustment.description,
        "status": "executed",
    }


def position_json(position: Position, asset: Asset, quote: Quote, last_day: Decimal, held: Decimal) -> Json:
    """One position at the present price."""
    cost = position.qty * position.avg_entry_price
    value = position.qty * quote.last
    profit = value - cost
    share = profit / abs(cost) if cost else ZERO
    free = max(abs(position.qty) - held, ZERO) * (1 if position.qty > 0 else -1)
    return {
        "asset_id": asset.id,
        "symbol": position.symbol,
        "exchange": asset.exchange,
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": plain(position.qty),
        "qty_available": plain(free),
        "side": "long" if position.qty > 0 else "short",
        "avg_entry_price": money(position.avg_entry_price),
        "cost_basis": money(cost),
        "market_value": money(value),
        "current_price": plain(quote.last),
        "lastday_price": plain(last_day),
        "change_today": money(quote.last / last_day - 1),
        "unrealized_pl": money(profit),
        "unrealized_plpc": money(share),
        "unrealized_intraday_pl": money(profit),
        "unrealized_intraday_plpc": money(share),
    }


def account_json(view: View, *, seed: int, opening: Decimal, multiplier: Decimal, started_at: datetime) -> Json:
    """The account; money as strings."""
    totals = view.totals()
    buying_power = money(totals.buying_power)
    value = totals.long_market_value + totals.short_market_value
    return {
        "id": stable_id(seed, "account", 1),
        "account_number": f"PA3SIM{seed % 1_000_000:06d}",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "crypto_tier": 1,
        "currency": "USD",
        "cash": money(totals.cash),
        "equity": money(totals.equity),
        "last_equity": money(opening),
        "portfolio_value": money(totals.equity),
        "buying_power": buying_power,
        "regt_buying_power": buying_power,
        "effective_buying_power": buying_power,
        "non_marginable_buying_power": money(max(min(totals.cash, totals.buying_power), ZERO)),
        "options_buying_power": money(max(min(totals.cash, totals.buying_power), ZERO)),
        "multiplier": plain(multiplier),
        "long_market_value": money(totals.long_market_value),
        "short_market_value": money(totals.short_market_value),
        "position_market_value": money(value),
        "initial_margin": money(totals.initial_margin),
        "maintenance_margin": money(totals.maintenance_margin),
        "last_maintenance_margin": "0",
        "sma": money(opening),
        "accrued_fees": "0",
        "intraday_adjustments": "0",
        "pending_reg_taf_fees": "0",
        "pending_transfer_in": "0",
        "pending_transfer_out": "0",
        "balance_asof": (started_at.astimezone(NEW_YORK).date() - timedelta(days=1)).isoformat(),
        "created_at": rfc3339(started_at),
        "shorting_enabled": True,
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
        "options_approved_level": 0,
        "options_trading_level": 0,
        "admin_configurations": {},
        "user_configurations": None,
    }


def asset_json(asset: Asset) -> Json:
    """One asset; its class is under `class`, not `asset_class`."""
    return {
        "id": asset.id,
        "class": "us_equity",
        "exchange": asset.exchange,
        "symbol": asset.symbol,
        "name": asset.name,
        "status": "active",
        "tradable": True,
        "marginable": True,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.shortable,
        "borrow_status": "easy_to_borrow" if asset.shortable else "not_available",
        "fractionable": asset.fractionable,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "attributes": [],
    }


def clock_json(hours: Hours, at: datetime, *, is_open: bool) -> Json:
    """The market clock, with New York offsets."""
    return {
        "timestamp": at.astimezone(NEW_YORK).isoformat(),
        "is_open": is_open,
        "next_open": hours.next_open(at).isoformat(),
        "next_close": hours.next_close(at).isoformat(),
    }


def calendar_json(hours: Hours, day: date) -> Json:
    """One trading day; note the two clock formats. A round-the-clock day is written as ending at 23:59."""
    if hours.is_always_open:
        opens, closes, session = "00:00", "23:59", ("0000", "2359")
    else:
        opens, closes, session = "09:30", "16:00", ("0400", "2000")
    settles = day + timedelta(days=1)
    while settles.weekday() >= 5:
        settles += timedelta(days=1)
    return {
        "date": day.isoformat(),
        "open": opens,
        "close": closes,
        "session_open": session[0],
        "session_close": session[1],
        "settlement_date": settles.isoformat(),
    }


# ── market data: numbers are numbers here ────────────────────────────────────────────────────────────────────────────


def number(value: Decimal) -> int | float:
    """A decimal as the JSON number whose text is the same."""
    return int(value) if value == value.to_integral_value() else float(value)


def trade_json(tick: TradeTick) -> Json:
    """A trade without its symbol; `t` is an aware datetime, which each encoding writes its own way."""
    return {
        "t": tick.at,
        "x": "V",
        "p": number(tick.price),
        "s": tick.size,
        "c": ["@"],
        "i": tick.number,
        "z": "C",
    }


def quote_json(tick: QuoteTick) -> Json:
    """A quote without its symbol."""
    return {
        "t": tick.at,
        "bx": "V",
        "bp": number(tick.bid),
        "bs": tick.bid_size,
        "ax": "V",
        "ap": number(tick.ask),
        "as": tick.ask_size,
        "c": ["R"],
        "z": "C",
    }


def bar_json(bar: Bar) -> Json:
    """A bar without its symbol."""
    return {
        "t": bar.at,
        "o": number(bar.open),
        "h": number(bar.high),
        "l": number(bar.low),
        "c": number(bar.close),
        "v": bar.volume,
        "n": bar.trades,
        "vw": number(bar.vwap),
    }


def truth_json(view: View) -> Json:
    """The exchange's own books, for checking what a client believes: all decimals as strings."""
    totals = view.totals()
    return {
        "orders": [
            {
                "id": order.id,
                "client_order_id": order.client_order_id,
                "symbol": order.symbol,
                "side": order.side.value,
                "qty": _maybe_number(order.qty),
                "notional": _maybe_number(order.notional),
                "filled_qty": plain(order.filled_qty),
                "filled_avg_price": None if order.filled_avg_price is None else money(order.filled_avg_price),
                "status": order.status.value,
                "replaces": order.replaces,
                "replaced_by": order.replaced_by,
                "is_external": order.is_external,
                "order_class": "" if order.group is None else order.group.order_class.value,
                "parent": None if order.group is None else order.group.parent,
            }
            for order in view.orders()
        ],
        "executions": [
            {
                "id": execution.id,
                "order_id": execution.order_id,
                "symbol": execution.symbol,
                "side": execution.side.value,
                "qty": plain(execution.qty),
                "price": plain(execution.price),
                "at": rfc3339(execution.at),
                "corrects": execution.corrects,
            }
            for execution in view.executions()
        ],
        "positions": {symbol: plain(position.qty) for symbol, position in view.positions().items()},
        "average_prices": {symbol: money(position.avg_entry_price) for symbol, position in view.positions().items()},
        "cash": plain(totals.cash),
        "equity": plain(totals.equity),
    }


def held_side(position: Position) -> Side:
    """The side whose open orders close this position."""
    return Side.SELL if position.qty > 0 else Side.BUY


def percent_of(value: Decimal, base: Decimal) -> float | None:
    """A ratio as a JSON number; None without a base."""
    ratio = float(value / base) if base else math.nan
    return None if math.isnan(ratio) else ratio


def with_symbol(kind: str, symbol: str, body: Mapping[str, object]) -> Json:
    """A market-data message: its type and symbol in front of the body."""
    return {"T": kind, "S": symbol, **body}
