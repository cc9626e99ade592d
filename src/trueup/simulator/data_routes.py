"""The market-data half of Alpaca's REST v2: bars, and the latest quotes, trades, bars and snapshots.

For: what a chart or a price check asks. Not for: live prices (those are the market-data socket's).
Invariant: symbols we do not list are left out of a reply, never an error, as on the real service.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiohttp import web

from trueup.simulator.market import DAY, MINUTE, Bar, bucketed
from trueup.simulator.requests import instant_of, invalid, list_of, whole_of
from trueup.simulator.trading_routes import reply
from trueup.simulator.wire import Json, bar_json, quote_json, trade_json
from trueup.simulator.world import World

BARS_DEFAULT, BARS_MAX = 1000, 10_000
_TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D|Week|W|Month|M)")


class DataRoutes:
    """Handlers over one world's market."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add_to(self, app: web.Application) -> None:
        """Register every route, for many symbols and for one."""
        latest: dict[str, Callable[[str], Json]] = {
            "quote": self._quote,
            "trade": self._trade,
            "bar": self._bar,
        }
        app.router.add_get("/v2/stocks/bars", self.bars)
        app.router.add_get("/v2/stocks/snapshots", self.snapshots)
        for name, one in latest.items():
            app.router.add_get(f"/v2/stocks/{name}s/latest", self._many_latest(name, one))
        app.router.add_get("/v2/stocks/{symbol}/bars", self.bars)
        app.router.add_get("/v2/stocks/{symbol}/snapshot", self.snapshot)
        for name, one in latest.items():
            app.router.add_get(f"/v2/stocks/{{symbol}}/{name}s/latest", self._one_latest(name, one))

    async def bars(self, request: web.Request) -> web.Response:
        """Historical bars, a page at a time, in one or many symbols."""
        query = request.query
        single = request.match_info.get("symbol")
        symbols = [single.upper()] if single else self._symbols(request)
        width = self._width(query.get("timeframe", ""))
        limit = whole_of(query, "limit", default=BARS_DEFAULT, low=1, high=BARS_MAX)
        start, end = instant_of(query, "start"), instant_of(query, "end")
        is_descending = query.get("sort", "asc") == "desc"
        rows: list[tuple[str, Bar]] = []
        for symbol in sorted(symbols):
            if symbol not in self._world.exchange.assets:
                continue
            bars = self._bars(symbol, width)
            fitting = [b for b in bars if (start is None or b.at >= start) and (end is None or b.at <= end)]
            rows.extend((symbol, bar) for bar in (reversed(fitting) if is_descending else fitting))
        skipped = whole_of(query, "page_token", default=0, low=0, high=10**9)
        page, rest = rows[skipped : skipped + limit], rows[skipped + limit :]
        token = str(skipped + limit) if rest else None
        by_symbol: dict[str, list[Json]] = {}
        for symbol, bar in page:
            by_symbol.setdefault(symbol, []).append(bar_json(bar))
        if single:
            return reply({"symbol": symbols[0], "bars": by_symbol.get(symbols[0], []), "next_page_token": token})
        return reply({"bars": by_symbol, "next_page_token": token})

    async def snapshots(self, request: web.Request) -> web.Response:
        """Flat, by symbol."""
        return reply({symbol: self._snapshot(symbol) for symbol in self._known(request)})

    async def snapshot(self, request: web.Request) -> web.Response:
        """One symbol's snapshot."""
        symbol = self._one(request)
        return reply({"symbol": symbol, **self._snapshot(symbol)})

    def _many_latest(self, name: str, one: Callable[[str], Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return reply({f"{name}s": {symbol: one(symbol) for symbol in self._known(request)}})

        return handle

    def _one_latest(self, name: str, one: Callable[[str], Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            symbol = self._one(request)
            return reply({"symbol": symbol, name: one(symbol)})

        return handle

    def _quote(self, symbol: str) -> Json:
        return quote_json(self._world.market.latest_quote(symbol))

    def _trade(self, symbol: str) -> Json:
        return trade_json(self._world.market.latest_trade(symbol))

    def _bar(self, symbol: str) -> Json:
        return bar_json(self._bars(symbol, MINUTE)[-1])

    def _snapshot(self, symbol: str) -> Json:
        days = self._bars(symbol, DAY)
        return {
            "latestTrade": self._trade(symbol),
            "latestQuote": self._quote(symbol),
            "minuteBar": self._bar(symbol),
            "dailyBar": bar_json(days[-1]),
            "prevDailyBar": bar_json(days[-2] if len(days) > 1 else days[-1]),
        }

    def _bars(self, symbol: str, width: timedelta) -> list[Bar]:
        """Bars of a width; before a recording has finished its first minute, one flat bar of the opening price."""
        market = self._world.market
        found = market.day_bars(symbol) if width >= DAY else market.minute_bars(symbol)
        if width not in {MINUTE, DAY}:
            found = list(bucketed(found, width))
        if found:
            return found
        last = market.quote(symbol).last
        begins = market.market_time(self._world.started_at).replace(second=0, microsecond=0)
        return [
            Bar(symbol=symbol, at=begins, open=last, high=last, low=last, close=last, volume=0, trades=0, vwap=last)
        ]

    def _width(self, text: str) -> timedelta:
        found = _TIMEFRAME.fullmatch(text)
        if not found or not int(found[1]):
            raise invalid(f"timeframe must be such as 1Min, 15Min, 1Hour, 1Day or 1Week, not {text!r}")
        unit = {"M": DAY * 30, "W": DAY * 7, "D": DAY, "H": MINUTE * 60, "T": MINUTE}
        letter = "T" if found[2] in {"Min", "T"} else found[2][0]
        return int(found[1]) * unit[letter]

    def _symbols(self, request: web.Request) -> list[str]:
        symbols = [symbol.upper() for symbol in list_of(request.query, "symbols")]
        if not symbols:
            raise invalid("symbols is required: a comma-separated list such as AAPL,MSFT")
        return symbols

    def _known(self, request: web.Request) -> list[str]:
        return [symbol for symbol in self._symbols(request) if symbol in self._world.exchange.assets]

    def _one(self, request: web.Request) -> str:
        symbol = request.match_info["symbol"].upper()
        if symbol not in self._world.exchange.assets:
            raise invalid(f"invalid symbol: {symbol}; this simulator lists {', '.join(self._world.exchange.assets)}")
        return symbol
