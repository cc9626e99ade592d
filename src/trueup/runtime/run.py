"""Starts all in order, keeps it running, stops all in reverse. Starting and recovering are one path.

    fold the journal → note the start (what had no answer is in doubt) → outbox, feeds, reconciler, strategies, gateway

In reverse at the end: nobody asks any more, what was sent is answered, what was heard is written, a checkpoint is kept.
Not for knowing any adapter: everything comes in `Parts`. Invariant: nothing is sent before the start has been
journaled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from trueup.core.belief import Belief
from trueup.core.effects import Effect, RecycleFeed, TakeSnapshot
from trueup.core.events import RuntimeStarted
from trueup.core.model import FeedName
from trueup.core.views import Channel, RiskAlertView
from trueup.ports import Broker, Clock, EventBus, Feed, FeedItem, Journal, QuoteFeed, Strategy
from trueup.runtime.backoff import Jitter
from trueup.runtime.feeds import HELD_BACK_LIMIT, BrokerEvents, MarketData
from trueup.runtime.fold import Progress, fold
from trueup.runtime.health import Health
from trueup.runtime.memory import settle_collector
from trueup.runtime.outbox import Outbox
from trueup.runtime.publisher import Publisher
from trueup.runtime.quotes import Quotes
from trueup.runtime.reconciler import Intervals, Reconciler
from trueup.runtime.sequencer import CHECKPOINT_EVERY, Gate, Sequencer
from trueup.runtime.strategy_host import PACE_S, StrategyHost
from trueup.runtime.supervisor import Child, Restart, Supervisor, final_in

log = logging.getLogger(__name__)

FINISH_S = 3.0
"""Seconds that requests under way get to be answered when the process stops."""

LAST_CANCELS_S = 5.0
"""The same when the journal has failed, for the cancels that still leave."""

DRAIN_S = 2.0
"""Seconds that inputs get to be written when the process stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the gateway may reach."""

    sequencer: Sequencer
    bus: EventBus
    quotes: Quotes
    health: Health
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that is plugged together; seconds where a number has no unit in its name."""

    broker: Broker
    broker_feed: Feed[FeedItem]
    quote_feed: QuoteFeed | None
    journal: Journal
    bus: EventBus
    clock: Clock
    jitter: Jitter
    version: str
    strategies: tuple[Strategy, ...] = ()
    gateway: Callable[[House], Awaitable[None]] | None = None
    intervals: Intervals = field(default_factory=Intervals)
    backoff_cap_s: float = 30.0
    held_back_limit: int = HELD_BACK_LIMIT
    strategy_pace_s: float = PACE_S
    checkpoint_every: int = CHECKPOINT_EVERY
    clock_skew_s: Callable[[], float | None] | None = None
    gauges: dict[str, Callable[[], int]] = field(default_factory=dict)
    counters: dict[str, Callable[[], int]] = field(default_factory=dict)
    tune_collector: bool = False


async def run(parts: Parts, *, ready: Callable[[House], None] | None = None, progress: Progress | None = None) -> None:
    """Run one account until cancelled. Raises what is `Fatal`; the journal is left closed and checkpointed."""
    belief: Belief = fold(parts.journal, progress=progress)
    if parts.tune_collector:
        settle_collector()
    gate = Gate(belief.halt_generation)
    sequencer = Sequencer(
        belief=belief,
        journal=parts.journal,
        bus=parts.bus,
        clock=parts.clock,
        gate=gate,
        checkpoint_every=parts.checkpoint_every,
    )
    quotes = Quotes(parts.clock)
    health = Health(
        sequencer=sequencer, quotes=quotes, clock=parts.clock, broker=parts.broker.name, version=parts.version
    )
    outbox = Outbox(broker=parts.broker, sequencer=sequencer, gate=gate, clock=parts.clock, jitter=parts.jitter)
    reconciler = Reconciler(
        broker=parts.broker,
        sequencer=sequencer,
        clock=parts.clock,
        jitter=parts.jitter,
        intervals=parts.intervals,
    )
    broker_events = BrokerEvents(
        feed=parts.broker_feed,
        reconciler=reconciler,
        sequencer=sequencer,
        clock=parts.clock,
        jitter=parts.jitter,
        backoff_cap_s=parts.backoff_cap_s,
        held_back_limit=parts.held_back_limit,
    )
    market_data = (
        MarketData(
            feed=parts.quote_feed,
            put=quotes.put,
            sequencer=sequencer,
            clock=parts.clock,
            jitter=parts.jitter,
            backoff_cap_s=parts.backoff_cap_s,
        )
        if parts.quote_feed is not None
        else None
    )
    publisher = Publisher(sequencer=sequencer, bus=parts.bus, quotes=quotes, health=health, clock=parts.clock)
    house = House(sequencer=sequencer, bus=parts.bus, quotes=quotes, health=health, clock=parts.clock)
    supervisor = Supervisor(clock=parts.clock, jitter=parts.jitter)

    def dispatch(effect: Effect) -> None:
        match effect:
            case TakeSnapshot():
                reconciler.request(effect.scope, effect.reason)
            case RecycleFeed():
                if effect.feed is FeedName.BROKER_EVENTS:
                    broker_events.recycle(effect.reason)
                elif market_data is not None:
                    market_data.recycle(effect.reason)
            case _:
                outbox.take(effect)

    sequencer.dispatch = dispatch
    sequencer.on_folded = publisher.changed
    sequencer.requests_waiting = lambda: outbox.depth
    health.gauges.update(
        {
            "outbox": lambda: outbox.depth,
            "held_back": lambda: broker_events.depth,
            "snapshots": lambda: reconciler.depth,
            **parts.gauges,
        }
    )
    health.counters.update({"restarts": lambda: supervisor.restarts, **parts.counters})
    if parts.clock_skew_s is not None:
        health.clock_skew_s = parts.clock_skew_s

    def strategy_stopped(name: str) -> Callable[[str], None]:
        def note(reason: str) -> None:
            words = f"strategy {name} has stopped: {reason}"
            health.notes[f"strategy {name}"] = words
            at = parts.clock.now()
            alert = RiskAlertView(
                type="strategy_stopped",
                severity="critical",
                reason=words,
                symbol=None,
                current_value=None,
                limit_value=None,
                timestamp=at,
            )
            parts.bus.publish(Channel.RISK_ALERT, alert, at)

        return note

    children = [
        Child(name="broker events", start=broker_events.run),
        Child(name="reconciler", start=reconciler.run),
        Child(name="publisher", start=publisher.run),
    ]
    if market_data is not None:
        children.append(Child(name="market data", start=market_data.run))
    for strategy in parts.strategies:
        host = StrategyHost(
            strategy=strategy,
            sequencer=sequencer,
            quotes=quotes,
            clock=parts.clock,
            pace_s=parts.strategy_pace_s,
        )
        children.append(
            Child(
                name=f"strategy {strategy.name}",
                start=host.run,
                restart=Restart.TEMPORARY,
                on_failure=strategy_stopped(strategy.name),
            )
        )
    gateway = parts.gateway
    if gateway is not None:
        children.append(Child(name="gateway", start=lambda: gateway(house)))
    sending = supervisor.run([Child(name="outbox", start=outbox.run)])

    async def finish() -> None:
        await outbox.finish(FINISH_S if sequencer.failed is None else LAST_CANCELS_S)

    log.info("started epoch=%s offset=%d broker=%s", belief.epoch, belief.offset, parts.broker.name)
    try:
        async with (
            _running(sequencer.run(), "sequencer", finish=lambda: sequencer.drain(DRAIN_S)),
            _running(sending, "outbox", finish=finish),
        ):
            await sequencer.submit(
                RuntimeStarted(at=parts.clock.now(), version=parts.version, broker=parts.broker.name)
            )
            if ready is not None:
                ready(house)
            await supervisor.run(children)
    except BaseExceptionGroup as group:
        final = final_in(group)
        if final is None:
            raise
        raise final from None
    finally:
        await _close(parts, sequencer)


@asynccontextmanager
async def _running(
    work: Coroutine[object, object, None], name: str, *, finish: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Keep `work` running beside what is inside; once that has ended, however it did, `finish` comes before its end."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        try:
            yield
        finally:
            await finish()
            task.cancel()


async def _close(parts: Parts, sequencer: Sequencer) -> None:
    """In reverse: nobody asks any more, then the broker, the bus, and the journal last."""
    try:
        await parts.broker.close()
        await parts.bus.close()
    finally:
        try:
            sequencer.close()
        finally:
            parts.journal.close()
    log.info("stopped epoch=%s offset=%d", sequencer.belief.epoch, sequencer.belief.offset)
