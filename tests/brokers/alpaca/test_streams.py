"""Both streams, against the simulator and, for what it would never do, against a server that is told what to say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.brokers.alpaca.websocket import StreamOptions
from trueup.core.events import FrameQuarantined, OrderReported
from trueup.core.model import ExecType, FeedName, OrderStatus, Symbol
from trueup.errors import BadCredentials, BadInput, FeedEnded

FRAMES = Path(__file__).parent / "frames"
GENEROUS_S = 20
AUTHORIZED = {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
UNAUTHORIZED = {"stream": "authorization", "data": {"status": "unauthorized", "action": "authenticate"}}
LISTENING = {"stream": "listening", "data": {"streams": ["trade_updates"]}}


def recording(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FRAMES / f"{name}.json").read_text(encoding="utf-8"))
    return content


async def following(items: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(GENEROUS_S):
        return await anext(items)


async def end_of(items: AsyncIterator[Any], seen: list[Any] | None = None) -> FeedEnded:
    """Read to the end, which must come."""
    try:
        async with asyncio.timeout(GENEROUS_S):
            async for item in items:
                if seen is not None:
                    seen.append(item)
    except FeedEnded as error:
        return error
    raise AssertionError("a stream never just stops")


async def refusal_of(stream: Any) -> FeedEnded | BadCredentials:
    """The error with which connecting fails."""
    try:
        async with asyncio.timeout(GENEROUS_S), stream.connect():
            raise AssertionError("connected")
    except (FeedEnded, BadCredentials) as error:
        return error


async def received(events: Any, count: int, until: Any) -> None:
    """Wait until so many frames have come in that nobody has taken."""
    await until(lambda: len(events._frames._frames) >= count)


async def buy(bench: Any, **terms: Any) -> str:
    order = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "limit_price": "200", **terms}
    return str((await bench.post("/v2/orders", time_in_force="day", **order))["id"])


# --- order events from the simulator --------------------------------------------------------------


@pytest.mark.parametrize("text_frames", [False, True])
async def test_order_events_arrive_decoded_from_binary_and_text_frames(make_bench: Any, text_frames: bool) -> None:
    bench = await make_bench(text_frames=text_frames)
    stream = bench.trading_stream()
    assert stream.name is FeedName.BROKER_EVENTS
    async with stream.connect() as events:
        order_id = await buy(bench)
        seen = [await following(events)]
        while seen[-1].report.status is not OrderStatus.NEW:
            seen.append(await following(events))
        await bench.post("/sim/fill", order_id=order_id, qty="4", price="199.5")
        event = await following(events)
    assert isinstance(event, OrderReported)
    assert event.exec_type is ExecType.TRADE
    assert event.report.broker_order_id == order_id
    assert event.report.filled_quantity == Decimal(4)
    assert event.execution is not None
    assert event.execution.price == Decimal("199.5")
    assert event.at.utcoffset() is not None


async def test_what_happens_right_after_the_confirmation_is_not_missed(bench: Any) -> None:
    for number in range(20):
        async with bench.trading_stream().connect() as events:
            order_id = await buy(bench, client_order_id=f"race-{number}")
            event = await following(events)
            assert event.report.broker_order_id == order_id


async def test_wrong_keys_are_bad_credentials_and_say_what_to_check(bench: Any) -> None:
    error = await refusal_of(bench.trading_stream(secret="WRONG"))
    assert isinstance(error, BadCredentials)
    assert "APCA_API_SECRET_KEY" in str(error)


async def test_a_second_connection_is_told_to_pause(bench: Any) -> None:
    async with bench.trading_stream().connect():
        error = await refusal_of(bench.trading_stream(StreamOptions()))
        assert isinstance(error, FeedEnded)
        assert "429" in error.reason
        assert error.retry_after_s == 90
        quick = await refusal_of(bench.trading_stream())
        assert isinstance(quick, FeedEnded)
        assert quick.retry_after_s == pytest.approx(0.2)


async def test_leaving_the_context_frees_the_only_slot_at_once(bench: Any) -> None:
    for _ in range(5):
        async with bench.trading_stream().connect():
            assert (await bench.get("/sim/status"))["trade_updates_connections"] == 1


async def test_a_cut_ends_the_stream_after_all_that_came_before(bench: Any, until: Any) -> None:
    async with bench.trading_stream().connect() as events:
        order_id = await buy(bench)
        await bench.post("/sim/fill", order_id=order_id, qty="1", price="199")
        await received(events, 3, until)
        await bench.fault("trade_updates", "drop", seconds=60)
        seen: list[Any] = []
        error = await end_of(events, seen)
    assert ExecType.TRADE in [event.exec_type for event in seen]
    assert error.reason
    refused = await refusal_of(bench.trading_stream())
    assert isinstance(refused, FeedEnded)


async def test_garbage_is_quarantined_and_the_stream_goes_on(bench: Any) -> None:
    garbage: list[dict[str, Any]] = [
        {"text": "{nothing"},
        {"base64": base64.b64encode(b"\xff\xfe\x00junk").decode()},
        {"frame": {"stream": "trade_updates", "data": None}},
        {"frame": [1, 2]},
        {"frame": {"stream": "trade_updates", "data": {"event": "fill", "order": {"symbol": "AAPL"}}}},
        {"frame": {"stream": "order_updates", "data": {}}},
        {"text": "x" * 100_000},
        {"text": "[" * 60_000},
    ]
    stream = bench.trading_stream()
    async with stream.connect() as events:
        for frame in garbage:
            await bench.post("/sim/emit", target="trade_updates", **frame)
        await bench.post("/sim/emit", target="trade_updates", base64=base64.b64encode(b"\x01").decode())
        await bench.post("/sim/emit", target="trade_updates", frame=recording("fill"))
        quarantined = [await following(events) for _ in garbage]
        after = await following(events)
    for item in quarantined:
        assert isinstance(item, FrameQuarantined)
        assert item.feed is FeedName.BROKER_EVENTS
        assert item.reason
        assert 0 < len(item.raw) < 5000
    assert isinstance(quarantined[0], FrameQuarantined)
    assert quarantined[0].raw == "{nothing"
    assert isinstance(after, OrderReported)
    assert after.report.status is OrderStatus.FILLED
    assert stream.oddities["quarantined_frame"] == len(garbage)
    assert stream.oddities["heartbeat"] == 1


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"action": "error", "data": {"error_message": "internal server error"}}, "internal server error"),
        (UNAUTHORIZED, "withdrew"),
        ({"stream": "listening", "data": {"streams": []}}, "took trade_updates off"),
    ],
)
async def test_a_word_of_the_broker_that_ends_the_stream(bench: Any, frame: dict[str, Any], reason: str) -> None:
    async with bench.trading_stream().connect() as events:
        await bench.post("/sim/emit", target="trade_updates", frame=frame)
        assert reason in (await end_of(events)).reason


async def test_a_mute_stream_is_left_alone_since_only_orders_can_show_it(bench: Any) -> None:
    options = StreamOptions(ping_s=0.1, pong_s=5)
    async with bench.trading_stream(options).connect() as events:
        await bench.fault("trade_updates", "mute", seconds=60)
        await buy(bench)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(events)


async def test_frames_that_pile_up_end_the_stream_and_none_of_them_is_lost(bench: Any, until: Any) -> None:
    async with bench.trading_stream(StreamOptions(queue_max=50)).connect() as events:
        for number in range(51):
            frame = recording("new")
            frame["data"]["order"]["id"] = f"order-{number}"
            await bench.post("/sim/emit", target="trade_updates", frame=frame)
        await until(lambda: events._frames._ended is not None)
        seen: list[Any] = []
        assert "50 frames" in (await end_of(events, seen)).reason
    assert [event.report.broker_order_id for event in seen] == [f"order-{number}" for number in range(50)]


async def test_a_slow_handler_loses_nothing(bench: Any, until: Any) -> None:
    async with bench.trading_stream().connect() as events:
        for number in range(300):
            frame = recording("new")
            frame["data"]["order"]["id"] = f"order-{number}"
            await bench.post("/sim/emit", target="trade_updates", frame=frame)
        await received(events, 300, until)
        seen = [(await following(events)).report.broker_order_id for _ in range(300)]
    assert seen == [f"order-{number}" for number in range(300)]


# --- order events from a server that misbehaves ---------------------------------------------------


def stream_to(url: str, clock: Any, **options: Any) -> TradingStream:
    return TradingStream(
        key="K",
        secret="S",
        url=url,
        clock=clock,
        options=StreamOptions(**{"connect_s": 5.0, "reply_s": 0.5, **options}),
    )


@pytest.fixture
def clock(bench: Any) -> Any:
    return bench.broker()._clock


Opening = Callable[[Any], Any]


async def test_a_server_that_never_answers_the_keys(socket_server: Opening, clock: Any) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with socket_server(say) as url:
        error = await refusal_of(stream_to(url, clock))
    assert isinstance(error, FeedEnded)
    assert "no answer to the keys" in error.reason


async def test_a_server_that_never_confirms(socket_server: Opening, clock: Any) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps(AUTHORIZED))
        await socket.wait_closed()

    async with socket_server(say) as url:
        error = await refusal_of(stream_to(url, clock))
    assert isinstance(error, FeedEnded)
    assert "confirmation of trade_updates" in error.reason


async def test_a_confirmation_without_our_stream(socket_server: Opening, clock: Any) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps(AUTHORIZED))
        await socket.recv()
        await socket.send(json.dumps({"stream": "listening", "data": {"streams": ["account_updates"]}}))
        await socket.wait_closed()

    async with socket_server(say) as url:
        error = await refusal_of(stream_to(url, clock))
    assert isinstance(error, FeedEnded)
    assert "did not confirm" in error.reason


async def test_an_event_that_overtakes_the_confirmation_is_delivered_in_order(
    socket_server: Opening, clock: Any
) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps(AUTHORIZED))
        await socket.recv()
        for name in ("new", "partial_fill"):
            await socket.send(json.dumps(recording(name)).encode())
        await socket.send(json.dumps(LISTENING))
        await socket.send(json.dumps(recording("fill")))
        await socket.wait_closed()

    async with socket_server(say) as url, stream_to(url, clock).connect() as events:
        seen = [(await following(events)).report.raw_status for _ in range(3)]
    assert seen == ["new", "partially_filled", "filled"]


@pytest.mark.parametrize(
    "answer",
    [
        '{"action":"error","data":{"error_message":"try later"}}',
        "<html>busy</html>",
        "[]",
        '{"stream":"authorization","data":null}',
        json.dumps(LISTENING),
    ],
)
async def test_an_answer_that_is_none_does_not_condemn_the_keys(
    socket_server: Opening, clock: Any, answer: str
) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(answer)
        await socket.wait_closed()

    async with socket_server(say) as url:
        error = await refusal_of(stream_to(url, clock))
    assert isinstance(error, FeedEnded)
    assert answer[:20] in error.reason


async def test_keys_that_worked_are_given_up_only_after_several_refusals(socket_server: Opening, clock: Any) -> None:
    answers = [AUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, AUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED]
    remaining = iter(answers)

    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps(next(remaining)))
        with contextlib.suppress(ConnectionClosed):
            await socket.recv()
            await socket.send(json.dumps(LISTENING))
        await socket.wait_closed()

    outcomes = []
    async with socket_server(say) as url:
        stream = stream_to(url, clock)
        for _ in answers:
            try:
                async with stream.connect():
                    outcomes.append("connected")
            except (FeedEnded, BadCredentials) as error:
                outcomes.append(type(error).__name__)
    assert outcomes == ["connected", "FeedEnded", "FeedEnded", "connected", "FeedEnded", "FeedEnded", "BadCredentials"]


async def test_a_dead_peer_is_noticed_by_pings_and_left_promptly(clock: Any) -> None:
    """The peer upgrades, confirms, and then reads nothing more: neither pongs nor a goodbye will come."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        said = [AUTHORIZED, LISTENING]
        while said:
            data = await reader.read(4096)
            if not data:
                return
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, WebSocketFrame) and event.opcode is Opcode.TEXT:
                    protocol.send_text(json.dumps(said.pop(0)).encode())
                elif not isinstance(event, WebSocketFrame):
                    protocol.send_response(protocol.accept(event))
            for chunk in protocol.data_to_send():
                writer.write(chunk)
        await asyncio.sleep(3600)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
    stream = stream_to(url, clock, ping_s=0.2, pong_s=0.2, close_s=0.2, reply_s=5.0)
    async with stream.connect() as events:
        assert "1011" in (await end_of(events)).reason
    async with asyncio.timeout(15):  # the vendor's client takes up to 30 s to leave a dead peer
        async with stream_to(url, clock, ping_s=60, pong_s=60, close_s=0.2, reply_s=5.0).connect():
            pass
    server.close()


@pytest.mark.parametrize(("status", "advice"), [(404, "check --alpaca-url"), (403, "check --alpaca-url"), (503, "503")])
async def test_a_refused_upgrade_says_what_to_check(
    http_server: Any, http_reply: Any, clock: Any, status: int, advice: str
) -> None:
    async with http_server(lambda *_: http_reply(status, "<html>no</html>", kind="text/html")) as server:
        error = await refusal_of(stream_to(server.url.replace("http", "ws") + "/stream", clock))
    assert isinstance(error, FeedEnded)
    assert advice in error.reason


async def test_a_retry_after_on_the_upgrade_is_honoured(http_server: Any, http_reply: Any, clock: Any) -> None:
    async with http_server(lambda *_: http_reply(429, "", Retry_After="7")) as server:
        error = await refusal_of(stream_to(server.url.replace("http", "ws") + "/stream", clock))
    assert isinstance(error, FeedEnded)
    assert error.retry_after_s == 7


async def test_no_redirect_is_followed_with_keys(http_server: Any, http_reply: Any, clock: Any) -> None:
    async with http_server(lambda *_: http_reply(500)) as elsewhere:
        target = elsewhere.url.replace("http", "ws") + "/stream"
        async with http_server(lambda *_: http_reply(302, "", Location=target)) as server:
            error = await refusal_of(stream_to(server.url.replace("http", "ws") + "/stream", clock))
        assert isinstance(error, FeedEnded)
        assert "redirected" in error.reason
        assert not elsewhere.asked


async def test_nobody_there(clock: Any) -> None:
    error = await refusal_of(stream_to("ws://127.0.0.1:9/stream", clock))
    assert isinstance(error, FeedEnded)
    assert "--alpaca-url" in error.reason


@pytest.mark.parametrize("url", ["http://127.0.0.1/stream", "127.0.0.1:80", "ws://", ""])
def test_an_address_that_is_none_is_bad_input(clock: Any, url: str) -> None:
    with pytest.raises(BadInput, match="--alpaca-url"):
        stream_to(url, clock)


async def test_a_cancelled_connect_leaves_no_socket_and_no_task(socket_server: Opening, clock: Any, until: Any) -> None:
    sockets: list[ServerConnection] = []

    async def say(socket: ServerConnection) -> None:
        sockets.append(socket)
        await socket.wait_closed()

    before = len(asyncio.all_tasks())
    async with socket_server(say) as url:

        async def connect() -> None:
            async with stream_to(url, clock, reply_s=60).connect():
                pytest.fail("connected")

        task = asyncio.create_task(connect())
        await until(lambda: bool(sockets))
        task.cancel()
        await asyncio.wait([task], timeout=GENEROUS_S)
        assert task.cancelled()
        await until(lambda: sockets[0].close_code is not None)
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_leaving_says_goodbye(socket_server: Opening, clock: Any, until: Any) -> None:
    sockets: list[ServerConnection] = []

    async def say(socket: ServerConnection) -> None:
        sockets.append(socket)
        await socket.recv()
        await socket.send(json.dumps(AUTHORIZED))
        await socket.recv()
        await socket.send(json.dumps(LISTENING))
        await socket.wait_closed()

    async with socket_server(say) as url:
        async with stream_to(url, clock, reply_s=5.0).connect():
            pass
        await until(lambda: sockets[0].close_code is not None)
    assert sockets[0].close_code == 1000


@pytest.mark.parametrize("which", ["order events", "quotes"])
async def test_leaving_leaks_no_task(bench: Any, which: str) -> None:
    stream = bench.trading_stream() if which == "order events" else bench.stock_data_stream("AAPL")

    async def visit() -> set[Any]:
        async with stream.connect():
            assert len(asyncio.all_tasks()) > 1
        return asyncio.all_tasks() - {asyncio.current_task()}

    # in a loop of its own, since the simulator's tasks live in this one
    assert await asyncio.to_thread(asyncio.run, visit()) == set()


# --- quotes ---------------------------------------------------------------------------------------


async def test_quotes_of_the_symbols_arrive(bench: Any) -> None:
    stream = bench.stock_data_stream("AAPL", "MSFT", "AAPL")
    assert stream.name is FeedName.MARKET_DATA
    assert stream.symbols() == ("AAPL", "MSFT")
    async with stream.connect() as quotes:
        seen = set()
        while seen != {"AAPL", "MSFT"}:
            quote = await following(quotes)
            assert Decimal(0) < quote.bid < quote.ask
            seen.add(quote.symbol)


async def test_market_data_keys_that_are_wrong(bench: Any) -> None:
    error = await refusal_of(bench.stock_data_stream("AAPL", secret="WRONG"))
    assert isinstance(error, BadCredentials)


async def test_a_second_market_data_connection_is_told_to_pause(bench: Any) -> None:
    async with bench.stock_data_stream("AAPL").connect():
        error = await refusal_of(bench.stock_data_stream("AAPL"))
    assert isinstance(error, FeedEnded)
    assert "406" in error.reason
    assert error.retry_after_s is not None
    assert error.retry_after_s >= 10


async def test_silence_ends_a_market_data_stream_that_has_a_limit(bench: Any) -> None:
    await bench.fault("market_data", "mute", seconds=60)
    async with bench.stock_data_stream("AAPL", data_timeout_s=0.3).connect() as quotes:
        assert (await end_of(quotes)).reason.startswith("silent")


async def test_a_cut_ends_the_market_data_stream(bench: Any) -> None:
    async with bench.stock_data_stream("AAPL").connect() as quotes:
        await bench.fault("market_data", "drop", seconds=60)
        assert (await end_of(quotes)).reason


async def test_no_symbols_is_bad_input(bench: Any) -> None:
    with pytest.raises(BadInput, match="--symbols"):
        bench.stock_data_stream()


def error_frame(code: int, said: str) -> bytes:
    packed: bytes = msgpack.packb([{"T": "error", "code": code, "msg": said}])
    return packed


def data_server(*frames: Any, on_auth: bytes | None = None) -> Any:
    """The market-data handshake, then these frames."""

    async def say(socket: ServerConnection) -> None:
        await socket.send(msgpack.packb([{"T": "success", "msg": "connected"}]))
        await socket.recv()
        await socket.send(on_auth or msgpack.packb([{"T": "success", "msg": "authenticated"}]))
        with contextlib.suppress(ConnectionClosed):
            asked = msgpack.unpackb(await socket.recv())
            await socket.send(msgpack.packb([{"T": "subscription", "quotes": asked["quotes"][:1]}]))
            for frame in frames:
                await socket.send(frame)
        await socket.wait_closed()

    return say


@pytest.mark.parametrize(
    ("code", "said", "pause", "advice"),
    [
        (404, "auth timeout", None, ""),
        (405, "symbol limit exceeded", 300, "--symbols"),
        (406, "connection limit exceeded", 15, "one connection"),
        (407, "slow client", None, ""),
        (409, "insufficient subscription", 300, "--data-feed"),
        (500, "internal error", None, ""),
    ],
)
async def test_an_error_of_the_broker_ends_the_quotes_with_its_words(
    bench: Any, socket_server: Opening, code: int, said: str, pause: float | None, advice: str
) -> None:
    async with (
        socket_server(data_server(error_frame(code, said))) as url,
        bench.stock_data_stream("AAPL", url=url).connect() as quotes,
    ):
        live = await end_of(quotes)
    async with socket_server(data_server(on_auth=error_frame(code, said))) as url:
        early = await refusal_of(bench.stock_data_stream("AAPL", url=url))
    assert isinstance(early, FeedEnded)
    for error in (live, early):
        assert str(code) in error.reason
        assert said in error.reason
        assert advice in error.reason
        assert error.retry_after_s == pause


async def test_quotes_that_cannot_be_read_are_counted_and_passed_over(bench: Any, socket_server: Opening) -> None:
    good = {"T": "q", "S": "AAPL", "bp": 228.41, "ap": 228.43, "bs": 1, "as": 2}
    frames = [
        b"\xc1\xc1",
        msgpack.packb([{"T": "q", "S": "AAPL", "bp": None}, {"T": "t", "S": "AAPL"}, 7]),
        msgpack.packb([{"T": "error", "code": 403, "msg": "already authenticated"}]),
        json.dumps([good]),
        msgpack.packb([{**good, "bp": 228.42, "t": msgpack.Timestamp(1_780_000_000, 123_456_789)}]),
    ]
    async with socket_server(data_server(*frames)) as url:
        stream = bench.stock_data_stream("AAPL", "GONE", url=url)
        async with stream.connect() as quotes:
            first, second = await following(quotes), await following(quotes)
    assert (first.bid, second.bid) == (Decimal("228.41"), Decimal("228.42"))
    assert second.at.isoformat() == "2026-05-28T20:26:40.123456+00:00"
    assert stream.oddities["unreadable_data_frame"] == 1
    assert stream.oddities["unreadable_quote"] == 1
    assert stream.symbols() == (Symbol("AAPL"),)
    assert stream.oddities["unconfirmed_symbol"] == 1
