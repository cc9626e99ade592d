"""Performs effects at the broker, and tells the sequencer how each ended.

A submit or replace is sent at most once: its answer, its refusal or the doubt about it become an input, and only
look-ups follow. Cancels have a lane of their own that nothing else can fill, and are asked for until the broker has
spoken. Not for deciding what to send. Invariant: this is the only file that looks at the gate, in the same breath as
it sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import NoReturn

from trueup.core.effects import Effect, FindOrder, SendCancel, SendOrder, SendReplace
from trueup.core.events import OrderLookedUp, RequestAnswered
from trueup.core.model import ClientOrderId, OrderReport, RequestKind, RequestOutcome
from trueup.errors import BrokerUnavailable, JournalUnusable, OutcomeUnknown, RateLimited, RequestRefused
from trueup.ports import Broker, Clock
from trueup.runtime.backoff import Backoff, Jitter
from trueup.runtime.sequencer import Gate, Sequencer

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 8
"""Submits, replaces and look-ups under way; cancels are not counted."""


class Outbox:
    """One account's requests."""

    def __init__(self, *, broker: Broker, sequencer: Sequencer, gate: Gate, clock: Clock, jitter: Jitter) -> None:
        self._broker = broker
        self._sequencer = sequencer
        self._gate = gate
        self._clock = clock
        self._jitter = jitter
        self._waiting: deque[Effect] = deque()
        self._work = asyncio.Event()
        self._lane = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._cancels: set[str] = set()
        self._finds: set[str] = set()

    @property
    def depth(self) -> int:
        """Effects that wait or are under way as cancels and look-ups."""
        return len(self._waiting) + len(self._cancels) + len(self._finds)

    def take(self, effect: Effect) -> None:
        """Queue one effect; performed in the order taken, several at once."""
        self._waiting.append(effect)
        self._work.set()

    async def run(self) -> NoReturn:
        """Perform effects for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                while self._waiting:
                    group.create_task(self._perform(self._waiting.popleft()))
                self._work.clear()
                await self._work.wait()

    async def drain_cancels(self, seconds: float) -> None:
        """Send the cancels that wait, for at most so long; the last act of a process that can't remember any more."""
        wanted = [effect for effect in self._waiting if isinstance(effect, SendCancel)]
        self._waiting.clear()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._broker.cancel(effect.broker_order_id) for effect in wanted))
        except (TimeoutError, BrokerUnavailable, RateLimited, RequestRefused, OutcomeUnknown) as error:
            log.error("a last cancel failed reason=%s", error)

    async def _perform(self, effect: Effect) -> None:
        try:
            match effect:
                case SendOrder():
                    await self._send_order(effect)
                case SendReplace():
                    await self._send_replace(effect)
                case SendCancel():
                    await self._send_cancel(effect)
                case FindOrder():
                    await self._find(effect)
                case _:
                    raise TypeError(f"the outbox does not perform {type(effect).__name__}")
        except JournalUnusable:
            log.error("an answer could not be kept effect=%s", type(effect).__name__)

    # --- what may happen once ---

    async def _send_order(self, effect: SendOrder) -> None:
        order = effect.allowed.order
        async with self._lane:
            if not self._gate.allows(effect.halt_generation):
                outcome, report, code, message = RequestOutcome.NOT_SENT, None, "halted", "halted before it was sent"
            else:
                outcome, report, code, message = await _once(self._broker.submit(order))
        await self._answer(RequestKind.SUBMIT, order.client_order_id, outcome, report, code, message)

    async def _send_replace(self, effect: SendReplace) -> None:
        change = effect.change
        async with self._lane:
            if not self._gate.allows(effect.halt_generation):
                outcome, report, code, message = RequestOutcome.NOT_SENT, None, "halted", "halted before it was sent"
            else:
                outcome, report, code, message = await _once(self._broker.replace(effect.broker_order_id, change))
        await self._answer(RequestKind.REPLACE, change.client_order_id, outcome, report, code, message)

    # --- what may be repeated ---

    async def _send_cancel(self, effect: SendCancel) -> None:
        if effect.broker_order_id in self._cancels:
            return
        self._cancels.add(effect.broker_order_id)
        backoff = Backoff(self._jitter, base_s=0.25, cap_s=5.0)
        answer = (RequestOutcome.UNKNOWN, "", "")
        try:
            while True:
                pause: float | None = None
                try:
                    await self._broker.cancel(effect.broker_order_id)
                    answer = (RequestOutcome.ACCEPTED, "", "")
                except RequestRefused as refusal:
                    answer = (RequestOutcome.REFUSED, refusal.code, refusal.message)
                except OutcomeUnknown as doubt:
                    answer = (RequestOutcome.UNKNOWN, "", str(doubt))
                except RateLimited as limited:
                    pause = backoff.next_s(at_least_s=limited.retry_after_s)
                except BrokerUnavailable:
                    pause = backoff.next_s()
                if pause is None:
                    break
                order = self._sequencer.belief.open_orders.get(effect.order_id)
                if order is None or not order.cancel_wanted:
                    return
                await self._clock.sleep(pause)
        finally:
            self._cancels.discard(effect.broker_order_id)
        await self._answer(RequestKind.CANCEL, effect.client_order_id, answer[0], None, answer[1], answer[2])

    async def _find(self, effect: FindOrder) -> None:
        key = effect.broker_order_id or effect.client_order_id or ""
        if key in self._finds:
            return
        self._finds.add(key)
        backoff = Backoff(self._jitter)
        report: OrderReport | None = None
        started_at = self._clock.now()
        try:
            if effect.not_before is not None:
                await self._clock.sleep((effect.not_before - self._clock.now()).total_seconds())
            while True:
                started_at = self._clock.now()
                try:
                    async with self._lane:
                        report = await self._broker.find(
                            client_order_id=effect.client_order_id, broker_order_id=effect.broker_order_id
                        )
                    break
                except RateLimited as limited:
                    pause = backoff.next_s(at_least_s=limited.retry_after_s)
                except (BrokerUnavailable, RequestRefused, OutcomeUnknown) as error:
                    log.info("look-up failed id=%s reason=%s", key, error)
                    pause = backoff.next_s()
                await self._clock.sleep(pause)
        finally:
            self._finds.discard(key)
        await self._sequencer.put(
            OrderLookedUp(
                at=self._clock.now(),
                started_at=started_at,
                report=report,
                client_order_id=effect.client_order_id,
                broker_order_id=effect.broker_order_id,
            )
        )

    async def _answer(
        self,
        kind: RequestKind,
        client_order_id: ClientOrderId,
        outcome: RequestOutcome,
        report: OrderReport | None,
        code: str,
        message: str,
    ) -> None:
        await self._sequencer.put(
            RequestAnswered(
                at=self._clock.now(),
                kind=kind,
                client_order_id=client_order_id,
                outcome=outcome,
                report=report,
                code=code,
                message=message,
            )
        )


async def _once(request: Awaitable[OrderReport]) -> tuple[RequestOutcome, OrderReport | None, str, str]:
    """How one request that must not be repeated ended."""
    try:
        return RequestOutcome.ACCEPTED, await request, "", ""
    except RequestRefused as refusal:
        return RequestOutcome.REFUSED, None, refusal.code, refusal.message
    except OutcomeUnknown as doubt:
        return RequestOutcome.UNKNOWN, None, "", str(doubt)
    except (BrokerUnavailable, RateLimited) as error:
        return RequestOutcome.NOT_SENT, None, "unavailable", str(error)
