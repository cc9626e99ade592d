"""The gateway as it was first sketched: each connection has a subscriber of its own, and each of those sends to all.

Fed without Redis, which can only help it. Invariant: the sketch's own structure, so that every client gets every
message as often as there are clients.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.peers.source import serve_source

app = FastAPI()
active: list[WebSocket] = []
subscriptions: set[asyncio.Queue[str]] = set()


async def subscriber() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    subscriptions.add(queue)
    try:
        while True:
            line = await queue.get()
            for websocket in list(active):
                await websocket.send_text(line)
    finally:
        subscriptions.discard(queue)


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    active.append(websocket)
    task = asyncio.create_task(subscriber())
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        active.remove(websocket)
    finally:
        task.cancel()


def publish(line: str) -> None:
    for queue in subscriptions:
        queue.put_nowait(line)


async def main(port: int, source_port: int) -> None:
    await serve_source(source_port, publish)
    config = uvicorn.Config(app, port=port, log_level="error", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
