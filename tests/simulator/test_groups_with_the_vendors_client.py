"""Order groups and trailing stops, sent and read by the vendor's unmodified clients."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.trading.enums import OrderClass, OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    GetOrderByIdRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLossRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)

DAY = TimeInForce.DAY
NESTED = GetOrderByIdRequest(nested=True)


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a blocking call beside the simulator's loop."""
    return await asyncio.to_thread(function, *arguments, **named)


async def price(bench: Any, value: str) -> None:
    """Put AAPL at a price and keep it there."""
    await bench.post("/sim/price", {"symbol": "AAPL", "price": value, "hold_seconds": 600})


def bracket(kind: type = MarketOrderRequest, **more: Any) -> Any:
    terms = {
        "symbol": "AAPL",
        "qty": 10,
        "side": OrderSide.BUY,
        "time_in_force": DAY,
        "order_class": OrderClass.BRACKET,
        "take_profit": TakeProfitRequest(limit_price=210),
        "stop_loss": StopLossRequest(stop_price=190),
    }
    return kind(**(terms | more))


def told(order: Any) -> list[tuple[str, str]]:
    """Type and status of an order and its legs."""
    return [(each.type.value, each.status.value) for each in (order, *(order.legs or ()))]


async def test_a_bracket_from_the_first_answer_to_its_take_profit(bench: Any, listen: Any, until: Any) -> None:
    await price(bench, "200")
    listener = await listen(bench)
    client = bench.trading
    sent = await call(client.submit_order, bracket())
    assert (sent.order_class, len(sent.legs)) == (OrderClass.BRACKET, 2)
    entry = await call(client.get_order_by_id, sent.id, NESTED)
    assert told(entry) == [("market", "filled"), ("limit", "new"), ("stop", "held")]
    target, stop = entry.legs
    assert {leg.order_class for leg in entry.legs} == {OrderClass.BRACKET}
    assert (target.limit_price, stop.stop_price, stop.side) == ("210", "190", OrderSide.SELL)
    assert (await call(client.get_order_by_id, sent.id)).legs is None
    positions = await call(client.get_all_positions)
    assert [(each.qty, each.qty_available) for each in positions] == [("10", "0")]
    await price(bench, "211")
    await until(lambda: listener.events.count("fill") == 2)
    done = await call(client.get_order_by_id, sent.id, NESTED)
    assert told(done) == [("market", "filled"), ("limit", "filled"), ("stop", "canceled")]
    assert await call(client.get_all_positions) == []
    heard = [(update["event"], update["order"]["id"]) for update in listener.updates]
    assert heard == [
        ("pending_new", str(sent.id)),
        ("new", str(sent.id)),
        ("fill", str(sent.id)),
        ("new", str(target.id)),
        ("fill", str(target.id)),
    ]
    assert {(update["order"]["order_class"], update["order"]["legs"]) for update in listener.updates} == {
        ("bracket", None)
    }


async def test_a_stop_leg_that_fires_tells_of_the_cancelled_take_profit(bench: Any, listen: Any, until: Any) -> None:
    await price(bench, "200")
    listener = await listen(bench)
    sent = await call(bench.trading.submit_order, bracket())
    target, stop = sent.legs
    await price(bench, "189")
    await until(lambda: listener.events.count("fill") == 2)
    heard = [(update["event"], update["order"]["id"]) for update in listener.updates[4:]]
    assert heard == [("canceled", str(target.id)), ("new", str(stop.id)), ("fill", str(stop.id))]


async def test_lists_nest_legs_or_show_them_flat(manual: Any) -> None:
    await price(manual, "200")
    client = manual.trading
    sent = await call(client.submit_order, bracket(LimitOrderRequest, limit_price=199))
    open_orders = GetOrdersRequest(status=QueryOrderStatus.OPEN)
    nested = GetOrdersRequest(status=QueryOrderStatus.OPEN, nested=True)
    flat = await call(client.get_orders, open_orders)
    assert [(each.type.value, each.status.value, each.legs) for each in flat] == [
        ("stop", "held", None),
        ("limit", "held", None),
        ("limit", "new", None),
    ]
    [whole] = await call(client.get_orders, nested)
    assert told(whole) == [("limit", "new"), ("limit", "held"), ("stop", "held")]
    await manual.post("/sim/fill", {"order_id": str(sent.id)})
    # Legs are in their parents, and the parent is no longer open: an open and nested list has nothing of them.
    assert await call(client.get_orders, nested) == []
    assert {each.status.value for each in await call(client.get_orders, open_orders)} == {"held", "new"}
    everything = GetOrdersRequest(status=QueryOrderStatus.ALL, nested=True)
    [whole] = await call(client.get_orders, everything)
    assert told(whole) == [("limit", "filled"), ("limit", "new"), ("stop", "held")]
    by_name = await manual.get("/v2/orders:by_client_order_id", client_order_id=sent.client_order_id, nested="true")
    assert [leg["status"] for leg in by_name["legs"]] == ["new", "held"]


async def test_held_legs_can_be_listed_as_closed(start: Any) -> None:
    bench = await start(held_is_open=False)
    await price(bench, "200")
    await call(bench.trading.submit_order, bracket())
    listed = {name: await bench.get("/v2/orders", status=name) for name in ("open", "closed", "all")}
    shown = {name: [order["status"] for order in found] for name, found in listed.items()}
    assert shown == {"open": ["new"], "closed": ["held", "filled"], "all": ["held", "new", "filled"]}


async def test_a_replaced_leg_stays_in_its_group(bench: Any) -> None:
    await price(bench, "200")
    client = bench.trading
    sent = await call(client.submit_order, bracket())
    stop = sent.legs[1]
    new = await call(client.replace_order_by_id, stop.id, ReplaceOrderRequest(stop_price=195))
    assert (new.replaces, new.order_class) == (stop.id, OrderClass.BRACKET)
    await price(bench, "194")
    done = await call(client.get_order_by_id, sent.id, NESTED)
    assert told(done) == [("market", "filled"), ("limit", "canceled"), ("stop", "replaced"), ("stop", "filled")]


async def test_an_oco_is_its_take_profit_with_one_leg(bench: Any) -> None:
    await price(bench, "200")
    await bench.buy(qty="10")
    request = bracket(LimitOrderRequest, side=OrderSide.SELL, order_class=OrderClass.OCO)
    sent = await call(bench.trading.submit_order, request)
    assert (sent.order_class, sent.limit_price, sent.side) == (OrderClass.OCO, "210", OrderSide.SELL)
    assert told(await call(bench.trading.get_order_by_id, sent.id, NESTED)) == [("limit", "new"), ("stop", "held")]
    await price(bench, "189")
    done = await call(bench.trading.get_order_by_id, sent.id, NESTED)
    assert told(done) == [("limit", "canceled"), ("stop", "filled")]
    assert await call(bench.trading.get_all_positions) == []


async def test_an_oto_has_the_one_leg_that_was_asked_for(bench: Any) -> None:
    await price(bench, "200")
    stop_limit = StopLossRequest(stop_price=190, limit_price=189.5)
    sent = await call(
        bench.trading.submit_order, bracket(order_class=OrderClass.OTO, take_profit=None, stop_loss=stop_limit)
    )
    done = await call(bench.trading.get_order_by_id, sent.id, NESTED)
    assert told(done) == [("market", "filled"), ("stop_limit", "new")]
    assert done.legs[0].limit_price == "189.5"


async def test_cancelling_a_leg_or_everything_ends_the_group(manual: Any) -> None:
    await price(manual, "200")
    client = manual.trading
    request = bracket(LimitOrderRequest, limit_price=199)
    first, second = [await call(client.submit_order, request) for _ in range(2)]
    await call(client.cancel_order_by_id, first.legs[0].id)
    assert [status for _, status in told(await call(client.get_order_by_id, first.id, NESTED))] == ["canceled"] * 3
    answers = await call(client.cancel_orders)
    assert [(answer.id, answer.status) for answer in answers] == [(second.id, 200)]
    assert await call(client.get_orders) == []


async def test_closing_a_position_needs_its_exits_gone(bench: Any) -> None:
    await price(bench, "200")
    await call(bench.trading.submit_order, bracket())
    with pytest.raises(APIError) as caught:
        await call(bench.trading.close_position, "AAPL")
    assert caught.value.status_code == 403
    assert "insufficient qty available" in caught.value.message
    answers = await call(bench.trading.close_all_positions, cancel_orders=True)
    assert [answer.status for answer in answers] == [200]
    assert await call(bench.trading.get_all_positions) == []


async def test_legs_without_an_order_class_are_ignored(bench: Any) -> None:
    order = await bench.buy(take_profit={"limit_price": "1"}, stop_loss={"stop_price": "9999"})
    assert (order["order_class"], order["legs"]) == ("", None)
    assert len((await bench.get("/sim/truth"))["orders"]) == 1


async def test_a_trailing_stop_shows_its_water_mark(bench: Any, listen: Any, until: Any) -> None:
    await price(bench, "200")
    listener = await listen(bench)
    await bench.buy(qty="10")
    common = {"symbol": "AAPL", "qty": 5, "side": OrderSide.SELL, "time_in_force": TimeInForce.GTC}
    by_price = await call(bench.trading.submit_order, TrailingStopOrderRequest(**common, trail_price=4))
    by_percent = await call(bench.trading.submit_order, TrailingStopOrderRequest(**common, trail_percent=5))
    assert (by_price.trail_price, by_price.trail_percent, by_price.hwm) == ("4", None, "200")
    await price(bench, "210")
    first, second = [await call(bench.trading.get_order_by_id, each.id) for each in (by_price, by_percent)]
    assert (first.hwm, first.stop_price, second.hwm, second.stop_price) == ("210", "206", "210", "199.5")
    looser = await call(bench.trading.replace_order_by_id, by_price.id, ReplaceOrderRequest(trail=12))
    assert (looser.trail_price, looser.stop_price) == ("12", "198")
    await price(bench, "199")
    await until(lambda: listener.events.count("fill") == 2)
    assert (await call(bench.trading.get_order_by_id, by_percent.id)).status == "filled"
    assert (await call(bench.trading.get_order_by_id, looser.id)).status == "new"
