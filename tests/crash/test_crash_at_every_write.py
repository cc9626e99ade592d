"""SIGKILL at every write and every effect: nothing is lost, nothing is sent twice, nothing is counted twice.

A real house with a real journal trades over sockets with an exchange that outlives it. It is killed at one place, the
exchange goes on trading, and the house starts again on the same folder. Every place of the story is tried.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tests.crash.house import LOOKUP_FIRST, LOOKUP_SETTLE
from tests.crash.trial import NEVER, Fate, Lives, trial

from trueup.core.model import OrderStatus
from trueup.errors import JournalUnusable
from trueup.journal.repair import rebuild
from trueup.journal.sqlite import FILE_NAME, SqliteJournal
from trueup.runtime.fold import fold

STORY = {
    "RuntimeStarted": 1,
    "FeedAcknowledged": 1,
    "SnapshotTaken": 1,
    "FeedRestored": 1,
    "SubmitOrder": 4,
    "ReplaceOrder": 1,
    "CancelOrder": 1,
    "Kill": 1,
    "RequestAnswered": 7,
    "OrderReported": 17,
}
"""Every input of the story, and how often it comes."""

EFFECTS = {"SendOrder": 4, "SendReplace": 1, "SendCancel": 2, "TakeSnapshot": 1}
REQUESTS = {"submit": 4, "replace": 1, "cancel": 2}
CHECKPOINTS = 5
HEALING = ("RuntimeStarted", "FeedAcknowledged", "SnapshotTaken", "OrderLookedUp", "FeedRestored")


def places(around: str, where: tuple[str, ...], counts: dict[str, int]) -> list[Fate]:
    return [
        (f"{when} {around}", what, nth)
        for what, count in counts.items()
        for nth in range(1, count + 1)
        for when in where
    ]


WRITES = places("append", ("before", "inside", "after"), STORY)
SHORTCUTS = places("checkpoint", ("before", "inside", "after"), {"checkpoint": CHECKPOINTS})
DEEDS = places("effect", ("before", "after"), EFFECTS) + places("request", ("before", "after"), REQUESTS)
WHILE_HEALING = places("append", ("before", "inside", "after"), dict.fromkeys(HEALING, 1)) + places(
    "effect", ("before", "after"), {"FindOrder": 1}
)


def named(fate: Fate) -> str:
    place, what, nth = fate
    return f"{place}-{what}-{nth}".replace(" ", "-")


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    """The program that lives and dies."""
    program = Lives()
    yield program
    program.close()


@pytest.fixture(autouse=True)
def same_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold with the pauses that the lives were lived with."""
    monkeypatch.setattr("trueup.core.step.LOOKUP_FIRST", LOOKUP_FIRST)
    monkeypatch.setattr("trueup.core.step.LOOKUP_SETTLE", LOOKUP_SETTLE)


def entry_lost(state: Path, offset: int) -> None:
    """Let one entry decay, and every checkpoint that remembers it; then repair."""
    database = sqlite3.connect(state / FILE_NAME)
    changed = database.execute("UPDATE entries SET crc = crc + 1 WHERE offset = ?", (offset,)).rowcount
    database.execute("DELETE FROM checkpoints")
    database.commit()
    database.close()
    assert changed == 1
    found, _ = rebuild(state, at=datetime.now(UTC), prove=lambda journal: fold(journal, from_checkpoint=False))
    assert [(lost.first, lost.last) for lost in found.lost] == [(offset, offset)]


async def test_the_story_is_the_one_whose_places_are_listed(lives: Lives, tmp_path: Path) -> None:
    left = await trial(lives, tmp_path, NEVER)
    assert left.code == 0
    journal = SqliteJournal(tmp_path / "state", read_only=True)
    told = [type(entry.input).__name__ for entry in journal.read()]
    journal.close()
    first_life = told[: len(told) - told[::-1].index("RuntimeStarted") - 1]
    # The last snapshot, asked for by the kill, may come after the story's end.
    assert {kind: first_life.count(kind) for kind in STORY} | {"SnapshotTaken": 1} == STORY
    assert set(first_life) == set(STORY)
    assert len(left.exchange.received) == REQUESTS["submit"] + REQUESTS["replace"]
    assert [order.status for order in left.belief.orders.values()] == [
        OrderStatus.CANCELED,
        OrderStatus.FILLED,
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
    ]


@pytest.mark.parametrize("fate", WRITES, ids=named)
async def test_killed_at_a_write(lives: Lives, tmp_path: Path, fate: Fate) -> None:
    left = await trial(lives, tmp_path, fate)
    assert left.code == -9, "the story did not come by this place"


@pytest.mark.parametrize("fate", SHORTCUTS, ids=named)
async def test_killed_at_a_checkpoint(lives: Lives, tmp_path: Path, fate: Fate) -> None:
    left = await trial(lives, tmp_path, fate)
    assert left.code == -9, "the story did not come by this place"


@pytest.mark.parametrize("fate", DEEDS, ids=named)
async def test_killed_at_an_effect(lives: Lives, tmp_path: Path, fate: Fate) -> None:
    left = await trial(lives, tmp_path, fate)
    assert left.code == -9, "the story did not come by this place"


@pytest.mark.parametrize("second", WHILE_HEALING, ids=named)
async def test_killed_again_while_healing(lives: Lives, tmp_path: Path, second: Fate) -> None:
    """The first life ends between an intent and its request; the second while it finds out whether it was sent."""
    left = await trial(lives, tmp_path, ("before request", "submit", 1), second)
    assert left.code == -9, "the story did not come by this place"
    assert left.exchange.received == []
    assert [order.status for order in left.belief.orders.values()] == [OrderStatus.DENIED]


@pytest.mark.parametrize("second", places("request", ("before", "after"), {"cancel": 1}), ids=named)
async def test_a_cancel_that_was_asked_for_outlives_two_deaths(lives: Lives, tmp_path: Path, second: Fate) -> None:
    left = await trial(lives, tmp_path, ("before effect", "SendCancel", 1), second)
    assert left.code == -9, "the story did not come by this place"
    (first, *_) = left.belief.orders.values()
    assert first.status is OrderStatus.CANCELED
    assert first.filled == 3


@pytest.mark.parametrize(
    "fate",
    places("disk", ("full",), {"SubmitOrder": 3, "ReplaceOrder": 1})
    + places("disk", ("read-only",), {"SubmitOrder": 4, "RequestAnswered": 7, "OrderReported": 9, "Kill": 1}),
    ids=named,
)
async def test_a_disk_that_takes_no_more_ends_the_house_and_costs_nothing(
    lives: Lives, tmp_path: Path, fate: Fate
) -> None:
    left = await trial(lives, tmp_path, fate)
    assert left.code == JournalUnusable.exit_code


@pytest.mark.parametrize("offset", range(1, 32))
async def test_any_entry_that_decays_is_repaired_and_the_books_are_found_again(
    lives: Lives, tmp_path: Path, offset: int
) -> None:
    """The first life ends with its last order standing; one entry of it decays, and the exchange fills on."""
    left = await trial(lives, tmp_path, ("before append", "Kill", 1), between=lambda state: entry_lost(state, offset))
    assert left.code == -9, "the story did not come by this place"
    last = list(left.exchange.world.exchange.view().orders())[-1]
    assert last.filled_qty == Decimal(3)
    assert last.is_open
