"""Plugs adapters into ports: the only file that knows them all, and the order in which a start is checked.

Not for deciding anything about orders. Invariant: whatever can be known to be wrong before the start is said before the
start, and a state folder never sees the books of a second account.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trueup
from trueup.brokers.alpaca.endpoints import LIVE, PAPER, Endpoints, endpoints
from trueup.errors import BadCredentials, BadInput, JournalUnusable
from trueup.settings import Settings

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A trueup that is up: where its dashboard is, whose account it keeps, and where its journal lies."""

    url: str
    account: str
    state: Path


# --- what can be known before the start ---


def _endpoints(settings: Settings) -> Endpoints:
    return endpoints(
        alpaca_url=settings.alpaca_url, data_url=settings.data_url, data_feed=settings.data_feed, live=settings.live
    )


def is_real_money(settings: Settings) -> bool:
    """True when orders would go to Alpaca's live address."""
    return urlsplit(_endpoints(settings).rest).hostname == urlsplit(LIVE).hostname


def state_folder(settings: Settings) -> Path:
    """The folder of the journal, one for each kind of account unless given."""
    if settings.state is not None:
        return settings.state
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    address = _endpoints(settings).rest
    parts = urlsplit(address)
    known = {LIVE: "alpaca-live", PAPER: "alpaca-paper"}
    return Path(base) / "trueup" / known.get(address, f"{parts.hostname}-{parts.port or parts.scheme}")


def check(settings: Settings) -> None:
    """Everything that can be known without asking the broker; raises the error that says what to do."""
    if settings.live and not is_real_money(settings):
        raise BadInput(
            f"live is for Alpaca's live address, and alpaca_url is {settings.alpaca_url}; leave one of them out",
            field="live",
        )
    check_keys(settings)
    check_host(settings)
    check_state(settings)
    check_port(settings)


def check_keys(settings: Settings) -> None:
    """Raises `BadCredentials` when a key is missing; says nothing about whether the broker knows them."""
    missing = [
        env
        for env, value in (("APCA_API_KEY_ID", settings.alpaca_key), ("APCA_API_SECRET_KEY", settings.alpaca_secret))
        if not value
    ]
    if missing:
        raise BadCredentials(
            f"no keys: {' and '.join(missing)} not set; export the keys of your account (`trueup demo` needs none)"
        )


def check_host(settings: Settings) -> None:
    """Raises `BadInput` when the dashboard would be open to other machines without a token."""
    if settings.host not in LOCAL_HOSTS and not settings.token:
        raise BadInput(
            f"host {settings.host} lets other machines in; give a token of at least 16 characters with TRUEUP_TOKEN",
            field="token",
        )


def check_state(settings: Settings) -> None:
    """Raises `JournalUnusable` when the state folder can't be made or written."""
    folder = state_folder(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalUnusable(
            f"state folder {folder} can't be made ({error.strerror}); give another with --state"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise JournalUnusable(
            f"state folder {folder} can't be written; give another with --state, or its rights to you"
        )


def check_port(settings: Settings) -> None:
    """Raises `BadInput` when the dashboard's port is taken or not ours to take."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = (
                f"port {settings.port} on {settings.host} is taken; stop what uses it, or give another with --port"
            )
            raise BadInput(message, field="port") from None
        field = "port" if error.errno == errno.EACCES else "host"
        message = f"can't listen on {settings.host}:{settings.port} ({error.strerror}); give another {field}"
        raise BadInput(message, field=field) from None


def has_dashboard() -> bool:
    """True when the dashboard was built into the package."""
    return (Path(trueup.__file__).parent / "api" / "static" / "index.html").is_file()


# --- the simulated exchange ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What a simulated exchange is started with."""

    port: int
    seed: int
    replay: Path | None
    speed: float
    key: str
    secret: str
    rate_limit: int


async def simulate(simulation: Simulation, *, ready: Callable[[int], None], with_parent: bool = False) -> None:
    """Run a simulated exchange until cancelled or, `with_parent`, until standard input ends; `ready` gets its port."""
    from trueup.simulator.alpaca import PortTaken, SimulatorConfig, serve
    from trueup.simulator.replay import ReplayInvalid

    try:
        config = SimulatorConfig(
            port=simulation.port,
            seed=simulation.seed,
            replay=simulation.replay,
            speed=simulation.speed,
            key=simulation.key,
            secret=simulation.secret,
            rate_limit=simulation.rate_limit,
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
    try:
        if not with_parent:
            await serve(config, ready=ready)
            return
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve(config, ready=ready))
            await _end_of_input()
            serving.cancel()
    except* PortTaken as taken:
        raise BadInput(str(taken.exceptions[0]), field="port") from None
    except* ReplayInvalid as invalid:
        raise BadInput(str(invalid.exceptions[0]), field="replay") from None


async def _end_of_input() -> None:
    """Returns when standard input ends, which the end of the parent process makes certain."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


# --- documents for clients ---


def json_schema() -> dict[str, Any]:
    """JSON Schema of every channel."""
    from trueup.bus import schema

    return schema.json_schema()


def asyncapi() -> dict[str, Any]:
    """AsyncAPI document of the websocket."""
    from trueup.bus import schema

    return schema.asyncapi()


def typescript() -> str:
    """TypeScript types of every view."""
    from trueup.bus import schema

    return schema.typescript()
