"""What a client that comes back has missed reaches it whole, in order, and in few writes."""

from __future__ import annotations

import asyncio
import json
from asyncio.selector_events import _SelectorSocketTransport

import pytest
from tests.api.house import House, served
from tests.api.test_early import PATHS, REQUEST, Speaker, speak
from tests.api.test_rfc6455 import sent
from tests.api.test_websocket import alert

from trueup.api.fanout import BACKLOG_BYTES_MAX, BURST_BYTES
from trueup.api.frames import CLOSE, TEXT

MISSED = 400
RESUME = REQUEST.replace(b"/ws", b"/ws?resume")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Port of the writer and size of each write to any transport of the loop."""
    seen: list[tuple[int, int]] = []
    write = _SelectorSocketTransport.write

    def counted(transport: _SelectorSocketTransport, data: bytes) -> None:
        seen.append((transport.get_extra_info("sockname")[1], len(data)))
        write(transport, data)

    monkeypatch.setattr(_SelectorSocketTransport, "write", counted)
    return seen


def from_offset(house: House, offset: int) -> bytes:
    """Everything is known but the alerts behind an offset."""
    known = {**house.bus.cursors(), "risk:alert": offset}
    cursors = {channel: {"epoch": "bus-1", "offset": at} for channel, at in known.items()}
    return sent(TEXT, json.dumps({"type": "resume", "cursors": cursors}).encode())


async def missed(client: Speaker, last: int) -> list[int]:
    """Offsets of the alerts up to the last one, behind the answer that it goes on."""
    answer = json.loads((await client.frame())[1])
    assert (answer["type"], answer["recovered"]) == ("resumed", True)
    offsets: list[int] = []
    while not offsets or offsets[-1] < last:
        offsets.append(json.loads((await client.frame())[1])["offset"])
    return offsets


@PATHS
async def test_what_was_missed_comes_in_few_writes(house: House, fast: bool, writes: list[tuple[int, int]]) -> None:
    async with asyncio.timeout(60), served(house, fast=fast) as port:
        for number in range(1, MISSED + 2):
            alert(house, f"{number} " + "x" * 200)
        client = await speak(port)
        client.writer.write(RESUME)
        await client.head()
        writes.clear()
        client.writer.write(from_offset(house, 1))
        assert await missed(client, MISSED + 1) == list(range(2, MISSED + 2))
        sizes = [size for from_port, size in writes if from_port == port]
        assert sum(sizes) > MISSED * 200
        assert len(sizes) <= 2  # the answer, and all that was missed
        # Nothing of that comes twice, and what follows follows.
        alert(house, "on")
        assert json.loads((await client.frame())[1])["offset"] == MISSED + 2
        client.writer.close()


@PATHS
async def test_more_than_one_write_holds_comes_whole(house: House, fast: bool) -> None:
    """Many times the socket's room, to a client that is slow to read it."""
    size = 8_000
    assert 10 * BURST_BYTES < MISSED * size < BACKLOG_BYTES_MAX
    async with asyncio.timeout(120), served(house, fast=fast) as port:
        for number in range(1, MISSED + 2):
            alert(house, f"{number} " + "x" * size)
        client = await speak(port)
        client.writer.write(RESUME)
        await client.head()
        client.writer.write(from_offset(house, 1))
        await asyncio.sleep(0.1)
        alert(house, "behind it all")
        assert await missed(client, MISSED + 2) == list(range(2, MISSED + 3))
        client.writer.close()


@PATHS
async def test_what_was_said_before_a_close_comes_before_it(house: House, fast: bool) -> None:
    async with asyncio.timeout(60):
        async with served(house, fast=fast) as port:
            client = await speak(port)
            client.writer.write(REQUEST)
            await client.head()
            assert (await client.frame())[0] == TEXT
            for number in range(1, 51):
                alert(house, str(number))
            # In the same turn the gateway begins to stop.
        offsets = []
        while True:
            opcode, payload = await client.frame()
            if opcode == CLOSE:
                break
            offsets.append(json.loads(payload)["offset"])
        assert int.from_bytes(payload[:2]) == 1012
        assert offsets == list(range(1, len(offsets) + 1))
        with pytest.raises(asyncio.IncompleteReadError):
            await client.frame()
        client.writer.close()
