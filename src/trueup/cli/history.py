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
from rich.console import RenderableType
from rich.text import Text

from trueup.cli.gateway import UrlOption, gateway, segment
from trueup.cli.ledger import Line, ledger
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
    standing,
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
        standing(row),
        f", filled {number(row['filled_quantity'])}",
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
    told = [(line["offset"], 0, line) for line in lines] + [(deed["offset"], 1, deed) for deed in deeds]
    entries = []
    for offset, kind, item in sorted(told, key=lambda each: each[:2]):
        if kind:
            times = f" ({item['times']} times)" if item["times"] > 1 else ""
            cells = (str(offset), _clock(item["at"]), "us", "", "", "")
            entries.append(Line(cells, f"→ {item['what']}{times}", style="cyan"))
            continue
        known = item["broker_at"]
        cells = (
            str(offset),
            _clock(item["arrived_at"]),
            item["source"],
            "–" if known is None else _clock(known, beside=item["arrived_at"]),
            "–" if known is None else _span_between(known, item["arrived_at"]),
            f"{item['status_after']} {number(item['filled_after'])}",
        )
        entries.append(Line(cells, _said(item), style="" if item["changed"] else "dim"))
    heads = ("entry", "when (UTC)", "by", "broker knew", "late", "status, filled", "what")
    return _ledger("what we learned and did", heads, entries)


def _executions(fills: list[dict[str, Any]]) -> RenderableType:
    entries = []
    for fill in fills:
        flags = (("missed by the stream", fill["missed_by_stream"]), ("inferred", fill["inferred"]))
        late = fill["late_s"]
        cells = (
            _clock(fill["entry_time"]),
            number(fill["quantity"]),
            number(fill["entry_price"]),
            fill["source"],
            "–" if late is None else span(float(late)),
        )
        words = ", ".join(
            [*([fill["execution_id"]] if fill["execution_id"] else []), *(w for w, is_so in flags if is_so)]
        )
        entries.append(Line(cells, words))
    return _ledger("executions", ("at (UTC)", "quantity", "price", "learned by", "late", "execution"), entries)


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
    entries = []
    for row in drifts:
        ended = row["ended_at"]
        cells = (
            _clock(row["first_seen_at"]),
            "still" if ended is None else _span_between(row["first_seen_at"], ended),
            f"{row['kind']} {row['subject']}",
            row["believed"],
            row["reported"],
            row["state"] + (", trued up" if row["trued_up"] else ""),
        )
        words = "; ".join(text for text in (row["cause"], row["ended_by"]) if text)
        entries.append(Line(cells, words, style="yellow" if ended is None else ""))
    heads = ("first seen (UTC)", "lasted", "of", "believed", "broker said", "ended", "cause; healed by")
    return _ledger("drift", heads, entries)


def _gaps(gaps: list[dict[str, Any]]) -> RenderableType:
    entries = []
    for gap in gaps:
        ended = gap["closed_at"]
        ways = ", ".join(f"{way} {count}" for way, count in gap["learned_by"].items())
        cells = (
            _clock(gap["opened_at"]),
            "still" if ended is None else _span_between(gap["opened_at"], ended),
            str(gap["missed"]),
            ways,
        )
        entries.append(Line(cells, gap["reason"], style="yellow" if ended is None else ""))
    return _ledger("gaps", ("opened (UTC)", "lasted", "missed fills", "learned by", "reason"), entries)


def _ledger(title: str, columns: tuple[str, ...], lines: list[Line]) -> RenderableType:
    numbers = ("entry", "late", "quantity", "price", "missed fills")
    return ledger(title, columns, lines, width=out.width, numbers=numbers)


def _clock(at: str, *, beside: str = "") -> str:
    """To the millisecond: the question is often about less than a second. Without the day that it shares with one."""
    moment, neighbour = parse_time(at), parse_time(beside or None)
    if moment is None:
        return ""
    is_same_day = neighbour is not None and neighbour.astimezone(UTC).date() == moment.astimezone(UTC).date()
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f" if is_same_day else "%m-%d %H:%M:%S.%f")[:-3]


def _span_between(first: str, second: str) -> str:
    began, ended = parse_time(first), parse_time(second)
    return "–" if began is None or ended is None else span((ended - began).total_seconds())
