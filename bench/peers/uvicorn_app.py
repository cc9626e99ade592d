"""FastAPI and uvicorn done well: one encoding for all, a bounded queue and a task for each client, no deflate.

Not hobbled: uvloop, httptools and the quickest of uvicorn's websockets. Invariant: no client waits for another.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.peers.source import serve_source

app = FastAPI()
queues: dict[WebSocket, asyncio.Queue[str]] = {}


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    queue = queues[websocket] = asyncio.Queue(1024)
    try:
        while True:
            await websocket.send_text(await queue.get())
    except WebSocketDisconnect:
        return
    finally:
        del queues[websocket]


def publish(line: str) -> None:
    for queue in queues.values():
        if not queue.full():
            queue.put_nowait(line)


async def main(port: int, source_port: int) -> None:
    await serve_source(source_port, publish)
    config = uvicorn.Config(
        app, port=port, log_level="error", ws="websockets-sansio", ws_per_message_deflate=False, access_log=False
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
