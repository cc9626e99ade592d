"""The one state-transition path: stream, reply, poll, look-up and snapshot all come through here.

A report is joined with the leg it speaks of; what that added moves the position and the cash, and is noted with the way
it was learned. Not for judging whole snapshots (`reconcile.py`). Invariant: nothing else changes what an order, a
position or cash is believed to be, save a true-up with its evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from trueup.core.belief import SNAPSHOT_SLACK, Belief, Drift, Expectation, Inferred, Retired
from trueup.core.effects import Denied, Effect, FindOrder, SendCancel, TakeSnapshot
from trueup.core.model import (
    ZERO,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    FeedName,
    FeedStatus,
    OrderId,
    OrderReport,
    OrderStatus,
    RequestKind,
    SnapshotScope,
    Source,
    TradingState,
    sign,
)
from trueup.core.orders import (
    TERMINAL,
    Fill,
    Join,
    Leg,
    Order,
    TimelineEntry,
    contradicts,
    differs,
    join_executions,
    join_report,
    take_list,
)
from trueup.core.truth import Gap
from trueup.core.views import Channel, CircuitBreakerView, DriftView, GapView, RiskAlertView, View

STREAM_GRACE = timedelta(seconds=3)
"""How long a live stream may lag behind what a question has already told, before it counts as mute."""

EXECUTIONS_DUE = timedelta(seconds=5)
"""How long shares may be inferred before their executions are asked for; a mute stream has been found out by then."""

EXECUTIONS_GIVEN_UP = timedelta(minutes=2)
"""Each further question comes after twice the pause of the one before; none after one longer than this."""

FILLS_BY = {source: f"fills_by_{source.value}" for source in Source}
"""Counters of how fills were learned."""

SECOND_WRITER = "second_writer"
"""The demand of an order that only we could have named; a person takes it back by resuming."""

TIMELINE_KEPT = 400
"""Lines of one order's story that stay in belief; the journal keeps all."""

DRIFT_KEPT = 500
"""Ended drifts that stay in belief for people to see; the journal keeps all."""


_HALF_SLACK = SNAPSHOT_SLACK / 2


class NotedFill(NamedTuple):
    """One fill and how it was learned, for views."""

    order: Order
    leg: Leg
    fill: Fill
    source: Source
    missed: bool


# Members by a name of their own: reading one through its class costs ten times as much, and this runs for every input.
_BROKER_EVENTS = FeedName.BROKER_EVENTS
_EXEC_CANCEL_REJECTED = ExecType.CANCEL_REJECTED
_EXEC_REPLACE_REJECTED = ExecType.REPLACE_REJECTED
_FEED_UP = FeedStatus.UP
_FROM_REPLY = Source.REPLY
_FROM_STREAM = Source.STREAM
_made = tuple.__new__
"""Makes a named tuple in a third of the time that its own `__new__` takes."""
_REPLACE_REQUEST = RequestKind.REPLACE


class Changes:
    """What one input changed, for `projection.py`; and the effects that follow. One is made for every input."""

    __slots__ = ("adopted", "at", "effects", "fills", "offset", "orders", "views")

    def __init__(self, at: datetime, offset: int) -> None:
        self.at = at
        self.offset = offset
        self.orders: dict[OrderId, Order] = {}
        self.fills: list[NotedFill] = []
        self.views: list[tuple[Channel, View]] = []
        self.effects: list[Effect] = []
        self.adopted = 0

    def alert(self, kind: str, severity: str, reason: str, *, symbol: str | None = None, order_id: str = "") -> None:
        """Raise a risk alert."""
        self.views.append(
            (
                Channel.RISK_ALERT,
                RiskAlertView(
                    type=kind,
                    severity=severity,
                    reason=reason,
                    symbol=symbol,
                    current_value=None,
                    limit_value=None,
                    timestamp=self.at,
                    order_id=order_id,
                ),
            )
        )


@dataclass(slots=True)
class Outcome:
    """What one input led to."""

    changes: Changes
    order_id: OrderId | None = None
    """The order that a command made or named."""
    denied: Denied | None = None
    """Why a command was refused."""

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What the shell must do, in order."""
        return tuple(self.changes.effects)


def transit(
    belief: Belief,
    changes: Changes,
    report: OrderReport,
    source: Source,
    exec_type: ExecType = ExecType.STATUS,
    execution: Execution | None = None,
    refers_to: ExecutionId | None = None,
    broker_at: datetime | None = None,
    text: str = "",
) -> Leg | None:
    """Move belief by one report of the broker about one order, whoever brought it.

    Returns the leg that it speaks of; None when it only repeats what is known of an order that was left to the journal.
    """
    at = changes.at
    leg = belief.by_broker.get(report.broker_order_id)
    if leg is None:
        retired = belief.retired.get(report.broker_order_id)
        if retired is not None and _says_nothing_new(retired, report, exec_type, source):
            belief.count("reports_on_retired_orders")
            return None
        leg, order = _leg_for(belief, changes, report, source)
        late = order.origin == "external" and leg.presumed and _before_baseline(belief, report)
    else:
        order = belief.orders[leg.order_id]
        late = False
    asked = source is not _FROM_STREAM and source is not _FROM_REPLY
    if asked and belief.baseline_at is None and order.origin == "external":
        late = True  # the opening balance will hold these shares
    missed = asked and belief.truth.feeds[_BROKER_EVENTS].status is not _FEED_UP
    before_status, before_filled = leg.status, leg.filled
    # what happened before our books began was not missed by anybody
    counts = not leg.presumed or order.origin != "external" or (belief.baseline_at is not None and not late)
    # by position, as everything that runs for every input: names cost the call as much again
    join = join_report(leg, report, execution, source, at, exec_type, refers_to, missed and counts)
    if report.parent is not None and order.parent is None:  # a stream's events don't name it, lists do
        order.parent, order.order_class = report.parent, report.order_class
        join.terms_changed = True
    if late and leg.opening + join.delta >= 0:
        _leave_to_the_opening(belief, leg, join)
    elif join.fills or join.delta or join.restated:
        book_join(belief, changes, order, leg, join, source, missed and counts)
    order = _after_report(belief, changes, order, leg, join, exec_type)
    if join.changed:
        order.source = source
        order.updated_at = at
        changes.orders[order.order_id] = order
        if asked and counts and (leg.filled != before_filled or leg.status in TERMINAL):
            _learned_by_asking(belief, changes, order, leg, before_status, before_filled, source, missed)
    if join.changed or not asked:
        fills = tuple(join.fills)
        tell(order, changes, exec_type, source, broker_at or report.version, text, join.changed, fills)
    if source is _FROM_STREAM and belief.expectations:
        _meet_expectation(belief, leg, report)
    if join.status_changed or leg.status not in TERMINAL:
        belief.index(order)
    return leg


def _leave_to_the_opening(belief: Belief, leg: Leg, join: Join) -> None:
    """The opening balance holds what this report added; what a stream told before is in the book already."""
    leg.opening += join.delta
    if join.restated:
        belief.book(leg.symbol).dirty = True


def _says_nothing_new(retired: Retired, report: OrderReport, exec_type: ExecType, source: Source) -> bool:
    if exec_type is ExecType.TRADE_CANCEL or exec_type is ExecType.TRADE_CORRECT:
        return False
    if report.filled_quantity == retired.filled:
        return True
    return report.filled_quantity < retired.filled and source is not Source.RECONCILE


def book_join(
    belief: Belief, changes: Changes, order: Order, leg: Leg, join: Join, source: Source, missed: bool
) -> None:
    """Move position and cash by what a join added, and note each fill."""
    factor = sign(leg.side)
    book = belief.book(leg.symbol)
    if join.restated:
        book.restate(factor * join.delta)
    else:
        for fill in join.fills:
            book.apply(fill.quantity if factor > 0 else -fill.quantity, fill.price, fill.at)
    if factor > 0:
        belief.flow -= join.value
    else:
        belief.flow += join.value
    belief.fill_counts[leg.symbol] = belief.fill_counts.get(leg.symbol, 0) + 1
    belief.last_fill_at[leg.symbol] = changes.at
    for fill in join.fills:
        changes.fills.append(_made(NotedFill, (order, leg, fill, source, missed)))
        if missed and fill.kind == "fill" and not fill.replaces_inferred:
            belief.truth.note_missed(source)
            belief.count("fills_missed_by_stream")
    counter = FILLS_BY[source]
    belief.counters[counter] = belief.counters.get(counter, 0) + len(join.fills)
    if leg.lacks_executions:
        if leg.broker_order_id is not None and leg.broker_order_id not in belief.inferred:
            await_executions(belief, changes.at, leg.broker_order_id)
    elif belief.inferred and leg.broker_order_id is not None:
        belief.inferred.pop(leg.broker_order_id, None)


def await_executions(belief: Belief, at: datetime, leg_id: BrokerOrderId, pause: timedelta = EXECUTIONS_DUE) -> None:
    """Have the executions of a leg's inferred shares asked for after a pause."""
    belief.inferred[leg_id] = Inferred(at + pause, pause)
    belief.set_timer(at + pause, "inferred", leg_id)


def ask_for_executions(belief: Belief, changes: Changes, leg_id: BrokerOrderId) -> None:
    """Shares are still inferred: their executions, or the word of their bust, got lost; a full look lists what is."""
    inferred = belief.inferred.get(leg_id)
    if inferred is None or inferred.due > changes.at:
        return
    leg = belief.by_broker.get(leg_id)
    if leg is None or not leg.lacks_executions or inferred.pause > EXECUTIONS_GIVEN_UP:
        del belief.inferred[leg_id]
        return
    reason = f"{leg.residual} {leg.symbol} of order {leg.order_id} are inferred"
    changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=reason))
    await_executions(belief, changes.at, leg_id, 2 * inferred.pause)  # the broker's list may itself be late


def transit_executions(belief: Belief, changes: Changes, executions: tuple[Execution, ...], *, source: Source) -> None:
    """Join executions that came without reports with the legs they belong to; unknown orders are asked for."""
    if not executions:
        return
    missed = belief.truth.feeds[FeedName.BROKER_EVENTS].status is not FeedStatus.UP
    by_order: dict[BrokerOrderId, list[Execution]] = {}
    for execution in executions:
        leg = belief.by_broker.get(execution.broker_order_id)
        if leg is None:
            known = execution.broker_order_id in belief.retired
            if not known and belief.baseline_at is not None and execution.at >= belief.baseline_at:
                by_order.setdefault(execution.broker_order_id, [])
        elif leg.aliases.get(execution.execution_id, execution.execution_id) not in leg.executions or (
            source is Source.RECONCILE and contradicts(leg, execution)
        ):
            by_order.setdefault(execution.broker_order_id, []).append(execution)
    for broker_order_id, new in by_order.items():
        leg = belief.by_broker.get(broker_order_id)
        if leg is None:
            changes.effects.append(FindOrder(broker_order_id=broker_order_id))
            continue
        new.sort(key=lambda execution: (execution.cum_quantity or ZERO, execution.at))
        order = belief.orders[leg.order_id]
        join = join_executions(leg, new, source=source, at=changes.at, missed=missed)
        for surprise in join.surprises:
            _surprise(belief, changes, order, leg, surprise)
        if join.changed:
            _after_executions(belief, changes, order, leg, join, source, missed)
            tell(order, changes, ExecType.TRADE, source, new[-1].at, fills=tuple(join.fills))


_NO_EXECUTIONS: list[Execution] = []


def transit_lists(
    belief: Belief, changes: Changes, reports: tuple[OrderReport, ...], executions: tuple[Execution, ...]
) -> None:
    """Where a full look's list makes up the total of an order, that list is what we hold of it."""
    by_order: dict[BrokerOrderId, list[Execution]] = {}
    for execution in executions:
        by_order.setdefault(execution.broker_order_id, []).append(execution)
    missed = belief.truth.feeds[FeedName.BROKER_EVENTS].status is not FeedStatus.UP
    for report in reports:
        leg = belief.by_broker.get(report.broker_order_id)
        listed = by_order.get(report.broker_order_id, _NO_EXECUTIONS)
        if leg is None or (not listed and leg.filled == leg.executed and not leg.unplaced) or not differs(leg, listed):
            continue
        is_current = leg.version == report.version and leg.filled == report.filled_quantity
        if not is_current or sum((execution.quantity for execution in listed), ZERO) != leg.filled:
            continue  # something newer was told, of which the list cannot know; or it begins too late
        listed = sorted(listed, key=lambda execution: (execution.cum_quantity or ZERO, execution.at))
        join = take_list(leg, listed, source=Source.RECONCILE, at=changes.at, missed=missed)
        order = belief.orders[leg.order_id]
        if join.changed:
            _after_executions(belief, changes, order, leg, join, Source.RECONCILE, missed)
            fills = tuple(join.fills)
            if all(fill.kind == "bust" for fill in fills):
                tell(order, changes, ExecType.TRADE_CANCEL, Source.RECONCILE, report.version, fills=fills)
            else:
                tell(order, changes, ExecType.TRADE, Source.RECONCILE, listed[-1].at, fills=fills)


def _after_executions(
    belief: Belief, changes: Changes, order: Order, leg: Leg, join: Join, source: Source, missed: bool
) -> None:
    if belief.baseline_at is None and order.origin == "external":
        _leave_to_the_opening(belief, leg, join)
    else:
        book_join(belief, changes, order, leg, join, source, missed)
    order.source, order.updated_at = source, changes.at
    changes.orders[order.order_id] = order


def _leg_for(belief: Belief, changes: Changes, report: OrderReport, source: Source) -> tuple[Leg, Order]:
    """Find the leg that a report with an unknown broker order id speaks of, or adopt an external order."""
    broker_id = report.broker_order_id
    leg = belief.by_client.get(report.client_order_id) if report.client_order_id is not None else None
    if leg is not None and leg.broker_order_id is None:
        belief.by_broker[broker_id] = leg
        return leg, belief.orders[leg.order_id]
    predecessor = leg
    if predecessor is None and report.replaces is not None:
        predecessor = belief.by_broker.get(report.replaces)
    if predecessor is None:
        predecessor = _successor_of(belief, report)
        order = belief.orders[predecessor.order_id] if predecessor is not None else None
        position = 0
    else:
        order = belief.orders[predecessor.order_id]
        position = len(order.legs)
    if order is not None and predecessor is not None and position:
        for pending in order.legs:  # our own replace request whose name the broker did not keep
            if pending.broker_order_id is None and pending.replaces == report.replaces:
                belief.by_broker[broker_id] = pending
                if report.client_order_id is not None:
                    belief.by_client[report.client_order_id] = pending
                return pending, order
    if order is None:
        order = Order(
            order_id=OrderId(f"x-{changes.offset}" + (f"-{changes.adopted}" if changes.adopted else "")),
            symbol=report.symbol,
            side=report.side,
            order_type=report.order_type,
            time_in_force=report.time_in_force,
            origin="external",
            created_at=report.submitted_at or changes.at,
            updated_at=changes.at,
            source=source,
            legs=[],
            parent=report.parent,
            order_class=report.order_class,
        )
        changes.adopted += 1
        belief.orders[order.order_id] = order
        belief.count("external_orders_adopted")
        if report.client_order_id is not None and report.client_order_id.startswith(belief.name_prefix):
            _second_writer(belief, changes, report.client_order_id)
    leg = Leg(order.order_id, report.client_order_id, broker_id, report.symbol, report.side)
    retired = belief.retired.pop(broker_id, None)
    if retired is not None:  # its shares are in the books already; only what differs from them is news
        leg.filled, leg.residual_price, leg.opening = retired.filled, retired.average_price, retired.filled
        leg.average_price, leg.average_total = retired.average_price, retired.filled
        leg.residual_at = report.version or changes.at
    order.legs.insert(position, leg)
    belief.by_broker[broker_id] = leg
    if report.client_order_id is not None:
        belief.by_client.setdefault(report.client_order_id, leg)
    belief.legs_by_symbol.setdefault(report.symbol, []).append(leg)
    return leg, order


def _second_writer(belief: Belief, changes: Changes, client_order_id: ClientOrderId) -> None:
    """An order bears a name that only this journal coins, and this journal has not: somebody else writes too."""
    reason = f"{client_order_id} is named as our orders are and is not ours; a second runtime, or an older journal"
    trip(belief, changes, SECOND_WRITER, TradingState.HALTED, reason)
    changes.alert(SECOND_WRITER, "critical", f"{reason}: find it, then resume")


def _successor_of(belief: Belief, report: OrderReport) -> Leg | None:
    """The leg that this older one was replaced by, when the younger became known first."""
    if report.replaced_by is not None:
        successor = belief.by_broker.get(report.replaced_by)
        if successor is not None:
            return successor
    return None


def _before_baseline(belief: Belief, report: OrderReport) -> bool:
    """True for an order that was finished before our books began: its shares are in the opening balance."""
    return (
        belief.baseline_at is not None
        and report.version is not None
        and report.version < belief.baseline_at - _HALF_SLACK
    )


def _after_report(belief: Belief, changes: Changes, order: Order, leg: Leg, join: Join, exec_type: ExecType) -> Order:
    """What follows from a report besides the join itself; returns the order that the leg belongs to afterwards."""
    order.confirmed_at = changes.at
    order.absent_since = None
    if order.in_doubt is not None or order.in_flight is not None:
        _clear_doubt(order)
        other = order.pending if join.terms_changed and order.in_doubt is _REPLACE_REQUEST else None
        if other is not None:
            changes.effects.append(FindOrder(client_order_id=other.client_order_id))
    if leg.replaced_by is not None or leg.replaces is not None:
        order = _follow_chain(belief, changes, order, leg)
    if order.cancel_wanted:
        if order.is_terminal or (exec_type is _EXEC_CANCEL_REJECTED and not belief.gate.kill.killed):
            order.cancel_wanted = False  # a kill asks again until every order has ended
        elif join.terms_changed and leg.broker_order_id is not None:
            request_cancel(changes, order)
    if exec_type is _EXEC_REPLACE_REJECTED and order.in_doubt is _REPLACE_REQUEST:
        # it names the order, and neither the request nor whose it was: so the request is asked for by its own name
        changes.effects.extend(
            FindOrder(client_order_id=asked.client_order_id)
            for asked in order.asked
            if asked.replaces == leg.broker_order_id
        )
    if leg.quantity is not None and leg.filled > leg.quantity and join.delta > 0:
        belief.count("overfills")
        changes.alert(
            "overfill",
            "critical",
            f"order {order.order_id} filled {leg.filled} of {leg.quantity} {leg.symbol}; the broker's word is booked",
            symbol=leg.symbol,
            order_id=order.order_id,
        )
        _doubt_position(belief, changes, leg, f"order {order.order_id} was filled beyond its quantity")
    if join.duplicate:
        belief.count("duplicates_ignored")
    for surprise in join.surprises:
        _surprise(belief, changes, order, leg, surprise)
    return order


def _doubt_position(belief: Belief, changes: Changes, leg: Leg, why: str) -> None:
    """Gate one symbol until a full snapshot has spoken of its position."""
    key = f"position:{leg.symbol}"
    if key not in belief.drifts:
        held = str(belief.book(leg.symbol).quantity)
        drift = Drift(
            drift_id=f"d-{changes.offset}-{leg.symbol}",
            kind="position",
            subject=leg.symbol,
            believed=held,
            reported="not asked yet",
            first_seen_at=changes.at,
            at=changes.at,
            evidence=why,
        )
        belief.drifts[key] = drift
        note_drift(belief, changes, drift)
    changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=why))


def _clear_doubt(order: Order) -> None:
    """A report ends the doubt about the request that made its leg; a cancel's doubt ends with the order's end."""
    order.settle_request(RequestKind.SUBMIT)
    if not order.asked:
        order.settle_request(RequestKind.REPLACE)
    if order.leg.status in TERMINAL:
        order.settle_request(RequestKind.CANCEL)


def _follow_chain(belief: Belief, changes: Changes, order: Order, leg: Leg) -> Order:
    """Bring the two ends of a replace together, whichever was heard of first; returns the order that holds both."""
    for other_id, leg_is_older in ((leg.replaced_by, True), (leg.replaces, False)):
        if other_id is None:
            continue
        other = belief.by_broker.get(other_id)
        if other is None:
            if leg_is_older and not any(
                pending.broker_order_id is None
                and pending.replaces == leg.broker_order_id
                and pending.status not in TERMINAL
                for pending in order.legs
            ):
                changes.effects.append(FindOrder(broker_order_id=other_id))
            continue
        if other.order_id == leg.order_id:
            continue
        theirs = belief.orders[other.order_id]
        keep, gone = (order, theirs) if order.origin != "external" or theirs.origin == "external" else (theirs, order)
        if gone.origin != "external":
            continue
        for moved in gone.legs:
            moved.order_id = keep.order_id
        keep.legs = [*order.legs, *theirs.legs] if leg_is_older else [*theirs.legs, *order.legs]
        keep.in_flight, keep.in_doubt = keep.in_flight or gone.in_flight, keep.in_doubt or gone.in_doubt
        keep.doubt_since = keep.doubt_since or gone.doubt_since
        if gone.cancel_wanted or keep.cancel_wanted:
            keep.cancel_wanted = True
            request_cancel(changes, keep)
        keep.timeline = sorted([*keep.timeline, *gone.timeline], key=lambda entry: entry.offset)
        belief.orders.pop(gone.order_id, None)
        if belief.open_orders.pop(gone.order_id, None) is not None:
            del belief.open_by_symbol[gone.symbol][gone.order_id]
        changes.orders.pop(gone.order_id, None)
        changes.orders[keep.order_id] = keep
        belief.index(keep)
        return keep
    return order


def request_cancel(changes: Changes, order: Order) -> None:
    """Ask for a cancel of every live leg that the broker knows."""
    for leg in order.legs:
        if leg.broker_order_id is not None and leg.status not in TERMINAL:
            changes.effects.append(
                SendCancel(
                    order_id=order.order_id,
                    client_order_id=leg.client_order_id or ClientOrderId(""),
                    broker_order_id=leg.broker_order_id,
                )
            )


def _surprise(belief: Belief, changes: Changes, order: Order, leg: Leg, surprise: str) -> None:
    """Something that cannot be as it is: count it, and ask the broker."""
    belief.count(surprise)
    if leg.broker_order_id is not None:
        changes.effects.append(FindOrder(broker_order_id=leg.broker_order_id))
    changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=f"{surprise} on order {order.order_id}"))


def _learned_by_asking(
    belief: Belief,
    changes: Changes,
    order: Order,
    leg: Leg,
    before_status: OrderStatus,
    before_filled: Decimal,
    source: Source,
    missed: bool,
) -> None:
    """A question told what the stream has not: missed for certain without a live stream, else to be expected of it."""
    believed = f"{before_status} {before_filled}"
    reported = f"{leg.status} {leg.filled}"
    if missed:
        note_drift(
            belief,
            changes,
            Drift(
                drift_id=f"d-{changes.offset}-{leg.broker_order_id}",
                kind="order",
                subject=order.order_id,
                believed=believed,
                reported=reported,
                first_seen_at=changes.at,
                at=changes.at,
                state="healed",
                evidence=f"learned by {source.value} while no broker event could arrive",
            ),
        )
    elif leg.broker_order_id is not None and leg.filled != before_filled:
        deadline = changes.at + STREAM_GRACE
        belief.expectations[leg.broker_order_id] = Expectation(
            leg.broker_order_id, leg.version, leg.filled, deadline, source.value, 1
        )
        belief.set_timer(deadline, "expectation", leg.broker_order_id)


def _meet_expectation(belief: Belief, leg: Leg, report: OrderReport) -> None:
    if leg.broker_order_id is None:
        return
    expected = belief.expectations.get(leg.broker_order_id)
    if expected is not None and report.filled_quantity >= expected.filled:
        del belief.expectations[leg.broker_order_id]


def trip(belief: Belief, changes: Changes, breaker: str, state: TradingState, reason: str) -> None:
    """Let a breaker demand a trading state; told when it was not on before."""
    was_on = breaker in belief.gate.demands
    belief.gate.demand(breaker, state, reason)
    if not was_on:
        _tell_breaker(changes, breaker, "activated", reason, state.value)


def reset(belief: Belief, changes: Changes, breaker: str, reason: str) -> None:
    """Take a breaker's demand back; told when it was on."""
    if breaker in belief.gate.demands:
        belief.gate.withdraw(breaker)
        _tell_breaker(changes, breaker, "deactivated", reason, "")


def _tell_breaker(changes: Changes, breaker: str, action: str, reason: str, demand: str) -> None:
    view = CircuitBreakerView(breaker=breaker, action=action, reason=reason, timestamp=changes.at, demand=demand)
    changes.views.append((Channel.RISK_CIRCUIT_BREAKER, view))


def note_drift(belief: Belief, changes: Changes, drift: Drift) -> None:
    """Show a drift as it now stands; one that has ended goes to the log."""
    if drift.state != "suspected":
        belief.drift_log.append(drift)
        if len(belief.drift_log) > DRIFT_KEPT:
            del belief.drift_log[0]
    changes.views.append((Channel.TRUTH_DRIFT, drift_view(drift)))


def drift_view(drift: Drift) -> DriftView:
    """A drift as people see it."""
    return DriftView(
        id=drift.drift_id,
        kind=drift.kind,
        subject=drift.subject,
        state=drift.state,
        believed=drift.believed,
        reported=drift.reported,
        evidence=drift.evidence,
        at=drift.at,
        first_seen_at=drift.first_seen_at,
        trued_up=drift.trued_up,
    )


def gap_view(gap: Gap) -> GapView:
    """A gap as people see it."""
    return GapView(
        id=gap.gap_id,
        feed=gap.feed.value,
        reason=gap.reason,
        opened_at=gap.opened_at,
        closed_at=gap.closed_at,
        missed=gap.missed,
        learned_by=dict(gap.learned_by),
    )


def tell(
    order: Order,
    changes: Changes,
    event: str,
    source: Source,
    broker_at: datetime | None,
    text: str = "",
    changed: bool = True,
    fills: tuple[Fill, ...] = (),
) -> None:
    """Add one line to an order's story."""
    timeline = order.timeline
    timeline.append(
        _made(
            TimelineEntry,
            (changes.offset, event, source, broker_at, changes.at, order.status, order.filled, text, changed, fills),
        )
    )
    if len(timeline) > TIMELINE_KEPT:
        del timeline[1]  # the intent, on the first line, stays
