"""RFC 6455 as sections 1 to 7, 9 and 10 of the Autobahn suite ask for it: the parser, and the gateway's own sockets."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.house import House, served

from trueup.api.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Closed,
    Event,
    FrameReader,
    Message,
    Ping,
    Pong,
    Violation,
    close_frame,
    frame,
    unmask,
)

LIMIT = 1 << 20
KEY = b"\x37\xfa\x21\x3d"


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it, right or wrong."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    length = len(payload)
    short = length if length < 126 else 126 if length < 1 << 16 else 127
    extended = b"" if short < 126 else struct.pack("!H" if short == 126 else "!Q", length)
    head = bytes((first, (0x80 if masked else 0) | short)) + extended
    return head + KEY + unmask(payload, KEY) if masked else head + payload


def read(data: bytes, *, step: int = 0, limit: int = LIMIT) -> list[Event]:
    reader = FrameReader(limit)
    if not step:
        return reader.feed(data)
    events: list[Event] = []
    for at in range(0, len(data), step):
        events += reader.feed(data[at : at + step])
    return events


def code_of(events: list[Event]) -> int:
    assert isinstance(events[-1], Violation)
    return events[-1].code


STEPS = pytest.mark.parametrize("step", [0, 1, 3, 997])


@STEPS
@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537])
def test_messages_of_every_length(length: int, step: int) -> None:
    assert read(sent(TEXT, b"*" * length), step=step) == [Message("*" * length)]
    assert read(sent(BINARY, b"\xfe" * length), step=step) == [Message(b"\xfe" * length)]


@STEPS
def test_pings_and_pongs_anywhere(step: int) -> None:
    data = sent(PING, b"a" * 125) + sent(TEXT, b"x", fin=False) + sent(PING) + sent(PONG, b"p")
    data += sent(CONTINUATION, b"y", fin=False) + sent(PING, b"\x00\xff") + sent(CONTINUATION, b"z")
    expected: list[Event] = [Ping(b"a" * 125), Ping(b""), Pong(b"p"), Ping(b"\x00\xff"), Message("xyz")]
    assert read(data, step=step) == expected


@STEPS
@pytest.mark.parametrize(
    "bad",
    [
        *[sent(TEXT, b"x", rsv=rsv) for rsv in range(1, 8)],
        *[sent(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        sent(TEXT, b"x", masked=False),
        sent(PING, b"x" * 126),
        sent(PING, b"x", fin=False),
        sent(CLOSE, b"", fin=False),
        sent(CONTINUATION, b"x"),
        sent(CONTINUATION, b"x", fin=False),
        sent(TEXT, b"x", fin=False) + sent(TEXT, b"y"),
        sent(TEXT, b"x", fin=False) + sent(BINARY, b"y", fin=False),
        sent(CLOSE, b"\x03"),
        sent(CLOSE, b"x" * 126),
        b"\x81\xfe\x00\x05" + KEY + b"xxxxx",
        b"\x81\xff" + b"\x00" * 6 + b"\x00\x05" + KEY + b"xxxxx",
        b"\x81\xff" + b"\x80" + b"\x00" * 7 + KEY,
    ],
)
def test_broken_frames(bad: bytes, step: int) -> None:
    events = read(sent(TEXT, b"before") + bad + sent(TEXT, b"behind"), step=step)
    assert (events[0], code_of(events), len(events)) == (Message("before"), 1002, 2)


@pytest.mark.parametrize(
    "text", ["", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\U0010ffff", "\x00", "\ud7ff\ue000", "\ufffe\uffff", "😀" * 50]
)
def test_utf8_in_pieces(text: str) -> None:
    raw = text.encode()
    for cut in range(len(raw) + 1):
        data = sent(TEXT, raw[:cut], fin=False) + sent(CONTINUATION, raw[cut:])
        assert read(data) == read(data, step=1) == [Message(text)]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xed\xbf\xbf",
        b"\xfe",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
    ],
)
def test_what_is_not_utf8(raw: bytes) -> None:
    for step in (0, 1):
        assert code_of(read(sent(TEXT, raw), step=step)) == 1007
        assert code_of(read(sent(TEXT, b"ok", fin=False) + sent(CONTINUATION, raw), step=step)) == 1007
        assert code_of(read(sent(CLOSE, b"\x03\xe8" + raw), step=step)) == 1007


def test_bad_utf8_is_refused_before_the_message_ends() -> None:
    whole = sent(TEXT, b"\xce\xba\xf4\x90" + b"x" * 100, fin=False)
    reader = FrameReader(LIMIT)
    assert code_of(reader.feed(whole[: 6 + 4])) == 1007
    assert reader.feed(whole[6 + 4 :]) == []


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999])
def test_codes_to_close_with(code: int) -> None:
    told = read(sent(CLOSE, struct.pack("!H", code) + "weg ✓".encode()) + sent(TEXT, b"behind"), step=1)
    assert told == [Closed(code, "weg ✓")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_codes_that_mean_nothing(code: int) -> None:
    assert code_of(read(sent(CLOSE, struct.pack("!H", code)))) == 1002


def test_an_empty_close() -> None:
    assert read(sent(CLOSE)) == [Closed(1005, "")]


def test_limits() -> None:
    assert code_of(read(sent(TEXT, b"x" * 101)[:10], limit=100)) == 1009
    fragments = sent(TEXT, b"x" * 60, fin=False) + sent(CONTINUATION, b"x" * 41)
    assert code_of(read(fragments, limit=100)) == 1009
    assert read(sent(TEXT, b"x" * 100) * 2, limit=100) == [Message("x" * 100)] * 2


@given(
    parts=st.lists(st.text(max_size=40).map(str.encode), min_size=1, max_size=6),
    step=st.integers(min_value=1, max_value=50),
)
def test_any_text_in_any_pieces(parts: list[bytes], step: int) -> None:
    last = len(parts) - 1
    data = b"".join(sent(CONTINUATION if at else TEXT, part, fin=at == last) for at, part in enumerate(parts))
    assert read(data, step=step) == [Message(b"".join(parts).decode())]


@given(st.binary(max_size=400))
def test_no_bytes_harm_the_reader(data: bytes) -> None:
    assert read(data) == read(data, step=1)


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_what_we_send_is_unmasked_and_minimal(length: int) -> None:
    made = frame(TEXT, b"x" * length)
    head = 2 if length < 126 else 4 if length < 1 << 16 else 10
    assert len(made) == head + length
    assert made[0] == 0x81
    assert made[1] == (length if length < 126 else 126 if length < 1 << 16 else 127)


def test_a_close_reason_is_cut_between_characters() -> None:
    made = close_frame(1013, "✓" * 100)
    assert made[1] <= 125
    assert made[4:].decode() == "✓" * 41


# --- on the gateway's own sockets ---


class Wire:
    """One raw connection behind its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(60):
            first, second = await self.reader.readexactly(2)
            assert not second & 0x80
            length = second
            if second == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            elif second == 127:
                length = int.from_bytes(await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def ended(self) -> bool:
        async with asyncio.timeout(60):
            return await self.reader.read(1) == b""


@asynccontextmanager
async def wire(house: House) -> AsyncIterator[Wire]:
    async with served(house) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            async with asyncio.timeout(60):
                answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in answer
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
            on = Wire(reader, writer)
            assert b"system:snapshot" in (await on.frame())[1]
            yield on
        finally:
            writer.close()


async def test_a_ping_comes_back_with_its_payload(house: House) -> None:
    async with wire(house) as on:
        for octet in sent(PING, b"payload \x00\xff"):
            on.writer.write(bytes((octet,)))
            await on.writer.drain()
        assert await on.frame() == (PONG, b"payload \x00\xff")


async def test_a_fragmented_message_is_heard_whole(house: House) -> None:
    async with wire(house) as on:
        on.writer.write(sent(TEXT, b'{"type":', fin=False) + sent(PING, b"1") + sent(CONTINUATION, b'"ping"}'))
        assert await on.frame() == (PONG, b"1")
        opcode, payload = await on.frame()
        assert opcode == TEXT
        assert b'"pong"' in payload


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (sent(CLOSE, b"\x03\xe8bye"), b"\x03\xe8"),
        (sent(CLOSE), b"\x03\xe8"),
        (sent(CLOSE, b"\x0f\xa0"), b"\x0f\xa0"),
    ],
)
async def test_a_close_is_answered_and_the_connection_ends(house: House, said: bytes, answer: bytes) -> None:
    async with wire(house) as on:
        on.writer.write(said)
        assert await on.frame() == (CLOSE, answer)
        assert await on.ended()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (sent(TEXT, b"x", rsv=4), 1002),
        (sent(5, b"x"), 1002),
        (sent(TEXT, b"x", masked=False), 1002),
        (sent(TEXT, b"\xff"), 1007),
        (sent(CLOSE, b"\x03\xed"), 1002),
        (sent(TEXT, b"x" * 65537), 1009),
    ],
)
async def test_a_violation_is_told_and_the_connection_ends(house: House, bad: bytes, code: int) -> None:
    async with wire(house) as on:
        on.writer.write(bad + b"more of it" * 1000)
        opcode, payload = await on.frame()
        assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, code)
        assert await on.ended()
