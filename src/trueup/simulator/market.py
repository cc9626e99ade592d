"""Prices for the simulated exchange: an invented market drawn from a seed, or a recording played back.

For: quotes, trades and minute bars of some two dozen symbols, each with its own volatility, spread, jumps and pull
towards where it came from; and the history a chart asks for. Not for: matching, or for judging a strategy: nobody
here reacts to what is bought. Speed X makes market time run X times as fast as real time; quotes and trades are
stamped with the real instant at which they were made, bars with market time.
Invariant: prices lie on the one-cent grid, bid <= ask, low <= open, close <= high; the same seed and the same
instants give the same ticks.
"""

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from trueup.simulator.model import Asset, Quote
from trueup.simulator.replay import RecordedBar

CENT = Decimal("0.01")
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
TRADING_SECONDS_A_YEAR = 252 * 6.5 * 3600
# Trades of one symbol in a second of market time.
TRADES_A_SECOND = 0.8
HISTORY_MINUTES = 1440
HISTORY_DAYS = 260
# After a long pause of the machine the market goes on from there instead of living through all of it.
STEPS_MAX = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol of the invented market. `volatility` is yearly, `spread_bps` in hundredths of a percent of the price."""

    symbol: str
    name: str
    exchange: str
    price: str
    volatility: float
    spread_bps: float
    fractionable: bool = True
    shortable: bool = True


LISTINGS = (
    Listing("AAPL", "Apple Inc. Common Stock", "NASDAQ", "228.40", 0.26, 0.5),
    Listing("MSFT", "Microsoft Corporation Common Stock", "NASDAQ", "431.10", 0.24, 0.6),
    Listing("NVDA", "NVIDIA Corporation Common Stock", "NASDAQ", "138.25", 0.48, 0.8),
    Listing("AMZN", "Amazon.com, Inc. Common Stock", "NASDAQ", "201.70", 0.31, 0.6),
    Listing("GOOGL", "Alphabet Inc. Class A Common Stock", "NASDAQ", "176.30", 0.29, 0.7),
    Listing("META", "Meta Platforms, Inc. Class A Common Stock", "NASDAQ", "563.90", 0.35, 1.0),
    Listing("TSLA", "Tesla, Inc. Common Stock", "NASDAQ", "338.60", 0.58, 1.5),
    Listing("AMD", "Advanced Micro Devices, Inc. Common Stock", "NASDAQ", "139.15", 0.46, 1.0),
    Listing("INTC", "Intel Corporation Common Stock", "NASDAQ", "24.40", 0.42, 4.1),
    Listing("NFLX", "Netflix, Inc. Common Stock", "NASDAQ", "884.50", 0.33, 2.5),
    Listing("COST", "Costco Wholesale Corporation Common Stock", "NASDAQ", "929.30", 0.21, 2.0),
    Listing("QQQ", "Invesco QQQ Trust, Series 1", "NASDAQ", "503.20", 0.20, 0.3),
    Listing("SPY", "SPDR S&P 500 ETF Trust", "ARCA", "592.80", 0.15, 0.2),
    Listing("IWM", "iShares Russell 2000 ETF", "ARCA", "230.10", 0.22, 0.5),
    Listing("JPM", "JPMorgan Chase & Co. Common Stock", "NYSE", "243.60", 0.22, 1.0),
    Listing("BAC", "Bank of America Corporation Common Stock", "NYSE", "46.20", 0.26, 2.2),
    Listing("XOM", "Exxon Mobil Corporation Common Stock", "NYSE", "120.80", 0.23, 1.0),
    Listing("JNJ", "Johnson & Johnson Common Stock", "NYSE", "154.90", 0.15, 1.2),
    Listing("PG", "Procter & Gamble Company Common Stock", "NYSE", "171.40", 0.15, 1.2),
    Listing("KO", "Coca-Cola Company Common Stock", "NYSE", "62.90", 0.14, 1.6),
    Listing("WMT", "Walmart Inc. Common Stock", "NYSE", "87.20", 0.18, 1.2),
    Listing("DIS", "Walt Disney Company Common Stock", "NYSE", "114.30", 0.27, 1.2),
    Listing("F", "Ford Motor Company Common Stock", "NYSE", "10.95", 0.38, 9.0),
    Listing("PLTR", "Palantir Technologies Inc. Class A Common Stock", "NASDAQ", "64.80", 0.62, 2.0),
    Listing("BRK.B", "Berkshire Hathaway Inc. Class B Common Stock", "NYSE", "471.30", 0.16, 2.0, fractionable=False),
    Listing("GME", "GameStop Corp. Class A Common Stock", "NYSE", "27.60", 0.85, 4.0, shortable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteTick:
    """A new best bid and ask; sizes in shares."""

    symbol: str
    at: datetime
    bid: Decimal
    ask: Decimal
    bid_size: int
    ask_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeTick:
    """A trade on the tape; size in shares."""

    symbol: str
    at: datetime
    number: int
    price: Decimal
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A finished bar; `at` is where it begins, in market time."""

    symbol: str
    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    trades: int
    vwap: Decimal


Tick = QuoteTick | TradeTick | Bar


def cents(value: Decimal | float) -> Decimal:
    """A price on the one-cent grid, at least one cent."""
    return max(Decimal(str(value)).quantize(CENT, ROUND_HALF_UP), CENT)


def merged(bars: Sequence[Bar], begins: datetime) -> Bar:
    """Several consecutive bars of one symbol as one that begins at `begins`."""
    volume = sum(bar.volume for bar in bars)
    value = sum((bar.vwap * bar.volume for bar in bars), Decimal(0))
    return Bar(
        symbol=bars[0].symbol,
        at=begins,
        open=bars[0].open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=bars[-1].close,
        volume=volume,
        trades=sum(bar.trades for bar in bars),
        vwap=(value / volume).quantize(Decimal("0.000001")) if volume else bars[-1].close,
    )


def bucketed(bars: Iterable[Bar], width: timedelta) -> Iterator[Bar]:
    """Bars joined into wider ones, each beginning at a multiple of `width` since the epoch."""
    group: list[Bar] = []
    begins: datetime | None = None
    for bar in bars:
        seconds = int(bar.at.timestamp())
        start = datetime.fromtimestamp(seconds - seconds % int(width.total_seconds()), UTC)
        if group and begins is not None and start != begins:
            yield merged(group, begins)
            group = []
        begins = start
        group.append(bar)
    if group and begins is not None:
        yield merged(group, begins)


class _Line:
    """One symbol's path. The walk uses machine floats, as its shape is invented; prices that leave are decimals."""

    def __init__(self, listing: Listing, seed: int) -> None:
        self.listing = listing
        self.random = random.Random(f"{seed}:market:{listing.symbol}")
        self.mid = float(listing.price)
        self.anchor = self.mid
        self.held_until: datetime | None = None
        self.held: Decimal | None = None
        half = self.mid * listing.spread_bps / 20_000
        self.quote = Quote(
            symbol=listing.symbol, bid=cents(self.mid - half), ask=cents(self.mid + half), last=cents(self.mid)
        )
        self.quoted_at: datetime | None = None
        self.last_trade: TradeTick | None = None
        self.minute: datetime | None = None
        self.forming: list[TradeTick] = []
        self.bars: list[Bar] = []

    def step(self, seconds: float) -> float:
        """Move the middle price by one step of market time; the new middle."""
        sigma = self.listing.volatility * math.sqrt(seconds / TRADING_SECONDS_A_YEAR)
        pull = 1 - math.exp(-seconds / 7200)
        change = self.random.gauss(0, sigma) + pull * math.log(self.anchor / self.mid)
        if self.random.random() < 1 - math.exp(-seconds / 5400):
            # Now and then there is news: a jump of a few minutes' worth of movement, and a new place to return to.
            jump = self.random.gauss(0, self.listing.volatility * 0.02)
            change += jump
            self.anchor *= math.exp(jump)
        self.mid = max(self.mid * math.exp(change), 0.02)
        return self.mid


class Market:
    """All symbols together. `advance` returns what happened since; everything else is a look at what is."""

    def __init__(
        self,
        *,
        seed: int,
        start: datetime,
        speed: float = 1.0,
        tick_seconds: float = 0.5,
        recording: Sequence[RecordedBar] = (),
        only: Collection[str] | None = None,
    ) -> None:
        """`only` leaves every other symbol out, for a world that must be cheap."""
        self._seed = seed
        self._start = start
        self._speed = speed
        self._tick = timedelta(seconds=tick_seconds)
        self._tick_seconds = tick_seconds
        self._trade_probability = min(1 - math.exp(-TRADES_A_SECOND * tick_seconds * speed), 0.97)
        self._steps = 0
        self._trade_count = 0
        self._recording: dict[str, dict[datetime, RecordedBar]] = {}
        for bar in recording:
            self._recording.setdefault(bar.symbol, {})[bar.at] = bar
        self._minutes = sorted({bar.at for bar in recording})
        self._played = -1
        known = {listing.symbol: listing for listing in LISTINGS}
        listings: Iterable[Listing] = [each for each in LISTINGS if only is None or each.symbol in only]
        if self._recording:
            listings = [
                _recorded_listing(symbol, next(iter(bars.values())), known.get(symbol))
                for symbol, bars in sorted(self._recording.items())
            ]
        self._lines = {listing.symbol: _Line(listing, seed) for listing in listings}
        self._days: dict[str, list[Bar]] = {}
        self._past: dict[str, list[Bar]] = {}

    def assets(self, make_id: Callable[[int], str]) -> list[Asset]:
        """What can be traded; `make_id` names each asset from its place in the list."""
        return [
            Asset(
                id=make_id(place),
                symbol=line.listing.symbol,
                name=line.listing.name,
                exchange=line.listing.exchange,
                fractionable=line.listing.fractionable,
                shortable=line.listing.shortable,
            )
            for place, line in enumerate(self._lines.values(), start=1)
        ]

    def symbols(self) -> list[str]:
        """Every symbol, in listing order."""
        return list(self._lines)

    def quote(self, symbol: str) -> Quote:
        """Bid, ask and last of a known symbol."""
        return self._lines[symbol].quote

    def latest_quote(self, symbol: str) -> QuoteTick:
        """The quote in force, as a tick."""
        line = self._lines[symbol]
        return QuoteTick(
            symbol=symbol,
            at=line.quoted_at or self._start,
            bid=line.quote.bid,
            ask=line.quote.ask,
            bid_size=100,
            ask_size=100,
        )

    def latest_trade(self, symbol: str) -> TradeTick:
        """The last trade; before the first one, a trade of the opening price."""
        line = self._lines[symbol]
        return line.last_trade or TradeTick(symbol=symbol, at=self._start, number=0, price=line.quote.last, size=100)

    def market_time(self, at: datetime) -> datetime:
        """What the market's own clock shows at a real instant: for bars."""
        elapsed = (at - self._start) * self._speed
        if self._minutes:
            place, rest = divmod(elapsed, MINUTE)
            return self._minutes[min(place, len(self._minutes) - 1)] + (rest if place < len(self._minutes) else MINUTE)
        return self._start + elapsed

    @property
    def is_over(self) -> bool:
        """True when a recording has been played to its end; its last prices then stay."""
        return bool(self._minutes) and self._played >= len(self._minutes)

    def next_step_at(self) -> datetime:
        """The instant from which `advance` has something to do."""
        return self._start + self._tick * (self._steps + 1)

    def advance(self, at: datetime) -> list[Tick]:
        """Live on until `at`; what happened, in order."""
        due = int((at - self._start) / self._tick) - self._steps
        if due > STEPS_MAX:
            self._steps += due - STEPS_MAX
            due = STEPS_MAX
        ticks: list[Tick] = []
        for _ in range(max(due, 0)):
            self._steps += 1
            ticks.extend(self._step(self._start + self._tick * self._steps))
        return ticks

    def move(self, symbol: str, price: Decimal, at: datetime, hold_seconds: float = 0.0) -> list[Tick]:
        """Set bid, ask and last of a symbol to one price, and keep it there for a while."""
        line = self._lines[symbol]
        line.mid = line.anchor = float(price)
        line.held = price
        line.held_until = at + timedelta(seconds=hold_seconds)
        line.quote = Quote(symbol=symbol, bid=price, ask=price, last=price)
        line.quoted_at = at
        trade = self._trade(line, at, price, 100)
        quote = QuoteTick(symbol=symbol, at=at, bid=price, ask=price, bid_size=100, ask_size=100)
        return [trade, quote]

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def minute_bars(self, symbol: str) -> list[Bar]:
        """Finished minute bars, oldest first: an invented past, then what was lived."""
        if self._recording:
            return list(self._lines[symbol].bars)
        if symbol not in self._past:
            self._past[symbol] = self._invent_past(symbol, MINUTE, HISTORY_MINUTES, self._start)
        return self._past[symbol] + self._lines[symbol].bars

    def day_bars(self, symbol: str) -> list[Bar]:
        """Day bars, oldest first; the last is the day in progress."""
        minutes = self.minute_bars(symbol)
        today = list(bucketed(minutes, DAY))
        if self._recording or not minutes:
            return today
        if symbol not in self._days:
            self._days[symbol] = self._invent_past(symbol, DAY, HISTORY_DAYS, today[0].at)
        return self._days[symbol] + today

    def previous_close(self, symbol: str) -> Decimal:
        """The close of the day before; the present price when there is none."""
        days = self.day_bars(symbol)
        return days[-2].close if len(days) > 1 else self._lines[symbol].quote.last

    def _invent_past(self, symbol: str, width: timedelta, count: int, until: datetime) -> list[Bar]:
        """Walk backwards from the listing's price, so that the past joins the present without a jump."""
        line = self._lines[symbol]
        chance = random.Random(f"{self._seed}:past:{symbol}:{width.total_seconds()}")
        seconds = min(width.total_seconds(), 6.5 * 3600)
        sigma = line.listing.volatility * math.sqrt(seconds / TRADING_SECONDS_A_YEAR)
        begins = until.replace(second=0, microsecond=0)
        if width == DAY:
            begins = until.replace(hour=0, minute=0, second=0, microsecond=0)
        close = float(line.listing.price)
        bars: list[Bar] = []
        for _ in range(count):
            begins -= width
            opening = close * math.exp(chance.gauss(0, sigma))
            high = max(opening, close) * math.exp(abs(chance.gauss(0, sigma / 2)))
            low = min(opening, close) * math.exp(-abs(chance.gauss(0, sigma / 2)))
            volume = int(chance.lognormvariate(8, 0.5) * seconds / 60)
            prices = [cents(value) for value in (opening, high, low, close)]
            bars.append(
                Bar(
                    symbol=symbol,
                    at=begins,
                    open=prices[0],
                    high=prices[1],
                    low=prices[2],
                    close=prices[3],
                    volume=volume,
                    trades=max(volume // 80, 1),
                    vwap=(sum(prices, Decimal(0)) / 4).quantize(Decimal("0.0001")),
                )
            )
            close = opening
        bars.reverse()
        return bars

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(self, at: datetime) -> Iterator[Tick]:
        minute = self.market_time(at).replace(second=0, microsecond=0)
        if self._minutes:
            yield from self._finish_recorded(at)
        for line in self._lines.values():
            if not self._minutes and line.minute is not None and minute > line.minute:
                yield from self._finish_minute(line)
            line.minute = minute
            yield from self._move_line(line, at)

    def _move_line(self, line: _Line, at: datetime) -> Iterator[Tick]:
        chance, symbol = line.random, line.listing.symbol
        if line.held is not None and line.held_until is not None and at < line.held_until:
            return
        line.held = None
        if self._minutes:
            middle = self._recorded_price(symbol, at)
            if middle is None:
                return
            line.mid = float(middle)
        else:
            middle = cents(line.step(self._tick_seconds * self._speed))
        half = float(middle) * line.listing.spread_bps / 20_000 * (0.7 + 0.6 * chance.random())
        bid = cents(float(middle) - half)
        ask = max(cents(float(middle) + half), bid + CENT)
        last = line.quote.last
        if chance.random() < self._trade_probability:
            last = ask if chance.random() < 0.5 else bid
            yield self._trade(line, at, last, max(int(chance.lognormvariate(4, 1)), 1))
        elif (bid, ask) == (line.quote.bid, line.quote.ask):
            return
        line.quote = Quote(symbol=symbol, bid=bid, ask=ask, last=last)
        line.quoted_at = at
        yield QuoteTick(
            symbol=symbol,
            at=at,
            bid=bid,
            ask=ask,
            bid_size=100 * chance.randint(1, 9),
            ask_size=100 * chance.randint(1, 9),
        )

    def _trade(self, line: _Line, at: datetime, price: Decimal, size: int) -> TradeTick:
        self._trade_count += 1
        trade = TradeTick(symbol=line.listing.symbol, at=at, number=self._trade_count, price=price, size=size)
        line.last_trade = trade
        if not self._minutes:
            line.forming.append(trade)
        return trade

    def _finish_minute(self, line: _Line) -> Iterator[Bar]:
        trades, line.forming = line.forming, []
        if not trades or line.minute is None:
            return
        volume = sum(trade.size for trade in trades)
        value = sum((trade.price * trade.size for trade in trades), Decimal(0))
        bar = Bar(
            symbol=line.listing.symbol,
            at=line.minute,
            open=trades[0].price,
            high=max(trade.price for trade in trades),
            low=min(trade.price for trade in trades),
            close=trades[-1].price,
            volume=volume,
            trades=len(trades),
            vwap=(value / volume).quantize(Decimal("0.000001")),
        )
        line.bars.append(bar)
        yield bar

    # ── playing a recording ──────────────────────────────────────────────────────────────────────────────────────────

    def _recorded_price(self, symbol: str, at: datetime) -> Decimal | None:
        """Within its minute a bar goes open, one extreme, the other, close: the nearer extreme first."""
        place, rest = divmod((at - self._start) * self._speed, MINUTE)
        if place >= len(self._minutes):
            return None
        bar = self._recording[symbol].get(self._minutes[place])
        if bar is None:
            return None
        up_first = bar.high - bar.open < bar.open - bar.low
        middle = (bar.high, bar.low) if up_first else (bar.low, bar.high)
        return cents((bar.open, *middle, bar.close)[min(int(rest / MINUTE * 4), 3)])

    def _finish_recorded(self, at: datetime) -> Iterator[Bar]:
        done = min(int((at - self._start) * self._speed / MINUTE), len(self._minutes))
        for place in range(max(self._played, 0), done):
            minute = self._minutes[place]
            for symbol, bars in self._recording.items():
                recorded = bars.get(minute)
                if recorded is not None:
                    bar = _as_bar(recorded)
                    self._lines[symbol].bars.append(bar)
                    yield bar
        self._played = max(self._played, done)


def _as_bar(recorded: RecordedBar) -> Bar:
    volume = int(recorded.volume)
    average = (recorded.high + recorded.low + recorded.close) / 3
    return Bar(
        symbol=recorded.symbol,
        at=recorded.at,
        open=recorded.open,
        high=recorded.high,
        low=recorded.low,
        close=recorded.close,
        volume=volume,
        trades=max(volume // 100, 1),
        vwap=average.quantize(Decimal("0.0001")),
    )


def _recorded_listing(symbol: str, first: RecordedBar, known: Listing | None) -> Listing:
    return Listing(
        symbol=symbol,
        name=known.name if known else symbol,
        exchange=known.exchange if known else "NYSE",
        price=str(cents(first.open)),
        volatility=known.volatility if known else 0.3,
        spread_bps=known.spread_bps if known else 2.0,
    )
