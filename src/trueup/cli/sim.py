"""Commands that make mischief in a running simulator, and look at its books.

Not for a real broker: they speak the simulator's control address, which nobody else has.
Invariant: they never touch trueup itself; what it makes of the mischief is the point.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from trueup.cli import demofile
from trueup.cli.gateway import Remote, segment
from trueup.cli.output import EXIT_UNAVAILABLE, EXIT_USAGE, CommandFailed, JsonFlag, emit, money, number, out, styled

sim_app = typer.Typer(help="Make mischief in the running simulator, and look at its books.", no_args_is_help=True)

SimUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="ADDRESS", help="The simulator. (default the running demo's; TRUEUP_SIM_URL)"),
]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0.0, help="How long it lasts.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="trade_updates, market_data or rest.")]

HINT = "start it with `trueup demo` or `trueup simulate`, or say where it is with --url"


def _simulator(url: str | None) -> Remote:
    address = url or os.environ.get("TRUEUP_SIM_URL")
    if not address:
        demo = demofile.find()
        if demo is None:
            raise CommandFailed(f"no demo is running; {HINT}", exit_code=EXIT_UNAVAILABLE, code="unreachable")
        address = demo.simulator_url
    return Remote(address, what="the simulator", hint=HINT)


def _fault(url: str | None, body: dict[str, Any], *, as_json: bool, told: str) -> None:
    with _simulator(url) as simulator:
        answer = simulator.ask("POST", "/sim/faults", body=body)
    if as_json:
        emit(answer)
    else:
        out.print(f"{told} (fault {answer['id']}; `trueup sim clear` ends it)", markup=False)


def _lasting(seconds: float | None, count: int | None) -> str:
    words = [f"for {seconds:g} s"] if seconds is not None else []
    words += [f"{count} times"] if count is not None else []
    return " or ".join(words) or "until cleared"


@sim_app.command("cut")
def cut(
    target: Target = "trade_updates", seconds: Seconds = 10.0, url: SimUrl = None, as_json: JsonFlag = False
) -> None:
    """Cut a stream, and refuse it for a while: what happens meanwhile is lost to it."""
    body = {"target": target, "kind": "drop", "seconds": seconds}
    _fault(url, body, as_json=as_json, told=f"{target} is cut {_lasting(seconds, None)}")


@sim_app.command("fault")
def fault(
    target: Target,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="drop, mute, refuse, delay, duplicate, reorder or lose for a stream; "
            "error, timeout, rate_limit, lag or lost_reply for rest.",
        ),
    ],
    seconds: Seconds = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="How often it happens.")] = None,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="NAME=VALUE", help="Only what matches, such as event=fill or method=POST."),
    ] = None,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Arrange any fault that the simulator knows."""
    matching: dict[str, str] = {}
    for pair in match or ():
        name, found, value = pair.partition("=")
        if not found or not name:
            message = f"--match must be NAME=VALUE such as event=fill; got {pair!r}"
            raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="match")
        matching[name] = value
    body = {"target": target, "kind": kind, "seconds": seconds, "count": count, "match": matching}
    body = {name: value for name, value in body.items() if value not in (None, {})}
    _fault(url, body, as_json=as_json, told=f"{kind} on {target} {_lasting(seconds, count)}")


@sim_app.command("faults")
def faults(url: SimUrl = None, as_json: JsonFlag = False) -> None:
    """List the faults under way."""
    with _simulator(url) as simulator:
        answer = simulator.ask("GET", "/sim/faults")
    if as_json:
        emit(answer)
        return
    rows = answer if isinstance(answer, list) else answer.get("faults", [])
    if not rows:
        out.print("no faults")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("id", "target", "kind", "lasts", "match"):
        table.add_column(title)
    for row in rows:
        lasts = [f"{number(row['seconds'])} s"] if row.get("seconds") is not None else []
        lasts += [f"{row['count']} times"] if row.get("count") is not None else []
        match = ", ".join(f"{name}={value}" for name, value in (row.get("match") or {}).items())
        table.add_row(str(row["id"]), row["target"], row["kind"], " or ".join(lasts) or "until cleared", match)
    out.print(table)


@sim_app.command("clear")
def clear(
    fault_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Which; all when left out.")] = None,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """End one fault, or all."""
    with _simulator(url) as simulator:
        answer = simulator.ask("DELETE", "/sim/faults" + (f"/{segment(fault_id)}" if fault_id else ""))
    if as_json:
        emit({"cleared": fault_id or "all"} if answer is None else answer)
    else:
        out.print("cleared")


@sim_app.command("truth")
def truth(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many orders to show, newest first.")] = 15,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the exchange's own books: what trueup's belief must come to equal."""
    with _simulator(url) as simulator:
        books = simulator.ask("GET", "/sim/truth")
    if as_json:
        emit(books)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = "orders, newest first", "left"
    for title in ("broker order id", "side", "symbol", "filled", "price", "status"):
        table.add_column(title, justify="right" if title in ("filled", "price") else "left", no_wrap=title != "status")
    for order in list(reversed(books["orders"]))[:limit]:
        table.add_row(
            order["id"],
            styled(str(order["side"]).upper()),
            order["symbol"],
            f"{number(order['filled_qty'])}/{number(order['qty'])}",
            number(order["filled_avg_price"]),
            order["status"],
        )
    out.print(table)
    held = ", ".join(f"{symbol} {number(quantity)}" for symbol, quantity in sorted(books["positions"].items()))
    out.print(f"positions  {held or 'none'}", markup=False)
    out.print(f"cash {money(books['cash'])} · equity {money(books['equity'])}", markup=False)


@sim_app.command("price")
def price(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    value: Annotated[str, typer.Argument(metavar="PRICE")],
    hold: Annotated[float | None, typer.Option("--hold", metavar="SECONDS", help="Keep it there so long.")] = None,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Move a price."""
    body: dict[str, Any] = {"symbol": symbol.upper(), "price": value}
    if hold is not None:
        body["hold_seconds"] = hold
    with _simulator(url) as simulator:
        answer = simulator.ask("POST", "/sim/price", body=body)
    if as_json:
        emit(answer)
    else:
        out.print(f"{symbol.upper()} is at {value}" + (f" for {hold:g} s" if hold is not None else ""), markup=False)


@sim_app.command("order")
def order(
    side: Annotated[str, typer.Argument(metavar="SIDE", help="BUY or SELL.")],
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY")],
    limit: Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="Makes it a limit order.")] = None,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Place an order as if another program or a person at the broker's web site had."""
    body = {
        "side": side.lower(),
        "symbol": symbol.upper(),
        "qty": quantity,
        "type": "market" if limit is None else "limit",
        "time_in_force": "day",
    }
    if limit is not None:
        body["limit_price"] = limit
    with _simulator(url) as simulator:
        answer = simulator.ask("POST", "/sim/orders", body=body)
    if as_json:
        emit(answer)
    else:
        out.print(f"placed {answer['id']}", markup=False)


@sim_app.command("fill")
def fill(
    order_id: Annotated[str, typer.Argument(metavar="ORDER", help="The broker order id.")],
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY")],
    at: Annotated[str, typer.Argument(metavar="PRICE")],
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Execute part of a working order, whatever the market says."""
    with _simulator(url) as simulator:
        answer = simulator.ask("POST", "/sim/fill", body={"order_id": order_id, "qty": quantity, "price": at})
    if as_json:
        emit(answer)
    else:
        out.print(f"filled {quantity} at {at}", markup=False)


@sim_app.command("bust")
def bust(
    execution_id: Annotated[str, typer.Argument(metavar="EXECUTION", help="As `trueup sim truth --json` names it.")],
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Annul an execution, as an exchange does after a clear error."""
    with _simulator(url) as simulator:
        answer = simulator.ask("POST", "/sim/bust", body={"execution_id": execution_id})
    if as_json:
        emit(answer)
    else:
        out.print(f"busted {execution_id}", markup=False)


@sim_app.command("frames")
def frames(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest last.")] = 20,
    url: SimUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest frames that the simulator sent."""
    with _simulator(url) as simulator:
        answer = simulator.ask("GET", "/sim/frames")
    rows = answer if isinstance(answer, list) else answer.get("frames", [])
    if as_json:
        emit(rows[-limit:])
        return
    for row in rows[-limit:]:
        out.print(str(row), markup=False, soft_wrap=True)
