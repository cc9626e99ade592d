"""Requests to Alpaca: the SDK's TradingClient on threads of its own, with deadlines, a budget, and sorted errors.

Each lane has its own threads and each thread its own SDK client, so that a cancel never queues behind a page of orders.
The SDK's habits of repeating a POST and of waiting for ever are switched off.

Not for what is asked or answered. Invariant: every request ends within its deadline, is sent at most once, and ends in
an answer or in exactly one of our errors; `OutcomeUnknown` whenever the broker may have acted on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from requests.adapters import HTTPAdapter

from trueup.brokers.alpaca.budget import Priority, RequestBudget
from trueup.brokers.alpaca.endpoints import checked_url
from trueup.brokers.alpaca.websocket import CHECK_KEYS
from trueup.errors import BadCredentials, BrokerUnavailable, OutcomeUnknown, RateLimited, RequestRefused, TrueupError
from trueup.ports import Clock

SETTING = "--alpaca-url"

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How long to wait for what (seconds), and how much to ask for."""

    connect_s: float = 3.05
    """For a connection; before it stands nothing was sent."""
    read_s: float = 10.0
    """For the next bytes of an answer."""
    total_s: float = 20.0
    """For a whole request, however slowly its answer drips."""
    requests_per_minute: int = 200
    """What Alpaca allows an account; 0 for no limit."""
    budget_wait_s: float = 30.0
    """How long a reading request may wait for its turn."""
    snapshot_s: float = 60.0
    """For a whole snapshot."""
    snapshot_tries: int = 6
    """Passes over all lists before a snapshot of books that move within each of them is given up."""
    slack_s: float = 300.0
    """How far before `since` to look again: activities come late, and clocks differ."""
    orders_page: int = 500
    """Orders a page; Alpaca's most."""
    activities_page: int = 100
    """Activities a page; Alpaca's most."""
    pages_max: int = 100
    """Pages of one list before it is given up as endless."""
    lookups_max: int = 20
    """Orders that are read one by one; for more of them the list of all orders is walked first."""
    unauthorized_max: int = 3
    """Refusals in a row that keys which worked before may meet before they count as refused for good."""


class Lane(StrEnum):
    """Who shares threads with whom."""

    CANCEL = "cancel"
    ORDER = "order"
    FIND = "find"
    READ = "read"


THREADS = {Lane.CANCEL: 2, Lane.ORDER: 8, Lane.FIND: 2, Lane.READ: 10}
"""Requests of a lane that can be under way at once; a full snapshot has one for each list, and some for a long one."""
PRIORITY = {
    Lane.CANCEL: Priority.CANCEL,
    Lane.ORDER: Priority.SUBMIT,
    Lane.FIND: Priority.FIND,
    Lane.READ: Priority.SNAPSHOT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """What the requests so far have shown; the limits are the broker's own last words, None before the first."""

    requests: Mapping[str, int]
    failures: Mapping[str, int]
    rate_limit: int | None
    rate_limit_remaining: int | None
    rate_limit_reset: int | None
    clock_skew_s: float | None


class _Adapter(HTTPAdapter):
    """Deadlines on every request, no repeats, and connections that are watched and can be cut off from outside.

    One thread uses it, for one request at a time.
    """

    def __init__(self, timeout: tuple[float, float]) -> None:
        self._timeout = timeout
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self.is_connecting = False
        """A connection was begun and does not stand: not a byte of the request has left."""
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        adapter = self

        class Http(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                adapter.is_connecting = True
                super().connect()
                adapter.has_connected(self)

        class Https(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                adapter.is_connecting = True
                super().connect()
                adapter.has_connected(self)

        class HttpPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Https

        self.poolmanager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}

    def has_connected(self, connection: Any) -> None:
        self.is_connecting = False
        self._connections.add(connection)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = self._timeout
        self.is_connecting = False
        return super().send(*args, **kwargs)

    def cut(self) -> None:
        """End every connection at once; a thread that waits for an answer is woken by it."""
        for connection in list(self._connections):
            sock = getattr(connection, "sock", None)
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Session:
    """One thread's SDK client and the last response that it saw."""

    client: TradingClient
    adapter: _Adapter
    response: requests.Response | None = None

    def remember(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
        self.response = response

    def taken(self) -> requests.Response | None:
        """The response seen since the last call of this."""
        response, self.response = self.response, None
        return response


@dataclass(slots=True)
class _Answer:
    """How one request ended: the body, or the error to raise; and the response's head where one came."""

    body: Json = None
    error: TrueupError | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


class Rest:
    """Sends requests and sorts what comes back. `url` is the trading address without a path."""

    def __init__(self, *, key: str, secret: str, url: str, clock: Clock, options: ClientOptions) -> None:
        self._url = checked_url(url, "alpaca_url", ("http", "https"))
        self._host = urlsplit(self._url).netloc
        self._key = key
        self._secret = secret
        self._clock = clock
        self._options = options
        self._budget = RequestBudget(clock, per_minute=options.requests_per_minute)
        self._lanes = {
            lane: ThreadPoolExecutor(count, thread_name_prefix=f"alpaca-{lane}") for lane, count in THREADS.items()
        }
        self._orders_under_way: list[Future[_Answer]] = []
        self._local = threading.local()
        self._adapters: list[_Adapter] = []
        self._requests: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._limits: dict[str, int | None] = {"Limit": None, "Remaining": None, "Reset": None}
        self._has_worked = False
        self._refusals = 0
        self._is_closed = False
        self.clock_skew_s: float | None = None

    def stats(self) -> ClientStats:
        """Counts so far, and the broker's last words about its limits."""
        return ClientStats(
            requests=dict(self._requests),
            failures=dict(self._failures),
            rate_limit=self._limits["Limit"],
            rate_limit_remaining=self._limits["Remaining"],
            rate_limit_reset=self._limits["Reset"],
            clock_skew_s=self.clock_skew_s,
        )

    async def call(self, lane: Lane, method: str, path: str, data: Mapping[str, object] | None = None) -> Json:
        """One request and the JSON of its answer (None for an empty one); errors as the port says.

        On the order lane nothing is awaited before a thread has it: who checked a gate and called may rely on that.
        """
        if self._is_closed:
            raise BrokerUnavailable("the client is closed; nothing was sent")
        if lane is Lane.ORDER:
            self._orders_under_way = [job for job in self._orders_under_way if not job.done()]
            if len(self._orders_under_way) >= THREADS[lane]:
                raise RateLimited("too many orders are being sent at once; this one was not", retry_after_s=0.1)
            self._budget.take_now(PRIORITY[lane])
        else:
            await self._budget.take(PRIORITY[lane], at_most_s=self._options.budget_wait_s)
        started_at = self._clock.now()
        job = self._lanes[lane].submit(self._perform, method, path, data)
        if lane is Lane.ORDER:
            self._orders_under_way.append(job)
        self._requests[method] += 1
        try:
            async with asyncio.timeout(self._options.total_s):
                answer = await asyncio.wrap_future(job)
        except TimeoutError:
            answer = _Answer(error=self._late(method, path, was_sent=not job.cancelled()))
        if answer.headers:
            self._learn(answer.headers, started_at.timestamp(), self._clock.now().timestamp())
        error = self._judged(answer)
        if error is not None:
            self._failures[type(error).__name__] += 1
            raise error
        return answer.body

    def close(self) -> None:
        """Cut every connection and let the threads go; requests under way end in an error."""
        self._is_closed = True
        for executor in self._lanes.values():
            executor.shutdown(wait=False, cancel_futures=True)
        for adapter in list(self._adapters):
            adapter.cut()
            adapter.close()

    def _late(self, method: str, path: str, *, was_sent: bool) -> TrueupError:
        what = f"{method} {path} took longer than {self._options.total_s:g} s"
        if was_sent and method != "GET":
            return OutcomeUnknown(f"{what}; it may have been carried out")
        return BrokerUnavailable(what)

    def _judged(self, answer: _Answer) -> TrueupError | None:
        """The error of an answer, with what only the run of answers can tell: whether keys are refused for good."""
        if isinstance(answer.error, BadCredentials):
            self._refusals += 1
            if self._has_worked and self._refusals < self._options.unauthorized_max:
                return BrokerUnavailable(f"{answer.error}; they were accepted before")
        elif answer.status:
            self._refusals = 0
            self._has_worked = self._has_worked or answer.status < 400
        if isinstance(answer.error, RateLimited):
            self._budget.pause(answer.error.retry_after_s or 1.0)
        return answer.error

    def _learn(self, headers: Mapping[str, str], started_at: float, finished_at: float) -> None:
        for name in self._limits:
            value = headers.get(f"X-RateLimit-{name}", "").strip()
            if value.isdecimal():
                self._limits[name] = int(value)
        date = _date(headers)
        if date is not None:
            # the header is cut to whole seconds, so on average half a second is missing
            self.clock_skew_s = round(date + 0.5 - (started_at + finished_at) / 2, 3)

    # --- on the lane's thread ---------------------------------------------------------------------

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            client = TradingClient(self._key, self._secret, raw_data=True, url_override=self._url)
            client._retry_codes = []
            adapter = _Adapter((self._options.connect_s, self._options.read_s))
            session = _Session(client, adapter)
            client._session.mount("http://", adapter)
            client._session.mount("https://", adapter)
            client._session.hooks["response"].append(session.remember)
            self._local.session = session
            self._adapters.append(adapter)
        return session

    def _perform(self, method: str, path: str, data: Mapping[str, object] | None) -> _Answer:
        session = self._session()
        session.taken()
        fields = None if data is None else dict(data)
        body: Json = None
        failure: Exception | None = None
        try:
            match method:
                case "GET":
                    body = session.client.get(path, fields)
                case "POST":
                    body = session.client.post(path, fields)
                case "PATCH":
                    body = session.client.patch(path, fields)
                case "DELETE":
                    body = session.client.delete(path, fields)
                case _:
                    raise AssertionError(f"no such method: {method}")
        except (APIError, requests.RequestException, urllib3.exceptions.HTTPError) as caught:
            failure = caught
        response = session.taken()
        if response is None:
            reason = failure or ConnectionError("no response")
            return _Answer(error=self._broken(method, path, reason, is_unsent=session.adapter.is_connecting))
        answer = _Answer(body=body, status=response.status_code, headers=response.headers)
        if isinstance(failure, APIError):
            answer.error = sorted_refusal(
                method, path, response.status_code, str(failure), response.headers, self._host
            )
        elif 300 <= response.status_code < 400 or isinstance(failure, requests.exceptions.JSONDecodeError):
            answer.error = self._not_json(method, path, response)
        elif failure is not None:
            answer.error = self._broken(method, path, failure, is_unsent=False)
        return answer

    def _not_json(self, method: str, path: str, response: requests.Response) -> TrueupError:
        status = response.status_code
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere")
            return BrokerUnavailable(f"{self._host} redirects to {where}, and keys are not sent there; check {SETTING}")
        what = f"{method} {path}: HTTP {status} without JSON"
        if method == "GET":
            return BrokerUnavailable(f"{what}; check that {SETTING} is a trading address")
        return OutcomeUnknown(f"{what}; it may have been carried out")

    def _broken(self, method: str, path: str, failure: Exception, *, is_unsent: bool) -> TrueupError:
        if is_unsent or was_never_sent(failure):
            return BrokerUnavailable(f"can't connect to {self._host} ({_root(failure)}); check {SETTING}")
        if method == "GET":
            return BrokerUnavailable(f"{method} {path} got no answer ({_root(failure)})")
        return OutcomeUnknown(f"{method} {path} got no answer ({_root(failure)}); it may have been carried out")


def sorted_refusal(
    method: str, path: str, status: int, body: str, headers: Mapping[str, str], host: str
) -> TrueupError:
    """The error for an HTTP status of 400 or more: by status first, then by code, by text only as a last resort."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    said = content if isinstance(content, dict) else {}
    code = str(said.get("code") or "")
    message = str(said.get("message") or "").strip() or f"HTTP {status}"
    if status == 429:
        return RateLimited(f"the broker's request limit is reached ({message})", retry_after_s=_pause_s(headers))
    is_about_keys = status == 401 or (
        status == 403 and said and (code.startswith("401") or (not code and _names_keys(message)))
    )
    if is_about_keys:
        return BadCredentials(f"{host} refused the keys ({message}); {CHECK_KEYS}")
    if status >= 500 or status == 408:
        what = f"{method} {path}: HTTP {status} ({message})"
        return BrokerUnavailable(what) if method == "GET" else OutcomeUnknown(f"{what}; it may have been carried out")
    if not said:
        return BrokerUnavailable(f"{method} {path}: HTTP {status}, not in the broker's words; check {SETTING}")
    return RequestRefused(message, status=status, code=code)


def was_never_sent(failure: Exception) -> bool:
    """True only where the failure by itself tells that no byte has left: no usable address, or no connection."""
    if isinstance(failure, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError | ValueError):
        return True  # the ValueErrors among them are addresses and headers that can't be used
    reason = failure.args[0] if failure.args else None
    if isinstance(reason, urllib3.exceptions.MaxRetryError):
        reason = reason.reason
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _names_keys(message: str) -> bool:
    lower = message.lower()
    return "forbidden" in lower or "not authorized" in lower or "unauthorized" in lower or "access key" in lower


def _root(failure: Exception) -> str:
    """The innermost reason in one line."""
    reason: object = failure
    while True:
        inner = getattr(reason, "reason", None)
        if not isinstance(inner, Exception):
            args = getattr(reason, "args", ())
            inner = next((arg for arg in reversed(args) if isinstance(arg, Exception)), None)
        if inner is None:
            break
        reason = inner
    line = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return line.rpartition(": ")[2][:200] if "object at 0x" in line else line[:200]


def _date(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError):
        return None


def _pause_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait after a 429; a reset instant is taken relative to the broker's own clock."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    reset = headers.get("X-RateLimit-Reset", "").strip()
    date = _date(headers)
    if reset.isdecimal() and date is not None:
        return min(max(float(reset) - date, 1.0), 60.0)
    return None
