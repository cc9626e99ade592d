"""Questions after the fact: what the journal tells of a moment, of an order that belief has left, and of drift."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from tests.runtime.scene import broker_id_of, exchange, running

from trueup.chaos.virtual import VirtualClock, run_virtual, until
from trueup.core import belief as belief_module
from trueup.core import transition
from trueup.core.commands import CancelOrder, Kill, Reconcile, Resume
from trueup.core.model import OrderId
from trueup.core.projection import order_detail_view
from trueup.core.views import ExplanationView
from trueup.journal.memory import MemoryJournal
from trueup.runtime import explain as questions
from trueup.runtime.explain import divergences, explain


def told(journal: MemoryJournal, any_id: str, at: datetime | None = None) -> ExplanationView:
    explanation = explain(journal, any_id, at=at)
    assert explanation is not None
    return explanation


def filled_in_the_dark() -> tuple[MemoryJournal, OrderId, datetime]:
    """An order that works, and of which 40 are filled at the time returned, while no house runs; then one starts."""

    async def main() -> tuple[MemoryJournal, OrderId, datetime]:
        journal = MemoryJournal()
        async with exchange() as sim:
            async with running(journal=journal, sim=sim) as first:
                await first.up()
                order = await first.working()
                await VirtualClock().sleep(5)
            await VirtualClock().sleep(10)
            first.fill(order, 40)
            at = VirtualClock().now()
            await VirtualClock().sleep(10)
            async with running(journal=reopened(journal), sim=sim) as second:
                await second.up()
                return second.journal, order.order_id, at  # type: ignore[return-value]

    return run_virtual(main())


def reopened(journal: MemoryJournal) -> MemoryJournal:
    """The same journal, as another process would open it."""
    again = MemoryJournal(journal.epoch)
    again.append([entry.input for entry in journal.read()])
    return again


def test_what_the_broker_knew_and_we_did_not() -> None:
    journal, order_id, at = filled_in_the_dark()
    story = told(journal, order_id, at + timedelta(seconds=1))
    moment = story.moment
    assert moment is not None
    assert moment.order is not None
    assert (moment.order.detail, moment.order.filled_quantity) == ("NEW", 0)
    assert moment.truth_lag_s is not None
    assert moment.truth_lag_s > 9
    fills = [line for line in moment.ahead if line.event == "TRADE"]
    assert [(line.source, line.filled_after) for line in fills] == [("reconcile", 40)]
    assert [line.broker_at for line in fills] == [at]
    assert fills[0].arrived_at - at >= timedelta(seconds=10)
    (gap,) = [gap for gap in story.detail.gaps if gap.missed]
    assert (gap.reason, gap.learned_by) == ("process start", {"reconcile": 1})


def test_a_moment_is_the_belief_of_that_moment() -> None:
    journal, order_id, at = filled_in_the_dark()
    early = told(journal, order_id, next(iter(journal.read())).input.at).moment
    assert early is not None
    assert (early.order, early.truth_lag_s, early.ahead) == (None, None, ())
    late = told(journal, order_id, at + timedelta(days=1)).moment
    assert late is not None
    assert late.order is not None
    assert (late.order.filled_quantity, late.ahead, late.offset) == (40, (), journal.last_offset())


def test_every_name_of_an_order_leads_to_the_same_story() -> None:
    journal, order_id, _ = filled_in_the_dark()
    by_ours = told(journal, order_id)
    row = by_ours.detail.order
    assert row.broker_order_id is not None
    assert told(journal, row.client_order_id) == by_ours
    assert told(journal, row.broker_order_id) == by_ours
    assert [deed.what for deed in by_ours.deeds] == [f"sent the order as {row.client_order_id}"]
    assert explain(journal, "o-9999") is None


def test_a_story_is_that_of_belief_while_belief_holds_it() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.fill(order, 30)
            await until(lambda: order.filled == 30, told="the fill")
            await scene.house.sequencer.submit(CancelOrder(at=scene.now(), order_id=order.order_id))
            await until(lambda: order.is_terminal, told="the cancel")
            await VirtualClock().sleep(1)
            held = order_detail_view(scene.belief, broker_id_of(order))
            assert isinstance(scene.journal, MemoryJournal)
            story = told(scene.journal, order.order_id)
            assert story.detail == held
            assert [deed.what for deed in story.deeds] == [
                f"sent the order as {order.leg.client_order_id}",
                f"asked for a cancel of {order.leg.broker_order_id}",
            ]

    run_virtual(main())


def test_nothing_is_left_out_of_what_belief_has_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief_module, "TERMINAL_KEPT", 2)
    monkeypatch.setattr(transition, "TIMELINE_KEPT", 2)

    async def main() -> None:
        async with running() as scene:
            await scene.up()
            orders = []
            for _ in range(6):
                order = await scene.working()
                for _ in range(4):
                    scene.fill(order, 25)
                await until(lambda order=order: order.is_terminal, told="the fill")  # type: ignore[misc]
                orders.append((order.order_id, order.leg.broker_order_id))
            await VirtualClock().sleep(1)
            first, broker_id = orders[0]
            assert order_detail_view(scene.belief, first) is None
            assert isinstance(scene.journal, MemoryJournal)
            assert broker_id is not None
            story = told(scene.journal, broker_id)
            assert story.detail.order.id == first
            assert [line.filled_after for line in story.detail.timeline if line.event == "TRADE"] == [25, 50, 75, 100]
            assert story.detail.timeline[0].event == "intent"
            assert len(story.detail.executions) == 4

    run_virtual(main())


def test_every_drift_has_its_cause_and_its_end() -> None:
    journal, order_id, _ = filled_in_the_dark()
    found = divergences(journal)
    (drift,) = found.drifts
    assert (drift.kind, drift.subject, drift.state) == ("order", order_id, "healed")
    assert (drift.believed, drift.reported) == ("NEW 0", "PARTIALLY_FILLED 40")
    assert "reconcile" in drift.cause
    assert drift.ended_at is not None
    assert drift.ended_by == "what the broker told was taken over as it came"
    assert [gap.missed for gap in found.gaps] == [0, 1]
    assert found.folded_to == journal.last_offset()


def test_a_drift_of_positions_is_told_from_suspicion_to_the_entry_that_ended_it() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            scene.sim.act(lambda books, at: books.adjust("AAPL", at, qty=Decimal(7)))
            await until(lambda: bool(scene.belief.drift_log), within_s=900, told="the true-up")
            assert isinstance(scene.journal, MemoryJournal)
            (drift,) = divergences(scene.journal).drifts
            assert (drift.kind, drift.subject, drift.state, drift.trued_up) == ("position", "AAPL", "confirmed", True)
            assert [view.state for view in drift.history] == ["suspected", "confirmed"]
            assert (drift.believed, drift.reported) == ("0", "7")
            assert drift.cause.startswith("one snapshot differs")
            assert drift.ended_by.startswith("trued up to the broker's books: full snapshots since")

    run_virtual(main())


def test_more_drifts_than_one_answer_tells_leave_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "DRIFTS_TOLD", 1)

    async def main() -> None:
        async with running() as scene:
            await scene.up()
            for symbol in ("AAPL", "MSFT"):
                seen = len(scene.belief.drift_log)
                scene.sim.act(lambda books, at, symbol=symbol: books.adjust(symbol, at, qty=Decimal(7)))
                await until(lambda seen=seen: len(scene.belief.drift_log) > seen, within_s=900, told="the true-up")  # type: ignore[misc]
            assert isinstance(scene.journal, MemoryJournal)
            found = divergences(scene.journal)
            assert ([drift.subject for drift in found.drifts], found.left_out) == (["MSFT"], 1)

    run_virtual(main())


def test_the_beliefs_between_two_changes_are_those_of_the_moment() -> None:
    journal, order_id, at = filled_in_the_dark()
    story = told(journal, order_id)
    assert story.detail.timeline[0].told == "order allowed, to be sent"
    assert "found in the broker's snapshot" in " ".join(line.told for line in story.detail.timeline)
    assert story.beliefs_end_at is None
    for back in (0.0, 0.5, 4.0, 12.0, 21.0):
        asked = at + timedelta(seconds=10 - back)
        believed = [view for view in story.beliefs if view.at <= asked]
        moment = told(journal, order_id, asked).moment
        assert moment is not None
        assert moment.order is not None
        now = believed[-1]
        assert (now.detail, now.filled_quantity) == (moment.order.detail, moment.order.filled_quantity)
        assert (now.position, now.trading_state) == (moment.position, moment.trading_state)
        assert (now.broker_events, bool(now.gap)) == (moment.broker_events, moment.gap is not None)
    assert story.beliefs[-1].filled_quantity == 40
    assert story.beliefs[-1].position == 40


def test_an_inferred_fill_is_marked_once_a_real_one_has_named_it() -> None:
    journal, order_id, _ = filled_in_the_dark()
    fills = [fill for line in told(journal, order_id).detail.timeline for fill in line.fills]
    assert [(fill.inferred, fill.quantity, fill.replaced) for fill in fills if fill.inferred] == [(True, 40, 40)]
    assert [(fill.quantity, bool(fill.execution_id)) for fill in fills if fill.replaces_inferred] == [(40, True)]


def test_a_kill_and_what_was_done_meanwhile_stand_in_the_story() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            await scene.house.sequencer.submit(Kill(at=scene.now(), reason="enough"))
            await until(lambda: order.is_terminal, told="the cancel")
            await VirtualClock().sleep(1)
            await scene.house.sequencer.submit(Resume(at=scene.now(), reason="it was nothing"))
            await VirtualClock().sleep(1)
            other = await scene.working()
            assert isinstance(scene.journal, MemoryJournal)
            story = told(scene.journal, order.order_id)
            (band,) = [band for band in story.bands if band.kind == "kill"]
            assert (band.demand, band.reason, band.closed_at is not None) == ("KILLED", "enough", True)
            assert "kill switch engaged by human: enough" in [deed.what for deed in story.meanwhile]
            assert story.beliefs[-1].trading_state == "KILLED"
            assert [band.kind for band in told(scene.journal, other.order_id).bands if band.kind == "kill"] == []

    run_virtual(main())


def test_more_changes_than_one_answer_tells_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    journal, order_id, _ = filled_in_the_dark()
    every = told(journal, order_id).beliefs
    monkeypatch.setattr(questions, "BELIEFS_TOLD", 2)
    story = told(journal, order_id)
    assert (story.beliefs, story.beliefs_end_at) == (every[:2], every[2].at)


def test_what_was_done_in_a_gap_is_told_and_repetitions_counted() -> None:
    async def main() -> None:
        async with running() as scene:
            await scene.up()
            order = await scene.working()
            scene.sim.fault("trade_updates", "drop", seconds=20)
            await until(lambda: scene.belief.truth.open_gap is not None, told="the gap")
            scene.fill(order, 40)
            await until(lambda: scene.belief.truth.open_gap is None, within_s=120, told="the heal")
            await scene.house.sequencer.submit(Reconcile(at=scene.now(), reason="to be sure", asked_by="oleg"))
            assert isinstance(scene.journal, MemoryJournal)
            story = told(scene.journal, order.order_id)
            done = [deed.what for deed in story.meanwhile]
            assert done[0].startswith("stream of broker events lost: ")
            assert "stream of broker events back" in done
            assert "reconciliation wanted by oleg: to be sure" in done
            polls = [deed for deed in story.meanwhile if deed.what == "got the broker's orders by poll"]
            assert sum(deed.times for deed in polls) > len(polls) >= 1
            inside = [view for view in story.beliefs if view.gap]
            assert inside
            assert all(view.proved_at is not None and view.proved_at <= view.at for view in inside)

    run_virtual(main())
