"""Order groups and trailing stops at the exchange, case by case, with no server, clock or chance."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.simulator.test_exchange import PROMPT, SLOW, START, Scene, after, d, quote

from trueup.simulator.model import (
    Order,
    OrderClass,
    OrderRequest,
    OrderType,
    Refused,
    ReplaceRequest,
    Side,
    Status,
    StopLoss,
    TimeInForce,
)

BY_HAND = replace(PROMPT, is_manual=True)


def group(
    scene: Scene,
    name: str = "bracket",
    *,
    side: str = "buy",
    qty: str = "10",
    kind: str = "market",
    limit: str | None = None,
    target: str | None = "110",
    stop: str | None = "95",
    stop_limit: str | None = None,
    tif: str = "day",
    at: datetime = START,
    **more: Any,
) -> Order:
    """A group around a price of 100: buy at the market, take the profit at 110, stop the loss at 95."""
    request = OrderRequest(
        symbol="ACME",
        side=Side(side),
        type=OrderType(kind),
        time_in_force=TimeInForce(tif),
        qty=d(qty),
        limit_price=None if limit is None else d(limit),
        order_class=OrderClass(name),
        take_profit_price=None if target is None else d(target),
        stop_loss=None
        if stop is None
        else StopLoss(stop_price=d(stop), limit_price=None if stop_limit is None else d(stop_limit)),
    )
    return scene.exchange.submit(request, at, **more)


def oco(scene: Scene, qty: str = "10", **more: Any) -> Order:
    """Exits for shares that are held."""
    return group(scene, "oco", side="sell", kind="limit", qty=qty, **more)


def legs(scene: Scene, parent: Order) -> list[Order]:
    return scene.exchange.view().legs(scene.now(parent))


def statuses(scene: Scene, parent: Order) -> list[str]:
    """How the parent and its legs stand."""
    return [order.status.value for order in (scene.now(parent), *legs(scene, parent))]


def heard(scene: Scene, parent: Order) -> list[tuple[str, str]]:
    """What the stream told since the last time: role and event."""
    told = []
    for event in scene.exchange.take_events():
        assert event.order.group is not None
        told.append((event.order.group.role.value, event.kind.value))
    return told


# --- the life of a bracket ---


def test_legs_are_held_until_the_entry_is_filled_wholly() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene)
    target, stop = legs(scene, entry)
    assert (target.type, target.side, target.qty, target.limit_price) == (OrderType.LIMIT, Side.SELL, 10, 110)
    assert (stop.type, stop.side, stop.qty, stop.stop_price) == (OrderType.STOP, Side.SELL, 10, 95)
    assert target.position_intent == stop.position_intent == "sell_to_close"
    scene.exchange.fill(entry.id, after(1), qty=d(9))
    assert statuses(scene, entry) == ["partially_filled", "held", "held"]
    for leg in (target, stop):
        with pytest.raises(Refused, match="waits until its entry is filled"):
            scene.exchange.fill(leg.id, after(2))
    scene.exchange.fill(entry.id, after(3))
    assert statuses(scene, entry) == ["filled", "new", "held"]
    assert heard(scene, entry) == [
        ("entry", "pending_new"),
        ("entry", "new"),
        ("entry", "partial_fill"),
        ("entry", "fill"),
        ("target", "new"),
    ]


def test_a_held_leg_does_not_trade_however_far_the_price_goes() -> None:
    scene = Scene()
    entry = group(scene, kind="limit", limit="90", stop="80")
    for last in ("115", "100"):
        scene.exchange.set_quote(quote(last, str(d(last) + 1)), after(1))
    assert statuses(scene, entry) == ["new", "held", "held"]
    assert scene.qty == 0


def test_a_filled_take_profit_cancels_its_stop_and_nobody_is_told() -> None:
    scene = Scene()
    entry = group(scene)
    scene.told()
    scene.exchange.set_quote(quote("110.5", "110.6"), after(1))
    assert statuses(scene, entry) == ["filled", "filled", "canceled"]
    assert heard(scene, entry) == [("target", "fill")]
    assert scene.qty == 0
    scene.exchange.set_quote(quote("90", "91"), after(2))
    assert scene.qty == 0


@pytest.mark.parametrize("replaces", [False, True])
def test_a_stop_that_fires_takes_the_place_of_its_take_profit(replaces: bool) -> None:
    scene = Scene(stop_replaces_target=replaces)
    entry = group(scene)
    scene.told()
    scene.exchange.set_quote(quote("94.5", "94.6"), after(1))
    ended = "replaced" if replaces else "canceled"
    assert statuses(scene, entry) == ["filled", ended, "filled"]
    assert heard(scene, entry) == [("target", ended), ("stop", "new"), ("stop", "fill")]
    target, stop = legs(scene, entry)
    assert target.replaced_by == (stop.id if replaces else None)
    assert scene.qty == 0


def test_a_stop_limit_leg_that_fires_and_finds_no_buyer_rests_alone() -> None:
    scene = Scene()
    entry = group(scene, stop_limit="94.8")
    scene.exchange.set_quote(quote("94", "94.1"), after(1))
    assert statuses(scene, entry) == ["filled", "canceled", "new"]
    scene.exchange.set_quote(quote("111", "111.2"), after(2))
    assert statuses(scene, entry) == ["filled", "canceled", "filled"]


def test_a_stop_shrinks_with_its_take_profit_and_takes_what_is_left() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene)
    scene.exchange.fill(entry.id, after(1))
    target, stop = legs(scene, entry)
    scene.exchange.fill(target.id, after(2), qty=d(4))
    assert scene.now(stop).qty == 6
    scene.exchange.bust(scene.exchange.view().executions()[-1].id, after(3))
    assert scene.now(stop).qty == 10
    scene.exchange.fill(target.id, after(4), qty=d(7))
    scene.exchange.fill(stop.id, after(5))
    assert (scene.now(target).status, scene.now(target).filled_qty) == (Status.CANCELED, 7)
    assert (scene.now(stop).status, scene.now(stop).filled_qty) == (Status.FILLED, 3)
    assert scene.qty == 0


def test_only_force_fills_both_exits() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene)
    scene.exchange.fill(entry.id, after(1))
    target, stop = legs(scene, entry)
    scene.exchange.fill(target.id, after(2))
    with pytest.raises(Refused, match="qty must be > 0"):
        scene.exchange.fill(stop.id, after(3))
    scene.exchange.fill(stop.id, after(4), qty=d(10), forced=True)
    assert scene.qty == -10


def test_a_group_that_is_left_to_the_operator_moves_by_nobody_else() -> None:
    scene = Scene()
    entry = group(scene, held=True)
    assert statuses(scene, entry) == ["new", "held", "held"]
    scene.exchange.fill(entry.id, after(1))
    for place, last in enumerate(("115", "90")):
        scene.exchange.set_quote(quote(last, str(d(last) + 1)), after(2 + place))
    assert statuses(scene, entry) == ["filled", "new", "held"]
    scene.exchange.fill(legs(scene, entry)[1].id, after(9))
    assert statuses(scene, entry) == ["filled", "canceled", "filled"]


def test_a_gap_through_both_exits_fills_one() -> None:
    scene = Scene(replace(PROMPT, fill_latency_ms=100))
    entry = group(scene)
    scene.exchange.advance(after(100))
    assert statuses(scene, entry) == ["filled", "new", "held"]
    scene.exchange.set_quote(quote("80", "120", "80"), after(101))
    scene.exchange.advance(after(300))
    assert statuses(scene, entry) == ["filled", "canceled", "filled"]
    assert scene.qty == 0


def test_a_short_entry_is_closed_by_buying() -> None:
    scene = Scene()
    entry = group(scene, side="sell", target="90", stop="105")
    assert [(leg.side, leg.position_intent) for leg in legs(scene, entry)] == [(Side.BUY, "buy_to_close")] * 2
    assert scene.qty == -10
    scene.exchange.set_quote(quote("105.5", "105.6"), after(1))
    assert statuses(scene, entry) == ["filled", "canceled", "filled"]
    assert scene.qty == 0


@pytest.mark.parametrize(
    ("exits", "roles"), [({"target": None}, ["stop"]), ({"stop": None}, ["target"])], ids=["stop", "target"]
)
def test_the_one_leg_of_an_oto_works_alone(exits: dict[str, Any], roles: list[str]) -> None:
    scene = Scene()
    entry = group(scene, "oto", **exits)
    assert statuses(scene, entry) == ["filled", "new"]
    assert [leg.group.role.value for leg in legs(scene, entry) if leg.group] == roles
    price = "94" if roles == ["stop"] else "111"
    scene.exchange.set_quote(quote(price, str(d(price) + 1)), after(1))
    assert statuses(scene, entry) == ["filled", "filled"]
    assert scene.qty == 0


# --- one cancels other ---


@pytest.mark.parametrize(("price", "ends"), [("111", ["filled", "canceled"]), ("94", ["canceled", "filled"])])
def test_an_oco_closes_what_is_held_once(price: str, ends: list[str]) -> None:
    scene = Scene()
    scene.order(qty="10")
    target = oco(scene)
    assert (target.limit_price, target.position_intent) == (110, "sell_to_close")
    assert statuses(scene, target) == ["new", "held"]
    scene.exchange.set_quote(quote(price, str(d(price) + 1)), after(1))
    assert statuses(scene, target) == ends
    assert scene.qty == 0


def test_the_stop_of_an_oco_waits_for_the_acknowledgement() -> None:
    scene = Scene(SLOW)
    scene.order(qty="10")
    scene.exchange.advance(after(100))
    scene.exchange.advance(after(200))
    target = oco(scene, at=after(300))
    scene.exchange.set_quote(quote("94", "95"), after(301))
    assert statuses(scene, target) == ["pending_new", "held"]
    scene.exchange.advance(after(400))
    scene.exchange.set_quote(quote("94", "95"), after(501))
    assert statuses(scene, target) == ["canceled", "filled"]


def test_a_venue_that_rejects_the_oco_takes_its_stop_with_it() -> None:
    scene = Scene()
    scene.order(qty="10")
    scene.exchange.fill_model = replace(PROMPT, reject_probability=1.0)
    target = oco(scene)
    assert statuses(scene, target) == ["rejected", "canceled"]


# --- ends ---


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("is_filled", [False, True])
def test_cancelling_any_member_ends_the_group(which: int, is_filled: bool) -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    if is_filled:
        scene.exchange.fill(entry.id, after(1))
    members = [entry, *legs(scene, entry)]
    if is_filled and not which:
        with pytest.raises(Refused, match='already in "filled" state'):
            scene.exchange.cancel(entry.id, after(2))
        return
    scene.told()
    scene.exchange.cancel(members[which].id, after(2))
    assert statuses(scene, entry) == ["filled" if is_filled else "canceled", "canceled", "canceled"]
    asked = ["entry", "target", "stop"][which]
    told = heard(scene, entry)
    assert told[:2] == [(asked, "pending_cancel"), (asked, "canceled")]
    working = "target" if is_filled else "entry"
    assert told[2:] == ([] if asked == working else [(working, "canceled")])


def test_an_entry_cancelled_half_way_leaves_its_part_without_exits() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    scene.exchange.fill(entry.id, after(1), qty=d(4))
    scene.exchange.cancel(entry.id, after(2))
    assert statuses(scene, entry) == ["canceled", "canceled", "canceled"]
    assert scene.qty == 4
    assert scene.exchange.view().held_qty("ACME", Side.SELL) == 0


def test_a_cancel_that_loses_the_race_leaves_the_legs_at_work() -> None:
    scene = Scene(replace(BY_HAND, cancel_latency_ms=100))
    entry = group(scene, kind="limit", limit="100")
    scene.exchange.cancel(entry.id, after(1))
    scene.exchange.fill(entry.id, after(50))
    scene.exchange.advance(after(200))
    assert statuses(scene, entry) == ["filled", "new", "held"]


def test_a_rejected_entry_and_the_end_of_the_day_end_the_group() -> None:
    scene = Scene(replace(PROMPT, reject_probability=1.0))
    rejected = group(scene)
    assert statuses(scene, rejected) == ["rejected", "canceled", "canceled"]
    scene.exchange.fill_model = PROMPT
    waiting = group(scene, kind="limit", limit="90", stop="80")
    armed = group(scene)
    scene.told()
    scene.exchange.advance(START + timedelta(hours=6))
    assert statuses(scene, waiting) == ["expired", "canceled", "canceled"]
    assert statuses(scene, armed) == ["filled", "expired", "canceled"]
    assert heard(scene, armed) == [("entry", "expired"), ("target", "expired")]


def test_a_group_outlives_the_session_only_when_it_is_good_till_cancelled() -> None:
    scene = Scene()
    day, gtc = group(scene), group(scene, tif="gtc")
    scene.exchange.set_open(False, after(1))
    assert statuses(scene, day) == ["filled", "expired", "canceled"]
    assert statuses(scene, gtc) == ["filled", "new", "held"]


def test_a_group_sent_while_the_exchange_is_closed_waits_whole() -> None:
    scene = Scene()
    scene.exchange.set_open(False, after(1))
    entry = group(scene, at=after(2))
    assert statuses(scene, entry) == ["accepted", "held", "held"]
    scene.exchange.set_open(True, after(3))
    assert statuses(scene, entry) == ["filled", "new", "held"]


def test_a_split_ends_every_member() -> None:
    scene = Scene()
    entry = group(scene)
    scene.exchange.adjust("ACME", after(1), ratio=d(2))
    assert statuses(scene, entry) == ["filled", "canceled", "canceled"]


# --- replace ---


def test_a_replaced_leg_stays_in_its_group() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene)
    scene.exchange.fill(entry.id, after(1))
    target, stop = legs(scene, entry)
    scene.told()
    higher = scene.exchange.replace(target.id, ReplaceRequest(limit_price=d(112)), after(2))
    tighter = scene.exchange.replace(stop.id, ReplaceRequest(stop_price=d(98)), after(3))
    assert statuses(scene, entry) == ["filled", "replaced", "replaced", "new", "held"]
    assert heard(scene, entry) == [
        ("target", "pending_replace"),
        ("target", "replaced"),
        ("target", "new"),
        ("stop", "pending_replace"),
        ("stop", "replaced"),
    ]
    scene.exchange.fill(higher.id, after(4), qty=d(3))
    assert scene.now(tighter).qty == 7
    scene.exchange.fill_model = PROMPT
    scene.exchange.set_quote(quote("97", "97.1"), after(5))
    assert statuses(scene, entry) == ["filled", "replaced", "replaced", "canceled", "filled"]
    assert scene.qty == 0


def test_a_leg_may_be_replaced_while_its_entry_still_waits() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    target, _ = legs(scene, entry)
    new = scene.exchange.replace(target.id, ReplaceRequest(limit_price=d(120)), after(1))
    assert scene.now(new).status is Status.HELD
    scene.exchange.fill(entry.id, after(2))
    assert scene.now(new).status is Status.NEW


def test_a_replaced_entry_hands_on_its_legs() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    scene.exchange.fill(entry.id, after(1), qty=d(4))
    new = scene.exchange.replace(entry.id, ReplaceRequest(limit_price=d(101)), after(2))
    assert scene.now(new).qty == 6
    assert legs(scene, entry) == []
    assert statuses(scene, new) == ["new", "held", "held"]
    assert [order.status.value for order in scene.exchange.view(after(1)).legs(entry)] == ["held", "held"]
    scene.exchange.fill(new.id, after(3))
    assert statuses(scene, new) == ["filled", "new", "held"]
    assert [leg.qty for leg in legs(scene, new)] == [10, 10]


def test_a_stop_that_shrinks_while_it_is_replaced_arrives_small() -> None:
    scene = Scene(replace(BY_HAND, replace_latency_ms=100))
    entry = group(scene)
    scene.exchange.fill(entry.id, after(1))
    target, stop = legs(scene, entry)
    new = scene.exchange.replace(stop.id, ReplaceRequest(stop_price=d(98)), after(2))
    scene.exchange.fill(target.id, after(3), qty=d(4))
    scene.exchange.advance(after(200))
    assert (scene.now(new).status, scene.now(new).qty) == (Status.HELD, 6)


def test_a_replace_that_its_group_overtakes_is_refused() -> None:
    scene = Scene(replace(BY_HAND, replace_latency_ms=100))
    entry = group(scene)
    scene.exchange.fill(entry.id, after(1))
    target, stop = legs(scene, entry)
    new = scene.exchange.replace(stop.id, ReplaceRequest(stop_price=d(98)), after(2))
    scene.exchange.fill(target.id, after(3))
    assert (scene.now(stop).status, scene.now(new).status) == (Status.CANCELED, Status.REJECTED)


def test_what_is_to_replace_a_member_trades_no_sooner_than_it_has() -> None:
    scene = Scene(replace(PROMPT, replace_latency_ms=100, cancel_latency_ms=200))
    entry = group(scene, kind="limit", limit="90", stop="80")
    new = scene.exchange.replace(entry.id, ReplaceRequest(limit_price=d(101)), after(1))
    with pytest.raises(Refused, match="waits until the one that it replaces has yielded"):
        scene.exchange.fill(new.id, after(2))
    scene.exchange.cancel(new.id, after(3))
    scene.exchange.set_quote(quote("99.99", "100.01", "100"), after(4))
    assert scene.now(new).filled_qty == 0
    assert statuses(scene, entry) == ["pending_replace", "held", "held"]


@pytest.mark.parametrize(
    ("which", "terms", "message"),
    [
        (1, {"qty": "5"}, "only the prices of bracket orders can be replaced"),
        (1, {"limit_price": "99"}, "take_profit.limit_price must be >= base_price"),
        (2, {"stop_price": "111"}, "stop_loss.stop_price must be <= base_price"),
        (2, {"trail": "1"}, "stop orders must not have trail"),
        (0, {"limit_price": "111"}, "take_profit.limit_price must be >= base_price"),
    ],
)
def test_a_replace_keeps_the_group_in_order(which: int, terms: dict[str, str], message: str) -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    member = [entry, *legs(scene, entry)][which]
    with pytest.raises(Refused, match=message):
        scene.exchange.replace(member.id, ReplaceRequest(**{name: d(value) for name, value in terms.items()}), after(1))


# --- what an account must be able to bear ---


def test_exits_hold_the_shares_once_and_need_no_buying_power() -> None:
    scene = Scene(BY_HAND, cash=d(1000), multiplier=d(1))
    entry = group(scene, qty="9", kind="limit", limit="100")
    assert scene.exchange.view().totals().buying_power == 100
    assert scene.exchange.view().held_qty("ACME", Side.SELL) == 0
    scene.exchange.fill(entry.id, after(1), price=d(100))
    assert scene.exchange.view().totals().buying_power == 100
    assert scene.exchange.view().held_qty("ACME", Side.SELL) == 9
    with pytest.raises(Refused, match="insufficient qty available"):
        scene.order("sell", "1", kind="limit", limit_price="200")
    target, _ = legs(scene, entry)
    scene.exchange.fill(target.id, after(2), qty=d(4))
    assert scene.exchange.view().held_qty("ACME", Side.SELL) == 5


def test_an_entry_is_checked_as_any_order_is() -> None:
    scene = Scene(BY_HAND, cash=d(1000), multiplier=d(1), shorting_enabled=False)
    with pytest.raises(Refused, match="insufficient buying power"):
        group(scene, qty="11", kind="limit", limit="100")
    with pytest.raises(Refused, match="not allowed to short"):
        group(scene, side="sell", target="90", stop="105")
    assert list(scene.exchange.view().orders()) == []


def test_entries_enter_and_exits_exit() -> None:
    scene = Scene()
    with pytest.raises(Refused, match="oco orders must be exit orders"):
        oco(scene)
    scene.order(qty="10")
    with pytest.raises(Refused, match="bracket orders must be entry orders"):
        group(scene, side="sell", target="90", stop="105")
    with pytest.raises(Refused, match=r"requested: 11, available: 10"):
        oco(scene, qty="11")
    assert oco(scene, qty="10").status is Status.NEW


def test_a_waiting_leg_makes_no_wash_trade_and_a_working_one_does() -> None:
    scene = Scene(BY_HAND)
    entry = group(scene, kind="limit", limit="100")
    scene.order("buy", kind="market", qty="1")
    scene.exchange.fill(entry.id, after(1))
    with pytest.raises(Refused, match="use complex orders"):
        scene.order("buy", kind="market", qty="1")
    assert group(scene, qty="1").status is Status.NEW


# --- what is refused ---


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"target": None}, 40010001, "bracket orders require take_profit.limit_price"),
    ({"stop": None}, 40010001, "bracket orders require stop_loss.stop_price"),
    ({"name": "oco", "side": "sell", "kind": "limit", "stop": None}, 40010001, "oco orders require stop_loss"),
    ({"name": "oco", "side": "sell"}, 40010001, "oco orders must be limit orders"),
    ({"name": "oco", "kind": "limit", "limit": "111"}, 40010001, "limit_price of oco orders must be left out"),
    ({"name": "oto"}, 40010001, "oto orders require exactly one of"),
    ({"name": "oto", "target": None, "stop": None}, 40010001, "oto orders require exactly one of"),
    ({"kind": "stop"}, 40010001, "bracket orders must be market or limit orders"),
    ({"kind": "limit"}, 40010001, "limit orders require limit_price"),
    ({"tif": "ioc"}, 42210000, "bracket orders must be DAY or GTC"),
    ({"qty": "1.5"}, 42210000, "fractional orders must be simple orders"),
    ({"target": "100"}, 42210000, r"take_profit.limit_price must be >= base_price \+ 0.01"),
    ({"stop": "100"}, 42210000, "stop_loss.stop_price must be <= base_price - 0.01"),
    ({"kind": "limit", "limit": "90", "stop": "90"}, 42210000, "stop_loss.stop_price must be <= base_price"),
    ({"side": "sell"}, 42210000, r"stop_loss.stop_price must be >= base_price \+ 0.01"),
    ({"side": "sell", "stop": "105"}, 42210000, "take_profit.limit_price must be <= base_price - 0.01"),
    ({"name": "oco", "side": "sell", "kind": "limit", "stop": "110"}, 42210000, "take_profit.limit_price must be >= s"),
    ({"name": "oco", "side": "sell", "kind": "limit", "stop": "101"}, 42210000, "stop_loss.stop_price must be <= base"),
    ({"target": "110.001"}, 42210000, "invalid take_profit.limit_price 110.001"),
    ({"stop": "-1"}, 40010001, "stop_loss.stop_price must be > 0"),
    ({"stop_limit": "94.001"}, 42210000, "invalid stop_loss.limit_price 94.001"),
]


@pytest.mark.parametrize(("terms", "code", "message"), REFUSALS)
def test_refusals_name_what_is_wrong(terms: dict[str, Any], code: int, message: str) -> None:
    scene = Scene()
    with pytest.raises(Refused, match=message) as caught:
        group(scene, **terms)
    assert caught.value.code == code
    assert list(scene.exchange.view().orders()) == []


# --- trailing stops ---


def trailing(scene: Scene, side: str = "sell", at: datetime = START, **terms: str) -> Order:
    request = OrderRequest(
        symbol="ACME",
        side=Side(side),
        type=OrderType.TRAILING_STOP,
        time_in_force=TimeInForce(terms.pop("tif", "day")),
        qty=d(terms.pop("qty", "10")),
        **{name: d(value) for name, value in terms.items()},
    )
    return scene.exchange.submit(request, at)


def walk(scene: Scene, *prices: str) -> None:
    for place, last in enumerate(prices):
        scene.exchange.set_quote(quote(str(d(last) - d("0.01")), str(d(last) + d("0.01")), last), after(place + 1))


TRAILS = [
    ("sell", {"trail_price": "2"}, ["101", "103", "101.5"], ("103", "101", Status.NEW)),
    ("sell", {"trail_price": "2"}, ["101", "103", "101"], ("103", "101", Status.FILLED)),
    ("sell", {"trail_percent": "10"}, ["110", "100", "99.5"], ("110", "99", Status.NEW)),
    ("buy", {"trail_price": "1.5"}, ["98", "99"], ("98", "99.5", Status.NEW)),
    ("buy", {"trail_percent": "1"}, ["90", "91"], ("90", "90.9", Status.FILLED)),
]


@pytest.mark.parametrize(("side", "trail", "prices", "ends"), TRAILS)
def test_a_trailing_stop_follows_the_price_one_way(
    side: str, trail: dict[str, str], prices: list[str], ends: tuple[str, str, Status]
) -> None:
    scene = Scene()
    order = trailing(scene, side, **trail)
    assert (order.trail and order.trail.hwm) == 100
    walk(scene, *prices)
    order = scene.now(order)
    assert order.trail is not None
    assert (order.trail.hwm, order.stop_price, order.status) == (d(ends[0]), d(ends[1]), ends[2])


def test_following_is_neither_told_nor_a_new_version() -> None:
    scene = Scene(BY_HAND)
    order = scene.now(trailing(scene, trail_price="2"))
    scene.told()
    walk(scene, "105", "110")
    now = scene.now(order)
    assert (now.stop_price, now.updated_at) == (108, order.updated_at)
    assert scene.told() == []
    scene.exchange.fill(order.id, after(10))
    walk(scene, "120")
    assert scene.now(order).stop_price == 108


def test_a_trail_can_be_replaced_and_keeps_its_water_mark() -> None:
    scene = Scene()
    order = trailing(scene, trail_price="5")
    walk(scene, "110")
    new = scene.exchange.replace(order.id, ReplaceRequest(trail=d(2)), after(5))
    now = scene.now(new)
    assert now.trail is not None
    assert (now.trail.price, now.trail.hwm, now.stop_price) == (2, 110, 108)
    for terms, message in (
        ({"trail": "2"}, "order parameters are not changed"),
        ({"trail": "0"}, "trail_price must be > 0"),
        ({"stop_price": "90"}, "trailing_stop orders must not have stop_price"),
    ):
        with pytest.raises(Refused, match=message):
            scene.exchange.replace(
                new.id, ReplaceRequest(**{name: d(value) for name, value in terms.items()}), after(6)
            )


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "exactly one of trail_price and trail_percent"),
        ({"trail_price": "1", "trail_percent": "1"}, "exactly one of trail_price and trail_percent"),
        ({"trail_price": "0"}, "trail_price must be > 0"),
        ({"trail_price": "100"}, "trail_price must be less than current price"),
        ({"trail_percent": "100"}, "trail_percent must be < 100"),
        ({"trail_price": "1", "limit_price": "90"}, "trailing_stop orders must not have limit_price"),
        ({"trail_price": "1", "tif": "ioc"}, "trailing_stop orders must be DAY or GTC"),
        ({"trail_price": "1", "qty": "0.5"}, "fractional orders cannot be trailing_stop orders"),
    ],
)
def test_what_a_trailing_stop_must_not_be(terms: dict[str, str], message: str) -> None:
    scene = Scene()
    with pytest.raises(Refused, match=message):
        trailing(scene, **terms)


def test_other_orders_have_no_trail() -> None:
    scene = Scene()
    request = OrderRequest(
        symbol="ACME",
        side=Side.BUY,
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        qty=Decimal(1),
        trail_price=Decimal(1),
    )
    with pytest.raises(Refused, match="market orders must not have trail_price"):
        scene.exchange.submit(request, START)
