"""Whatever is done to the exchange, its books agree with one another (a random walk over everything it can do)."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trueup.simulator.exchange import Exchange, fold
from trueup.simulator.model import (
    AccountRules,
    Adjustment,
    Asset,
    EventKind,
    FillModel,
    Order,
    OrderClass,
    OrderEvent,
    OrderRequest,
    OrderType,
    Position,
    Quote,
    Refused,
    ReplaceRequest,
    Role,
    Side,
    Status,
    StopLoss,
    TimeInForce,
)
from trueup.simulator.wire import ulid

START = datetime(2026, 3, 2, 15, tzinfo=UTC)
SYMBOLS = ("AAA", "BBB")
prices = st.integers(9000, 11000).map(lambda cents: Decimal(cents) / 100)
quantities = st.one_of(st.integers(1, 200).map(Decimal), st.sampled_from([Decimal("0.5"), Decimal("3.000000001")]))


class ExchangeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.at = START
        draws = iter(range(10**9))
        self.exchange = Exchange(
            assets=[Asset(id=f"id-{symbol}", symbol=symbol, name=symbol, exchange="NYSE") for symbol in SYMBOLS],
            rules=AccountRules(flips_allowed=True),
            fill_model=FillModel(partial_probability=0.6),
            seed=3,
            draw=lambda: (next(draws) * 0.37) % 1,
            day_end=lambda at: at + timedelta(hours=1),
            start=START,
        )
        self.events: list[OrderEvent] = []
        self.client_ids: set[str] = set()
        self.groups: dict[str, Decimal] = {}
        """The quantity of every group, by the order that was sent."""
        self.forced: set[str] = set()
        """Orders that were filled by force; their groups keep no promise."""
        for symbol in SYMBOLS:
            self.move(symbol, Decimal(100))

    def move(self, symbol: str, price: Decimal) -> None:
        quote = Quote(symbol=symbol, bid=price, ask=price + Decimal("0.02"), last=price)
        self.exchange.set_quote(quote, self.at)

    def some_order(self, place: int) -> Order | None:
        orders = list(self.exchange.view().orders())
        return orders[place % len(orders)] if orders else None

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(Side),
        kind=st.sampled_from(OrderType),
        tif=st.sampled_from(TimeInForce),
        qty=quantities,
        limit=prices,
        stop=prices,
        client_order_id=st.sampled_from(["a", "b", "c", None]),
        forced=st.booleans(),
    )
    def submit(
        self,
        symbol: str,
        side: Side,
        kind: OrderType,
        tif: TimeInForce,
        qty: Decimal,
        limit: Decimal,
        stop: Decimal,
        client_order_id: str | None,
        forced: bool,
    ) -> None:
        request = OrderRequest(
            symbol=symbol,
            side=side,
            type=kind,
            time_in_force=tif,
            qty=qty,
            limit_price=limit if kind in {OrderType.LIMIT, OrderType.STOP_LIMIT} else None,
            stop_price=stop if kind in {OrderType.STOP, OrderType.STOP_LIMIT} else None,
            trail_price=stop - 89 if kind is OrderType.TRAILING_STOP else None,
            client_order_id=client_order_id,
        )
        try:
            order = self.exchange.submit(request, self.at, forced=forced)
        except Refused:
            return
        assert order.client_order_id not in self.client_ids
        self.client_ids.add(order.client_order_id)

    @rule(dollars=st.integers(1, 5000), side=st.sampled_from(Side))
    def submit_notional(self, dollars: int, side: Side) -> None:
        request = OrderRequest(
            symbol="AAA",
            side=side,
            type=OrderType.MARKET,
            time_in_force=TimeInForce.DAY,
            notional=Decimal(dollars),
        )
        try:
            self.client_ids.add(self.exchange.submit(request, self.at).client_order_id)
        except Refused:
            return

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(Side),
        name=st.sampled_from([OrderClass.BRACKET, OrderClass.OCO, OrderClass.OTO]),
        tif=st.sampled_from([TimeInForce.DAY, TimeInForce.GTC]),
        qty=st.integers(1, 200),
        limit=st.one_of(st.none(), prices),
        exits=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        has_stop_limit=st.booleans(),
        leaves_out=st.sampled_from([None, "target", "stop"]),
        forced=st.booleans(),
    )
    def submit_group(
        self,
        symbol: str,
        side: Side,
        name: OrderClass,
        tif: TimeInForce,
        qty: int,
        limit: Decimal | None,
        exits: tuple[int, int],
        has_stop_limit: bool,
        leaves_out: str | None,
        forced: bool,
    ) -> None:
        quote = self.exchange.quote(symbol)
        assert quote is not None
        base = limit if limit is not None and name is not OrderClass.OCO else quote.last
        away = (side.sign if name is not OrderClass.OCO else -side.sign) * Decimal("0.01")
        stop = base - exits[1] * away
        takes = name is not OrderClass.OTO or leaves_out == "stop"
        stops = name is not OrderClass.OTO or leaves_out != "stop"
        request = OrderRequest(
            symbol=symbol,
            side=side,
            type=OrderType.LIMIT if limit is not None or name is OrderClass.OCO else OrderType.MARKET,
            time_in_force=tif,
            qty=Decimal(qty),
            limit_price=None if name is OrderClass.OCO else limit,
            order_class=name,
            take_profit_price=base + exits[0] * away if takes else None,
            stop_loss=StopLoss(stop_price=stop, limit_price=stop if has_stop_limit else None) if stops else None,
        )
        try:
            order = self.exchange.submit(request, self.at, forced=forced)
        except Refused:
            return
        self.groups[order.id] = Decimal(qty)
        self.client_ids.add(order.client_order_id)
        self.client_ids.update(leg.client_order_id for leg in self.exchange.view().legs(order))

    @precondition(lambda self: self.groups)
    @rule(place=st.integers(0, 50), share=st.sampled_from(["0.5", "1", "1"]))
    def fill_a_parent(self, place: int, share: str) -> None:
        order = self.exchange.order(list(self.groups)[place % len(self.groups)])
        qty = (order.leaves_qty * Decimal(share)).to_integral_value()
        if qty and order.is_open:
            self.exchange.fill(order.id, self.at, qty=qty)

    @rule(place=st.integers(0, 50), milliseconds=st.sampled_from([0, 30, 200]))
    def reach_an_exit(self, place: int, milliseconds: int) -> None:
        exits = [o for o in self.exchange.view().orders() if o.group is not None and o.group.role is not Role.ENTRY]
        exits = [order for order in exits if order.is_open]
        if exits:
            order = exits[place % len(exits)]
            price = (
                order.limit_price if order.group is not None and order.group.role is Role.TARGET else order.stop_price
            )
            assert price is not None
            self.at += timedelta(milliseconds=milliseconds)
            self.exchange.advance(self.at)
            self.move(order.symbol, price)

    @rule(place=st.integers(0, 50), price=prices)
    def replace_a_price_of_a_group(self, place: int, price: Decimal) -> None:
        members = [order for order in self.exchange.view().orders() if order.group is not None and order.is_open]
        if not members:
            return
        order = members[place % len(members)]
        terms = ReplaceRequest(stop_price=price) if order.stop_price else ReplaceRequest(limit_price=price)
        try:
            self.client_ids.add(self.exchange.replace(order.id, terms, self.at).client_order_id)
        except Refused:
            return

    @rule(milliseconds=st.sampled_from([0, 1, 10, 30, 200, 4_000_000]))
    def wait(self, milliseconds: int) -> None:
        self.at += timedelta(milliseconds=milliseconds)
        self.exchange.advance(self.at)

    @rule(symbol=st.sampled_from(SYMBOLS), price=prices)
    def quote(self, symbol: str, price: Decimal) -> None:
        self.move(symbol, price)

    @rule(place=st.integers(0, 50))
    def cancel(self, place: int) -> None:
        order = self.some_order(place)
        if order is not None:
            try:
                self.exchange.cancel(order.id, self.at)
            except Refused:
                assert not order.is_open or order.cancel_requested_at is not None

    @rule(place=st.integers(0, 50), qty=st.integers(1, 300), limit=prices)
    def replace(self, place: int, qty: int, limit: Decimal) -> None:
        order = self.some_order(place)
        if order is None:
            return
        request = ReplaceRequest(qty=Decimal(qty), limit_price=limit if order.limit_price else None)
        try:
            self.client_ids.add(self.exchange.replace(order.id, request, self.at).client_order_id)
        except Refused:
            return

    @rule(place=st.integers(0, 50), qty=st.integers(1, 60), price=prices, forced=st.booleans())
    def fill(self, place: int, qty: int, price: Decimal, forced: bool) -> None:
        order = self.some_order(place)
        if order is not None:
            if forced:
                self.forced.add(order.id)
            try:
                self.exchange.fill(order.id, self.at, qty=Decimal(qty), price=price, forced=forced)
            except Refused:
                assert not forced

    @precondition(lambda self: self.exchange.view().executions())
    @rule(place=st.integers(0, 50), price=prices, is_bust=st.booleans())
    def undo(self, place: int, price: Decimal, is_bust: bool) -> None:
        executions = self.exchange.view().executions()
        execution = executions[place % len(executions)]
        if is_bust:
            self.exchange.bust(execution.id, self.at)
        elif price != execution.price:
            self.exchange.correct(execution.id, self.at, price=price)

    @rule(symbol=st.sampled_from(SYMBOLS), ratio=st.sampled_from(["2", "0.5"]), qty=st.integers(-5, 5))
    def adjust(self, symbol: str, ratio: str, qty: int) -> None:
        if qty:
            self.exchange.adjust(symbol, self.at, qty=Decimal(qty), net_amount=Decimal(-qty))
        else:
            self.exchange.adjust(symbol, self.at, ratio=Decimal(ratio))

    @rule(is_open=st.booleans())
    def session(self, is_open: bool) -> None:
        self.exchange.set_open(is_open, self.at)

    @invariant()
    def orders_are_the_sum_of_their_executions(self) -> None:
        view = self.exchange.view()
        for order in view.orders():
            mine = [e for e in view.executions() if e.order_id == order.id]
            assert order.filled_qty == sum((e.qty for e in mine), Decimal(0))
            assert order.filled_value == sum((e.qty * e.price for e in mine), Decimal(0))
            if order.filled_qty:
                assert order.filled_avg_price == order.filled_value / order.filled_qty

    @invariant()
    def positions_and_cash_are_the_fold_of_everything(self) -> None:
        view = self.exchange.view()
        cash = Decimal(100_000)
        for execution in view.executions():
            cash -= execution.signed_qty * execution.price
        for adjustment in view.adjustments():
            cash += adjustment.net_amount
        assert view.cash() == cash
        for symbol in SYMBOLS:
            if not any(a.symbol == symbol for a in view.adjustments()):
                assert self.exchange.position(symbol).qty == sum(
                    (e.signed_qty for e in view.executions() if e.symbol == symbol), Decimal(0)
                )

    @invariant()
    def events_tell_the_whole_story(self) -> None:
        """An independent listener that folds only the events arrives at the same position and at the same orders."""
        self.events.extend(self.exchange.take_events())
        ends: Counter[str] = Counter()
        last: dict[str, Order] = {}
        for event in self.events:
            last[event.order.id] = event.order
            ended = {"canceled", "expired", "replaced", "rejected"}
            ends[event.order.id] += event.kind.value in ended
        for earlier, later in pairwise(self.events):
            assert earlier.number + 1 == later.number
            assert earlier.at <= later.at
            assert ulid(earlier.at, earlier.number) < ulid(later.at, later.number)
        for order in self.exchange.view().orders():
            assert ends[order.id] <= 1
            if order.id in last and not order.is_open and not self.ended_while_held(order):
                told = last[order.id]
                assert (told.status, told.filled_qty) == (order.status, order.filled_qty)

    def ended_while_held(self, order: Order) -> bool:
        """True for a leg that its group took with it before it worked; no event tells of that."""
        before = [version for version in self.exchange._versions[order.id] if version.is_open]
        return before[-1].status is Status.HELD

    @invariant()
    def of_every_group_one_exit_is_executed_and_only_behind_its_entry(self) -> None:
        orders = list(self.exchange.view().orders())
        for parent_id, qty in self.groups.items():
            group = self.exchange._groups[parent_id]
            members = [order for order in orders if self.exchange._groups.get(order.id) is group]
            if any(order.id in self.forced for order in members):
                continue
            entries = [order for order in members if order.group is not None and order.group.role is Role.ENTRY]
            exits = [order for order in members if order not in entries]
            assert sum((order.filled_qty for order in exits), Decimal(0)) <= qty
            working = [order for order in exits if order.status in {Status.NEW, Status.PARTIALLY_FILLED}]
            assert len(working) <= 1
            if any(order.status is Status.FILLED for order in exits):
                # A replace under way is refused when its time comes; until then nothing can come of it.
                assert all(order.replaces in self.exchange._replacing for order in members if order.is_open)
            if entries and not any(order.status is Status.FILLED for order in entries):
                assert not working
                assert not any(order.filled_qty for order in exits)
            held = [order for order in exits if order.status is Status.HELD]
            assert not held or any(order.is_open for order in members if order not in held), "held for nobody"
            for order in working:
                stop = group.stop
                if order.id == group.target and stop is not None:
                    assert self.exchange.order(stop).qty == order.leaves_qty

    @invariant()
    def a_trailing_stop_stands_where_its_water_mark_puts_it(self) -> None:
        for order in self.exchange.view().orders():
            if order.trail is not None:
                assert order.stop_price == order.trail.stop_price(order.side)

    @invariant()
    def position_of_a_fill_is_the_position_after_it(self) -> None:
        ledger: dict[str, list[OrderEvent | Adjustment]] = {symbol: [] for symbol in SYMBOLS}
        if self.exchange.view().adjustments():
            return
        for event in self.events:
            if event.execution is not None:
                ledger[event.order.symbol].append(event)
        for symbol, entries in ledger.items():
            live: dict[str, Decimal] = {}
            for entry in entries:
                assert isinstance(entry, OrderEvent)
                assert entry.execution is not None
                if entry.kind is EventKind.TRADE_BUST:
                    del live[entry.execution.id]
                else:
                    if entry.kind is EventKind.TRADE_CORRECT:
                        assert entry.previous_execution_id is not None
                        del live[entry.previous_execution_id]
                    live[entry.execution.id] = entry.execution.signed_qty
                assert entry.position_qty == sum(live.values(), Decimal(0)), symbol

    @invariant()
    def replaces_are_linked_both_ways(self) -> None:
        orders = {order.id: order for order in self.exchange.view().orders()}
        for order in orders.values():
            if order.status is Status.REPLACED:
                assert order.replaced_by is not None
                assert orders[order.replaced_by].replaces == order.id
            else:
                assert order.replaced_by is None

    @invariant()
    def cum_and_leaves_make_the_order(self) -> None:
        for event in self.events:
            execution, order = event.execution, event.order
            if event.kind in {EventKind.FILL, EventKind.PARTIAL_FILL} and execution is not None and order.is_open:
                assert order.total_qty is not None
                assert execution.cum_qty + execution.leaves_qty == order.total_qty

    @invariant()
    def a_view_as_of_now_is_the_present(self) -> None:
        now, present = self.exchange.view(self.at + timedelta(days=1)), self.exchange.view()
        assert list(now.orders()) == list(present.orders())
        assert now.executions() == present.executions()
        assert now.positions() == present.positions()
        assert now.cash() == present.cash()


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_averages_do_not_depend_on_how_a_trade_is_cut() -> None:
    whole = fold(Position(symbol="AAA"), Decimal(30), Decimal(10))
    cut = Position(symbol="AAA")
    for _ in range(3):
        cut = fold(cut, Decimal(10), Decimal(10))
    assert whole == cut
