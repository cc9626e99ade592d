"""The order's life.

Theory. One order of ours may be known to the broker under several broker order ids, because every replace brings a new
one. Each such id is a *leg*; a leg is what the broker reports on, and the order is the sum of its legs. The broker's
reports reach us late, twice, in any order, or never; so a leg is not a sequence of transitions to be obeyed but a value
that is *joined* with each report:

- **status** moves by `TRANSITIONS` of time: the report with the broker's later version wins; within one version the
  higher rank wins; a terminal status beats every other and is never left. What we concluded ourselves (`presumed`)
  yields to any report at all.
- **filled quantity** is the broker's cumulative quantity, never a sum of increments. It is a maximum, except that a
  bust, a correction, or a full reconciliation with a later version may lower it; from then on (`floor`) reports older
  than that no longer count.
- **executions** are counted once: by execution id, and where two sources name one match differently, by the stretch of
  cumulative quantity that it covers. What the broker counts as filled and no execution explains yet is the *residual*:
  it has a quantity and a price, moves the position at once, and shrinks as the real executions arrive.

Because each rule is a join, the order of delivery does not matter and repetition changes nothing.

Not for positions, cash, or deciding what to send. Invariant: `executed + residual == filled` for every leg.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trueup.core.model import (
    ZERO,
    BrokerOrderId,
    ClientOrderId,
    ExecType,
    Execution,
    ExecutionId,
    OrderId,
    OrderReport,
    OrderStatus,
    OrderType,
    RequestKind,
    Side,
    Source,
    Symbol,
    TimeInForce,
)

TERMINAL = frozenset(
    {
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.REPLACED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
        OrderStatus.DENIED,
    }
)

RANK: dict[OrderStatus, int] = {
    OrderStatus.PENDING_NEW: 0,
    OrderStatus.NEW: 1,
    OrderStatus.PARTIALLY_FILLED: 2,
    OrderStatus.PENDING_REPLACE: 3,
    OrderStatus.PENDING_CANCEL: 4,
    OrderStatus.DENIED: 5,
    OrderStatus.REJECTED: 6,
    OrderStatus.REPLACED: 7,
    OrderStatus.EXPIRED: 8,
    OrderStatus.CANCELED: 9,
    OrderStatus.FILLED: 10,
}
"""Decides between two reports of one version. FILLED is last: a fill and a cancel in one instant is a fill."""

_S = OrderStatus
_LIVE = (_S.PENDING_NEW, _S.NEW, _S.PARTIALLY_FILLED, _S.PENDING_CANCEL, _S.PENDING_REPLACE)
TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    _S.PENDING_NEW: frozenset({*_LIVE, *TERMINAL} - {_S.PENDING_NEW}),
    _S.NEW: frozenset({*_LIVE, *TERMINAL} - {_S.NEW, _S.DENIED}),
    # a refused cancel or replace returns an order to where it was; a done-for-day order is new again in the morning
    _S.PARTIALLY_FILLED: frozenset({*_LIVE, *TERMINAL} - {_S.PARTIALLY_FILLED, _S.DENIED}),
    _S.PENDING_CANCEL: frozenset({*_LIVE, *TERMINAL} - {_S.PENDING_CANCEL, _S.DENIED}),
    _S.PENDING_REPLACE: frozenset({*_LIVE, *TERMINAL} - {_S.PENDING_REPLACE, _S.DENIED}),
    # between two terminal words of the broker the later version wins; none leads back to life
    _S.FILLED: frozenset({_S.CANCELED, _S.EXPIRED, _S.REPLACED, _S.REJECTED}),
    _S.CANCELED: frozenset({_S.FILLED, _S.EXPIRED, _S.REPLACED, _S.REJECTED}),
    _S.REPLACED: frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED}),
    _S.REJECTED: frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REPLACED}),
    _S.EXPIRED: frozenset({_S.FILLED, _S.CANCELED, _S.REPLACED, _S.REJECTED}),
    _S.DENIED: frozenset(),
}
"""Which status may follow which on the broker's word; a *presumed* one is left by any report (`Leg.presumed`)."""


# Members by a name of their own: reading one through its class costs ten times as much, and this runs for every input.
_DENIED = OrderStatus.DENIED
_EXEC_TRADE_CANCEL = ExecType.TRADE_CANCEL
_EXEC_TRADE_CORRECT = ExecType.TRADE_CORRECT
_FROM_RECONCILE = Source.RECONCILE
_PENDING_CANCEL = OrderStatus.PENDING_CANCEL
_PENDING_NEW = OrderStatus.PENDING_NEW
_PENDING_REPLACE = OrderStatus.PENDING_REPLACE
_REJECTED = OrderStatus.REJECTED
_REPLACED = OrderStatus.REPLACED
_REPLACE_REQUEST = RequestKind.REPLACE


@dataclass(slots=True)
class Held:
    """One execution that we hold, with how it was learned. A busted one stays, and counts nothing."""

    execution: Execution
    source: Source
    learned_at: datetime
    missed: bool = False
    busted: bool = False
    corrected: bool = False


@dataclass(slots=True)
class Leg:
    """One broker order id of an order, or a request that has none yet."""

    order_id: OrderId
    client_order_id: ClientOrderId | None
    broker_order_id: BrokerOrderId | None
    symbol: Symbol
    side: Side
    status: OrderStatus = OrderStatus.PENDING_NEW
    presumed: bool = True
    """True while no report of the broker has spoken for this status."""
    raw_status: str = ""
    version: datetime | None = None
    filled: Decimal = ZERO
    floor: datetime | None = None
    """Version of the newest known decrease; cumulative quantities of older reports no longer count."""
    newest: tuple[datetime, Decimal] | None = None
    """Version and cumulative quantity of the newest report, whether or not its quantity could be believed at once."""
    proved: datetime | None = None
    """Version of the newest report that came from a full reconciliation, which has read it twice."""
    average_price: Decimal | None = None
    average_total: Decimal = ZERO
    """The filled quantity that `average_price` was stated for."""
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    replaces: BrokerOrderId | None = None
    replaced_by: BrokerOrderId | None = None
    filled_at: datetime | None = None
    submitted_at: datetime | None = None
    opening: Decimal = ZERO
    """Shares that were filled before our books began; they are in the opening position already."""
    executed: Decimal = ZERO
    executed_value: Decimal = ZERO
    executions: dict[ExecutionId, Held] = field(default_factory=dict)
    stretches: dict[Decimal, ExecutionId] = field(default_factory=dict)
    """Cumulative quantity after an execution -> that execution; the identity that all sources share."""
    aliases: dict[ExecutionId, ExecutionId] = field(default_factory=dict)
    annulled: dict[ExecutionId, Execution | None] = field(default_factory=dict)
    """Busts (None) and corrections (the new terms) of executions, known before or after the execution itself."""
    unplaced: dict[ExecutionId, Held] = field(default_factory=dict)
    """Executions that would exceed the broker's cumulative quantity; held, shown, not counted."""
    residual_price: Decimal = ZERO
    residual_source: Source = Source.RUNTIME
    residual_at: datetime | None = None
    residual_missed: bool = False
    residual_learned_at: datetime | None = None

    @property
    def residual(self) -> Decimal:
        """Shares that the broker counts as filled and that no execution explains yet; negative after an unseen bust."""
        return self.filled - self.executed

    @property
    def lacks_executions(self) -> bool:
        """True when shares that our books count have no execution; those of before our books need none."""
        residual = self.filled - self.executed
        return residual != ZERO and residual != self.opening

    @property
    def value(self) -> Decimal:
        """Money paid (buy) or received (sell) for the filled quantity."""
        residual = self.filled - self.executed
        return self.executed_value + residual * self.residual_price if residual else self.executed_value


class TimelineEntry(NamedTuple):
    """One line of an order's story, as it was understood when it arrived; a tuple, as each input makes one."""

    offset: int
    event: str
    source: Source
    broker_at: datetime | None
    arrived_at: datetime
    status_after: OrderStatus
    filled_after: Decimal
    text: str
    changed: bool
    fills: tuple[Fill, ...] = ()


@dataclass(slots=True)
class Order:
    """One order of ours for life, through every replace; external ones included."""

    order_id: OrderId
    symbol: Symbol
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    origin: str
    created_at: datetime
    updated_at: datetime
    source: Source
    legs: list[Leg]
    strategy_name: str = ""
    reason: str = ""
    in_flight: RequestKind | None = None
    in_doubt: RequestKind | None = None
    doubt_since: datetime | None = None
    lookups_missed: int = 0
    last_missed_at: datetime | None = None
    cancel_wanted: bool = False
    confirmed_at: datetime | None = None
    parent: BrokerOrderId | None = None
    order_class: str = ""
    extended_hours: bool = False
    absent_since: datetime | None = None
    timeline: list[TimelineEntry] = field(default_factory=list)

    @property
    def leg(self) -> Leg:
        """The leg that speaks for the order: the newest live one, else the last that ended in more than a hand-over."""
        legs = self.legs
        if len(legs) == 1:
            return legs[0]
        for leg in reversed(legs):
            if leg.status not in TERMINAL and not (leg.presumed and leg.replaces is not None):
                return leg
        for leg in reversed(legs):
            if leg.presumed and leg.status not in TERMINAL:
                continue
            if leg.status not in (_REPLACED, _REJECTED, _DENIED):
                return leg
        for leg in reversed(legs):  # a request that came to nothing speaks for nothing
            asked_in_vain = leg.broker_order_id is None and leg.replaces is not None
            handed_over = leg.status is _REPLACED and self._knows(leg.replaced_by)
            if not asked_in_vain and not handed_over:
                return leg
        return legs[-1]

    @property
    def asked(self) -> list[Leg]:
        """The legs of requests that the broker has not spoken of; two when both ends of one chain are to change."""
        return [leg for leg in self.legs if leg.broker_order_id is None and leg.presumed and leg.status not in TERMINAL]

    @property
    def pending(self) -> Leg | None:
        """The newest of them; another client's replace may have put a leg behind it."""
        asked = self.asked
        return asked[-1] if asked else None

    def _knows(self, broker_order_id: BrokerOrderId | None) -> bool:
        return broker_order_id is not None and any(leg.broker_order_id == broker_order_id for leg in self.legs)

    def settle_request(self, kind: RequestKind) -> None:
        """The outcome of a request of this kind is known: it is neither under way nor in doubt any more."""
        if self.in_flight is kind:
            self.in_flight = None
        if self.in_doubt is kind:
            self.in_doubt = self.doubt_since = self.last_missed_at = None
            self.lookups_missed = 0

    @property
    def status(self) -> OrderStatus:
        """How the order stands, our own requests under way included."""
        status = self.leg.status
        if status is _REPLACED:
            return _PENDING_REPLACE  # the successor has not been seen yet
        if status in TERMINAL or status is _PENDING_NEW:
            return status
        if self.cancel_wanted:
            return _PENDING_CANCEL
        if _REPLACE_REQUEST in (self.in_flight, self.in_doubt):
            return _PENDING_REPLACE
        return status

    @property
    def is_terminal(self) -> bool:
        """True when nothing more can fill, as far as the broker has said."""
        leg = self.leg
        return leg.status in TERMINAL and leg.status is not _REPLACED and self.in_doubt is None

    @property
    def filled(self) -> Decimal:
        """Cumulative quantity over all legs."""
        legs = self.legs
        if len(legs) == 1:
            return legs[0].filled
        return sum((leg.filled for leg in legs), ZERO)

    @property
    def leaves(self) -> Decimal | None:
        """Still open to execution; the larger of two live legs counts. None on a notional order, 0 when terminal."""
        if self.is_terminal:
            return ZERO
        leaves = [
            leg.quantity - leg.filled for leg in self.legs if leg.status not in TERMINAL and leg.quantity is not None
        ]
        return max(leaves) if leaves else None

    @property
    def average_price(self) -> Decimal | None:
        """Mean price of all executions and residuals; None before the first."""
        legs = [leg for leg in self.legs if leg.filled]
        if not legs:
            return None
        if len(legs) == 1:
            leg = legs[0]
            if leg.average_price is not None and leg.executed == ZERO:
                return leg.average_price
            return (leg.executed_value + leg.residual * leg.residual_price) / leg.filled
        value = sum((leg.executed_value + leg.residual * leg.residual_price for leg in legs), ZERO)
        return value / sum((leg.filled for leg in legs), ZERO)


class Fill(NamedTuple):
    """What one input added to (or took from) an order: shares and price, as positions must book them.

    `restated` says that prices of shares booked before have changed, so that the position must be folded anew.
    """

    quantity: Decimal
    price: Decimal
    at: datetime
    held: Held | None
    inferred: bool
    kind: str = "fill"
    replaces_inferred: bool = False


class Join:
    """What joining one report changed: `delta` of the filled quantity, `value` of the money paid or received for it."""

    __slots__ = ("delta", "duplicate", "fills", "restated", "status_changed", "surprises", "terms_changed", "value")

    def __init__(self) -> None:
        self.status_changed = False
        self.terms_changed = False
        self.fills: list[Fill] = []
        self.delta = ZERO
        self.value = ZERO
        self.restated = False
        self.surprises: list[str] = []
        self.duplicate = False

    @property
    def changed(self) -> bool:
        """True when belief moved at all."""
        return self.status_changed or self.terms_changed or bool(self.fills) or self.restated


def join_report(
    leg: Leg,
    report: OrderReport,
    execution: Execution | None,
    source: Source,
    at: datetime,
    exec_type: ExecType = ExecType.STATUS,
    refers_to: ExecutionId | None = None,
    missed: bool = False,
) -> Join:
    """Join a leg with one report of the broker and, where it tells of a match, its execution."""
    join = Join()
    version = report.version
    if version is None:
        version = leg.version
    known = leg.version
    newer = known is None or (version is not None and version > known)
    before_filled, before_value = leg.filled, leg.value

    _join_status(leg, report, version, newer, join)
    if newer:
        _take_terms(leg, report, join)
        if version is not None:
            leg.version = version
    elif leg.broker_order_id is None or leg.presumed:
        _take_terms(leg, report, join)
    leg.presumed = False

    if exec_type is _EXEC_TRADE_CANCEL or exec_type is _EXEC_TRADE_CORRECT:
        _annul(leg, refers_to, execution if exec_type is _EXEC_TRADE_CORRECT else None, join)
        if exec_type is _EXEC_TRADE_CORRECT:
            execution = None
        lowered = corrects = True
    else:
        corrects = version is not None and leg.floor == version
        # a full reconciliation has read the order twice; it may lower what nothing newer contradicts
        lowered = source is _FROM_RECONCILE and report.version is not None and (newer or version == known)
    _join_filled(leg, report.filled_quantity, version, newer, lowered, corrects, join)
    if lowered and source is _FROM_RECONCILE:
        leg.proved = version
    if version is not None and exec_type in (_EXEC_TRADE_CANCEL, _EXEC_TRADE_CORRECT):
        leg.floor = version if leg.floor is None else max(leg.floor, version)
    if execution is not None and exec_type is not _EXEC_TRADE_CANCEL:
        hold_execution(leg, execution, source, at, missed, join)
    if leg.unplaced:
        _place(leg, join)
    # the broker's average belongs to its cumulative quantity; an older report must not price a newer residual
    if report.average_price is not None and report.filled_quantity == leg.filled:
        leg.average_price = report.average_price
        leg.average_total = leg.filled
    _settle(leg, before_filled, before_value, source, at, report.filled_at, missed, join)
    return join


def _join_status(leg: Leg, report: OrderReport, version: datetime | None, newer: bool, join: Join) -> None:
    old, new = leg.status, report.status
    if leg.presumed:
        take = True
    elif new is old:
        if newer:
            leg.raw_status = report.raw_status
        return
    elif old in TERMINAL:
        take = new in TERMINAL and (newer or (version == leg.version and RANK[new] > RANK[old]))
    elif new in TERMINAL:
        take = True
    else:
        take = newer or (version == leg.version and RANK[new] > RANK[old])
    if take and (leg.presumed or new in TRANSITIONS[old]):
        join.status_changed = new is not old
        leg.status = new
        leg.raw_status = report.raw_status


def _take_terms(leg: Leg, report: OrderReport, join: Join) -> None:
    if leg.broker_order_id is None:
        leg.broker_order_id = report.broker_order_id
        join.terms_changed = True
    if leg.client_order_id is None:
        leg.client_order_id = report.client_order_id
    # written out: this runs for every report, and a loop over names takes three times as long
    if report.quantity is not None and report.quantity != leg.quantity:
        leg.quantity = report.quantity
        join.terms_changed = True
    if report.limit_price is not None and report.limit_price != leg.limit_price:
        leg.limit_price = report.limit_price
        join.terms_changed = True
    if report.stop_price is not None and report.stop_price != leg.stop_price:
        leg.stop_price = report.stop_price
        join.terms_changed = True
    if report.replaces is not None and report.replaces != leg.replaces:
        leg.replaces = report.replaces
        join.terms_changed = True
    if report.replaced_by is not None and report.replaced_by != leg.replaced_by:
        leg.replaced_by = report.replaced_by
        join.terms_changed = True
    if report.submitted_at is not None and leg.submitted_at is None:
        leg.submitted_at = report.submitted_at
    if report.filled_at is not None:
        leg.filled_at = report.filled_at


def _join_filled(
    leg: Leg, filled: Decimal, version: datetime | None, newer: bool, lowered: bool, corrects: bool, join: Join
) -> None:
    if version is not None and (leg.newest is None or (version, filled) > leg.newest):
        leg.newest = (version, filled)
    if filled > leg.filled and leg.proved is not None and version is not None and version < leg.proved:
        # what was proven later is less: something was taken back in between, and nobody has told us what
        if leg.floor is None or leg.floor <= version:
            leg.floor = leg.proved
            join.surprises.append("filled_quantity_fell")
        return
    if leg.floor is not None and version is not None and version < leg.floor:
        return
    if filled > leg.filled:
        leg.filled = filled
    elif filled < leg.filled:
        if lowered:
            # what the broker has said since the decrease already contains it
            newest = leg.newest
            if corrects and version is not None and newest is not None and newest[0] == version and newest[1] > filled:
                # corrected twice in one instant: the smaller total was told last, and a look must say whether it is
                leg.newest = (version, filled)
                join.surprises.append("filled_quantity_fell")
            leg.filled = filled if leg.newest is None else leg.newest[1]
            leg.floor = version
        elif newer and version is not None:
            join.surprises.append("filled_quantity_fell")


def _annul(leg: Leg, refers_to: ExecutionId | None, correction: Execution | None, join: Join) -> None:
    if refers_to is None:
        join.surprises.append("correction_without_execution")
        return
    for name in (refers_to, leg.aliases.get(refers_to, refers_to)):
        if name in leg.annulled and leg.annulled[name] == correction:
            join.duplicate = True
            return
    refers_to = leg.aliases.get(refers_to, refers_to)
    leg.annulled[refers_to] = correction
    is_held_already = False
    if correction is not None and correction.execution_id != refers_to:
        # a list may have told the new terms, under their own name, before this event did
        is_held_already = correction.execution_id in leg.executions
        if is_held_already:
            leg.aliases[refers_to] = correction.execution_id
        else:
            leg.aliases[correction.execution_id] = refers_to  # lists and later busts name it so
            leg.unplaced.pop(correction.execution_id, None)
    held = leg.executions.get(refers_to)
    if held is None and refers_to in leg.unplaced:
        _annul_unplaced(leg, refers_to, None if is_held_already else correction)
    if held is None or held.busted:
        return
    _uncount(leg, held)
    if correction is None or is_held_already:
        held.busted = True
        join.fills.append(Fill(-held.execution.quantity, held.execution.price, held.execution.at, held, False, "bust"))
    else:
        held.execution = correction
        held.corrected = True
        _count(leg, held)
        join.fills.append(Fill(correction.quantity, correction.price, correction.at, held, False, "correction"))
    join.restated = True


def _annul_unplaced(leg: Leg, name: ExecutionId, correction: Execution | None) -> None:
    """What was never counted must not be counted later under terms that no longer hold."""
    held = leg.unplaced[name]
    if correction is None:
        del leg.unplaced[name]
        held.busted = True
        leg.executions[name] = held
    else:
        held.execution, held.corrected = correction, True


def _count(leg: Leg, held: Held) -> None:
    leg.executed += held.execution.quantity
    leg.executed_value += held.execution.quantity * held.execution.price


def _uncount(leg: Leg, held: Held) -> None:
    leg.executed -= held.execution.quantity
    leg.executed_value -= held.execution.quantity * held.execution.price


def hold_execution(leg: Leg, execution: Execution, source: Source, at: datetime, missed: bool, join: Join) -> None:
    """Count one execution once, whatever its source calls it; what exceeds the broker's own total is only held."""
    name = leg.aliases.get(execution.execution_id, execution.execution_id)
    if name in leg.executions:
        join.duplicate = True
        if contradicts(leg, execution):
            join.surprises.append("execution_conflict")
        return
    cum = execution.cum_quantity
    if cum is not None and not leg.annulled and leg.floor is None:
        twin_id = leg.stretches.get(cum)
        if twin_id is not None:
            twin = leg.executions[twin_id]
            if twin.execution.quantity == execution.quantity and twin.execution.price == execution.price:
                leg.aliases[name] = twin_id
                join.duplicate = True
                return
        if cum > leg.filled and (leg.proved is None or execution.at > leg.proved):
            leg.filled = cum  # the execution is itself the broker's word on the total
    held = Held(execution, source, at, missed)
    if name in leg.annulled:
        correction = leg.annulled[name]
        if correction is None:
            held.busted = True
            leg.executions[name] = held
            return
        held.execution = correction
        held.corrected = True
    if leg.executed + held.execution.quantity > leg.filled:
        if name not in leg.unplaced:
            leg.unplaced[name] = held
            join.surprises.append("execution_beyond_total")
        else:
            join.duplicate = True
        return
    leg.unplaced.pop(name, None)
    _admit(leg, name, held, join)


def contradicts(leg: Leg, execution: Execution) -> bool:
    """True when an execution that we hold under this name has other terms, and no correction explains them."""
    held = leg.executions.get(execution.execution_id)
    if held is None or held.busted or held.corrected:
        return False
    return not _same_terms(held.execution, execution)


def _admit(leg: Leg, name: ExecutionId, held: Held, join: Join) -> None:
    leg.executions[name] = held
    execution = held.execution
    known_at = leg.residual_learned_at
    if known_at is not None:
        if execution.at <= known_at:
            # these shares were known before their execution was: they were learned then, and by that way
            held.source, held.learned_at, held.missed = leg.residual_source, known_at, leg.residual_missed
        if leg.filled - leg.executed == execution.quantity:
            leg.residual_learned_at = None
    if execution.cum_quantity is not None:
        leg.stretches[execution.cum_quantity] = name
    _count(leg, held)
    # as Fill(...) makes it, in a third of the time
    join.fills.append(
        tuple.__new__(Fill, (execution.quantity, execution.price, execution.at, held, False, "fill", False))
    )


def _place(leg: Leg, join: Join) -> None:
    for name in list(leg.unplaced):
        held = leg.unplaced[name]
        if leg.executed + held.execution.quantity <= leg.filled:
            del leg.unplaced[name]
            _admit(leg, name, held, join)


def _settle(
    leg: Leg,
    before_filled: Decimal,
    before_value: Decimal,
    source: Source,
    at: datetime,
    filled_at: datetime | None,
    missed: bool,
    join: Join,
) -> None:
    """Price the residual so that the leg's value is the broker's average times its total, and say what was added."""
    residual = leg.filled - leg.executed
    join.delta = leg.filled - before_filled
    fills = join.fills
    if not residual and len(fills) <= 1 and (fills[0].quantity == join.delta if fills else join.delta >= 0):
        join.value = leg.executed_value - before_value  # the common case: every share has its execution
        if not fills and join.delta:
            join.restated = True
        return
    real = ZERO
    for fill in join.fills:
        if fill.kind == "fill":
            real += fill.quantity
    grown = join.delta - real
    if residual:
        leg.residual_price = _residual_price(leg, residual)
        if grown > 0:
            leg.residual_source, leg.residual_at, leg.residual_missed = source, filled_at or leg.version or at, missed
            leg.residual_learned_at = at
            join.fills.append(Fill(grown, leg.residual_price, leg.residual_at, None, True))
        elif leg.residual_at is None:
            leg.residual_at = leg.version or at
    elif grown > 0:  # shares that an inferred bust had taken are back, and every one has its execution
        join.fills.append(Fill(grown, leg.residual_price, leg.residual_at or at, None, True))
        join.restated = True
    if join.delta < 0:
        join.restated = True
        if not join.fills:  # the broker's total fell, and nobody said which execution is gone
            join.fills.append(Fill(join.delta, leg.residual_price, leg.residual_at or at, None, True, "bust"))
    if real > join.delta and join.fills:
        # shares that were known only as a residual now have their executions: the same shares, better evidence
        covered = real - max(join.delta, ZERO)
        for index, fill in enumerate(join.fills):
            if fill.kind == "fill" and not fill.inferred and covered > 0:
                join.fills[index] = Fill(
                    fill.quantity, fill.price, fill.at, fill.held, False, "fill", replaces_inferred=True
                )
                covered -= fill.quantity
        join.restated = True
    join.value = leg.executed_value + residual * leg.residual_price - before_value
    if residual and join.delta == ZERO and join.value:
        join.restated = True


def _residual_price(leg: Leg, residual: Decimal) -> Decimal:
    average = leg.average_price
    if average is not None and leg.average_total == leg.filled:
        return (average * leg.filled - leg.executed_value) / residual
    if leg.residual_price:
        return leg.residual_price
    if leg.executed:
        return leg.executed_value / leg.executed
    return average or leg.limit_price or leg.stop_price or ZERO


def join_executions(leg: Leg, executions: list[Execution], *, source: Source, at: datetime, missed: bool) -> Join:
    """Join a leg with executions that came without a report, as a list of account activities does."""
    join = Join()
    before_filled, before_value = leg.filled, leg.value
    for execution in executions:
        if source is Source.RECONCILE and contradicts(leg, execution):
            _annul(leg, execution.execution_id, execution, join)  # the broker's record decides between two terms
        else:
            hold_execution(leg, execution, source, at, missed, join)
    _settle(leg, before_filled, before_value, source, at, None, missed, join)
    return join


def differs(leg: Leg, listed: list[Execution]) -> bool:
    """True when what we hold is not just what a complete list names; to know one by another name is no difference."""
    if leg.filled != leg.executed or leg.unplaced:
        return True
    names = []
    for execution in listed:
        name = execution.execution_id
        if leg.aliases:
            name = leg.aliases.get(name, name)
        held = leg.executions.get(name)
        if held is None or held.busted or not _same_terms(held.execution, execution):
            return True
        names.append(name)
    return len(names) > 1 and len(set(names)) < len(names)


def take_list(leg: Leg, listed: list[Execution], *, source: Source, at: datetime, missed: bool) -> Join:
    """Hold just the executions that the broker lists; for a list that makes up the leg's total, so that it is complete.

    One that we hold under the same name, or on the same terms under another one, is that one. What is not listed was
    busted, whether or not anybody told of it.
    """
    join = Join()
    before_filled, before_value = leg.filled, leg.value
    gone = {name: held.execution for name, held in leg.executions.items() if not held.busted}
    unknown: list[Execution] = []
    for execution in listed:
        known = gone.pop(execution.execution_id, None)
        if known is None:
            unknown.append(execution)
        elif not _same_terms(known, execution):
            _annul(leg, execution.execution_id, execution, join)
    new: list[Execution] = []
    for execution in unknown:
        twin = _twin(leg, execution, gone)
        if twin is None:
            new.append(execution)
        else:
            del gone[twin]
            leg.aliases[execution.execution_id] = twin
    for name in gone:
        _annul(leg, name, None, join)
    for execution in new:
        name = execution.execution_id
        leg.aliases.pop(name, None)
        leg.annulled.pop(name, None)
        leg.executions.pop(name, None)
        waited = leg.unplaced.pop(name, None)
        held = Held(execution, source, at, missed)
        if waited is not None:
            held.source, held.learned_at, held.missed = waited.source, waited.learned_at, waited.missed
        _admit(leg, name, held, join)
    for name in list(leg.unplaced):
        _annul_unplaced(leg, name, None)
        leg.annulled[name] = None
    _settle(leg, before_filled, before_value, source, at, None, missed, join)
    return join


def _twin(leg: Leg, execution: Execution, among: dict[ExecutionId, Execution]) -> ExecutionId | None:
    """The one of these that a listed execution is under another name: the one known as such, or one on its terms."""
    alias = leg.aliases.get(execution.execution_id)
    if alias is not None and alias in among and _same_terms(among[alias], execution):
        return alias
    alike = [name for name, known in among.items() if _same_terms(known, execution)]
    exact = [name for name in alike if among[name].cum_quantity == execution.cum_quantity]
    return next(iter(exact or alike), None)


def _same_terms(one: Execution, other: Execution) -> bool:
    return one.quantity == other.quantity and one.price == other.price
