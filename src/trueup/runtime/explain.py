"""Questions after the fact, answered by folding the journal again: one order's whole story, and every drift there was.

Belief leaves old stories to the journal and cuts long ones short; here nothing is left out, since each line is taken
as the fold makes it. Asked about a moment, the answer holds what was believed then, and what the broker knew already
and we learned only later. Not for a running house's own process: a fold is long work, and holds up everything beside
it. Invariant: nothing is written, no effect is performed, and what is told is what `step` made of the same entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from trueup.core.belief import Belief, new_belief
from trueup.core.commands import Kill, Reconcile, Resume
from trueup.core.effects import Effect, FindOrder, RecycleFeed, SendCancel, SendOrder, SendReplace, TakeSnapshot
from trueup.core.events import FeedLost, FeedRestored, SnapshotFailed, SnapshotTaken
from trueup.core.model import ZERO, FeedName, FeedStatus, SnapshotScope, Source, TradingState
from trueup.core.orders import Order, TimelineEntry
from trueup.core.projection import order_story_view, order_view, timeline_view
from trueup.core.step import step
from trueup.core.transition import Outcome, gap_view
from trueup.core.views import (
    BandView,
    BelievedView,
    DeedView,
    DivergencesView,
    DivergenceView,
    DriftView,
    ExplanationView,
    GapView,
    MomentView,
)
from trueup.ports import Entry, Journal
from trueup.runtime.fold import ACCOUNT, PROGRESS_EVERY

BELIEFS_TOLD = 2_000
"""Changes of belief that one story tells; a market maker's symbol may change more often in an order's life."""

MEANWHILE_TOLD = 500
"""Deeds about the account that one story tells, the first ones."""

DRIFTS_TOLD = 10_000
"""Drifts that one answer tells, the newest."""

Progress = Callable[[int], None]


def explain(
    journal: Journal, any_id: str, *, at: datetime | None = None, progress: Progress | None = None
) -> ExplanationView | None:
    """One order by our id, a client order id or a broker order id; None when the journal never knew it."""
    story = _follow(journal, _Story(any_id, at), progress)
    if story.order is not None and story.was_found_late:
        # Named by an id that came later than the order itself: its beginning is told by our own.
        story = _follow(journal, _Story(story.order.order_id, at), progress)
    return story.told()


def _follow(journal: Journal, story: _Story, progress: Progress | None) -> _Story:
    for belief, entry, outcome in _folded(journal, progress, story.before):
        story.after(belief, entry, outcome)
    return story


def divergences(journal: Journal, *, progress: Progress | None = None) -> DivergencesView:
    """Every drift that was ever suspected, with its cause and its end, and every gap."""
    drifts: dict[str, list[DriftView]] = {}
    gaps: dict[str, GapView] = {}
    offset, at, left_out = 0, None, 0
    for belief, entry, outcome in _folded(journal, progress):
        offset, at = entry.offset, entry.input.at
        _note_gaps(gaps, belief, outcome)
        for _, view in outcome.changes.views:
            if isinstance(view, DriftView):
                drifts.setdefault(view.id, []).append(view)
        while len(drifts) > DRIFTS_TOLD:
            del drifts[next(iter(drifts))]
            left_out += 1
    return DivergencesView(
        drifts=tuple(_divergence(history) for history in drifts.values()),
        gaps=tuple(gaps.values()),
        folded_to=offset,
        folded_at=at,
        left_out=left_out,
    )


def _divergence(history: list[DriftView]) -> DivergenceView:
    first, last = history[0], history[-1]
    return DivergenceView(
        id=last.id,
        kind=last.kind,
        subject=last.subject,
        state=last.state,
        believed=first.believed,
        reported=first.reported,
        first_seen_at=first.first_seen_at,
        ended_at=None if last.state == "suspected" else last.at,
        trued_up=last.trued_up,
        cause=first.evidence,
        history=tuple(history),
        ended_by=_ended_by(history),
    )


def _ended_by(history: list[DriftView]) -> str:
    last = history[-1]
    if last.state == "suspected":
        return ""
    if last.trued_up:
        return f"trued up to the broker's books: {last.evidence}"
    return last.evidence if len(history) > 1 else "what the broker told was taken over as it came"


def _folded(
    journal: Journal, progress: Progress | None, before: Callable[[Belief, Entry], None] | None = None
) -> Iterator[tuple[Belief, Entry, Outcome]]:
    belief = new_belief(account=ACCOUNT, epoch=journal.epoch)
    for entry in journal.read(0):
        if before is not None:
            before(belief, entry)
        yield belief, entry, step(belief, entry.input, entry.offset)
        if progress is not None and entry.offset % PROGRESS_EVERY == 0:
            progress(entry.offset)


def _note_gaps(gaps: dict[str, GapView], belief: Belief, outcome: Outcome) -> None:
    for _, view in outcome.changes.views:
        if isinstance(view, GapView):
            gaps[view.id] = view
    if (gap := belief.truth.open_gap) is not None:
        gaps[gap.gap_id] = gap_view(gap)


@dataclass(slots=True)
class _Bands:
    """Who demanded a trading state, from when to when."""

    on: dict[tuple[str, str], BandView] = field(default_factory=dict)
    over: list[BandView] = field(default_factory=list)

    def note(self, belief: Belief, at: datetime) -> None:
        """An entry was folded: open what has begun, close what has ended."""
        gate = belief.gate
        if not self.on and not gate.demands and not gate.kill.killed:
            return
        now = {(name, state.value): reason for name, (state, reason) in gate.demands.items()}
        if gate.kill.killed:
            now["kill", TradingState.KILLED.value] = gate.kill.reason
        for key in [key for key in self.on if key not in now]:
            self.over.append(replace(self.on.pop(key), closed_at=at))
        for (name, demand), reason in now.items():
            if (name, demand) not in self.on:
                kind = "kill" if demand == TradingState.KILLED.value else "breaker"
                self.on[name, demand] = BandView(
                    kind=kind, name=name, demand=demand, reason=reason, opened_at=at, closed_at=None
                )

    def between(self, first: datetime, last: datetime | None) -> tuple[BandView, ...]:
        """Those that touch a stretch of time, oldest first."""
        touching = [
            band
            for band in (*self.over, *self.on.values())
            if (band.closed_at is None or band.closed_at >= first) and (last is None or band.opened_at <= last)
        ]
        return tuple(sorted(touching, key=lambda band: band.opened_at))


@dataclass(slots=True)
class _Beliefs:
    """What was believed, change by change. What came after the order's last line so far is held back in `tail`."""

    told: list[BelievedView] = field(default_factory=list)
    tail: list[BelievedView] = field(default_factory=list)
    end_at: datetime | None = None

    def note(self, order: Order, belief: Belief, entry: Entry, *, has_line: bool) -> None:
        """An entry was folded: keep what is believed now, if it differs."""
        last = self.tail[-1] if self.tail else self.told[-1] if self.told else None
        view = _believed(order, belief, entry)
        differs = last is None or replace(view, at=last.at, offset=last.offset) != last
        if differs and self.end_at is None:
            if len(self.told) + len(self.tail) >= BELIEFS_TOLD:
                self.end_at = view.at
            else:
                self.tail.append(view)
        if has_line or not order.is_terminal:
            self.told += self.tail
            self.tail.clear()


@dataclass(slots=True)
class _Story:
    any_id: str
    at: datetime | None
    order: Order | None = None
    """Held on to from when it is first seen, so that its story goes on when belief has retired it."""
    found_at: int = 0
    first_at: int = 0
    lines: list[TimelineEntry] = field(default_factory=list)
    deeds: list[DeedView] = field(default_factory=list)
    meanwhile: list[DeedView] = field(default_factory=list)
    gaps: dict[str, GapView] = field(default_factory=dict)
    bands: _Bands = field(default_factory=_Bands)
    beliefs: _Beliefs = field(default_factory=_Beliefs)
    moment: MomentView | None = None
    offset: int = 0
    folded_at: datetime | None = None
    belief: Belief | None = None

    @property
    def was_found_late(self) -> bool:
        return self.found_at > self.first_at

    def before(self, belief: Belief, entry: Entry) -> None:
        """An entry is about to be folded: take the moment that was asked about, if it ends here."""
        if self.at is not None and self.moment is None and entry.input.at > self.at:
            self.moment = _moment(belief, self.order, self.at)

    def after(self, belief: Belief, entry: Entry, outcome: Outcome) -> None:
        """An entry was folded."""
        at = entry.input.at
        self.offset, self.folded_at, self.belief = entry.offset, at, belief
        _note_gaps(self.gaps, belief, outcome)
        self.bands.note(belief, at)
        if self.order is None:
            self._look_for(outcome, entry.offset)
        if self.order is None:
            return
        new = [line for line in self.order.timeline if line.offset == entry.offset]
        self.lines.extend(new)
        self.beliefs.note(self.order, belief, entry, has_line=bool(new))
        for effect in outcome.effects:
            what = _deed(effect, self.order)
            if what:
                self.deeds.append(DeedView(offset=entry.offset, at=at, what=what))
        if outcome.denied is not None and outcome.order_id == self.order.order_id and not new:
            what = f"refused a {type(entry.input).__name__}: {outcome.denied.reason}"
            self.deeds.append(DeedView(offset=entry.offset, at=at, what=what))
        if new or not self.order.is_terminal:
            self._note_meanwhile(belief, entry, outcome)

    def _note_meanwhile(self, belief: Belief, entry: Entry, outcome: Outcome) -> None:
        for what in (*_heard(belief, entry), *(_account_deed(effect) for effect in outcome.effects)):
            last = self.meanwhile[-1] if self.meanwhile else None
            if last is not None and last.what == what:
                self.meanwhile[-1] = replace(last, times=last.times + 1)
            elif what and len(self.meanwhile) < MEANWHILE_TOLD:
                self.meanwhile.append(DeedView(offset=entry.offset, at=entry.input.at, what=what))

    def _look_for(self, outcome: Outcome, offset: int) -> None:
        for order in outcome.changes.orders.values():
            names: list[str | None] = [order.order_id]
            for leg in order.legs:
                names += [leg.client_order_id, leg.broker_order_id]
            if self.any_id in names:
                self.order, self.found_at = order, offset
                self.first_at = order.timeline[0].offset if order.timeline else offset
                return

    def told(self) -> ExplanationView | None:
        """The whole story; None when there is none."""
        if self.order is None:
            return None
        moment = self.moment
        if moment is None and self.at is not None and self.belief is not None:
            moment = _moment(self.belief, self.order, self.at)
        detail = order_story_view(self.order, self.lines, self.gaps.values())
        if moment is not None:
            ahead = [
                line
                for line in timeline_view(self.lines)
                if line.changed and line.broker_at is not None and line.broker_at <= moment.at < line.arrived_at
            ]
            moment = replace(moment, ahead=tuple(ahead))
        return ExplanationView(
            detail=detail,
            deeds=tuple(self.deeds),
            moment=moment,
            folded_to=self.offset,
            folded_at=self.folded_at,
            meanwhile=tuple(self.meanwhile),
            bands=self.bands.between(self.order.created_at, self.order.updated_at if self.order.is_terminal else None),
            beliefs=tuple(self.beliefs.told),
            beliefs_end_at=self.beliefs.end_at if not self.order.is_terminal or not self.beliefs.tail else None,
        )


def _moment(belief: Belief, order: Order | None, at: datetime) -> MomentView:
    gap = belief.truth.open_gap
    book = belief.books.get(order.symbol) if order is not None else None
    return MomentView(
        at=at,
        offset=belief.offset,
        order=order_view(order) if order is not None else None,
        trading_state=belief.trading_state.value,
        broker_events=belief.feeds[FeedName.BROKER_EVENTS].status.value,
        truth_lag_s=belief.truth_lag_s(at),
        gap=gap_view(gap) if gap is not None else None,
        position=None if order is None else book.quantity if book is not None else ZERO,
    )


def _believed(order: Order, belief: Belief, entry: Entry) -> BelievedView:
    truth = belief.truth
    gap = truth.open_gap
    book = belief.books.get(order.symbol)
    return BelievedView(
        at=entry.input.at,
        offset=entry.offset,
        detail=order.status.value,
        filled_quantity=order.filled,
        in_doubt=order.in_doubt.value if order.in_doubt is not None else "",
        source=order.source.value,
        position=book.quantity if book is not None else ZERO,
        trading_state=belief.trading_state.value,
        broker_events=truth.feeds[FeedName.BROKER_EVENTS].status.value,
        gap=gap.gap_id if gap is not None else "",
        # outside a gap it moves with every word of the stream, and would make a change of each
        proved_at=truth.proved_at if gap is not None else None,
    )


def _deed(effect: Effect, order: Order) -> str:
    """What an effect does for an order, in one line; "" when it is about something else."""
    match effect:
        case SendOrder(order_id=order.order_id):
            return f"sent the order as {effect.allowed.order.client_order_id}"
        case SendReplace(order_id=order.order_id):
            return f"asked for new terms as {effect.change.client_order_id}"
        case SendCancel(order_id=order.order_id):
            return f"asked for a cancel of {effect.broker_order_id}"
        case FindOrder():
            for leg in order.legs:
                if effect.broker_order_id is not None and effect.broker_order_id == leg.broker_order_id:
                    return f"looked up {effect.broker_order_id}"
                if effect.client_order_id is not None and effect.client_order_id == leg.client_order_id:
                    return f"looked up {effect.client_order_id}"
    return ""


def _account_deed(effect: Effect) -> str:
    """What an effect does about the whole account, in one line; "" when it is about an order."""
    match effect:
        case TakeSnapshot():
            return f"asked for {_SCOPES[effect.scope]}: {effect.reason}"
        case RecycleFeed():
            return f"closed the stream of {effect.feed.value.replace('_', ' ')} to open it anew: {effect.reason}"
    return ""


_SCOPES = {
    SnapshotScope.FULL: "the broker's whole books",
    SnapshotScope.ORDERS: "the broker's orders",
    SnapshotScope.POSITIONS: "the broker's positions",
}


def _heard(belief: Belief, entry: Entry) -> Iterator[str]:
    """What people commanded, and what our questions brought while nobody could be sure, in one line each."""
    match entry.input:
        case Kill() as command:
            yield f"kill switch engaged by {command.asked_by or command.operator}: {command.reason}"
        case Resume() as command:
            yield f"kill switch taken back by {command.asked_by or command.operator}: {command.reason}"
        case Reconcile() as command:
            yield f"reconciliation wanted{f' by {command.asked_by}' if command.asked_by else ''}: {command.reason}"
        case FeedLost(feed=FeedName.BROKER_EVENTS) as event:
            yield f"stream of broker events lost: {event.reason}"
        case FeedRestored(feed=FeedName.BROKER_EVENTS):
            yield "stream of broker events back"
        case SnapshotFailed() as event:
            yield f"a question to the broker failed: {event.reason}"
        case SnapshotTaken() as event:
            unsure = belief.feeds[FeedName.BROKER_EVENTS].status is not FeedStatus.UP
            if event.source is Source.RECONCILE and (unsure or belief.truth.last_result != "clean"):
                yield f"compared with the broker's books: {belief.truth.last_result}"
            elif unsure:
                yield f"got {_SCOPES[event.snapshot.scope]} by {event.source.value}"
