"""Damage of every kind: what is said of it, what is refused, and what a repair saves."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trueup.core.commands import Kill, SubmitOrder
from trueup.core.events import ClockTicked, FrameQuarantined, SignalGenerated
from trueup.core.model import Side, Symbol, TradingState
from trueup.errors import JournalCorrupt, JournalUnusable
from trueup.journal.pages import FRAME_HEADER, WAL_HEADER, read_write_ahead
from trueup.journal.repair import Lost, examine, rebuild
from trueup.journal.sqlite import FILE_NAME, SqliteJournal
from trueup.ports import Entry, Input, Journal
from trueup.runtime.fold import fold

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
FRAME = 4096 + FRAME_HEADER


def inputs(count: int) -> list[Input]:
    """Orders, signals and ticks, a few of them too long for one page."""
    made: list[Input] = []
    for number in range(count):
        at = NOON + timedelta(seconds=number)
        if number % 50 == 7:
            made.append(FrameQuarantined(at=at, feed="broker_events", raw="x" * 9000, reason="long"))  # type: ignore[arg-type]
        elif number % 3 == 0:
            made.append(SubmitOrder(at=at, symbol=Symbol("AAPL"), side=Side.BUY, quantity=Decimal(number + 1)))
        elif number % 3 == 1:
            made.append(
                SignalGenerated(
                    at=at, strategy_name="s", symbol=Symbol("AAPL"), direction="BUY", strength=Decimal("0.5")
                )
            )
        else:
            made.append(ClockTicked(at=at))
    return made


def written(folder: Path, count: int = 300) -> list[Input]:
    made = inputs(count)
    journal = SqliteJournal(folder)
    journal.bind_account("PA1")
    for start in range(0, count, 10):
        journal.append(made[start : start + 10])
    journal.close()
    return made


def change(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def prove(journal: Journal) -> None:
    fold(journal, from_checkpoint=False)


def entries(folder: Path) -> list[Entry]:
    journal = SqliteJournal(folder)
    try:
        return list(journal.read())
    finally:
        journal.close()


# --- the tail: cut, torn, overwritten ---


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """The folder of a process that was killed: everything still stands in the write-ahead file."""
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    journal = SqliteJournal(live)
    crashed.mkdir()
    for number in range(1, 21):
        journal.append(inputs(2 * number)[-2:])
    for part in live.iterdir():
        shutil.copy(part, crashed / part.name)
    journal.close()
    return crashed


def commits(log: Path) -> list[int]:
    """Where in the file each transaction ends."""
    ends = [place for place, frame in enumerate(read_write_ahead(log).frames, start=1) if frame.is_commit]
    return [WAL_HEADER + FRAME * frames for frames in ends]


def opened(folder: Path) -> int:
    journal = SqliteJournal(folder)
    try:
        assert len(list(journal.read())) == journal.last_offset()
        return journal.append([ClockTicked(at=LATER)])
    finally:
        journal.close()


def cuts() -> list[int]:
    draw = random.Random(11)
    return [draw.randrange(1, 10_000) for _ in range(60)]


@pytest.mark.parametrize("cut", cuts())
def test_a_file_that_ends_anywhere_holds_every_whole_transaction(
    crashed: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = crashed / f"{FILE_NAME}-wal"
    ends = commits(log)
    assert len(ends) > 20
    length = log.stat().st_size * cut // 10_000
    whole = sum(end <= length for end in ends)
    with log.open("r+b") as file:
        file.truncate(length)
    cut_short = max(length - ([0, *ends][whole] or WAL_HEADER), 0) // FRAME
    if whole < 2:  # the tables and the journal's own name are the first
        assert opened(crashed) == 1
        return
    made_before_entries = len(ends) - 20
    assert opened(crashed) == 2 * (whole - made_before_entries) + 1
    assert ("never acknowledged" in caplog.text) == (cut_short > 0)


@pytest.mark.parametrize("noise", [b"\0", b"\xff", b"\x0d\x00"])
def test_noise_in_the_last_write_is_dropped_and_said(
    crashed: Path, noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log = crashed / f"{FILE_NAME}-wal"
    *_, before, _ = commits(log)
    with log.open("r+b") as file:
        file.seek(before + FRAME - 200)
        file.write((noise * 200)[:200])
    assert opened(crashed) == 39
    assert "never acknowledged" in caplog.text


@pytest.mark.parametrize("where", ["head", "middle", "last but one"])
def test_a_write_ahead_file_that_lost_what_it_had_acknowledged_is_refused_and_mended(crashed: Path, where: str) -> None:
    log = crashed / f"{FILE_NAME}-wal"
    ends = commits(log)
    place = {"head": 8, "middle": ends[10] + FRAME_HEADER + 4000, "last but one": ends[-2] - 50}[where]
    with log.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5\x5a\xa5")
    before = {part.name: part.read_bytes() for part in crashed.iterdir() if part.suffix != ".lock"}
    for read_only in (True, False):
        with pytest.raises(JournalCorrupt, match="trueup journal repair --state"):
            SqliteJournal(crashed, read_only=read_only)
    found = examine(crashed)
    assert not found.is_sound
    assert (found.last_offset, found.lost) == (40, ())
    assert {part.name: part.read_bytes() for part in crashed.iterdir() if part.suffix != ".lock"} == before
    _, aside = rebuild(crashed, at=LATER, prove=prove)
    kept = entries(crashed)
    assert [entry.offset for entry in kept] == list(range(1, 42))
    assert isinstance(kept[-1].input, FrameQuarantined)
    assert (aside / log.name).read_bytes() == before[log.name]


@pytest.mark.parametrize("pages_kept", [4, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_crash_after_crash_no_torn_write_is_taken_for_damage(tmp_path: Path, seed: int, pages_kept: int) -> None:
    """Every life writes behind the torn end of the one before; after a turn old frames lie behind the new ones."""
    draw = random.Random(seed)
    folder = tmp_path / "life-0"
    acknowledged = 0
    for life in range(1, 9):
        journal = SqliteJournal(folder)
        assert journal.last_offset() == acknowledged
        assert len(list(journal.read())) == acknowledged
        journal._connection.execute(f"PRAGMA wal_autocheckpoint = {pages_kept}")
        writes = draw.randrange(1, 9)
        for number in range(1, writes + 1):
            acknowledged = journal.last_offset()
            if number == writes:  # a write that is torn has not been carried over into the database either
                journal._connection.execute("PRAGMA wal_autocheckpoint = 0")
            journal.append(inputs(acknowledged + draw.randrange(1, 30))[acknowledged:])
        newest = journal.last_offset()
        following = tmp_path / f"life-{life}"
        following.mkdir()
        for part in folder.iterdir():
            shutil.copy(part, following / part.name)
        journal.close()
        folder = following
        log = folder / f"{FILE_NAME}-wal"
        ends = [0, *(end for end in commits(log) if end <= WAL_HEADER + FRAME * read_write_ahead(log).committed)]
        if draw.random() < 0.3:
            acknowledged = newest
            continue
        place = draw.randrange(max(ends[-2], WAL_HEADER), ends[-1])
        with log.open("r+b") as file:
            if draw.random() < 0.5:
                file.truncate(place)
            else:
                file.seek(place)
                was = file.read(1)[0]
                file.seek(place)
                file.write(bytes([was ^ 0x41]))
    assert acknowledged > 50


# --- the middle ---


def test_a_sound_journal_needs_nothing(tmp_path: Path) -> None:
    written(tmp_path)
    found = examine(tmp_path)
    assert found.is_sound
    assert (found.last_offset, found.account, found.lost) == (300, "PA1", ())
    with pytest.raises(JournalUnusable, match="nothing to repair"):
        rebuild(tmp_path, at=LATER, prove=prove)


def test_one_damaged_entry_is_lost_and_all_others_are_kept(tmp_path: Path) -> None:
    made = written(tmp_path)
    journal = SqliteJournal(tmp_path)
    epoch = journal.epoch
    journal.save_checkpoint(300, b"state")
    journal.close()
    change(tmp_path, "UPDATE entries SET body = CAST(body || X'20' AS BLOB) WHERE offset = 121")
    found = examine(tmp_path)
    assert found.lost == (Lost(first=121, last=121, kind="SubmitOrder"),)
    assert not found.may_have_lost_a_kill
    rebuild(tmp_path, at=LATER, prove=prove)
    mended = SqliteJournal(tmp_path)
    assert (mended.epoch, mended.account, mended.load_checkpoint()) == (epoch, "PA1", (300, b"state"))
    kept = [entry.input for entry in mended.read()]
    mended.close()
    assert kept[:120] + kept[121:300] == made[:120] + made[121:]
    mark, ending = kept[120], kept[300]
    assert isinstance(mark, FrameQuarantined)
    assert mark.reason == "the journal lost entry 121, a SubmitOrder to damage"
    assert mark.at == made[119].at
    assert isinstance(ending, FrameQuarantined)
    assert ending.at == LATER
    assert len(kept) == 301
    assert examine(tmp_path).is_sound


def test_a_mark_opens_a_gap_that_only_the_broker_can_close(tmp_path: Path) -> None:
    written(tmp_path)
    change(tmp_path, "UPDATE entries SET body = CAST(body || X'20' AS BLOB) WHERE offset = 121")
    rebuild(tmp_path, at=LATER, prove=prove)
    journal = SqliteJournal(tmp_path)
    belief = fold(journal)
    journal.close()
    assert belief.truth.open_gap is not None
    assert belief.trading_state is TradingState.REDUCE_ONLY


@pytest.mark.parametrize("lost", ["a kill", "who knows what", "many"])
def test_where_a_kill_may_be_lost_the_journal_ends_with_one(tmp_path: Path, lost: str) -> None:
    written(tmp_path)
    journal = SqliteJournal(tmp_path)
    journal.append([Kill(at=NOON, reason="stop"), ClockTicked(at=NOON), ClockTicked(at=NOON)])
    journal.close()
    match lost:
        case "a kill":
            change(tmp_path, "UPDATE entries SET crc = crc + 1 WHERE offset = 301")
        case "who knows what":
            change(tmp_path, "UPDATE entries SET body = X'00' WHERE offset = 302")
        case _:
            change(tmp_path, "DELETE FROM entries WHERE offset IN (30, 31)")
            change(tmp_path, "VACUUM")
    assert examine(tmp_path).may_have_lost_a_kill
    rebuild(tmp_path, at=LATER, prove=prove)
    journal = SqliteJournal(tmp_path)
    belief = fold(journal)
    journal.close()
    assert belief.trading_state is TradingState.KILLED
    assert belief.gate.kill.operator == "system"


def pages_hit() -> list[int]:
    return sorted(random.Random(5).sample(range(4, 60), 12))


@pytest.mark.parametrize("page", pages_hit())
def test_a_damaged_page_costs_what_stood_on_it_and_no_more(tmp_path: Path, page: int) -> None:
    made = written(tmp_path, count=1200)
    file = tmp_path / FILE_NAME
    assert file.stat().st_size > 62 * 4096
    with file.open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(random.Random(page).randbytes(4096))
    found = examine(tmp_path)
    assert not found.is_sound
    lost = {offset for stretch in found.lost for offset in range(stretch.first, stretch.last + 1)}
    assert len(lost) < 80
    rebuild(tmp_path, at=LATER, prove=prove)
    kept = entries(tmp_path)
    assert [entry.offset for entry in kept] == list(range(1, len(kept) + 1))
    for entry in kept[: found.last_offset]:
        if entry.offset not in lost:
            assert entry.input == made[entry.offset - 1]
    assert found.last_offset >= 1200 - 80


def test_a_damaged_root_loses_nothing(tmp_path: Path) -> None:
    made = written(tmp_path, count=1200)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries'").fetchone()
    connection.close()
    with (tmp_path / FILE_NAME).open("r+b") as raw:
        raw.seek((root - 1) * 4096)
        raw.write(bytes(4096))
    assert examine(tmp_path).lost == ()
    rebuild(tmp_path, at=LATER, prove=prove)
    assert [entry.input for entry in entries(tmp_path)][:1200] == made


def test_a_damaged_first_page_loses_nothing(tmp_path: Path) -> None:
    made = written(tmp_path)
    with (tmp_path / FILE_NAME).open("r+b") as raw:
        raw.write(bytes(4096))
    rebuild(tmp_path, at=LATER, prove=prove)
    assert [entry.input for entry in entries(tmp_path)][:300] == made


def test_a_file_of_noise_is_not_mended(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(random.Random(3).randbytes(40_000))
    with pytest.raises(JournalCorrupt, match="start with an empty state folder"):
        examine(tmp_path)


def test_a_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    with pytest.raises(JournalUnusable, match="in use"):
        examine(tmp_path)
    journal.close()
    with pytest.raises(JournalUnusable, match="no journal"):
        examine(tmp_path / "elsewhere")


def test_a_repair_that_can_not_be_folded_changes_nothing(tmp_path: Path) -> None:
    written(tmp_path)
    change(tmp_path, "UPDATE entries SET crc = crc + 1 WHERE offset = 3")
    before = (tmp_path / FILE_NAME).read_bytes()

    def refuse(journal: Journal) -> None:
        raise JournalUnusable(f"{journal.last_offset()} entries make no sense")

    with pytest.raises(JournalUnusable, match="make no sense"):
        rebuild(tmp_path, at=LATER, prove=refuse)
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("step", ["unlink", "replace", "rmtree"])
def test_a_repair_that_is_broken_off_is_refused_and_then_completed(
    crashed: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    log = crashed / f"{FILE_NAME}-wal"
    with log.open("r+b") as file:
        file.seek(commits(log)[10])
        file.write(b"\xa5" * 40)
    before = log.read_bytes()

    real = {"unlink": Path.unlink, "replace": os.replace, "rmtree": shutil.rmtree}[step]
    last = {"unlink": f"{FILE_NAME}-wal", "replace": FILE_NAME, "rmtree": "repaired"}[step]

    def cut(first: Path | str, *more: Any, **named: Any) -> None:
        if Path(first).name == last and Path(first).is_relative_to(crashed):
            raise KeyboardInterrupt
        real(first, *more, **named)  # type: ignore[operator]

    with monkeypatch.context() as patched:
        patched.setattr({"unlink": Path, "replace": os, "rmtree": shutil}[step], step, cut)
        with pytest.raises(KeyboardInterrupt):
            rebuild(crashed, at=LATER, prove=prove)
    with pytest.raises(JournalCorrupt, match="broken off at its last step"):
        SqliteJournal(crashed)
    assert "a repair was broken off at its last step" in examine(crashed).wrongs
    _, aside = rebuild(crashed, at=LATER, prove=prove)
    assert (aside / log.name).read_bytes() == before
    assert [entry.offset for entry in entries(crashed)] == list(range(1, 42))
    assert examine(crashed).is_sound
    assert not (crashed / "repaired").exists()
