"""The two pages about orders tell what the code does: no case, test, status or event is left out or made up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from trueup.brokers.alpaca.decode import EXEC_TYPE, STATUS
from trueup.core.model import OrderStatus
from trueup.core.orders import TERMINAL
from trueup.core.projection import SEED_STATUS

ROOT = Path(__file__).resolve().parents[2]
TRUTH = (ROOT / "docs/reference/order-truth.md").read_text(encoding="utf-8")
STATUSES = (ROOT / "docs/reference/order-status.md").read_text(encoding="utf-8")
HARD_CASES = "tests/core/test_hard_cases.py"
CASES = 64


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def named_tests() -> list[tuple[str, str]]:
    named = []
    for row in rows(TRUTH, "The cases"):
        for reference in row[3].split("<br>"):
            words = re.findall(r"[\w/.]+", reference)
            if words[-1].startswith("test_"):
                named.append((words[0] if len(words) > 1 else HARD_CASES, words[-1]))
    return named


def test_every_case_has_one_row() -> None:
    assert [int(row[0]) for row in rows(TRUTH, "The cases")] == list(range(1, CASES + 1))


def test_a_row_names_a_test_or_says_that_there_is_none() -> None:
    for number, _, right, reference in rows(TRUTH, "The cases"):
        assert ("not covered yet" in reference) == right.startswith("Not covered yet"), number
        assert "test_" in reference or reference == "not covered yet", number


@pytest.mark.parametrize(("path", "name"), named_tests())
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name in names_in(path)


def test_every_test_of_a_case_stands_in_the_row_of_its_number() -> None:
    told = {(int(row[0]), name) for row in rows(TRUTH, "The cases") for name in re.findall(r"test_case_\w+", row[3])}
    assert told == {(int(name.split("_")[2]), name) for name in names_in(HARD_CASES) if name.startswith("test_case_")}


def test_the_page_names_files_that_exist() -> None:
    for path in re.findall(r"`(tests/[\w/]+\.py)`", TRUTH + STATUSES):
        assert (ROOT / path).is_file(), path


def test_every_status_of_ours() -> None:
    told = {row[0]: row for row in rows(STATUSES, "Ours")}
    assert set(told) == {status.value for status in OrderStatus}
    for status in OrderStatus:
        assert told[status][2].startswith("yes") == (status in TERMINAL), status
        assert told[status][3] == SEED_STATUS[status].value, status


def test_every_status_of_alpaca() -> None:
    told = dict(rows(STATUSES, "Alpaca's status"))
    assert told == {word: status.value if status else "by what is filled" for word, status in STATUS.items()}


def test_every_event_of_alpaca() -> None:
    assert dict(rows(STATUSES, "Alpaca's events")) == {word: kind.value for word, kind in EXEC_TYPE.items()}
