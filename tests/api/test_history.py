"""Questions after the fact over HTTP: the journal answers, also for an order that belief has left to it."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest
from tests.api.house import House, http_client, running_house

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
