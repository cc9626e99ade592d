"""What every broker promises, written once and run for each of them.

An adapter is added to `RIGS`: something that opens a broker whose exchange fills only when told to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest

from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.rest import ClientOptions
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
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
from trueup.errors import BadCredentials, BrokerUnavailable, OutcomeUnknown, RequestRefused
from trueup.ports import Broker, SnapshotRequest
from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.broker import Delays, InProcess
from trueup.simulator.model import FillModel, OrderRequest
from trueup.simulator.model import OrderType as TheirType
from trueup.simulator.model import Side as TheirSide
from trueup.simulator.model import TimeInForce as TheirTime

TERMINAL = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REPLACED)


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Rig:
    """A broker, and a hand on its exchange."""

    broker: Broker
    stranger: Broker
    """The same broker with keys that it does not know."""
    fill: Callable[[BrokerOrderId, str, str], Awaitable[None]]
    """Execute (order, quantity, price)."""
    place_by_hand: Callable[[str], Awaitable[BrokerOrderId]]
    """Place an order for a symbol as another program of the same account would."""
    lose_reply: Callable[[str], Awaitable[None]]
    """Carry the next "submit" or "replace" out and lose the answer."""
    fail: Callable[[str], Awaitable[None]]
    """Make "positions", "executions", "orders" or "everything" unreadable from now on."""


@asynccontextmanager
async def alpaca() -> AsyncIterator[Rig]:
    manual = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
    config = SimulatorConfig(port=0, rate_limit=0, fill_model=manual)
    options = ClientOptions(read_s=5, total_s=10, requests_per_minute=0)
    async with SimulatorServer(config) as sim, httpx.AsyncClient(base_url=sim.url, timeout=30) as http:

        async def post(path: str, **body: Any) -> Any:
            response = await http.post(path, json=body)
            assert response.status_code < 300, response.text
            return response.json()

        async def fill(order_id: BrokerOrderId, quantity: str, price: str) -> None:
            await post("/sim/fill", order_id=order_id, qty=quantity, price=price)

        async def place_by_hand(symbol: str) -> BrokerOrderId:
            terms = {"side": "buy", "qty": "3", "type": "limit", "limit_price": "100"}
            return BrokerOrderId((await post("/sim/orders", symbol=symbol, **terms))["id"])

        async def lose_reply(what: str) -> None:
            method = {"submit": "POST", "replace": "PATCH"}[what]
            await post(
                "/sim/faults", target="rest", kind="lost_reply", count=1, match={"method": method, "status": 504}
            )

        async def fail(what: str) -> None:
            paths = {"positions": "/v2/positions", "executions": "/v2/account/activities", "orders": "/v2/orders"}
            match = {"path": paths.get(what, "/v2/*"), "method": "GET"}
            await post("/sim/faults", target="rest", kind="error", seconds=600, match=match)

        made = [
            AlpacaBroker(key="SIM", secret=secret, url=sim.url, clock=RealClock(), options=options)
            for secret in ("SIM", "NOT-SIM")
        ]
        yield Rig(made[0], made[1], fill, place_by_hand, lose_reply, fail)
        for broker in made:
            await broker.close()


@asynccontextmanager
async def in_process(*, polls_apart: bool = False) -> AsyncIterator[Rig]:
    manual = FillModel(ack_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, is_manual=True)
    delays = Delays(request_s=0.002)
    sim = InProcess(clock=RealClock(), seed=7, fill_model=manual, delays=delays, polls_apart=polls_apart)
    stranger, _, _ = sim.faces()
    stranger.forget_keys()

    async def fill(order_id: BrokerOrderId, quantity: str, price: str) -> None:
        sim.act(lambda exchange, at: exchange.fill(order_id, at, qty=Decimal(quantity), price=Decimal(price)))

    async def place_by_hand(symbol: str) -> BrokerOrderId:
        terms = OrderRequest(
            symbol=symbol,
            side=TheirSide.BUY,
            type=TheirType.LIMIT,
            time_in_force=TheirTime.DAY,
            qty=Decimal(3),
            limit_price=Decimal(100),
        )
        return BrokerOrderId(sim.act(lambda exchange, at: exchange.submit(terms, at, is_external=True)).id)

    async def lose_reply(what: str) -> None:
        method = {"submit": "POST", "replace": "PATCH"}[what]
        sim.fault("rest", "lost_reply", count=1, match={"method": method, "status": 504})

    async def fail(what: str) -> None:
        paths = {"positions": "/v2/positions", "executions": "/v2/account/activities", "orders": "/v2/orders"}
        sim.fault("rest", "error", seconds=600, match={"path": paths.get(what, "/v2/*"), "method": "GET"})

    living = asyncio.create_task(sim.run())
    try:
        yield Rig(sim.broker, stranger, fill, place_by_hand, lose_reply, fail)
    finally:
        living.cancel()
        await asyncio.wait([living])


RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "alpaca": alpaca,
    "in process": in_process,
    "in process, polls apart": partial(in_process, polls_apart=True),
}


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with RIGS[request.param]() as opened:
        yield opened


def order(name: str = "tu-1", quantity: str = "10", price: str = "200") -> NewOrder:
    return NewOrder(
        client_order_id=ClientOrderId(name),
        symbol=Symbol("AAPL"),
        side=Side.BUY,
        quantity=Decimal(quantity),
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        limit_price=Decimal(price),
    )


async def ends(rig: Rig, order_id: BrokerOrderId) -> OrderReport:
    """The order once it has ended."""
    async with asyncio.timeout(30):
        while True:
            report = await rig.broker.find(broker_order_id=order_id)
            assert report is not None
            if report.status in TERMINAL:
                return report


async def test_a_submitted_order_is_reported_with_its_terms_and_found_by_either_id(rig: Rig) -> None:
    report = await rig.broker.submit(order())
    assert (report.client_order_id, report.symbol, report.side) == ("tu-1", "AAPL", Side.BUY)
    assert (report.quantity, report.limit_price, report.filled_quantity) == (Decimal(10), Decimal(200), Decimal(0))
    by_client = await rig.broker.find(client_order_id=ClientOrderId("tu-1"))
    by_broker = await rig.broker.find(broker_order_id=report.broker_order_id)
    assert by_client is not None
    assert by_client == by_broker
    assert by_client.broker_order_id == report.broker_order_id


async def test_a_refusal_is_definite_and_leaves_no_order(rig: Rig) -> None:
    with pytest.raises(RequestRefused) as refused:
        await rig.broker.submit(order(quantity="100000000"))
    assert refused.value.code
    assert refused.value.message
    assert await rig.broker.find(client_order_id=ClientOrderId("tu-1")) is None


async def test_a_cancel_is_asked_for_and_the_broker_says_when_it_is_done(rig: Rig) -> None:
    report = await rig.broker.submit(order())
    await rig.fill(report.broker_order_id, "4", "199")
    await rig.broker.cancel(report.broker_order_id)
    canceled = await ends(rig, report.broker_order_id)
    assert (canceled.status, canceled.filled_quantity) == (OrderStatus.CANCELED, Decimal(4))


async def test_cancelling_what_ended_or_never_was_is_refused(rig: Rig) -> None:
    report = await rig.broker.submit(order())
    await rig.fill(report.broker_order_id, "10", "199")
    for order_id in (report.broker_order_id, BrokerOrderId("8f3c0000-0000-4000-8000-000000000000")):
        with pytest.raises(RequestRefused):
            await rig.broker.cancel(order_id)


async def test_a_replace_brings_a_new_order_that_names_the_old(rig: Rig) -> None:
    report = await rig.broker.submit(order())
    change = OrderChange(client_order_id=ClientOrderId("tu-1-b"), limit_price=Decimal(201))
    new = await rig.broker.replace(report.broker_order_id, change)
    assert (new.client_order_id, new.limit_price, new.replaces) == ("tu-1-b", Decimal(201), report.broker_order_id)
    old = await ends(rig, report.broker_order_id)
    assert (old.status, old.replaced_by) == (OrderStatus.REPLACED, new.broker_order_id)


async def test_a_lost_reply_is_an_unknown_outcome_that_a_lookup_ends(rig: Rig) -> None:
    await rig.lose_reply("submit")
    with pytest.raises(OutcomeUnknown):
        await rig.broker.submit(order())
    found = await rig.broker.find(client_order_id=ClientOrderId("tu-1"))
    assert found is not None
    await rig.lose_reply("replace")
    with pytest.raises(OutcomeUnknown):
        await rig.broker.replace(
            found.broker_order_id, OrderChange(client_order_id=ClientOrderId("tu-1-b"), quantity=Decimal(9))
        )
    assert await rig.broker.find(client_order_id=ClientOrderId("tu-1-b")) is not None


async def test_the_same_client_order_id_never_makes_a_second_order(rig: Rig) -> None:
    first = await rig.broker.submit(order())
    try:
        again = await rig.broker.submit(order())
    except RequestRefused:
        pass
    else:
        assert again.broker_order_id == first.broker_order_id
    snapshot = await rig.broker.snapshot(SnapshotRequest(scope=SnapshotScope.FULL))
    assert len(snapshot.orders) == 1


async def test_a_full_snapshot_is_the_whole_truth(rig: Rig) -> None:
    began = datetime.now(UTC)
    working = await rig.broker.submit(order("tu-1"))
    filled = await rig.broker.submit(order("tu-2"))
    await rig.fill(filled.broker_order_id, "4", "199")
    await rig.fill(filled.broker_order_id, "6", "198")
    foreign = await rig.place_by_hand("MSFT")
    nobody = BrokerOrderId("8f3c0000-0000-4000-8000-000000000000")
    snapshot = await rig.broker.snapshot(
        SnapshotRequest(scope=SnapshotScope.FULL, known=(working.broker_order_id, nobody), since=began)
    )
    reports = {report.broker_order_id: report for report in snapshot.orders}
    assert set(reports) == {working.broker_order_id, filled.broker_order_id, foreign}
    assert reports[filled.broker_order_id].filled_quantity == Decimal(10)
    assert snapshot.absent == (nobody,)
    assert sorted((fill.quantity, fill.price, fill.cum_quantity) for fill in snapshot.executions) == [
        (Decimal(4), Decimal(199), Decimal(4)),
        (Decimal(6), Decimal(198), Decimal(10)),
    ]
    assert snapshot.positions is not None
    assert {position.symbol: position.quantity for position in snapshot.positions} == {"AAPL": Decimal(10)}
    assert snapshot.account is not None
    assert snapshot.account.account_id
    assert snapshot.account.cash == Decimal(100_000) - 4 * Decimal(199) - 6 * Decimal(198)
    assert began <= snapshot.started_at <= snapshot.finished_at <= datetime.now(UTC)


async def test_a_known_order_is_always_in_a_snapshot_of_orders_or_absent(rig: Rig) -> None:
    ended = await rig.broker.submit(order("tu-1"))
    await rig.broker.cancel(ended.broker_order_id)
    await ends(rig, ended.broker_order_id)
    nobody = BrokerOrderId("8f3c0000-0000-4000-8000-000000000000")
    snapshot = await rig.broker.snapshot(
        SnapshotRequest(scope=SnapshotScope.ORDERS, known=(ended.broker_order_id, nobody))
    )
    assert ended.broker_order_id in {report.broker_order_id for report in snapshot.orders}
    assert snapshot.absent == (nobody,)
    assert snapshot.positions is None
    assert snapshot.account is None


async def test_a_positions_snapshot_states_positions_and_cash_only(rig: Rig) -> None:
    report = await rig.broker.submit(order())
    await rig.fill(report.broker_order_id, "4", "199")
    snapshot = await rig.broker.snapshot(SnapshotRequest(scope=SnapshotScope.POSITIONS))
    assert snapshot.orders == ()
    assert snapshot.positions is not None
    assert [(position.symbol, position.quantity) for position in snapshot.positions] == [("AAPL", Decimal(4))]
    assert snapshot.account is not None


@pytest.mark.parametrize("part", ["positions", "executions", "orders", "everything"])
async def test_a_snapshot_is_whole_or_not_at_all(rig: Rig, part: str) -> None:
    await rig.broker.submit(order())
    await rig.fail(part)
    with pytest.raises(BrokerUnavailable):
        await rig.broker.snapshot(SnapshotRequest(scope=SnapshotScope.FULL))


async def test_wrong_keys_are_bad_credentials_everywhere(rig: Rig) -> None:
    for call in (
        rig.stranger.submit(order()),
        rig.stranger.cancel(BrokerOrderId("a")),
        rig.stranger.find(client_order_id=ClientOrderId("a")),
        rig.stranger.snapshot(SnapshotRequest(scope=SnapshotScope.FULL)),
    ):
        with pytest.raises(BadCredentials):
            await call


async def test_closing_twice_is_fine(rig: Rig) -> None:
    await rig.broker.close()
    await rig.broker.close()
