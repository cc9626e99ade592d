"""Who has logged in, how long that holds, and how often it may be tried.

Not for reading requests (`auth.py`). Invariant: a session is known here by a fingerprint of its cookie alone; it ends
by silence, age or revocation, and all that came by it with it. Nothing here grows without bound.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from trueup.api.identity import Identity, Role
from trueup.errors import BadInput
from trueup.ports import Clock

IDLE = timedelta(minutes=30)
"""How long a session lasts unused."""

AGE_MAX = timedelta(hours=12)
"""How long it lasts at most."""

SESSIONS_MAX = 1000
"""Sessions kept; the longest unused goes first."""

TRIES_PER_MINUTE = 5
"""Logins that one address may try in a minute, whether they succeed or not."""

TRIES_PER_MINUTE_ALL = 60
"""The same for all addresses together."""

SECRET_LENGTH_MIN = 8
"""Characters below which a cookie could be guessed, or be nobody's at all."""

ADDRESSES_MAX = 4096
"""Addresses whose tries are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person: name, role, and the argon2 hash of the password."""

    name: str
    role: Role
    password_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login; `id` is safe to show."""

    id: str
    name: str
    role: Role
    since: datetime
    seen_at: datetime


class Passwords:
    """Compares a password with its hash; an unknown name takes as long as a wrong password."""

    def __init__(self, users: tuple[User, ...]) -> None:
        self._users = {user.name: user for user in users}
        self._hasher = PasswordHasher()
        self._nobody = User(name="", role=Role.VIEWER, password_hash=self._hasher.hash("nobody")) if users else None

    def check(self, name: str, password: str) -> Identity | None:
        """Who that is, or None. Takes tens of milliseconds on purpose: call it in a thread."""
        user = self._users.get(name, self._nobody)
        if user is None:
            return None
        try:
            self._hasher.verify(user.password_hash, password)
        except (VerificationError, InvalidHashError):
            return None
        return Identity(name=name, role=user.role) if name in self._users else None


class Sessions:
    """Every login of this process; `on_end` is told the id of each that ends before its browser says so."""

    def __init__(self, clock: Clock, secret: Callable[[], str]) -> None:
        self._clock = clock
        self._secret = secret
        self._open: OrderedDict[str, Session] = OrderedDict()
        self.on_end: Callable[[str], None] = _nobody

    def open(self, identity: Identity) -> str:
        """Begin a session and return what its cookie must hold."""
        cookie, now = self._secret(), self._clock.now()
        if len(cookie) < SECRET_LENGTH_MIN:
            raise BadInput(f"a cookie needs a secret of {SECRET_LENGTH_MIN} characters", field="secret")
        mark = _mark(cookie)
        self._open[mark] = Session(id=mark[:12], name=identity.name, role=identity.role, since=now, seen_at=now)
        while len(self._open) > SESSIONS_MAX:
            self._end(next(iter(self._open)))
        return cookie

    def find(self, cookie: str) -> Identity | None:
        """Whose cookie that is; None when it is nobody's, or no more."""
        mark, now = _mark(cookie), self._clock.now()
        session = self._open.get(mark)
        if session is None:
            return None
        if now - session.seen_at > IDLE or now - session.since > AGE_MAX:
            self._end(mark)
            return None
        self._open[mark] = replace(session, seen_at=now)
        self._open.move_to_end(mark)
        return Identity(name=session.name, role=session.role, session=session.id)

    def holds(self, session_id: str) -> bool:
        """True while a session is neither revoked nor too old; a connection that is open keeps it from idling."""
        for mark, session in self._open.items():
            if session.id == session_id:
                now = self._clock.now()
                if now - session.since > AGE_MAX:
                    self._end(mark)
                    return False
                self._open[mark] = replace(session, seen_at=now)
                return True
        return False

    def revoke(self, session_id: str) -> bool:
        """End a session by its id; False when there is none."""
        for mark, session in self._open.items():
            if session.id == session_id:
                self._end(mark)
                return True
        return False

    def listed(self) -> list[Session]:
        """The open sessions, the most recently used last."""
        return list(self._open.values())

    def _end(self, mark: str) -> None:
        self.on_end(self._open.pop(mark).id)


class Tries:
    """Counts what was tried within the last minute, by address and in all."""

    def __init__(self, clock: Clock, *, each: int = TRIES_PER_MINUTE, together: int = TRIES_PER_MINUTE_ALL) -> None:
        self._clock = clock
        self._each = each
        self._together = together
        self._all: deque[float] = deque()
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Count one more; False when it is one too many, which then is not counted."""
        now = self._clock.monotonic()
        own = self._by_address.setdefault(address, deque())
        self._by_address.move_to_end(address)
        while len(self._by_address) > ADDRESSES_MAX:
            self._by_address.popitem(last=False)
        for tries in (own, self._all):
            while tries and now - tries[0] >= 60:
                tries.popleft()
        if len(own) >= self._each or len(self._all) >= self._together:
            return False
        own.append(now)
        self._all.append(now)
        return True


def _mark(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()


def _nobody(session_id: str) -> None:
    """Who is told until somebody wants to know."""
