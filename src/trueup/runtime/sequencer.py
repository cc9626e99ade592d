"""The single writer: number it, journal it, step it, publish it.

Every input waits in one bounded queue. What has gathered while the last batch was written is the next batch: one
transaction, one flush, and only then is each of its inputs folded, its views published, its effects handed on. Under
load many inputs share a flush; alone, one does not wait for company.

A kill closes the gate before it is written: restriction may run ahead of memory, permission never. When the journal
can't be written the process ends, because what can't be remembered must not be done: nothing is acknowledged, nothing
is folded, and only the cancels that people ask for still leave. Invariant: no other effect of an input leaves before
the input is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn, get_args

from trueup.core.belief import Belief
from trueup.core.commands import CancelOrder, Command, Kill, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import Effect, SendCancel
from trueup.core.events import ClockTicked
from trueup.core.model import ClientOrderId
from trueup.core.orders import TERMINAL
from trueup.core.projection import log_views
from trueup.core.step import step
from trueup.core.transition import Outcome
from trueup.errors import Busy, JournalUnusable
from trueup.ports import Clock, EventBus, Input, Journal
from trueup.runtime.fold import frozen

log = logging.getLogger(__name__)

QUEUE_LIMIT = 20_000
"""Inputs that may wait; beyond it broker events wait at their socket and commands are refused as busy."""

COMMANDS_LIMIT = 15_000
"""Commands are refused earlier than events, so that truth never queues behind wishes."""

OUTBOX_LIMIT = 2_000
"""Requests that may wait to be sent; beyond it new orders are refused as busy."""

BATCH_LIMIT = 2_000
"""Inputs in one transaction."""

SLICE = 64
"""Inputs folded in one stretch; in between, sockets get their turn."""

CHECKPOINT_EVERY = 100_000
"""Entries between two checkpoints of a running process."""


_COMMANDS = get_args(Command)


class Gate:
    """Whether anything decided earlier may still leave. Closed at once by a kill, before it is journaled."""

    def __init__(self, generation: int = 0) -> None:
        self._generation = generation
        self._kills_under_way = 0

    def allows(self, halt_generation: int) -> bool:
        """True when nothing has halted since `halt_generation`."""
        return self._kills_under_way == 0 and halt_generation >= self._generation

    def close(self) -> None:
        """A kill is on its way to the journal."""
        self._kills_under_way += 1

    def settle(self, generation: int, *, was_kill: bool) -> None:
        """An input was folded; belief's halt generation is this now."""
        self._generation = generation
        if was_kill:
            self._kills_under_way -= 1


@dataclass(slots=True)
class _Waiting:
    item: Input
    done: asyncio.Future[Outcome] | None


class Sequencer:
    """Owns belief. `dispatch` is given each effect, in order, after its input is on disk."""

    def __init__(
        self,
        *,
        belief: Belief,
        journal: Journal,
        bus: EventBus,
        clock: Clock,
        gate: Gate | None = None,
        queue_limit: int = QUEUE_LIMIT,
        checkpoint_every: int = CHECKPOINT_EVERY,
    ) -> None:
        self.belief = belief
        self.gate = gate or Gate(belief.halt_generation)
        self.dispatch: Callable[[Effect], None] = _nowhere
        self.on_folded: Callable[[], None] = _nothing
        self.requests_waiting: Callable[[], int] = _none
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._limit = queue_limit
        self._commands_limit = max(1, queue_limit * COMMANDS_LIMIT // QUEUE_LIMIT)
        self._checkpoint_every = checkpoint_every
        self._checkpoint_at = belief.offset + checkpoint_every
        self._queue: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._has_ended = False
        self._is_sound = True
        self.failed: JournalUnusable | None = None

    @property
    def depth(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    # --- for everyone else ---

    async def submit(self, item: Input) -> Outcome:
        """Returns when the input is on disk and folded. Raises `Busy` when the queue is full, nothing taken."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._take(_Waiting(item, done))
        return await done

    def offer(self, item: Input) -> None:
        """Queue without waiting. Raises `Busy` when the queue is full, nothing taken."""
        self._take(_Waiting(item, None))

    async def put(self, item: Input) -> None:
        """Queue, waiting for room: how events come in, so that a full queue is felt at the socket."""
        await self._room_for_one()
        self._take(_Waiting(item, None))

    async def settle(self, item: Input) -> Outcome:
        """Queue, waiting for room, and return when the input is on disk and folded, and all that came before it."""
        await self._room_for_one()
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._take(_Waiting(item, done))
        return await done

    async def drain(self, seconds: float) -> None:
        """Returns when nothing waits any more, or after so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._queue or self._batch:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.warning("stopped with inputs waiting count=%d", len(self._queue))

    async def _room_for_one(self) -> None:
        while len(self._queue) >= self._limit:
            self._room.clear()
            await self._room.wait()

    def _take(self, waiting: _Waiting) -> None:
        item = waiting.item
        if self.failed is not None or self._has_ended:
            self._cancel_unwritten(item)
            raise JournalUnusable(str(self.failed or "the process is stopping; nothing was taken"))
        if isinstance(item, Kill):
            self.gate.close()  # before the journal: a restriction may run ahead of memory
            self._queue.insert(self._behind_resumes(), waiting)
        elif len(self._queue) >= (self._commands_limit if isinstance(item, _COMMANDS) else self._limit):
            raise Busy(f"{len(self._queue)} inputs wait already; try again")
        elif isinstance(item, SubmitOrder | ReplaceOrder) and self.requests_waiting() >= OUTBOX_LIMIT:
            raise Busy(f"{self.requests_waiting()} requests to the broker wait already; try again")
        else:
            self._queue.append(waiting)
        self._work.set()

    def _behind_resumes(self) -> int:
        """Where a kill takes its place: before all that waits, but never before a resume that was asked for earlier."""
        return max((place for place, other in enumerate(self._queue, 1) if isinstance(other.item, Resume)), default=0)

    # --- the one writer ---

    async def run(self) -> NoReturn:
        """Write, fold and publish for ever. Raises `JournalUnusable` when the journal fails."""
        try:
            while True:
                await self._wait()
                self._batch = self._next_batch()
                if not self._batch:
                    continue
                first = await self._append(self._batch)
                for place, waiting in enumerate(self._batch):
                    if place and place % SLICE == 0:
                        await asyncio.sleep(0)
                    self._fold(waiting, first + place)
                self._batch = []
                self.on_folded()
                if self.belief.offset >= self._checkpoint_at:
                    await self._checkpoint()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._is_sound = False  # belief may be half changed: it must not become a checkpoint
            raise
        finally:
            self._has_ended = True
            self._release("the process is stopping; whether this was remembered shows after the next start")

    async def _wait(self) -> None:
        """Until something waits, or until belief wants to be told the time."""
        if self._queue:
            return
        self._idle.set()
        self._work.clear()
        deadline = self.belief.next_deadline
        if deadline is None:
            await self._work.wait()
            return
        remaining = (deadline - self._clock.now()).total_seconds()
        if remaining > 0:
            try:
                async with asyncio.timeout(remaining):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < BATCH_LIMIT:
            batch.append(self._queue.popleft())
        deadline = self.belief.next_deadline
        if deadline is not None:
            now = self._clock.now()
            if now >= deadline:
                # behind what came in time: a slow disk must not make a stream look mute
                batch.append(_Waiting(ClockTicked(at=now), None))
        if not self._room.is_set() and len(self._queue) < self._limit:
            self._room.set()
        return batch

    async def _append(self, batch: list[_Waiting]) -> int:
        items = [waiting.item for waiting in batch]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, self._journal.append, items)
        except JournalUnusable as error:
            self.failed = error
            log.critical(
                "the journal failed epoch=%s offset=%d reason=%s", self.belief.epoch, self.belief.offset, error
            )
            for waiting in (*batch, *self._queue):
                self._cancel_unwritten(waiting.item)
            self._release(str(error))
            raise

    def _release(self, reason: str) -> None:
        """Acknowledge nothing to whoever still waits."""
        for waiting in (*self._batch, *self._queue):
            if waiting.done is not None and not waiting.done.done():
                waiting.done.set_exception(JournalUnusable(reason))
        self._batch = []
        self._queue.clear()
        self._room.set()
        self._idle.set()

    def _cancel_unwritten(self, item: Input) -> None:
        """What reduces risk leaves all the same, though it can't be remembered any more."""
        if isinstance(item, Kill):
            orders = list(self.belief.open_orders.values())
        elif isinstance(item, CancelOrder) and item.order_id in self.belief.open_orders:
            orders = [self.belief.open_orders[item.order_id]]
        else:
            return
        for leg in (leg for order in orders for leg in order.legs):
            if leg.broker_order_id is not None and leg.status not in TERMINAL:
                name = leg.client_order_id or ClientOrderId("")
                self.dispatch(
                    SendCancel(order_id=leg.order_id, client_order_id=name, broker_order_id=leg.broker_order_id)
                )

    def _fold(self, waiting: _Waiting, offset: int) -> None:
        item = waiting.item
        outcome = step(self.belief, item, offset)
        self.gate.settle(self.belief.halt_generation, was_kill=isinstance(item, Kill))
        for channel, view in log_views(self.belief, outcome, item.at):
            self._bus.publish(channel, view, item.at)
        for effect in outcome.effects:
            self.dispatch(effect)
        if waiting.done is not None and not waiting.done.done():
            waiting.done.set_result(outcome)

    async def _checkpoint(self) -> None:
        self._checkpoint_at = self.belief.offset + self._checkpoint_every
        offset, state = self.belief.offset, frozen(self.belief)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._journal.save_checkpoint, offset, state)
        except JournalUnusable as error:  # a shortcut only; if the journal is really gone, the next entry will tell
            log.warning("no checkpoint epoch=%s offset=%d reason=%s", self.belief.epoch, offset, error)
        else:
            log.info("checkpoint epoch=%s offset=%d", self.belief.epoch, offset)

    def close(self) -> None:
        """Keep a last checkpoint and release the writer; call when `run` has ended."""
        self._writer.shutdown(wait=True)
        if not self._is_sound or not self.belief.offset:
            return
        try:
            self._journal.save_checkpoint(self.belief.offset, frozen(self.belief))
        except JournalUnusable as error:
            log.warning("no checkpoint epoch=%s offset=%d reason=%s", self.belief.epoch, self.belief.offset, error)


def _nowhere(effect: Effect) -> None:
    """Where effects go until the house is plugged together."""


def _nothing() -> None:
    """Nobody listens."""


def _none() -> int:
    """Nothing waits elsewhere."""
    return 0
