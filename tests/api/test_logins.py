"""People at the door: logging in, roles, sessions that end, and how often it may be tried."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import pytest
from argon2 import PasswordHasher
from tests.api.house import House, http_client, served
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from trueup.api.identity import Identity, Role
from trueup.api.sessions import AGE_MAX, IDLE, SESSIONS_MAX, Passwords, Sessions, Tries, User
from trueup.runtime.clock import SystemClock

_QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
USERS = (
    User(name="vera", role=Role.VIEWER, password_hash=_QUICK.hash("look, not touch")),
    User(name="oleg", role=Role.OPERATOR, password_hash=_QUICK.hash("touch and look")),
)
VERA = {"name": "vera", "password": "look, not touch"}
OLEG = {"name": "oleg", "password": "touch and look"}
ORDER = {"symbol": "AAPL", "side": "BUY", "quantity": 10}


class HandClock(SystemClock):
    """Moves when told."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def now(self):  # type: ignore[no-untyped-def]
        return super().now() + timedelta(seconds=self.passed)


async def test_a_viewer_sees_everything_and_changes_nothing(house: House) -> None:
    async with http_client(house, users=USERS) as client:
        assert (await client.get("/api/orders")).status_code == 401
        assert (await client.post("/login", json=VERA)).json() == {"name": "vera", "role": "viewer"}
        assert (await client.get("/api/orders")).status_code == 200
        for method, path in (
            ("POST", "/api/orders"),
            ("POST", "/api/kill"),
            ("POST", "/api/resume"),
            ("POST", "/api/reconcile"),
            ("DELETE", "/api/orders/o-1"),
            ("PATCH", "/api/orders/o-1"),
            ("DELETE", "/api/sessions/x"),
        ):
            answer = await client.request(method, path, json=ORDER)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert house.orders_sent() == 0
    assert not house.sequencer.belief.gate.kill.killed


async def test_an_operator_acts(house: House) -> None:
    async with http_client(house, users=USERS) as client:
        await client.post("/login", json=OLEG)
        assert (await client.post("/api/orders", json=ORDER)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [{"name": "vera", "password": "x"}, {"name": "nobody", "password": "x"}, {"name": "vera"}, {}, {"token": ""}],
)
async def test_what_is_not_right_opens_nothing(house: House, body: dict[str, str]) -> None:
    async with http_client(house, users=USERS) as client:
        answer = await client.post("/login", json=body)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": 1}', b"[" * 2000, b"x" * 5000, b'{"name": "\xff"}'])
async def test_a_login_that_makes_no_sense(house: House, body: bytes) -> None:
    async with http_client(house, users=USERS) as client:
        assert (await client.post("/login", content=body)).status_code == 400


async def test_guessing_is_slowed_down_and_a_kill_never_is(house: House) -> None:
    async with http_client(house, users=USERS, token="correct-horse-battery", commands_per_minute=2) as client:
        codes = [(await client.post("/login", json={"name": "vera", "password": "x"})).status_code for _ in range(7)]
        assert codes == [401] * 5 + [429] * 2
        assert (await client.post("/login", json=VERA)).status_code == 429
        bearer = {"Authorization": "Bearer correct-horse-battery"}
        codes = [(await client.post("/api/resume", json={"reason": "r"}, headers=bearer)).status_code for _ in range(4)]
        assert codes[2:] == [429, 429]
        for _ in range(5):
            assert (await client.post("/api/kill", headers=bearer)).status_code == 200


async def test_a_page_of_another_origin_cannot_log_anyone_in(house: House) -> None:
    async with http_client(house, users=USERS) as client:
        answer = await client.post("/login", data=OLEG, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_logging_out_and_revoking_close_what_was_opened(house: House) -> None:
    async with served(house, users=USERS) as port:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base) as vera, httpx.AsyncClient(base_url=base) as oleg:
            for person, login in ((vera, VERA), (oleg, OLEG)):
                assert (await person.post("/login", json=login)).status_code == 200
            sockets = []
            for person in (vera, oleg):
                cookie = {"Cookie": f"trueup_session={person.cookies['trueup_session']}"}
                socket_ = await connect(f"ws://127.0.0.1:{port}/ws", additional_headers=cookie, max_queue=None)
                assert json.loads(await socket_.recv())["channel"] == "system:snapshot"
                sockets.append(socket_)
            listed = (await oleg.get("/api/sessions")).json()
            assert [each["name"] for each in listed] == ["vera", "oleg"]
            assert vera.cookies["trueup_session"] not in json.dumps(listed)
            assert (await oleg.delete(f"/api/sessions/{listed[0]['id']}")).status_code == 204
            assert (await oleg.delete("/api/sessions/none")).status_code == 404
            assert (await vera.get("/api/health")).status_code == 401
            assert (await oleg.post("/logout")).status_code == 204
            for socket_ in sockets:
                with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - what was on its way comes first
                    async with asyncio.timeout(30):
                        while True:
                            await socket_.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008


async def test_a_session_ends_by_silence_and_by_age() -> None:
    clock = HandClock()
    made = iter(f"secret-{number}" for number in range(10_000))
    sessions = Sessions(clock, lambda: next(made))
    idle = await sessions.open(Identity(name="a", role=Role.VIEWER))
    clock.passed += IDLE.total_seconds() + 1
    assert await sessions.find(idle) is None
    busy = await sessions.open(Identity(name="a", role=Role.VIEWER))
    ended: list[str] = []
    sessions.on_end = ended.append
    steps = 0
    while await sessions.find(busy) is not None:
        clock.passed += 600
        steps += 1
    assert abs(steps * 600 - AGE_MAX.total_seconds()) <= 600
    assert len(ended) == 1
    for _ in range(SESSIONS_MAX + 50):
        await sessions.open(Identity(name="a", role=Role.VIEWER))
    assert len(await sessions.listed()) == SESSIONS_MAX


async def test_a_session_that_nobody_shows_ends_by_itself() -> None:
    clock = HandClock()
    sessions = Sessions(clock, lambda: "a-secret-long-enough")
    await sessions.open(Identity(name="a", role=Role.VIEWER))
    (session,) = await sessions.listed()
    ended: list[str] = []
    sessions.on_end = ended.append
    pauses = 0

    async def sleep(seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        clock.passed += IDLE.total_seconds() * 0.6
        if pauses <= 4:
            assert sessions.holds(session.id)  # an open connection that speaks keeps it
        await asyncio.sleep(0)

    clock.sleep = sleep  # type: ignore[method-assign]
    following = asyncio.create_task(sessions.follow())
    async with asyncio.timeout(30):
        while not ended:  # noqa: ASYNC110
            await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert ended == [session.id]
    assert 5 <= pauses <= 7
    assert not sessions.holds(session.id)


def test_tries_are_counted_by_address_and_in_all() -> None:
    clock = HandClock()
    tries = Tries(clock, each=2, together=5)
    assert [tries.allow("a") for _ in range(3)] == [True, True, False]
    assert [tries.allow(name) for name in "bcde"] == [True, True, True, False]
    clock.passed += 61
    assert tries.allow("a")


def test_a_password_is_right_for_its_own_name_only() -> None:
    passwords = Passwords(USERS)
    found = passwords.check("oleg", "touch and look")
    assert found == Identity(name="oleg", role=Role.OPERATOR)
    assert passwords.check("vera", "touch and look") is None
    assert passwords.check("", "nobody") is None
    assert Passwords(()).check("oleg", "touch and look") is None
