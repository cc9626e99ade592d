"""Quotes: the SDK's StockDataStream, wrapped and cured.

As for order events: deadlines, a confirmed subscription, a bounded queue, and an end that says why instead of a silent
reconnect. The wire is MessagePack in binary frames, each an array of messages; JSON text is read too.

Not for order events, and not for keeping a latest quote. A quote that can't be read is counted and passed over: the
next one makes up for it. Invariant: an error that the broker sends never passes as silence.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgpack
from alpaca.data.live.stock import StockDataStream as SdkStockDataStream

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
from trueup.core.model import FeedName, Quote, Symbol
from trueup.errors import BadCredentials, BadInput, FeedEnded
from trueup.ports import Clock

SETTING = "--data-url"

PAUSE_S: dict[int, float] = {
    405: 300.0,  # more symbols than the plan allows
    406: 15.0,  # another connection holds the plan's only slot
    409: 300.0,  # this plan may not have this feed
    410: 300.0,  # this feed has no quotes
    411: 300.0,  # these keys may not have this feed
}
"""Pause before the next try (seconds) for errors that an immediate one would only meet again."""

ADVICE = {
    405: "subscribe to fewer symbols (--symbols)",
    406: "only one connection is allowed; find the other one",
    409: "choose another --data-feed",
    410: "choose another --data-feed",
    411: "choose another --data-feed",
}
AUTH_FAILED = 402
ALREADY_AUTHORISED = 403


class StockDataStream:
    """`QuoteFeed` of some symbols; `url` is the whole address, `data_timeout_s` ends a stream without quotes."""

    name = FeedName.MARKET_DATA

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        url: str,
        symbols: Iterable[Symbol],
        clock: Clock,
        data_timeout_s: float | None = None,
        options: StreamOptions | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self._key = key
        self._secret = secret
        self._url = checked_url(url, "data_url", ("ws", "wss"), has_path=True)
        self._symbols = tuple(dict.fromkeys(symbols))
        if not self._symbols:
            raise BadInput("--symbols is empty; name at least one symbol, or leave market data off", field="symbols")
        if data_timeout_s is not None and data_timeout_s <= 0:
            raise BadInput(f"data_timeout_s is {data_timeout_s:g}; it must be above zero", field="data_timeout_s")
        self._data_timeout_s = data_timeout_s
        self._clock = clock
        self._options = options or StreamOptions()
        self.oddities = Oddities() if oddities is None else oddities
        self._standing = Standing(self._options)
        self._confirmed = self._symbols

    def symbols(self) -> tuple[Symbol, ...]:
        """What is subscribed to; after a connect, what the broker confirmed."""
        return self._confirmed

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[Quote]]:
        """Connect, authorise, subscribe, be confirmed; then deliver. Raises `FeedEnded` or `BadCredentials`."""
        sdk: Any = SdkStockDataStream(
            self._key,
            self._secret,
            raw_data=True,
            url_override=self._url,
            websocket_params=socket_params(self._options, compress=True),
        )
        sdk.subscribe_quotes(unused, *self._symbols)
        async with closing(sdk, self._options):
            try:
                socket = await connected(sdk, self._options, setting=SETTING)
                await within(sdk._auth(), self._options, "answer to the keys")
            except UNREADABLE as error:
                raise self._not_authorised(sdk) from error
            self._standing.accepted()
            frames = Frames(socket, self._clock, self._options)
            async with frames.reading():
                quotes = _Quotes(frames, self.oddities, self._data_timeout_s)
                await within(self._subscribed(sdk, frames, quotes), self._options, "confirmation of the subscription")
                yield quotes

    async def _subscribed(self, sdk: Any, frames: Frames, quotes: _Quotes) -> None:
        await sdk._send_subscribe_msg()
        while True:
            frame, at = await frames.get()
            for message in _messages(frame):
                if isinstance(message, dict) and message.get("T") == "subscription":
                    confirmed = message.get("quotes")
                    listed = confirmed if isinstance(confirmed, list) else []
                    self._confirmed = tuple(symbol for symbol in self._symbols if symbol in listed or "*" in listed)
                    self.oddities["unconfirmed_symbol"] += len(self._symbols) - len(self._confirmed)
                    if not self._confirmed:
                        raise FeedEnded("the broker confirmed none of the symbols")
                    return
            quotes.take(frame, at)

    def _not_authorised(self, sdk: Any) -> FeedEnded | BadCredentials:
        answer: Frame | None = sdk._ws.last_frame if sdk._ws is not None else None
        for message in _messages(answer or b""):
            if isinstance(message, dict) and message.get("T") == "error":
                if message.get("code") == AUTH_FAILED:
                    return self._standing.refused("the broker refused the keys for market data")
                return _ended(message)
        return FeedEnded(f"the keys were not answered but with: {shortened(answer or '', 200)}")


class _Quotes:
    """Frames, decoded as they are taken."""

    def __init__(self, frames: Frames, oddities: Oddities, data_timeout_s: float | None) -> None:
        self._frames = frames
        self._oddities = oddities
        self._data_timeout_s = data_timeout_s
        self._decoded: deque[Quote] = deque()

    def __aiter__(self) -> AsyncIterator[Quote]:
        return self

    async def __anext__(self) -> Quote:
        if not self._decoded:
            try:
                async with asyncio.timeout(self._data_timeout_s):
                    while not self._decoded:
                        self.take(*await self._frames.get())
            except TimeoutError as error:
                raise FeedEnded(f"silent: no quote for {self._data_timeout_s:g} s") from error
        return self._decoded.popleft()

    def take(self, frame: Frame, at: datetime) -> None:
        """Decode one frame. Raises `FeedEnded` for an error of the broker's."""
        messages = _messages(frame)
        if not messages:
            self._oddities["unreadable_data_frame"] += 1
        for message in messages:
            kind = message.get("T") if isinstance(message, dict) else None
            if kind == "q":
                try:
                    self._decoded.append(decode.quote(message, at, self._oddities))
                except decode.Unreadable:
                    self._oddities["unreadable_quote"] += 1
            elif kind == "error":
                if message.get("code") != ALREADY_AUTHORISED:
                    raise _ended(message)
            elif kind not in ("success", "subscription"):
                self._oddities[f"unknown:data:{str(kind)[:40]}"] += 1


def _messages(frame: Frame) -> list[Any]:
    """The messages in a frame; empty where it can't be read."""
    try:
        if isinstance(frame, str) or frame[:1] in (b"[", b"{"):
            content = json.loads(frame)
        else:
            content = msgpack.unpackb(frame, timestamp=3)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException):
        return []
    return content if isinstance(content, list) else [content]


def _ended(message: dict[str, Any]) -> FeedEnded:
    code = message.get("code")
    known = code if isinstance(code, int) else 0
    advice = f"; {ADVICE[known]}" if known in ADVICE else ""
    return FeedEnded(
        f"the broker reported error {code} ({str(message.get('msg'))[:200]}){advice}", retry_after_s=PAUSE_S.get(known)
    )
