"""The one door: `step` folds an input into belief, and says what must be done and what changed.

Deterministic: the same inputs in the same order make the same belief and the same effects, whatever the machine, the
hash seed or the time of day. Not for doing anything. Invariant: all that sways a decision is in the input or in belief.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from trueup.core.belief import Belief, Drift
from trueup.core.breakers import STALE_DATA
from trueup.core.commands import CancelOrder, Command, Kill, Reconcile, ReplaceOrder, Resume, SubmitOrder
from trueup.core.effects import (
    Denied,
    FindOrder,
    RecycleFeed,
    SendOrder,
    SendReplace,
    TakeSnapshot,
)
from trueup.core.events import (
    ClockTicked,
    Event,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    FrameQuarantined,
    OrderLookedUp,
    OrderReported,
    RequestAnswered,
    RuntimeStarted,
    SignalGenerated,
    SnapshotFailed,
    SnapshotTaken,
)
from trueup.core.model import (
    BrokerOrderId,
    ClientOrderId,
    FeedName,
    FeedStatus,
    OrderChange,
    OrderId,
    OrderStatus,
    RequestKind,
    RequestOutcome,
    SnapshotScope,
    Source,
    TradingState,
)
from trueup.core.orders import TERMINAL, Leg, Order
from trueup.core.reconcile import apply_snapshot
from trueup.core.risk import judge_order, symbol_in_doubt
from trueup.core.transition import (
    SECOND_WRITER,
    Changes,
    Outcome,
    ask_for_executions,
    await_executions,
    gap_view,
    note_drift,
    request_cancel,
    reset,
    tell,
    transit,
    trip,
)
from trueup.core.truth import Gap
from trueup.core.views import (
    Channel,
    FeedDisconnectedView,
    FeedReconnectedView,
    KillSwitchView,
    SignalView,
)

LOOKUP_FIRST = timedelta(seconds=1)
"""The pause before the first look-up of a request whose answer was lost: it may still be under way."""

LOOKUP_SETTLE = timedelta(seconds=5)
"""A "no such order" counts only this long after the doubt began, and this far from the one before it."""

CANCEL_OVERDUE = timedelta(seconds=30)
"""How long an asked-for cancel may take before it is asked for again and reported."""

LOOKUPS_NEEDED = 2
"""How many counting answers "no such order" it takes to believe that a request never arrived."""


# Members by a name of their own: reading one through its class costs ten times as much, and this runs for every input.
_BROKER_EVENTS = FeedName.BROKER_EVENTS
_CANCEL_REQUEST = RequestKind.CANCEL
_DENIED = OrderStatus.DENIED
_FEED_UP = FeedStatus.UP
_FROM_COMMAND = Source.COMMAND
_FROM_REPLY = Source.REPLY
_FROM_STREAM = Source.STREAM
_SUBMIT_REQUEST = RequestKind.SUBMIT


def step(belief: Belief, item: Event | Command, offset: int) -> Outcome:
    """Fold one input into belief."""
    changes = Changes(item.at, offset)
    belief.offset = offset
    belief.at = item.at
    match item:
        case OrderReported():  # the hot path, before all others
            _on_order_reported(belief, changes, item)
        case SubmitOrder():
            return _on_submit(belief, changes, item)
        case RequestAnswered():
            _on_request_answered(belief, changes, item)
        case SnapshotTaken():
            apply_snapshot(belief, changes, item)
            _heal(belief, changes)
        case SnapshotFailed():
            belief.count("snapshots_failed")
            if item.source is Source.RECONCILE:
                belief.truth.last_result = f"failed: {item.reason}"
        case OrderLookedUp():
            _on_order_looked_up(belief, changes, item)
        case FeedAcknowledged():
            _on_feed_acknowledged(belief, item)
        case FeedRestored():
            _on_feed_restored(belief, changes, item)
        case FeedLost():
            _on_feed_lost(belief, changes, item)
        case FrameQuarantined():
            belief.count("frames_quarantined")
            if item.feed is FeedName.BROKER_EVENTS:
                changes.effects.append(
                    TakeSnapshot(scope=SnapshotScope.FULL, reason=f"a frame could not be read: {item.reason}")
                )
                changes.alert("unreadable_frame", "warning", f"a broker event could not be read: {item.reason}")
                # whatever it told was missed; nothing later is proven until a snapshot has told it too
                _open_gap(belief, changes, f"a frame could not be read: {item.reason}", item.at)
                _demand_truth(belief, changes)
        case SignalGenerated():
            changes.views.append((Channel.SIGNAL_GENERATED, _signal_view(item)))
        case RuntimeStarted():
            _on_runtime_started(belief, changes, item)
        case ClockTicked():
            _on_clock_ticked(belief, changes)
        case CancelOrder():
            return _on_cancel(belief, changes, item)
        case ReplaceOrder():
            return _on_replace(belief, changes, item)
        case Kill():
            _on_kill(belief, changes, item)
        case Resume():
            belief.gate.set_kill(False, reason=item.reason, operator=item.operator, at=item.at, asked_by=item.asked_by)
            reset(belief, changes, SECOND_WRITER, "a person has looked")
            changes.views.append((Channel.RISK_KILL_SWITCH, _kill_view(belief, "deactivate", item)))
            changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason="resumed after a kill"))
        case Reconcile():
            changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=item.reason))
        case _:
            assert_never(item)
    return Outcome(changes)


# --- events -------------------------------------------------------------------------------------------------------


def _on_order_reported(belief: Belief, changes: Changes, event: OrderReported) -> None:
    source = event.source
    transit(belief, changes, event.report, source, event.exec_type, event.execution, event.refers_to, event.broker_at)
    if source is _FROM_STREAM:
        feed = belief.truth.feeds[_BROKER_EVENTS]
        feed.last_event_at = event.at
        if feed.status is _FEED_UP:
            belief.truth.prove(event.at)


def _on_request_answered(belief: Belief, changes: Changes, event: RequestAnswered) -> None:
    leg = belief.by_client.get(event.client_order_id)
    if event.report is not None:
        leg = (
            transit(
                belief,
                changes,
                event.report,
                source=_FROM_REPLY,
                text=f"the broker's answer to our {event.kind.value}",
            )
            or leg
        )
    if leg is None:
        belief.count("answers_to_unknown_requests")
        return
    order = belief.orders[leg.order_id]
    match event.outcome:
        case RequestOutcome.ACCEPTED:
            _settle(order, leg, event.kind)
            if event.report is None:
                tell(order, changes, f"{event.kind.value}_accepted", _FROM_REPLY, None)
        case RequestOutcome.REFUSED | RequestOutcome.NOT_SENT:
            _on_refused(belief, changes, event, order, leg)
        case RequestOutcome.UNKNOWN:
            settled = order.is_terminal if event.kind is _CANCEL_REQUEST else not leg.presumed
            if settled:
                tell(order, changes, "reply_lost", _FROM_REPLY, None, "the broker has spoken already")
            else:
                _doubt(changes, order, leg, event.kind, event.message)
        case _:
            assert_never(event.outcome)
    belief.index(order)
    changes.orders[order.order_id] = order


def _settle(order: Order, leg: Leg, kind: RequestKind) -> None:
    """An answer ends the request that it answers: events may have outrun it, and another replace be under way."""
    if kind is not RequestKind.REPLACE or all(asked is leg for asked in order.asked):
        order.settle_request(kind)


def _on_refused(belief: Belief, changes: Changes, event: RequestAnswered, order: Order, leg: Leg) -> None:
    _settle(order, leg, event.kind)
    sent = event.outcome is RequestOutcome.REFUSED
    words = f"{event.message} ({event.code})" if event.code else event.message
    if event.kind is RequestKind.CANCEL:
        order.cancel_wanted = order.cancel_wanted and belief.gate.kill.killed and not order.is_terminal
        live = order.leg.broker_order_id
        if live is not None:
            changes.effects.append(FindOrder(broker_order_id=live))
    elif leg.presumed:
        # a submit, or a replace whose new leg the broker has never spoken of
        leg.status = OrderStatus.REJECTED if sent else OrderStatus.DENIED
        if event.kind is RequestKind.REPLACE and leg.replaces is not None:
            changes.effects.append(FindOrder(broker_order_id=leg.replaces))
        else:
            order.reason = words if sent else f"not sent: {words}"
    order.updated_at, order.source = event.at, Source.REPLY
    tell(order, changes, f"{event.kind.value}_{event.outcome.value}", Source.REPLY, None, words)
    severity = "warning" if sent else "info"
    changes.alert(
        f"{event.kind.value}_{event.outcome.value}", severity, words, symbol=order.symbol, order_id=order.order_id
    )


def _doubt(changes: Changes, order: Order, leg: Leg, kind: RequestKind, message: str) -> None:
    """The outcome of a request is unknown: say so, and ask the broker until it has spoken."""
    if kind is not RequestKind.CANCEL or (order.in_flight is None and order.in_doubt is None):
        # a cancel is safe to ask for again; it must not hide that another request is under way
        order.in_flight = None
        order.in_doubt = kind
        order.doubt_since = changes.at
        order.lookups_missed = 0
        order.last_missed_at = None
    order.updated_at = changes.at
    changes.orders[order.order_id] = order
    tell(order, changes, f"{kind.value}_in_doubt", Source.RUNTIME, None, message)
    changes.alert(
        "in_doubt",
        "warning",
        f"the outcome of the {kind.value} of order {order.order_id} is unknown: {message}",
        symbol=order.symbol,
        order_id=order.order_id,
    )
    _look_up(changes, leg, changes.at + LOOKUP_FIRST)


def _look_up(changes: Changes, leg: Leg, not_before: datetime) -> None:
    if leg.broker_order_id is not None:
        changes.effects.append(FindOrder(broker_order_id=leg.broker_order_id, not_before=not_before))
    elif leg.client_order_id is not None:
        changes.effects.append(FindOrder(client_order_id=leg.client_order_id, not_before=not_before))


def _on_order_looked_up(belief: Belief, changes: Changes, event: OrderLookedUp) -> None:
    if event.report is not None:
        leg = transit(belief, changes, event.report, source=Source.LOOKUP)
        if leg is None:
            return
        order = belief.orders[leg.order_id]
        if order.in_doubt is RequestKind.CANCEL:
            order.settle_request(RequestKind.CANCEL)
            if leg.status not in TERMINAL and order.cancel_wanted:
                request_cancel(changes, order)
        belief.index(order)
        return
    if event.client_order_id is None:
        return  # a request in doubt has no broker order id yet; one that is not found says nothing about it
    missing = belief.by_client.get(event.client_order_id)
    if missing is None:
        return
    order = belief.orders[missing.order_id]
    if order.in_doubt is None or order.doubt_since is None or not missing.presumed:
        return
    if missing is not (order.pending or order.legs[-1]):
        return  # this one has come to nothing already; the doubt is about a later one
    enough_later = order.last_missed_at is None or event.started_at - order.last_missed_at >= LOOKUP_SETTLE
    if event.started_at - order.doubt_since >= LOOKUP_SETTLE and enough_later:
        order.lookups_missed += 1
        order.last_missed_at = event.started_at
    tell(order, changes, "not_found", Source.LOOKUP, None, f"counting answers: {order.lookups_missed}", changed=False)
    if order.lookups_missed < LOOKUPS_NEEDED:
        _look_up(changes, missing, event.at + LOOKUP_SETTLE)
        return
    # presumed: should the broker ever speak of this order, its word overrules ours
    missing.status = OrderStatus.DENIED
    kind, other = order.in_doubt, order.pending
    if other is None:
        order.settle_request(kind)
    else:
        order.lookups_missed, order.last_missed_at, order.doubt_since = 0, None, event.at
        _look_up(changes, other, event.at)
    if missing.replaces is not None:  # should it have worked under another name, the old order says so
        changes.effects.append(FindOrder(broker_order_id=missing.replaces))
    order.updated_at, order.source = event.at, Source.LOOKUP
    if kind is RequestKind.SUBMIT:
        order.reason = f"never reached the broker: looked up {LOOKUPS_NEEDED} times by client order id"
    tell(order, changes, "never_arrived", Source.LOOKUP, None, order.reason)
    changes.orders[order.order_id] = order
    belief.index(order)


def _on_feed_acknowledged(belief: Belief, event: FeedAcknowledged) -> None:
    feed = belief.truth.feeds[event.feed]
    feed.status = FeedStatus.RESTORING
    feed.since = feed.acknowledged_at = event.at
    feed.reason = "subscribed; merging a snapshot" if event.feed is FeedName.BROKER_EVENTS else "subscribed"


def _on_feed_restored(belief: Belief, changes: Changes, event: FeedRestored) -> None:
    feed = belief.truth.feeds[event.feed]
    feed.status = FeedStatus.UP
    feed.since = event.at
    feed.reason = ""
    feed.symbol_count = event.symbol_count
    if feed.ever_up:
        feed.reconnect_count += 1
        feed.last_reconnect_at = event.at
    feed.ever_up = True
    changes.views.append(
        (
            Channel.FEED_RECONNECTED,
            FeedReconnectedView(timestamp=event.at, symbol_count=event.symbol_count, feed=event.feed.value),
        )
    )
    if event.feed is FeedName.BROKER_EVENTS:
        _heal(belief, changes)


def _heal(belief: Belief, changes: Changes) -> None:
    """Close the gap once the stream lives and a full snapshot begun since its acknowledgement was clean."""
    truth = belief.truth
    feed = truth.feeds[FeedName.BROKER_EVENTS]
    clean = truth.clean_started_at
    gap = truth.open_gap
    if gap is not None:
        proven = clean is not None and clean >= gap.opened_at
        proven = proven and (feed.acknowledged_at is None or clean is None or clean >= feed.acknowledged_at)
        if feed.status is FeedStatus.UP and proven:
            closed = truth.close(changes.at)
            if closed is not None:
                changes.views.append((Channel.TRUTH_GAP, gap_view(closed)))
    if clean is not None and truth.open_gap is None:
        truth.prove(clean)
    _demand_truth(belief, changes)


def _demand_truth(belief: Belief, changes: Changes) -> None:
    """Entries are gated for as long as belief may be wrong without our knowing."""
    truth = belief.truth
    feed = truth.feeds[FeedName.BROKER_EVENTS]
    gap = truth.open_gap
    if belief.baseline_at is None:
        why = "the account has not been reconciled yet"
    elif feed.status is not FeedStatus.UP:
        why = f"broker events are {feed.status}: {feed.reason}"
    elif gap is not None:
        why = f"a gap is open: {gap.reason}"
    else:
        reset(belief, changes, STALE_DATA, "broker events are live and belief is reconciled")
        return
    trip(belief, changes, STALE_DATA, TradingState.REDUCE_ONLY, why)


def _on_feed_lost(belief: Belief, changes: Changes, event: FeedLost) -> None:
    feed = belief.truth.feeds[event.feed]
    if feed.status is not FeedStatus.DOWN:
        feed.since = event.at
    feed.status = FeedStatus.DOWN
    feed.reason = event.reason
    changes.views.append(
        (
            Channel.FEED_DISCONNECTED,
            FeedDisconnectedView(timestamp=event.at, reason=event.reason, feed=event.feed.value),
        )
    )
    if event.feed is FeedName.BROKER_EVENTS:
        _open_gap(belief, changes, event.reason, event.at)  # none, where it was found mute: that gap is open still
        belief.expectations.clear()
        _demand_truth(belief, changes)


def _open_gap(belief: Belief, changes: Changes, reason: str, at: datetime) -> Gap | None:
    gap = belief.truth.open(f"g-{changes.offset}", reason, at)
    if gap is not None:
        changes.views.append((Channel.TRUTH_GAP, gap_view(gap)))
    return gap


def _on_runtime_started(belief: Belief, changes: Changes, event: RuntimeStarted) -> None:
    """A new process: streams are gone, and every request without an answer is in doubt."""
    belief.broker = event.broker
    belief.runtime_version = event.version
    belief.timers.clear()
    belief.expectations.clear()
    for drift in belief.drifts:
        belief.set_timer(event.at, "recheck", drift)
    for leg_id in belief.inferred:
        await_executions(belief, event.at, leg_id)
    for feed in belief.truth.feeds.values():
        feed.status = FeedStatus.DOWN
        feed.since = event.at
        feed.reason = "the process has just started"
    # what happened since the last proof was not heard by anybody
    _open_gap(belief, changes, "process start", belief.truth.proved_at or event.at)
    unfinished = [order for order in belief.orders.values() if not order.is_terminal or order.in_flight is not None]
    for order in unfinished:
        leg = order.pending or order.legs[-1]
        if order.in_flight is not None and order.in_flight is not RequestKind.CANCEL:
            # a replace of an order that has ended meanwhile counts too: its new leg may work at the broker
            _doubt(changes, order, leg, order.in_flight, "the process ended before the answer came")
            belief.index(order)
        elif order.in_doubt is not None:
            order.lookups_missed = 0
            order.last_missed_at = None
            order.doubt_since = event.at
            _look_up(changes, order.leg if order.in_doubt is _CANCEL_REQUEST else leg, event.at)
        if order.cancel_wanted:
            order.cancel_wanted = False
            _want_cancel(belief, changes, order, "asked for before the process started")
    _demand_truth(belief, changes)


def _on_clock_ticked(belief: Belief, changes: Changes) -> None:
    for kind, key in belief.due_timers(changes.at):
        if kind == "expectation":
            _expectation_failed(belief, changes, BrokerOrderId(key))
        elif kind == "recheck" and key in belief.drifts:
            changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=f"suspected drift: {key}"))
        elif kind == "unsettled" and belief.truth.was_reconciled_at(key):
            changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason=belief.truth.last_result))
        elif kind == "inferred":
            ask_for_executions(belief, changes, BrokerOrderId(key))
        elif kind == "cancel":
            _cancel_overdue(belief, changes, OrderId(key))


def _want_cancel(belief: Belief, changes: Changes, order: Order, why: str) -> None:
    if not order.cancel_wanted:
        belief.set_timer(changes.at + CANCEL_OVERDUE, "cancel", order.order_id)
    order.cancel_wanted = True
    order.updated_at, order.source = changes.at, Source.COMMAND
    changes.orders[order.order_id] = order
    tell(order, changes, "cancel_intent", Source.COMMAND, None, why)
    request_cancel(changes, order)


def _cancel_overdue(belief: Belief, changes: Changes, order_id: OrderId) -> None:
    """A cancel was asked for and the order still lives: say so, look, and ask again; never assume."""
    order = belief.open_orders.get(order_id)
    if order is None or not order.cancel_wanted:
        return
    reason = f"order {order_id} still stands {CANCEL_OVERDUE.seconds} s after its cancel was asked for"
    changes.alert("cancel_overdue", "warning", reason, symbol=order.symbol, order_id=order_id)
    tell(order, changes, "cancel_overdue", Source.RUNTIME, None, reason, changed=False)
    _look_up(changes, order.leg, changes.at)
    request_cancel(changes, order)
    belief.set_timer(changes.at + CANCEL_OVERDUE, "cancel", order_id)


def _expectation_failed(belief: Belief, changes: Changes, leg_id: BrokerOrderId) -> None:
    """A live stream never told what a question did: it is mute, and has been for we do not know how long."""
    expected = belief.expectations.get(leg_id)
    if expected is None or expected.deadline > changes.at:
        return
    del belief.expectations[leg_id]
    feed = belief.truth.feeds[FeedName.BROKER_EVENTS]
    if feed.status is not FeedStatus.UP:
        return
    leg = belief.by_broker.get(leg_id)
    if leg is None:  # left to the journal since
        return
    order = belief.orders[leg.order_id]
    reason = f"mute: {expected.source} found a fill of order {order.order_id} that the stream never told"
    feed.status = FeedStatus.SUSPECT
    feed.since = changes.at
    feed.reason = reason
    since = belief.truth.proved_at
    if feed.last_event_at is not None:
        since = feed.last_event_at
    gap = _open_gap(belief, changes, reason, since or changes.at)
    if gap is not None:
        gap.missed = expected.fills
        gap.learned_by = {expected.source: expected.fills}
        belief.count("fills_missed_by_stream", expected.fills)
    for held in leg.executions.values():
        if held.source is not Source.STREAM and held.source is not Source.REPLY:
            held.missed = True
    leg.residual_missed = True
    changes.orders[order.order_id] = order
    note_drift(
        belief,
        changes,
        Drift(
            drift_id=f"d-{changes.offset}-{leg_id}",
            kind="missed_event",
            subject=order.order_id,
            believed="stream silent",
            reported=f"{leg.status} {leg.filled}",
            first_seen_at=changes.at,
            at=changes.at,
            state="healed",
            evidence=reason,
        ),
    )
    changes.alert("stream_mute", "warning", reason, symbol=order.symbol, order_id=order.order_id)
    changes.effects.append(RecycleFeed(feed=FeedName.BROKER_EVENTS, reason=reason))
    _demand_truth(belief, changes)


def _signal_view(event: SignalGenerated) -> SignalView:
    return SignalView(
        symbol=event.symbol,
        direction=event.direction,
        strength=event.strength,
        strategy_name=event.strategy_name,
        timestamp=event.at,
        metadata={"indicators": dict(event.indicators)} if event.indicators else {},
    )


# --- commands -----------------------------------------------------------------------------------------------------


def _on_submit(belief: Belief, changes: Changes, command: SubmitOrder) -> Outcome:
    offset = changes.offset
    client_order_id = command.client_order_id or ClientOrderId(f"{belief.name_prefix}{offset}")
    verdict = judge_order(belief, command, client_order_id)
    if isinstance(verdict, Denied) and verdict.code == "duplicate_client_order_id":
        changes.alert(verdict.code, "warning", verdict.reason)
        used_by = belief.by_client.get(client_order_id)
        existing = used_by.order_id if used_by is not None else belief.retired_clients[client_order_id]
        return Outcome(changes, existing, verdict)
    order_id = OrderId(f"o-{offset}")
    leg = Leg(
        order_id,
        client_order_id,
        None,
        command.symbol,
        command.side,
        quantity=command.quantity,
        limit_price=command.limit_price,
        stop_price=command.stop_price,
    )
    order = Order(
        order_id,
        command.symbol,
        command.side,
        command.order_type,
        command.time_in_force,
        "strategy" if command.strategy_name else "operator",
        command.at,
        command.at,
        _FROM_COMMAND,
        [leg],
        strategy_name=command.strategy_name,
        extended_hours=command.extended_hours,
    )
    belief.orders[order_id] = order
    belief.by_client[client_order_id] = leg
    belief.legs_by_symbol.setdefault(command.symbol, []).append(leg)
    changes.orders[order_id] = order
    if isinstance(verdict, Denied):
        leg.status = _DENIED
        order.reason = verdict.reason
        belief.index(order)
        belief.count("orders_denied")
        tell(order, changes, "denied", _FROM_COMMAND, None, _asked(verdict.reason, command))
        changes.alert(verdict.code, "warning", verdict.reason, symbol=command.symbol, order_id=order_id)
        return Outcome(changes, order_id, verdict)
    order.in_flight = _SUBMIT_REQUEST
    belief.index(order)
    belief.count("orders_submitted")
    tell(order, changes, "intent", _FROM_COMMAND, None, _asked(f"allowed; client order id {client_order_id}", command))
    changes.effects.append(SendOrder(order_id=order_id, allowed=verdict, halt_generation=belief.gate.halt_generation))
    return Outcome(changes, order_id)


def _refusal(code: str, field: str, reason: str) -> Denied:
    return Denied(code=code, field=field, reason=reason)


def _asked(text: str, command: SubmitOrder | CancelOrder | ReplaceOrder) -> str:
    """A line of an order's story, with whose wish it was where that is known."""
    if not command.asked_by:
        return text
    return f"{text}; asked for by {command.asked_by}" if text else f"asked for by {command.asked_by}"


def _on_cancel(belief: Belief, changes: Changes, command: CancelOrder) -> Outcome:
    order = belief.orders.get(command.order_id)
    if order is None:
        return Outcome(changes, None, _refusal("unknown_order", "order_id", f"there is no order {command.order_id}"))
    if order.is_terminal:
        return Outcome(
            changes,
            order.order_id,
            _refusal("order_is_final", "order_id", f"order {order.order_id} is {order.status} already"),
        )
    _want_cancel(belief, changes, order, _asked(command.reason, command))
    return Outcome(changes, order.order_id)


def _on_replace(belief: Belief, changes: Changes, command: ReplaceOrder) -> Outcome:
    order = belief.orders.get(command.order_id)
    if order is None:
        return Outcome(changes, None, _refusal("unknown_order", "order_id", f"there is no order {command.order_id}"))
    old = order.leg
    denied = _cannot_replace(belief, order, old, command)
    if denied is not None:
        return Outcome(changes, order.order_id, denied)
    assert old.broker_order_id is not None
    change = OrderChange(
        client_order_id=ClientOrderId(f"{belief.name_prefix}{changes.offset}"),
        quantity=command.quantity,
        limit_price=command.limit_price,
        stop_price=command.stop_price,
    )
    leg = Leg(
        order.order_id,
        change.client_order_id,
        None,
        order.symbol,
        order.side,
        quantity=command.quantity or old.quantity,
        limit_price=command.limit_price or old.limit_price,
        stop_price=command.stop_price or old.stop_price,
        replaces=old.broker_order_id,
    )
    order.legs.append(leg)
    belief.by_client[change.client_order_id] = leg
    belief.legs_by_symbol[order.symbol].append(leg)
    order.in_flight = RequestKind.REPLACE
    order.updated_at, order.source = command.at, Source.COMMAND
    changes.orders[order.order_id] = order
    tell(
        order,
        changes,
        "replace_intent",
        Source.COMMAND,
        None,
        _asked(f"client order id {change.client_order_id}", command),
    )
    changes.effects.append(
        SendReplace(
            order_id=order.order_id,
            broker_order_id=old.broker_order_id,
            change=change,
            halt_generation=belief.gate.halt_generation,
        )
    )
    return Outcome(changes, order.order_id)


def _cannot_replace(belief: Belief, order: Order, leg: Leg, command: ReplaceOrder) -> Denied | None:
    if order.is_terminal:
        return _refusal("order_is_final", "order_id", f"order {order.order_id} is {order.status} already")
    if leg.broker_order_id is None or order.in_flight is not None or order.in_doubt is not None:
        return _refusal("order_busy", "order_id", "a request for this order is under way; wait for its outcome")
    if command.quantity is None and command.limit_price is None and command.stop_price is None:
        return _refusal("nothing_to_change", "quantity", "name a new quantity, limit_price or stop_price")
    for name in ("quantity", "limit_price", "stop_price"):
        value = getattr(command, name)
        if value is not None and (not value.is_finite() or value <= 0):
            return _refusal(f"invalid_{name}", name, f"{name} must be greater than 0")
    if command.quantity is not None and command.quantity <= leg.filled:
        return _refusal("invalid_quantity", "quantity", f"{leg.filled} are filled already; ask for more, or cancel")
    if belief.entries_gated:
        shrinks = command.quantity is not None and leg.quantity is not None and command.quantity <= leg.quantity
        if not shrinks or belief.trading_state is not TradingState.REDUCE_ONLY:
            why = "; ".join(belief.gate.reasons())
            return _refusal("entries_gated", "quantity", f"only a smaller quantity may be asked for now: {why}")
    if command.quantity is not None and leg.quantity is not None and command.quantity > leg.quantity:
        return symbol_in_doubt(belief, order.symbol)
    return None


def _on_kill(belief: Belief, changes: Changes, command: Kill) -> None:
    belief.gate.set_kill(
        True, reason=command.reason, operator=command.operator, at=command.at, asked_by=command.asked_by
    )
    changes.views.append((Channel.RISK_KILL_SWITCH, _kill_view(belief, "activate", command)))
    for order in list(belief.open_orders.values()):
        _want_cancel(belief, changes, order, f"kill: {command.reason}")
    changes.effects.append(TakeSnapshot(scope=SnapshotScope.FULL, reason="what a kill left standing"))


def _kill_view(belief: Belief, action: str, command: Kill | Resume) -> KillSwitchView:
    return KillSwitchView(
        action=action,
        reason=command.reason,
        operator=command.operator,
        timestamp=command.at,
        state=belief.trading_state.value,
        open_orders_remaining=len(belief.open_orders),
        asked_by=command.asked_by,
    )
