"""The connect protocol: right in every state of the model; each shortcut wrong, by the way that the page shows.

`pytest -s` prints the counterexamples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.protocol.model import RIGHT, WRONG, Explored, Protocol, State, explore, harm

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "connect-protocol.md"


def told(found: Explored) -> str:
    """A counterexample as the page prints it."""
    return "\n".join(
        [*(f"{number}. {text}" for number, text in enumerate(found.way, start=1)), "", f"**{found.harm}**"]
    )


def test_the_protocol_is_right_in_every_state() -> None:
    found = explore(RIGHT)
    assert found.harm is None, told(found)
    assert found.stuck == 0, "from some state no way leads to a live client that has everything"
    sys.stdout.write(f"\n{RIGHT.name}: {found.states:,} states, {found.moves:,} moves, depth {found.deepest}\n")
    assert f"{found.states:,} states and {found.moves:,} moves" in PAGE.read_text(encoding="utf-8")


def test_the_model_reaches_what_it_is_about() -> None:
    """A model that never cuts, fills in a gap, or holds an event back would prove nothing."""
    seen: list[State] = []

    def note(state: State) -> str | None:
        seen.append(state)
        return None

    explore(RIGHT, note)
    assert any(state.live and state.cuts == 2 and state.filled == 3 == state.belief for state in seen)
    assert any(len(state.held) == 2 for state in seen)
    assert any(not state.connected and state.filled > state.belief and state.ever_merged for state in seen)
    assert any(state.asked == "answered" and not state.fresh for state in seen), "an answer of an earlier life"


@pytest.mark.parametrize("protocol", WRONG, ids=lambda protocol: protocol.name.replace(" ", "-"))
def test_each_shortcut_is_wrong_and_the_page_shows_how(protocol: Protocol) -> None:
    found = explore(protocol)
    assert found.harm is not None
    sys.stdout.write(f"\n{protocol.name}\n{told(found)}\n")
    assert told(found) in PAGE.read_text(encoding="utf-8"), f"the page lacks:\n## {protocol.name}\n\n{told(found)}"


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        (State(filled=1, belief=2), True),
        (State(filled=1, belief=0, live=True), True),
        (State(filled=1, belief=0, live=True, listening=True, connected=True, wire=(1,)), False),
        (State(filled=1, belief=0), False),
    ],
)
def test_harm_is_a_live_client_that_lacks_what_will_not_come(state: State, wrong: bool) -> None:
    assert (harm(state) is not None) is wrong
