"""The fast path: the same promises as the portable one, kept with one write for each client that keeps up."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
from typing import Any

import pytest
from tests.api.house import House, served
from tests.api.test_websocket import alert, dashboard, deaf, hear, hear_until
from websockets.exceptions import ConnectionClosed

from trueup.api import fanout
from trueup.api.fanout import Lag
from trueup.api.routes.websocket import FastClient
from trueup.core.views import PortfolioView

SECONDS = 60


def links() -> list[FastClient]:
    return [thing for thing in gc.get_objects() if type(thing) is FastClient and not thing.is_over]


async def settled(count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(links()) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_connection_is_served_without_a_task(house: House) -> None:
    async with served(house) as port:
        async with dashboard(port) as first:
            await hear(first)
            await settled(1)
            before = len(asyncio.all_tasks())
            async with dashboard(port) as second:
                await hear(second)
                await settled(2)
                ours = [task for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]
                assert ours == []
            assert len(asyncio.all_tasks()) <= before + 1
        await settled(0)


async def test_a_burst_reaches_everybody_whole_and_in_order(house: House) -> None:
    async with served(house) as port, dashboard(port) as one, dashboard(port) as other:
        for each in (one, other):
            await hear(each)
        for number in range(1, 501):
            alert(house, f"{number} " + "x" * 3000)
        for each in (one, other):
            for number in range(1, 501):
                heard = await hear(each)
                assert (heard["offset"], heard["data"]["reason"].split()[0]) == (number, str(number))


async def test_a_deaf_client_is_let_go_and_the_others_hear_everything(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trueup.api")
    async with served(house, backlog=50) as port, dashboard(port) as quick:
        await hear(quick)
        stuck = deaf(port)
        try:
            await settled(2)
            for number in range(1, 2001):
                alert(house, f"{number} " + "x" * 4000)
                assert (await hear(quick))["offset"] == number
            assert "code=1013" in caplog.text
            assert "more than 50 messages behind" in caplog.text
            await settled(1)
        finally:
            stuck.close()


def portfolio(house: House, mark: str) -> None:
    empty: dict[str, Any] = dict.fromkeys(
        (
            "total_equity",
            "cash",
            "positions_value",
            "daily_pnl",
            "daily_pnl_pct",
            "total_pnl",
            "total_pnl_pct",
            "max_drawdown_pct",
        )
    )
    house.bus.publish("portfolio:update", PortfolioView(**empty, stale_symbols=(mark,)), house.now)


async def test_a_slow_client_gets_every_log_entry_and_the_newest_state(house: House) -> None:
    """It reads nothing until its socket is full, then all: logs without a hole, a state with its last word."""
    async with served(house) as port:
        slow = deaf(port)
        slow.setblocking(False)
        try:
            await settled(1)
            (link,) = links()
            number = 0
            async with asyncio.timeout(SECONDS):
                while link.lag is None or len(link.lag) < 20:
                    number += 1
                    alert(house, f"{number} " + "x" * 8000)
                    portfolio(house, str(number))
                    await asyncio.sleep(0)
            heard = await read_until(slow, last=number, state=str(number))
            offsets = [message["offset"] for message in heard if message.get("channel") == "risk:alert"]
            assert offsets == list(range(1, number + 1))
            marks = [m["data"]["stale_symbols"][0] for m in heard if m.get("channel") == "portfolio:update"]
            assert marks[-1] == str(number)
            assert len(marks) < number
            async with asyncio.timeout(SECONDS):
                while link.place < 0:
                    alert(house, "on")  # it settles behind a burst
                    await read_some(slow)
        finally:
            slow.close()


async def read_some(slow: socket.socket) -> bytes:
    await asyncio.sleep(0.001)
    try:
        return slow.recv(1 << 20)
    except BlockingIOError:
        return b""


async def read_until(slow: socket.socket, *, last: int, state: str) -> list[dict[str, Any]]:
    """Everything up to a log entry and a state."""
    data = b""
    async with asyncio.timeout(SECONDS):
        while True:
            data += await read_some(slow)
            _, _, rest = data.partition(b"\r\n\r\n")
            found = frames(rest)
            alerts = [message["offset"] for message in found if message.get("channel") == "risk:alert"]
            states = [m["data"]["stale_symbols"] for m in found if m.get("channel") == "portfolio:update"]
            if alerts and alerts[-1] == last and states and states[-1] == [state]:
                return found


def frames(data: bytes) -> list[dict[str, Any]]:
    """The whole messages at the start of what a server sent."""
    found = []
    at = 0
    while at + 2 <= len(data):
        short = data[at + 1]
        head = 2 if short < 126 else 4 if short == 126 else 10
        length = short if short < 126 else int.from_bytes(data[at + 2 : at + head])
        if at + head + length > len(data):
            break
        if data[at] & 15 == 1:
            found.append(json.loads(data[at + head : at + head + length]))
        at += head + length
    return found


async def test_a_client_that_answers_no_ping_is_dropped(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trueup.api")
    async with served(house, ping_s=0.2, ping_timeout_s=0.4) as port, dashboard(port) as alive:
        await hear(alive)
        half_open = deaf(port)
        try:
            await settled(2)
            await settled(1)
            assert "answers no ping" in caplog.text
            alert(house, "on")
            assert (await hear(alive))["data"]["reason"] == "on"
        finally:
            half_open.close()


async def test_clients_come_and_go_and_leave_nothing(house: House) -> None:
    async with served(house) as port, dashboard(port) as steady:
        await hear(steady)
        for number in range(40):
            async with dashboard(port) as gone:
                await hear(gone)
                if number % 2:
                    gone.transport.abort()
        await settled(1)
        gc.collect()
        assert len([thing for thing in gc.get_objects() if isinstance(thing, fanout.FanoutProtocol)]) == 0


async def test_a_client_that_was_closed_hears_why(house: House) -> None:
    async with served(house, messages_per_s=1) as port, dashboard(port) as loud:
        await hear(loud)
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - either may notice
            for _ in range(20):
                await loud.send('{"type":"ping"}')
            await hear_until(loud, "no such channel")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_what_waits_keeps_its_order_and_its_size() -> None:
    lag = Lag()
    lag.put(b"one")
    lag.put_state("portfolio:update", b"old")
    lag.put(b"two")
    lag.put_state("portfolio:update", b"newer")
    assert (len(lag), lag.size) == (3, 11)
    assert lag.take() == b"onenewertwo"
    assert (len(lag), lag.size) == (0, 0)


async def test_what_comes_before_a_burst_leaves_goes_with_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        writes.append(data)
        return write(descriptor, data)

    async with served(house) as port, dashboard(port) as client:
        await hear(client)
        alert(house, "0")
        assert (await hear(client))["offset"] == 1  # it keeps up from here on
        monkeypatch.setattr(os, "write", watched)
        alert(house, "first")
        await asyncio.sleep(0)  # the pump has taken it; the burst leaves in the next turn
        assert not [data for data in writes if b"first" in data]
        alert(house, "second")
        assert [(await hear(client))["data"]["reason"] for _ in "12"] == ["first", "second"]
        assert [(b"first" in data, b"second" in data) for data in writes if b'"channel"' in data] == [(True, True)]
