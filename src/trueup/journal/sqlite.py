"""The journal of one machine: a SQLite file in write-ahead mode, and a lock that dies with its process.

`append` is one transaction and returns when it is on disk. A transaction that a crash cut short was never acknowledged
and is not there after the restart; SQLite's own checksums see to that. Each entry and each checkpoint carries one of
ours besides, so that bytes which decayed later are found and named instead of believed.

Not for several machines, and not for deciding what to do about damage: it is said, and the process ends.
Invariant: offsets are 1, 2, 3 without holes, and an entry that was acknowledged is never changed or removed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from trueup import __version__
from trueup.errors import JournalCorrupt, JournalUnusable, WrongAccount
from trueup.journal.codec import CODEC
from trueup.journal.pages import read_write_ahead
from trueup.ports import Entry, Input

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the tables; entries carry versions of their own."""

FILE_NAME = "journal.sqlite3"
"""What the file is called in its folder."""

REPAIRED = "repaired"
"""Folder in which a repaired journal waits for the moment in which it takes its place."""

READ_BATCH = 2000
"""Entries fetched at a time by a reader; bounds memory, not correctness."""

CHECKPOINTS_KEPT = 2
"""The newest, and the one before it in case the newest decays."""

_APPLICATION_ID = 0x54727570
"""Marks the file as ours, so that another program's database is never written to."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (offset INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE checkpoints (offset INTEGER PRIMARY KEY, crc INTEGER NOT NULL, state BLOB NOT NULL);
"""


def crc_of(offset: int, body: bytes) -> int:
    """The checksum of an entry or a checkpoint at its place."""
    # The place is part of what is checked: an entry that moved is as wrong as one that changed.
    return zlib.crc32(body, zlib.crc32(offset.to_bytes(8, "big")))


def take_lease(path: Path) -> int:
    """Lock the journal at `path` for this process until the descriptor is closed; raises `JournalUnusable`."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnusable(
            f"state folder {folder} can't be written ({error.strerror}); give another, or its rights to you"
        ) from None
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lease, 32, 0).decode("ascii", "replace").strip()
        os.close(lease)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise JournalUnusable(f"state folder {folder} can't be locked ({error.strerror})") from None
        who = f" (process {holder})" if holder else ""
        raise JournalUnusable(
            f"state folder {folder} is in use by another trueup{who}; stop that one, or give another folder"
        ) from None
    os.ftruncate(lease, 0)
    os.pwrite(lease, f"{os.getpid()}\n".encode("ascii"), 0)
    return lease


class SqliteJournal:
    """The journal in the folder `path`, which is made when it is not there, or in the very file that `path` names.

    One process writes, from one thread at a time; reading takes a connection of its own and may go on beside it.
    `durable=False` leaves the flushing to the operating system: for benches and throw-away runs. `read_only=True` looks
    at a journal that may be in use; it takes no lock. Raises `JournalUnusable`, `JournalCorrupt`.
    """

    def __init__(self, path: Path, *, durable: bool = True, read_only: bool = False, epoch: str | None = None) -> None:
        self.path = path if path.name == FILE_NAME else path / FILE_NAME
        self._read_only = read_only
        self._broken: str | None = None
        self._guard = threading.Lock()
        self._lease: int | None = None
        if read_only and not self.path.is_file():
            raise JournalUnusable(f"there is no journal at {self.path}; give the state folder of a trueup that ran")
        if not read_only:
            self._lease = take_lease(self.path)
        try:
            self._connection = self._open(durable)
            try:
                if not read_only:
                    self._create_or_check(epoch)
                self._check_format()
                self.epoch = self._meta("epoch") or ""
                self._last = self._newest_offset()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            self._release_lease()
            raise self._unusable(error) from None
        except BaseException:
            self._release_lease()
            raise

    # --- opening ---

    def _release_lease(self) -> None:
        # The file stays: removing it would let a third process lock a file that nobody can see any more.
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    def _open(self, durable: bool) -> sqlite3.Connection:
        self._look_at_the_tail()
        if self._read_only:
            return self._reader()
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            identity = connection.execute("PRAGMA application_id").fetchone()[0]
            if identity not in (0, _APPLICATION_ID):
                raise JournalUnusable(f"{self.path} is a database of another program; give another state folder")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _look_at_the_tail(self) -> None:
        """Say what SQLite drops in silence; raises `JournalCorrupt` where that was acknowledged once."""
        if is_half_repaired(self.path):
            raise JournalCorrupt(f"{self.path}: a repair was broken off at its last step; {self._cure}")
        log_file = self.path.with_name(self.path.name + "-wal")
        write_ahead = read_write_ahead(log_file)
        # Read while another process writes, a file can look damaged; then it looks otherwise a moment later.
        if write_ahead.is_damaged and not (self._read_only and read_write_ahead(log_file) != write_ahead):
            raise JournalCorrupt(
                f"{self.path}-wal is damaged, and acknowledged entries behind the damage would be lost; {self._cure}"
            )
        if self._read_only:
            return
        if write_ahead.torn:
            log.warning(
                "the last write was cut short path=%s pages=%d: it was never acknowledged and is dropped",
                self.path,
                write_ahead.torn,
            )

    def _reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _create_or_check(self, epoch: str | None) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        with _RolledBackOnError(connection):
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    raise JournalUnusable(f"{self.path} is a database of another program; give another state folder")
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                # The file names itself and notes its birth: both are data from then on and decide nothing.
                connection.execute(
                    "INSERT INTO meta VALUES ('epoch', coalesce(?, lower(hex(randomblob(6))))),"
                    " ('created_at', strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), ('format', ?), ('written_by', ?)",
                    (epoch, str(FORMAT), __version__),
                )
            elif self._format() <= FORMAT:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'written_by'", (__version__,))
            connection.execute("COMMIT")

    def _format(self) -> int:
        found = self._meta("format") or ""
        if not found.isdecimal():
            raise JournalUnusable(f"{self.path} says nothing about its form; it is no journal of ours")
        return int(found)

    def _check_format(self) -> None:
        if (found := self._format()) > FORMAT:
            raise JournalUnusable(
                f"{self.path} was written by trueup {self._meta('written_by')} in form {found}, and this is trueup "
                f"{__version__}, which reads up to {FORMAT}; run that version or a later one, or give another folder"
            )

    def _newest_offset(self) -> int:
        newest: int = self._connection.execute("SELECT coalesce(max(offset), 0) FROM entries").fetchone()[0]
        return newest

    # --- small values ---

    def _meta(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    @property
    def account(self) -> str | None:
        """The broker account that this journal belongs to; None until one was bound."""
        with self._guard:
            return self._meta("account")

    def bind_account(self, account: str) -> None:
        """Tie this journal to one broker account for ever; raises `WrongAccount` for another."""
        bound = self.account
        if bound is None:
            with self._guard:
                try:
                    self._connection.execute("INSERT INTO meta VALUES ('account', ?)", (account,))
                except sqlite3.Error as error:
                    raise self._unusable(error) from None
        elif bound != account:
            raise WrongAccount(
                f"{self.path.parent} belongs to account {bound} and the broker's account is {account}; "
                "use the keys of that account, or give another state folder"
            )

    # --- entries ---

    def append(self, inputs: Sequence[Input]) -> int:
        """Write all or none in one transaction and return the first offset; on disk when this returns."""
        with self._guard:
            self._refuse_if_broken()
            first = self._last + 1
            rows = []
            for offset, item in enumerate(inputs, start=first):
                body = CODEC.encode(item)
                rows.append((offset, crc_of(offset, body), body))
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with _RolledBackOnError(self._connection):
                    self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
                    self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                # After a failed flush nobody knows what the disk holds; only opening anew can tell.
                failure = self._unusable(error)
                self._broken = str(failure)
                raise failure from None
            self._last += len(rows)
            return first

    def adopt(self, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Take over entries with their offsets and checksums, all or none; only for a journal that is still empty."""
        with self._guard:
            self._refuse_if_broken()
            if self._last:
                raise ValueError(f"{self.path} has {self._last} entries already")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with _RolledBackOnError(self._connection):
                    self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
                    self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._unusable(error) from None
            self._last = self._newest_offset()

    def read(self, after: int = 0) -> Iterator[Entry]:
        """All entries behind offset `after`, in order, fetched in batches on a connection of its own."""
        decode = CODEC.decode
        try:
            with closing(self._reader()) as connection:
                expected = after + 1
                while True:
                    rows = connection.execute(
                        "SELECT offset, crc, CAST(body AS BLOB) FROM entries WHERE offset >= ? ORDER BY offset LIMIT ?",
                        (expected, READ_BATCH),
                    ).fetchall()
                    for offset, crc, body in rows:
                        if offset != expected:
                            raise JournalCorrupt(
                                f"{self.path}: entry {expected} is missing, {offset} follows; {self._cure}"
                            )
                        if crc_of(offset, body) != crc:
                            raise JournalCorrupt(f"{self.path}: entry {offset} is damaged; {self._cure}")
                        yield Entry(offset, decode(body, offset=offset))
                        expected += 1
                    if len(rows) < READ_BATCH:
                        return
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def last_offset(self) -> int:
        """Offset of the newest entry, 0 when empty."""
        if not self._read_only:
            return self._last
        with self._guard:
            return self._newest_offset()

    # --- checkpoints ---

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        """Keep a fold of everything up to `offset` and the one before it; ValueError when ahead of the entries."""
        with self._guard:
            self._refuse_if_broken()
            if offset > self._last:
                raise ValueError(f"a checkpoint at {offset} is ahead of the newest entry, {self._last}")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with _RolledBackOnError(self._connection):
                    self._connection.execute(
                        "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (offset, crc_of(offset, state), state)
                    )
                    self._connection.execute(
                        "DELETE FROM checkpoints WHERE offset NOT IN"
                        " (SELECT offset FROM checkpoints ORDER BY offset DESC LIMIT ?)",
                        (CHECKPOINTS_KEPT,),
                    )
                    self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """The newest intact checkpoint that is not ahead of the entries, or None."""
        try:
            with self._guard:
                rows = self._connection.execute(
                    "SELECT offset, crc, CAST(state AS BLOB) FROM checkpoints WHERE offset <= ? ORDER BY offset DESC",
                    (self._newest_offset(),),
                ).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        for offset, crc, state in rows:
            if crc_of(offset, state) == crc:
                return offset, state
        return None

    # --- ending ---

    def close(self) -> None:
        """Fold the write-ahead file back, release the files and the lock; closing twice is harmless."""
        with self._guard:
            self._broken = self._broken or "the journal is closed"
            self._connection.close()
            self._release_lease()

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise JournalUnusable(self._broken)
        if self._read_only:
            raise JournalUnusable(f"{self.path} was opened for reading only")

    def _unusable(self, error: sqlite3.Error) -> JournalUnusable | JournalCorrupt:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_CORRUPT:
            return JournalCorrupt(f"{self.path} is damaged ({error}); {self._cure}")
        meaning = {
            sqlite3.SQLITE_FULL: "the disk is full; make room and start again",
            sqlite3.SQLITE_NOTADB: "it is no journal; give another state folder",
            sqlite3.SQLITE_READONLY: "it can't be written; give another state folder, or its rights to you",
            sqlite3.SQLITE_CANTOPEN: "it can't be opened; give another state folder, or its rights to you",
            sqlite3.SQLITE_PERM: "it can't be opened; give another state folder, or its rights to you",
            sqlite3.SQLITE_BUSY: "another program holds it; stop that one and start again",
            sqlite3.SQLITE_IOERR: "the disk failed; look after it and start again",
        }.get(code, "it can't be used")
        return JournalUnusable(f"{self.path}: {meaning} ({error})")

    @property
    def _cure(self) -> str:
        return cure(self.path)


def is_half_repaired(path: Path) -> bool:
    """True when a repaired journal waits beside the damaged one."""
    return (path.parent / REPAIRED).exists()


def cure(path: Path) -> str:
    """What to do about a damaged journal, for the end of a message."""
    return f"restore it from a copy, or see what can be saved with `trueup journal repair --state {path.parent}`"


class _RolledBackOnError:
    """Leaves no transaction open behind an error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
