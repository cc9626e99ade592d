"""The trading half of Alpaca's REST v2: orders, positions, account, activities, clock, calendar, assets.

For: turning each call into one act on, or one look at, the exchange. Not for: authentication, limits and faults
(those stand in front, in `alpaca`).
Invariant: every look goes through the view that the request was given, so that a lagging read is lagging in all its
parts.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal

import msgspec
from aiohttp import web

from trueup.simulator.exchange import SHARE_GRID, View
from trueup.simulator.hours import NEW_YORK
from trueup.simulator.model import (
    NOT_FOUND,
    Asset,
    Order,
    OrderRequest,
    OrderType,
    Position,
    Refused,
    Status,
    TimeInForce,
)
from trueup.simulator.requests import (
    bool_of,
    day_of,
    decimal_of,
    instant_of,
    invalid,
    json_body,
    list_of,
    order_request,
    replace_request,
    whole_of,
)
from trueup.simulator.wire import (
    Json,
    account_json,
    adjustment_json,
    asset_json,
    calendar_json,
    clock_json,
    fill_activity_json,
    held_side,
    order_json,
    percent_of,
    position_json,
)
from trueup.simulator.world import World

ORDERS_DEFAULT, ORDERS_MAX = 50, 500
ACTIVITIES_MAX = 100
CALENDAR_DAYS_MAX = 3660
RETIRED_SETTINGS = frozenset({"dtbp_check", "pdt_check"})
AS_OF = web.RequestKey("as_of", datetime)


def reply(body: object, status: int = 200) -> web.Response:
    """A JSON reply."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def refusal_reply(refused: Refused) -> web.Response:
    """A refusal as the broker words it."""
    return reply({"code": refused.code, "message": refused.message, **refused.extra}, refused.status)


class TradingRoutes:
    """Handlers over one world.

    `ids_match` says whether activity ids carry the stream's execution ids, `held_is_open` in which list held legs are.
    """

    def __init__(self, world: World, *, ids_match: bool, held_is_open: bool = True) -> None:
        self._world = world
        self._ids_match = ids_match
        self._held_is_open = held_is_open
        self._configurations: Json = {
            "fractional_trading": True,
            "max_margin_multiplier": "4",
            "no_shorting": False,
            "suspend_trade": False,
            "trade_confirm_email": "all",
            "ptp_no_exception_entry": False,
            "max_options_trading_level": 0,
            "disable_overnight_trading": False,
        }

    def add_to(self, app: web.Application) -> None:
        """Register every route."""
        app.add_routes(
            [
                web.post("/v2/orders", self.submit),
                web.get("/v2/orders", self.list_orders),
                web.delete("/v2/orders", self.cancel_all),
                web.get("/v2/orders:by_client_order_id", self.order_by_client_id),
                web.get("/v2/orders/{order_id}", self.get_order),
                web.patch("/v2/orders/{order_id}", self.replace),
                web.delete("/v2/orders/{order_id}", self.cancel),
                web.get("/v2/positions", self.list_positions),
                web.delete("/v2/positions", self.close_all),
                web.get("/v2/positions/{name:.+}", self.get_position),
                web.delete("/v2/positions/{name:.+}", self.close_position),
                web.get("/v2/account", self.account),
                web.get("/v2/account/configurations", self.configurations),
                web.patch("/v2/account/configurations", self.configure),
                web.get("/v2/account/activities", self.activities),
                web.get("/v2/account/activities/{kind}", self.activities),
                web.get("/v2/account/portfolio/history", self.portfolio_history),
                web.get("/v2/clock", self.clock),
                web.get("/v2/calendar", self.calendar),
                web.get("/v2/assets", self.list_assets),
                web.get("/v2/assets/{name:.+}", self.get_asset),
            ]
        )

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, request: web.Request) -> web.Response:
        """POST /v2/orders."""
        asked = order_request(await json_body(request))
        order = self._world.act(lambda at: self._world.exchange.submit(asked, at))
        return reply(order_json(order, self._world.exchange.view().legs(order)))

    async def list_orders(self, request: web.Request) -> web.Response:
        """GET /v2/orders."""
        query = request.query
        status = query.get("status", "open").lower()
        if status not in {"open", "closed", "all"}:
            raise invalid(f"status must be open, closed or all, not {status!r}")
        direction = _direction(query.get("direction"))
        limit = whole_of(query, "limit", default=ORDERS_DEFAULT, low=1, high=ORDERS_MAX)
        after, until = instant_of(query, "after"), instant_of(query, "until")
        symbols = {symbol.upper() for symbol in list_of(query, "symbols")}
        side = query.get("side", "").lower()
        is_nested = bool_of(query, "nested")
        before_id, after_id = query.get("before_order_id"), query.get("after_order_id")
        if (before_id and after_id) or ((before_id or after_id) and (after or until)):
            raise invalid("only one of before_order_id and after_order_id is allowed, and neither with after or until")
        view = self._view(request)
        wanted: list[Callable[[Order], bool]] = []
        if status != "all":
            wanted.append(lambda order: self._is_listed_open(order) == (status == "open"))
        if is_nested:
            # Legs are inside their parents and nowhere else: with a parent that is not listed they are not either.
            wanted.append(lambda order: order.group is None or order.group.parent is None)
        if symbols:
            wanted.append(lambda order: order.symbol in symbols)
        if side:
            wanted.append(lambda order: order.side == side)
        if after:
            wanted.append(lambda order: order.submitted_at > after)
        if until:
            wanted.append(lambda order: order.submitted_at < until)
        if before_id:
            before = _place(view.order(before_id))
            wanted.append(lambda order: _place(order) < before)
        if after_id:
            behind = _place(view.order(after_id))
            wanted.append(lambda order: _place(order) > behind)
        found = [order for order in view.orders() if all(test(order) for test in wanted)]
        found.sort(key=_place, reverse=direction == "desc")
        return reply([order_json(order, view.legs(order) if is_nested else ()) for order in found[:limit]])

    def _is_listed_open(self, order: Order) -> bool:
        return order.is_open and (self._held_is_open or order.status is not Status.HELD)

    async def get_order(self, request: web.Request) -> web.Response:
        """GET /v2/orders/{id}."""
        view = self._view(request)
        return reply(self._maybe_nested(request, view, view.order(request.match_info["order_id"])))

    async def order_by_client_id(self, request: web.Request) -> web.Response:
        """GET /v2/orders:by_client_order_id."""
        client_order_id = request.query.get("client_order_id")
        if not client_order_id:
            raise invalid("client_order_id is required")
        view = self._view(request)
        return reply(self._maybe_nested(request, view, view.order_by_client_id(client_order_id)))

    def _maybe_nested(self, request: web.Request, view: View, order: Order) -> Json:
        return order_json(order, view.legs(order) if bool_of(request.query, "nested") else ())

    async def replace(self, request: web.Request) -> web.Response:
        """PATCH /v2/orders/{id}: 200 means only that the request was taken."""
        asked = replace_request(await json_body(request))
        order_id = request.match_info["order_id"]
        order = self._world.act(lambda at: self._world.exchange.replace(order_id, asked, at))
        return reply(order_json(order))

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /v2/orders/{id}: 204 means only that the request was taken."""
        order_id = request.match_info["order_id"]
        self._world.act(lambda at: self._world.exchange.cancel(order_id, at))
        return web.Response(status=204)

    async def cancel_all(self, request: web.Request) -> web.Response:
        """DELETE /v2/orders: one answer an order, as 207."""
        return reply(self._cancel_open(), 207)

    def _cancel_open(self) -> list[Json]:
        answers: list[Json] = []
        for order in self._world.exchange.open_orders():
            # What is held goes with its group.
            if order.cancel_requested_at is not None or order.status is Status.HELD:
                continue
            if not self._world.exchange.order(order.id).is_open:
                continue
            try:
                self._cancel_one(order.id)
            except Refused as refused:
                body = {"code": refused.code, "message": refused.message}
                answers.append({"id": order.id, "status": refused.status, "body": body})
            else:
                answers.append({"id": order.id, "status": 200})
        return answers

    def _cancel_one(self, order_id: str) -> Order:
        return self._world.act(lambda at: self._world.exchange.cancel(order_id, at))

    # ── positions ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def list_positions(self, request: web.Request) -> web.Response:
        """GET /v2/positions."""
        view = self._view(request)
        return reply([self._position_json(position, view) for position in view.positions().values()])

    async def get_position(self, request: web.Request) -> web.Response:
        """GET /v2/positions/{symbol or asset id}."""
        view = self._view(request)
        return reply(self._position_json(self._position(request, view), view))

    async def close_position(self, request: web.Request) -> web.Response:
        """DELETE /v2/positions/{symbol or asset id}: a market order for all or part of it."""
        position = self._position(request, self._world.exchange.view())
        qty, percentage = decimal_of(request.query, "qty"), decimal_of(request.query, "percentage")
        if qty is not None and percentage is not None:
            raise invalid("only one of qty and percentage is allowed")
        if percentage is not None:
            if not 0 < percentage <= 100:
                raise invalid(f"percentage must be above 0 and at most 100, not {percentage}")
            qty = (abs(position.qty) * percentage / 100).quantize(SHARE_GRID, ROUND_DOWN)
        return reply(order_json(self._close(position, qty)))

    async def close_all(self, request: web.Request) -> web.Response:
        """DELETE /v2/positions: one answer a position, as 207."""
        if bool_of(request.query, "cancel_orders"):
            self._cancel_open()
            # The group call waits for its cancels; else the positions would still be held by them.
            self._world.act(lambda at: self._world.exchange.finish_cancels(at))
        answers: list[Json] = []
        for position in self._world.exchange.view().positions().values():
            try:
                order = self._close(position, None)
            except Refused as refused:
                body = {"code": refused.code, "message": refused.message, **refused.extra}
                answers.append({"symbol": position.symbol, "status": refused.status, "body": body})
            else:
                answers.append({"symbol": position.symbol, "status": 200, "body": order_json(order)})
        return reply(answers, 207)

    def _close(self, position: Position, qty: Decimal | None) -> Order:
        asked = OrderRequest(
            symbol=position.symbol,
            side=held_side(position),
            type=OrderType.MARKET,
            time_in_force=TimeInForce.DAY,
            qty=qty if qty is not None else abs(position.qty),
        )
        return self._world.act(lambda at: self._world.exchange.submit(asked, at))

    def _position(self, request: web.Request, view: View) -> Position:
        asset = self._asset(request.match_info["name"])
        position = view.positions().get(asset.symbol)
        if position is None:
            raise Refused(404, NOT_FOUND, "position does not exist", symbol=asset.symbol)
        return position

    def _position_json(self, position: Position, view: View) -> Json:
        symbol = position.symbol
        return position_json(
            position,
            self._world.exchange.assets[symbol],
            self._world.market.quote(symbol),
            self._world.market.previous_close(symbol),
            view.held_qty(symbol, held_side(position)),
        )

    # ── account ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def account(self, request: web.Request) -> web.Response:
        """GET /v2/account."""
        rules = self._world.exchange.rules
        body = account_json(
            self._view(request),
            seed=self._world.seed,
            opening=rules.cash,
            multiplier=rules.multiplier,
            started_at=self._world.started_at,
        )
        body["trade_suspended_by_user"] = self._world.exchange.suspend_trade
        body["shorting_enabled"] = rules.shorting_enabled and not self._world.exchange.no_shorting
        return reply(body)

    async def configurations(self, request: web.Request) -> web.Response:
        """GET /v2/account/configurations."""
        return reply(self._configurations)

    async def configure(self, request: web.Request) -> web.Response:
        """PATCH /v2/account/configurations: any subset, the whole comes back."""
        # The SDK still sends the two settings that went away with the pattern-day-trader rule.
        body = {name: value for name, value in (await json_body(request)).items() if name not in RETIRED_SETTINGS}
        for name, value in body.items():
            known = self._configurations.get(name)
            if known is None:
                raise invalid(f"{name} is not a configuration; use any of {', '.join(self._configurations)}")
            if type(value) is not type(known):
                raise invalid(f"{name} must be a {type(known).__name__}, not {value!r}")
        self._configurations.update(body)
        self._world.exchange.suspend_trade = bool(self._configurations["suspend_trade"])
        self._world.exchange.no_shorting = bool(self._configurations["no_shorting"])
        return reply(self._configurations)

    async def activities(self, request: web.Request) -> web.Response:
        """GET /v2/account/activities and /{type}: a bare array; a short page is the last."""
        query = request.query
        kind = request.match_info.get("kind")
        kinds = {kind} if kind else set(list_of(query, "activity_types"))
        for name in kinds:
            if not name.isupper() or not name.isalpha() or len(name) > 8:
                raise invalid(f"invalid activity type: {name}")
        category = query.get("category")
        if category not in {None, "trade_activity", "non_trade_activity"}:
            raise invalid(f"category must be trade_activity or non_trade_activity, not {category!r}")
        if category and kinds:
            raise invalid("category cannot be used together with activity types")
        day, after, until = day_of(query, "date"), instant_of(query, "after"), instant_of(query, "until")
        if day and (after or until):
            raise invalid("date cannot be used together with after or until")
        direction = _direction(query.get("direction"))
        size = whole_of(query, "page_size", default=ACTIVITIES_MAX, low=1, high=ACTIVITIES_MAX)
        token, order_id = query.get("page_token"), query.get("order_id")
        is_descending = direction == "desc"
        rows: list[tuple[datetime, Json]] = []
        view = self._view(request)
        if (not kinds or "FILL" in kinds) and category != "non_trade_activity":
            rows.extend(self._fill_rows(view, order_id))
        if category != "trade_activity" and not order_id:
            for adjustment in view.adjustments():
                body = adjustment_json(adjustment)
                if not kinds or body["activity_type"] in kinds:
                    rows.append((adjustment.at, body))
        rows = [
            (at, body)
            for at, body in rows
            if (day is None or at.astimezone(NEW_YORK).date() == day)
            and (after is None or at > after)
            and (until is None or at < until)
        ]
        rows.sort(key=lambda row: str(row[1]["id"]), reverse=is_descending)
        found = [body for _, body in rows]
        if token:
            found = [body for body in found if (str(body["id"]) < token) == is_descending and body["id"] != token]
        return reply(found[:size])

    def _fill_rows(self, view: View, order_id: str | None) -> Iterable[tuple[datetime, Json]]:
        for execution in view.executions():
            if order_id in {None, execution.order_id}:
                order = view.order(execution.order_id)
                yield (
                    execution.at,
                    fill_activity_json(execution, order, self._world.seed, ids_match=self._ids_match),
                )

    async def portfolio_history(self, request: web.Request) -> web.Response:
        """GET /v2/account/portfolio/history: equity since the simulation began, one sample a minute at most."""
        width = {"1Min": 60, "5Min": 300, "15Min": 900, "1H": 3600, "1D": 86400}.get(
            frame := request.query.get("timeframe", "1Min")
        )
        if width is None:
            raise invalid(f"timeframe must be 1Min, 5Min, 15Min, 1H or 1D, not {frame!r}")
        samples: dict[int, Decimal] = {}
        now = self._world.clock.now()
        for at, equity in [*self._world.equity, (now, self._view(request).totals().equity)]:
            seconds = int(at.timestamp())
            samples[seconds - seconds % width] = equity
        base = self._world.exchange.rules.cash
        return reply(
            {
                "timestamp": list(samples),
                "equity": [float(equity) for equity in samples.values()],
                "profit_loss": [float(equity - base) for equity in samples.values()],
                "profit_loss_pct": [percent_of(equity - base, base) for equity in samples.values()],
                "base_value": float(base),
                "base_value_asof": self._world.started_at.astimezone(NEW_YORK).date().isoformat(),
                "timeframe": frame,
                "cashflow": {},
            }
        )

    # ── the market's frame ───────────────────────────────────────────────────────────────────────────────────────────

    async def clock(self, request: web.Request) -> web.Response:
        """GET /v2/clock."""
        is_open = self._world.exchange.is_open
        return reply(clock_json(self._world.hours, self._world.clock.now(), is_open=is_open))

    async def calendar(self, request: web.Request) -> web.Response:
        """GET /v2/calendar: by default from a year ago to a year ahead."""
        today = self._world.clock.now().astimezone(NEW_YORK).date()
        start = day_of(request.query, "start") or today - timedelta(days=365)
        end = day_of(request.query, "end") or today + timedelta(days=365)
        # The SDK sends the widest range it can name when none is asked for.
        start = max(start, date(2015, 1, 1))
        end = min(end, start + timedelta(days=CALENDAR_DAYS_MAX))
        days = (start + timedelta(days=offset) for offset in range((end - start).days + 1))
        return reply([calendar_json(self._world.hours, day) for day in days if self._world.hours.trades_on(day)])

    async def list_assets(self, request: web.Request) -> web.Response:
        """GET /v2/assets: all are active US equities, so other filters find nothing."""
        query = request.query
        fits = query.get("status", "active") in {"active", "all", ""} and query.get("asset_class", "us_equity") in {
            "us_equity",
            "",
        }
        exchange = query.get("exchange")
        assets = [a for a in self._world.exchange.assets.values() if fits and exchange in {None, "", a.exchange}]
        return reply([asset_json(asset) for asset in assets])

    async def get_asset(self, request: web.Request) -> web.Response:
        """GET /v2/assets/{symbol or id}."""
        return reply(asset_json(self._asset(request.match_info["name"])))

    def _asset(self, name: str) -> Asset:
        asset = self._world.exchange.assets.get(name.upper())
        if asset is None:
            asset = next((asset for asset in self._world.exchange.assets.values() if asset.id == name), None)
        if asset is None:
            raise Refused(404, NOT_FOUND, f"asset not found for {name}")
        return asset

    def _view(self, request: web.Request) -> View:
        return self._world.exchange.view(request.get(AS_OF))


def _direction(text: str | None) -> str:
    direction = (text or "desc").lower()
    if direction not in {"asc", "desc"}:
        raise invalid(f"direction must be asc or desc, not {text!r}")
    return direction


def _place(order: Order) -> tuple[datetime, int]:
    return order.submitted_at, order.number
