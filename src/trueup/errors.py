"""The tree of exceptions, sorted by what to do about them. Business is events: a denied or rejected order is no error.

    TrueupError
    ├── Recoverable           the supervisor restarts the child that raised it
    │   ├── FeedEnded           a stream is over and says why; `retry_after_s` when the broker asked for a pause
    │   ├── BrokerUnavailable   nothing was changed at the broker; asking again is safe
    │   ├── RateLimited         refused for now; `retry_after_s` when known
    │   └── ShelfUnreachable    what several gateways know in common can't be reached
    ├── RequestRefused        the broker's definite no to one request, with its code
    ├── OutcomeUnknown        a request may or may not have been carried out; never retried blindly
    ├── BadInput              what a person or program handed in; names the field and what would be right
    ├── Busy                  a bounded queue is full; try again
    └── Fatal                 the process ends with `exit_code`
        ├── BadCredentials      the broker does not know these keys
        ├── WrongAccount        the broker's account is not the one that this state folder belongs to
        ├── JournalUnusable     cannot be opened, written, or was written by a newer version
        └── JournalCorrupt      bytes in the middle of the journal are damaged

Invariant: `OutcomeUnknown` never derives from `Recoverable`; what may have happened must not be repeated by a restart.
"""

from __future__ import annotations


class TrueupError(Exception):
    """Root of everything that trueup raises on purpose."""


class Recoverable(TrueupError):
    """Restarting the child that raised this is right."""


class FeedEnded(Recoverable):
    """A stream is over; `reason` is one line for people, `retry_after_s` the pause that the broker asked for."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class BrokerUnavailable(Recoverable):
    """A request that changes nothing failed, or a changing one is known not to have reached the broker."""


class RateLimited(Recoverable):
    """The broker (or our own budget) refuses for now; `retry_after_s` in seconds when known."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShelfUnreachable(Recoverable):
    """What several gateways know in common can't be read or written; nothing was changed there, as far as is known."""


class RequestRefused(TrueupError):
    """The broker's definite no; `status` is the HTTP status (0 where there is none), `code` the broker's own code."""

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


class OutcomeUnknown(TrueupError):
    """A changing request may or may not have been carried out; only the broker's word ends the doubt."""


class BadInput(TrueupError):
    """What was handed in can't be used; `field` names it and the message says what would be right."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Busy(TrueupError):
    """A bounded queue is full; nothing was taken, trying again is safe."""


class Fatal(TrueupError):
    """The process must end; `exit_code` is what the command line returns."""

    exit_code = 70


class BadCredentials(Fatal):
    """The broker refuses our keys."""

    exit_code = 77


class WrongAccount(Fatal):
    """The broker's account is not the one that this state folder belongs to."""

    exit_code = 78


class JournalUnusable(Fatal):
    """The journal can't be opened or written, or a newer version wrote it."""

    exit_code = 73


class JournalCorrupt(Fatal):
    """Bytes in the middle of the journal are damaged; what follows them can't be trusted."""

    exit_code = 65
