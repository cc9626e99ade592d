"""Another client's order groups in a lively market with faults: at the end belief equals the books, seed by seed.

The exchange is in process and time is virtual, so that many minutes cost a second. What the wire makes of groups is
told in `test_groups_stay_true.py`. Not a part of the chaos proof: its lives stay as they were drawn.
"""

from __future__ import annotations

import random
from decimal import Decimal as D

import pytest
from tests.runtime.scene import AAPL, MSFT, Scene, running

from trueup.chaos.checkers import belief_equals_the_books, every_execution_is_held_once
from trueup.chaos.virtual import VirtualClock, run_virtual
from trueup.simulator.model import (
    AccountRules,
    FillModel,
    OrderClass,
    OrderRequest,
    OrderType,
    Refused,
    ReplaceRequest,
    Side,
    StopLoss,
    TimeInForce,
)

LIVELY = {"fill_model": FillModel(partial_probability=0.5), "rules": AccountRules(cash=D(1_000_000))}
HEALING_S = 400
SYMBOLS = (AAPL, MSFT)
WISHES = ("enter", "enter", "enter", "exit", "price", "price", "price", "cancel", "replace", "stream", "stream", "rest")


class Stranger:
    """Somebody else who trades on the account in groups, and the harm that is done meanwhile."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._sim = scene.sim
        self._dice = random.Random(seed)
        self.sent = 0

    async def trade(self) -> None:
        """A dozen wishes, one after another; the exchange may refuse some."""
        for _ in range(12):
            try:
                self._wish(self._dice.choice(WISHES))
            except Refused:
                continue
            finally:
                await VirtualClock().sleep(self._dice.choice([0.003, 0.03, 0.3, 2]))

    def leave(self) -> None:
        """Cancel what is open."""
        for order in self._sim.exchange.open_orders():
            if self._sim.exchange.order(order.id).is_open and order.cancel_requested_at is None:
                self._sim.act(lambda market, at, order=order: market.cancel(order.id, at))

    def _wish(self, what: str) -> None:
        dice, sim = self._dice, self._sim
        symbol = dice.choice(SYMBOLS)
        match what:
            case "enter":
                self._enter(symbol)
            case "exit":
                self._exit(symbol)
            case "price":
                sim.world.move(symbol, self._off(symbol, dice.choice([-5, -3, 3, 5])), dice.choice([0.0, 2.0]))
            case "cancel":
                working = sim.exchange.open_orders()
                if working:
                    order = dice.choice(working)
                    sim.act(lambda market, at: market.cancel(order.id, at))
            case "replace":
                self._replace()
            case "stream":
                sim.fault("trade_updates", dice.choice(["drop", "mute", "lose"]), seconds=dice.randint(1, 8))
            case "rest":
                sim.fault("rest", dice.choice(["error", "lost_reply", "lag"]), seconds=3, by_seconds=2)

    def _off(self, symbol: str, percent: int, base: D | None = None) -> D:
        quote = self._sim.exchange.quote(symbol)
        assert quote is not None
        return ((base or quote.last) * (100 + percent) / 100).quantize(D("0.01"))

    def _enter(self, symbol: str) -> None:
        dice = self._dice
        side = dice.choice([Side.BUY, Side.BUY, Side.SELL])
        limit = dice.choice([None, self._off(symbol, side.sign), self._off(symbol, -3 * side.sign)])
        left_out = dice.choice([None, "target", "stop"])
        self._send(
            symbol,
            side,
            D(dice.randint(1, 60)),
            OrderClass.OTO if left_out else OrderClass.BRACKET,
            limit,
            None if left_out == "target" else self._off(symbol, side.sign * dice.randint(1, 4), limit),
            None if left_out == "stop" else self._off(symbol, -side.sign * dice.randint(1, 4), limit),
        )

    def _exit(self, symbol: str) -> None:
        held = self._sim.exchange.position(symbol).qty
        if held:
            side = Side.SELL if held > 0 else Side.BUY
            target, stop = self._off(symbol, -2 * side.sign), self._off(symbol, 2 * side.sign)
            self._send(symbol, side, abs(held), OrderClass.OCO, None, target, stop)

    def _send(
        self, symbol: str, side: Side, qty: D, name: OrderClass, limit: D | None, target: D | None, stop: D | None
    ) -> None:
        request = OrderRequest(
            symbol=symbol,
            side=side,
            type=OrderType.LIMIT if limit is not None or name is OrderClass.OCO else OrderType.MARKET,
            time_in_force=TimeInForce.GTC,
            qty=qty,
            limit_price=limit,
            order_class=name,
            take_profit_price=target,
            stop_loss=None if stop is None else StopLoss(stop_price=stop),
        )
        self._sim.act(lambda market, at: market.submit(request, at, is_external=True))
        self.sent += 1

    def _replace(self) -> None:
        members = [order for order in self._sim.exchange.open_orders() if order.limit_price or order.stop_price]
        if members:
            order = self._dice.choice(members)
            nudge = D("0.05")
            if order.stop_price is not None:
                terms = ReplaceRequest(stop_price=order.stop_price + nudge)
            else:
                terms = ReplaceRequest(limit_price=(order.limit_price or D(0)) + nudge)
            self._sim.act(lambda market, at: market.replace(order.id, terms, at))


@pytest.mark.parametrize("seed", range(8))
def test_groups_that_come_and_go_under_faults_are_believed_as_they_stand(seed: int) -> None:
    async def main() -> None:
        async with running(seed=seed, symbols=SYMBOLS, exchange_terms=LIVELY) as scene:
            await scene.up()
            stranger = Stranger(scene, seed)
            await stranger.trade()
            assert stranger.sent
            scene.sim.world.faults.clear()
            await VirtualClock().sleep(HEALING_S)
            stranger.leave()
            await VirtualClock().sleep(HEALING_S)
            belief_equals_the_books(scene.belief, scene.sim.exchange)
            every_execution_is_held_once(scene.belief, scene.sim.exchange)
            assert not scene.belief.open_orders

    run_virtual(main())
