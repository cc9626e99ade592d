"""What a checkpoint may hold: core values, as every Python that we run on writes them, and nothing that could run."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from trueup.core.belief import new_belief
from trueup.core.model import Side
from trueup.journal.memory import MemoryJournal
from trueup.runtime.fold import fingerprint, restore


class Calls:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def restored(side: Any) -> Any:
    """What a checkpoint gives back of a belief with a foreign value in its counters; None when it was refused."""
    journal = MemoryJournal("epoch")
    belief = new_belief(account="default", epoch="epoch")
    belief.counters["side"] = side
    journal.save_checkpoint(0, fingerprint() + pickle.dumps(belief, protocol=5))
    found = restore(journal)
    return None if found is None else found.counters["side"]


def test_members_of_enumerations_come_back_as_early_pythons_write_them() -> None:
    assert restored(Side.SELL) is Side.SELL
    assert restored(Calls(getattr, Side, "SELL")) is Side.SELL


@pytest.mark.parametrize(
    "foreign",
    [Calls(getattr, Side, "mro"), Calls(getattr, "word", "upper"), Calls(eval, "1"), Calls(print, "harm")],
    ids=["not a member", "not an enumeration", "eval", "print"],
)
def test_what_could_run_is_refused_with_the_whole_checkpoint(foreign: Calls) -> None:
    assert restored(foreign) is None
