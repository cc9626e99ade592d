"""Lines of columns with words: whole on a screen of any width, and beside one another where there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trueup.cli.ledger import Line, ledger

COLUMNS = ("entry", "by", "status", "what")
WORD = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)
LINE = st.builds(
    Line,
    st.tuples(WORD, WORD, WORD),
    st.lists(WORD, max_size=12).map(" ".join),
)


def printed(lines: list[Line], width: int) -> list[str]:
    """What a screen of this width shows, line by line."""
    console = Console(width=width, color_system=None)
    with console.capture() as shown:
        console.print(ledger("story", COLUMNS, lines, width=width, numbers=("entry",)))
    return shown.get().splitlines()


@given(st.lists(LINE, min_size=1, max_size=6), st.integers(50, 160))
def test_nothing_is_left_out_on_a_screen_of_any_width(lines: list[Line], width: int) -> None:
    shown = printed(lines, width)
    words = [word for text in shown for word in text.split() if not word.startswith("─")]
    wanted = ["story", *(COLUMNS if any(line.words for line in lines) else COLUMNS[:-1])]
    for line in lines:
        wanted += [*line.cells, *line.words.split()]
    assert sorted(words) == sorted(wanted)
    assert max(len(text) for text in shown) <= width


def test_words_stand_beside_their_line_where_there_is_room() -> None:
    lines = [Line(("7", "stream", "FILLED"), "fill 10 @ 178.42")]
    assert ["7", "stream", "FILLED", "fill", "10", "@", "178.42"] in [text.split() for text in printed(lines, 80)]


def test_words_go_below_their_line_where_there_is_none() -> None:
    lines = [Line(("7", "stream", "FILLED"), "fill 10 @ 178.42"), Line(("120", "us", ""))]
    assert [text.rstrip() for text in printed(lines, 36)] == [
        "story",
        "entry  by      status",
        "    what",
        "─────────────────────",
        "    7  stream  FILLED",
        "    fill 10 @ 178.42",
        "  120  us",
        "",
    ]


def test_words_that_nobody_has_need_no_head() -> None:
    assert "what" not in "".join(printed([Line(("7", "stream", "FILLED"))], 80))
