"""The bus between processes: `RedisBus` publishes, `redis_subscriber` receives, and both ends of the format stand here.

What travels. On each documented channel exactly the documented payload, so that `redis-cli SUBSCRIBE` shows it and a
plain `redis-cli PUBLISH` is understood. Where a payload stands is said just before it on the channel of heads: one
message with the epoch, then a line `channel offset time` for each payload that follows. A script writes history, head
and payloads in one go, so nothing can come between them on a subscriber's connection: a payload that no head announced
is somebody else's. History is one Redis stream a channel, with the offset as its id; the newest snapshot is a key.

One runtime speaks at a time: the epoch in Redis says which, and one that was taken over says no more. Numbers are given
before anything reaches Redis, so the process that publishes needs no Redis to show its own dashboard. While Redis is
away log envelopes wait (bounded), states keep their newest; when it returns, even empty, what is missing is written
again, and what is there already is passed over.

Invariant: on a log channel no subscriber is ever handed an offset behind a hole; it fills the hole from history, or
starts everyone anew under what is then known.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, cast

import redis.asyncio
from redis.exceptions import AuthenticationError, NoScriptError, RedisError

from trueup.bus.codec import encode
from trueup.bus.memory import BACKLOG, HISTORY, MemoryBus, MemorySubscription
from trueup.core.views import STATE_CHANNELS, Channel, View
from trueup.errors import BadInput, Busy
from trueup.ports import Clock, Envelope

log = logging.getLogger(__name__)

CHANNELS = tuple(channel.value for channel in Channel if channel is not Channel.SYSTEM_SNAPSHOT)
"""The channels that are spoken on; a snapshot goes to one client only."""

WAITING_MAX = 20_000
"""Log envelopes that may wait for Redis; beyond that its history begins anew when it returns."""

BATCH = 256
"""Envelopes written in one go."""

BATCH_BYTES = 1 << 20
"""The same in bytes; Redis serves nobody else meanwhile."""

ANSWER_S = 5.0
"""How long Redis may take to answer, and how long a quiet connection goes unprobed, in seconds."""

PICTURE_S = 2.0
"""The shortest pause between two snapshots that are kept in Redis, in seconds."""

PROBE_S = 1.0
"""How long the publishing end stays silent before it looks whether Redis is still there, in seconds."""

LAST_WORDS_S = 2.0
"""How long the last envelopes may take to leave when the bus closes, in seconds."""

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 5.0
"""Bounds of the pause between two tries to reach Redis, in seconds; each is drawn from 0 up to a doubling ceiling."""

RAW_MAX = 64 * 1024
"""Bytes of a foreign message that are passed on; a longer one is cut and passed on raw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLink:
    """Which Redis, under which names, and what time and chance are handed in."""

    url: str
    clock: Clock
    jitter: Callable[[], float]
    namespace: str = "trueup"

    def client(self, *, answer_s: float | None = ANSWER_S) -> redis.asyncio.Redis:
        """A client that reports trouble at once; raises `BadInput` for an address that is none."""
        try:
            return redis.asyncio.Redis.from_url(
                self.url,
                socket_timeout=answer_s,
                socket_connect_timeout=ANSWER_S,
                retry=None,
                health_check_interval=0,
            )
        except ValueError as error:
            raise BadInput(
                f"redis_url must be an address such as redis://127.0.0.1:6379/0 ({error})", field="redis_url"
            ) from None

    @property
    def epoch_key(self) -> str:
        return f"{self.namespace}:epoch"

    @property
    def cursors_key(self) -> str:
        return f"{self.namespace}:cursors"

    @property
    def snapshot_key(self) -> str:
        return f"{self.namespace}:snapshot"

    @property
    def history_prefix(self) -> str:
        return f"{self.namespace}:history:"

    @property
    def heads(self) -> str:
        return f"{self.namespace}:heads"


# --- what runs inside Redis ---

_BEGIN = """
local current = redis.call('GET', KEYS[1])
if ARGV[4] == 'again' and current and current ~= ARGV[1] then return current end
if current ~= ARGV[1] or ARGV[4] == 'anew' then
  for _, channel in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('DEL', ARGV[2] .. channel) end
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('PUBLISH', ARGV[3], ARGV[1])
end
return 1
"""
"""Take the word under an epoch: 'first' from anyone, 'again' only from nobody, 'anew' forgetting our own history."""

_PUBLISH = """
local current = redis.call('GET', KEYS[1])
if current ~= ARGV[1] then return current or '' end
local last, heads, fresh = {}, {}, {}
for i = 5, #ARGV, 4 do
  local channel, offset = ARGV[i], tonumber(ARGV[i + 1])
  if not last[channel] then last[channel] = tonumber(redis.call('HGET', KEYS[2], channel) or '0') end
  if offset > last[channel] then
    last[channel] = offset
    redis.call('XADD', ARGV[2] .. channel, 'MAXLEN', '~', ARGV[4], ARGV[i + 1] .. '-0', 'at', ARGV[i + 2], 'body', ARGV[i + 3])
    heads[#heads + 1] = channel .. ' ' .. ARGV[i + 1] .. ' ' .. ARGV[i + 2]
    fresh[#fresh + 1] = i
  end
end
if #fresh > 0 then
  for channel, offset in pairs(last) do redis.call('HSET', KEYS[2], channel, offset) end
  redis.call('PUBLISH', ARGV[3], ARGV[1] .. '\\n' .. table.concat(heads, '\\n'))
  for _, i in ipairs(fresh) do redis.call('PUBLISH', ARGV[i], ARGV[i + 3]) end
end
return 1
"""  # noqa: E501 - one line of Lua is one thought
"""Write what is not there yet into history, then say heads and payloads; the answer is 1, or whose word it is."""

_PICTURE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.call('GET', KEYS[1]) or '' end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


_FINGERPRINTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_BEGIN, _PUBLISH, _PICTURE)
}


class _NobodysWord(RedisError):
    """Redis does not know our epoch: it came back empty."""


class _TakenOver(RedisError):
    """Another runtime speaks now."""


# --- the end that publishes ---


class RedisBus:
    """A bus whose envelopes are heard in this process at once, and through Redis everywhere else.

    `run` carries them over and must be kept running. `reason` says why Redis does not have everything ("" when it has),
    `on_reason` is told when that changes. `picture` draws the snapshot that other gateways begin from.
    """

    def __init__(self, epoch: str, link: RedisLink, *, history: int = HISTORY, backlog: int = BACKLOG) -> None:
        self.epoch = epoch
        self.local = MemoryBus(epoch, history=history, backlog=backlog)
        self.reason = "not connected yet"
        self.on_reason: Callable[[str], None] = _nobody
        self.picture: Callable[[], View] | None = None
        self._link = link
        self._history = history
        self._outside = MemoryBus(epoch, history=1, backlog=WAITING_MAX)
        self._waiting = self._outside.subscribe()
        self._unanswered: list[Envelope] = []
        self._spoken = False
        self._gone = False
        self._anew = False
        self._pictured: tuple[float, Mapping[str, int]] = (float("-inf"), {})

    @property
    def depth(self) -> int:
        """Envelopes that Redis does not have yet."""
        return len(self._unanswered) + len(self._waiting)

    def publish(self, channel: str, view: View, at: datetime) -> None:
        """Number and encode the view, hand it to every subscription, and let it wait for Redis."""
        envelope = self.local.number(channel, view, at)
        if envelope is not None and not self._gone:
            self._outside.pass_on(envelope)

    def subscribe(self) -> MemorySubscription:
        """Start receiving every channel from the next envelope on."""
        return self.local.subscribe()

    def cursors(self) -> Mapping[str, int]:
        """The newest offset of every channel that ever spoke."""
        return self.local.cursors()

    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None:
        """What followed `offset` on one channel; None when some of it is gone or never was."""
        return self.local.since(channel, offset)

    async def run(self) -> NoReturn:
        """Carry what is published to Redis, for ever, through every absence of it."""
        pause = _Pause(self._link)
        while True:
            try:
                async with _client(self._link) as client:
                    await self._speak(client, pause)
            except _TakenOver as taken:
                self._gone = True
                self._waiting.close()
                self._unanswered = []
                self._say(f"another trueup publishes there now ({taken}); stop one of the two, then start this again")
                await asyncio.Event().wait()
            except (RedisError, OSError, TimeoutError) as error:
                self._say(_told(error))
                await pause.after_failure()

    async def close(self) -> None:
        """Send what still waits, for a moment, and end every subscription."""
        if not self._gone and self.depth:
            try:
                async with asyncio.timeout(LAST_WORDS_S), _client(self._link) as client:
                    await self._begin(client)
                    while self.depth:
                        await self._send_some(client)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("last envelopes did not reach Redis count=%d reason=%s", self.depth, _told(error))
        self._gone = True
        self._waiting.close()
        await self.local.close()

    def _say(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            log.log(logging.WARNING if reason else logging.INFO, "redis %s", reason or "has everything")
            self.on_reason(reason)

    async def _speak(self, client: redis.asyncio.Redis, pause: _Pause) -> NoReturn:
        await self._begin(client)
        pause.reset()
        while True:
            _end_if_cancelled()
            if self._gone:
                await asyncio.Event().wait()  # closed: whoever runs this is about to end it
            if self.depth or self._waiting.lapsed:
                await self._send_some(client)
            else:
                self._say("")
                await self._draw(client)
                if not await self._something():
                    # That Redis is still there, and still knows us, is asked too while there is nothing to say.
                    self._check(await self._write(client, ()))

    async def _begin(self, client: redis.asyncio.Redis) -> None:
        how = "anew" if self._anew else "again" if self._spoken else "first"
        keys = [self._link.epoch_key, self._link.cursors_key, self._link.snapshot_key]
        arguments = [self.epoch, self._link.history_prefix, self._link.heads, how]
        self._check(await _evaluate(client, _BEGIN, keys, arguments))
        self._spoken, self._anew = True, False
        self._pictured = (float("-inf"), {})
        there = {
            name.decode(): int(offset)
            for name, offset in (await cast(Awaitable[dict[bytes, bytes]], client.hgetall(keys[1]))).items()
        }
        self._gather(there)

    def _gather(self, there: Mapping[str, int]) -> None:
        """Put what Redis lacks, as far as anyone still has it, into one list in order of offsets."""
        try:
            self._unanswered += self._waiting.take_all(WAITING_MAX + len(Channel))
        except Busy:
            # Older than what we keep ourselves: the history in Redis can't go on without a hole.
            self._waiting = self._outside.subscribe()
        if len(self._unanswered) > WAITING_MAX:
            self._unanswered = []
        known = {(each.channel, each.offset): each for each in (*self.local.history(), *self._unanswered)}
        lacking: list[Envelope] = []
        for channel in dict.fromkeys(channel for channel, _ in known):
            have = there.get(channel, 0)
            of_channel = sorted(offset for name, offset in known if name == channel and offset > have)
            if channel in STATE_CHANNELS:
                of_channel = of_channel[-1:]
            elif of_channel and have and of_channel[0] != have + 1:
                self._anew = True
                raise RedisError(f"{channel} has a hole behind {have}; its history begins anew")
            lacking += [known[channel, offset] for offset in of_channel]
        self._unanswered = lacking

    async def _send_some(self, client: redis.asyncio.Redis) -> None:
        if not self._unanswered:
            try:
                self._unanswered = self._waiting.take_all(BATCH)
            except Busy:
                await self._begin(client)
                return
        batch, size = [], 0
        for envelope in self._unanswered[:BATCH]:
            batch.append(envelope)
            size += len(envelope.body)
            if size >= BATCH_BYTES:
                break
        self._check(await self._write(client, batch))
        del self._unanswered[: len(batch)]

    async def _write(self, client: redis.asyncio.Redis, batch: Sequence[Envelope]) -> object:
        arguments: list[Any] = [self.epoch, self._link.history_prefix, self._link.heads, self._history]
        for envelope in batch:
            arguments += (envelope.channel, envelope.offset, envelope.at.isoformat(), envelope.body)
        return await _evaluate(client, _PUBLISH, [self._link.epoch_key, self._link.cursors_key], arguments)

    async def _something(self) -> bool:
        """Until an envelope waits; False when it is time for a probe first."""
        try:
            async with asyncio.timeout(PROBE_S):
                await self._waiting.arrival()
        except TimeoutError:
            return False
        return True

    async def _draw(self, client: redis.asyncio.Redis) -> None:
        at, cursors = self._pictured
        now, newest = self._link.clock.monotonic(), self.cursors()
        if self.picture is None or newest == cursors or now - at < PICTURE_S:
            return
        head = {"epoch": self.epoch, "at": self._link.clock.now().isoformat(), "cursors": dict(newest)}
        body = json.dumps(head).encode() + b"\n" + encode(self.picture())
        self._check(
            await _evaluate(client, _PICTURE, [self._link.epoch_key, self._link.snapshot_key], [self.epoch, body])
        )
        self._pictured = (now, newest)

    def _check(self, answer: object) -> None:
        if answer == 1:
            return
        other = answer.decode() if isinstance(answer, bytes) else str(answer)
        if other:
            raise _TakenOver(other)
        raise _NobodysWord("Redis has forgotten us; it came back empty")


# --- the end that receives ---


class RedisMirror:
    """What another process publishes, as a bus of this one: same epoch, same offsets, same history.

    Satisfies the listening half of `EventBus`. `reason` says why it may be behind ("" while it is not).
    """

    def __init__(self, link: RedisLink, *, history: int = HISTORY, backlog: int = BACKLOG) -> None:
        self.reason = "not connected yet"
        self._link = link
        self._history = history
        self._bus = MemoryBus("", history=history, backlog=backlog)
        self._picture: tuple[Envelope, Mapping[str, int]] | None = None

    @property
    def epoch(self) -> str:
        """The epoch of the runtime that speaks; "" before the first was heard."""
        return self._bus.epoch

    def subscribe(self) -> MemorySubscription:
        """Start receiving every channel from the next envelope on."""
        return self._bus.subscribe()

    def cursors(self) -> Mapping[str, int]:
        """The newest offset of every channel that was heard."""
        return self._bus.cursors()

    def since(self, channel: str, offset: int) -> Sequence[Envelope] | None:
        """What followed `offset` on one channel; None when some of it is gone or never was."""
        return self._bus.since(channel, offset)

    def picture(self) -> tuple[Envelope, Mapping[str, int]] | None:
        """The newest snapshot that the runtime left, and what it holds; None while there is none of this epoch."""
        return self._picture if self._picture is not None and self._picture[0].epoch == self.epoch else None

    async def close(self) -> None:
        """End every subscription."""
        await self._bus.close()

    # --- told by redis_subscriber ---

    async def joined(self, client: redis.asyncio.Redis) -> None:
        """The connection listens from now on: catch up with what was said before."""
        await self._catch_up(client)
        self.lost("")

    async def ours(self, client: redis.asyncio.Redis, envelope: Envelope) -> None:
        """An envelope of the runtime."""
        if envelope.epoch != self.epoch:
            await self._catch_up(client)
            return
        last = self._bus.cursors_now.get(envelope.channel, 0)
        if envelope.offset <= last:
            return
        if envelope.offset > last + 1 and envelope.channel not in STATE_CHANNELS:
            await self._catch_up(client)
            return
        self._bus.take(envelope)

    def foreign(self, envelope: Envelope) -> None:
        """Something that anybody published; shown as it is, numbered by nobody, kept by nobody."""
        self._bus.pass_on(envelope)

    async def anew(self, client: redis.asyncio.Redis) -> None:
        """The runtime begins anew."""
        await self._catch_up(client)

    def lost(self, reason: str) -> None:
        """Redis is away, or back when the reason is empty."""
        self.reason = reason

    async def refresh(self, client: redis.asyncio.Redis) -> None:
        """Take the newest snapshot if ours is not."""
        if self._picture is None or self._picture[0].epoch != self.epoch or self._picture[1] != self.cursors():
            first = self.picture() is None
            self._read_picture(await cast(Awaitable[bytes | None], client.get(self._link.snapshot_key)))
            if first and self.picture() is not None:
                self._bus.lapse()  # those who wait for their first picture can have it

    async def _catch_up(self, client: redis.asyncio.Redis) -> None:
        async with client.pipeline(transaction=True) as pipe:
            pipe.get(self._link.epoch_key)
            pipe.get(self._link.snapshot_key)
            for channel in CHANNELS:
                count = 1 if channel in STATE_CHANNELS else self._history
                pipe.xrevrange(self._link.history_prefix + channel, count=count)
            epoch, picture, *streams = await pipe.execute()
        named = epoch.decode() if epoch is not None else ""
        told = {channel: _entries(named, channel, stream) for channel, stream in zip(CHANNELS, streams, strict=True)}
        self._read_picture(picture)
        if not named:
            return  # an empty Redis: the runtime will fill it again under the epoch that we know
        if named == self.epoch and self._goes_on(told):
            return
        self._bus.begin(named)
        for envelopes in told.values():
            for envelope in envelopes:
                self._bus.keep(envelope)

    def _goes_on(self, told: Mapping[str, Sequence[Envelope]]) -> bool:
        """Take what is new, if it continues what we have; False when there is a hole between."""
        news: list[Envelope] = []
        for channel, envelopes in told.items():
            last = self._bus.cursors_now.get(channel, 0)
            fresh = [envelope for envelope in envelopes if envelope.offset > last]
            if fresh and fresh[0].offset != last + 1 and channel not in STATE_CHANNELS:
                return False
            news += fresh
        for envelope in sorted(news, key=lambda each: each.at):
            if envelope.offset > self._bus.cursors_now.get(envelope.channel, 0):
                self._bus.take(envelope)
        return True

    def _read_picture(self, raw: bytes | None) -> None:
        if raw is None:
            return
        head, _, body = raw.partition(b"\n")
        try:
            told = json.loads(head)
            at = datetime.fromisoformat(told["at"])
            cursors = {str(channel): int(offset) for channel, offset in told["cursors"].items()}
            envelope = Envelope(Channel.SYSTEM_SNAPSHOT.value, str(told["epoch"]), 0, at, body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the snapshot in Redis makes no sense reason=%s", error)
            return
        self._picture = (envelope, cursors)


class ForeignVoices:
    """What the publishing process itself hears through Redis: only what others say, for its own dashboards."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus

    async def joined(self, client: redis.asyncio.Redis) -> None:
        """Nothing is missed by us: foreign voices are heard while they speak."""

    async def ours(self, client: redis.asyncio.Redis, envelope: Envelope) -> None:
        """We said it ourselves."""

    def foreign(self, envelope: Envelope) -> None:
        """Show it on the dashboards of this process."""
        self._bus.local.pass_on(envelope)

    async def anew(self, client: redis.asyncio.Redis) -> None:
        """We did that ourselves."""

    def lost(self, reason: str) -> None:
        """The bus itself tells of it."""

    async def refresh(self, client: redis.asyncio.Redis) -> None:
        """There is nothing to refresh."""


async def redis_subscriber(link: RedisLink, ears: RedisMirror | ForeignVoices) -> NoReturn:
    """Listen to every channel for the whole process, for ever, through every absence of Redis. One a process."""
    pause = _Pause(link)
    while True:
        try:
            async with (
                _client(link) as asking,
                # Silence is no fault of a listener; a probe tells whether it is alive.
                _client(link, answer_s=None) as client,
                client.pubsub() as voices,
            ):
                await voices.subscribe(link.heads, *CHANNELS)
                await _confirmed(voices, 1 + len(CHANNELS))
                _end_if_cancelled()
                await ears.joined(asking)
                pause.reset()
                await _listen(link, voices, asking, ears)
        except (RedisError, OSError, TimeoutError) as error:
            reason = _told(error)
            ears.lost(reason)
            log.warning("redis is not heard reason=%s", reason)
            await pause.after_failure()


async def _confirmed(voices: Any, count: int) -> None:
    async with asyncio.timeout(ANSWER_S):
        while count:
            message = await voices.get_message(timeout=ANSWER_S)
            count -= message is not None and message["type"] == "subscribe"


async def _listen(
    link: RedisLink, voices: Any, asking: redis.asyncio.Redis, ears: RedisMirror | ForeignVoices
) -> NoReturn:
    announced: deque[Envelope] = deque()
    heads = link.heads.encode()
    heard = [True]
    watching = asyncio.ensure_future(_watch(link, voices, asking, ears, heard))
    try:
        while True:
            _end_if_cancelled()
            if watching.done():
                await watching
            # As `get_message`, without its two deadlines a message, which would cost more than all the rest.
            kind, *told = await voices.parse_response(block=True)
            heard[0] = True
            if kind == b"message":
                announced = await _take(link, told[0], told[1], heads, announced, asking, ears)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(
    link: RedisLink,
    voices: Any,
    asking: redis.asyncio.Redis,
    ears: RedisMirror | ForeignVoices,
    heard: list[bool],
) -> None:
    """Keep the snapshot new and probe a silent connection; ends, and the connection with it, when it is dead."""
    try:
        while True:
            heard[0] = False
            for _ in range(int(ANSWER_S / PICTURE_S)):
                await asyncio.sleep(PICTURE_S)
                _end_if_cancelled()
                await ears.refresh(asking)
            if not heard[0]:
                await voices.ping()
                await asyncio.sleep(ANSWER_S)
                if not heard[0]:
                    raise TimeoutError("Redis answers no probe")
    finally:
        await voices.connection.disconnect(nowait=True)


async def _take(
    link: RedisLink,
    channel: bytes,
    data: bytes,
    heads: bytes,
    announced: deque[Envelope],
    asking: redis.asyncio.Redis,
    ears: RedisMirror | ForeignVoices,
) -> deque[Envelope]:
    """One message: a head, a payload that a head announced, or a stranger's; returns what is announced from now on."""
    if channel == heads:
        announced = _announced(data)
        if not announced:
            await ears.anew(asking)
        return announced
    name = channel.decode()
    if announced and announced[0].channel == name:
        head = announced.popleft()
        await ears.ours(asking, Envelope(name, head.epoch, head.offset, head.at, data))
    else:
        ears.foreign(Envelope(name, "", 0, link.clock.now(), _readable(data)))
    return announced


def _announced(head: bytes) -> deque[Envelope]:
    """The payloads that a head announces, still without bodies; none when it says only that an epoch begins."""
    epoch, *lines = head.decode("utf-8", "replace").split("\n")
    found: deque[Envelope] = deque()
    for line in lines:
        try:
            channel, offset, at = line.split(" ")
            found.append(Envelope(channel, epoch, int(offset), datetime.fromisoformat(at), b""))
        except ValueError:
            log.warning("a head makes no sense head=%r", head[:200])
            return deque()
    return found


def _readable(data: bytes) -> bytes:
    """What a stranger published as the JSON it is, or as `{"raw": "..."}`."""
    if len(data) <= RAW_MAX:
        try:
            json.loads(data.decode(), parse_constant=_refuse)
            return data
        except (ValueError, RecursionError) as error:
            log.info("somebody published what is no JSON reason=%s", error)
    return json.dumps({"raw": data[:RAW_MAX].decode("utf-8", "replace")}).encode()


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"JSON has no {word}")


def _entries(epoch: str, channel: str, newest_first: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Envelope]:
    found = []
    for name, fields in reversed(newest_first):
        try:
            offset, at = int(name.partition(b"-")[0]), datetime.fromisoformat(fields[b"at"].decode())
            found.append(Envelope(channel, epoch, offset, at, fields[b"body"]))
        except (ValueError, KeyError):
            log.warning("an entry of the history makes no sense channel=%s id=%r", channel, name)
    return found


# --- both ends ---


class _Pause:
    """Full jitter under a doubling ceiling."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    async def after_failure(self) -> None:
        _end_if_cancelled()
        ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        # Never nothing at all: a Redis that refuses at once must not be asked in a loop.
        await self._link.clock.sleep(max(BACKOFF_BASE_S / 10, self._link.jitter() * ceiling))


@asynccontextmanager
async def _client(link: RedisLink, *, answer_s: float | None = ANSWER_S) -> AsyncIterator[redis.asyncio.Redis]:
    client = link.client(answer_s=answer_s)
    try:
        yield client
    finally:
        await client.aclose()


async def _evaluate(client: redis.asyncio.Redis, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> object:
    """Run a script by its fingerprint; Redis is shown the text only when it does not know it."""
    try:
        return await cast(Awaitable[object], client.evalsha(_FINGERPRINTS[script], len(keys), *keys, *arguments))
    except NoScriptError:
        return await cast(Awaitable[object], client.eval(script, len(keys), *keys, *arguments))


def _end_if_cancelled() -> None:
    """The client library has been seen to lose a cancellation that came while it was connecting."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _told(error: Exception) -> str:
    if isinstance(error, AuthenticationError):
        return "Redis refuses the password or user in redis_url"
    return f"Redis is away: {' '.join(str(error).split()) or type(error).__name__}"


def _nobody(reason: str) -> None:
    """Who is told until somebody wants to know."""
