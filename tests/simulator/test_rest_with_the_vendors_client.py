"""Every REST call, made by the vendor's unmodified client."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.enums import OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOrderByIdRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopOrderRequest,
)


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a blocking call beside the simulator's loop."""
    return await asyncio.to_thread(function, *arguments, **named)


def limit(price: float, side: OrderSide = OrderSide.BUY, **more: Any) -> LimitOrderRequest:
    terms = {"symbol": "AAPL", "qty": 10, "time_in_force": TimeInForce.DAY, **more}
    return LimitOrderRequest(side=side, limit_price=price, **terms)


async def test_a_market_order_fills_and_is_found_by_both_ids(bench: Any) -> None:
    request = MarketOrderRequest(
        symbol="AAPL", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, client_order_id="mine-1"
    )
    order = await call(bench.trading.submit_order, request)
    by_id = await call(bench.trading.get_order_by_id, order.id, GetOrderByIdRequest(nested=True))
    by_client_id = await call(bench.trading.get_order_by_client_id, "mine-1")
    assert by_id.status == "filled"
    assert by_id.id == by_client_id.id
    assert by_id.filled_qty == "10"
    positions = await call(bench.trading.get_all_positions)
    assert [(p.symbol, p.qty) for p in positions] == [("AAPL", "10")]
    account = await call(bench.trading.get_account)
    assert Decimal(account.cash) == 100_000 - 10 * Decimal(by_id.filled_avg_price)


async def test_every_order_type_is_taken(manual: Any) -> None:
    client = manual.trading
    common = {"symbol": "MSFT", "qty": 2, "side": OrderSide.BUY}
    await call(client.submit_order, LimitOrderRequest(**common, limit_price=300, time_in_force=TimeInForce.GTC))
    await call(client.submit_order, StopOrderRequest(**common, stop_price=900, time_in_force=TimeInForce.DAY))
    await call(
        client.submit_order,
        StopLimitOrderRequest(**common, stop_price=900, limit_price=901, time_in_force=TimeInForce.DAY),
    )
    await call(client.submit_order, MarketOrderRequest(**common, time_in_force=TimeInForce.IOC))
    await call(
        client.submit_order,
        MarketOrderRequest(symbol="SPY", notional=150.5, side=OrderSide.BUY, time_in_force=TimeInForce.DAY),
    )
    orders = await call(client.get_orders, GetOrdersRequest(status=QueryOrderStatus.OPEN, nested=True))
    assert [order.type for order in orders] == ["market", "market", "stop_limit", "stop", "limit"]
    assert orders[0].qty is None
    assert orders[0].notional == "150.5"


async def test_replace_makes_a_new_order_that_names_the_old(manual: Any) -> None:
    old = await call(manual.trading.submit_order, limit(100))
    new = await call(manual.trading.replace_order_by_id, old.id, ReplaceOrderRequest(limit_price=101, qty=12))
    assert new.replaces == old.id
    old = await call(manual.trading.get_order_by_id, old.id)
    new = await call(manual.trading.get_order_by_id, new.id)
    assert (old.status, old.replaced_by) == ("replaced", new.id)
    assert (new.status, new.qty, new.limit_price) == ("new", "12", "101")


async def test_cancel_then_cancel_again_is_refused(manual: Any) -> None:
    order = await call(manual.trading.submit_order, limit(100))
    await call(manual.trading.cancel_order_by_id, order.id)
    assert (await call(manual.trading.get_order_by_id, order.id)).status == "canceled"
    with pytest.raises(APIError) as caught:
        await call(manual.trading.cancel_order_by_id, order.id)
    assert (caught.value.status_code, caught.value.code) == (422, 42210000)
    assert caught.value.message == 'order is already in "canceled" state'


async def test_cancel_all_answers_for_each_order(manual: Any) -> None:
    placed = [(await call(manual.trading.submit_order, limit(100 + n))).id for n in range(3)]
    answers = await call(manual.trading.cancel_orders)
    assert sorted(answer.id for answer in answers) == sorted(placed)
    assert {answer.status for answer in answers} == {200}
    assert await call(manual.trading.get_orders) == []


async def test_a_client_order_id_is_unique_for_ever(manual: Any) -> None:
    order = await call(manual.trading.submit_order, limit(100, client_order_id="once"))
    await call(manual.trading.cancel_order_by_id, order.id)
    with pytest.raises(APIError) as caught:
        await call(manual.trading.submit_order, limit(100, client_order_id="once"))
    assert (caught.value.status_code, caught.value.code) == (422, 40010001)
    assert caught.value.message == "client_order_id must be unique"


async def test_close_one_position_in_part_and_then_all(bench: Any) -> None:
    await bench.buy(qty="10")
    await bench.buy(symbol="MSFT", qty="3")
    await call(bench.trading.close_position, "AAPL", ClosePositionRequest(qty="4"))
    assert (await call(bench.trading.get_open_position, "AAPL")).qty == "6"
    await call(bench.trading.close_position, "AAPL", ClosePositionRequest(percentage="50"))
    assert (await call(bench.trading.get_open_position, "AAPL")).qty == "3"
    answers = await call(bench.trading.close_all_positions, cancel_orders=True)
    assert sorted(answer.symbol for answer in answers) == ["AAPL", "MSFT"]
    assert await call(bench.trading.get_all_positions) == []
    with pytest.raises(APIError) as caught:
        await call(bench.trading.get_open_position, "AAPL")
    assert (caught.value.status_code, caught.value.code) == (404, 40410000)


async def test_close_all_frees_what_orders_hold_only_when_asked(bench: Any) -> None:
    await bench.buy(qty="10")
    await bench.buy(side="sell", type="limit", limit_price="9000")
    refused = (await call(bench.trading.close_all_positions, cancel_orders=False))[0]
    assert refused.status == 403
    closed = (await call(bench.trading.close_all_positions, cancel_orders=True))[0]
    assert closed.status == 200
    assert await call(bench.trading.get_all_positions) == []


async def test_order_lists_page_by_time_and_by_id(manual: Any) -> None:
    ids = [(await manual.buy(symbol="F", qty="1", type="limit", limit_price="5"))["id"] for _ in range(7)]
    first = await manual.get("/v2/orders", status="all", limit=3, direction="asc")
    assert [order["id"] for order in first] == ids[:3]
    second = await manual.get("/v2/orders", status="all", limit=3, direction="asc", after=first[-1]["submitted_at"])
    assert [order["id"] for order in second] == ids[3:6]
    by_id = await manual.get("/v2/orders", status="all", limit=3, before_order_id=ids[3])
    assert [order["id"] for order in by_id] == [ids[2], ids[1], ids[0]]
    after_id = await manual.get("/v2/orders", status="all", after_order_id=ids[4], direction="asc")
    assert [order["id"] for order in after_id] == ids[5:]
    assert await manual.get("/v2/orders", status="all", symbols="AAPL,MSFT") == []
    assert len(await manual.get("/v2/orders", status="OPEN", symbols="F", nested="True", side="buy")) == 7


async def test_the_default_page_of_orders_is_fifty(manual: Any) -> None:
    for _ in range(52):
        await manual.buy(symbol="F", qty="1", type="limit", limit_price="5")
    assert len(await manual.get("/v2/orders")) == 50
    assert len(await manual.get("/v2/orders", limit=500)) == 52
    refused = await manual.http.get("/v2/orders", params={"limit": 501})
    assert refused.status_code == 422
    assert "limit" in refused.json()["message"]


async def test_activities_page_through_every_fill_once(bench: Any) -> None:
    for _ in range(5):
        await bench.buy(symbol="F", qty="1")
    seen: list[str] = []
    token = ""
    while True:
        query = {"activity_types": "FILL", "page_size": 2, "direction": "asc"}
        page = await call(bench.trading.get, "/account/activities", query | ({"page_token": token} if token else {}))
        seen.extend(item["id"] for item in page)
        if len(page) < 2:
            break
        token = page[-1]["id"]
    assert len(seen) == len(set(seen)) == 5
    truth = await bench.get("/sim/truth")
    assert {item.split("::")[1] for item in seen} == {execution["id"] for execution in truth["executions"]}
    order_id = truth["orders"][2]["id"]
    only = await bench.get("/v2/account/activities/FILL", order_id=order_id)
    assert [item["order_id"] for item in only] == [order_id]
    assert (only[0]["cum_qty"], only[0]["leaves_qty"], only[0]["type"]) == ("1", "0", "fill")


async def test_activity_ids_may_differ_from_execution_ids(start: Any) -> None:
    bench = await start(activity_ids_match=False)
    await bench.buy()
    activity = (await bench.get("/v2/account/activities"))[0]
    execution = (await bench.get("/sim/truth"))["executions"][0]
    assert activity["id"].split("::")[1] != execution["id"]
    assert activity["order_id"] == execution["order_id"]


async def test_clock_and_calendar_agree_that_it_is_open(bench: Any) -> None:
    clock = await call(bench.trading.get_clock)
    assert clock.is_open
    assert clock.timestamp < clock.next_close <= clock.timestamp + timedelta(days=1)
    today = clock.timestamp.date()
    days = await call(bench.trading.get_calendar, GetCalendarRequest(start=today, end=today + timedelta(days=6)))
    assert [day.date for day in days] == [today + timedelta(days=n) for n in range(7)]
    assert len(await call(bench.trading.get_calendar)) > 700


async def test_regular_hours_leave_out_weekends(start: Any) -> None:
    bench = await start(is_always_open=False)
    request = GetCalendarRequest(start=date(2026, 3, 6), end=date(2026, 3, 9))
    days = await call(bench.trading.get_calendar, request)
    assert [(day.date.day, day.open.hour, day.close.hour) for day in days] == [(6, 9, 16), (9, 9, 16)]


async def test_assets_configurations_and_history(bench: Any) -> None:
    assets = await call(bench.trading.get_all_assets, GetAssetsRequest())
    assert len(assets) >= 20
    apple = await call(bench.trading.get_asset, "AAPL")
    assert (await call(bench.trading.get_asset, str(apple.id))).symbol == "AAPL"
    with pytest.raises(APIError):
        await call(bench.trading.get_asset, "NOPE")
    configurations = await call(bench.trading.get_account_configurations)
    configurations.suspend_trade = True
    assert (await call(bench.trading.set_account_configurations, configurations)).suspend_trade
    with pytest.raises(APIError) as caught:
        await call(bench.trading.submit_order, limit(100))
    assert caught.value.status_code == 403
    history = await call(bench.trading.get_portfolio_history, GetPortfolioHistoryRequest(timeframe="1Min"))
    assert history.equity[0] == 100_000


async def test_market_data_by_rest(bench: Any) -> None:
    symbols = ["AAPL", "SPY"]
    quotes = await call(bench.data.get_stock_latest_quote, StockLatestQuoteRequest(symbol_or_symbols=symbols))
    assert all(quotes[symbol].bid_price <= quotes[symbol].ask_price for symbol in symbols)
    trades = await call(bench.data.get_stock_latest_trade, StockLatestTradeRequest(symbol_or_symbols=symbols))
    assert set(trades) == set(symbols)
    latest = await call(bench.data.get_stock_latest_bar, StockLatestBarRequest(symbol_or_symbols=symbols))
    assert latest["SPY"].low <= latest["SPY"].high
    snapshots = await call(bench.data.get_stock_snapshot, StockSnapshotRequest(symbol_or_symbols=symbols))
    assert snapshots["AAPL"].previous_daily_bar.timestamp < snapshots["AAPL"].daily_bar.timestamp
    for frame, least in ((TimeFrame.Minute, 1440), (TimeFrame(5, TimeFrameUnit.Minute), 288), (TimeFrame.Day, 200)):
        request = StockBarsRequest(symbol_or_symbols=symbols, timeframe=frame)
        bars = (await call(bench.data.get_stock_bars, request)).data
        assert len(bars["AAPL"]) >= least
        times = [bar.timestamp for bar in bars["AAPL"]]
        assert times == sorted(set(times))


async def test_bars_come_in_pages(bench: Any) -> None:
    whole = await bench.get("/v2/stocks/bars", symbols="AAPL,F", timeframe="1Hour", limit=10000)
    page = await bench.get("/v2/stocks/bars", symbols="AAPL,F", timeframe="1Hour", limit=30)
    rest = await bench.get(
        "/v2/stocks/bars", symbols="AAPL,F", timeframe="1Hour", limit=10000, page_token=page["next_page_token"]
    )
    joined = {symbol: page["bars"].get(symbol, []) + rest["bars"].get(symbol, []) for symbol in ("AAPL", "F")}
    assert joined == whole["bars"]
    single = await bench.get("/v2/stocks/AAPL/bars", timeframe="1Hour", limit=10000)
    assert single["bars"] == whole["bars"]["AAPL"]


REFUSALS = [
    ({"symbol": "NOPE"}, 422, 42210000, 'asset "NOPE" not found'),
    ({"qty": "0"}, 422, 40010001, "qty must be > 0"),
    ({"qty": "1e9"}, 403, 40310000, "insufficient buying power"),
    ({"qty": "abc"}, 422, 40010001, "qty must be a number"),
    ({"qty": None}, 422, 40010001, "exactly one of qty and notional"),
    ({"notional": "5"}, 422, 40010001, "exactly one of qty and notional"),
    ({"side": "hold"}, 422, 40010001, "buy, sell"),
    ({"type": "moonshot"}, 422, 40010001, "market, limit, stop, stop_limit, trailing_stop"),
    ({"type": "trailing_stop"}, 422, 40010001, "exactly one of trail_price and trail_percent"),
    ({"trail_price": "1"}, 422, 40010001, "market orders must not have trail_price"),
    ({"time_in_force": "opg"}, 422, 40010001, "day, gtc, ioc, fok"),
    ({"type": "limit"}, 422, 40010001, "limit orders require limit_price"),
    ({"limit_price": "10"}, 422, 40010001, "market orders must not have limit_price"),
    ({"type": "limit", "limit_price": "10.001"}, 422, 42210000, "sub-penny increment"),
    ({"type": "stop", "stop_price": "1"}, 422, 42210000, "stop price must not be less than current price"),
    ({"qty": "0.5", "time_in_force": "gtc"}, 422, 42210000, "fractional orders must be DAY orders"),
    ({"qty": "0.5", "symbol": "BRK.B"}, 403, 40310000, 'asset "BRK.B" is not fractionable'),
    ({"qty": "0.5", "side": "sell"}, 422, 42210000, "fractional orders cannot be sold short"),
    ({"symbol": "GME", "side": "sell"}, 422, 42210000, 'asset "GME" cannot be sold short'),
    ({"extended_hours": True}, 422, 42210000, "extended hours order must be DAY limit orders"),
    ({"order_class": "mleg"}, 422, 40010001, "simple, bracket, oco, oto"),
    ({"order_class": "bracket"}, 422, 40010001, "bracket orders require take_profit.limit_price"),
    (
        {"order_class": "bracket", "take_profit": "99999"},
        422,
        40010001,
        "take_profit must be an object with limit_price",
    ),
    (
        {"order_class": "oto", "stop_loss": {"stop_price": "low"}},
        422,
        40010001,
        "stop_loss.stop_price must be a number",
    ),
    ({"order_class": "oto", "stop_loss": {"limit_price": "9"}}, 422, 40010001, "require stop_loss.stop_price"),
    (
        {"order_class": "oto", "take_profit": {"limit_price": "1"}},
        422,
        42210000,
        "take_profit.limit_price must be >= base_price + 0.01",
    ),
    ({"legs": [{"symbol": "X"}]}, 422, 40010001, "legs is not offered"),
    (
        {"order_class": "oto", "take_profit": {"limit_price": "9000"}, "qty": None, "notional": "100"},
        422,
        42210000,
        "fractional orders must be simple orders",
    ),
    (
        {"order_class": "oto", "take_profit": {"limit_price": "9000"}, "extended_hours": "true"},
        422,
        42210000,
        "extended hours orders must be simple orders",
    ),
    ({"client_order_id": "x" * 129}, 422, 40010001, "1 to 128 characters"),
]


@pytest.mark.parametrize(("terms", "status", "code", "message"), REFUSALS)
async def test_refusals_name_what_is_wrong(
    bench: Any, terms: dict[str, Any], status: int, code: int, message: str
) -> None:
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **terms}
    response = await bench.http.post("/v2/orders", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert message in response.json()["message"]
    assert (await bench.get("/sim/truth"))["orders"] == []


async def test_selling_more_than_is_free_says_what_holds_it(bench: Any) -> None:
    await bench.buy(qty="10")
    holder = await bench.buy(side="sell", qty="8", type="limit", limit_price="9000")
    response = await bench.http.post(
        "/v2/orders", json={"symbol": "AAPL", "qty": 5, "side": "sell", "type": "market", "time_in_force": "day"}
    )
    assert response.status_code == 403
    assert response.json() == {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 5, available: 2)",
        "available": "2",
        "existing_qty": "10",
        "held_for_orders": "8",
        "symbol": "AAPL",
        "related_orders": [holder["id"]],
    }


async def test_keys_are_asked_for(bench: Any) -> None:
    none = await bench.http.get("/v2/account", headers={"APCA-API-KEY-ID": "", "APCA-API-SECRET-KEY": ""})
    assert none.status_code == 401
    wrong = await bench.http.get("/v2/account", headers={"APCA-API-SECRET-KEY": "wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, 40110000)
    basic = await bench.http.get("/v2/account", auth=("SIM", "SIM"))
    assert basic.status_code == 200


async def test_the_rate_limit_is_real_and_spares_the_operator(start: Any) -> None:
    bench = await start(rate_limit=3)
    replies = [await bench.http.get("/v2/clock") for _ in range(8)]
    # The window is the minute of the clock; it may turn once under the test, never twice.
    limited = [reply for reply in replies if reply.status_code == 429]
    assert 2 <= len(limited) <= 5
    assert limited[0].json()["code"] == 42910000
    assert 1 <= int(limited[0].headers["Retry-After"]) <= 60
    assert replies[0].headers["X-RateLimit-Limit"] == "3"
    assert len({reply.headers["X-Request-ID"] for reply in replies}) == 8
    assert (await bench.http.get("/sim/truth")).status_code == 200


async def test_unknown_endpoints_and_methods_are_named(bench: Any) -> None:
    missing = await bench.http.get("/v2/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, 40410000)
    wrong = await bench.http.put("/v2/orders", json={})
    assert wrong.status_code == 405
    assert "GET" in wrong.json()["message"]
    broken = await bench.http.post("/v2/orders", content=b"{nope")
    assert broken.status_code == 400
