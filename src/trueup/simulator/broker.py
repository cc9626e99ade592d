"""The exchange as a `Broker` and as feeds, in process: our own words, and no wire between.

For: driving a whole runtime against an exchange that tells the truth late, twice, out of order or not at all, on
whatever clock is handed in; in virtual time that makes thousands of schedules cheap. The faults are the same that the
simulator's sockets suffer. Not for the wire: `alpaca` speaks that, and only there decoders are put to the test.
Invariant: the exchange's books are never touched by a fault, and the same seed, clock and calls give the same answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Generic, NoReturn, TypeVar

from trueup.core.events import FrameQuarantined, OrderReported
from trueup.core.model import (
    AccountId,
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    ExecutionId,
    FeedName,
    NewOrder,
    OrderChange,
    OrderReport,
    OrderStatus,
    PositionReport,
    Snapshot,
    SnapshotScope,
    Source,
    Symbol,
)
from trueup.core.model import Execution as OurExecution
from trueup.core.model import OrderType as OurOrderType
from trueup.core.model import Quote as OurQuote
from trueup.core.model import Side as OurSide
from trueup.core.model import TimeInForce as OurTimeInForce
from trueup.errors import (
    BadCredentials,
    BadInput,
    BrokerUnavailable,
    FeedEnded,
    OutcomeUnknown,
    RateLimited,
    RequestRefused,
    TrueupError,
)
from trueup.ports import Clock, FeedItem, SnapshotRequest
from trueup.simulator.exchange import Exchange, View
from trueup.simulator.faults import Dice, Fault, Kind, Target, WallClock
from trueup.simulator.hours import Hours
from trueup.simulator.market import QuoteTick, Tick
from trueup.simulator.model import (
    AccountRules,
    EventKind,
    Execution,
    FillModel,
    Order,
    OrderEvent,
    OrderRequest,
    OrderType,
    Refused,
    ReplaceRequest,
    Side,
    Status,
    TimeInForce,
)
from trueup.simulator.streams import FrameLog, Gauntlet
from trueup.simulator.wire import event_facts
from trueup.simulator.world import World

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

ACCOUNT = AccountId("SIM-IN-PROCESS")
LINE_LIMIT = 20_000
"""Messages that may wait in one connection before the exchange cuts it."""

REFUSED_PAUSE_S = 2.0
"""How long a connection that was one too many is told to stay away."""

STATUS: Mapping[Status, OrderStatus] = {
    Status.ACCEPTED: OrderStatus.PENDING_NEW,
    Status.PENDING_NEW: OrderStatus.PENDING_NEW,
    Status.HELD: OrderStatus.PENDING_NEW,
    Status.NEW: OrderStatus.NEW,
    Status.PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
    Status.PENDING_CANCEL: OrderStatus.PENDING_CANCEL,
    Status.PENDING_REPLACE: OrderStatus.PENDING_REPLACE,
    Status.FILLED: OrderStatus.FILLED,
    Status.CANCELED: OrderStatus.CANCELED,
    Status.EXPIRED: OrderStatus.EXPIRED,
    Status.REPLACED: OrderStatus.REPLACED,
    Status.REJECTED: OrderStatus.REJECTED,
}

EXEC_TYPE: Mapping[EventKind, ExecType] = {
    EventKind.ACCEPTED: ExecType.PENDING_NEW,
    EventKind.PENDING_NEW: ExecType.PENDING_NEW,
    EventKind.NEW: ExecType.NEW,
    EventKind.PARTIAL_FILL: ExecType.TRADE,
    EventKind.FILL: ExecType.TRADE,
    EventKind.PENDING_CANCEL: ExecType.PENDING_CANCEL,
    EventKind.CANCELED: ExecType.CANCELED,
    EventKind.EXPIRED: ExecType.EXPIRED,
    EventKind.PENDING_REPLACE: ExecType.PENDING_REPLACE,
    EventKind.REPLACED: ExecType.REPLACED,
    EventKind.REJECTED: ExecType.REJECTED,
    EventKind.ORDER_CANCEL_REJECTED: ExecType.CANCEL_REJECTED,
    EventKind.ORDER_REPLACE_REJECTED: ExecType.REPLACE_REJECTED,
    EventKind.TRADE_BUST: ExecType.TRADE_CANCEL,
    EventKind.TRADE_CORRECT: ExecType.TRADE_CORRECT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long things take, in seconds; each is drawn evenly between its base and base plus `spread_s`."""

    request_s: float = 0.02
    event_s: float = 0.005
    connect_s: float = 0.05
    spread_s: float = 0.0
    give_up_s: float = 10.0
    """How long the client waits for an answer that never comes."""


class InProcess:
    """One exchange with its market and faults, and the three faces that a runtime is given.

    `run` lets time pass and must run beside the runtime; `act` changes the exchange as its operator would.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        seed: int,
        fill_model: FillModel | None = None,
        rules: AccountRules | None = None,
        delays: Delays | None = None,
        symbols: tuple[Symbol, ...] = (),
        tick_seconds: float = 0.5,
        connections_max: int = 1,
        only_these: bool = False,
        polls_apart: bool = False,
    ) -> None:
        """`only_these` lists no other symbols than `symbols`, which makes time cheaper.

        `polls_apart` reads every order that is asked for and no longer open by a request of its own, and so at another
        instant than the list of the open ones, as a client over the wire must.
        """
        self.world = World(
            clock=_Handed(clock),
            seed=seed,
            rules=rules or AccountRules(),
            fill_model=fill_model or FillModel(),
            hours=Hours(is_always_open=True),
            speed=1.0,
            tick_seconds=tick_seconds,
            recording=[],
            only=symbols if only_these else None,
        )
        self._clock = clock
        self._latency = _Latency(delays or Delays(), Dice(seed, "delays"))
        self._symbols = symbols
        self._connections_max = connections_max
        self._polls_apart = polls_apart
        self.broker, self.orders, self.quotes = self.faces()

    def faces(self) -> tuple[SimulatedBroker, SimulatedOrderEvents, SimulatedQuotes]:
        """A further set of faces, for another client of the same exchange."""
        log = FrameLog(self.world)
        return (
            SimulatedBroker(self.world, self._clock, self._latency, polls_apart=self._polls_apart),
            SimulatedOrderEvents(self.world, self._clock, self._latency, log, self._connections_max),
            SimulatedQuotes(self.world, self._clock, self._latency, log, self._symbols),
        )

    @property
    def exchange(self) -> Exchange:
        """The books, for reading; change them through `act`."""
        return self.world.exchange

    async def run(self) -> NoReturn:
        """Let time pass for ever."""
        await self.world.run()

    def act(self, change: Callable[[Exchange, datetime], AnswerT]) -> AnswerT:
        """Change the exchange now; its events are on their way when this returns."""
        return self.world.act(lambda at: change(self.world.exchange, at))

    def fault(self, target: str, kind: str, **terms: object) -> Fault:
        """Start a fault; a drop without a match cuts what is connected at once. Raises `FaultInvalid`."""
        fault = self.world.faults.add({"target": target, "kind": kind, **terms})
        if fault.kind is Kind.DROP and not fault.match and fault.target is not Target.REST:
            self.world.faults.strike(fault.target, (Kind.DROP,), {})
            (self.orders if fault.target is Target.TRADE_UPDATES else self.quotes).cut()
        return fault


class _Handed(WallClock):
    """The clock that was handed in, as the simulator's own kind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        """The present instant, UTC."""
        return self._clock.now()

    def monotonic_ns(self) -> int:
        """Nanoseconds that never run backwards."""
        return round(self._clock.monotonic() * 1e9)


class _Latency:
    """Draws how long each thing takes."""

    def __init__(self, delays: Delays, dice: Dice) -> None:
        self.delays = delays
        self._dice = dice

    def draw(self, base_s: float) -> float:
        """Seconds."""
        return base_s + self._dice.draw() * self.delays.spread_s if self.delays.spread_s else base_s


# --- requests -----------------------------------------------------------------------------------------------------


class SimulatedBroker:
    """The exchange asked by request and answer, with the wire's failures and without its wire."""

    def __init__(self, world: World, clock: Clock, latency: _Latency, *, polls_apart: bool = False) -> None:
        self.name = "simulator"
        self.received: list[str] = []
        """Every request that got as far as the exchange: what was asked, and its client or broker order id."""
        self._world = world
        self._clock = clock
        self._latency = latency
        self._polls_apart = polls_apart
        self._keys_are_known = True

    def forget_keys(self) -> None:
        """Know the client's keys no more."""
        self._keys_are_known = False

    async def submit(self, order: NewOrder) -> OrderReport:
        """Send a new order once; a client order id that stands already with the same terms is the same order."""

        def carry_out() -> OrderReport:
            self.received.append(f"submit {order.client_order_id}")
            try:
                return _report(self._world.act(lambda at: self._world.exchange.submit(_request(order), at)))
            except Refused as refused:
                same = self._standing(order)
                if same is None:
                    raise _refusal(refused) from None
                return same

        facts = {
            "path": "/v2/orders",
            "method": "POST",
            "symbol": order.symbol,
            "side": order.side.value.lower(),
            "client_order_id": order.client_order_id,
        }
        return await self._asked(facts, carry_out)

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """Ask for a cancel; returning means asked."""

        def carry_out() -> None:
            self.received.append(f"cancel {broker_order_id}")
            try:
                self._world.act(lambda at: self._world.exchange.cancel(broker_order_id, at))
            except Refused as refused:
                raise _refusal(refused) from None

        await self._asked({"path": f"/v2/orders/{broker_order_id}", "method": "DELETE"}, carry_out)

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """Ask for new terms; returns the report of the replacing order."""
        request = ReplaceRequest(
            qty=change.quantity,
            limit_price=change.limit_price,
            stop_price=change.stop_price,
            client_order_id=change.client_order_id,
        )

        def carry_out() -> OrderReport:
            self.received.append(f"replace {change.client_order_id}")
            try:
                return _report(
                    self._world.act(lambda at: self._world.exchange.replace(broker_order_id, request, at)),
                )
            except Refused as refused:
                raise _refusal(refused) from None

        facts = {
            "path": f"/v2/orders/{broker_order_id}",
            "method": "PATCH",
            "client_order_id": str(change.client_order_id),
        }
        return await self._asked(facts, carry_out)

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        """Look one order up by exactly one id; None is the broker's word that there is none."""
        if (client_order_id is None) == (broker_order_id is None):
            raise BadInput("find takes exactly one of client_order_id and broker_order_id", field="client_order_id")
        facts: dict[str, str | None] = {"method": "GET"}
        if client_order_id is not None:
            facts |= {"path": "/v2/orders:by_client_order_id", "client_order_id": client_order_id}
        else:
            facts["path"] = f"/v2/orders/{broker_order_id}"

        def look(view: View) -> OrderReport | None:
            try:
                if client_order_id is not None:
                    return _report(view.order_by_client_id(client_order_id))
                return _report(view.order(str(broker_order_id)))
            except Refused:
                return None

        return await self._read(facts, look)

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """The books at one instant between the two named, unless polls are read apart; all of it, or it fails."""
        started_at = self._clock.now()
        if request.scope is SnapshotScope.ORDERS and self._polls_apart:
            return await self._polled(request, started_at)
        wants_orders = request.scope is not SnapshotScope.POSITIONS
        wants_money = request.scope is not SnapshotScope.ORDERS
        paths = {"/v2/orders": wants_orders, "/v2/positions": wants_money, "/v2/account": wants_money}
        paths["/v2/account/activities"] = request.scope is SnapshotScope.FULL
        wanted = [path for path, is_wanted in paths.items() if is_wanted]
        as_of: datetime | None = None
        for path in wanted[:-1]:
            # Every list is asked for by a request of its own, so each can fail; the last one reads.
            as_of = await self._asked({"path": path, "method": "GET"}, self._as_of) or as_of

        def read(view: View) -> Snapshot:
            return self._snapshot(view, request, started_at, wants_orders=wants_orders, wants_money=wants_money)

        return await self._read({"path": wanted[-1], "method": "GET"}, read, as_of)

    async def _polled(self, request: SnapshotRequest, started_at: datetime) -> Snapshot:
        def open_ones(view: View) -> list[OrderReport]:
            return [_told(order) for order in view.orders() if order.is_open]

        rows = await self._read({"path": "/v2/orders", "method": "GET"}, open_ones)
        missing = sorted(set(request.known) - {row.broker_order_id for row in rows})
        asked = (self.find(broker_order_id=order_id) for order_id in missing)
        found: list[OrderReport | None] = []
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
        return Snapshot(
            scope=request.scope,
            started_at=started_at,
            finished_at=self._clock.now(),
            orders=(*rows, *(row for row in found if row is not None)),
            absent=tuple(order_id for order_id, row in zip(missing, found, strict=True) if row is None),
        )

    async def close(self) -> None:
        """Nothing is held open."""

    def _snapshot(
        self, view: View, request: SnapshotRequest, started_at: datetime, *, wants_orders: bool, wants_money: bool
    ) -> Snapshot:
        orders = {order.id: order for order in view.orders()} if wants_orders else {}
        since = request.since
        full = request.scope is SnapshotScope.FULL
        known = set(request.known)
        told = [
            order
            for order in orders.values()
            if order.is_open or order.id in known or (full and (since is None or order.updated_at >= since))
        ]
        executions = [execution for execution in view.executions() if full and (since is None or execution.at >= since)]
        return Snapshot(
            scope=request.scope,
            started_at=started_at,
            finished_at=self._clock.now(),
            orders=tuple(_told(order) for order in told),
            executions=tuple(_execution(execution, execution.cum_qty) for execution in executions),
            absent=tuple(sorted(known - orders.keys())) if wants_orders else (),
            positions=self._positions(view) if wants_money else None,
            account=self._account(view) if wants_money else None,
        )

    def _positions(self, view: View) -> tuple[PositionReport, ...]:
        reports = []
        for symbol, position in view.positions().items():
            quote = self._world.exchange.quote(symbol)
            reports.append(
                PositionReport(
                    symbol=Symbol(symbol),
                    quantity=position.qty,
                    average_price=position.avg_entry_price,
                    market_value=position.qty * quote.last if quote is not None else None,
                    current_price=quote.last if quote is not None else None,
                )
            )
        return tuple(reports)

    def _account(self, view: View) -> AccountReport:
        totals = view.totals()
        return AccountReport(
            account_id=ACCOUNT,
            cash=totals.cash,
            equity=totals.equity,
            last_equity=self._world.equity[0][1],
            buying_power=totals.buying_power,
        )

    def _standing(self, order: NewOrder) -> OrderReport | None:
        """The order that this client order id names already, when it has the same terms."""
        try:
            report = _report(self._world.exchange.view().order_by_client_id(order.client_order_id))
        except Refused:
            return None
        terms = (order.symbol, order.side, order.quantity, order.limit_price, order.stop_price)
        theirs = (report.symbol, report.side, report.quantity, report.limit_price, report.stop_price)
        return report if theirs == terms else None

    async def _read(
        self, facts: Mapping[str, str | None], look: Callable[[View], AnswerT], as_of: datetime | None = None
    ) -> AnswerT:
        def carry_out() -> AnswerT:
            lagged = self._as_of()
            past = min(at for at in (as_of, lagged) if at is not None) if as_of or lagged else None
            self._world.exchange.advance(self._clock.now())
            return look(self._world.exchange.view(past))

        return await self._asked(facts, carry_out)

    def _as_of(self) -> datetime | None:
        """How old the answers to reads are now; None when they are fresh."""
        fault = self._world.faults.strike(Target.REST, (Kind.LAG,), {"method": "GET"})
        return None if fault is None else self._clock.now() - timedelta(seconds=fault.by_seconds)

    async def _asked(self, facts: Mapping[str, str | None], carry_out: Callable[[], AnswerT]) -> AnswerT:
        """One request through everything that can go wrong with it, in the order in which the wire would meet it."""
        is_read = facts["method"] == "GET"
        what = f"{facts['method']} {facts['path']}"
        delays = self._latency.delays
        await self._clock.sleep(self._latency.draw(delays.request_s / 2))
        if not self._keys_are_known:
            raise BadCredentials("the broker does not know these keys")
        if self._struck(Kind.DROP, facts):
            raise _lost(is_read, f"{what}: the connection was cut")
        if self._struck(Kind.REFUSE, facts):
            raise _lost(is_read, f"{what}: HTTP 503")
        if fault := self._struck(Kind.RATE_LIMIT, facts):
            raise RateLimited(f"{what}: too many requests", retry_after_s=max(fault.by_seconds, 1.0))
        if self._struck(Kind.TIMEOUT, facts):
            await self._clock.sleep(delays.give_up_s)
            raise _lost(is_read, f"{what}: no answer")
        if fault := self._struck(Kind.ERROR, facts):
            status = fault.status if isinstance(fault.status, int) else 500
            if status < 500 and not is_read:
                raise RequestRefused(f"{what}: refused by a fault", status=status)
            raise _lost(is_read, f"{what}: HTTP {status}")
        if fault := self._struck(Kind.DELAY, facts):
            await self._clock.sleep(fault.by_seconds)
        lost = self._struck(Kind.LOST_REPLY, facts)
        refusal: RequestRefused | None = None
        answer: list[AnswerT] = []
        try:
            answer.append(carry_out())
        except RequestRefused as refused:
            refusal = refused
        if lost is not None:
            await self._clock.sleep(delays.give_up_s if lost.status == "hang" else 0.0)
            raise _lost(is_read, f"{what}: the answer was lost")
        await self._clock.sleep(self._latency.draw(delays.request_s / 2))
        if refusal is not None:
            raise refusal
        return answer[0]

    def _struck(self, kind: Kind, facts: Mapping[str, str | None]) -> Fault | None:
        return self._world.faults.strike(Target.REST, (kind,), facts)


def _lost(is_read: bool, what: str) -> TrueupError:
    """What a client must make of a request without a readable answer."""
    return BrokerUnavailable(what) if is_read else OutcomeUnknown(f"{what}; it may have been carried out")


def _refusal(refused: Refused) -> RequestRefused:
    return RequestRefused(refused.message, status=refused.status, code=str(refused.code))


# --- streams ------------------------------------------------------------------------------------------------------


class _Line(Generic[ItemT]):
    """One connection: messages in the order in which they were sent, each readable once it has travelled."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: deque[tuple[float, ItemT]] = deque()
        self._woken = asyncio.Event()
        self._ended: str | None = None

    def put(self, item: ItemT, travels_s: float) -> None:
        """Send one message; never overtakes the one before."""
        if len(self._under_way) >= LINE_LIMIT:
            self.cut("the connection was cut: the reader is too slow")
        arrives = self._clock.monotonic() + travels_s
        if self._under_way:
            arrives = max(arrives, self._under_way[-1][0])
        self._under_way.append((arrives, item))
        self._woken.set()

    def cut(self, reason: str) -> None:
        """End the connection; what is still under way is lost with it."""
        self._ended = reason
        self._under_way.clear()
        self._woken.set()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        while True:
            if self._ended is not None:
                raise FeedEnded(self._ended)
            if self._under_way:
                wait = self._under_way[0][0] - self._clock.monotonic()
                if wait <= 0:
                    return self._under_way.popleft()[1]
                self._woken.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
                except TimeoutError:
                    continue
            else:
                self._woken.clear()
                await self._woken.wait()


class _Stream(Generic[ItemT]):
    """What both streams share: who is connected, and what a connect may meet."""

    def __init__(self, world: World, clock: Clock, latency: _Latency, target: Target, connections_max: int) -> None:
        self.keys_are_known = True
        self.connects = 0
        """How many connections were opened so far."""
        self._world = world
        self._clock = clock
        self._latency = latency
        self._target = target
        self._connections_max = connections_max
        self._lines: list[_Line[ItemT]] = []

    @property
    def connections(self) -> int:
        """How many are connected now."""
        return len(self._lines)

    def cut(self) -> None:
        """Cut every connection without a goodbye."""
        for line in self._lines:
            line.cut("the connection was lost")

    def inject(self, item: ItemT) -> None:
        """Send something of the operator's own making, past all faults."""
        self._send([item])

    def _send(self, items: list[ItemT]) -> None:
        travels_s = self._latency.draw(self._latency.delays.event_s)
        for item in items:
            for line in self._lines:
                line.put(item, travels_s)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Line[ItemT]]:
        await self._clock.sleep(self._latency.draw(self._latency.delays.connect_s))
        if not self.keys_are_known:
            raise BadCredentials("the broker does not know these keys")
        if self._world.faults.strike(self._target, (Kind.REFUSE,), {}) or len(self._lines) >= self._connections_max:
            raise FeedEnded("too many connections", retry_after_s=REFUSED_PAUSE_S)
        if self._world.faults.strike(self._target, (Kind.DROP,), {}):
            raise FeedEnded("the connection was refused")
        line: _Line[ItemT] = _Line(self._clock)
        self._lines.append(line)
        self.connects += 1
        try:
            yield line
        finally:
            self._lines.remove(line)


class SimulatedOrderEvents:
    """The stream of order events, as a `Feed[FeedItem]`."""

    name = FeedName.BROKER_EVENTS

    def __init__(self, world: World, clock: Clock, latency: _Latency, log: FrameLog, connections_max: int) -> None:
        self._clock = clock
        self._stream: _Stream[OrderEvent | str] = _Stream(world, clock, latency, Target.TRADE_UPDATES, connections_max)
        self._gauntlet: Gauntlet[OrderEvent | str] = Gauntlet(
            world.faults, Target.TRADE_UPDATES, self._stream._send, self.cut, log
        )
        world.on_order_event(self._happened)

    @property
    def connects(self) -> int:
        """How many connections were opened so far."""
        return self._stream.connects

    @property
    def connections(self) -> int:
        """How many are connected now."""
        return self._stream.connections

    def forget_keys(self) -> None:
        """Know the client's keys no more."""
        self._stream.keys_are_known = False

    def cut(self) -> None:
        """Cut every connection without a goodbye."""
        self._stream.cut()

    def garble(self, raw: str) -> None:
        """Send a frame that can't be read."""
        self._stream.inject(raw)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[FeedItem]]:
        """Connect and be confirmed; then deliver. Raises `FeedEnded` or `BadCredentials`."""
        async with self._stream._connected() as line:
            yield _InOurWords(line, self._clock)

    def _happened(self, event: OrderEvent) -> None:
        if self._stream.connections:
            self._gauntlet.run([(event_facts(event), event)])


class _InOurWords:
    """Events of one connection, translated as they are taken; the instant of taking is that of arrival."""

    def __init__(self, line: _Line[OrderEvent | str], clock: Clock) -> None:
        self._line = line
        self._clock = clock

    def __aiter__(self) -> AsyncIterator[FeedItem]:
        return self

    async def __anext__(self) -> FeedItem:
        item = await anext(self._line)
        at = self._clock.now()
        if isinstance(item, str):
            return FrameQuarantined(at=at, feed=FeedName.BROKER_EVENTS, raw=item, reason="not to be read")
        return _reported(item, at)


class SimulatedQuotes:
    """The stream of quotes, as a `QuoteFeed`."""

    name = FeedName.MARKET_DATA

    def __init__(
        self, world: World, clock: Clock, latency: _Latency, log: FrameLog, symbols: tuple[Symbol, ...]
    ) -> None:
        self._symbols = symbols
        self._stream: _Stream[OurQuote] = _Stream(world, clock, latency, Target.MARKET_DATA, 1)
        self._gauntlet: Gauntlet[OurQuote] = Gauntlet(
            world.faults, Target.MARKET_DATA, self._stream._send, self.cut, log
        )
        world.on_ticks(self._ticked)

    def symbols(self) -> tuple[Symbol, ...]:
        """What is subscribed to."""
        return self._symbols

    @property
    def connections(self) -> int:
        """How many are connected now."""
        return self._stream.connections

    def forget_keys(self) -> None:
        """Know the client's keys no more."""
        self._stream.keys_are_known = False

    def cut(self) -> None:
        """Cut every connection without a goodbye."""
        self._stream.cut()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[OurQuote]]:
        """Connect and be confirmed; then deliver. Raises `FeedEnded` or `BadCredentials`."""
        async with self._stream._connected() as line:
            yield line

    def _ticked(self, ticks: list[Tick]) -> None:
        if not self._stream.connections:
            return
        quotes = [tick for tick in ticks if isinstance(tick, QuoteTick) and tick.symbol in self._symbols]
        self._gauntlet.run([({"event": "quote", "symbol": tick.symbol}, _quote(tick)) for tick in quotes])


# --- the exchange's words into ours -------------------------------------------------------------------------------


def _request(order: NewOrder) -> OrderRequest:
    try:
        order_type = OrderType(order.order_type.value.lower())
        time_in_force = TimeInForce(order.time_in_force.value.lower())
    except ValueError as unknown:
        raise RequestRefused(f"this exchange does not offer it: {unknown}", status=422, code="40010001") from None
    if order_type is OrderType.TRAILING_STOP:
        told = "this exchange does not offer a trailing stop that names no distance"
        raise RequestRefused(told, status=422, code="40010001")
    return OrderRequest(
        symbol=order.symbol,
        side=Side(order.side.value.lower()),
        type=order_type,
        time_in_force=time_in_force,
        qty=order.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        client_order_id=order.client_order_id,
        extended_hours=order.extended_hours,
    )


def _told(order: Order) -> OrderReport:
    return _report(order, parent=order.group.parent if order.group else None)


def _report(order: Order, reason: str | None = None, *, parent: str | None = None) -> OrderReport:
    """One order; whose leg it is only a snapshot tells, as on the wire, where only a nested list does."""
    return OrderReport(
        broker_order_id=BrokerOrderId(order.id),
        symbol=Symbol(order.symbol),
        side=OurSide(order.side.value.upper()),
        status=STATUS[order.status],
        filled_quantity=order.filled_qty,
        client_order_id=ClientOrderId(order.client_order_id),
        order_type=OurOrderType(order.type.value.upper()),
        time_in_force=OurTimeInForce(order.time_in_force.value.upper()),
        quantity=order.qty,
        notional=order.notional,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        average_price=order.filled_avg_price,
        raw_status=order.status.value,
        version=order.updated_at,
        submitted_at=order.submitted_at,
        filled_at=order.filled_at,
        replaces=BrokerOrderId(order.replaces) if order.replaces else None,
        replaced_by=BrokerOrderId(order.replaced_by) if order.replaced_by else None,
        parent=BrokerOrderId(parent) if parent else None,
        order_class=order.group.order_class.value if order.group else "",
        reason=reason or "",
    )


def _execution(execution: Execution, cum_quantity: Decimal | None) -> OurExecution:
    return OurExecution(
        execution_id=ExecutionId(execution.id),
        broker_order_id=BrokerOrderId(execution.order_id),
        symbol=Symbol(execution.symbol),
        side=OurSide(execution.side.value.upper()),
        quantity=execution.qty,
        price=execution.price,
        at=execution.at,
        cum_quantity=cum_quantity,
    )


def _reported(event: OrderEvent, at: datetime) -> OrderReported:
    execution, refers_to = event.execution, None
    exec_type = EXEC_TYPE[event.kind]
    if exec_type is ExecType.TRADE_CANCEL and execution is not None:
        refers_to = ExecutionId(execution.id)
    elif event.previous_execution_id is not None:
        refers_to = ExecutionId(event.previous_execution_id)
    cum = event.order.filled_qty if exec_type is ExecType.TRADE else None
    return OrderReported(
        at=at,
        source=Source.STREAM,
        exec_type=exec_type,
        report=_report(event.order, event.reason),
        execution=_execution(execution, cum) if execution is not None else None,
        refers_to=refers_to,
        broker_at=execution.at if execution is not None else event.at,
    )


def _quote(tick: QuoteTick) -> OurQuote:
    return OurQuote(
        symbol=Symbol(tick.symbol),
        bid=tick.bid,
        ask=tick.ask,
        at=tick.at,
        bid_size=Decimal(tick.bid_size),
        ask_size=Decimal(tick.ask_size),
    )
