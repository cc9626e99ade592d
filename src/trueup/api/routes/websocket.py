"""The websocket: one snapshot on connect, then every envelope, to every dashboard, however slow some of them are.

One bus subscription feeds all clients. Each client has a bounded queue of its own, in which a state channel holds one
place; whoever falls so far behind that a log would lose an envelope is closed with a code and comes back. A client that
comes back to `/ws?resume` says up to where it has each channel, and gets what followed; when that is no longer known,
a snapshot, and is told so. A snapshot and the bus's cursors are taken in the same moment, and a client gets only what
lies behind them: no hole and no repetition in between, whatever the pump is doing. Where it can, the fast path
(`fanout.py`) takes a connection over and keeps these promises with one write for all that is new; elsewhere each client
has tasks of its own.

Not for making views. Invariant: no client can delay or harm another, and no task outlives its connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from trueup.api.deps import Stage
from trueup.api.fanout import CLOSE_RESTART, CLOSE_TOO_SLOW, Hub, Link
from trueup.api.identity import LOCAL, Identity, Role
from trueup.core.views import STATE_CHANNELS, Channel
from trueup.errors import Busy
from trueup.ports import Envelope, Subscription

log = logging.getLogger(__name__)

CLOSE_NOT_ALLOWED = 1008
"""Against the rules: more messages than allowed, or a session that is over."""

CLOSE_PATIENCE_S = 2.0
"""How long a close frame may take to leave, in seconds; a client that reads nothing would hold it for ever."""

RESUME_WAIT_S = 3.0
"""How long a client that came to resume may take to say from where, in seconds; then it gets a snapshot."""

RETURN_WINDOW_MS = 3000
"""Over how long a stopping gateway spreads the return of its clients, in milliseconds."""

AHEAD_MAX = 4096
"""Offsets by which a client that heard another gateway may be ahead of this one."""

REST_MAX = 4096
"""Envelopes that join a burst at its last moment; more than wait in a subscription."""

RAW_SHOWN = 200
"""Characters of a message that made no sense which go back to its sender."""

ALL_CHANNELS = frozenset(str(channel) for channel in Channel)

MESSAGE_ROLES = {"ping": Role.VIEWER, "resync": Role.VIEWER, "resume": Role.VIEWER}
"""Who may send which message; what is not listed nobody may."""

router = APIRouter()


class Client:
    """One dashboard: who it is, what waits for it, and up to where it has everything."""

    def __init__(self, websocket: WebSocket, backlog: int, *, identity: Identity = LOCAL, address: str = "") -> None:
        self.websocket = websocket
        self.channels: frozenset[str] | None = None
        """Those that it asked for; None for all."""
        self.identity = identity
        self.address = address
        self.over = asyncio.Event()
        self.held = True
        """Nothing has been promised yet: it waits for its snapshot, or is about to say from where to go on."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.allowance: tuple[float, float] | None = None
        self._backlog = backlog
        self._queue: deque[str | Channel] = deque()
        self._newest: dict[str, str] = {}
        self._seen: Mapping[str, int] = {}
        self._waiting = asyncio.Event()

    def start_from(self, snapshot: str, cursors: Mapping[str, int]) -> None:
        """Forget what waits and begin with a snapshot that holds everything up to `cursors`."""
        self._queue.clear()
        self._newest.clear()
        self.go_on_from(cursors)
        self._put(snapshot)

    @property
    def is_over(self) -> bool:
        """Nothing more will be sent."""
        return self.over.is_set()

    @property
    def seen(self) -> Mapping[str, int]:
        """Up to where it has each channel, or will have with what waits."""
        return self._seen

    def say_text(self, text: str) -> None:
        """Queue one message as it is."""
        self._put(text)

    def go_on_from(self, cursors: Mapping[str, int]) -> None:
        """Give it what lies behind `cursors` from now on."""
        self._seen = cursors
        self.held = False

    def offer(self, envelope: Envelope, text: str) -> None:
        """Queue one envelope, unless the client has it already or did not ask for its channel."""
        if self.held or (self.channels is not None and envelope.channel not in self.channels):
            return
        if not envelope.epoch:
            self._put(text)
            return
        if envelope.offset <= self._seen.get(envelope.channel, 0):
            return
        if envelope.channel in STATE_CHANNELS:
            if envelope.channel not in self._newest:
                self._queue.append(Channel(envelope.channel))
            self._newest[envelope.channel] = text
            self._waiting.set()
        else:
            self._put(text)

    def offer_all(self, offers: Iterable[tuple[Envelope, str]]) -> None:
        """As `offer`, for many."""
        for envelope, text in offers:
            self.offer(envelope, text)

    def say(self, message: Mapping[str, Any]) -> None:
        """Queue an answer to this client alone."""
        self._put(_text(message))

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


class FastClient(Link):
    """A dashboard on the fast path; to the manager it is like any other."""

    __slots__ = ("address", "allowance", "identity", "manager")

    def __init__(self, hub: Hub, transport: asyncio.Transport, slot: int) -> None:
        super().__init__(hub, transport, slot)
        self.manager: ConnectionManager | None = None
        self.identity = LOCAL
        self.address = ""
        self.allowance: tuple[float, float] | None = None

    def heard(self, said: str | bytes) -> None:
        """The client said something."""
        if self.manager is not None:
            self.manager.on_message(self, said)

    def gone(self) -> None:
        """The connection is lost."""
        if self.manager is not None:
            self.manager.disconnect(self)


AnyClient = Client | FastClient


class ConnectionManager:
    """Every connected dashboard of this process, fed by one subscription."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._codec = stage.options.codec
        self._options = stage.options
        self._clients: dict[AnyClient, None] = {}
        self._hub = Hub(
            backlog=self._options.backlog, ping_s=self._options.ping_s, ping_timeout_s=self._options.ping_timeout_s
        )
        self._addresses: Counter[str] = Counter()
        self._draining = False
        self.session_holds: Callable[[str], bool] = _always
        self._snapshot: tuple[str, Mapping[str, int], str, Mapping[str, int]] | None = None

    @property
    def active_connections(self) -> tuple[AnyClient, ...]:
        """The clients that are connected now."""
        return tuple(self._clients)

    async def connect(self, websocket: WebSocket) -> AnyClient:
        """Accept a client; its first message is a snapshot, or what it has missed, and all behind that follows."""
        await websocket.accept()
        identity: Identity = websocket.scope.get("trueup.identity", LOCAL)
        address = websocket.client.host if websocket.client is not None else ""
        refused = self._no_room(address)
        fast = self._hub.adopt(websocket, FastClient) if self._options.fast and not refused else None
        client: AnyClient
        if fast is not None:
            fast.manager, fast.identity, fast.address = self, identity, address
            client = fast
        else:
            client = Client(websocket, self._options.backlog, identity=identity, address=address)
        if refused:
            client.end(CLOSE_TOO_SLOW, refused)
            return client
        client.channels = _channels(websocket.query_params.get("channels", ""))
        unknown = sorted((client.channels or ALL_CHANNELS) - ALL_CHANNELS)
        if unknown:
            name = unknown[0] if unknown[0].isascii() and len(unknown[0]) < 40 else "one that is named there"
            client.end(CLOSE_NOT_ALLOWED, f"channels: there is no {name}; docs/reference/channels.md lists them")
            return client
        # No await between snapshot and registration: nothing can be published in between.
        self._clients[client] = None
        self._addresses[address] += 1
        if "resume" not in websocket.query_params:
            self._begin(client)
        return client

    def disconnect(self, client: AnyClient) -> None:
        """Send nothing more to a client."""
        if client in self._clients:
            del self._clients[client]
            self._addresses[client.address] -= 1
            if not self._addresses[client.address]:
                del self._addresses[client.address]

    def broadcast(self, envelope: Envelope) -> None:
        """Queue one envelope for every client; encoded once, and never waiting for anybody."""
        wired = self._codec.wire(envelope)
        self._hub.publish(envelope, wired)
        if len(self._clients) > len(self._hub):
            text = wired.decode()
            for client in self.active_connections:
                if isinstance(client, Client):
                    client.offer(envelope, text)

    async def pump(self) -> NoReturn:
        """Carry the bus to the clients; ends only with the bus."""
        while True:
            subscription = self._stage.bus.subscribe()
            self._hub.begin(self._stage.bus.cursors())
            for client in self.active_connections:
                self._begin(client)
            self._hub.refill = partial(self._broadcast_rest, subscription)
            try:
                while True:
                    self.broadcast(await subscription.get())
            except Busy as behind:
                log.warning("the gateway fell behind and starts anew from snapshots reason=%s", behind)
            finally:
                subscription.close()

    def _broadcast_rest(self, subscription: Subscription) -> None:
        """Broadcast what waits by now, before the pump's own turn comes."""
        try:
            waiting = subscription.take_all(REST_MAX)
        except Busy:
            return  # the pump is about to hear that too
        for envelope in waiting:
            self.broadcast(envelope)

    async def drain(self) -> None:
        """Take nobody in any more, and send everyone away with a moment of return of their own."""
        self._draining = True
        leaving = self.active_connections
        for place, client in enumerate(leaving):
            pause_ms = RETURN_WINDOW_MS * (place + 1) // len(leaving)
            client.end(CLOSE_RESTART, f"the gateway restarts; retry_after_ms={pause_ms}")
        try:
            async with asyncio.timeout(CLOSE_PATIENCE_S):
                # The last of them rings no bell.
                while self._clients:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.info("clients that do not go are dropped count=%d", len(self._clients))

    def end_session(self, session: str) -> None:
        """Close every connection that was opened under a session."""
        for client in self.active_connections:
            if client.identity.session == session:
                client.end(CLOSE_NOT_ALLOWED, "the session is over; log in again")

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection from accept to end."""
        client = await self.connect(websocket)
        if isinstance(client, FastClient):
            if client.held:
                asyncio.get_running_loop().call_later(RESUME_WAIT_S, self._begin_if_held, client)
            return
        deadline = asyncio.get_running_loop().call_later(RESUME_WAIT_S, self._begin_if_held, client)
        try:
            async with asyncio.TaskGroup() as group:
                children = [group.create_task(self._hear(client)), group.create_task(self._tell(client))]
                await client.over.wait()
                for child in children:
                    child.cancel()
        finally:
            deadline.cancel()
            try:
                if client.close_code is not None:
                    await self._close(client, client.close_code)
            finally:
                self.disconnect(client)

    async def _close(self, client: Client, code: int) -> None:
        log.info("a dashboard was closed code=%d reason=%s", code, client.close_reason)
        try:
            async with asyncio.timeout(CLOSE_PATIENCE_S):
                await client.websocket.close(code, client.close_reason)
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
            self.on_message(client, text if text is not None else message.get("bytes", b""))

    def on_message(self, client: AnyClient, raw: str | bytes) -> None:
        """Do what a client's message asks, if the client may ask it."""
        if not self._may_speak(client):
            most = self._options.messages_per_s
            client.end(CLOSE_NOT_ALLOWED, f"more than {most:g} messages a second; connect again and say less")
            return
        if client.identity.session and not self.session_holds(client.identity.session):
            client.end(CLOSE_NOT_ALLOWED, "the session is over; log in again")
            return
        try:
            message = json.loads(raw)
        except (ValueError, RecursionError):
            message = None
        kind = message.get("type") if isinstance(message, dict) else None
        needed = MESSAGE_ROLES.get(kind) if isinstance(kind, str) else None
        if needed is not None and not client.identity.may(needed):
            told = f"{kind} needs the role {needed.value}"
            client.say({"type": "error", "code": "forbidden", "message": told, "raw": ""})
        elif kind == "ping":
            client.say({"type": "pong", "server_time": _rfc3339(self._stage.clock.now())})
        elif kind == "resync":
            self._begin(client)
        elif kind == "resume" and isinstance(message, dict):
            self._resume(client, message)
        else:
            shown = raw[:RAW_SHOWN] if isinstance(raw, str) else raw[:RAW_SHOWN].decode("utf-8", "replace")
            code = "malformed" if kind is None else "unknown_type"
            right = 'send {"type":"ping"}, {"type":"resync"} or {"type":"resume","cursors":{...}}'
            client.say({"type": "error", "code": code, "message": f"this says nothing here; {right}", "raw": shown})

    # --- limits ---

    def _no_room(self, address: str) -> str:
        if self._draining:
            return "the gateway stops; connect again"
        if len(self._clients) >= self._options.connections:
            return f"more than {self._options.connections} connections; try again later"
        if self._addresses[address] >= self._options.connections_per_address:
            return f"more than {self._options.connections_per_address} connections from one address; try again later"
        return ""

    def _may_speak(self, client: AnyClient) -> bool:
        """A bucket that fills by `messages_per_s` and holds three seconds' worth."""
        rate, now = self._options.messages_per_s, self._stage.clock.monotonic()
        left, at = client.allowance or (3 * rate, now)
        left = min(3 * rate, left + (now - at) * rate)
        client.allowance = (left - 1, now)
        return left >= 1

    # --- where a client begins ---

    def _begin(self, client: AnyClient) -> None:
        """From a snapshot; a gateway that has none yet keeps the client waiting for it."""
        taken = self._snapshot_now()
        if taken is None:
            client.held = True
            return
        snapshot, cursors = taken
        client.start_from(snapshot, cursors)
        # A snapshot that came from elsewhere may be a moment old.
        self._follow(client, cursors)

    def _begin_if_held(self, client: AnyClient) -> None:
        if client.held and not client.is_over:
            self._begin(client)

    def _resume(self, client: AnyClient, message: Mapping[str, Any]) -> None:
        cursors = _cursors(message.get("cursors"))
        if cursors is None:
            told = 'cursors must be {channel: {"epoch": text, "offset": number}}'
            client.say({"type": "error", "code": "bad_cursors", "message": told, "raw": ""})
            self._begin_if_held(client)
            return
        epoch = self._stage.bus.epoch
        have = {channel: offset for channel, (_, offset) in cursors.items()}
        recovered = bool(cursors) and all(named == epoch for named, _ in cursors.values())
        missed = self._missed(have, client.channels) if recovered else None
        if missed is None:
            client.say({"type": "resumed", "recovered": False, "epoch": epoch})
            self._begin_after(client)
            return
        client.say({"type": "resumed", "recovered": True, "epoch": epoch, "missed": len(missed)})
        client.go_on_from(have)
        self._replay(client, missed)

    def _begin_after(self, client: AnyClient) -> None:
        """As `_begin`, behind what was just said."""
        taken = self._snapshot_now()
        if taken is None:
            client.held = True
            return
        snapshot, cursors = taken
        client.go_on_from(cursors)
        client.say_text(snapshot)
        self._follow(client, cursors)

    def _follow(self, client: AnyClient, cursors: Mapping[str, int]) -> None:
        if cursors == self._stage.bus.cursors():
            return
        missed = self._missed(cursors, client.channels)
        if missed is not None:
            self._replay(client, missed)

    def _replay(self, client: AnyClient, missed: Iterable[Envelope]) -> None:
        client.offer_all((envelope, self._codec.wire(envelope).decode()) for envelope in missed)
        newest, seen = self._stage.bus.cursors(), client.seen
        ahead = {channel: offset for channel, offset in seen.items() if offset > newest.get(channel, 0)}
        client.go_on_from({**newest, **ahead})

    def _missed(self, have: Mapping[str, int], channels: frozenset[str] | None) -> list[Envelope] | None:
        """What followed on the channels asked for, oldest first; None when it is not known whole, or is too much."""
        found: list[Envelope] = []
        bus = self._stage.bus
        newest = bus.cursors()
        if any(offset > newest.get(channel, 0) + AHEAD_MAX for channel, offset in have.items()):
            return None
        for channel, last in newest.items():
            if channels is not None and channel not in channels:
                continue
            offset = have.get(channel, 0)
            if offset >= last:
                continue  # up to date, or a little ahead by another gateway
            # Of a state only the newest counts, however many there were.
            part = bus.since(channel, last - 1 if channel in STATE_CHANNELS else offset)
            if part is None:
                return None
            found += part
        if len(found) > self._options.backlog // 2:
            return None
        return sorted(found, key=lambda envelope: envelope.at)

    def _snapshot_now(self) -> tuple[str, Mapping[str, int]] | None:
        epoch, newest = self._stage.bus.epoch, self._stage.bus.cursors()
        # A thousand dashboards that come back at once get one picture: nothing has been said since it was taken.
        if self._snapshot is None or (self._snapshot[0], self._snapshot[1]) != (epoch, newest):
            taken = self._stage.picture()
            if taken is None:
                return None
            envelope, cursors = taken
            self._snapshot = (epoch, newest, self._codec.wire(envelope, cursors).decode(), cursors)
        return self._snapshot[2], self._snapshot[3]


def _cursors(told: object) -> dict[str, tuple[str, int]] | None:
    """Channel -> epoch and offset, as a client names them; None when it makes no sense."""
    if not isinstance(told, dict) or len(told) > len(Channel):
        return None
    found: dict[str, tuple[str, int]] = {}
    for channel, cursor in told.items():
        if not isinstance(cursor, dict):
            return None
        epoch, offset = cursor.get("epoch"), cursor.get("offset")
        if not isinstance(epoch, str) or not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            return None
        found[channel] = (epoch, offset)
    return found


def _channels(named: str) -> frozenset[str] | None:
    """The channels that `?channels=order:status,risk:alert` names; None when it names none, which asks for all."""
    return frozenset(part for part in (part.strip() for part in named.split(",")) if part) or None


def _always(session: str) -> bool:
    """While nobody logs in, no session ends."""
    return True


def _text(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@router.websocket("/ws")
async def websocket_endpoint(websocket: WebSocket) -> None:
    """Everything that a dashboard shows, from one snapshot on."""
    manager: ConnectionManager = websocket.app.state.manager
    await manager.serve(websocket)
