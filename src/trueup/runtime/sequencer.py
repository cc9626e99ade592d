"""The single writer: number it, journal it, step it, publish it.

Every input waits in one bounded queue. What has gathered while the last batch was written is the next batch: one
transaction, one flush, and only then is each of its inputs folded, its views published, its effects handed on. Under
load many inputs share a flush; alone, one does not wait for company.

A kill closes the gate before it is written: restriction may run ahead of memory, permission never. When the journal
can't be written the process ends, because what can't be remembered must not be done; cancels that the last beliefs ask
for are still sent. Invariant: no effect of an input leaves before the input is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

from trueup.core.belief import Belief
from trueup.core.commands import CancelOrder, Kill
from trueup.core.effects import Effect, SendCancel
from trueup.core.events import ClockTicked
from trueup.core.model import ClientOrderId
from trueup.core.orders import TERMINAL, Order
from trueup.core.projection import log_views
from trueup.core.step import step
from trueup.core.transition import Outcome
from trueup.errors import Busy, JournalUnusable
from trueup.ports import Clock, EventBus, Input, Journal
from trueup.runtime.fold import checkpoint

log = logging.getLogger(__name__)

QUEUE_LIMIT = 20_000
"""Inputs that may wait; beyond it broker events wait at their socket and commands are refused as busy."""

COMMANDS_LIMIT = 15_000
"""Commands are refused earlier than events, so that truth never queues behind wishes."""

BATCH_LIMIT = 2_000
"""Inputs in one transaction."""

CHECKPOINT_EVERY = 100_000
"""Entries between two checkpoints of a running process."""


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
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._limit = queue_limit
        self._commands_limit = max(1, queue_limit * COMMANDS_LIMIT // QUEUE_LIMIT)
        self._checkpoint_every = checkpoint_every
        self._checkpoint_at = belief.offset + checkpoint_every
        self._queue: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self.failed: JournalUnusable | None = None

    @property
    def depth(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    # --- for everyone else ---

    async def submit(self, item: Input) -> Outcome:
        """Returns when the input is on disk and folded. Raises `Busy` when the queue is full, nothing taken."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._take(_Waiting(item, done), self._commands_limit)
        return await done

    def offer(self, item: Input) -> None:
        """Queue without waiting. Raises `Busy` when the queue is full, nothing taken."""
        self._take(_Waiting(item, None), self._limit)

    async def put(self, item: Input) -> None:
        """Queue, waiting for room: how events come in, so that a full queue is felt at the socket."""
        while len(self._queue) >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._take(_Waiting(item, None), self._limit)

    def _take(self, waiting: _Waiting, limit: int) -> None:
        if self.failed is not None:
            raise JournalUnusable(str(self.failed))
        if isinstance(waiting.item, Kill):
            self.gate.close()  # before the journal: a restriction may run ahead of memory
            self._queue.appendleft(waiting)
        elif len(self._queue) >= limit:
            raise Busy(f"{len(self._queue)} inputs wait already; try again")
        else:
            self._queue.append(waiting)
        self._work.set()

    # --- the one writer ---

    async def run(self) -> NoReturn:
        """Write, fold and publish for ever. Raises `JournalUnusable` when the journal fails."""
        while True:
            await self._wait()
            batch = self._next_batch()
            if not batch:
                continue
            first = await self._append(batch)
            for place, waiting in enumerate(batch):
                self._fold(waiting, first + place)
            self.on_folded()
            if self.belief.offset >= self._checkpoint_at:
                await self._checkpoint()

    async def _wait(self) -> None:
        """Until something waits, or until belief wants to be told the time."""
        if self._queue:
            return
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
        deadline = self.belief.next_deadline
        if deadline is not None:
            now = self._clock.now()
            if now >= deadline:
                batch.append(_Waiting(ClockTicked(at=now), None))
        while self._queue and len(batch) < BATCH_LIMIT:
            batch.append(self._queue.popleft())
        if not self._room.is_set() and len(self._queue) < self._limit:
            self._room.set()
        return batch

    async def _append(self, batch: list[_Waiting]) -> int:
        items = [waiting.item for waiting in batch]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, self._journal.append, items)
        except JournalUnusable as error:
            self._fail(error, batch)
            raise

    def _fail(self, error: JournalUnusable, batch: list[_Waiting]) -> None:
        """Acknowledge nothing; let the cancels among what waited go out all the same."""
        self.failed = error
        log.critical("the journal failed offset=%d reason=%s", self.belief.offset, error)
        for waiting in (*batch, *self._queue):
            if waiting.done is not None and not waiting.done.done():
                waiting.done.set_exception(JournalUnusable(str(error)))
            for order in self._to_cancel(waiting.item):
                for leg in order.legs:
                    if leg.broker_order_id is not None and leg.status not in TERMINAL:
                        name = leg.client_order_id or ClientOrderId("")
                        self.dispatch(
                            SendCancel(
                                order_id=order.order_id, client_order_id=name, broker_order_id=leg.broker_order_id
                            )
                        )
        self._queue.clear()

    def _to_cancel(self, item: Input) -> list[Order]:
        if isinstance(item, Kill):
            return list(self.belief.open_orders.values())
        if isinstance(item, CancelOrder) and item.order_id in self.belief.open_orders:
            return [self.belief.open_orders[item.order_id]]
        return []

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
        checkpoint(self._journal, self.belief)
        log.info("checkpoint epoch=%s offset=%d", self.belief.epoch, self.belief.offset)

    def close(self) -> None:
        """Keep a last checkpoint and release the writer; call when `run` has ended."""
        self._writer.shutdown(wait=True)
        if self.failed is None and self.belief.offset:
            checkpoint(self._journal, self.belief)


def _nowhere(effect: Effect) -> None:
    """Where effects go until the house is plugged together."""


def _nothing() -> None:
    """Nobody listens."""
