"""Logins behind a balancer: what one gateway knows of a session all of them know, and what ends at one ends at all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.api.house import House, served
from tests.api.test_logins import OLEG, USERS, VERA, HandClock
from tests.redis_server import RedisServer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from trueup.api.identity import Identity, Role
from trueup.api.sessions import AGE_MAX, FOLLOW_S, IDLE, TELL_USE, TRIES_PER_MINUTE, Sessions
from trueup.bus.redis import RedisLink
from trueup.bus.shelf import RedisShelf
from trueup.errors import BadInput, ShelfUnreachable
from trueup.runtime.clock import SystemClock

pytestmark = pytest.mark.external_service

SECONDS = 30
KEY = b"known to gateways"
ROLES = {"vera": Role.VIEWER, "oleg": Role.OPERATOR}
WHO_OLEG = Identity(name="oleg", role=Role.OPERATOR)


def shelf(server: RedisServer) -> RedisShelf:
    return RedisShelf(RedisLink(url=server.url, clock=SystemClock(), jitter=lambda: 0.5))


def sessions(server: RedisServer, clock: HandClock | None = None, *, key: bytes = KEY, **changes: object) -> Sessions:
    made = itertools.count()
    name = id(object())
    given = {"roles": ROLES} | changes
    return Sessions(clock or HandClock(), lambda: f"secret-{name}-{next(made)}", shelf=shelf(server), key=key, **given)  # type: ignore[arg-type]


@asynccontextmanager
async def following(*all_of_them: Sessions) -> AsyncIterator[None]:
    work = [asyncio.ensure_future(each.follow()) for each in all_of_them]
    try:
        yield
    finally:
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- through the door ---


async def test_a_login_works_at_every_gateway_and_ends_at_every_gateway(
    house: House, redis_server: RedisServer
) -> None:
    def how() -> dict[str, object]:
        return {"users": USERS, "shelf": shelf(redis_server), "shelf_key": KEY}

    async with served(house, **how()) as one, served(house, **how()) as other:
        here, there = f"http://127.0.0.1:{one}", f"http://127.0.0.1:{other}"
        async with httpx.AsyncClient() as vera, httpx.AsyncClient() as oleg:
            assert (await vera.post(f"{here}/login", json=VERA)).status_code == 200
            assert (await oleg.post(f"{there}/login", json=OLEG)).status_code == 200
            # The very next request lands elsewhere.
            assert (await vera.get(f"{there}/api/health")).status_code == 200
            assert (await oleg.post(f"{here}/api/kill")).status_code == 200
            listed = (await oleg.get(f"{here}/api/sessions")).json()
            assert sorted(each["name"] for each in listed) == ["oleg", "vera"]
            cookie = {"Cookie": f"trueup_session={vera.cookies['trueup_session']}"}
            (session,) = [each["id"] for each in listed if each["name"] == "vera"]
            async with (
                connect(f"ws://127.0.0.1:{one}/ws", additional_headers=cookie) as near,
                connect(f"ws://127.0.0.1:{other}/ws", additional_headers=cookie) as far,
            ):
                # Ended by a gateway that it never logged in at.
                assert (await oleg.delete(f"{there}/api/sessions/{session}")).status_code == 204
                for socket_ in (near, far):
                    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - what was on its way comes first
                        async with asyncio.timeout(SECONDS):
                            while True:
                                await socket_.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1008
            for base in (here, there):
                assert (await vera.get(f"{base}/api/health")).status_code == 401
            assert (await oleg.post(f"{here}/logout")).status_code == 204
            oleg.cookies.set("trueup_session", "")
            assert (await oleg.get(f"{there}/api/health")).status_code == 401


async def test_guessing_is_counted_over_all_gateways(house: House, redis_server: RedisServer) -> None:
    def how() -> dict[str, object]:
        return {"users": USERS, "shelf": shelf(redis_server), "shelf_key": KEY}

    async with served(house, **how()) as one, served(house, **how()) as other, httpx.AsyncClient() as guessing:
        codes = []
        for place in range(TRIES_PER_MINUTE + 3):
            base = f"http://127.0.0.1:{(one, other)[place % 2]}"
            codes.append((await guessing.post(f"{base}/login", json={"name": "vera", "password": "x"})).status_code)
        assert codes == [401] * TRIES_PER_MINUTE + [429] * 3


async def test_while_redis_is_away_sessions_go_on_and_nobody_can_log_in(
    house: House, redis_server: RedisServer
) -> None:
    how = {"users": USERS, "token": "correct-horse-battery", "shelf": shelf(redis_server), "shelf_key": KEY}
    async with served(house, **how) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/login", json=OLEG)).status_code == 200
        redis_server.kill()
        assert (await client.post("/api/kill")).status_code == 200
        refused = await client.post("/login", json=VERA)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert "show the token" in refused.json()["error"]["message"]
        (session,) = [line for line in house.sequencer.belief.gate.reasons()]
        assert "kill switch" in session
        assert (await client.post("/logout")).status_code == 503
        assert (await client.get("/api/health")).status_code == 401


# --- between gateways ---


async def test_what_ends_elsewhere_ends_here_within_two_looks(redis_server: RedisServer) -> None:
    clock = HandClock()
    one, other = sessions(redis_server, clock), sessions(redis_server, clock)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0.001)

    clock.sleep = sleep  # type: ignore[method-assign]
    cookie = await one.open(WHO_OLEG)
    found = await other.find(cookie)
    assert found is not None
    ended: dict[str, int] = {}
    other.on_end = lambda session: ended.update({session: len(pauses)})
    async with following(other):
        await until(lambda: len(pauses) > 2)
        assert await one.revoke(found.session)
        looked = len(pauses)
        await until(lambda: bool(ended))
    assert list(ended) == [found.session]
    assert ended[found.session] - looked <= 2
    assert set(pauses) == {FOLLOW_S}
    assert 2 * FOLLOW_S < 1
    assert await other.find(cookie) is None


async def test_a_session_in_use_anywhere_does_not_idle_out(redis_server: RedisServer) -> None:
    clock = HandClock()
    one, other = sessions(redis_server, clock), sessions(redis_server, clock)
    cookie = await one.open(WHO_OLEG)
    assert await other.find(cookie) is not None
    async with following(one):
        for _ in range(4):
            clock.passed += IDLE.total_seconds() * 0.7
            assert await one.find(cookie) is not None
            mark = next(iter(one._open))
            await until(lambda mark=mark: one._open[mark].kept_at == one._open[mark].seen_at)  # type: ignore[misc]
    assert await other.find(cookie) is not None
    clock.passed += IDLE.total_seconds() + TELL_USE.total_seconds()
    assert await other.find(cookie) is None
    assert await one.find(cookie) is None
    clock.passed += AGE_MAX.total_seconds()
    assert await sessions(redis_server, clock).listed() == []


async def test_who_can_write_to_redis_can_begin_no_session(redis_server: RedisServer) -> None:
    clock = HandClock()
    one, forger = sessions(redis_server, clock), sessions(redis_server, clock, key=b"a guess")
    assert await one.find(await forger.open(WHO_OLEG)) is None
    cookie = await one.open(Identity(name="vera", role=Role.VIEWER))
    raw = shelf(redis_server)
    news = await raw.news("")
    assert news is not None
    (mark, record) = next((mark, record) for mark, record in news[1].items() if b'"vera"' in record)
    await raw.put(mark, record.replace(b'"viewer"', b'"operator"'))
    assert await sessions(redis_server, clock).find(cookie) is None
    # Nor is somebody's record good for another cookie.
    await raw.put("f" * 64, record)
    listed = await sessions(redis_server, clock).listed()
    assert listed == []
    # What was ended here does not come back, whoever lays it there again.
    session = await one.find(cookie)
    assert session is not None
    await one.revoke(session.session)
    await raw.put(mark, record)
    assert await one.listed() == []
    assert await one.find(cookie) is None
    await raw.close()


async def test_a_role_that_was_taken_away_counts_for_nothing(redis_server: RedisServer) -> None:
    before = sessions(redis_server)
    cookie = await before.open(WHO_OLEG)
    after = sessions(redis_server, roles={"oleg": Role.VIEWER})
    assert await after.find(cookie) is None
    assert await sessions(redis_server, roles={}).find(cookie) is None
    assert await sessions(redis_server).find(cookie) == await before.find(cookie)


async def test_a_redis_that_came_back_empty_ends_every_session(redis_server: RedisServer) -> None:
    one = sessions(redis_server)
    cookie = await one.open(WHO_OLEG)
    ended: list[str] = []
    one.on_end = ended.append
    async with following(one):
        redis_server.kill()
        assert await one.find(cookie) is not None
        redis_server.start()
        await until(lambda: bool(ended))
    assert await one.find(cookie) is None


async def test_an_end_that_could_not_be_told_is_told_later(redis_server: RedisServer) -> None:
    clock = HandClock()
    one, other = sessions(redis_server, clock), sessions(redis_server, clock)
    cookie = await one.open(WHO_OLEG)
    found = await other.find(cookie)
    assert found is not None
    redis_server.tell("ACL", "SETUSER", "default", "-@scripting")
    assert await sessions(redis_server, clock).find(cookie) is None  # it can't ask, and knows nothing itself
    with pytest.raises(ShelfUnreachable):
        await one.revoke(found.session)
    assert await one.find(cookie) is None
    redis_server.tell("ACL", "SETUSER", "default", "+@all")
    async with following(one):
        await until(lambda: not one._untold)
    assert await other.listed() == []


async def test_what_nobody_uses_any_more_is_cleared_away(redis_server: RedisServer) -> None:
    clock = HandClock()
    one = sessions(redis_server, clock)
    for _ in range(5):
        await one.open(WHO_OLEG)
    clock.passed += IDLE.total_seconds() + 1
    fresh, raw = sessions(redis_server, clock), shelf(redis_server)
    await fresh.open(WHO_OLEG)
    async with following(fresh):
        async with asyncio.timeout(SECONDS):
            while True:
                news = await raw.news("")
                assert news is not None
                if len(news[1]) == 1:
                    break
                await asyncio.sleep(0.01)
    await raw.close()


def test_sessions_on_a_shelf_must_be_signed(redis_server: RedisServer) -> None:
    with pytest.raises(BadInput) as refused:
        Sessions(SystemClock(), lambda: "x" * 20, shelf=shelf(redis_server), key=b"")
    assert refused.value.field == "shelf_key"
