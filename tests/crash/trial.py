"""One trial: a life that is killed, a fill while nobody listens, a second life, and the comparison with the exchange.

Not for choosing where to die. Invariant: the exchange lives on throughout and is asked for its books at the end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from trueup.chaos.checkers import belief_equals_the_books
from trueup.core.belief import Belief
from trueup.core.model import OrderId, OrderStatus
from trueup.journal.sqlite import SqliteJournal
from trueup.runtime.fold import belief_digest, fold, restore
from trueup.simulator.alpaca import Handler, SimulatorConfig, SimulatorServer
from trueup.simulator.model import FillModel

PROMPT = FillModel(
    ack_latency_ms=0, fill_latency_ms=0, cancel_latency_ms=0, replace_latency_ms=0, partial_probability=0
)
ROOT = Path(__file__).resolve().parents[2]
NEVER = ("never", "", 1)


class Lives:
    """The program that forks the lives; started once, as its imports take longer than a life."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.house"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def live(self, job: dict[str, Any]) -> int:
        """Live one job to its end; its exit code, -9 when it was killed."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(job) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())

    def close(self) -> None:
        """No more lives."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(30)
        self._program.stdout.close()


class Exchange(SimulatorServer):
    """A simulator that remembers every request that could change something, however it was answered."""

    def __init__(self) -> None:
        super().__init__(SimulatorConfig(rate_limit=0, fill_model=PROMPT, tick_seconds=0.2))
        self.received: list[str] = []

    def _build(self) -> web.Application:
        app = super()._build()

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.method in ("POST", "PATCH"):
                name = json.loads(await request.read()).get("client_order_id")
                self.received.append(f"{request.method} {name}")
            return await handler(request)

        app.middlewares.insert(0, note)
        return app


@dataclass(frozen=True)
class Left:
    """What a trial left behind."""

    code: int
    """How the first life ended: -9 when it died where it should."""
    belief: Belief
    exchange: Exchange
    acknowledged: list[dict[str, Any]]


Fate = tuple[str, str, int]
"""A place, what happens there, and for the how-manieth time."""


async def trial(
    lives: Lives,
    folder: Path,
    fate: Fate,
    second: Fate | None = None,
    *,
    between: Callable[[Path], None] | None = None,
) -> Left:
    """Live the story up to `fate`, trade on while it is dead, start again (and die again), heal, and compare.

    `between` is done to the state folder while nobody lives; what it took away need not be remembered.
    """
    exchange = Exchange()
    async with exchange:
        for symbol in ("AAPL", "MSFT"):
            exchange.world.move(symbol, Decimal(200), 3600)
        state, acknowledged = folder / "state", folder / "acknowledged"
        job = {
            "url": exchange.url,
            "stream": exchange.trade_updates_url,
            "state": str(state),
            "acknowledged": str(acknowledged),
            "fate": fate,
            "story": True,
        }
        code = await asyncio.to_thread(lives.live, job)
        _fill_in_the_dark(exchange)
        if between is not None:
            between(state)
        if second is not None:
            again = await asyncio.to_thread(lives.live, job | {"fate": second, "story": False})
            assert again == -9, f"the second life did not come by {second}; it ended with {again}"
        healed = await asyncio.to_thread(lives.live, job | {"fate": NEVER, "story": False})
        assert healed == 0, f"the last life ended with {healed}"
        journal = SqliteJournal(state, read_only=True)
        try:
            belief = fold(journal, from_checkpoint=False)
            kept = restore(journal)
        finally:
            journal.close()
        assert kept is not None
        assert belief_digest(kept) == belief_digest(belief), "replay differs from what the last life believed"
        lines = acknowledged.read_text(encoding="utf-8").splitlines() if acknowledged.exists() else []
        left = Left(code, belief, exchange, [json.loads(line) for line in lines])
        judge(left)
        if between is None:
            judge_memory(left)
        return left


def _fill_in_the_dark(exchange: Exchange) -> None:
    books = exchange.world.exchange
    for order in list(books.open_orders()):
        price = order.limit_price
        exchange.world.act(partial(books.fill, order.id, qty=Decimal(3), price=price))


def judge(left: Left) -> None:
    """No fill is lost, nothing was sent twice, nothing is counted twice, and belief equals the books."""
    belief, view = left.belief, left.exchange.world.exchange.view()
    belief_equals_the_books(belief, left.exchange.world.exchange)
    twice = [line for line, count in Counter(left.exchange.received).items() if count > 1]
    assert not twice, f"sent twice: {twice}"
    for order in belief.orders.values():
        assert order.in_flight is None, order.order_id
        assert order.in_doubt is None, order.order_id
        for leg in order.legs:
            if leg.status is OrderStatus.DENIED and leg.client_order_id is not None:
                assert f"POST {leg.client_order_id}" not in left.exchange.received, "sent, and said never to have been"
                assert f"PATCH {leg.client_order_id}" not in left.exchange.received, "sent, and said never to have been"
    if belief.gate.kill.killed:
        assert not [order.id for order in view.orders() if order.is_open], "orders stand after a kill"
    executions = [execution.id for execution in view.executions()]
    held = [
        name
        for order in belief.orders.values()
        for leg in order.legs
        for name, execution in leg.executions.items()
        if not execution.busted
    ]
    assert sorted(held) == sorted(executions), "executions believed and executions made"


def judge_memory(left: Left) -> None:
    """No acknowledged intent is lost."""
    for line in left.acknowledged:
        if line["kind"] == "Kill":
            assert left.belief.gate.kill.killed, "an acknowledged kill was forgotten"
        else:
            assert OrderId(line["order_id"]) in left.belief.orders, f"an acknowledged intent was forgotten: {line}"
