"""Listens: the app under uvicorn, inside the loop and the lifetime of the runtime.

Not for routes, and not for signals: the runtime decides when to stop, and cancelling is how it says so.
Invariant: when `serve_gateway` ends, nothing of it is left, and connected dashboards were told to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from trueup.api.app import build_app
from trueup.api.auth import check_reach
from trueup.api.deps import GatewayOptions, House
from trueup.api.fanout import MESSAGE_BYTES_MAX, FanoutProtocol
from trueup.api.routes.websocket import ConnectionManager
from trueup.api.sessions import Sessions
from trueup.api.upgrade import UpgradingProtocol
from trueup.errors import BadInput

log = logging.getLogger(__name__)

SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel may hold for one client; left to itself it takes megabytes, and a dead client looks well for long."""

STOP_PATIENCE_S = 3
"""How long requests under way may take to end when the gateway stops, in seconds."""


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever owns the process, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises `BadInput` with one line that says what to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is taken; stop what uses it, or give another with --port"
            raise BadInput(message, field="port") from None
        field = "port" if error.errno == errno.EACCES else "host"
        raise BadInput(
            f"can't listen on {host} port {port} ({error.strerror}); give another {field}", field=field
        ) from None
    return listener


async def serve_gateway(house: House, options: GatewayOptions, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled; `ready` gets the port once it listens. Raises `BadInput` for an address it can't have."""
    check_reach(options)
    listener = listen(options.host, options.port)
    await serve_app(build_app(house, options), options, listener, ready=ready)


async def serve_app(
    app: FastAPI, options: GatewayOptions, listener: socket.socket, *, ready: Callable[[int], None] | None = None
) -> None:
    """Serve an app that has a `ConnectionManager` until cancelled, and close the listener."""
    port: int = listener.getsockname()[1]
    manager: ConnectionManager = app.state.manager
    sessions: Sessions = app.state.sessions
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        lifespan="off",
        server_header=False,
        # A proxy that ends TLS stands on this machine, and alone is believed about where a request came from.
        proxy_headers=True,
        forwarded_allow_ips=["127.0.0.1", "::1"],
        http=UpgradingProtocol,
        ws=FanoutProtocol,
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_ping_interval=options.ping_s,
        ws_ping_timeout=options.ping_timeout_s,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=STOP_PATIENCE_S,
    )

    def listening() -> None:
        log.info("listening host=%s port=%d", options.host, port)
        if ready is not None:
            ready(port)

    server = _Server(config, listening)
    try:
        async with asyncio.TaskGroup() as group:
            endless = [group.create_task(manager.pump()), group.create_task(sessions.follow())]
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            finally:
                # Cancelled, or the pump died: send the clients away, each with a moment to come back at, and end.
                await manager.drain()
                server.should_exit = True
                await serving
                for each in endless:
                    each.cancel()
    finally:
        listener.close()
        if options.shelf is not None:
            await options.shelf.close()
