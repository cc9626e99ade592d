"""lumibot as a participant of `bench faults`, from an environment of its own.

A whole `Strategy` under a `Trader`, pointed at the simulator: by its stream as it comes (`--mode stream`), or by its
own polling (`--mode poll`). It speaks as `bench/bots.py` does: orders to submit come as lines on standard input, and
what it believes goes out as lines, read from the objects that its strategies are given: `order.status`,
`order.transactions`, and the broker's tracked positions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from decimal import Decimal
from typing import Any

EVERY_S = 0.1
"""How often what it believes is looked at, in seconds."""

SLEEPTIME = "5S"
"""Between two iterations of the strategy, at each of which lumibot asks the broker; its default is a minute."""

POLLING_S = 5.0
"""lumibot's own default interval in poll mode."""

FINAL = ("fill", "canceled", "error", "expired", "cash_settled")


def own_output() -> int:
    """A way out that lumibot's log lines do not take; they go to standard error from here on."""
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--mode", choices=("stream", "poll"), default="stream")
    arguments = parser.parse_args()
    out = own_output()
    os.environ["LUMIBOT_DISABLE_DOTENV"] = "1"
    run(arguments.url, arguments.mode, out)


def run(url: str, mode: str, out: int) -> None:
    import lumibot.brokers.alpaca as adapter
    from alpaca.common.exceptions import APIError
    from alpaca.trading.client import TradingClient
    from alpaca.trading.stream import TradingStream
    from lumibot.data_sources.data_source import DataSource
    from lumibot.entities import Asset
    from lumibot.strategies import Strategy
    from lumibot.traders import Trader

    class NoData(DataSource):  # type: ignore[misc]
        """Market data that nothing here asks for, so that nothing leaves the machine."""

        SOURCE = "NONE"

        def get_chains(self, *_args: Any, **_terms: Any) -> dict[str, Any]:
            return {}

        def get_historical_prices(self, *_args: Any, **_terms: Any) -> None:
            return None

        def get_last_price(self, *_args: Any, **_terms: Any) -> float:
            return 100.0

    class Follower(Strategy):  # type: ignore[misc]
        def initialize(self) -> None:
            self.set_market("24/7")
            self.sleeptime = SLEEPTIME

        def on_trading_iteration(self) -> None:
            """Wants nothing by itself."""

    adapter.TradingClient = lambda *args, **terms: TradingClient(*args, **terms, url_override=url)
    adapter.TradingStream = lambda *args, **terms: TradingStream(
        *args, **terms, url_override=url.replace("http", "ws", 1) + "/stream"
    )
    keys = {"API_KEY": "SIM", "API_SECRET": "SIM", "PAPER": True}
    polled = {
        "trading_client": TradingClient("SIM", "SIM", paper=True, url_override=url),
        "polling_interval": POLLING_S,
    }
    broker = adapter.Alpaca(keys, data_source=NoData(), **(polled if mode == "poll" else {}))
    strategy = Follower(broker=broker)

    submitted: list[Any] = []

    def submit_each() -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            order = strategy.create_order(
                Asset(asked["symbol"]), asked["quantity"], asked["side"], limit_price=asked["limit_price"]
            )
            submitted.append(order)
            try:
                strategy.submit_order(order)
            except APIError as error:
                sys.stderr.write(f"submit failed: {error}\n")
        os._exit(0)

    def tell() -> None:
        said = b""
        while True:
            # of one order it may hold several objects: what any of them was told counts as known
            filled: dict[str, Decimal] = {}
            final: dict[str, bool] = {}
            for order in (*broker.get_all_orders(), *submitted):
                name = str(order.identifier)
                booked = sum((Decimal(str(each.quantity)) for each in order.transactions), Decimal(0))
                filled[name] = max(filled.get(name, Decimal(0)), booked)
                final[name] = final.get(name, False) or str(order.status) in FINAL
            positions = {
                position.asset.symbol: str(position.quantity)
                for position in broker._filled_positions.get_list()
                if position.quantity and position.asset.asset_type == "stock"
            }
            believed = {
                "filled": {name: str(shares) for name, shares in filled.items()},
                "positions": positions,
                "final": final,
            }
            line = json.dumps(believed).encode()
            if line != said:
                os.write(out, line + b"\n")
                said = line
            time.sleep(EVERY_S)

    trader = Trader(logfile="", backtest=False)
    trader.add_strategy(strategy)
    threading.Thread(target=submit_each, daemon=True).start()
    threading.Thread(target=tell, daemon=True).start()
    trader.run_all(show_plot=False, show_tearsheet=False, save_tearsheet=False, show_indicators=False)


if __name__ == "__main__":
    main()
