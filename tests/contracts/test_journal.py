"""What every journal promises, written once and run for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import pytest

from trueup.core.commands import SubmitOrder
from trueup.core.events import ClockTicked, FeedLost
from trueup.core.model import FeedName, Side, Symbol
from trueup.errors import JournalUnusable, WrongAccount
from trueup.journal.memory import MemoryJournal
from trueup.journal.sqlite import SqliteJournal
from trueup.ports import Entry, Input, Journal

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


class BoundJournal(Journal, Protocol):
    def bind_account(self, account: str) -> None: ...


def ticks(count: int, start: int = 0) -> list[Input]:
    return [ClockTicked(at=NOON + timedelta(seconds=second)) for second in range(start, start + count)]


@pytest.fixture(params=["memory", "sqlite", "sqlite-not-durable"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BoundJournal]:
    def build() -> BoundJournal:
        if request.param == "memory":
            return MemoryJournal()
        return SqliteJournal(tmp_path / "state", durable=request.param == "sqlite")

    return build


@pytest.fixture
def journal(make: Callable[[], BoundJournal]) -> Iterator[BoundJournal]:
    made = make()
    yield made
    made.close()


def test_a_new_journal_is_empty_and_has_an_epoch(journal: Journal) -> None:
    assert journal.last_offset() == 0
    assert list(journal.read()) == []
    assert journal.load_checkpoint() is None
    assert journal.epoch


def test_offsets_are_contiguous_from_one(journal: Journal) -> None:
    assert journal.append(ticks(3)) == 1
    assert journal.append(ticks(1, start=3)) == 4
    assert journal.last_offset() == 4
    assert [entry.offset for entry in journal.read()] == [1, 2, 3, 4]


def test_what_is_read_equals_what_was_written(journal: Journal) -> None:
    written: list[Input] = [
        FeedLost(at=NOON, feed=FeedName.BROKER_EVENTS, reason="closed by \N{SNOWMAN} peer"),
        SubmitOrder(at=NOON, symbol=Symbol("AAPL"), side=Side.SELL, quantity=Decimal("1.50"), limit_price=Decimal("9")),
    ]
    journal.append(written)
    assert list(journal.read()) == [Entry(1, written[0]), Entry(2, written[1])]
    # Equal decimals may be written differently; every digit has to come back.
    assert repr([entry.input for entry in journal.read()]) == repr(written)


def test_an_append_of_nothing_takes_no_place(journal: Journal) -> None:
    journal.append(ticks(2))
    assert journal.append([]) == 3
    assert journal.last_offset() == 2


def test_an_append_is_all_or_nothing(journal: Journal) -> None:
    journal.append(ticks(1))
    naive = ClockTicked(at=NOON.replace(tzinfo=None))
    with pytest.raises(ValueError, match="no time zone"):
        journal.append([*ticks(2), naive])
    assert journal.last_offset() == 1
    assert journal.append(ticks(1)) == 2
    assert len(list(journal.read())) == 2


def test_reading_can_start_anywhere(journal: Journal) -> None:
    journal.append(ticks(5))
    assert [entry.offset for entry in journal.read(after=3)] == [4, 5]
    assert list(journal.read(after=5)) == []
    assert list(journal.read(after=50)) == []


def test_reading_goes_on_past_any_batch(journal: Journal) -> None:
    journal.append(ticks(4500))
    assert [entry.offset for entry in journal.read()] == list(range(1, 4501))


def test_the_newest_checkpoint_is_kept(journal: Journal) -> None:
    journal.append(ticks(9))
    for offset in (3, 6, 9):
        journal.save_checkpoint(offset, f"state {offset}".encode())
    assert journal.load_checkpoint() == (9, b"state 9")


def test_a_checkpoint_may_not_run_ahead_of_the_entries(journal: Journal) -> None:
    journal.append(ticks(2))
    with pytest.raises(ValueError, match="ahead"):
        journal.save_checkpoint(3, b"")
    assert journal.load_checkpoint() is None


def test_a_journal_belongs_to_one_account(journal: BoundJournal) -> None:
    journal.bind_account("PA1")
    journal.bind_account("PA1")
    with pytest.raises(WrongAccount, match=r"PA1.*PA2"):
        journal.bind_account("PA2")


def test_a_closed_journal_takes_nothing(journal: Journal) -> None:
    journal.append(ticks(1))
    journal.close()
    journal.close()
    with pytest.raises(JournalUnusable, match="closed"):
        journal.append(ticks(1))
