"""Clients that speak before they were answered, in the read that brought the request or between it and the answer."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.api.house import House, served
from tests.api.test_rfc6455 import sent

from trueup.api import upgrade
from trueup.api.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from trueup.api.identity import Role
from trueup.api.sessions import User

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ASK = sent(TEXT, b'{"type":"ping"}')
PATHS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "portable"])


class Speaker:
    """A raw socket's two ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, short = await self.reader.readexactly(2)
        size = 2 if short == 126 else 8
        length = short if short < 126 else int.from_bytes(await self.reader.readexactly(size))
        return first & 15, await self.reader.readexactly(length)

    async def head(self) -> bytes:
        """The answer to the handshake."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def told(self) -> tuple[list[object], list[tuple[int, bytes]]]:
        """The types of what was said to the page until a pong of ours came, and the control frames before it."""
        texts: list[object] = []
        controls = []
        while "pong" not in texts:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                message = json.loads(payload)
                texts.append(message.get("type") or message["channel"])
            else:
                controls.append((opcode, payload))
        return texts, controls


async def speak(port: int) -> Speaker:
    return Speaker(*await asyncio.open_connection("127.0.0.1", port))


@PATHS
@pytest.mark.parametrize("cut", [0, 1, 3, 8], ids=lambda at: f"cut{at}")
async def test_what_came_with_the_request_is_heard(house: House, fast: bool, cut: int) -> None:
    """Whole in the same read, or with its rest behind the answer."""
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        client = await speak(port)
        client.writer.write(REQUEST + ASK[: len(ASK) - cut])
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        client.writer.write(ASK[len(ASK) - cut :])
        assert (await client.told())[0] == ["system:snapshot", "pong"]
        # And it goes on as with anybody else.
        client.writer.write(sent(PING, b"still") + ASK)
        assert await client.told() == (["pong"], [(PONG, b"still")])
        client.writer.write(sent(CLOSE, b"\x03\xe8"))
        assert await client.frame() == (CLOSE, b"\x03\xe8")
        client.writer.close()


@PATHS
async def test_nothing_is_answered_before_the_handshake(house: House, fast: bool) -> None:
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        client = await speak(port)
        client.writer.write(REQUEST + sent(PING, b"early") + ASK)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        texts, controls = await client.told()
        assert texts == ["system:snapshot", "pong"]
        assert controls == [(PONG, b"early")]
        client.writer.close()


@PATHS
async def test_words_of_many_reads_keep_their_order(house: House, fast: bool) -> None:
    """Byte by byte from the first of the request on."""
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        client = await speak(port)
        said = REQUEST + sent(TEXT, b'{"type":', fin=False) + sent(PING, b"1") + sent(CONTINUATION, b'"ping"}')
        for at in range(len(said)):
            client.writer.write(said[at : at + 1])
            await asyncio.sleep(0)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        texts, controls = await client.told()
        assert (texts, controls) == (["system:snapshot", "pong"], [(PONG, b"1")])
        client.writer.close()


@PATHS
@pytest.mark.parametrize(
    ("early", "code"),
    [
        (sent(CLOSE, b"\x03\xe8"), 1000),
        (sent(TEXT, b"x", masked=False), 1002),
        (sent(CONTINUATION, b"x"), 1002),
        (sent(BINARY, b"x", rsv=4), 1002),
        (sent(TEXT, b"x" * 70_000), 1009),
    ],
)
async def test_early_words_that_end_it_are_answered_behind_the_handshake(
    house: House, fast: bool, early: bytes, code: int
) -> None:
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        client = await speak(port)
        client.writer.write(REQUEST + early)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        while True:
            opcode, payload = await client.frame()
            if opcode == CLOSE:
                break
        assert int.from_bytes(payload[:2]) == code
        client.writer.close()


async def test_early_words_open_no_door(house: House) -> None:
    users = (User(name="vera", role=Role.VIEWER, password_hash="$argon2id$none"),)
    async with asyncio.timeout(60), served(house, users=users) as port:
        client = await speak(port)
        client.writer.write(REQUEST + ASK * 3)
        assert (await client.head()).startswith(b"HTTP/1.1 403 ")
        assert await client.reader.read() == b""
        client.writer.close()


async def test_a_request_behind_another_request_is_upgraded_too(house: House) -> None:
    async with asyncio.timeout(60), served(house) as port:
        client = await speak(port)
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.reader.readuntil(b"}")
        client.writer.write(REQUEST + ASK)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert (await client.told())[0] == ["system:snapshot", "pong"]
        client.writer.close()


@pytest.mark.parametrize(
    "half", [b"", REQUEST[:40], REQUEST[:-2], b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"]
)
async def test_half_a_request_holds_no_place(house: House, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "REQUEST_S", 0.3)
    async with asyncio.timeout(60), served(house) as port:
        client, patient = await speak(port), await speak(port)
        client.writer.write(half)
        patient.writer.write(REQUEST)
        await patient.head()
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.read() == b""
        # Whoever asked for something whole is not held to that.
        patient.writer.write(ASK)
        assert (await patient.told())[0] == ["system:snapshot", "pong"]
        for each in (client, patient):
            each.writer.close()


async def test_a_second_request_may_take_as_long_as_the_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(60), served(house) as port:
        client = await speak(port)
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.head()
        monkeypatch.setattr(upgrade, "REQUEST_S", 0.3)
        client.writer.write(REQUEST[:40])
        with contextlib.suppress(ConnectionResetError):
            assert (await client.reader.read()).endswith(b"}")
        client.writer.close()


async def test_a_head_without_an_end_is_cut(house: House) -> None:
    async with asyncio.timeout(60), served(house) as port:
        client = await speak(port)
        client.writer.write(REQUEST[:-2])
        with contextlib.suppress(ConnectionError):
            for number in range(10_000):
                client.writer.write(b"X-%d: " % number + b"y" * 1000 + b"\r\n")
                await client.writer.drain()
            raise AssertionError("ten megabytes of head were taken")
        client.writer.close()


async def test_a_long_body_is_no_long_head(house: House) -> None:
    async with asyncio.timeout(60), served(house) as port:
        client = await speak(port)
        client.writer.write(b"POST /api/kill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(300):
            client.writer.write(b" " * 1000)
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        client.writer.close()


@PATHS
async def test_a_client_may_close_in_the_middle_of_its_message(house: House, fast: bool) -> None:
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        client = await speak(port)
        client.writer.write(REQUEST)
        await client.head()
        assert (await client.frame())[0] == TEXT
        client.writer.write(sent(TEXT, b"half", fin=False) + sent(CLOSE, b"\x03\xe8") + sent(CONTINUATION, b"late"))
        assert await client.frame() == (CLOSE, b"\x03\xe8")
        assert await client.reader.read() == b""
        client.writer.close()
