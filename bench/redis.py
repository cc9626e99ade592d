"""What Redis costs: events a second from publish through history to a gateway, and the latency that it adds.

Publisher and gateway are two processes, Redis a third of the benchmark's own. Latency is from `publish` to the moment
when the subscription of the other process has the envelope, by the machine's one monotonic clock; what the bus inside
one process takes for the same is taken off. Not for the websocket (`bench fanout`).
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from bench.harness import Options, Report, median, note, percentile
from trueup.bus.memory import MemoryBus
from trueup.bus.redis import RedisBus, RedisLink, RedisMirror, redis_subscriber
from trueup.core.views import Channel, RiskAlertView
from trueup.runtime.clock import SystemClock, jitter

CHANNEL = Channel.RISK_ALERT
GOAL_ADDED_MS = 2.0
GOAL_EVENTS = 20_000.0


def _view(number: int) -> RiskAlertView:
    """About 300 bytes as JSON; the time of publishing travels in its reason."""
    return RiskAlertView(
        type="bench",
        severity="info",
        reason=f"{time.monotonic_ns()} {number} " + "x" * 120,
        symbol="AAPL",
        current_value=None,
        limit_value=None,
        timestamp=datetime.now(UTC),
    )


def _sent_at(body: bytes) -> int:
    reason: str = json.loads(body)["reason"]
    return int(reason.partition(" ")[0])


def _link(url: str) -> RedisLink:
    return RedisLink(url=url, clock=SystemClock(), jitter=jitter)


def _gateway(url: str, pipe: Connection) -> None:
    """The other process: hears until it is told to stop, and tells what it heard."""

    async def hear() -> None:
        mirror = RedisMirror(_link(url), backlog=1 << 20)
        work = asyncio.ensure_future(redis_subscriber(_link(url), mirror))
        while not mirror.epoch:  # noqa: ASYNC110 - once, before anything is measured
            await asyncio.sleep(0.01)
        subscription = mirror.subscribe()
        pipe.send("ready")
        while True:
            wanted = await asyncio.to_thread(pipe.recv)
            if wanted is None:
                break
            count, timed = wanted
            late = []
            for _ in range(count):
                envelope = await subscription.get()
                if timed:
                    late.append((time.monotonic_ns() - _sent_at(envelope.body)) / 1e6)
            pipe.send((time.monotonic_ns(), late))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    uvloop.run(hear())


async def _answer(pipe: Connection) -> Any:
    return await asyncio.to_thread(pipe.recv)


async def _measure(url: str, pipe: Connection, options: Options) -> Report:
    report = Report()
    bus = RedisBus("bench", _link(url))
    work = asyncio.ensure_future(bus.run())
    await _answer(pipe)
    rounds, flood, calm = (3, 20_000, 400) if options.quick else (7, 40_000, 1500)
    rates = []
    added = []
    through = []
    for number in range(rounds):
        pipe.send((flood, False))
        began = time.monotonic_ns()
        for place in range(flood):
            bus.publish(CHANNEL, _view(place), datetime.now(UTC))
            if place % 200 == 199:
                await asyncio.sleep(0)
                while bus.depth > 8000:  # noqa: ASYNC110 - the bus rings no bell
                    await asyncio.sleep(0.0005)
        ended, _ = await _answer(pipe)
        rates.append(flood / ((ended - began) / 1e9))
        pipe.send((calm, True))
        for place in range(calm):
            bus.publish(CHANNEL, _view(place), datetime.now(UTC))
            await asyncio.sleep(0.001)
        _, late = await _answer(pipe)
        inside = await _inside(calm)
        through.append(percentile(late, 0.99))
        added.append(percentile(late, 0.99) - percentile(inside, 0.99))
        note(f"round {number + 1}: {rates[-1]:,.0f} events/s, p99 {through[-1]:.2f} ms, added {added[-1]:.2f} ms")
    pipe.send(None)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    report.results = {
        "rounds": rounds,
        "events_per_round": flood,
        "payload_bytes": len(json.dumps({"reason": _view(0).reason})) + 180,
        "events_per_s": rates,
        "latency_ms_p99": through,
        "added_latency_ms_p99": added,
        "paced_events_per_s": "under 1000",
    }
    report.at_most("redis.added_latency_ms_p99", median(added), GOAL_ADDED_MS)
    report.at_least("redis.events_per_s", median(rates), GOAL_EVENTS)
    return report


async def _inside(count: int) -> list[float]:
    """The same pace through the bus of one process."""
    bus = MemoryBus("inside")
    subscription = bus.subscribe()
    late: list[float] = []

    async def hear() -> None:
        for _ in range(count):
            envelope = await subscription.get()
            late.append((time.monotonic_ns() - _sent_at(envelope.body)) / 1e6)

    hearing = asyncio.ensure_future(hear())
    for place in range(count):
        bus.publish(CHANNEL, _view(place), datetime.now(UTC))
        await asyncio.sleep(0.001)
    await hearing
    return late


def run(options: Options) -> Report:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit("bench redis needs redis-server; scripts/need.sh redis installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        url = f"redis://127.0.0.1:{port}/0"
        gateway = context.Process(target=_gateway, args=(url, theirs), daemon=True)
        gateway.start()
        try:
            return uvloop.run(_measure(url, ours, options))
        finally:
            gateway.join(5)
            gateway.kill()
            server.kill()
            server.wait()
