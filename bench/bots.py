"""Two bots that people write, as child processes for `bench faults`: `python -m bench.bots plain|polling --url URL`.

The plain one believes Alpaca's stream, as the SDK's documentation shows it. The polling one asks for orders and
positions at an interval, and believes each answer. Both submit with the SDK and give no client order id, as the
documentation's first example does. Each reads orders to submit from standard input, one JSON object a line, and prints
all that it believes, one JSON object a line, whenever that may have changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce, TradeEvent
from alpaca.trading.models import Order, Position, TradeUpdate
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest
from alpaca.trading.stream import TradingStream

FINAL = (
    OrderStatus.FILLED,
    OrderStatus.CANCELED,
    OrderStatus.EXPIRED,
    OrderStatus.REJECTED,
    OrderStatus.REPLACED,
)


class Books:
    """What a bot believes: shares filled by order, positions, and which orders are over."""

    def __init__(self) -> None:
        self.filled: dict[str, Decimal] = {}
        self.positions: dict[str, Decimal] = {}
        self.final: dict[str, bool] = {}
        self._lock = threading.Lock()

    def tell(self) -> None:
        with self._lock:
            text = json.dumps(
                {
                    "filled": {name: str(quantity) for name, quantity in self.filled.items()},
                    "positions": {symbol: str(quantity) for symbol, quantity in self.positions.items() if quantity},
                    "final": self.final,
                }
            )
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def submit_each(client: TradingClient) -> None:
    """Submit what standard input asks for."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            client.submit_order(
                LimitOrderRequest(
                    symbol=asked["symbol"],
                    qty=float(asked["quantity"]),
                    side=OrderSide(asked["side"]),
                    time_in_force=TimeInForce.DAY,
                    limit_price=float(asked["limit_price"]),
                )
            )
        except (APIError, requests.RequestException) as error:
            sys.stderr.write(f"submit failed: {error}\n")


def plain(books: Books, url: str) -> Callable[[], None]:
    """Sum what the stream tells."""
    stream = TradingStream("SIM", "SIM", paper=True, url_override=url.replace("http", "ws", 1) + "/stream")

    async def on_update(update: TradeUpdate) -> None:
        books.final[str(update.order.id)] = update.order.status in FINAL
        if update.event in (TradeEvent.FILL, TradeEvent.PARTIAL_FILL):
            order = update.order
            quantity = Decimal(str(update.qty))
            name = str(order.id)
            books.filled[name] = books.filled.get(name, Decimal(0)) + quantity
            signed = quantity if order.side is OrderSide.BUY else -quantity
            symbol = str(order.symbol)
            books.positions[symbol] = books.positions.get(symbol, Decimal(0)) + signed
        books.tell()

    stream.subscribe_trade_updates(on_update)
    return stream.run


def polling(books: Books, client: TradingClient, every_s: float) -> Callable[[], None]:
    """Believe each answer, until the next."""

    def poll() -> None:
        while True:
            try:
                asked: Any = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, limit=500))
                held: Any = client.get_all_positions()
            except (APIError, requests.RequestException) as error:
                sys.stderr.write(f"poll failed: {error}\n")
            else:
                orders: list[Order] = asked
                positions: list[Position] = held
                books.filled = {str(order.id): Decimal(str(order.filled_qty)) for order in orders}
                books.final = {str(order.id): order.status in FINAL for order in orders}
                books.positions = {position.symbol: Decimal(position.qty) for position in positions}
                books.tell()
            time.sleep(every_s)

    return poll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("plain", "polling"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between polls")
    arguments = parser.parse_args()
    books = Books()
    client = TradingClient("SIM", "SIM", paper=True, url_override=arguments.url)
    run = plain(books, arguments.url) if arguments.kind == "plain" else polling(books, client, arguments.every)
    books.tell()
    threading.Thread(target=submit_each, args=(client,), daemon=True).start()
    run()


if __name__ == "__main__":
    main()
