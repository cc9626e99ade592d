"""Running one coroutine as the whole process: the event loop, signals, logging.

Not for what runs in it. Invariant: SIGINT and SIGTERM both mean an orderly stop, and a second one does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trueup.errors import BadInput


class LineFormatter(logging.Formatter):
    """One record is one line: time, level, logger, message; a traceback is folded into it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line with the time in UTC."""
        at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = super().format(record).replace("\n", "\\n")
        return f"{at} level={record.levelname.lower()} logger={record.name} {text}"


def log_to(level: str, *, file: Path | None = None, screen: bool = True) -> None:
    """Send log lines to standard error, to a file, or to both."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if screen else []
    if file is not None:
        try:
            handlers.append(logging.FileHandler(file, encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{file} can't be written ({error.strerror}); give another folder with --state") from None
    for handler in handlers:
        handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    # The libraries tell of every request and frame at info, which would bury our own lines.
    for name in ("httpx", "httpcore", "uvicorn.access", "alpaca", "websockets", "aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run_until_stopped(
    work: Coroutine[Any, Any, None], *, ignore_interrupt: bool = False, stopping: Callable[[], None] | None = None
) -> int:
    """Run `work` until it ends or a signal asks it to; returns the exit code. Errors of `work` come through."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        asked = 0

        def stop() -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                os._exit(130)
            if stopping is not None:
                stopping()
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, stop)
        loop.add_signal_handler(signal.SIGINT, (lambda: None) if ignore_interrupt else stop)
        try:
            await task
        except asyncio.CancelledError:
            if not asked:
                raise
        return 0

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
