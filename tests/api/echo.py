"""Both paths as echo servers, for test suites that speak RFC 6455: `python -m tests.api.echo PORT`.

The fast path is at `/ws`, the portable one at `/portable`.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket

from trueup.api.fanout import FanoutProtocol, Hub, Link
from trueup.api.frames import BINARY, TEXT, frame
from trueup.api.upgrade import UpgradingProtocol

LIMIT = 64 * 1024 * 1024


class Echo(Link):
    """Says what it hears."""

    __slots__ = ()

    def heard(self, said: str | bytes) -> None:
        self.write(frame(TEXT, said.encode()) if isinstance(said, str) else frame(BINARY, said))


def echo_app() -> FastAPI:
    app = FastAPI()
    hub = Hub(backlog=1024, message_bytes_max=LIMIT)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        link = hub.adopt(websocket, Echo)
        assert link is not None
        link.go_on_from({})

    @app.websocket("/portable")
    async def portable(websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])

    return app


def config(port: int) -> uvicorn.Config:
    return uvicorn.Config(
        echo_app(),
        port=port,
        log_config=None,
        http=UpgradingProtocol,
        ws=FanoutProtocol,
        ws_max_size=LIMIT,
        ws_per_message_deflate=False,
    )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config(int(sys.argv[1]))).serve())
