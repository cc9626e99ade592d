"""What HTTP requests must look like, and what is said when they don't.

Not for judging an order (`core/risk.py`): here stands only what can't be an order at all. Invariant: whatever is
refused is refused with the field's name and what would be right, and no amount passes through a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trueup.core.model import OrderType, Side, TimeInForce
from trueup.core.views import OrderView

DECIMALS_MAX = 9
DIGITS_MAX = 15


class ExactRequest(Request):
    """A request whose JSON numbers keep every digit."""

    async def json(self) -> Any:
        """The body, with a Decimal for every number that has a point."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), parse_float=Decimal, parse_constant=_no_such_number)
        return self._json


def _no_such_number(word: str) -> Any:
    raise json.JSONDecodeError(f"{word} is no JSON number", word, 0)


class ExactRoute(APIRoute):
    """A route that reads its body through `ExactRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI calls."""
        handler = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handler(ExactRequest(request.scope, request.receive))

        return exact


def _amount(value: object) -> object:
    right = "must be a number greater than 0, such as 10 or 178.42"
    if isinstance(value, str):
        value = value.strip()
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError(f"{right}; got {value!r}")
    if isinstance(value, str) and not re.fullmatch(r"[+-]?\d{1,40}(\.\d{0,40})?|[+-]?\.\d{1,40}", value):
        raise ValueError(f"{right}; got {value[:40]!r}")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{right}; got {value!r}") from None
    if amount <= 0:
        raise ValueError(f"{right}; got {value!s}")
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -DECIMALS_MAX or amount.adjusted() >= DIGITS_MAX:
        raise ValueError(f"must have at most {DECIMALS_MAX} decimal places and {DIGITS_MAX} digits before the point")
    return amount


def _word(*words: str) -> Callable[[object], object]:
    def parse(value: object) -> object:
        word = value.strip().upper().replace("-", "_") if isinstance(value, str) else value
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}; got {value!r}")
        return word

    return parse


def _symbol(value: object) -> object:
    symbol = value.strip().upper() if isinstance(value, str) else ""
    if not re.fullmatch(r"[A-Z][A-Z0-9]{0,9}([./-][A-Z0-9]{1,8})?", symbol):
        raise ValueError(f"must be a symbol such as AAPL or BRK.B; got {value!r}")
    return symbol


def _client_order_id(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,128}", value):
        raise ValueError("must be 1 to 128 printable characters without spaces")
    if value.startswith("tu-"):
        raise ValueError("must not begin with tu-: those ids are coined here")
    return value


def _reason(value: object) -> object:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not 1 <= len(text) <= 300:
        raise ValueError("must say why, in 1 to 300 characters")
    return text


SENT_TYPES = (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT)
SENT_TIMES = (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.OPG, TimeInForce.CLS)

Amount = Annotated[Decimal, BeforeValidator(_amount), Field(examples=["178.42"])]
OptionalAmount = Annotated[Decimal | None, BeforeValidator(lambda value: None if value is None else _amount(value))]


class SubmitBody(BaseModel):
    """A new order. Amounts may be numbers or strings; words may be written in any case."""

    model_config = ConfigDict(extra="forbid")

    symbol: Annotated[str, BeforeValidator(_symbol), Field(examples=["AAPL"])]
    side: Annotated[Side, BeforeValidator(_word(*Side))]
    quantity: Amount
    type: Annotated[Literal["MARKET", "LIMIT", "STOP", "STOP_LIMIT"], BeforeValidator(_word(*SENT_TYPES))] = "MARKET"
    limit_price: OptionalAmount = None
    stop_price: OptionalAmount = None
    time_in_force: Annotated[Literal["DAY", "GTC", "IOC", "FOK", "OPG", "CLS"], BeforeValidator(_word(*SENT_TIMES))] = (
        "DAY"
    )
    extended_hours: bool = False
    client_order_id: Annotated[
        str | None,
        BeforeValidator(_client_order_id),
        Field(description="Its name for ever: repeating the same order under it submits nothing twice."),
    ] = None


class ReplaceBody(BaseModel):
    """New terms of a working order; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    quantity: OptionalAmount = None
    limit_price: OptionalAmount = None
    stop_price: OptionalAmount = None


def _any_reason(value: object) -> object:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text[:300] or "no reason given"


class KillBody(BaseModel):
    """Why; kept in the journal. A kill is never refused over its words."""

    model_config = ConfigDict(extra="ignore")

    reason: Annotated[str, BeforeValidator(_any_reason), Field(examples=["unusual market"])] = "no reason given"


class ResumeBody(BaseModel):
    """Why; kept in the journal."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, BeforeValidator(_reason), Field(examples=["unusual market"])]


class ErrorDetail(BaseModel):
    """What went wrong: a word for programs, a sentence for people, and the field where one is to blame."""

    code: str
    message: str
    field: str


class ErrorBody(BaseModel):
    """Every refusal looks like this."""

    error: ErrorDetail


class DeniedBody(ErrorBody):
    """An order that our own checks refused; it is in the books as denied and was never sent."""

    order: OrderView


class ReconcileView(BaseModel):
    """A reconciliation that was asked for; `outcome` is clean, drift, failed or pending, `result` says it in words."""

    requested_at: datetime
    outcome: Literal["clean", "drift", "failed", "pending"]
    result: str
    last_reconciliation_at: datetime | None
    open_drifts: int


class AliveView(BaseModel):
    """The process answers."""

    status: Literal["alive"]
    at: datetime


class ReadyView(BaseModel):
    """Whether belief is live and was reconciled, and if not, why."""

    ready: bool
    reasons: list[str]
    at: datetime


def refusal(code: str, message: str, field: str = "") -> dict[str, dict[str, str]]:
    """The body of a refusal."""
    return {"error": {"code": code, "message": message, "field": field}}
