"""The single writer: what is on disk before what, who waits, who is refused, what leaves although memory fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from tests.core import build

from trueup.bus.memory import MemoryBus
from trueup.chaos.virtual import VirtualClock, VirtualLoop, run_virtual, until
from trueup.core.belief import new_belief
from trueup.core.commands import CancelOrder, Kill, Reconcile, Resume, SubmitOrder
from trueup.core.effects import Effect, SendCancel, SendOrder
from trueup.core.events import FeedAcknowledged, FeedRestored, RuntimeStarted, SnapshotFailed
from trueup.core.model import ExecType, FeedName, OrderId, OrderStatus, Side, SnapshotScope, Source, Symbol
from trueup.errors import Busy, JournalUnusable
from trueup.journal.memory import MemoryJournal
from trueup.ports import Input
from trueup.runtime.sequencer import CHECKPOINT_EVERY, OUTBOX_LIMIT, QUEUE_LIMIT, Sequencer

DISK_S = 0.05


class Disk(MemoryJournal):
    """A journal that notes its batches, and fails from the moment it is told to."""

    def __init__(self) -> None:
        super().__init__("disk")
        self.batches: list[list[Input]] = []
        self.is_full = False

    def append(self, inputs: Sequence[Input]) -> int:
        if self.is_full:
            raise JournalUnusable("the disk is full")
        self.batches.append(list(inputs))
        return super().append(inputs)


@dataclass
class Rig:
    sequencer: Sequencer
    disk: Disk
    task: asyncio.Task[None]
    sent: list[tuple[float, Effect]] = field(default_factory=list)

    def effects(self, kind: type) -> list[Effect]:
        return [effect for _, effect in self.sent if isinstance(effect, kind)]


@asynccontextmanager
async def sequencing(*, queue_limit: int = QUEUE_LIMIT, checkpoint_every: int = CHECKPOINT_EVERY) -> AsyncIterator[Rig]:
    clock, disk = VirtualClock(), Disk()
    sequencer = Sequencer(
        belief=new_belief(account="a", epoch="e"),
        journal=disk,
        bus=MemoryBus("b"),
        clock=clock,
        queue_limit=queue_limit,
        checkpoint_every=checkpoint_every,
    )
    rig = Rig(sequencer, disk, asyncio.create_task(sequencer.run()))
    sequencer.dispatch = lambda effect: rig.sent.append((clock.monotonic(), effect))
    try:
        yield rig
    finally:
        rig.task.cancel()
        await asyncio.wait([rig.task])
        sequencer.close()


def order(reference: str = "200") -> SubmitOrder:
    return SubmitOrder(
        at=VirtualClock().now(),
        symbol=Symbol("AAPL"),
        side=Side.BUY,
        quantity=Decimal(10),
        reference_price=Decimal(reference),
    )


def noise() -> SnapshotFailed:
    """An event that asks for nothing."""
    return SnapshotFailed(at=VirtualClock().now(), source=Source.POLL, reason="noise")


def kill() -> Kill:
    return Kill(at=VirtualClock().now(), reason="test")


async def live(rig: Rig) -> None:
    """Up to an account that may trade."""
    now = VirtualClock().now
    await rig.sequencer.settle(RuntimeStarted(at=now(), version="t", broker="b"))
    await rig.sequencer.settle(FeedAcknowledged(at=now(), feed=FeedName.BROKER_EVENTS))
    await rig.sequencer.settle(build.snapshot(when=VirtualClock().monotonic()))
    await rig.sequencer.settle(FeedRestored(at=now(), feed=FeedName.BROKER_EVENTS))
    assert not rig.sequencer.belief.entries_gated
    rig.sent.clear()
    rig.disk.batches.clear()


async def with_a_working_order(rig: Rig) -> OrderId:
    outcome = await rig.sequencer.submit(order())
    assert outcome.order_id is not None
    held = rig.sequencer.belief.orders[outcome.order_id]
    now = VirtualClock().monotonic()
    said = build.report(version=now, client_id=held.leg.client_order_id, quantity=10)
    await rig.sequencer.settle(build.streamed(ExecType.NEW, said, when=now))
    assert held.leg.broker_order_id == said.broker_order_id
    return outcome.order_id


def test_an_effect_leaves_only_when_its_input_is_on_disk() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            asked_at = VirtualClock().monotonic()
            await rig.sequencer.submit(order())
            [(sent_at, effect)] = rig.sent
            assert isinstance(effect, SendOrder)
            assert sent_at == pytest.approx(asked_at + DISK_S)

    run_virtual(main(), disk_s=DISK_S)


def test_what_gathers_during_one_write_shares_the_next() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            rig.sequencer.offer(noise())
            await VirtualClock().sleep(DISK_S / 2)
            for _ in range(99):
                rig.sequencer.offer(noise())
            await rig.sequencer.settle(noise())
            assert [len(batch) for batch in rig.disk.batches] == [1, 100]

    run_virtual(main(), disk_s=DISK_S)


def test_inputs_get_offsets_without_holes_in_the_order_they_came() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            for number in range(300):
                rig.sequencer.offer(Reconcile(at=VirtualClock().now(), reason=str(number)))
            await rig.sequencer.settle(noise())
            entries = list(rig.disk.read())
            assert [entry.offset for entry in entries] == list(range(1, 302))
            reasons = [entry.input.reason for entry in entries if isinstance(entry.input, Reconcile)]
            assert reasons == [str(number) for number in range(300)]
            assert rig.sequencer.belief.offset == 301

    run_virtual(main())


def test_a_kill_closes_the_gate_before_it_is_written_and_overtakes_what_waits() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            generation = rig.sequencer.belief.halt_generation
            rig.sequencer.offer(noise())
            await VirtualClock().sleep(DISK_S / 2)
            rig.sequencer.offer(noise())
            written = rig.disk.last_offset()
            rig.sequencer.offer(kill())
            assert not rig.sequencer.gate.allows(generation)
            assert rig.disk.last_offset() == written
            await rig.sequencer.settle(noise())
            assert isinstance(rig.disk.batches[1][0], Kill)
            assert not rig.sequencer.gate.allows(generation)

    run_virtual(main(), disk_s=DISK_S)


def test_a_kill_that_follows_a_resume_is_the_last_word() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            await rig.sequencer.submit(kill())
            for item in (noise(), Resume(at=VirtualClock().now(), reason="over"), noise(), order(), kill()):
                rig.sequencer.offer(item)
            await rig.sequencer.settle(noise())
            assert rig.sequencer.belief.trading_state == "KILLED"
            assert rig.effects(SendOrder) == []

    run_virtual(main(), disk_s=DISK_S)


def test_after_a_resume_only_what_is_decided_anew_passes_the_gate() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            before = rig.sequencer.belief.halt_generation
            await rig.sequencer.submit(kill())
            await rig.sequencer.submit(kill())
            await rig.sequencer.submit(Resume(at=VirtualClock().now(), reason="over"))
            assert not rig.sequencer.gate.allows(before)
            assert rig.sequencer.gate.allows(rig.sequencer.belief.halt_generation)

    run_virtual(main())


def test_commands_are_refused_before_events_are() -> None:
    async def main() -> None:
        async with sequencing(queue_limit=4) as rig:
            for _ in range(3):
                rig.sequencer.offer(order())
            with pytest.raises(Busy, match="3 inputs wait"):
                rig.sequencer.offer(order())
            rig.sequencer.offer(noise())
            with pytest.raises(Busy, match="4 inputs wait"):
                rig.sequencer.offer(noise())
            rig.sequencer.offer(kill())
            await rig.sequencer.settle(noise())
            assert rig.disk.last_offset() == 6

    run_virtual(main())


def test_an_event_waits_for_room_and_is_not_lost() -> None:
    async def main() -> None:
        async with sequencing(queue_limit=2) as rig:
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(rig.sequencer.put(noise()))
            await rig.sequencer.settle(noise())
            assert rig.disk.last_offset() == 21

    run_virtual(main(), disk_s=DISK_S)


def test_orders_are_refused_while_too_many_wait_to_be_sent_but_nothing_else_is() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            rig.sequencer.requests_waiting = lambda: OUTBOX_LIMIT
            with pytest.raises(Busy, match="requests to the broker wait"):
                await rig.sequencer.submit(order())
            await rig.sequencer.submit(CancelOrder(at=VirtualClock().now(), order_id=OrderId("o-1")))
            await rig.sequencer.submit(kill())
            assert rig.disk.last_offset() == 2

    run_virtual(main())


def test_a_full_disk_acknowledges_nothing_and_folds_nothing() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            offset = rig.sequencer.belief.offset
            rig.disk.is_full = True
            first = asyncio.create_task(rig.sequencer.submit(order()))
            await VirtualClock().sleep(DISK_S / 2)
            second = asyncio.create_task(rig.sequencer.submit(order()))
            for asked in (first, second):
                with pytest.raises(JournalUnusable, match="disk is full"):
                    await asked
            with pytest.raises(JournalUnusable, match="disk is full"):
                await rig.task
            with pytest.raises(JournalUnusable, match="disk is full"):
                await rig.sequencer.submit(order())
            assert rig.sequencer.belief.offset == offset
            assert rig.sent == []

    run_virtual(main(), disk_s=DISK_S)


@pytest.mark.parametrize("when", ["in the batch that fails", "after the failure"])
@pytest.mark.parametrize("how", ["kill", "cancel"])
def test_cancels_leave_although_the_disk_is_full(how: str, when: str) -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            order_id = await with_a_working_order(rig)
            rig.sent.clear()
            rig.disk.is_full = True
            if when == "after the failure":
                with pytest.raises(JournalUnusable):
                    await rig.sequencer.submit(order())
                assert rig.sent == []
            wish = kill() if how == "kill" else CancelOrder(at=VirtualClock().now(), order_id=order_id)
            with pytest.raises(JournalUnusable):
                await rig.sequencer.submit(wish)
            [cancel] = rig.effects(SendCancel)
            assert isinstance(cancel, SendCancel)
            assert cancel.order_id == order_id
            assert len(rig.sent) == 1

    run_virtual(main(), disk_s=DISK_S)


def test_whoever_waits_when_the_writer_is_stopped_is_told() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            asked = asyncio.create_task(rig.sequencer.submit(order()))
            await VirtualClock().sleep(DISK_S / 2)
            rig.task.cancel()
            with pytest.raises(JournalUnusable, match="stopping"):
                await asked
            with pytest.raises(JournalUnusable, match="stopping"):
                await rig.sequencer.submit(order())

    run_virtual(main(), disk_s=DISK_S)


def test_draining_lets_everything_be_written() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            for _ in range(5):
                rig.sequencer.offer(noise())
            await rig.sequencer.drain(10)
            assert rig.sequencer.belief.offset == 5

    run_virtual(main(), disk_s=DISK_S)


def test_draining_has_an_end() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            rig.sequencer.offer(noise())
            await rig.sequencer.drain(2)
            assert VirtualClock().monotonic() == 2
            assert rig.sequencer.belief.offset == 0

    run_virtual(main(), disk_s=60)


def test_a_checkpoint_is_kept_every_so_often() -> None:
    async def main() -> None:
        async with sequencing(checkpoint_every=10) as rig:
            kept: set[int] = set()
            for _ in range(35):
                await rig.sequencer.settle(noise())
                found = rig.disk.load_checkpoint()
                kept |= {found[0]} if found is not None else set()
            await until(lambda: rig.disk.load_checkpoint() is not None)
            assert kept == {10, 20, 30}

    run_virtual(main())


def test_belief_is_told_the_time_when_it_asked_for_that() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            order_id = await with_a_working_order(rig)
            await rig.sequencer.submit(CancelOrder(at=VirtualClock().now(), order_id=order_id))
            deadline = rig.sequencer.belief.next_deadline
            assert deadline is not None
            rig.sent.clear()
            await VirtualClock().sleep(40)
            ticks = [entry.input for entry in rig.disk.read() if type(entry.input).__name__ == "ClockTicked"]
            assert [tick.at for tick in ticks] == [deadline]
            assert len(rig.effects(SendCancel)) == 1, "an overdue cancel is asked for again"

    run_virtual(main())


def test_a_slow_disk_does_not_make_a_stream_look_mute() -> None:
    async def main() -> None:
        async with sequencing() as rig:
            await live(rig)
            held = rig.sequencer.belief.orders[await with_a_working_order(rig)]
            broker_id = held.leg.broker_order_id
            assert broker_id is not None
            now = VirtualClock().monotonic()
            match = build.execution("e-1", 4, cum=4, when=now)
            row = build.report(OrderStatus.PARTIALLY_FILLED, 4, version=now + 1, quantity=10, average="10")
            await rig.sequencer.settle(
                build.snapshot(row, when=now + 1, scope=SnapshotScope.ORDERS, source=Source.POLL)
            )
            assert broker_id in rig.sequencer.belief.expectations
            slow_disk(5)
            rig.sequencer.offer(noise())
            await VirtualClock().sleep(1)
            rig.sequencer.offer(build.streamed(ExecType.TRADE, row, match, when=now + 1))
            await VirtualClock().sleep(30)
            assert rig.sequencer.belief.feeds[FeedName.BROKER_EVENTS].status == "UP"
            assert rig.sequencer.belief.expectations == {}

    run_virtual(main())


def slow_disk(seconds: float) -> None:
    """Let each write take so long from now on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.disk_s = seconds
