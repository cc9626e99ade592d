"""The mischief the simulator can do to its messages, all drawn from one seed; and the one place that reads the real
clock.

For: deciding, event by event and request by request, whether a message is cut, muted, refused, delayed, doubled,
shuffled, lost, answered wrongly or answered from the past. Not for: doing it; `streams` and `trading_routes` carry
the verdicts out.
Invariant: no fault ever touches the exchange's books, and the same seed with the same sequence of questions gives
the same answers.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase


class WallClock:
    """The real clock: the only way for the simulator's servers to know the time."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        """Nanoseconds on the machine's monotonic clock; comparable between processes of one machine."""
        return time.monotonic_ns()


Random = random.Random
"""Dice with every kind of draw, for those who may hold some and not make them."""


def seeded(seed: int, name: str = "") -> Random:
    """Such dice; the same seed and name give the same draws on every machine."""
    return random.Random(f"{seed}:{name}" if name else seed)


class Dice:
    """A named stream of random draws; the same seed and name give the same draws, whatever the other streams do."""

    def __init__(self, seed: int, name: str) -> None:
        self._random = random.Random(f"{seed}:{name}")

    def draw(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def shuffled(self, count: int) -> list[int]:
        """The numbers 0 to count-1 in an order that is not the sorted one, when there is another."""
        places = list(range(count))
        while count > 1 and places == sorted(places):
            self._random.shuffle(places)
        return places


class Target(StrEnum):
    TRADE_UPDATES = "trade_updates"
    MARKET_DATA = "market_data"
    REST = "rest"


class Kind(StrEnum):
    DROP = "drop"
    MUTE = "mute"
    REFUSE = "refuse"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    LOSE = "lose"
    ERROR = "error"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    LAG = "lag"
    LOST_REPLY = "lost_reply"


_STREAM_KINDS = (Kind.DROP, Kind.MUTE, Kind.REFUSE, Kind.DELAY, Kind.DUPLICATE, Kind.REORDER, Kind.LOSE)
KINDS: Mapping[Target, tuple[Kind, ...]] = {
    Target.TRADE_UPDATES: _STREAM_KINDS,
    Target.MARKET_DATA: _STREAM_KINDS,
    Target.REST: (
        Kind.DROP,
        Kind.REFUSE,
        Kind.DELAY,
        Kind.ERROR,
        Kind.TIMEOUT,
        Kind.RATE_LIMIT,
        Kind.LAG,
        Kind.LOST_REPLY,
    ),
}
EVENT_KEYS = ("event", "symbol", "side", "client_order_id")
REST_KEYS = ("path", "method", "symbol", "side", "client_order_id", "status")
FIELDS = ("target", "kind", "seconds", "count", "match", "by_seconds", "probability")
# How long a message is held, how stale a read is, how long a limited client is told to wait: when not said.
BY_SECONDS = {Kind.DELAY: 1.0, Kind.LAG: 5.0, Kind.RATE_LIMIT: 1.0, Kind.REORDER: 1.0}
REORDER_WINDOW = 3


class FaultInvalid(ValueError):
    """A fault's description is wrong: the field, and what would be right."""

    def __init__(self, field_name: str, right: str) -> None:
        super().__init__(f"{field_name}: {right}")
        self.field_name = field_name
        self.right = right


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault at work: what it hits, until when (seconds or count, or neither: until removed), and its hits."""

    id: str
    target: Target
    kind: Kind
    started_at: datetime
    seconds: float | None
    count: int | None
    by_seconds: float
    probability: float
    match: dict[str, object] = field(default_factory=dict)
    hits: int = 0

    @property
    def ends_at(self) -> datetime | None:
        """When its time runs out; None when only a count ends it."""
        return None if self.seconds is None else self.started_at + timedelta(seconds=self.seconds)

    def is_active(self, at: datetime) -> bool:
        """True until seconds or count, whichever comes first."""
        is_spent = self.count is not None and self.hits >= self.count
        return not is_spent and (self.ends_at is None or at < self.ends_at)

    @property
    def status(self) -> int | str | None:
        """The reply a REST fault should give: an HTTP status, "reset" or "hang"; None for the kind's usual one."""
        status = self.match.get("status")
        return status if isinstance(status, int | str) else None

    def fits(self, facts: Mapping[str, str | None]) -> bool:
        """True when every field of `match` agrees with the facts; a path may end in `*`."""
        for key, wanted in self.match.items():
            if key == "status":
                continue
            have = facts.get(key)
            if have is None:
                return False
            if key == "path":
                if not fnmatchcase(have, str(wanted)):
                    return False
            elif have.lower() != str(wanted).lower():
                return False
        return True


def _number(body: Mapping[str, object], name: str, right: str, *, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise FaultInvalid(name, right)
    return float(value)


def _match_of(body: Mapping[str, object], target: Target, kind: Kind) -> dict[str, object]:
    match = body.get("match")
    match = {} if match is None else match
    keys = REST_KEYS if target is Target.REST else EVENT_KEYS
    if not isinstance(match, dict):
        raise FaultInvalid("match", f"must be an object with any of {', '.join(keys)}")
    match = dict(match)
    for key, value in match.items():
        if key not in keys:
            raise FaultInvalid(f"match.{key}", f"is not known for target {target}; use any of {', '.join(keys)}")
        if key != "status" and not (isinstance(value, str) and value):
            raise FaultInvalid(f"match.{key}", "must be a string that is not empty")
    status = match.get("status")
    if isinstance(status, str) and status.isdecimal():
        # From a command line every value comes as text.
        status = match["status"] = int(status)
    if status is not None:
        words = ("reset", "hang") if kind is Kind.LOST_REPLY else ()
        is_code = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
        if kind not in {Kind.LOST_REPLY, Kind.ERROR} or not (is_code or status in words):
            right = 'an HTTP status from 400 to 599, and for lost_reply also "reset" or "hang"'
            raise FaultInvalid("match.status", f"belongs to kinds error and lost_reply; it must be {right}")
    return match


class FaultBoard:
    """All faults, past and present; every question about a message goes through here and counts as a hit."""

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self.dice = Dice(seed, "faults")
        self._now = now
        self._faults: dict[str, Fault] = {}
        self._count = 0

    def add(self, body: object) -> Fault:
        """Start a fault from its JSON description; FaultInvalid names the field that is wrong."""
        if not isinstance(body, dict):
            raise FaultInvalid("body", f"must be a JSON object with {', '.join(FIELDS)}")
        for name in body:
            if name not in FIELDS:
                raise FaultInvalid(str(name), f"is not known; use any of {', '.join(FIELDS)}")
        if body.get("target") not in list(Target):
            raise FaultInvalid("target", f"must be one of {', '.join(Target)}")
        target = Target(body["target"])
        if body.get("kind") not in list(KINDS[target]):
            raise FaultInvalid("kind", f"must, for target {target}, be one of {', '.join(KINDS[target])}")
        kind = Kind(body["kind"])
        seconds = _number(body, "seconds", "must be a number from 0 to 86400, or null", low=0, high=86400)
        count = body.get("count")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise FaultInvalid("count", "must be a whole number of at least 1, or null")
        by_seconds = _number(body, "by_seconds", "must be a number from 0 to 3600, or null", low=0, high=3600)
        probability = _number(body, "probability", "must be a number from 0 to 1, or null", low=0, high=1)
        match = _match_of(body, target, kind)
        self._count += 1
        fault = Fault(
            id=f"fault-{self._count}",
            target=target,
            kind=kind,
            started_at=self._now(),
            seconds=seconds,
            count=count,
            by_seconds=by_seconds if by_seconds is not None else BY_SECONDS.get(kind, 0.0),
            probability=probability if probability is not None else 1.0,
            match=match,
        )
        self._faults[fault.id] = fault
        return fault

    def all(self) -> list[Fault]:
        """Every fault ever started and not removed, oldest first."""
        return list(self._faults.values())

    def is_active(self, fault: Fault) -> bool:
        """True while the fault still does harm."""
        return fault.id in self._faults and fault.is_active(self._now())

    def remove(self, fault_id: str) -> bool:
        """End a fault at once; False when there is no such fault."""
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> int:
        """End all faults; how many there were."""
        count = len(self._faults)
        self._faults.clear()
        return count

    def strike(self, target: Target, kinds: tuple[Kind, ...], facts: Mapping[str, str | None]) -> Fault | None:
        """The oldest active fault of these kinds that hits this message, counted as a hit; None when none does."""
        for fault in self._faults.values():
            if fault.target is not target or fault.kind not in kinds or not fault.is_active(self._now()):
                continue
            if not fault.fits(facts) or (fault.probability < 1 and self.dice.draw() >= fault.probability):
                continue
            fault.hits += 1
            return fault
        return None
