"""The only file that reads a clock. Everyone else is handed one, so that a test or a simulation can hand in its own."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware UTC time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(max(0.0, seconds))


def secret() -> str:
    """A text of 256 bits that no one can guess, for the cookies of those who log in."""
    return secrets.token_urlsafe(32)


def jitter() -> float:
    """A draw from 0 to 1 out of the machine's randomness, for the pauses between tries."""
    return random.random()
