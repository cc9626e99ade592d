"""Who is asking, and from where: host names, origins and the token, before any route is reached.

A dashboard on localhost can be attacked through its owner's browser: a foreign page may point its own name at this
address, open our websocket, or post a form. Hence only known host names are served, and a page of another origin is
refused, whether it asks or listens. Not for what an order may do (`core/risk.py`).
Invariant: nothing reaches a route without having passed here, websockets included.
"""

from __future__ import annotations

import hmac
import html
import ipaddress
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trueup.api.deps import GatewayOptions
from trueup.api.schemas import refusal
from trueup.errors import BadInput

COOKIE = "trueup_token"
TOKEN_LENGTH_MIN = 16
OPEN_PATHS = frozenset({"/healthz"})
"""What a watchdog may ask without a token; it tells nothing but that the process is alive."""

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
}
"""No frame, so that nobody can lay a page over the kill switch; nothing from elsewhere."""

_ASK_FOR_TOKEN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>trueup</title>
<meta name="viewport" content="width=device-width"><body style="font:16px system-ui;margin:20vh auto;max-width:24rem">
<h1>trueup</h1><p>{}</p>
<form><label>Token <input name="token" type="password" autofocus autocomplete="current-password"></label>
<button>Open</button></form></body></html>"""


def check_reach(options: GatewayOptions) -> None:
    """Raises `BadInput` when other machines would be let in without a token, or with a short one."""
    if options.token and len(options.token) < TOKEN_LENGTH_MIN:
        raise BadInput(f"the token must have at least {TOKEN_LENGTH_MIN} characters", field="token")
    if not options.token and not _is_loopback(options.host):
        raise BadInput(
            f"host {options.host} lets other machines in; give a token of at least {TOKEN_LENGTH_MIN} characters, "
            "or listen on 127.0.0.1",
            field="token",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host_name(netloc: str) -> str | None:
    try:
        name = urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None
    return name.rstrip(".").lower() if name else None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class Gatekeeper:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, options: GatewayOptions) -> None:
        self._app = app
        self._token = options.token.encode()
        self._names = _LOCAL_NAMES | {options.host.lower()} | {name.lower() for name in options.allowed_hosts}
        bound = _address(options.host)
        self._any_address = bound is not None and bound.is_unspecified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await refused(scope, receive, _with_headers(send))

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        # Two of them are meant to be read differently by two readers.
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._serves(_host_name(host)):
            return _no(
                403, "host_not_allowed", f"this gateway is not known as {host!r}; add the name to allowed_hosts", "Host"
            )
        if any(_netloc(origin) != host.lower() for origin in origins):
            told = f"a page of {', '.join(origins)!r} may not use this gateway"
            return _no(403, "origin_not_allowed", told, "Origin")
        if self._token and scope["path"] not in OPEN_PATHS:
            return self._stranger(scope, headers)
        return None

    def _serves(self, name: str | None) -> bool:
        if name is None:
            return False
        # A bare address can't be pointed here by somebody else's name server.
        return name in self._names or (self._any_address and _address(name) is not None)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(shown.strip()):
            return None
        if self._matches(_cookie(headers)):
            return None
        is_page = scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith("/api")
        if not is_page or "text/html" not in headers.get("accept", ""):
            return _no(401, "unauthorized", "show the token: `Authorization: Bearer ...`", "Authorization")
        offered = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._matches(offered):
            told = "That is not the token." if offered else "This dashboard asks for its token."
            return HTMLResponse(_ASK_FOR_TOKEN.format(html.escape(told)), status_code=401)
        # Out of the address line at once, where it would be seen, copied and remembered.
        welcome = RedirectResponse("/", status_code=303)
        welcome.set_cookie(COOKIE, offered, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
        return welcome

    def _matches(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), self._token)


def _cookie(headers: Headers) -> str:
    jar = SimpleCookie()
    for line in headers.getlist("cookie"):
        try:
            jar.load(line)
        except CookieError:
            continue
    return jar[COOKIE].value if COOKIE in jar else ""


def _no(status: int, code: str, message: str, field: str) -> Response:
    return Response(json.dumps(refusal(code, message, field)), status_code=status, media_type="application/json")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
