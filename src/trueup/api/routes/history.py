"""Questions after the fact: an order's whole story, and every divergence there ever was, folded from the journal.

Not for what is believed now. Invariant: the folding is done outside this process, so that nothing waits for it here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from trueup.api.deps import Gateway, GatewayDep, History
from trueup.api.schemas import ErrorBody, refusal
from trueup.core.views import DivergencesView, ExplanationView

router = APIRouter(prefix="/api", tags=["history"])

_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorBody, "description": "The journal never knew such an order."},
    422: {"model": ErrorBody, "description": "`at` is no time."},
    503: {"model": ErrorBody, "description": "Others ask already; try again."},
}


@router.get("/explain/{order_id:path}", response_model=ExplanationView, responses=_REFUSED)
async def explain(
    gateway: GatewayDep,
    order_id: str,
    at: Annotated[str | None, Query(description="what was believed then; RFC 3339")] = None,
) -> Response:
    """One order's whole story by any of its ids: what came, how late, what was believed at a time, what we did."""
    if at is not None and _time(at) is None:
        message = f"at must be a time such as 2026-03-12T14:32:11Z; got {at[:64]!r}"
        return gateway.answer(refusal("bad_input", message, "at"), status=422)
    told = await _history(gateway).explain(order_id, _time(at) if at is not None else None)
    if told is None:
        message = f"the journal knows no order {order_id[:128]!r}"
        return gateway.answer(refusal("unknown_order", message, "id"), status=404)
    return Response(told, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/divergences", response_model=DivergencesView, responses={503: _REFUSED[503]})
async def divergences(gateway: GatewayDep) -> Response:
    """Every drift from its first suspicion to its end, and every gap, oldest first."""
    told = await _history(gateway).divergences()
    return Response(told, media_type="application/json", headers={"Cache-Control": "no-store"})


async def retired_order(gateway: Gateway, order_id: str) -> Any | None:
    """The detail of an order that belief has left to the journal; None when it never had one, or has no journal."""
    belief, history = gateway.belief, gateway.options.history
    if history is None or not belief.counters.get("orders_retired"):
        return None
    ours = order_id.startswith("o-") and order_id.removeprefix("o-").isdecimal()
    if not (ours or order_id in belief.retired or order_id in belief.retired_clients):
        return None
    told = await history.explain(order_id, None)
    return None if told is None else json.loads(told, parse_float=Decimal)["detail"]


def _history(gateway: Gateway) -> History:
    history = gateway.options.history
    assert history is not None, "these routes are there only with a history"
    return history


def _time(text: str) -> datetime | None:
    try:
        # A plus sign that was not quoted arrives as a blank.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
