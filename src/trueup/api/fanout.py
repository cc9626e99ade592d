"""The fast path: connections that FastAPI let in, taken over whole, and one write for each of them per burst.

The kernel's `send` is what fan-out costs, so a client's message goes through no task, no queue and no frame of its own:
what was published since the last turn of the loop is framed once, joined once for each choice of channels, and written
to every client that keeps up. A client whose socket is full leaves its group and gets a bounded queue, in which a state
channel holds one place; a log that would lose an envelope closes the client with a reason. Once its socket is empty
again it is back.

Not for deciding who may connect or what a message means (`routes/websocket.py`), and not for TLS or other servers: a
connection that can't be taken over is served by the portable path there. Invariant: a client gets each envelope behind
its snapshot once and in order, and nothing is kept for it beyond its bounds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, TypeVar, cast

from fastapi import WebSocket
from websockets.http11 import Request

from trueup.api.frames import (
    CLOSE_NORMAL,
    NO_STATUS,
    PING,
    PONG,
    TEXT,
    Closed,
    FrameReader,
    Message,
    Ping,
    Violation,
    close_frame,
    frame,
)
from trueup.api.upgrade import PatientWebSocket
from trueup.core.views import STATE_CHANNELS
from trueup.ports import Envelope

log = logging.getLogger(__name__)

CLOSE_RESTART = 1012
"""The service restarts: come back in a moment."""

CLOSE_TOO_SLOW = 1013
"""Try again later: more waits for the client than may wait."""

LINGER_S = 5.0
"""How long bytes for a client that has been let go may wait for it, in seconds."""

MESSAGE_BYTES_MAX = 64 * 1024
"""The largest message that a dashboard may send; ours to it are not limited."""

BACKLOG_BYTES_MAX = 4 * 1024 * 1024
"""Bytes that may wait for one slow client beside the bound on messages; frames are shared between clients."""

BURST_BYTES = 256 * 1024
"""How much of a slow client's queue is joined into one write."""

_KEY = "trueup.fanout"
_PING = frame(PING, b"")
_SLOTS = 20


class Lag:
    """What waits for one client whose socket is full."""

    __slots__ = ("_newest", "_queue", "size")

    def __init__(self) -> None:
        self._queue: deque[bytes | str] = deque()
        self._newest: dict[str, bytes] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, data: bytes) -> None:
        """Queue a frame that must arrive."""
        self._queue.append(data)
        self.size += len(data)

    def put_state(self, channel: str, data: bytes) -> None:
        """Queue a frame that takes over the place of an older one of its channel."""
        older = self._newest.get(channel)
        if older is None:
            self._queue.append(channel)
        else:
            self.size -= len(older)
        self._newest[channel] = data
        self.size += len(data)

    def take(self) -> bytes:
        """Some of what waits, oldest first, as one piece."""
        taken: list[bytes] = []
        size = 0
        while self._queue and size < BURST_BYTES:
            item = self._queue.popleft()
            taken.append(self._newest.pop(item) if isinstance(item, str) else item)
            size += len(taken[-1])
        self.size -= size
        return b"".join(taken)

    def clear(self) -> None:
        """Forget everything."""
        self._queue.clear()
        self._newest.clear()
        self.size = 0


class Link(asyncio.Protocol):
    """One client on the fast path: no task, no timer, and a reader only while it is in the middle of saying something.

    To be derived from by whoever knows what clients mean. `held`: nothing has been promised to it yet. `channels` are
    those that it asked for, None for all. `place` is its index among those of its group that keep up, -1 while it
    stands apart.
    """

    __slots__ = (
        "_cursors",
        "_hub",
        "_reader",
        "_transport",
        "channels",
        "held",
        "is_over",
        "lag",
        "place",
        "slot",
        "socket",
        "unheard",
    )

    def __init__(self, hub: Hub, transport: asyncio.Transport, slot: int) -> None:
        self._hub = hub
        self._transport = transport
        self._reader: FrameReader | None = None
        self._cursors: Mapping[str, int] | None = None
        self.channels: frozenset[str] | None = None
        self.held = True
        self.is_over = False
        self.lag: Lag | None = None
        self.place = -1
        self.socket: int = transport.get_extra_info("socket").fileno()
        self.slot = slot
        self.unheard = 0

    def heard(self, said: str | bytes) -> None:
        """The client said something."""

    def gone(self) -> None:
        """The connection is lost."""

    # --- what it gets ---

    @property
    def seen(self) -> Mapping[str, int]:
        """Up to where it has each channel; empty once nothing of that can come any more."""
        return {} if self._cursors is None else self._cursors

    def start_from(self, snapshot: str, cursors: Mapping[str, int]) -> None:
        """Forget what waits and begin with a snapshot that holds everything up to `cursors`."""
        if self.lag is not None:
            self.lag.clear()
        self.go_on_from(cursors)
        self.say_text(snapshot)

    def go_on_from(self, cursors: Mapping[str, int]) -> None:
        """Give it what lies behind `cursors` from now on."""
        self._hub.set_apart(self)
        self._cursors = cursors
        self.held = False

    def offer(self, envelope: Envelope, text: str) -> None:
        """Send one envelope to this client alone, unless it has it already."""
        self.deliver(envelope.channel, envelope.offset if envelope.epoch else None, frame(TEXT, text.encode()))

    def offer_all(self, offers: Iterable[tuple[Envelope, str]]) -> None:
        """As `offer`, in few writes."""
        joined = bytearray()
        for envelope, text in offers:
            offset = envelope.offset if envelope.epoch else None
            data = frame(TEXT, text.encode())
            if self.lag is not None:
                self.deliver(envelope.channel, offset, data)
            elif self._wants(envelope.channel, offset):
                joined += data
                if len(joined) >= BURST_BYTES:
                    self.write(bytes(joined))
                    joined.clear()
        if joined:
            self.write(bytes(joined))

    def say(self, message: Mapping[str, Any]) -> None:
        """Answer this client alone."""
        self.write(frame(TEXT, json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()))

    def say_text(self, text: str) -> None:
        """Send one message as it is."""
        self.write(self._hub.frame_of(text))

    def deliver(self, channel: str, offset: int | None, data: bytes) -> None:
        """Send a frame, unless the client has it already or did not ask for it; without an offset nobody has it."""
        if not self._wants(channel, offset):
            return
        if self.lag is not None and offset is not None and channel in STATE_CHANNELS:
            self.lag.put_state(channel, data)
            self._check_lag(self.lag)
        else:
            self.write(data)

    def _wants(self, channel: str, offset: int | None) -> bool:
        if self.held or (offset is not None and offset <= self.seen.get(channel, 0)):
            return False
        return self.channels is None or channel in self.channels

    def write(self, data: bytes) -> None:
        """Send a frame, or queue it behind what waits."""
        if self.is_over:
            return
        if self.lag is None:
            self._transport.write(data)
        else:
            self.lag.put(data)
            self._check_lag(self.lag)

    def ping(self, patience: int) -> None:
        """Ask for a sign of life; a client that gave none after `patience` of these is dropped."""
        if self.unheard >= patience:
            log.info("a dashboard answers no ping and is dropped")
            self._transport.abort()
            return
        self.unheard += 1
        if self.lag is None and not self.is_over:
            self._transport.write(_PING)

    def settle(self, passed: Mapping[str, int]) -> bool:
        """Whether it needs nothing of its own any more, when everything up to `passed` has been sent."""
        if self.held or self.is_over or self.lag is not None:
            return False
        if any(passed.get(channel, 0) < offset for channel, offset in self.seen.items()):
            return False
        self._cursors = None
        return True

    def _check_lag(self, lag: Lag) -> None:
        most = self._hub.backlog
        if len(lag) > most or lag.size > BACKLOG_BYTES_MAX:
            self.end(CLOSE_TOO_SLOW, f"more than {most} messages behind; connect again")

    # --- called by the transport ---

    def data_received(self, data: bytes) -> None:
        """Hear the client."""
        self.unheard = 0
        reader = self._reader or FrameReader(self._hub.message_bytes_max)
        for event in reader.feed(data):
            match event:
                case Message(said):
                    if not self.is_over:
                        self.heard(said)
                case Ping(payload):
                    self.write(frame(PONG, payload))
                case Closed(code):
                    self._on_closed(code)
                case Violation(code, reason):
                    self._on_violation(code, reason)
                case _:
                    pass  # a pong: that it came is all it says
        self._reader = None if reader.is_idle else reader

    def eof_received(self) -> bool:
        """The client has nothing more to say: let the transport close."""
        return False

    def pause_writing(self) -> None:
        """The socket is full."""
        if self.lag is None:
            self.lag = Lag()
            self._hub.slow(self)

    def resume_writing(self) -> None:
        """The socket has room again."""
        self.unheard = 0
        lag = self.lag
        while lag is not None and len(lag):
            self._transport.write(lag.take())
            if self._transport.get_write_buffer_size():
                return
        self.lag = None
        self._hub.settle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of this client stays."""
        self.is_over = True
        self._hub.forget(self)
        self.gone()

    # --- the ways out ---

    def end(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close with a reason; the client has a last stretch of time to read it."""
        if not self.is_over:
            self._let_go(code, reason)

    def shutdown(self) -> None:
        """Leave at once, as the server asks for when it stops."""
        if self.is_over or self.lag is not None:
            self._transport.abort()
        else:
            self._let_go(CLOSE_RESTART, "")
            self._transport.close()

    def _on_closed(self, code: int) -> None:
        if not self.is_over:
            self._say_goodbye(close_frame(CLOSE_NORMAL if code == NO_STATUS else code))
        self._transport.close()

    def _on_violation(self, code: int, reason: str) -> None:
        if self.is_over:
            self._transport.abort()
            return
        self._let_go(code, reason)
        # Half closed, so that what the client still sends can't make the kernel throw the reason away.
        self._transport.write_eof()

    def _let_go(self, code: int, reason: str) -> None:
        log.info("a dashboard was closed code=%d reason=%s", code, reason)
        self._say_goodbye(close_frame(code, reason))

    def _say_goodbye(self, goodbye: bytes) -> None:
        self._hub.set_apart(self)
        if self.lag is not None:
            self.lag.clear()
        self.is_over = True
        self._transport.write(goodbye)
        asyncio.get_running_loop().call_later(LINGER_S, self._abort_if_open)

    def _abort_if_open(self) -> None:
        if self._hub.has(self):
            self._transport.abort()

    def write_rest(self, rest: bytes) -> None:
        """Write what the socket did not take of something that everybody gets."""
        self._transport.write(rest)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()


LinkType = TypeVar("LinkType", bound=Link)


def _nothing() -> None:
    """Nothing more is there."""


class _Group:
    """Clients that asked for the same channels and keep up, and in the same order their sockets."""

    __slots__ = ("links", "sockets")

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.sockets: list[int] = []


class Hub:
    """Every client of the fast path in this process."""

    def __init__(
        self,
        *,
        backlog: int,
        ping_s: float = 20.0,
        ping_timeout_s: float = 20.0,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self.backlog = backlog
        self.message_bytes_max = message_bytes_max
        self.refill: Callable[[], None] = _nothing
        """Called before each burst, to `publish` what else is there by now."""
        self._ping_s = ping_s
        self._patience = max(1, math.ceil(ping_timeout_s / ping_s))
        self._links: dict[Link, set[Any]] = {}
        self._groups: dict[frozenset[str] | None, _Group] = {}
        self._apart: dict[Link, None] = {}
        self._pending: list[tuple[str, int | None, bytes]] = []
        self._passed: dict[str, int] = {}
        self._is_flushing = False
        self._slowed: list[Link] = []
        self._last_text, self._last_frame = "", b""
        self._ticking: asyncio.TimerHandle | None = None
        self._slot = 0

    def __len__(self) -> int:
        return len(self._links)

    def has(self, link: Link) -> bool:
        """Whether a client's connection still stands."""
        return link in self._links

    def adopt(self, websocket: WebSocket, make: Callable[[Hub, asyncio.Transport, int], LinkType]) -> LinkType | None:
        """Take over an accepted connection, held until it is told where to begin; None when it must stay with FastAPI.

        Nothing may be sent or received by `websocket` afterwards; its endpoint returns.
        """
        hand_over = websocket.scope.get("extensions", {}).pop(_KEY, None)
        taken: tuple[asyncio.Transport, set[Any]] | None = None if hand_over is None else hand_over()
        if taken is None:
            return None
        transport, connections = taken
        link = make(self, transport, self._slot)
        self._links[link] = connections
        self._apart[link] = None
        connections.add(link)
        transport.set_protocol(link)
        # At zero, paused means that something is buffered and resumed that nothing is; and uvloop writes at once.
        transport.set_write_buffer_limits(high=0)
        self._start_ticking()
        return link

    def begin(self, cursors: Mapping[str, int]) -> None:
        """What is published from now on lies behind `cursors`; whatever was waiting to be sent is forgotten."""
        self._passed = dict(cursors)
        self._pending.clear()

    def publish(self, envelope: Envelope, wired: bytes) -> None:
        """Send one envelope to every client at the end of this turn of the loop, with all others of this turn."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        offset = envelope.offset if envelope.epoch else None
        self._pending.append((envelope.channel, offset, frame(TEXT, wired)))
        if offset is not None:
            self._passed[envelope.channel] = offset

    # --- called by links ---

    def frame_of(self, text: str) -> bytes:
        """A text as a frame; those who get the same one share it."""
        if text is not self._last_text:
            self._last_text, self._last_frame = text, frame(TEXT, text.encode())
        return self._last_frame

    def set_apart(self, link: Link) -> None:
        """Take a client from those that keep up."""
        if link.place < 0:
            return
        group = self._groups[link.channels]
        last, last_socket = group.links.pop(), group.sockets.pop()
        if last is not link:
            group.links[link.place], group.sockets[link.place] = last, last_socket
            last.place = link.place
        elif not group.links:
            del self._groups[link.channels]
        link.place = -1
        self._apart[link] = None

    def slow(self, link: Link) -> None:
        """A client's socket is full."""
        if self._is_flushing:
            self._slowed.append(link)  # the list of those that keep up is being walked
        else:
            self.set_apart(link)

    def settle(self, link: Link) -> None:
        """Put a client to those that keep up, if it needs nothing of its own any more."""
        if not self._pending and link in self._apart and link.settle(self._passed):
            del self._apart[link]
            group = self._groups.get(link.channels)
            if group is None:
                group = self._groups[link.channels] = _Group()
            link.place = len(group.links)
            group.links.append(link)
            group.sockets.append(link.socket)

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        self.set_apart(link)
        self._apart.pop(link, None)
        connections = self._links.pop(link, None)
        if connections is not None:
            connections.discard(link)

    # --- turns of the loop ---

    def _flush(self) -> None:
        # What came while this turn was under way would else wait for all these writes, and then go out on its own.
        self.refill()
        pending, self._pending = self._pending, []
        if not pending:
            return
        apart = tuple(self._apart)
        for channels, group in tuple(self._groups.items()):
            asked_for = [data for channel, _, data in pending if channels is None or channel in channels]
            if asked_for:
                self._send_to_all(group, b"".join(asked_for))
        for link in apart:
            for channel, offset, data in pending:
                link.deliver(channel, offset, data)
            self.settle(link)

    def _send_to_all(self, group: _Group, joined: bytes) -> None:
        """One write for each client of a group; its transport, which holds nothing, sees only what did not fit."""
        size = len(joined)
        written: list[int] = []
        writing = map(os.write, group.sockets, repeat(joined))
        while True:
            # One pass without a line of Python for each client; what was written before an error stays in the list.
            try:
                written.extend(writing)
                break
            except BlockingIOError:
                written.append(0)
            except OSError:
                written.append(-1)
        if written.count(size) == len(written):
            return
        self._is_flushing = True
        for link, took in zip(tuple(group.links), written, strict=True):
            if took < 0:
                link.abort()
            elif took < size:
                link.write_rest(joined[took:])
        self._is_flushing = False
        while self._slowed:
            self.set_apart(self._slowed.pop())

    def _start_ticking(self) -> None:
        if self._ticking is None and self._links:
            self._ticking = asyncio.get_running_loop().call_later(self._ping_s / _SLOTS, self._on_tick)

    def _on_tick(self) -> None:
        """Ping those clients whose turn it is; each has one turn in `ping_s`."""
        self._ticking = None
        self._slot = (self._slot + 1) % _SLOTS
        for link in [link for link in self._links if link.slot == self._slot]:
            link.ping(self._patience)
        self._start_ticking()


class _Gone(asyncio.Transport):
    """What is left in the hands of a protocol whose transport was handed on."""

    def close(self) -> None:
        """Nothing is left to close."""

    def is_closing(self) -> bool:
        """It can't be used."""
        return True


class FanoutProtocol(PatientWebSocket):
    """Uvicorn's websocket, which can be handed over once accepted, and else is let go for good when its time is up."""

    _is_handed_over = False

    def handle_connect(self, event: Request) -> None:
        """Offer the connection to the hub, beside what uvicorn does."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])[_KEY] = self._hand_over

    def keepalive_timeout(self) -> None:
        """Drop a client that answers no ping."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Serve the connection, then give what is left to send a last stretch of time."""
        try:
            await super().run_asgi()
        finally:
            if not self._is_handed_over:
                self.loop.call_later(LINGER_S, self._abort_if_open)

    def _hand_over(self) -> tuple[asyncio.Transport, set[Any]] | None:
        # A client that speaks before it was answered stays where its words already are.
        began = self.queue.qsize() or self.frames or self.read_paused or self.conn.reader.buffer
        if self.scheme != "ws" or not self.handshake_complete or self.transport.is_closing() or began:
            return None
        transport = self.transport
        self.stop_keepalive()
        self.connections.discard(self)
        self.transport, self._is_handed_over = _Gone(), True
        return transport, self.connections

    def _abort_if_open(self) -> None:
        if self in self.connections:
            self.transport.abort()
