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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from trueup.core.effects import Effect, FindOrder, SendCancel, SendOrder, SendReplace
from trueup.core.events import OrderLookedUp, RequestAnswered
from trueup.core.model import ClientOrderId, OrderReport, RequestKind, RequestOutcome
from trueup.errors import BrokerUnavailable, Busy, JournalUnusable, OutcomeUnknown, RateLimited, RequestRefused
from trueup.ports import Broker, Clock
from trueup.runtime.backoff import Backoff, Jitter
from trueup.runtime.sequencer import Gate, Sequencer

log = logging.getLogger(__name__)

RATE_PATIENCE_S = 15.0
"""Seconds that a submit or replace may wait for the request budget; older wishes are better thought over again."""

REQUESTS_AT_ONCE = 8
"""Submits, replaces and look-ups under way; cancels are not counted."""


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: RequestOutcome
    report: OrderReport | None = None
    code: str = ""
    message: str = ""


_HALTED = _Answer(RequestOutcome.NOT_SENT, None, "halted", "halted before it was sent")
_STOPPING = _Answer(RequestOutcome.NOT_SENT, None, "stopping", "the process was stopping before it was sent")
_BROKEN_OFF = _Answer(RequestOutcome.UNKNOWN, None, "", "the request was broken off; it may have been carried out")


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
        self._requests = 0
        self._cancels: dict[str, SendCancel] = {}
        self._finds: dict[str, FindOrder] = {}
        self._quiet = asyncio.Event()
        self._is_stopping = False

    @property
    def depth(self) -> int:
        """Effects that wait or are under way."""
        return len(self._waiting) + self._requests + len(self._cancels) + len(self._finds)

    def take(self, effect: Effect) -> None:
        """Queue one effect; performed in the order taken, several at once."""
        self._waiting.append(effect)
        self._work.set()

    async def run(self) -> NoReturn:
        """Perform effects for ever. Begun anew after a failure, it goes on with what may be repeated."""
        async with asyncio.TaskGroup() as group:
            for cancel in list(self._cancels.values()):
                group.create_task(self._cancel_until_answered(cancel))
            for find in list(self._finds.values()):
                group.create_task(self._find_until_answered(find))
            while True:
                while self._waiting:
                    self._perform(self._waiting.popleft(), group)
                self._work.clear()
                await self._work.wait()

    async def finish(self, seconds: float) -> None:
        """Send nothing new but cancels; returns when all that was sent is answered, or after so long."""
        self._is_stopping = True
        try:
            async with asyncio.timeout(seconds):
                while self._waiting or self._requests or self._cancels:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            log.warning("stopped with requests under way requests=%d cancels=%d", self._requests, len(self._cancels))

    def _perform(self, effect: Effect, group: asyncio.TaskGroup) -> None:
        match effect:
            case SendOrder():
                group.create_task(self._send_order(effect))
            case SendReplace():
                group.create_task(self._send_replace(effect))
            case SendCancel():
                if effect.broker_order_id not in self._cancels:
                    self._cancels[effect.broker_order_id] = effect
                    group.create_task(self._cancel_until_answered(effect))
            case FindOrder():
                if _find_key(effect) not in self._finds:
                    self._finds[_find_key(effect)] = effect
                    group.create_task(self._find_until_answered(effect))
            case _:
                raise TypeError(f"the outbox does not perform {type(effect).__name__}")

    # --- what may happen once ---

    async def _send_order(self, effect: SendOrder) -> None:
        order = effect.allowed.order
        with self._under_way():
            answer = await self._at_most_once(
                RequestKind.SUBMIT,
                order.client_order_id,
                effect.halt_generation,
                lambda: self._broker.submit(order),
            )
            await self._tell(RequestKind.SUBMIT, order.client_order_id, answer)

    async def _send_replace(self, effect: SendReplace) -> None:
        change = effect.change
        with self._under_way():
            answer = await self._at_most_once(
                RequestKind.REPLACE,
                change.client_order_id,
                effect.halt_generation,
                lambda: self._broker.replace(effect.broker_order_id, change),
            )
            await self._tell(RequestKind.REPLACE, change.client_order_id, answer)

    async def _at_most_once(
        self,
        kind: RequestKind,
        client_order_id: ClientOrderId,
        halt_generation: int,
        send: Callable[[], Awaitable[OrderReport]],
    ) -> _Answer:
        patience_ends = self._clock.monotonic() + RATE_PATIENCE_S
        backoff = Backoff(self._jitter, base_s=0.25, cap_s=5.0)
        while True:
            async with self._lane:
                if self._is_stopping:
                    return _STOPPING
                if not self._gate.allows(halt_generation):
                    return _HALTED
                try:
                    return await _once(send())
                except RateLimited as limited:
                    pause = backoff.next_s(at_least_s=limited.retry_after_s)
                    if self._clock.monotonic() + pause > patience_ends:
                        return _Answer(RequestOutcome.NOT_SENT, None, "rate_limited", str(limited))
                except BaseException:
                    # Broken off in the middle: what may have happened must be known to be in doubt.
                    self._tell_at_once(kind, client_order_id, _BROKEN_OFF)
                    raise
            # Refused for its number, not for itself, and for certain not taken: it may be sent, once, a little later.
            await self._clock.sleep(pause)

    # --- what may be repeated ---

    async def _cancel_until_answered(self, effect: SendCancel) -> None:
        answer = await self._cancel(effect)
        if answer is not None:
            await self._tell(RequestKind.CANCEL, effect.client_order_id, answer)
        del self._cancels[effect.broker_order_id]
        self._quiet.set()

    async def _cancel(self, effect: SendCancel) -> _Answer | None:
        """The broker's word; None when nobody wants the cancel any more."""
        backoff = Backoff(self._jitter, base_s=0.25, cap_s=5.0)
        while True:
            try:
                await self._broker.cancel(effect.broker_order_id)
                return _Answer(RequestOutcome.ACCEPTED)
            except RequestRefused as refusal:
                return _Answer(RequestOutcome.REFUSED, None, refusal.code, refusal.message)
            except OutcomeUnknown as doubt:
                return _Answer(RequestOutcome.UNKNOWN, None, "", str(doubt))
            except RateLimited as limited:
                pause = backoff.next_s(at_least_s=limited.retry_after_s)
            except BrokerUnavailable:
                pause = backoff.next_s()
            order = self._sequencer.belief.open_orders.get(effect.order_id)
            is_wanted = order is not None and order.cancel_wanted
            if not is_wanted and self._sequencer.failed is None:
                return None
            await self._clock.sleep(pause)

    async def _find_until_answered(self, effect: FindOrder) -> None:
        key = _find_key(effect)
        if effect.not_before is not None:
            await self._clock.sleep((effect.not_before - self._clock.now()).total_seconds())
        found = await self._find(effect, key)
        # before the answer is told: it may ask for the next look-up of the same order
        del self._finds[key]
        await self._keep(found)

    async def _find(self, effect: FindOrder, key: str) -> OrderLookedUp:
        backoff = Backoff(self._jitter)
        while True:
            try:
                async with self._lane:
                    started_at = self._clock.now()
                    report = await self._broker.find(
                        client_order_id=effect.client_order_id, broker_order_id=effect.broker_order_id
                    )
                return OrderLookedUp(
                    at=self._clock.now(),
                    started_at=started_at,
                    report=report,
                    client_order_id=effect.client_order_id,
                    broker_order_id=effect.broker_order_id,
                )
            except RateLimited as limited:
                pause = backoff.next_s(at_least_s=limited.retry_after_s)
            except (BrokerUnavailable, RequestRefused, OutcomeUnknown) as error:
                log.info("look-up failed id=%s offset=%d reason=%s", key, self._sequencer.belief.offset, error)
                pause = backoff.next_s()
            await self._clock.sleep(pause)

    # --- telling ---

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._quiet.set()

    def _answered(self, kind: RequestKind, client_order_id: ClientOrderId, answer: _Answer) -> RequestAnswered:
        return RequestAnswered(
            at=self._clock.now(),
            kind=kind,
            client_order_id=client_order_id,
            outcome=answer.outcome,
            report=answer.report,
            code=answer.code,
            message=answer.message,
        )

    async def _tell(self, kind: RequestKind, client_order_id: ClientOrderId, answer: _Answer) -> None:
        await self._keep(self._answered(kind, client_order_id, answer))

    def _tell_at_once(self, kind: RequestKind, client_order_id: ClientOrderId, answer: _Answer) -> None:
        try:
            self._sequencer.offer(self._answered(kind, client_order_id, answer))
        except (Busy, JournalUnusable) as error:
            # The next start finds a request without an answer, and doubts it then.
            log.error("a doubt could not be kept client_order_id=%s reason=%s", client_order_id, error)

    async def _keep(self, event: RequestAnswered | OrderLookedUp) -> None:
        try:
            await self._sequencer.put(event)
        except JournalUnusable as error:
            log.error("an answer could not be kept kind=%s reason=%s", type(event).__name__, error)


def _find_key(effect: FindOrder) -> str:
    return effect.broker_order_id or effect.client_order_id or ""


async def _once(request: Awaitable[OrderReport]) -> _Answer:
    """How one request that must not be repeated ended. Raises `RateLimited` when it was refused unread."""
    try:
        return _Answer(RequestOutcome.ACCEPTED, await request)
    except RequestRefused as refusal:
        return _Answer(RequestOutcome.REFUSED, None, refusal.code, refusal.message)
    except OutcomeUnknown as doubt:
        return _Answer(RequestOutcome.UNKNOWN, None, "", str(doubt))
    except BrokerUnavailable as error:
        return _Answer(RequestOutcome.NOT_SENT, None, "unavailable", str(error))
