"""What a checker says when something that must hold does not.

Typed, so that it survives `python -O` and the end of a process. Not for errors of the house itself; `fall` turns those
into violations. Invariant: the checker's name alone tells whether two violations are the same one, which is what
shrinking goes by.
"""

from __future__ import annotations

import traceback
from pathlib import Path


class Violation(Exception):
    """`checker` is one sentence of what must hold; `detail` is what was seen instead."""

    def __init__(self, checker: str, detail: str) -> None:
        super().__init__(checker, detail)
        self.checker = checker
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.checker}: {self.detail}"


def demand(holds: object, checker: str, detail: object = "") -> None:
    """Raise the violation unless it holds."""
    if not holds:
        raise Violation(checker, str(detail))


FAULTS_OF_REASONING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a fault in plain code raises."""


def fall(error: BaseException) -> Violation:
    """The violation that an error stands for: itself when it is one, else that the house fell over it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Violation):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return Violation(f"no {type(error).__name__} ends the house", f"{error}{where}")
