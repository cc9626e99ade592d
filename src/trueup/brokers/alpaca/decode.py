"""Alpaca's words into ours.

Pure: no sockets, no clock; the instant of arrival is handed in. Tolerant: a field that is missing, null, misspelled or
new costs that field and no more, and is counted in the `oddities` handed in (`unknown:status:frozen`). Only what an
order can't be placed without (its id, its symbol, its side) makes a message `Unreadable`.

Not for judging: a report is passed on as the broker said it. Invariant: no float and no raw dict leaves this file; a
number that can't be read is never taken for zero where zero would mean something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from trueup.core.events import OrderReported
from trueup.core.model import (
    ZERO,
    AccountId,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Quote,
    Side,
    Source,
    Symbol,
    TimeInForce,
)

Raw = Mapping[str, Any]
Oddities = Counter[str]
"""How often something unexpected was met, by name; grows for as long as the process lives."""


LINKED = ("bracket", "oco", "oto")
"""The order classes whose orders stand and fall together."""

MAGNITUDE_MAX = 30
"""Powers of ten beyond which a number is taken for garbage."""


class Unreadable(ValueError):
    """A message lacks what it can't be understood without; the text names it."""


BY_FILLED = None
"""Marks a status that says why an order rests and not how it stands: how it stands follows from what is filled."""

STATUS: dict[str, OrderStatus | None] = {
    "new": OrderStatus.NEW,
    "partially_filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "replaced": OrderStatus.REPLACED,
    "rejected": OrderStatus.REJECTED,
    "pending_cancel": OrderStatus.PENDING_CANCEL,
    "pending_replace": OrderStatus.PENDING_REPLACE,
    # received, not yet acknowledged by the venue; overnight an order can stay `accepted` until the open
    "accepted": OrderStatus.PENDING_NEW,
    "pending_new": OrderStatus.PENDING_NEW,
    "pending_review": OrderStatus.PENDING_NEW,
    # a bracket leg that waits for its entry or its sibling
    "held": OrderStatus.PENDING_NEW,
    "accepted_for_bidding": OrderStatus.NEW,
    # none of these is final: a GTC order that is done for the day is `new` again the next morning
    "done_for_day": BY_FILLED,
    "stopped": BY_FILLED,
    "suspended": BY_FILLED,
    "calculated": BY_FILLED,
}
"""Alpaca's order status -> ours; one that is not here is taken as BY_FILLED, counted, and kept in `raw_status`."""

EXEC_TYPE: dict[str, ExecType] = {
    "new": ExecType.NEW,
    "fill": ExecType.TRADE,
    "partial_fill": ExecType.TRADE,
    "trade_bust": ExecType.TRADE_CANCEL,
    "trade_correct": ExecType.TRADE_CORRECT,
    "accepted": ExecType.PENDING_NEW,
    "pending_new": ExecType.PENDING_NEW,
    "pending_review": ExecType.PENDING_NEW,
    "held": ExecType.PENDING_NEW,
    "pending_cancel": ExecType.PENDING_CANCEL,
    "pending_replace": ExecType.PENDING_REPLACE,
    "canceled": ExecType.CANCELED,
    "expired": ExecType.EXPIRED,
    "replaced": ExecType.REPLACED,
    "rejected": ExecType.REJECTED,
    "done_for_day": ExecType.DONE_FOR_DAY,
    "stopped": ExecType.STOPPED,
    "suspended": ExecType.SUSPENDED,
    "calculated": ExecType.CALCULATED,
    "restated": ExecType.RESTATED,
    "order_cancel_rejected": ExecType.CANCEL_REJECTED,
    "order_replace_rejected": ExecType.REPLACE_REJECTED,
}
"""Alpaca's trade_updates event -> why the report was sent; one that is not here is UNKNOWN, and counted."""

_STATUS_AFTER = {
    "new": "new",
    "partial_fill": "partially_filled",
    "fill": "filled",
    **{
        name: name
        for name in (
            "accepted", "pending_new", "held", "canceled", "expired", "replaced", "rejected", "pending_cancel",
            "pending_replace", "done_for_day", "stopped", "suspended", "calculated",
        )
    },
}  # fmt: skip
"""The status that an event implies when its order carries none."""

_STATUS_BY_TIME = (
    ("replaced_at", "replaced"),
    ("canceled_at", "canceled"),
    ("expired_at", "expired"),
    ("failed_at", "rejected"),
    ("filled_at", "filled"),
)

_SIDE = {
    "buy": Side.BUY,
    "sell": Side.SELL,
    "sell_short": Side.SELL,
    "buy_to_open": Side.BUY,
    "buy_to_close": Side.BUY,
    "sell_to_open": Side.SELL,
    "sell_to_close": Side.SELL,
}
_ORDER_TYPE = {name.value.lower(): name for name in OrderType if name is not OrderType.OTHER}
_TIME_IN_FORCE = {name.value.lower(): name for name in TimeInForce if name is not TimeInForce.OTHER}

_TRADES = (ExecType.TRADE, ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT)


# --- scalars --------------------------------------------------------------------------------------


def number(value: object) -> Decimal | None:
    """A finite Decimal from a string, int or float (by way of its shortest text); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    # "1e999999999" is a number too, but none that sums can be made with
    is_usable = amount.is_finite() and abs(amount.adjusted()) <= MAGNITUDE_MAX
    return amount if is_usable else None


def instant(value: object) -> datetime | None:
    """Aware UTC time from RFC 3339 text (digits beyond microseconds are cut) or a datetime; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return None


def text(value: object) -> str:
    """The string itself; empty for anything else."""
    return value if isinstance(value, str) else ""


def _number_of(raw: Raw, name: str, oddities: Oddities, where: str) -> Decimal | None:
    value = raw.get(name)
    if value is None or value == "":
        return None
    amount = number(value)
    if amount is None:
        oddities[f"bad:{where}.{name}"] += 1
    return amount


def _instant_of(raw: Raw, name: str, oddities: Oddities, where: str) -> datetime | None:
    value = raw.get(name)
    if value is None or value == "":
        return None
    at = instant(value)
    if at is None:
        oddities[f"bad:{where}.{name}"] += 1
    return at


def _required(raw: Raw, name: str, where: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{where} has no {name}")
    return value


def _mapping(raw: object, where: str) -> Raw:
    if not isinstance(raw, Mapping):
        raise Unreadable(f"{where} is {type(raw).__name__}, not an object")
    return raw


# --- orders ---------------------------------------------------------------------------------------


def is_multi_leg(raw: object) -> bool:
    """True for the parent of a multi-leg option order: it has no symbol and no fills of its own, its legs have."""
    return isinstance(raw, Mapping) and raw.get("order_class") == "mleg" and not raw.get("symbol")


def order_reports(raw: object, oddities: Oddities) -> tuple[OrderReport, ...]:
    """An order and its nested legs, flat; each leg names its `parent`. Raises `Unreadable`."""
    order = _mapping(raw, "order")
    reports: list[OrderReport] = []
    if is_multi_leg(order):
        oddities["multi_leg_parent"] += 1
    else:
        reports.append(order_report(order, oddities))
    legs = order.get("legs")
    if isinstance(legs, Sequence) and not isinstance(legs, str):
        parent = BrokerOrderId(_required(order, "id", "order"))
        for leg in legs:
            reports.append(order_report(leg, oddities, parent=parent))
    return tuple(reports)


def order_report(
    raw: object, oddities: Oddities, *, event: str = "", parent: BrokerOrderId | None = None, reason: str = ""
) -> OrderReport:
    """One order object; `event` helps where its status is missing. Raises `Unreadable` without id, symbol or side."""
    order = _mapping(raw, "order")
    broker_order_id = BrokerOrderId(_required(order, "id", "order"))
    symbol = Symbol(_required(order, "symbol", "order"))
    side = _side(order, oddities)
    quantity = _number_of(order, "qty", oddities, "order")
    version = _instant_of(order, "updated_at", oddities, "order")
    raw_status = _raw_status(order, event, oddities)
    filled = _number_of(order, "filled_qty", oddities, "order")
    if filled is None:
        oddities["missing:order.filled_qty"] += 1
        if raw_status == "filled" and quantity is not None:
            filled = quantity
        else:
            # Not known. Without a version the report can't take back what others have said was filled.
            filled, version = ZERO, None
    status = _status(raw_status, filled, quantity, oddities)
    replaced_by = BrokerOrderId(text(order.get("replaced_by"))) or None
    order_class = text(order.get("order_class"))
    if status is OrderStatus.REPLACED and replaced_by is None and order_class in LINKED:
        # a take-profit whose stop has fired can be called replaced; nothing more will come of it
        status = OrderStatus.CANCELED
    return OrderReport(
        broker_order_id=broker_order_id,
        symbol=symbol,
        side=side,
        status=status,
        filled_quantity=filled,
        client_order_id=ClientOrderId(text(order.get("client_order_id"))) or None,
        order_type=_order_type(order, oddities),
        time_in_force=_time_in_force(order, oddities),
        quantity=quantity,
        notional=_number_of(order, "notional", oddities, "order"),
        limit_price=_number_of(order, "limit_price", oddities, "order"),
        stop_price=_number_of(order, "stop_price", oddities, "order"),
        average_price=_number_of(order, "filled_avg_price", oddities, "order"),
        raw_status=raw_status,
        version=version,
        submitted_at=_instant_of(order, "submitted_at", oddities, "order"),
        filled_at=_instant_of(order, "filled_at", oddities, "order"),
        replaces=BrokerOrderId(text(order.get("replaces"))) or None,
        replaced_by=replaced_by,
        parent=parent,
        order_class=order_class,
        reason=reason or text(order.get("reject_reason")),
    )


def _side(order: Raw, oddities: Oddities) -> Side:
    for name in ("side", "position_intent"):
        side = _SIDE.get(text(order.get(name)).lower())
        if side is not None:
            return side
        oddities[f"missing:order.{name}"] += 1
    raise Unreadable(f"order {order.get('id')} has no side: {order.get('side')!r}")


def _raw_status(order: Raw, event: str, oddities: Oddities) -> str:
    status = text(order.get("status"))
    if status:
        return status
    oddities["missing:order.status"] += 1
    if event in _STATUS_AFTER:
        return _STATUS_AFTER[event]
    for name, implied in _STATUS_BY_TIME:
        if order.get(name):
            return implied
    return ""


def _status(raw_status: str, filled: Decimal, quantity: Decimal | None, oddities: Oddities) -> OrderStatus:
    known = STATUS.get(raw_status.lower(), BY_FILLED)
    if known is not None:
        return known
    if raw_status and raw_status.lower() not in STATUS:
        oddities[f"unknown:status:{raw_status[:40]}"] += 1
    if not filled:
        return OrderStatus.NEW
    return OrderStatus.FILLED if quantity is not None and filled >= quantity else OrderStatus.PARTIALLY_FILLED


def _order_type(order: Raw, oddities: Oddities) -> OrderType:
    name = text(order.get("type")) or text(order.get("order_type"))
    order_type = _ORDER_TYPE.get(name.lower(), OrderType.OTHER)
    if order_type is OrderType.OTHER and name:
        oddities[f"unknown:type:{name[:40]}"] += 1
    return order_type


def _time_in_force(order: Raw, oddities: Oddities) -> TimeInForce:
    name = text(order.get("time_in_force"))
    time_in_force = _TIME_IN_FORCE.get(name.lower(), TimeInForce.OTHER)
    if time_in_force is TimeInForce.OTHER and name:
        oddities[f"unknown:time_in_force:{name[:40]}"] += 1
    return time_in_force


# --- trade updates --------------------------------------------------------------------------------


def trade_update(data: object, at: datetime, oddities: Oddities) -> tuple[OrderReported, ...]:
    """The `data` of one trade_updates frame; more than one event only for multi-leg orders. Raises `Unreadable`."""
    update = _mapping(data, "trade update")
    order = _mapping(update.get("order"), "trade update's order")
    event = text(update.get("event")).lower()
    exec_type = EXEC_TYPE.get(event, ExecType.UNKNOWN)
    if exec_type is ExecType.UNKNOWN:
        oddities[f"unknown:event:{event[:40]}"] += 1
    if is_multi_leg(order):
        return _multi_leg_update(update, order, event, exec_type, at, oddities)
    report = order_report(order, oddities, event=event, reason=text(update.get("reason")))
    return (_reported(update, report, exec_type, at, oddities),)


def _reported(update: Raw, report: OrderReport, exec_type: ExecType, at: datetime, oddities: Oddities) -> OrderReported:
    broker_at = _instant_of(update, "timestamp", oddities, "update") or _instant_of(update, "at", oddities, "update")
    execution = _execution(update, report, exec_type, broker_at or at, oddities) if exec_type in _TRADES else None
    refers_to = None
    if exec_type in (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT):
        named = (text(update.get(key)) for key in ("previous_execution_id", "previous_id", "execution_id"))
        refers_to = next((ExecutionId(name) for name in named if name), None)
    return OrderReported(
        at=at,
        source=Source.STREAM,
        exec_type=exec_type,
        report=report,
        execution=execution,
        refers_to=refers_to,
        broker_at=broker_at,
    )


def _execution(
    update: Raw, report: OrderReport, exec_type: ExecType, at: datetime, oddities: Oddities
) -> Execution | None:
    """The match itself, or None where too little of it is said; the report then carries its quantity alone."""
    quantity = _number_of(update, "qty", oddities, "update")
    price = _number_of(update, "price", oddities, "update")
    is_trade = exec_type is ExecType.TRADE
    # A report without a version is one whose cumulative quantity was missing. After a bust the order's quantity is no
    # longer the one right behind the execution.
    cum = report.filled_quantity if is_trade and report.filled_quantity else None
    if price is None and cum is not None and cum == quantity:
        price = report.average_price  # the only execution so far, so its price is the average
    if quantity is None or price is None or not quantity:
        oddities["missing:update.qty" if not quantity else "missing:update.price"] += 1
        return None
    execution_id = text(update.get("execution_id"))
    if not execution_id:
        oddities["missing:update.execution_id"] += 1
        execution_id = f"{report.broker_order_id}@{cum if cum is not None else at.isoformat()}"
    return Execution(
        execution_id=ExecutionId(execution_id),
        broker_order_id=report.broker_order_id,
        symbol=report.symbol,
        side=report.side,
        quantity=abs(quantity),
        price=price,
        at=at,
        cum_quantity=cum,
    )


def _multi_leg_update(
    update: Raw, order: Raw, event: str, exec_type: ExecType, at: datetime, oddities: Oddities
) -> tuple[OrderReported, ...]:
    """One event a leg: the parent has neither a symbol nor fills of its own."""
    oddities["multi_leg_parent"] += 1
    parent = BrokerOrderId(_required(order, "id", "order"))
    legs = order.get("legs")
    if not isinstance(legs, Sequence) or isinstance(legs, str) or not legs:
        raise Unreadable(f"multi-leg order {parent} has no legs")
    fills = update.get("legs")
    listed = fills if isinstance(fills, Sequence) and not isinstance(fills, str) else ()
    by_order = {text(fill.get("order_id")): fill for fill in listed if isinstance(fill, Mapping)}
    events = []
    for leg in legs:
        report = order_report(leg, oddities, event=event, parent=parent, reason=text(update.get("reason")))
        fill = by_order.get(report.broker_order_id)
        kind = exec_type if fill is not None or exec_type not in _TRADES else ExecType.STATUS
        own = fill if fill is not None else {"timestamp": update.get("timestamp")}
        events.append(_reported(own, report, kind, at, oddities))
    return tuple(events)


# --- the rest of a snapshot -----------------------------------------------------------------------


def fill_activity(raw: object, oddities: Oddities) -> Execution:
    """One FILL account activity. Raises `Unreadable` without id, order, symbol, side, quantity, price or time."""
    activity = _mapping(raw, "activity")
    activity_id = _required(activity, "id", "activity")
    side = _SIDE.get(text(activity.get("side")).lower())
    quantity = _number_of(activity, "qty", oddities, "activity")
    price = _number_of(activity, "price", oddities, "activity")
    at = _instant_of(activity, "transaction_time", oddities, "activity")
    for name, value in (("side", side), ("qty", quantity), ("price", price), ("transaction_time", at)):
        if value is None:
            raise Unreadable(f"activity {activity_id} has no readable {name}: {activity.get(name)!r}")
    assert side is not None
    assert quantity is not None
    assert price is not None
    assert at is not None
    return Execution(
        execution_id=ExecutionId(activity_id.rpartition("::")[2]),
        broker_order_id=BrokerOrderId(_required(activity, "order_id", "activity")),
        symbol=Symbol(_required(activity, "symbol", "activity")),
        side=side,
        quantity=abs(quantity),
        price=price,
        at=at,
        cum_quantity=_number_of(activity, "cum_qty", oddities, "activity"),
    )


def position_report(raw: object, oddities: Oddities) -> PositionReport:
    """One position. Raises `Unreadable` without symbol or quantity, or when `side` contradicts the quantity's sign."""
    position = _mapping(raw, "position")
    symbol = Symbol(_required(position, "symbol", "position"))
    quantity = _number_of(position, "qty", oddities, "position")
    if quantity is None:
        raise Unreadable(f"position {symbol} has no readable qty: {position.get('qty')!r}")
    side = text(position.get("side")).lower()
    if (side == "long" and quantity < 0) or (side == "short" and quantity > 0):
        raise Unreadable(f"position {symbol} is {side} with qty {quantity}")
    average = _number_of(position, "avg_entry_price", oddities, "position")
    if average is None:
        oddities["missing:position.avg_entry_price"] += 1
        cost = _number_of(position, "cost_basis", oddities, "position")
        if cost is None or not quantity:
            raise Unreadable(f"position {symbol} has neither avg_entry_price nor cost_basis")
        average = abs(cost / quantity)
    return PositionReport(
        symbol=symbol,
        quantity=quantity,
        average_price=average,
        market_value=_number_of(position, "market_value", oddities, "position"),
        current_price=_number_of(position, "current_price", oddities, "position"),
    )


def account_report(raw: object, oddities: Oddities) -> AccountReport:
    """The account. Raises `Unreadable` without an id, cash or any statement of equity."""
    account = _mapping(raw, "account")
    account_id = text(account.get("account_number")) or _required(account, "id", "account")
    cash = _number_of(account, "cash", oddities, "account")
    if cash is None:
        raise Unreadable(f"account has no readable cash: {account.get('cash')!r}")
    equity = _first_number(account, ("equity", "portfolio_value"), oddities)
    if equity is None:
        held = _first_number(account, ("position_market_value",), oddities)
        if held is None:
            raise Unreadable("account has no readable equity")
        equity = cash + held
    last_equity = _first_number(account, ("last_equity",), oddities)
    power = _first_number(account, ("buying_power", "regt_buying_power", "non_marginable_buying_power"), oddities)
    return AccountReport(
        account_id=AccountId(account_id),
        cash=cash,
        equity=equity,
        last_equity=equity if last_equity is None else last_equity,
        buying_power=max(cash, ZERO) if power is None else power,
        blocked=any(
            text(str(account.get(name))).lower() == "true"
            for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        ),
    )


def _first_number(raw: Raw, names: Sequence[str], oddities: Oddities) -> Decimal | None:
    for name in names:
        amount = _number_of(raw, name, oddities, "account")
        if amount is not None:
            return amount
        oddities[f"missing:account.{name}"] += 1
    return None


# --- market data ----------------------------------------------------------------------------------


def quote(raw: object, at: datetime, oddities: Oddities) -> Quote:
    """One `q` message; a missing time is the arrival's. Raises `Unreadable` without symbol, bid or ask price."""
    message = _mapping(raw, "quote")
    symbol = Symbol(_required(message, "S", "quote"))
    bid = _number_of(message, "bp", oddities, "quote")
    ask = _number_of(message, "ap", oddities, "quote")
    if bid is None or ask is None:
        raise Unreadable(f"quote of {symbol} has no readable {'bp' if bid is None else 'ap'}")
    return Quote(
        symbol=symbol,
        bid=bid,
        ask=ask,
        at=_instant_of(message, "t", oddities, "quote") or at,
        bid_size=_number_of(message, "bs", oddities, "quote") or ZERO,
        ask_size=_number_of(message, "as", oddities, "quote") or ZERO,
    )
