"""Recorded minute bars from a CSV or Parquet file.

For: reading and checking a recording before the market starts. Not for: playing it (that is `market`).
Invariant: what is returned is sorted by time, with aware timestamps and positive decimal prices; anything else in
the file is one clear error that names the line and the column.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

COLUMNS = ("timestamp", "symbol", "open", "high", "low", "close", "volume")


class ReplayInvalid(ValueError):
    """A recording cannot be used; the message names file, line, column and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBar:
    """One bar of a recording; prices in dollars, volume in shares."""

    at: datetime
    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def read_bars(path: Path) -> list[RecordedBar]:
    """All bars of the file, sorted by time and symbol; ReplayInvalid when something is wrong with it."""
    if not path.is_file():
        raise ReplayInvalid(f"{path}: no such file; give a CSV or Parquet file with columns {','.join(COLUMNS)}")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = _csv_rows(path)
    elif suffix in {".parquet", ".pq"}:
        rows = _parquet_rows(path)
    else:
        raise ReplayInvalid(f"{path}: the name must end in .csv or .parquet, not {suffix or 'nothing'}")
    bars = [_bar(path, line, row) for line, row in rows]
    if not bars:
        raise ReplayInvalid(f"{path}: holds no bars; at least one row is needed below the columns {','.join(COLUMNS)}")
    return sorted(bars, key=lambda bar: (bar.at, bar.symbol))


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(path, reader.fieldnames or [])
            for row in reader:
                yield reader.line_num, dict(row)
        except (UnicodeDecodeError, csv.Error) as problem:
            raise ReplayInvalid(f"{path}: line {reader.line_num + 1}: is not UTF-8 CSV text ({problem})") from problem


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    # Slow to import, and only needed for this one kind of file.
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as problem:
        raise ReplayInvalid(f"{path}: is not a Parquet file ({problem})") from problem
    _check_columns(path, table.column_names)
    yield from enumerate(table.select(list(COLUMNS)).to_pylist(), start=1)


def _check_columns(path: Path, found: object) -> None:
    have = [str(name) for name in found] if isinstance(found, list | tuple) else []
    missing = [name for name in COLUMNS if name not in have]
    if missing:
        raise ReplayInvalid(
            f"{path}: column {', '.join(missing)} is missing; found {', '.join(have) or 'none'}; "
            f"needed are {', '.join(COLUMNS)}"
        )


def _bar(path: Path, line: int, row: dict[str, object]) -> RecordedBar:
    symbol = str(row["symbol"] or "").strip().upper()
    if not symbol:
        raise ReplayInvalid(f"{path}: line {line}: column symbol: is empty; a ticker such as AAPL is needed")
    prices = {name: _number(path, line, name, row[name]) for name in COLUMNS[2:]}
    for name in ("open", "high", "low", "close"):
        if prices[name] <= 0:
            raise ReplayInvalid(f"{path}: line {line}: column {name}: {row[name]!r} must be greater than 0")
    if prices["volume"] < 0:
        raise ReplayInvalid(f"{path}: line {line}: column volume: {row['volume']!r} must not be negative")
    if prices["high"] < max(prices["open"], prices["close"], prices["low"]):
        _refuse_range(path, line, "high", "the highest")
    if prices["low"] > min(prices["open"], prices["close"], prices["high"]):
        _refuse_range(path, line, "low", "the lowest")
    return RecordedBar(at=_instant(path, line, row["timestamp"]), symbol=symbol, **prices)


def _refuse_range(path: Path, line: int, name: str, which: str) -> None:
    raise ReplayInvalid(f"{path}: line {line}: column {name}: must be {which} of the bar's four prices")


def _number(path: Path, line: int, name: str, value: object) -> Decimal:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ReplayInvalid(f"{path}: line {line}: column {name}: {value!r} is not a number such as 187.25")
    return number


def _instant(path: Path, line: int, value: object) -> datetime:
    at = value
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value.strip())
        except ValueError:
            at = None
    if not isinstance(at, datetime):
        raise ReplayInvalid(
            f"{path}: line {line}: column timestamp: {value!r} is not a time such as 2026-03-02T14:31:00Z"
        )
    # A time without an offset is taken as UTC, as exports often leave it out.
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
