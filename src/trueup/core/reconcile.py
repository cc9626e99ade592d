"""Belief against a snapshot: drift, its confirmation, and the true-up.

Theory. A snapshot tells how the broker's books stood at some instant between its start and its end. Order rows are
simply joined (`transition.py`): the join knows which of two statements is the later one. Positions and cash have no
version, so they are compared: first the shares by which belief is *ahead* of the snapshot's own rows (events that came
while it was taken) are set aside, and only what then differs is a drift. A drift is **suspected** at first, because the
broker's position lists lag behind its order lists; it is **confirmed** when a later full snapshot shows the same
difference, no fill of that symbol has been learned within `POSITION_SETTLE`, and `RECHECK` has passed. Then, and only
then, a true-up puts the book right, and carries the evidence.

The very first full snapshot is no comparison: it is the opening balance. Not for asking for snapshots, nor for deciding
when. Invariant: a row that is missing from a list proves nothing; only an order asked for by id can be absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from trueup.core.belief import Belief, Drift
from trueup.core.events import SnapshotTaken
from trueup.core.model import (
    ZERO,
    AccountReport,
    FeedName,
    FeedStatus,
    OrderReport,
    OrderStatus,
    PositionReport,
    Snapshot,
    SnapshotScope,
    Source,
    Symbol,
    TradingState,
    sign,
)
from trueup.core.orders import TERMINAL, Leg
from trueup.core.positions import Adjustment
from trueup.core.transition import (
    Changes,
    note_drift,
    reset,
    tell,
    transit,
    transit_executions,
    transit_lists,
    trip,
)

RECHECK = timedelta(seconds=2)
"""The pause before a suspected drift is looked at again."""

SETTLE_RECHECK = timedelta(seconds=5)
"""The pause before a look that left something unsettled, a true-up included, is followed by another."""

POSITION_SETTLE = timedelta(seconds=15)
"""How long after a fill the broker's position list may still be behind (10 s have been reported)."""

ABSENT_SETTLE = timedelta(seconds=30)
"""How long an order must be unknown to the broker, asked by id, before its word is believed."""


@dataclass(slots=True)
class Finding:
    """What one snapshot showed."""

    ahead: dict[Symbol, Decimal] = field(default_factory=dict)
    """Signed shares by which belief is ahead of the snapshot's own rows."""
    unsettled: list[str] = field(default_factory=list)


def apply_snapshot(belief: Belief, changes: Changes, event: SnapshotTaken) -> None:
    """Merge a snapshot, compare what has no version, confirm or drop suspicions, and prove what equals."""
    snapshot = event.snapshot
    if _another_account(belief, changes, snapshot):
        return
    finding = Finding()
    for report in snapshot.orders:
        _merge_row(belief, changes, report, event.source, finding)
    if snapshot.positions is not None:
        _young_orders(belief, snapshot, finding)
    if snapshot.scope is SnapshotScope.FULL and event.source is Source.RECONCILE:
        transit_lists(belief, changes, snapshot.orders, snapshot.executions)
    transit_executions(belief, changes, snapshot.executions, source=event.source)
    for broker_order_id in snapshot.absent:
        leg = belief.by_broker.get(broker_order_id)
        if leg is not None and leg.status not in TERMINAL:
            _note_absent(belief, changes, leg, finding)
    if snapshot.positions is not None:
        first = belief.baseline_at is None
        if not first or snapshot.scope is SnapshotScope.FULL:
            _compare_positions(belief, changes, snapshot, snapshot.positions, finding, opening=first)
        if first and snapshot.scope is SnapshotScope.FULL:
            belief.baseline_at = snapshot.started_at
    if snapshot.account is not None:
        _take_account(belief, changes, snapshot.account, finding)
    _conclude(belief, event, finding)


def _another_account(belief: Belief, changes: Changes, snapshot: Snapshot) -> bool:
    """A snapshot of another account is no statement about this one: nothing of it is believed, and trading stops."""
    told, known = snapshot.account, belief.account_report
    if told is None or known is None:
        return False
    if told.account_id == known.account_id:
        reset(belief, changes, "another_account", "the broker speaks of the account that this belief is of")
        return False
    reason = f"the broker answers for account {told.account_id}, the books are those of {known.account_id}"
    trip(belief, changes, "another_account", TradingState.HALTED, reason)
    belief.truth.last_result = f"failed: {reason}"
    changes.alert("another_account", "critical", reason)
    return True


def _merge_row(belief: Belief, changes: Changes, report: OrderReport, source: Source, finding: Finding) -> None:
    leg = belief.by_broker.get(report.broker_order_id)
    if (
        leg is not None
        and leg.version == report.version
        and leg.filled == report.filled_quantity
        and leg.status is report.status
        and not leg.presumed
        and report.version is not None
        and (report.parent is None or belief.orders[leg.order_id].parent is not None)
    ):
        order = belief.orders[leg.order_id]
        order.confirmed_at = changes.at
        order.absent_since = None
        if source is Source.RECONCILE:
            leg.proved = report.version
        return
    leg = transit(belief, changes, report, source=source)
    if leg is not None and leg.filled != report.filled_quantity:
        ahead = sign(leg.side) * (leg.filled - report.filled_quantity)
        finding.ahead[leg.symbol] = finding.ahead.get(leg.symbol, ZERO) + ahead


def _young_orders(belief: Belief, snapshot: Snapshot, finding: Finding) -> None:
    """Fills of orders that the snapshot cannot know count as being ahead of it."""
    rows = {report.broker_order_id for report in snapshot.orders}
    for symbol, at in belief.last_fill_at.items():
        if at < snapshot.started_at:
            continue
        for leg in belief.legs_by_symbol.get(symbol, ()):
            if leg.broker_order_id in rows or not leg.filled:
                continue
            since = sum(
                (
                    held.execution.quantity
                    for held in leg.executions.values()
                    if held.learned_at >= snapshot.started_at and not held.busted
                ),
                ZERO,
            )
            if since:
                finding.ahead[symbol] = finding.ahead.get(symbol, ZERO) + sign(leg.side) * since


def _note_absent(belief: Belief, changes: Changes, leg: Leg, finding: Finding) -> None:
    order = belief.orders[leg.order_id]
    if order.absent_since is None:
        order.absent_since = changes.at
    finding.unsettled.append(f"order {order.order_id} is unknown to the broker")
    if changes.at - order.absent_since < ABSENT_SETTLE:
        return
    believed = f"{leg.status} {leg.filled}"
    leg.status = OrderStatus.REJECTED
    leg.presumed = True  # any later word of the broker overrules this
    order.reason = "the broker, asked by id, does not know this order"
    order.in_doubt = order.in_flight = None
    order.updated_at = changes.at
    order.source = Source.RECONCILE
    belief.index(order)
    changes.orders[order.order_id] = order
    tell(order, changes, "ABSENT", Source.RECONCILE, None, order.reason)
    note_drift(
        belief,
        changes,
        Drift(
            drift_id=f"d-{changes.offset}-{leg.broker_order_id}",
            kind="order_absent",
            subject=order.order_id,
            believed=believed,
            reported="unknown",
            first_seen_at=order.absent_since,
            at=changes.at,
            state="confirmed",
            evidence=f"asked by id over {ABSENT_SETTLE.seconds} s; the broker knows no such order",
            trued_up=True,
        ),
    )
    changes.alert("order_absent", "critical", order.reason, symbol=order.symbol, order_id=order.order_id)


def _compare_positions(
    belief: Belief,
    changes: Changes,
    snapshot: Snapshot,
    positions: tuple[PositionReport, ...],
    finding: Finding,
    *,
    opening: bool,
) -> None:
    reported = {position.symbol: position for position in positions}
    symbols = [*reported, *(symbol for symbol in belief.books if symbol not in reported)]
    for symbol in symbols:
        position = reported.get(symbol)
        quantity = position.quantity if position is not None else ZERO
        book = belief.book(symbol)
        book.broker_quantity = quantity
        book.broker_average_price = position.average_price if position is not None else None
        if position is not None and position.current_price is not None:
            book.broker_price = position.current_price
        book.broker_at = snapshot.finished_at
        difference = quantity + finding.ahead.get(symbol, ZERO) - book.quantity
        key = f"position:{symbol}"
        if not difference:
            book.proved_at = snapshot.started_at
            drift = belief.drifts.pop(key, None)
            if drift is not None:
                drift.state, drift.at = "healed", changes.at
                drift.evidence = "a later snapshot agrees; the broker's list was behind, or the missing events came"
                note_drift(belief, changes, drift)
        elif opening:
            price = position.average_price if position is not None else ZERO
            adjust(belief, symbol, difference, price, snapshot.started_at, "opening balance", "first full snapshot")
            book.proved_at = snapshot.started_at
        else:
            finding.unsettled.append(f"position in {symbol}: believed {book.quantity}, reported {quantity}")
            _suspect(belief, changes, snapshot, symbol, quantity, difference, position)


def _suspect(
    belief: Belief,
    changes: Changes,
    snapshot: Snapshot,
    symbol: Symbol,
    quantity: Decimal,
    difference: Decimal,
    position: PositionReport | None,
) -> None:
    key = f"position:{symbol}"
    book = belief.book(symbol)
    drift = belief.drifts.get(key)
    fills = belief.fill_counts.get(symbol, 0)
    if drift is None or drift.difference != difference or drift.fills_seen != fills:
        first_seen = drift.first_seen_at if drift is not None else changes.at
        drift = Drift(
            drift_id=drift.drift_id if drift is not None else f"d-{changes.offset}-{symbol}",
            kind="position",
            subject=symbol,
            believed=str(book.quantity),
            reported=str(quantity),
            first_seen_at=first_seen,
            at=changes.at,
            evidence="one snapshot differs; fills under way or a lagging position list could explain it",
            difference=difference,
            fills_seen=fills,
        )
        belief.drifts[key] = drift
        note_drift(belief, changes, drift)
        belief.set_timer(changes.at + RECHECK, "recheck", key)
        return
    last_fill = belief.last_fill_at.get(symbol)
    settled = last_fill is None or snapshot.started_at - last_fill >= POSITION_SETTLE
    if snapshot.scope is SnapshotScope.FULL and settled and snapshot.started_at >= drift.at + RECHECK / 2:
        del belief.drifts[key]
        price = position.average_price if position is not None else book.average_price
        drift.state, drift.at, drift.trued_up = "confirmed", changes.at, True
        drift.evidence = (
            f"full snapshots since {drift.first_seen_at.isoformat()} agree on {quantity}, each of them untorn, "
            f"no fill of {symbol} was learned meanwhile: {difference:+} shares came without an execution"
        )
        adjust(belief, symbol, difference, price, snapshot.started_at, "true-up", drift.evidence)
        book.proved_at = snapshot.started_at
        note_drift(belief, changes, drift)
        changes.alert(
            "position_drift",
            "critical",
            f"{symbol}: believed {drift.believed}, the broker holds {quantity}; trued up",
            symbol=symbol,
        )
    else:
        belief.set_timer(changes.at + RECHECK, "recheck", key)


def adjust(
    belief: Belief, symbol: Symbol, difference: Decimal, price: Decimal, at: datetime, reason: str, evidence: str
) -> None:
    """Put a book right by an entry that says why; the only change of a position without an execution."""
    book = belief.book(symbol)
    book.adjustments.append(Adjustment(at, difference, price, reason, evidence))
    book.apply(difference, price, at)


def _take_account(belief: Belief, changes: Changes, account: AccountReport, finding: Finding) -> None:
    belief.account_report = account
    if belief.cash_base is None or not any(finding.ahead.values()):
        belief.cash_base = account.cash
        belief.flow_base = belief.flow
    if belief.initial_equity is None:
        belief.initial_equity = account.equity
    belief.peak_equity = max(belief.peak_equity, account.equity)
    if belief.peak_equity > 0:
        drawdown = (account.equity - belief.peak_equity) / belief.peak_equity
        belief.max_drawdown = min(belief.max_drawdown, drawdown)
    if account.blocked:
        blocked = "the broker has blocked trading on this account"
        if "account" not in belief.gate.demands:
            changes.alert("account_blocked", "critical", blocked)
        trip(belief, changes, "account", TradingState.HALTED, blocked)
    else:
        reset(belief, changes, "account", "the broker allows trading on this account again")


def _conclude(belief: Belief, event: SnapshotTaken, finding: Finding) -> None:
    snapshot, truth = event.snapshot, belief.truth
    live = truth.feeds[FeedName.BROKER_EVENTS].status is FeedStatus.UP
    if snapshot.scope is SnapshotScope.FULL:
        belief.settle()
        truth.last_reconciliation_at = event.at
        truth.last_result = "clean" if not finding.unsettled else "unsettled: " + "; ".join(finding.unsettled[:3])
        if not finding.unsettled:
            truth.clean_started_at = snapshot.started_at
            truth.prove(snapshot.started_at)
        else:
            belief.set_timer(event.at + SETTLE_RECHECK, "unsettled", event.at.isoformat())
    elif snapshot.scope is SnapshotScope.ORDERS and live and not finding.unsettled and not belief.drifts:
        truth.prove(snapshot.started_at)
