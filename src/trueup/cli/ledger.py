"""Lines of columns, each with words of its own, for people: an order's story, its executions, drifts, gaps.

A table that is too wide for the screen squeezes its columns or leaves them out, and with them what was asked for. Here
the words go below their line where there is no room beside it. Not for short lists. Invariant: on a screen of any width
every cell and every word is printed whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GAP = 2
WORDS_ROOM = 40
"""Columns of the screen from which on longer words may wrap beside their line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its cells, and what there is to say about it."""

    cells: Sequence[str]
    words: str = ""
    style: str = ""


def ledger(
    title: str, columns: Sequence[str], lines: Sequence[Line], *, width: int, numbers: Collection[str] = ()
) -> RenderableType:
    """The lines under their heads; the last of `columns` heads the words, those in `numbers` are set to the right."""
    *heads, words_head = columns
    wide = [max(cell_len(text) for text in texts) for texts in zip(heads, *(line.cells for line in lines), strict=True)]
    used = sum(wide) + GAP * len(wide)
    wanted = max((cell_len(line.words) for line in lines), default=0)
    if width - used >= min(wanted, WORDS_ROOM):
        return _beside(title, heads, words_head if wanted else "", lines, numbers)

    def row(cells: Sequence[str]) -> str:
        aligned = [
            text.rjust(room) if head in numbers else text.ljust(room)
            for head, text, room in zip(heads, cells, wide, strict=True)
        ]
        return (" " * GAP).join(aligned).rstrip()

    def below(words: str, style: str) -> RenderableType:
        return Padding(Text(words, style=style), (0, 0, 0, 2 * GAP))

    parts: list[RenderableType] = [Text(title, style="italic"), Text(row(heads), style="bold")]
    parts += [below(words_head, "bold")] if wanted else []
    parts.append(Text("─" * (used - GAP)))
    for line in lines:
        parts.append(Text(row(line.cells), style=line.style))
        parts += [below(line.words, line.style)] if line.words else []
    return Group(*parts, "")


def _beside(
    title: str, heads: Sequence[str], words_head: str, lines: Sequence[Line], numbers: Collection[str]
) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="right" if head in numbers else "left", no_wrap=True)
    table.add_column(words_head)
    for line in lines:
        table.add_row(*line.cells, Text(line.words), style=line.style)
    return table
