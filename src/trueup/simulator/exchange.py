"""A small honest exchange: matching, the life of an order, and one account's books.

For: deciding what becomes of every request, and emitting events about it in the order in which it happened. Not
for: time, sockets, randomness or JSON; the instant and the draws are handed in, and ids are made from the seed and
a count.
Invariant: an order's filled quantity is the sum of its live executions, a position is the fold of its symbol's
ledger, and cash is the opening cash less every live execution's signed value plus every adjustment's. Books are
never out of step with one another between two public calls. The past stays readable: `view(as_of)` answers as the
books stood then.
"""

import hashlib
import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from enum import Enum
from typing import NoReturn, TypeVar

from trueup.simulator.groups import Group, check_exits, checked
from trueup.simulator.model import (
    FORBIDDEN,
    NOT_FOUND,
    UNPROCESSABLE,
    VALIDATION,
    ZERO,
    AccountRules,
    Adjustment,
    Asset,
    EventKind,
    Execution,
    FillModel,
    Membership,
    Order,
    OrderClass,
    OrderEvent,
    OrderRequest,
    OrderType,
    Position,
    Quote,
    Refused,
    ReplaceRequest,
    Role,
    Side,
    Status,
    TimeInForce,
    Totals,
    Trail,
)

SHARE_GRID = Decimal("0.000000001")
GTC_LIFE = timedelta(days=90)
# A market order reserves a little more than the quote, as the price may move before it trades.
MARKET_COLLAR = Decimal("1.03")
WORKABLE = frozenset({Status.NEW, Status.PARTIALLY_FILLED, Status.PENDING_CANCEL, Status.PENDING_REPLACE})
REPLACEABLE = frozenset({Status.NEW, Status.PARTIALLY_FILLED, Status.HELD})

T = TypeVar("T")


class _Due(Enum):
    ACK = "ack"
    MATCH = "match"
    CANCEL = "cancel"
    REPLACE = "replace"
    EXPIRE = "expire"


def stable_id(seed: int, kind: str, number: int) -> str:
    """A UUID-shaped id that the same seed, kind and number always give."""
    digest = hashlib.sha256(f"{seed}:{kind}:{number}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def plain(value: Decimal) -> str:
    """A decimal as the shortest plain string, without exponent or trailing zeros; zero is "0"."""
    if not value:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fold(position: Position, signed_qty: Decimal, price: Decimal) -> Position:
    """The position after a trade: adding averages the price, reducing keeps the average, a flip starts a new one."""
    before, after = position.qty, position.qty + signed_qty
    if not after:
        average = ZERO
    elif not before or (before > 0) == (signed_qty > 0):
        average = (abs(before) * position.avg_entry_price + abs(signed_qty) * price) / abs(after)
    elif (before > 0) == (after > 0):
        average = position.avg_entry_price
    else:
        average = price
    return Position(symbol=position.symbol, qty=after, avg_entry_price=average)


def adjusted(position: Position, adjustment: Adjustment) -> Position:
    """The position after a split or a journal of shares."""
    if adjustment.ratio is not None:
        return replace(
            position, qty=position.qty * adjustment.ratio, avg_entry_price=position.avg_entry_price / adjustment.ratio
        )
    qty = position.qty + adjustment.qty
    return replace(position, qty=qty, avg_entry_price=position.avg_entry_price if qty else ZERO)


class Exchange:
    """One account at one exchange. Mutators take the instant `at`; events pile up until `take_events`."""

    def __init__(
        self,
        *,
        assets: Iterable[Asset],
        rules: AccountRules,
        fill_model: FillModel,
        seed: int,
        draw: Callable[[], float],
        day_end: Callable[[datetime], datetime],
        start: datetime,
    ) -> None:
        self.assets = {asset.symbol: asset for asset in assets}
        self.rules = rules
        self.fill_model = fill_model
        self.is_open = True
        self.suspend_trade = False
        self.no_shorting = False
        self._seed = seed
        self._draw = draw
        self._day_end = day_end
        self._at = start
        self._counts: dict[str, int] = {}
        self._events: list[OrderEvent] = []
        self._due: list[tuple[datetime, int, _Due, str]] = []
        self._quotes: dict[str, Quote] = {}
        self._versions: dict[str, list[Order]] = {}
        self._client_ids: dict[str, str] = {}
        self._open: dict[str, None] = {}
        self._open_by_symbol: dict[str, dict[str, None]] = {}
        self._not_before: dict[str, datetime] = {}
        self._slices: dict[str, int] = {}
        # old order id -> (new order id, new total quantity), until the replace is done or refused
        self._replacing: dict[str, tuple[str, Decimal | None]] = {}
        # order id -> its group, for every order that is or was in one
        self._groups: dict[str, Group] = {}
        self._executions: dict[str, Execution] = {}
        self._executions_of: dict[str, list[str]] = {}
        self._adjustments: list[Adjustment] = []
        self._ledger: dict[str, list[str | Adjustment]] = {}
        self._positions: dict[str, list[tuple[datetime, Position]]] = {}
        self._cash: list[tuple[datetime, Decimal]] = [(start, rules.cash)]

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def view(self, as_of: datetime | None = None) -> "View":
        """The books now, or as they stood at an earlier instant."""
        return View(self, as_of)

    def quote(self, symbol: str) -> Quote | None:
        """The quote in force, or None before the first."""
        return self._quotes.get(symbol)

    def order(self, order_id: str) -> Order:
        """The newest version; Refused 404 when there is no such order."""
        versions = self._versions.get(order_id)
        if versions is None:
            raise Refused(404, NOT_FOUND, f"order not found for {order_id}")
        return versions[-1]

    def position(self, symbol: str) -> Position:
        """The position now; flat when never traded."""
        history = self._positions.get(symbol)
        return history[-1][1] if history else Position(symbol=symbol)

    def open_orders(self) -> list[Order]:
        """Every order that is not terminal, oldest first."""
        return [self._versions[order_id][-1] for order_id in self._open]

    def take_events(self) -> list[OrderEvent]:
        """The events since the last call, in the order in which they happened."""
        events, self._events = self._events, []
        return events

    def next_due(self) -> datetime | None:
        """When `advance` next has something to do of its own accord."""
        return self._due[0][0] if self._due else None

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(
        self,
        request: OrderRequest,
        at: datetime,
        *,
        is_external: bool = False,
        forced: bool = False,
        held: bool = False,
    ) -> Order:
        """Take an order, or raise Refused. `forced` skips the account's checks; `held` leaves it to explicit fills."""
        at = self._tick(at)
        asset = self.assets.get(request.symbol)
        if asset is None:
            raise Refused(422, UNPROCESSABLE, f'asset "{request.symbol}" not found')
        if request.order_class is not OrderClass.SIMPLE:
            request = checked(request)
        self._check_terms(request, asset)
        trail = self._new_trail(request) if request.type is OrderType.TRAILING_STOP else None
        if not forced:
            self._check_account(request, asset)
        number = self._count("order")
        order_id = stable_id(self._seed, "order", number)
        client_order_id = request.client_order_id or stable_id(self._seed, "client", number)
        order = Order(
            id=order_id,
            number=number,
            client_order_id=client_order_id,
            symbol=asset.symbol,
            asset_id=asset.id,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            status=Status.PENDING_NEW if self.is_open else Status.ACCEPTED,
            created_at=at,
            updated_at=at,
            submitted_at=at,
            expires_at=at + GTC_LIFE if request.time_in_force is TimeInForce.GTC else self._day_end(at),
            qty=request.qty,
            notional=request.notional,
            limit_price=request.limit_price,
            stop_price=request.stop_price if trail is None else trail.stop_price(request.side),
            extended_hours=request.extended_hours,
            position_intent=self._intent(request.side, asset.symbol),
            is_external=is_external,
            group=_parent_of(request.order_class),
            trail=trail,
        )
        self._client_ids[client_order_id] = order_id
        self._keep(order)
        self._schedule(order.expires_at, _Due.EXPIRE, order_id)
        if order.group is not None:
            self._add_legs(order, request, at)
        if held:
            # Far away: only an explicit fill may touch it, or its legs.
            for name in (order_id, *(self._groups[order_id].legs if order.group is not None else ())):
                self._not_before[name] = order.expires_at + GTC_LIFE
        if self.is_open:
            self._emit(EventKind.PENDING_NEW, order, at)
            self._later(at, self.fill_model.ack_latency_ms, _Due.ACK, order_id)
        return self.order(order_id)

    def cancel(self, order_id: str, at: datetime) -> Order:
        """Ask for a cancel; the order may still trade before it takes effect. Raises Refused 404 or 422."""
        at = self._tick(at)
        order = self.order(order_id)
        if not order.is_open:
            raise Refused(422, UNPROCESSABLE, f'order is already in "{order.status}" state')
        if order.cancel_requested_at is not None:
            raise Refused(422, UNPROCESSABLE, 'order is already in "pending_cancel" state')
        order = self._keep(replace(order, status=Status.PENDING_CANCEL, cancel_requested_at=at, updated_at=at))
        self._emit(EventKind.PENDING_CANCEL, order, at)
        self._later(at, self.fill_model.cancel_latency_ms, _Due.CANCEL, order_id)
        return self.order(order_id)

    def replace(self, order_id: str, request: ReplaceRequest, at: datetime) -> Order:
        """Ask for a replace; returns the new order, which works only once the old one has yielded. Raises Refused."""
        at = self._tick(at)
        old = self.order(order_id)
        self._check_replace(old, request)
        total = request.qty if request.qty is not None else old.qty
        if total is not None and not self._carried_qty(old, total) > 0:
            raise Refused(422, VALIDATION, f"qty must be greater than the filled quantity {plain(old.filled_qty)}")
        time_in_force = request.time_in_force or old.time_in_force
        number = self._count("order")
        new_id = stable_id(self._seed, "order", number)
        new = Order(
            id=new_id,
            number=number,
            client_order_id=request.client_order_id or stable_id(self._seed, "client", number),
            symbol=old.symbol,
            asset_id=old.asset_id,
            side=old.side,
            type=old.type,
            time_in_force=time_in_force,
            status=Status.PENDING_NEW,
            created_at=at,
            updated_at=at,
            submitted_at=at,
            expires_at=at + GTC_LIFE if time_in_force is TimeInForce.GTC else self._day_end(at),
            qty=self._carried_qty(old, total) if total is not None else None,
            limit_price=request.limit_price if request.limit_price is not None else old.limit_price,
            stop_price=request.stop_price if request.stop_price is not None else old.stop_price,
            extended_hours=old.extended_hours,
            position_intent=old.position_intent,
            is_triggered=old.is_triggered and request.stop_price is None,
            is_external=old.is_external,
            replaces=old.id,
            group=old.group,
            trail=old.trail,
        )
        if old.trail is not None and request.trail is not None:
            trail = replace(old.trail, **{"price" if old.trail.price is not None else "percent": request.trail})
            new = replace(new, trail=trail, stop_price=trail.stop_price(old.side))
        self._check_price_grid(new.limit_price, "limit_price")
        self._check_price_grid(new.stop_price, "stop_price")
        if old.group is not None:
            self._check_group_prices(old, new)
        if total is not None and (old.group is None or old.group.role is Role.ENTRY):
            self._check_larger(old, new)
        self._client_ids[new.client_order_id] = new_id
        if old.group is not None:
            self._groups[new_id] = self._groups[old.id]
            if old.group.parent is not None:
                self._groups[old.id].legs.append(new_id)
        self._keep(new)
        self._schedule(new.expires_at, _Due.EXPIRE, new_id)
        if order_id in self._not_before and self._not_before[order_id] > old.expires_at:
            self._not_before[new_id] = new.expires_at + GTC_LIFE
        self._replacing[order_id] = (new_id, total)
        old = self._keep(replace(old, status=Status.PENDING_REPLACE, updated_at=at))
        self._emit(EventKind.PENDING_REPLACE, old, at)
        self._later(at, self.fill_model.replace_latency_ms, _Due.REPLACE, order_id)
        return self.order(new_id)

    # ── the market moves, time passes ────────────────────────────────────────────────────────────────────────────────

    def set_quote(self, quote: Quote, at: datetime) -> None:
        """Take a new quote, and match what it makes marketable."""
        at = self._tick(at)
        self._quotes[quote.symbol] = quote
        if not self.is_open:
            return
        for order_id in list(self._open_by_symbol.get(quote.symbol, ())):
            if self._not_before.get(order_id, at) <= at:
                self._match(order_id, at)

    def advance(self, at: datetime) -> None:
        """Do everything that has fallen due: acknowledgements, matches, cancels, replaces, expiries."""
        at = self._tick(at)
        while self._due and self._due[0][0] <= at:
            _, _, action, order_id = heapq.heappop(self._due)
            self._perform(action, order_id, at)

    def finish_cancels(self, at: datetime) -> None:
        """Let every requested cancel take effect now."""
        at = self._tick(at)
        for order in self.open_orders():
            if order.cancel_requested_at is not None:
                self._finish_cancel(order.id, at)

    def set_open(self, is_open: bool, at: datetime) -> None:
        """Open or close the session. At the close DAY orders expire; at the open waiting orders are routed."""
        at = self._tick(at)
        if is_open == self.is_open:
            return
        self.is_open = is_open
        for order in self.open_orders():
            if is_open and order.status is Status.ACCEPTED:
                order = self._keep(replace(order, status=Status.PENDING_NEW, updated_at=at))
                self._emit(EventKind.PENDING_NEW, order, at)
                self._later(at, self.fill_model.ack_latency_ms, _Due.ACK, order.id)
            elif not is_open and order.time_in_force is not TimeInForce.GTC:
                self._expire(order.id, at)

    # ── the hand of the operator ─────────────────────────────────────────────────────────────────────────────────────

    def fill(
        self,
        order_id: str,
        at: datetime,
        *,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        forced: bool = False,
    ) -> Execution:
        """Execute part or all of an order now. `forced` allows what must not happen: too much, or after the end."""
        at = self._tick(at)
        order = self.order(order_id)
        if price is None:
            quote = self._quotes.get(order.symbol)
            price = order.limit_price or (quote.last if quote else None)
        if price is None or price <= 0:
            raise Refused(422, VALIDATION, "price must be > 0 when the symbol has no quote")
        self._size_notional(order, price)
        order = self.order(order_id)
        qty = qty if qty is not None else order.leaves_qty
        if qty <= 0:
            raise Refused(422, VALIDATION, f"qty must be > 0; this order has {plain(order.leaves_qty)} left")
        if not forced and qty > order.leaves_qty:
            raise Refused(
                422,
                VALIDATION,
                f"qty must be at most {plain(order.leaves_qty)}, what the order has left; send forced=true to overfill",
            )
        if order.group is not None and not forced:
            self._let_leg_fill(order, at)
        return self._execute(order_id, qty, price, at)

    def acknowledge(self, order_id: str, at: datetime) -> None:
        """Have the venue say yes to a waiting order now, instead of after the model's latency."""
        self._acknowledge(order_id, self._tick(at))

    def reject(self, order_id: str, at: datetime, reason: str) -> Order:
        """Reject an open order late, as a venue does after the broker has said yes."""
        at = self._tick(at)
        order = self.order(order_id)
        if not order.is_open:
            raise Refused(422, UNPROCESSABLE, f'order is already in "{order.status}" state')
        self._end(order, Status.REJECTED, EventKind.REJECTED, at, reason=reason)
        return self.order(order_id)

    def bust(self, execution_id: str, at: datetime, reason: str = "TRADE_BUST") -> Execution:
        """Annul an execution: the order's fills, the position and the cash lose it. A terminal order stays terminal."""
        at = self._tick(at)
        execution = self._live_execution(execution_id)
        self._annul(execution, at)
        order = self._refill(execution, -1, at)
        position = self._refold(execution.symbol, at)
        self._emit(
            EventKind.TRADE_BUST,
            order,
            at,
            execution=self._executions[execution_id],
            position_qty=position.qty,
            reason=reason,
        )
        return self._executions[execution_id]

    def correct(
        self, execution_id: str, at: datetime, *, qty: Decimal | None = None, price: Decimal | None = None
    ) -> Execution:
        """Put a corrected execution, under a new id, in the place of an earlier one."""
        at = self._tick(at)
        old = self._live_execution(execution_id)
        if (qty is not None and qty <= 0) or (price is not None and price <= 0):
            raise Refused(422, VALIDATION, "qty and price of a correction must be > 0")
        if (qty is None or qty == old.qty) and (price is None or price == old.price):
            raise Refused(422, VALIDATION, "a correction must change qty or price")
        self._annul(old, at)
        self._refill(old, -1, at)
        number = self._count("execution")
        new = replace(
            old,
            id=stable_id(self._seed, "execution", number),
            number=number,
            qty=qty or old.qty,
            price=price or old.price,
            at=at,
            corrects=old.id,
            annulled_at=None,
        )
        order = self._refill(new, 1, at)
        new = replace(new, cum_qty=order.filled_qty, leaves_qty=order.leaves_qty, order_status=order.status)
        self._executions[new.id] = new
        self._executions_of[order.id].append(new.id)
        ledger = self._ledger[old.symbol]
        ledger[ledger.index(old.id)] = new.id
        position = self._refold(old.symbol, at)
        self._emit(
            EventKind.TRADE_CORRECT,
            order,
            at,
            execution=new,
            position_qty=position.qty,
            previous_execution_id=old.id,
        )
        return new

    def adjust(
        self,
        symbol: str,
        at: datetime,
        *,
        ratio: Decimal | None = None,
        qty: Decimal = ZERO,
        net_amount: Decimal = ZERO,
        description: str = "",
    ) -> Adjustment:
        """Change a position without an execution: a split by `ratio` (cancels open orders), or `qty` shares moved."""
        at = self._tick(at)
        if symbol not in self.assets:
            raise Refused(422, UNPROCESSABLE, f'asset "{symbol}" not found')
        if ratio is not None and ratio <= 0:
            raise Refused(422, VALIDATION, "ratio must be > 0, such as 2 for a two-for-one split")
        if ratio is not None:
            for order_id in list(self._open_by_symbol.get(symbol, ())):
                if self.order(order_id).is_open:
                    self._end(self.order(order_id), Status.CANCELED, EventKind.CANCELED, at, reason="CORPORATE_ACTION")
        number = self._count("adjustment")
        adjustment = Adjustment(
            id=stable_id(self._seed, "adjustment", number),
            number=number,
            symbol=symbol,
            at=at,
            description=description or ("split" if ratio is not None else "journal"),
            ratio=ratio,
            qty=qty,
            net_amount=net_amount,
        )
        self._adjustments.append(adjustment)
        self._ledger.setdefault(symbol, []).append(adjustment)
        self._set_position(adjusted(self.position(symbol), adjustment), at)
        if net_amount:
            self._cash.append((at, self._cash[-1][1] + net_amount))
        return adjustment

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_terms(self, request: OrderRequest, asset: Asset) -> None:
        if (request.qty is None) == (request.notional is None):
            raise Refused(422, VALIDATION, "exactly one of qty and notional is required")
        if request.qty is not None and request.qty <= 0:
            raise Refused(422, VALIDATION, "qty must be > 0")
        if request.notional is not None and request.notional < 1:
            raise Refused(422, VALIDATION, "cost basis must be >= minimal amount of order 1")
        if request.qty is not None and request.qty % SHARE_GRID:
            raise Refused(422, VALIDATION, "qty must be limited to 9 decimal places")
        if request.notional is not None and request.notional % Decimal("0.01"):
            raise Refused(422, VALIDATION, "notional value must be limited to 2 decimal places")
        self._check_prices(request)
        self._check_fraction(request, asset)
        if request.extended_hours and not (
            request.type is OrderType.LIMIT and request.time_in_force in {TimeInForce.DAY, TimeInForce.GTC}
        ):
            raise Refused(422, UNPROCESSABLE, "extended hours order must be DAY limit orders")
        self._check_client_id(request.client_order_id)

    def _check_prices(self, request: OrderRequest) -> None:
        needs_limit = request.type in {OrderType.LIMIT, OrderType.STOP_LIMIT}
        needs_stop = request.type in {OrderType.STOP, OrderType.STOP_LIMIT}
        is_trailing = request.type is OrderType.TRAILING_STOP
        if is_trailing or request.trail_price is not None or request.trail_percent is not None:
            self._check_trail(request)
        for needed, name, price in (
            (needs_limit, "limit_price", request.limit_price),
            (needs_stop, "stop_price", request.stop_price),
        ):
            if needed and price is None:
                raise Refused(422, VALIDATION, f"{request.type} orders require {name}")
            if not needed and price is not None:
                raise Refused(422, VALIDATION, f"{request.type} orders must not have {name}")
            if price is not None and price <= 0:
                raise Refused(422, VALIDATION, f"{name} must be > 0")
            self._check_price_grid(price, name)
        if needs_stop and request.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            raise Refused(422, UNPROCESSABLE, "stop orders must be DAY or GTC")
        quote = self._quotes.get(request.symbol)
        if request.order_class is not OrderClass.SIMPLE:
            self._check_leg_prices(request, quote)
        if request.stop_price is None or quote is None:
            return
        if request.side is Side.BUY and request.stop_price < quote.last:
            raise Refused(422, UNPROCESSABLE, "stop price must not be less than current price")
        if request.side is Side.SELL and request.stop_price > quote.last:
            raise Refused(422, UNPROCESSABLE, "stop price must be less than current price")

    def _check_trail(self, request: OrderRequest) -> None:
        prices = {"trail_price": request.trail_price, "trail_percent": request.trail_percent}
        if request.type is not OrderType.TRAILING_STOP:
            named = next(name for name, value in prices.items() if value is not None)
            raise Refused(422, VALIDATION, f"{request.type} orders must not have {named}")
        if (request.trail_price is None) == (request.trail_percent is None):
            raise Refused(422, VALIDATION, "trailing_stop orders require exactly one of trail_price and trail_percent")
        if request.time_in_force not in {TimeInForce.DAY, TimeInForce.GTC}:
            raise Refused(422, UNPROCESSABLE, "trailing_stop orders must be DAY or GTC")
        if request.qty is None or request.qty % 1:
            raise Refused(422, UNPROCESSABLE, "fractional orders cannot be trailing_stop orders")
        self._check_trail_value(request.symbol, request.side, request.trail_price, request.trail_percent)

    def _check_trail_value(self, symbol: str, side: Side, price: Decimal | None, percent: Decimal | None) -> None:
        for name, value in (("trail_price", price), ("trail_percent", percent)):
            if value is not None and value <= 0:
                raise Refused(422, VALIDATION, f"{name} must be > 0")
        if side is Side.BUY:
            return
        quote = self._quotes.get(symbol)
        if percent is not None and percent >= 100:
            raise Refused(422, VALIDATION, "trail_percent must be < 100")
        if price is not None and quote is not None and price >= quote.last:
            raise Refused(422, UNPROCESSABLE, "trail_price must be less than current price")

    def _new_trail(self, request: OrderRequest) -> Trail:
        quote = self._quotes.get(request.symbol)
        return Trail(
            price=request.trail_price, percent=request.trail_percent, hwm=quote.last if quote is not None else None
        )

    def _check_leg_prices(self, request: OrderRequest, quote: Quote | None) -> None:
        target, loss = request.take_profit_price, request.stop_loss
        stop = loss.stop_price if loss is not None else None
        stop_limit = loss.limit_price if loss is not None else None
        for name, price in (
            ("take_profit.limit_price", target),
            ("stop_loss.stop_price", stop),
            ("stop_loss.limit_price", stop_limit),
        ):
            if price is not None and price <= 0:
                raise Refused(422, VALIDATION, f"{name} must be > 0")
            self._check_price_grid(price, name)
        last = quote.last if quote is not None else None
        if request.order_class is OrderClass.OCO:
            check_exits(request.side, base=None, target=target, stop=stop)
            # A take-profit may be marketable at once; a stop may not.
            check_exits(request.side, base=last, target=None, stop=stop)
            return
        base = request.limit_price if request.limit_price is not None else last
        check_exits(_other(request.side), base=base, target=target, stop=stop)

    def _check_group_prices(self, old: Order, new: Order) -> None:
        """A replace of one member must leave the prices of its group in their order."""
        group = self._groups[old.id]
        changed = {old.id: new}
        entry, target, stop = (
            None if name is None else changed.get(name) or self.order(name)
            for name in (group.entry, group.target, group.stop)
        )
        exits = target or stop
        if exits is not None:
            check_exits(
                exits.side,
                base=entry.limit_price if entry is not None else None,
                target=target.limit_price if target is not None else None,
                stop=stop.stop_price if stop is not None else None,
            )

    def _check_fraction(self, request: OrderRequest, asset: Asset) -> None:
        is_fractional = request.notional is not None or bool(request.qty is not None and request.qty % 1)
        if not is_fractional:
            return
        if not asset.fractionable:
            raise Refused(403, FORBIDDEN, f'asset "{asset.symbol}" is not fractionable')
        if request.time_in_force is not TimeInForce.DAY:
            raise Refused(422, UNPROCESSABLE, "fractional orders must be DAY orders")
        if request.notional is not None and request.type is not OrderType.MARKET:
            raise Refused(422, UNPROCESSABLE, "notional orders must be market orders")

    def _check_price_grid(self, price: Decimal | None, name: str) -> None:
        if price is None:
            return
        grid = Decimal("0.01") if price >= 1 else Decimal("0.0001")
        if price % grid:
            raise Refused(
                422,
                UNPROCESSABLE,
                f"invalid {name} {plain(price)}. sub-penny increment does not fulfill minimum pricing criteria",
            )

    def _check_client_id(self, client_order_id: str | None) -> None:
        if client_order_id is None:
            return
        if not 0 < len(client_order_id) <= 128:
            raise Refused(422, VALIDATION, "client_order_id must be 1 to 128 characters")
        if client_order_id in self._client_ids:
            raise Refused(422, VALIDATION, "client_order_id must be unique")

    def _check_account(self, request: OrderRequest, asset: Asset) -> None:
        if self.suspend_trade:
            raise Refused(403, FORBIDDEN, "new orders are rejected by user request")
        if request.order_class is OrderClass.SIMPLE:
            self._check_wash(request)
        position = self.position(asset.symbol).qty
        price = self._reference_price(request.symbol, request.type, request.limit_price or request.stop_price)
        qty = request.qty
        if qty is None:
            qty = (request.notional or ZERO) / price
        reduces = position and (position > 0) != (request.side is Side.BUY)
        if request.order_class is not OrderClass.SIMPLE:
            is_exit = request.order_class is OrderClass.OCO
            if bool(reduces) != is_exit:
                kind = "exit" if is_exit else "entry"
                raise Refused(422, UNPROCESSABLE, f"{request.order_class} orders must be {kind} orders")
        if reduces:
            free = max(abs(position) - self._held_qty(asset.symbol, request.side), ZERO)
            # The share of a notional order is only an estimate; whole held positions may be sold by value.
            if qty > free and not (self.rules.flips_allowed and request.order_class is OrderClass.SIMPLE):
                self._refuse_held(asset.symbol, request.side, request.qty or qty.quantize(SHARE_GRID), free, position)
            qty = max(qty - free, ZERO)
        if not qty:
            return
        if request.side is Side.SELL:
            if self.no_shorting or not self.rules.shorting_enabled:
                raise Refused(403, FORBIDDEN, "account is not allowed to short")
            if not asset.shortable:
                raise Refused(422, UNPROCESSABLE, f'asset "{asset.symbol}" cannot be sold short')
            if request.notional is not None or qty % 1:
                raise Refused(422, UNPROCESSABLE, "fractional orders cannot be sold short")
        self._check_buying_power(qty * price)

    def _check_buying_power(self, cost: Decimal) -> None:
        buying_power = self.view().totals().buying_power
        if cost > buying_power:
            raise Refused(
                403,
                FORBIDDEN,
                "insufficient buying power",
                buying_power=plain(buying_power.quantize(Decimal("0.01"), ROUND_DOWN)),
                cost_basis=plain(cost.quantize(Decimal("0.01"))),
            )

    def _check_wash(self, request: OrderRequest) -> None:
        for order_id in self._open_by_symbol.get(request.symbol, ()):
            other = self._versions[order_id][-1]
            if other.side is request.side or (other.group is not None and not self._works(other)):
                continue
            mine, theirs = request.limit_price, other.limit_price
            if mine is not None and theirs is not None:
                buy, sell = (mine, theirs) if request.side is Side.BUY else (theirs, mine)
                if buy < sell:
                    continue
            elif (
                request.stop_price is not None
                or other.stop_price is not None
                or request.type is OrderType.TRAILING_STOP
                or other.type is OrderType.TRAILING_STOP
            ):
                # A stop that has not fired does not meet anything yet.
                continue
            raise Refused(
                403,
                FORBIDDEN,
                "potential wash trade detected. use complex orders",
                existing_order_id=other.id,
                reject_reason="opposite side market/stop order exists"
                if theirs is None
                else "opposite side limit order exists",
            )

    def _refuse_held(self, symbol: str, side: Side, asked: Decimal, free: Decimal, position: Decimal) -> NoReturn:
        holders = [
            order_id for order_id in self._open_by_symbol.get(symbol, ()) if self._versions[order_id][-1].side is side
        ]
        extra: dict[str, object] = {
            "available": plain(free),
            "existing_qty": plain(abs(position)),
            "held_for_orders": plain(abs(position) - free),
            "symbol": symbol,
        }
        if holders:
            extra["related_orders"] = holders
        raise Refused(
            403,
            FORBIDDEN,
            f"insufficient qty available for order (requested: {plain(asked)}, available: {plain(free)})",
            **extra,
        )

    def _check_replace(self, old: Order, request: ReplaceRequest) -> None:
        if not old.is_open:
            raise Refused(422, UNPROCESSABLE, f'order is already in "{old.status}" state')
        if old.id in self._replacing:
            raise Refused(422, UNPROCESSABLE, "order chain not fully replaced")
        if old.cancel_requested_at is not None or old.status not in REPLACEABLE:
            status = Status.PENDING_CANCEL if old.cancel_requested_at is not None else old.status
            raise Refused(422, UNPROCESSABLE, f"cannot replace order in {status} status")
        if old.notional is not None:
            raise Refused(422, UNPROCESSABLE, "notional orders cannot be replaced")
        if request.qty is not None:
            if request.qty <= 0:
                raise Refused(422, VALIDATION, "qty must be > 0")
            if request.qty % 1 or (old.qty is not None and old.qty % 1):
                raise Refused(422, UNPROCESSABLE, "qty of fractional orders cannot be replaced")
        if request.limit_price is not None and old.limit_price is None:
            raise Refused(422, VALIDATION, f"{old.type} orders must not have limit_price")
        if request.stop_price is not None and (old.stop_price is None or old.trail is not None):
            raise Refused(422, VALIDATION, f"{old.type} orders must not have stop_price")
        trail = None
        if request.trail is not None:
            if old.trail is None:
                raise Refused(422, VALIDATION, f"{old.type} orders must not have trail")
            is_price, trail = old.trail.price is not None, old.trail.price or old.trail.percent
            self._check_trail_value(
                old.symbol, old.side, request.trail if is_price else None, None if is_price else request.trail
            )
        if old.group is not None and (
            request.qty not in {None, old.qty} or request.time_in_force not in {None, old.time_in_force}
        ):
            raise Refused(
                422, UNPROCESSABLE, f"only the prices of {old.group.order_class} orders can be replaced, or cancel them"
            )
        for name, price in (("limit_price", request.limit_price), ("stop_price", request.stop_price)):
            if price is not None and price <= 0:
                raise Refused(422, VALIDATION, f"{name} must be > 0")
        asked = (request.qty, request.limit_price, request.stop_price, request.trail, request.time_in_force)
        have = (old.qty, old.limit_price, old.stop_price, trail, old.time_in_force)
        if all(want is None or want == is_now for want, is_now in zip(asked, have, strict=True)):
            raise Refused(422, UNPROCESSABLE, "order parameters are not changed")
        self._check_client_id(request.client_order_id)

    def _check_larger(self, old: Order, new: Order) -> None:
        """Until the replace is done the account must be able to bear the larger of the two."""
        more = (new.qty or ZERO) - old.leaves_qty
        position = self.position(old.symbol).qty
        if more > 0 and position and (position > 0) != (old.side is Side.BUY):
            free = max(abs(position) - self._held_qty(old.symbol, old.side), ZERO)
            if more > free and not self.rules.flips_allowed:
                self._refuse_held(old.symbol, old.side, new.qty or ZERO, free + old.leaves_qty, position)
            return
        old_price = self._reference_price(old.symbol, old.type, old.limit_price or old.stop_price)
        new_price = self._reference_price(new.symbol, new.type, new.limit_price or new.stop_price)
        cost = (new.qty or ZERO) * new_price - old.leaves_qty * old_price
        if cost > 0:
            self._check_buying_power(cost)

    # ── the life of an order ─────────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, action: _Due, order_id: str, at: datetime) -> None:
        match action:
            case _Due.ACK:
                self._acknowledge(order_id, at)
            case _Due.MATCH:
                if self.is_open and self._not_before.get(order_id, at) <= at:
                    self._match(order_id, at)
            case _Due.CANCEL:
                self._finish_cancel(order_id, at)
            case _Due.REPLACE:
                self._finish_replace(order_id, at)
            case _Due.EXPIRE:
                self._expire(order_id, at)

    def _acknowledge(self, order_id: str, at: datetime) -> None:
        order = self.order(order_id)
        if order.status is not Status.PENDING_NEW:
            return
        probability = self.fill_model.reject_probability
        if probability and self._draw() < probability:
            self._end(order, Status.REJECTED, EventKind.REJECTED, at, reason="VENUE_REJECTED")
            return
        self._start_working(order, at)

    def _start_working(self, order: Order, at: datetime) -> None:
        if order.group is not None and not self._works(order):
            self._hold(order, at)
            return
        # submitted_at is rewritten at routing, as the real service does, so it is no key to anything.
        order = self._keep(replace(order, status=Status.NEW, submitted_at=at, updated_at=at))
        self._emit(EventKind.NEW, order, at)
        if order.id not in self._not_before:
            self._rest(order.id, at, self.fill_model.fill_latency_ms)

    def _rest(self, order_id: str, at: datetime, latency_ms: int) -> None:
        """Keep the order out of matching for a while, then try."""
        self._not_before[order_id] = at + timedelta(milliseconds=latency_ms)
        self._later(at, latency_ms, _Due.MATCH, order_id)

    def _match(self, order_id: str, at: datetime) -> None:
        order = self.order(order_id)
        quote = self._quotes.get(order.symbol)
        if order.trail is not None:
            order = self._follow(order, quote)
        if self.fill_model.is_manual or quote is None:
            return
        if self._is_shadow(order):
            return
        if order.status not in WORKABLE if order.group is None else not self._may_match(order):
            return
        if order.stop_price is not None and not order.is_triggered:
            reached = quote.last >= order.stop_price if order.side is Side.BUY else quote.last <= order.stop_price
            if not reached:
                return
            order = self._keep(replace(order, is_triggered=True, updated_at=at))
            if order.group is not None:
                order = self._take_over(order, at)
        price = quote.ask if order.side is Side.BUY else quote.bid
        limit = order.limit_price
        is_marketable = limit is None or (price <= limit if order.side is Side.BUY else price >= limit)
        fills_or_dies = order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}
        if not is_marketable:
            if fills_or_dies:
                self._end(order, Status.CANCELED, EventKind.CANCELED, at)
            return
        self._size_notional(order, price)
        order = self.order(order_id)
        self._execute(order_id, self._slice(order), price, at)
        order = self.order(order_id)
        if not order.is_open:
            return
        if fills_or_dies:
            self._end(order, Status.CANCELED, EventKind.CANCELED, at)
        else:
            self._rest(order_id, at, self.fill_model.slice_latency_ms)

    def _slice(self, order: Order) -> Decimal:
        """How many shares this match gives: all that is left, or by a draw a whole-share part of it."""
        leaves, done = order.leaves_qty, self._slices.get(order.id, 0)
        model = self.fill_model
        if order.time_in_force is TimeInForce.FOK or leaves < 2 or done + 1 >= model.slices_max:
            return leaves
        if not model.partial_probability or self._draw() >= model.partial_probability:
            return leaves
        self._slices[order.id] = done + 1
        # The draw comes from a machine float; through its text it becomes an exact decimal.
        share = Decimal(str(round(0.1 + 0.8 * self._draw(), 4)))
        return max((leaves * share).quantize(Decimal(1), ROUND_DOWN), Decimal(1))

    def _size_notional(self, order: Order, price: Decimal) -> None:
        if order.notional is not None and order.target_qty is None:
            target = max((order.notional / price).quantize(SHARE_GRID, ROUND_DOWN), SHARE_GRID)
            self._keep(replace(order, target_qty=target))

    def _execute(self, order_id: str, qty: Decimal, price: Decimal, at: datetime) -> Execution:
        order = self.order(order_id)
        filled_qty = order.filled_qty + qty
        total = order.total_qty
        is_full = total is not None and filled_qty >= total
        status = order.status
        if order.is_open:
            status = Status.FILLED if is_full else Status.PARTIALLY_FILLED
        order = self._keep(
            replace(
                order,
                status=status,
                filled_qty=filled_qty,
                filled_value=order.filled_value + qty * price,
                filled_at=at if status is Status.FILLED else order.filled_at,
                updated_at=at,
            )
        )
        number = self._count("execution")
        execution = Execution(
            id=stable_id(self._seed, "execution", number),
            number=number,
            order_id=order_id,
            symbol=order.symbol,
            side=order.side,
            qty=qty,
            price=price,
            at=at,
            cum_qty=filled_qty,
            leaves_qty=order.leaves_qty,
            order_status=order.status,
        )
        self._executions[execution.id] = execution
        self._executions_of.setdefault(order_id, []).append(execution.id)
        self._ledger.setdefault(order.symbol, []).append(execution.id)
        self._cash.append((at, self._cash[-1][1] - execution.signed_qty * price))
        position = fold(self.position(order.symbol), execution.signed_qty, price)
        self._set_position(position, at)
        self._emit(
            EventKind.FILL if is_full else EventKind.PARTIAL_FILL,
            order,
            at,
            execution=execution,
            position_qty=position.qty,
        )
        if order.group is not None:
            self._member_filled(order, at)
        return execution

    def _finish_cancel(self, order_id: str, at: datetime) -> None:
        order = self.order(order_id)
        if order.is_open:
            self._end(order, Status.CANCELED, EventKind.CANCELED, at)
        elif order.status is Status.FILLED:
            self._emit(EventKind.ORDER_CANCEL_REJECTED, order, at, reason="TOO_LATE_TO_CANCEL")

    def _finish_replace(self, old_id: str, at: datetime) -> None:
        pending = self._replacing.get(old_id)
        if pending is None:
            return
        new_id, total = pending
        old, new = self.order(old_id), self.order(new_id)
        if old.group is not None:
            # A held stop may have shrunk with its take-profit since.
            total = old.qty
        carried = self._carried_qty(old, total) if total is not None else None
        is_wanted = all(order.is_open and order.cancel_requested_at is None for order in (old, new))
        if not is_wanted or (carried is not None and carried <= 0):
            self._refuse_replace(old_id, at)
            return
        del self._replacing[old_id]
        old = self._keep(replace(old, status=Status.REPLACED, replaced_at=at, replaced_by=new_id, updated_at=at))
        self._emit(EventKind.REPLACED, old, at)
        new = self._keep(replace(new, qty=carried, updated_at=at))
        if old.group is not None:
            self._succeed(old, new, at)
        self._start_working(new, at)

    def _refuse_replace(self, old_id: str, at: datetime) -> None:
        """The old order stays what it is, and the new one is rejected."""
        new_id, _ = self._replacing.pop(old_id)
        old, new = self.order(old_id), self.order(new_id)
        if old.status is Status.PENDING_REPLACE:
            back = Status.PARTIALLY_FILLED if old.filled_qty else Status.NEW
            if old.group is not None and not self._works(old):
                back = Status.HELD
            old = self._keep(replace(old, status=back, updated_at=at))
        self._emit(EventKind.ORDER_REPLACE_REJECTED, old, at, reason="TOO_LATE_TO_REPLACE")
        if new.is_open:
            self._end(new, Status.REJECTED, EventKind.REJECTED, at, reason="REPLACE_REJECTED")

    def _expire(self, order_id: str, at: datetime) -> None:
        order = self.order(order_id)
        if order.is_open:
            self._end(order, Status.EXPIRED, EventKind.EXPIRED, at)

    def _end(
        self,
        order: Order,
        status: Status,
        kind: EventKind,
        at: datetime,
        *,
        reason: str | None = None,
        silently: bool = False,
    ) -> None:
        """Bring an open order to its one terminal status, and settle a replace and a group that hung on it."""
        order = self._keep(
            replace(
                order,
                status=status,
                updated_at=at,
                canceled_at=at if status is Status.CANCELED else order.canceled_at,
                expired_at=at if status is Status.EXPIRED else order.expired_at,
                failed_at=at if status is Status.REJECTED else order.failed_at,
            )
        )
        if not silently:
            self._emit(kind, order, at, reason=reason)
        if order.id in self._replacing:
            self._refuse_replace(order.id, at)
        elif order.replaces in self._replacing and self._replacing[order.replaces][0] == order.id:
            self._refuse_replace(order.replaces, at)
        if order.group is not None and order.id in self._groups[order.id].members():
            self._end_members(self._groups[order.id].dissolve(), at)

    # ── order groups ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _add_legs(self, parent: Order, request: OrderRequest, at: datetime) -> None:
        """Make the legs of a new group: held, as large as their parent, and on the side that closes."""
        is_oco = request.order_class is OrderClass.OCO
        group = Group(order_class=request.order_class, parent=parent.id, is_armed=is_oco)
        self._groups[parent.id] = group
        if is_oco:
            group.target = parent.id
        else:
            group.entry = parent.id
            if request.take_profit_price is not None:
                target = self._add_leg(parent, Role.TARGET, OrderType.LIMIT, request.take_profit_price, None, at)
                group.target = target.id
        if request.stop_loss is not None:
            limit = request.stop_loss.limit_price
            kind = OrderType.STOP if limit is None else OrderType.STOP_LIMIT
            group.stop = self._add_leg(parent, Role.STOP, kind, limit, request.stop_loss.stop_price, at).id

    def _add_leg(
        self,
        parent: Order,
        role: Role,
        kind: OrderType,
        limit_price: Decimal | None,
        stop_price: Decimal | None,
        at: datetime,
    ) -> Order:
        assert parent.group is not None
        side = parent.side if parent.group.role is Role.TARGET else _other(parent.side)
        number = self._count("order")
        leg = Order(
            id=stable_id(self._seed, "order", number),
            number=number,
            client_order_id=stable_id(self._seed, "client", number),
            symbol=parent.symbol,
            asset_id=parent.asset_id,
            side=side,
            type=kind,
            time_in_force=parent.time_in_force,
            status=Status.HELD,
            created_at=at,
            updated_at=at,
            submitted_at=at,
            expires_at=parent.expires_at,
            qty=parent.qty,
            limit_price=limit_price,
            stop_price=stop_price,
            position_intent=f"{side}_to_close",
            is_external=parent.is_external,
            group=Membership(order_class=parent.group.order_class, role=role, parent=parent.id),
        )
        group = self._groups[parent.id]
        group.legs.append(leg.id)
        self._groups[leg.id] = group
        self._client_ids[leg.client_order_id] = leg.id
        self._schedule(leg.expires_at, _Due.EXPIRE, leg.id)
        return self._keep(leg)

    def _works(self, order: Order) -> bool:
        """True unless the order is a leg that waits for its entry, or a stop that waits beside its take-profit."""
        return order.group is None or self._groups[order.id].lets_work(order.group.role)

    def _may_match(self, order: Order) -> bool:
        """True when a member may be compared with a quote: it works, or is a stop beside a working take-profit.

        What is to replace a member is none yet.
        """
        assert order.group is not None
        group = self._groups[order.id]
        if order.id not in group.members():
            return False
        if group.lets_work(order.group.role):
            return order.status in WORKABLE
        if group.stop != order.id or group.target is None or not group.is_armed:
            return False
        return self.order(group.target).status in WORKABLE

    def _hold(self, order: Order, at: datetime) -> None:
        """Put the replacement of a waiting leg in its place; nobody is told, as of all that is held."""
        self._keep(replace(order, status=Status.HELD, updated_at=at))

    def _member_filled(self, order: Order, at: datetime) -> None:
        """What an execution of one member does to the others."""
        group = self._groups[order.id]
        is_filled = order.status is Status.FILLED
        if order.id == group.entry:
            if is_filled:
                group.entry = None
                self._arm(group, at)
        elif order.id == group.target:
            if is_filled:
                self._end_members([name for name in group.dissolve() if name != order.id], at)
            else:
                self._resize_stop(order, at)
        elif order.id == group.stop and is_filled:
            self._end_members([name for name in group.dissolve() if name != order.id], at)

    def _resize_stop(self, target: Order, at: datetime) -> None:
        """A stop beside a take-profit is as large as what that one has left."""
        group = self._groups[target.id]
        if group.target != target.id or group.stop is None or not target.is_open:
            return
        stop = self.order(group.stop)
        if stop.qty != target.leaves_qty:
            self._keep(replace(stop, qty=target.leaves_qty, updated_at=at))

    def _arm(self, group: Group, at: datetime) -> None:
        """The entry is filled: the take-profit works, and the stop waits beside it, or works where it is alone."""
        group.is_armed = True
        for name in list(group.members()):
            leg = self.order(name)
            if leg.status is not Status.HELD:
                continue
            if self._works(leg):
                self._start_working(leg, at)
            elif name not in self._not_before:
                self._rest(name, at, self.fill_model.fill_latency_ms)

    def _let_leg_fill(self, order: Order, at: datetime) -> None:
        """Make way for an explicit fill of a member, or refuse it while the member must not work."""
        is_member = order.id in self._groups[order.id].members()
        if is_member and self._works(order):
            return
        if not self._may_match(order):
            told = "this leg waits until its entry is filled and its take-profit works"
            if not is_member:
                told = "this order waits until the one that it replaces has yielded"
            raise Refused(422, UNPROCESSABLE, f"{told}; send forced=true to fill it")
        self._take_over(order, at)

    def _take_over(self, stop: Order, at: datetime) -> Order:
        """A stop has fired: its take-profit yields, and the stop works in its place."""
        group = self._groups[stop.id]
        if group.stop != stop.id or group.target is None:
            return stop
        target, group.target = self.order(group.target), None
        if self.rules.stop_replaces_target:
            target = replace(target, replaced_at=at, replaced_by=stop.id)
            self._end(target, Status.REPLACED, EventKind.REPLACED, at)
        else:
            self._end(target, Status.CANCELED, EventKind.CANCELED, at)
        if stop.status is Status.HELD:
            stop = self._keep(replace(self.order(stop.id), status=Status.NEW, submitted_at=at, updated_at=at))
            self._emit(EventKind.NEW, stop, at)
        return self.order(stop.id)

    def _succeed(self, old: Order, new: Order, at: datetime) -> None:
        """The replacement of a member takes its place; where that was the parent the legs are its legs now."""
        group = self._groups[old.id]
        was_parent = group.parent == old.id
        group.supersede(old.id, new.id)
        if not was_parent:
            return
        for name in group.legs:
            leg = self.order(name)
            assert leg.group is not None
            self._keep(replace(leg, group=replace(leg.group, parent=new.id), updated_at=at))

    def _end_members(self, members: list[str], at: datetime) -> None:
        """End what is left of a group. What was held ends without a word on the stream, as it began."""
        for name in members:
            order = self.order(name)
            if order.is_open:
                self._end(order, Status.CANCELED, EventKind.CANCELED, at, silently=order.status is Status.HELD)

    def _follow(self, order: Order, quote: Quote | None) -> Order:
        """Move a trailing stop with the price.

        It is derived from prices, as a position's value is: no version of its own, and nothing is told.
        """
        trail = order.trail
        if trail is None or quote is None or order.is_triggered or not order.is_open:
            return order
        hwm = trail.moved(order.side, quote.last)
        if hwm == trail.hwm:
            return order
        trail = replace(trail, hwm=hwm)
        order = replace(order, trail=trail, stop_price=trail.stop_price(order.side))
        self._versions[order.id][-1] = order
        return order

    # ── books ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, order: Order) -> Order:
        self._versions.setdefault(order.id, []).append(order)
        same_symbol = self._open_by_symbol.setdefault(order.symbol, {})
        if order.is_open:
            self._open[order.id] = None
            same_symbol[order.id] = None
        else:
            self._open.pop(order.id, None)
            same_symbol.pop(order.id, None)
            self._not_before.pop(order.id, None)
            self._slices.pop(order.id, None)
        return order

    def _live_execution(self, execution_id: str) -> Execution:
        execution = self._executions.get(execution_id)
        if execution is None:
            raise Refused(404, NOT_FOUND, f"execution not found for {execution_id}")
        if execution.annulled_at is not None:
            raise Refused(422, UNPROCESSABLE, f"execution {execution_id} is already busted or corrected")
        return execution

    def _annul(self, execution: Execution, at: datetime) -> None:
        self._executions[execution.id] = replace(execution, annulled_at=at)

    def _refill(self, execution: Execution, direction: int, at: datetime) -> Order:
        """Add (+1) or take away (-1) an execution in its order's fills and in the cash."""
        order = self.order(execution.order_id)
        filled_qty = order.filled_qty + direction * execution.qty
        status = order.status
        if status is Status.PARTIALLY_FILLED and not filled_qty:
            status = Status.NEW
        elif status is Status.NEW and filled_qty:
            status = Status.PARTIALLY_FILLED
        self._cash.append((at, self._cash[-1][1] - direction * execution.signed_qty * execution.price))
        order = self._keep(
            replace(
                order,
                status=status,
                filled_qty=filled_qty,
                filled_value=order.filled_value + direction * execution.qty * execution.price,
                updated_at=at,
            )
        )
        if order.group is not None:
            self._resize_stop(order, at)
        return order

    def _refold(self, symbol: str, at: datetime) -> Position:
        """The position from its whole ledger; averages depend on the way, so a bust must walk it again."""
        position = Position(symbol=symbol)
        for entry in self._ledger[symbol]:
            if isinstance(entry, Adjustment):
                position = adjusted(position, entry)
                continue
            execution = self._executions[entry]
            if execution.annulled_at is None:
                position = fold(position, execution.signed_qty, execution.price)
        self._set_position(position, at)
        return position

    def _set_position(self, position: Position, at: datetime) -> None:
        self._positions.setdefault(position.symbol, []).append((at, position))

    def _carried_qty(self, old: Order, total: Decimal) -> Decimal:
        repeats = self.rules.replace_repeats_total and old.group is None
        return total if repeats else total - old.filled_qty

    def _held_qty(self, symbol: str, side: Side) -> Decimal:
        """Shares that open orders on `side` already speak for; a replace under way counts with its larger half."""
        held = ZERO
        for order_id in self._open_by_symbol.get(symbol, ()):
            order = self._versions[order_id][-1]
            if order.side is not side or self._is_shadow(order):
                continue
            if order.group is not None and not self._works(order):
                # Of a target and a stop one is executed: the shares are counted once.
                continue
            held += self._reserved_qty(order)
        return held

    def _is_shadow(self, order: Order) -> bool:
        """True while its replace is not decided, whatever its own status: the order that it is to replace stands."""
        return order.replaces is not None and self._replacing.get(order.replaces, ("", None))[0] == order.id

    def _reserved_qty(self, order: Order) -> Decimal:
        qty = order.leaves_qty
        if order.notional is not None and order.target_qty is None:
            qty = order.notional / self._reference_price(order.symbol, order.type, None)
        if order.id in self._replacing:
            qty = max(qty, self.order(self._replacing[order.id][0]).leaves_qty)
        return qty

    def _reserved_cash(self) -> Decimal:
        """Dollars that open orders may still need; what only closes a position needs none."""
        total = ZERO
        for order_id in self._open:
            order = self._versions[order_id][-1]
            if order.position_intent.endswith("_to_open") and not self._is_shadow(order):
                price = self._reference_price(order.symbol, order.type, order.limit_price or order.stop_price)
                total += self._reserved_qty(order) * price
        return total

    def _reference_price(self, symbol: str, order_type: OrderType, price: Decimal | None) -> Decimal:
        if price is not None and order_type is not OrderType.MARKET:
            return price
        quote = self._quotes.get(symbol)
        return quote.ask * MARKET_COLLAR if quote else Decimal(1)

    def _intent(self, side: Side, symbol: str) -> str:
        qty = self.position(symbol).qty
        closes = bool(qty) and (qty > 0) != (side is Side.BUY)
        return f"{side}_to_{'close' if closes else 'open'}"

    # ── time, ids, events ────────────────────────────────────────────────────────────────────────────────────────────

    def _tick(self, at: datetime) -> datetime:
        """The instant to stamp with; a clock that was set back must not make events run backwards."""
        self._at = max(self._at, at)
        return self._at

    def _count(self, kind: str) -> int:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._counts[kind]

    def _schedule(self, due: datetime, action: _Due, order_id: str) -> None:
        heapq.heappush(self._due, (due, self._count("due"), action, order_id))

    def _later(self, at: datetime, latency_ms: int, action: _Due, order_id: str) -> None:
        if latency_ms:
            self._schedule(at + timedelta(milliseconds=latency_ms), action, order_id)
        else:
            self._perform(action, order_id, at)

    def _emit(
        self,
        kind: EventKind,
        order: Order,
        at: datetime,
        *,
        execution: Execution | None = None,
        position_qty: Decimal | None = None,
        previous_execution_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        number = self._count("event")
        event_execution_id = None
        if execution is not None:
            event_execution_id = execution.id
        elif kind not in {EventKind.PENDING_NEW, EventKind.ACCEPTED}:
            event_execution_id = stable_id(self._seed, "report", number)
        self._events.append(
            OrderEvent(
                number=number,
                kind=kind,
                at=at,
                order=order,
                event_execution_id=event_execution_id,
                execution=execution,
                position_qty=position_qty,
                previous_execution_id=previous_execution_id,
                reason=reason,
            )
        )


def _parent_of(order_class: OrderClass) -> Membership | None:
    """What the order that is sent is in its group; None for a simple order."""
    if order_class is OrderClass.SIMPLE:
        return None
    return Membership(order_class=order_class, role=Role.TARGET if order_class is OrderClass.OCO else Role.ENTRY)


def _other(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


class View:
    """A read of the books, now or as of an earlier instant. Prices are always the present ones."""

    def __init__(self, exchange: Exchange, as_of: datetime | None) -> None:
        self._exchange = exchange
        self._as_of = as_of

    def orders(self) -> Iterator[Order]:
        """Every order known at that instant, in order of submission."""
        for versions in self._exchange._versions.values():
            order = self._version(versions)
            if order is not None:
                yield order

    def order(self, order_id: str) -> Order:
        """One order; Refused 404 when it was not known."""
        versions = self._exchange._versions.get(order_id)
        order = self._version(versions) if versions else None
        if order is None:
            raise Refused(404, NOT_FOUND, f"order not found for {order_id}")
        return order

    def legs(self, order: Order) -> list[Order]:
        """The legs of a group's parent, in order of submission, replaced ones too; none for any other order."""
        if order.group is None or order.group.parent is not None:
            return []
        found = (self._version(self._exchange._versions[name]) for name in self._exchange._groups[order.id].legs)
        return [leg for leg in found if leg is not None and leg.group is not None and leg.group.parent == order.id]

    def order_by_client_id(self, client_order_id: str) -> Order:
        """One order by the client's name for it; Refused 404 when it was not known."""
        order_id = self._exchange._client_ids.get(client_order_id)
        if order_id is None:
            raise Refused(404, NOT_FOUND, f"order not found for {client_order_id}")
        return self.order(order_id)

    def executions(self) -> list[Execution]:
        """Live executions in the order in which they happened; busted and corrected-away ones are left out."""
        return [
            execution
            for execution in self._exchange._executions.values()
            if (self._as_of is None or execution.at <= self._as_of)
            and (execution.annulled_at is None or (self._as_of is not None and execution.annulled_at > self._as_of))
        ]

    def adjustments(self) -> list[Adjustment]:
        """Splits and journals so far."""
        return [a for a in self._exchange._adjustments if self._as_of is None or a.at <= self._as_of]

    def positions(self) -> dict[str, Position]:
        """Positions that are not flat, by symbol in alphabetical order."""
        found: dict[str, Position] = {}
        for symbol in sorted(self._exchange._positions):
            position = self._at(self._exchange._positions[symbol])
            if position is not None and position.qty:
                found[symbol] = position
        return found

    def held_qty(self, symbol: str, side: Side) -> Decimal:
        """Shares of the position that open orders on `side` speak for, at present."""
        return self._exchange._held_qty(symbol, side)

    def cash(self) -> Decimal:
        """Dollars in the account."""
        cash = self._at(self._exchange._cash)
        return cash if cash is not None else self._exchange.rules.cash

    def totals(self) -> Totals:
        """The account's money, at present prices."""
        long_value, short_value = ZERO, ZERO
        for position in self.positions().values():
            quote = self._exchange._quotes.get(position.symbol)
            value = position.qty * (quote.last if quote else position.avg_entry_price)
            long_value += max(value, ZERO)
            short_value += min(value, ZERO)
        cash = self.cash()
        equity = cash + long_value + short_value
        gross = long_value - short_value
        free = self._exchange.rules.multiplier * equity - gross - self._exchange._reserved_cash()
        return Totals(
            cash=cash,
            equity=equity,
            long_market_value=long_value,
            short_market_value=short_value,
            buying_power=max(free, ZERO),
            initial_margin=gross / 2,
            maintenance_margin=gross * Decimal("0.3"),
        )

    def _version(self, versions: list[Order]) -> Order | None:
        if self._as_of is None:
            return versions[-1]
        place = bisect_right(versions, self._as_of, key=lambda order: order.updated_at)
        return versions[place - 1] if place else None

    def _at(self, history: list[tuple[datetime, T]]) -> T | None:
        if self._as_of is None:
            return history[-1][1]
        place = bisect_right(history, self._as_of, key=lambda entry: entry[0])
        return history[place - 1][1] if place else None
