"""The gateway as a process of its own: shows what a runtime publishes elsewhere, and hands commands on to it.

The websocket, the snapshot and the dashboard are served from what came by the bus; every other question and every
command goes to the runtime's own gateway over HTTP, as it came, and its answer comes back as it is. Any number of these
may stand beside one another. Not for deciding, and not for keeping anything: it may die and return at any moment.
Invariant: a command is handed on once; whether one that got no answer was carried out is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import httpx
from fastapi import FastAPI, Request, Response

from trueup import __version__
from trueup.api.app import answer_refusals, guard, serve_dashboard
from trueup.api.auth import NOT_A_GATEWAY, check_reach, vouching
from trueup.api.deps import GatewayOptions, Listening
from trueup.api.identity import LOCAL, Identity
from trueup.api.routes import logins, websocket
from trueup.api.routes.websocket import ConnectionManager
from trueup.api.schemas import refusal
from trueup.api.serve import listen, serve_app
from trueup.ports import Clock, Envelope

BODY_BYTES_MAX = 64 * 1024
"""The largest command that is handed on."""

ANSWER_S = 40.0
"""How long the runtime may take; a reconciliation that is waited for takes up to 30 seconds."""


class Mirror(Listening, Protocol):
    """A bus that is filled from elsewhere."""

    @property
    def reason(self) -> str:
        """Why it may be behind; "" while it is not."""

    def picture(self) -> tuple[Envelope, Mapping[str, int]] | None:
        """The newest snapshot, and up to where it holds everything."""


@dataclass(frozen=True, slots=True)
class RemoteGateway:
    """What the routes of a gateway without a runtime may reach."""

    bus: Mirror
    clock: Clock
    options: GatewayOptions
    runtime: httpx.AsyncClient
    vouches: bool = False
    """True when the runtime takes its word for whom it asks."""

    def picture(self) -> tuple[Envelope, Mapping[str, int]] | None:
        """The newest snapshot that the runtime left."""
        return self.bus.picture()

    def answer(self, view: object, *, status: int = 200) -> Response:
        """A view, or a list of views, as an HTTP answer."""
        return _json(self.options.codec.encode(view), status)

    def reasons(self) -> list[str]:
        """Why what is shown may not be what is so."""
        reasons = [self.bus.reason] if self.bus.reason else []
        return reasons if self.bus.picture() is not None else [*reasons, "no runtime has published a snapshot yet"]


def build_remote_app(gateway: RemoteGateway) -> FastAPI:
    """A gateway over a bus alone; raises `BadInput` when it would be open to strangers."""
    check_reach(gateway.options)
    app = FastAPI(title="trueup gateway", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.manager = ConnectionManager(gateway)
    app.include_router(websocket.router)
    app.include_router(logins.router)
    answer_refusals(app, gateway)

    @app.get("/healthz")
    async def alive() -> Response:
        return gateway.answer({"status": "alive", "at": gateway.clock.now()})

    @app.get("/readyz")
    async def ready() -> Response:
        reasons = gateway.reasons()
        view = {"ready": not reasons, "reasons": reasons, "at": gateway.clock.now()}
        return gateway.answer(view, status=503 if reasons else 200)

    @app.get("/api/snapshot")
    async def snapshot() -> Response:
        taken = gateway.picture()
        if taken is None:
            return gateway.answer(refusal("not_ready", "; ".join(gateway.reasons())), status=503)
        return _json(taken[0].body, 200)

    @app.get("/openapi.json")
    async def description(request: Request) -> Response:
        return await _hand_on(gateway, request)

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    async def hand_on(request: Request) -> Response:
        return await _hand_on(gateway, request)

    serve_dashboard(app, gateway, gateway.options.static)
    guard(app, gateway.options, gateway.clock)
    return app


async def serve_remote(
    mirror: Mirror,
    clock: Clock,
    options: GatewayOptions,
    *,
    runtime_url: str,
    credential: str = "",
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until cancelled; `ready` gets the port once it listens. Raises `BadInput` for an address it can't have.

    With a `credential`, the runtime's gateway token, each command is handed on in the name of whoever asked for it;
    without one, as the holder of the token that both share.
    """
    check_reach(options)
    listener = listen(options.host, options.port)
    async with AsyncExitStack() as stack:
        shown = credential or options.token
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        runtime = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=runtime_url,
                headers=headers,
                timeout=httpx.Timeout(ANSWER_S, connect=5.0),
                # A proxy of the environment has no business between the two.
                trust_env=False,
            )
        )
        app = build_remote_app(RemoteGateway(mirror, clock, options, runtime, vouches=bool(credential)))
        await serve_app(app, options, listener, ready=ready)


async def _hand_on(gateway: RemoteGateway, request: Request) -> Response:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            told = f"a command may have {BODY_BYTES_MAX} bytes"
            return gateway.answer(refusal("too_large", told, "body"), status=413)
    path = request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope["query_string"].decode("ascii", "replace")
    kind = request.headers.get("content-type")
    # Only what this gateway itself found out goes on; whatever else the request said about its sender stays here.
    headers = {"Content-Type": kind} if kind is not None else {}
    if gateway.vouches:
        identity: Identity = request.scope.get("trueup.identity", LOCAL)
        headers |= vouching(identity)
    try:
        answer = await gateway.runtime.request(
            request.method,
            f"{path}?{query}" if query else path,
            content=bytes(body),
            headers=headers,
        )
    except (httpx.ConnectError, httpx.ConnectTimeout):
        told = "the runtime does not answer, and nothing was done; `trueup kill` on its machine works without it"
        return gateway.answer(refusal("runtime_unreachable", told), status=503)
    except httpx.HTTPError:
        told = "the runtime took this and did not answer: whether it was done is not known"
        return gateway.answer(refusal("outcome_unknown", told), status=504)
    if answer.status_code == 401 or (answer.status_code == 403 and NOT_A_GATEWAY.encode() in answer.content):
        told = "the runtime does not take this gateway's token; start both with the same TRUEUP_GATEWAY_TOKEN"
        return gateway.answer(refusal("runtime_refuses", told), status=502)
    return _json(answer.content, answer.status_code)


def _json(body: bytes, status: int) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
