"""Questions after the fact over HTTP: the journal answers, also for an order that belief has left to it."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest
from argon2 import PasswordHasher
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from tests.api.house import House, http_client, running_house

from trueup.api.identity import Role
from trueup.api.sessions import User
from trueup.bus import codec
from trueup.core import belief as belief_module
from trueup.errors import Busy
from trueup.journal.memory import MemoryJournal
from trueup.runtime.explain import divergences, explain

LIMIT = {"symbol": "AAPL", "side": "BUY", "quantity": 10, "type": "LIMIT", "limit_price": "178.42"}


class FromMemory:
    """The answers of a journal in memory."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self.is_busy = False

    async def explain(self, order_id: str, at: datetime | None) -> bytes | None:
        if self.is_busy:
            raise Busy("4 questions to the journal wait already")
        told = explain(self._journal, order_id, at=at)
        return None if told is None else codec.encode(told)

    async def divergences(self) -> bytes:
        return codec.encode(divergences(self._journal))


async def finished(house: House, client: httpx.AsyncClient) -> str:
    """An order that was submitted and filled; its id."""
    placed = (await client.post("/api/orders", json=LIMIT)).json()
    await house.fill(await house.accept())
    return str(placed["id"])


async def test_an_order_is_explained_at_a_moment(house: House) -> None:
    async with http_client(house, history=FromMemory(house.journal)) as client:
        placed = (await client.post("/api/orders", json=LIMIT)).json()
        before = house.now
        broker_id = await house.accept()
        answer = await client.get(f"/api/explain/{broker_id}", params={"at": before.isoformat()})
        assert answer.status_code == 200, answer.text
        story = answer.json()
        assert story["detail"] == (await client.get(f"/api/orders/{placed['id']}")).json()
        assert story["moment"]["order"]["detail"] == "PENDING_NEW"
        assert [deed["what"] for deed in story["deeds"]] == [f"sent the order as {placed['client_order_id']}"]
        drifts = (await client.get("/api/divergences")).json()
        assert (drifts["drifts"], len(drifts["gaps"])) == ([], 1)


async def test_what_is_answered_is_what_the_description_promises(house: House) -> None:
    async with http_client(house, history=FromMemory(house.journal)) as client:
        placed = await finished(house, client)
        await house.lose_feed()
        described = (await client.get("/openapi.json")).json()
        validate(described)
        story = await client.get(f"/api/explain/{placed}", params={"at": house.now.isoformat()})
        for path, answer in (
            ("/api/explain/{order_id}", story),
            ("/api/divergences", await client.get("/api/divergences")),
        ):
            content = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            schema = {**content["schema"], "components": described["components"]}
            Draft202012Validator(schema).validate(answer.json())
        told = story.json()
        assert [line["told"] for line in told["detail"]["timeline"]][:2] == [
            "order allowed, to be sent",
            "broker's answer to our request",
        ]
        assert told["beliefs"][-1]["filled_quantity"] == 10
        assert told["beliefs"][-1]["position"] == 10
        assert told["moment"]["position"] == 10


async def test_who_may_only_look_may_ask(house: House) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    vera = User(name="vera", role=Role.VIEWER, password_hash=quick.hash("look, not touch"))
    async with http_client(house, history=FromMemory(house.journal), users=(vera,)) as client:
        assert (await client.get("/api/divergences")).status_code == 401
        await client.post("/login", json={"name": "vera", "password": "look, not touch"})
        assert (await client.get("/api/divergences")).status_code == 200
        assert (await client.get("/api/explain/o-9")).json()["error"]["code"] == "unknown_order"


async def test_what_can_not_be_answered_is_refused_by_name(house: House) -> None:
    history = FromMemory(house.journal)
    async with http_client(house, history=history) as client:
        unknown = await client.get("/api/explain/o-999")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_order")
        wrong = await client.get("/api/explain/o-1", params={"at": "noon"})
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "at")
        history.is_busy = True
        busy = await client.get("/api/explain/o-1")
        assert (busy.status_code, busy.json()["error"]["code"]) == (503, "busy")


async def test_an_order_that_belief_has_left_is_told_from_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 1)
    async with running_house() as house, http_client(house, history=FromMemory(house.journal)) as client:
        await house.start()
        first = await finished(house, client)
        told = (await client.get(f"/api/orders/{first}")).json()
        for _ in range(3):
            await finished(house, client)
        assert first not in house.sequencer.belief.orders
        for name in (first, told["order"]["client_order_id"], told["order"]["broker_order_id"]):
            answer = await client.get(f"/api/orders/{name}")
            assert answer.status_code == 200, answer.text
            assert answer.json() == told
        assert (await client.get("/api/orders/o-999")).status_code == 404
        async with http_client(house) as without:
            assert (await without.get(f"/api/orders/{first}")).status_code == 404
