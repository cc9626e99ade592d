"""A simulator to talk to, and a server that says exactly what a test wants, for what the simulator would never say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.endpoints import endpoints
from trueup.brokers.alpaca.rest import ClientOptions
from trueup.brokers.alpaca.stock_data_stream import StockDataStream
from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.brokers.alpaca.websocket import StreamOptions
from trueup.core.model import Symbol
from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.model import FillModel

MANUAL = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
QUICK_STREAM = StreamOptions(connect_s=5, reply_s=5, refused_pause_s=0.2)
QUICK_CLIENT = ClientOptions(connect_s=2, read_s=5, total_s=10, requests_per_minute=0)


class RealClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Bench:
    """A simulator in which nothing fills by itself, and our adapter for it."""

    sim: SimulatorServer
    http: httpx.AsyncClient
    brokers: list[AlpacaBroker] = field(default_factory=list)

    def broker(self, options: ClientOptions = QUICK_CLIENT, **changes: Any) -> AlpacaBroker:
        told: dict[str, Any] = {"key": "SIM", "secret": "SIM", "url": self.sim.url, **changes}
        broker = AlpacaBroker(**told, clock=RealClock(), options=options)
        self.brokers.append(broker)
        return broker

    def trading_stream(self, options: StreamOptions = QUICK_STREAM, **changes: Any) -> TradingStream:
        url = endpoints(alpaca_url=self.sim.url).trading_stream
        told: dict[str, Any] = {"key": "SIM", "secret": "SIM", "url": url, **changes}
        return TradingStream(**told, clock=RealClock(), options=options)

    def stock_data_stream(
        self, *symbols: str, options: StreamOptions = QUICK_STREAM, **changes: Any
    ) -> StockDataStream:
        url = endpoints(alpaca_url=self.sim.url).stock_data_stream
        told: dict[str, Any] = {"key": "SIM", "secret": "SIM", "url": url, **changes}
        return StockDataStream(**told, symbols=[Symbol(name) for name in symbols], clock=RealClock(), options=options)

    async def post(self, path: str, **body: Any) -> Any:
        response = await self.http.post(path, json=body)
        assert response.status_code < 300, response.text
        return response.json()

    async def get(self, path: str) -> Any:
        response = await self.http.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def fault(self, target: str, kind: str, **terms: Any) -> None:
        await self.post("/sim/faults", target=target, kind=kind, **terms)

    async def clear_faults(self) -> None:
        assert (await self.http.delete("/sim/faults")).status_code == 200


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    async with AsyncExitStack() as stack:

        async def make(**config: Any) -> Bench:
            settings = {"seed": 7, "rate_limit": 0, "fill_model": MANUAL, **config}
            sim = await stack.enter_async_context(SimulatorServer(SimulatorConfig(**settings)))
            keys = {"APCA-API-KEY-ID": "SIM", "APCA-API-SECRET-KEY": "SIM"}
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=sim.url, headers=keys, timeout=30))
            bench = Bench(sim, http)
            stack.push_async_callback(_close, bench.brokers)
            return bench

        yield make


async def _close(brokers: list[AlpacaBroker]) -> None:
    for broker in brokers:
        await broker.close()


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    return await make_bench()


Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    async def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in 30 s"
            await asyncio.sleep(0.01)

    return wait


# --- servers that say what they are told ----------------------------------------------------------

Say = Callable[[ServerConnection], Awaitable[None]]
OpenSocket = Callable[[Say], Any]


@pytest.fixture
def socket_server() -> OpenSocket:
    """A websocket server whose every connection is handled by the function given; yields its address."""

    @asynccontextmanager
    async def opened(say: Say) -> AsyncIterator[str]:
        async with serve(say, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}/stream"

    return opened


Reply = bytes | None
HttpAnswer = Callable[[str, str, bytes], Reply | Awaitable[Reply]]


@dataclass
class HttpServer:
    """What a raw HTTP server was asked."""

    url: str
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    def count(self, method: str) -> int:
        return sum(1 for asked, _, _ in self.asked if asked == method)


@pytest.fixture
def http_server() -> Callable[[HttpAnswer], Any]:
    """A server that answers each request with the bytes that a function returns; None cuts the connection."""

    @asynccontextmanager
    async def opened(answer: HttpAnswer) -> AsyncIterator[HttpServer]:
        state = HttpServer("")
        writers: set[asyncio.StreamWriter] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    method, path, _ = head.decode().split("\r\n")[0].split(" ")
                    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                    body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
                    state.asked.append((method, path, body))
                    reply = answer(method, path, body)
                    if isinstance(reply, Awaitable):
                        reply = await reply
                    if reply is None:
                        break
                    writer.write(reply)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield state
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()

    return opened


@pytest.fixture
def http_reply() -> Callable[..., bytes]:
    """The bytes of one HTTP reply."""

    def build(status: int, body: object = "", *, kind: str = "application/json", **headers: str) -> bytes:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + content

    return build
