"""One websocket of the vendor's SDK, with what the SDK leaves out: deadlines, a bounded queue, a prompt end, a reason.

The SDK's stream classes connect, authorise and subscribe; both of ours drive those steps through `connected` and
`within` and then read through `Frames`. Their reconnect loop is never entered: it hides the gap that we must know
about. The SDK's types do not describe its private parts, so what is driven of it is `Any` here.

Not for what frames mean. Invariant: every way in which a stream can stop, ours included, ends in one `FeedEnded` that
says why, and no frame that was received before the end is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI, WebSocketException
from websockets.legacy.client import WebSocketClientProtocol
from websockets.legacy.exceptions import InvalidStatusCode, RedirectHandshake

from trueup.errors import BadCredentials, FeedEnded
from trueup.ports import Clock

Frame = str | bytes

CHECK_KEYS = "check APCA_API_KEY_ID and APCA_API_SECRET_KEY, and that they belong to this address"

UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, IndexError)
"""What the SDK raises on a reply that is not what it expects; it looks no closer, so we do (`Socket.last_frame`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How long to wait for what (seconds), and how much to hold."""

    connect_s: float = 10.0
    """For the connection and its upgrade."""
    reply_s: float = 10.0
    """For each answer during authorisation and subscription."""
    ping_s: float = 5.0
    """Between pings."""
    pong_s: float = 5.0
    """Until a missing pong ends the stream."""
    close_s: float = 0.5
    """For a polite goodbye; after it the socket is dropped."""
    refused_pause_s: float = 90.0
    """After HTTP 429 on the upgrade: the broker holds a dead connection's only slot for about this long."""
    queue_max: int = 16_384
    """Frames received and not yet taken; one more ends the stream."""
    unauthorized_max: int = 3
    """Refusals in a row that keys which worked before may meet before they count as refused for good."""


class Socket(WebSocketClientProtocol):
    """A connection that remembers the last frame handed out, and follows no redirect: a key goes where it was sent."""

    last_frame: Frame | None = None

    async def recv(self) -> Any:
        """The next frame."""
        self.last_frame = await super().recv()
        return self.last_frame

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """The upgrade; a redirect is an answer like any other refusal."""
        try:
            await super().handshake(*args, **kwargs)
        except RedirectHandshake as redirect:
            raise InvalidHandshake(f"redirected to {redirect.uri}") from redirect


def socket_params(options: StreamOptions, *, compress: bool) -> dict[str, Any]:
    """What the SDK hands to the websocket library; it replaces the SDK's own defaults."""
    return {
        "open_timeout": options.connect_s,
        "ping_interval": options.ping_s,
        "ping_timeout": options.pong_s,
        "close_timeout": options.close_s,
        "max_queue": 1024,
        "compression": "deflate" if compress else None,
        "create_protocol": Socket,
    }


async def connected(sdk: Any, options: StreamOptions, *, setting: str) -> Socket:
    """Run the SDK's connect under its deadline; `setting` is what a wrong address is blamed on. Raises `FeedEnded`."""
    where = sdk._endpoint
    try:
        async with asyncio.timeout(options.connect_s + options.reply_s):
            await sdk._connect()
    except InvalidStatusCode as error:
        raise _refused(error, where, options, setting) from error
    except TimeoutError as error:
        raise FeedEnded(f"no connection to {where} in time") from error
    except ConnectionClosed as error:
        raise FeedEnded(f"closed while connecting: {_why(error)}") from error
    except (InvalidURI, InvalidHandshake) as error:
        raise FeedEnded(f"{where} did not answer as a websocket ({error}); check {setting}") from error
    except OSError as error:
        raise FeedEnded(f"can't connect to {where} ({error.strerror or error}); check {setting}") from error
    except WebSocketException as error:
        raise FeedEnded(f"can't connect to {where}: {error}") from error
    socket: Socket = sdk._ws
    return socket


async def within(step: Awaitable[object], options: StreamOptions, waiting_for: str) -> None:
    """Await one step of the handshake. Raises `FeedEnded` when its time is up or the connection goes."""
    try:
        async with asyncio.timeout(options.reply_s):
            await step
    except TimeoutError as error:
        raise FeedEnded(f"connected, but no {waiting_for} within {options.reply_s:g} s") from error
    except ConnectionClosed as error:
        raise FeedEnded(f"closed while waiting for {waiting_for}: {_why(error)}") from error


@contextlib.asynccontextmanager
async def closing(sdk: Any, options: StreamOptions) -> AsyncIterator[None]:
    """Whatever happens inside, the socket is gone promptly afterwards: a close frame first, an abort soon after."""
    try:
        yield
    finally:
        socket: Socket | None = sdk._ws
        sdk._ws = None
        if socket is not None:
            # Says goodbye without waiting for the answer, so that the broker frees the account's only slot.
            socket.fail_connection(1000)
            try:
                await asyncio.wait([socket.close_connection_task], timeout=options.close_s)
            finally:
                socket.transport.abort()
                await asyncio.wait([socket.close_connection_task], timeout=options.close_s)


class Frames:
    """Takes frames off the socket as they come, stamped with their arrival, and holds a bounded number of them."""

    def __init__(self, socket: Socket, clock: Clock, options: StreamOptions) -> None:
        self._socket = socket
        self._clock = clock
        self._queue_max = options.queue_max
        self._frames: deque[tuple[Frame, datetime]] = deque()
        self._wake = asyncio.Event()
        self._ended: FeedEnded | None = None

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read for as long as the context is open."""
        reader = asyncio.create_task(self._read(), name="alpaca frames")
        try:
            yield
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.result()  # only a bug raises here; it must not pass for an ended stream

    async def get(self) -> tuple[Frame, datetime]:
        """The next frame and its arrival; once all are taken and the stream is over, raises its `FeedEnded`."""
        while not self._frames:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._wake.wait()
        return self._frames.popleft()

    def put_back(self, frames: list[tuple[Frame, datetime]]) -> None:
        """Return frames that were taken, in their order, to the front."""
        self._frames.extendleft(reversed(frames))

    async def _read(self) -> None:
        reason = "the stream was closed on our side"
        try:
            while True:
                frame = await self._socket.recv()
                if len(self._frames) >= self._queue_max:
                    reason = f"{self._queue_max} frames wait to be handled; ended so that no loss is hidden"
                    return
                self._frames.append((frame, self._clock.now()))
                self._wake.set()
        except ConnectionClosed as error:
            reason = _why(error)
        finally:
            self._ended = FeedEnded(reason)
            self._wake.set()


class Standing:
    """Whether keys are refused for good: at once if they never worked here, else after several refusals in a row."""

    def __init__(self, options: StreamOptions) -> None:
        self._refusals_max = options.unauthorized_max
        self._has_worked = False
        self._refusals = 0

    def accepted(self) -> None:
        """The broker took the keys."""
        self._has_worked = True
        self._refusals = 0

    def refused(self, what: str) -> FeedEnded | BadCredentials:
        """What to raise for a refusal now."""
        self._refusals += 1
        if self._has_worked and self._refusals < self._refusals_max:
            return FeedEnded(f"{what}, though they were accepted before")
        return BadCredentials(f"{what}; {CHECK_KEYS}")


def shortened(frame: Frame, limit: int = 4096) -> str:
    """A frame as text for people and the journal, cut to `limit` characters."""
    raw = frame if isinstance(frame, str) else frame.decode("utf-8", errors="backslashreplace")
    return raw if len(raw) <= limit else f"{raw[:limit]}… ({len(raw)} characters)"


def _refused(error: InvalidStatusCode, where: str, options: StreamOptions, setting: str) -> FeedEnded:
    if error.status_code == 429:
        pause = retry_after_s(error.headers, options.refused_pause_s)
        return FeedEnded(
            "refused with HTTP 429: another connection of this account is open, or a dead one not yet cleared away",
            retry_after_s=pause,
        )
    if error.status_code >= 500:
        return FeedEnded(f"{where} refused the stream with HTTP {error.status_code}")
    return FeedEnded(f"{where} refused the stream with HTTP {error.status_code}; check {setting}")


def retry_after_s(headers: Mapping[str, str], default: float | None = None) -> float | None:
    """Seconds asked for by a Retry-After header, or the default."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdecimal() else default


def _why(error: ConnectionClosed) -> str:
    close = error.rcvd
    if close is not None:
        return f"the broker closed the stream with code {close.code}{f' ({close.reason})' if close.reason else ''}"
    if error.sent is not None:
        return f"gave the stream up with code {error.sent.code}{f' ({error.sent.reason})' if error.sent.reason else ''}"
    return "the connection broke"


async def unused(_message: Any) -> None:
    """The SDK subscribes only with a handler; we read the frames ourselves, so it is never called."""
