"""The operator's own door, under /sim: the truth, the faults, and a hand on the market and on orders.

For: tests, demos and measurements. Not for: clients of the broker; nothing here is asked for keys, limited or
disturbed by faults, which is why the simulator listens on the loopback address unless told otherwise.
Invariant: /sim/truth is the exchange's books at this instant, whatever any fault makes the broker say.
"""

import asyncio
import base64
import binascii
from dataclasses import asdict, fields, replace
from datetime import datetime
from decimal import Decimal

import msgspec
from aiohttp import web

from trueup.simulator.faults import Fault, Kind, Target
from trueup.simulator.market import cents
from trueup.simulator.model import ZERO, FillModel, OrderRequest, OrderType, Refused, Side, TimeInForce
from trueup.simulator.requests import bool_of, decimal_of, invalid, json_body, order_request, text_of, whole_of
from trueup.simulator.streams import FRAMES_KEPT, FrameLog, MarketData, TradeUpdates
from trueup.simulator.trading_routes import reply
from trueup.simulator.wire import Json, order_json, rfc3339, truth_json
from trueup.simulator.world import World

BURST_MAX = 100_000
BURST_RATE_MAX = 5_000


class Control:
    """Handlers over one world and its two sockets."""

    def __init__(self, world: World, trade_updates: TradeUpdates, market_data: MarketData, log: FrameLog) -> None:
        self._world = world
        self._trade_updates = trade_updates
        self._market_data = market_data
        self._log = log

    def add_to(self, app: web.Application) -> None:
        """Register every route."""
        app.add_routes(
            [
                web.get("/sim/truth", self.truth),
                web.get("/sim/status", self.status),
                web.post("/sim/faults", self.add_fault),
                web.get("/sim/faults", self.list_faults),
                web.delete("/sim/faults", self.clear_faults),
                web.delete("/sim/faults/{fault_id}", self.remove_fault),
                web.post("/sim/price", self.price),
                web.post("/sim/orders", self.submit),
                web.delete("/sim/orders/{order_id}", self.cancel),
                web.post("/sim/fill", self.fill),
                web.post("/sim/reject", self.reject),
                web.post("/sim/bust", self.bust),
                web.post("/sim/correct", self.correct),
                web.post("/sim/adjust", self.adjust),
                web.post("/sim/session", self.session),
                web.get("/sim/model", self.show_model),
                web.post("/sim/model", self.set_model),
                web.get("/sim/frames", self.frames),
                web.post("/sim/emit", self.emit),
                web.post("/sim/burst", self.burst),
            ]
        )

    async def truth(self, request: web.Request) -> web.Response:
        """The books."""
        self._world.live()
        return reply(truth_json(self._world.exchange.view()))

    async def status(self, request: web.Request) -> web.Response:
        """What is running: seed, sockets, session, faults at work."""
        return reply(
            {
                "seed": self._world.seed,
                "started_at": rfc3339(self._world.started_at),
                "is_open": self._world.exchange.is_open,
                "symbols": self._world.market.symbols(),
                "trade_updates_connections": self._trade_updates.connections,
                "market_data_connections": self._market_data.connections,
                "active_faults": sum(self._world.faults.is_active(fault) for fault in self._world.faults.all()),
            }
        )

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_fault(self, request: web.Request) -> web.Response:
        """Start a fault; a drop without a match cuts at once, one with a match cuts at the event that fits."""
        fault = self._world.faults.add(_floats(await json_body(request)))
        if fault.kind is Kind.DROP and not fault.match and fault.target is not Target.REST:
            self._world.faults.strike(fault.target, (Kind.DROP,), {})
            (self._trade_updates if fault.target is Target.TRADE_UPDATES else self._market_data).cut()
        return reply(self._fault_json(fault))

    async def list_faults(self, request: web.Request) -> web.Response:
        """The faults at work, with how often each has hit; with `all=true` also those that have ended."""
        is_all, board = bool_of(request.query, "all"), self._world.faults
        return reply([self._fault_json(fault) for fault in board.all() if is_all or board.is_active(fault)])

    async def clear_faults(self, request: web.Request) -> web.Response:
        """End all faults."""
        return reply({"removed": self._world.faults.clear()})

    async def remove_fault(self, request: web.Request) -> web.Response:
        """End one fault."""
        fault_id = request.match_info["fault_id"]
        if not self._world.faults.remove(fault_id):
            known = ", ".join(fault.id for fault in self._world.faults.all()) or "none"
            raise Refused(404, 40410000, f"fault not found for {fault_id}; there are: {known}")
        return reply({"removed": 1})

    def _fault_json(self, fault: Fault) -> Json:
        return {
            "id": fault.id,
            "target": fault.target,
            "kind": fault.kind,
            "seconds": fault.seconds,
            "count": fault.count,
            "by_seconds": fault.by_seconds,
            "probability": fault.probability,
            "match": fault.match,
            "started_at": rfc3339(fault.started_at),
            "ends_at": rfc3339(fault.ends_at) if fault.ends_at else None,
            "hits": fault.hits,
            "is_active": self._world.faults.is_active(fault),
        }

    # ── a hand on the market and on orders ───────────────────────────────────────────────────────────────────────────

    async def price(self, request: web.Request) -> web.Response:
        """Set bid, ask and last of a symbol to one price, and hold it for `hold_seconds`."""
        body = await json_body(request)
        symbol = self._symbol(body)
        price = decimal_of(body, "price")
        if price is None or price < Decimal("0.01") or price != cents(price):
            raise invalid("price must be at least 0.01 and on the one-cent grid")
        hold = decimal_of(body, "hold_seconds") or ZERO
        if not 0 <= hold <= 86400:
            raise invalid("hold_seconds must be from 0 to 86400")
        self._world.move(symbol, price, float(hold))
        return reply({"symbol": symbol, "price": str(price), "hold_seconds": float(hold)})

    async def submit(self, request: web.Request) -> web.Response:
        """Place an order as another client of the same account would; `forced` skips the account's checks."""
        body = await json_body(request)
        asked = order_request({"type": "market", "time_in_force": "day", **body})
        forced, held = bool_of(body, "forced"), bool_of(body, "held")
        exchange = self._world.exchange
        order = self._world.act(lambda at: exchange.submit(asked, at, is_external=True, forced=forced, held=held))
        return reply(order_json(order, exchange.view().legs(order)))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel an order as another client would."""
        order_id = request.match_info["order_id"]
        return reply(order_json(self._world.act(lambda at: self._world.exchange.cancel(order_id, at))))

    async def fill(self, request: web.Request) -> web.Response:
        """Execute part or all of an order now; `forced` allows too much, or after the end."""
        body = await json_body(request)
        order_id = _required(body, "order_id")
        qty, price, forced = decimal_of(body, "qty"), decimal_of(body, "price"), bool_of(body, "forced")
        exchange = self._world.exchange
        execution = self._world.act(lambda at: exchange.fill(order_id, at, qty=qty, price=price, forced=forced))
        return reply({"execution_id": execution.id, "order": order_json(exchange.order(order_id))})

    async def reject(self, request: web.Request) -> web.Response:
        """Reject an open order late."""
        body = await json_body(request)
        order_id, reason = _required(body, "order_id"), text_of(body, "reason") or "VENUE_REJECTED"
        return reply(order_json(self._world.act(lambda at: self._world.exchange.reject(order_id, at, reason))))

    async def bust(self, request: web.Request) -> web.Response:
        """Annul an execution."""
        execution_id = _required(await json_body(request), "execution_id")
        execution = self._world.act(lambda at: self._world.exchange.bust(execution_id, at))
        return reply({"execution_id": execution.id, "order_id": execution.order_id})

    async def correct(self, request: web.Request) -> web.Response:
        """Put a corrected execution in the place of an earlier one."""
        body = await json_body(request)
        execution_id = _required(body, "execution_id")
        qty, price = decimal_of(body, "qty"), decimal_of(body, "price")
        exchange = self._world.exchange
        execution = self._world.act(lambda at: exchange.correct(execution_id, at, qty=qty, price=price))
        return reply({"execution_id": execution.id, "previous_execution_id": execution_id})

    async def adjust(self, request: web.Request) -> web.Response:
        """Change a position without an execution: `ratio` for a split, or `qty` shares and `net_amount` dollars."""
        body = await json_body(request)
        symbol = self._symbol(body)
        ratio, qty = decimal_of(body, "ratio"), decimal_of(body, "qty")
        net_amount = decimal_of(body, "net_amount") or ZERO
        if (ratio is None) == (qty is None):
            raise invalid("exactly one of ratio (a split) and qty (shares in or out) is required")
        exchange, description = self._world.exchange, text_of(body, "description") or ""
        adjustment = self._world.act(
            lambda at: exchange.adjust(
                symbol, at, ratio=ratio, qty=qty or ZERO, net_amount=net_amount, description=description
            )
        )
        if ratio is not None:
            self._world.move(symbol, cents(self._world.market.quote(symbol).last / ratio), 0.0)
        return reply({"id": adjustment.id, "position": str(exchange.position(symbol).qty)})

    async def session(self, request: web.Request) -> web.Response:
        """Open or close the exchange by hand: {"open": true | false}, or null to follow the hours again."""
        body = await json_body(request)
        if "open" not in body or not (body["open"] is None or isinstance(body["open"], bool)):
            raise invalid("open must be true, false or null (null: follow the trading hours)")
        self._world.session_override = bool(body["open"]) if body["open"] is not None else None
        self._world.live()
        return reply({"is_open": self._world.exchange.is_open})

    async def show_model(self, request: web.Request) -> web.Response:
        """How orders get worked."""
        return reply(asdict(self._world.exchange.fill_model))

    async def set_model(self, request: web.Request) -> web.Response:
        """Change how orders get worked: any subset of the fill model's fields."""
        body = _floats(await json_body(request))
        model = self._world.exchange.fill_model
        known = {item.name: getattr(model, item.name) for item in fields(FillModel)}
        for name, value in body.items():
            if name not in known:
                raise invalid(f"{name} is not known; use any of {', '.join(known)}")
            body[name] = _like(name, value, known[name])
        self._world.exchange.fill_model = replace(model, **body)  # type: ignore[arg-type]
        return reply(asdict(self._world.exchange.fill_model))

    # ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def frames(self, request: web.Request) -> web.Response:
        """The newest frames and what became of them."""
        limit = whole_of(request.query, "limit", default=100, low=1, high=FRAMES_KEPT)
        stream = request.query.get("stream")
        found = [frame for frame in self._log.newest(FRAMES_KEPT) if stream in {None, frame["stream"]}]
        return reply(found[-limit:])

    async def emit(self, request: web.Request) -> web.Response:
        """Send a raw frame to every open socket of a target: `frame` (any JSON), `text`, or `base64`."""
        body = await json_body(request)
        target = text_of(body, "target") or Target.TRADE_UPDATES
        if target not in {Target.TRADE_UPDATES, Target.MARKET_DATA}:
            raise invalid(f"target must be {Target.TRADE_UPDATES} or {Target.MARKET_DATA}, not {target!r}")
        given = [name for name in ("frame", "text", "base64") if name in body]
        if len(given) != 1:
            raise invalid("exactly one of frame (any JSON), text and base64 is required")
        raw: str | bytes
        if given[0] == "frame":
            raw = msgspec.json.encode(_floats(body)["frame"])
        elif given[0] == "text":
            raw = str(body["text"])
        else:
            try:
                raw = base64.b64decode(str(body["base64"]), validate=True)
            except binascii.Error as problem:
                raise invalid(f"base64 is not valid: {problem}") from problem
        hub = self._trade_updates if target == Target.TRADE_UPDATES else self._market_data
        return reply({"sent_to": hub.inject(raw)})

    async def burst(self, request: web.Request) -> web.Response:
        """Make `orders` external orders trade, at `rate` trade updates a second, buying and selling by turns."""
        body = await json_body(request)
        symbol = self._symbol(body)
        orders = whole_of(body, "orders", default=100, low=1, high=BURST_MAX)
        rate = whole_of(body, "rate", default=100, low=1, high=BURST_RATE_MAX)
        qty = decimal_of(body, "qty") or Decimal(10)
        if qty <= 0 or qty % 1:
            raise invalid(f"qty must be a whole number of shares above 0, not {qty}")
        began = self._world.clock.monotonic_ns()
        order_ids: list[str] = []
        for place in range(orders):
            side = Side.BUY if place % 2 == 0 else Side.SELL
            order_ids.append(self._burst_order(symbol, side, qty))
            await self._keep_pace(began, 3 * place + 2, rate)
            self._world.act(lambda at, order_id=order_ids[-1]: self._fill_one(order_id, at))  # type: ignore[misc]
            await self._keep_pace(began, 3 * place + 3, rate)
        seconds = (self._world.clock.monotonic_ns() - began) / 1e9
        return reply({"orders": order_ids, "updates": 3 * orders, "seconds": seconds})

    def _burst_order(self, symbol: str, side: Side, qty: Decimal) -> str:
        asked = OrderRequest(symbol=symbol, side=side, type=OrderType.MARKET, time_in_force=TimeInForce.DAY, qty=qty)
        exchange = self._world.exchange

        def place(at: datetime) -> str:
            order_id = exchange.submit(asked, at, is_external=True, forced=True, held=True).id
            exchange.acknowledge(order_id, at)
            return order_id

        return self._world.act(place)

    def _fill_one(self, order_id: str, at: datetime) -> None:
        quote = self._world.market.quote(self._world.exchange.order(order_id).symbol)
        self._world.exchange.fill(order_id, at, price=quote.last)

    async def _keep_pace(self, began: int, done: int, rate: int) -> None:
        """Wait until `done` updates are due; late work is not waited for, so the average rate holds."""
        ahead = done / rate - (self._world.clock.monotonic_ns() - began) / 1e9
        await asyncio.sleep(max(ahead, 0))

    def _symbol(self, body: dict[str, object]) -> str:
        symbol = _required(body, "symbol").upper()
        if symbol not in self._world.exchange.assets:
            raise invalid(f"symbol {symbol} is not listed; this simulator has {', '.join(self._world.exchange.assets)}")
        return symbol


def _required(body: dict[str, object], name: str) -> str:
    value = text_of(body, name)
    if value is None:
        raise invalid(f"{name} is required")
    return value


def _floats(value: dict[str, object]) -> dict[str, object]:
    """The same JSON with plain numbers where exactness does not matter."""
    return {name: _float(item) for name, item in value.items()}


def _float(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return _floats(value)
    if isinstance(value, list):
        return [_float(item) for item in value]
    return value


def _like(name: str, value: object, known: object) -> object:
    """The value when it has the kind and range of the known one."""
    if isinstance(known, bool):
        if not isinstance(value, bool):
            raise invalid(f"{name} must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(f"{name} must be a number")
    if isinstance(known, float):
        if not 0 <= value <= 1:
            raise invalid(f"{name} must be from 0 to 1")
        return float(value)
    low = 1 if name == "slices_max" else 0
    if value % 1 or not low <= value <= 3_600_000:
        raise invalid(f"{name} must be a whole number from {low} to 3600000")
    return int(value)
