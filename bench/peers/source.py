"""How a Python peer gets what it sends: the publisher's lines, from one TCP connection.

Invariant: every line of one read is handed on before the loop turns, so that whoever joins messages may join these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Source(asyncio.Protocol):
    """Cuts what comes into lines."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._publish(line.decode())


async def serve_source(port: int, publish: Callable[[str], None]) -> None:
    """Listen for the publisher."""
    await asyncio.get_running_loop().create_server(lambda: Source(publish), "127.0.0.1", port)
