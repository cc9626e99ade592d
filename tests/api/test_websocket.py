"""The websocket: a snapshot, then everything behind it, to everyone, and nobody harmed by anybody."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.api.house import House, http_client, running_house, served
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from trueup.api.routes.websocket import Client
from trueup.core.model import FeedName
from trueup.core.views import STATE_CHANNELS, FeedReconnectedView, PortfolioView, RiskAlertView

SECONDS = 60


@asynccontextmanager
async def dashboard(port: int, **how: Any) -> AsyncIterator[ClientConnection]:
    # Without a bound on what it holds unread, a client that leaves still finds the server's goodbye.
    async with connect(f"ws://127.0.0.1:{port}/ws", max_size=None, max_queue=None, **how) as socket_:
        yield socket_


async def hear(socket_: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(SECONDS):
        message: dict[str, Any] = json.loads(await socket_.recv())
        return message


async def hear_until(socket_: ClientConnection, channel: str) -> list[dict[str, Any]]:
    heard = []
    while True:
        heard.append(await hear(socket_))
        if heard[-1].get("channel") == channel:
            return heard


def alert(house: House, reason: str) -> None:
    view = RiskAlertView(
        type="test",
        severity="info",
        reason=reason,
        symbol=None,
        current_value=None,
        limit_value=None,
        timestamp=house.now,
    )
    house.bus.publish("risk:alert", view, house.now)


# --- the picture, and what follows it ---


async def test_the_first_message_is_a_snapshot(house: House) -> None:
    async with http_client(house) as client:
        await client.post("/api/orders", json={"symbol": "AAPL", "side": "BUY", "quantity": 10})
    async with served(house) as port, dashboard(port) as socket_:
        first = await hear(socket_)
        assert (first["channel"], first["epoch"]) == ("system:snapshot", "bus-1")
        assert first["cursors"] == dict(house.bus.cursors())
        assert [order["symbol"] for order in first["data"]["orders"]] == ["AAPL"]
        assert first["data"]["health"]["status"] == "healthy"


async def test_what_happens_reaches_every_dashboard(house: House) -> None:
    async with served(house) as port, dashboard(port) as one, dashboard(port) as other, http_client(house) as client:
        for socket_ in (one, other):
            assert (await hear(socket_))["channel"] == "system:snapshot"
        await client.post("/api/orders", json={"symbol": "AAPL", "side": "BUY", "quantity": 10})
        await house.fill(await house.accept())
        for socket_ in (one, other):
            heard = await hear_until(socket_, "trade:executed")
            statuses = [message["data"]["detail"] for message in heard if message["channel"] == "order:status"]
            assert statuses == ["PENDING_NEW", "NEW"]
            assert heard[-1]["data"]["quantity"] == 10
            assert (await hear(socket_))["data"]["status"] == "FILLED"


async def test_nothing_is_missing_and_nothing_repeated_behind_a_snapshot(house: House) -> None:
    """Dashboards come while much is being said; each log must go on exactly where the snapshot's cursors end."""
    said = 0
    talking = True

    async def talk() -> None:
        nonlocal said
        while talking:
            for _ in range(3):
                said += 1
                alert(house, str(said))
            await asyncio.sleep(0)

    async with served(house) as port:
        talker = asyncio.create_task(talk())
        try:
            for _ in range(15):
                async with dashboard(port) as socket_:
                    cursor = (await hear(socket_))["cursors"].get("risk:alert", 0)
                    for step in range(1, 40):
                        message = await hear(socket_)
                        assert (message["channel"], message["offset"]) == ("risk:alert", cursor + step)
                        assert message["data"]["reason"] == str(cursor + step)
        finally:
            talking = False
            await talker
    assert said > 15 * 39


async def test_a_resync_begins_anew_from_a_snapshot(house: House) -> None:
    async with served(house) as port, dashboard(port) as socket_:
        await hear(socket_)
        alert(house, "before")
        assert (await hear(socket_))["offset"] == 1
        await socket_.send('{"type":"resync"}')
        again = await hear(socket_)
        assert (again["channel"], again["cursors"]["risk:alert"]) == ("system:snapshot", 1)
        alert(house, "after")
        assert (await hear(socket_))["offset"] == 2


async def test_a_ping_is_answered_with_the_time(house: House) -> None:
    async with served(house) as port, dashboard(port) as socket_:
        await hear(socket_)
        before = house.now.isoformat()
        await socket_.send('{"type": "ping"}')
        pong = await hear(socket_)
        assert pong["type"] == "pong"
        assert before <= pong["server_time"].replace("Z", "+00:00") <= house.now.isoformat()
        assert "channel" not in pong


@pytest.mark.parametrize(
    "nonsense",
    ["", "{", "null", "[]", "7", '"ping"', '{"type": 7}', "[" * 50_000, '{"type": "sudo"}', b"\xff\xfe", "\u0000"],
)
async def test_nonsense_is_answered_and_harms_nobody(house: House, nonsense: str | bytes) -> None:
    async with served(house) as port, dashboard(port) as socket_, dashboard(port) as neighbour:
        for each in (socket_, neighbour):
            await hear(each)
        await socket_.send(nonsense)
        answer = await hear(socket_)
        assert answer["type"] == "error"
        assert "resync" in answer["message"]
        assert len(answer["raw"]) <= 200
        alert(house, "on")
        for each in (socket_, neighbour):
            assert (await hear(each))["data"]["reason"] == "on"


async def test_a_message_of_unlimited_size_ends_its_sender_alone(house: House) -> None:
    async with served(house) as port, dashboard(port) as socket_, dashboard(port) as neighbour:
        for each in (socket_, neighbour):
            await hear(each)
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - either may notice
            await socket_.send("x" * 1_000_000)
            await hear(socket_)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        alert(house, "on")
        assert (await hear(neighbour))["data"]["reason"] == "on"


# --- the slow, the gone, the many ---


def deaf(port: int) -> socket.socket:
    """A client that shakes hands and then never reads again, with hardly any room to hold what comes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return client


def manager_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "ConnectionManager" in getattr(task.get_coro(), "__qualname__", "")]


async def settled(count: int) -> None:
    """Until so many tasks of connections are left: two for each, and the pump."""
    async with asyncio.timeout(SECONDS):
        while len(manager_tasks()) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_deaf_client_is_let_go_and_the_others_hear_everything(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trueup.api")
    async with served(house, backlog=50, fast=False) as port, dashboard(port) as quick:
        await hear(quick)
        stuck = deaf(port)
        try:
            await settled(1 + 2 * 2)
            for number in range(1, 2001):
                alert(house, f"{number} " + "x" * 4000)
                heard = await hear(quick)
                assert heard["offset"] == number
            await settled(1 + 2)
            assert "code=1013" in caplog.text
            assert "more than 50 messages behind" in caplog.text
        finally:
            stuck.close()


async def test_a_slow_client_is_told_why_it_is_closed() -> None:
    async with running_house() as house, served(house, backlog=5, fast=False) as port, dashboard(port) as socket_:
        await hear(socket_)
        for number in range(50):
            alert(house, str(number))  # in one breath: nobody gets a turn to send
        with pytest.raises(ConnectionClosed) as closed:
            await hear_until(socket_, "no such channel")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert "connect again" in closed.value.rcvd.reason


def portfolio(house: House, number: int) -> None:
    view = PortfolioView(
        total_equity=None,
        cash=None,
        positions_value=None,
        daily_pnl=None,
        daily_pnl_pct=None,
        total_pnl=None,
        total_pnl_pct=None,
        max_drawdown_pct=None,
        stale_symbols=(str(number),),
    )
    house.bus.publish("portfolio:update", view, house.now)


async def test_of_a_state_only_the_newest_waits(house: House) -> None:
    async with served(house, backlog=5, fast=False) as port, dashboard(port) as socket_:
        await hear(socket_)
        for number in range(200):
            portfolio(house, number)
        alert(house, "after")
        heard = await hear_until(socket_, "risk:alert")
        assert heard[-2]["channel"] == "portfolio:update"
        assert heard[-2]["data"]["stale_symbols"] == ["199"]
        assert len(heard) < 10


async def test_a_pump_that_fell_behind_starts_everyone_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with running_house(backlog=10) as house, served(house) as port, dashboard(port) as socket_:
        await hear(socket_)
        for number in range(40):
            alert(house, str(number))
        again = await hear(socket_)
        assert (again["channel"], again["cursors"]["risk:alert"]) == ("system:snapshot", 40)
        assert "fell behind" in caplog.text
        alert(house, "on")
        assert (await hear(socket_))["offset"] == 41


async def test_clients_that_vanish_are_forgotten(house: House) -> None:
    async with served(house, fast=False) as port, dashboard(port) as steady:
        await hear(steady)
        for _ in range(10):
            async with dashboard(port) as gone:
                await hear(gone)
                gone.transport.abort()
        await settled(1 + 2)
        alert(house, "on")
        assert (await hear(steady))["data"]["reason"] == "on"


async def test_hundreds_of_connects_leave_nothing_behind(house: House) -> None:
    async with served(house, fast=False) as port:
        await settled(1)
        async with dashboard(port) as socket_:
            await hear(socket_)
        await settled(1)
        tasks_before = len(asyncio.all_tasks())
        for _ in range(15):
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(come_and_go(port, number))
        await settled(1)
        gc.collect()
        async with asyncio.timeout(SECONDS):
            while len(asyncio.all_tasks()) > tasks_before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert [thing for thing in gc.get_objects() if type(thing) is Client] == []


async def come_and_go(port: int, number: int) -> None:
    async with dashboard(port) as socket_:
        if number % 4:
            await hear(socket_)
        if number % 3 == 0:
            socket_.transport.abort()


async def test_those_who_come_at_once_share_one_picture(house: House) -> None:
    async with served(house) as port:
        pictures = []
        for _ in range(3):
            async with dashboard(port) as socket_:
                pictures.append(await socket_.recv())
        assert len(set(pictures)) == 1
        house.bus.publish(
            "system:feed:reconnected",
            FeedReconnectedView(timestamp=house.now, symbol_count=1, feed=FeedName.MARKET_DATA),
            house.now,
        )
        async with dashboard(port) as socket_:
            assert await socket_.recv() not in pictures


async def test_stopping_tells_dashboards_to_come_back(house: House) -> None:
    async with served(house) as port:
        socket_ = await connect(f"ws://127.0.0.1:{port}/ws")
        await hear(socket_)
    with pytest.raises(ConnectionClosed) as closed:
        await hear(socket_)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert manager_tasks() == []


async def test_stopping_does_not_wait_for_the_deaf(house: House) -> None:
    stuck = None
    try:
        async with asyncio.timeout(SECONDS):
            async with served(house, fast=False) as port:
                stuck = deaf(port)
                await settled(1 + 2)
                for number in range(500):
                    alert(house, f"{number} " + "x" * 4000)
                    await asyncio.sleep(0)
        assert manager_tasks() == []
    finally:
        if stuck is not None:
            stuck.close()


def test_the_states_are_those_of_the_views() -> None:
    assert {channel.value for channel in STATE_CHANNELS} == {"portfolio:update", "system:health", "market:quotes"}


@pytest.mark.parametrize("fast", [True, False])
async def test_a_client_that_names_channels_hears_no_others(house: House, fast: bool) -> None:
    async with (
        served(house, fast=fast) as port,
        connect(f"ws://127.0.0.1:{port}/ws?channels=risk:alert") as alerts,
        connect(f"ws://127.0.0.1:{port}/ws?channels=portfolio:update,signal:generated") as money,
        dashboard(port) as everything,
    ):
        whole = [await hear(each) for each in (alerts, money, everything)]
        assert [message["channel"] for message in whole] == ["system:snapshot"] * 3
        assert whole[0]["cursors"] == whole[2]["cursors"]
        for turn in range(3):
            alert(house, str(turn))
            portfolio(house, turn)
            assert (await hear(alerts))["data"]["reason"] == str(turn)
            assert (await hear(money))["data"]["stale_symbols"] == [str(turn)]
            assert [(await hear(everything))["channel"] for _ in "12"] == ["risk:alert", "portfolio:update"]


@pytest.mark.parametrize("fast", [True, False])
async def test_a_client_that_names_channels_resumes_on_these_alone(house: House, fast: bool) -> None:
    async with served(house, fast=fast) as port:
        async with connect(f"ws://127.0.0.1:{port}/ws?channels=risk:alert") as socket_:
            begun = await hear(socket_)
        alert(house, "missed")
        portfolio(house, 1)
        async with connect(f"ws://127.0.0.1:{port}/ws?channels=risk:alert&resume") as socket_:
            cursors = {name: {"epoch": begun["epoch"], "offset": at} for name, at in begun["cursors"].items()}
            await socket_.send(json.dumps({"type": "resume", "cursors": cursors}))
            assert await hear(socket_) == {"type": "resumed", "recovered": True, "epoch": begun["epoch"], "missed": 1}
            assert (await hear(socket_))["data"]["reason"] == "missed"
            portfolio(house, 2)
            alert(house, "next")
            assert (await hear(socket_))["data"]["reason"] == "next"


@pytest.mark.parametrize("fast", [True, False])
async def test_a_channel_that_is_not_there_is_named_in_the_refusal(house: House, fast: bool) -> None:
    async with served(house, fast=fast) as port, connect(f"ws://127.0.0.1:{port}/ws?channels=risk:alarm") as socket_:
        with pytest.raises(ConnectionClosed) as closed:
            await hear(socket_)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, "risk:alarm" in closed.value.rcvd.reason) == (1008, True)
