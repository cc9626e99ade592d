"""A model of connect, acknowledge, buffer, snapshot, merge, live; and an explorer that visits every state of it.

One order fills share by share; each fill is a frame with its number, and a snapshot is how many there are. The broker,
the wire and the client move one small step at a time, in any order; the connection may be cut between any two of them.
Not in the model: a socket that is open and silent (found by expectation, see `docs/reference/order-truth.md`), and
lists at the broker that lag. Invariant: a state is plain data, and `moves` depends on nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

FILLS = 3
CUTS = 2
ACK = 0
"""The acknowledgement on the wire; every other frame is the number of a fill, 1 and up."""


@dataclass(frozen=True)
class Protocol:
    """How a client behaves between connecting and calling itself live."""

    name: str
    snapshot_needs_ack: bool = True
    """A snapshot is asked for after the acknowledgement; one that was asked for in an earlier life proves nothing."""
    keeps_early_events: bool = True
    """What comes before the snapshot is merged is held back, and applied after it."""
    live_needs_merge: bool = True
    """Live is said only once the snapshot is merged."""
    snapshot_on_reconnect: bool = True
    """Each new connection takes a snapshot, not the first one alone."""
    joins: bool = True
    """A fill that the snapshot holds already is counted once; otherwise each frame adds a share."""
    buffers: bool = True
    """Early events wait; otherwise they are applied at once, and the snapshot is written over them."""


RIGHT = Protocol("connect, acknowledge, buffer, snapshot, merge, live")
WRONG = (
    Protocol("the snapshot before the acknowledgement", snapshot_needs_ack=False),
    Protocol("no buffer: early events are dropped", keeps_early_events=False),
    Protocol("no buffer: a late snapshot is written over early events", buffers=False),
    Protocol("live before the merge", live_needs_merge=False),
    Protocol("a reconnect is trusted", snapshot_on_reconnect=False),
    Protocol("each frame adds a share", joins=False),
)


class State(NamedTuple):
    """Broker, wire and client at one moment."""

    filled: int = 0
    cuts: int = 0
    listening: bool = False
    """The broker sends frames to us."""
    wire: tuple[int, ...] = ()
    connected: bool = False
    acked: bool = False
    asked: str = ""
    """A snapshot: not asked for (""), asked for ("asked"), or answered and on its way ("answered")."""
    answer: int = 0
    fresh: bool = False
    """The snapshot under way was asked for in this life of the connection."""
    merged: bool = False
    ever_merged: bool = False
    held: tuple[int, ...] = ()
    belief: int = 0
    live: bool = False


Move = tuple[str, State]


def moves(protocol: Protocol, state: State) -> Iterator[Move]:
    """Everything that can happen next, each with a line for people."""
    if state.filled < FILLS:
        filled = state.filled + 1
        wire = (*state.wire, filled) if state.listening else state.wire
        sent = "the frame is sent" if state.listening else "nobody listens"
        yield f"fill {filled} at the broker; {sent}", state._replace(filled=filled, wire=wire)
    if not state.connected:
        yield "the client connects and asks to listen", state._replace(connected=True)
    else:
        if not state.listening:
            yield "the broker listens and acknowledges", state._replace(listening=True, wire=(*state.wire, ACK))
        if state.wire:
            yield _receive(protocol, state)
        if state.cuts < CUTS:
            cut = state._replace(
                cuts=state.cuts + 1,
                listening=False,
                wire=(),
                connected=False,
                acked=False,
                merged=False,
                fresh=False,
                held=(),
                live=False,
            )
            yield "the connection is cut", cut
    yield from _snapshot(protocol, state)


def _receive(protocol: Protocol, state: State) -> Move:
    frame, rest = state.wire[0], state.wire[1:]
    state = state._replace(wire=rest)
    if frame == ACK:
        text = "the acknowledgement arrives"
        state = state._replace(acked=True)
        skipping = not protocol.snapshot_on_reconnect and state.ever_merged
        return _said_live(text, protocol, state._replace(merged=state.merged or skipping))
    text = f"the frame of fill {frame} arrives"
    if state.merged or not protocol.buffers or (not protocol.live_needs_merge and state.live):
        return f"{text}; applied", state._replace(belief=_applied(protocol, state.belief, frame))
    if not protocol.keeps_early_events:
        return f"{text}; dropped, as the snapshot is not merged yet", state
    return f"{text}; held back", state._replace(held=(*state.held, frame))


def _applied(protocol: Protocol, belief: int, frame: int) -> int:
    return max(belief, frame) if protocol.joins else belief + 1


def _snapshot(protocol: Protocol, state: State) -> Iterator[Move]:
    may_ask = state.connected and not state.merged and (state.acked or not protocol.snapshot_needs_ack)
    if may_ask and not (state.asked and state.fresh):
        yield "the client asks for a snapshot", state._replace(asked="asked", fresh=True)
    if state.asked == "asked":
        yield f"the broker answers the snapshot: {state.filled}", state._replace(asked="answered", answer=state.filled)
    if state.asked == "answered":
        told = state._replace(asked="", answer=0, fresh=False)
        text = f"the snapshot of {state.answer} arrives"
        proves = state.connected and (state.fresh or not protocol.snapshot_needs_ack)
        if not proves:
            yield f"{text}; of an earlier life, it proves nothing", told
            return
        if protocol.buffers and protocol.joins:
            belief = max(state.belief, state.answer)
        else:
            belief = state.answer
        for frame in state.held:
            belief = _applied(protocol, belief, frame)
        merged = told._replace(belief=belief, held=(), merged=True, ever_merged=True)
        yield _said_live(f"{text}; merged" + (", then what was held back" if state.held else ""), protocol, merged)


def _said_live(text: str, protocol: Protocol, state: State) -> Move:
    live = state.acked and (state.merged or not protocol.live_needs_merge)
    if live and not state.live:
        return f"{text}; the client says: live", state._replace(live=True)
    return text, state


def harm(state: State) -> str | None:
    """What is wrong with a state; None when nothing is.

    While the client says live, every fill at the broker is in its belief or on the wire to it.
    """
    if state.belief > state.filled:
        return f"belief is {state.belief}, and only {state.filled} ever filled"
    if state.live:
        lost = [fill for fill in range(state.belief + 1, state.filled + 1) if fill not in state.wire]
        if lost:
            return f"the client says live with {state.belief} of {state.filled}; fill {lost[0]} will never come"
    return None


@dataclass
class Explored:
    """What a visit of every state found: the shortest way to harm, if there is one."""

    states: int
    moves: int
    deepest: int
    harm: str | None
    way: list[str]
    stuck: int


def explore(protocol: Protocol, harmful: Callable[[State], str | None] = harm) -> Explored:
    """Visit every state, nearest first, so that the first harm found is one with the shortest way to it."""
    start = State()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    depth = {start: 0}
    before: dict[State, list[State]] = {}
    queue = deque([start])
    count = 0
    while queue:
        state = queue.popleft()
        found = harmful(state)
        if found is not None:
            return Explored(len(came_from), count, depth[state], found, _way(came_from, state), 0)
        for text, following in moves(protocol, state):
            count += 1
            before.setdefault(following, []).append(state)
            if following not in came_from:
                came_from[following] = (state, text)
                depth[following] = depth[state] + 1
                queue.append(following)
    return Explored(len(came_from), count, max(depth.values()), None, [], _stuck(came_from, before))


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    way = []
    step = came_from[state]
    while step is not None:
        state, text = step
        way.append(text)
        step = came_from[state]
    return way[::-1]


def _stuck(states: dict[State, tuple[State, str] | None], before: dict[State, list[State]]) -> int:
    """States from which no way leads to a live client that has everything."""
    good = [state for state in states if state.live and state.belief == state.filled]
    reached = set(good)
    queue = deque(good)
    while queue:
        for earlier in before.get(queue.popleft(), ()):
            if earlier not in reached:
                reached.add(earlier)
                queue.append(earlier)
    return len(states) - len(reached)
