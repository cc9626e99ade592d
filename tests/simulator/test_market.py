"""The invented market and the played recording."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trueup.simulator.market import CENT, Bar, Market, QuoteTick, TradeTick
from trueup.simulator.replay import ReplayInvalid, read_bars

START = datetime(2026, 3, 2, 15, tzinfo=UTC)
GOOD = """timestamp,symbol,open,high,low,close,volume
2026-03-02T14:31:00Z,ACME,10.10,10.30,10.05,10.20,500
2026-03-02T14:30:00Z,ACME,10.00,10.20,9.90,10.10,1000
2026-03-02T14:30:00,ZED,50,51,49,50.5,200
"""


def seconds(count: float) -> datetime:
    return START + timedelta(seconds=count)


def lived(seed: int, until: float = 120, speed: float = 1.0) -> list[Any]:
    market = Market(seed=seed, start=START, speed=speed)
    ticks: list[Any] = []
    for second in range(int(until) + 1):
        ticks.extend(market.advance(seconds(second)))
    return ticks


def test_the_same_seed_gives_the_same_ticks_and_another_seed_others() -> None:
    assert lived(7) == lived(7)
    assert lived(7) != lived(8)


def test_ticks_keep_the_market_s_rules() -> None:
    ticks = lived(7, 300, speed=60)
    quotes = [tick for tick in ticks if isinstance(tick, QuoteTick)]
    bars = [tick for tick in ticks if isinstance(tick, Bar)]
    assert len({tick.symbol for tick in quotes}) >= 20
    assert all(quote.bid <= quote.ask and not quote.bid % CENT and not quote.ask % CENT for quote in quotes)
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
    assert all(bar.volume > 0 and bar.low <= bar.vwap <= bar.high for bar in bars)
    spy = [bar.at for bar in bars if bar.symbol == "SPY"]
    assert spy == sorted(set(spy))
    assert len(spy) > 250


def test_prices_move_plausibly() -> None:
    """A trading day at most moves a calm fund by a few percent, and no symbol stands still."""
    market = Market(seed=3, start=START, speed=60)
    opening = {symbol: market.quote(symbol).last for symbol in market.symbols()}
    for second in range(391):
        market.advance(seconds(second))
    moved = {symbol: abs(market.quote(symbol).last / opening[symbol] - 1) for symbol in market.symbols()}
    assert all(share > 0 for share in moved.values())
    assert moved["SPY"] < Decimal("0.06")
    assert max(moved.values()) < Decimal("0.4")


def test_history_joins_the_present() -> None:
    market = Market(seed=7, start=START)
    bars = market.minute_bars("AAPL")
    assert bars[-1].close == market.quote("AAPL").last
    assert bars[-1].at < START
    days = market.day_bars("AAPL")
    assert [day.at for day in days] == sorted({day.at for day in days})
    assert market.previous_close("AAPL") == days[-2].close


def test_a_price_set_by_hand_stays_while_held_and_is_where_the_walk_goes_on() -> None:
    market = Market(seed=7, start=START)
    market.advance(seconds(5))
    trade, quote = market.move("KO", Decimal("70"), seconds(5), hold_seconds=10)
    assert isinstance(trade, TradeTick)
    assert isinstance(quote, QuoteTick)
    assert not [tick for tick in market.advance(seconds(14)) if tick.symbol == "KO"]
    assert market.quote("KO").last == 70
    after = [tick for tick in market.advance(seconds(60)) if tick.symbol == "KO" and isinstance(tick, QuoteTick)]
    assert after
    assert all(abs(tick.bid - 70) < 1 for tick in after)


def test_a_long_pause_is_not_lived_through() -> None:
    market = Market(seed=7, start=START)
    ticks = market.advance(START + timedelta(days=2))
    assert len([tick for tick in ticks if tick.symbol == "AAPL"]) <= 400
    assert market.next_step_at() > START + timedelta(days=2)


def write(tmp_path: Path, text: str, name: str = "bars.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_recording_is_sorted_and_played_back(tmp_path: Path) -> None:
    bars = read_bars(write(tmp_path, GOOD))
    assert [(bar.symbol, bar.at.minute) for bar in bars] == [("ACME", 30), ("ZED", 30), ("ACME", 31)]
    market = Market(seed=1, start=START, speed=60, recording=bars, tick_seconds=0.05)
    ticks: list[Any] = []
    for step in range(1, 60):
        ticks.extend(market.advance(seconds(step * 0.05)))
    played = [(tick.symbol, tick.at.minute, tick.close) for tick in ticks if isinstance(tick, Bar)]
    assert played == [("ACME", 30, Decimal("10.10")), ("ZED", 30, Decimal("50.5")), ("ACME", 31, Decimal("10.20"))]
    middles = {(tick.bid + tick.ask) / 2 for tick in ticks if isinstance(tick, QuoteTick) and tick.symbol == "ACME"}
    assert min(middles) >= Decimal("9.89")
    assert max(middles) <= Decimal("10.31")
    assert market.is_over
    assert [bar.close for bar in market.minute_bars("ACME")] == [Decimal("10.10"), Decimal("10.20")]


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    bars = read_bars(write(tmp_path, GOOD))
    names = ("timestamp", "symbol", "open", "high", "low", "close", "volume")
    rows = [[b.at, b.symbol, float(b.open), float(b.high), float(b.low), float(b.close), int(b.volume)] for b in bars]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read_bars(path) == bars


HEAD = "timestamp,symbol,open,high,low,close,volume\n"
WRONG = [
    ("timestamp,symbol,open,high,close,volume\n", "column low is missing"),
    (HEAD, "holds no bars"),
    (HEAD + "yesterday,A,1,1,1,1,1\n", "line 2: column timestamp: 'yesterday' is not a time such as"),
    (HEAD + "2026-03-02T14:30:00Z,,1,1,1,1,1\n", "line 2: column symbol: is empty"),
    (HEAD + "2026-03-02T14:30:00Z,A,1,1,1,1,1\n2026-03-02T14:31:00Z,A,x,1,1,1,1\n", "line 3: column open: 'x'"),
    (HEAD + "2026-03-02T14:30:00Z,A,1,1,1,-1,1\n", "line 2: column close"),
    (HEAD + "2026-03-02T14:30:00Z,A,1,1,1,1,-5\n", "line 2: column volume: '-5' must not be negative"),
    (HEAD + "2026-03-02T14:30:00Z,A,2,1,1,1,5\n", "line 2: column high: must be the highest"),
    (HEAD + "2026-03-02T14:30:00Z,A,2,3,2.5,3,5\n", "line 2: column low: must be the lowest"),
    (HEAD + "2026-03-02T14:30:00Z,A,2\n", "line 2: column high: None is not a number"),
    (HEAD + "2026-03-02T14:30:00Z,A,nan,1,1,1,1\n", "line 2: column open: 'nan' is not a number"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_recording_names_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReplayInvalid) as caught:
        read_bars(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_recording_must_be_there_and_of_a_known_kind(tmp_path: Path) -> None:
    with pytest.raises(ReplayInvalid, match="no such file"):
        read_bars(tmp_path / "none.csv")
    with pytest.raises(ReplayInvalid, match=r"must end in \.csv or \.parquet"):
        read_bars(write(tmp_path, GOOD, "bars.txt"))
    with pytest.raises(ReplayInvalid, match="is not a Parquet file"):
        read_bars(write(tmp_path, GOOD, "bars.parquet"))
