"""The client for scripts, against a real gateway: it follows, resumes through a restart, and says when it could not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from tests.api.house import House, running_house, served

from trueup.client import Event, connect
from trueup.core.views import RiskAlertView
from trueup.errors import BadCredentials, BadInput

SECONDS = 60


def alert(house: House, number: str) -> None:
    view = RiskAlertView(
        type="test",
        severity="info",
        reason=number,
        symbol=None,
        current_value=Decimal("6.20"),
        limit_value=None,
        timestamp=house.now,
    )
    house.bus.publish("risk:alert", view, house.now)


async def following(events: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(SECONDS):
        return await anext(events)


async def test_it_resumes_through_a_restart_of_the_gateway_without_loss_or_repetition() -> None:
    async with running_house() as house:
        async with served(house) as port:
            client = connect(f"http://127.0.0.1:{port}")
            events = client.events("system:snapshot", "risk:alert")
            assert (await following(events)).channel == "system:snapshot"
            for number in "12":
                alert(house, number)
                event = await following(events)
                assert (event.data["reason"], event.offset, event.epoch) == (number, int(number), "bus-1")
            assert event.data["current_value"] == Decimal("6.20")
            assert str(event.data["current_value"]) == "6.20"
            waiting = asyncio.ensure_future(following(events))
        alert(house, "3")
        alert(house, "4")
        async with served(house, port=port):
            assert (await waiting).data["reason"] == "3"
            assert (await following(events)).data["reason"] == "4"
            assert client.recovered is True
            await events.aclose()  # type: ignore[attr-defined]


async def test_another_life_of_the_bus_comes_as_a_snapshot() -> None:
    async with running_house() as first, served(first) as port:
        client = connect(f"ws://127.0.0.1:{port}/ws")
        events = client.events("system:snapshot", "risk:alert")
        await following(events)
        alert(first, "1")
        await following(events)
        waiting = asyncio.ensure_future(following(events))
        first.bus.begin("bus-2")
        assert (await waiting).channel == "system:snapshot"
        alert(first, "1")
        assert ((await following(events)).epoch, client.recovered) == ("bus-2", None)
        await events.aclose()  # type: ignore[attr-defined]


async def test_two_loops_of_one_client_hear_everything_that_each_asked_for() -> None:
    async with running_house() as house, served(house) as port:
        async with connect(f"http://127.0.0.1:{port}") as client:
            alerts, everything = client.events("system:snapshot", "risk:alert"), client.events()
            for events in (alerts, everything):
                assert (await following(events)).channel == "system:snapshot"
            alert(house, "1")
            for events in (alerts, everything):
                assert (await following(events)).data["reason"] == "1"
        for events in (alerts, everything):
            with pytest.raises(StopAsyncIteration):
                await following(events)


async def test_whoever_may_not_listen_is_told(house_with_token: int) -> None:
    with pytest.raises(BadCredentials):
        await following(connect(f"http://127.0.0.1:{house_with_token}", token="wrong").events())
    events = connect(f"http://127.0.0.1:{house_with_token}", token="correct-horse-battery").events()
    assert (await following(events)).channel == "system:snapshot"
    await events.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def house_with_token() -> AsyncIterator[int]:
    async with running_house() as house, served(house, token="correct-horse-battery") as port:
        yield port


async def test_what_cannot_be_followed_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="web address"):
        connect("trueup")
    with pytest.raises(BadInput, match="no channel 'moon:phase'"):
        await following(connect().events("moon:phase"))
