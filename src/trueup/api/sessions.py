"""Who has logged in, how long that holds, and how often it may be tried.

Not for reading requests (`auth.py`). Invariant: a session is known here by a fingerprint of its cookie alone; it ends
by silence, age or revocation, and all that came by it with it; what was ended once never begins again. Nothing here
grows without bound.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from trueup.api.identity import Identity, Role
from trueup.errors import BadInput, ShelfUnreachable
from trueup.ports import Clock

log = logging.getLogger(__name__)

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

FOLLOW_S = 0.4
"""How often a gateway looks what became of sessions at others, in seconds."""

TELL_USE = timedelta(minutes=1)
"""How far behind the others may be about when a session was last used."""

ENDED_KEPT = 10 * SESSIONS_MAX
"""Ended sessions that are remembered, so that none of them comes back."""

ADDRESSES_MAX = 4096
"""Addresses whose tries are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person: name, role, and the argon2 hash of the password."""

    name: str
    role: Role
    password_hash: str


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login; `id` is safe to show."""

    id: str
    name: str
    role: Role
    since: datetime
    seen_at: datetime
    kept_at: datetime = _LONG_AGO
    """What other gateways know as `seen_at`."""


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


class Shelf(Protocol):
    """What several gateways know of logins in common, by fingerprint; whatever fails raises `ShelfUnreachable`."""

    async def put(self, mark: str, record: bytes) -> None:
        """Lay a record there."""

    async def get(self, mark: str) -> bytes | None:
        """One record; None when it is not there."""

    async def renew(self, mark: str, record: bytes) -> bool:
        """Replace a record; False, and nothing is written, when it is there no more."""

    async def remove(self, mark: str) -> None:
        """Take a record away."""

    async def news(self, version: str) -> tuple[str, Mapping[str, bytes]] | None:
        """All records and their version; None while that still is `version`."""

    async def allow(self, address: str, each: int, together: int) -> bool:
        """Count one more login within a minute; False when it is one too many of an address, or in all."""

    async def close(self) -> None:
        """Let go of connections."""


class Sessions:
    """Every login that this gateway knows; `on_end` is told the id of each that ends before its browser says so.

    `follow` must be kept running: it ends what nobody shows a cookie for any more. With a `shelf`, other gateways
    take the same cookies, and it ends here what was ended elsewhere, within `FOLLOW_S`. Records there are signed with
    `key`, so that whoever can write to the shelf can end sessions and begin none. While the shelf is away, sessions
    that are known here go on and nobody can log in. `roles` are those that people have today: a record that claims
    another one counts for nothing.
    """

    def __init__(
        self,
        clock: Clock,
        secret: Callable[[], str],
        *,
        shelf: Shelf | None = None,
        key: bytes = b"",
        roles: Mapping[str, Role] | None = None,
    ) -> None:
        if shelf is not None and not key:
            raise BadInput("sessions on a shelf must be signed; give a key", field="shelf_key")
        self._clock = clock
        self._secret = secret
        self._shelf = shelf
        self._key = key
        self._roles = roles or {}
        self._open: OrderedDict[str, Session] = OrderedDict()
        # What ended here is not taken from the shelf again, however late its answer comes.
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._untold: dict[str, None] = {}
        self._strangers: OrderedDict[str, None] = OrderedDict()
        self._version = ""
        self.on_end: Callable[[str], None] = _nobody

    async def open(self, identity: Identity) -> str:
        """Begin a session and return what its cookie must hold."""
        cookie, now = self._secret(), self._clock.now()
        if len(cookie) < SECRET_LENGTH_MIN:
            raise BadInput(f"a cookie needs a secret of {SECRET_LENGTH_MIN} characters", field="secret")
        mark = _mark(cookie)
        session = Session(id=mark[:12], name=identity.name, role=identity.role, since=now, seen_at=now)
        if self._shelf is not None:
            await self._shelf.put(mark, self._signed(mark, session))
        self._open[mark] = replace(session, kept_at=now)
        while len(self._open) > SESSIONS_MAX:
            await self._end_everywhere(next(iter(self._open)))
        return cookie

    async def find(self, cookie: str) -> Identity | None:
        """Whose cookie that is; None when it is nobody's, or no more."""
        mark = _mark(cookie)
        session = self._open.get(mark)
        if (session is None or self._is_over(session)) and cookie:
            session = await self._from_shelf(mark)
        if session is None:
            return None
        if self._is_over(session):
            self._end(mark)
            return None
        self._open[mark] = replace(session, seen_at=self._clock.now())
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

    async def revoke(self, session_id: str) -> bool:
        """End a session by its id, at every gateway; False when there is none.

        Raises `ShelfUnreachable` when it has ended here and the others will be told later.
        """
        if not any(session.id == session_id for session in self._open.values()):
            await self._look()
        for mark, session in self._open.items():
            if session.id == session_id:
                await self._end_everywhere(mark)
                return True
        return False

    async def listed(self) -> list[Session]:
        """The open sessions, the most recently used last."""
        await self._look()
        return list(self._open.values())

    async def follow(self) -> NoReturn:
        """End what has had its time or was ended elsewhere, and tell the others what is in use; for ever."""
        while True:
            try:
                await self._tell_ends()
                await self._look()
                await self._tell_use()
            except ShelfUnreachable as away:
                log.warning("sessions are not shared now reason=%s", away)
            for mark, session in tuple(self._open.items()):
                if self._is_over(session):
                    # It may have been used elsewhere meanwhile.
                    known = await self._from_shelf(mark)
                    if known is not None and self._is_over(known):
                        self._end(mark)
            await self._clock.sleep(FOLLOW_S)

    # --- the shelf ---

    async def _look(self) -> None:
        if self._shelf is None:
            return
        # Whatever is known by now lay there before the question is asked.
        known = tuple(self._open)
        news = await self._shelf.news(self._version)
        if news is None:
            return
        self._version, records = news
        for mark in known:
            if mark not in records and mark in self._open:
                self._end(mark)
        for mark, record in records.items():
            if mark in self._open or len(self._open) < SESSIONS_MAX:
                self._take(mark, record)

    async def _from_shelf(self, mark: str) -> Session | None:
        """A session that began or went on at another gateway; what is known here when the shelf is away."""
        if self._shelf is None:
            return self._open.get(mark)
        try:
            record = await self._shelf.get(mark)
        except ShelfUnreachable as away:
            log.warning("a session may be known elsewhere reason=%s", away)
            return self._open.get(mark)
        if record is not None:
            self._take(mark, record)
        elif mark in self._open:
            self._end(mark)
        return self._open.get(mark)

    def _take(self, mark: str, record: bytes) -> None:
        if mark in self._ended:
            return
        told, ours = self._read(mark, record), self._open.get(mark)
        if told is None:
            return
        if self._is_over(told):
            if ours is None:
                self._untold[mark] = None  # nobody may ever show its cookie again
            return
        self._open[mark] = told if ours is None else replace(told, seen_at=max(ours.seen_at, told.seen_at))

    async def _tell_ends(self) -> None:
        if self._shelf is not None:
            for mark in tuple(self._untold):
                await self._shelf.remove(mark)
                self._untold.pop(mark, None)

    async def _tell_use(self) -> None:
        if self._shelf is None:
            return
        for mark, session in tuple(self._open.items()):
            if session.seen_at - session.kept_at < TELL_USE or mark not in self._open:
                continue
            if await self._shelf.renew(mark, self._signed(mark, session)):
                if mark in self._open:
                    self._open[mark] = replace(self._open[mark], kept_at=session.seen_at)
            elif mark in self._open:
                self._end(mark)

    def _signed(self, mark: str, session: Session) -> bytes:
        told = {"id": session.id, "name": session.name, "role": session.role.value}
        body = json.dumps(told | {"since": session.since.isoformat(), "seen_at": session.seen_at.isoformat()}).encode()
        return self._signature(mark, body) + b"\n" + body

    def _signature(self, mark: str, body: bytes) -> bytes:
        return hmac.new(self._key, mark.encode() + b"\n" + body, hashlib.sha256).hexdigest().encode()

    def _read(self, mark: str, record: bytes) -> Session | None:
        signature, _, body = record.partition(b"\n")
        if not hmac.compare_digest(signature, self._signature(mark, body)):
            # Said once: gateways with different keys see it in every record of one another.
            if mark not in self._strangers:
                log.warning("a session on the shelf is signed by nobody we know id=%s", mark[:12])
                self._strangers[mark] = None
                while len(self._strangers) > SESSIONS_MAX:
                    self._strangers.popitem(last=False)
            return None
        told = json.loads(body)
        if self._roles.get(told["name"]) != told["role"]:
            return None
        seen_at = datetime.fromisoformat(told["seen_at"])
        return Session(
            id=told["id"],
            name=told["name"],
            role=Role(told["role"]),
            since=datetime.fromisoformat(told["since"]),
            seen_at=seen_at,
            kept_at=seen_at,
        )

    # --- ends ---

    def _is_over(self, session: Session) -> bool:
        now = self._clock.now()
        return now - session.seen_at > IDLE or now - session.since > AGE_MAX

    async def _end_everywhere(self, mark: str) -> None:
        self._end(mark)
        if self._shelf is not None:
            self._untold[mark] = None
            await self._tell_ends()

    def _end(self, mark: str) -> None:
        session = self._open.pop(mark, None)
        self._ended[mark] = None
        while len(self._ended) > ENDED_KEPT:
            self._untold.pop(self._ended.popitem(last=False)[0], None)
        if session is not None:
            self.on_end(session.id)


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
