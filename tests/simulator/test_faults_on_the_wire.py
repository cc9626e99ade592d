"""Every kind of fault, seen from the client's side; the books stay right under all of them."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import MarketOrderRequest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from trueup.simulator.faults import KINDS, Kind, Target

AUTH = {"action": "auth", "key": "SIM", "secret": "SIM"}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates"]}}


async def open_stream(bench: Any) -> Any:
    socket = await connect(bench.sim.trade_updates_url)
    for message in (AUTH, LISTEN):
        await socket.send(json.dumps(message))
        await asyncio.wait_for(socket.recv(), 20)
    return socket


async def next_events(socket: Any, count: int) -> list[dict[str, Any]]:
    return [json.loads(await asyncio.wait_for(socket.recv(), 20))["data"] for _ in range(count)]


async def until_closed(socket: Any) -> list[Any]:
    """Read frames until the connection is gone; fails when it stays."""
    frames: list[Any] = []
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                frames.append(await socket.recv())
    return frames


async def truth_of(bench: Any) -> Any:
    return await bench.get("/sim/truth")


# ── trade updates ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_drop_cuts_and_refuses_until_it_ends(bench: Any) -> None:
    socket = await open_stream(bench)
    fault = await bench.fault("trade_updates", "drop", seconds=600)
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 20)
    with pytest.raises((InvalidHandshake, InvalidMessage, ConnectionError, EOFError)):
        await connect(bench.sim.trade_updates_url)
    await bench.buy()
    await bench.http.delete(f"/sim/faults/{fault}")
    again = await open_stream(bench)
    await bench.buy(symbol="F")
    assert {event["order"]["symbol"] for event in await next_events(again, 3)} == {"F"}
    await again.close()


async def test_drop_with_a_match_cuts_at_that_event_and_loses_it(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "drop", count=1, match={"event": "fill"})
    await bench.buy()
    assert b'"event":"fill"' not in b"".join(await until_closed(socket))
    assert (await truth_of(bench))["positions"] == {"AAPL": "10"}


async def test_the_vendors_stream_comes_back_after_a_drop(bench: Any, listen: Any, until: Any) -> None:
    listener = await listen(bench)
    await bench.fault("trade_updates", "drop", count=1)
    await until(lambda: bench.sim.listeners == 0)
    await bench.buy(client_order_id="lost")
    await until(lambda: bench.sim.listeners == 1)
    await bench.buy(client_order_id="seen")
    await until(lambda: "fill" in listener.events)
    assert {update["order"]["client_order_id"] for update in listener.updates} == {"seen"}


async def test_mute_keeps_the_socket_and_answers_pings(bench: Any) -> None:
    socket = await open_stream(bench)
    fault = await bench.fault("trade_updates", "mute", seconds=600)
    await bench.buy()
    await asyncio.wait_for(await socket.ping(), 20)
    await bench.http.delete(f"/sim/faults/{fault}")
    await bench.buy(symbol="F")
    assert {event["order"]["symbol"] for event in await next_events(socket, 3)} == {"F"}
    fates = [frame["fate"] for frame in await bench.get("/sim/frames", stream="trade_updates")]
    assert fates.count("muted") == 3
    await socket.close()


async def test_refuse_answers_429_to_new_sockets_only(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "refuse", count=1)
    with pytest.raises(InvalidStatus) as caught:
        await connect(bench.sim.trade_updates_url)
    assert caught.value.response.status_code == 429
    await bench.buy()
    assert len(await next_events(socket, 3)) == 3
    await socket.close()


async def test_lose_takes_only_what_matches(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "lose", count=1, match={"event": "fill", "symbol": "AAPL"})
    await bench.buy()
    await bench.buy()
    events = [event["event"] for event in await next_events(socket, 5)]
    assert events == ["pending_new", "new", "pending_new", "new", "fill"]
    assert (await truth_of(bench))["positions"] == {"AAPL": "20"}
    await socket.close()


async def test_duplicate_repeats_the_same_frame(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "duplicate", count=1, match={"event": "fill"})
    await bench.buy()
    events = await next_events(socket, 4)
    assert events[2] == events[3]
    assert events[3]["event"] == "fill"
    assert len((await truth_of(bench))["executions"]) == 1
    await socket.close()


async def test_delay_lets_others_pass(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "delay", count=1, by_seconds=0.3, match={"event": "new"})
    await bench.buy()
    assert [event["event"] for event in await next_events(socket, 3)] == ["pending_new", "fill", "new"]
    await socket.close()


async def test_reorder_shuffles_three_and_loses_none(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "reorder", count=3)
    await bench.buy()
    events = [event["event"] for event in await next_events(socket, 3)]
    assert sorted(events) == ["fill", "new", "pending_new"]
    assert events != ["pending_new", "new", "fill"]
    await socket.close()


async def test_reorder_lets_go_of_a_single_event_after_a_while(bench: Any) -> None:
    socket = await open_stream(bench)
    await bench.fault("trade_updates", "reorder", count=1, by_seconds=0.2, match={"event": "fill"})
    await bench.buy()
    assert [event["event"] for event in await next_events(socket, 3)] == ["pending_new", "new", "fill"]
    await socket.close()


# ── market data ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def open_data(bench: Any) -> Any:
    socket = await connect(bench.sim.market_data_url)
    await socket.recv()
    for message in (AUTH, {"action": "subscribe", "quotes": ["*"]}):
        await socket.send(json.dumps(message))
        await asyncio.wait_for(socket.recv(), 20)
    return socket


async def test_market_data_can_be_lost_for_one_symbol(bench: Any) -> None:
    await bench.fault("market_data", "lose", seconds=600, match={"symbol": "SPY"})
    socket = await open_data(bench)
    seen: set[str] = set()
    for _ in range(12):
        seen |= {quote["S"] for quote in json.loads(await asyncio.wait_for(socket.recv(), 20))}
    assert "AAPL" in seen
    assert "SPY" not in seen
    await socket.close()


async def test_market_data_mutes_drops_and_refuses(bench: Any) -> None:
    socket = await open_data(bench)
    mute = await bench.fault("market_data", "mute", seconds=600)
    await asyncio.wait_for(await socket.ping(), 20)
    await bench.http.delete(f"/sim/faults/{mute}")
    assert json.loads(await asyncio.wait_for(socket.recv(), 20))
    await bench.fault("market_data", "drop", count=1)
    await until_closed(socket)
    await bench.fault("market_data", "refuse", count=1)
    with pytest.raises(InvalidStatus):
        await connect(bench.sim.market_data_url)
    await (await open_data(bench)).close()


# ── REST ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

BUY = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
LOST = {"path": "/v2/orders", "method": "POST"}


async def test_error_answers_without_doing(bench: Any) -> None:
    await bench.fault("rest", "error", count=1, match={**LOST, "status": "503"})
    response = await bench.http.post("/v2/orders", json=BUY)
    assert response.status_code == 503
    assert (await truth_of(bench))["orders"] == []
    assert (await bench.http.post("/v2/orders", json=BUY)).status_code == 200


@pytest.mark.parametrize("status", [504, 500])
async def test_lost_reply_does_and_answers_an_error(bench: Any, status: int) -> None:
    await bench.fault("rest", "lost_reply", count=1, match={**LOST, "status": status})
    response = await bench.http.post("/v2/orders", json={**BUY, "client_order_id": "c1"})
    assert response.status_code == status
    assert (await bench.get("/v2/orders:by_client_order_id", client_order_id="c1"))["status"] == "filled"


async def test_lost_reply_by_reset_and_by_hanging(bench: Any) -> None:
    await bench.fault("rest", "lost_reply", count=1, match={**LOST, "status": "reset"})
    with pytest.raises(httpx.RemoteProtocolError):
        await bench.http.post("/v2/orders", json={**BUY, "client_order_id": "c1"})
    await bench.fault("rest", "lost_reply", count=1, seconds=600, match={**LOST, "status": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        await bench.http.post("/v2/orders", json={**BUY, "client_order_id": "c2"}, timeout=0.3)
    truth = await truth_of(bench)
    assert [order["client_order_id"] for order in truth["orders"]] == ["c1", "c2"]


async def test_the_vendors_retry_makes_second_orders_without_an_id(bench: Any) -> None:
    """The danger that our own client must not share: each 504 after execution is one more order."""
    await bench.fault("rest", "lost_reply", count=2, match=LOST)
    request = MarketOrderRequest(symbol="AAPL", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    await asyncio.to_thread(bench.trading.submit_order, request)
    assert (await truth_of(bench))["positions"] == {"AAPL": "30"}


async def test_the_vendors_retry_with_an_id_is_told_that_it_exists(bench: Any) -> None:
    await bench.fault("rest", "lost_reply", count=1, match=LOST)
    request = MarketOrderRequest(
        symbol="AAPL", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, client_order_id="c1"
    )
    with pytest.raises(APIError) as caught:
        await asyncio.to_thread(bench.trading.submit_order, request)
    assert caught.value.message == "client_order_id must be unique"
    assert (await truth_of(bench))["positions"] == {"AAPL": "10"}


async def test_timeout_hangs_without_doing_until_it_is_removed(bench: Any, until: Any) -> None:
    fault = await bench.fault("rest", "timeout", seconds=600, match={"method": "POST", "path": "/v2/orders*"})
    with pytest.raises(httpx.ReadTimeout):
        await bench.http.post("/v2/orders", json=BUY, timeout=0.3)
    waiting = asyncio.create_task(bench.http.post("/v2/orders", json=BUY))
    board = bench.sim.world.faults
    await until(lambda: board.all()[0].hits == 2)
    await bench.http.delete(f"/sim/faults/{fault}")
    with pytest.raises(httpx.RemoteProtocolError):
        await waiting
    assert (await truth_of(bench))["orders"] == []


async def test_rate_limit_says_how_long_to_wait(bench: Any) -> None:
    await bench.fault("rest", "rate_limit", count=1, by_seconds=7)
    response = await bench.http.get("/v2/positions")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert (await bench.http.get("/v2/positions")).status_code == 200


async def test_lag_answers_reads_from_the_past_and_writes_from_the_present(bench: Any) -> None:
    fault = await bench.fault("rest", "lag", seconds=600, by_seconds=300)
    order = await bench.buy(client_order_id="c1")
    assert (await bench.http.get(f"/v2/orders/{order['id']}")).status_code == 404
    assert (await bench.http.get("/v2/orders:by_client_order_id", params={"client_order_id": "c1"})).status_code == 404
    assert await bench.get("/v2/orders", status="all") == []
    assert await bench.get("/v2/positions") == []
    assert await bench.get("/v2/account/activities") == []
    assert (await bench.get("/v2/account"))["cash"] == "100000"
    assert (await truth_of(bench))["positions"] == {"AAPL": "10"}
    await bench.http.delete(f"/sim/faults/{fault}")
    assert (await bench.get(f"/v2/orders/{order['id']}"))["status"] == "filled"


async def test_lag_can_hit_positions_alone(bench: Any) -> None:
    await bench.fault("rest", "lag", seconds=600, by_seconds=300, match={"path": "/v2/positions*"})
    order = await bench.buy()
    assert await bench.get("/v2/positions") == []
    assert (await bench.get(f"/v2/orders/{order['id']}"))["filled_qty"] == "10"


async def test_rest_drop_refuse_and_delay(bench: Any) -> None:
    await bench.fault("rest", "drop", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await bench.http.get("/v2/clock")
    await bench.fault("rest", "refuse", count=1)
    assert (await bench.http.get("/v2/clock")).status_code == 503
    await bench.fault("rest", "delay", count=1, by_seconds=0.4, match={"path": "/v2/clock"})
    began = time.monotonic()
    assert (await bench.http.get("/v2/clock")).status_code == 200
    assert time.monotonic() - began >= 0.4


async def test_rest_faults_match_by_the_order_in_the_body(bench: Any) -> None:
    await bench.fault("rest", "error", count=1, match={"client_order_id": "c2"})
    assert (await bench.http.post("/v2/orders", json=BUY)).status_code == 200
    assert (await bench.http.get("/v2/clock")).status_code == 200
    assert (await bench.http.post("/v2/orders", json={**BUY, "client_order_id": "c1"})).status_code == 200
    assert (await bench.http.post("/v2/orders", json={**BUY, "client_order_id": "c2"})).status_code == 500


async def test_the_vendors_client_sees_a_reset_as_a_connection_error(bench: Any) -> None:
    await bench.fault("rest", "drop", count=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        await asyncio.to_thread(bench.trading.get_account)


# ── the door of the operator ─────────────────────────────────────────────────────────────────────────────────────────

WRONG = [
    ({}, "target", "trade_updates, market_data, rest"),
    ({"target": "moon"}, "target", "trade_updates, market_data, rest"),
    ({"target": "rest", "kind": "mute"}, "kind", "lost_reply"),
    ({"target": "trade_updates", "kind": "lag"}, "kind", "duplicate"),
    ({"target": "rest", "kind": "error", "seconds": -1}, "seconds", "0 to 86400"),
    ({"target": "rest", "kind": "error", "seconds": "10"}, "seconds", "0 to 86400"),
    ({"target": "rest", "kind": "error", "count": 0}, "count", "at least 1"),
    ({"target": "rest", "kind": "error", "count": True}, "count", "at least 1"),
    ({"target": "rest", "kind": "error", "count": 1, "speed": 1}, "speed", "target, kind"),
    ({"target": "rest", "kind": "error", "count": 1, "match": []}, "match", "object"),
    ({"target": "rest", "kind": "error", "count": 1, "match": {"event": "fill"}}, "match.event", "path, method"),
    ({"target": "trade_updates", "kind": "lose", "count": 1, "match": {"path": "/"}}, "match.path", "event, symbol"),
    ({"target": "rest", "kind": "error", "count": 1, "match": {"status": "reset"}}, "match.status", "400 to 599"),
    ({"target": "rest", "kind": "lag", "count": 1, "match": {"status": 500}}, "match.status", "error and lost_reply"),
    ({"target": "rest", "kind": "error", "count": 1, "probability": 2}, "probability", "0 to 1"),
]


@pytest.mark.parametrize(("body", "field", "right"), WRONG)
async def test_a_wrong_fault_is_explained(bench: Any, body: dict[str, Any], field: str, right: str) -> None:
    response = await bench.http.post("/sim/faults", json=body)
    assert (response.status_code, response.json()["field"]) == (422, field)
    assert right in response.json()["message"]


async def test_faults_are_listed_counted_and_cleared(bench: Any) -> None:
    await bench.fault("rest", "error", count=2)
    await bench.fault("trade_updates", "lose", seconds=0)
    await bench.http.get("/v2/clock")
    await bench.fault("rest", "error", match={"path": "/v2/none"})
    assert [fault["id"] for fault in await bench.get("/sim/faults")] == ["fault-1", "fault-3"]
    first, second, _ = await bench.get("/sim/faults", all="true")
    assert (first["hits"], first["is_active"], second["is_active"]) == (1, True, False)
    assert (await bench.http.delete("/sim/faults/fault-99")).status_code == 404
    assert (await bench.http.delete("/sim/faults")).json() == {"removed": 3}
    assert await bench.get("/sim/faults") == []


async def test_every_kind_leaves_the_books_consistent(bench: Any) -> None:
    for target, kinds in KINDS.items():
        for kind in kinds:
            if kind not in {Kind.TIMEOUT, Kind.DROP, Kind.REFUSE}:
                await bench.fault(target, kind, seconds=600, probability=0.5, by_seconds=0.01)
    socket = await open_stream(bench)
    accepted = 0
    for place in range(20):
        with suppress(httpx.HTTPError):
            response = await bench.http.post("/v2/orders", json={**BUY, "symbol": "F", "client_order_id": f"c{place}"})
            accepted += response.status_code == 200
    await socket.close()
    truth = await truth_of(bench)
    assert accepted <= len(truth["orders"])
    assert truth["positions"].get("F", "0") == str(10 * len(truth["orders"]))
    assert any(fault["hits"] for fault in await bench.get("/sim/faults", all=True) if fault["target"] == Target.REST)
