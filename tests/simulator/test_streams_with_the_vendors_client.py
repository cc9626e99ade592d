"""Both websockets, with the vendor's unmodified stream classes, and frame by frame."""

import asyncio
import base64
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from alpaca.data.live import StockDataStream
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

AUTHENTICATE = {"action": "authenticate", "data": {"key_id": "SIM", "secret_key": "SIM"}}
AUTH = {"action": "auth", "key": "SIM", "secret": "SIM"}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates"]}}


async def ask(socket: Any, message: dict[str, Any]) -> Any:
    await socket.send(json.dumps(message))
    return json.loads(await asyncio.wait_for(socket.recv(), 20))


async def test_a_fill_arrives_after_its_acknowledgements(bench: Any, listen: Any, until: Any) -> None:
    listener = await listen(bench)
    await bench.buy(client_order_id="first")
    await until(lambda: "fill" in listener.events)
    assert listener.events == ["pending_new", "new", "fill"]
    fill = listener.updates[-1]
    assert (fill["qty"], fill["position_qty"], fill["order"]["filled_qty"]) == ("10", "10", "10")
    assert fill["order"]["client_order_id"] == "first"
    assert listener.updates[0]["execution_id"] is None
    truth = await bench.get("/sim/truth")
    assert fill["execution_id"] == truth["executions"][0]["id"]
    ids = [update["event_id"] for update in listener.updates]
    assert ids == sorted(ids)


async def test_partial_fills_carry_their_own_and_the_whole(manual: Any, listen: Any, until: Any) -> None:
    listener = await listen(manual)
    order = await manual.buy(qty="100", type="limit", limit_price="200")
    await manual.post("/sim/fill", {"order_id": order["id"], "qty": "40", "price": "199"})
    await manual.post("/sim/fill", {"order_id": order["id"], "qty": "60", "price": "200"})
    await until(lambda: "fill" in listener.events)
    first, last = listener.updates[-2:]
    assert (first["event"], first["qty"], first["order"]["status"]) == ("partial_fill", "40", "partially_filled")
    assert (last["qty"], last["order"]["filled_qty"], last["order"]["filled_avg_price"]) == ("60", "100", "199.6")


async def test_replace_and_cancel_are_told_under_the_right_ids(manual: Any, listen: Any, until: Any) -> None:
    listener = await listen(manual)
    old = await manual.buy(type="limit", limit_price="200")
    new = (await manual.http.patch(f"/v2/orders/{old['id']}", json={"limit_price": "201"})).json()
    await manual.http.delete(f"/v2/orders/{new['id']}")
    await until(lambda: "canceled" in listener.events)
    told = [(update["event"], update["order"]["id"]) for update in listener.updates]
    assert told == [
        ("pending_new", old["id"]),
        ("new", old["id"]),
        ("pending_replace", old["id"]),
        ("replaced", old["id"]),
        ("new", new["id"]),
        ("pending_cancel", new["id"]),
        ("canceled", new["id"]),
    ]
    assert listener.updates[3]["order"]["replaced_by"] == new["id"]
    assert listener.updates[-1]["order"]["cancel_requested_at"] is not None


@pytest.mark.parametrize("path", ["/stream", "/stream/"])
@pytest.mark.parametrize("auth", [AUTHENTICATE, AUTH, {"action": "authenticate", "data": {"oauth_token": "SIM"}}])
async def test_every_form_of_the_handshake(bench: Any, path: str, auth: dict[str, Any]) -> None:
    async with connect(f"ws://127.0.0.1:{bench.sim.port}{path}") as socket:
        early = await ask(socket, LISTEN)
        assert early == {"stream": "authorization", "data": {"status": "unauthorized", "action": "listen"}}
        wrong = await ask(socket, {"action": "auth", "key": "SIM", "secret": "no"})
        assert wrong["data"]["status"] == "unauthorized"
        done = await ask(socket, auth)
        assert done == {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
        unknown = await ask(socket, {"action": "listen", "data": {"streams": ["trade_updates", "moonbeams"]}})
        assert unknown == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        nothing = await ask(socket, {"action": "listen", "data": {"streams": []}})
        assert nothing["data"]["streams"] == []


async def test_frames_are_binary_json_or_text_as_set(start: Any) -> None:
    for text_frames, kind in ((False, bytes), (True, str)):
        bench = await start(text_frames=text_frames)
        async with connect(bench.sim.trade_updates_url) as socket:
            await socket.send(json.dumps(AUTH))
            assert type(await asyncio.wait_for(socket.recv(), 20)) is kind


async def test_a_second_connection_is_refused_until_the_first_is_gone(bench: Any, until: Any) -> None:
    async with connect(bench.sim.trade_updates_url):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(bench.sim.trade_updates_url):
                pass
        assert caught.value.response.status_code == 429
    connected = False
    for _ in range(200):
        with suppress(InvalidStatus):
            async with connect(bench.sim.trade_updates_url):
                connected = True
                break
        await asyncio.sleep(0.02)
    assert connected


async def test_no_event_after_the_acknowledgement_is_missed(start: Any) -> None:
    """Orders keep coming while a client listens: everything later than the acknowledgement arrives, in order."""
    bench = await start()

    async def trade() -> None:
        await bench.post("/sim/burst", {"symbol": "F", "orders": 60, "rate": 400, "qty": 1})

    trading = asyncio.create_task(trade())
    async with connect(bench.sim.trade_updates_url) as socket:
        await ask(socket, AUTH)
        await asyncio.sleep(0.05)
        await socket.send(json.dumps(LISTEN))
        assert json.loads(await asyncio.wait_for(socket.recv(), 20))["stream"] == "listening"
        numbers: list[str] = []
        await trading
        last = (await bench.get("/sim/truth"))["executions"][-1]["id"]
        executions: list[str] = []
        while last not in executions:
            update = json.loads(await asyncio.wait_for(socket.recv(), 20))["data"]
            numbers.append(update["event_id"])
            if update["event"] == "fill":
                executions.append(update["execution_id"])
    assert numbers == sorted(set(numbers))
    truth = [execution["id"] for execution in (await bench.get("/sim/truth"))["executions"]]
    assert 0 < len(executions) <= len(truth)
    assert executions == truth[-len(executions) :]
    # ULIDs end in the event's number: none is missing between the first and the last.
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    places = [sum(digits.index(letter) * 32**power for power, letter in enumerate(reversed(n[10:]))) for n in numbers]
    assert places == list(range(places[0], places[0] + len(places)))


async def test_a_message_that_is_no_json_ends_the_connection(bench: Any) -> None:
    async with connect(bench.sim.trade_updates_url) as socket:
        reply = await asyncio.wait_for(_send_raw(socket, "{nope"), 20)
        assert reply["action"] == "error"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 20)


async def _send_raw(socket: Any, text: str) -> Any:
    await socket.send(text)
    return json.loads(await socket.recv())


async def test_raw_frames_can_be_injected(bench: Any) -> None:
    async with connect(bench.sim.trade_updates_url) as socket:
        await ask(socket, AUTH)
        await bench.post("/sim/emit", {"frame": {"stream": "trade_updates", "data": None}})
        assert json.loads(await asyncio.wait_for(socket.recv(), 20)) == {"stream": "trade_updates", "data": None}
        await bench.post("/sim/emit", {"text": "not json"})
        assert await asyncio.wait_for(socket.recv(), 20) == "not json"
        await bench.post("/sim/emit", {"base64": base64.b64encode(b"\x01").decode()})
        assert await asyncio.wait_for(socket.recv(), 20) == b"\x01"


async def test_stamps_are_added_only_when_asked_for(start: Any, listen: Any, until: Any) -> None:
    for stamp in (False, True):
        bench = await start(stamp=stamp)
        listener = await listen(bench)
        await bench.post("/sim/burst", {"symbol": "F", "orders": 2, "rate": 200})
        await until(lambda listener=listener: listener.events.count("fill") == 2)
        stamps = [update.get("sent_ns") for update in listener.updates]
        assert (stamps == sorted(stamps, key=lambda ns: ns or 0)) is True
        assert all(isinstance(ns, int) for ns in stamps) is stamp


async def test_the_vendors_data_stream_gets_quotes_trades_and_bars_in_msgpack(start: Any, until: Any) -> None:
    # At this speed a minute of market time passes in half a second.
    bench = await start(speed=120)
    got: dict[str, list[Any]] = {"quote": [], "trade": [], "bar": []}

    async def keep_quote(quote: Any) -> None:
        got["quote"].append(quote)

    async def keep_trade(trade: Any) -> None:
        got["trade"].append(trade)

    async def keep_bar(bar: Any) -> None:
        got["bar"].append(bar)

    stream = StockDataStream("SIM", "SIM", url_override=bench.sim.market_data_url)
    stream.subscribe_quotes(keep_quote, "AAPL", "SPY")
    stream.subscribe_trades(keep_trade, "AAPL")
    stream.subscribe_bars(keep_bar, "*")
    task = asyncio.create_task(stream._run_forever())
    try:
        await until(lambda: all(got.values()))
    finally:
        task.cancel()
        await stream.close()
        with suppress(asyncio.CancelledError):
            await task
    assert {quote.symbol for quote in got["quote"]} <= {"AAPL", "SPY"}
    assert all(quote.bid_price <= quote.ask_price for quote in got["quote"])
    assert {trade.symbol for trade in got["trade"]} == {"AAPL"}
    assert all(bar.low <= bar.close <= bar.high for bar in got["bar"])


async def test_market_data_handshake_in_json(bench: Any) -> None:
    async with connect(f"ws://127.0.0.1:{bench.sim.port}/v2/test") as socket:
        assert json.loads(await socket.recv()) == [{"T": "success", "msg": "connected"}]
        assert await ask(socket, {"action": "subscribe", "quotes": ["F"]}) == [
            {"T": "error", "code": 401, "msg": "not authenticated"}
        ]
        assert (await ask(socket, {"action": "auth", "key": "SIM", "secret": "no"}))[0]["code"] == 402
        assert await ask(socket, AUTH) == [{"T": "success", "msg": "authenticated"}]
        assert (await ask(socket, AUTH))[0]["code"] == 403
        assert (await ask(socket, {"action": "dance"}))[0]["code"] == 400
        ack = (await ask(socket, {"action": "subscribe", "trades": ["NOPE"], "bars": ["*"]}))[0]
        assert (ack["T"], ack["trades"], ack["corrections"], ack["bars"]) == ("subscription", ["NOPE"], ["NOPE"], ["*"])
        ack = (await ask(socket, {"action": "unsubscribe", "trades": ["NOPE"]}))[0]
        assert (ack["trades"], ack["bars"]) == ([], ["*"])
        async with connect(f"ws://127.0.0.1:{bench.sim.port}/v2/iex") as second:
            await second.recv()
            assert (await ask(second, AUTH))[0]["code"] == 406


async def test_a_price_set_by_hand_is_streamed_and_trades(bench: Any) -> None:
    order = await bench.buy(symbol="KO", type="limit", limit_price="50")
    async with connect(bench.sim.market_data_url) as socket:
        await socket.recv()
        await ask(socket, AUTH)
        await ask(socket, {"action": "subscribe", "quotes": ["KO"]})
        await bench.post("/sim/price", {"symbol": "KO", "price": "49.5", "hold_seconds": 60})
        seen: list[Any] = []
        while not any(quote["bp"] == quote["ap"] == 49.5 for quote in seen):
            seen.extend(json.loads(await asyncio.wait_for(socket.recv(), 20)))
    filled = await bench.get(f"/v2/orders/{order['id']}")
    assert (filled["status"], Decimal(filled["filled_avg_price"])) == ("filled", Decimal("49.5"))
