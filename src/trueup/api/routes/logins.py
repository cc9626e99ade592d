"""Who has logged in here, and ending that from afar. Logging in and out itself is at the door (`auth.py`).

Invariant: a session's cookie is never told; ending a session closes what was opened under it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from trueup.api.identity import Role
from trueup.api.schemas import ErrorBody, refusal
from trueup.api.sessions import Sessions
from trueup.errors import ShelfUnreachable

router = APIRouter(prefix="/api/sessions", tags=["sessions"])


class SessionView(BaseModel):
    """One login."""

    id: str
    name: str
    role: Role
    since: datetime
    seen_at: datetime


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


@router.get("")
async def list_sessions(sessions: SessionsDep) -> list[SessionView]:
    """Every open session, of this gateway and of all that share logins with it."""
    return [
        SessionView(id=each.id, name=each.name, role=each.role, since=each.since, seen_at=each.seen_at)
        for each in await sessions.listed()
    ]


@router.delete("/{session_id}", status_code=204, responses={404: {"model": ErrorBody}, 503: {"model": ErrorBody}})
async def revoke_session(sessions: SessionsDep, session_id: str) -> Response:
    """End a session, and every connection that was opened under it."""
    try:
        found = await sessions.revoke(session_id)
    except ShelfUnreachable:
        told = "it has ended at this gateway; the others are told as soon as Redis is back"
        return JSONResponse(refusal("unavailable", told), status_code=503)
    if found:
        return Response(status_code=204)
    told = "there is no such session; GET /api/sessions lists them"
    return JSONResponse(refusal("unknown_session", told, "session_id"), status_code=404)
