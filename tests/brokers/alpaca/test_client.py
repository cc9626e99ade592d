"""Requests: against the simulator with its faults, and against a server that is told what to say."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trueup.brokers.alpaca import decode
from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.rest import ClientOptions
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    NewOrder,
    OrderChange,
    OrderStatus,
    OrderType,
    Side,
    SnapshotScope,
    Symbol,
    TimeInForce,
)
from trueup.errors import (
    BadCredentials,
    BadInput,
    BrokerUnavailable,
    OutcomeUnknown,
    RateLimited,
    RequestRefused,
    TrueupError,
)
from trueup.ports import SnapshotRequest

QUICK = ClientOptions(connect_s=2, read_s=0.5, total_s=5, requests_per_minute=0)
FULL = SnapshotRequest(scope=SnapshotScope.FULL)
GENEROUS_S = 20


def order(name: str = "tu-1", **terms: Any) -> NewOrder:
    whole: dict[str, Any] = {
        "client_order_id": ClientOrderId(name),
        "symbol": Symbol("AAPL"),
        "side": Side.BUY,
        "quantity": Decimal(10),
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.DAY,
        "limit_price": Decimal("200.5"),
        **terms,
    }
    return NewOrder(**whole)


async def orders_at_the_broker(bench: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await bench.get("/sim/truth"))["orders"]
    return listed


# --- submit, replace, cancel, find ----------------------------------------------------------------


async def test_an_order_goes_out_with_exact_numbers_as_strings(http_server: Any, http_reply: Any, bench: Any) -> None:
    async with http_server(lambda *_: http_reply(422, {"code": 42210000, "message": "no"})) as server:
        broker = bench.broker(QUICK, url=server.url)
        terms = {"quantity": Decimal("1E+2"), "limit_price": Decimal("0.10"), "time_in_force": TimeInForce.GTC}
        with pytest.raises(RequestRefused):
            await broker.submit(order(**terms, extended_hours=True))
    (_, path, body) = server.asked[0]
    assert path == "/v2/orders"
    assert json.loads(body) == {
        "client_order_id": "tu-1",
        "symbol": "AAPL",
        "qty": "100",
        "side": "buy",
        "type": "limit",
        "time_in_force": "gtc",
        "limit_price": "0.10",
        "extended_hours": True,
    }


async def test_submit_find_replace_cancel(bench: Any) -> None:
    broker = bench.broker()
    report = await broker.submit(order())
    assert report.client_order_id == "tu-1"
    assert report.status in (OrderStatus.PENDING_NEW, OrderStatus.NEW)
    found = await broker.find(client_order_id=ClientOrderId("tu-1"))
    assert found is not None
    assert found.broker_order_id == report.broker_order_id
    change = OrderChange(client_order_id=ClientOrderId("tu-1-b"), limit_price=Decimal(201), quantity=Decimal(8))
    replacing = await broker.replace(report.broker_order_id, change)
    assert replacing.replaces == report.broker_order_id
    assert (replacing.client_order_id, replacing.quantity, replacing.limit_price) == (
        "tu-1-b",
        Decimal(8),
        Decimal(201),
    )
    await broker.cancel(replacing.broker_order_id)
    old = await broker.find(broker_order_id=report.broker_order_id)
    assert old is not None
    assert old.status is OrderStatus.REPLACED
    assert old.replaced_by == replacing.broker_order_id


async def test_find_of_nothing_is_none_and_of_two_ids_is_bad_input(bench: Any) -> None:
    broker = bench.broker()
    assert await broker.find(client_order_id=ClientOrderId("never")) is None
    assert await broker.find(broker_order_id=BrokerOrderId("../account?x=1#y")) is None
    with pytest.raises(BadInput):
        await broker.find()
    with pytest.raises(BadInput):
        await broker.find(client_order_id=ClientOrderId("a"), broker_order_id=BrokerOrderId("b"))


async def test_refusals_keep_the_brokers_status_code_and_words(bench: Any) -> None:
    broker = bench.broker()
    with pytest.raises(RequestRefused) as poor:
        await broker.submit(order(quantity=Decimal(1_000_000)))
    assert (poor.value.status, poor.value.code) == (403, "40310000")
    assert "buying power" in poor.value.message
    report = await broker.submit(order())
    await bench.post("/sim/fill", order_id=report.broker_order_id, price="200")
    with pytest.raises(RequestRefused) as late:
        await broker.cancel(report.broker_order_id)
    assert (late.value.status, late.value.code) == (422, "42210000")
    with pytest.raises(RequestRefused) as unknown:
        await broker.cancel(BrokerOrderId("8f3c0000-0000-4000-8000-000000000000"))
    assert unknown.value.status == 404


async def test_a_duplicate_client_order_id_with_the_same_terms_is_the_order_itself(bench: Any) -> None:
    broker = bench.broker()
    first = await broker.submit(order())
    again = await broker.submit(order())
    assert again.broker_order_id == first.broker_order_id
    assert len(await orders_at_the_broker(bench)) == 1


async def test_a_duplicate_client_order_id_with_other_terms_is_refused(bench: Any) -> None:
    broker = bench.broker()
    await broker.submit(order())
    with pytest.raises(RequestRefused, match="another order has this id"):
        await broker.submit(order(quantity=Decimal(11)))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "seconds": 60, "match": {"method": "GET"}},
        {"kind": "refuse", "seconds": 60, "match": {"method": "GET"}},
    ],
)
async def test_a_duplicate_that_cannot_be_looked_up_leaves_the_outcome_unknown(bench: Any, fault: Any) -> None:
    broker = bench.broker()
    await broker.submit(order())
    await bench.fault("rest", **fault)
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order())


# --- what a failure says about what was done ------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504, "reset", "hang"])
async def test_a_lost_reply_to_a_submit_is_an_unknown_outcome_sent_once(bench: Any, status: Any) -> None:
    broker = bench.broker(QUICK)
    await bench.fault("rest", "lost_reply", match={"path": "/v2/orders", "method": "POST", "status": status}, count=1)
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order())
    await bench.clear_faults()
    assert [item["client_order_id"] for item in await orders_at_the_broker(bench)] == ["tu-1"]
    found = await broker.find(client_order_id=ClientOrderId("tu-1"))
    assert found is not None
    assert broker.stats().requests["POST"] == 1


@pytest.mark.parametrize("status", [500, 504, "reset", "hang"])
async def test_a_lost_reply_to_a_replace_is_an_unknown_outcome(bench: Any, status: Any) -> None:
    broker = bench.broker(QUICK)
    report = await broker.submit(order())
    await bench.fault("rest", "lost_reply", match={"method": "PATCH", "status": status}, count=1)
    with pytest.raises(OutcomeUnknown):
        await broker.replace(
            report.broker_order_id, OrderChange(client_order_id=ClientOrderId("b"), quantity=Decimal(9))
        )


@pytest.mark.parametrize("kind", ["error", "timeout", "refuse", "drop"])
async def test_a_failed_read_changes_nothing_and_may_be_asked_again(bench: Any, kind: str) -> None:
    broker = bench.broker(QUICK)
    await bench.fault("rest", kind, seconds=60, match={"method": "GET"})
    with pytest.raises(BrokerUnavailable):
        await broker.find(client_order_id=ClientOrderId("tu-1"))
    with pytest.raises(BrokerUnavailable):
        await broker.snapshot(FULL)
    await bench.clear_faults()
    assert await broker.find(client_order_id=ClientOrderId("tu-1")) is None


async def test_a_rate_limit_is_not_an_acceptance_and_says_how_long(bench: Any) -> None:
    broker = bench.broker(QUICK)
    await bench.fault("rest", "rate_limit", count=1, by_seconds=3)
    with pytest.raises(RateLimited) as limited:
        await broker.submit(order())
    assert limited.value.retry_after_s == 3
    assert await orders_at_the_broker(bench) == []
    with pytest.raises(RateLimited):  # the pause is kept without asking again
        await broker.submit(order("tu-2"))
    assert broker.stats().requests["POST"] == 1
    assert broker.stats().failures["RateLimited"] == 1


async def test_nobody_there_means_never_sent(bench: Any) -> None:
    broker = bench.broker(QUICK, url="http://127.0.0.1:9")
    with pytest.raises(BrokerUnavailable, match="--alpaca-url"):
        await broker.submit(order())
    with pytest.raises(BrokerUnavailable, match="--alpaca-url"):
        await broker.replace(BrokerOrderId("x"), OrderChange(client_order_id=ClientOrderId("b")))


async def test_a_name_that_does_not_exist_means_never_sent(bench: Any) -> None:
    with pytest.raises(BrokerUnavailable, match="--alpaca-url"):
        await bench.broker(QUICK, url="http://nobody.invalid").submit(order())


async def test_a_server_without_tls_means_never_sent(bench: Any) -> None:
    with pytest.raises(BrokerUnavailable, match="--alpaca-url"):
        await bench.broker(QUICK, url=bench.sim.url.replace("http", "https")).submit(order())
    assert await orders_at_the_broker(bench) == []


async def test_a_kept_connection_that_breaks_is_no_proof_that_nothing_was_sent(
    bench: Any, http_server: Any, http_reply: Any
) -> None:
    replies = iter([http_reply(200, {"id": "a", "cash": "1", "equity": "1"}), None])
    async with http_server(lambda *_: next(replies)) as server:
        broker = bench.broker(QUICK, url=server.url)
        submit = broker._rest._lanes["order"]
        broker._rest._lanes["read"] = submit  # one thread for both, so that the second request meets the old connection
        await broker.account()
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order())
        assert server.count("POST") == 1


HTML = "<html><body>Bad Gateway</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "on_get", "on_post"),
    [
        (200, "", "application/json", BrokerUnavailable, OutcomeUnknown),
        (200, HTML, "text/html", BrokerUnavailable, OutcomeUnknown),
        (200, "[1]", "application/json", BrokerUnavailable, OutcomeUnknown),
        (200, '{"id":"x"}', "application/json", BrokerUnavailable, OutcomeUnknown),
        (302, "", "text/html", BrokerUnavailable, BrokerUnavailable),
        (400, '{"code":40010001,"message":"bad"}', "application/json", BrokerUnavailable, RequestRefused),
        (401, '{"message":"unauthorized."}', "application/json", BadCredentials, BadCredentials),
        (403, '{"message":"forbidden."}', "application/json", BadCredentials, BadCredentials),
        (403, '{"code":40110000,"message":"not yours"}', "application/json", BadCredentials, BadCredentials),
        (403, '{"code":40310000,"message":"insufficient"}', "application/json", BrokerUnavailable, RequestRefused),
        (403, HTML, "text/html", BrokerUnavailable, BrokerUnavailable),
        (404, HTML, "text/html", BrokerUnavailable, BrokerUnavailable),
        (408, "", "text/html", BrokerUnavailable, OutcomeUnknown),
        (422, '{"message":"no code"}', "application/json", BrokerUnavailable, RequestRefused),
        (429, HTML, "text/html", RateLimited, RateLimited),
        (500, '{"code":50010000,"message":"internal"}', "application/json", BrokerUnavailable, OutcomeUnknown),
        (502, HTML, "text/html", BrokerUnavailable, OutcomeUnknown),
        (503, "", "text/html", BrokerUnavailable, OutcomeUnknown),
        (504, HTML, "text/html", BrokerUnavailable, OutcomeUnknown),
    ],
)
async def test_a_reply_is_sorted_by_what_it_says_about_what_was_done(
    bench: Any,
    http_server: Any,
    http_reply: Any,
    status: int,
    body: str,
    kind: str,
    on_get: type[TrueupError],
    on_post: type[TrueupError],
) -> None:
    def answer(*_: Any) -> bytes:
        reply: bytes = http_reply(status, body, kind=kind, Location="http://127.0.0.1:9/")
        return reply

    async with http_server(answer) as server:
        with pytest.raises(on_get) as read:
            await bench.broker(QUICK, url=server.url).find(broker_order_id=BrokerOrderId("x"))
        assert type(read.value) is on_get
        with pytest.raises(on_post) as sent:
            await bench.broker(QUICK, url=server.url).submit(order())
        assert type(sent.value) is on_post
        assert server.count("POST") == 1


async def test_only_the_brokers_own_404_is_no_order(bench: Any, http_server: Any, http_reply: Any) -> None:
    async with http_server(lambda *_: http_reply(404, {"code": 40410000, "message": "order not found"})) as server:
        assert await bench.broker(QUICK, url=server.url).find(client_order_id=ClientOrderId("a")) is None


@pytest.mark.parametrize("when", ["before the reply", "within the reply"])
async def test_a_connection_cut(bench: Any, http_server: Any, http_reply: Any, when: str) -> None:
    def answer(*_: Any) -> bytes | None:
        return None if when == "before the reply" else b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"

    async def cut(*asked: Any) -> bytes | None:
        return answer(*asked)

    async with http_server(cut) as server:
        with pytest.raises(OutcomeUnknown):
            await bench.broker(QUICK, url=server.url).submit(order())
        with pytest.raises(BrokerUnavailable):
            await bench.broker(QUICK, url=server.url).account()


async def test_an_answer_that_never_comes_is_given_up_by_the_thread_itself(bench: Any) -> None:
    broker = bench.broker(ClientOptions(read_s=0.3, total_s=600, requests_per_minute=0))
    await bench.fault("rest", "timeout", seconds=600)
    async with asyncio.timeout(GENEROUS_S):
        with pytest.raises(BrokerUnavailable, match="timed out"):
            await broker.account()
        with pytest.raises(OutcomeUnknown, match="timed out"):
            await broker.submit(order())


async def test_an_answer_that_drips_for_ever_is_bounded(bench: Any, http_server: Any) -> None:
    stop = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not stop.is_set() and not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)
        writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    broker = bench.broker(ClientOptions(read_s=5, total_s=0.5, requests_per_minute=0), url=url)
    with pytest.raises(OutcomeUnknown, match="longer than"):
        await broker.submit(order())
    with pytest.raises(BrokerUnavailable, match="longer than"):
        await broker.account()
    stop.set()
    server.close()


async def test_keys_that_worked_are_given_up_only_after_several_refusals(
    bench: Any, http_server: Any, http_reply: Any
) -> None:
    refused = http_reply(401, {"message": "unauthorized."})
    proof = http_reply(200, {"id": "a", "cash": "1", "equity": "1"})
    replies = iter([proof, refused, refused, proof, refused, refused, refused])
    async with http_server(lambda *_: next(replies)) as server:
        broker = bench.broker(QUICK, url=server.url)
        seen = []
        for _ in range(7):
            try:
                await broker.account()
                seen.append("ok")
            except TrueupError as error:
                seen.append(type(error).__name__)
    assert seen == ["ok", "BrokerUnavailable", "BrokerUnavailable", "ok", *["BrokerUnavailable"] * 2, "BadCredentials"]


async def test_wrong_keys_say_what_to_check(bench: Any) -> None:
    with pytest.raises(BadCredentials, match="APCA_API_KEY_ID"):
        await bench.broker(secret="WRONG").account()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("paper-api.alpaca.markets", "https://"),
        ("ws://127.0.0.1:1", "https://"),
        ("http://127.0.0.1:1/v2", "/v2"),
        ("http://", "https://"),
        ("http://a:b@127.0.0.1", "environment"),
        ("http://127.0.0.1:99999", "port"),
    ],
)
def test_an_address_that_can_not_be_right_names_the_setting(bench: Any, url: str, hint: str) -> None:
    with pytest.raises(BadInput, match="--alpaca-url") as caught:
        bench.broker(url=url)
    assert caught.value.field == "alpaca_url"
    assert hint in str(caught.value).lower()


# --- lanes and budget -----------------------------------------------------------------------------


async def test_a_cancel_does_not_wait_for_anything_else(bench: Any, until: Any) -> None:
    broker = bench.broker(ClientOptions(read_s=30, total_s=40, requests_per_minute=0))
    reports = [await broker.submit(order(f"tu-{number}")) for number in range(3)]
    await bench.fault("rest", "timeout", seconds=120, match={"method": "GET"})
    await bench.fault("rest", "timeout", seconds=120, match={"method": "POST"})
    stuck = [asyncio.create_task(broker.snapshot(FULL)) for _ in range(10)]
    stuck += [asyncio.create_task(broker.find(client_order_id=ClientOrderId("x"))) for _ in range(10)]
    stuck += [asyncio.create_task(broker.submit(order(f"stuck-{number}"))) for number in range(12)]
    await until(lambda: broker.stats().requests.get("POST", 0) >= 3 + 8)
    async with asyncio.timeout(GENEROUS_S):
        for report in reports:
            await broker.cancel(report.broker_order_id)
    assert all(item["status"] == "canceled" for item in await orders_at_the_broker(bench))
    await broker.close()
    done = await asyncio.gather(*stuck, return_exceptions=True)
    assert all(isinstance(outcome, BaseException) for outcome in done)
    assert any(isinstance(outcome, RateLimited) for outcome in done), "orders beyond the lane's threads are not queued"


async def test_a_submit_beyond_the_budget_is_not_queued_and_a_cancel_has_its_reserve(bench: Any) -> None:
    broker = bench.broker(ClientOptions(requests_per_minute=20))
    reports = []
    limited: RateLimited | None = None
    for number in range(20):
        try:
            reports.append(await broker.submit(order(f"tu-{number}", quantity=Decimal(1))))
        except RateLimited as error:
            limited = error
            break
    assert limited is not None
    assert limited.retry_after_s is not None
    assert 0 < limited.retry_after_s <= 60
    assert len(await orders_at_the_broker(bench)) == len(reports)
    await broker.cancel(reports[0].broker_order_id)


async def test_closing_ends_what_is_under_way_and_leaves_no_thread(bench: Any, until: Any) -> None:
    before = set(threading.enumerate())
    broker = bench.broker(ClientOptions(read_s=60, total_s=60, requests_per_minute=0))
    await bench.fault("rest", "timeout", seconds=120)
    asked = [asyncio.create_task(broker.account()), asyncio.create_task(broker.submit(order()))]
    await until(lambda: sum(broker.stats().requests.values()) == 2)
    for _ in range(200):
        hits = [fault["hits"] for fault in await bench.get("/sim/faults")]
        if hits == [2]:
            break
        await asyncio.sleep(0.02)
    await broker.close()
    async with asyncio.timeout(GENEROUS_S):
        read, sent = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(read, BrokerUnavailable)
    assert isinstance(sent, OutcomeUnknown)
    await until(lambda: not [thread for thread in set(threading.enumerate()) - before if "alpaca" in thread.name])
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.account()


async def test_stats_and_clock_skew(make_bench: Any, http_server: Any, http_reply: Any) -> None:
    bench = await make_bench(rate_limit=200)
    broker = bench.broker()
    assert broker.clock_skew_s is None
    await broker.account()
    stats = broker.stats()
    assert stats.requests == {"GET": 1}
    assert (stats.rate_limit, stats.rate_limit_remaining) == (200, 199)
    assert broker.clock_skew_s is not None
    assert abs(broker.clock_skew_s) < 5
    late = http_reply(404, {"code": 40410000, "message": "no"}, Date="Thu, 01 Jan 2026 00:00:00 GMT")
    async with http_server(lambda *_: late) as server:
        skewed = bench.broker(QUICK, url=server.url)
        assert await skewed.find(client_order_id=ClientOrderId("a")) is None
    assert skewed.clock_skew_s is not None
    assert skewed.clock_skew_s < -86_400


# --- snapshots ------------------------------------------------------------------------------------


async def fill(bench: Any, order_id: str, **terms: str) -> None:
    await bench.post("/sim/fill", order_id=order_id, **terms)


async def test_a_full_snapshot_holds_the_books(bench: Any) -> None:
    broker = bench.broker()
    working = await broker.submit(order("tu-1"))
    filled = await broker.submit(order("tu-2", symbol=Symbol("MSFT")))
    external = await bench.post("/sim/orders", symbol="AAPL", side="buy", qty="3", type="limit", limit_price="190")
    await fill(bench, filled.broker_order_id, qty="4", price="199")
    await fill(bench, filled.broker_order_id, qty="6", price="198")
    unknown = BrokerOrderId("8f3c0000-0000-4000-8000-000000000000")
    before = datetime.now(UTC)
    snapshot = await broker.snapshot(
        SnapshotRequest(scope=SnapshotScope.FULL, known=(working.broker_order_id, unknown), since=before)
    )
    assert before <= snapshot.started_at <= snapshot.finished_at
    by_id = {report.broker_order_id: report for report in snapshot.orders}
    assert set(by_id) == {working.broker_order_id, filled.broker_order_id, external["id"]}
    assert by_id[filled.broker_order_id].status is OrderStatus.FILLED
    assert snapshot.absent == (unknown,)
    assert [(fill.quantity, fill.price, fill.cum_quantity) for fill in snapshot.executions] == [
        (Decimal(4), Decimal(199), Decimal(4)),
        (Decimal(6), Decimal(198), Decimal(10)),
    ]
    assert snapshot.positions is not None
    assert [(position.symbol, position.quantity) for position in snapshot.positions] == [("MSFT", Decimal(10))]
    assert snapshot.account is not None
    truth = await bench.get("/sim/truth")
    assert snapshot.account.cash == Decimal(truth["cash"])


async def test_known_orders_that_ended_long_before_are_read_by_id(bench: Any) -> None:
    broker = bench.broker(ClientOptions(requests_per_minute=0, slack_s=0))
    gone = await broker.submit(order("tu-1"))
    await broker.cancel(gone.broker_order_id)
    since = datetime.now(UTC) + timedelta(seconds=1)
    for scope in (SnapshotScope.ORDERS, SnapshotScope.FULL):
        request = SnapshotRequest(scope=scope, known=(gone.broker_order_id,), since=since)
        snapshot = await broker.snapshot(request)
        assert [report.status for report in snapshot.orders] == [OrderStatus.CANCELED]
        assert snapshot.absent == ()


async def test_the_two_polls_hold_what_their_scope_says(bench: Any) -> None:
    broker = bench.broker()
    report = await broker.submit(order())
    await fill(bench, report.broker_order_id, qty="4", price="199")
    orders = await broker.snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS))
    assert [found.filled_quantity for found in orders.orders] == [Decimal(4)]
    assert (orders.positions, orders.account, orders.executions) == (None, None, ())
    positions = await broker.snapshot(SnapshotRequest(scope=SnapshotScope.POSITIONS))
    assert positions.orders == ()
    assert positions.positions is not None
    assert positions.account is not None
    assert [position.quantity for position in positions.positions] == [Decimal(4)]


async def test_all_pages_are_read(bench: Any) -> None:
    options = ClientOptions(requests_per_minute=0, orders_page=4, activities_page=3)
    broker = bench.broker(options)
    reports = [await broker.submit(order(f"tu-{number}", quantity=Decimal(2))) for number in range(12)]
    for report in reports[:8]:
        await fill(bench, report.broker_order_id, qty="1", price="199")
    snapshot = await broker.snapshot(FULL)
    assert {report.broker_order_id for report in snapshot.orders} == {report.broker_order_id for report in reports}
    assert len(snapshot.executions) == 8
    orders = await broker.snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS))
    assert len(orders.orders) == 12


async def test_many_known_orders_are_found_without_asking_for_each(bench: Any) -> None:
    options = ClientOptions(requests_per_minute=0, orders_page=10, lookups_max=5)
    broker = bench.broker(options)
    known = []
    for number in range(30):
        report = await broker.submit(order(f"tu-{number}"))
        await broker.cancel(report.broker_order_id)
        known.append(report.broker_order_id)
    asked = broker.stats().requests.get("GET", 0)
    snapshot = await broker.snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS, known=tuple(known)))
    assert {report.broker_order_id for report in snapshot.orders} == set(known)
    assert broker.stats().requests["GET"] - asked <= 6


async def test_a_snapshot_during_which_the_orders_move_is_taken_again(bench: Any) -> None:
    broker = bench.broker()
    report = await broker.submit(order())
    taken = broker._positions
    moves = iter(["1", "2"])

    async def moving() -> Any:
        positions = await taken()
        for quantity in moves:
            await fill(bench, report.broker_order_id, qty=quantity, price="199")
            break
        return positions

    broker._positions = moving
    snapshot = await broker.snapshot(FULL)
    assert broker.oddities["torn_snapshot"] == 2
    assert [found.filled_quantity for found in snapshot.orders] == [Decimal(3)]
    assert [position.quantity for position in snapshot.positions] == [Decimal(3)]
    assert sum(execution.quantity for execution in snapshot.executions) == Decimal(3)


async def test_orders_that_never_hold_still_give_no_snapshot(bench: Any) -> None:
    broker = bench.broker()
    report = await broker.submit(order())
    taken = broker._positions

    async def moving() -> Any:
        positions = await taken()
        await fill(bench, report.broker_order_id, qty="1", price="199")
        return positions

    broker._positions = moving
    with pytest.raises(BrokerUnavailable, match="changed during each"):
        await broker.snapshot(FULL)


async def test_an_account_that_fills_all_the_time_gets_its_snapshots(bench: Any) -> None:
    """A fill every 100 ms, and answers that take 60: no two readings are equal, and each has to add up."""
    broker = bench.broker()
    report = await broker.submit(order(quantity=Decimal(1000), limit_price=Decimal(20)))
    await broker.snapshot(FULL)
    await bench.fault("rest", "delay", seconds=3600, by_seconds=0.06, match={"method": "GET"})

    async def trade() -> None:
        while True:
            await fill(bench, report.broker_order_id, qty="1", price="19.99")
            await asyncio.sleep(0.1)

    trading = asyncio.create_task(trade())
    whole: list[Decimal] = []
    for _ in range(20):
        try:
            snapshot = await broker.snapshot(FULL)
        except BrokerUnavailable:
            continue
        (row,) = snapshot.orders
        executed = sum((execution.quantity for execution in snapshot.executions), Decimal(0))
        held = sum((position.quantity for position in snapshot.positions), Decimal(0))
        assert row.filled_quantity == executed == held
        assert snapshot.account.cash == Decimal(100_000) - held * Decimal("19.99")
        whole.append(held)
    trading.cancel()
    assert len(whole) >= 18
    assert len(set(whole)) >= 10, "the account was not busy"


async def test_a_long_list_of_fills_is_read_in_stretches_at_once(bench: Any) -> None:
    """Eleven fills on pages of four: with a base they are read in stretches that leave room for new ones."""
    broker = bench.broker(ClientOptions(requests_per_minute=0, activities_page=4))
    report = await broker.submit(order(quantity=Decimal(100)))
    for _ in range(9):
        await fill(bench, report.broker_order_id, qty="1", price="199")
    await broker.snapshot(FULL)
    before = broker.stats().requests["GET"]
    await fill(bench, report.broker_order_id, qty="1", price="199")
    await fill(bench, report.broker_order_id, qty="1", price="199")
    asked = []
    real = broker._rest.call

    async def noted(lane: Any, method: str, path: str, data: Any = None) -> Any:
        if path.endswith("/activities"):
            asked.append(dict(data))
        return await real(lane, method, path, data)

    broker._rest.call = noted
    snapshot = await broker.snapshot(FULL)
    assert [execution.cum_quantity for execution in snapshot.executions] == [Decimal(n) for n in range(1, 12)]
    assert broker.stats().requests["GET"] - before == 5 + 2 + 1, "one pass, three stretches, and the full one's end"
    assert [("until" in fields, "page_token" in fields) for fields in asked[:3]] == [
        (False, False),
        (True, False),
        (True, False),
    ]


async def test_a_pass_asks_for_every_list_at_once(bench: Any, http_server: Any, books: Books) -> None:
    """Each answer waits until all five have been asked for: one after the other would wait for ever."""
    waiting = 0
    all_asked = asyncio.Event()

    async def together(method: str, path: str, body: bytes) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == 5:
            all_asked.set()
        await all_asked.wait()
        return books(method, path, body)

    async with http_server(together) as server:
        broker = broker_for(bench, server.url)
        async with asyncio.timeout(GENEROUS_S):
            await broker.snapshot(FULL)
            assert broker.stats().requests == {"GET": 15}, "three passes that show one another to be right"
            await broker.snapshot(FULL)
        assert broker.stats().requests == {"GET": 20}, "one that adds up"


async def test_known_orders_are_looked_up_several_at_once(bench: Any, http_server: Any, books: Books) -> None:
    books.by_id = {name: raw_order(name, status="canceled") for name in ("a", "b", "c", "d")}
    waiting = 0
    all_asked = asyncio.Event()

    async def together(method: str, path: str, body: bytes) -> bytes:
        nonlocal waiting
        if path.startswith("/v2/orders/"):
            waiting += 1
            if waiting == 4:
                all_asked.set()
            await all_asked.wait()
        return books(method, path, body)

    async with http_server(together) as server:
        known = tuple(BrokerOrderId(name) for name in ("a", "b", "c", "d", "a"))
        async with asyncio.timeout(GENEROUS_S):
            request = SnapshotRequest(scope=SnapshotScope.ORDERS, known=known)
            snapshot = await broker_for(bench, server.url).snapshot(request)
    assert {report.broker_order_id for report in snapshot.orders} == set(known)


@pytest.mark.parametrize("path", ["/v2/positions", "/v2/account", "/v2/account/activities", "/v2/orders"])
async def test_a_part_that_fails_fails_the_whole_snapshot(bench: Any, path: str) -> None:
    broker = bench.broker()
    await broker.submit(order())
    await bench.fault("rest", "error", seconds=60, match={"path": path, "method": "GET"})
    with pytest.raises(BrokerUnavailable):
        await broker.snapshot(FULL)


class Books:
    """A broker's lists, served raw: what the simulator would never hold, and what it would never leave out."""

    def __init__(self, http_reply: Any) -> None:
        self.reply = http_reply
        self.open: list[Any] = []
        self.all: list[Any] = []
        self.nested: list[Any] = []
        self.by_id: dict[str, Any] = {}
        self.positions: Any = []
        self.activities: Any = []

    def __call__(self, method: str, path: str, body: bytes) -> bytes:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return self.reply(*self.answer(parts.path, query))  # type: ignore[no-any-return]

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        match path:
            case "/v2/orders":
                if query["nested"] == "true":
                    return 200, self.nested
                return 200, self.open if query["status"] == "open" else self.all
            case "/v2/positions":
                return 200, self.positions
            case "/v2/account":
                return 200, {"id": "a", "cash": "1", "equity": "1"}
            case "/v2/account/activities":
                return 200, self.activities
        order_id = path.rpartition("/")[2]
        if order_id in self.by_id:
            return 200, self.by_id[order_id]
        return 404, {"code": 40410000, "message": "order not found"}


def raw_order(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "symbol": "AAPL",
        "side": "buy",
        "status": "new",
        "qty": "10",
        "filled_qty": "0",
        "order_class": "",
        "submitted_at": "2026-05-11T13:45:10Z",
        "updated_at": "2026-05-11T13:45:10Z",
        **changes,
    }


@pytest.fixture
def books(http_reply: Any) -> Books:
    return Books(http_reply)


def broker_for(bench: Any, url: str, **options: Any) -> AlpacaBroker:
    whole: dict[str, Any] = {"requests_per_minute": 0, **options}
    broker: AlpacaBroker = bench.broker(ClientOptions(**whole), url=url)
    return broker


async def test_the_hidden_legs_of_a_filled_bracket_come_with_their_parent(
    bench: Any, http_server: Any, books: Books
) -> None:
    parent = raw_order("parent", order_class="bracket", status="filled", filled_qty="10")
    target = raw_order("target", order_class="bracket", side="sell")
    stop = raw_order("stop", order_class="bracket", side="sell", status="held")
    books.open = [target]
    books.all = [parent, target]
    books.nested = [{**parent, "legs": [target, stop]}]
    async with http_server(books) as server:
        snapshot = await broker_for(bench, server.url).snapshot(FULL)
    parents = {report.broker_order_id: report.parent for report in snapshot.orders}
    assert parents == {"parent": None, "target": "parent", "stop": "parent"}


async def test_a_leg_keeps_its_parent_when_the_flat_list_is_the_fresher(
    bench: Any, http_server: Any, books: Books
) -> None:
    parent = raw_order("parent", order_class="bracket", status="filled", filled_qty="10")
    leg = raw_order("leg", order_class="bracket", side="sell")
    books.open = [{**leg, "filled_qty": "4", "status": "partially_filled", "updated_at": "2026-05-11T13:45:11Z"}]
    books.all = [parent]
    books.nested = [{**parent, "legs": [leg]}]
    async with http_server(books) as server:
        snapshot = await broker_for(bench, server.url).snapshot(FULL)
    found = {report.broker_order_id: (report.parent, report.filled_quantity) for report in snapshot.orders}
    assert found == {"parent": (None, Decimal(10)), "leg": ("parent", Decimal(4))}


async def test_orders_sent_in_one_instant_are_not_lost_at_the_seam_of_two_pages(
    bench: Any, http_server: Any, books: Books
) -> None:
    seconds = [1, 2, 3, 3, 4, 4, 5]
    listed = [raw_order(f"o{n}", submitted_at=f"2026-05-11T13:45:{at:02d}Z") for n, at in enumerate(seconds)]
    real = books.answer

    def paged(path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path != "/v2/orders":
            return real(path, query)
        after = decode.instant(query.get("after", "2000-01-01"))
        until = decode.instant(query.get("until", "2100-01-01"))
        assert after is not None
        assert until is not None
        found = [raw for raw in listed if after < (decode.instant(raw["submitted_at"]) or after) < until]
        return 200, (found if query["direction"] == "asc" else found[::-1])[: int(query["limit"])]

    books.answer = paged  # type: ignore[method-assign]
    wanted = {raw["id"] for raw in listed}
    async with http_server(books) as server:
        forwards = await broker_for(bench, server.url, orders_page=3).snapshot(
            SnapshotRequest(scope=SnapshotScope.ORDERS)
        )
        broker = broker_for(bench, server.url, orders_page=3)
        backwards = await broker._pages("all", until_found={*wanted, "never"})
    assert {report.broker_order_id for report in forwards.orders} == wanted
    assert {raw["id"] for raw in backwards} == wanted


async def test_a_poll_reads_an_open_group_by_its_parent(bench: Any, http_server: Any, books: Books) -> None:
    entry = raw_order("entry", order_class="bracket")
    books.open = [entry]
    books.by_id = {"entry": {**entry, "legs": [raw_order("stop", order_class="bracket", side="sell", status="held")]}}
    async with http_server(books) as server:
        snapshot = await broker_for(bench, server.url).snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS))
    assert {report.broker_order_id: report.parent for report in snapshot.orders} == {"entry": None, "stop": "entry"}


@pytest.mark.parametrize("scope", [SnapshotScope.FULL, SnapshotScope.ORDERS])
@pytest.mark.parametrize("is_asked_for", [True, False])
async def test_a_take_profit_that_its_own_stop_has_replaced_is_over(
    bench: Any, http_server: Any, books: Books, scope: SnapshotScope, is_asked_for: bool
) -> None:
    target = raw_order("target", order_class="bracket", side="sell", status="replaced", replaced_by="next")
    successor = raw_order("next", order_class="bracket", side="sell", replaces="target" if is_asked_for else None)
    books.by_id = {"target": target, "next": successor}
    async with http_server(books) as server:
        request = SnapshotRequest(scope=scope, known=(BrokerOrderId("target"),))
        snapshot = await broker_for(bench, server.url).snapshot(request)
    told = {report.broker_order_id: (report.status, report.replaced_by) for report in snapshot.orders}
    expected = (OrderStatus.REPLACED, "next") if is_asked_for else (OrderStatus.CANCELED, None)
    assert told["target"] == expected
    assert set(told) == {"target", "next"}


@pytest.mark.parametrize(
    "spoil",
    [
        {"open": {"message": "not a list"}},
        {"open": [raw_order("a"), "text"]},
        {"open": [{"id": "a"}]},
        {"positions": None},
        {"positions": [{"symbol": "AAPL", "qty": "ten"}]},
        {"positions": [{"symbol": "AAPL", "qty": "-1", "side": "long", "avg_entry_price": "1"}]},
        {"activities": [{"activity_type": "FILL", "id": "1::2"}]},
        {"activities": "none"},
    ],
)
async def test_a_part_that_cannot_be_read_fails_the_whole_snapshot(
    bench: Any, http_server: Any, books: Books, spoil: dict[str, Any]
) -> None:
    for name, value in spoil.items():
        setattr(books, name, value)
    async with http_server(books) as server:
        with pytest.raises(BrokerUnavailable):
            await broker_for(bench, server.url).snapshot(FULL)


async def test_lists_that_do_not_move_on_are_given_up(bench: Any, http_server: Any, books: Books) -> None:
    books.open = [raw_order("a"), raw_order("b")]
    async with http_server(books) as server:
        broker = broker_for(bench, server.url, orders_page=2)
        with pytest.raises(BrokerUnavailable, match="does not move on"):
            await broker.snapshot(SnapshotRequest(scope=SnapshotScope.ORDERS))
        books.open = []
        books.activities = [
            {
                "activity_type": "FILL",
                "id": f"20260511::{number}",
                "transaction_time": "2026-05-11T13:45:10Z",
                "price": "1",
                "qty": "1",
                "side": "buy",
                "symbol": "AAPL",
                "order_id": "a",
            }
            for number in range(2)
        ]
        broker = broker_for(bench, server.url, activities_page=2)
        with pytest.raises(BrokerUnavailable, match="does not move on"):
            await broker.snapshot(FULL)


async def test_an_order_is_read_again_when_the_first_reading_missed_it(
    bench: Any, http_server: Any, books: Books
) -> None:
    """A read right after the write may say 404; the second reading of the same snapshot settles it."""
    answered = iter([404])
    real = books.answer

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path.endswith("/late") and next(answered, None):
            return 404, {"code": 40410000, "message": "order not found"}
        return real(path, query)

    books.by_id["late"] = raw_order("late")
    books.answer = answer  # type: ignore[method-assign]
    async with http_server(books) as server:
        request = SnapshotRequest(scope=SnapshotScope.FULL, known=(BrokerOrderId("late"),))
        snapshot = await broker_for(bench, server.url).snapshot(request)
    assert snapshot.absent == ()
    assert [report.broker_order_id for report in snapshot.orders] == ["late"]


async def test_a_snapshot_that_takes_too_long_is_given_up(bench: Any) -> None:
    broker = bench.broker(ClientOptions(read_s=30, total_s=30, snapshot_s=0.3, requests_per_minute=0))
    await bench.fault("rest", "timeout", seconds=60)
    with pytest.raises(BrokerUnavailable, match="no whole snapshot"):
        await broker.snapshot(FULL)


async def test_between_the_callers_look_at_its_gate_and_the_hand_over_nothing_else_can_run(bench: Any) -> None:
    broker = bench.broker()
    request = broker.submit(order())
    first_wait = request.send(None)  # runs up to the first point where anything else could run
    assert broker.stats().requests == {"POST": 1}
    first_wait.cancel()
    request.close()
