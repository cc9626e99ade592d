"""The two websockets of the broker's face: trade updates, and market data.

For: handshakes as Alpaca does them, and sending every event through the faults to whoever listens. Not for: making
events.
Invariant: from the moment the listen acknowledgement is queued, every later order event is queued behind it on that
socket, unless a fault says otherwise; nothing from before ever is.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from trueup.simulator.faults import REORDER_WINDOW, Fault, FaultBoard, Kind, Target
from trueup.simulator.market import QuoteTick, Tick, TradeTick
from trueup.simulator.model import OrderEvent
from trueup.simulator.wire import (
    Json,
    bar_json,
    event_facts,
    quote_json,
    rfc3339,
    trade_json,
    trade_update_json,
    with_symbol,
)
from trueup.simulator.world import World

M = TypeVar("M")
TRADE_QUEUE_MAX = 20_000
DATA_QUEUE_MAX = 2_000
AUTH_SECONDS_MAX = 10.0
FRAMES_KEPT = 1000


class FrameLog:
    """The newest frames and what became of them, for people who wonder."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._frames: deque[Json] = deque(maxlen=FRAMES_KEPT)

    def note(self, stream: str, fate: str, body: object) -> None:
        """Remember a frame: sent, received, muted, lost, delayed, reordered, duplicated, unheard."""
        self._frames.append({"at": rfc3339(self._world.clock.now()), "stream": stream, "fate": fate, "body": body})

    def newest(self, limit: int) -> list[Json]:
        """The newest frames, oldest of them first."""
        return list(self._frames)[-limit:]


class Outlet:
    """One socket's bounded queue of frames, written in order by one task."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, limit: int) -> None:
        self.socket = socket
        self.is_ready = False
        self.subscriptions: dict[str, set[str]] = {}
        self._request = request
        self._queue: asyncio.Queue[Callable[[], str | bytes] | None] = asyncio.Queue(limit)

    def put(self, frame: Callable[[], str | bytes]) -> bool:
        """Queue a frame, made at the moment of writing; False when the queue is full."""
        if self._queue.full():
            return False
        self._queue.put_nowait(frame)
        return True

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self) -> None:
        """Write frames until the socket is gone."""
        while True:
            frame = await self._queue.get()
            if frame is None:
                return
            body = frame()
            try:
                if isinstance(body, str):
                    await self.socket.send_str(body)
                else:
                    await self.socket.send_bytes(body)
            except ConnectionError:
                return

    def finish(self) -> None:
        """Let `write` end once the queue is empty."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)


class Gauntlet(Generic[M]):
    """What every outgoing message of one target runs through."""

    def __init__(
        self, board: FaultBoard, target: Target, send: Callable[[list[M]], None], cut: Callable[[], None], log: FrameLog
    ) -> None:
        self._board = board
        self._target = target
        self._send: Callable[[list[M]], None] = send
        self._cut = cut
        self._log = log
        self._held: list[M] = []

    def run(self, messages: list[tuple[Mapping[str, str | None], M]]) -> None:
        """Send each message now, later, twice, in another order or never, as the faults will."""
        now: list[M] = []
        for facts, message in messages:
            if self._strike(facts, Kind.DROP):
                self._log.note(self._target, "cut", message)
                self._cut()
            elif self._strike(facts, Kind.MUTE):
                self._log.note(self._target, "muted", message)
            elif self._strike(facts, Kind.LOSE):
                self._log.note(self._target, "lost", message)
            elif fault := self._strike(facts, Kind.DELAY):
                self._log.note(self._target, "delayed", message)
                asyncio.get_running_loop().call_later(fault.by_seconds, self._send, [message])
            elif fault := self._strike(facts, Kind.REORDER):
                self._log.note(self._target, "reordered", message)
                self._hold(message, fault)
            elif self._strike(facts, Kind.DUPLICATE):
                self._log.note(self._target, "duplicated", message)
                now.extend((message, message))
            else:
                now.append(message)
        if now:
            self._send(now)

    def _strike(self, facts: Mapping[str, str | None], kind: Kind) -> Fault | None:
        return self._board.strike(self._target, (kind,), facts)

    def _hold(self, message: M, fault: Fault) -> None:
        self._held.append(message)
        if len(self._held) >= REORDER_WINDOW:
            self._release()
        elif len(self._held) == 1:
            asyncio.get_running_loop().call_later(fault.by_seconds, self._release)

    def _release(self) -> None:
        held, self._held = self._held, []
        if held:
            self._send([held[place] for place in self._board.dice.shuffled(len(held))])


class TradeUpdates:
    """The /stream socket."""

    def __init__(
        self, world: World, log: FrameLog, *, key: str, secret: str, is_text: bool, is_stamped: bool, limit: int
    ) -> None:
        self._world = world
        self._log = log
        self._key, self._secret = key, secret
        self._is_text = is_text
        self._is_stamped = is_stamped
        self._limit = limit
        self._outlets: dict[int, Outlet] = {}
        self._gauntlet = Gauntlet(world.faults, Target.TRADE_UPDATES, self._send, self.cut, log)
        world.on_order_event(self._on_event)

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._outlets)

    @property
    def listeners(self) -> int:
        """How many sockets have been told that they are listening."""
        return sum(outlet.is_ready for outlet in self._outlets.values())

    def cut(self) -> None:
        """Cut every socket without a goodbye."""
        for outlet in self._outlets.values():
            outlet.abort()

    def inject(self, frame: str | bytes) -> int:
        """Send a raw frame to every socket; how many got it."""
        self._log.note(Target.TRADE_UPDATES, "injected", frame if isinstance(frame, str) else repr(frame))
        return sum(outlet.put(lambda: frame) for outlet in self._outlets.values())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it closes."""
        refusal = _refusal(request, self._world.faults, Target.TRADE_UPDATES)
        if refusal is not None:
            return refusal
        if self._limit and len(self._outlets) >= self._limit:
            return web.Response(status=429, text="too many connections")
        socket = web.WebSocketResponse(compress=False)
        outlet = Outlet(request, socket, TRADE_QUEUE_MAX)
        # The slot is taken before the first await, or two upgrades at once would both get it.
        self._outlets[id(outlet)] = outlet
        try:
            await socket.prepare(request)
            async with asyncio.TaskGroup() as group:
                group.create_task(outlet.write())
                await self._read(outlet)
                outlet.finish()
        except ConnectionError:
            outlet.abort()
        finally:
            del self._outlets[id(outlet)]
        return socket

    async def _read(self, outlet: Outlet) -> None:
        is_authorized = False
        async for message in outlet.socket:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                continue
            try:
                body = msgspec.json.decode(message.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                body = None
            if not isinstance(body, dict):
                self._reply(outlet, {"action": "error", "data": {"error_message": "message is not a JSON object"}})
                outlet.finish()
                return
            self._log.note(Target.TRADE_UPDATES, "received", _without_secrets(body))
            match body.get("action"):
                case "auth" | "authenticate":
                    is_authorized = self._is_authorized(body)
                    status = "authorized" if is_authorized else "unauthorized"
                    outlet.is_ready = outlet.is_ready and is_authorized
                    self._reply(
                        outlet, {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
                    )
                case "listen" if not is_authorized:
                    self._reply(
                        outlet, {"stream": "authorization", "data": {"status": "unauthorized", "action": "listen"}}
                    )
                case "listen":
                    data = body.get("data")
                    wanted = data.get("streams") if isinstance(data, dict) else None
                    streams = ["trade_updates"] if isinstance(wanted, list) and "trade_updates" in wanted else []
                    self._reply(outlet, {"stream": "listening", "data": {"streams": streams}})
                    outlet.is_ready = bool(streams)
                case _:
                    self._reply(outlet, {"action": "error", "data": {"error_message": "unknown action"}})

    def _is_authorized(self, body: dict[str, object]) -> bool:
        data = body.get("data")
        if isinstance(data, dict):
            if "oauth_token" in data:
                return bool(data["oauth_token"] == self._secret)
            return (data.get("key_id"), data.get("secret_key")) == (self._key, self._secret)
        return (body.get("key"), body.get("secret")) == (self._key, self._secret)

    def _reply(self, outlet: Outlet, body: Json) -> None:
        self._log.note(Target.TRADE_UPDATES, "sent", body)
        outlet.put(lambda: self._encode(body))

    def _on_event(self, event: OrderEvent) -> None:
        frame: Json = {"stream": "trade_updates", "data": trade_update_json(event)}
        if any(outlet.is_ready for outlet in self._outlets.values()):
            self._gauntlet.run([(event_facts(event), frame)])
        else:
            self._log.note(Target.TRADE_UPDATES, "unheard", frame)

    def _send(self, frames: list[Json]) -> None:
        for frame in frames:
            self._log.note(Target.TRADE_UPDATES, "sent", frame)
            for outlet in self._outlets.values():
                if outlet.is_ready and not outlet.put(lambda frame=frame: self._encode(frame)):  # type: ignore[misc]
                    outlet.abort()

    def _encode(self, frame: Json) -> str | bytes:
        if self._is_stamped and isinstance(frame.get("data"), dict) and frame.get("stream") == "trade_updates":
            frame = {**frame, "data": {**_as_dict(frame["data"]), "sent_ns": self._world.clock.monotonic_ns()}}
        raw = msgspec.json.encode(frame)
        return raw.decode() if self._is_text else raw


class MarketData:
    """The /v2/{feed} sockets, in JSON text or msgpack by the upgrade's Content-Type."""

    def __init__(self, world: World, log: FrameLog, *, key: str, secret: str, limit: int) -> None:
        self._world = world
        self._log = log
        self._key, self._secret = key, secret
        self._limit = limit
        self._outlets: dict[int, Outlet] = {}
        self._packed: set[int] = set()
        self._gauntlet = Gauntlet(world.faults, Target.MARKET_DATA, self._send, self.cut, log)
        world.on_ticks(self._on_ticks)

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._outlets)

    def cut(self) -> None:
        """Cut every socket without a goodbye."""
        for outlet in self._outlets.values():
            outlet.abort()

    def inject(self, frame: str | bytes) -> int:
        """Send a raw frame to every socket; how many got it."""
        self._log.note(Target.MARKET_DATA, "injected", frame if isinstance(frame, str) else repr(frame))
        return sum(outlet.put(lambda: frame) for outlet in self._outlets.values())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it closes."""
        refusal = _refusal(request, self._world.faults, Target.MARKET_DATA)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse(compress=False)
        outlet = Outlet(request, socket, DATA_QUEUE_MAX)
        self._outlets[id(outlet)] = outlet
        if request.headers.get("Content-Type", "").startswith("application/msgpack"):
            self._packed.add(id(outlet))
        try:
            await socket.prepare(request)
            async with asyncio.TaskGroup() as group:
                group.create_task(outlet.write())
                self._reply(outlet, {"T": "success", "msg": "connected"})
                if request.headers.get("APCA-API-KEY-ID"):
                    self._authenticate(
                        outlet, request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")
                    )
                await self._read(outlet)
                outlet.finish()
        except ConnectionError:
            outlet.abort()
        finally:
            del self._outlets[id(outlet)]
            self._packed.discard(id(outlet))
        return socket

    async def _read(self, outlet: Outlet) -> None:
        while True:
            try:
                message = await outlet.socket.receive(None if outlet.is_ready else AUTH_SECONDS_MAX)
            except TimeoutError:
                self._error(outlet, 404, "auth timeout")
                return
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
                return
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                continue
            body = self._decode(outlet, message.data)
            action = body.get("action") if body else None
            if body is None or action not in {"auth", "subscribe", "unsubscribe"}:
                self._error(outlet, 400, "invalid syntax")
            elif action == "auth":
                if not self._authenticate(outlet, body.get("key"), body.get("secret")):
                    return
            elif not outlet.is_ready:
                self._error(outlet, 401, "not authenticated")
            else:
                self._subscribe(outlet, body, is_more=action == "subscribe")

    def _decode(self, outlet: Outlet, data: str | bytes) -> dict[str, object] | None:
        try:
            if id(outlet) in self._packed and isinstance(data, bytes):
                body = msgspec.msgpack.decode(data)
            else:
                body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return body if isinstance(body, dict) else None

    def _authenticate(self, outlet: Outlet, key: object, secret: object) -> bool:
        """Answer an auth; False when the socket must close."""
        if outlet.is_ready:
            self._error(outlet, 403, "already authenticated")
            return True
        if secret != self._secret or key not in {self._key, "oauth"}:
            self._error(outlet, 402, "auth failed")
            return True
        others = sum(other.is_ready for other in self._outlets.values())
        if self._limit and others >= self._limit:
            self._error(outlet, 406, "connection limit exceeded")
            return False
        outlet.is_ready = True
        self._reply(outlet, {"T": "success", "msg": "authenticated"})
        return True

    def _subscribe(self, outlet: Outlet, body: dict[str, object], *, is_more: bool) -> None:
        for channel in CHANNELS:
            named = body.get(channel)
            symbols = {str(symbol) for symbol in named} if isinstance(named, list) else set()
            have = outlet.subscriptions.setdefault(channel, set())
            outlet.subscriptions[channel] = have | symbols if is_more else have - symbols
        ack: Json = {"T": "subscription"}
        ack.update({channel: sorted(outlet.subscriptions[channel]) for channel in CHANNELS})
        ack["corrections"] = ack["cancelErrors"] = ack["trades"]
        self._reply(outlet, ack)

    def _reply(self, outlet: Outlet, body: Json) -> None:
        self._log.note(Target.MARKET_DATA, "sent", body)
        is_packed = id(outlet) in self._packed
        outlet.put(lambda: _pack([body], is_packed))

    def _error(self, outlet: Outlet, code: int, message: str) -> None:
        self._reply(outlet, {"T": "error", "code": code, "msg": message})

    def _on_ticks(self, ticks: list[Tick]) -> None:
        if any(outlet.is_ready for outlet in self._outlets.values()):
            self._gauntlet.run([_message(tick) for tick in ticks])

    def _send(self, messages: list[tuple[str, str, Json]]) -> None:
        for outlet in self._outlets.values():
            if not outlet.is_ready:
                continue
            wanted = [body for channel, symbol, body in messages if _wants(outlet, channel, symbol)]
            if not wanted:
                continue
            is_packed = id(outlet) in self._packed
            if not outlet.put(lambda wanted=wanted, is_packed=is_packed: _pack(wanted, is_packed)):  # type: ignore[misc]
                outlet.abort()


CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")


def _message(tick: Tick) -> tuple[dict[str, str | None], tuple[str, str, Json]]:
    if isinstance(tick, QuoteTick):
        event, channel, body = "quote", "quotes", with_symbol("q", tick.symbol, quote_json(tick))
    elif isinstance(tick, TradeTick):
        event, channel, body = "trade", "trades", with_symbol("t", tick.symbol, trade_json(tick))
    else:
        event, channel, body = "bar", "bars", with_symbol("b", tick.symbol, bar_json(tick))
    return {"event": event, "symbol": tick.symbol}, (channel, tick.symbol, body)


def _wants(outlet: Outlet, channel: str, symbol: str) -> bool:
    symbols = outlet.subscriptions.get(channel, set())
    return symbol in symbols or "*" in symbols


def _pack(messages: list[Json], is_packed: bool) -> str | bytes:
    # Both encodings write an aware datetime in their own way: RFC3339 text, and the msgpack timestamp extension.
    return msgspec.msgpack.encode(messages) if is_packed else msgspec.json.encode(messages).decode()


def _refusal(request: web.Request, board: FaultBoard, target: Target) -> web.Response | None:
    """What a fault answers to an upgrade; None when it may go on."""
    if board.strike(target, (Kind.REFUSE,), {}):
        return web.Response(status=429, text="too many connections")
    if board.strike(target, (Kind.DROP,), {}):
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
    return None


def _as_dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _without_secrets(body: dict[str, object]) -> dict[str, object]:
    """The same message, fit for a log."""
    hidden = {"secret", "secret_key", "oauth_token"}
    return {
        name: "***" if name in hidden else _without_secrets(value) if isinstance(value, dict) else value
        for name, value in body.items()
    }
