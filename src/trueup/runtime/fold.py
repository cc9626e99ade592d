"""The journal folded into belief, with checkpoints as a shortcut, and the digest that proves two folds equal.

A checkpoint is a pickled belief with a fingerprint of the code that folded it: other code, or a byte that decayed, and
it is ignored. Loading admits our own core values and the standard library's plain ones, nothing that could run.
Not for writing entries. Invariant: with or without a checkpoint the belief is the same, byte for byte of its digest.
"""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import trueup.core
from trueup.core.belief import Belief, new_belief
from trueup.core.step import step
from trueup.errors import JournalUnusable
from trueup.ports import Journal

log = logging.getLogger(__name__)

ACCOUNT = "default"
"""The name of belief's account before the broker has told its own."""

_ADMITTED = {
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
}

Progress = Callable[[int], None]
"""Called with the number of entries folded so far, now and then."""

PROGRESS_EVERY = 5000


def _member(words: Any, name: str) -> Enum:
    """One member of an enumeration by its name, and nothing else that `getattr` could reach."""
    if isinstance(words, type) and issubclass(words, Enum) and name in words.__members__:
        return words[name]
    raise pickle.UnpicklingError(f"a checkpoint has no business with {name} of {words!r}")


class _CoreOnly(pickle.Unpickler):
    """Admits core values and plain standard ones."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("trueup.core.") and "." not in name:
            return super().find_class(module, name)
        if (module, name) in _ADMITTED:
            return super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _member  # how Python before 3.11.4 writes a member of an enumeration
        raise pickle.UnpicklingError(f"a checkpoint has no business with {module}.{name}")


@cache
def fingerprint() -> bytes:
    """What tells one version of the reasoning from another: a digest of the core's source."""
    folder = Path(trueup.core.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.digest()


def frozen(belief: Belief) -> bytes:
    """Belief as it is now, fit for a checkpoint."""
    with _uncollected():
        return fingerprint() + pickle.dumps(belief, protocol=5)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spare the collector the hundred thousands of objects that are made here and all stay: half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def checkpoint(journal: Journal, belief: Belief) -> None:
    """Keep belief as it is now; raises `JournalUnusable` when it can't be written."""
    journal.save_checkpoint(belief.offset, frozen(belief))


def restore(journal: Journal) -> Belief | None:
    """The newest checkpoint that this code can take, or None."""
    found = journal.load_checkpoint()
    if found is None:
        return None
    offset, state = found
    mark = fingerprint()
    if not state.startswith(mark):
        log.info("checkpoint ignored offset=%d reason=%s", offset, "other code folded it")
        return None
    try:
        with _uncollected():
            belief = _CoreOnly(io.BytesIO(state[len(mark) :])).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, TypeError, ValueError) as error:
        log.warning("checkpoint ignored offset=%d reason=%s", offset, error)
        return None
    if not isinstance(belief, Belief) or belief.offset != offset or belief.epoch != journal.epoch:
        log.warning("checkpoint ignored offset=%d reason=%s", offset, "it is not of this journal")
        return None
    return belief


def fold(
    journal: Journal, *, from_checkpoint: bool = True, until: int | None = None, progress: Progress | None = None
) -> Belief:
    """Belief after all entries (or up to offset `until`), effects held back."""
    belief = restore(journal) if from_checkpoint else None
    if belief is None or (until is not None and belief.offset > until):
        belief = new_belief(account=ACCOUNT, epoch=journal.epoch)
    for entry in journal.read(belief.offset):
        if until is not None and entry.offset > until:
            break
        if entry.offset != belief.offset + 1:
            raise JournalUnusable(f"the journal has a hole: entry {entry.offset} follows {belief.offset}")
        step(belief, entry.input, entry.offset)
        if progress is not None and entry.offset % PROGRESS_EVERY == 0:
            progress(entry.offset)
    if progress is not None:
        progress(belief.offset)
    return belief


def belief_digest(belief: Belief) -> str:
    """A digest of all of belief, the same on every machine and under every hash seed."""
    return hashlib.sha256(repr(belief).encode()).hexdigest()
