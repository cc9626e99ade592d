"""A running simulator for a test, the vendor's own clients for it, and a way to wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.trading.client import TradingClient
from alpaca.trading.stream import TradingStream

from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.model import FillModel

KEYS = {"APCA-API-KEY-ID": "SIM", "APCA-API-SECRET-KEY": "SIM"}
PROMPT = FillModel(
    ack_latency_ms=0, fill_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, partial_probability=0
)
MANUAL = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)


@dataclass
class Bench:
    """A simulator and what a test needs around it."""

    sim: SimulatorServer
    http: httpx.AsyncClient

    @property
    def trading(self) -> TradingClient:
        client = TradingClient("SIM", "SIM", paper=True, url_override=self.sim.url)
        client._retry_wait = 0
        return client

    @property
    def data(self) -> StockHistoricalDataClient:
        return StockHistoricalDataClient("SIM", "SIM", url_override=self.sim.url)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """A POST that must succeed; its JSON."""
        response = await self.http.post(path, json=body)
        assert response.status_code < 300, response.text
        return response.json()

    async def get(self, path: str, **query: Any) -> Any:
        """A GET that must succeed; its JSON."""
        response = await self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def buy(self, **terms: Any) -> Any:
        """A market day order for 10 AAPL, unless told otherwise."""
        body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **terms}
        return await self.post("/v2/orders", body)

    async def fault(self, target: str, kind: str, **more: Any) -> str:
        """Start a fault; its id."""
        body = {"target": target, "kind": kind, **more}
        return str((await self.post("/sim/faults", body))["id"])


class Listener:
    """The vendor's trading stream, keeping the raw updates it hands out."""

    def __init__(self, sim: SimulatorServer) -> None:
        self.updates: list[dict[str, Any]] = []
        self.stream = TradingStream("SIM", "SIM", raw_data=True, url_override=sim.trade_updates_url)
        self.stream.subscribe_trade_updates(self._keep)

    async def _keep(self, message: dict[str, Any]) -> None:
        self.updates.append(message["data"])

    @property
    def events(self) -> list[str]:
        return [update["event"] for update in self.updates]


async def until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until a condition holds; fails after a generous while."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the awaited condition never came true"
        await asyncio.sleep(0.01)


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    """Start a simulator: prompt fills, no rate limit, unless the test says otherwise."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> Bench:
            chosen = {"rate_limit": 0, "fill_model": PROMPT, "tick_seconds": 0.05, **settings}
            sim = await stack.enter_async_context(SimulatorServer(SimulatorConfig(**chosen)))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=sim.url, headers=KEYS, timeout=20))
            return Bench(sim, http)

        yield begin


@pytest.fixture
async def bench(start: Callable[..., Awaitable[Bench]]) -> Bench:
    """A simulator with prompt, whole fills."""
    return await start()


@pytest.fixture
async def manual(start: Callable[..., Awaitable[Bench]]) -> Bench:
    """A simulator in which nothing fills but by request."""
    return await start(fill_model=MANUAL)


@pytest.fixture
async def listen() -> AsyncIterator[Callable[[Bench], Awaitable[Listener]]]:
    """Attach the vendor's trading stream and wait until it is listening."""
    tasks: list[asyncio.Task[None]] = []
    listeners: list[Listener] = []

    async def begin(bench: Bench) -> Listener:
        listener = Listener(bench.sim)
        listeners.append(listener)
        tasks.append(asyncio.create_task(listener.stream._run_forever()))
        await until(lambda: _is_listening(bench.sim))
        return listener

    yield begin
    for task in tasks:
        task.cancel()
    for listener in listeners:
        await listener.stream.close()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_listening(sim: SimulatorServer) -> bool:
    return sim.listeners > 0


def dollars(text: str) -> Decimal:
    """A decimal from the wire."""
    return Decimal(text)
