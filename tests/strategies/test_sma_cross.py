"""The tutorial's strategy by tables: what it wants, given what it sees."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from trueup.core.commands import CancelOrder, Command, SubmitOrder
from trueup.core.events import SignalGenerated
from trueup.core.model import OrderId, OrderType, Quote, Side, Symbol
from trueup.ports import OpenOrder, StrategyView
from trueup.strategies.sma_cross import SmaCross

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")
RISING = ["100", "100", "100", "101"]
FALLING = ["100", "100", "100", "99"]

Wish = SignalGenerated | Command


def view(
    price: str | None,
    *,
    second: float = 0,
    held: str = "0",
    working: tuple[OpenOrder, ...] = (),
    entries_gated: bool = False,
    bid: str | None = None,
) -> StrategyView:
    at = START + timedelta(seconds=second)
    mid = Decimal(price or "0")
    quote = Quote(
        symbol=AAPL,
        bid=Decimal(bid) if bid is not None else mid - Decimal("0.01"),
        ask=mid + Decimal("0.01"),
        at=at,
    )
    return StrategyView(
        at=at,
        quotes={AAPL: quote} if price is not None else {},
        positions={AAPL: Decimal(held)} if held != "0" else {},
        open_orders=working,
        entries_gated=entries_gated,
    )


def shown(strategy: SmaCross, prices: list[str], **last: object) -> list[Wish]:
    """What is wanted at the last of these prices, one a second; `last` is what else is seen then."""
    for second, price in enumerate(prices[:-1]):
        assert not strategy.decide(view(price, second=second))
    return list(strategy.decide(view(prices[-1], second=len(prices) - 1, **last)))  # type: ignore[arg-type]


def quick() -> SmaCross:
    return SmaCross((AAPL,), fast=2, slow=4, quantity=Decimal(10), patience_s=15, rest_s=20)


def working(side: Side, age_s: float = 0) -> OpenOrder:
    """An order of the strategy's own, so old at the fourth price."""
    return OpenOrder(order_id=OrderId("o-1"), symbol=AAPL, side=side, created_at=START + timedelta(seconds=3 - age_s))


def test_it_buys_at_the_ask_once_the_fast_average_is_above_the_slow_one() -> None:
    signal, order = shown(quick(), RISING)
    assert isinstance(signal, SignalGenerated)
    assert (signal.direction, signal.symbol, signal.strategy_name) == ("BUY", AAPL, "sma_cross")
    assert signal.indicators == {"sma_fast": Decimal("100.50"), "sma_slow": Decimal("100.25")}
    assert 0 < signal.strength <= 1
    assert isinstance(order, SubmitOrder)
    assert (order.side, order.quantity, order.order_type) == (Side.BUY, Decimal(10), OrderType.LIMIT)
    assert (order.limit_price, order.reference_price) == (Decimal("101.01"), Decimal("101.00"))
    assert (order.strategy_name, order.at) == ("sma_cross", signal.at)


def test_it_wants_nothing_while_the_averages_are_not_known_or_below() -> None:
    assert shown(quick(), RISING[:3]) == []
    assert shown(quick(), FALLING) == []


def test_it_sells_all_that_it_holds_at_the_market_when_the_averages_cross_down() -> None:
    strategy = quick()
    shown(strategy, RISING)
    signal, order = strategy.decide(view("90", second=30, held="7"))
    assert isinstance(signal, SignalGenerated)
    assert signal.direction == "SELL"
    assert isinstance(order, SubmitOrder)
    assert (order.side, order.quantity, order.order_type) == (Side.SELL, Decimal(7), OrderType.MARKET)
    assert order.limit_price is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"entries_gated": True}, "entries are gated"),
        ({"held": "10"}, "it holds its quantity already"),
        ({"working": (working(Side.BUY),)}, "an order of its own works"),
    ],
)
def test_it_signals_but_does_not_buy_when(seen: dict[str, object], why: str) -> None:
    wishes = shown(quick(), RISING, **seen)
    assert [type(wish) for wish in wishes] == [SignalGenerated], why


def test_it_never_sells_what_it_does_not_hold() -> None:
    strategy = quick()
    shown(strategy, RISING)
    assert [type(wish) for wish in strategy.decide(view("90", second=4))] == [SignalGenerated]


def test_it_leaves_although_entries_are_gated() -> None:
    strategy = quick()
    shown(strategy, RISING)
    wishes = strategy.decide(view("90", second=30, held="10", entries_gated=True))
    assert [type(wish) for wish in wishes] == [SignalGenerated, SubmitOrder]


@pytest.mark.parametrize(("age_s", "is_taken_back"), [(14.9, False), (15, True), (60, True)])
def test_it_takes_an_entry_back_that_rests_too_long(age_s: float, is_taken_back: bool) -> None:
    strategy = quick()
    wishes = shown(strategy, FALLING, working=(working(Side.BUY, age_s),))
    assert [type(wish) for wish in wishes] == ([CancelOrder] if is_taken_back else [])


def test_a_symbol_rests_after_each_order_and_then_does_what_the_averages_still_ask_for() -> None:
    strategy = quick()
    shown(strategy, RISING)
    early = strategy.decide(view("90", second=22, held="10"))
    assert [type(wish) for wish in early] == [SignalGenerated], "it crossed, but the symbol has its rest"
    late = strategy.decide(view("90", second=23, held="10"))
    assert [type(wish) for wish in late] == [SignalGenerated, SubmitOrder]


def test_every_other_entry_rests_at_the_bid() -> None:
    strategy = quick()
    prices = []
    for number in range(4):
        wishes = shown_again(strategy, second=100 * number)
        [entry] = [wish for wish in wishes if isinstance(wish, SubmitOrder)]
        prices.append(entry.limit_price)
    assert prices == [Decimal("101.01"), Decimal("100.99"), Decimal("101.01"), Decimal("100.99")]


def shown_again(strategy: SmaCross, *, second: float) -> list[Wish]:
    """What is wanted at the end of another rise, nothing being held."""
    for place, price in enumerate(RISING[:-1]):
        strategy.decide(view(price, second=second + place, entries_gated=True))
    return list(strategy.decide(view(RISING[-1], second=second + 3)))


def test_it_does_not_take_an_exit_back() -> None:
    assert shown(quick(), FALLING, working=(working(Side.SELL, 600),)) == []


@pytest.mark.parametrize("seen", [view(None, second=3), view("101", second=3, bid="0")])
def test_it_takes_no_sample_of_a_price_that_is_not_there(seen: StrategyView) -> None:
    strategy = quick()
    for second, price in enumerate(RISING[:3]):
        strategy.decide(view(price, second=second))
    assert list(strategy.decide(seen)) == []
    assert [type(wish) for wish in strategy.decide(view("101", second=4))] == [SignalGenerated, SubmitOrder]


def test_symbols_are_looked_at_apart_from_one_another() -> None:
    strategy = SmaCross((AAPL, MSFT), fast=2, slow=4)
    assert [type(wish) for wish in shown(strategy, RISING)] == [SignalGenerated, SubmitOrder]
    assert set(strategy.tracks) == {AAPL}


def test_its_memory_is_plain_data_and_goes_on_where_it_was() -> None:
    one = quick()
    shown(one, RISING)
    other = pickle.loads(pickle.dumps(one))
    then = view("90", second=4, held="10")
    assert other.decide(then) == one.decide(then)


@pytest.mark.parametrize(("fast", "slow"), [(0, 5), (5, 5), (8, 3)])
def test_averages_that_make_no_sense_are_refused(fast: int, slow: int) -> None:
    with pytest.raises(ValueError, match=f"not {fast} and {slow}"):
        SmaCross((AAPL,), fast=fast, slow=slow)
