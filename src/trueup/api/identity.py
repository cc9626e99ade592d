"""Who a request or connection belongs to, and what that lets it do.

Not for finding out who it is (`auth.py`). Invariant: a role that is not known to be enough is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A viewer sees everything and changes nothing; an operator also acts."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A name for the log, a role, and the session that it came by ("" for a token, or for this machine)."""

    name: str
    role: Role
    session: str = ""

    def may(self, role: Role) -> bool:
        """True when this role includes the other."""
        return self.role is Role.OPERATOR or role is Role.VIEWER


LOCAL = Identity(name="local", role=Role.OPERATOR)
"""Whoever sits at this machine, while neither token nor users are set up."""
