"""The program that is killed: a real house on a real journal, which dies where it is told to.

It reads one job a line from standard input, forks, lets the child live the job, and writes how the child ended. The
journal and the broker in the child are ours with one addition: at the named place they kill their own process, as a
power cut would. Not for judging what is left; the test does that. Invariant: nothing in the product knows of this.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import trueup.core.step
from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.trading_stream import TradingStream
from trueup.bus.memory import MemoryBus
from trueup.core.commands import CancelOrder, Command, Kill, ReplaceOrder, SubmitOrder
from trueup.core.effects import Effect
from trueup.core.model import (
    BrokerOrderId,
    FeedName,
    FeedStatus,
    NewOrder,
    OrderChange,
    OrderId,
    OrderReport,
    OrderStatus,
    OrderType,
    Side,
    Symbol,
)
from trueup.core.orders import Order
from trueup.core.transition import Outcome
from trueup.errors import JournalUnusable
from trueup.journal.sqlite import SqliteJournal
from trueup.ports import Input
from trueup.runtime.clock import SystemClock
from trueup.runtime.fold import fingerprint
from trueup.runtime.reconciler import Intervals
from trueup.runtime.run import House, Parts, run

CHECKPOINT_EVERY = 6
"""Entries between two checkpoints, so that a short life has several."""

GIVE_UP_S = 90
"""Seconds after which a life that hangs ends itself with SIGALRM."""

LOOKUP_FIRST, LOOKUP_SETTLE = timedelta(seconds=0.05), timedelta(seconds=0.3)
"""The pauses between look-ups in these lives; whoever folds their journal needs the same."""

AAPL, MSFT = Symbol("AAPL"), Symbol("MSFT")


class Fate:
    """Where this life ends: a place, what happens there, and for the how-manieth time."""

    def __init__(self, place: str, what: str, nth: int) -> None:
        self._where = (place, what)
        self._nth = nth
        self._seen: Counter[tuple[str, str]] = Counter()

    def passes(self, place: str, what: str) -> None:
        """Come by a place; this may be the end."""
        if self.is_at(place, what):
            os.kill(os.getpid(), signal.SIGKILL)

    def is_at(self, place: str, what: str) -> bool:
        """Come by a place; True when it is the one that was told."""
        self._seen[place, what] += 1
        return (place, what) == self._where and self._seen[place, what] == self._nth


class MortalJournal(SqliteJournal):
    """The journal on disk, and death before, inside and after each of its transactions."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    def append(self, inputs: Sequence[Input]) -> int:
        """As on disk."""
        kinds = [type(item).__name__ for item in inputs]
        first: int = self._around("append", kinds, lambda: super(MortalJournal, self).append(inputs))
        return first

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        """As on disk."""
        self._around("checkpoint", ["checkpoint"], lambda: super(MortalJournal, self).save_checkpoint(offset, state))

    def _around(self, place: str, kinds: list[str], write: Callable[[], Any]) -> Any:
        for kind in kinds:
            self._fate.passes(f"before {place}", kind)
            if self._fate.is_at("full disk", kind):
                (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
                self._connection.execute(f"PRAGMA max_page_count = {pages}")
            if self._fate.is_at("read-only disk", kind):
                self._connection.execute("PRAGMA query_only = ON")

        def inside(statement: str) -> None:
            if statement == "COMMIT":
                for kind in kinds:
                    self._fate.passes(f"inside {place}", kind)

        self._connection.set_trace_callback(inside)
        try:
            written = write()
        finally:
            self._connection.set_trace_callback(None)
        for kind in kinds:
            self._fate.passes(f"after {place}", kind)
        return written


class MortalBroker(AlpacaBroker):
    """Alpaca, and death before a request leaves and after its answer has come."""

    fate: Fate

    async def submit(self, order: NewOrder) -> OrderReport:
        """As Alpaca's."""
        self.fate.passes("before request", "submit")
        report = await super().submit(order)
        self.fate.passes("after request", "submit")
        return report

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """As Alpaca's."""
        self.fate.passes("before request", "replace")
        report = await super().replace(broker_order_id, change)
        self.fate.passes("after request", "replace")
        return report

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """As Alpaca's."""
        self.fate.passes("before request", "cancel")
        await super().cancel(broker_order_id)
        self.fate.passes("after request", "cancel")


class Story:
    """What a person does in one life: rest, change, buy, sell, cancel, and kill what stands."""

    def __init__(self, house: House, acknowledged: int) -> None:
        self._house = house
        self._acknowledged = acknowledged

    async def live(self) -> None:
        """From health to a kill."""
        await until(lambda: _is_proven(self._house) and not self._house.sequencer.belief.entries_gated)
        resting = await self._submit(AAPL, Side.BUY, 10, limit="150")
        await self._settled(resting, OrderStatus.NEW)
        await self._ask(ReplaceOrder(at=self._now(), order_id=resting.order_id, quantity=Decimal(12)))
        await until(lambda: resting.leg.quantity == 12 and resting.leg.status is OrderStatus.NEW)
        await self._settled(resting, OrderStatus.NEW)
        await self._settled(await self._submit(MSFT, Side.BUY, 5), OrderStatus.FILLED)
        await self._settled(await self._submit(MSFT, Side.SELL, 2), OrderStatus.FILLED)
        await self._ask(CancelOrder(at=self._now(), order_id=resting.order_id))
        await self._settled(resting, OrderStatus.CANCELED)
        left = await self._submit(AAPL, Side.BUY, 7, limit="140")
        await self._settled(left, OrderStatus.NEW)
        await self._ask(Kill(at=self._now(), reason="the story ends"))
        await self._settled(left, OrderStatus.CANCELED)

    def _now(self) -> Any:
        return self._house.clock.now()

    async def _ask(self, command: Command) -> Outcome:
        outcome = await self._house.sequencer.submit(command)
        assert outcome.denied is None, outcome.denied
        line = {"kind": type(command).__name__, "order_id": outcome.order_id}
        os.write(self._acknowledged, json.dumps(line).encode() + b"\n")
        return outcome

    async def _submit(self, symbol: Symbol, side: Side, quantity: int, *, limit: str | None = None) -> Order:
        outcome = await self._ask(
            SubmitOrder(
                at=self._now(),
                symbol=symbol,
                side=side,
                quantity=Decimal(quantity),
                order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
                limit_price=None if limit is None else Decimal(limit),
                reference_price=Decimal(200),
            )
        )
        assert outcome.order_id is not None
        return self._house.sequencer.belief.orders[OrderId(outcome.order_id)]

    async def _settled(self, order: Order, status: OrderStatus) -> None:
        """Told by stream and by reply."""
        await until(lambda: order.status is status and order.in_flight is None and not self._house.sequencer.depth)
        await asyncio.sleep(0.03)


def _is_proven(house: House) -> bool:
    belief = house.sequencer.belief
    return belief.feeds[FeedName.BROKER_EVENTS].status is FeedStatus.UP and belief.truth.open_gap is None


def _is_healed(house: House) -> bool:
    """Nothing is in doubt, under way or waiting to be cancelled, and belief is proven."""
    orders = house.sequencer.belief.open_orders.values()
    return _is_proven(house) and not any(
        order.in_flight or order.in_doubt or order.cancel_wanted or order.leg.presumed for order in orders
    )


async def until(holds: Callable[[], bool]) -> None:
    """Poll; a life that hangs is ended by its alarm."""
    while not holds():
        await SystemClock().sleep(0.005)


async def live(job: dict[str, Any]) -> None:
    """One life: the story up to its fate, or, without one told, a start that only heals."""
    place, what, nth = job["fate"]
    fate = Fate(place, what, nth)
    clock = SystemClock()
    broker = MortalBroker(name="simulator", key="SIM", secret="SIM", url=job["url"], clock=clock)
    broker.fate = fate
    journal = MortalJournal(Path(job["state"]), fate)
    acknowledged = os.open(job["acknowledged"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    done = asyncio.Event()

    async def gateway(house: House) -> NoReturn:
        if job["story"]:
            await Story(house, acknowledged).live()
        else:
            await until(lambda: _is_healed(house))
        done.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets this event")

    def ready(house: House) -> None:
        perform = house.sequencer.dispatch

        def dispatch(effect: Effect) -> None:
            fate.passes("before effect", type(effect).__name__)
            perform(effect)
            fate.passes("after effect", type(effect).__name__)

        house.sequencer.dispatch = dispatch

    parts = Parts(
        broker=broker,
        broker_feed=TradingStream(key="SIM", secret="SIM", url=job["stream"], clock=clock),
        quote_feed=None,
        journal=journal,
        bus=MemoryBus(f"{journal.epoch}-{journal.last_offset()}"),
        clock=clock,
        jitter=lambda: 0.5,
        version="crash",
        gateway=gateway,
        intervals=Intervals(orders_s=600, orders_doubtful_s=600, positions_s=600, full_s=600),
        backoff_cap_s=0.1,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    task = asyncio.create_task(run(parts, ready=ready))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        if not done.is_set():
            raise


def serve() -> None:
    """One child a line, one after another; a child's end is its exit status, negative for a signal."""
    # The look-ups that settle a doubt are as many as ever, only closer together: this exchange is never slow.
    trueup.core.step.LOOKUP_FIRST = LOOKUP_FIRST
    trueup.core.step.LOOKUP_SETTLE = LOOKUP_SETTLE
    fingerprint()  # once for all lives, so that their checkpoints fit one another
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                signal.alarm(GIVE_UP_S)
                asyncio.run(live(json.loads(line)))
                code = 0
            except JournalUnusable as error:
                sys.stderr.write(f"{error}\n")
                code = error.exit_code
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
