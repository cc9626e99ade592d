"""What can be saved of a damaged journal, and a sound journal made of it.

Every row that can be found in any page of the database or of its write-ahead file is tried, and counts when its own
checksum and the codec accept it; an entry is then what it was, wherever it was found. A lost entry leaves a mark at its
place, a frame that could not be read: folding it opens a gap, so that the broker's books are read anew and nothing
later counts as proven before. Offsets stay, and with them every id that was made from them.

A kill must not be forgotten. Where a lost entry may have been one, the repaired journal ends with a kill of its own,
for a person to take back. Not for repairing in silence: `examine` only looks, `rebuild` writes beside the damaged file.
Invariant: an intact entry is kept, to the byte; nothing is invented.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from trueup.core.commands import Kill
from trueup.core.events import ClockTicked, FrameQuarantined
from trueup.core.model import FeedName
from trueup.errors import JournalCorrupt, JournalUnusable
from trueup.journal.codec import CODEC
from trueup.journal.pages import WriteAhead, page_size_of, read_write_ahead, rows_of
from trueup.journal.sqlite import (
    CHECKPOINTS_KEPT,
    FILE_NAME,
    FORMAT,
    REPAIRED,
    SqliteJournal,
    crc_of,
    is_half_repaired,
    take_lease,
)
from trueup.ports import Input, Journal

GARBLED_AHEAD = 1000
"""How far behind the last intact entry a damaged row's own number is still believed."""

_KIND = re.compile(rb'^\["([A-Z][A-Za-z]+)",')


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Entries `first` to `last` are gone; `kind` is what the first of them was, when its head can still be read."""

    first: int
    last: int
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found in a journal: how far it goes, what is lost, and in words what is wrong with the files."""

    path: Path
    epoch: str
    account: str | None
    last_offset: int
    lost: tuple[Lost, ...]
    checkpoints: int
    wrongs: tuple[str, ...]
    torn_pages: int

    @property
    def is_sound(self) -> bool:
        """True when there is nothing to repair."""
        return not self.lost and not self.wrongs

    @property
    def lost_count(self) -> int:
        """Entries that are known to have been there and can't be read."""
        return sum(stretch.last - stretch.first + 1 for stretch in self.lost)

    @property
    def may_have_lost_a_kill(self) -> bool:
        """True when one of the lost entries is not known to have been something else."""
        return any(stretch.kind in ("", "Kill") or stretch.last > stretch.first for stretch in self.lost)


@dataclass(slots=True)
class _Saved:
    epoch: str
    meta: dict[str, str]
    entries: dict[int, tuple[int, bytes]]
    kinds: dict[int, str]
    """What a damaged entry was by its head, "" when that can't be read either."""
    checkpoints: dict[int, tuple[int, bytes]]
    write_ahead: WriteAhead
    wrongs: list[str]


def examine(folder: Path) -> Examination:
    """Look at the journal in `folder` without changing a byte; raises `JournalUnusable` when it is not there or in use.

    Raises `JournalCorrupt` when nothing of it can be read.
    """
    path = folder / FILE_NAME
    with _leased(path):
        if not is_half_repaired(path):
            return _examined(path, _save(path))
        waiting = path.parent / REPAIRED / FILE_NAME
        found = _examined(path, _save(waiting if waiting.exists() else path))
        return replace(found, wrongs=(*found.wrongs, "a repair was broken off at its last step"))


def rebuild(folder: Path, *, at: datetime, prove: Callable[[Journal], object]) -> tuple[Examination, Path]:
    """Put a sound journal in the damaged one's place and keep that one aside; what was found, and where it is kept.

    `at` is the time that is written beside what is lost; `prove` is given the repaired journal before it takes the
    damaged one's place, and may raise. Raises as `examine`, and `JournalUnusable` when there is
    nothing to repair or no room to write.
    """
    path = folder / FILE_NAME
    with _leased(path):
        if is_half_repaired(path):
            aside = _take_place(path)
            return _examined(path, _save(path)), aside
        saved = _save(path)
        found = _examined(path, saved)
        if found.is_sound:
            raise JournalUnusable(f"{path} is sound; there is nothing to repair")
        try:
            _kept_aside(path)
            scratch = folder / "repairing"
            shutil.rmtree(scratch, ignore_errors=True)
            _write(scratch, saved, found, at, prove)
            os.replace(scratch, folder / REPAIRED)
            aside = _take_place(path)
        except OSError as error:
            raise JournalUnusable(f"{folder} can't be written ({error.strerror}); make room and repair again") from None
    return found, aside


def _take_place(path: Path) -> Path:
    """Let the repaired journal take the damaged one's place; begun anew after a crash, it ends the same."""
    folder, repaired = path.parent, path.parent / REPAIRED
    _flush(folder)
    # Never beside the new file: SQLite would play the old one's pages into it.
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    _flush(folder)
    if (repaired / FILE_NAME).exists():
        os.replace(repaired / FILE_NAME, path)
    _flush(folder)
    shutil.rmtree(repaired)
    return max(folder.glob("damaged-*"), key=lambda aside: int(aside.name.removeprefix("damaged-")))


@contextmanager
def _leased(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise JournalUnusable(f"there is no journal at {path}; give the state folder of a trueup that ran")
    lease = take_lease(path)
    try:
        yield
    finally:
        os.close(lease)


# --- reading what can be read ---


def _save(path: Path) -> _Saved:
    write_ahead = read_write_ahead(path.with_name(path.name + "-wal"))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalUnusable(f"{path} can't be read ({error.strerror})") from None
    saved = _Saved("", {}, {}, {}, {}, write_ahead, [])
    size = page_size_of(data)
    base = {place // size + 1: data[place : place + size] for place in range(0, len(data), size)}
    committed = write_ahead.frames[: write_ahead.committed]
    newest = base | {frame.page: frame.content for frame in committed}
    # What was acknowledged comes first; behind the damage of a write-ahead file a page may still be whole.
    for number, page in newest.items():
        _take(saved, page, number, newest)
    for number, page in base.items():
        _take(saved, page, number, base)
    if write_ahead.is_damaged:
        rest = write_ahead.frames[write_ahead.committed :]
        behind = newest | {frame.page: frame.content for frame in rest if frame.page}
        for frame in reversed(rest):
            _take(saved, frame.content, frame.page, behind)
        where = "its head" if not write_ahead.is_readable else f"page {write_ahead.committed + 1}"
        saved.wrongs.append(f"the write-ahead file is damaged at {where}; what follows was acknowledged once")
    saved.epoch = saved.meta.get("epoch", "")
    if not saved.epoch:
        raise JournalCorrupt(
            f"{path}: not even the journal's own name can be read; restore it from a copy, or start with an empty "
            "state folder: the broker's books are read anew then"
        )
    if int(saved.meta.get("format", FORMAT)) > FORMAT:
        raise JournalUnusable(
            f"{path} was written by a newer trueup, {saved.meta.get('written_by')}; run that version or a later one"
        )
    saved.wrongs.extend(_complaints(path))
    return saved


def _take(saved: _Saved, page: bytes, number: int, pages: dict[int, bytes]) -> None:
    for row in rows_of(page, is_first=number == 1, pages=pages):
        match row.values:
            case (None, int() as crc, bytes() as body) if row.rowid is not None and row.rowid > 0:
                _take_entry(saved, row.rowid, crc & 0xFFFFFFFF, body)
            case (str() as name, str() as value) if row.rowid is None:
                saved.meta.setdefault(name, value)


def _take_entry(saved: _Saved, offset: int, crc: int, body: bytes) -> None:
    if crc_of(offset, body) != crc:
        head = _KIND.match(body)
        saved.kinds[offset] = head[1].decode() if head is not None else saved.kinds.get(offset, "")
        return
    # A checkpoint begins with the digest of the code that folded it, never with a list.
    if not body.startswith(b'["'):
        saved.checkpoints.setdefault(offset, (crc, body))
        return
    if offset not in saved.entries:
        CODEC.decode(body, offset=offset)
        saved.entries[offset] = (crc, body)


def _complaints(path: Path) -> Iterator[str]:
    """What SQLite itself has to say about a copy of the files; looking at the files would change them."""
    with tempfile.TemporaryDirectory(prefix="trueup-") as scratch:
        copy = Path(scratch) / path.name
        for ending in ("", "-wal"):
            if path.with_name(path.name + ending).exists():
                shutil.copy(path.with_name(path.name + ending), copy.with_name(copy.name + ending))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            verdict = str(error)
    if verdict != "ok":
        yield f"the database file is damaged: {str(verdict).strip().splitlines()[-1]}"


def _examined(path: Path, saved: _Saved) -> Examination:
    last = max([*saved.entries, *saved.checkpoints], default=0)
    last = max([last, *(offset for offset in saved.kinds if offset <= last + GARBLED_AHEAD)])
    return Examination(
        path=path,
        epoch=saved.epoch,
        account=saved.meta.get("account"),
        last_offset=last,
        lost=tuple(_stretches(saved, last)),
        checkpoints=len(saved.checkpoints),
        wrongs=tuple(saved.wrongs),
        torn_pages=0 if saved.write_ahead.is_damaged else saved.write_ahead.torn,
    )


def _stretches(saved: _Saved, last: int) -> Iterator[Lost]:
    first = 0
    for offset in range(1, last + 2):
        is_lost = offset <= last and offset not in saved.entries
        if is_lost and not first:
            first = offset
        elif first and not is_lost:
            yield Lost(first=first, last=offset - 1, kind=saved.kinds.get(first, ""))
            first = 0


# --- writing what was read ---


def _kept_aside(path: Path) -> None:
    number = 1
    while (aside := path.parent / f"damaged-{number}").exists():
        number += 1
    aside.mkdir()
    for ending in ("", "-wal"):
        part = path.with_name(path.name + ending)
        if part.exists():
            shutil.copy2(part, aside / part.name)
            _flush(aside / part.name)
    _flush(aside)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(folder: Path, saved: _Saved, found: Examination, at: datetime, prove: Callable[[Journal], object]) -> None:
    journal = SqliteJournal(folder, epoch=saved.epoch)
    try:
        if found.account is not None:
            journal.bind_account(found.account)
        journal.adopt(_rows(saved, found, at))
        for offset, (_, state) in sorted(saved.checkpoints.items())[-CHECKPOINTS_KEPT:]:
            journal.save_checkpoint(offset, state)
        prove(journal)
    finally:
        journal.close()
    _flush(folder / FILE_NAME)


def _rows(saved: _Saved, found: Examination, at: datetime) -> Iterator[tuple[int, int, bytes]]:
    lost = {stretch.first: stretch for stretch in found.lost}
    then = at
    if saved.entries:
        earliest = min(saved.entries)
        then = CODEC.decode(saved.entries[earliest][1], offset=earliest).at
    for offset in range(1, found.last_offset + 1):
        kept = saved.entries.get(offset)
        if kept is not None:
            then = CODEC.decode(kept[1], offset=offset).at
            yield (offset, *kept)
        elif offset in lost:
            yield _row(offset, _mark(then, lost[offset]))
        else:
            yield _row(offset, ClockTicked(at=then))
    ending = f"the journal was repaired; entries behind {found.last_offset} may be lost too"
    mark = FrameQuarantined(at=at, feed=FeedName.BROKER_EVENTS, raw="", reason=ending)
    yield _row(found.last_offset + 1, mark)
    if found.may_have_lost_a_kill:
        reason = "the journal was repaired, and a lost entry may have been a kill; look, then resume"
        yield _row(found.last_offset + 2, Kill(at=at, reason=reason, operator="system"))


def _mark(at: datetime, lost: Lost) -> Input:
    which = f"entry {lost.first}" if lost.first == lost.last else f"entries {lost.first} to {lost.last}"
    kind = f", a {lost.kind}" if lost.kind and lost.first == lost.last else ""
    return FrameQuarantined(
        at=at, feed=FeedName.BROKER_EVENTS, raw="", reason=f"the journal lost {which}{kind} to damage"
    )


def _row(offset: int, item: Input) -> tuple[int, int, bytes]:
    body = CODEC.encode(item)
    return offset, crc_of(offset, body), body
