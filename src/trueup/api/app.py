"""Builds the gateway's app: the gatekeeper outside, routes inside, one form for every refusal, the dashboard at last.

Not for listening (`serve.py`). Invariant: whatever goes wrong is answered as `{"error": {code, message, field}}`, and
the description at `/openapi.json` says what is really sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from trueup import __version__
from trueup.api.auth import TOKEN_HOLDER, Gatekeeper, check_reach
from trueup.api.deps import Answering, Gateway, GatewayOptions, House
from trueup.api.routes import health, history, logins, orders, portfolio, websocket
from trueup.api.routes.websocket import ConnectionManager
from trueup.api.schemas import ReplaceBody, ResumeBody, SubmitBody, refusal
from trueup.api.sessions import Sessions
from trueup.core import views
from trueup.errors import BadInput, Busy, TrueupError
from trueup.ports import Clock

_ABOUT = """Orders, positions and cash as they are believed to be at the broker, with how each was learned, and when.

Amounts leave as exact JSON numbers and may be sent as numbers or strings. Every refusal is
`{"error": {"code", "message", "field"}}`. What changes comes by the websocket `/ws`, which `trueup schema --asyncapi`
describes."""

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>trueup</title>
<body style="font:16px system-ui;margin:20vh auto;max-width:34rem"><h1>trueup is running</h1>
<p>The dashboard was not built into this copy. Run <code>make web</code>, then load this page again.</p>
<p>Everything it shows is at <a href="/api/snapshot">/api/snapshot</a> and on the websocket <code>/ws</code>;
<a href="/openapi.json">/openapi.json</a> describes the rest.</p></body></html>"""


def build_app(house: House, options: GatewayOptions) -> FastAPI:
    """The gateway over one house; raises `BadInput` when it would be open to strangers."""
    check_reach(options)
    app = FastAPI(title="trueup", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    gateway = Gateway(house, options)
    app.state.gateway = gateway
    app.state.manager = ConnectionManager(gateway)
    app.include_router(health.router)
    app.include_router(orders.router)
    app.include_router(portfolio.router)
    if options.history is not None:
        app.include_router(history.router)
    app.include_router(websocket.router)
    app.include_router(logins.router)
    answer_refusals(app, gateway)
    serve_dashboard(app, gateway, options.static)
    _describe(app)
    guard(app, options, house.clock)
    return app


def guard(app: FastAPI, options: GatewayOptions, clock: Clock) -> None:
    """Put the gatekeeper before everything, and let whoever's session ends lose their connections too."""
    manager: ConnectionManager = app.state.manager
    roles = {user.name: user.role for user in options.users}
    if options.token:
        roles.setdefault(TOKEN_HOLDER.name, TOKEN_HOLDER.role)
    kept = Sessions(clock, options.secret, shelf=options.shelf, key=options.shelf_key, roles=roles)
    kept.on_end = manager.end_session
    app.state.sessions = kept
    manager.session_holds = kept.holds
    app.add_middleware(Gatekeeper, options=options, sessions=kept, clock=clock)


# --- refusals ---


def answer_refusals(app: FastAPI, gateway: Answering) -> None:
    """Answer whatever goes wrong in one form."""

    async def on_bad_request(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        status, body = _explain(error.errors())
        return gateway.answer(body, status=status)

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        answer = gateway.answer(refusal(code, str(error.detail)), status=error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    async def on_ours(_: Request, error: Exception) -> Response:
        if isinstance(error, BadInput):
            return gateway.answer(refusal("bad_input", str(error), error.field), status=422)
        code = "busy" if isinstance(error, Busy) else "unavailable"
        answer = gateway.answer(refusal(code, f"{error}; nothing was taken, try again"), status=503)
        answer.headers["Retry-After"] = "1"
        return answer

    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(TrueupError, on_ours)


_BODIES: tuple[type[BaseModel], ...] = (SubmitBody, ReplaceBody, ResumeBody)


def _explain(errors: Sequence[Any]) -> tuple[int, dict[str, dict[str, str]]]:
    """Status and body for the first thing that was wrong with a request."""
    # A misspelt field leaves another one missing; the misspelling is the cause.
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    place = [str(part) for part in first["loc"]]
    field = place[-1] if len(place) > 1 else ""
    match first["type"]:
        case "json_invalid":
            told = first.get("ctx", {}).get("error", "")
            return 400, refusal("bad_json", f"the body must be JSON ({told} at character {place[-1]})", "body")
        case "missing" if place == ["body"]:
            message = "the body must be a JSON object, sent as application/json"
            return 422, refusal("bad_input", message, "body")
        case "missing":
            message = f"{field} is missing"
        case "extra_forbidden":
            message = f"{field} is no field here{_nearest(field)}"
        case "value_error":
            message = f"{field} {str(first['msg']).removeprefix('Value error, ')}"
        case "model_attributes_type" | "dict_type" | "model_type":
            message = "the body must be a JSON object, sent as application/json"
            return 422, refusal("bad_input", message, "body")
        case _:
            words = str(first["msg"])
            message = f"{field}: {words[:1].lower()}{words[1:]}"
    return 422, refusal("bad_input", message, field)


_OTHERS_WORDS = {
    "qty": "quantity",
    "size": "quantity",
    "tif": "time_in_force",
    "order_type": "type",
    "price": "limit_price",
}


def _nearest(field: str) -> str:
    known = sorted({name for body in _BODIES for name in body.model_fields})
    near = [_OTHERS_WORDS[field]] if field in _OTHERS_WORDS else difflib.get_close_matches(field, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


# --- the dashboard ---


def serve_dashboard(app: FastAPI, gateway: Answering, static: Path) -> None:
    """Serve the built dashboard, and its page for every address that is one of its own."""
    root = static.resolve()

    @app.get("/{path:path}", include_in_schema=False)
    async def dashboard(path: str) -> Response:
        if path.split("/", 1)[0] in ("api", "ws"):
            return gateway.answer(
                refusal("not_found", f"there is no /{path}; /openapi.json lists what is there"), status=404
            )
        wanted = (root / path).resolve() if "\0" not in path else root
        if wanted.is_file() and wanted.is_relative_to(root):
            # The build names what is in assets/ after its content, so that it never changes under its name.
            lasting = wanted.parent.name == "assets"
            return FileResponse(
                wanted, headers=_cached("public, max-age=31536000, immutable" if lasting else "no-cache")
            )
        if "." in path.rsplit("/", 1)[-1]:
            return gateway.answer(refusal("not_found", f"there is no /{path}"), status=404)
        page = root / "index.html"
        if page.is_file():
            return FileResponse(page, headers=_cached("no-cache"))
        return HTMLResponse(_NOT_BUILT, headers=_cached("no-store"))


def _cached(how: str) -> dict[str, str]:
    return {"Cache-Control": how}


# --- the description ---


def _describe(app: FastAPI) -> None:
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not described:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _say_numbers(made["components"]["schemas"])
            described.update(made)
        return described

    app.openapi = openapi  # type: ignore[method-assign]


def _say_numbers(components: dict[str, Any]) -> None:
    """Views carry amounts as JSON numbers; the description's generator takes every Decimal for a string."""
    for name, cls in vars(views).items():
        if is_dataclass(cls) and name in components:
            for field, hint in get_type_hints(cls).items():
                if "Decimal" in str(hint):
                    _as_number(components[name]["properties"][field])


def _as_number(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "string":
            node["type"] = "number"
            node.pop("pattern", None)
        for part in node.values():
            _as_number(part)
    elif isinstance(node, list):
        for part in node:
            _as_number(part)
