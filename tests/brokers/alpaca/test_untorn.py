"""A full snapshot is a state of the books at one instant, or it is none: every interleaving, enumerated.

The simulator is brought from state to state by an event or two, and in each state everything that can be asked is
recorded. Then the client's passes are played against the recordings with each of its requests answered from before or
after each event, in every combination that time allows. What is accepted must equal one recorded state, in orders'
fills, executions, positions and cash, and one that is no older than `started_at` says.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from trueup.brokers.alpaca.client import AlpacaBroker
from trueup.brokers.alpaca.decode import instant
from trueup.brokers.alpaca.rest import ClientOptions, Lane
from trueup.brokers.alpaca.untorn import Reading, adds_up, goes_back, stood_still
from trueup.core.model import BrokerOrderId, Snapshot, SnapshotScope
from trueup.errors import BrokerUnavailable, RequestRefused
from trueup.ports import SnapshotRequest

LISTS = ("open", "all", "fills", "positions", "account")
START = datetime(2026, 5, 11, 14, 0, tzinfo=UTC)


@dataclass
class State:
    """All answers of the broker in one state of its books, and the books."""

    answers: dict[str, Any]
    truth: dict[str, Any]

    def filled(self) -> dict[str, Decimal]:
        return {order["id"]: Decimal(order["filled_qty"]) for order in self.truth["orders"]}

    def statuses(self) -> dict[str, str]:
        return {order["id"]: order["status"] for order in self.truth["orders"]}

    def positions(self) -> dict[str, Decimal]:
        return {name: Decimal(shares) for name, shares in self.truth["positions"].items() if Decimal(shares)}

    def executions(self) -> set[str]:
        return {raw["id"].rpartition("::")[2] for raw in self.answers["fills"]}


Pass = dict[str, int]
"""From which state each list of a pass, and whatever it looks up by id, is answered."""


class Replayed:
    """The wire: answers each request from the state that the plan says; after the plan everything is as at the end."""

    def __init__(self, states: list[State]) -> None:
        self.states = states
        self.plan: list[Pass] = []
        self.passes = 0

    def play(self, plan: list[Pass]) -> None:
        self.plan, self.passes = plan, 0

    def of_pass(self, number: int) -> Pass:
        """What pass `number`, from 0, sees."""
        return self.plan[number] if number < len(self.plan) else still(len(self.states) - 1)

    async def call(self, lane: Lane, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        assert (lane, method) == (Lane.READ, "GET")
        match path:
            case "/orders":
                what = key = str((data or {})["status"])
            case "/account/activities":
                what = key = "fills"
            case "/positions" | "/account":
                what = key = path[1:]
            case _:
                what, key = "by id", path.rpartition("/")[2]
        if what == "open":
            self.passes += 1
        at = self.of_pass(self.passes - 1)[what]
        if key not in self.states[at].answers:
            raise RequestRefused("order not found", status=404, code="40410000")
        return self.states[at].answers[key]

    def close(self) -> None:
        """There is nothing to cut."""


class Ticks:
    """A clock that moves when it is looked at, and remembers how many passes had begun by then."""

    def __init__(self, wire: Replayed) -> None:
        self.wire = wire
        self.begun: dict[datetime, int] = {}

    def now(self) -> datetime:
        at = START + timedelta(seconds=len(self.begun))
        self.begun[at] = self.wire.passes
        return at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


Event = Callable[[], Awaitable[Any]]


@dataclass
class Hand:
    """The hand on the simulator: an old order outside of the lists' window, two young ones, and one long done."""

    bench: Any
    ids: dict[str, str]

    async def order(self, name: str, side: str = "buy", symbol: str = "AAPL") -> None:
        terms = {"symbol": symbol, "side": side, "qty": "10", "type": "limit", "limit_price": "100"}
        self.ids[name] = (await self.bench.post("/sim/orders", **terms, forced=True))["id"]

    def fill(self, name: str, shares: str = "5", price: str = "100.01", *, forced: bool = False) -> Event:
        async def act() -> Any:
            terms = {"order_id": self.ids[name], "qty": shares, "price": price, "forced": forced}
            self.ids[f"fill of {name}"] = (await self.bench.post("/sim/fill", **terms))["execution_id"]

        return act

    def bust(self, name: str) -> Event:
        return lambda: self.bench.post("/sim/bust", execution_id=self.ids[f"fill of {name}"])

    def cancel(self, name: str) -> Event:
        async def act() -> None:
            assert (await self.bench.http.delete(f"/sim/orders/{self.ids[name]}")).status_code == 200

        return act

    def replace(self, name: str) -> Event:
        async def act() -> None:
            answer = await self.bench.http.patch(f"/v2/orders/{self.ids[name]}", json={"limit_price": "101"})
            assert answer.status_code == 200, answer.text

        return act

    def transfer(self, shares: str, dollars: str = "0") -> Event:
        return lambda: self.bench.post("/sim/adjust", symbol="AAPL", qty=shares, net_amount=dollars)

    def split(self) -> Event:
        return lambda: self.bench.post("/sim/adjust", symbol="AAPL", ratio="2")

    def submit(self) -> Event:
        return lambda: self.order("new", "sell", "MSFT")


STORIES: dict[str, Callable[[Hand], list[Event]]] = {
    "a part of a young order fills": lambda hand: [hand.fill("young")],
    "all of an old order fills, and it leaves the open list": lambda hand: [hand.fill("old", "10")],
    "an order fills twice": lambda hand: [hand.fill("young"), hand.fill("young", "3", "100.02")],
    "a round trip at one price": lambda hand: [hand.fill("young"), hand.fill("sale")],
    "a round trip in an old order": lambda hand: [hand.fill("sale", "10"), hand.fill("old", "10")],
    "an old order is cancelled": lambda hand: [hand.cancel("old")],
    "a young order is cancelled": lambda hand: [hand.cancel("young")],
    "an old order fills and is cancelled": lambda hand: [hand.fill("old"), hand.cancel("old")],
    "a replace": lambda hand: [hand.replace("young")],
    "a replace of an old order after a fill": lambda hand: [hand.fill("old"), hand.replace("old")],
    "an order is sent and fills": lambda hand: [hand.submit(), hand.fill("new", "10", "99.5")],
    "an order long done fills late": lambda hand: [hand.fill("done", "3", "99", forced=True)],
    "shares are transferred": lambda hand: [hand.transfer("-5")],
    "shares are transferred for money": lambda hand: [hand.transfer("7", "-70")],
    "a transfer and another fill": lambda hand: [hand.transfer("-4"), hand.fill("young")],
    "a fill and another transfer": lambda hand: [hand.fill("sale"), hand.transfer("2")],
    "a split": lambda hand: [hand.split()],
    "a fill is annulled": lambda hand: [hand.bust("young at first")],
    "a fill comes and is annulled": lambda hand: [hand.fill("sale"), hand.bust("sale")],
}
BY_FILLS_ALONE = tuple(name for name in STORIES if not any(word in name for word in ("transfer", "split", "annulled")))


@dataclass
class Played:
    """A client on recorded answers."""

    broker: AlpacaBroker
    wire: Replayed
    ticks: Ticks
    known: tuple[BrokerOrderId, ...]
    since: datetime
    base: Reading | None = None

    async def snapshot(self, plan: list[Pass]) -> Snapshot:
        self.broker._base = self.base
        self.wire.play(plan)
        request = SnapshotRequest(scope=SnapshotScope.FULL, known=self.known, since=self.since)
        return await self.broker.snapshot(request)

    def is_a_state(self, snapshot: Snapshot) -> bool:
        """True when the snapshot is one of the states that the books can have had since it began.

        What every request of its pass saw may have happened before; so the oldest of them is where that begins.
        """
        assert snapshot.absent == (), "every order here exists"
        assert snapshot.account is not None
        assert snapshot.positions is not None
        rows = {str(row.broker_order_id): row.filled_quantity for row in snapshot.orders}
        assert set(self.known) <= rows.keys()
        held = {str(position.symbol): position.quantity for position in snapshot.positions}
        executions = {str(execution.execution_id) for execution in snapshot.executions}
        its_pass = self.wire.of_pass(self.ticks.begun[snapshot.started_at])
        oldest = min(its_pass[each] for each in LISTS)
        later = [state.statuses() for state in self.wire.states[oldest:]]
        assert all(
            any(told.get(str(row.broker_order_id)) == row.raw_status for told in later) for row in snapshot.orders
        )
        raw = {str(row.broker_order_id): row.raw_status for row in snapshot.orders}
        for row in snapshot.orders:
            old, new = str(row.replaces), str(row.broker_order_id)
            if old in raw:
                together = [(told.get(old), told.get(new)) for told in later]
                assert (raw[old], raw[new]) in together, "of an order and its replacement one is live"
        return any(
            held == state.positions()
            and snapshot.account.cash == Decimal(state.truth["cash"])
            and executions == state.executions()
            and all(state.filled().get(name, Decimal(0)) == filled for name, filled in rows.items())
            for state in self.wire.states[oldest:]
        )


@asynccontextmanager
async def played(make_bench: Any, story: Callable[[Hand], list[Event]], *, based: bool) -> AsyncIterator[Played]:
    bench = await make_bench()
    hand = Hand(bench, {})
    await hand.order("done")
    await hand.fill("done", "10", "98")()
    await hand.order("old")
    since = instant((await bench.get(f"/v2/orders/{hand.ids['old']}"))["submitted_at"])
    assert since is not None
    await hand.order("young")
    await hand.order("sale", "sell")
    await hand.fill("young", "2", "100")()
    hand.ids["fill of young at first"] = hand.ids["fill of young"]
    known = tuple(BrokerOrderId(hand.ids[name]) for name in ("old", "young", "sale"))
    states = [await recorded(bench, since)]
    for event in story(hand):
        await event()
        states.append(await recorded(bench, since))
    wire = Replayed(states)
    ticks = Ticks(wire)
    options = ClientOptions(requests_per_minute=0, slack_s=0, snapshot_tries=8)
    broker = AlpacaBroker(key="SIM", secret="SIM", url=bench.sim.url, clock=ticks, options=options)
    await broker.close()
    broker._rest = wire  # type: ignore[assignment]
    scene = Played(broker, wire, ticks, known, since)
    if based:
        await scene.snapshot([still(0)] * 3)
        scene.base = broker._base
        assert scene.base is not None
    yield scene


async def recorded(bench: Any, since: datetime) -> State:
    after = since.isoformat().replace("+00:00", "Z")
    truth = await bench.get("/sim/truth")
    answers = {
        "open": await bench.get("/v2/orders?status=open&limit=500&direction=asc"),
        "all": (
            await bench.http.get(
                "/v2/orders", params={"status": "all", "limit": 500, "after": after, "direction": "asc"}
            )
        ).json(),
        "fills": (
            await bench.http.get(
                "/v2/account/activities", params={"activity_types": "FILL", "after": after, "direction": "asc"}
            )
        ).json(),
        "positions": await bench.get("/v2/positions"),
        "account": await bench.get("/v2/account"),
    }
    for order in truth["orders"]:
        answers[order["id"]] = await bench.get(f"/v2/orders/{order['id']}")
    return State(answers, truth)


def still(state: int) -> Pass:
    """A pass during which nothing happened."""
    return dict.fromkeys((*LISTS, "by id"), state)


def passes(low: int, high: int) -> Iterator[Pass]:
    """Every pass that begins no earlier than in state `low` and ends no later than in `high`."""
    for seen in itertools.product(range(low, high + 1), repeat=len(LISTS)):
        for looked_up in {max(seen), high}:  # what is looked up is asked for after the lists have answered
            yield {**dict(zip(LISTS, seen, strict=True)), "by id": looked_up}


def plans(events: int, during: int) -> Iterator[list[Pass]]:
    """Every way in which the events fall into, or between, the first `during` passes."""
    for places in itertools.combinations_with_replacement(range(during), events):
        reached = 0
        each: list[list[Pass]] = []
        for number in range(during):
            low, reached = reached, reached + places.count(number)
            each.append(list(passes(low, reached)))
        yield from (list(plan) for plan in itertools.product(*each))


@pytest.mark.parametrize("name", STORIES)
async def test_a_pass_that_adds_up_is_a_state_of_the_books(make_bench: Any, name: str) -> None:
    """Each event during the first pass, or the first during it and the second during the next."""
    async with played(make_bench, STORIES[name], based=True) as scene:
        events = len(scene.wire.states) - 1
        at_once = 0
        for plan in plans(events, min(events, 2)):
            snapshot = await scene.snapshot(plan)
            assert scene.is_a_state(snapshot), plan
            at_once += scene.wire.passes == 1
            if name in BY_FILLS_ALONE:
                quiet = next((number for number, each in enumerate(plan) if len(set(each.values())) == 1), len(plan))
                assert scene.wire.passes <= quiet + 1, "a pass during which nothing happens is enough"
        assert at_once, "the first pass never sufficed"
        books = [(state.positions(), state.truth["cash"], state.executions()) for state in scene.wire.states]
        assert bool(scene.broker.oddities["torn_snapshot"]) == (books[0] != books[-1] or books[0] != books[1])


@pytest.mark.parametrize("name", [name for name in STORIES if "round trip at" in name or "transferred" in name])
async def test_three_equal_passes_are_a_state_of_the_books(make_bench: Any, name: str) -> None:
    """Without a base: each event during any of the first three passes."""
    async with played(make_bench, STORIES[name], based=False) as scene:
        for plan in plans(len(scene.wire.states) - 1, 3):
            snapshot = await scene.snapshot(plan)
            assert scene.is_a_state(snapshot), plan
            assert scene.wire.passes >= 3
        assert scene.broker.oddities["torn_snapshot"]


async def test_two_equal_passes_can_both_be_wrong(make_bench: Any) -> None:
    """Bought between positions and fills of the first, sold between fills and positions of the second."""
    torn = {"positions": 0, "account": 0, "open": 1, "all": 1, "fills": 1, "by id": 1}
    torn_too = {"positions": 2, "account": 2, "open": 1, "all": 1, "fills": 1, "by id": 1}
    async with played(make_bench, STORIES["a round trip at one price"], based=False) as scene:
        scene.wire.play([torn, torn_too])
        first = await scene.broker._reading(scene.known, scene.since)
        second = await scene.broker._reading(scene.known, scene.since)
        assert first.state() == second.state()
        bought = sum(execution.quantity for execution in first.executions.values())
        assert (bought, first.quantities()) == (Decimal(7), {"AAPL": Decimal(12)}), "5 bought, and not held"
        snapshot = await scene.snapshot([torn, torn_too])
        assert scene.is_a_state(snapshot)
        assert scene.wire.passes == 5


async def test_the_one_thing_that_deceives_the_sum_is_found_by_the_next_pass(make_bench: Any) -> None:
    """5 shares are taken away before the pass, and 5 are bought during it, seen in the positions alone."""
    story = lambda hand: [hand.transfer("-5"), hand.fill("young")]  # noqa: E731
    async with played(make_bench, story, based=True) as scene:
        unseen = {**still(1), "positions": 2}
        snapshot = await scene.snapshot([unseen])
        assert not scene.is_a_state(snapshot)
        scene.base = scene.broker._base
        snapshot = await scene.snapshot([])
        assert scene.is_a_state(snapshot)
        assert scene.wire.passes == 3


async def test_books_that_move_within_every_pass_give_no_snapshot_and_keep_the_base(make_bench: Any) -> None:
    fills = [("young", "1"), ("sale", "1")] * 8
    story = lambda hand: [hand.fill(name, shares) for name, shares in fills[:16]]  # noqa: E731
    async with played(make_bench, story, based=True) as scene:
        plan = [{**still(number), "positions": number + 1} for number in range(8)]
        with pytest.raises(BrokerUnavailable, match="changed during each of 8 readings"):
            await scene.snapshot(plan)
        assert scene.broker._base is scene.base
        snapshot = await scene.snapshot([])
        assert scene.wire.passes == 1
        assert scene.is_a_state(snapshot)


async def test_a_copy_of_the_books_that_lags_behind_is_not_believed(make_bench: Any) -> None:
    """All lists alike are from before the base: they add up, and are old."""
    async with played(make_bench, STORIES["an old order is cancelled"], based=False) as scene:
        await scene.snapshot([])
        newest = scene.base = scene.broker._base
        snapshot = await scene.snapshot([still(0), still(0)])
        assert scene.wire.passes == 3
        assert scene.is_a_state(snapshot)
        assert [row.raw_status for row in snapshot.orders if row.broker_order_id == scene.known[0]] == ["canceled"]
        assert scene.broker.oddities["stale_snapshot"] == 2
        with pytest.raises(BrokerUnavailable):
            await scene.snapshot([still(0)] * 8)
        assert newest is not None
        assert scene.broker._base is None, "else a broker that numbers backwards would never be heard again"


async def test_another_account_is_no_base(make_bench: Any) -> None:
    async with played(make_bench, STORIES["a part of a young order fills"], based=True) as scene:
        assert scene.base is not None
        scene.base = replace(scene.base, account=replace(scene.base.account, account_id="another"))  # type: ignore[arg-type]
        snapshot = await scene.snapshot([])
        assert scene.wire.passes == 3
        assert scene.is_a_state(snapshot)


async def test_an_absent_order_is_asked_for_three_times(make_bench: Any) -> None:
    async with played(make_bench, STORIES["a part of a young order fills"], based=True) as scene:
        never = BrokerOrderId("8f3c0000-0000-4000-8000-000000000000")
        scene.known = (*scene.known, never)
        snapshot = await scene.snapshot([])
        assert snapshot.absent == (never,)
        assert scene.wire.passes == 3


async def test_the_sum_needs_every_digit(make_bench: Any) -> None:
    async with played(make_bench, STORIES["a part of a young order fills"], based=True) as scene:
        await scene.snapshot([])
        base, now = scene.base, scene.broker._base
        assert base is not None
        assert now is not None
        assert adds_up(base, now)
        assert not goes_back(base, now)
        assert goes_back(now, base)
        cent = replace(now, account=replace(now.account, cash=now.account.cash + Decimal("0.01")))
        assert not adds_up(base, cent)
        (name, row), *rest = [item for item in now.orders.items() if item[1].filled_quantity == 7]
        assert rest == []
        fewer = replace(now, orders={**now.orders, name: replace(row, filled_quantity=Decimal(2))})
        assert not adds_up(base, fewer)
        without = replace(now, orders={other: each for other, each in now.orders.items() if other != name})
        assert not adds_up(base, without), "whose shares those are must be known"
        assert not adds_up(now, base), "what was listed is not listed any more"
        first = min(now.executions.values(), key=lambda execution: execution.at)
        later = {key: each for key, each in now.executions.items() if key != first.execution_id}
        assert not adds_up(base, replace(now, executions=later)), "it was listed, and should be still"
        assert adds_up(base, replace(now, executions=later, since=first.at)), "it is older than the list"
        shorter = {key: each for key, each in base.executions.items() if key != first.execution_id}
        assert not adds_up(replace(base, executions=shorter), now), "it would be a new one"
        assert adds_up(replace(base, executions=shorter, since=first.at), now), "this list begins before the base's"
        assert not stood_still([now, now])
        assert stood_still([base, now, now, now])
        assert not stood_still([now, now, cent])
