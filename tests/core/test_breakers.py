"""Demands and the kill switch: the strictest holds, and nothing decided before a halt is sent after it."""

from __future__ import annotations

from itertools import product

import pytest
from tests.core.build import at

from trueup.core.breakers import SEVERITY, Gate, KillSwitch
from trueup.core.model import TradingState

T = TradingState
DEMANDS = (T.ACTIVE, T.REDUCE_ONLY, T.HALTED)


def killed(gate: Gate, second: float = 0) -> None:
    gate.set_kill(True, reason="storm", operator="human", at=at(second))


def test_the_states_stand_in_one_line_of_severity() -> None:
    assert sorted(T, key=SEVERITY.__getitem__) == list(T)


@pytest.mark.parametrize(("one", "other"), list(product(DEMANDS, repeat=2)))
@pytest.mark.parametrize("kill", [False, True])
def test_the_strictest_demand_holds(one: T, other: T, kill: bool) -> None:
    gate = Gate()
    gate.demand("one", one, "first")
    gate.demand("other", other, "second")
    if kill:
        killed(gate)
    assert gate.trading_state is (T.KILLED if kill else max(one, other, key=SEVERITY.__getitem__))
    gate.withdraw("one")
    assert gate.trading_state is (T.KILLED if kill else other)


def test_without_demands_trading_is_free() -> None:
    gate = Gate()
    assert gate.trading_state is T.ACTIVE
    assert gate.reasons() == ()


def test_a_demand_says_whether_it_changed_anything() -> None:
    gate = Gate()
    assert gate.demand("truth", T.REDUCE_ONLY, "a gap is open")
    assert not gate.demand("truth", T.REDUCE_ONLY, "another gap is open")
    assert not gate.demand("account", T.ACTIVE, "fine")
    assert gate.withdraw("truth")
    assert not gate.withdraw("truth")


def test_nobody_takes_back_another_demand() -> None:
    gate = Gate()
    gate.demand("account", T.HALTED, "blocked")
    gate.withdraw("truth")
    assert gate.trading_state is T.HALTED


@pytest.mark.parametrize(
    ("states", "generation"),
    [
        ([T.REDUCE_ONLY], 0),
        ([T.HALTED], 1),
        ([T.REDUCE_ONLY, T.HALTED], 1),
        ([T.HALTED, T.HALTED], 1),
        ([T.HALTED, T.ACTIVE, T.HALTED], 2),
    ],
)
def test_each_halt_raises_the_generation(states: list[T], generation: int) -> None:
    gate = Gate()
    for state in states:
        gate.demand("danger", state, "why")
    assert gate.halt_generation == generation


def test_each_kill_raises_the_generation_a_repeated_one_too() -> None:
    gate = Gate()
    killed(gate)
    killed(gate, 1)
    assert gate.halt_generation == 2
    gate.set_kill(False, reason="over", operator="human", at=at(2))
    assert (gate.halt_generation, gate.trading_state) == (2, T.ACTIVE)


def test_a_resume_lifts_the_kill_and_no_other_demand() -> None:
    gate = Gate()
    gate.demand("truth", T.REDUCE_ONLY, "a gap is open")
    killed(gate)
    gate.set_kill(False, reason="over", operator="human", at=at(1))
    assert gate.trading_state is T.REDUCE_ONLY


def test_the_kill_is_the_first_reason() -> None:
    gate = Gate()
    gate.demand("truth", T.REDUCE_ONLY, "a gap is open")
    killed(gate)
    assert gate.reasons() == ("kill switch: storm", "a gap is open")


def test_a_kill_switch_keeps_who_turned_it_and_whose_wish_it_was() -> None:
    gate = Gate()
    killed(gate, 3)
    assert gate.kill == KillSwitch(True, "storm", "human", at(3), "")
    gate.set_kill(False, reason="over", operator="human", at=at(4), asked_by="maria")
    assert gate.kill == KillSwitch(False, "over", "human", at(4), "maria")
