"""Faults: the same seeded mischief done to trueup, to bots and to peers, each on its own exchange.

A schedule is one shuffle of eight faults. Before each, the participant submits an order; during it that order fills in
part, the participant submits another, and the first is filled or cancelled. Then all faults end, and the books are
compared for as long as it takes, up to a patience. First comes one schedule of the same without any fault. Every
participant has a simulator of its own with the same seed and the same hand, so that none disturbs another. REST answers
take `LATENCY_S`; healing is measured in that unit, from trueup's own journal. trueup, the bots and the peers are
processes of their own on real sockets; peers come from environments of their own (`make bench-peers`) and are left out,
and named, where those are not there. The quick run has one schedule with faults and none without, less patience, and
no peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import httpx

from bench.harness import Options, Report, median, note, percentile
from trueup.core.events import FeedAcknowledged, FeedRestored
from trueup.core.model import FeedName
from trueup.journal.sqlite import FILE_NAME, SqliteJournal

LATENCY_S = 0.25
"""What each REST answer of the simulator takes, in seconds: the unit of a round trip."""

POLL_S = 10.0
"""The polling bot's interval, in seconds."""

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"

FINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
"""Statuses of the exchange from which nothing leads away."""

FAULTS: dict[str, dict[str, Any]] = {
    "drop": {"target": "trade_updates", "kind": "drop", "seconds": 0.8},
    "mute": {"target": "trade_updates", "kind": "mute", "seconds": 1.5},
    "duplicate": {"target": "trade_updates", "kind": "duplicate", "seconds": 1.5},
    "reorder": {"target": "trade_updates", "kind": "reorder", "seconds": 1.5, "by_seconds": 0.5},
    "lose": {"target": "trade_updates", "kind": "lose", "count": 1, "match": {"event": "partial_fill"}},
    "lost_reply": {"target": "rest", "kind": "lost_reply", "count": 4, "match": {"method": "POST"}},
    "lag": {"target": "rest", "kind": "lag", "seconds": 1.5, "by_seconds": 1.0},
    "error": {"target": "rest", "kind": "error", "count": 3, "match": {"method": "GET", "status": 500}},
}
SYMBOLS = ("AAPL", "MSFT")

Shares = dict[str, Decimal]


class Participant(Protocol):
    """One that follows an account and believes something about it."""

    name: str

    async def submit(self, symbol: str, side: str, quantity: int, limit_price: int) -> bool:
        """Ask for an order; False when the participant itself refused to send it."""
        ...

    async def books(self) -> tuple[Shares, Shares]:
        """Shares filled by broker order id, and positions by symbol, as believed now."""
        ...

    async def final(self) -> dict[str, bool]:
        """By broker order id, whether the participant believes that nothing more will come of it."""
        ...

    async def ready(self) -> bool: ...


@dataclass
class Tally:
    """What one participant came to over all schedules."""

    missed_fills: Decimal = Decimal(0)
    missed_fills_of_others: Decimal = Decimal(0)
    """In orders of the same account that somebody else placed."""
    double_counted_fills: Decimal = Decimal(0)
    wrong_positions_at_end: int = 0
    false_final: int = 0
    false_live: int = 0
    seconds_out_of_truth: float = 0.0
    wrong_position_seconds_after_heal: float = 0.0
    duplicate_orders: int = 0
    submitted: int = 0
    denied: int = 0
    by_hand: int = 0
    rest_calls: int = 0
    never_healed: int = 0
    heals_s: list[float | None] = field(default_factory=list)
    """By schedule, from the end of its faults to truth; None for never."""
    spells_s: list[float] = field(default_factory=list)
    """How long positions were wrong, each time that they were."""

    def as_json(self) -> dict[str, Any]:
        healed = [seconds for seconds in self.heals_s if seconds is not None]
        return {
            "missed_fills": float(self.missed_fills),
            "missed_fills_of_orders_placed_by_hand": float(self.missed_fills_of_others),
            "double_counted_fills": float(self.double_counted_fills),
            "wrong_positions_at_end": self.wrong_positions_at_end,
            "orders_believed_final_that_are_live": self.false_final,
            "orders_believed_live_that_are_final": self.false_live,
            "seconds_out_of_truth": round(self.seconds_out_of_truth, 1),
            "wrong_position_seconds_after_heal": round(self.wrong_position_seconds_after_heal, 2),
            "submits_asked_for": self.submitted,
            "submits_denied_by_itself": self.denied,
            "orders_placed_by_hand": self.by_hand,
            "duplicate_orders": self.duplicate_orders,
            "rest_calls": self.rest_calls,
            "schedules_never_healed": self.never_healed,
            "time_to_truth_after_faults_s": spread(healed) if healed else "never",
            "time_to_truth_of_a_change_s": self._spells(),
        }

    def _spells(self) -> dict[str, Any] | str:
        if not self.spells_s:
            return "never right again" if self.seconds_out_of_truth else "never wrong"
        return spread(self.spells_s)


def spread(seconds: list[float]) -> dict[str, float]:
    return {
        "p50": round(median(seconds), 2),
        "p99": round(percentile(seconds, 0.99), 2),
        "max": round(max(seconds), 2),
    }


@asynccontextmanager
async def child(
    *arguments: str, folder: Path, python: str = sys.executable
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "APCA_API_KEY_ID": "SIM", "APCA_API_SECRET_KEY": "SIM"}
    environment.update(XDG_RUNTIME_DIR=str(folder), PYTHONWARNINGS="ignore", PYTHONPATH=str(ROOT))
    with (folder / "errors.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(python, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            limit=2**24,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


class Ours:
    """`trueup run`, asked over its own HTTP."""

    name = "trueup"

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=30)

    async def submit(self, symbol: str, side: str, quantity: int, limit_price: int) -> bool:
        body = {"symbol": symbol, "side": side.upper(), "quantity": str(quantity), "type": "LIMIT"}
        body["limit_price"] = str(limit_price)
        # what it denies while it cannot know its position is asked for again, as a person would
        began = time.monotonic()
        deadline = began + 20
        said = ""
        while time.monotonic() < deadline:
            answer = await self._client.post("/api/orders", json=body)
            if answer.status_code not in (422, 429):
                answer.raise_for_status()
                if time.monotonic() - began > 10:
                    note(f"faults: trueup sent {quantity} {symbol} after {time.monotonic() - began:.0f} s; {said}")
                return True
            said = answer.json()["error"]["message"]
            await asyncio.sleep(0.5)
        note(f"faults: trueup denied an order for 20 s: {answer.text[:200]}")
        return False

    async def books(self) -> tuple[Shares, Shares]:
        rows = (await self._client.get("/api/positions")).json()
        executions = (await self._client.get("/api/executions", params={"limit": 1000})).json()
        filled: Shares = {}
        for row in executions:
            if not row["replaces_inferred"]:
                name = row["broker_order_id"]
                filled[name] = filled.get(name, Decimal(0)) + Decimal(str(row["quantity"]))
        return filled, {row["symbol"]: Decimal(str(row["quantity"])) for row in rows if row["quantity"]}

    async def final(self) -> dict[str, bool]:
        rows = (await self._client.get("/api/orders", params={"limit": 1000})).json()
        return {row["broker_order_id"]: row["terminal"] for row in rows if row["broker_order_id"]}

    async def ready(self) -> bool:
        try:
            return bool((await self._client.get("/api/health")).json()["status"] == "healthy")
        except httpx.HTTPError:
            return False


class Bot:
    """A bot or a peer, which speak as `bench/bots.py` does: what it printed last is all that it believes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._last: dict[str, dict[str, Any]] = {}

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._last = json.loads(line)

    async def submit(self, symbol: str, side: str, quantity: int, limit_price: int) -> bool:
        assert self._process.stdin is not None
        asked = {"symbol": symbol, "side": side, "quantity": quantity, "limit_price": limit_price}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._process.stdin.drain()
        return True

    async def books(self) -> tuple[Shares, Shares]:
        return tuple(  # type: ignore[return-value]
            {name: Decimal(value) for name, value in self._last.get(part, {}).items()}
            for part in ("filled", "positions")
        )

    async def final(self) -> dict[str, bool]:
        return dict(self._last.get("final", {}))

    async def ready(self) -> bool:
        return bool(self._last)


class Exchange:
    """The hand on one participant's simulator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=30)
        self.sizes: list[int] = []

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self._client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    async def cancel(self, order_id: str) -> None:
        (await self._client.delete(f"/sim/orders/{order_id}")).raise_for_status()

    async def truth(self) -> tuple[list[dict[str, Any]], Shares]:
        told = (await self._client.get("/sim/truth")).json()
        return told["orders"], {
            symbol: Decimal(quantity) for symbol, quantity in told["positions"].items() if Decimal(quantity)
        }

    async def latency(self) -> str:
        fault = await self.post("/sim/faults", target="rest", kind="delay", by_seconds=LATENCY_S)
        return str(fault["id"])

    async def end_faults(self) -> int:
        """End all faults but the latency; returns the REST calls that the latency has seen."""
        faults = (await self._client.get("/sim/faults", params={"all": "true"})).json()
        for fault in faults:
            if fault["kind"] != "delay":
                await self._client.delete(f"/sim/faults/{fault['id']}")
        return sum(fault["hits"] for fault in faults if fault["kind"] == "delay")

    async def connections(self) -> int:
        return int((await self._client.get("/sim/status")).json()["trade_updates_connections"])


class Run:
    """One participant, through all schedules."""

    def __init__(self, who: Participant, exchange: Exchange, *, patience_s: float) -> None:
        self.who = who
        self.exchange = exchange
        self.tally = Tally()
        self.control = Tally()
        self._patience_s = patience_s
        self._size = 100
        self._asked: list[int] = []
        self._counted: set[str] = set()
        self._ended = False

    async def wrong(self) -> bool:
        """True when positions differ from the books, which stood still around the look."""
        _, before = await self.exchange.truth()
        _, believed = await self.who.books()
        if believed == before:
            return False
        _, after = await self.exchange.truth()
        return believed != after

    async def watch(self) -> None:
        """Add up the seconds for which positions are wrong."""
        last = time.monotonic()
        wrong_since: float | None = None
        while not self._ended:
            await asyncio.sleep(0.1)
            is_wrong = await self.wrong()
            now = time.monotonic()
            if is_wrong:
                self.tally.seconds_out_of_truth += now - last
                wrong_since = last if wrong_since is None else wrong_since
            elif wrong_since is not None:
                self.tally.spells_s.append(last - wrong_since)
                wrong_since = None
            last = now

    async def all(self, seeds: list[int], steps_without: int) -> None:
        """One schedule without faults, counted apart, and then those with them."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch())
            if steps_without:
                await self._schedule(random.Random(0), [None] * steps_without)
                await self._count()
                self.control, self.tally = self.tally, Tally()
            for seed in seeds:
                dice = random.Random(seed)
                await self._schedule(dice, dice.sample(list(FAULTS), len(FAULTS)))
            self._ended = True
        await self._count()

    async def _schedule(self, dice: random.Random, faults: list[str | None] | list[str]) -> None:
        submits: list[asyncio.Task[bool]] = []
        for fault in faults:
            symbol = dice.choice(SYMBOLS)
            part = dice.randint(5, 15)
            wants_to_sell = dice.random() < 0.5
            _, held = await self.exchange.truth()
            side = "sell" if wants_to_sell and held.get(symbol, 0) > self._size + 2 else "buy"
            submit, order_id, shares = await self._order(symbol, side, submits)
            submits.append(submit)
            if fault is not None:
                await self.exchange.post("/sim/faults", **FAULTS[fault])
            submits.append(self._submit(symbol, "buy", 1))
            await self.exchange.post("/sim/fill", order_id=order_id, qty=str(part), price="20", forced=True)
            await asyncio.sleep(0.4)
            await self.exchange.post("/sim/fill", order_id=order_id, qty=str(part), price="20.1", forced=True)
            await asyncio.sleep(0.9)
            if dice.random() < 0.5:
                await self.exchange.cancel(order_id)
            else:
                rest = str(shares - 2 * part)
                await self.exchange.post("/sim/fill", order_id=order_id, qty=rest, price="20.2", forced=True)
        self.tally.denied += (await asyncio.gather(*submits)).count(False)
        self.tally.rest_calls = await self.exchange.end_faults()
        await self._heal()

    def _submit(self, symbol: str, side: str, limit_price: int) -> asyncio.Task[bool]:
        """Every order has a size that no other has: by that it is known at the exchange."""
        self._size += 1
        self._asked.append(self._size)
        return asyncio.create_task(self.who.submit(symbol, side, self._size, limit_price))

    async def _order(
        self, symbol: str, side: str, submits: list[asyncio.Task[bool]]
    ) -> tuple[asyncio.Task[bool], str, int]:
        """An order of the participant, once it is at the exchange; or one placed by hand, where that takes too long."""
        submit = self._submit(symbol, side, 21 if side == "buy" else 19)
        size = self._size
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            orders, _ = await self.exchange.truth()
            for order in orders:
                if Decimal(order["qty"]) == size and order["status"] == "new":
                    return submit, order["id"], size
            await asyncio.sleep(0.05)
        note(f"faults: {self.who.name} has not sent an order of {size} after 15 s; one is placed by hand")
        self.tally.by_hand += 1
        order = await self.exchange.post(
            "/sim/orders", symbol=symbol, side=side, qty="60", type="market", forced=True, held=True
        )
        return submit, order["id"], 60

    async def _heal(self) -> None:
        began = time.monotonic()
        while await self.wrong() or not await self.who.ready():
            if time.monotonic() - began > self._patience_s:
                self.tally.never_healed += 1
                self.tally.heals_s.append(None)
                break
            await asyncio.sleep(0.05)
        else:
            self.tally.heals_s.append(time.monotonic() - began)
        last = time.monotonic()
        until = last + 1.0
        while last < until:
            await asyncio.sleep(0.1)
            is_wrong = await self.wrong()
            now = time.monotonic()
            if is_wrong:
                self.tally.wrong_position_seconds_after_heal += now - last
            last = now

    async def _count(self) -> None:
        """What the orders since the last count came to."""
        tally = self.tally
        orders, positions = await self.exchange.truth()
        filled, believed = await self.who.books()
        final = await self.who.final()
        for order in orders:
            if order["id"] in self._counted:
                continue
            truth, held = Decimal(order["filled_qty"]), filled.get(order["id"], Decimal(0))
            missed = max(truth - held, Decimal(0))
            if order["is_external"]:
                tally.missed_fills_of_others += missed
            else:
                tally.missed_fills += missed
            tally.double_counted_fills += max(held - truth, Decimal(0))
            is_final = order["status"] in FINAL
            tally.false_final += final.get(order["id"], is_final) and not is_final
            tally.false_live += not final.get(order["id"], is_final) and is_final
        symbols = {*positions, *believed}
        tally.wrong_positions_at_end = sum(positions.get(one) != believed.get(one) for one in symbols)
        tally.submitted = len(self._asked)
        for size in self._asked:
            here = sum(not order["is_external"] and Decimal(order["qty"]) == size for order in orders)
            tally.duplicate_orders += max(here - 1, 0)
        self._counted = {order["id"] for order in orders}
        self._asked.clear()


async def address_in(log: Path) -> str:
    """Where the simulator says that it listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for word in read_text(log).split():
            if word.startswith("url=http") and read_text(log).endswith("\n"):
                return word.removeprefix("url=").rstrip("/")
        await asyncio.sleep(0.05)
    raise SystemExit("the simulator did not start within 60 s")


def read_text(file: Path) -> str:
    """The file's text so far; empty before it is there."""
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(kind: str) -> list[str]:
    """How a bot or a peer is run: the interpreter, the module, and its arguments."""
    match kind:
        case "plain":
            return [sys.executable, "bench.bots", "plain"]
        case "polling":
            return [sys.executable, "bench.bots", "polling", "--every", str(POLL_S)]
        case "lumibot":
            return [str(PEERS / "lumibot/bin/python"), "bench.peers.lumibot_bot", "--mode", "stream"]
        case "lumibot, polling":
            return [str(PEERS / "lumibot/bin/python"), "bench.peers.lumibot_bot", "--mode", "poll"]
        case "nautilus":
            return [str(PEERS / "nautilus/bin/python"), "bench.peers.nautilus_bot"]
    raise AssertionError(f"nobody is called {kind}")


def present(options: Options) -> tuple[list[str], dict[str, str]]:
    """Who takes part, and who does not and why."""
    kinds, absent = ["trueup", "plain", "polling"], {}
    for kind in ("lumibot", "lumibot, polling", "nautilus"):
        if options.quick:
            absent[kind] = "left out of the quick run"
        elif not Path(command(kind)[0]).exists():
            absent[kind] = "not installed; `make bench-peers` makes its environment"
        else:
            kinds.append(kind)
    return kinds, absent


async def begin(stack: AsyncExitStack, kind: str, folder: Path, patience_s: float) -> Run:
    """Start a simulator and a participant that follows it."""
    await stack.enter_async_context(
        child(
            *("-m", "trueup.simulator", "--port", "0", "--seed", "7", "--rate-limit", "0", "--manual"),
            *("--cash", "10000000"),
            folder=folder,
        )
    )
    url = await address_in(folder / "errors.log")
    exchange = Exchange(url)
    who: Participant
    if kind == "trueup":
        port = free_port()
        await stack.enter_async_context(
            child(
                *("-m", "trueup", "run", "--broker", "alpaca", "--alpaca-url", url, "--port", str(port)),
                *("--state", str(folder / "state")),
                folder=folder,
            )
        )
        who = Ours(f"http://127.0.0.1:{port}")
    else:
        python, module, *extra = command(kind)
        bot = await stack.enter_async_context(child("-m", module, *extra, "--url", url, folder=folder, python=python))
        who = Bot(kind, bot)
        listening = asyncio.create_task(who.listen())
        stack.callback(listening.cancel)
    deadline = time.monotonic() + 60
    streams = kind not in ("polling", "lumibot, polling")
    while not await who.ready() or (streams and not await exchange.connections()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{kind} was not ready within 60 s; see {folder}/errors.log")
        await asyncio.sleep(0.05)
    await exchange.latency()
    return Run(who, exchange, patience_s=patience_s)


def healed_in_s(state: Path) -> list[float]:
    """Seconds from each acknowledgement of the stream to belief proven equal, after the first, from the journal."""
    reader = SqliteJournal(state / FILE_NAME, read_only=True)
    acknowledged = None
    times = []
    for entry in reader.read():
        item = entry.input
        if isinstance(item, FeedAcknowledged) and item.feed is FeedName.BROKER_EVENTS:
            acknowledged = item.at
        elif isinstance(item, FeedRestored) and item.feed is FeedName.BROKER_EVENTS and acknowledged is not None:
            times.append((item.at - acknowledged).total_seconds())
            acknowledged = None
    reader.close()
    return times[1:]


async def cut_in_quiet(run: Run, cuts: int) -> None:
    """Cut the stream with fills in the gap and no other fault, so that healing is not another fault's time."""
    for _ in range(cuts):
        order = await run.exchange.post(
            "/sim/orders", symbol="AAPL", side="buy", qty="10", type="market", forced=True, held=True
        )
        await run.exchange.post("/sim/faults", target="trade_updates", kind="drop", seconds=0.3)
        await run.exchange.post("/sim/fill", order_id=order["id"], qty="10", price="100", forced=True)
        deadline = time.monotonic() + 60
        await asyncio.sleep(0.3)
        while not await run.who.ready():
            if time.monotonic() > deadline:
                raise SystemExit("a quiet cut did not heal within 60 s")
            await asyncio.sleep(0.05)


async def measure(options: Options) -> Report:
    report = Report()
    seeds = [1] if options.quick else list(range(1, 13))
    cuts = 3 if options.quick else 9
    steps_without = 0 if options.quick else len(FAULTS)
    patience_s = 13.0 if options.quick else 30.0
    kinds, absent = present(options)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        for kind in kinds:
            os.mkdir(f"{name}/{kind}")
        async with AsyncExitStack() as stack:
            begun = await asyncio.gather(*(begin(stack, kind, Path(name) / kind, patience_s) for kind in kinds))
            runs = dict(zip(kinds, begun, strict=True))
            note(f"faults: {len(seeds)} schedules of {len(FAULTS)} faults; at once: {', '.join(kinds)}")
            await asyncio.gather(*(run.all(seeds, steps_without) for run in runs.values()))
            state = Path(name) / "trueup" / "state"
            seen = len(healed_in_s(state))
            note(f"faults: {cuts} cuts in quiet")
            await cut_in_quiet(runs["trueup"], cuts)
            healed = healed_in_s(state)[seen:]
    trips = [seconds / LATENCY_S for seconds in healed]
    ours = runs["trueup"].tally
    report.results = {
        "schedules": len(seeds),
        "seeds": seeds,
        "faults_each": list(FAULTS),
        "rest_latency_s": LATENCY_S,
        "polling_every_s": POLL_S,
        "patience_s": patience_s,
        "load_average_before": round(load_before, 2),
        "fills_are_counted_in": "shares",
        "participants": {kind: run.tally.as_json() for kind, run in runs.items()},
        "without_faults": {kind: run.control.as_json() for kind, run in runs.items()} if steps_without else "not run",
        "by_seed_time_to_truth_s": {
            str(seed): {
                kind: "never" if run.tally.heals_s[place] is None else round(run.tally.heals_s[place] or 0.0, 2)
                for kind, run in runs.items()
            }
            for place, seed in enumerate(seeds)
        },
        "not_run": absent,
        "heal": {
            "cuts": cuts,
            "stream_back_to_equal_s": {"p50": median(healed), "max": max(healed)},
            "round_trips": {"p50": median(trips), "p90": percentile(trips, 0.9)},
        },
    }
    report.at_most("faults.missed_fills", float(ours.missed_fills + ours.missed_fills_of_others), 0)
    report.at_most("faults.double_counted_fills", float(ours.double_counted_fills), 0)
    report.at_most("faults.wrong_position_seconds_after_heal", ours.wrong_position_seconds_after_heal, 0)
    report.at_most("faults.duplicate_orders", float(ours.duplicate_orders), 0)
    report.at_most("faults.heal_round_trips_p50", median(trips), 2)
    report.at_most("faults.never_healed", float(ours.never_healed), 0)
    return report


def run(options: Options) -> Report:
    return asyncio.run(measure(options))
