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
from decimal import Decimal

from trueup.core.belief import Belief, new_belief
from trueup.core.effects import Effect, FindOrder, SendCancel, SendOrder, SendReplace
from trueup.core.model import FeedName
from trueup.core.orders import Order, TimelineEntry
from trueup.core.projection import order_story_view, order_view, timeline_entry_view
from trueup.core.step import step
from trueup.core.transition import Outcome, gap_view
from trueup.core.views import DriftView, GapView, OrderDetailView, OrderView, TimelineEntryView
from trueup.ports import Entry, Journal
from trueup.runtime.fold import ACCOUNT, PROGRESS_EVERY

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What we set about for an order, at which entry and when; `what` is a line for people."""

    offset: int
    at: datetime
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was believed at one time. `order` is None when nothing was known of it yet.

    `ahead` are the lines whose facts the broker had by then and that reached us later; `truth_lag_s` seconds.
    """

    at: datetime
    offset: int
    order: OrderView | None
    trading_state: str
    broker_events: str
    truth_lag_s: Decimal | None
    gap: GapView | None
    ahead: tuple[TimelineEntryView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One order's story up to offset `folded_to`, what we did about it, and the moment that was asked about."""

    detail: OrderDetailView
    deeds: tuple[Deed, ...]
    moment: Moment | None
    folded_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """One drift from its first suspicion to its end, in every form that it took."""

    id: str
    kind: str
    subject: str
    state: str
    believed: str
    reported: str
    first_seen_at: datetime
    ended_at: datetime | None
    trued_up: bool
    cause: str
    history: tuple[DriftView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    """Every drift and every gap in a journal, oldest first."""

    drifts: tuple[Divergence, ...]
    gaps: tuple[GapView, ...]
    folded_to: int


def explain(
    journal: Journal, any_id: str, *, at: datetime | None = None, progress: Progress | None = None
) -> Explanation | None:
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


def divergences(journal: Journal, *, progress: Progress | None = None) -> Divergences:
    """Every drift that was ever suspected, with its cause and its end, and every gap."""
    drifts: dict[str, list[DriftView]] = {}
    gaps: dict[str, GapView] = {}
    offset = 0
    for belief, entry, outcome in _folded(journal, progress):
        offset = entry.offset
        _note_gaps(gaps, belief, outcome)
        for _, view in outcome.changes.views:
            if isinstance(view, DriftView):
                drifts.setdefault(view.id, []).append(view)
    return Divergences(
        drifts=tuple(_divergence(history) for history in drifts.values()), gaps=tuple(gaps.values()), folded_to=offset
    )


def _divergence(history: list[DriftView]) -> Divergence:
    first, last = history[0], history[-1]
    return Divergence(
        id=last.id,
        kind=last.kind,
        subject=last.subject,
        state=last.state,
        believed=first.believed,
        reported=first.reported,
        first_seen_at=first.first_seen_at,
        ended_at=None if last.state == "suspected" else last.at,
        trued_up=last.trued_up,
        cause=last.evidence,
        history=tuple(history),
    )


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
class _Story:
    any_id: str
    at: datetime | None
    order: Order | None = None
    """Held on to from when it is first seen, so that its story goes on when belief has retired it."""
    found_at: int = 0
    first_at: int = 0
    lines: list[TimelineEntry] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    gaps: dict[str, GapView] = field(default_factory=dict)
    moment: Moment | None = None
    offset: int = 0
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
        self.offset, self.belief = entry.offset, belief
        _note_gaps(self.gaps, belief, outcome)
        if self.order is None:
            self._look_for(outcome, entry.offset)
        if self.order is None:
            return
        new = [line for line in self.order.timeline if line.offset == entry.offset]
        self.lines.extend(new)
        for effect in outcome.effects:
            what = _deed(effect, self.order)
            if what:
                self.deeds.append(Deed(offset=entry.offset, at=entry.input.at, what=what))
        if outcome.denied is not None and outcome.order_id == self.order.order_id and not new:
            what = f"refused a {type(entry.input).__name__}: {outcome.denied.reason}"
            self.deeds.append(Deed(offset=entry.offset, at=entry.input.at, what=what))

    def _look_for(self, outcome: Outcome, offset: int) -> None:
        for order in outcome.changes.orders.values():
            names: list[str | None] = [order.order_id]
            for leg in order.legs:
                names += [leg.client_order_id, leg.broker_order_id]
            if self.any_id in names:
                self.order, self.found_at = order, offset
                self.first_at = order.timeline[0].offset if order.timeline else offset
                return

    def told(self) -> Explanation | None:
        """The whole story; None when there is none."""
        if self.order is None:
            return None
        moment = self.moment
        if moment is None and self.at is not None and self.belief is not None:
            moment = _moment(self.belief, self.order, self.at)
        if moment is not None:
            ahead = [
                timeline_entry_view(line)
                for line in self.lines
                if line.broker_at is not None and line.broker_at <= moment.at < line.arrived_at
            ]
            moment = replace(moment, ahead=tuple(ahead))
        return Explanation(
            detail=order_story_view(self.order, self.lines, self.gaps.values()),
            deeds=tuple(self.deeds),
            moment=moment,
            folded_to=self.offset,
        )


def _moment(belief: Belief, order: Order | None, at: datetime) -> Moment:
    gap = belief.truth.open_gap
    return Moment(
        at=at,
        offset=belief.offset,
        order=order_view(order) if order is not None else None,
        trading_state=belief.trading_state.value,
        broker_events=belief.feeds[FeedName.BROKER_EVENTS].status.value,
        truth_lag_s=belief.truth_lag_s(at),
        gap=gap_view(gap) if gap is not None else None,
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
