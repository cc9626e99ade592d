"""`trueup explain` and `trueup drift`: questions after the fact, to a running trueup or to a state folder.

Not for what is believed now (`status`, `orders`). Invariant: both ways give the same answer, because both fold the
journal; a folder is left as it was found, and may be in use meanwhile.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trueup.cli.gateway import UrlOption, gateway, segment
from trueup.cli.output import (
    EXIT_NO,
    EXIT_USAGE,
    CommandFailed,
    JsonFlag,
    emit_text,
    number,
    out,
    parse_time,
    span,
    styled,
)

StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="Ask this journal instead of a running trueup."),
]


def explain(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="Our id, the client order id, or the broker's id.")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="What was believed then, such as 2026-03-12T14:32:11Z."),
    ] = None,
    state: StateOption = None,
    url: UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell an order's whole story: what came, by which way, how late, what was believed, and what was done meanwhile.

    The journal is folded again for it, so that orders of long ago are told as fully as those of today.
    """
    moment = None if at is None else _moment(at)
    if state is None:
        with gateway(url) as remote:
            query = {"at": at}
            text = remote.ask_text("GET", f"/api/explain/{segment(order)}", query=query)
    else:
        from trueup import bootstrap

        told = bootstrap.explain(state, order, at=moment)
        if told is None:
            message = f"the journal in {state} knows no order {order!r}"
            raise CommandFailed(message, exit_code=EXIT_NO, code="unknown_order", field="order")
        text = told.decode()
    if as_json:
        emit_text(text + "\n")
        return
    _show(json.loads(text, parse_float=Decimal))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        message = f"--at must be a time such as 2026-03-12T14:32:11Z; got {text!r}"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="at") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _show(story: dict[str, Any]) -> None:
    detail = story["detail"]
    row = detail["order"]
    head = Text.assemble(
        (row["id"], "bold"),
        "  ",
        styled(row["side"]),
        f" {number(row['quantity'])} {row['symbol']} {row['type']}  ",
        styled(row["status"]),
        f" ({row['detail']}), filled {number(row['filled_quantity'])}",
    )
    out.print(head)
    names = [row["client_order_id"], *row["broker_order_ids"]]
    out.print(f"known as {', '.join(name for name in names if name)}", style="dim", markup=False, soft_wrap=True)
    if story["moment"] is not None:
        _show_moment(story["moment"])
    out.print(_timeline(detail["timeline"], [*story["deeds"], *story["meanwhile"]]))
    if detail["executions"]:
        out.print(_executions(detail["executions"]))
    for gap in detail["gaps"]:
        end = _clock(gap["closed_at"]) if gap["closed_at"] else "now"
        out.print(f"gap {_clock(gap['opened_at'])} to {end}: {gap['reason']}", style="yellow", markup=False)
    for band in story["bands"]:
        end = _clock(band["closed_at"]) if band["closed_at"] else "now"
        demand = f"{band['demand']} demanded by {band['name']}"
        out.print(f"{demand} {_clock(band['opened_at'])} to {end}: {band['reason']}", style="yellow", markup=False)


def _show_moment(moment: dict[str, Any]) -> None:
    lag = moment["truth_lag_s"]
    believed = moment["order"]
    out.print(f"at {_clock(moment['at'])}, after entry {moment['offset']}", style="bold", markup=False)
    if believed is None:
        out.print("  nothing was known of this order", markup=False)
    else:
        filled = f"{number(believed['filled_quantity'])} of {number(believed['quantity'])} filled"
        doubt = f", its {believed['in_doubt']} in doubt" if believed["in_doubt"] else ""
        held = f"{number(moment['position'])} {believed['symbol']} held"
        out.print(
            f"  believed {believed['detail']}, {filled}, learned by {believed['source']}{doubt}; {held}", markup=False
        )
    sure = "never proven" if lag is None else f"truth lag {span(float(lag))}"
    gap = f", a gap was open: {moment['gap']['reason']}" if moment["gap"] is not None else ""
    out.print(
        f"  trading {moment['trading_state']}, broker events {moment['broker_events']}, {sure}{gap}", markup=False
    )
    for line in moment["ahead"]:
        late = _span_between(moment["at"], line["arrived_at"])
        out.print(
            f"  the broker knew already, and we {late} later by {line['source']}: {_said(line)}",
            style="yellow",
            markup=False,
        )
    if not moment["ahead"]:
        out.print("  the broker knew nothing of it that we did not", style="green", markup=False)


def _said(line: dict[str, Any]) -> str:
    told, text = str(line["told"]), str(line["text"])
    says_it_all = line["fills"] if line["event"] in ("STATUS", "TRADE") else False
    if text and (says_it_all or (line["event"], line["source"]) == ("STATUS", "reply")):
        return text
    return f"{told}: {text}" if text else told


def _timeline(lines: list[dict[str, Any]], deeds: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="what we learned and did", title_justify="left")
    for title in ("entry", "when (UTC)", "by", "broker knew", "late", "status after", "filled", "what"):
        _column(table, title, ("entry", "late", "filled"))
    told = [(line["offset"], 0, line) for line in lines] + [(deed["offset"], 1, deed) for deed in deeds]
    for offset, kind, item in sorted(told, key=lambda each: each[:2]):
        if kind:
            times = f" ({item['times']} times)" if item["times"] > 1 else ""
            what = Text(f"→ {item['what']}{times}")
            table.add_row(str(offset), _clock(item["at"]), "us", "", "", "", "", what, style="cyan")
            continue
        known = item["broker_at"]
        table.add_row(
            str(offset),
            _clock(item["arrived_at"]),
            item["source"],
            "–" if known is None else _clock(known),
            "–" if known is None else _span_between(known, item["arrived_at"]),
            item["status_after"],
            number(item["filled_after"]),
            Text(_said(item)),
            style="" if item["changed"] else "dim",
        )
    return table


def _executions(fills: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="executions", title_justify="left")
    for title in ("at (UTC)", "quantity", "price", "learned by", "late", "execution", "note"):
        _column(table, title, ("quantity", "price", "late"))
    for fill in fills:
        flags = (("missed by the stream", fill["missed_by_stream"]), ("inferred", fill["inferred"]))
        late = fill["late_s"]
        table.add_row(
            _clock(fill["entry_time"]),
            number(fill["quantity"]),
            number(fill["entry_price"]),
            fill["source"],
            "–" if late is None else span(float(late)),
            fill["execution_id"],
            ", ".join(word for word, is_so in flags if is_so),
        )
    return table


def drift(state: StateOption = None, url: UrlOption = None, as_json: JsonFlag = False) -> None:
    """List every divergence ever seen: what was believed, what the broker said, why, how it ended; and every gap."""
    if state is None:
        with gateway(url) as remote:
            text = remote.ask_text("GET", "/api/divergences")
    else:
        from trueup import bootstrap

        text = bootstrap.divergences(state).decode()
    if as_json:
        emit_text(text + "\n")
        return
    told = json.loads(text, parse_float=Decimal)
    if not told["drifts"]:
        out.print("no drift was ever seen", style="green")
    else:
        out.print(_drifts(told["drifts"]))
    if told["gaps"]:
        out.print(_gaps(told["gaps"]))
    older = f"; {told['left_out']:,} older ones are left out" if told["left_out"] else ""
    out.print(f"{told['folded_to']:,} entries were folded{older}", style="dim")


def _drifts(drifts: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="drift", title_justify="left")
    for title in ("first seen (UTC)", "lasted", "kind", "of", "believed", "broker said", "ended", "cause", "healed by"):
        _column(table, title, ())
    for row in drifts:
        ended = row["ended_at"]
        end = row["state"] + (", trued up" if row["trued_up"] else "")
        table.add_row(
            _clock(row["first_seen_at"]),
            "still" if ended is None else _span_between(row["first_seen_at"], ended),
            row["kind"],
            row["subject"],
            row["believed"],
            row["reported"],
            end,
            Text(row["cause"]),
            Text(row["ended_by"]),
            style="yellow" if ended is None else "",
        )
    return table


def _gaps(gaps: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="gaps", title_justify="left")
    for title in ("opened (UTC)", "lasted", "missed fills", "learned by", "reason"):
        _column(table, title, ("missed fills",))
    for gap in gaps:
        ended = gap["closed_at"]
        ways = ", ".join(f"{way} {count}" for way, count in gap["learned_by"].items())
        table.add_row(
            _clock(gap["opened_at"]),
            "still" if ended is None else _span_between(gap["opened_at"], ended),
            str(gap["missed"]),
            ways,
            Text(gap["reason"]),
            style="yellow" if ended is None else "",
        )
    return table


def _column(table: Table, title: str, numbers: tuple[str, ...]) -> None:
    is_whole = title.endswith("(UTC)") or title in ("broker knew", "entry", "late", "lasted", "status after")
    table.add_column(title, justify="right" if title in numbers else "left", no_wrap=is_whole)


def _clock(at: str) -> str:
    """To the millisecond: the question is often about less than a second."""
    moment = parse_time(at)
    return "" if moment is None else moment.astimezone(UTC).strftime("%m-%d %H:%M:%S.%f")[:-3]


def _span_between(first: str, second: str) -> str:
    began, ended = parse_time(first), parse_time(second)
    return "–" if began is None or ended is None else span((ended - began).total_seconds())
