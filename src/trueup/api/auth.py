"""Who is asking, and from where: host names, origins, token and sessions, before any route is reached.

A dashboard on localhost can be attacked through its owner's browser: a foreign page may point its own name at this
address, open our websocket, or post a form. Hence only known host names are served, and a page of another origin is
refused, whether it asks or listens. Programs show the token in a header; people log in and get a cookie. Neither is
ever read from an address line. A gateway without a runtime has looked at its people itself; it shows a credential of
its own and says for whom it asks, and nobody else is heard on that. Not for what an order may do (`core/risk.py`).
Invariant: nothing reaches a route without having passed here, websockets included.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trueup.api.deps import GatewayOptions
from trueup.api.identity import LOCAL, Identity, Role
from trueup.api.schemas import refusal
from trueup.api.sessions import TRIES_PER_MINUTE, TRIES_PER_MINUTE_ALL, Passwords, Sessions, Tries
from trueup.errors import BadInput, ShelfUnreachable
from trueup.ports import Clock

log = logging.getLogger(__name__)

COOKIE = "trueup_session"
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

_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>trueup</title>
<meta name="viewport" content="width=device-width"><body style="font:16px system-ui;margin:20vh auto;max-width:24rem">
<h1>trueup</h1><p>{}</p>
<form method="post" action="/login"><p><label>Name <input name="name" autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>
<p>or</p><p><label>Token <input name="token" type="password" autocomplete="off"></label></p>
<button>Open</button></form></body></html>"""

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})

NEVER_LIMITED = frozenset({"/api/kill"})
"""What is never refused for coming too often."""

LOGIN_BYTES_MAX = 4096
"""The largest login that is read."""

ACTING_FOR, ACTING_ROLE = "trueup-acting-for", "trueup-acting-role"
"""Headers by which a gateway says for whom it asks: the name, percent-encoded, and the role."""

NOT_A_GATEWAY = "not_a_gateway"
"""What is answered to whoever asks for another one and may not."""

NAME_LENGTH_MAX = 128
"""The longest name that a gateway may vouch for."""

TOKEN_HOLDER = Identity(name="token", role=Role.OPERATOR)
_GATEWAY = Identity(name="gateway", role=Role.VIEWER)


def check_reach(options: GatewayOptions) -> None:
    """Raises `BadInput` when other machines would be let in without a token, or with a short one."""
    if options.token and len(options.token) < TOKEN_LENGTH_MIN:
        raise BadInput(f"the token must have at least {TOKEN_LENGTH_MIN} characters", field="token")
    if options.gateway_token and len(options.gateway_token) < TOKEN_LENGTH_MIN:
        raise BadInput(f"gateway_token must have at least {TOKEN_LENGTH_MIN} characters", field="gateway_token")
    if options.gateway_token and options.gateway_token == options.token:
        raise BadInput(
            "gateway_token must not be the token: whoever has it may act in anybody's name", field="gateway_token"
        )
    if _is_open(options) and not _is_loopback(options.host):
        raise BadInput(
            f"host {options.host} lets other machines in; give a token of at least {TOKEN_LENGTH_MIN} characters, "
            "or users, or listen on 127.0.0.1",
            field="token",
        )


def _is_open(options: GatewayOptions) -> bool:
    return not (options.token or options.users or options.gateway_token)


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

    def __init__(self, app: ASGIApp, options: GatewayOptions, sessions: Sessions, clock: Clock) -> None:
        self._app = app
        self._token = options.token.encode()
        self._gateway_token = options.gateway_token.encode()
        self._is_open = _is_open(options)
        self._shelf = options.shelf
        self._names = _LOCAL_NAMES | {options.host.lower()} | {name.lower() for name in options.allowed_hosts}
        bound = _address(options.host)
        self._any_address = bound is not None and bound.is_unspecified
        self._sessions = sessions
        self._passwords = Passwords(options.users)
        self._logins = Tries(clock)
        most = options.commands_per_minute
        self._commands = Tries(clock, each=most, together=10 * most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._wrong_place(headers)
        if answer is None and scope["type"] == "http" and scope["method"] == "POST":
            if scope["path"] == "/login":
                answer = await self._log_in(scope, receive, headers)
            elif scope["path"] == "/logout":
                answer = await self._log_out(headers)
        if answer is None:
            answer = await self._admit(scope, headers)
        if answer is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await answer(scope, receive, _with_headers(send))

    def _wrong_place(self, headers: Headers) -> Response | None:
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
        return None

    def _serves(self, name: str | None) -> bool:
        if name is None:
            return False
        # A bare address can't be pointed here by somebody else's name server.
        return name in self._names or (self._any_address and _address(name) is not None)

    async def _admit(self, scope: Scope, headers: Headers) -> Response | None:
        """Leaves in the scope who that is; an answer when it may not."""
        if scope["path"] in OPEN_PATHS:
            return None
        try:
            identity = await self._identify(headers)
        except _NotBelieved as why:
            return _no(403, NOT_A_GATEWAY, str(why), ACTING_FOR)
        is_page = scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith("/api")
        if identity is None:
            if is_page and "text/html" in headers.get("accept", ""):
                return HTMLResponse(_LOGIN.format("This dashboard asks who you are."), status_code=401)
            told = "show the token, `Authorization: Bearer ...`, or log in at /"
            return _no(401, "unauthorized", told, "Authorization")
        scope["trueup.identity"] = identity
        if scope["type"] == "websocket" or scope["method"] in _LOOKING:
            return None
        if not identity.may(Role.OPERATOR):
            return _no(403, "forbidden", f"{identity.name} may look and not act; that needs the role operator", "")
        # Nothing may hold up a kill.
        if scope["path"] not in NEVER_LIMITED and not self._commands.allow(f"{identity.name} {_caller(scope)}"):
            return _no(429, "too_many_commands", "too many commands in one minute; a kill is never refused", "")
        return None

    async def _identify(self, headers: Headers) -> Identity | None:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        shown = shown.strip() if scheme.lower() == "bearer" else ""
        if _matches(shown, self._gateway_token):
            return _vouched_for(headers)
        if ACTING_FOR in headers or ACTING_ROLE in headers:
            raise _NotBelieved("only a gateway that shows TRUEUP_GATEWAY_TOKEN may ask for somebody else")
        if self._is_open:
            return LOCAL
        if _matches(shown, self._token):
            return TOKEN_HOLDER
        return await self._sessions.find(_cookie(headers))

    # --- logging in and out ---

    async def _log_in(self, scope: Scope, receive: Receive, headers: Headers) -> Response:
        wants_page = "text/html" in headers.get("accept", "")
        try:
            return await self._try_login(scope, receive, headers, wants_page)
        except ShelfUnreachable as away:
            log.warning("nobody can log in reason=%s", away)
            told = "logins are shared between gateways through Redis, which is away; show the token, or wait"
            return _no(503, "unavailable", told, "")

    async def _try_login(self, scope: Scope, receive: Receive, headers: Headers, wants_page: bool) -> Response:
        allowed = self._logins.allow(_caller(scope))
        if allowed and self._shelf is not None:
            allowed = await self._shelf.allow(_caller(scope), TRIES_PER_MINUTE, TRIES_PER_MINUTE_ALL)
        if not allowed:
            return _no(429, "too_many_logins", "too many logins from here; wait a minute", "")
        body = await _read(receive)
        fields = _fields(body, headers.get("content-type", "")) if body is not None else None
        if fields is None:
            return _no(400, "bad_input", "log in with a name and a password, or with the token", "body")
        identity = TOKEN_HOLDER if _matches(fields.get("token", ""), self._token) else None
        if identity is None and fields.get("name"):
            identity = await asyncio.to_thread(self._passwords.check, fields["name"], fields.get("password", ""))
        if identity is None:
            log.warning("a login was refused address=%s", _caller(scope))
            if wants_page:
                return HTMLResponse(_LOGIN.format("That is not right."), status_code=401)
            return _no(401, "unauthorized", "name, password or token is not right", "")
        log.info("logged in name=%s role=%s address=%s", identity.name, identity.role, _caller(scope))
        welcome: Response = RedirectResponse("/", status_code=303)
        if not wants_page:
            told = json.dumps({"name": identity.name, "role": identity.role})
            welcome = Response(told, media_type="application/json")
        cookie = await self._sessions.open(identity)
        welcome.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
        return welcome

    async def _log_out(self, headers: Headers) -> Response:
        try:
            identity = await self._sessions.find(_cookie(headers))
            if identity is not None:
                await self._sessions.revoke(identity.session)
        except ShelfUnreachable as away:
            log.warning("logged out here alone reason=%s", away)
            return _no(503, "unavailable", "logged out here; other gateways are told as soon as Redis is back", "")
        goodbye = Response(status_code=204)
        goodbye.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return goodbye


class _NotBelieved(Exception):
    """Somebody asks in another one's name who may not."""


def _matches(shown: str, secret: bytes) -> bool:
    return bool(secret) and hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), secret)


def _vouched_for(headers: Headers) -> Identity:
    """For whom a gateway asks; raises `_NotBelieved` when that makes no sense."""
    names, roles = headers.getlist(ACTING_FOR), headers.getlist(ACTING_ROLE)
    if not names and not roles:
        return _GATEWAY
    name = unquote(names[0]) if len(names) == 1 else ""
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable() or len(roles) != 1 or roles[0] not in set(Role):
        raise _NotBelieved(f"say for whom, once: {ACTING_FOR} with a name and {ACTING_ROLE} with a role")
    return Identity(name=name, role=Role(roles[0]))


def vouching(identity: Identity) -> dict[str, str]:
    """The headers with which a gateway says for whom it asks."""
    return {ACTING_FOR: quote(identity.name, safe=""), ACTING_ROLE: identity.role.value}


def _caller(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _read(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > LOGIN_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _fields(body: bytes, kind: str) -> dict[str, str] | None:
    try:
        if kind.partition(";")[0].strip() == "application/x-www-form-urlencoded":
            return {name: values[0] for name, values in parse_qs(body.decode()).items()}
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        return None
    return told


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
