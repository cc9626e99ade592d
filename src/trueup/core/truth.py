"""Gaps and truth lag: how sure we are.

A **gap** is a stretch in which broker events may have been missed. It opens when the broker-event feed is lost,
when the stream is found mute, or when a process starts; only a clean reconciliation closes it. **Truth lag** is now
minus the latest instant at which belief is known to have equalled the broker's books: a clean snapshot proves its own
start, an event on an unbroken live feed proves its arrival, and while a gap is open nothing later than its beginning
is proven.

Not for finding drift. Invariant: `proved_at` never lies inside an open gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from trueup.core.model import FeedName, FeedStatus, Source


@dataclass(slots=True)
class FeedState:
    """One stream as the core knows it."""

    status: FeedStatus = FeedStatus.DOWN
    since: datetime | None = None
    reason: str = "not connected yet"
    reconnect_count: int = 0
    last_reconnect_at: datetime | None = None
    last_event_at: datetime | None = None
    ever_up: bool = False
    symbol_count: int = 0
    acknowledged_at: datetime | None = None


@dataclass(slots=True)
class Gap:
    """A stretch of doubt, and what was found to have been missed in it."""

    gap_id: str
    feed: FeedName
    reason: str
    opened_at: datetime
    closed_at: datetime | None = None
    missed: int = 0
    learned_by: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Truth:
    """How sure belief is of itself."""

    feeds: dict[FeedName, FeedState] = field(
        default_factory=lambda: {FeedName.BROKER_EVENTS: FeedState(), FeedName.MARKET_DATA: FeedState()}
    )
    gaps: list[Gap] = field(default_factory=list)
    proved_at: datetime | None = None
    last_reconciliation_at: datetime | None = None
    last_result: str = "never"
    clean_started_at: datetime | None = None
    """Start of the newest full snapshot that left nothing unsettled."""

    @property
    def open_gap(self) -> Gap | None:
        """The gap that is open, if any; there is at most one."""
        if self.gaps and self.gaps[-1].closed_at is None:
            return self.gaps[-1]
        return None

    def was_reconciled_at(self, at: str) -> bool:
        """True while the full reconciliation of that instant (ISO 8601) is the newest one."""
        return self.last_reconciliation_at is not None and self.last_reconciliation_at.isoformat() == at

    def open(self, gap_id: str, reason: str, at: datetime) -> Gap | None:
        """Open a gap, unless one is open already; returns the new one."""
        if self.open_gap is not None:
            return None
        gap = Gap(gap_id, FeedName.BROKER_EVENTS, reason, at)
        self.gaps.append(gap)
        if self.proved_at is not None and self.proved_at > at:
            self.proved_at = at
        if len(self.gaps) > GAPS_KEPT:
            del self.gaps[0]
        return gap

    def close(self, at: datetime) -> Gap | None:
        """Close the open gap; returns it."""
        gap = self.open_gap
        if gap is not None:
            gap.closed_at = at
        return gap

    def note_missed(self, source: Source) -> None:
        """Count a fill that was learned by another way than the stream, in the gap that is open."""
        gap = self.open_gap
        if gap is not None:
            gap.missed += 1
            gap.learned_by[source.value] = gap.learned_by.get(source.value, 0) + 1

    def prove(self, at: datetime) -> None:
        """Belief equalled the broker's books at `at`."""
        gap = self.open_gap
        if gap is not None and at > gap.opened_at:
            return
        if self.proved_at is None or at > self.proved_at:
            self.proved_at = at

    def lag_s(self, now: datetime) -> Decimal | None:
        """Truth lag in seconds to the millisecond; None before the first proof."""
        if self.proved_at is None:
            return None
        microseconds = max(0, (now - self.proved_at) // _MICROSECOND)
        return Decimal(microseconds // 1000).scaleb(-3)


GAPS_KEPT = 500
"""Closed gaps that stay in belief for people to see; the journal keeps all."""

_MICROSECOND = datetime.resolution
