"""The exchange in process: what its faults do to requests and streams, and that the same seed tells the same story."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from decimal import Decimal as D
from typing import Any

import pytest

from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.core.events import FrameQuarantined, OrderReported
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    NewOrder,
    OrderChange,
    OrderReport,
    OrderStatus,
    OrderType,
    Side,
    SnapshotScope,
    Symbol,
    TimeInForce,
)
from trueup.errors import BrokerUnavailable, FeedEnded, OutcomeUnknown, RateLimited, RequestRefused
from trueup.ports import FeedItem, SnapshotRequest
from trueup.simulator.broker import LINE_LIMIT, REFUSED_PAUSE_S, Delays, InProcess
from trueup.simulator.model import FillModel, OrderClass, OrderRequest, StopLoss
from trueup.simulator.model import OrderType as TheirType
from trueup.simulator.model import Side as TheirSide
from trueup.simulator.model import TimeInForce as TheirTime

BY_HAND = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
FULL = SnapshotRequest(scope=SnapshotScope.FULL)


def order(name: str = "c-1", quantity: int = 100, **terms: Any) -> NewOrder:
    usual: dict[str, Any] = {
        "symbol": Symbol("AAPL"),
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.DAY,
        "limit_price": D(200),
    }
    return NewOrder(client_order_id=ClientOrderId(name), quantity=D(quantity), **(usual | terms))


def beside(sim_terms: dict[str, Any], main: Any) -> Any:
    """Run `main` with a living exchange in virtual time."""

    async def both() -> Any:
        sim = InProcess(clock=VirtualClock(), **({"seed": 7, "fill_model": BY_HAND} | sim_terms))
        living = asyncio.create_task(sim.run())
        try:
            return await main(sim)
        finally:
            living.cancel()
            await asyncio.wait([living])

    return run_virtual(both())


class Heard:
    """Everything that comes by a stream, until it ends."""

    def __init__(self, sim: InProcess) -> None:
        self.items: list[FeedItem] = []
        self.end: FeedEnded | None = None
        self._orders = sim.orders
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            async with self._orders.connect() as items:
                await self._take(items)
        except FeedEnded as end:
            self.end = end

    async def _take(self, items: AsyncIterator[FeedItem]) -> None:
        async for item in items:
            self.items.append(item)

    @property
    def filled(self) -> list[D]:
        """Cumulative quantities, as they came."""
        return [
            item.report.filled_quantity
            for item in self.items
            if isinstance(item, OrderReported) and item.exec_type is ExecType.TRADE
        ]


async def listening(sim: InProcess) -> Heard:
    heard = Heard(sim)
    await VirtualClock().sleep(1)
    return heard


def fill(sim: InProcess, report: OrderReport, *quantities: int) -> None:
    for quantity in quantities:
        sim.act(lambda market, at, quantity=quantity: market.fill(report.broker_order_id, at, qty=D(quantity)))


# --- streams ---


@pytest.mark.parametrize(
    ("kind", "heard_as"),
    [
        ("delay", [10, 30, 60]),
        ("duplicate", [10, 10, 30, 30, 60, 60]),
        ("lose", []),
        ("mute", []),
        ("none", [10, 30, 60]),
    ],
)
def test_what_a_fault_makes_of_three_fills(kind: str, heard_as: list[int]) -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order())
        if kind != "none":
            sim.fault("trade_updates", kind, seconds=5, **({"by_seconds": 2} if kind == "delay" else {}))
        fill(sim, report, 10, 20, 30)
        await VirtualClock().sleep(1)
        if kind == "delay":
            assert heard.filled == []
        await VirtualClock().sleep(20)
        assert heard.filled == heard_as
        assert sim.exchange.order(report.broker_order_id).filled_qty == 60, "the books are never touched"

    beside({}, main)


def test_a_reordering_shuffles_and_loses_nothing() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order())
        sim.fault("trade_updates", "reorder", seconds=5)
        fill(sim, report, 10, 20, 30)
        await VirtualClock().sleep(5)
        assert sorted(heard.filled) == [10, 30, 60]
        assert heard.filled != [10, 30, 60]

    beside({}, main)


def test_messages_of_one_connection_never_overtake_each_other() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order())
        for _ in range(30):
            fill(sim, report, 1)
            await VirtualClock().sleep(0.01)
        await VirtualClock().sleep(5)
        assert heard.filled == [D(number) for number in range(1, 31)]

    beside({"delays": Delays(event_s=0.01, spread_s=0.5)}, main)


def test_a_drop_cuts_at_once_loses_what_was_under_way_and_lets_nobody_in() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order())
        fill(sim, report, 10)
        sim.fault("trade_updates", "drop", seconds=10)
        await VirtualClock().sleep(0.1)
        assert heard.end is not None
        assert heard.filled == []
        again = await listening(sim)
        assert again.end is not None
        assert again.end.reason == "the connection was refused"
        await VirtualClock().sleep(10)
        fill(sim, report, 20)
        third = await listening(sim)
        assert third.filled == [], "nothing from before is ever told again"
        fill(sim, report, 5)
        await VirtualClock().sleep(1)
        assert third.filled == [35]

    beside({"delays": Delays(event_s=0.05)}, main)


def test_a_second_connection_is_one_too_many() -> None:
    async def main(sim: InProcess) -> None:
        first, second = await listening(sim), await listening(sim)
        assert first.end is None
        assert second.end is not None
        assert second.end.retry_after_s == REFUSED_PAUSE_S

    beside({}, main)


def test_a_reader_that_is_too_slow_is_cut_rather_than_lied_to() -> None:
    async def main(sim: InProcess) -> None:
        async with sim.orders.connect() as items:
            report = await sim.broker.submit(order(quantity=LINE_LIMIT + 10, limit_price=D(1)))
            fill(sim, report, *[1] * (LINE_LIMIT + 5))
            with pytest.raises(FeedEnded, match="too slow"):
                async for _ in items:
                    pass

    beside({}, main)


def test_a_frame_that_can_not_be_read_is_handed_on_whole() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        sim.orders.garble('{"stream": "trade_up')
        await VirtualClock().sleep(1)
        [item] = heard.items
        assert isinstance(item, FrameQuarantined)
        assert item.raw == '{"stream": "trade_up'

    beside({}, main)


def test_a_bust_and_a_correction_name_the_execution_they_are_about() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order())
        fill(sim, report, 10, 20)
        first, second = sim.exchange.view().executions()
        sim.act(lambda market, at: market.bust(first.id, at))
        sim.act(lambda market, at: market.correct(second.id, at, price=D(199)))
        await VirtualClock().sleep(1)
        events = [item for item in heard.items if isinstance(item, OrderReported)]
        bust, correction = events[-2:]
        assert (bust.exec_type, bust.refers_to) == (ExecType.TRADE_CANCEL, first.id)
        assert bust.report.filled_quantity == 20
        assert (correction.exec_type, correction.refers_to) == (ExecType.TRADE_CORRECT, second.id)
        assert correction.execution is not None
        assert (correction.execution.price, correction.execution.quantity) == (D(199), D(20))

    beside({}, main)


# --- requests ---


@pytest.mark.parametrize(
    ("kind", "terms", "for_change", "for_read", "arrives"),
    [
        ("drop", {}, OutcomeUnknown, BrokerUnavailable, False),
        ("refuse", {}, OutcomeUnknown, BrokerUnavailable, False),
        ("timeout", {}, OutcomeUnknown, BrokerUnavailable, False),
        ("error", {"match": {"status": 500}}, OutcomeUnknown, BrokerUnavailable, False),
        ("error", {"match": {"status": 403}}, RequestRefused, BrokerUnavailable, False),
        ("rate_limit", {}, RateLimited, RateLimited, False),
        ("lost_reply", {}, OutcomeUnknown, BrokerUnavailable, True),
        ("lost_reply", {"match": {"status": "hang"}}, OutcomeUnknown, BrokerUnavailable, True),
    ],
)
def test_what_a_client_makes_of_a_failing_request(
    kind: str, terms: dict[str, Any], for_change: type[Exception], for_read: type[Exception], arrives: bool
) -> None:
    async def main(sim: InProcess) -> None:
        sim.fault("rest", kind, seconds=100, **terms)
        with pytest.raises(for_change):
            await sim.broker.submit(order())
        for asked in (sim.broker.find(client_order_id=ClientOrderId("c-1")), sim.broker.snapshot(FULL)):
            with pytest.raises(for_read):
                await asked
        sim.world.faults.clear()
        found = await sim.broker.find(client_order_id=ClientOrderId("c-1"))
        assert (found is not None) is arrives
        assert len(sim.broker.received) == arrives

    beside({}, main)


def test_every_changing_request_can_lose_its_reply() -> None:
    async def main(sim: InProcess) -> None:
        report = await sim.broker.submit(order())
        sim.fault("rest", "lost_reply", seconds=100)
        change = OrderChange(client_order_id=ClientOrderId("c-2"), quantity=D(50))
        asked: list[Coroutine[Any, Any, object]] = [
            sim.broker.replace(report.broker_order_id, change),
            sim.broker.cancel(report.broker_order_id),
        ]
        for each in asked:
            with pytest.raises(OutcomeUnknown):
                await each
        sim.world.faults.clear()
        new = await sim.broker.find(client_order_id=ClientOrderId("c-2"))
        assert new is not None
        assert (new.replaces, new.quantity) == (report.broker_order_id, D(50))

    beside({}, main)


def test_a_lagging_broker_answers_from_the_past_and_from_one_instant() -> None:
    async def main(sim: InProcess) -> None:
        report = await sim.broker.submit(order())
        await VirtualClock().sleep(10)
        fill(sim, report, 40)
        sim.fault("rest", "lag", seconds=100, by_seconds=5)
        stale = await sim.broker.snapshot(FULL)
        assert [each.filled_quantity for each in stale.orders] == [0]
        assert (stale.executions, stale.positions) == ((), ())
        await VirtualClock().sleep(6)
        fresh = await sim.broker.snapshot(FULL)
        assert [each.filled_quantity for each in fresh.orders] == [40]
        assert len(fresh.executions) == 1

    beside({}, main)


def test_a_client_order_id_that_stands_with_other_terms_is_refused() -> None:
    async def main(sim: InProcess) -> None:
        await sim.broker.submit(order())
        with pytest.raises(RequestRefused, match="must be unique"):
            await sim.broker.submit(order(quantity=7))

    beside({}, main)


@pytest.mark.parametrize("terms", [{"order_type": OrderType.TRAILING_STOP}, {"time_in_force": TimeInForce.OPG}])
def test_what_the_exchange_does_not_offer_is_refused(terms: dict[str, Any]) -> None:
    async def main(sim: InProcess) -> None:
        with pytest.raises(RequestRefused, match="does not offer"):
            await sim.broker.submit(order(**terms))

    beside({}, main)


@pytest.mark.parametrize(("polls_apart", "lags"), [(False, False), (True, True)])
def test_a_poll_reads_what_has_ended_at_an_instant_of_its_own(polls_apart: bool, lags: bool) -> None:
    async def main(sim: InProcess) -> None:
        await VirtualClock().sleep(1)
        standing, ended = [await sim.broker.submit(order(name)) for name in ("c-1", "c-2")]
        fill(sim, ended, 100)
        (match,) = sim.exchange.view().executions()
        asked = SnapshotRequest(
            scope=SnapshotScope.ORDERS,
            known=(standing.broker_order_id, ended.broker_order_id, BrokerOrderId("b-none")),
        )
        poll = asyncio.create_task(sim.broker.snapshot(asked))
        await VirtualClock().sleep(0.6)
        # half of the first request's second has passed: its list is read, and its answer on the way back
        fill(sim, standing, 40)
        sim.act(lambda market, at: market.bust(match.id, at))
        snapshot = await poll
        told = {report.broker_order_id: report.filled_quantity for report in snapshot.orders}
        books = {standing.broker_order_id: D(40), ended.broker_order_id: D(0)}
        before = {standing.broker_order_id: D(0), ended.broker_order_id: D(100)}
        assert told == (books | {standing.broker_order_id: D(0)} if lags else before)
        assert snapshot.absent == ("b-none",)

    beside({"delays": Delays(request_s=1), "polls_apart": polls_apart}, main)


def test_a_poll_that_is_read_apart_fails_with_any_of_its_requests() -> None:
    async def main(sim: InProcess) -> None:
        ended = await sim.broker.submit(order())
        fill(sim, ended, 100)
        sim.fault("rest", "error", match={"path": f"/v2/orders/{ended.broker_order_id}", "status": 500})
        asked = SnapshotRequest(scope=SnapshotScope.ORDERS, known=(ended.broker_order_id,))
        with pytest.raises(BrokerUnavailable):
            await sim.broker.snapshot(asked)

    beside({"polls_apart": True}, main)


# --- order groups ---


def test_a_group_of_another_client_is_told_as_the_wire_tells_it() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        sim.world.move("AAPL", D(200), 3600)
        request = OrderRequest(
            symbol="AAPL",
            side=TheirSide.BUY,
            type=TheirType.MARKET,
            time_in_force=TheirTime.GTC,
            qty=D(10),
            order_class=OrderClass.BRACKET,
            take_profit_price=D(210),
            stop_loss=StopLoss(stop_price=D(190)),
        )
        entry = sim.act(lambda market, at: market.submit(request, at, is_external=True))
        target, stop = sim.exchange.view().legs(entry)
        await VirtualClock().sleep(1)
        snapshot = await sim.broker.snapshot(FULL)
        told = {report.broker_order_id: (report.parent, report.status, report.raw_status) for report in snapshot.orders}
        assert told == {
            entry.id: (None, OrderStatus.NEW, "new"),
            target.id: (entry.id, OrderStatus.PENDING_NEW, "held"),
            stop.id: (entry.id, OrderStatus.PENDING_NEW, "held"),
        }
        assert {report.order_class for report in snapshot.orders} == {"bracket"}
        sim.act(lambda market, at: market.fill(entry.id, at))
        sim.act(lambda market, at: market.fill(target.id, at))
        await VirtualClock().sleep(1)
        events = [item for item in heard.items if isinstance(item, OrderReported)]
        # What is held is not heard of: not that the stop came, and not that it went.
        assert [(event.report.broker_order_id, event.exec_type) for event in events[2:]] == [
            (entry.id, ExecType.TRADE),
            (target.id, ExecType.NEW),
            (target.id, ExecType.TRADE),
        ]
        assert {(event.report.parent, event.report.order_class) for event in events} == {(None, "bracket")}
        after = await sim.broker.snapshot(FULL)
        assert [report.status for report in after.orders] == ["FILLED", "FILLED", "CANCELED"]

    beside({}, main)


# --- time and chance ---


def story(seed: int) -> list[str]:
    """What happens to a few orders in a lively market with faults, in words."""

    async def main(sim: InProcess) -> list[str]:
        heard = await listening(sim)
        sim.fault("trade_updates", "lose", seconds=5, probability=0.3)
        for number in range(8):
            await sim.broker.submit(order(f"c-{number}", order_type=OrderType.MARKET, limit_price=None))
            await VirtualClock().sleep(1)
        await VirtualClock().sleep(10)
        return [repr(item) for item in heard.items]

    lively = FillModel(partial_probability=0.5)
    told: list[str] = beside({"seed": seed, "fill_model": lively, "delays": Delays(spread_s=0.2)}, main)
    return told


def test_the_same_seed_tells_the_same_story() -> None:
    assert story(3) == story(3)
    assert story(3) != story(4)


def test_a_stop_that_comes_with_an_event_is_a_stop() -> None:
    async def main() -> None:
        sim = InProcess(clock=VirtualClock(), seed=1, fill_model=BY_HAND)
        living = asyncio.create_task(sim.run())
        report = await sim.broker.submit(order())
        await VirtualClock().sleep(0.1)
        fill(sim, report, 1)
        living.cancel()
        done, _ = await asyncio.wait([living], timeout=60)
        assert done, "the exchange lives on"

    run_virtual(main())


def test_an_order_in_a_lively_market_fills_in_slices_that_add_up() -> None:
    async def main(sim: InProcess) -> None:
        heard = await listening(sim)
        report = await sim.broker.submit(order(order_type=OrderType.MARKET, limit_price=None))
        await VirtualClock().sleep(10)
        assert report.status is OrderStatus.PENDING_NEW
        fills = [item.execution for item in heard.items if isinstance(item, OrderReported) and item.execution]
        assert len(fills) > 1
        assert sum(each.quantity for each in fills) == 100
        snapshot = await sim.broker.snapshot(FULL)
        assert {each.execution_id for each in snapshot.executions} == {each.execution_id for each in fills}
        assert snapshot.positions is not None
        assert [(each.symbol, each.quantity) for each in snapshot.positions] == [(Symbol("AAPL"), D(100))]

    beside({"fill_model": FillModel(partial_probability=1.0)}, main)
