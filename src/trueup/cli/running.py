"""Commands that run something until they are stopped: run, gateway, simulate.

Not for wiring (that is in `bootstrap`). Invariant: real money is never traded without --live and a person's typed word.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from trueup.cli.loops import log_to, run_until_stopped
from trueup.cli.output import EXIT_USAGE, CommandFailed, JsonFlag, emit, emit_text, err, note
from trueup.errors import BadInput
from trueup.settings import Settings, help_of, read_settings, unknown_names

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting by name; `trueup schema --settings` lists them."),
]

AlpacaUrl = Annotated[str | None, typer.Option("--alpaca-url", metavar="ADDRESS", help=help_of("alpaca_url"))]


def pairs(given: list[str] | None) -> dict[str, str | None]:
    """`--set name=value` options as a mapping."""
    settings: dict[str, str | None] = {}
    for pair in given or ():
        name, found, value = pair.partition("=")
        if not found:
            raise BadInput(f"--set must be NAME=VALUE such as orders_poll_s=5; got {pair!r}", field="set")
        name = name.strip().lower().replace("-", "_")
        if name in ("alpaca_key", "alpaca_secret"):
            raise BadInput(
                f"{name} comes from the environment only, so that it stays out of the process list", field=name
            )
        settings[name] = value
    return settings


def run(
    broker: Annotated[str | None, typer.Option("--broker", metavar="NAME", help=help_of("broker"))] = None,
    alpaca_url: AlpacaUrl = None,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help=help_of("host"))] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help=help_of("port"))] = None,
    token: Annotated[str | None, typer.Option("--token", metavar="TEXT", help=help_of("token"))] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="FOLDER", help=help_of("state"))] = None,
    symbols: Annotated[str | None, typer.Option("--symbols", metavar="A,B,C", help=help_of("symbols"))] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", metavar="NAME", help=help_of("strategy"))] = None,
    orders_poll_s: Annotated[
        str | None, typer.Option("--orders-poll", metavar="SECONDS", help=help_of("orders_poll_s"))
    ] = None,
    positions_poll_s: Annotated[
        str | None, typer.Option("--positions-poll", metavar="SECONDS", help=help_of("positions_poll_s"))
    ] = None,
    reconcile_s: Annotated[
        str | None, typer.Option("--reconcile-every", metavar="SECONDS", help=help_of("reconcile_s"))
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", metavar="NAME", help=help_of("log_level"))] = None,
    live: Annotated[bool, typer.Option("--live", help="Trade REAL MONEY at Alpaca; asks for the word LIVE.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, even for real money.")] = False,
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep belief about an account true, and show it at http://127.0.0.1:8000 until Ctrl-C.

    Keys come from APCA_API_KEY_ID and APCA_API_SECRET_KEY. Without --alpaca-url it is Alpaca's paper account.
    """
    given = pairs(set_)
    by_option = {
        "broker": broker,
        "alpaca_url": alpaca_url,
        "host": host,
        "port": port,
        "token": token,
        "state": state,
        "symbols": symbols,
        "strategy": strategy,
        "orders_poll_s": orders_poll_s,
        "positions_poll_s": positions_poll_s,
        "reconcile_s": reconcile_s,
        "log_level": log_level,
        "live": "yes" if live else None,
    }
    given |= {name: value for name, value in by_option.items() if value is not None}
    settings = read_settings(os.environ, given)
    from trueup import bootstrap

    bootstrap.check(settings)
    if bootstrap.is_real_money(settings):
        if not live:
            message = "this would trade real money; add --live if that is what you want"
            raise CommandFailed(message, exit_code=EXIT_USAGE, code="not_confirmed", field="live")
        _confirm_real_money(settings, yes=yes)
    log_to(settings.log_level)
    for warning in unknown_names(os.environ):
        note(f"warning: {warning}")

    def ready(house: bootstrap.Running) -> None:
        if as_json:
            emit({"event": "ready", "url": house.url, "account": house.account, "state": str(house.state)})
        else:
            kind = "REAL MONEY" if bootstrap.is_real_money(settings) else "paper or simulated"
            note(f"trueup is up: {house.url} · account {house.account} ({kind}) · state {house.state}")

    raise typer.Exit(run_until_stopped(bootstrap.run(settings, ready=ready), stopping=lambda: note("stopping…")))


def gateway(
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help=help_of("host"))] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help=help_of("port"))] = None,
    runtime_url: Annotated[
        str | None, typer.Option("--runtime-url", metavar="ADDRESS", help=help_of("runtime_url"))
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", metavar="NAME", help=help_of("log_level"))] = None,
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a running trueup from a process of its own, until Ctrl-C; as many of them as you like.

    Views come from the Redis in TRUEUP_REDIS_URL, which `trueup run` must publish to; commands go on to --runtime-url.
    """
    by_option = {"host": host, "port": port, "runtime_url": runtime_url, "log_level": log_level}
    given = pairs(set_) | {name: value for name, value in by_option.items() if value is not None}
    settings = read_settings(os.environ, given)
    from trueup import bootstrap

    log_to(settings.log_level)

    def ready(url: str) -> None:
        if as_json:
            emit({"event": "ready", "url": url})
            sys.stdout.flush()
        else:
            note(f"the gateway is up: {url} · commands go to {settings.runtime_url}")

    raise typer.Exit(run_until_stopped(bootstrap.gateway(settings, ready=ready), stopping=lambda: note("stopping…")))


def user(
    name: Annotated[str, typer.Argument(help="Who it is.")],
    role: Annotated[str, typer.Option("--role", help="viewer sees everything, operator also acts.")] = "viewer",
    as_json: JsonFlag = False,
) -> None:
    """Ask for a password and print the line that lets NAME log in; put it into the file of TRUEUP_USERS."""
    if not name.isprintable() or " " in name or name.startswith("#"):
        raise BadInput("a name must be printable and without spaces", field="name")
    if role not in ("viewer", "operator"):
        raise BadInput("role must be viewer or operator", field="role")
    from trueup import bootstrap

    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < 12:
        raise BadInput("a password must have at least 12 characters", field="password")
    line = bootstrap.user_line(name, role, password)
    if as_json:
        emit({"line": line})
    else:
        emit_text(line + "\n")


def _confirm_real_money(settings: Settings, *, yes: bool) -> None:
    err.print(Text("THIS TRADES REAL MONEY at " + (settings.alpaca_url or "Alpaca's live address"), style="bold red"))
    if yes:
        return
    if not sys.stdin.isatty():
        message = "real money needs a person who types LIVE, or --yes"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="not_confirmed", field="live")
    if typer.prompt("Type LIVE to go on", err=True).strip() != "LIVE":
        raise CommandFailed(
            "not started: the word was not LIVE", exit_code=EXIT_USAGE, code="not_confirmed", field="live"
        )


def simulate(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where it listens; 0 takes a free one.")] = 8801,
    seed: Annotated[int, typer.Option("--seed", help="The number that fixes all its choices.")] = 7,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay", metavar="FILE", help="Recorded minute bars (CSV or Parquet) instead of an invented market."
        ),
    ] = None,
    speed: Annotated[float, typer.Option("--speed", min=0.01, max=10_000, help="How fast its market moves.")] = 1.0,
    key: Annotated[str, typer.Option("--key", help="The key that its account answers to.")] = "SIM",
    secret: Annotated[str, typer.Option("--secret", help="The secret that goes with it.")] = "SIM",
    rate_limit: Annotated[int, typer.Option("--rate-limit", min=0, help="Requests per minute; 0 is none.")] = 200,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    log_level: Annotated[str, typer.Option("--log-level", help=help_of("log_level"))] = "info",
    as_json: JsonFlag = False,
) -> None:
    """Run a simulated exchange that speaks Alpaca's wire, until Ctrl-C.

    Connect to it with `trueup run --alpaca-url http://127.0.0.1:8801`, or with any program made for Alpaca.
    """
    from trueup import bootstrap

    level = read_settings({}, {"log_level": log_level}).log_level
    log_to(level)
    simulation = bootstrap.Simulation(
        port=port, seed=seed, replay=replay, speed=speed, key=key, secret=secret, rate_limit=rate_limit
    )

    def ready(actual: int) -> None:
        url = f"http://127.0.0.1:{actual}"
        if as_json:
            emit({"event": "ready", "url": url, "port": actual, "seed": seed})
            sys.stdout.flush()
        else:
            keys = f"key {key}, secret {secret}"
            note(f"the simulated exchange is at {url} · seed {seed} · {keys} · mischief: `trueup sim --help`")

    work = bootstrap.simulate(simulation, ready=ready, with_parent=with_parent)
    raise typer.Exit(run_until_stopped(work, ignore_interrupt=with_parent))
