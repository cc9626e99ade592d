"""The fast path as an echo server, for test suites that speak RFC 6455: `python -m tests.api.echo PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket

from trueup.api.fanout import FanoutProtocol, Hub, Link
from trueup.api.frames import BINARY, TEXT, frame

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

    return app


def config(port: int) -> uvicorn.Config:
    return uvicorn.Config(echo_app(), port=port, log_config=None, ws=FanoutProtocol, ws_per_message_deflate=False)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config(int(sys.argv[1]))).serve())
