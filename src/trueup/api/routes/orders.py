"""Orders and the commands about them: submit, cancel, replace, reconcile, kill, resume.

A command is answered once it is journaled and decided; what the broker makes of it comes by the websocket.
Not for judging commands: the core allows or denies, and this says so. Invariant: repeating a submit under its client
order id never sends a second order.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from trueup.api.deps import AskedBy, Gateway, GatewayDep
from trueup.api.routes.history import retired_order
from trueup.api.schemas import (
    DeniedBody,
    ErrorBody,
    ExactRoute,
    KillBody,
    ReconcileView,
    ReplaceBody,
    ResumeBody,
    SubmitBody,
    refusal,
)
from trueup.core.commands import CancelOrder, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import Denied
from trueup.core.model import ClientOrderId, OrderId, OrderStatus, OrderType, Side, Symbol, TimeInForce
from trueup.core.orders import Order
from trueup.core.projection import kill_switch_view, order_detail_view, order_view, orders_view
from trueup.core.views import KillSwitchView, OrderDetailView, OrderView

RECONCILE_WAIT_S = 30.0
"""How long `wait=true` waits for an outcome, in seconds; what comes later is shown by health."""

LOOK_AGAIN_S = 0.05
"""How often a waiting request looks whether its reconciliation has ended, in seconds."""

router = APIRouter(prefix="/api", tags=["orders"], route_class=ExactRoute)

Documented = dict[int | str, dict[str, Any]]

REFUSED: Documented = {
    422: {"model": ErrorBody, "description": "What was sent can't be used; `field` says which part."}
}
UNKNOWN: Documented = {404: {"model": ErrorBody, "description": "There is no such order."}}
CONFLICT: Documented = {409: {"model": ErrorBody, "description": "The order, or its id, does not allow it."}}
BUSY: Documented = {
    503: {"model": ErrorBody, "description": "A bounded queue is full; nothing was taken, trying again is safe."}
}


# --- questions ---


@router.get("/orders", response_model=list[OrderView], responses={**REFUSED})
async def list_orders(
    gateway: GatewayDep,
    status: Annotated[Literal["all", "working"], Query(description="working: those that may still fill")] = "all",
    limit: Annotated[int, Query(ge=1, le=1000)] = 300,
) -> Response:
    """Orders, newest first."""
    views = orders_view(gateway.belief)
    if status == "working":
        views = tuple(view for view in views if not view.terminal)
    return gateway.answer(views[:limit])


@router.get("/orders/{order_id:path}", response_model=OrderDetailView, responses={**UNKNOWN})
async def show_order(gateway: GatewayDep, order_id: str) -> Response:
    """One order by our id, a client order id or a broker order id: its row, story, executions and gaps."""
    view = order_detail_view(gateway.belief, order_id) or await retired_order(gateway, order_id)
    return _unknown(gateway, order_id) if view is None else gateway.answer(view)


# --- commands ---


@router.post(
    "/orders",
    status_code=201,
    response_model=OrderView,
    responses={
        200: {"model": OrderView, "description": "The same order was submitted under this id before; this is it."},
        422: {"model": DeniedBody | ErrorBody, "description": "It can't be an order, or our own checks denied it."},
        **CONFLICT,
        **BUSY,
    },
)
async def submit_order(gateway: GatewayDep, asked_by: AskedBy, body: SubmitBody) -> Response:
    """Submit an order; answered once it is journaled and decided, before the broker has spoken."""
    symbol = Symbol(body.symbol)
    quote = gateway.house.quotes.latest().get(symbol)
    client_order_id = ClientOrderId(body.client_order_id) if body.client_order_id is not None else None
    command = SubmitOrder(
        at=gateway.house.clock.now(),
        symbol=symbol,
        side=body.side,
        quantity=body.quantity,
        order_type=OrderType(body.type),
        time_in_force=TimeInForce(body.time_in_force),
        limit_price=body.limit_price,
        stop_price=body.stop_price,
        extended_hours=body.extended_hours,
        client_order_id=client_order_id,
        reference_price=(quote.mid or None) if quote is not None else None,
        asked_by=asked_by,
    )
    # Asked first so that a repetition leaves no trace; of two at once, the core tells which came second.
    if client_order_id is not None and _is_used(gateway, client_order_id):
        return _repeated(gateway, client_order_id, command)
    outcome = await gateway.house.sequencer.submit(command)
    denied = outcome.denied
    if denied is not None and denied.code == "duplicate_client_order_id" and client_order_id is not None:
        return _repeated(gateway, client_order_id, command)
    assert outcome.order_id is not None
    order = gateway.belief.orders[outcome.order_id]
    return _denied(gateway, denied, order) if denied is not None else gateway.answer(order_view(order), status=201)


@router.patch(
    "/orders/{order_id:path}",
    status_code=202,
    response_model=OrderView,
    responses={**REFUSED, **UNKNOWN, **CONFLICT, **BUSY},
)
async def replace_order(gateway: GatewayDep, asked_by: AskedBy, order_id: str, body: ReplaceBody) -> Response:
    """Ask the broker for new terms of a working order; it keeps its id of ours."""
    order = gateway.belief.find_order(order_id)
    if order is None:
        return _unknown(gateway, order_id)
    quote = gateway.house.quotes.latest().get(order.symbol)
    command = ReplaceOrder(
        at=gateway.house.clock.now(),
        order_id=order.order_id,
        quantity=body.quantity,
        limit_price=body.limit_price,
        stop_price=body.stop_price,
        reference_price=(quote.mid or None) if quote is not None else None,
        asked_by=asked_by,
    )
    return _asked(gateway, order.order_id, (await gateway.house.sequencer.submit(command)).denied)


@router.delete(
    "/orders/{order_id:path}", status_code=202, response_model=OrderView, responses={**UNKNOWN, **CONFLICT, **BUSY}
)
async def cancel_order(gateway: GatewayDep, asked_by: AskedBy, order_id: str) -> Response:
    """Ask the broker to cancel an order; it is cancelled once the broker says so."""
    order = gateway.belief.find_order(order_id)
    if order is None:
        return _unknown(gateway, order_id)
    command = CancelOrder(
        at=gateway.house.clock.now(), order_id=order.order_id, reason="a cancel by hand", asked_by=asked_by
    )
    return _asked(gateway, order.order_id, (await gateway.house.sequencer.submit(command)).denied)


@router.post("/reconcile", status_code=202, response_model=ReconcileView, responses={**BUSY})
async def reconcile(gateway: GatewayDep, asked_by: AskedBy, wait: bool = False) -> Response:
    """Compare belief with a whole snapshot of the broker now; `wait=true` answers with what came of it, if soon."""
    clock, belief = gateway.house.clock, gateway.belief
    requested_at = clock.now()
    failed_before = belief.counters.get("snapshots_failed", 0)
    await gateway.house.sequencer.submit(Reconcile(at=requested_at, asked_by=asked_by))
    give_up = clock.monotonic() + (RECONCILE_WAIT_S if wait else 0.0)
    outcome: Literal["clean", "drift", "failed", "pending"] = "pending"
    while True:
        truth = gateway.belief.truth
        if truth.last_reconciliation_at is not None and truth.last_reconciliation_at > requested_at:
            outcome = "clean" if truth.last_result == "clean" else "drift"
        elif gateway.belief.counters.get("snapshots_failed", 0) > failed_before:
            outcome = "failed"
        if outcome != "pending" or clock.monotonic() >= give_up:
            break
        await clock.sleep(LOOK_AGAIN_S)
    view = {
        "requested_at": requested_at,
        "outcome": outcome,
        "result": "asked for" if outcome == "pending" else truth.last_result,
        "last_reconciliation_at": truth.last_reconciliation_at,
        "open_drifts": len(gateway.belief.drifts),
    }
    return gateway.answer(view, status=202)


@router.post(
    "/kill",
    response_model=KillSwitchView,
    responses={**BUSY},
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": KillBody.model_json_schema()}}}},
)
async def kill(gateway: GatewayDep, asked_by: AskedBy, request: Request) -> Response:
    """Close the gate for everything but cancels, and cancel every working order; stands until resumed."""
    reason = _why(await request.body())
    await gateway.house.sequencer.submit(Kill(at=gateway.house.clock.now(), reason=reason, asked_by=asked_by))
    return gateway.answer(kill_switch_view(gateway.belief))


@router.post("/resume", response_model=KillSwitchView | None, responses={**REFUSED, **BUSY})
async def resume(gateway: GatewayDep, asked_by: AskedBy, body: ResumeBody) -> Response:
    """Take the kill back; other demands, such as an open gap, stand until they end by themselves."""
    await gateway.house.sequencer.submit(Resume(at=gateway.house.clock.now(), reason=body.reason, asked_by=asked_by))
    return gateway.answer(kill_switch_view(gateway.belief))


# --- answers ---


def _why(body: bytes) -> str:
    """The reason in a kill's body; whoever kills in a hurry is not asked to spell it right."""
    try:
        return KillBody.model_validate(json.loads(body)).reason
    except ValueError:
        return KillBody().reason


def _unknown(gateway: Gateway, order_id: str) -> Response:
    body = refusal("unknown_order", f"there is no order {order_id[:128]!r}; GET /api/orders lists them", "id")
    return gateway.answer(body, status=404)


def _is_used(gateway: Gateway, client_order_id: ClientOrderId) -> bool:
    return client_order_id in gateway.belief.by_client or client_order_id in gateway.belief.retired_clients


def _repeated(gateway: Gateway, client_order_id: ClientOrderId, command: SubmitOrder) -> Response:
    """The answer to a submit under an id that exists: the first order if it is the same, else a conflict."""
    leg = gateway.belief.by_client.get(client_order_id)
    order = gateway.belief.orders.get(leg.order_id) if leg is not None else None
    if leg is None or order is None:
        message = f"client order id {client_order_id} belongs to an order of before; take a new one"
        return gateway.answer(refusal("client_order_id_used", message, "client_order_id"), status=409)
    differs = _difference(order, leg.quantity, leg.limit_price, leg.stop_price, command)
    if differs:
        message = f"client order id {client_order_id} is order {order.order_id}, whose {differs} differs; take a new id"
        return gateway.answer(refusal("client_order_id_used", message, "client_order_id"), status=409)
    if order.status is OrderStatus.DENIED:
        # A repetition gets the first answer again.
        return _denied(gateway, Denied(code="denied", field="", reason=order.reason), order)
    return gateway.answer(order_view(order))


def _difference(
    order: Order, quantity: Decimal | None, limit: Decimal | None, stop: Decimal | None, command: SubmitOrder
) -> str:
    pairs: tuple[tuple[str, Symbol | Side | OrderType | TimeInForce | Decimal | bool | None, object], ...] = (
        ("symbol", order.symbol, command.symbol),
        ("side", order.side, command.side),
        ("quantity", quantity, command.quantity),
        ("type", order.order_type, command.order_type),
        ("time_in_force", order.time_in_force, command.time_in_force),
        ("limit_price", limit, command.limit_price),
        ("stop_price", stop, command.stop_price),
        ("extended_hours", order.extended_hours, command.extended_hours),
    )
    return next((name for name, first, second in pairs if first != second), "")


def _denied(gateway: Gateway, denied: Denied, order: Order) -> Response:
    body: dict[str, object] = {**refusal(denied.code, denied.reason, denied.field), "order": order_view(order)}
    return gateway.answer(body, status=422)


def _asked(gateway: Gateway, order_id: OrderId, denied: Denied | None) -> Response:
    if denied is None:
        return gateway.answer(order_view(gateway.belief.orders[order_id]), status=202)
    status = {"unknown_order": 404, "order_is_final": 409, "order_busy": 409}.get(denied.code, 422)
    return gateway.answer(refusal(denied.code, denied.reason, denied.field), status=status)
