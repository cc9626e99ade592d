"""`trueup demo`: a simulated exchange as a child process, trueup connected to it over real sockets, and the dashboard.

Not a shortcut: the child is what `trueup simulate` starts, and everything else is what `trueup run` starts.
Invariant: the child never outlives its parent. It holds the reading end of a pipe whose writing end only the parent
has, so even a parent that was killed closes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trueup.cli import demofile
from trueup.cli.gateway import DEFAULT_URL
from trueup.cli.loops import log_to, run_until_stopped
from trueup.cli.output import EXIT_INTERNAL, EXIT_UNAVAILABLE, CommandFailed, JsonFlag, emit, note, out
from trueup.cli.running import SetOption, pairs
from trueup.errors import BadInput
from trueup.settings import help_of, read_settings

SYMBOLS = "AAPL,MSFT,NVDA,AMZN,TSLA,SPY"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0


def demo(
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help=help_of("port"))] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="FOLDER", help="An empty folder for the journal. (default a new one)"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The number that fixes all choices of the exchange.")] = 7,
    speed: Annotated[float, typer.Option("--speed", min=0.01, max=10_000, help="How fast its market moves.")] = 1.0,
    simulator_port: Annotated[
        int, typer.Option("--simulator-port", min=0, max=65535, help="Where the exchange listens; 0 takes a free one.")
    ] = 0,
    strategy: Annotated[
        str, typer.Option("--strategy", metavar="NAME", help="sma_cross trades on its own; none leaves it to you.")
    ] = "sma_cross",
    symbols: Annotated[str, typer.Option("--symbols", metavar="A,B,C", help="Whose quotes are watched.")] = SYMBOLS,
    log_level: Annotated[str, typer.Option("--log-level", metavar="NAME", help=help_of("log_level"))] = "info",
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Start everything on this machine: a simulated exchange, a strategy that trades on it, and the dashboard.

    Nothing leaves this machine and no account is needed. Ctrl-C stops all of it.
    """
    from trueup import bootstrap

    given = pairs(set_)
    given |= {"strategy": strategy, "symbols": symbols, "log_level": log_level}
    given |= {"port": port} if port is not None else {}
    # The demo's keys open nothing but its own exchange, so the account of whoever tries it is never touched.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APCA_")}
    environment |= {"APCA_API_KEY_ID": "SIM", "APCA_API_SECRET_KEY": "SIM"}
    settings = read_settings(environment, given | {"alpaca_url": "http://127.0.0.1:1", "live": "no"})
    bootstrap.check_port(settings)
    folder = _folder(state)
    given["state"] = str(folder)
    bootstrap.check(read_settings(environment, given | {"alpaca_url": "http://127.0.0.1:1", "live": "no"}))
    log_to(settings.log_level, file=folder / "trueup.log", screen=False)
    simulation = [
        f"--port={simulator_port}",
        f"--seed={seed}",
        f"--speed={speed}",
        f"--log-level={settings.log_level}",
        "--rate-limit=0",
        "--with-parent",
        "--json",
    ]

    async def work() -> None:
        async with _exchange(simulation, folder / "simulator.log") as (child, simulator_url):
            connected = read_settings(environment, given | {"alpaca_url": simulator_url, "live": "no"})

            def ready(house: bootstrap.Running) -> None:
                found = demofile.Demo(
                    pid=os.getpid(), gateway_url=house.url, simulator_url=simulator_url, state=str(folder)
                )
                demofile.write(found)
                if as_json:
                    emit({"event": "ready", "url": house.url, "simulator_url": simulator_url, "state": str(folder)})
                    sys.stdout.flush()
                else:
                    out.print(_welcome(found))

            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_watch(child, folder / "simulator.log"))
                await bootstrap.run(connected, ready=ready)
                watch.cancel()

    try:
        code = run_until_stopped(work(), stopping=lambda: note("stopping…"))
    finally:
        demofile.remove(os.getpid())
    note(f"stopped; the journal is kept: trueup replay --verify --state {folder}")
    raise typer.Exit(code)


def _folder(state: str | None) -> Path:
    if state is None:
        return Path(tempfile.mkdtemp(prefix="trueup-demo-"))
    folder = Path(state).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(
                f"{folder} is not empty; every demo has a new exchange, so its journal needs an empty folder: "
                "give another one with --state, or none",
                field="state",
            )
    except OSError as error:
        raise BadInput(f"{folder} can't be used ({error.strerror}); give another folder with --state") from None
    return folder


@asynccontextmanager
async def _exchange(arguments: list[str], log: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "trueup",
            "simulate",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield child, await _address(child, log)
    finally:
        if child.stdin is not None:
            child.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def _address(child: asyncio.subprocess.Process, log: Path) -> str:
    assert child.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await child.stdout.readline()
        said: dict[str, Any] = json.loads(line)
        return str(said["url"])
    except (TimeoutError, ValueError, KeyError):
        raise CommandFailed(
            f"the simulated exchange did not start: {_last_line(log) or 'it said nothing'}",
            exit_code=EXIT_UNAVAILABLE,
            code="simulator_failed",
        ) from None


async def _watch(child: asyncio.subprocess.Process, log: Path) -> None:
    code = await child.wait()
    raise CommandFailed(
        f"the simulated exchange ended by itself (exit {code}): {_last_line(log) or 'it said nothing'}",
        exit_code=EXIT_INTERNAL,
        code="simulator_failed",
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _welcome(found: demofile.Demo) -> Panel:
    places = Table.grid(padding=(0, 2))
    places.add_column(style="dim", no_wrap=True)
    places.add_column(overflow="fold")
    places.add_row("dashboard", Text(found.gateway_url, style="bold cyan underline"))
    places.add_row("exchange", f"{found.simulator_url} (simulated; nothing leaves this machine)")
    places.add_row("state", found.state)
    tries = Table.grid(padding=(0, 2))
    tries.add_column(style="bold", no_wrap=True)
    tries.add_column(style="dim")
    if found.gateway_url != DEFAULT_URL:
        tries.add_row(f"export TRUEUP_URL={found.gateway_url}", "so that trueup's commands find it")
    tries.add_row("trueup sim cut trade_updates --seconds 10", "cut the stream of our own orders")
    tries.add_row("trueup status --watch", "see how sure trueup is, and how it heals")
    tries.add_row("trueup orders submit BUY AAPL 10", "an order of your own")
    tries.add_row("trueup sim truth", "the exchange's own books")
    tries.add_row("trueup kill", "stop all trading; `trueup resume` takes it back")
    content = Group(places, "", Text("in another terminal", style="dim"), tries)
    return Panel(content, title="trueup demo", title_align="left", subtitle="Ctrl-C stops all of it", box=box.ROUNDED)
