"""A whole house from start to stop and again: what is remembered, what is answered before the end, what ends it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal as D
from pathlib import Path

import pytest
from tests.runtime.scene import AAPL, MSFT, Scene, exchange, running

from trueup.chaos.virtual import VirtualClock, run_virtual, until
from trueup.core.commands import CancelOrder, Kill, SubmitOrder
from trueup.core.events import RuntimeStarted
from trueup.core.model import OrderStatus, RequestKind, Side, Symbol, TradingState
from trueup.errors import BadInput, JournalUnusable
from trueup.journal.memory import MemoryJournal
from trueup.journal.sqlite import SqliteJournal
from trueup.ports import Input
from trueup.runtime.fold import belief_digest, fold, restore
from trueup.runtime.run import House
from trueup.simulator.model import FillModel
from trueup.strategies.sma_cross import SmaCross

LIVELY = {"fill_model": FillModel(partial_probability=0.5)}


class Kept(MemoryJournal):
    """A journal that outlives the houses that write it."""

    def close(self) -> None:
        """Stay open for the next house."""


# --- stop and start again ---


async def a_busy_time(scene: Scene) -> None:
    """Orders that fill, rest, are cancelled and lost, with a cut in the middle."""
    for number in range(6):
        await scene.up()
        order = await scene.submit(limit=None if number % 2 else "200", quantity=10 + number)
        if number == 2:
            scene.sim.fault("trade_updates", "drop", seconds=3)
        if number == 3:
            scene.sim.fault("rest", "lost_reply", count=1, match={"method": "POST"})
        await VirtualClock().sleep(1)
        if not order.is_terminal:
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
    await VirtualClock().sleep(20)


def test_replay_equals_live() -> None:
    async def main() -> None:
        kept = Kept()
        async with running(journal=kept, symbols=(AAPL, MSFT), exchange_terms=LIVELY) as scene:
            await a_busy_time(scene)
            live = scene.belief
        last = restore(kept)
        assert last is not None
        assert last.offset == kept.last_offset() == live.offset
        assert belief_digest(last) == belief_digest(live)
        assert belief_digest(fold(kept, from_checkpoint=False)) == belief_digest(live)
        assert len(live.orders) == 6

    run_virtual(main())


def test_a_checkpoint_and_the_entries_behind_it_equal_all_entries() -> None:
    async def main() -> None:
        kept = Kept()
        async with running(journal=kept, checkpoint_every=20, exchange_terms=LIVELY) as scene:
            await a_busy_time(scene)
            found = kept.load_checkpoint()
            assert found is not None
            assert 0 < found[0] < kept.last_offset()
            await scene.house.sequencer.drain(1)
            assert belief_digest(fold(kept)) == belief_digest(fold(kept, from_checkpoint=False))

    run_virtual(main())


def test_starting_again_goes_on_where_the_last_process_stopped() -> None:
    async def main() -> None:
        kept = Kept()
        async with exchange() as sim:
            async with running(sim=sim, journal=kept) as scene:
                await scene.up()
                order = await scene.working()
                scene.fill(order, 30)
                await until(lambda: order.filled == 30)
                stopped_at = scene.belief.offset
            sim.act(lambda market, at: market.fill(str(order.leg.broker_order_id), at, qty=D(20)))
            async with running(sim=sim, journal=kept) as again:
                assert isinstance(again.inputs[stopped_at], RuntimeStarted)
                assert again.belief.entries_gated
                await again.up()
                same = again.order(order.order_id)
                assert same.filled == 50
                assert again.belief.book(AAPL).quantity == 50
                again.fill(same, 50)
                await until(lambda: same.status is OrderStatus.FILLED)

    run_virtual(main())


def test_a_kill_is_remembered_by_the_next_process() -> None:
    async def main() -> None:
        kept = Kept()
        async with exchange() as sim:
            async with running(sim=sim, journal=kept) as scene:
                await scene.up()
                await scene.house.sequencer.submit(Kill(at=scene.now(), reason="test"))
            async with running(sim=sim, journal=kept) as again:
                await VirtualClock().sleep(5)
                assert again.belief.trading_state is TradingState.KILLED
                wish = SubmitOrder(at=again.now(), symbol=AAPL, side=Side.BUY, quantity=D(1))
                outcome = await again.house.sequencer.submit(wish)
                assert outcome.denied is not None

    run_virtual(main())


def test_what_is_under_way_is_answered_before_the_end() -> None:
    async def main() -> None:
        kept = Kept()
        async with exchange() as sim:
            async with running(sim=sim, journal=kept) as scene:
                await scene.up()
                sim.fault("rest", "delay", count=1, by_seconds=1, match={"method": "POST"})
                sim.fault("trade_updates", "mute", seconds=10)
                order = await scene.submit()
            assert fold(kept).orders[order.order_id].status is OrderStatus.NEW
            assert kept.load_checkpoint() is not None

    run_virtual(main())


def test_the_end_does_not_wait_for_ever_and_leaves_a_doubt_behind() -> None:
    async def main() -> None:
        kept = Kept()
        async with exchange() as sim:
            async with running(sim=sim, journal=kept) as scene:
                await scene.up()
                sim.fault("rest", "timeout", count=1, match={"method": "POST"})
                order = await scene.submit()
                stopping = VirtualClock().monotonic()
            assert VirtualClock().monotonic() - stopping <= 5
            assert fold(kept).orders[order.order_id].in_doubt is RequestKind.SUBMIT

    run_virtual(main())


def test_nothing_new_is_sent_once_the_end_has_begun() -> None:
    async def main() -> None:
        kept = Kept()
        async with exchange() as sim:
            async with running(sim=sim, journal=kept) as scene:
                await scene.up()
                sim.fault("rest", "delay", count=8, by_seconds=1, match={"method": "POST"})
                orders = [await scene.submit() for _ in range(12)]
            assert len(sim.broker.received) == 8
            last = fold(kept)
            assert [last.orders[order.order_id].status for order in orders[8:]] == [OrderStatus.DENIED] * 4

    run_virtual(main())


# --- what ends a house ---


class FullDisk(MemoryJournal):
    """A journal that can be written no more, from the moment it is told to."""

    is_full = False

    def append(self, inputs: Sequence[Input]) -> int:
        if self.is_full:
            raise JournalUnusable("the disk is full")
        return super().append(inputs)


def test_a_full_disk_ends_the_house_but_the_cancels_of_a_kill_leave() -> None:
    async def main() -> None:
        journal = FullDisk()
        async with exchange() as sim:
            async with running(sim=sim, journal=journal) as scene:
                await scene.up()
                orders = [await scene.working() for _ in range(3)]
                written = journal.last_offset()
                # the first try of each cancel meets a broker without time; they are asked for again
                sim.fault("rest", "rate_limit", count=3, by_seconds=1, match={"method": "DELETE"})
                journal.is_full = True
                with pytest.raises(JournalUnusable):
                    await scene.house.sequencer.submit(Kill(at=scene.now(), reason="test"))
                with pytest.raises(JournalUnusable):
                    await scene.submit()
                error = await scene.ends()
                assert isinstance(error, JournalUnusable)
                assert "disk is full" in str(error)
            assert sorted(sim.broker.received[3:]) == sorted(f"cancel {order.leg.broker_order_id}" for order in orders)
            assert journal.last_offset() == written
            assert sim.exchange.open_orders() == []

    run_virtual(main())


def test_a_gateway_that_can_not_listen_ends_the_house_with_its_own_words() -> None:
    async def main() -> None:
        async def gateway(house: House) -> None:
            raise BadInput("port 8000 is taken", field="port")

        async with running(gateway=gateway) as scene:
            error = await scene.ends()
            assert isinstance(error, BadInput)
            assert str(error) == "port 8000 is taken"

    run_virtual(main())


def test_a_gateway_that_dies_comes_back_without_touching_trading() -> None:
    async def main() -> None:
        begun: list[House] = []

        async def gateway(house: House) -> None:
            begun.append(house)
            if len(begun) == 1:
                raise RuntimeError("a bug")
            await asyncio.Event().wait()

        async with running(gateway=gateway) as scene:
            await scene.up()
            order = await scene.working()
            await until(lambda: len(begun) == 2)
            assert begun == [scene.house, scene.house]
            assert order.status is OrderStatus.NEW
            assert scene.house.health.numbers().counters["restarts"] == 1

    run_virtual(main())


# --- strategies ---


class Failing:
    """A strategy that falls over at its third question."""

    name = "failing"

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, view: object) -> list[SubmitOrder]:
        self.asked += 1
        if self.asked == 3:
            raise ZeroDivisionError("a bug")
        return []


def test_a_failing_strategy_stops_alone_and_says_so() -> None:
    async def main() -> None:
        failing, other = Failing(), SmaCross((AAPL,))
        async with running(strategies=(failing, other), symbols=(AAPL,), exchange_terms=LIVELY) as scene:
            await scene.up()
            await until(lambda: failing.asked == 3)
            await VirtualClock().sleep(60)
            assert failing.asked == 3
            assert any("strategy failing has stopped" in reason for reason in scene.house.health.view().reasons)
            alerts = scene.bus.since("risk:alert", 0)
            assert alerts is not None
            assert any(b"strategy_stopped" in envelope.body for envelope in alerts)
            assert scene.belief.orders, "the other one trades on"

    run_virtual(main())


def test_the_tutorials_strategy_makes_something_happen_soon_and_goes_on() -> None:
    symbols = tuple(Symbol(name) for name in ("AAPL", "MSFT", "NVDA", "TSLA", "SPY"))

    async def main() -> None:
        async with running(strategies=(SmaCross(symbols),), symbols=symbols, exchange_terms=LIVELY) as scene:
            await until(lambda: bool(scene.belief.orders), within_s=15, told="a first order")
            await VirtualClock().sleep(300)
            orders = list(scene.belief.orders.values())
            assert len(orders) >= 20
            assert {order.side for order in orders} == {Side.BUY, Side.SELL}
            assert {order.status for order in orders} >= {OrderStatus.FILLED}
            held = [book.quantity for book in scene.belief.books.values()]
            assert all(0 <= quantity <= 10 for quantity in held)
            assert scene.sim.exchange.view().positions().keys() == {
                book.symbol for book in scene.belief.books.values() if book.quantity
            }

    run_virtual(main())


# --- the same anywhere ---


def digest_of_a_busy_time() -> str:
    """What belief amounts to after the same things happened."""

    async def main() -> str:
        async with running(symbols=(AAPL, MSFT), exchange_terms=LIVELY, seed=5) as scene:
            await a_busy_time(scene)
            return belief_digest(scene.belief)

    return run_virtual(main())


def test_the_same_happens_under_another_hash_seed() -> None:
    program = "from tests.runtime.test_run import digest_of_a_busy_time as digest; print(digest())"
    digests = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert digests == {digest_of_a_busy_time() + "\n"}


def test_a_journal_on_disk_keeps_a_house_that_ran_in_virtual_time(tmp_path: Path) -> None:
    async def main() -> str:
        journal = SqliteJournal(tmp_path, durable=False)
        async with running(journal=journal, exchange_terms=LIVELY) as scene:
            await a_busy_time(scene)
            return belief_digest(scene.belief)

    live = run_virtual(main())
    journal = SqliteJournal(tmp_path, read_only=True)
    assert belief_digest(fold(journal, from_checkpoint=False)) == live
    found = restore(journal)
    assert found is not None
    assert belief_digest(found) == live
    journal.close()
