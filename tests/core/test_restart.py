"""A new process: what had no answer is in doubt, whatever has become of the order meanwhile."""

from __future__ import annotations

import pytest
from tests.core.build import D, Desk, at, report, snapshot, streamed

from trueup.core.commands import ReplaceOrder
from trueup.core.effects import FindOrder
from trueup.core.events import RuntimeStarted
from trueup.core.model import ExecType, OrderReport, OrderStatus, RequestKind, RequestOutcome

S = OrderStatus


def with_a_replace_that_nobody_answered() -> tuple[Desk, str]:
    """An order that was cancelled at the broker while our replace was under way, and then the process died."""
    desk = Desk()
    desk.submit(100, limit="10")
    desk.answer(RequestOutcome.ACCEPTED, report(S.NEW, 0, version=1), when=1)
    desk.tell(ReplaceOrder(at=at(2), order_id=desk.of().order_id, limit_price=D("10.5")))
    desk.tell(streamed(ExecType.CANCELED, report(S.CANCELED, 0, version=3), when=3))
    name = desk.of().legs[-1].client_order_id
    assert name is not None
    assert desk.of().is_terminal
    desk.effects.clear()
    desk.tell(RuntimeStarted(at=at(60), version="2", broker="paper"))
    return desk, name


def test_a_replace_without_an_answer_is_in_doubt_though_its_order_has_ended() -> None:
    desk, name = with_a_replace_that_nobody_answered()
    assert desk.of().in_doubt is RequestKind.REPLACE
    assert [find.client_order_id for find in desk.wants(FindOrder) if isinstance(find, FindOrder)] == [name]
    assert not desk.of().is_terminal
    assert desk.of().order_id in desk.belief.open_orders


@pytest.mark.parametrize("arrived", [False, True])
def test_its_doubt_ends_by_the_brokers_word(arrived: bool) -> None:
    desk, name = with_a_replace_that_nobody_answered()
    found: OrderReport | None = None
    if arrived:
        found = report(S.NEW, 0, version=4, client_id=name, broker_id="b-2", replaces="b-1")
    for when in (70, 80):
        desk.find(found, client_id=name, started=when)
    assert desk.of().in_doubt is None
    assert desk.of().in_flight is None
    assert (desk.of().order_id in desk.belief.open_orders) is arrived
    assert desk.of().status is (S.NEW if arrived else S.CANCELED)
    desk.restore(snapshot(*([found] if found else []), when=90), when=89)
    assert desk.belief.truth.last_result == "clean"
