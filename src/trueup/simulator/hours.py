"""When the simulated exchange trades, and what its clock and calendar say about it.

For: one place that the session, the expiry of day orders, and the clock and calendar endpoints agree with. Not for:
real holidays; with regular hours every Monday to Friday is a trading day.
Invariant: `is_open`, `day_end` and the calendar never contradict one another.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """Trading hours: round the clock with a new day at New York midnight, or 09:30 to 16:00 on weekdays."""

    is_always_open: bool = True

    def trades_on(self, day: date) -> bool:
        """True when there is a session on that New York day."""
        return self.is_always_open or day.weekday() < 5

    def opens(self, day: date) -> datetime:
        """When that day's session begins, New York time."""
        return datetime.combine(day, time(0, 0) if self.is_always_open else time(9, 30), NEW_YORK)

    def closes(self, day: date) -> datetime:
        """When that day's session ends, New York time."""
        if self.is_always_open:
            return datetime.combine(day + DAY, time(0, 0), NEW_YORK)
        return datetime.combine(day, time(16, 0), NEW_YORK)

    def is_open(self, at: datetime) -> bool:
        """True when the exchange trades at that instant."""
        day = at.astimezone(NEW_YORK).date()
        return self.trades_on(day) and self.opens(day) <= at < self.closes(day)

    def next_open(self, at: datetime) -> datetime:
        """The first session start after that instant, New York time."""
        day = at.astimezone(NEW_YORK).date()
        while not (self.trades_on(day) and self.opens(day) > at):
            day += DAY
        return self.opens(day)

    def next_close(self, at: datetime) -> datetime:
        """The first session end after that instant, New York time."""
        day = at.astimezone(NEW_YORK).date()
        while not (self.trades_on(day) and self.closes(day) > at):
            day += DAY
        return self.closes(day)

    def day_end(self, at: datetime) -> datetime:
        """When a day order taken at that instant ends, UTC."""
        return self.next_close(at).astimezone(UTC)
