"""In whose name a command is journaled: at the runtime's own door, through a gateway that vouches for its people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.api.house import House, http_client, options, served
from tests.api.test_logins import OLEG, ORDER, USERS, VERA

from trueup.api.app import build_app
from trueup.api.remote import serve_remote
from trueup.bus.redis import RedisLink, RedisMirror
from trueup.core.commands import CancelOrder, Command, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.errors import BadInput
from trueup.runtime.clock import SystemClock

TOKEN = "correct-horse-battery"
GATEWAY = "gateway-horse-battery"
NAMED = {"Trueup-Acting-For": "oleg", "Trueup-Acting-Role": "operator"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def wishes(house: House) -> list[Command]:
    kinds = (SubmitOrder, CancelOrder, ReplaceOrder, Kill, Resume, Reconcile)
    return [entry.input for entry in house.journal.read(0) if isinstance(entry.input, kinds)]


async def act(client: httpx.AsyncClient, house: House) -> None:
    """One of each command."""
    submitted = await client.post("/api/orders", json=ORDER | {"type": "LIMIT", "limit_price": 100})
    assert submitted.status_code == 201, submitted.text
    place = f"/api/orders/{submitted.json()['id']}"
    await house.accept()
    assert (await client.patch(place, json={"quantity": 9})).status_code == 202
    assert (await client.delete(place)).status_code == 202
    assert (await client.post("/api/reconcile")).status_code == 202
    assert (await client.post("/api/kill", json={"reason": "enough"})).status_code == 200
    assert (await client.post("/api/resume", json={"reason": "looked"})).status_code == 200


@pytest.mark.parametrize(("who", "name"), [("cookie", "oleg"), ("token", "token"), ("local", "local")])
async def test_every_command_is_journaled_with_whose_wish_it_was(house: House, who: str, name: str) -> None:
    closed = {} if who == "local" else {"users": USERS, "token": TOKEN}
    async with http_client(house, **closed) as client:
        if who == "cookie":
            assert (await client.post("/login", json=OLEG)).status_code == 200
        elif who == "token":
            client.headers.update(bearer(TOKEN))
        await act(client, house)
        told = (await client.get("/api/snapshot")).json()
    found = wishes(house)
    assert [type(each) for each in found] == [SubmitOrder, ReplaceOrder, CancelOrder, Reconcile, Kill, Resume]
    assert {each.asked_by for each in found} == {name}
    assert told["kill_switch"]["asked_by"] == name
    assert told["kill_switch"]["operator"] == "human"


async def test_an_orders_story_says_who_asked(house: House) -> None:
    async with http_client(house, users=USERS) as client:
        await client.post("/login", json=OLEG)
        order_id = (await client.post("/api/orders", json=ORDER)).json()["id"]
        await client.delete(f"/api/orders/{order_id}")
        story = (await client.get(f"/api/orders/{order_id}")).json()["timeline"]
    intents = [line["text"] for line in story if line["event"] in ("intent", "cancel_intent")]
    assert len(intents) == 2
    assert all(text.endswith("asked for by oleg") for text in intents)


async def test_a_gateway_is_believed_about_whom_it_asks_for(house: House) -> None:
    async with http_client(house, gateway_token=GATEWAY) as client:
        client.headers.update(bearer(GATEWAY))
        named = {"Trueup-Acting-For": "zo%C3%AB", "Trueup-Acting-Role": "operator"}
        assert (await client.post("/api/kill", headers=named)).status_code == 200
        looking = {"Trueup-Acting-For": "vera", "Trueup-Acting-Role": "viewer"}
        assert (await client.get("/api/orders", headers=looking)).status_code == 200
        refused = await client.post("/api/resume", json={"reason": "r"}, headers=looking)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        # Without a name it is nobody, and may look.
        assert (await client.get("/api/orders")).status_code == 200
        assert (await client.post("/api/resume", json={"reason": "r"})).status_code == 403
    assert [each.asked_by for each in wishes(house)] == ["zoë"]


@pytest.mark.parametrize("shown", ["token", "cookie", "nothing"])
async def test_nobody_else_may_speak_for_another(house: House, shown: str) -> None:
    async with http_client(house, users=USERS, token=TOKEN, gateway_token=GATEWAY) as client:
        if shown == "token":
            client.headers.update(bearer(TOKEN))
        elif shown == "cookie":
            await client.post("/login", json=VERA)
        for headers in (NAMED, {"Trueup-Acting-For": "oleg"}, {"Trueup-Acting-Role": "operator"}):
            answer = await client.post("/api/kill", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_a_gateway")
    assert wishes(house) == []


async def test_this_machine_may_not_speak_for_another_either(house: House) -> None:
    async with http_client(house) as client:
        assert (await client.post("/api/kill", headers=NAMED)).status_code == 403
        assert (await client.post("/api/kill")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Trueup-Acting-For", "oleg")],
        [("Trueup-Acting-Role", "operator")],
        [("Trueup-Acting-For", ""), ("Trueup-Acting-Role", "operator")],
        [("Trueup-Acting-For", "a%0Ab"), ("Trueup-Acting-Role", "operator")],
        [("Trueup-Acting-For", "x" * 129), ("Trueup-Acting-Role", "operator")],
        [("Trueup-Acting-For", "oleg"), ("Trueup-Acting-Role", "owner")],
        [("Trueup-Acting-For", "oleg"), ("Trueup-Acting-For", "vera"), ("Trueup-Acting-Role", "operator")],
        [("Trueup-Acting-For", "oleg"), ("Trueup-Acting-Role", "viewer"), ("Trueup-Acting-Role", "operator")],
    ],
)
async def test_a_name_that_makes_no_sense_is_nobody(house: House, headers: list[tuple[str, str]]) -> None:
    async with http_client(house, gateway_token=GATEWAY) as client:
        answer = await client.post("/api/kill", headers=[*headers, ("Authorization", f"Bearer {GATEWAY}")])
        assert answer.status_code == 403
    assert wishes(house) == []


async def test_with_a_gateway_token_alone_nobody_else_gets_in(house: House) -> None:
    async with http_client(house, gateway_token=GATEWAY) as client:
        assert (await client.get("/api/orders")).status_code == 401
        assert (await client.get("/api/orders", headers=bearer(GATEWAY[:-1]))).status_code == 401
        assert (await client.post("/login", json={"token": GATEWAY})).status_code == 401


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"gateway_token": "short"}, "at least 16"),
        ({"token": TOKEN, "gateway_token": TOKEN}, "must not be the token"),
    ],
)
async def test_a_credential_that_would_not_do(house: House, wrong: dict[str, str], right: str) -> None:
    with pytest.raises(BadInput, match=right) as refused:
        build_app(house, options(**wrong))
    assert refused.value.field == "gateway_token"


@asynccontextmanager
async def gateway_before(port: int, credential: str, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway process's whole app before a runtime; there is no Redis, and none is needed for commands."""
    link = RedisLink(url="redis://127.0.0.1:9/0", clock=SystemClock(), jitter=lambda: 0.5)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_remote(
            RedisMirror(link),
            link.clock,
            options(**{"port": 0} | changes),
            runtime_url=f"http://127.0.0.1:{port}",
            credential=credential,
            ready=listening.set_result,
        )
    )
    try:
        async with asyncio.timeout(30):
            base_url = f"http://127.0.0.1:{await listening}"
        async with httpx.AsyncClient(base_url=base_url) as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_command_through_a_gateway_is_journaled_as_the_persons(house: House) -> None:
    async with (
        served(house, token=TOKEN, gateway_token=GATEWAY) as port,
        gateway_before(port, GATEWAY, users=USERS, token=TOKEN) as client,
    ):
        await client.post("/login", json=OLEG)
        # What a browser says of itself is refused at the gateway, and goes no further.
        forged = {"Trueup-Acting-For": "vera", "Trueup-Acting-Role": "operator"}
        assert (await client.post("/api/kill", headers=forged)).status_code == 403
        await act(client, house)
        client.cookies.clear()
        assert (await client.post("/api/kill", headers=bearer(TOKEN))).status_code == 200
        # Nor can the gateways' credential be shown to a gateway.
        assert (await client.post("/api/kill", headers=bearer(GATEWAY) | NAMED)).status_code in (401, 403)
    assert [each.asked_by for each in wishes(house)] == ["oleg"] * 6 + ["token"]


async def test_a_gateway_without_the_credential_acts_as_the_token(house: House) -> None:
    async with (
        served(house, token=TOKEN) as port,
        gateway_before(port, "", users=USERS, token=TOKEN) as client,
        gateway_before(port, GATEWAY, users=USERS, token=TOKEN) as unknown,
    ):
        await client.post("/login", json=OLEG)
        assert (await client.post("/api/kill")).status_code == 200
        await unknown.post("/login", json=OLEG)
        refused = await unknown.post("/api/kill")
        assert refused.status_code == 502
        assert "TRUEUP_GATEWAY_TOKEN" in refused.json()["error"]["message"]
    assert [each.asked_by for each in wishes(house)] == ["token"]
