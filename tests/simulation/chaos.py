"""One life of a whole house amid everything that can go wrong, all of it drawn from one seed.

A crowd of wishes, strangers' orders, busts, cuts, mute and lying streams, lost replies, refusals, stale reads, kills,
clean stops and sudden deaths; then the harm ends, the exchange comes to rest, and belief must equal its books.
`checkers.py` says what must hold; nothing is repaired here. Run one seed by hand:

    python -m tests.simulation.chaos SEED [MINUTES]
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from tests.simulation import checkers

from trueup.bus.memory import MemoryBus
from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.core.belief import Belief
from trueup.core.commands import CancelOrder, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    FeedStatus,
    NewOrder,
    OrderChange,
    OrderReport,
    OrderType,
    Side,
    Snapshot,
    Symbol,
    TimeInForce,
)
from trueup.errors import Busy, RateLimited
from trueup.journal.memory import MemoryJournal
from trueup.ports import Input, SnapshotRequest
from trueup.runtime.run import House, Parts, run
from trueup.simulator.broker import Delays, InProcess
from trueup.simulator.model import AccountRules, Execution, FillModel, OrderRequest, Refused
from trueup.simulator.model import OrderType as TheirType
from trueup.simulator.model import Side as TheirSide
from trueup.simulator.model import TimeInForce as TheirTime

SYMBOLS = (Symbol("AAPL"), Symbol("MSFT"), Symbol("SPY"))
T = TypeVar("T")

STREAM_FAULTS = ("drop", "mute", "refuse", "delay", "duplicate", "reorder", "lose")
REST_FAULTS = ("drop", "refuse", "delay", "error", "timeout", "rate_limit", "lag", "lost_reply")

HEALING_S = 240.0
"""Virtual seconds within which everything must have healed once the harm has ended; the slowest wait is an order that
the broker does not know, asked for over and over."""


class Kept(MemoryJournal):
    """A journal that outlives the processes that write it; a process that has died writes nothing more."""

    def close(self) -> None:
        """Stay open for the next process."""


class _Mortal:
    """The disk as one process sees it: once that process is dead, nothing of it arrives."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self.epoch = kept.epoch
        self.is_dead = False
        self.read = kept.read
        self.last_offset = kept.last_offset
        self.load_checkpoint = kept.load_checkpoint

    def append(self, inputs: Sequence[Input]) -> int:
        return self._kept.last_offset() + 1 if self.is_dead else self._kept.append(inputs)

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        if not self.is_dead:
            self._kept.save_checkpoint(offset, state)

    def close(self) -> None:
        """The kept journal goes on."""


class _Watched:
    """The broker as one process sees it, with an eye on what that process asks for and when."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._broker = life.sim.broker
        self.name = self._broker.name
        self.is_dead = False

    async def submit(self, order: NewOrder) -> OrderReport:
        return await self._once(str(order.client_order_id), lambda: self._broker.submit(order))

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        return await self._once(str(change.client_order_id), lambda: self._broker.replace(broker_order_id, change))

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        await self._alive(lambda: self._broker.cancel(broker_order_id))

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        return await self._alive(
            lambda: self._broker.find(client_order_id=client_order_id, broker_order_id=broker_order_id)
        )

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        return await self._alive(lambda: self._broker.snapshot(request))

    async def close(self) -> None:
        await self._broker.close()

    async def _alive(self, request: Callable[[], Awaitable[T]]) -> T:
        if self.is_dead:
            await asyncio.Event().wait()
        return await request()

    async def _once(self, name: str, request: Callable[[], Awaitable[OrderReport]]) -> OrderReport:
        if not self.is_dead:  # what a dead process thinks that it sends, nobody hears
            if self._life.is_killed:
                self._life.wrongs.append(f"{name} left the house after the kill switch had been pulled")
            if name in self._life.sent:
                self._life.wrongs.append(f"{name} was sent twice")
            self._life.sent.add(name)
        try:
            return await self._alive(request)
        except RateLimited:
            self._life.sent.discard(name)  # refused unread: it may come once more
            raise


@dataclass
class _Process:
    house: House
    task: asyncio.Task[None]
    journal: _Mortal
    broker: _Watched
    watching: asyncio.Task[None]


@dataclass
class Life:
    """Everything about one run that the checkers may want to know."""

    seed: int
    sim: InProcess
    dice: random.Random
    journal: Kept = field(default_factory=Kept)
    sent: set[str] = field(default_factory=set)
    wrongs: list[str] = field(default_factory=list)
    """What was seen that must never happen; kept here, as a house survives what is raised inside it."""
    is_killed: bool = False
    done: dict[str, int] = field(default_factory=dict)
    """What was done to the house, by name."""
    process: _Process | None = None

    @property
    def house(self) -> House:
        assert self.process is not None
        return self.process.house

    @property
    def belief(self) -> Belief:
        return self.house.sequencer.belief

    # --- processes ---

    async def start(self) -> None:
        """Begin a process on the kept journal."""
        journal, broker = _Mortal(self.journal), _Watched(self)
        bus = MemoryBus(f"bus-{self.journal.last_offset()}")
        ready: asyncio.Future[House] = asyncio.get_running_loop().create_future()
        parts = Parts(
            broker=broker,
            broker_feed=self.sim.orders,
            quote_feed=self.sim.quotes,
            journal=journal,
            bus=bus,
            clock=VirtualClock(),
            jitter=random.Random(self.dice.random()).random,
            version="test",
            checkpoint_every=self.dice.choice([7, 100, 100_000]),
        )
        watching = asyncio.create_task(checkers.watch_channels(bus))
        task = asyncio.create_task(run(parts, ready=ready.set_result))
        task.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if ready.cancelled():
            task.result()
        self.process = _Process(ready.result(), task, journal, broker, watching)

    async def end(self, *, suddenly: bool) -> None:
        """End the process: in order, or in the middle of whatever it does."""
        process = self.process
        assert process is not None
        if suddenly:
            process.journal.is_dead = process.broker.is_dead = True
        process.task.cancel()
        await asyncio.wait([process.task])
        if not process.task.cancelled():
            process.task.result()
        await process.watching
        self.process = None

    # --- what happens ---

    async def something(self) -> None:
        """Do one thing, by the dice."""
        process = self.process
        assert process is not None
        if process.task.done():
            process.task.result()
            raise AssertionError("the house ended by itself")
        acts: dict[Callable[[], Awaitable[None] | None], float] = {
            self.wish: 40,
            self.cancel: 12,
            self.replace: 8,
            self.stranger: 5,
            self.price: 4,
            self.bust: 1.5,
            self.correct: 1.5,
            self.move_shares: 0.3,
            self.reconcile: 2,
            self.kill: 1.5,
            self.resume: 8,
            self.fault: 8,
            self.restart: 1.5,
        }
        act = self.dice.choices(list(acts), list(acts.values()))[0]
        try:
            ending = act()
            if ending is not None:
                await ending
        except (Refused, Busy):
            return
        name = getattr(act, "__name__", "")
        self.done[name] = self.done.get(name, 0) + 1

    async def wish(self) -> None:
        """Someone wants an order."""
        symbol = self.dice.choice(SYMBOLS)
        is_market = self.dice.random() < 0.4
        await self.house.sequencer.submit(
            SubmitOrder(
                at=self.house.clock.now(),
                symbol=symbol,
                side=self.dice.choice(list(Side)),
                quantity=Decimal(self.dice.randint(1, 60)),
                order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
                time_in_force=self.dice.choice([TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC]),
                limit_price=None if is_market else self.near(symbol),
            )
        )

    async def cancel(self) -> None:
        """Someone wants an order back."""
        working = list(self.belief.open_orders)
        if working:
            await self.house.sequencer.submit(
                CancelOrder(at=self.house.clock.now(), order_id=self.dice.choice(working))
            )

    async def replace(self) -> None:
        """Someone wants other terms."""
        working = list(self.belief.open_orders.values())
        if working:
            order = self.dice.choice(working)
            await self.house.sequencer.submit(
                ReplaceOrder(
                    at=self.house.clock.now(),
                    order_id=order.order_id,
                    quantity=Decimal(self.dice.randint(1, 80)) if self.dice.random() < 0.7 else None,
                    limit_price=self.near(order.symbol) if self.dice.random() < 0.6 else None,
                )
            )

    def stranger(self) -> None:
        """Another client of the same account places an order."""
        symbol = self.dice.choice(SYMBOLS)
        request = OrderRequest(
            symbol=symbol,
            side=self.dice.choice(list(TheirSide)),
            type=TheirType.LIMIT,
            time_in_force=TheirTime.DAY,
            qty=Decimal(self.dice.randint(1, 40)),
            limit_price=self.near(symbol),
        )
        self.sim.act(lambda exchange, at: exchange.submit(request, at, is_external=True))

    def price(self) -> None:
        """The market jumps."""
        symbol = self.dice.choice(SYMBOLS)
        self.sim.world.move(symbol, self.near(symbol), 0.0)

    def bust(self) -> None:
        """The exchange takes an execution back."""
        match = self.match()
        if match is not None:
            self.sim.act(lambda exchange, at: exchange.bust(match.id, at))

    def correct(self) -> None:
        """The exchange corrects an execution."""
        match = self.match()
        if match is not None:
            price = match.price + Decimal(self.dice.choice(["-0.05", "0.03"]))
            self.sim.act(lambda exchange, at: exchange.correct(match.id, at, price=price))

    def move_shares(self) -> None:
        """The back office moves shares, and no execution says so."""
        symbol, quantity = self.dice.choice(SYMBOLS), Decimal(self.dice.choice([-3, 5]))
        self.sim.act(lambda exchange, at: exchange.adjust(symbol, at, qty=quantity, description="moved"))

    async def reconcile(self) -> None:
        """Someone wants to be sure."""
        await self.house.sequencer.submit(Reconcile(at=self.house.clock.now()))

    async def kill(self) -> None:
        """Someone pulls the switch; nothing may leave from the moment on in which it is handed over."""
        self.is_killed = True
        await self.house.sequencer.submit(Kill(at=self.house.clock.now(), reason="chaos"))

    async def resume(self) -> None:
        """Someone takes the kill back."""
        if self.is_killed:
            self.is_killed = False
            await self.house.sequencer.submit(Resume(at=self.house.clock.now(), reason="chaos"))

    def fault(self) -> None:
        """Something breaks."""
        target = self.dice.choice(["trade_updates", "trade_updates", "rest", "rest", "market_data"])
        kind = self.dice.choice(REST_FAULTS if target == "rest" else STREAM_FAULTS)
        terms: dict[str, object] = {"seconds": round(self.dice.uniform(0.3, 25), 3)}
        if self.dice.random() < 0.4:
            terms["count"] = self.dice.randint(1, 4)
        if self.dice.random() < 0.5:
            terms["probability"] = round(self.dice.uniform(0.2, 1), 3)
        if kind in {"delay", "lag", "reorder"}:
            terms["by_seconds"] = round(self.dice.uniform(0.05, 6), 3)
        if kind == "error":
            terms["match"] = {"status": self.dice.choice([403, 422, 500, 504])}
        if kind == "lost_reply":
            terms["match"] = {"status": self.dice.choice([504, "reset", "hang"])}
        self.sim.fault(target, kind, **terms)

    async def restart(self) -> None:
        """The process ends, well or badly, and another one begins."""
        await self.end(suddenly=self.dice.random() < 0.6)
        await asyncio.sleep(self.dice.uniform(0, 5))
        await self.start()

    def near(self, symbol: Symbol) -> Decimal:
        """A price in the neighbourhood, on the grid."""
        quote = self.sim.exchange.quote(symbol)
        assert quote is not None
        return (quote.last * Decimal(round(self.dice.uniform(0.996, 1.004), 4))).quantize(Decimal("0.01"))

    def match(self) -> Execution | None:
        """One of the executions that stand."""
        matches = self.sim.exchange.view().executions()
        return self.dice.choice(matches[-20:]) if matches else None

    # --- the end ---

    async def heal(self) -> None:
        """End all harm, bring the exchange to rest, and wait until a look at it leaves nothing unsettled."""
        self.sim.world.faults.clear()
        await self.resume()
        deadline = self.house.clock.monotonic() + HEALING_S
        looked_at = None
        while not self.is_healed(looked_at):
            is_late = self.house.clock.monotonic() >= deadline
            assert not is_late, f"not healed in {HEALING_S:g} s: {self.unsettled()}"
            working = [order for order in self.sim.exchange.open_orders() if order.cancel_requested_at is None]
            for order in working:  # also those that were still on their way
                self.take_back(order.id)
            if looked_at is None and not self.sim.exchange.open_orders() and not self.unsettled():
                looked_at = self.house.clock.now()
                await self.reconcile()
            await asyncio.sleep(0.5)

    def take_back(self, order_id: str) -> None:
        """Cancel an order from outside."""
        self.sim.act(lambda exchange, at: exchange.cancel(order_id, at))

    def is_healed(self, looked_at: datetime | None) -> bool:
        """True once a full look, begun with the exchange at rest, has found everything as believed."""
        clean = self.belief.truth.clean_started_at
        return looked_at is not None and clean is not None and clean >= looked_at and not self.unsettled()

    def unsettled(self) -> list[str]:
        """What is still in doubt, in words; empty once belief says that it is sure."""
        belief = self.belief
        doubts = [
            f"{order.order_id} is {order.status}, in flight {order.in_flight}, in doubt {order.in_doubt}"
            for order in belief.open_orders.values()
        ]
        feed = belief.feeds[FeedName.BROKER_EVENTS]
        if feed.status is not FeedStatus.UP:
            doubts.append(f"broker events are {feed.status}: {feed.reason}")
        if belief.truth.open_gap is not None:
            doubts.append(f"a gap is open: {belief.truth.open_gap.reason}; last look: {belief.truth.last_result}")
        doubts += [f"drift: {name}" for name in belief.drifts]
        if belief.entries_gated:
            doubts.append(f"entries are gated: {belief.gate.reasons()}")
        if self.house.sequencer.depth:
            doubts.append("inputs wait")
        return doubts


async def live(seed: int, minutes: float) -> Life:
    """Live through everything that this seed has in store, heal, and be checked."""
    dice = random.Random(seed)
    sim = InProcess(
        clock=VirtualClock(),
        seed=seed,
        fill_model=FillModel(
            ack_latency_ms=dice.choice([0, 5, 400]),
            fill_latency_ms=dice.choice([1, 20, 300]),
            slice_latency_ms=dice.choice([50, 900]),
            cancel_latency_ms=dice.choice([0, 10, 1500]),
            replace_latency_ms=dice.choice([0, 10, 800]),
            partial_probability=dice.choice([0.1, 0.8]),
            reject_probability=dice.choice([0.0, 0.05]),
        ),
        rules=AccountRules(cash=Decimal(1_000_000), flips_allowed=True),
        delays=Delays(request_s=dice.choice([0.02, 0.4]), event_s=dice.choice([0.005, 0.2]), spread_s=0.3),
        symbols=SYMBOLS,
        tick_seconds=1.0,
    )
    life = Life(seed, sim, dice)
    living = asyncio.create_task(sim.run())
    try:
        await life.start()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + minutes * 60
        while loop.time() < ends_at:
            await asyncio.sleep(dice.choice([0.0, 0.01, 0.2, 1.0, 3.0]) * dice.random())
            await life.something()
        await life.heal()
        assert not life.wrongs, life.wrongs
        restarts = life.house.health.numbers().counters["restarts"]
        assert not restarts, f"children failed {restarts} times; their reasons are in the log"
        checkers.belief_equals_the_books(life.belief, sim.exchange)
        checkers.nothing_was_received_twice(sim.broker.received)
        checkers.every_denied_order_never_arrived(life.belief, sim.exchange)
        live_belief = life.belief
        await life.end(suddenly=False)
        checkers.replay_equals_live(life.journal, live_belief)
    finally:
        if life.process is not None:
            life.process.task.cancel()
            await asyncio.wait([life.process.task])
        living.cancel()
        await asyncio.wait([living])
        if not living.cancelled():
            living.result()
    return life


def live_through(seed: int, *, minutes: float = 3.0) -> Life:
    """One life in virtual time; a failure says how to live it again."""
    dice = random.Random(f"disk {seed}")
    try:
        return run_virtual(live(seed, minutes), disk_s=dice.choice([0.0, 0.002, 0.3]))
    except BaseException as failure:
        failure.add_note(f"seed {seed}; live it again: python -m tests.simulation.chaos {seed} {minutes:g}")
        raise


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
    lived = live_through(int(sys.argv[1]), minutes=float(sys.argv[2]) if len(sys.argv) > 2 else 3.0)
    sys.stdout.write(f"healed: {lived.journal.last_offset()} inputs, {lived.done}\n")
