"""The moment in which an HTTP connection becomes a websocket, without losing what a client said too early.

RFC 6455 has a client wait for the answer to its handshake. One that does not may have its first frames in the very read
that brought the request, or in one before the answer. Uvicorn forgets the former and answers a ping among the latter
before the handshake. Here all of them wait for the answer and are heard behind it, in order. And whoever does not
finish what it began to ask is let go, so that a place can't be held with half a request. Behind the handshake, what
an application says in one turn of the loop leaves in one write.

Not for what frames mean. Invariant: nothing is sent before the answer, and at most one read waits for it.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    import asyncio


REQUEST_S = 20.0
"""How long a request may take to arrive whole, from the connection or its first byte on, in seconds."""


BURST_BYTES = 256 * 1024
"""How much of what is said in one turn of the loop is joined into one write, in bytes."""

HEAD_BYTES_MAX = 64 * 1024
"""How long a request may be before its head ends, in bytes."""


class UpgradingProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP, with limits on how long a request may take to arrive, and how long its head may be.

    What stood behind one that asked for a websocket is handed on.
    """

    _data = b""
    _patience: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """A client is there and has said nothing yet."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(REQUEST_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        super().on_message_begin()
        if self._patience is None:
            self._patience = self.loop.call_later(REQUEST_S, self.transport.abort)

    def on_message_complete(self) -> None:
        """Called by the parser behind a request's last byte."""
        self._arrived()
        super().on_message_complete()

    def _arrived(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def data_received(self, data: bytes) -> None:
        """Hear the client."""
        self._data = data
        self._head_bytes += len(data)
        super().data_received(data)
        self._data = b""
        if self._head_bytes > HEAD_BYTES_MAX:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Called by the parser behind a request's head."""
        super().on_headers_complete()
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Called by the parser for what is no head."""
        super().on_body(body)
        self._head_bytes = 0

    def handle_websocket_upgrade(self) -> None:
        """Called where the parser says that what follows is no HTTP any more, and from where on."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        early = self._data[upgrade.args[0] :]
        self._arrived()
        super().handle_websocket_upgrade()
        if early and not self.transport.is_closing():
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(early)


class _Forgiving(ServerProtocol):
    """The library's frames, except that a client may close in the middle of a message, as RFC 6455 lets it."""

    def recv_frame(self, frame: Frame) -> None:
        """Take one frame."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Uvicorn's websocket, which hears nothing before it has answered."""

    _early = b""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._leaving: list[bytes] = []
        self._leaving_bytes = 0
        self.conn = _Forgiving(max_size=config.ws_max_size, logger=logging.getLogger("uvicorn.error"))

    def data_received(self, data: bytes) -> None:
        """Hear the client, once it was answered."""
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """Send what the application says; behind its answer to the handshake, what came early is heard."""
        if message["type"] == "websocket.send" and self.handshake_complete and not self.close_sent:
            await self._say(message)
            return
        self._write()
        await super().send(message)
        if self._early and self.handshake_complete and not self.transport.is_closing():
            early, self._early = self._early, b""
            self.transport.resume_reading()
            super().data_received(early)

    async def _say(self, message: Any) -> None:
        """As uvicorn's own, except that what is said in one turn of the loop is written at its end, at once."""
        await self.writable.wait()
        if self.disconnected:
            raise ClientDisconnected
        text = message.get("text")
        try:
            if text is not None:
                self.conn.send_text(text.encode())
            else:
                self.conn.send_binary(message["bytes"])
        except InvalidState:
            raise ClientDisconnected from None
        if not self._leaving:
            self.loop.call_soon(self._write)
        for piece in self.conn.data_to_send():
            self._leaving.append(piece)
            self._leaving_bytes += len(piece)
        if self._leaving_bytes >= BURST_BYTES:
            self._write()

    def _write(self) -> None:
        leaving, self._leaving, self._leaving_bytes = self._leaving, [], 0
        # Nothing may follow a close; whoever closed wants no more of it.
        if leaving and not self.disconnected and self.conn.state is State.OPEN:
            self.transport.write(b"".join(leaving))
