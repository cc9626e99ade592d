"""A journal's files read without SQLite: the write-ahead file's transactions, and rows out of single pages.

SQLite says of a damaged file that it is damaged, and of a damaged write-ahead file nothing: it takes what stands before
the damage for all there is. Here the two are told apart: a last transaction that a crash cut short was never
acknowledged and may go; one that others follow was, and its loss must be said. Not for judging what a row holds.
Invariant: nothing here writes, and no bytes, however wrong, make it fail.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

WAL_HEADER = 32
FRAME_HEADER = 24
PAGE_HEADER = 100
"""Bytes at the beginning of the first page that tell of the file itself."""

_MAGIC = (0x377F0682, 0x377F0683)
_TABLE_LEAF = 0x0D
_INDEX_LEAF = 0x0A


@dataclass(frozen=True, slots=True)
class Frame:
    """One page as a transaction left it. `is_commit` ends a transaction; `is_whole` says that SQLite would take it."""

    number: int
    page: int
    is_commit: bool
    is_whole: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class WriteAhead:
    """What a write-ahead file holds: frames in order, and how many of the first are complete transactions."""

    frames: tuple[Frame, ...]
    committed: int
    is_readable: bool = True
    """False when the head of the file is damaged, so that SQLite takes nothing of it."""

    @property
    def torn(self) -> int:
        """Frames behind the last complete transaction."""
        return len(self.frames) - self.committed

    @property
    def is_damaged(self) -> bool:
        """True when something is lost that was acknowledged: behind the damage another transaction begins."""
        if not self.is_readable:
            return True
        rest = self.frames[self.committed :]
        ends = [place for place, frame in enumerate(rest) if frame.is_commit]
        return bool(ends) and ends[0] < len(rest) - 1


def read_write_ahead(path: Path) -> WriteAhead:
    """The write-ahead file at `path`; an absent or empty one holds nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    if len(data) < WAL_HEADER + FRAME_HEADER:
        return WriteAhead((), 0)
    magic, _, size = struct.unpack_from(">III", data)
    if not any(data[:WAL_HEADER]):
        return WriteAhead((), 0, is_readable=False)
    is_big = magic == _MAGIC[1]
    head = _checksum(data[: WAL_HEADER - 8], (0, 0), is_big=is_big)
    if magic not in _MAGIC or head != struct.unpack_from(">II", data, WAL_HEADER - 8):
        return WriteAhead(tuple(_blind_frames(data)), 0, is_readable=False)
    salts = data[16:24]
    frames: list[Frame] = []
    running, committed, is_chain = head, 0, True
    for start in range(WAL_HEADER, len(data) - FRAME_HEADER - size + 1, FRAME_HEADER + size):
        page, after = struct.unpack_from(">II", data, start)
        content = data[start + FRAME_HEADER : start + FRAME_HEADER + size]
        is_ours = data[start + 8 : start + 16] == salts
        if is_chain and is_ours:
            running = _checksum(data[start : start + 8], running, is_big=is_big)
            running = _checksum(content, running, is_big=is_big)
        is_chain = is_chain and is_ours and running == struct.unpack_from(">II", data, start + 16)
        if not is_chain and not is_ours:
            # Frames of the turn before lie behind those of this one; or this very frame's head is what decayed.
            frames.append(Frame(len(frames), 0, is_commit=False, is_whole=False, content=content))
            continue
        frames.append(Frame(len(frames), page, is_commit=bool(after), is_whole=is_chain, content=content))
        if is_chain and after:
            committed = len(frames)
    while frames and not frames[-1].page and len(frames) > committed:
        frames.pop()
    return WriteAhead(tuple(frames), committed)


def _blind_frames(data: bytes) -> Iterator[Frame]:
    """Frames of a file whose head can't be trusted, by the size that our journals have."""
    size = 4096
    for number, start in enumerate(range(WAL_HEADER, len(data) - FRAME_HEADER - size + 1, FRAME_HEADER + size)):
        page, after = struct.unpack_from(">II", data, start)
        content = data[start + FRAME_HEADER : start + FRAME_HEADER + size]
        yield Frame(number, page, is_commit=bool(after), is_whole=False, content=content)


def _checksum(data: bytes, seed: tuple[int, int], *, is_big: bool) -> tuple[int, int]:
    words = array("I", data)
    if is_big != (sys.byteorder == "big"):
        words.byteswap()
    first, second = seed
    pairs = iter(words)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def page_size_of(data: bytes) -> int:
    """The size of a database's pages by its first bytes; 4096 when they tell nothing sensible."""
    size = int.from_bytes(data[16:18], "big") if len(data) >= 18 else 0
    size = 65536 if size == 1 else size
    return size if 512 <= size <= 65536 and not size & (size - 1) else 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One row out of a leaf page: its rowid (None in a table without), and its values."""

    rowid: int | None
    values: tuple[int | bytes | str | None, ...]


def rows_of(page: bytes, *, is_first: bool, pages: Mapping[int, bytes]) -> Iterator[Row]:
    """Every row that a page holds; `pages` are where a long row goes on. A row that makes no sense is left out."""
    start = PAGE_HEADER if is_first else 0
    if len(page) < start + 8 or page[start] not in (_TABLE_LEAF, _INDEX_LEAF):
        return
    has_rowid = page[start] == _TABLE_LEAF
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for place in range(start + 8, min(start + 8 + 2 * count, len(page) - 1), 2):
        try:
            row = _row(page, int.from_bytes(page[place : place + 2], "big"), has_rowid=has_rowid, pages=pages)
        except (IndexError, KeyError, ValueError):
            continue
        yield row


def _row(page: bytes, start: int, *, has_rowid: bool, pages: Mapping[int, bytes]) -> Row:
    length, start = _varint(page, start)
    rowid = None
    if has_rowid:
        rowid, start = _varint(page, start)
    usable = len(page)
    most = usable - 35 if has_rowid else (usable - 12) * 64 // 255 - 23
    if length <= most:
        payload = page[start : start + length]
    else:
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = least if here > most else here
        payload = page[start : start + here]
        onward = int.from_bytes(page[start + here : start + here + 4], "big")
        for _ in range(length // (usable - 4) + 1):
            if not onward or len(payload) >= length:
                break
            payload += pages[onward][4:usable]
            onward = int.from_bytes(pages[onward][:4], "big")
        payload = payload[:length]
    if len(payload) != length:
        raise ValueError("the row is cut short")
    return Row(rowid, tuple(_values(payload)))


def _values(payload: bytes) -> Iterator[int | bytes | str | None]:
    head, place = _varint(payload, 0)
    body = head
    while place < head:
        kind, place = _varint(payload, place)
        if kind in (8, 9):
            yield kind - 8
            continue
        length = (0, 1, 2, 3, 4, 6, 8, 8)[kind] if kind < 8 else (kind - 12) // 2
        part = payload[body : body + length]
        if len(part) != length or kind in (10, 11):
            raise ValueError("the row makes no sense")
        body += length
        if kind == 0:
            yield None
        elif kind < 7:
            yield int.from_bytes(part, "big", signed=True)
        else:
            yield part.decode("utf-8") if kind >= 13 and kind % 2 else part


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = 0
    for place in range(start, start + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[start + 8], start + 9
