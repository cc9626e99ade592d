"""Requests and answers: Alpaca as a `Broker`.

Says our wishes in Alpaca's words and Alpaca's answers in ours. A full snapshot is put together from several lists that
change while they are read: all of them are asked for at once, what they leave open is looked up, and that is one pass.
Passes follow until one is shown to be a state of the books (`untorn.py`), so a torn one never leaves this file.

Not for when to ask, nor for what a snapshot means. Invariant: what is answered was read whole, page by page, and
decoded whole; a part that fails fails all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar, overload
from urllib.parse import quote
from zoneinfo import ZoneInfo

from trueup.brokers.alpaca import decode
from trueup.brokers.alpaca.decode import LINKED, Oddities
from trueup.brokers.alpaca.rest import ClientOptions, ClientStats, Json, Lane, Rest
from trueup.brokers.alpaca.untorn import Reading, adds_up, goes_back, stood_still
from trueup.core.model import (
    AccountReport,
    BrokerOrderId,
    ClientOrderId,
    Execution,
    ExecutionId,
    NewOrder,
    OrderChange,
    OrderReport,
    OrderStatus,
    PositionReport,
    Snapshot,
    SnapshotScope,
)
from trueup.errors import BadInput, BrokerUnavailable, OutcomeUnknown, Recoverable, RequestRefused
from trueup.ports import Clock, SnapshotRequest

NEW_YORK = ZoneInfo("America/New_York")
INSTANT = timedelta(microseconds=1)
DUPLICATE_ID = "40010001"
TERMINAL = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED, OrderStatus.REPLACED}
)
T = TypeVar("T")


@dataclass(slots=True)
class _Orders:
    """One pass over the orders: what stands, and which of the known ids the broker does not know."""

    reports: dict[BrokerOrderId, OrderReport] = field(default_factory=dict)
    absent: set[BrokerOrderId] = field(default_factory=set)

    def add(self, reports: Iterable[OrderReport]) -> None:
        """Take reports in; of two of one order the later stands, and a leg keeps its parent."""
        for report in reports:
            known = self.reports.get(report.broker_order_id)
            if known is not None:
                if known.version is not None and report.version is not None and known.version > report.version:
                    report, known = known, report
                report = replace(report, parent=report.parent or known.parent)
            self.reports[report.broker_order_id] = report


class AlpacaBroker:
    """`Broker` for one Alpaca account; `url` is the trading address, `oddities` counts what was not expected."""

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        url: str,
        clock: Clock,
        options: ClientOptions | None = None,
        oddities: Oddities | None = None,
        name: str = "alpaca",
    ) -> None:
        self.name = name
        self.oddities = Oddities() if oddities is None else oddities
        self._clock = clock
        self._options = options or ClientOptions()
        self._rest = Rest(key=key, secret=secret, url=url, clock=clock, options=self._options)
        self._base: Reading | None = None
        """The last reading that was shown to be one state of the books."""

    @property
    def clock_skew_s(self) -> float | None:
        """The broker's clock minus ours in seconds, good to about a second; None before the first answer."""
        return self._rest.clock_skew_s

    def stats(self) -> ClientStats:
        """Request counts and the broker's last words about its limits."""
        return self._rest.stats()

    async def close(self) -> None:
        """Cut all connections; requests under way end in an error."""
        self._rest.close()

    # --- requests that change something -----------------------------------------------------------

    async def submit(self, order: NewOrder) -> OrderReport:
        """Send a new order once; `RateLimited` comes at once and unsent, so that the caller looks at its gate again.

        A duplicate client order id is the broker's word that the order is there already: it is looked up and returned
        when its terms are the same.
        """
        try:
            body = await self._rest.call(Lane.ORDER, "POST", "/orders", _order_fields(order))
        except RequestRefused as refusal:
            if refusal.code == DUPLICATE_ID and "client_order_id" in refusal.message:
                return await self._already_there(order, refusal)
            raise
        return self._accepted(body)

    async def cancel(self, broker_order_id: BrokerOrderId) -> None:
        """Ask for a cancel; `RequestRefused` (404, or 422 when it is too late) says that the order wants looking up."""
        await self._rest.call(Lane.CANCEL, "DELETE", _order_path(broker_order_id))

    async def replace(self, broker_order_id: BrokerOrderId, change: OrderChange) -> OrderReport:
        """Ask for new terms; returns the report of the replacing order, which has an id of its own."""
        fields = {"client_order_id": str(change.client_order_id)}
        for name, value in (
            ("qty", change.quantity),
            ("limit_price", change.limit_price),
            ("stop_price", change.stop_price),
        ):
            if value is not None:
                fields[name] = _plain(value)
        return self._accepted(await self._rest.call(Lane.ORDER, "PATCH", _order_path(broker_order_id), fields))

    def _accepted(self, body: Json) -> OrderReport:
        try:
            return decode.order_report(body, self.oddities)
        except decode.Unreadable as error:
            raise OutcomeUnknown(f"the broker said yes, but its answer can't be read: {error}") from error

    async def _already_there(self, order: NewOrder, refusal: RequestRefused) -> OrderReport:
        try:
            report = await self.find(client_order_id=order.client_order_id)
        except (Recoverable, RequestRefused) as error:
            raise OutcomeUnknown(f"an order of this id exists, but it can't be read: {error}") from error
        if report is None:
            raise OutcomeUnknown("the broker says that an order of this id exists, and that it doesn't")
        terms = (order.symbol, order.side, order.quantity, order.limit_price, order.stop_price)
        if (report.symbol, report.side, report.quantity, report.limit_price, report.stop_price) != terms:
            raise RequestRefused(
                f"{refusal.message}: another order has this id", status=refusal.status, code=refusal.code
            )
        return report

    # --- requests that only read ------------------------------------------------------------------

    async def find(
        self, *, client_order_id: ClientOrderId | None = None, broker_order_id: BrokerOrderId | None = None
    ) -> OrderReport | None:
        """Look one order up by exactly one id; None is the broker's own 404."""
        if (client_order_id is None) == (broker_order_id is None):
            raise BadInput("find takes exactly one of client_order_id and broker_order_id", field="client_order_id")
        if client_order_id is not None:
            fields: dict[str, object] = {"client_order_id": str(client_order_id)}
            body = await self._looked_up(Lane.FIND, "/orders:by_client_order_id", fields)
        else:
            assert broker_order_id is not None
            body = await self._looked_up(Lane.FIND, _order_path(broker_order_id))
        return None if body is None else self._read(decode.order_report, body)

    async def account(self) -> AccountReport:
        """The account; its id tells accounts apart."""
        return self._read(decode.account_report, await self._get("/account"))

    async def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Read all that the scope asks for, a full one until it is shown to be untorn. Raises `BrokerUnavailable`."""
        try:
            async with asyncio.timeout(self._options.snapshot_s):
                return await self._snapshot(request)
        except TimeoutError as error:
            raise BrokerUnavailable(f"no whole snapshot within {self._options.snapshot_s:g} s") from error

    async def _snapshot(self, request: SnapshotRequest) -> Snapshot:
        started_at = self._clock.now()
        match request.scope:
            case SnapshotScope.POSITIONS:
                positions, account = await _together(self._positions(), self.account())
                return Snapshot(
                    scope=request.scope,
                    started_at=started_at,
                    finished_at=self._clock.now(),
                    positions=positions,
                    account=account,
                )
            case SnapshotScope.ORDERS:
                orders = _Orders()
                orders.add(self._flat(await self._pages("open")))
                await self._complete(orders, request.known, None)
                return Snapshot(
                    scope=request.scope,
                    started_at=started_at,
                    finished_at=self._clock.now(),
                    orders=tuple(orders.reports.values()),
                    absent=tuple(sorted(orders.absent)),
                )
            case SnapshotScope.FULL:
                since = (request.since or _start_of_day(started_at)) - timedelta(seconds=self._options.slack_s)
                reading = await self._untorn(request.known, since)
                return Snapshot(
                    scope=request.scope,
                    started_at=reading.started_at,
                    finished_at=self._clock.now(),
                    orders=tuple(reading.orders.values()),
                    executions=tuple(reading.executions.values()),
                    absent=tuple(sorted(reading.absent)),
                    positions=reading.positions,
                    account=reading.account,
                )

    async def _untorn(self, known: tuple[BrokerOrderId, ...], since: datetime) -> Reading:
        """Passes over all lists until one adds up with the base, or three in a row are equal; that one."""
        readings: list[Reading] = []
        went_back = False
        for _ in range(self._options.snapshot_tries):
            reading = await self._reading(known, since)
            base = self._base
            if base is not None and base.account.account_id != reading.account.account_id:
                self._base = base = None
            if base is not None and goes_back(base, reading):
                # no later than what was read before, whatever it adds up to
                self.oddities["stale_snapshot"] += 1
                went_back = True
                continue
            readings.append(reading)
            if base is not None and adds_up(base, reading):
                return self._rebased(reading)
            if stood_still(readings):
                return self._rebased(readings[-2])
            if base is not None or (len(readings) > 1 and readings[-1].state() != readings[-2].state()):
                self.oddities["torn_snapshot"] += 1
        if went_back:
            # should the broker really number its changes backwards, the next snapshot must not fail by that again
            self._base = None
        raise BrokerUnavailable(
            f"the books changed during each of {self._options.snapshot_tries} readings; no snapshot holds"
        )

    def _rebased(self, reading: Reading) -> Reading:
        if self._base is None or self._base.started_at < reading.started_at:
            self._base = reading
        return reading

    # --- parts of a snapshot ----------------------------------------------------------------------

    async def _reading(self, known: tuple[BrokerOrderId, ...], since: datetime) -> Reading:
        """One pass: all lists at once, then by id whatever they leave open."""
        started_at = self._clock.now()
        base = self._base
        still_open, sent, executions, positions, account = await _together(
            self._pages("open"),
            self._pages("all", after=since),
            self._executions(since),
            self._positions(),
            self.account(),
        )
        orders = _Orders()
        orders.add(self._flat(still_open))
        orders.add(self._flat(sent))
        # an old order that was filled since the base and is not open any more is in neither list
        traded = (
            ()
            if base is None
            else (execution.broker_order_id for name, execution in executions.items() if name not in base.executions)
        )
        await self._complete(orders, (*known, *traded), since)
        return Reading(
            started_at=started_at,
            since=since,
            orders=orders.reports,
            absent=frozenset(orders.absent),
            executions=executions,
            positions=positions,
            account=account,
        )

    async def _complete(self, orders: _Orders, wanted: Iterable[BrokerOrderId], since: datetime | None) -> None:
        """Look up what is wanted and in no list: only the broker's answer to its id says that an order is absent."""
        missing = [order_id for order_id in dict.fromkeys(wanted) if order_id not in orders.reports]
        if len(missing) > self._options.lookups_max:
            ids = set(missing)
            found = [raw for raw in await self._pages("all", until_found=ids) if raw.get("id") in ids]
            orders.add(self._flat(found))
            missing = [order_id for order_id in missing if order_id not in orders.reports]
        # of two lists one may tell of an order as it was before it was replaced, and the other of what replaced it
        doubtful = [
            report.replaces
            for report in orders.reports.values()
            if report.replaces in orders.reports and orders.reports[report.replaces].status not in TERMINAL
        ]
        asked = [*missing, *(doubtful if since is not None else ())]
        found_by_id = await _together(*(self._add_by_id(orders, order_id) for order_id in asked))
        orders.absent.update(order_id for order_id, found in zip(asked, found_by_id, strict=True) if not found)
        await self._add_legs(orders, since, looked_up=frozenset(missing))
        await self._settle_takeovers(orders)

    async def _add_legs(self, orders: _Orders, since: datetime | None, *, looked_up: frozenset[BrokerOrderId]) -> None:
        """Legs of groups: flat lists show them late or never, and never say whose they are; nested ones do."""
        if since is not None and any(report.order_class in LINKED for report in orders.reports.values()):
            orders.add(self._flat(await self._pages("all", after=since, nested=True)))
        groups = [
            order_id
            for order_id, report in orders.reports.items()
            if report.order_class in LINKED
            and report.status not in TERMINAL
            and report.parent is None
            and order_id not in looked_up
        ]
        await _together(*(self._add_by_id(orders, order_id) for order_id in groups))

    async def _settle_takeovers(self, orders: _Orders) -> None:
        """A take-profit whose stop has fired can be called replaced by it. It has ended: no successor is to come of it.

        A replace that was asked for is told from that by its new order, which names the old one.
        """
        replaced = [
            report
            for report in orders.reports.values()
            if report.status is OrderStatus.REPLACED and report.order_class in LINKED
        ]
        unread = [
            report.replaced_by
            for report in replaced
            if report.replaced_by is not None and report.replaced_by not in orders.reports
        ]
        await _together(*(self._add_by_id(orders, order_id) for order_id in unread))
        for report in replaced:
            successor = None if report.replaced_by is None else orders.reports.get(report.replaced_by)
            if successor is not None and successor.replaces != report.broker_order_id:
                ended = replace(report, status=OrderStatus.CANCELED, replaced_by=None)
                orders.reports[report.broker_order_id] = ended

    async def _add_by_id(self, orders: _Orders, order_id: BrokerOrderId) -> bool:
        body = await self._looked_up(Lane.READ, _order_path(order_id), {"nested": "true"})
        if body is None:
            return False
        orders.add(self._read(decode.order_reports, body))
        return True

    def _flat(self, listed: list[dict[str, Any]]) -> Iterable[OrderReport]:
        for raw in listed:
            yield from self._read(decode.order_reports, raw)

    async def _pages(
        self,
        status: str,
        *,
        after: datetime | None = None,
        until_found: set[BrokerOrderId] | None = None,
        nested: bool = False,
    ) -> list[dict[str, Any]]:
        """One list of orders, all pages, oldest first; with `until_found` newest first, until those ids were met.

        The list is paged by submission time, which is not unique: pages overlap by the instant at their seam.
        """
        is_backwards = until_found is not None
        fields: dict[str, object] = {
            "status": status,
            "limit": str(self._options.orders_page),
            "direction": "desc" if is_backwards else "asc",
            "nested": "true" if nested else "false",
        }
        if after is not None:
            fields["after"] = _rfc3339(after)
        found: dict[str, dict[str, Any]] = {}
        for _ in range(self._options.pages_max):
            page = self._list(await self._get("/orders", fields), "orders")
            fresh = {str(raw.get("id")): raw for raw in page if raw.get("id") not in found}
            found.update(fresh)
            if len(page) < self._options.orders_page or (until_found is not None and until_found <= found.keys()):
                return list(found.values())
            seam = decode.instant(page[-1].get("submitted_at"))
            if not fresh or seam is None:
                raise BrokerUnavailable(f"the list of {status} orders can't be paged: it does not move on")
            if is_backwards:
                fields["until"] = _rfc3339(seam + INSTANT)
            else:
                fields["after"] = _rfc3339(seam - INSTANT)
        raise BrokerUnavailable(f"the list of {status} orders has no end after {self._options.pages_max} pages")

    async def _executions(self, since: datetime) -> dict[ExecutionId, Execution]:
        """All fills since then, sorted by order and cumulative quantity; the list itself comes in no such order.

        Where the base tells that they will not fit on one page, the list is asked for in several stretches at once: it
        grows at its newest end alone, so all of it is as it was when that end was read.
        """
        seams = [] if self._base is None else self._seams(self._base, since)
        ends = (None, *(seam + INSTANT for seam in seams))
        stretches = await _together(
            *(self._stretch(after, until) for after, until in zip((*seams, since), ends, strict=True))
        )
        found = {name: execution for stretch in stretches for name, execution in stretch.items()}
        key = lambda fill: (fill.broker_order_id, fill.cum_quantity or 0, fill.at)  # noqa: E731
        return {execution.execution_id: execution for execution in sorted(found.values(), key=key)}

    def _seams(self, base: Reading, since: datetime) -> list[datetime]:
        """Where to divide the list of fills, newest first; half a page is left for what the base does not know."""
        size = self._options.activities_page
        known = sorted(execution.at for execution in base.executions.values() if execution.at > since)
        return list(dict.fromkeys(known[place] for place in range(len(known) - size // 2, 0, -max(size * 4 // 5, 1))))

    async def _stretch(self, after: datetime, until: datetime | None) -> dict[str, Execution]:
        """All pages of the fills after one instant and before another, by the broker's own id of each line."""
        size = self._options.activities_page
        fields: dict[str, object] = {
            "activity_types": "FILL",
            "after": _rfc3339(after),
            "direction": "asc",
            "page_size": str(size),
        }
        if until is not None:
            fields["until"] = _rfc3339(until)
        found: dict[str, Execution] = {}
        for _ in range(self._options.pages_max):
            page = self._list(await self._get("/account/activities", fields), "activities")
            count = len(found)
            for raw in page:
                if raw.get("activity_type", "FILL") == "FILL":
                    found[str(raw.get("id"))] = self._read(decode.fill_activity, raw)
            if len(page) < size:
                return found
            token = page[-1].get("id")
            if len(found) == count or not isinstance(token, str):
                raise BrokerUnavailable("the list of fills can't be paged: it does not move on")
            fields["page_token"] = token
        raise BrokerUnavailable(f"the list of fills has no end after {self._options.pages_max} pages")

    async def _positions(self) -> tuple[PositionReport, ...]:
        listed = self._list(await self._get("/positions"), "positions")
        return tuple(self._read(decode.position_report, raw) for raw in listed)

    # --- reading ----------------------------------------------------------------------------------

    async def _get(self, path: str, fields: dict[str, object] | None = None, lane: Lane = Lane.READ) -> Json:
        try:
            return await self._rest.call(lane, "GET", path, fields)
        except RequestRefused as refusal:
            raise BrokerUnavailable(f"GET {path} was refused: {refusal.message} (HTTP {refusal.status})") from refusal

    async def _looked_up(self, lane: Lane, path: str, fields: dict[str, object] | None = None) -> Json:
        """The answer, or None for the broker's own 404."""
        try:
            body = await self._rest.call(lane, "GET", path, fields)
        except RequestRefused as refusal:
            if refusal.status == 404:
                return None
            raise BrokerUnavailable(f"GET {path} was refused: {refusal.message} (HTTP {refusal.status})") from refusal
        if body is None:
            raise BrokerUnavailable(f"GET {path} was answered with nothing")
        return body

    def _list(self, body: Json, what: str) -> list[dict[str, Any]]:
        if not isinstance(body, list) or not all(isinstance(raw, dict) for raw in body):
            raise BrokerUnavailable(f"the list of {what} is no list of objects; nothing of it is believed")
        return body

    def _read(self, decoder: Callable[[object, Oddities], T], body: Json) -> T:
        try:
            return decoder(body, self.oddities)
        except decode.Unreadable as error:
            raise BrokerUnavailable(f"the broker's answer can't be read: {error}") from error


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
Work = Coroutine[Any, Any, T]


@overload
async def _together(a: Work[A], b: Work[B], /) -> tuple[A, B]: ...
@overload
async def _together(a: Work[A], b: Work[B], c: Work[C], d: Work[D], e: Work[E], /) -> tuple[A, B, C, D, E]: ...
@overload
async def _together(*work: Work[T]) -> tuple[T, ...]: ...
async def _together(*work: Work[Any]) -> tuple[Any, ...]:
    """All at once; the first failure ends the others and is raised itself."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _order_fields(order: NewOrder) -> dict[str, object]:
    fields: dict[str, object] = {
        "client_order_id": str(order.client_order_id),
        "symbol": str(order.symbol),
        "qty": _plain(order.quantity),
        "side": order.side.value.lower(),
        "type": order.order_type.value.lower(),
        "time_in_force": order.time_in_force.value.lower(),
    }
    if order.limit_price is not None:
        fields["limit_price"] = _plain(order.limit_price)
    if order.stop_price is not None:
        fields["stop_price"] = _plain(order.stop_price)
    if order.extended_hours:
        fields["extended_hours"] = True
    return fields


def _order_path(broker_order_id: BrokerOrderId) -> str:
    return f"/orders/{quote(broker_order_id, safe='')}"


def _plain(value: Decimal) -> str:
    """A number as Alpaca reads it: no exponent."""
    return format(value, "f")


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _start_of_day(now: datetime) -> datetime:
    """Midnight in New York, where the broker's day begins, as UTC."""
    today = now.astimezone(NEW_YORK).date()
    return datetime.combine(today, time.min, NEW_YORK).astimezone(now.tzinfo)
