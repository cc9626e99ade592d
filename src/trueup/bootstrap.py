"""Plugs adapters into ports: the only file that knows them all, and the order in which a start is checked.

Not for deciding anything about orders. Invariant: whatever can be known to be wrong before the start is said before the
start, and a state folder never sees the books of a second account.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trueup
from trueup.brokers.alpaca.endpoints import LIVE, PAPER, Endpoints, endpoints
from trueup.errors import (
    BadCredentials,
    BadInput,
    BrokerUnavailable,
    Busy,
    JournalUnusable,
    RateLimited,
    RequestRefused,
    TrueupError,
)
from trueup.settings import Settings

if TYPE_CHECKING:
    from trueup.api.deps import GatewayOptions
    from trueup.api.sessions import User
    from trueup.brokers.alpaca.client import AlpacaBroker
    from trueup.brokers.alpaca.decode import Oddities
    from trueup.brokers.alpaca.stock_data_stream import StockDataStream
    from trueup.brokers.alpaca.trading_stream import TradingStream
    from trueup.brokers.alpaca.websocket import StreamOptions
    from trueup.bus.redis import RedisBus, RedisLink
    from trueup.bus.shelf import RedisShelf
    from trueup.core.model import BrokerOrderId, ClientOrderId, NewOrder, OrderChange, OrderReport, Snapshot
    from trueup.journal.repair import Examination
    from trueup.ports import Clock, SnapshotRequest, Strategy
    from trueup.runtime.run import House

log = logging.getLogger(__name__)

CLOCK_SKEW_ALLOWED_S = 5.0
"""Seconds by which this machine's clock and the broker's may differ before `trueup doctor` says so; as health does."""

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


def broker_name(settings: Settings) -> str:
    """What the dashboard calls the other side; anything that is neither paper nor on this machine counts as real."""
    address = _endpoints(settings).rest
    if urlsplit(address).hostname in LOCAL_HOSTS:
        return "simulator"
    return "alpaca-paper" if address == PAPER else "alpaca"


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
    if settings.strategy != "none" and not settings.symbols:
        raise BadInput(
            f"strategy {settings.strategy} needs symbols; give them with --symbols AAPL,MSFT", field="symbols"
        )
    check_keys(settings)
    check_host(settings, gateways_enter=True)
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


def check_host(settings: Settings, *, gateways_enter: bool = False) -> None:
    """Raises `BadInput` when the dashboard would be open to other machines without a token.

    Where gateways enter, at the runtime, their token shuts everybody else out.
    """
    if settings.gateway_token and settings.gateway_token == settings.token:
        raise BadInput(
            "TRUEUP_GATEWAY_TOKEN must not be the token TRUEUP_TOKEN: whoever has it may act in anybody's name",
            field="gateway_token",
        )
    if gateways_enter and settings.gateway_token:
        return
    if settings.host not in LOCAL_HOSTS and not settings.token and settings.users is None:
        raise BadInput(
            f"host {settings.host} lets other machines in; give a token of at least 16 characters with TRUEUP_TOKEN, "
            "or a file of users with TRUEUP_USERS",
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


# --- the broker ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the broker says that we are; `clock_skew_s` is its clock minus ours in seconds, None when it told no time."""

    account: str
    clock_skew_s: float | None


async def identify(settings: Settings) -> Identity:
    """Ask the broker for the account; raises `BadCredentials`, or `BrokerUnavailable` naming the address."""
    from trueup.runtime.clock import SystemClock

    broker = _alpaca(settings, SystemClock())
    try:
        account = await broker.account()
        return Identity(account=account.account_id, clock_skew_s=broker.clock_skew_s)
    finally:
        await broker.close()


def _alpaca(settings: Settings, clock: Clock, oddities: Oddities | None = None) -> AlpacaBroker:
    from trueup.brokers.alpaca.client import AlpacaBroker
    from trueup.brokers.alpaca.rest import ClientOptions

    return AlpacaBroker(
        name=broker_name(settings),
        key=settings.alpaca_key,
        secret=settings.alpaca_secret,
        url=_endpoints(settings).rest,
        clock=clock,
        options=ClientOptions(
            connect_s=settings.connect_timeout_s,
            read_s=settings.request_timeout_s,
            total_s=2 * settings.request_timeout_s,
            requests_per_minute=settings.requests_per_minute,
        ),
        oddities=oddities,
    )


class _OneAccount:
    """A broker that is listened to only while it speaks of the account that the journal belongs to."""

    def __init__(self, broker: AlpacaBroker, bind: Callable[[str], None]) -> None:
        self.name = broker.name
        self._broker = broker
        self._bind = bind
        self._known = False

    async def recognise(self) -> str:
        """The account's id; raises `WrongAccount` when the journal belongs to another."""
        account = (await self._broker.account()).account_id
        self._bind(account)
        self._known = True
        return account

    async def submit(self, order: NewOrder) -> OrderReport:
        """As the broker's."""
        await self._recognised()
        return await self._broker.submit(order)

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """As the broker's."""
        await self._recognised()
        await self._broker.cancel(broker_order_id)

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """As the broker's."""
        await self._recognised()
        return await self._broker.replace(broker_order_id, change)

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        """As the broker's."""
        await self._recognised()
        return await self._broker.find(client_order_id=client_order_id, broker_order_id=broker_order_id)

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """As the broker's."""
        await self._recognised()
        snapshot = await self._broker.snapshot(request)
        if snapshot.account is not None:
            self._bind(snapshot.account.account_id)
        return snapshot

    async def close(self) -> None:
        """As the broker's."""
        await self._broker.close()

    async def _recognised(self) -> None:
        if not self._known:
            await self.recognise()


# --- the whole house ---


async def run(settings: Settings, *, ready: Callable[[Running], None]) -> None:
    """Run one account until cancelled; `ready` is told once the dashboard can be opened. Raises what is fatal.

    An account whose journal is new must be reachable at the start, because a wrong address looks just like a broker
    that is down. Later starts go on without it, show the gap, and recognise the account before anything else.
    """
    from trueup.api.serve import serve_gateway
    from trueup.brokers.alpaca.decode import Oddities
    from trueup.bus.memory import MemoryBus
    from trueup.bus.redis import RedisBus
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal
    from trueup.runtime.clock import SystemClock, jitter
    from trueup.runtime.reconciler import Intervals
    from trueup.runtime.run import Parts
    from trueup.runtime.run import run as run_house

    check(settings)
    folder = state_folder(settings)
    clock = SystemClock()
    oddities = Oddities()
    alpaca = _alpaca(settings, clock, oddities)
    try:
        journal = SqliteJournal(folder / FILE_NAME)
        try:
            broker = _OneAccount(alpaca, journal.bind_account)
            account = await _recognise(broker, journal.account)
        except BaseException:
            journal.close()
            raise
    except BaseException:
        await alpaca.close()
        raise
    told = False

    async def gateway(house: House) -> None:
        def listening(port: int) -> None:
            nonlocal told
            if not told:
                told = True
                ready(Running(url=f"http://{_shown_host(settings.host)}:{port}", account=account, state=folder))

        serving = serve_gateway(house, _gateway_options(settings, folder), ready=listening)
        if isinstance(bus, RedisBus):
            await _carry(bus, _redis_link(settings), house, serving)
        else:
            await serving

    # Offsets on the bus begin anew with each process; the entry that its start will be makes the name unique.
    epoch = f"{journal.epoch}-{journal.last_offset() + 1}"
    bus = RedisBus(epoch, _redis_link(settings)) if settings.redis_url else MemoryBus(epoch)
    parts = Parts(
        broker=broker,
        broker_feed=_trading_stream(settings, clock, oddities),
        quote_feed=_stock_data_stream(settings, clock, oddities),
        journal=journal,
        bus=bus,
        gauges={"redis": lambda: bus.depth} if isinstance(bus, RedisBus) else {},
        clock=clock,
        jitter=jitter,
        version=trueup.__version__,
        strategies=_strategies(settings),
        gateway=gateway,
        intervals=Intervals(
            orders_s=settings.orders_poll_s,
            orders_doubtful_s=settings.orders_poll_gap_s,
            positions_s=settings.positions_poll_s,
            full_s=settings.reconcile_s,
        ),
        backoff_cap_s=settings.backoff_max_s,
        clock_skew_s=lambda: alpaca.clock_skew_s,
        counters={"oddities": lambda: sum(oddities.values())},
        tune_collector=True,
    )
    await run_house(parts)


def _users(file: Path | None) -> tuple[User, ...]:
    """The people in a file of lines `name role argon2-hash`; raises `BadInput` for one that can't be used."""
    from trueup.api.identity import Role
    from trueup.api.sessions import User

    if file is None:
        return ()
    try:
        if file.stat().st_mode & 0o077:
            raise BadInput(f"{file} can be read by others; chmod 600 it", field="users")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} can't be read ({error}); give a file of users, or none", field="users") from None
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 3 or parts[1] not in set(Role) or not parts[2].startswith("$argon2") or parts[0] in users:
            raise BadInput(
                f"line {number} of {file} must be `name viewer|operator argon2-hash`, each name once; "
                "`trueup user NAME` writes one",
                field="users",
            )
        users[parts[0]] = User(name=parts[0], role=Role(parts[1]), password_hash=parts[2])
    if not users:
        raise BadInput(f"{file} names nobody; `trueup user NAME` adds somebody", field="users")
    return tuple(users.values())


def user_line(name: str, role: str, password: str) -> str:
    """The line of a users file for one person."""
    from argon2 import PasswordHasher

    return f"{name} {role} {PasswordHasher().hash(password)}"


def _gateway_options(settings: Settings, folder: Path | None = None) -> GatewayOptions:
    from trueup.api.deps import GatewayOptions
    from trueup.bus import codec
    from trueup.runtime.clock import secret

    users = _users(settings.users)
    return GatewayOptions(
        codec=codec,
        host=settings.host,
        port=settings.port,
        token=settings.token,
        allowed_hosts=settings.allowed_hosts,
        gateway_token=settings.gateway_token if folder is not None else "",
        users=users,
        secret=secret,
        shelf=_shelf(settings) if settings.redis_url and (settings.token or users) else None,
        shelf_key=_shelf_key(settings, users),
        connections=settings.connections,
        connections_per_address=settings.connections_per_address,
        history=None if folder is None else _History(folder),
    )


def _shelf(settings: Settings) -> RedisShelf:
    from trueup.bus.shelf import RedisShelf

    return RedisShelf(_redis_link(settings))


def _shelf_key(settings: Settings, users: tuple[User, ...]) -> bytes:
    """What signs the logins that gateways share: something that all of them have, and nobody who only has Redis."""
    hashes = "\n".join(sorted(user.password_hash for user in users))
    known = settings.gateway_token or settings.token or hashes
    return hashlib.sha256(f"trueup logins\n{known}".encode()).digest()


def _redis_link(settings: Settings) -> RedisLink:
    from trueup.bus.redis import RedisLink
    from trueup.runtime.clock import SystemClock, jitter

    return RedisLink(url=settings.redis_url, clock=SystemClock(), jitter=jitter)


async def gateway(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Run a gateway without a runtime until cancelled: views come from Redis, commands go to `runtime_url`."""
    from trueup.api.remote import serve_remote
    from trueup.bus.redis import RedisMirror, redis_subscriber

    if not settings.redis_url:
        raise BadInput(
            "a gateway of its own needs the Redis that `trueup run` publishes to; give it with TRUEUP_REDIS_URL",
            field="redis_url",
        )
    check_host(settings)
    check_port(settings)
    link = _redis_link(settings)
    mirror = RedisMirror(link)

    def listening(port: int) -> None:
        ready(f"http://{_shown_host(settings.host)}:{port}")

    try:
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(redis_subscriber(link, mirror))
            options = _gateway_options(settings)
            await serve_remote(
                mirror,
                link.clock,
                options,
                runtime_url=settings.runtime_url,
                credential=settings.gateway_token,
                ready=listening,
            )
            hearing.cancel()
    except* BadInput as wrong:
        raise wrong.exceptions[0] from None


async def _carry(bus: RedisBus, link: RedisLink, house: House, serving: Awaitable[None]) -> None:
    """Keep the bus connected to Redis while its gateway serves, and let health tell how that goes."""
    from trueup.bus.redis import ForeignVoices, redis_subscriber
    from trueup.core.projection import system_snapshot_view

    def told(reason: str) -> None:
        if reason:
            house.health.notes["redis"] = reason
        else:
            house.health.notes.pop("redis", None)

    bus.on_reason = told
    bus.picture = lambda: system_snapshot_view(
        house.sequencer.belief, house.quotes.latest(), house.health.numbers(), house.clock.now()
    )
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(bus.run()), group.create_task(redis_subscriber(link, ForeignVoices(bus)))]
        try:
            await serving
        finally:
            for each in work:
                each.cancel()


async def _recognise(broker: _OneAccount, bound: str | None) -> str:
    try:
        return await broker.recognise()
    except (BrokerUnavailable, RateLimited) as error:
        if bound is None:
            raise
        log.warning("broker not reachable at the start account=%s reason=%s", bound, error)
        return bound


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _stream_options(settings: Settings) -> StreamOptions:
    from trueup.brokers.alpaca.websocket import StreamOptions

    return StreamOptions(
        connect_s=settings.connect_timeout_s,
        reply_s=settings.request_timeout_s,
        ping_s=settings.ping_s,
        pong_s=settings.ping_timeout_s,
        refused_pause_s=settings.refused_pause_s,
    )


def _trading_stream(settings: Settings, clock: Clock, oddities: Oddities) -> TradingStream:
    from trueup.brokers.alpaca.trading_stream import TradingStream

    return TradingStream(
        key=settings.alpaca_key,
        secret=settings.alpaca_secret,
        url=_endpoints(settings).trading_stream,
        clock=clock,
        options=_stream_options(settings),
        oddities=oddities,
    )


def _stock_data_stream(settings: Settings, clock: Clock, oddities: Oddities) -> StockDataStream | None:
    from trueup.brokers.alpaca.stock_data_stream import StockDataStream
    from trueup.core.model import Symbol

    if not settings.symbols:
        return None
    return StockDataStream(
        key=settings.alpaca_key,
        secret=settings.alpaca_secret,
        url=_endpoints(settings).stock_data_stream,
        symbols=tuple(Symbol(symbol) for symbol in settings.symbols),
        clock=clock,
        options=_stream_options(settings),
        oddities=oddities,
    )


def _strategies(settings: Settings) -> tuple[Strategy, ...]:
    from trueup.core.model import Symbol
    from trueup.strategies.sma_cross import SmaCross

    match settings.strategy:
        case "sma_cross":
            return (SmaCross(tuple(Symbol(symbol) for symbol in settings.symbols)),)
        case _:
            return ()


# --- a kill without a running process ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What a kill without a running process did; `not_remembered` says why the journal could not take it, if so."""

    cancelled: int
    failed: tuple[str, ...]
    not_remembered: str


async def kill(settings: Settings, *, reason: str) -> Killed:
    """Write the kill into the journal and cancel every open order at the broker; keys and the state folder suffice.

    A journal that can't be written holds up no cancel: then the orders are cancelled, and it says that the next start
    will not know of the kill.
    """
    from trueup.core.commands import Kill
    from trueup.core.model import OrderStatus, SnapshotScope
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal
    from trueup.ports import SnapshotRequest
    from trueup.runtime.clock import SystemClock

    clock = SystemClock()
    check_keys(settings)
    not_remembered, bind = "", _anyone
    journal: SqliteJournal | None = None
    try:
        journal = SqliteJournal(state_folder(settings) / FILE_NAME)
        journal.append([Kill(at=clock.now(), reason=reason, asked_by="command line")])
        bind = journal.bind_account
    except JournalUnusable as error:
        not_remembered = str(error)
    broker = _OneAccount(_alpaca(settings, clock), bind)
    open_statuses = {
        OrderStatus.PENDING_NEW,
        OrderStatus.NEW,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.PENDING_CANCEL,
        OrderStatus.PENDING_REPLACE,
    }
    cancelled, failed = 0, []
    try:
        snapshot = await broker.snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS))
        for order in snapshot.orders:
            if order.status not in open_statuses:
                continue
            try:
                await broker.cancel(order.broker_order_id)
                cancelled += 1
            except RequestRefused:
                # It ended by itself meanwhile, which is what was wanted.
                continue
            except TrueupError as error:
                failed.append(f"{order.broker_order_id}: {error}")
    finally:
        await broker.close()
        if journal is not None:
            journal.close()
    return Killed(cancelled=cancelled, failed=tuple(failed), not_remembered=not_remembered)


def _anyone(account: str) -> None:
    """Takes any account: where no journal can be read there is nothing to compare it with."""


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


# --- looking at a journal ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedOrder:
    """One order as it was believed to be."""

    id: str
    symbol: str
    side: str
    status: str
    quantity: Decimal | None
    filled: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a journal amounts to. `live_digest` and `equal` are what a verification found; `at` is belief's own time."""

    entries: int
    seconds: float
    digest: str
    offset: int
    account: str
    epoch: str
    at: datetime | None
    trading_state: str
    cash: Decimal | None
    positions: dict[str, Decimal]
    orders: tuple[ReplayedOrder, ...]
    compared_with: str = ""
    live_digest: str = ""

    @property
    def equal(self) -> bool:
        """True when the fold is the same as what it was compared with."""
        return self.live_digest == self.digest


def replay(
    folder: Path,
    *,
    verify: bool = False,
    until: int | None = None,
    at: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Fold the journal in `folder` from its first entry up to `until` or `at`; with `verify`, up to what was kept live.

    A process that stops in order keeps its own belief beside the journal; that is what a fold is compared with. After
    one that was killed there may be none, and the fold is then made again by a process with another hash seed.
    """
    from trueup.core.belief import new_belief
    from trueup.core.projection import orders_view, positions_view
    from trueup.core.step import step
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal
    from trueup.runtime.clock import SystemClock
    from trueup.runtime.fold import ACCOUNT, PROGRESS_EVERY, belief_digest, restore

    clock = SystemClock()
    journal = SqliteJournal(folder / FILE_NAME, read_only=True)
    try:
        kept = restore(journal) if verify else None
        last = journal.last_offset() if until is None else min(until, journal.last_offset())
        if kept is not None:
            last = kept.offset
        began = clock.monotonic()
        belief = new_belief(account=ACCOUNT, epoch=journal.epoch)
        for entry in journal.read(0):
            if entry.offset > last or (at is not None and entry.input.at > at):
                break
            step(belief, entry.input, entry.offset)
            if progress is not None and entry.offset % PROGRESS_EVERY == 0:
                progress(entry.offset, last)
        seconds = clock.monotonic() - began
        account = journal.account
    finally:
        journal.close()
    digest = belief_digest(belief)
    compared_with, live_digest = "", ""
    if kept is not None:
        compared_with = f"the belief that the live process kept at offset {kept.offset}"
        live_digest = belief_digest(kept)
    elif verify:
        compared_with = "a second fold under another hash seed (no belief of the live process that this code can take)"
        live_digest = _digest_of_another_process(folder, belief.offset)
    moment = belief.at or clock.now()
    return Replayed(
        entries=belief.offset,
        seconds=seconds,
        digest=digest,
        offset=belief.offset,
        account=account or belief.account,
        epoch=belief.epoch,
        at=belief.at,
        trading_state=belief.trading_state.value,
        cash=belief.cash,
        positions={row.symbol: row.quantity for row in positions_view(belief, {}, moment) if row.quantity},
        orders=tuple(
            ReplayedOrder(
                id=row.id,
                symbol=row.symbol,
                side=row.side,
                status=row.detail,
                quantity=row.quantity,
                filled=row.filled_quantity,
            )
            for row in orders_view(belief)
        ),
        compared_with=compared_with,
        live_digest=live_digest,
    )


def _digest_of_another_process(folder: Path, offset: int) -> str:
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    command = [sys.executable, "-m", "trueup", "replay", "--state", str(folder), "--until", str(offset), "--json"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise JournalUnusable(f"the second fold failed: {done.stderr.strip()}")
    digest: str = json.loads(done.stdout)["digest"]
    return digest


# --- questions after the fact ---


def explain(folder: Path, any_id: str, *, at: datetime | None = None) -> bytes | None:
    """One order's story out of the journal in `folder`, as JSON with exact numbers; None for an unknown order."""
    from trueup.bus import codec
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal
    from trueup.runtime import explain as questions

    journal = SqliteJournal(folder / FILE_NAME, read_only=True)
    try:
        told = questions.explain(journal, any_id, at=at)
    finally:
        journal.close()
    return None if told is None else codec.encode(told)


def divergences(folder: Path) -> bytes:
    """Every drift and every gap out of the journal in `folder`, as JSON with exact numbers."""
    from trueup.bus import codec
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal
    from trueup.runtime import explain as questions

    journal = SqliteJournal(folder / FILE_NAME, read_only=True)
    try:
        return codec.encode(questions.divergences(journal))
    finally:
        journal.close()


_NICELY = "import os; os.nice(10); from trueup.cli import main; main()"

QUESTIONS_WAITING = 4
"""Questions to the journal that may wait for one another; each is a process that reads it from the beginning."""

QUESTION_S = 120.0
"""Seconds that one such question may take."""


class _History:
    """Answers from the journal, each by a process of its own: a fold here would hold up the one writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def explain(self, order_id: str, at: datetime | None) -> bytes | None:
        """One order's whole story; None when the journal never knew it."""
        when = [] if at is None else ["--at", at.isoformat()]
        code, told, complaint = await self._ask("explain", *when, "--", order_id)
        if code and b"unknown_order" in complaint:
            return None
        return _answer_of(code, told, complaint)

    async def divergences(self) -> bytes:
        """Every drift and every gap."""
        return _answer_of(*await self._ask("drift"))

    async def _ask(self, command: str, *arguments: str) -> tuple[int, bytes, bytes]:
        if self._waiting >= QUESTIONS_WAITING:
            raise Busy(f"{self._waiting} questions to the journal wait already")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._told(command, "--state", str(self._folder), "--json", *arguments)
        finally:
            self._waiting -= 1

    async def _told(self, *arguments: str) -> tuple[int, bytes, bytes]:
        asked = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _NICELY,
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(QUESTION_S):
                told, complaint = await asked.communicate()
        except TimeoutError:
            raise Busy(
                f"the journal is long: no answer within {QUESTION_S:g} s; ask `trueup explain --state`"
            ) from None
        finally:
            if asked.returncode is None:
                asked.kill()
                await asked.wait()
        return asked.returncode or 0, told, complaint


def _answer_of(code: int, told: bytes, complaint: bytes) -> bytes:
    if code:
        raise JournalUnusable(f"the journal could not be read: {complaint.decode('utf-8', 'replace').strip()}")
    return told


# --- a damaged journal ---


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReport:
    """What was found in a journal. `lost` are stretches of entries: first, last, and what the first was if known.

    `wrongs` say what is wrong with the files, `torn_pages` count what a crash cut short and nobody was ever told of,
    `kept_at` is where the damaged files lie after a repair.
    """

    path: Path
    entries: int
    lost: tuple[tuple[int, int, str], ...]
    lost_count: int
    wrongs: tuple[str, ...]
    torn_pages: int
    checkpoints: int
    may_have_lost_a_kill: bool
    kept_at: Path | None = None

    @property
    def is_sound(self) -> bool:
        """True when there is nothing to repair."""
        return not self.lost and not self.wrongs


def examine_journal(folder: Path) -> JournalReport:
    """Look at every page of the journal in `folder`; nothing is changed. Raises what is fatal about it."""
    from trueup.journal.repair import examine

    return _report(examine(folder), None)


def repair_journal(folder: Path) -> JournalReport:
    """Put what can be saved in the damaged journal's place, once it has been folded; the damaged files are kept."""
    from trueup.journal.repair import rebuild
    from trueup.runtime.clock import SystemClock
    from trueup.runtime.fold import fold

    found, kept_at = rebuild(folder, at=SystemClock().now(), prove=lambda journal: fold(journal, from_checkpoint=False))
    return _report(found, kept_at)


def _report(found: Examination, kept_at: Path | None) -> JournalReport:
    return JournalReport(
        path=found.path,
        entries=found.last_offset,
        lost=tuple((stretch.first, stretch.last, stretch.kind) for stretch in found.lost),
        lost_count=found.lost_count,
        wrongs=found.wrongs,
        torn_pages=found.torn_pages,
        checkpoints=found.checkpoints,
        may_have_lost_a_kill=found.may_have_lost_a_kill,
        kept_at=kept_at,
    )


def describe_state(settings: Settings) -> str:
    """What lies in the state folder, in one line; raises `JournalUnusable` when it can't be used."""
    from trueup.journal.sqlite import FILE_NAME, SqliteJournal

    folder = state_folder(settings)
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise JournalUnusable(f"state folder {folder} can't be made, {place} is no folder; give another with --state")
    if not os.access(place, os.W_OK | os.X_OK):
        raise JournalUnusable(f"{place} can't be written; give another folder with --state, or its rights to you")
    if not (folder / FILE_NAME).exists():
        return f"{folder} can be written, and has no journal yet"
    journal = SqliteJournal(folder / FILE_NAME, read_only=True)
    try:
        whose = f"of account {journal.account}" if journal.account else "of no account yet"
        return f"{folder} has a journal {whose}, {journal.last_offset()} entries"
    finally:
        journal.close()
