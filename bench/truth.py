"""Truth: how soon belief equals the exchange's books after a cut, and how late events are on their way to a person.

The simulator and the WebSocket client are processes of their own; the runtime with its gateway runs here, with a
durable journal, the official SDK and real sockets between all of them. The exchange stamps each trade update with the
machine's monotonic clock when it writes it to the socket.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import websockets

from bench.harness import Options, Report, median, note, percentile
from trueup.api.deps import GatewayOptions
from trueup.api.serve import serve_gateway
from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.rest import ClientOptions
from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.bus import codec
from trueup.bus.memory import MemoryBus
from trueup.core.events import FeedAcknowledged, FeedRestored
from trueup.core.model import FeedName
from trueup.core.views import Channel
from trueup.journal.sqlite import FILE_NAME, SqliteJournal
from trueup.runtime.clock import SystemClock
from trueup.runtime.run import House, Parts
from trueup.runtime.run import run as run_house

RATE = 200
"""Trade updates a second while latency is measured."""

SYMBOL = "AAPL"

CLIENT = """
import asyncio, json, sys, time
import websockets
async def main(url):
    async with websockets.connect(url, max_size=None) as socket:
        print("ready", flush=True)
        async for message in socket:
            now = time.time_ns()
            if '"trade:executed"' in message:
                body = json.loads(message)
                if body["channel"] == "trade:executed":
                    print(now, body["data"]["execution_id"], flush=True)
asyncio.run(main(sys.argv[1]))
"""

ECHO = """
import asyncio, sys
import websockets
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=2**20
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def first_line(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    line = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()
    if not line:
        raise SystemExit("a child process of the benchmark ended before it was ready")
    return line


async def echo_round_trips(count: int) -> list[float]:
    """Milliseconds of a bare loopback WebSocket echo, the message as large as a fill's envelope."""
    times = []
    async with process("-c", ECHO) as child:
        port = await first_line(child)
        async with websockets.connect(f"ws://127.0.0.1:{port}") as socket:
            for _ in range(count):
                began = time.monotonic_ns()
                await socket.send("x" * 600)
                await socket.recv()
                times.append((time.monotonic_ns() - began) / 1e6)
    return times


class Rig:
    """A simulator, and a runtime in this process that follows it."""

    def __init__(self, sim: str, folder: Path) -> None:
        self.sim = sim
        self.folder = folder
        self.house: House | None = None
        self.port = 0
        self.client = httpx.AsyncClient(base_url=sim, timeout=120)
        self.journaled: dict[str, int] = {}

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    async def run(self) -> None:
        clock = SystemClock()
        journal = SqliteJournal(self.folder / FILE_NAME)
        bus = MemoryBus(journal.epoch)
        subscription = bus.subscribe()

        async def pump() -> None:
            while True:
                envelope = await subscription.get()
                if envelope.channel == Channel.TRADE_EXECUTED:
                    now = time.time_ns()
                    self.journaled[json.loads(envelope.body)["execution_id"]] = now

        async def gateway(house: House) -> None:
            def listening(port: int) -> None:
                self.port = port

            await serve_gateway(house, GatewayOptions(codec=codec, port=0), ready=listening)

        def ready(house: House) -> None:
            self.house = house

        url = self.sim.replace("http", "ws", 1) + "/stream"
        parts = Parts(
            broker=AlpacaBroker(
                key="SIM", secret="SIM", url=self.sim, clock=clock, options=ClientOptions(requests_per_minute=6000)
            ),
            broker_feed=TradingStream(key="SIM", secret="SIM", url=url, clock=clock),
            quote_feed=None,
            journal=journal,
            bus=bus,
            clock=clock,
            jitter=random.random,
            version="bench",
            gateway=gateway,
            backoff_cap_s=0.5,
            tune_collector=True,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(pump())
            group.create_task(run_house(parts, ready=ready))

    async def healthy(self) -> House:
        deadline = time.monotonic() + 30
        while self.house is None or not self.port or self.house.health.view().status != "healthy":
            if time.monotonic() > deadline:
                raise SystemExit("the runtime did not become healthy within 30 s")
            await asyncio.sleep(0.02)
        return self.house

    async def wrong(self) -> str | None:
        """What differs from the exchange's books; None when nothing does."""
        truth = (await self.client.get("/sim/truth")).json()
        assert self.house is not None
        belief = self.house.sequencer.belief
        for order in truth["orders"]:
            leg = belief.by_broker.get(order["id"])
            if leg is None or leg.filled != Decimal(order["filled_qty"]) or leg.residual:
                return f"order {order['id']}"
        held = {symbol: Decimal(quantity) for symbol, quantity in truth["positions"].items() if Decimal(quantity)}
        if held != {symbol: book.quantity for symbol, book in belief.books.items() if book.quantity}:
            return "positions"
        return None if belief.cash == Decimal(truth["cash"]) else "cash"


async def heal_times(rig: Rig, cuts: int) -> dict[str, Any]:
    """Cut the stream `cuts` times while fills go on; seconds from acknowledged to proven equal."""
    house = await rig.healthy()
    wrong = 0
    for number in range(cuts):
        closed = len([gap for gap in house.sequencer.belief.truth.gaps if gap.closed_at is not None])
        await rig.post("/sim/faults", target="trade_updates", kind="drop", seconds=0.3)
        await rig.post("/sim/burst", symbol=SYMBOL, orders=10, rate=300)
        deadline = time.monotonic() + 30
        while (
            len([gap for gap in house.sequencer.belief.truth.gaps if gap.closed_at is not None]) <= closed
            or house.sequencer.belief.truth.open_gap is not None
        ):
            if time.monotonic() > deadline:
                raise SystemExit(f"cut {number} did not heal within 30 s")
            await asyncio.sleep(0.002)
        difference = await rig.wrong()
        if difference is not None:
            wrong += 1
            note(f"truth: after cut {number} belief differs: {difference}")
    healed = []
    lost_to_healed = []
    acknowledged = None
    reader = SqliteJournal(rig.folder / FILE_NAME, read_only=True)
    for entry in reader.read():
        item = entry.input
        if isinstance(item, FeedAcknowledged) and item.feed is FeedName.BROKER_EVENTS:
            acknowledged = item.at
        elif isinstance(item, FeedRestored) and item.feed is FeedName.BROKER_EVENTS and acknowledged is not None:
            healed.append((item.at - acknowledged).total_seconds())
    reader.close()
    gaps = house.sequencer.belief.truth.gaps
    lost_to_healed = [(gap.closed_at - gap.opened_at).total_seconds() for gap in gaps if gap.closed_at is not None]
    missed = sum(gap.missed for gap in gaps)
    return {
        "cuts": cuts,
        "wrong_after_heal": wrong,
        "fills_missed_by_stream_and_learned": missed,
        "stream_back_to_equal_s": healed[1:],
        "cut_to_equal_s": lost_to_healed[1:],
    }


async def latencies(rig: Rig, seconds: float) -> dict[str, list[float]]:
    """Milliseconds from the exchange's socket write to journaled belief, and to a WebSocket client's receipt."""
    await rig.healthy()
    received: dict[str, int] = {}
    async with process("-c", CLIENT, f"ws://127.0.0.1:{rig.port}/ws") as child:
        if await first_line(child) != "ready":
            raise SystemExit("the WebSocket client did not start")

        async def read() -> None:
            assert child.stdout is not None
            async for line in child.stdout:
                at, name = line.decode().split()
                received[name] = int(at)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        chunk = 100
        sent: dict[str, int] = {}
        began = time.time_ns()
        # the exchange keeps a bounded log of frames, so it is read in between
        for _ in range(max(1, int(seconds * RATE / 3 / chunk))):
            await rig.post("/sim/burst", symbol=SYMBOL, orders=chunk, rate=RATE)
            frames = (await rig.client.get("/sim/frames", params={"limit": 1000, "stream": "trade_updates"})).json()
            for frame in frames:
                found = stamp(frame)
                if found is not None and found[1] >= began:
                    sent[found[0]] = found[1]
        await asyncio.sleep(1)  # what is still on its way arrives; what has not by then counts as lost
        reading.cancel()
    names = [name for name in sent if name in rig.journaled and name in received]
    if len(names) < 0.99 * len(sent):
        raise SystemExit(f"of {len(sent)} fills only {len(names)} were seen everywhere")
    return {
        "belief": [(rig.journaled[name] - sent[name]) / 1e6 for name in names],
        "client": [(received[name] - sent[name]) / 1e6 for name in names],
    }


def stamp(frame: dict[str, Any]) -> tuple[str, int] | None:
    """Execution id of a fill's frame, and the nanosecond of this machine's clock at which it was written."""
    data = frame["body"].get("data")
    if isinstance(data, dict) and data.get("event") in ("fill", "partial_fill"):
        return data["execution_id"], int(datetime.fromisoformat(frame["at"]).timestamp() * 1e6) * 1000
    return None


async def measure(options: Options) -> Report:
    report = Report()
    cuts = 12 if options.quick else 30
    echoes = await echo_round_trips(500 if options.quick else 2000)
    with tempfile.TemporaryDirectory() as folder:
        async with process(
            "-m", "trueup.simulator", "--port", "0", "--seed", "7", "--rate-limit", "0", "--manual"
        ) as child:
            line = await first_line(child)
            url = next(word for word in line.split() if word.startswith("url=")).removeprefix("url=")
            rig = Rig(url.rstrip("/"), Path(folder))
            running = asyncio.create_task(rig.run())
            try:
                await rig.healthy()
                # Cuts first: a snapshot reads every order of the last five minutes, and latencies leave thousands.
                note(f"truth: {cuts} cuts")
                heal = await heal_times(rig, cuts)
                note(f"truth: latency at {RATE} updates/s")
                latency = await latencies(rig, 8 if options.quick else 30)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await rig.client.aclose()
    echo = median(echoes)
    back = heal["stream_back_to_equal_s"]
    report.results = {
        "echo_round_trip_ms": {"p50": echo, "p99": percentile(echoes, 0.99)},
        "updates_per_s": RATE,
        "fills_measured": len(latency["belief"]),
        "write_to_journaled_belief_ms": summary(latency["belief"], echo),
        "write_to_client_ms": summary(latency["client"], echo),
        "heal": {
            "cuts": heal["cuts"],
            "wrong_after_heal": heal["wrong_after_heal"],
            "fills_missed_by_stream_and_learned": heal["fills_missed_by_stream_and_learned"],
            "stream_back_to_equal_s": {"p50": median(back), "p99": percentile(back, 0.99), "max": max(back)},
            "cut_to_equal_s": {
                "p50": median(heal["cut_to_equal_s"]),
                "max": max(heal["cut_to_equal_s"]),
            },
        },
    }
    report.at_most("truth.heal_s_p50", median(back), 0.25)
    report.at_most("truth.heal_s_p99", percentile(back, 0.99), 1.0)
    report.at_most("truth.client_latency_ms_p99", percentile(latency["client"], 0.99), 10.0)
    report.at_most("truth.latency_over_echo_p50", median(latency["client"]) / echo, 20.0)
    report.at_most("truth.wrong_after_heal", float(heal["wrong_after_heal"]), 0.0)
    return report


def summary(values: list[float], echo: float) -> dict[str, float]:
    p50, p99 = median(values), percentile(values, 0.99)
    return {"p50": p50, "p99": p99, "p50_over_echo": p50 / echo, "p99_over_echo": p99 / echo}


def run(options: Options) -> Report:
    return asyncio.run(measure(options))
