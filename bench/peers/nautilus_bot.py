"""NautilusTrader as a participant of `bench faults`, from an environment of its own.

Its wheel has no Alpaca adapter, so this is one, written over the SDK as its own adapters are over theirs: a fill on the
stream becomes `generate_order_filled`, REST becomes the reports that its engine asks for, and what is to be done about
a difference is the engine's business. Both checks that it makes while it trades are on: orders in flight (as it comes),
and open orders with their history, every 5 s (off by default). A request with an unknown outcome is left in flight.

It speaks as `bench/bots.py` does; what it believes is read from its cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from decimal import Decimal
from typing import Any

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide as TheirSide
from alpaca.trading.enums import QueryOrderStatus
from alpaca.trading.enums import TimeInForce as TheirTime
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest
from alpaca.trading.stream import TradingStream
from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.config import (
    LiveExecClientConfig,
    LiveExecEngineConfig,
    LiveRiskEngineConfig,
    LoggingConfig,
    TradingNodeConfig,
)
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import FillReport, OrderStatusReport, PositionStatusReport
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import (
    AccountType,
    LiquiditySide,
    OmsType,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from nautilus_trader.model.identifiers import AccountId, ClientId, ClientOrderId, TradeId, Venue, VenueOrderId
from nautilus_trader.model.objects import AccountBalance, Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

EVERY_S = 0.1
"""How often what it believes is looked at, in seconds."""

OPEN_CHECK_S = 5.0
"""What its documentation recommends for the check of open orders."""

VENUE = Venue("ALPACA")
SYMBOLS = ("AAPL", "MSFT")
STATUS = {
    "new": OrderStatus.ACCEPTED,
    "accepted": OrderStatus.ACCEPTED,
    "pending_new": OrderStatus.SUBMITTED,
    "partially_filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "pending_cancel": OrderStatus.PENDING_CANCEL,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}


def side_of(text: str) -> OrderSide:
    return OrderSide.BUY if text == "buy" else OrderSide.SELL


class Config(LiveExecClientConfig, frozen=True):  # type: ignore[misc,call-arg]
    """Where the broker is."""

    url: str = ""


class AlpacaClient(LiveExecutionClient):  # type: ignore[misc]
    """Its engine's way to Alpaca."""

    def __init__(self, loop: Any, url: str, msgbus: Any, cache: Any, clock: Any) -> None:
        super().__init__(
            loop=loop,
            client_id=ClientId("ALPACA"),
            venue=VENUE,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=USD,
            instrument_provider=InstrumentProvider(),
            msgbus=msgbus,
            cache=cache,
            clock=clock,
        )
        self._set_account_id(AccountId("ALPACA-001"))
        self._client = TradingClient("SIM", "SIM", paper=True, url_override=url)
        self._stream = TradingStream("SIM", "SIM", paper=True, url_override=url.replace("http", "ws", 1) + "/stream")

    async def _asked(self, what: Any, *terms: Any) -> Any:
        return await asyncio.to_thread(what, *terms)

    async def _connect(self) -> None:
        account = await self._asked(self._client.get_account)
        cash = Money(Decimal(account.cash), USD)
        self.generate_account_state(
            balances=[AccountBalance(cash, Money(0, USD), cash)],
            margins=[],
            reported=True,
            ts_event=self._clock.timestamp_ns(),
        )
        await self._await_account_registered()

        async def on_update(update: Any) -> None:
            self._loop.call_soon_threadsafe(self._told, update)

        self._stream.subscribe_trade_updates(on_update)
        threading.Thread(target=self._stream.run, daemon=True).start()

    async def _disconnect(self) -> None:
        """The process ends."""

    def _told(self, update: Any) -> None:
        raw = update.order
        order = self._cache.order(ClientOrderId(raw.client_order_id))
        if order is None:
            self._send_order_status_report(self._order_report(raw))
            return
        now = self._clock.timestamp_ns()
        who = (order.strategy_id, order.instrument_id, order.client_order_id)
        venue_order_id = VenueOrderId(str(raw.id))
        match str(getattr(update.event, "value", update.event)):
            case "new":
                self.generate_order_accepted(*who, venue_order_id, now)
            case "fill" | "partial_fill":
                instrument = self._cache.instrument(order.instrument_id)
                self.generate_order_filled(
                    *who,
                    venue_order_id,
                    None,
                    TradeId(str(update.execution_id)),
                    order.side,
                    order.order_type,
                    instrument.make_qty(update.qty),
                    instrument.make_price(update.price),
                    USD,
                    Money(0, USD),
                    LiquiditySide.TAKER,
                    now,
                )
            case "canceled":
                self.generate_order_canceled(*who, venue_order_id, now)
            case "expired":
                self.generate_order_expired(*who, venue_order_id, now)
            case "rejected":
                self.generate_order_rejected(*who, "rejected", now)

    async def _submit_order(self, command: Any) -> None:
        order = command.order
        who = (order.strategy_id, order.instrument_id, order.client_order_id)
        self.generate_order_submitted(*who, self._clock.timestamp_ns())
        wanted = LimitOrderRequest(
            symbol=order.instrument_id.symbol.value,
            qty=float(order.quantity),
            side=TheirSide.BUY if order.side == OrderSide.BUY else TheirSide.SELL,
            time_in_force=TheirTime.DAY,
            limit_price=float(order.price),
            client_order_id=order.client_order_id.value,
        )
        try:
            await self._asked(self._client.submit_order, wanted)
        except APIError as error:
            is_there = "client_order_id must be unique" in str(error)
            if error.status_code is not None and error.status_code < 500 and not is_there:
                self.generate_order_rejected(*who, str(error), self._clock.timestamp_ns())
        except requests.RequestException:
            pass  # its outcome is not known: the engine's check of orders in flight asks

    def _order_report(self, raw: Any) -> OrderStatusReport:
        instrument_id = next(one.id for one in self._cache.instruments() if one.id.symbol.value == raw.symbol)
        instrument = self._cache.instrument(instrument_id)
        now = self._clock.timestamp_ns()
        price = None if raw.limit_price is None else instrument.make_price(Decimal(raw.limit_price))
        return OrderStatusReport(
            account_id=self.account_id,
            instrument_id=instrument_id,
            venue_order_id=VenueOrderId(str(raw.id)),
            order_side=side_of(raw.side.value),
            order_type=OrderType.LIMIT if price is not None else OrderType.MARKET,
            time_in_force=TimeInForce.DAY,
            order_status=STATUS[raw.status.value],
            quantity=instrument.make_qty(Decimal(raw.qty)),
            filled_qty=instrument.make_qty(Decimal(raw.filled_qty)),
            report_id=UUID4(),
            ts_accepted=int(raw.submitted_at.timestamp() * 1e9),
            ts_last=int(raw.updated_at.timestamp() * 1e9),
            ts_init=now,
            client_order_id=ClientOrderId(raw.client_order_id),
            price=price,
            avg_px=None if raw.filled_avg_price is None else Decimal(raw.filled_avg_price),
        )

    async def generate_order_status_report(self, command: Any) -> OrderStatusReport | None:
        try:
            if command.client_order_id is not None:
                raw = await self._asked(self._client.get_order_by_client_id, command.client_order_id.value)
            else:
                raw = await self._asked(self._client.get_order_by_id, command.venue_order_id.value)
        except (APIError, requests.RequestException):
            return None
        return self._order_report(raw)

    async def generate_order_status_reports(self, command: Any) -> list[OrderStatusReport]:
        status = QueryOrderStatus.OPEN if command.open_only else QueryOrderStatus.ALL
        listed = await self._asked(self._client.get_orders, GetOrdersRequest(status=status, limit=500))
        return [self._order_report(raw) for raw in listed]

    async def generate_fill_reports(self, command: Any) -> list[FillReport]:
        listed = await self._asked(self._client.get, "/account/activities/FILL")
        now = self._clock.timestamp_ns()
        reports = []
        for raw in listed:
            instrument = next(one for one in self._cache.instruments() if one.id.symbol.value == raw["symbol"])
            reports.append(
                FillReport(
                    account_id=self.account_id,
                    instrument_id=instrument.id,
                    venue_order_id=VenueOrderId(raw["order_id"]),
                    trade_id=TradeId(raw["id"].rpartition("::")[2]),
                    order_side=side_of(raw["side"]),
                    last_qty=instrument.make_qty(Decimal(raw["qty"])),
                    last_px=instrument.make_price(Decimal(raw["price"])),
                    commission=Money(0, USD),
                    liquidity_side=LiquiditySide.TAKER,
                    report_id=UUID4(),
                    ts_event=now,
                    ts_init=now,
                )
            )
        return reports

    async def generate_position_status_reports(self, command: Any) -> list[PositionStatusReport]:
        listed = await self._asked(self._client.get_all_positions)
        now = self._clock.timestamp_ns()
        reports = []
        for raw in listed:
            instrument = next(one for one in self._cache.instruments() if one.id.symbol.value == raw.symbol)
            quantity = Decimal(raw.qty)
            reports.append(
                PositionStatusReport(
                    account_id=self.account_id,
                    instrument_id=instrument.id,
                    position_side=PositionSide.LONG if quantity > 0 else PositionSide.SHORT,
                    quantity=instrument.make_qty(abs(quantity)),
                    report_id=UUID4(),
                    ts_last=now,
                    ts_init=now,
                )
            )
        return reports


class Factory(LiveExecClientFactory):  # type: ignore[misc]
    @staticmethod
    def create(loop: Any, name: str, config: Any, msgbus: Any, cache: Any, clock: Any, **_more: Any) -> AlpacaClient:
        return AlpacaClient(loop, config.url, msgbus, cache, clock)


class Submitter(Strategy):  # type: ignore[misc]
    """Submits what it is told to, and wants nothing by itself."""

    def ask(self, asked: dict[str, Any]) -> None:
        instrument = next(one for one in self.cache.instruments() if one.id.symbol.value == asked["symbol"])
        self.submit_order(
            self.order_factory.limit(
                instrument.id,
                side_of(asked["side"]),
                instrument.make_qty(asked["quantity"]),
                instrument.make_price(asked["limit_price"]),
                time_in_force=TimeInForce.DAY,
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    arguments = parser.parse_args()
    out = os.dup(1)
    os.dup2(2, 1)  # its log goes to standard error
    node = TradingNode(
        TradingNodeConfig(
            trader_id="BENCH-001",
            logging=LoggingConfig(log_level="WARNING"),
            exec_engine=LiveExecEngineConfig(
                open_check_interval_secs=OPEN_CHECK_S, open_check_open_only=False, reconciliation_startup_delay_secs=1.0
            ),
            risk_engine=LiveRiskEngineConfig(bypass=True),
            exec_clients={"ALPACA": Config(url=arguments.url)},
        )
    )
    strategy = Submitter()
    node.trader.add_strategy(strategy)
    node.add_exec_client_factory("ALPACA", Factory)
    node.build()
    cache = node.kernel.cache
    for symbol in SYMBOLS:
        cache.add_instrument(TestInstrumentProvider.equity(symbol, "ALPACA"))
    loop = node.kernel.loop

    def submit_each() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(strategy.ask, json.loads(line))
        os._exit(0)

    def believed() -> dict[str, Any]:
        orders = [order for order in cache.orders() if order.venue_order_id is not None]
        positions: dict[str, Decimal] = {}
        for position in cache.positions_open():
            symbol = position.instrument_id.symbol.value
            signed = position.quantity.as_decimal() * (1 if position.is_long else -1)
            positions[symbol] = positions.get(symbol, Decimal(0)) + signed
        return {
            "filled": {order.venue_order_id.value: str(order.filled_qty) for order in orders},
            "positions": {symbol: str(quantity) for symbol, quantity in positions.items() if quantity},
            "final": {order.venue_order_id.value: order.is_closed for order in orders},
        }

    async def tell() -> None:
        said = b""
        while True:
            line = json.dumps(believed()).encode()
            if line != said:
                os.write(out, line + b"\n")
                said = line
            await asyncio.sleep(EVERY_S)

    telling = loop.create_task(tell())
    threading.Thread(target=submit_each, daemon=True).start()
    try:
        node.run()
    finally:
        telling.cancel()
        node.dispose()


if __name__ == "__main__":
    main()
