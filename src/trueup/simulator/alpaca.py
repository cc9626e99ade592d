"""The simulated exchange on one local port, speaking Alpaca's wire: REST v2, trade updates, market data, and /sim.

For: putting the parts together, and what stands in front of every call: keys, limits, faults, request ids. Not for: any
answer itself. `serve` runs until cancelled; `SimulatorServer` is the same as a context manager for tests.
Invariant: a fault on the way decides only what the client gets to hear; when the exchange has acted, it has acted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import msgspec
from aiohttp import BasicAuth, web

from trueup.simulator.control import Control
from trueup.simulator.data_routes import DataRoutes
from trueup.simulator.exchange import stable_id
from trueup.simulator.faults import Fault, FaultInvalid, Kind, Target, WallClock
from trueup.simulator.hours import Hours
from trueup.simulator.model import AccountRules, FillModel, Refused
from trueup.simulator.replay import RecordedBar, read_bars
from trueup.simulator.streams import FrameLog, MarketData, TradeUpdates
from trueup.simulator.trading_routes import AS_OF, TradingRoutes, refusal_reply, reply
from trueup.simulator.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FEEDS = ("iex", "sip", "test", "delayed_sip")
MINUTE_SECONDS = 60


class PortTaken(OSError):
    """The address cannot be listened on; one line says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Everything that can be set. Port 0 takes a free one; `rate_limit` is requests a minute, 0 for none."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 7
    key: str = "SIM"
    secret: str = "SIM"
    speed: float = 1.0
    tick_seconds: float = 0.5
    replay: Path | None = None
    rate_limit: int = 200
    is_always_open: bool = True
    # Put the monotonic clock's nanoseconds into every trade update as `sent_ns`, for measuring.
    stamp: bool = False
    # The paper host sends trade updates as binary frames; True sends text.
    text_frames: bool = False
    # Sockets allowed at a time; 0 for any number.
    trade_connections: int = 1
    data_connections: int = 1
    # False gives activities other ids than the stream's execution ids; nobody promises that they agree.
    activity_ids_match: bool = True
    # False lists held legs under closed, as users of the real service have seen it.
    held_is_open: bool = True
    rules: AccountRules = field(default_factory=AccountRules)
    fill_model: FillModel = field(default_factory=FillModel)

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, not {self.port}")
        if not 0 < self.speed <= 3600:
            raise ValueError(f"speed must be above 0 and at most 3600, not {self.speed}")
        if not 0.01 <= self.tick_seconds <= 60:
            raise ValueError(f"tick_seconds must be from 0.01 to 60, not {self.tick_seconds}")
        if self.rate_limit < 0:
            raise ValueError(f"rate_limit must be 0 (none) or more requests a minute, not {self.rate_limit}")
        if not self.key or not self.secret:
            raise ValueError("key and secret must not be empty")


class _Front:
    """What stands in front of every REST call."""

    def __init__(self, world: World, config: SimulatorConfig) -> None:
        self._world = world
        self._config = config
        self._requests = 0
        self._window: tuple[int, int] = (0, 0)

    @web.middleware
    async def explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give refusals the broker's shape, and every reply its request id."""
        self._requests += 1
        request_id = stable_id(self._world.seed, "request", self._requests).replace("-", "")
        try:
            response = await handler(request)
        except Refused as refused:
            response = refusal_reply(refused)
        except FaultInvalid as invalid:
            response = reply({"code": 42210000, "message": str(invalid), "field": invalid.field_name}, 422)
        except web.HTTPNotFound:
            response = reply({"code": 40410000, "message": f"endpoint not found: {request.path}"}, 404)
        except web.HTTPMethodNotAllowed as refused:
            allowed = ", ".join(sorted(refused.allowed_methods))
            response = reply({"code": 40510000, "message": f"{request.method} is not allowed, use {allowed}"}, 405)
        if not response.prepared:
            response.headers["X-Request-ID"] = request_id
        return response

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check keys and limits, and let the faults have their say."""
        if request.path.startswith("/sim") or not request.path.startswith(("/v1", "/v2", "/v3")):
            return await handler(request)
        if request.path in {f"/v2/{feed}" for feed in FEEDS}:
            return await handler(request)
        denied = self._unauthorized(request)
        if denied is not None:
            return denied
        headers, limited = self._limit()
        response = limited or await self._disturbed(request, handler)
        if not response.prepared:
            response.headers.update(headers)
        return response

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        key, secret = request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith("Bearer "):
            key, secret = self._config.key, authorization.removeprefix("Bearer ")
        elif authorization.startswith("Basic "):
            try:
                basic = BasicAuth.decode(authorization)
            except ValueError:
                return reply({"message": "unauthorized."}, 401)
            key, secret = basic.login, basic.password
        if key is None or secret is None:
            return reply({"message": "unauthorized."}, 401)
        if (key, secret) != (self._config.key, self._config.secret):
            return reply({"code": 40110000, "message": "request is not authorized"}, 401)
        return None

    def _limit(self) -> tuple[dict[str, str], web.Response | None]:
        if not self._config.rate_limit:
            return {}, None
        seconds = int(self._world.clock.now().timestamp())
        minute = seconds // MINUTE_SECONDS
        used = self._window[1] + 1 if self._window[0] == minute else 1
        self._window = (minute, used)
        reset = (minute + 1) * MINUTE_SECONDS
        headers = {
            "X-RateLimit-Limit": str(self._config.rate_limit),
            "X-RateLimit-Remaining": str(max(self._config.rate_limit - used, 0)),
            "X-RateLimit-Reset": str(reset),
        }
        if used <= self._config.rate_limit:
            return headers, None
        headers["Retry-After"] = str(max(reset - seconds, 1))
        return headers, _too_many()

    async def _disturbed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        facts = await _facts(request)
        strike = self._world.faults.strike
        if strike(Target.REST, (Kind.DROP,), facts):
            return _cut(request)
        if strike(Target.REST, (Kind.REFUSE,), facts):
            return reply({"code": 50310000, "message": "service unavailable"}, 503)
        if fault := strike(Target.REST, (Kind.RATE_LIMIT,), facts):
            response = _too_many()
            response.headers["Retry-After"] = str(max(round(fault.by_seconds), 1))
            return response
        if fault := strike(Target.REST, (Kind.TIMEOUT,), facts):
            return await self._hang(request, fault)
        if fault := strike(Target.REST, (Kind.ERROR,), facts):
            status = fault.status if isinstance(fault.status, int) else 500
            return _broken(status)
        if fault := strike(Target.REST, (Kind.DELAY,), facts):
            await asyncio.sleep(fault.by_seconds)
        if request.method == "GET" and (fault := strike(Target.REST, (Kind.LAG,), facts)):
            request[AS_OF] = self._world.clock.now() - timedelta(seconds=fault.by_seconds)
        fault = strike(Target.REST, (Kind.LOST_REPLY,), facts)
        if fault is None:
            return await handler(request)
        # A refusal is lost like any other reply: the client cannot know that nothing was done.
        with suppress(Refused):
            await handler(request)
        match fault.status:
            case "reset":
                return _cut(request)
            case "hang":
                return await self._hang(request, fault)
            case int(status):
                return _broken(status)
            case _:
                return _broken(504)

    async def _hang(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """Say nothing until the fault is over or the client has gone, then cut."""
        give_up = self._world.clock.now() + timedelta(seconds=fault.seconds or 3600)
        while self._world.clock.now() < give_up and self._is_known(fault):
            if request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(0.05)
        return _cut(request)

    def _is_known(self, fault: Fault) -> bool:
        return fault in self._world.faults.all()


def _too_many() -> web.Response:
    return reply({"code": 42910000, "message": "rate limit exceeded"}, 429)


def _broken(status: int) -> web.Response:
    if status == 504:
        # A gateway's page, as it really comes: not JSON.
        return web.Response(
            status=504, text="<html><body><h1>504 Gateway Time-out</h1></body></html>", content_type="text/html"
        )
    return reply({"code": status * 100_000 + 10_000, "message": "internal server error occurred"}, status)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _facts(request: web.Request) -> dict[str, str | None]:
    """What a fault may match a request by; terms come from the body, and for look-ups from the query."""
    facts: dict[str, str | None] = {"path": request.path, "method": request.method}
    body: object = None
    if request.body_exists:
        try:
            body = msgspec.json.decode(await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
    for name in ("symbol", "side", "client_order_id"):
        value = body.get(name) if isinstance(body, dict) else request.query.get(name)
        facts[name] = value if isinstance(value, str) else None
    return facts


class SimulatorServer:
    """A running simulator: `async with SimulatorServer(config) as sim:` and then `sim.url`."""

    def __init__(self, config: SimulatorConfig | None = None, *, clock: WallClock | None = None) -> None:
        self.config = config or SimulatorConfig()
        recording: list[RecordedBar] = read_bars(self.config.replay) if self.config.replay else []
        self.world = World(
            clock=clock or WallClock(),
            seed=self.config.seed,
            rules=self.config.rules,
            fill_model=self.config.fill_model,
            hours=Hours(self.config.is_always_open),
            speed=self.config.speed,
            tick_seconds=self.config.tick_seconds,
            recording=recording,
        )
        self.port = self.config.port
        self._runner: web.AppRunner | None = None
        self._living: asyncio.Task[None] | None = None
        self._trade_updates: TradeUpdates | None = None
        self._market_data: MarketData | None = None

    @property
    def url(self) -> str:
        """The base address for REST, such as http://127.0.0.1:8801."""
        return f"http://{self.config.host}:{self.port}"

    @property
    def trade_updates_url(self) -> str:
        """The complete address of the trade updates socket."""
        return f"ws://{self.config.host}:{self.port}/stream"

    @property
    def market_data_url(self) -> str:
        """The complete address of the market data socket."""
        return f"ws://{self.config.host}:{self.port}/v2/iex"

    @property
    def listeners(self) -> int:
        """How many trade updates sockets have been told that they are listening."""
        return self._trade_updates.listeners if self._trade_updates else 0

    async def __aenter__(self) -> "SimulatorServer":
        """Listen, and let time pass; PortTaken when the address is not free."""
        app = self._build()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.config.port)
        try:
            await site.start()
        except OSError as problem:
            await self._runner.cleanup()
            raise PortTaken(
                problem.errno,
                f"cannot listen on {self.config.host}:{self.config.port} ({problem.strerror}); "
                "stop what uses it, or choose another port (0 takes a free one)",
            ) from problem
        address = self._runner.addresses[0]
        self.port = int(address[1])
        self._living = asyncio.create_task(self.world.run(), name="simulator")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut all sockets and stop."""
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait([self._living])
        for hub in (self._trade_updates, self._market_data):
            if hub is not None:
                hub.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._living is not None and not self._living.cancelled():
            # It lives for ever unless something broke; a broken simulation must not pass for a quiet one.
            self._living.result()

    async def wait(self) -> None:
        """Run until cancelled; whatever breaks the simulation breaks this."""
        if self._living is not None:
            await self._living

    def _build(self) -> web.Application:
        config, world = self.config, self.world
        front = _Front(world, config)
        app = web.Application(middlewares=[front.explain, front.guard])
        log = FrameLog(world)
        trade_updates = TradeUpdates(
            world,
            log,
            key=config.key,
            secret=config.secret,
            is_text=config.text_frames,
            is_stamped=config.stamp,
            limit=config.trade_connections,
        )
        market_data = MarketData(world, log, key=config.key, secret=config.secret, limit=config.data_connections)
        for path in ("/stream", "/stream/"):
            app.router.add_get(path, trade_updates.handle)
        for feed in FEEDS:
            app.router.add_get(f"/v2/{feed}", market_data.handle)
        TradingRoutes(world, ids_match=config.activity_ids_match, held_is_open=config.held_is_open).add_to(app)
        DataRoutes(world).add_to(app)
        Control(world, trade_updates, market_data, log).add_to(app)
        self._trade_updates, self._market_data = trade_updates, market_data
        return app


async def serve(config: SimulatorConfig, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a simulator until cancelled; `ready` is called with the port once it listens."""
    async with SimulatorServer(config) as server:
        if ready is not None:
            ready(server.port)
        await server.wait()
