"""A client for scripts and notebooks: follow channels of a running trueup, through every break of the connection.

    async with connect("http://127.0.0.1:8000") as trueup:
        async for event in trueup.events("trade:executed"):
            print(event.data["symbol"], event.data["quantity"])

Each loop over events is a connection of its own, on which only the channels asked for travel. It resumes where it was;
what a gateway can no longer tell comes as a `system:snapshot` event to whoever asked for all channels or for that one.
Not for commands: those are plain HTTP, which `/openapi.json` describes.
Invariant: within one epoch no event of a log is handed over twice, and none behind a hole without a snapshot before.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from trueup.core.views import STATE_CHANNELS, Channel
from trueup.errors import BadCredentials, BadInput

PAUSE_S = 1.0
"""Seconds before a lost connection is opened again, unless the gateway asks for another pause."""

PAUSE_S_MAX = 15.0
"""The longest of them; the pause doubles with each failure."""

SNAPSHOT = Channel.SYSTEM_SNAPSHOT.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One message. Amounts with a point are Decimal. What somebody else published has no epoch, offset or time."""

    channel: str
    data: Any
    epoch: str = ""
    offset: int = 0
    at: datetime | None = None


def connect(url: str = "http://127.0.0.1:8000", *, token: str = "") -> Client:
    """A client of the gateway at `url`; raises `BadInput` when that is no web address."""
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise BadInput(f"url must be a web address such as http://127.0.0.1:8000; got {url!r}", field="url")
    path = parts.path.removesuffix("/").removesuffix("/ws") + "/ws"
    return Client(urlunsplit((schemes[parts.scheme], parts.netloc, path, "", "")), token)


@dataclass
class _Place:
    """Up to where one loop has each channel."""

    epoch: str = ""
    cursors: dict[str, int] = field(default_factory=dict)


class Client:
    """Follows one gateway; `recovered` says whether the last return of any of its loops lost nothing."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.recovered: bool | None = None
        self._sockets: set[ClientConnection] = set()
        self._is_over = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End every loop."""
        self._is_over = True
        for socket in tuple(self._sockets):
            await socket.close()

    async def events(self, *channels: str) -> AsyncIterator[Event]:
        """Events of these channels, or of all, until the client is left.

        Raises `BadInput` for a channel that is not there, and `BadCredentials` when the gateway lets nobody in.
        """
        unknown = set(channels) - set(Channel)
        if unknown:
            raise BadInput(
                f"there is no channel {sorted(unknown)[0]!r}; docs/reference/channels.md lists them", field="channels"
            )
        pause, place = PAUSE_S, _Place()
        while not self._is_over:
            try:
                asked = {"channels": ",".join(channels)} if channels else {}
                if place.cursors:
                    asked["resume"] = ""
                url = f"{self._url}?{urlencode(asked)}" if asked else self._url
                async with open_websocket(url, additional_headers=self._headers, max_size=None) as socket:
                    if place.cursors:
                        await socket.send(json.dumps({"type": "resume", "cursors": _told(place)}))
                    pause = PAUSE_S
                    self._sockets.add(socket)
                    try:
                        async for event in self._heard(socket, place):
                            if not channels or event.channel in channels:
                                yield event
                    finally:
                        self._sockets.discard(socket)
            except InvalidStatus as refused:
                if refused.response.status_code in (401, 403):
                    raise BadCredentials("the gateway lets nobody in without the right token") from None
            except ConnectionClosed as closed:
                later = re.search(r"retry_after_ms=(\d{1,5})", closed.rcvd.reason if closed.rcvd is not None else "")
                if later is not None:
                    pause = int(later[1]) / 1000
            except (OSError, WebSocketException, TimeoutError):
                pause = min(2 * pause, PAUSE_S_MAX)
            if not self._is_over:
                await asyncio.sleep(pause)

    async def _heard(self, socket: ClientConnection, place: _Place) -> AsyncIterator[Event]:
        async for text in socket:
            message = json.loads(text, parse_float=Decimal)
            if message.get("type") == "resumed":
                self.recovered = message["recovered"]
            if "channel" not in message:
                continue
            event = Event(
                channel=message["channel"],
                data=message["data"],
                epoch=message.get("epoch", ""),
                offset=message.get("offset", 0),
                at=datetime.fromisoformat(message["at"]) if "at" in message else None,
            )
            if event.channel == SNAPSHOT:
                place.epoch, place.cursors = event.epoch, dict(message["cursors"])
            elif event.epoch:
                last = place.cursors.get(event.channel, 0)
                if event.epoch == place.epoch and event.offset <= last:
                    continue
                if event.epoch != place.epoch or (event.offset > last + 1 and event.channel not in STATE_CHANNELS):
                    await socket.send('{"type":"resync"}')
                    continue
                place.cursors[event.channel] = event.offset
            yield event


def _told(place: _Place) -> dict[str, dict[str, object]]:
    return {channel: {"epoch": place.epoch, "offset": offset} for channel, offset in place.cursors.items()}
