"""The bus and the shelf through a Redis that speaks TLS, and what is said when it is not the right one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bus.test_redis import link_to, numbers, say, take, until, working
from tests.redis_server import RedisServer, certificate

from trueup.bus.redis import RedisBus, RedisLink, RedisMirror, redis_subscriber
from trueup.bus.shelf import RedisShelf
from trueup.errors import BadInput, ShelfUnreachable
from trueup.runtime.clock import SystemClock
from trueup.settings import read_settings

pytestmark = pytest.mark.external_service


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, certificate(tmp_path))
    server.start()
    yield server
    server.kill()


async def test_the_bus_and_the_shelf_work_over_tls(tls_server: RedisServer) -> None:
    link = link_to(tls_server)
    assert link.url.startswith("rediss://")
    assert read_settings({"TRUEUP_REDIS_URL": link.url}, {}).redis_url == link.url
    near, far, shelf = RedisBus("e1", link), RedisMirror(link), RedisShelf(link)
    async with working(near.run(), redis_subscriber(link, far)):
        await until(lambda: far.epoch == "e1")
        there = far.subscribe()
        say(near, *range(1, 301))
        assert numbers(await take(there, 300)) == list(range(1, 301))
        await shelf.put("mark", b"record")
        assert await shelf.get("mark") == b"record"
        await shelf.close()
        tls_server.kill()
        await until(lambda: bool(near.reason and far.reason))
        say(near, 301)
        tls_server.start()
        assert numbers(await take(there, 1)) == [301]


async def test_a_redis_whose_certificate_nobody_vouches_for_is_told_nothing(
    tls_server: RedisServer, tmp_path: Path
) -> None:
    other = certificate(tmp_path, "other")
    url = tls_server.url.partition("?")[0]
    for wrong in (url, f"{url}?ssl_ca_certs={other.file}"):
        link = RedisLink(url=wrong, clock=SystemClock(), jitter=lambda: 0.5)
        near, far, shelf = RedisBus("e1", link), RedisMirror(link), RedisShelf(link)
        say(near, 1)
        async with working(near.run(), redis_subscriber(link, far)):
            await until(lambda near=near, far=far: "certificate" in near.reason and "certificate" in far.reason)  # type: ignore[misc]
        with pytest.raises(ShelfUnreachable, match="certificate"):
            await shelf.put("mark", b"record")
        await shelf.close()
    assert tls_server.tell("EXISTS", "trueup:epoch", "trueup:logins")[0] == b":0"


@pytest.mark.parametrize(
    "url",
    ["redis://h/0?ssl_ca_certs=a", "rediss://h/0?decode_responses=yes", "rediss://h?", "rediss://h/0?ssl_ca_certs="],
)
def test_options_that_an_address_can_not_have(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_settings({"TRUEUP_REDIS_URL": url}, {})
    assert refused.value.field == "redis_url"
