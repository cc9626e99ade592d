"""Gaps and truth lag: when belief may be called equal to the broker's books."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.core.build import Desk, at, report, snapshot, streamed

from trueup.core import truth as truth_module
from trueup.core.effects import TakeSnapshot
from trueup.core.events import (
    ClockTicked,
    FeedAcknowledged,
    FeedLost,
    FeedRestored,
    FrameQuarantined,
    RuntimeStarted,
)
from trueup.core.model import ExecType, FeedName, FeedStatus, OrderStatus, SnapshotScope, Source, TradingState
from trueup.core.truth import Truth
from trueup.core.views import Channel, GapView

EVENTS, MARKET = FeedName.BROKER_EVENTS, FeedName.MARKET_DATA


def test_there_is_at_most_one_open_gap() -> None:
    truth = Truth()
    first = truth.open("g-1", "cut", at(0))
    assert first is not None
    assert truth.open("g-2", "cut again", at(1)) is None
    assert truth.open_gap is first
    assert truth.close(at(2)) is first
    assert truth.open_gap is None
    assert truth.close(at(3)) is None


def test_nothing_is_proven_later_than_the_beginning_of_an_open_gap() -> None:
    truth = Truth()
    truth.prove(at(5))
    truth.open("g-1", "mute since", at(3))
    assert truth.proved_at == at(3)
    truth.prove(at(6))
    assert truth.proved_at == at(3)
    truth.close(at(7))
    truth.prove(at(6))
    assert truth.proved_at == at(6)


def test_a_proof_never_goes_backwards() -> None:
    truth = Truth()
    truth.prove(at(5))
    truth.prove(at(4))
    assert truth.proved_at == at(5)


@pytest.mark.parametrize(
    ("proved", "now", "lag"),
    [(None, 9, None), (0, 0, "0.000"), (0, 1.2345, "1.234"), (0, 61, "61.000"), (5, 4, "0.000")],
)
def test_truth_lag_in_seconds_to_the_millisecond(proved: float | None, now: float, lag: str | None) -> None:
    truth = Truth()
    if proved is not None:
        truth.prove(at(proved))
    told = truth.lag_s(at(now))
    assert told == (Decimal(lag) if lag is not None else None)
    assert str(told) == str(lag)


def test_only_the_newest_gaps_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth_module, "GAPS_KEPT", 3)
    truth = Truth()
    for number in range(5):
        truth.open(f"g-{number}", "cut", at(number))
        truth.close(at(number))
    assert [gap.gap_id for gap in truth.gaps] == ["g-2", "g-3", "g-4"]


def test_what_was_missed_is_counted_in_the_open_gap_by_the_way_it_was_learned() -> None:
    truth = Truth()
    truth.note_missed(Source.POLL)  # no gap, nothing to count in
    gap = truth.open("g-1", "cut", at(0))
    assert gap is not None
    truth.note_missed(Source.POLL)
    truth.note_missed(Source.RECONCILE)
    truth.note_missed(Source.POLL)
    assert (gap.missed, gap.learned_by) == (3, {"poll": 2, "reconcile": 1})


# --- through step -------------------------------------------------------------------------------------------------


def test_an_event_on_a_live_stream_proves_its_arrival() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(), when=4))
    assert desk.belief.truth.proved_at == at(4)


def test_an_event_proves_nothing_while_the_stream_is_only_subscribed() -> None:
    desk = Desk()
    desk.lose(1)
    desk.tell(FeedAcknowledged(at=at(2), feed=EVENTS), streamed(ExecType.NEW, report(), when=3))
    assert desk.belief.truth.proved_at is not None
    assert desk.belief.truth.proved_at <= at(1)


def test_a_cut_opens_a_gap_and_gates_entries() -> None:
    desk = Desk()
    outcome = desk.lose(1, "connection reset")
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert (gap.opened_at, gap.reason) == (at(1), "connection reset")
    assert desk.belief.trading_state is TradingState.REDUCE_ONLY
    channels = [channel for channel, _ in outcome.changes.views]
    assert channels == [Channel.FEED_DISCONNECTED, Channel.TRUTH_GAP, Channel.RISK_CIRCUIT_BREAKER]


def test_a_breaker_tells_of_its_trip_and_of_its_reset_once_each() -> None:
    desk = Desk()
    told = []
    for outcome in (
        desk.lose(1, "connection reset"),
        desk.lose(2, "refused"),
        desk.tell(FeedAcknowledged(at=at(3), feed=EVENTS)),
        desk.tell(snapshot(when=4, started=3.5)),
        desk.tell(FeedRestored(at=at(5), feed=EVENTS)),
        desk.tell(snapshot(when=6, started=5.5)),
    ):
        told += [view for channel, view in outcome.changes.views if channel is Channel.RISK_CIRCUIT_BREAKER]
    assert [(view.breaker, view.action, view.demand) for view in told] == [
        ("stale_data", "activated", "REDUCE_ONLY"),
        ("stale_data", "deactivated", ""),
    ]


@pytest.mark.parametrize(
    ("started", "closed"),
    [
        (1.5, False),  # begun after the cut, and before the new subscription: what fell between is unknown
        (2, True),
        (2.5, True),
    ],
)
def test_only_a_snapshot_begun_since_the_acknowledgement_closes_the_gap(started: float, closed: bool) -> None:
    desk = Desk()
    desk.lose(1)
    desk.tell(FeedAcknowledged(at=at(2), feed=EVENTS))
    desk.tell(snapshot(when=3, started=started), FeedRestored(at=at(4), feed=EVENTS))
    assert (desk.belief.truth.open_gap is None) == closed
    assert desk.belief.entries_gated != closed


def test_a_clean_snapshot_closes_no_gap_while_the_stream_is_away() -> None:
    desk = Desk()
    desk.lose(1)
    desk.tell(snapshot(when=3))
    assert desk.belief.truth.open_gap is not None
    assert desk.belief.truth.last_result == "clean"
    assert desk.belief.entries_gated


def test_an_unsettled_snapshot_closes_no_gap() -> None:
    desk = Desk()
    desk.lose(1)
    desk.restore(snapshot(when=3, holdings={"AAPL": 5}), when=2)
    assert desk.belief.truth.open_gap is not None
    assert desk.belief.entries_gated


def test_a_poll_of_orders_proves_nothing_in_a_gap() -> None:
    desk = Desk()
    desk.lose(1)
    before = desk.belief.truth.proved_at
    desk.tell(snapshot(when=3, scope=SnapshotScope.ORDERS, source=Source.POLL))
    assert desk.belief.truth.proved_at == before


def test_a_poll_of_orders_on_a_live_stream_proves_its_start() -> None:
    desk = Desk()
    desk.tell(snapshot(when=9, started=8, scope=SnapshotScope.ORDERS, source=Source.POLL))
    assert desk.belief.truth.proved_at == at(8)


def test_a_process_start_opens_a_gap_from_the_last_proof() -> None:
    desk = Desk()
    desk.tell(streamed(ExecType.NEW, report(), when=4))
    desk.tell(RuntimeStarted(at=at(100), version="1", broker="paper"))
    gap = desk.belief.truth.open_gap
    assert gap is not None
    assert gap.opened_at == at(4)
    assert desk.belief.feeds[EVENTS].status is FeedStatus.DOWN
    assert desk.belief.entries_gated
    desk.restore(snapshot(report(version=4), when=102), when=101)
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated


def test_an_unreadable_broker_event_opens_a_gap_until_a_snapshot_has_told_what_it_told() -> None:
    desk = Desk()
    desk.tell(FrameQuarantined(at=at(1), feed=EVENTS, raw="{", reason="no order"))
    assert desk.belief.truth.open_gap is not None
    assert desk.belief.entries_gated
    desk.tell(streamed(ExecType.NEW, report(version=2), when=2))
    assert desk.belief.truth.proved_at is not None
    assert desk.belief.truth.proved_at <= at(1)
    desk.tell(snapshot(report(version=2), when=3))
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated
    assert desk.belief.truth.proved_at == at(3)


def test_an_unreadable_quote_touches_no_belief() -> None:
    desk = Desk()
    desk.tell(FrameQuarantined(at=at(1), feed=MARKET, raw="{", reason="no price"))
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated
    assert desk.belief.counters["frames_quarantined"] == 1


def test_the_two_streams_are_watched_apart() -> None:
    desk = Desk()
    desk.tell(FeedAcknowledged(at=at(1), feed=MARKET), FeedRestored(at=at(2), feed=MARKET, symbol_count=7))
    desk.tell(FeedLost(at=at(3), feed=MARKET, reason="cut"))
    assert desk.belief.feeds[MARKET].status is FeedStatus.DOWN
    assert desk.belief.feeds[EVENTS].status is FeedStatus.UP
    assert desk.belief.truth.open_gap is None
    assert not desk.belief.entries_gated


def test_reconnects_are_counted_from_the_second_life_on() -> None:
    desk = Desk()
    assert desk.belief.feeds[EVENTS].reconnect_count == 0
    desk.lose(1)
    desk.restore(snapshot(when=3), when=2)
    feed = desk.belief.feeds[EVENTS]
    assert (feed.reconnect_count, feed.last_reconnect_at) == (1, at(3))


def test_a_gap_tells_what_was_missed_in_it() -> None:
    desk = Desk()
    desk.submit(100)
    desk.tell(streamed(ExecType.NEW, report(version=0), when=0))
    desk.lose(1)
    desk.restore(snapshot(report(OrderStatus.PARTIALLY_FILLED, 40, version=2), when=4, holdings={"AAPL": 40}), when=3)
    gap = desk.belief.truth.gaps[-1]
    assert (gap.missed, gap.learned_by) == (1, {"reconcile": 1})
    assert gap.closed_at == at(4)


# --- edges --------------------------------------------------------------------------------------------------------


def test_the_instant_in_which_a_gap_opens_can_be_proven_still() -> None:
    truth = Truth()
    truth.open("g-1", "cut", at(5))
    truth.prove(at(5))
    assert truth.proved_at == at(5)
    truth.prove(at(5.1))
    assert truth.proved_at == at(5)


def test_only_the_newest_reconciliation_is_the_newest() -> None:
    truth = Truth()
    assert not truth.was_reconciled_at(at(5).isoformat())
    truth.last_reconciliation_at = at(5)
    assert truth.was_reconciled_at(at(5).isoformat())
    assert not truth.was_reconciled_at(at(4).isoformat())


def test_truth_lag_has_three_decimals_to_the_last_digit() -> None:
    desk = Desk()
    assert str(desk.belief.truth_lag_s(at(1.2345))) == "3.234"
    assert str(desk.belief.truth_lag_s(at(-5))) == "0.000"


def test_what_was_left_unsettled_is_looked_at_again_unless_a_newer_look_has_settled_it() -> None:
    desk = Desk(holdings={"AAPL": 10})
    desk.tell(snapshot(when=20, holdings={"AAPL": 12}))
    again = TakeSnapshot(scope=SnapshotScope.FULL, reason="unsettled: position in AAPL: believed 10, reported 12")
    assert again in desk.tell(ClockTicked(at=at(25))).effects
    desk.tell(snapshot(when=30, holdings={"AAPL": 13}), snapshot(when=31, holdings={"AAPL": 10}))
    assert desk.tell(ClockTicked(at=at(40))).effects == ()


def test_a_gap_that_closes_tells_what_was_missed_in_it() -> None:
    desk = Desk()
    desk.lose(1)
    desk.tell(
        snapshot(report(OrderStatus.PARTIALLY_FILLED, 40, version=3, average="10"), when=4, holdings={"AAPL": 40})
    )
    row = report(OrderStatus.PARTIALLY_FILLED, 40, version=3, average="10")
    closed = desk.restore(snapshot(row, when=6, holdings={"AAPL": 40}), when=5)
    (view,) = [view for _, view in closed.changes.views if isinstance(view, GapView)]
    assert (view.opened_at, view.closed_at, view.missed, view.learned_by) == (at(1), at(6), 1, {"reconcile": 1})
