"""The websocket: one snapshot on connect, then every envelope, to every dashboard, however slow some of them are.

One bus subscription feeds all clients. Each client has a bounded queue of its own, in which a state channel holds one
place; whoever falls so far behind that a log would lose an envelope is closed with a code and starts anew from a
snapshot. A snapshot and the bus's cursors are taken in the same moment, and a client gets only what lies behind them:
no hole and no repetition in between, whatever the pump is doing.

Not for making views. Invariant: no client can delay or harm another, and no task outlives its connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from trueup.api.deps import Gateway
from trueup.core.projection import system_snapshot_view
from trueup.core.views import STATE_CHANNELS, Channel
from trueup.errors import Busy
from trueup.ports import Envelope

log = logging.getLogger(__name__)

CLOSE_TOO_SLOW = 1013
"""Try again later: the client's queue overflowed."""

CLOSE_RESTART = 1012
"""The service restarts: come back in a moment."""

CLOSE_PATIENCE_S = 2.0
"""How long a close frame may take to leave, in seconds; a client that reads nothing would hold it for ever."""

RAW_SHOWN = 200
"""Characters of a message that made no sense which go back to its sender."""

router = APIRouter()


class Client:
    """One dashboard: what waits for it, and up to where it has everything."""

    def __init__(self, websocket: WebSocket, backlog: int) -> None:
        self.websocket = websocket
        self.over = asyncio.Event()
        self.close_code: int | None = None
        self.close_reason = ""
        self._backlog = backlog
        self._queue: deque[str | Channel] = deque()
        self._newest: dict[str, str] = {}
        self._seen: Mapping[str, int] = {}
        self._waiting = asyncio.Event()

    def start_from(self, snapshot: str, cursors: Mapping[str, int]) -> None:
        """Forget what waits and begin with a snapshot that holds everything up to `cursors`."""
        self._queue.clear()
        self._newest.clear()
        self._seen = cursors
        self._put(snapshot)

    def offer(self, envelope: Envelope, text: str) -> None:
        """Queue one envelope, unless the client has it already."""
        if envelope.offset <= self._seen.get(envelope.channel, 0):
            return
        if envelope.channel in STATE_CHANNELS:
            if envelope.channel not in self._newest:
                self._queue.append(Channel(envelope.channel))
            self._newest[envelope.channel] = text
            self._waiting.set()
        else:
            self._put(text)

    def say(self, message: Mapping[str, Any]) -> None:
        """Queue an answer to this client alone."""
        self._put(json.dumps(message, ensure_ascii=False, separators=(",", ":")))

    async def next_text(self) -> str:
        """What goes out next."""
        while not self._queue:
            self._waiting.clear()
            await self._waiting.wait()
        item = self._queue.popleft()
        return self._newest.pop(item) if isinstance(item, Channel) else item

    def end(self, code: int | None = None, reason: str = "") -> None:
        """Let the connection end; the first reason counts."""
        if not self.over.is_set():
            self.close_code, self.close_reason = code, reason
            self.over.set()

    def _put(self, text: str) -> None:
        if self.over.is_set():
            return
        if len(self._queue) >= self._backlog:
            self._queue.clear()
            self._newest.clear()
            self.end(CLOSE_TOO_SLOW, f"more than {self._backlog} messages behind; connect again")
            return
        self._queue.append(text)
        self._waiting.set()


class ConnectionManager:
    """Every connected dashboard of this process, fed by one subscription."""

    def __init__(self, gateway: Gateway) -> None:
        self._house = gateway.house
        self._codec = gateway.options.codec
        self._backlog = gateway.options.backlog
        self._clients: dict[Client, None] = {}
        self._snapshot: tuple[Mapping[str, int], str] | None = None

    @property
    def active_connections(self) -> tuple[Client, ...]:
        """The clients that are connected now."""
        return tuple(self._clients)

    async def connect(self, websocket: WebSocket) -> Client:
        """Accept a client; its first message is a snapshot, and everything behind that follows."""
        await websocket.accept()
        client = Client(websocket, self._backlog)
        # No await between snapshot and registration: nothing can be published in between.
        client.start_from(*self._snapshot_now())
        self._clients[client] = None
        return client

    def disconnect(self, client: Client) -> None:
        """Send nothing more to a client."""
        self._clients.pop(client, None)

    def broadcast(self, envelope: Envelope) -> None:
        """Queue one envelope for every client; encoded once, and never waiting for anybody."""
        text = self._codec.wire(envelope).decode()
        for client in self.active_connections:
            client.offer(envelope, text)

    async def pump(self) -> NoReturn:
        """Carry the bus to the clients; ends only with the bus."""
        while True:
            subscription = self._house.bus.subscribe()
            for client in self.active_connections:
                client.start_from(*self._snapshot_now())
            try:
                while True:
                    self.broadcast(await subscription.get())
            except Busy as behind:
                log.warning("the gateway fell behind and starts anew from snapshots reason=%s", behind)
            finally:
                subscription.close()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection from accept to end."""
        client = await self.connect(websocket)
        try:
            async with asyncio.TaskGroup() as group:
                children = [group.create_task(self._hear(client)), group.create_task(self._tell(client))]
                await client.over.wait()
                for child in children:
                    child.cancel()
        finally:
            self.disconnect(client)
        if client.close_code is None:
            return
        log.info("a dashboard was closed code=%d reason=%s", client.close_code, client.close_reason)
        try:
            async with asyncio.timeout(CLOSE_PATIENCE_S):
                await websocket.close(client.close_code, client.close_reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            return  # it reads nothing or is gone already; the server drops the connection

    async def _tell(self, client: Client) -> None:
        try:
            while True:
                await client.websocket.send_text(await client.next_text())
        except (WebSocketDisconnect, RuntimeError):
            # A send that fails concerns this client alone: it has gone.
            client.end()

    async def _hear(self, client: Client) -> None:
        while True:
            message = await client.websocket.receive()
            if message["type"] == "websocket.disconnect":
                client.end()
                return
            text = message.get("text")
            self._on_message(client, text if text is not None else message.get("bytes", b""))

    def _on_message(self, client: Client, raw: str | bytes) -> None:
        try:
            message = json.loads(raw)
        except (ValueError, RecursionError):
            message = None
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "ping":
            client.say({"type": "pong", "server_time": self._house.clock.now().isoformat().replace("+00:00", "Z")})
        elif kind == "resync":
            client.start_from(*self._snapshot_now())
        else:
            shown = raw[:RAW_SHOWN] if isinstance(raw, str) else raw[:RAW_SHOWN].decode("utf-8", "replace")
            code = "malformed" if kind is None else "unknown_type"
            right = 'send {"type":"ping"} or {"type":"resync"}'
            client.say({"type": "error", "code": code, "message": f"this says nothing here; {right}", "raw": shown})

    def _snapshot_now(self) -> tuple[str, Mapping[str, int]]:
        cursors = self._house.bus.cursors()
        # A thousand dashboards that come back at once get one picture: nothing has been said since it was taken.
        if self._snapshot is None or self._snapshot[0] != cursors:
            house, at = self._house, self._house.clock.now()
            view = system_snapshot_view(house.sequencer.belief, house.quotes.latest(), house.health.numbers(), at)
            body = self._codec.encode(view)
            envelope = Envelope(Channel.SYSTEM_SNAPSHOT.value, house.bus.epoch, 0, at, body)
            self._snapshot = (cursors, self._codec.wire(envelope, cursors).decode())
        return self._snapshot[1], cursors


@router.websocket("/ws")
async def websocket_endpoint(websocket: WebSocket) -> None:
    """Everything that a dashboard shows, from one snapshot on."""
    manager: ConnectionManager = websocket.app.state.manager
    await manager.serve(websocket)
