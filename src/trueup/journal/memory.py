"""The journal of tests and simulations: the same contract as on disk, gone with the process.

Inputs go through the codec all the same, so that what can't be written is found here too. Not for anything that must be
remembered. Invariant: what is read equals what would be read from disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trueup.errors import JournalUnusable, WrongAccount
from trueup.journal.codec import CODEC
from trueup.ports import Entry, Input


class MemoryJournal:
    """A journal in a list; `epoch` is its name."""

    def __init__(self, epoch: str = "memory") -> None:
        self.epoch = epoch
        self.account: str | None = None
        self._bodies: list[bytes] = []
        self._checkpoint: tuple[int, bytes] | None = None
        self._closed = False

    def append(self, inputs: Sequence[Input]) -> int:
        """Keep all or none and return the first offset."""
        if self._closed:
            raise JournalUnusable("the journal is closed")
        first = len(self._bodies) + 1
        self._bodies.extend([CODEC.encode(item) for item in inputs])
        return first

    def read(self, after: int = 0) -> Iterator[Entry]:
        """All entries behind offset `after`, in order, as they are when reading begins."""
        for offset, body in enumerate(self._bodies[after:], start=after + 1):
            yield Entry(offset, CODEC.decode(body, offset=offset))

    def last_offset(self) -> int:
        """Offset of the newest entry, 0 when empty."""
        return len(self._bodies)

    def save_checkpoint(self, offset: int, state: bytes) -> None:
        """Keep a fold of everything up to `offset`."""
        if offset > len(self._bodies):
            raise ValueError(f"a checkpoint at {offset} is ahead of the newest entry, {len(self._bodies)}")
        self._checkpoint = (offset, state)

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """The newest checkpoint, or None."""
        return self._checkpoint

    def bind_account(self, account: str) -> None:
        """Tie this journal to one broker account for ever; raises `WrongAccount` for another."""
        if self.account is None:
            self.account = account
        elif self.account != account:
            raise WrongAccount(
                f"this journal belongs to account {self.account} and the broker's account is {account}; "
                "use the keys of that account, or another state folder"
            )

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
