"""What is held, what was executed, where belief and the broker differed, and when we could not know.

Not for orders (`orders.py`). Invariant: every answer is computed from belief as it is at this moment.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from trueup.api.deps import GatewayDep
from trueup.core.projection import drifts_view, executions_view, gaps_view, portfolio_view, positions_view
from trueup.core.views import DriftView, GapView, PortfolioView, PositionView, TradeExecutedView

router = APIRouter(prefix="/api", tags=["portfolio"])


@router.get("/positions", response_model=list[PositionView])
async def positions(gateway: GatewayDep) -> Response:
    """Every holding, by symbol."""
    house = gateway.house
    return gateway.answer(positions_view(gateway.belief, house.quotes.latest(), house.clock.now()))


@router.get("/portfolio", response_model=PortfolioView)
async def portfolio(gateway: GatewayDep) -> Response:
    """The account in money, and as of when."""
    house = gateway.house
    return gateway.answer(portfolio_view(gateway.belief, house.quotes.latest(), house.clock.now()))


@router.get("/executions", response_model=list[TradeExecutedView])
async def executions(gateway: GatewayDep, limit: Annotated[int, Query(ge=1, le=1000)] = 300) -> Response:
    """The newest executions, each with the way it was learned."""
    return gateway.answer(executions_view(gateway.belief, limit))


@router.get("/gaps", response_model=list[GapView])
async def gaps(gateway: GatewayDep) -> Response:
    """Stretches in which broker events may have been missed, newest first."""
    return gateway.answer(gaps_view(gateway.belief))


@router.get("/drifts", response_model=list[DriftView])
async def drifts(gateway: GatewayDep) -> Response:
    """Differences between belief and the broker's snapshots: suspected ones, then ended ones."""
    return gateway.answer(drifts_view(gateway.belief))
