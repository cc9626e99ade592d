"""Questions and commands over HTTP: what is answered, and what is said when it can't be."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from tests.api.house import House, http_client, running_house

from trueup.core.commands import SubmitOrder
from trueup.core.events import SnapshotFailed
from trueup.core.model import OrderStatus, Quote, Source, Symbol

LIMIT = {"symbol": "AAPL", "side": "BUY", "quantity": 10, "type": "LIMIT", "limit_price": "178.42"}


def error(answer: httpx.Response) -> tuple[int, str, str]:
    told = answer.json()["error"]
    assert set(told) == {"code", "message", "field"}
    assert told["message"]
    return answer.status_code, told["code"], told["field"]


# --- submitting ---


async def test_a_new_order_is_journaled_decided_and_sent(house: House, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/orders", json=LIMIT)
    assert answer.status_code == 201
    row = answer.json()
    assert (row["symbol"], row["side"], row["type"], row["status"]) == ("AAPL", "BUY", "LIMIT", "PENDING")
    assert (row["quantity"], row["limit_price"], row["broker_order_id"]) == (10, 178.42, None)
    assert house.orders_sent() == 1
    last = list(house.journal.read())[-1].input
    assert isinstance(last, SubmitOrder)
    assert (last.quantity, last.limit_price) == (Decimal(10), Decimal("178.42"))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('"0.100"', "0.100"),
        ("0.1", "0.1"),
        ("123456789012345.123456789", "123456789012345.123456789"),
        ('"7"', "7"),
        ('" 7 "', "7"),
        ("7.0", "7.0"),
    ],
)
async def test_no_amount_passes_through_a_float(house: House, client: httpx.AsyncClient, sent: str, kept: str) -> None:
    body = f'{{"symbol":"AAPL","side":"sell","quantity":{sent}}}'
    answer = await client.post("/api/orders", content=body, headers={"Content-Type": "application/json"})
    last = list(house.journal.read())[-1].input
    assert isinstance(last, SubmitOrder), answer.text
    assert str(last.quantity) == kept
    assert f'"quantity":{kept},' in answer.text


async def test_words_may_be_written_in_any_case(house: House, client: httpx.AsyncClient) -> None:
    body = {
        "symbol": " brk.b ",
        "side": "buy",
        "quantity": "1",
        "type": "stop-limit",
        "limit_price": 2,
        "stop_price": 2.5,
        "time_in_force": "gtc",
    }
    row = (await client.post("/api/orders", json=body)).json()
    assert (row["symbol"], row["side"], row["type"], row["time_in_force"]) == ("BRK.B", "BUY", "STOP_LIMIT", "GTC")


async def test_the_price_that_was_seen_goes_with_the_command(house: House, client: httpx.AsyncClient) -> None:
    symbol = Symbol("AAPL")
    house.quotes.newest[symbol] = Quote(symbol=symbol, bid=Decimal("178.40"), ask=Decimal("178.44"), at=house.now)
    await client.post("/api/orders", json=LIMIT)
    last = list(house.journal.read())[-1].input
    assert isinstance(last, SubmitOrder)
    assert last.reference_price == Decimal("178.42")


BAD = [
    ({"symbol": ""}, "symbol", "must be a symbol such as AAPL"),
    ({"symbol": 7}, "symbol", "must be a symbol such as AAPL"),
    ({"symbol": "../etc"}, "symbol", "must be a symbol such as AAPL"),
    ({"side": "HOLD"}, "side", "one of BUY, SELL"),
    ({"side": None}, "side", "one of BUY, SELL"),
    ({"quantity": 0}, "quantity", "greater than 0"),
    ({"quantity": -5}, "quantity", "greater than 0"),
    ({"quantity": "ten"}, "quantity", "must be a number"),
    ({"quantity": True}, "quantity", "must be a number"),
    ({"quantity": None}, "quantity", "must be a number"),
    ({"quantity": [1]}, "quantity", "must be a number"),
    ({"quantity": "1e5"}, "quantity", "must be a number"),
    ({"quantity": "0.0000000001"}, "quantity", "at most 9 decimal places"),
    ({"quantity": "1" + "0" * 15}, "quantity", "15 digits"),
    ({"limit_price": "-1"}, "limit_price", "greater than 0"),
    ({"type": "TRAILING_STOP"}, "type", "one of MARKET, LIMIT, STOP, STOP_LIMIT"),
    ({"type": {"a": 1}}, "type", "one of MARKET"),
    ({"time_in_force": "forever"}, "time_in_force", "one of DAY, GTC"),
    ({"client_order_id": "a b"}, "client_order_id", "without spaces"),
    ({"client_order_id": "x" * 129}, "client_order_id", "1 to 128"),
    ({"client_order_id": "tu-memory-9"}, "client_order_id", "coined here"),
    ({"qty": 5}, "qty", "did you mean quantity?"),
    ({"extended_hours": "perhaps"}, "extended_hours", "boolean"),
]


@pytest.mark.parametrize(("change", "field", "right"), BAD)
async def test_what_cannot_be_an_order_is_refused_by_field(
    house: House, client: httpx.AsyncClient, change: dict[str, Any], field: str, right: str
) -> None:
    before = house.journal.last_offset()
    answer = await client.post("/api/orders", json=LIMIT | change)
    assert error(answer) == (422, "bad_input", field)
    message = answer.json()["error"]["message"]
    assert right in message
    assert field in message
    assert house.journal.last_offset() == before
    assert house.orders_sent() == 0


@pytest.mark.parametrize("name", ["symbol", "side", "quantity"])
async def test_what_is_missing_is_named(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/api/orders", json={key: value for key, value in LIMIT.items() if key != name})
    assert error(answer) == (422, "bad_input", name)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ('{"symbol": "AAPL"', "application/json", 400),
        ('{"symbol": NaN}', "application/json", 400),
        ("", "application/json", 422),
        ("[]", "application/json", 422),
        ('"AAPL"', "application/json", 422),
        ("symbol=AAPL", "application/x-www-form-urlencoded", 422),
    ],
)
async def test_a_body_that_is_no_object_is_refused(
    client: httpx.AsyncClient, body: str, kind: str, status: int
) -> None:
    answer = await client.post("/api/orders", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]["field"] == "body"
    assert "JSON" in answer.json()["error"]["message"]


async def test_a_denied_order_says_why_and_stays_in_the_books(house: House, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/orders", json=LIMIT | {"type": "MARKET"})
    assert error(answer) == (422, "unexpected_limit_price", "limit_price")
    row = answer.json()["order"]
    assert (row["status"], row["detail"]) == ("REJECTED", "DENIED")
    assert row["id"] in [listed["id"] for listed in (await client.get("/api/orders")).json()]
    assert house.orders_sent() == 0


async def test_entries_are_denied_while_the_stream_is_down(house: House, client: httpx.AsyncClient) -> None:
    await house.lose_feed()
    answer = await client.post("/api/orders", json=LIMIT)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "entries_gated"
    assert "reduce" in answer.json()["error"]["message"]
    assert house.orders_sent() == 0


# --- submitting twice ---


async def test_repeating_a_submit_sends_nothing_twice(house: House, client: httpx.AsyncClient) -> None:
    body = LIMIT | {"client_order_id": "mine-1"}
    first = await client.post("/api/orders", json=body)
    offset = house.journal.last_offset()
    again = await client.post("/api/orders", json=body | {"quantity": "10.0", "side": "buy"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert (house.orders_sent(), house.journal.last_offset()) == (1, offset)


async def test_of_many_at_once_one_is_sent(house: House, client: httpx.AsyncClient) -> None:
    body = LIMIT | {"client_order_id": "mine-1"}
    answers = await asyncio.gather(*(client.post("/api/orders", json=body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert house.orders_sent() == 1


@pytest.mark.parametrize(
    "change", [{"quantity": 11}, {"side": "SELL"}, {"symbol": "MSFT"}, {"limit_price": 1}, {"time_in_force": "GTC"}]
)
async def test_another_order_under_the_same_id_is_a_conflict(
    house: House, client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    await client.post("/api/orders", json=LIMIT | {"client_order_id": "mine-1"})
    answer = await client.post("/api/orders", json=LIMIT | {"client_order_id": "mine-1"} | change)
    assert error(answer) == (409, "client_order_id_used", "client_order_id")
    assert next(iter(change)) in answer.json()["error"]["message"]
    assert house.orders_sent() == 1


async def test_a_denied_order_is_denied_again(house: House, client: httpx.AsyncClient) -> None:
    body = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "type": "LIMIT", "client_order_id": "mine-2"}
    first, again = [await client.post("/api/orders", json=body) for _ in range(2)]
    assert first.status_code == again.status_code == 422
    assert first.json()["order"]["id"] == again.json()["order"]["id"]
    assert first.json()["error"]["message"] == again.json()["error"]["message"]


# --- the life of an order ---


async def test_an_order_is_found_by_each_of_its_ids(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT | {"client_order_id": "desk/1"})).json()
    broker_id = await house.accept()
    for any_id in (row["id"], "desk/1", "desk%2F1", broker_id):
        detail = (await client.get(f"/api/orders/{any_id}")).json()
        assert detail["order"]["id"] == row["id"]
        assert detail["order"]["broker_order_id"] == broker_id
        assert detail["timeline"][0]["source"] == "command"
    assert error(await client.get("/api/orders/nobody")) == (404, "unknown_order", "id")


async def test_a_fill_shows_everywhere(house: House, client: httpx.AsyncClient) -> None:
    await client.post("/api/orders", json=LIMIT)
    await house.fill(await house.accept())
    (order,) = (await client.get("/api/orders")).json()
    assert (order["status"], order["filled_quantity"], order["source"]) == ("FILLED", 10, "stream")
    (execution,) = (await client.get("/api/executions")).json()
    assert (execution["quantity"], execution["entry_price"], execution["source"]) == (10, 178.42, "stream")
    (position,) = (await client.get("/api/positions")).json()
    assert (position["symbol"], position["quantity"]) == ("AAPL", 10)
    portfolio = (await client.get("/api/portfolio")).json()
    assert portfolio["cash"] == 98215.8
    assert (await client.get("/api/orders", params={"status": "working"})).json() == []


async def test_lists_can_be_narrowed(house: House, client: httpx.AsyncClient) -> None:
    for _ in range(4):
        await client.post("/api/orders", json=LIMIT)
    await house.fill(await house.accept(0))
    ids = [row["id"] for row in (await client.get("/api/orders")).json()]
    assert len(ids) == 4
    assert [row["id"] for row in (await client.get("/api/orders", params={"limit": 2})).json()] == ids[:2]
    working = (await client.get("/api/orders", params={"status": "working"})).json()
    assert [row["id"] for row in working] == ids[:3]
    assert error(await client.get("/api/orders", params={"limit": 0})) == (422, "bad_input", "limit")
    assert error(await client.get("/api/orders", params={"status": "dead"})) == (422, "bad_input", "status")


async def test_a_cancel_is_asked_for(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT)).json()
    broker_id = await house.accept()
    answer = await client.delete(f"/api/orders/{broker_id}")
    assert answer.status_code == 202
    assert answer.json()["id"] == row["id"]
    assert [type(effect).__name__ for effect in house.sent][-1] == "SendCancel"
    assert error(await client.delete("/api/orders/nobody")) == (404, "unknown_order", "id")


async def test_a_cancel_passes_while_the_stream_is_down(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT)).json()
    await house.accept()
    await house.lose_feed()
    assert (await client.delete(f"/api/orders/{row['id']}")).status_code == 202
    assert [type(effect).__name__ for effect in house.sent][-1] == "SendCancel"


async def test_what_is_over_cannot_be_cancelled(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT)).json()
    await house.fill(await house.accept())
    assert error(await client.delete(f"/api/orders/{row['id']}"))[:2] == (409, "order_is_final")


async def test_new_terms_are_asked_for(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT)).json()
    path = f"/api/orders/{row['id']}"
    assert error(await client.patch(path, json={"quantity": 5}))[:2] == (409, "order_busy")
    await house.accept()
    answer = await client.patch(path, json={"quantity": 5, "limit_price": "170.5"})
    assert answer.status_code == 202
    assert type(house.sent[-1]).__name__ == "SendReplace"
    assert error(await client.patch(path, json={"side": "SELL"})) == (422, "bad_input", "side")
    assert error(await client.patch("/api/orders/nobody", json={"quantity": 5})) == (404, "unknown_order", "id")


async def test_terms_that_change_nothing_are_refused(house: House, client: httpx.AsyncClient) -> None:
    row = (await client.post("/api/orders", json=LIMIT)).json()
    await house.accept()
    assert error(await client.patch(f"/api/orders/{row['id']}", json={}))[:2] == (422, "nothing_to_change")


# --- kill, resume, reconcile ---


async def test_kill_and_resume(house: House, client: httpx.AsyncClient) -> None:
    await client.post("/api/orders", json=LIMIT)
    await house.accept()
    killed = await client.post("/api/kill", json={"reason": "unusual market"})
    assert killed.status_code == 200
    assert (killed.json()["action"], killed.json()["state"], killed.json()["reason"]) == (
        "activate",
        "KILLED",
        "unusual market",
    )
    assert "SendCancel" in [type(effect).__name__ for effect in house.sent]
    denied = await client.post("/api/orders", json=LIMIT)
    assert error(denied)[:2] == (422, "killed")
    assert error(await client.post("/api/resume", json={})) == (422, "bad_input", "reason")
    assert error(await client.post("/api/resume", json={"reason": "  "})) == (422, "bad_input", "reason")
    resumed = await client.post("/api/resume", json={"reason": "it was nothing"})
    assert (resumed.json()["action"], resumed.json()["state"]) == ("deactivate", "ACTIVE")


@pytest.mark.parametrize("body", [b"", b"{", b"now!", b'{"reason": 7}', b'["x"]', b"\xff", b'{"reason": "", "x": 1}'])
async def test_a_kill_is_never_refused_over_its_words(house: House, client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/api/kill", content=body)
    assert answer.status_code == 200
    assert answer.json()["state"] == "KILLED"
    assert answer.json()["reason"] == "no reason given"


async def test_a_long_reason_is_cut_not_refused(house: House, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/kill", json={"reason": "why? " * 1000})
    assert answer.json()["reason"].startswith("why? why?")
    assert len(answer.json()["reason"]) <= 300


async def test_a_reconciliation_is_asked_for(house: House, client: httpx.AsyncClient) -> None:
    asked = house.snapshots_asked()
    answer = await client.post("/api/reconcile")
    assert answer.status_code == 202
    assert answer.json()["outcome"] == "pending"
    assert house.snapshots_asked() == asked + 1


async def answered(house: House, client: httpx.AsyncClient, *events: Any) -> dict[str, Any]:
    """What a waiting reconciliation answers when these events come while it waits."""
    asked = house.snapshots_asked()
    waiting = asyncio.create_task(client.post("/api/reconcile", params={"wait": "true"}))
    async with asyncio.timeout(30):
        await house.until_snapshot_asked(asked)
        for event in events:
            await house.feed(event())
        answer = await waiting
    assert answer.status_code == 202
    told: dict[str, Any] = answer.json()
    return told


async def test_waiting_tells_that_all_is_well(house: House, client: httpx.AsyncClient) -> None:
    told = await answered(house, client, house.snapshot)
    assert (told["outcome"], told["result"], told["open_drifts"]) == ("clean", "clean", 0)
    assert told["last_reconciliation_at"] > told["requested_at"]


async def test_waiting_tells_of_a_difference(house: House, client: httpx.AsyncClient) -> None:
    await client.post("/api/orders", json=LIMIT)
    await house.fill(await house.accept())  # the snapshot's positions do not know of it
    told = await answered(house, client, house.snapshot)
    assert (told["outcome"], told["open_drifts"]) == ("drift", 1)
    (drift,) = (await client.get("/api/drifts")).json()
    assert (drift["subject"], drift["state"]) == ("AAPL", "suspected")


async def test_waiting_tells_of_a_failure(house: House, client: httpx.AsyncClient) -> None:
    told = await answered(
        house, client, lambda: SnapshotFailed(at=house.now, source=Source.RECONCILE, reason="the broker is down")
    )
    assert told["outcome"] == "failed"
    assert "the broker is down" in told["result"]


# --- health and the rest ---


async def test_alive_ready_and_how_sure(house: House, client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["status"] == "alive"
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["reasons"]) == (200, True, [])
    assert (await client.get("/api/health")).json()["status"] == "healthy"
    await house.lose_feed()
    unready = await client.get("/readyz")
    assert (unready.status_code, unready.json()["ready"]) == (503, False)
    assert any("cut by the test" in reason for reason in unready.json()["reasons"])
    assert (await client.get("/healthz")).status_code == 200
    (gap,) = [gap for gap in (await client.get("/api/gaps")).json() if gap["closed_at"] is None]
    assert gap["reason"] == "cut by the test"


async def test_not_ready_before_the_first_reconciliation() -> None:
    async with running_house() as house, http_client(house) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert any("not reconciled" in reason for reason in answer.json()["reasons"])
        health = (await client.get("/api/health")).json()
        assert (health["status"], health["truth_lag_s"]) == ("down", None)


async def test_the_snapshot_holds_what_the_questions_tell(house: House, client: httpx.AsyncClient) -> None:
    await client.post("/api/orders", json=LIMIT)
    await house.fill(await house.accept())
    picture = (await client.get("/api/snapshot")).json()
    assert picture["orders"] == (await client.get("/api/orders")).json()
    assert picture["executions"] == (await client.get("/api/executions")).json()
    assert picture["health"]["account"] == "PA1"


async def test_a_full_queue_is_said_and_harms_nothing() -> None:
    async with running_house(queue_limit=1) as house:
        await house.start()
        async with http_client(house) as client:
            answers = await asyncio.gather(*(client.post("/api/orders", json=LIMIT) for _ in range(8)))
            busy = [answer for answer in answers if answer.status_code == 503]
            taken = [answer for answer in answers if answer.status_code == 201]
            assert busy
            assert len(taken) == house.orders_sent()
            assert len(busy) + len(taken) == 8
            for answer in busy:
                assert error(answer)[:2] == (503, "busy")
                assert answer.headers["retry-after"] == "1"
            assert (await client.post("/api/kill")).status_code == 200


async def test_what_is_not_there_is_said_in_the_same_form(client: httpx.AsyncClient) -> None:
    assert error(await client.get("/api/nothing"))[:2] == (404, "not_found")
    assert error(await client.put("/api/kill"))[:2] == (405, "method_not_allowed")
    assert error(await client.get("/missing.js"))[:2] == (404, "not_found")


async def test_answers_are_not_kept_by_caches(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/health")).headers["cache-control"] == "no-store"
    text = (await client.get("/api/snapshot")).text
    assert json.loads(text)


async def test_the_statuses_that_end_an_order_are_shown(house: House, client: httpx.AsyncClient) -> None:
    await client.post("/api/orders", json=LIMIT)
    await house.fill(await house.accept())
    (row,) = (await client.get("/api/orders")).json()
    assert row["terminal"] is True
    assert row["detail"] == OrderStatus.FILLED.value
