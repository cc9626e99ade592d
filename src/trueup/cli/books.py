"""`trueup replay`: folds a journal again and shows what it amounts to, or proves that it amounts to the same as live.

Not for running anything: no effect is performed, nothing is written. Invariant: the folder is left as it was found.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trueup.cli.output import (
    EXIT_NO,
    EXIT_USAGE,
    CommandFailed,
    JsonFlag,
    emit,
    err,
    money,
    number,
    out,
    rfc3339,
    span,
    styled,
)

if TYPE_CHECKING:
    from trueup.bootstrap import Replayed


def replay(
    state: Annotated[Path, typer.Option("--state", metavar="FOLDER", help="The folder whose journal is folded.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Prove that it equals what the live process kept; exit 1 if it does not.")
    ] = False,
    until: Annotated[
        int | None,
        typer.Option("--until", metavar="OFFSET", min=0, help="Stop behind this entry, and show belief then."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="The same by time, such as 2026-03-12T14:30:00Z.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fold a journal again: entries, seconds, digest, and belief as it was."""
    if sum((verify, until is not None, at is not None)) > 1:
        message = "choose one of --verify, --until and --at"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="verify")
    moment = None if at is None else _moment(at)
    from trueup import bootstrap

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=as_json or not err.is_terminal,
    ) as progress:
        task = progress.add_task("folding", total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        result = bootstrap.replay(state, verify=verify, until=until, at=moment, progress=told)
    if as_json:
        answer = {
            "entries": result.entries,
            "seconds": round(result.seconds, 3),
            "digest": result.digest,
            "offset": result.offset,
            "account": result.account,
            "epoch": result.epoch,
        }
        if verify:
            answer |= {"equal": result.equal, "compared_with": result.compared_with, "live_digest": result.live_digest}
        if until is not None or moment is not None:
            answer["belief"] = {
                "at": result.at,
                "trading_state": result.trading_state,
                "cash": result.cash,
                "positions": result.positions,
                "orders": [
                    {"id": row.id, "symbol": row.symbol, "side": row.side, "status": row.status, "filled": row.filled}
                    for row in result.orders
                ],
            }
        emit(answer)
    else:
        _show(result, verify=verify, belief=until is not None or moment is not None)
    if verify and not result.equal:
        raise typer.Exit(EXIT_NO)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        message = f"--at must be a time such as 2026-03-12T14:30:00Z; got {text!r}"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="at") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _show(result: Replayed, *, verify: bool, belief: bool) -> None:
    rate = f", {result.entries / result.seconds:,.0f} a second" if result.seconds > 0.001 else ""
    out.print(f"{result.entries:,} entries in {span(result.seconds)}{rate}", markup=False)
    out.print(f"account {result.account} · epoch {result.epoch} · offset {result.offset}", markup=False)
    out.print(f"digest {result.digest}", markup=False)
    if verify and result.equal:
        out.print(f"equal to {result.compared_with}", style="green", markup=False)
    elif verify:
        out.print(f"DIFFERENT from {result.compared_with}: {result.live_digest}", style="bold red", markup=False)
    if not belief:
        return
    out.print(f"belief at {'the beginning' if result.at is None else rfc3339(result.at)}", style="bold", markup=False)
    held = ", ".join(f"{symbol} {number(quantity)}" for symbol, quantity in result.positions.items())
    out.print(f"trading {result.trading_state} · cash {money(result.cash)} · positions {held or 'none'}", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("id", "side", "symbol", "filled", "status"):
        table.add_column(title, justify="right" if title == "filled" else "left")
    for row in result.orders[:30]:
        filled = f"{number(row.filled)} of {number(row.quantity)}"
        table.add_row(row.id, styled(row.side), row.symbol, filled, row.status)
    out.print(table)
