"""Order events: the SDK's TradingStream, wrapped and cured.

The SDK opens the socket, authorises and asks for `trade_updates`; the wrapping gives each step a deadline, waits until
the broker has confirmed the subscription, keeps every frame until it is taken, and ends when the stream ends. Nothing
that happened while the stream was down is ever sent again, so an end is the one thing that must not be hidden.

Not for reconnecting (the runtime does, after a snapshot) nor for noticing a mute stream (only orders can show it).
Invariant: from the confirmation on, every frame becomes an event, a quarantined frame, or the end.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from alpaca.trading.stream import TradingStream as SdkTradingStream

from trueup.brokers.alpaca import decode
from trueup.brokers.alpaca.decode import Oddities
from trueup.brokers.alpaca.endpoints import checked_url
from trueup.brokers.alpaca.websocket import (
    UNREADABLE,
    Frame,
    Frames,
    Standing,
    StreamOptions,
    closing,
    connected,
    shortened,
    socket_params,
    unused,
    within,
)
from trueup.core.events import FrameQuarantined
from trueup.core.model import FeedName
from trueup.errors import BadCredentials, FeedEnded
from trueup.ports import Clock, FeedItem

STREAM = "trade_updates"
SETTING = "--alpaca-url"


class TradingStream:
    """`Feed` of order events; `url` is the whole websocket address, `oddities` counts what was not expected."""

    name = FeedName.BROKER_EVENTS

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        url: str,
        clock: Clock,
        options: StreamOptions | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self._key = key
        self._secret = secret
        self._url = checked_url(url, "alpaca_url", ("ws", "wss"), has_path=True)
        self._clock = clock
        self._options = options or StreamOptions()
        self.oddities = Oddities() if oddities is None else oddities
        self._standing = Standing(self._options)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[FeedItem]]:
        """Connect, authorise, subscribe, be confirmed; then deliver. Raises `FeedEnded` or `BadCredentials`."""
        sdk: Any = SdkTradingStream(
            self._key,
            self._secret,
            raw_data=True,
            url_override=self._url,
            websocket_params=socket_params(self._options, compress=False),
        )
        sdk.subscribe_trade_updates(unused)
        async with closing(sdk, self._options):
            socket = await connected(sdk, self._options, setting=SETTING)
            try:
                await within(sdk._auth(), self._options, "answer to the keys")
            except UNREADABLE as error:
                raise self._not_authorised(socket.last_frame) from error
            self._standing.accepted()
            frames = Frames(socket, self._clock, self._options)
            async with frames.reading():
                await within(self._subscribed(sdk, frames), self._options, f"confirmation of {STREAM}")
                yield _Events(frames, self.oddities)

    async def _subscribed(self, sdk: Any, frames: Frames) -> None:
        await sdk._subscribe_trade_updates()
        early: list[tuple[Frame, datetime]] = []
        while True:
            frame, at = await frames.get()
            message = _parsed(frame)
            if isinstance(message, dict) and message.get("stream") == "listening":
                break
            early.append((frame, at))  # an event may overtake the confirmation; it belongs to the stream all the same
            if isinstance(message, dict) and message.get("action") == "error":
                raise FeedEnded(f"the broker reported an error instead of confirming {STREAM}: {_error_text(message)}")
        if STREAM not in _streams(message):
            raise FeedEnded(f"the broker did not confirm {STREAM}: {shortened(frame, 200)}")
        frames.put_back(early)

    def _not_authorised(self, answer: Frame | None) -> FeedEnded | BadCredentials:
        message = None if answer is None else _parsed(answer)
        data = message.get("data") if isinstance(message, dict) else None
        if isinstance(data, dict) and data.get("status") == "unauthorized":
            return self._standing.refused("the broker refused the keys for order events")
        return FeedEnded(f"the keys were not answered but with: {shortened(answer or '', 200)}")


class _Events:
    """Frames, decoded as they are taken."""

    def __init__(self, frames: Frames, oddities: Oddities) -> None:
        self._frames = frames
        self._oddities = oddities
        self._decoded: deque[FeedItem] = deque()

    def __aiter__(self) -> AsyncIterator[FeedItem]:
        return self

    async def __anext__(self) -> FeedItem:
        while not self._decoded:
            frame, at = await self._frames.get()
            self._take(frame, at)
        return self._decoded.popleft()

    def _take(self, frame: Frame, at: datetime) -> None:
        if frame == b"\x01":  # the heartbeat that the JavaScript client knows of
            self._oddities["heartbeat"] += 1
            return
        message = _parsed(frame)
        if not isinstance(message, dict):
            self._quarantine(frame, at, "not a JSON object")
        elif message.get("stream") == STREAM:
            try:
                self._decoded.extend(decode.trade_update(message.get("data"), at, self._oddities))
            except decode.Unreadable as error:
                self._quarantine(frame, at, str(error))
        elif message.get("action") == "error":
            raise FeedEnded(f"the broker reported an error: {_error_text(message)}")
        elif message.get("stream") == "listening":
            if STREAM not in _streams(message):
                raise FeedEnded(f"the broker took {STREAM} off the subscription")
        elif message.get("stream") == "authorization":
            data = message.get("data")
            if not isinstance(data, dict) or data.get("status") != "authorized":
                raise FeedEnded(f"the broker withdrew the authorisation: {shortened(frame, 200)}")
        else:
            # It may be an order event under a name of tomorrow; keeping it costs one reconciliation.
            self._quarantine(frame, at, f"neither {STREAM} nor anything known")

    def _quarantine(self, frame: Frame, at: datetime, reason: str) -> None:
        self._oddities["quarantined_frame"] += 1
        self._decoded.append(FrameQuarantined(at=at, feed=FeedName.BROKER_EVENTS, raw=shortened(frame), reason=reason))


def _parsed(frame: Frame) -> Any:
    """The JSON in a frame; None where there is none."""
    try:
        return json.loads(frame)
    except (ValueError, RecursionError):
        return None


def _streams(message: dict[str, Any]) -> list[Any]:
    data = message.get("data")
    streams = data.get("streams") if isinstance(data, dict) else None
    return streams if isinstance(streams, list) else []


def _error_text(message: dict[str, Any]) -> str:
    data = message.get("data")
    said = data.get("error_message") if isinstance(data, dict) else None
    return str(said or data or "no reason given")[:200]
