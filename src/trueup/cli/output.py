"""What commands say and how they end: the two consoles, JSON, one-line errors and exit codes.

Not for what any command does.
Invariant: standard output carries the answer and nothing else, so that it can be piped; everything else, errors first
of all, goes to standard error in one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from trueup import errors

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70
EXIT_TRY_AGAIN = 75
EXIT_NOT_ALLOWED = 77

STYLES = {
    "UP": "green",
    "RESTORING": "yellow",
    "SUSPECT": "yellow",
    "DOWN": "red",
    "healthy": "green",
    "degraded": "yellow",
    "down": "red",
    "ACTIVE": "green",
    "REDUCE_ONLY": "yellow",
    "HALTED": "red",
    "KILLED": "bold red",
    "FILLED": "green",
    "SUBMITTED": "cyan",
    "PENDING": "yellow",
    "CANCELLED": "dim",
    "REJECTED": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "BUY": "green",
    "SELL": "magenta",
}


class CommandFailed(Exception):
    """A command could not do what was asked; `message` is one line, `exit_code` what the process returns."""

    def __init__(self, message: str, *, exit_code: int = EXIT_NO, code: str = "failed", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.code = code
        self.field = field


def exit_code_of(error: errors.TrueupError) -> int:
    """The process exit code that an error of ours stands for."""
    match error:
        case errors.Fatal():
            return error.exit_code
        case errors.BadInput():
            return EXIT_USAGE
        case errors.BrokerUnavailable() | errors.FeedEnded():
            return EXIT_UNAVAILABLE
        case errors.Busy() | errors.RateLimited() | errors.OutcomeUnknown():
            return EXIT_TRY_AGAIN
        case _:
            return EXIT_NO


def say_error(message: str, *, code: str, field: str, as_json: bool) -> None:
    """Write one line to standard error."""
    line = " ".join(message.split())
    if as_json:
        text = json.dumps({"error": {"code": code, "message": line, "field": field}})
        err.print(text, markup=False, soft_wrap=True)
    else:
        err.print(Text.assemble(("trueup: ", "bold red"), line), soft_wrap=True)


def note(message: str) -> None:
    """Write one line for people to standard error."""
    err.print(message, markup=False, soft_wrap=True)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value)


def emit(value: Any) -> None:
    """Write one JSON document to standard output, on one line when it is piped."""
    indent = 2 if out.is_terminal else None
    out.print(json.dumps(value, indent=indent, default=_plain), markup=False, soft_wrap=True)


def emit_text(text: str) -> None:
    """Write prepared text to standard output as it is."""
    out.print(text, markup=False, soft_wrap=True, end="" if text.endswith("\n") else "\n")


def styled(word: object) -> Text:
    """A word in the colour that it has everywhere in this command line."""
    text = "–" if word is None or word == "" else str(word)
    return Text(text, style=STYLES.get(text, ""))


def standing(order: dict[str, Any]) -> Text:
    """How an order stands: its status, what the broker calls it where that says more, and what of it is in doubt."""
    text = styled(order["status"])
    if order["detail"] not in (order["status"], "CANCELED"):  # which is CANCELLED, as the broker spells it
        text.append(f" ({order['detail']})", style="default")
    if order["in_doubt"]:
        text.append(f", its {order['in_doubt']} in doubt", style="yellow")
    return text


def rfc3339(value: datetime) -> str:
    """A time as text in UTC with a Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(value: str | None) -> datetime | None:
    """A time from RFC 3339 text; None where there is none."""
    return None if value is None else datetime.fromisoformat(value.replace("Z", "+00:00"))


def span(seconds: float | None) -> str:
    """A stretch of time for people: 0.4 s, 12 s, 3 min 5 s, 2 h 4 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def age(at: str | None, now: str | None) -> str:
    """How long before `now` something was, for people; both RFC 3339."""
    then, present = parse_time(at), parse_time(now)
    if then is None or present is None:
        return "never"
    return span((present - then).total_seconds()) + " ago"


def moment(at: str) -> str:
    """An RFC 3339 time in UTC for people, to the second and without the year."""
    return at[5:19].replace("T", " ")


def number(value: object) -> str:
    """An amount for people: no exponent, no trailing zeros behind the point."""
    if value is None:
        return "–"
    amount = Decimal(str(value))
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: object) -> str:
    """An amount of money for people, with separators and two places."""
    return "–" if value is None else f"{Decimal(str(value)):,.2f}"


def _told(error: BaseException) -> CommandFailed | errors.TrueupError | None:
    """The error that was raised on purpose, also from inside a group of tasks; the gravest when there are several."""
    if isinstance(error, (CommandFailed, errors.TrueupError)):
        return error
    if isinstance(error, BaseExceptionGroup):
        inner = [_told(each) for each in error.exceptions]
        # A bug among them must not hide behind an expected error.
        if inner and all(each is not None for each in inner):
            return next((each for each in inner if isinstance(each, errors.Fatal)), inner[0])
    return None


@contextmanager
def errors_as_lines(*, debug: bool, as_json: bool) -> Iterator[None]:
    """Turn every error that was raised on purpose into one line and its exit code; with `debug`, let it through."""
    try:
        yield
    except (CommandFailed, errors.TrueupError, BaseExceptionGroup) as raised:
        error = _told(raised)
        if debug or error is None:
            raise
        if isinstance(error, CommandFailed):
            say_error(error.message, code=error.code, field=error.field, as_json=as_json)
            raise SystemExit(error.exit_code) from None
        field = error.field if isinstance(error, errors.BadInput) else ""
        code = "".join("_" + c.lower() if c.isupper() else c for c in type(error).__name__).lstrip("_")
        say_error(str(error) or code, code=code, field=field, as_json=as_json)
        raise SystemExit(exit_code_of(error)) from None
