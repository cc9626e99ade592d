"""Whether what several requests read is a state that the broker's books ever had.

Orders, fills, positions and cash come from different requests, and the books move in between. There are two proofs.

*It adds up.* An earlier accepted reading is the base. When every position equals the base's plus the executions listed
since, cash likewise to the last digit, and every order's filled quantity likewise, then all of it stands as it stood at
the instant at which the fills were listed: that list is what moves all the others, and each was found exactly where the
list puts it. One pass over the lists suffices, and a busy account need not hold still.

*It stood still.* Without a base, or when shares or money moved without an execution, three passes in a row have to be
equal. The list of fills only grows, so equal lists in the first and the third pass mean that nothing was filled in
between, and everything in the second was read in between. Two equal passes prove nothing: a purchase between positions
and fills of the first, and a sale at the same price between fills and positions of the second, leave both passes equal
and both wrong, since positions and cash can come back to what they were.

Not for reading, nor for what a snapshot means. Invariant: pure; what can't be shown to be one state is not accepted.
One thing can deceive the sum: a transfer before the pass, undone to the share by a fill that the pass sees in the
positions alone. The next pass lists that fill, and no longer adds up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trueup.core.model import (
    ZERO,
    AccountReport,
    BrokerOrderId,
    Execution,
    ExecutionId,
    OrderReport,
    PositionReport,
    Symbol,
    sign,
)

STILL = 3
"""How many equal readings in a row prove themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One pass over all lists; every request of it was sent after `started_at`, `since` is where its fills begin."""

    started_at: datetime
    since: datetime
    orders: Mapping[BrokerOrderId, OrderReport]
    absent: frozenset[BrokerOrderId]
    executions: Mapping[ExecutionId, Execution]
    positions: tuple[PositionReport, ...]
    account: AccountReport

    def quantities(self) -> dict[Symbol, Decimal]:
        """Shares held by symbol, signed, without those that are flat."""
        return {position.symbol: position.quantity for position in self.positions if position.quantity}

    def state(self) -> tuple[object, ...]:
        """All that two readings of unmoved books have in common; prices move without them."""
        orders = {name: (row.filled_quantity, row.raw_status, row.version) for name, row in self.orders.items()}
        return (
            self.account.account_id,
            self.account.cash,
            self.quantities(),
            orders,
            self.absent,
            _matched(self.executions),
        )


def adds_up(base: Reading, now: Reading) -> bool:
    """True when `now` is the base plus the executions listed since, in every position, in cash and in every order."""
    new = executions_since(base, now)
    if new is None or now.absent or base.account.account_id != now.account.account_id:
        return False
    positions = defaultdict(lambda: ZERO, base.quantities())
    filled = defaultdict(lambda: ZERO, {name: row.filled_quantity for name, row in base.orders.items()})
    highest: dict[BrokerOrderId, Decimal] = {}
    cash = base.account.cash
    for execution in new:
        signed = sign(execution.side) * execution.quantity
        positions[execution.symbol] += signed
        cash -= signed * execution.price
        name = execution.broker_order_id
        filled[name] += execution.quantity
        if execution.cum_quantity is not None:
            highest[name] = max(highest.get(name, ZERO), execution.cum_quantity)
        if name not in now.orders:
            return False
    for name, row in now.orders.items():
        if (name in base.orders or name not in highest) and row.filled_quantity != filled[name]:
            return False
        # one that the base does not have can have been filled in part before; its newest execution tells the whole
        if row.filled_quantity != highest.get(name, row.filled_quantity):
            return False
    held = {symbol: quantity for symbol, quantity in positions.items() if quantity}
    return cash == now.account.cash and held == now.quantities()


def executions_since(base: Reading, now: Reading) -> list[Execution] | None:
    """The executions that `now` lists and the base does not; None where the lists can't be told apart by that.

    That is so when one that was listed, and is not too old for the present list, is gone or reads otherwise: annulled,
    or the list is an older one.
    """
    listed = _matched(now.executions)
    for name, terms in _matched(base.executions).items():
        if base.executions[name].at > now.since and listed.get(name) != terms:
            return None
    return [
        execution
        for name, execution in now.executions.items()
        if name not in base.executions and execution.at > base.since  # the base did not list what was older
    ]


def goes_back(base: Reading, now: Reading) -> bool:
    """True when `now` tells of an order as it stood before the base: a copy of the books that lags behind."""
    for name, row in now.orders.items():
        known = base.orders.get(name)
        if known is None or known.version is None or row.version is None:
            continue
        if row.version < known.version:
            return True
    return False


def stood_still(readings: Sequence[Reading]) -> bool:
    """True when the last `STILL` readings are equal; the middle one is then a state of the books."""
    last = [reading.state() for reading in readings[-STILL:]]
    return len(last) == STILL and all(state == last[0] for state in last)


def _matched(executions: Mapping[ExecutionId, Execution]) -> dict[ExecutionId, tuple[object, ...]]:
    return {
        name: (execution.broker_order_id, execution.symbol, execution.side, execution.quantity, execution.price)
        for name, execution in executions.items()
    }
