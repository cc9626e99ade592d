"""Two clients of one exchange: trueup, and the plain bot that the SDK's documentation shows. Then the stream is cut.

Both follow the same account over the official SDK. While the stream is whole both are right. After a cut with fills the
plain bot is wrong, has no way to know, and stays wrong; trueup is right. The README quotes these numbers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from trueup.simulator.alpaca import SimulatorConfig, SimulatorServer
from trueup.simulator.model import FillModel

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@dataclass
class Bot:
    """The plain bot's last words: each line that it prints is all of what it believes."""

    process: asyncio.subprocess.Process
    books: dict[str, Any] = field(default_factory=dict)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.books = json.loads(line)

    def filled(self, order_id: str) -> Decimal:
        return Decimal(self.books.get("orders", {}).get(order_id, {}).get("filled_qty", "0"))

    def positions(self) -> dict[str, Decimal]:
        return {symbol: Decimal(quantity) for symbol, quantity in self.books.get("positions", {}).items()}


@asynccontextmanager
async def running(*arguments: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "APCA_API_KEY_ID": "SIM",
        "APCA_API_SECRET_KEY": "SIM",
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONWARNINGS": "ignore",
    }
    with (folder / "errors.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment, cwd=ROOT
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def until(what: str, probe: Callable[[], Any]) -> Any:
    """The first true answer of `probe`, which may be a coroutine function."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while loop.time() < deadline:
        try:
            answer = probe()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_after_a_cut_with_fills_the_plain_bot_is_wrong_and_trueup_is_right(tmp_path: Path) -> None:
    config = SimulatorConfig(
        port=0, seed=7, rate_limit=0, trade_connections=0, fill_model=FillModel(is_manual=True), is_always_open=True
    )
    port = free_port()
    async with (
        SimulatorServer(config) as sim,
        httpx.AsyncClient(base_url=sim.url, timeout=20) as exchange,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as ours,
        running("examples/naive_bot.py", "--url", sim.url, folder=tmp_path) as bot_process,
        running(
            *("-m", "trueup", "run", "--broker", "alpaca", "--alpaca-url", sim.url),
            *("--port", str(port), "--state", str(tmp_path / "state")),
            folder=tmp_path,
        ),
    ):
        bot = Bot(bot_process)
        listening = asyncio.create_task(bot.listen())

        async def post(path: str, **body: Any) -> Any:
            answer = await exchange.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        async def healthy() -> bool:
            return (await ours.get("/api/health")).json()["status"] == "healthy"

        async def connected() -> bool:
            return (await exchange.get("/sim/status")).json()["trade_updates_connections"] == 2

        async def our_positions() -> dict[str, Decimal]:
            rows = (await ours.get("/api/positions")).json()
            return {row["symbol"]: Decimal(str(row["quantity"])) for row in rows if row["quantity"]}

        async def our_fill(order_id: str) -> Decimal:
            answer = await ours.get(f"/api/orders/{order_id}")
            return Decimal(str(answer.json()["order"]["filled_quantity"])) if answer.status_code == 200 else Decimal(0)

        await until("trueup is healthy", healthy)
        await until("both listen", connected)

        # the stream is whole: both are right
        order = (await post("/sim/orders", symbol="AAPL", side="buy", qty="100", type="limit", limit_price="500"))["id"]
        await post("/sim/fill", order_id=order, qty="30", price="200")
        await until("the bot has seen 30", lambda: bot.filled(order) == 30)

        async def ours_is(quantity: int) -> bool:
            return await our_fill(order) == quantity

        await until("trueup has seen 30", lambda: ours_is(30))
        assert bot.positions() == await our_positions() == {"AAPL": Decimal(30)}

        # the cut, and 40 shares of it
        await post("/sim/faults", target="trade_updates", kind="drop", seconds=2)
        await post("/sim/fill", order_id=order, qty="40", price="201")
        sold = (await post("/sim/orders", symbol="MSFT", side="sell", qty="5", type="market"))["id"]
        await post("/sim/fill", order_id=sold, qty="5", price="400")
        await until("both are back", connected)
        await until("trueup has healed", healthy)

        # the last 30 arrive at both
        await post("/sim/fill", order_id=order, qty="30", price="202")
        await until("the bot has seen the last fill", lambda: bot.filled(order) == 100)
        await until("trueup has seen the last fill", lambda: ours_is(100))
        truth = (await exchange.get("/sim/truth")).json()["positions"]
        books = {symbol: Decimal(quantity) for symbol, quantity in truth.items() if Decimal(quantity)}
        assert books == {"AAPL": Decimal(100), "MSFT": Decimal(-5)}
        assert await our_positions() == books
        assert bot.positions() == {"AAPL": Decimal(60)}, "the plain bot misses 40 AAPL and the whole sale of MSFT"

        gap = (await ours.get("/api/gaps")).json()[0]
        assert gap["missed"] == 2
        executions = (await ours.get("/api/executions")).json()
        late = {view["quantity"]: view for view in executions if view["missed_by_stream"]}
        assert set(late) == {40, 5}
        assert {view["source"] for view in late.values()} <= {"poll", "reconcile"}
        listening.cancel()
