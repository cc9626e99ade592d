"""The kill switch, and the trading state that follows from all demands.

Every danger *demands* a trading state; the strictest demand holds, and nobody lowers another's. The kill switch is
latched: it stands until a person resumes. Not for acting on it: cancels and gates are the step's and the outbox's.
Invariant: each kill raises the halt generation, so that nothing decided before it is sent after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from trueup.core.model import TradingState

STALE_DATA = "stale_data"
"""The breaker that is on while belief may be wrong without our knowing: no live broker events, or a gap open."""

SEVERITY: dict[TradingState, int] = {
    TradingState.ACTIVE: 0,
    TradingState.REDUCE_ONLY: 1,
    TradingState.HALTED: 2,
    TradingState.KILLED: 3,
}


@dataclass(slots=True)
class KillSwitch:
    """The operator's breaker."""

    killed: bool = False
    reason: str = ""
    operator: str = ""
    at: datetime | None = None
    asked_by: str = ""


@dataclass(slots=True)
class Gate:
    """What may leave the house, and why."""

    demands: dict[str, tuple[TradingState, str]] = field(default_factory=dict)
    """Name of a danger -> the state it demands, and its reason in one line."""
    kill: KillSwitch = field(default_factory=KillSwitch)
    halt_generation: int = 0

    @property
    def trading_state(self) -> TradingState:
        """The strictest state that anyone demands."""
        state = TradingState.KILLED if self.kill.killed else TradingState.ACTIVE
        for demanded, _ in self.demands.values():
            if SEVERITY[demanded] > SEVERITY[state]:
                state = demanded
        return state

    def demand(self, name: str, state: TradingState, reason: str) -> bool:
        """Raise or renew one demand; True when the trading state changed."""
        before = self.trading_state
        self.demands[name] = (state, reason)
        after = self.trading_state
        if SEVERITY[after] >= SEVERITY[TradingState.HALTED] > SEVERITY[before]:
            self.halt_generation += 1
        return after is not before

    def withdraw(self, name: str) -> bool:
        """Take one demand back; True when the trading state changed."""
        before = self.trading_state
        self.demands.pop(name, None)
        return self.trading_state is not before

    def set_kill(self, killed: bool, *, reason: str, operator: str, at: datetime, asked_by: str = "") -> None:
        """Latch or release the kill switch; each kill raises the halt generation, a repeated one too."""
        if killed:
            self.halt_generation += 1
        self.kill = KillSwitch(killed, reason, operator, at, asked_by)

    def reasons(self) -> tuple[str, ...]:
        """Why the state is what it is, the kill switch first."""
        lines = [reason for _, reason in self.demands.values()]
        if self.kill.killed:
            lines.insert(0, f"kill switch: {self.kill.reason}")
        return tuple(lines)
