"""The moment in which an HTTP connection becomes a websocket, without losing what a client said too early.

RFC 6455 has a client wait for the answer to its handshake. One that does not may have its first frames in the very read
that brought the request, or in one before the answer. Uvicorn forgets the former and answers a ping among the latter
before the handshake. Here all of them wait for the answer and are heard behind it, in order.

Not for what frames mean. Invariant: nothing is sent before the answer, and one read more than the request waits at most.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    import asyncio


class UpgradingProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP, which hands on what stood behind the request that asked for a websocket."""

    _data = b""

    def data_received(self, data: bytes) -> None:
        """Hear the client."""
        self._data = data
        super().data_received(data)
        self._data = b""

    def handle_websocket_upgrade(self) -> None:
        """Called where the parser says that what follows is no HTTP any more, and from where on."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        early = self._data[upgrade.args[0] :]
        super().handle_websocket_upgrade()
        if early and not self.transport.is_closing():
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(early)


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Uvicorn's websocket, which hears nothing before it has answered."""

    _early = b""

    def data_received(self, data: bytes) -> None:
        """Hear the client, once it was answered."""
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """Send what the application says; behind its answer to the handshake, what came early is heard."""
        await super().send(message)
        if self._early and self.handshake_complete and not self.transport.is_closing():
            early, self._early = self._early, b""
            self.transport.resume_reading()
            super().data_received(early)
