"""Belief into views: the shapes of `views.py`, computed when someone looks.

Not for deciding, not for encoding. Invariant: a number that rests on a price or a proof carries the time of it; what
nobody knows is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from trueup.core.belief import Belief
from trueup.core.model import ZERO, ExecType, FeedName, FeedStatus, OrderStatus, Quote, Source, Symbol, TradingState
from trueup.core.orders import Fill, Held, Leg, Order, TimelineEntry
from trueup.core.transition import NotedFill, Outcome, drift_view, gap_view
from trueup.core.views import (
    BrokerEventsHealth,
    Channel,
    CircuitBreakerView,
    DriftView,
    GapView,
    HealthView,
    KillSwitchView,
    MarketDataHealth,
    OrderDetailView,
    OrderStatusView,
    OrderView,
    PortfolioView,
    PositionView,
    QuotesView,
    QuoteView,
    SeedStatus,
    SystemSnapshotView,
    TimelineEntryView,
    TimelineFillView,
    TradeExecutedView,
    View,
)

SEED_STATUS: dict[OrderStatus, SeedStatus] = {
    OrderStatus.PENDING_NEW: SeedStatus.PENDING,
    OrderStatus.NEW: SeedStatus.SUBMITTED,
    OrderStatus.PARTIALLY_FILLED: SeedStatus.SUBMITTED,
    OrderStatus.PENDING_CANCEL: SeedStatus.SUBMITTED,
    OrderStatus.PENDING_REPLACE: SeedStatus.SUBMITTED,
    OrderStatus.FILLED: SeedStatus.FILLED,
    OrderStatus.CANCELED: SeedStatus.CANCELLED,
    OrderStatus.REPLACED: SeedStatus.SUBMITTED,
    OrderStatus.EXPIRED: SeedStatus.CANCELLED,
    OrderStatus.REJECTED: SeedStatus.REJECTED,
    OrderStatus.DENIED: SeedStatus.REJECTED,
}
"""Our exact status -> the one of five words that `order:status` uses."""

QUOTE_STALE_S = 10
"""A price older than this many seconds makes what rests on it stale."""

EXECUTIONS_SHOWN = 500

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeNumbers:
    """What health shows and belief does not know: ages, queue depths and counters of the shell."""

    market_data_last_message_at: datetime | None = None
    quote_symbol_count: int = 0
    queues: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    broker: str = ""
    version: str = ""


def log_views(belief: Belief, outcome: Outcome, at: datetime) -> list[tuple[Channel, View]]:
    """The log-channel views that one step caused, in the order to publish them."""
    changes = outcome.changes
    views: list[tuple[Channel, View]] = []
    for noted in changes.fills:
        views.append((Channel.TRADE_EXECUTED, _noted_fill_view(noted, at)))
    for order in changes.orders.values():
        views.append((Channel.ORDER_STATUS, order_status_view(order)))
    views.extend(changes.views)
    return views


def order_status_view(order: Order) -> OrderStatusView:
    """One order as `order:status` tells it."""
    row = order_view(order)
    return OrderStatusView(
        id=row.id,
        broker_order_id=row.broker_order_id,
        symbol=row.symbol,
        status=row.status,
        filled_at=row.filled_at,
        filled_price=row.average_price,
        filled_quantity=row.filled_quantity,
        detail=row.detail,
        order=row,
    )


def order_view(order: Order) -> OrderView:
    """One order as a row."""
    leg = order.leg
    status = order.status
    average = order.average_price
    known = [other.broker_order_id for other in order.legs if other.broker_order_id is not None]
    return OrderView(
        id=order.order_id,
        client_order_id=leg.client_order_id or "",
        broker_order_id=leg.broker_order_id,
        symbol=order.symbol,
        side=order.side.value,
        quantity=leg.quantity,
        filled_quantity=order.filled,
        average_price=_price(average) if average is not None else None,
        status=SEED_STATUS[status].value,
        detail=status.value,
        source=order.source.value,
        updated_at=order.updated_at,
        type=order.order_type.value,
        time_in_force=order.time_in_force.value,
        limit_price=leg.limit_price,
        stop_price=leg.stop_price,
        leaves_quantity=order.leaves,
        in_doubt=order.in_doubt.value if order.in_doubt is not None else "",
        origin=order.origin,
        strategy_name=order.strategy_name,
        reason=order.reason,
        submitted_at=leg.submitted_at or order.created_at,
        filled_at=_filled_at(order),
        confirmed_at=order.confirmed_at,
        terminal=order.is_terminal,
        broker_order_ids=tuple(known),
    )


def _filled_at(order: Order) -> datetime | None:
    times = [leg.filled_at for leg in order.legs if leg.filled_at is not None]
    if times:
        return max(times)
    matched = [held.execution.at for leg in order.legs for held in leg.executions.values() if not held.busted]
    return max(matched) if matched and order.status is OrderStatus.FILLED else None


def orders_view(belief: Belief) -> tuple[OrderView, ...]:
    """Every order in belief, newest first."""
    return tuple(order_view(order) for order in reversed(belief.orders.values()))


def order_detail_view(belief: Belief, any_id: str) -> OrderDetailView | None:
    """One order by our id, a client order id or a broker order id, with its story; None when there is none."""
    order = belief.find_order(any_id)
    if order is None:
        return None
    return order_story_view(order, order.timeline, (gap_view(gap) for gap in belief.truth.gaps))


def order_story_view(order: Order, timeline: Iterable[TimelineEntry], gaps: Iterable[GapView]) -> OrderDetailView:
    """One order with the lines given, and those of the gaps that fell into its life."""
    ends = order.updated_at if order.is_terminal else None
    return OrderDetailView(
        order=order_view(order),
        timeline=timeline_view(timeline),
        executions=tuple(_order_executions(order)),
        gaps=tuple(
            gap
            for gap in gaps
            if (gap.closed_at is None or gap.closed_at >= order.created_at) and (ends is None or gap.opened_at <= ends)
        ),
    )


def timeline_view(lines: Iterable[TimelineEntry]) -> tuple[TimelineEntryView, ...]:
    """The lines of an order's story, each inferred fill with how much of it a later line has named."""
    lines = tuple(lines)
    named = _named_later(lines)
    return tuple(_timeline_entry_view(entry, place, named) for place, entry in enumerate(lines))


def _named_later(lines: tuple[TimelineEntry, ...]) -> dict[tuple[int, int], Decimal]:
    """Place of an inferred fill (line, fill) -> how many of its shares real executions have named since."""
    named: dict[tuple[int, int], Decimal] = {}
    waiting: list[tuple[tuple[int, int], Decimal]] = []
    for line, entry in enumerate(lines):
        for place, fill in enumerate(entry.fills):
            if fill.inferred:
                waiting.append(((line, place), fill.quantity))
            left = fill.quantity if fill.replaces_inferred else ZERO
            while left > 0 and waiting:
                which, open_quantity = waiting[0]
                taken = min(left, open_quantity)
                named[which] = named.get(which, ZERO) + taken
                left -= taken
                waiting[:1] = [(which, open_quantity - taken)] if open_quantity > taken else []
    return named


def _timeline_entry_view(entry: TimelineEntry, place: int, named: dict[tuple[int, int], Decimal]) -> TimelineEntryView:
    return TimelineEntryView(
        offset=entry.offset,
        event=entry.event,
        source=entry.source.value,
        broker_at=entry.broker_at,
        arrived_at=entry.arrived_at,
        status_after=entry.status_after.value,
        filled_after=entry.filled_after,
        text=entry.text or "; ".join(_fill_text(fill) for fill in entry.fills),
        changed=entry.changed,
        told=_told(entry),
        fills=tuple(_timeline_fill_view(fill, named.get((place, each), ZERO)) for each, fill in enumerate(entry.fills)),
    )


def _timeline_fill_view(fill: Fill, replaced: Decimal) -> TimelineFillView:
    return TimelineFillView(
        kind=fill.kind,
        quantity=fill.quantity,
        price=_price(fill.price),
        execution_id=fill.held.execution.execution_id if fill.held is not None else "",
        inferred=fill.inferred,
        replaces_inferred=fill.replaces_inferred,
        replaced=replaced,
    )


_TOLD: dict[str, str] = {
    "intent": "order allowed, to be sent",
    "denied": "order denied by our own checks, never sent",
    "submit_accepted": "broker took the order",
    "submit_refused": "broker refused the order",
    "submit_not_sent": "order was not sent",
    "submit_in_doubt": "whether the order reached the broker is not known",
    "cancel_intent": "cancel wanted",
    "cancel_accepted": "broker took the request to cancel",
    "cancel_refused": "broker refused to cancel",
    "cancel_not_sent": "request to cancel was not sent",
    "cancel_in_doubt": "whether the request to cancel reached the broker is not known",
    "cancel_overdue": "cancel is overdue",
    "replace_intent": "new terms wanted",
    "replace_accepted": "broker took the new terms",
    "replace_refused": "broker refused the new terms",
    "replace_not_sent": "new terms were not sent",
    "replace_in_doubt": "whether the new terms reached the broker is not known",
    "reply_lost": "the broker's answer was lost",
    "not_found": "broker does not find it",
    "never_arrived": "taken for never arrived",
    "ABSENT": "broker's books do not have it",
    ExecType.NEW: "broker works the order",
    ExecType.TRADE: "fill",
    ExecType.TRADE_CANCEL: "fill annulled by the broker",
    ExecType.TRADE_CORRECT: "fill corrected by the broker",
    ExecType.PENDING_NEW: "broker has the order",
    ExecType.PENDING_CANCEL: "broker has the request to cancel",
    ExecType.PENDING_REPLACE: "broker has the request for new terms",
    ExecType.CANCELED: "cancelled",
    ExecType.REPLACED: "replaced by new terms",
    ExecType.REJECTED: "rejected by the broker",
    ExecType.EXPIRED: "expired",
    ExecType.DONE_FOR_DAY: "done for the day",
    ExecType.SUSPENDED: "suspended by the broker",
    ExecType.STOPPED: "held at a guaranteed price",
    ExecType.CALCULATED: "being settled by the broker",
    ExecType.RESTATED: "restated by the broker",
    ExecType.CANCEL_REJECTED: "broker refused to cancel",
    ExecType.REPLACE_REJECTED: "broker refused the new terms",
    ExecType.UNKNOWN: "broker said something we do not know",
}

_ASKED: dict[Source, str] = {
    Source.STREAM: "broker told how it stands",
    Source.REPLY: "broker's answer to our request",
    Source.POLL: "found by a poll",
    Source.RECONCILE: "found in the broker's snapshot",
    Source.LOOKUP: "found by looking it up",
    Source.COMMAND: "status",
    Source.RUNTIME: "status",
}


def _told(entry: TimelineEntry) -> str:
    """What one line says, for people; the status of a question's answer is named by the way that it came."""
    if entry.event != ExecType.STATUS:
        return _TOLD.get(entry.event) or entry.event.replace("_", " ").lower()
    if any(fill.inferred for fill in entry.fills):
        return f"fill inferred from the broker's total, {_ASKED[entry.source]}"
    return f"fill, {_ASKED[entry.source]}" if entry.fills else _ASKED[entry.source]


def _fill_text(fill: Fill) -> str:
    what = "inferred" if fill.inferred else fill.kind
    known = ", known before as inferred" if fill.replaces_inferred else ""
    name = f" ({fill.held.execution.execution_id})" if fill.held is not None else ""
    return f"{what} {fill.quantity} @ {_price(fill.price)}{name}{known}"


def _order_executions(order: Order) -> list[TradeExecutedView]:
    views = []
    for leg in order.legs:
        for held in leg.executions.values():
            views.append(_held_view(order, leg, held, "bust" if held.busted else "fill"))
        for held in leg.unplaced.values():
            views.append(_held_view(order, leg, held, "unplaced"))
        if leg.residual and leg.residual_at is not None:
            views.append(_residual_view(order, leg))
    views.sort(key=lambda view: view.entry_time)
    return views


def executions_view(belief: Belief, limit: int = EXECUTIONS_SHOWN) -> tuple[TradeExecutedView, ...]:
    """The newest executions over all orders, newest first."""
    views: list[TradeExecutedView] = []
    for order in reversed(belief.orders.values()):
        views.extend(_order_executions(order))
        if len(views) >= 4 * limit:
            break
    views.sort(key=lambda view: view.entry_time, reverse=True)
    return tuple(views[:limit])


def _held_view(order: Order, leg: Leg, held: Held, kind: str, *, replaces_inferred: bool = False) -> TradeExecutedView:
    execution = held.execution
    return TradeExecutedView(
        id=execution.execution_id,
        symbol=order.symbol,
        side=order.side.value,
        quantity=execution.quantity,
        entry_price=execution.price,
        entry_time=execution.at,
        strategy_name=order.strategy_name,
        order_id=order.order_id,
        broker_order_id=leg.broker_order_id or "",
        execution_id=execution.execution_id,
        source=held.source.value,
        learned_at=held.learned_at,
        late_s=_late(execution.at, held.learned_at),
        missed_by_stream=held.missed,
        inferred=False,
        replaces_inferred=replaces_inferred,
        kind=kind if not held.corrected else "correction",
    )


def _residual_view(order: Order, leg: Leg) -> TradeExecutedView:
    at = leg.residual_at or order.updated_at
    return TradeExecutedView(
        id=f"inferred-{leg.broker_order_id}",
        symbol=order.symbol,
        side=order.side.value,
        quantity=leg.residual,
        entry_price=_price(leg.residual_price),
        entry_time=at,
        strategy_name=order.strategy_name,
        order_id=order.order_id,
        broker_order_id=leg.broker_order_id or "",
        source=leg.residual_source.value,
        learned_at=leg.residual_learned_at or order.updated_at,
        late_s=_late(at, leg.residual_learned_at or order.updated_at),
        missed_by_stream=leg.residual_missed,
        inferred=True,
    )


def _noted_fill_view(noted: NotedFill, at: datetime) -> TradeExecutedView:
    fill: Fill = noted.fill
    if fill.held is not None:
        return _held_view(noted.order, noted.leg, fill.held, fill.kind, replaces_inferred=fill.replaces_inferred)
    return TradeExecutedView(
        id=f"inferred-{noted.leg.broker_order_id}-{noted.leg.filled}",
        symbol=noted.order.symbol,
        side=noted.order.side.value,
        quantity=fill.quantity,
        entry_price=_price(fill.price),
        entry_time=fill.at,
        strategy_name=noted.order.strategy_name,
        order_id=noted.order.order_id,
        broker_order_id=noted.leg.broker_order_id or "",
        source=noted.source.value,
        learned_at=at,
        late_s=_late(fill.at, at),
        missed_by_stream=noted.missed,
        inferred=True,
        kind=fill.kind,
    )


def _late(happened: datetime, learned: datetime) -> Decimal:
    microseconds = (learned - happened) // datetime.resolution
    return Decimal(max(0, microseconds) // 1000).scaleb(-3)


# --- positions and money ------------------------------------------------------------------------------------------


def positions_view(belief: Belief, quotes: Mapping[Symbol, Quote], at: datetime) -> tuple[PositionView, ...]:
    """Every holding, by symbol; flat symbols are left out unless they drift."""
    views = []
    for symbol in sorted(belief.books):
        book = belief.settled_book(symbol)
        drift = belief.drifts.get(f"position:{symbol}")
        if not book.quantity and drift is None:
            continue
        quote = quotes.get(symbol)
        price = quote.mid if quote is not None else book.broker_price
        quote_at = quote.at if quote is not None else book.broker_at
        value = _money(book.quantity * price) if price is not None else None
        unrealized = _money(book.quantity * price - book.cost) if price is not None else None
        views.append(
            PositionView(
                symbol=symbol,
                quantity=book.quantity,
                average_price=_price(book.average_price),
                market_value=value,
                unrealized_pnl=unrealized,
                as_of=_proved(belief, symbol),
                price=price,
                quote_at=quote_at,
                realized_pnl=_money(book.realized),
                broker_quantity=book.broker_quantity,
                drift=drift.state if drift is not None else "",
            )
        )
    return tuple(views)


def _proved(belief: Belief, symbol: Symbol) -> datetime | None:
    """When the quantity was last proven: by a snapshot of positions, or with all of belief."""
    proved, book_proved = belief.truth.proved_at, belief.books[symbol].proved_at
    if f"position:{symbol}" in belief.drifts:
        return book_proved
    if proved is None or book_proved is None:
        return book_proved or proved
    return max(proved, book_proved)


def portfolio_view(belief: Belief, quotes: Mapping[Symbol, Quote], at: datetime) -> PortfolioView:
    """The account in money: cash as believed, holdings at the newest price known."""
    positions = positions_view(belief, quotes, at)
    cash = belief.cash
    account = belief.account_report
    stale = []
    value: Decimal | None = ZERO
    for position in positions:
        if position.market_value is None:
            value = None
        elif value is not None:
            value += position.market_value
        if position.quote_at is None or (at - position.quote_at).total_seconds() > QUOTE_STALE_S:
            stale.append(position.symbol)
    equity = cash + value if cash is not None and value is not None else None
    daily = equity - account.last_equity if equity is not None and account is not None else None
    total = equity - belief.initial_equity if equity is not None and belief.initial_equity is not None else None
    drawdown = belief.max_drawdown
    if equity is not None and belief.peak_equity > 0:
        drawdown = min(drawdown, (equity - belief.peak_equity) / belief.peak_equity)
    return PortfolioView(
        total_equity=_money(equity),
        cash=_money(cash),
        positions_value=_money(value),
        daily_pnl=_money(daily),
        daily_pnl_pct=_percent(daily, account.last_equity if account is not None else None),
        total_pnl=_money(total),
        total_pnl_pct=_percent(total, belief.initial_equity),
        max_drawdown_pct=(drawdown * 100).quantize(_CENT, ROUND_HALF_EVEN) if belief.peak_equity else None,
        positions=positions,
        sector_exposure={},
        as_of=belief.truth.proved_at,
        stale_symbols=tuple(stale),
        buying_power=_money(account.buying_power) if account is not None else None,
    )


def _money(amount: Decimal | None) -> Decimal | None:
    return amount.quantize(_CENT, ROUND_HALF_EVEN) if amount is not None else None


def _price(price: Decimal) -> Decimal:
    """At most six decimal places, as brokers state averages; exact where fewer say it all."""
    exponent = price.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -6:
        return price.quantize(Decimal("0.000001"), ROUND_HALF_EVEN).normalize()
    return price


def _percent(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    if part is None or whole is None or not whole:
        return None
    return (part / whole * 100).quantize(_CENT, ROUND_HALF_EVEN)


# --- health -------------------------------------------------------------------------------------------------------


def health_view(belief: Belief, numbers: RuntimeNumbers, at: datetime) -> HealthView:
    """How sure belief is of itself, each stream apart."""
    truth = belief.truth
    events = truth.feeds[FeedName.BROKER_EVENTS]
    market = truth.feeds[FeedName.MARKET_DATA]
    reasons = list(belief.gate.reasons())
    if market.ever_up and market.status is not FeedStatus.UP:
        reasons.append(f"market data is {market.status}: {market.reason}")
    reasons.extend(numbers.reasons)
    reasons.extend(f"{drift.kind} drift suspected: {drift.subject}" for drift in belief.drifts.values())
    in_doubt = sum(1 for order in belief.open_orders.values() if order.in_doubt is not None)
    if in_doubt:
        reasons.append(f"{in_doubt} orders in doubt")
    state = belief.trading_state
    if state in (TradingState.HALTED, TradingState.KILLED) or belief.baseline_at is None:
        status = "down"
    else:
        status = "degraded" if reasons else "healthy"
    reconciled = truth.last_reconciliation_at
    last_message = numbers.market_data_last_message_at
    gap = truth.open_gap
    return HealthView(
        status=status,
        trading_state=state.value,
        truth_lag_s=truth.lag_s(at),
        broker_events=BrokerEventsHealth(
            status=events.status.value,
            last_trade_update_at=events.last_event_at,
            last_reconnect_at=events.last_reconnect_at,
            reconnect_count=events.reconnect_count,
            last_reconciliation_at=reconciled,
            reconciliation_age_s=_late(reconciled, at) if reconciled is not None else None,
            last_result=truth.last_result,
            reason=events.reason,
            since=events.since,
        ),
        market_data=MarketDataHealth(
            status=market.status.value,
            last_message_at=last_message,
            age_s=_late(last_message, at) if last_message is not None else None,
            reconnect_count=market.reconnect_count,
            symbol_count=numbers.quote_symbol_count,
            reason=market.reason,
        ),
        at=at,
        reasons=tuple(reasons),
        entries_gated=belief.entries_gated,
        gap=gap_view(gap) if gap is not None else None,
        open_drifts=len(belief.drifts),
        in_doubt_orders=in_doubt,
        working_orders=len(belief.open_orders),
        journal_offset=belief.offset,
        epoch=belief.epoch,
        broker=numbers.broker or belief.broker,
        account=belief.account_report.account_id if belief.account_report is not None else belief.account,
        queues=dict(numbers.queues),
        counters={**belief.counters, **numbers.counters},
        version=numbers.version or belief.runtime_version,
    )


def gaps_view(belief: Belief) -> tuple[GapView, ...]:
    """Every gap that belief still holds, newest first."""
    return tuple(gap_view(gap) for gap in reversed(belief.truth.gaps))


def drifts_view(belief: Belief) -> tuple[DriftView, ...]:
    """Suspected drifts, then ended ones, newest first."""
    ended = [drift_view(drift) for drift in reversed(belief.drift_log)]
    return (*(drift_view(drift) for drift in belief.drifts.values()), *ended)


def kill_switch_view(belief: Belief) -> KillSwitchView | None:
    """The kill switch as it stands; None when it was never touched."""
    kill = belief.gate.kill
    if kill.at is None:
        return None
    return KillSwitchView(
        action="activate" if kill.killed else "deactivate",
        reason=kill.reason,
        operator=kill.operator,
        timestamp=kill.at,
        state=belief.trading_state.value,
        open_orders_remaining=len(belief.open_orders),
        asked_by=kill.asked_by,
    )


def quotes_view(quotes: Mapping[Symbol, Quote]) -> QuotesView:
    """The newest quote of each symbol."""
    return QuotesView(
        quotes=tuple(
            QuoteView(symbol=quote.symbol, bid=quote.bid, ask=quote.ask, at=quote.at)
            for _, quote in sorted(quotes.items())
        )
    )


def breakers_view(belief: Belief) -> tuple[CircuitBreakerView, ...]:
    """Every danger that now demands more than ACTIVE."""
    at = belief.at
    if at is None:
        return ()
    return tuple(
        CircuitBreakerView(breaker=name, action="activated", reason=reason, timestamp=at, demand=state.value)
        for name, (state, reason) in belief.gate.demands.items()
    )


def system_snapshot_view(
    belief: Belief, quotes: Mapping[Symbol, Quote], numbers: RuntimeNumbers, at: datetime
) -> SystemSnapshotView:
    """All that a dashboard needs on connect."""
    return SystemSnapshotView(
        portfolio=portfolio_view(belief, quotes, at),
        orders=orders_view(belief)[:ORDERS_SHOWN],
        executions=executions_view(belief, ORDERS_SHOWN),
        health=health_view(belief, numbers, at),
        quotes=quotes_view(quotes),
        gaps=gaps_view(belief)[:50],
        drifts=drifts_view(belief)[:100],
        kill_switch=kill_switch_view(belief),
        breakers=breakers_view(belief),
        pending_approvals=(),
    )


ORDERS_SHOWN = 300
"""Rows in a dashboard's first picture; the rest is asked for by HTTP."""
