"""Ten thousand clients that come and go in every rude way, on both paths, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from tests.api.house import House, options
from tests.api.test_early import REQUEST
from tests.api.test_rfc6455 import sent
from tests.api.test_websocket import alert

from trueup.api import fanout, upgrade
from trueup.api.app import build_app
from trueup.api.frames import CLOSE, PING, TEXT
from trueup.api.routes import websocket
from trueup.api.routes.websocket import ConnectionManager
from trueup.api.serve import listen, serve_app
from trueup.bus.memory import HISTORY

WARM_UP, CLIENTS, AT_ONCE = 1_000, 10_000, 100
SECONDS = 300
RESET = struct.pack("ii", 1, 0)
LATER = sent(TEXT, b'{"type":"ping"}')


class Visitor:
    """One raw socket."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._port = port

    async def come(self) -> None:
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def hear(self) -> bytes:
        return await self._loop.sock_recv(self._socket, 1 << 16)

    async def hear_the_end(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.hear():
                pass

    def leave(self) -> None:
        self._socket.close()

    def vanish(self) -> None:
        """As a process that is killed, or a cable that is cut and plugged in again: a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()


async def politely(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    await visitor.hear()
    await visitor.say(sent(CLOSE, b"\x03\xe8"))
    await visitor.hear_the_end()
    visitor.leave()


async def without_a_word(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    await visitor.hear()
    visitor.leave()


async def by_a_reset(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    await visitor.hear()
    visitor.vanish()


async def in_the_middle_of_a_frame(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    await visitor.hear()
    await visitor.say(sent(PING, b"x") + sent(TEXT, b"y" * 5000, fin=False)[:1000])
    visitor.vanish()


async def before_the_answer(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    visitor.vanish()


async def having_spoken_too_early(visitor: Visitor) -> None:
    await visitor.say(REQUEST + LATER)
    visitor.vanish()


async def having_spoken_too_early_and_been_heard(visitor: Visitor) -> None:
    await visitor.say(REQUEST + LATER)
    await visitor.hear()
    visitor.leave()


async def with_half_a_request(visitor: Visitor) -> None:
    await visitor.say(REQUEST[: len(REQUEST) // 2])
    visitor.vanish()


async def with_half_a_request_slowly(visitor: Visitor) -> None:
    await visitor.say(REQUEST[: len(REQUEST) // 2])
    await asyncio.sleep(0)
    visitor.leave()


async def at_once(visitor: Visitor) -> None:
    visitor.vanish()


async def about_to_resume(visitor: Visitor) -> None:
    await visitor.say(REQUEST.replace(b"/ws", b"/ws?resume"))
    await visitor.hear()
    visitor.vanish()


async def against_the_rules(visitor: Visitor) -> None:
    await visitor.say(REQUEST)
    await visitor.hear()
    await visitor.say(sent(TEXT, b"x", masked=False))
    await visitor.hear_the_end()
    visitor.leave()


Way = Callable[[Visitor], Awaitable[None]]

WAYS: tuple[Way, ...] = (
    politely,
    without_a_word,
    by_a_reset,
    in_the_middle_of_a_frame,
    before_the_answer,
    having_spoken_too_early,
    having_spoken_too_early_and_been_heard,
    with_half_a_request,
    with_half_a_request_slowly,
    at_once,
    about_to_resume,
    against_the_rules,
)


async def visit(port: int, way: Way) -> None:
    visitor = Visitor(port)
    await visitor.come()
    await way(visitor)


async def visits(house: House, port: int, count: int) -> None:
    ways = itertools.cycle(WAYS)
    for _ in range(count // AT_ONCE):
        alert(house, "while they come and go")
        await asyncio.gather(*(visit(port, next(ways)) for _ in range(AT_ONCE)))


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


OURS = (fanout.FanoutProtocol, upgrade.UpgradingProtocol, websocket.FastClient, websocket.Client)


def left() -> Counter[str]:
    """What there is, by type, of all that a connection is made of."""
    gc.collect()
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    return Counter({kind: count for kind, count in kinds.items() if count > AT_ONCE // 10})


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "portable"])
async def test_ten_thousand_clients_leave_nothing(house: House, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a client that was let go may still hold for a moment, it holds for a shorter one here.
    monkeypatch.setattr(fanout, "LINGER_S", 0.1)
    monkeypatch.setattr(websocket, "RESUME_WAIT_S", 0.1)
    monkeypatch.setattr(upgrade, "REQUEST_S", 0.1)
    app = build_app(house, options(fast=fast))
    manager: ConnectionManager = app.state.manager
    listener = listen("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    listening = asyncio.Event()
    serving = asyncio.create_task(serve_app(app, options(), listener, ready=lambda _: listening.set()))

    async def empty(tasks: int) -> None:
        async with asyncio.timeout(SECONDS):
            while manager.active_connections or len(asyncio.all_tasks()) > tasks or living():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def living() -> int:
        gc.collect()
        return sum(isinstance(thing, OURS) for thing in gc.get_objects())

    try:
        async with asyncio.timeout(SECONDS):
            await listening.wait()
            tasks = len(asyncio.all_tasks()) + 1  # uvicorn's own
            for _ in range(HISTORY):
                alert(house, "the bus keeps so many anyway")
            await visits(house, port, WARM_UP)
            await empty(tasks + 2)
            tasks, files, memory, before = len(asyncio.all_tasks()), open_files(), resident_bytes(), left()
            await visits(house, port, CLIENTS)
            await empty(tasks)
            after = left()
        # Each way is gone by some 800 clients; the loop itself keeps up to a hundred timers that were called off.
        grown = {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind] > CLIENTS // 50}
        assert grown == {}
        assert open_files() == files
        assert len(manager._hub) == 0
        assert manager._addresses == {}
        assert not manager._hub._apart
        # Less than the smallest connection takes; what an allocator keeps for itself is some megabytes.
        assert resident_bytes() - memory < CLIENTS * 2048
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
