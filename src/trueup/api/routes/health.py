"""Alive, ready, and how sure belief is of itself.

Not for deciding what may trade (`core/breakers.py`). Invariant: ready is said only of a belief that was reconciled and
is kept up by a live stream.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from trueup.api.deps import Gateway, GatewayDep
from trueup.api.schemas import AliveView, ReadyView
from trueup.core.model import FeedName, FeedStatus
from trueup.core.projection import health_view, system_snapshot_view
from trueup.core.views import HealthView, SystemSnapshotView

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=AliveView)
async def alive(gateway: GatewayDep) -> Response:
    """The process answers; asks nothing of belief, so that a restart is never the cure for a broker's outage."""
    return gateway.answer({"status": "alive", "at": gateway.house.clock.now()})


@router.get("/readyz", response_model=ReadyView, responses={503: {"model": ReadyView}})
async def ready(gateway: GatewayDep) -> Response:
    """200 once belief is live and reconciled, else 503 with the reasons."""
    reasons = _not_ready(gateway)
    view = {"ready": not reasons, "reasons": reasons, "at": gateway.house.clock.now()}
    return gateway.answer(view, status=503 if reasons else 200)


def _not_ready(gateway: Gateway) -> list[str]:
    truth = gateway.belief.truth
    events = truth.feeds[FeedName.BROKER_EVENTS]
    reasons = []
    if truth.last_reconciliation_at is None:
        reasons.append("belief was not reconciled with the broker yet")
    if events.status is not FeedStatus.UP:
        reasons.append(f"broker events are {events.status.value}: {events.reason}")
    if truth.open_gap is not None:
        reasons.append(f"a gap is open: {truth.open_gap.reason}")
    return reasons


@router.get("/api/health", response_model=HealthView)
async def health(gateway: GatewayDep) -> Response:
    """Truth lag, each stream apart, gap, drift, trading state."""
    at = gateway.house.clock.now()
    return gateway.answer(health_view(gateway.belief, gateway.house.health.numbers(), at))


@router.get("/api/snapshot", response_model=SystemSnapshotView)
async def snapshot(gateway: GatewayDep) -> Response:
    """All that a dashboard shows, as the websocket sends it on connect."""
    house = gateway.house
    view = system_snapshot_view(gateway.belief, house.quotes.latest(), house.health.numbers(), house.clock.now())
    return gateway.answer(view)
