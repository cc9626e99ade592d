"""What no client may do to the others: take every place, talk without end, or be dead without saying so."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from tests.api.house import House, served
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SECONDS = 30


@pytest.mark.parametrize(
    ("limits", "told"), [({"connections": 2}, "2"), ({"connections_per_address": 2}, "one address")]
)
async def test_there_are_only_so_many_places(house: House, limits: dict[str, int], told: str) -> None:
    async with served(house, **limits) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        async with connect(url) as one, connect(url) as two:
            for socket_ in (one, two):
                assert "system:snapshot" in str(await socket_.recv())[:40]
            async with connect(url) as third:
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(third.recv(), SECONDS)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
                assert told in closed.value.rcvd.reason
        for _ in range(3):  # a place that was left can be taken
            async with connect(url) as again:
                assert "system:snapshot" in str(await asyncio.wait_for(again.recv(), SECONDS))[:40]


@pytest.mark.parametrize("fast", [True, False])
async def test_who_talks_without_end_is_closed_and_a_ping_now_and_then_is_not(house: House, fast: bool) -> None:
    async with served(house, messages_per_s=5.0, fast=fast) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        async with connect(url) as calm, connect(url, max_queue=None) as loud:
            await calm.recv()
            with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - whichever notices first
                for _ in range(1000):
                    await loud.send('{"type":"ping"}')
                async with asyncio.timeout(SECONDS):
                    while True:
                        await loud.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            await calm.send('{"type":"ping"}')
            assert json.loads(await asyncio.wait_for(calm.recv(), SECONDS))["type"] == "pong"


@pytest.mark.parametrize("fast", [True, False])
async def test_a_client_that_died_without_saying_so_is_dropped(house: House, fast: bool) -> None:
    async with served(house, ping_s=0.2, ping_timeout_s=0.2, fast=fast) as port:
        loop = asyncio.get_running_loop()
        with socket.socket() as dead:
            dead.setblocking(False)
            await loop.sock_connect(dead, ("127.0.0.1", port))
            head = (
                b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await loop.sock_sendall(dead, head)
            async with asyncio.timeout(SECONDS):
                try:
                    while await loop.sock_recv(dead, 65536):  # it reads, and answers no ping
                        pass
                except ConnectionResetError:
                    return
