"""Commands about the account of a running trueup: status, orders, reconcile, kill, resume.

Not for deciding anything: they ask the gateway and show its answer. Invariant: what is shown is what the gateway said,
with its age beside it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trueup.cli.gateway import UrlOption, gateway, segment
from trueup.cli.ledger import Line, ledger
from trueup.cli.output import (
    EXIT_NO,
    EXIT_USAGE,
    STYLES,
    CommandFailed,
    JsonFlag,
    age,
    emit,
    moment,
    number,
    out,
    span,
    standing,
    styled,
)
from trueup.cli.running import AlpacaUrl
from trueup.settings import read_settings

orders_app = typer.Typer(help="List, show, submit and cancel orders.", invoke_without_command=True)

Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")]
YesFlag = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def status(
    url: UrlOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second until Ctrl-C.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 unless healthy, for scripts.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show how sure trueup is: truth lag, both feeds, gap, drift, trading state."""
    with gateway(url) as remote:
        health = remote.ask("GET", "/api/health")
        if not watch:
            if as_json:
                emit(health)
            else:
                out.print(render_health(health))
            if check and health["status"] != "healthy":
                raise typer.Exit(EXIT_NO)
            return
        pause = threading.Event()
        if as_json:
            while True:
                emit(health)
                pause.wait(1.0)
                health = remote.ask("GET", "/api/health")
        with Live(render_health(health), console=out, auto_refresh=False, screen=False) as live:
            while True:
                pause.wait(1.0)
                try:
                    live.update(render_health(remote.ask("GET", "/api/health")), refresh=True)
                except CommandFailed as error:
                    live.update(Panel(error.message, border_style="red", title="no answer"), refresh=True)


def render_health(health: dict[str, Any]) -> RenderableType:
    """`/api/health` as one panel."""
    now = health["at"]
    events, market = health["broker_events"], health["market_data"]
    lag = health["truth_lag_s"]
    lag_style = "bold green" if lag is not None and lag < 15 else "bold yellow" if lag is not None else "bold red"
    top = Text.assemble(
        ("● ", STYLES.get(health["status"], "")),
        (health["status"].upper(), "bold " + STYLES.get(health["status"], "")),
        "   trading ",
        (health["trading_state"], STYLES.get(health["trading_state"], "")),
        "   truth lag ",
        (span(None if lag is None else float(lag)) if lag is not None else "unknown", lag_style),
    )
    if health["entries_gated"]:
        top.append("   entries gated", style="yellow")
    feeds = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for title in ("feed", "status", "last message", "reconnects", "more"):
        feeds.add_column(title)
    result = events["last_result"] or "no result yet"
    reconciliation = (
        "not reconciled yet"
        if events["last_reconciliation_at"] is None
        else f"reconciled {age(events['last_reconciliation_at'], now)}, {result}"
    )
    feeds.add_row(
        "broker events",
        styled(events["status"]),
        age(events["last_trade_update_at"], now),
        _reconnects(events["reconnect_count"], events.get("last_reconnect_at"), now),
        reconciliation,
    )
    feeds.add_row(
        "market data",
        styled(market["status"]),
        age(market["last_message_at"], now),
        _reconnects(market["reconnect_count"], None, now),
        f"{market['symbol_count']} symbols",
    )
    parts: list[RenderableType] = [top, feeds]
    gap = health.get("gap")
    if gap is not None and gap["closed_at"] is None:
        open_for = age(gap["opened_at"], now).removesuffix(" ago")
        parts.append(Text(f"GAP open for {open_for}: {gap['reason']}", style="bold yellow"))
    for reason in health.get("reasons", ()):
        parts.append(Text(f"• {reason}", style="yellow"))
    facts = (
        f"drifts {health['open_drifts']} · in doubt {health['in_doubt_orders']} · working {health['working_orders']}"
        f" · journal {health['journal_offset']}"
    )
    parts.append(Text(facts, style="dim"))
    title = " ".join(word for word in ("trueup", health["version"], health["broker"], health["account"]) if word)
    return Panel(Group(*parts), title=title, title_align="left", border_style=STYLES.get(health["status"], ""))


def _reconnects(count: int, at: str | None, now: str) -> str:
    return f"{count}" if not count or at is None else f"{count}, last {age(at, now)}"


@orders_app.callback(invoke_without_command=True)
def orders(ctx: typer.Context, url: UrlOption = None, as_json: JsonFlag = False) -> None:
    """List, show, submit and cancel orders."""
    if ctx.invoked_subcommand is None:
        list_orders(url=url, as_json=as_json)


@orders_app.command("list")
def list_orders(
    status_: Annotated[str, typer.Option("--status", help="working or all.")] = "all",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 30,
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List orders, newest first."""
    if status_ not in ("working", "all"):
        message = f"--status must be working or all; got {status_!r}"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="status")
    with gateway(url) as remote:
        rows = remote.ask("GET", "/api/orders", query={"status": status_, "limit": limit})
        if as_json:
            emit(rows)
            return
    out.print(_orders_table(rows) if rows else "no orders")


def _orders_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("id", "side", "symbol", "filled", "price", "status", "by", "changed (UTC)"):
        table.add_column(title, justify="right" if title in ("filled", "price") else "left", no_wrap=title != "status")
    for row in rows:
        table.add_row(
            row["id"],
            styled(row["side"]),
            row["symbol"],
            f"{number(row['filled_quantity'])}/{number(row['quantity'])}",
            number(row["average_price"]),
            standing(row),
            row["source"],
            moment(row["updated_at"]),
        )
    return table


@orders_app.command("show")
def show_order(
    order: Annotated[str, typer.Argument(metavar="ID", help="Our id, the client order id, or the broker's id.")],
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one order with its timeline: what came, by which way, how late, and what was believed after it."""
    with gateway(url) as remote:
        detail = remote.ask("GET", f"/api/orders/{segment(order)}")
    if as_json:
        emit(detail)
        return
    out.print(_orders_table([detail["order"]]))
    entries = [
        Line(
            (
                str(line["offset"]),
                line["event"],
                line["source"],
                _late(line["broker_at"], line["arrived_at"]),
                line["status_after"],
                number(line["filled_after"]),
            ),
            line["text"],
            style="" if line["changed"] else "dim",
        )
        for line in detail["timeline"]
    ]
    heads = ("at", "event", "by", "late", "status after", "filled after", "note")
    out.print(ledger("timeline", heads, entries, width=out.width, numbers=("at", "late", "filled after")))
    if detail["executions"]:
        fills = []
        for fill in detail["executions"]:
            flags = (("missed by the stream", "missed_by_stream"), ("inferred", "inferred"))
            notes = ", ".join(word for word, flag in flags if fill[flag])
            late = fill["late_s"]
            cells = (
                moment(fill["entry_time"]),
                number(fill["quantity"]),
                number(fill["entry_price"]),
                fill["source"],
                span(None if late is None else float(late)),
            )
            fills.append(Line(cells, notes, style="yellow" if notes else ""))
        titles = ("at (UTC)", "quantity", "price", "learned by", "late", "note")
        out.print(ledger("executions", titles, fills, width=out.width, numbers=("quantity", "price", "late")))
    for gap in detail["gaps"]:
        end = moment(gap["closed_at"]) if gap["closed_at"] else "now"
        line = f"gap {moment(gap['opened_at'])} to {end}: {gap['reason']}"
        out.print(line, style="yellow", markup=False)


def _late(broker_at: str | None, arrived_at: str) -> str:
    if broker_at is None:
        return "–"
    return age(broker_at, arrived_at).removesuffix(" ago")


@orders_app.command("submit")
def submit_order(
    side: Annotated[str, typer.Argument(metavar="SIDE", help="BUY or SELL.")],
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY")],
    limit: Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="Makes it a limit order.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", metavar="PRICE", help="Makes it a stop order.")] = None,
    time_in_force: Annotated[str, typer.Option("--tif", help="DAY, GTC, IOC, FOK, OPG or CLS.")] = "DAY",
    client_order_id: Annotated[
        str | None, typer.Option("--client-order-id", help="Its name for ever; repeating it submits nothing twice.")
    ] = None,
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Submit an order: market, or limit, stop or stop-limit by the prices given."""
    kinds = {
        (False, False): "MARKET",
        (True, False): "LIMIT",
        (False, True): "STOP",
        (True, True): "STOP_LIMIT",
    }
    body: dict[str, Any] = {
        "symbol": symbol.upper(),
        "side": side.upper(),
        "quantity": quantity,
        "type": kinds[(limit is not None, stop is not None)],
        "time_in_force": time_in_force.upper(),
    }
    optional = {"limit_price": limit, "stop_price": stop, "client_order_id": client_order_id}
    body |= {name: value for name, value in optional.items() if value is not None}
    with gateway(url) as remote:
        row = remote.ask("POST", "/api/orders", body=body)
    if as_json:
        emit(row)
    else:
        out.print(_orders_table([row]))


@orders_app.command("cancel")
def cancel_order(
    order: Annotated[str, typer.Argument(metavar="ID", help="Our id, the client order id, or the broker's id.")],
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask the broker to cancel an order; it is cancelled once the broker says so."""
    with gateway(url) as remote:
        row = remote.ask("DELETE", f"/api/orders/{segment(order)}")
    if as_json:
        emit(row)
    else:
        out.print(_orders_table([row]))


def reconcile(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")] = True,
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare belief with a whole snapshot of the broker's books now."""
    with gateway(url) as remote:
        answer = remote.ask("POST", "/api/reconcile", query={"wait": "true" if wait else None})
        if as_json:
            emit(answer)
            return
        if not wait:
            out.print("asked for; `trueup status` shows the outcome")
            return
        out.print(render_health(remote.ask("GET", "/api/health")))


def kill(
    reason: Reason = "killed from the command line",
    url: UrlOption = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="FOLDER", help="Kill without a running trueup: its state folder, and the keys."
        ),
    ] = None,
    alpaca_url: AlpacaUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop all trading and cancel every working order; nothing but cancels leaves until `trueup resume`.

    Where trueup does not run (any more), --state does it: the kill is written into its journal, and every open order is
    cancelled at the broker.
    """
    # No question first: closing the gate is always safe, and whoever types this has no time.
    try:
        with gateway(url) as remote:
            answer = remote.ask("POST", "/api/kill", body={"reason": reason})
            if as_json:
                emit(answer)
                return
            working = remote.ask("GET", "/api/health")["working_orders"]
            out.print(Text.assemble(("KILLED", "bold red"), f"  {working} working orders are being cancelled"))
    except CommandFailed as error:
        if error.code not in ("unreachable", "timeout"):
            raise
        if state is None:
            error.message += "; with --state FOLDER and the keys in the environment it can be killed without running"
            raise
        _kill_without_process(state, alpaca_url, reason, as_json=as_json)


def _kill_without_process(state: str, alpaca_url: str | None, reason: str, *, as_json: bool) -> None:
    from trueup import bootstrap

    settings = read_settings(os.environ, {"state": state, "alpaca_url": alpaca_url})
    killed = asyncio.run(bootstrap.kill(settings, reason=reason))
    if as_json:
        emit(asdict(killed))
    else:
        out.print(Text.assemble(("KILLED", "bold red"), f"  {killed.cancelled} open orders cancelled at the broker"))
    if killed.failed or killed.not_remembered:
        told = [f"not cancelled: {', '.join(killed.failed)}"] if killed.failed else []
        told += [f"the next start will not know of the kill: {killed.not_remembered}"] if killed.not_remembered else []
        raise CommandFailed("; ".join(told), code="incomplete")


def resume(
    reason: Reason = "resumed from the command line",
    yes: YesFlag = False,
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take the kill back; asks for the word RESUME first."""
    with gateway(url) as remote:
        if not yes:
            typed = typer.prompt("Type RESUME to let orders leave again", err=True)
            if typed.strip() != "RESUME":
                raise CommandFailed("not resumed: the word was not RESUME", code="not_confirmed")
        answer = remote.ask("POST", "/api/resume", body={"reason": reason})
        if as_json:
            emit(answer)
            return
        health = remote.ask("GET", "/api/health")
    out.print(Text.assemble("trading is ", (health["trading_state"], STYLES.get(health["trading_state"], ""))))
