"""The exchange's rules, case by case, with no server, clock or chance."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from trueup.simulator.exchange import Exchange, fold
from trueup.simulator.model import (
    AccountRules,
    Asset,
    FillModel,
    Order,
    OrderRequest,
    OrderType,
    Position,
    Quote,
    Refused,
    ReplaceRequest,
    Side,
    Status,
    TimeInForce,
)

START = datetime(2026, 3, 2, 15, tzinfo=UTC)
PROMPT = FillModel(
    ack_latency_ms=0, fill_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, partial_probability=0
)
SLOW = FillModel(
    ack_latency_ms=100, fill_latency_ms=100, cancel_latency_ms=100, replace_latency_ms=100, partial_probability=0
)


def d(text: str | int) -> Decimal:
    return Decimal(text)


def quote(bid: str, ask: str, last: str | None = None) -> Quote:
    return Quote(symbol="ACME", bid=d(bid), ask=d(ask), last=d(last or bid))


def after(milliseconds: int) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


class Scene:
    """An exchange with one symbol, bid 99.99 and ask 100.01, and short words to act on it."""

    def __init__(self, model: FillModel = PROMPT, draw: Callable[[], float] = lambda: 0.99, **rules: Any) -> None:
        asset = Asset(id="asset-1", symbol="ACME", name="Acme", exchange="NYSE")
        self.exchange = Exchange(
            assets=[asset],
            rules=AccountRules(**rules),
            fill_model=model,
            seed=1,
            draw=draw,
            day_end=lambda at: at + timedelta(hours=6),
            start=START,
        )
        self.exchange.set_quote(quote("99.99", "100.01", "100"), START)

    def order(
        self, side: str = "buy", qty: str | None = "10", kind: str = "market", at: datetime = START, **more: Any
    ) -> Order:
        request = OrderRequest(
            symbol="ACME",
            side=Side(side),
            type=OrderType(kind),
            time_in_force=TimeInForce(more.pop("tif", "day")),
            qty=None if qty is None else d(qty),
            **{name: d(more.pop(name)) for name in ("limit_price", "stop_price", "notional") if name in more},
            client_order_id=more.pop("client_order_id", None),
        )
        return self.exchange.submit(request, at, **more)

    def now(self, order: Order) -> Order:
        return self.exchange.order(order.id)

    def told(self) -> list[str]:
        return [event.kind.value for event in self.exchange.take_events()]

    @property
    def qty(self) -> Decimal:
        return self.exchange.position("ACME").qty


FOLDS = [
    ("0", "0", "10", "100", "10", "100"),
    ("10", "100", "30", "120", "40", "115"),
    ("40", "115", "-15", "90", "25", "115"),
    ("25", "115", "-25", "90", "0", "0"),
    ("25", "115", "-40", "90", "-15", "90"),
    ("-15", "90", "-15", "100", "-30", "95"),
    ("-30", "95", "10", "80", "-20", "95"),
    ("-20", "95", "20.5", "80", "0.5", "80"),
]


@pytest.mark.parametrize(("qty", "average", "traded", "price", "new_qty", "new_average"), FOLDS)
def test_fold(qty: str, average: str, traded: str, price: str, new_qty: str, new_average: str) -> None:
    position = Position(symbol="ACME", qty=d(qty), avg_entry_price=d(average))
    result = fold(position, d(traded), d(price))
    assert (result.qty, result.avg_entry_price) == (d(new_qty), d(new_average))


MATCHES = [
    # side, type, terms, quote after submission, expected status and price
    ("buy", "market", {}, None, Status.FILLED, "100.01"),
    ("sell", "market", {}, None, Status.FILLED, "99.99"),
    ("buy", "limit", {"limit_price": "100.01"}, None, Status.FILLED, "100.01"),
    ("buy", "limit", {"limit_price": "100"}, None, Status.NEW, None),
    ("buy", "limit", {"limit_price": "100"}, ("99.5", "99.52"), Status.FILLED, "99.52"),
    ("sell", "limit", {"limit_price": "100"}, None, Status.NEW, None),
    ("sell", "limit", {"limit_price": "100"}, ("100.3", "100.4"), Status.FILLED, "100.3"),
    ("buy", "stop", {"stop_price": "101"}, ("100.9", "100.95", "100.95"), Status.NEW, None),
    ("buy", "stop", {"stop_price": "101"}, ("101.1", "101.2", "101.15"), Status.FILLED, "101.2"),
    ("sell", "stop", {"stop_price": "99"}, ("98.8", "98.9", "98.9"), Status.FILLED, "98.8"),
    ("buy", "stop_limit", {"stop_price": "101", "limit_price": "101.1"}, ("101.1", "101.2"), Status.NEW, None),
    ("buy", "stop_limit", {"stop_price": "101", "limit_price": "101.5"}, ("101.1", "101.2"), Status.FILLED, "101.2"),
    ("buy", "limit", {"limit_price": "99", "tif": "ioc"}, None, Status.CANCELED, None),
    ("buy", "limit", {"limit_price": "101", "tif": "ioc"}, None, Status.FILLED, "100.01"),
    ("buy", "limit", {"limit_price": "99", "tif": "fok"}, None, Status.CANCELED, None),
    ("buy", "limit", {"limit_price": "101", "tif": "fok"}, None, Status.FILLED, "100.01"),
]


@pytest.mark.parametrize(("side", "kind", "terms", "then", "status", "price"), MATCHES)
def test_matching(side: str, kind: str, terms: dict[str, str], then: Any, status: Status, price: str | None) -> None:
    scene = Scene()
    order = scene.order(side, kind=kind, **terms)
    if then:
        scene.exchange.set_quote(quote(*then), after(1))
    order = scene.now(order)
    assert order.status is status
    assert order.filled_avg_price == (None if price is None else d(price))


def test_a_stop_limit_that_fired_stays_fired() -> None:
    scene = Scene()
    order = scene.order(kind="stop_limit", stop_price="101", limit_price="101.1")
    scene.exchange.set_quote(quote("101.1", "101.2"), after(1))
    scene.exchange.set_quote(quote("100.5", "100.6"), after(2))
    assert scene.now(order).filled_avg_price == d("100.6")


def test_latencies_are_kept_in_order() -> None:
    scene = Scene(SLOW)
    order = scene.order()
    assert (scene.now(order).status, scene.exchange.next_due()) == (Status.PENDING_NEW, after(100))
    scene.exchange.advance(after(100))
    assert scene.now(order).status is Status.NEW
    scene.exchange.set_quote(quote("99.9", "99.95"), after(150))
    assert scene.now(order).status is Status.NEW
    scene.exchange.advance(after(200))
    assert scene.now(order).status is Status.FILLED
    assert scene.told() == ["pending_new", "new", "fill"]


def test_slices_end_in_the_whole() -> None:
    model = replace(PROMPT, partial_probability=1.0, slices_max=3, slice_latency_ms=100)
    scene = Scene(model, draw=lambda: 0.5)
    order = scene.order(qty="100")
    assert scene.now(order).filled_qty == 50
    scene.exchange.advance(after(100))
    assert scene.now(order).filled_qty == 75
    scene.exchange.advance(after(200))
    assert scene.now(order).status is Status.FILLED
    assert scene.told() == ["pending_new", "new", "partial_fill", "partial_fill", "fill"]


def test_an_ioc_keeps_its_part_and_cancels_the_rest_and_a_fok_has_no_part() -> None:
    model = replace(PROMPT, partial_probability=1.0)
    scene = Scene(model, draw=lambda: 0.5)
    ioc, fok = scene.order(qty="100", tif="ioc"), scene.order(qty="100", tif="fok")
    assert (scene.now(ioc).status, scene.now(ioc).filled_qty) == (Status.CANCELED, 50)
    assert (scene.now(fok).status, scene.now(fok).filled_qty) == (Status.FILLED, 100)


def test_a_notional_order_keeps_qty_null_and_buys_by_value() -> None:
    scene = Scene()
    order = scene.now(scene.order(qty=None, notional="500"))
    assert (order.qty, order.status) == (None, Status.FILLED)
    assert order.filled_qty == d("4.999500049")
    assert scene.qty == order.filled_qty


def test_cancel_takes_time_and_a_fill_may_come_between() -> None:
    scene = Scene(replace(SLOW, is_manual=True))
    order = scene.order()
    scene.exchange.advance(after(200))
    scene.exchange.cancel(order.id, after(200))
    assert scene.now(order).status is Status.PENDING_CANCEL
    scene.exchange.fill(order.id, after(250), qty=d(4))
    scene.exchange.advance(after(300))
    order = scene.now(order)
    assert (order.status, order.filled_qty) == (Status.CANCELED, 4)
    assert scene.told()[-3:] == ["pending_cancel", "partial_fill", "canceled"]


def test_a_cancel_that_comes_too_late_is_refused_aloud() -> None:
    scene = Scene(replace(SLOW, is_manual=True))
    order = scene.order()
    scene.exchange.advance(after(200))
    scene.exchange.cancel(order.id, after(200))
    scene.exchange.fill(order.id, after(250))
    scene.exchange.advance(after(300))
    assert scene.now(order).status is Status.FILLED
    assert scene.told()[-3:] == ["pending_cancel", "fill", "order_cancel_rejected"]


def test_a_replace_carries_what_is_left_of_the_new_total() -> None:
    scene = Scene(replace(PROMPT, is_manual=True, replace_latency_ms=100))
    old = scene.order(qty="100", kind="limit", limit_price="90")
    scene.exchange.fill(old.id, after(1), qty=d(40))
    new = scene.exchange.replace(old.id, ReplaceRequest(qty=d(120)), after(2))
    assert (new.qty, new.status, new.replaces) == (80, Status.PENDING_NEW, old.id)
    scene.exchange.fill(old.id, after(3), qty=d(10))
    scene.exchange.advance(after(102))
    assert (scene.now(old).status, scene.now(old).replaced_by) == (Status.REPLACED, new.id)
    assert (scene.now(new).qty, scene.now(new).status) == (70, Status.NEW)


def test_a_replace_may_repeat_the_total_as_reported() -> None:
    scene = Scene(replace(PROMPT, is_manual=True), replace_repeats_total=True)
    old = scene.order(qty="100", kind="limit", limit_price="90")
    scene.exchange.fill(old.id, after(1), qty=d(40))
    new = scene.exchange.replace(old.id, ReplaceRequest(limit_price=d(91)), after(2))
    assert scene.now(new).qty == 100


def test_a_replace_that_loses_the_race_is_rejected() -> None:
    scene = Scene(replace(PROMPT, is_manual=True, replace_latency_ms=100))
    old = scene.order(kind="limit", limit_price="90")
    new = scene.exchange.replace(old.id, ReplaceRequest(limit_price=d(91)), after(1))
    scene.exchange.fill(old.id, after(50))
    scene.exchange.advance(after(101))
    assert scene.now(old).status is Status.FILLED
    assert scene.now(old).replaced_by is None
    assert scene.now(new).status is Status.REJECTED
    assert scene.told()[-3:] == ["fill", "order_replace_rejected", "rejected"]


@pytest.mark.parametrize("which", ["old", "new"])
def test_cancelling_either_half_of_a_replace_leaves_no_surprise(which: str) -> None:
    scene = Scene(replace(PROMPT, is_manual=True, replace_latency_ms=100))
    old = scene.order(kind="limit", limit_price="90")
    new = scene.exchange.replace(old.id, ReplaceRequest(limit_price=d(91)), after(1))
    scene.exchange.cancel(old.id if which == "old" else new.id, after(2))
    scene.exchange.advance(after(200))
    ends = (scene.now(old).status, scene.now(new).status)
    assert ends == ((Status.CANCELED, Status.REJECTED) if which == "old" else (Status.NEW, Status.CANCELED))


def test_a_cancel_under_way_stops_a_replace_that_would_finish_first() -> None:
    scene = Scene(replace(PROMPT, is_manual=True, replace_latency_ms=100, cancel_latency_ms=300))
    old = scene.order(kind="limit", limit_price="90")
    new = scene.exchange.replace(old.id, ReplaceRequest(limit_price=d(91)), after(1))
    scene.exchange.cancel(old.id, after(2))
    scene.exchange.advance(after(200))
    assert (scene.now(old).status, scene.now(new).status) == (Status.PENDING_CANCEL, Status.REJECTED)
    scene.exchange.advance(after(302))
    assert scene.now(old).status is Status.CANCELED


def test_a_replacing_order_whose_cancel_is_under_way_neither_trades_nor_takes_the_place_of_the_old_one() -> None:
    scene = Scene(replace(PROMPT, replace_latency_ms=100, cancel_latency_ms=300))
    old = scene.order(kind="limit", limit_price="90")
    new = scene.exchange.replace(old.id, ReplaceRequest(limit_price=d(101)), after(1))
    scene.exchange.cancel(new.id, after(2))
    scene.exchange.set_quote(quote("99.98", "100", "100"), after(50))
    scene.exchange.advance(after(400))
    assert (scene.now(old).status, scene.now(new).status) == (Status.NEW, Status.REJECTED)
    assert (scene.qty, scene.now(new).filled_qty) == (0, 0)
    assert scene.told()[-2:] == ["order_replace_rejected", "rejected"]


REPLACE_REFUSALS = [
    ({}, "order parameters are not changed"),
    ({"limit_price": "90"}, "order parameters are not changed"),
    ({"qty": "0"}, "qty must be > 0"),
    ({"qty": "3"}, "qty must be greater than the filled quantity 4"),
    ({"qty": "9.5"}, "qty of fractional orders cannot be replaced"),
    ({"stop_price": "80"}, "limit orders must not have stop_price"),
    ({"limit_price": "90.001"}, "sub-penny"),
    ({"qty": "5000000"}, "insufficient buying power"),
]


@pytest.mark.parametrize(("terms", "message"), REPLACE_REFUSALS)
def test_replace_refusals(terms: dict[str, str], message: str) -> None:
    scene = Scene(replace(PROMPT, is_manual=True))
    order = scene.order(kind="limit", limit_price="90")
    scene.exchange.fill(order.id, after(1), qty=d(4))
    with pytest.raises(Refused, match=message):
        scene.exchange.replace(order.id, ReplaceRequest(**{name: d(value) for name, value in terms.items()}), after(2))
    assert scene.now(order).status is Status.PARTIALLY_FILLED


def test_replace_waits_for_the_acknowledgement_and_for_its_predecessor() -> None:
    scene = Scene(replace(SLOW, is_manual=True))
    order = scene.order(kind="limit", limit_price="90")
    with pytest.raises(Refused, match="cannot replace order in pending_new status"):
        scene.exchange.replace(order.id, ReplaceRequest(limit_price=d(91)), after(1))
    scene.exchange.advance(after(100))
    scene.exchange.replace(order.id, ReplaceRequest(limit_price=d(91)), after(101))
    with pytest.raises(Refused, match="order chain not fully replaced"):
        scene.exchange.replace(order.id, ReplaceRequest(limit_price=d(92)), after(102))


def test_long_short_and_flip_through_zero() -> None:
    scene = Scene(flips_allowed=True)
    scene.order("buy", "10")
    scene.order("sell", "25")
    assert (scene.qty, scene.exchange.position("ACME").avg_entry_price) == (-15, d("99.99"))
    scene.order("buy", "20")
    assert (scene.qty, scene.exchange.position("ACME").avg_entry_price) == (5, d("100.01"))
    cash = scene.exchange.view().cash()
    assert cash == 100_000 - 10 * d("100.01") + 25 * d("99.99") - 20 * d("100.01")


def test_a_flip_is_refused_like_the_real_account_does() -> None:
    scene = Scene()
    scene.order("buy", "10")
    with pytest.raises(Refused, match="insufficient qty available for order \\(requested: 25, available: 10\\)"):
        scene.order("sell", "25")


def test_shorting_can_be_forbidden() -> None:
    scene = Scene(shorting_enabled=False)
    with pytest.raises(Refused, match="account is not allowed to short"):
        scene.order("sell")


def test_buying_power_counts_what_is_open() -> None:
    scene = Scene(replace(PROMPT, is_manual=True), cash=d(1000), multiplier=d(1))
    scene.order(qty="6", kind="limit", limit_price="100")
    assert scene.exchange.view().totals().buying_power == 400
    with pytest.raises(Refused) as caught:
        scene.order(qty="5", kind="limit", limit_price="100")
    assert caught.value.extra == {"buying_power": "400", "cost_basis": "500"}


def test_a_wash_trade_is_refused_and_a_distant_limit_is_not() -> None:
    scene = Scene(replace(PROMPT, is_manual=True))
    resting = scene.order(kind="limit", limit_price="99")
    with pytest.raises(Refused, match="wash trade") as caught:
        scene.order("sell", kind="limit", limit_price="98")
    assert caught.value.extra["existing_order_id"] == resting.id
    assert scene.order("sell", kind="limit", limit_price="105").status is Status.NEW


def test_a_bust_takes_back_fills_position_and_cash() -> None:
    scene = Scene()
    scene.order(qty="10")
    second = scene.order(qty="30")
    execution = scene.exchange.view().executions()[1]
    scene.exchange.bust(execution.id, after(1))
    assert scene.now(second).filled_qty == 0
    assert (scene.qty, scene.exchange.view().cash()) == (10, 100_000 - 10 * d("100.01"))
    assert [e.id for e in scene.exchange.view().executions()] != [execution.id]
    assert scene.told()[-1] == "trade_bust"
    with pytest.raises(Refused, match="already busted or corrected"):
        scene.exchange.bust(execution.id, after(2))


def test_a_correction_takes_the_place_of_the_old_execution() -> None:
    scene = Scene()
    order = scene.order(qty="10")
    old = scene.exchange.view().executions()[0]
    new = scene.exchange.correct(old.id, after(1), price=d("99"))
    assert (new.corrects, new.qty, scene.now(order).filled_avg_price) == (old.id, 10, 99)
    assert scene.exchange.position("ACME").avg_entry_price == 99
    assert scene.exchange.view().cash() == 100_000 - 990
    event = scene.exchange.take_events()[-1]
    assert (event.kind.value, event.previous_execution_id) == ("trade_correct", old.id)


def test_a_late_fill_and_an_overfill_need_force_and_are_booked() -> None:
    scene = Scene(replace(PROMPT, is_manual=True))
    order = scene.order(qty="10", kind="limit", limit_price="90")
    scene.exchange.cancel(order.id, after(1))
    with pytest.raises(Refused, match="qty must be > 0"):
        scene.exchange.fill(order.id, after(2))
    scene.exchange.fill(order.id, after(3), qty=d(4), forced=True)
    assert (scene.now(order).status, scene.now(order).filled_qty, scene.qty) == (Status.CANCELED, 4, 4)
    other = scene.order(qty="10", kind="limit", limit_price="90")
    with pytest.raises(Refused, match="at most 10"):
        scene.exchange.fill(other.id, after(4), qty=d(11))
    scene.exchange.fill(other.id, after(5), qty=d(11), forced=True)
    assert (scene.now(other).filled_qty, scene.qty) == (11, 15)


def test_a_split_changes_quantity_and_price_and_cancels_orders() -> None:
    scene = Scene()
    scene.order(qty="10")
    resting = scene.order(kind="limit", limit_price="90")
    scene.exchange.adjust("ACME", after(1), ratio=d(4))
    assert (scene.qty, scene.exchange.position("ACME").avg_entry_price) == (40, d("25.0025"))
    assert scene.now(resting).status is Status.CANCELED
    assert scene.exchange.take_events()[-1].reason == "CORPORATE_ACTION"


def test_the_close_expires_day_orders_and_the_open_routes_waiting_ones() -> None:
    scene = Scene(replace(PROMPT, is_manual=True))
    day = scene.order(kind="limit", limit_price="90")
    gtc = scene.order(kind="limit", limit_price="90", tif="gtc")
    scene.exchange.set_open(False, after(1))
    assert (scene.now(day).status, scene.now(gtc).status) == (Status.EXPIRED, Status.NEW)
    late = scene.order(kind="limit", limit_price="90", at=after(2))
    assert late.status is Status.ACCEPTED
    scene.told()
    scene.exchange.set_open(True, after(3))
    assert scene.now(late).status is Status.NEW
    assert scene.told() == ["pending_new", "new"]


def test_day_orders_expire_at_the_end_of_the_day_and_gtc_after_ninety() -> None:
    scene = Scene()
    day = scene.order(kind="limit", limit_price="90")
    gtc = scene.order(kind="limit", limit_price="90", tif="gtc")
    scene.exchange.advance(START + timedelta(hours=6))
    assert (scene.now(day).status, scene.now(gtc).status) == (Status.EXPIRED, Status.NEW)
    scene.exchange.advance(START + timedelta(days=90))
    assert scene.now(gtc).status is Status.EXPIRED


def test_venue_rejects_come_after_the_yes() -> None:
    scene = Scene(replace(PROMPT, reject_probability=1.0, ack_latency_ms=100))
    order = scene.order()
    assert order.status is Status.PENDING_NEW
    scene.exchange.advance(after(100))
    assert scene.now(order).status is Status.REJECTED
    assert scene.told() == ["pending_new", "rejected"]


def test_the_past_can_be_read_as_it_was() -> None:
    scene = Scene(replace(PROMPT, is_manual=True))
    order = scene.order(at=after(10))
    scene.exchange.fill(order.id, after(20), qty=d(4), price=d(100))
    execution = scene.exchange.view().executions()[0]
    scene.exchange.bust(execution.id, after(30))
    shown = []
    for moment in (5, 10, 20, 30):
        view = scene.exchange.view(after(moment))
        statuses = [o.status.value for o in view.orders()]
        qty = {symbol: str(p.qty) for symbol, p in view.positions().items()}
        shown.append((statuses, len(view.executions()), qty, str(view.cash())))
    assert shown == [
        ([], 0, {}, "100000"),
        (["new"], 0, {}, "100000"),
        (["partially_filled"], 1, {"ACME": "4"}, "99600"),
        (["new"], 0, {}, "100000"),
    ]


def test_a_clock_set_back_does_not_turn_events_around() -> None:
    scene = Scene()
    scene.exchange.advance(after(1000))
    scene.order(at=after(10))
    assert {event.at for event in scene.exchange.take_events()} == {after(1000)}


def test_the_same_seed_and_acts_give_the_same_events() -> None:
    def story() -> list[Any]:
        scene = Scene(replace(PROMPT, partial_probability=0.5), draw=iter([0.1, 0.3, 0.9, 0.2, 0.7] * 20).__next__)
        for place in range(10):
            scene.order(qty="50", at=after(place * 1000))
            scene.exchange.advance(after(place * 1000 + 900))
        return scene.exchange.take_events()

    assert story() == story()
