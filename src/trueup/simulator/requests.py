"""What clients ask, from query strings and JSON bodies into the exchange's own words.

For: tolerant reading (numbers or strings, booleans in any case) with the broker's own refusals for what cannot be read.
Not for: whether the request is allowed; that is the exchange's to say.
Invariant: a number never passes through a machine float; what is returned has the type it says.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

import msgspec
from aiohttp import web

from trueup.simulator.hours import NEW_YORK
from trueup.simulator.model import (
    VALIDATION,
    OrderClass,
    OrderRequest,
    OrderType,
    Refused,
    ReplaceRequest,
    Side,
    StopLoss,
    TimeInForce,
)

E = TypeVar("E", bound=StrEnum)
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def invalid(message: str) -> Refused:
    """A refusal of something that cannot be read, HTTP 422."""
    return Refused(422, VALIDATION, message)


async def json_body(request: web.Request) -> dict[str, object]:
    """The JSON object of a request, decimals exact; Refused 400 when it is none. An empty body is an empty object."""
    raw = await request.read()
    if not raw.strip():
        return {}
    try:
        body = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Refused(400, VALIDATION, f"request body is not JSON: {problem}") from problem
    if not isinstance(body, dict):
        raise Refused(400, VALIDATION, "request body must be a JSON object")
    return body


def decimal_of(body: Mapping[str, object], name: str) -> Decimal | None:
    """A number given as a JSON number or a string; None when absent or null."""
    value = body.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise invalid(f"{name} must be a number or a string with a number, not {value!r}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    # Beyond this no price, quantity or amount makes sense, and exact arithmetic would grow without bound.
    if not number.is_finite() or (number and not -12 <= number.adjusted() <= 15):
        raise invalid(f"{name} must be a number between 1e-12 and 1e15, not {value!r}")
    return number


def text_of(body: Mapping[str, object], name: str) -> str | None:
    """A string; None when absent, null or empty."""
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string, not {value!r}")
    return value


def bool_of(values: Mapping[str, object], name: str, default: bool = False) -> bool:
    """A boolean, as JSON or as text in any case."""
    value = values.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    match str(value).lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise invalid(f"{name} must be true or false, not {value!r}")


def whole_of(values: Mapping[str, object], name: str, *, default: int, low: int, high: int) -> int:
    """A whole number within bounds; the default when absent."""
    number = decimal_of(values, name)
    if number is None:
        return default
    if number % 1 or not low <= number <= high:
        raise invalid(f"{name} must be a whole number from {low} to {high}, not {number}")
    return int(number)


def choice_of(values: Mapping[str, object], name: str, kinds: type[E]) -> E | None:
    """One of an enumeration's words; None when absent."""
    text = text_of(values, name)
    if text is None:
        return None
    try:
        return kinds(text.lower())
    except ValueError:
        raise invalid(f"invalid {name} {text!r}; this simulator takes {', '.join(kinds)}") from None


def terms_of(body: Mapping[str, object], name: str, fields: tuple[str, ...]) -> dict[str, Decimal | None] | None:
    """The prices of one leg, given as an object; None when absent, null or empty."""
    value = body.get(name)
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object with {' and '.join(fields)}, not {value!r}")
    try:
        return {field: decimal_of(value, field) for field in fields}
    except Refused as refused:
        raise invalid(f"{name}.{refused.message}") from None


def instant_of(query: Mapping[str, str], name: str) -> datetime | None:
    """RFC3339, or a day meaning its New York midnight; None when absent."""
    # A plus sign that a client forgot to percent-encode arrives as a space.
    text = query.get(name, "").strip().replace(" ", "+")
    if not text:
        return None
    try:
        if len(text) == 10:
            return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
        at = datetime.fromisoformat(_cut_nanoseconds(text))
    except ValueError:
        raise invalid(f"{name} must be RFC3339 such as 2026-03-02T14:31:00Z or a day, not {text!r}") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def day_of(query: Mapping[str, str], name: str) -> date | None:
    """A day; None when absent."""
    text = query.get(name, "")
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise invalid(f"{name} must be a day such as 2026-03-02, not {text!r}") from None


def list_of(query: Mapping[str, str], name: str) -> list[str]:
    """A comma-separated list, without its empty places."""
    return [item.strip() for item in query.get(name, "").split(",") if item.strip()]


def _cut_nanoseconds(text: str) -> str:
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[: min(digits, 6)].ljust(6, '0')}{tail[digits:]}"


def order_request(body: Mapping[str, object]) -> OrderRequest:
    """The body of POST /v2/orders; Refused names what is missing or not offered."""
    symbol = text_of(body, "symbol")
    if symbol is None:
        raise invalid("symbol is required")
    order_class = choice_of(body, "order_class", OrderClass) or OrderClass.SIMPLE
    if body.get("legs"):
        raise invalid("legs is not offered by this simulator")
    is_group = order_class is not OrderClass.SIMPLE
    # Without an order class the broker reads neither of the two, and says nothing about it.
    take_profit = terms_of(body, "take_profit", ("limit_price",)) if is_group else None
    stop_loss = terms_of(body, "stop_loss", ("stop_price", "limit_price")) if is_group else None
    side = choice_of(body, "side", Side)
    order_type = choice_of(body, "type", OrderType)
    time_in_force = choice_of(body, "time_in_force", TimeInForce)
    if side is None:
        raise invalid("side is required")
    if order_type is None:
        raise invalid("type is required")
    if time_in_force is None:
        raise invalid("time_in_force is required")
    return OrderRequest(
        symbol=symbol.upper(),
        side=side,
        type=order_type,
        time_in_force=time_in_force,
        qty=decimal_of(body, "qty"),
        notional=decimal_of(body, "notional"),
        limit_price=decimal_of(body, "limit_price"),
        stop_price=decimal_of(body, "stop_price"),
        client_order_id=text_of(body, "client_order_id"),
        extended_hours=bool_of(body, "extended_hours"),
        trail_price=decimal_of(body, "trail_price"),
        trail_percent=decimal_of(body, "trail_percent"),
        order_class=order_class,
        take_profit_price=take_profit["limit_price"] if take_profit is not None else None,
        stop_loss=StopLoss(**stop_loss) if stop_loss is not None else None,
    )


def replace_request(body: Mapping[str, object]) -> ReplaceRequest:
    """The body of PATCH /v2/orders/{id}."""
    if body.get("notional"):
        raise invalid("notional is not offered by this simulator")
    return ReplaceRequest(
        qty=decimal_of(body, "qty"),
        limit_price=decimal_of(body, "limit_price"),
        stop_price=decimal_of(body, "stop_price"),
        trail=decimal_of(body, "trail"),
        time_in_force=choice_of(body, "time_in_force", TimeInForce),
        client_order_id=text_of(body, "client_order_id"),
    )
