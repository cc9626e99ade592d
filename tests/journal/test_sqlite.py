"""What only the journal on disk has: restarts, damage, locks, full disks, newer versions."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trueup.core.events import ClockTicked
from trueup.errors import JournalCorrupt, JournalUnusable, WrongAccount
from trueup.journal.sqlite import FILE_NAME, FORMAT, SqliteJournal
from trueup.ports import Input

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


def ticks(count: int) -> list[Input]:
    return [ClockTicked(at=NOON + timedelta(seconds=second)) for second in range(count)]


def written(folder: Path, count: int = 5) -> Path:
    journal = SqliteJournal(folder)
    journal.append(ticks(count))
    journal.save_checkpoint(2, b"two")
    journal.save_checkpoint(4, b"four")
    journal.close()
    return folder


def change(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path)
    first.append(ticks(3))
    first.bind_account("PA1")
    first.save_checkpoint(2, b"state")
    epoch = first.epoch
    first.close()
    again = SqliteJournal(tmp_path)
    assert (again.epoch, again.last_offset(), again.account) == (epoch, 3, "PA1")
    assert again.load_checkpoint() == (2, b"state")
    assert [entry.input for entry in again.read()] == ticks(3)
    assert again.append(ticks(1)) == 4
    with pytest.raises(WrongAccount, match="PA1"):
        again.bind_account("PA2")
    again.close()


def test_two_journals_never_share_an_epoch(tmp_path: Path) -> None:
    one, other = SqliteJournal(tmp_path / "one"), SqliteJournal(tmp_path / "other")
    assert one.epoch != other.epoch
    one.close()
    other.close()


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=60
    )


APPENDS_FOR_EVER = """
    import sys
    from datetime import UTC, datetime
    from pathlib import Path
    from trueup.core.events import ClockTicked
    from trueup.journal.sqlite import SqliteJournal
    journal = SqliteJournal(Path(sys.argv[1]))
    while True:
        print(journal.append([ClockTicked(at=datetime(2026, 3, 12, tzinfo=UTC))] * 3) + 2, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(APPENDS_FOR_EVER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 60:
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    acknowledged = int([str(acknowledged), *writer.stdout.read().split()][-1])
    writer.wait()
    writer.stdout.close()
    journal = SqliteJournal(tmp_path)  # the lock died with its process
    assert journal.last_offset() >= acknowledged
    assert journal.last_offset() % 3 == 0
    assert len(list(journal.read())) == journal.last_offset()
    journal.close()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    second = run(
        """
        import sys
        from pathlib import Path
        from trueup.errors import JournalUnusable
        from trueup.journal.sqlite import SqliteJournal
        try:
            SqliteJournal(Path(sys.argv[1]))
        except JournalUnusable as error:
            print(error)
        """,
        str(tmp_path),
    )
    assert f"{tmp_path} is in use by another trueup (process {os.getpid()})" in second.stdout, second.stderr
    with pytest.raises(JournalUnusable, match="in use"):
        SqliteJournal(tmp_path)
    journal.close()
    SqliteJournal(tmp_path).close()


def test_a_reader_may_look_while_another_writes(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    journal.append(ticks(2))
    reader = SqliteJournal(tmp_path, read_only=True)
    assert (reader.epoch, reader.last_offset()) == (journal.epoch, 2)
    journal.append(ticks(1))
    assert reader.last_offset() == 3
    assert len(list(reader.read())) == 3
    with pytest.raises(JournalUnusable, match="reading only"):
        reader.append(ticks(1))
    reader.close()
    journal.close()


def test_reading_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="there is no journal"):
        SqliteJournal(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_one_thread_writes_while_others_read(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, durable=False)
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                seen = [entry.offset for entry in journal.read()]
                assert seen == list(range(1, len(seen) + 1))
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(150):
        journal.append(ticks(10))
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert journal.last_offset() == 1500
    journal.close()


def test_a_transaction_that_a_crash_cut_short_is_not_there(tmp_path: Path) -> None:
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    journal = SqliteJournal(live)
    journal.append(ticks(3))
    journal.save_checkpoint(3, b"three")
    journal.append(ticks(2))
    journal.save_checkpoint(5, b"five")
    crashed.mkdir()
    for part in live.iterdir():
        shutil.copy(part, crashed / part.name)
    journal.close()
    log = crashed / f"{FILE_NAME}-wal"
    frame = 4096 + 24
    with log.open("r+b") as file:  # the last two transactions: the entries 4 and 5, and the checkpoint behind them
        file.truncate(log.stat().st_size - frame - frame // 2)
    torn = SqliteJournal(crashed)
    assert torn.last_offset() == 3
    assert [entry.offset for entry in torn.read()] == [1, 2, 3]
    assert torn.load_checkpoint() == (3, b"three")
    assert torn.append(ticks(1)) == 4
    torn.close()


@pytest.mark.parametrize("offset", [1, 3, 5])
def test_a_damaged_entry_is_named(tmp_path: Path, offset: int) -> None:
    folder = written(tmp_path)
    change(
        folder, "UPDATE entries SET body = substr(body, 1, 20) || X'00' || substr(body, 22) WHERE offset = ?", offset
    )
    journal = SqliteJournal(folder)
    read = journal.read()
    assert [next(read).offset for _ in range(offset - 1)] == list(range(1, offset))
    with pytest.raises(JournalCorrupt, match=f"entry {offset} is damaged"):
        next(read)
    journal.close()


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    change(folder, "DELETE FROM entries WHERE offset = 3")
    journal = SqliteJournal(folder)
    with pytest.raises(JournalCorrupt, match="entry 3 is missing, 4 follows"):
        list(journal.read())
    journal.close()


def test_an_entry_that_moved_is_damage(tmp_path: Path) -> None:
    folder = written(tmp_path)
    change(folder, "UPDATE entries SET offset = 6 WHERE offset = 2")
    change(folder, "UPDATE entries SET offset = 2 WHERE offset = 5")
    journal = SqliteJournal(folder)
    with pytest.raises(JournalCorrupt, match="entry 2 is damaged"):
        list(journal.read())
    journal.close()


def test_damaged_pages_are_damage(tmp_path: Path) -> None:
    folder = written(tmp_path, count=3000)
    file = folder / FILE_NAME
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // 2)
        raw.write(b"\xff" * 4096 * 8)
    with pytest.raises(JournalCorrupt):  # noqa: PT012 - where it is noticed depends on the page
        journal = SqliteJournal(folder)
        try:
            list(journal.read())
        finally:
            journal.close()
    SqliteJournal(tmp_path / "the lock is free").close()


def test_the_older_checkpoint_serves_when_the_newer_decayed(tmp_path: Path) -> None:
    folder = written(tmp_path)
    change(folder, "UPDATE checkpoints SET state = X'00' WHERE offset = 4")
    journal = SqliteJournal(folder)
    assert journal.load_checkpoint() == (2, b"two")
    journal.close()
    change(folder, "UPDATE checkpoints SET crc = crc + 1")
    journal = SqliteJournal(folder)
    assert journal.load_checkpoint() is None
    journal.close()


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    journal.append(ticks(50))
    for offset in range(10, 51, 10):
        journal.save_checkpoint(offset, b"x" * 1000)
    journal.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("SELECT offset FROM checkpoints ORDER BY offset").fetchall() == [(40,), (50,)]
    connection.close()


def test_a_newer_form_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    folder = written(tmp_path)
    change(folder, "UPDATE meta SET value = ? WHERE name = 'format'", str(FORMAT + 1))
    change(folder, "UPDATE meta SET value = '9.9.9' WHERE name = 'written_by'")
    for read_only in (False, True):
        with pytest.raises(JournalUnusable, match=rf"written by trueup 9\.9\.9 in form {FORMAT + 1}"):
            SqliteJournal(folder, read_only=read_only)
    # Having been refused, it was left as it is.
    with pytest.raises(JournalUnusable, match=r"written by trueup 9\.9\.9"):
        SqliteJournal(folder)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE cats (name TEXT)")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(JournalUnusable, match="another program"):
        SqliteJournal(tmp_path)
    after = sqlite3.connect(tmp_path / FILE_NAME)
    assert after.execute("SELECT name FROM sqlite_master").fetchall() == [("cats",)]
    after.close()
    assert len(before) == (tmp_path / FILE_NAME).stat().st_size


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("to be, or not to be; " * 100)
    with pytest.raises(JournalUnusable, match="no journal"):
        SqliteJournal(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalUnusable, match="can't be written"):
        SqliteJournal(tmp_path / "file" / "state")


FILLS_THE_DISK = """
    import resource, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from trueup.core.events import ClockTicked
    from trueup.errors import JournalUnusable
    from trueup.journal.sqlite import SqliteJournal
    journal = SqliteJournal(Path(sys.argv[1]))
    tick = ClockTicked(at=datetime(2026, 3, 12, tzinfo=UTC))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    last = 0
    for _ in range(2):  # the second time it must still refuse
        try:
            while True:
                last = journal.append([tick] * 50) + 49
        except JournalUnusable as error:
            print(last, error)
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    told = run(FILLS_THE_DISK, str(tmp_path))
    first, second = told.stdout.splitlines()
    assert "the disk" in first, told.stderr
    assert first == second
    acknowledged = int(first.split()[0])
    assert acknowledged > 0
    journal = SqliteJournal(tmp_path)
    assert journal.last_offset() == acknowledged
    assert len(list(journal.read())) == acknowledged
    journal.close()


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_a_state_folder_without_its_file_starts_anew(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = written(tmp_path)
    spoil(folder / FILE_NAME)
    journal = SqliteJournal(folder)
    assert journal.last_offset() == 0
    journal.close()
