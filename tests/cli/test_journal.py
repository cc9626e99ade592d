"""`trueup journal` from the command line: what a person sees of damage, and what is done about it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from trueup.core.events import ClockTicked, RuntimeStarted
from trueup.journal.sqlite import FILE_NAME, SqliteJournal

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A journal of twenty entries whose seventh decayed."""
    folder = tmp_path / "state"
    journal = SqliteJournal(folder)
    journal.append([RuntimeStarted(at=NOON, version="1", broker="simulator")])
    journal.append([ClockTicked(at=NOON + timedelta(seconds=second)) for second in range(1, 20)])
    journal.close()
    with sqlite3.connect(folder / FILE_NAME) as database:
        database.execute("UPDATE entries SET crc = crc + 1 WHERE offset = 7")
    database.close()
    return folder


def test_a_damaged_journal_is_refused_and_the_line_names_the_repair(trueup: Run, damaged: Path) -> None:
    answer = trueup("replay", "--state", str(damaged))
    assert answer.code == 65
    (line,) = answer.err.splitlines()
    assert "entry 7 is damaged" in line
    assert f"trueup journal repair --state {damaged}" in line


def test_a_check_tells_and_changes_nothing(trueup: Run, damaged: Path) -> None:
    before = (damaged / FILE_NAME).read_bytes()
    answer = trueup("journal", "check", "--state", str(damaged), "--json")
    assert answer.code == 65
    told = answer.json()
    assert (told["sound"], told["entries"], told["lost_count"]) == (False, 20, 1)
    assert told["lost"] == [{"first": 7, "last": 7, "kind": "ClockTicked"}]
    assert told["may_have_lost_a_kill"] is False
    shown = trueup("journal", "repair", "--state", str(damaged))
    assert shown.code == 1
    assert "entry 7 is lost, a ClockTicked" in shown.out
    assert "nothing was changed; add --yes" in shown.out
    assert (damaged / FILE_NAME).read_bytes() == before


def test_a_repair_keeps_the_rest_and_the_damaged_file(trueup: Run, damaged: Path) -> None:
    before = (damaged / FILE_NAME).read_bytes()
    repaired = trueup("journal", "repair", "--state", str(damaged), "--yes", "--json")
    assert repaired.code == 0, repaired.err
    told = repaired.json()
    assert (told["repaired"], told["sound"], told["lost_count"]) == (True, True, 1)
    assert (Path(told["kept_at"]) / FILE_NAME).read_bytes() == before
    check = trueup("journal", "check", "--state", str(damaged))
    assert check.code == 0
    assert "sound: every entry can be read" in check.out
    replayed = trueup("replay", "--state", str(damaged), "--json")
    assert replayed.code == 0, replayed.err
    assert replayed.json()["entries"] == 21
    again = trueup("journal", "repair", "--state", str(damaged), "--yes")
    assert again.code == 0
    assert "sound" in again.out


def test_a_folder_without_a_journal_is_one_line(trueup: Run, tmp_path: Path) -> None:
    answer = trueup("journal", "check", "--state", str(tmp_path / "nothing"))
    assert answer.code == 73
    assert "there is no journal" in answer.err
    assert len(answer.err.splitlines()) == 1
