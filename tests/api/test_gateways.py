"""Gateways without a runtime, two of them over one Redis, with many clients on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.api.house import options
from tests.redis_server import RedisServer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from trueup.api.remote import serve_remote
from trueup.bus.redis import RedisBus, RedisLink, RedisMirror, redis_subscriber
from trueup.core.views import Channel, FeedReconnectedView
from trueup.runtime.clock import SystemClock

pytestmark = pytest.mark.external_service

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
CLIENTS = 200
FEED = "system:feed:reconnected"


@asynccontextmanager
async def gateway(link: RedisLink, port: int = 0, runtime_url: str = "http://127.0.0.1:9") -> AsyncIterator[int]:
    mirror = RedisMirror(link)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    work = [
        asyncio.ensure_future(redis_subscriber(link, mirror)),
        asyncio.ensure_future(
            serve_remote(
                mirror,
                link.clock,
                options(port=port),
                runtime_url=runtime_url,
                ready=lambda at: listening.set_result(at),
            )
        ),
    ]
    try:
        async with asyncio.timeout(30):
            port = await listening
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as asking:
                while (await asking.get("/readyz")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        yield port
    finally:
        for each in reversed(work):
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)


@asynccontextmanager
async def publishing(link: RedisLink) -> AsyncIterator[RedisBus]:
    bus = RedisBus("e1", link)
    bus.picture = lambda: FeedReconnectedView(timestamp=NOON, symbol_count=0)
    say(bus, 1)
    work = asyncio.ensure_future(bus.run())
    try:
        yield bus
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def say(bus: RedisBus, *numbers: int) -> None:
    for number in numbers:
        bus.publish(Channel.FEED_RECONNECTED, FeedReconnectedView(timestamp=NOON, symbol_count=number), NOON)


class Desk:
    """One client that remembers every offset it was told, over all its connections."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.cursor = 0
        self.answers: list[bool] = []

    async def follow(self, port: int, *, until: int) -> None:
        """Until offset `until` was heard, resuming once there is something to resume from."""
        how = "?resume" if self.cursor else ""
        async with connect(f"ws://127.0.0.1:{port}/ws{how}", max_size=None, max_queue=None) as socket_:
            if how:
                cursors = {FEED: {"epoch": "e1", "offset": self.cursor}}
                await socket_.send(json.dumps({"type": "resume", "cursors": cursors}))
            while self.cursor < until:
                self._take(json.loads(await socket_.recv()))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("type") == "resumed":
            self.answers.append(message["recovered"])
        elif message["channel"] == "system:snapshot":
            self.cursor = message["cursors"][FEED]
            self.offsets = list(range(1, self.cursor + 1))
        elif message["channel"] == FEED:
            self.cursor = message["offset"]
            self.offsets.append(message["offset"])


async def test_two_hundred_clients_resume_at_another_gateway_with_no_loss_and_no_repeat(
    redis_server: RedisServer,
) -> None:
    link = RedisLink(url=redis_server.url, clock=SystemClock(), jitter=lambda: 0.5)
    desks = [Desk() for _ in range(CLIENTS)]
    async with asyncio.timeout(120), publishing(link) as bus, gateway(link) as one:
        async with gateway(link) as other:
            say(bus, *range(2, 11))
            await asyncio.gather(*(desk.follow((one, other)[place % 2], until=10) for place, desk in enumerate(desks)))
            say(bus, *range(11, 101))
            await asyncio.gather(*(desk.follow((other, one)[place % 2], until=100) for place, desk in enumerate(desks)))
        # One gateway restarts, and Redis with it, which comes back empty.
        redis_server.kill()
        say(bus, *range(101, 201))
        redis_server.start()
        async with gateway(link) as new:
            await asyncio.gather(*(desk.follow((new, one)[place % 2], until=200) for place, desk in enumerate(desks)))
    for desk in desks:
        assert desk.offsets == list(range(1, 201))
        assert desk.answers == [True, True]


async def hear(socket_: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        message: dict[str, Any] = json.loads(await socket_.recv())
        return message


async def test_what_cannot_be_continued_is_said_and_begins_from_a_snapshot(redis_server: RedisServer) -> None:
    link = RedisLink(url=redis_server.url, clock=SystemClock(), jitter=lambda: 0.5)
    async with publishing(link), gateway(link) as port:
        for cursors in (
            {FEED: {"epoch": "e0", "offset": 1}},
            {FEED: {"epoch": "e1", "offset": 10**9}},
            {},
        ):
            async with connect(f"ws://127.0.0.1:{port}/ws?resume") as socket_:
                await socket_.send(json.dumps({"type": "resume", "cursors": cursors}))
                answer = await hear(socket_)
                assert (answer["type"], answer["recovered"]) == ("resumed", False)
                assert (await hear(socket_))["channel"] == "system:snapshot"
        async with connect(f"ws://127.0.0.1:{port}/ws?resume") as silent:
            assert (await hear(silent))["channel"] == "system:snapshot"
        async with connect(f"ws://127.0.0.1:{port}/ws?resume") as confused:
            await confused.send('{"type":"resume","cursors":[1]}')
            assert (await hear(confused))["code"] == "bad_cursors"
            assert (await hear(confused))["channel"] == "system:snapshot"


async def test_a_stopping_gateway_gives_each_client_a_moment_to_return_at(redis_server: RedisServer) -> None:
    link = RedisLink(url=redis_server.url, clock=SystemClock(), jitter=lambda: 0.5)
    async with publishing(link):
        async with gateway(link) as port:
            sockets = [await connect(f"ws://127.0.0.1:{port}/ws", max_queue=None) for _ in range(3)]
            for socket_ in sockets:
                await hear(socket_)
        reasons = []
        for socket_ in sockets:
            with pytest.raises(ConnectionClosed) as closed:
                await socket_.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            reasons.append(closed.value.rcvd.reason)
    assert [reason.rpartition("=")[2] for reason in reasons] == ["1000", "2000", "3000"]


async def test_a_command_that_reaches_no_runtime_says_that_nothing_was_done(redis_server: RedisServer) -> None:
    link = RedisLink(url=redis_server.url, clock=SystemClock(), jitter=lambda: 0.5)
    async with (
        publishing(link),
        gateway(link) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as asking,
    ):
        answer = await asking.post("/api/kill", json={"reason": "now"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "runtime_unreachable")
        assert "nothing was done" in answer.json()["error"]["message"]
        assert (await asking.post("/api/orders", content=b"x" * 70_000)).status_code == 413
        assert (await asking.get("/api/snapshot")).status_code == 200
