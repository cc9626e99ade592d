"""What several gateways know of logins in common, in Redis: opaque records by fingerprint, and a count of tries.

Not for knowing what a record says or whether to believe it (`api/sessions.py` signs and reads them). Invariant: a
record that was removed is not brought back by whoever still wanted to renew it, and everything here ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.exceptions import RedisError

from trueup.bus.redis import RedisLink
from trueup.errors import ShelfUnreachable

ANSWER_S = 2.0
"""How long Redis may take to answer, in seconds; somebody waits at the door meanwhile."""

KEPT_S = 13 * 3600
"""How long the records stay after the newest was laid there, in seconds; longer than any session lasts."""

_CHANGED = """
local now = redis.call('TIME')
redis.call('SET', KEYS[2], now[1] .. '.' .. now[2] .. '.' .. redis.call('HLEN', KEYS[1]), 'EX', ARGV[#ARGV])
redis.call('EXPIRE', KEYS[1], ARGV[#ARGV])
return 1
"""

_PUT = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])" + _CHANGED

_REMOVE = "if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end" + _CHANGED

_RENEW = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""As put, for what is there; it is no news, since others ask before they let a session idle out."""

_NEWS = """
local version = redis.call('GET', KEYS[2]) or 'none'
if version == ARGV[1] then return false end
return {version, redis.call('HGETALL', KEYS[1])}
"""

_ALLOW = """
local own, all = tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(redis.call('GET', KEYS[2]) or '0')
if own >= tonumber(ARGV[1]) or all >= tonumber(ARGV[2]) then return 0 end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, 60) end
end
return 1
"""
"""A minute begins with its first try, so that twice as many may fall around its end."""


class RedisShelf:
    """The shelf of `api/sessions.py`, in the Redis that the channels go through."""

    def __init__(self, link: RedisLink) -> None:
        self._client = link.client(answer_s=ANSWER_S)
        self._keys = (f"{link.namespace}:logins", f"{link.namespace}:logins:version")
        self._tries = f"{link.namespace}:logins:tries"

    async def put(self, mark: str, record: bytes) -> None:
        """Lay a record there."""
        await self._ask(_PUT, self._keys, mark, record, KEPT_S)

    async def get(self, mark: str) -> bytes | None:
        """One record; None when it is not there."""
        found = await self._ask("return redis.call('HGET', KEYS[1], ARGV[1])", self._keys, mark)
        return cast(bytes | None, found)

    async def renew(self, mark: str, record: bytes) -> bool:
        """Replace a record; False, and nothing is written, when it is there no more."""
        return await self._ask(_RENEW, self._keys, mark, record) == 1

    async def remove(self, mark: str) -> None:
        """Take a record away."""
        await self._ask(_REMOVE, self._keys, mark, KEPT_S)

    async def news(self, version: str) -> tuple[str, Mapping[str, bytes]] | None:
        """All records and their version; None while that still is `version`."""
        answer = cast(list[Any] | None, await self._ask(_NEWS, self._keys, version))
        if answer is None:
            return None
        newest, flat = answer
        marks = (mark.decode("utf-8", "replace") for mark in flat[::2])
        return newest.decode(), dict(zip(marks, flat[1::2], strict=True))

    async def allow(self, address: str, each: int, together: int) -> bool:
        """Count one more login within a minute; False when it is one too many of an address, or in all."""
        keys = (f"{self._tries}:{address}", self._tries)
        return await self._ask(_ALLOW, keys, each, together) == 1

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def _ask(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> object:
        try:
            answer: object = await self._client.register_script(script)(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise ShelfUnreachable(f"Redis is away: {' '.join(str(error).split()) or type(error).__name__}") from None
        finally:
            # The client library has been seen to lose a cancellation that came while it was connecting.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
        return answer
