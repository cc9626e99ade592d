"""One life of a whole house amid everything that a plan holds, in virtual time.

A crowd of wishes, strangers' orders, busts, cuts, mute and lying streams, lost replies, refusals, stale reads, kills,
clean stops and sudden deaths; then the harm ends, the exchange comes to rest, and belief must equal its books.
`judge.py` and `checkers.py` say what must hold. Not for repairing anything. Invariant: everything is real but time, the
wire and the disk; and what a dead process had sent may still arrive, as it would.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from trueup.bus.memory import MemoryBus
from trueup.chaos import checkers
from trueup.chaos.judge import HALTED, History, Judge
from trueup.chaos.plan import Act, Plan, checkpoint_every
from trueup.chaos.violation import Violation, demand, fall
from trueup.chaos.virtual import Stuck, VirtualClock, VirtualLoop, run_virtual, until
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
    TradingState,
)
from trueup.errors import Busy, RateLimited
from trueup.journal.memory import MemoryJournal
from trueup.ports import Input, SnapshotRequest
from trueup.runtime.publisher import FRAME_S
from trueup.runtime.run import House, Parts, run
from trueup.simulator.broker import InProcess
from trueup.simulator.faults import Random, seeded
from trueup.simulator.model import AccountRules, Execution, OrderRequest, Refused, ReplaceRequest
from trueup.simulator.model import OrderType as TheirType
from trueup.simulator.model import Side as TheirSide
from trueup.simulator.model import TimeInForce as TheirTime

SYMBOLS = (Symbol("AAPL"), Symbol("MSFT"), Symbol("SPY"))
T = TypeVar("T")

STREAM_FAULTS = ("drop", "mute", "refuse", "delay", "duplicate", "reorder", "lose")
REST_FAULTS = ("drop", "refuse", "delay", "error", "timeout", "rate_limit", "lag", "lost_reply", "lost_reply")

STARTING_S = 60.0
"""Virtual seconds that a first process gets to stand, in peace."""

STOPPING_S = 60.0
"""Virtual seconds within which a process that was told to end must have ended."""

HEALING_S = 240.0
"""Virtual seconds within which everything must have healed once the harm has ended; the slowest wait is an order that
the broker does not know, asked for over and over."""

ENDS = "a process ends when it is told to"
HEALS = "belief heals once the harm has ended"
STANDS = "no process ends by itself"
ONE_SEND = "no request is sent twice"
ONE_WRITER = "one process writes at a time"
REMEMBERED = "a kill is remembered"
NO_RESTART = "no part of the house fails"


class Kept(MemoryJournal):
    """A journal that outlives the processes that write it."""

    def close(self) -> None:
        """Stay open for the next process."""

    def lose_from(self, first: int) -> None:
        """Let a write that was not yet answered not have happened."""
        del self._bodies[first - 1 :]

    def harm_checkpoint(self, dice: Random) -> str:
        """Lose the newest checkpoint, cut it short, or put it under another one's number; what it was, in words."""
        if self._checkpoint is None:
            return ""
        offset, state = self._checkpoint
        match dice.randrange(3):
            case 0:
                self._checkpoint = None
                return "lost"
            case 1:
                self._checkpoint = (offset, state[: dice.randrange(len(state))])
                return "cut short"
            case _:
                self._checkpoint = (dice.randint(1, max(1, self.last_offset())), state)
                return "under a wrong number"


class _Mortal:
    """The disk as one process sees it: once that process is dead, nothing of it arrives."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self.epoch = kept.epoch
        self.is_dead = False
        self.last_write = 0
        """First offset of the newest write."""
        self._written = kept.last_offset()
        self.read = kept.read
        self.last_offset = kept.last_offset
        self.load_checkpoint = kept.load_checkpoint

    def append(self, inputs: Sequence[Input]) -> int:
        """Keep all; a dead process thinks that it does, and is not heard."""
        first = self._written + 1
        self._written += len(inputs)
        if not self.is_dead:
            self.last_write = self._kept.append(inputs)
            demand(self.last_write == first, ONE_WRITER, f"entry {self.last_write} where {first} was to come")
        return first

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        """Keep it, unless dead."""
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
        self.house: House | None = None

    async def submit(self, order: NewOrder) -> OrderReport:
        """Watched."""
        return await self._once(str(order.client_order_id), lambda: self._broker.submit(order))

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """Watched."""
        return await self._once(str(change.client_order_id), lambda: self._broker.replace(broker_order_id, change))

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """Never barred by anything."""
        await self._alive(lambda: self._broker.cancel(broker_order_id))

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        """A question."""
        return await self._alive(
            lambda: self._broker.find(client_order_id=client_order_id, broker_order_id=broker_order_id)
        )

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """A question."""
        return await self._alive(lambda: self._broker.snapshot(request))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _alive(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self.is_dead:
            await asyncio.Event().wait()
        # On the wire it is out of the process's hands: whoever stops waiting for it does not call it back.
        under_way = asyncio.create_task(request())
        self._life.under_way.add(under_way)
        under_way.add_done_callback(self._life.has_arrived)
        return await asyncio.shield(under_way)

    async def _once(self, name: str, request: Callable[[], Coroutine[Any, Any, OrderReport]]) -> OrderReport:
        if not self.is_dead:  # what a dead process thinks that it sends, nobody hears
            self._life.note_sent(name, self.house)
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
    screen: checkers.Screen


@dataclass
class Lived:
    """What became of one plan."""

    plan: Plan
    violation: Violation | None
    steps: int
    """Inputs that were journaled."""
    harm: Counter[str]
    """What was done to the house and what it met, by name."""
    story: list[tuple[float, Act, str]]
    """What was done, when, in words."""
    virtual_s: float
    journal: Kept
    digest: str
    """Of all that was believed in the end; empty when it came to none."""


@dataclass
class Life:
    """Everything about one run that the checkers may want to know."""

    plan: Plan
    journal: Kept = field(default_factory=Kept)
    history: History = field(default_factory=History)
    sent: set[str] = field(default_factory=set)
    wrongs: list[Violation] = field(default_factory=list)
    """What was seen that must never happen; kept here, as a house survives what is raised inside it."""
    under_way: set[asyncio.Task[Any]] = field(default_factory=set)
    is_killed: bool = False
    switches: int = 0
    """Kills and resumes so far."""
    is_unanswered: bool = False
    """True when the newest of them was not acknowledged before its process ended, which may then have forgotten it."""
    harm: Counter[str] = field(default_factory=Counter)
    story: list[tuple[float, Act, str]] = field(default_factory=list)
    process: _Process | None = None
    digest: str = ""
    _sim: InProcess | None = None
    _began_at: float = 0.0

    @property
    def sim(self) -> InProcess:
        """The exchange and its faces."""
        assert self._sim is not None
        return self._sim

    @property
    def house(self) -> House:
        """The house of the process that runs."""
        assert self.process is not None
        return self.process.house

    @property
    def belief(self) -> Belief:
        """What that house believes."""
        return self.house.sequencer.belief

    def now(self) -> datetime:
        """Virtual time."""
        return self.house.clock.now()

    # --- the whole of it ---

    async def live(self) -> None:
        """Stand, suffer, heal, and be judged. Raises `Violation`, or whatever the house falls over."""
        setting = self.plan.setting
        loop = asyncio.get_running_loop()
        self._sim = InProcess(
            clock=VirtualClock(),
            seed=self.plan.seed,
            fill_model=setting.fill_model,
            rules=AccountRules(cash=Decimal(1_000_000), flips_allowed=True),
            delays=setting.delays,
            symbols=SYMBOLS,
            tick_seconds=setting.tick_s,
            polls_apart=setting.polls_apart,
            only_these=True,
        )
        self.sim.world.on_order_event(self.history.note)
        market = asyncio.create_task(self.sim.run())
        try:
            await self.start(seeded(self.plan.seed, "first process"), setting.checkpoint_every)
            await until(
                lambda: not self.belief.entries_gated, within_s=STARTING_S, told="the house to stand", every_s=0.1
            )
            self._began_at = loop.time()
            for act in self.plan.acts:
                await self._until(self._began_at + act.at_s)
                await self._perform(act)
            await self._until(self._began_at + self.plan.seconds)
            await self.heal()
            await asyncio.sleep(2 * FRAME_S)  # the newest picture is drawn
            await self._be_judged()
        finally:
            market.cancel()
            await asyncio.wait([market])
        if not market.cancelled():
            market.result()

    async def _until(self, instant: float) -> None:
        pause = instant - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)

    async def _perform(self, act: Act) -> None:
        process = self.process
        assert process is not None
        if process.task.done():
            process.task.result()
            raise Violation(STANDS, "it ended without a word")
        if self.wrongs:
            raise self.wrongs[0]
        dice = seeded(act.seed)
        began = asyncio.get_running_loop().time() - self._began_at
        words = "and something went wrong in it"
        try:
            did: str | Awaitable[str] = getattr(self, act.name)(dice)
            words = did if isinstance(did, str) else await did
        except (Refused, Busy) as refusal:
            words = f"refused: {refusal}"
        else:
            if words:
                self.harm[act.name] += 1
        finally:
            self.story.append((began, act, words))

    async def _be_judged(self) -> None:
        if self.wrongs:
            raise self.wrongs[0]
        process = self.process
        assert process is not None
        restarts = self.house.health.numbers().counters["restarts"]
        demand(not restarts, NO_RESTART, f"children failed {restarts} times; the log has their reasons")
        checkers.belief_equals_the_books(self.belief, self.sim.exchange)
        checkers.every_execution_is_held_once(self.belief, self.sim.exchange)
        checkers.every_true_up_has_a_cause(self.belief, self.sim.exchange)
        checkers.nothing_was_received_twice(self.sim.broker.received)
        checkers.every_denied_order_never_arrived(self.belief, self.sim.exchange)
        process.screen.shows(self.belief, self.sim.exchange)
        believed = self.belief
        await self.end(suddenly=False)
        judge = Judge(self.history, self.journal.epoch)
        for entry in self.journal.read():
            judge.take(entry.input, entry.offset)
        self.harm.update(judge.seen)
        self.harm["gap"] += len(judge.belief.truth.gaps)
        self.harm["drift"] += len(judge.belief.drift_log)
        self.harm.update(judge.belief.counters)
        self.digest = checkers.replay_equals_live(self.journal, believed, judge.belief)

    # --- processes ---

    async def start(self, dice: Random, checkpoint: int) -> None:
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
            jitter=dice.random,
            version="chaos",
            checkpoint_every=checkpoint,
        )
        screen = checkers.Screen()
        watching = asyncio.create_task(screen.watch(bus))
        task = asyncio.create_task(run(parts, ready=ready.set_result))
        task.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if ready.cancelled():
            task.result()
            raise Violation(STANDS, "it ended before it stood")
        self.process = _Process(ready.result(), task, journal, broker, watching, screen)
        broker.house = ready.result()
        is_killed = self.belief.gate.kill.killed
        if self.is_unanswered:
            self.is_killed, self.is_unanswered = is_killed, False
        demand(is_killed == self.is_killed, REMEMBERED, f"the next process is {self.belief.trading_state}")

    async def end(self, *, suddenly: bool) -> None:
        """End the process: in order, or in the middle of whatever it does."""
        process = self.process
        assert process is not None
        if suddenly:
            process.journal.is_dead = process.broker.is_dead = True
        self.is_unanswered = self.belief.gate.kill.reason != self.newest_switch
        process.task.cancel()
        await asyncio.wait([process.task], timeout=STOPPING_S)
        demand(process.task.done(), ENDS, f"{STOPPING_S:g} s later it still runs")
        if not suddenly:  # what waited was still written
            self.is_unanswered = self.belief.gate.kill.reason != self.newest_switch
        if not process.task.cancelled():
            process.task.result()
        await process.watching
        self.process = None

    async def abandon(self) -> None:
        """Leave nothing running, whatever state it is in."""
        if self.process is not None:
            for _ in range(5):  # one that does not end when told to is told again
                self.process.task.cancel()
                await asyncio.wait([self.process.task], timeout=STOPPING_S / 10)
                if self.process.task.done():
                    break
            self.process.watching.cancel()

    def has_arrived(self, request: asyncio.Task[Any]) -> None:
        """A request has run its course, whether or not anybody still waits for its answer."""
        self.under_way.discard(request)
        if not request.cancelled():
            request.exception()

    def note_sent(self, name: str, house: House | None) -> None:
        """A request that could add risk leaves the house."""
        state = house.sequencer.belief.trading_state if house is not None else None
        if self.is_killed:
            self.wrongs.append(Violation(HALTED, f"{name} left after the kill switch had been pulled"))
        elif state in (TradingState.HALTED, TradingState.KILLED):
            self.wrongs.append(Violation(HALTED, f"{name} left while {state}"))
        if name in self.sent:
            self.wrongs.append(Violation(ONE_SEND, name))
        self.sent.add(name)

    # --- what people and strategies do ---

    def wish(self, dice: Random) -> str:
        """Someone wants an order."""
        symbol, is_market = dice.choice(SYMBOLS), dice.random() < 0.4
        limit = None if is_market else self.near(symbol, dice)
        side, quantity = dice.choice(list(Side)), Decimal(dice.randint(1, 40))
        name = ClientOrderId(f"wish-{dice.getrandbits(32):08x}") if dice.random() < 0.2 else None
        self.house.sequencer.offer(
            SubmitOrder(
                at=self.now(),
                symbol=symbol,
                side=side,
                quantity=quantity,
                order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
                time_in_force=TimeInForce.DAY,
                limit_price=limit,
                client_order_id=name,
            )
        )
        return f"{side} {quantity} {symbol}" + (f" at {limit}" if limit is not None else "")

    def wish_again(self, dice: Random) -> str:
        """Someone sends the same wish once more, under the same name."""
        names = sorted(self.belief.by_client)
        if not names:
            return ""
        name, symbol = dice.choice(names), dice.choice(SYMBOLS)
        self.house.sequencer.offer(
            SubmitOrder(at=self.now(), symbol=symbol, side=Side.BUY, quantity=Decimal(1), client_order_id=name)
        )
        return str(name)

    def cancel(self, dice: Random) -> str:
        """Someone wants an order back."""
        working = list(self.belief.open_orders)
        if not working:
            return ""
        order_id = dice.choice(working)
        self.house.sequencer.offer(CancelOrder(at=self.now(), order_id=order_id))
        return str(order_id)

    def replace(self, dice: Random) -> str:
        """Someone wants other terms."""
        working = list(self.belief.open_orders.values())
        if not working:
            return ""
        order = dice.choice(working)
        quantity = Decimal(dice.randint(1, 80)) if dice.random() < 0.7 else None
        limit = self.near(order.symbol, dice) if dice.random() < 0.6 else None
        self.house.sequencer.offer(
            ReplaceOrder(at=self.now(), order_id=order.order_id, quantity=quantity, limit_price=limit)
        )
        return f"{order.order_id}: {quantity} at {limit}"

    def reconcile(self, dice: Random) -> str:
        """Someone wants to be sure."""
        self.house.sequencer.offer(Reconcile(at=self.now()))
        return "asked for"

    def kill(self, dice: Random) -> str:
        """Someone pulls the switch; nothing may leave from the moment on in which it is handed over."""
        self.is_killed = True
        self._switch(Kill)
        return "pulled"

    def resume(self, dice: Random) -> str:
        """Someone takes the kill back."""
        if not self.is_killed:
            return ""
        self.is_killed = False
        self._switch(Resume)
        return "taken back"

    def _switch(self, command: type[Kill | Resume]) -> None:
        self.switches += 1
        self.house.sequencer.offer(command(at=self.now(), reason=self.newest_switch))

    @property
    def newest_switch(self) -> str:
        """The reason that the newest kill or resume gives."""
        return f"chaos {self.switches}" if self.switches else ""

    # --- what the exchange and its other clients do ---

    def stranger(self, dice: Random) -> str:
        """Another client of the same account places an order."""
        symbol = dice.choice(SYMBOLS)
        request = OrderRequest(
            symbol=symbol,
            side=dice.choice(list(TheirSide)),
            type=TheirType.LIMIT,
            time_in_force=TheirTime.DAY,
            qty=Decimal(dice.randint(1, 40)),
            limit_price=self.near(symbol, dice),
        )
        self.sim.act(lambda exchange, at: exchange.submit(request, at, is_external=True))
        return f"{request.side} {request.qty} {symbol} at {request.limit_price}"

    def stranger_cancels(self, dice: Random) -> str:
        """Another client takes back an order, whosever it is. Raises `Refused`."""
        working = self.sim.exchange.open_orders()
        if not working:
            return ""
        order = dice.choice(working)
        self.sim.act(lambda exchange, at: exchange.cancel(order.id, at))
        return order.client_order_id

    def stranger_replaces(self, dice: Random) -> str:
        """Another client changes an order, whosever it is. Raises `Refused`."""
        working = self.sim.exchange.open_orders()
        if not working:
            return ""
        order = dice.choice(working)
        quantity = Decimal(dice.randint(1, 80)) if dice.random() < 0.7 else None
        terms = ReplaceRequest(qty=quantity, limit_price=self.near(Symbol(order.symbol), dice))
        self.sim.act(lambda exchange, at: exchange.replace(order.id, terms, at))
        return f"{order.client_order_id}: {terms.qty} at {terms.limit_price}"

    def price(self, dice: Random) -> str:
        """The market jumps."""
        symbol = dice.choice(SYMBOLS)
        price = self.near(symbol, dice)
        self.sim.world.move(symbol, price, 0.0)
        return f"{symbol} {price}"

    def bust(self, dice: Random) -> str:
        """The exchange takes an execution back."""
        match = self.match(dice)
        if match is None:
            return ""
        self.sim.act(lambda exchange, at: exchange.bust(match.id, at))
        return f"{match.qty} of {match.order_id}"

    def correct(self, dice: Random) -> str:
        """The exchange corrects an execution."""
        match = self.match(dice)
        if match is None:
            return ""
        price = match.price + Decimal(dice.choice(["-0.05", "0.03"]))
        self.sim.act(lambda exchange, at: exchange.correct(match.id, at, price=price))
        return f"{match.qty} of {match.order_id} to {price}"

    def move_shares(self, dice: Random) -> str:
        """The back office moves shares, and no execution says so."""
        symbol, quantity = dice.choice(SYMBOLS), Decimal(dice.choice([-3, 5]))
        self.sim.act(lambda exchange, at: exchange.adjust(symbol, at, qty=quantity, description="moved"))
        return f"{quantity:+} {symbol}"

    # --- what breaks ---

    def fault(self, dice: Random) -> str:
        """Something breaks for a while."""
        target = dice.choice(["trade_updates", "trade_updates", "rest", "rest", "rest", "market_data"])
        kind = dice.choice(REST_FAULTS if target == "rest" else STREAM_FAULTS)
        terms: dict[str, object] = {"seconds": round(dice.uniform(0.3, 8 if dice.random() < 0.8 else 25), 3)}
        if dice.random() < 0.4:
            terms["count"] = dice.randint(1, 4)
        if dice.random() < 0.5:
            terms["probability"] = round(dice.uniform(0.2, 1), 3)
        if kind in {"delay", "lag", "reorder"}:
            terms["by_seconds"] = round(dice.uniform(0.05, 6), 3)
        match: dict[str, object] = {}
        if kind == "error":
            match["status"] = dice.choice([403, 422, 500, 504])
        if kind == "lost_reply":
            match["status"] = dice.choice([504, "reset", "hang"])
        if target == "rest" and dice.random() < 0.3:
            match["method"] = dice.choice(["POST", "GET"])
        if match:
            terms["match"] = match
        self.sim.fault(target, kind, **terms)
        self.harm[f"{target} {kind}"] += 1
        return f"{target} {kind} {terms}"

    def cut(self, dice: Random) -> str:
        """The stream of order events is cut."""
        self.sim.orders.cut()
        return "order events"

    def garble(self, dice: Random) -> str:
        """The stream says something that can't be read."""
        self.sim.orders.garble('{"stream":"trade_updates","data":{"event":"fi')
        return "a frame that can't be read"

    async def stop(self, dice: Random) -> str:
        """The process is told to end, and another begins; often the stream is cut in the same breath."""
        is_cut = dice.random() < 0.5
        if is_cut:
            self.sim.orders.cut()
            for _ in range(dice.randrange(10)):  # so that the order to end meets every stage of the failure
                await asyncio.sleep(0)
        await self.end(suddenly=False)
        harmed = self.journal.harm_checkpoint(dice) if dice.random() < 0.3 else ""
        pause = await self._rest_and_start(dice)
        also = ", the stream was cut in the same breath" if is_cut else ""
        return f"for {pause:.2f} s{also}" + (f", the checkpoint was {harmed}" if harmed else "")

    async def crash(self, dice: Random) -> str:
        """The process dies in the middle of whatever it does, perhaps of a write; another begins."""
        process = self.process
        assert process is not None
        first, believed = process.journal.last_write, self.belief.offset
        is_lost = first > believed and first <= self.journal.last_offset() and dice.random() < 0.5
        if is_lost:
            self.journal.lose_from(first)
            self.harm["write lost"] += 1
        elif first > believed:
            self.harm["write unanswered"] += 1
        await self.end(suddenly=True)
        harmed = self.journal.harm_checkpoint(dice) if dice.random() < 0.2 else ""
        pause = await self._rest_and_start(dice)
        lost = ", the write under way was lost" if is_lost else ""
        return f"for {pause:.2f} s{lost}" + (f", the checkpoint was {harmed}" if harmed else "")

    async def _rest_and_start(self, dice: Random) -> float:
        pause = dice.choice((0.0, 0.05, 0.5, 3.0)) * dice.random()
        await asyncio.sleep(pause)
        await self.start(dice, checkpoint_every(dice))
        return pause

    def near(self, symbol: Symbol, dice: Random) -> Decimal:
        """A price in the neighbourhood, on the grid."""
        quote = self.sim.exchange.quote(symbol)
        assert quote is not None
        return (quote.last * Decimal(round(dice.uniform(0.996, 1.004), 4))).quantize(Decimal("0.01"))

    def match(self, dice: Random) -> Execution | None:
        """One of the executions that stand."""
        matches = self.sim.exchange.view().executions()
        return dice.choice(matches[-20:]) if matches else None

    # --- the end ---

    async def heal(self) -> None:
        """End all harm, bring the exchange to rest, and wait until a look at it leaves nothing unsettled."""
        self.sim.world.faults.clear()
        if self.is_killed:
            self.resume(seeded(self.plan.seed, "healing"))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HEALING_S
        looked_at: datetime | None = None
        while not self.is_healed(looked_at):
            process = self.process
            assert process is not None
            if process.task.done():
                process.task.result()
                raise Violation(STANDS, "it ended without a word")
            demand(loop.time() < deadline, HEALS, f"not within {HEALING_S:g} s: {'; '.join(self.unsettled())}")
            for order in self.sim.exchange.open_orders():
                if order.cancel_requested_at is None:  # also those that were still on their way
                    self.take_back(order.id)
            at_rest = not self.sim.exchange.open_orders() and not self.under_way
            if looked_at is None and at_rest and not self.unsettled():
                looked_at = self.now()
                self.house.sequencer.offer(Reconcile(at=looked_at))
            await asyncio.sleep(0.5)

    def take_back(self, order_id: str) -> None:
        """Cancel an order from outside, unless it ends in this very moment."""
        with suppress(Refused):
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
        doubts += [f"{leg.residual} inferred of {name}" for name, leg in belief.by_broker.items() if leg.residual]
        if belief.entries_gated:
            doubts.append(f"entries are gated: {belief.gate.reasons()}")
        if self.house.sequencer.depth:
            doubts.append("inputs wait")
        return doubts


def live(plan: Plan) -> Lived:
    """Live one plan to its end in virtual time; what went wrong is in the answer, never raised."""
    life = Life(plan)
    ended_at = 0.0
    error: BaseException | None = None

    async def main() -> None:
        nonlocal ended_at, error
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.horizon_s = 100 * STOPPING_S + 10 * plan.seconds
        living = asyncio.create_task(life.live())
        await asyncio.wait([living])
        ended_at, error = loop.time(), living.exception()
        loop.horizon_s = ended_at + STOPPING_S  # a task that will not be cancelled is left behind
        await life.abandon()

    try:
        run_virtual(main(), disk_s=plan.setting.disk_s)
    except Stuck as stuck:
        error = error or Violation("time passes", str(stuck))
    violation = None if error is None else fall(error)
    return Lived(
        plan, violation, life.journal.last_offset(), life.harm, life.story, ended_at, life.journal, life.digest
    )
