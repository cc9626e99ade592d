"""The bot that everybody writes first: it believes the stream, and nothing else.

It follows `trade_updates` with Alpaca's own client just as its documentation shows, and keeps orders and positions from
what arrives. While the stream is whole, that is right. What happens during a disconnect never arrives, so after a cut
its books are wrong, and it has no way to know. Run it beside trueup and compare both with `trueup sim truth`.

    trueup simulate --port 8801          # in another terminal
    python examples/naive_bot.py --url http://127.0.0.1:8801

Each line that it prints is the whole of what it believes, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from decimal import Decimal
from typing import Any

from alpaca.trading.enums import OrderSide, TradeEvent
from alpaca.trading.models import TradeUpdate
from alpaca.trading.stream import TradingStream


class NaiveBot:
    """Orders and positions as the stream tells of them."""

    def __init__(self, key: str, secret: str, url: str) -> None:
        self.orders: dict[str, dict[str, str]] = {}
        self.positions: dict[str, Decimal] = {}
        self.updates = 0
        address = url.rstrip("/").replace("http", "ws", 1) + "/stream"
        self.stream = TradingStream(key, secret, paper=True, url_override=address)
        self.stream.subscribe_trade_updates(self.on_trade_update)

    async def on_trade_update(self, update: TradeUpdate) -> None:
        """Take one message of the stream for the truth."""
        order = update.order
        self.updates += 1
        self.orders[str(order.id)] = {"status": order.status.value, "filled_qty": str(order.filled_qty)}
        if update.event in (TradeEvent.FILL, TradeEvent.PARTIAL_FILL):
            quantity = Decimal(str(update.qty)) * (1 if order.side is OrderSide.BUY else -1)
            self.positions[order.symbol] = self.positions.get(order.symbol, Decimal(0)) + quantity
        print(json.dumps(self.books()), flush=True)

    def books(self) -> dict[str, Any]:
        """All that it believes; positions that are flat are left out."""
        held = {symbol: f"{quantity.normalize():f}" for symbol, quantity in self.positions.items() if quantity}
        return {"updates": self.updates, "orders": self.orders, "positions": held}

    def run(self) -> None:
        """Follow the stream until Ctrl-C; the client reconnects by itself, and says nothing about what it missed."""
        print(json.dumps(self.books()), flush=True)
        self.stream.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8801", help="the simulator's address")
    args = parser.parse_args()
    key = os.environ.get("APCA_API_KEY_ID", "SIM")
    secret = os.environ.get("APCA_API_SECRET_KEY", "SIM")
    NaiveBot(key, secret, args.url).run()


if __name__ == "__main__":
    main()
