"""What leaves for the broker, how often, and when not; against an exchange that keeps count of what reached it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal as D

import pytest
from tests.runtime.scene import AAPL, MSFT, Scene, exchange, running

from trueup.chaos.virtual import VirtualClock, run_virtual, until
from trueup.core.commands import CancelOrder, Kill, ReplaceOrder, SubmitOrder
from trueup.core.events import OrderLookedUp, RequestAnswered
from trueup.core.model import NewOrder, OrderReport, OrderStatus, RequestKind, RequestOutcome, Side, TradingState
from trueup.core.orders import Order
from trueup.journal.memory import MemoryJournal
from trueup.simulator.broker import SimulatedBroker


def submits(scene: Scene) -> list[str]:
    """Every submit that got as far as the exchange."""
    return [said for said in scene.sim.broker.received if said.startswith("submit")]


def cancels(scene: Scene) -> list[str]:
    return [said for said in scene.sim.broker.received if said.startswith("cancel")]


def answers(scene: Scene, kind: RequestKind) -> list[RequestOutcome]:
    return [item.outcome for item in scene.inputs if isinstance(item, RequestAnswered) and item.kind is kind]


async def resolved(order: Order) -> None:
    await until(lambda: order.in_flight is None and order.in_doubt is None, told="the end of the doubt")


# --- submits ---


def test_a_submit_refused_for_its_number_is_sent_once_a_little_later() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "rate_limit", count=2, match={"method": "POST"})
            order = await scene.submit()
            await resolved(order)
            assert order.status is OrderStatus.NEW
            assert answers(scene, RequestKind.SUBMIT) == [RequestOutcome.ACCEPTED]

    run_virtual(main())


def test_a_submit_that_waits_for_its_turn_too_long_is_given_up_unsent() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "rate_limit", seconds=120, match={"method": "POST"})
            order = await scene.submit()
            await resolved(order)
            assert order.status is OrderStatus.DENIED
            assert "not sent" in order.reason
            assert answers(scene, RequestKind.SUBMIT) == [RequestOutcome.NOT_SENT]
            await VirtualClock().sleep(180)
            assert submits(scene) == []

    run_virtual(main())


def test_a_kill_ends_the_wait_of_a_submit_refused_for_its_number() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "rate_limit", seconds=4, match={"method": "POST"})
            order = await scene.submit()
            scene.house.sequencer.offer(Kill(at=VirtualClock().now(), reason="test"))
            await resolved(order)
            assert order.status is OrderStatus.DENIED
            assert order.reason.endswith("halted before it was sent (halted)")

    run_virtual(main())


@pytest.mark.parametrize("status", [504, "reset", "hang"])
def test_a_submit_whose_reply_is_lost_is_looked_up_and_never_sent_again(status: int | str) -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "lost_reply", count=1, match={"method": "POST", "status": status})
            scene.sim.fault("trade_updates", "mute", seconds=8)
            order = await scene.submit()
            await resolved(order)
            assert order.status is OrderStatus.NEW
            assert len(submits(scene)) == 1

    run_virtual(main())


def test_a_submit_that_never_arrived_ends_by_the_brokers_word_and_is_not_sent_again() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("rest", "drop", count=1, match={"method": "POST"})
            order = await scene.submit()
            await until(lambda: order.in_doubt is RequestKind.SUBMIT)
            await resolved(order)
            assert order.status is OrderStatus.DENIED
            assert "never reached the broker" in order.reason
            looks = [item.started_at for item in scene.inputs if isinstance(item, OrderLookedUp)]
            assert len(looks) >= 2, "one answer is no proof"
            assert looks[-1] - looks[-2] >= timedelta(seconds=4)
            assert submits(scene) == []

    run_virtual(main())


def test_a_look_up_goes_on_until_the_broker_answers() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.fault("trade_updates", "mute", seconds=60)
            scene.sim.fault("rest", "lost_reply", count=1, match={"method": "POST"})
            hidden = scene.sim.fault("rest", "error", seconds=45, match={"method": "GET"})
            order = await scene.submit()
            await until(lambda: order.in_doubt is not None)
            await VirtualClock().sleep(40)
            assert order.in_doubt is RequestKind.SUBMIT, "no timer ends a doubt"
            assert 3 <= hidden.hits <= 200, "asked again, and not in a tight loop"
            await resolved(order)
            assert order.status is OrderStatus.NEW
            assert len(submits(scene)) == 1

    run_virtual(main())


def test_a_refused_submit_ends_rejected_with_the_brokers_words() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.submit(limit="200.001")
            await resolved(order)
            assert order.status is OrderStatus.REJECTED
            assert "sub-penny" in order.reason

    run_virtual(main())


# --- the gate ---


async def _clog(scene: Scene) -> list[Order]:
    """As many submits as may be under way at once, none of them answered for a while."""
    scene.sim.fault("rest", "delay", count=8, by_seconds=5, match={"method": "POST"})
    return [await scene.submit() for _ in range(8)]


def test_nothing_that_waits_is_sent_after_a_kill() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            sent = await _clog(scene)
            waiting = [await scene.submit() for _ in range(3)]
            await scene.house.sequencer.submit(Kill(at=scene.now(), reason="test"))
            for order in (*sent, *waiting):
                await resolved(order)
            assert len(submits(scene)) == 8
            assert [order.status for order in waiting] == [OrderStatus.DENIED] * 3
            assert all("halted" in order.reason for order in waiting)
            await until(lambda: not scene.belief.open_orders)
            assert {order.status for order in sent} == {OrderStatus.CANCELED}

    run_virtual(main())


def test_a_kill_overtakes_an_order_that_is_being_written() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            wish = SubmitOrder(at=scene.now(), symbol=AAPL, side=Side.BUY, quantity=D(10))
            asked = asyncio.create_task(scene.house.sequencer.submit(wish))
            await VirtualClock().sleep(0.02)
            scene.house.sequencer.offer(Kill(at=scene.now(), reason="test"))
            outcome = await asked
            assert outcome.denied is None, "it was decided before the kill"
            assert outcome.order_id is not None
            order = scene.order(outcome.order_id)
            await resolved(order)
            assert submits(scene) == []
            assert order.status is OrderStatus.DENIED

    run_virtual(main(), disk_s=0.05)


def test_a_replace_that_waits_is_not_sent_after_a_kill() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            await _clog(scene)
            await scene.house.sequencer.submit(ReplaceOrder(at=scene.now(), order_id=order.order_id, quantity=D(50)))
            await scene.house.sequencer.submit(Kill(at=scene.now(), reason="test"))
            await until(lambda: not scene.belief.open_orders)
            assert not [said for said in scene.sim.broker.received if said.startswith("replace")]
            assert answers(scene, RequestKind.REPLACE) == [RequestOutcome.NOT_SENT]
            assert order.status is OrderStatus.CANCELED

    run_virtual(main())


# --- cancels ---


def test_a_cancel_passes_while_everything_else_is_gated() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "drop", seconds=60)
            await until(lambda: scene.belief.trading_state is TradingState.REDUCE_ONLY)
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.status is OrderStatus.CANCELED, told="a cancelled order")

    run_virtual(main())


def test_a_cancel_does_not_wait_behind_submits() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            await _clog(scene)
            asked = VirtualClock().monotonic()
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.status is OrderStatus.CANCELED)
            assert VirtualClock().monotonic() - asked < 1

    run_virtual(main())


@pytest.mark.parametrize("kind", ["rate_limit", "refuse", "lost_reply", "drop", "error"])
def test_a_cancel_is_asked_for_until_the_broker_has_spoken(kind: str) -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "mute", seconds=20)
            scene.sim.fault("rest", kind, seconds=20, match={"method": "DELETE"})
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.status is OrderStatus.CANCELED, told="a cancelled order", within_s=120)

    run_virtual(main())


def test_a_cancel_that_comes_too_late_finds_out_what_happened() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "mute", seconds=2)
            scene.fill(order, 100)
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.status is OrderStatus.FILLED, within_s=2, told="the fill that refused the cancel")
            assert answers(scene, RequestKind.CANCEL) == [RequestOutcome.REFUSED]

    run_virtual(main())


def test_cancels_of_one_order_that_wait_are_one() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("rest", "rate_limit", seconds=5, match={"method": "DELETE"})
            for _ in range(5):
                await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.status is OrderStatus.CANCELED)
            assert len(cancels(scene)) == 1

    run_virtual(main())


# --- when we ourselves fail ---


class Stumbling(SimulatedBroker):
    """A broker's client with a bug: it falls over in the middle of its first submit."""

    def __init__(self, broker: SimulatedBroker, *, arrives: bool) -> None:
        self.__dict__ = broker.__dict__
        self._arrives = arrives
        self._stumbled = False

    async def submit(self, order: NewOrder) -> OrderReport:
        if not self._stumbled:
            self._stumbled = True
            if self._arrives:
                await super().submit(order)
            raise AttributeError("a bug")
        return await super().submit(order)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_request_broken_off_by_a_bug_is_in_doubt_and_others_go_on(arrives: bool) -> None:
    async def main() -> None:
        async with exchange() as sim, running(sim=sim, broker=Stumbling(sim.broker, arrives=arrives)) as scene:
            await scene.up()
            scene.sim.fault("trade_updates", "mute", seconds=3)
            order = await scene.submit()
            await until(lambda: order.in_doubt is RequestKind.SUBMIT, told="doubt")
            await resolved(order)
            assert order.status is (OrderStatus.NEW if arrives else OrderStatus.DENIED)
            other = await scene.working()
            assert other.status is OrderStatus.NEW
            assert len(submits(scene)) == (2 if arrives else 1)

    run_virtual(main())


def test_what_may_be_repeated_survives_the_failure_of_another_request() -> None:
    async def main() -> None:
        async with exchange() as sim:
            broker = Stumbling(sim.broker, arrives=False)
            broker._stumbled = True
            async with running(sim=sim, broker=broker) as scene:
                await scene.up()
                order = await scene.working()
                scene.sim.fault("rest", "rate_limit", seconds=5, match={"method": "DELETE"})
                await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
                await VirtualClock().sleep(1)
                broker._stumbled = False
                await scene.submit()
                await until(lambda: order.status is OrderStatus.CANCELED, within_s=20, told="the cancel that waited")

    run_virtual(main())


def test_a_look_up_survives_the_failure_of_another_request() -> None:
    async def main() -> None:
        async with exchange() as sim:
            broker = Stumbling(sim.broker, arrives=False)
            broker._stumbled = True
            async with running(sim=sim, broker=broker) as scene:
                await scene.up()
                scene.sim.fault("trade_updates", "mute", seconds=60)
                scene.sim.fault("rest", "lost_reply", count=1, match={"method": "POST"})
                scene.sim.fault("rest", "error", seconds=5, match={"path": "/v2/orders:*"})
                scene.sim.fault("rest", "error", seconds=60, match={"path": "/v2/orders", "method": "GET"})
                order = await scene.submit()
                await until(lambda: order.in_doubt is not None)
                broker._stumbled = False
                await scene.submit(symbol=MSFT)
                await resolved(order)
                assert order.status is OrderStatus.NEW

    run_virtual(main())


# --- after a crash ---


def test_what_was_sent_before_a_crash_is_looked_up_and_never_sent_again() -> None:
    async def main() -> None:
        async with exchange() as sim:
            async with running(sim=sim) as scene:
                await scene.up()
                order = await scene.working()
                died_at = next(entry.offset for entry in scene.journal.read() if isinstance(entry.input, SubmitOrder))
                entries = [entry.input for entry in scene.journal.read() if entry.offset <= died_at]
            crashed = MemoryJournal(scene.journal.epoch)
            crashed.append(entries)
            async with running(sim=sim, journal=crashed) as again:
                same = again.order(order.order_id)
                assert same.in_doubt is RequestKind.SUBMIT
                await resolved(same)
                assert same.status is OrderStatus.NEW
                assert same.leg.broker_order_id == order.leg.broker_order_id
                await again.up()
                assert len(submits(again)) == 1

    run_virtual(main())


def test_what_was_decided_but_never_sent_before_a_crash_is_not_sent_after_it() -> None:
    async def main() -> None:
        async with exchange() as sim:
            async with running(sim=sim) as scene:
                await scene.up()
            crashed = MemoryJournal(scene.journal.epoch)
            crashed.append(
                [*scene.inputs, SubmitOrder(at=VirtualClock().now(), symbol=AAPL, side=Side.BUY, quantity=D(10))]
            )
            async with running(sim=sim, journal=crashed) as again:
                [order] = again.belief.orders.values()
                await resolved(order)
                assert order.status is OrderStatus.DENIED
                assert submits(again) == []

    run_virtual(main())


def test_a_cancel_asked_for_before_a_crash_is_asked_for_after_it() -> None:
    async def main() -> None:
        async with exchange() as sim:
            async with running(sim=sim) as scene:
                await scene.up()
                order = await scene.working()
                entries = scene.inputs
            crashed = MemoryJournal(scene.journal.epoch)
            crashed.append([*entries, CancelOrder(at=VirtualClock().now(), order_id=order.order_id)])
            async with running(sim=sim, journal=crashed) as again:
                same = again.order(order.order_id)
                await until(lambda: same.status is OrderStatus.CANCELED)

    run_virtual(main())
